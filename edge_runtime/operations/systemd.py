"""What systemd is told: that the run is ready, that it scores, that it stops. sd_notify(3), without its library."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Mapping

__all__ = ["Systemd"]

logger = logging.getLogger(__name__)

STATUS_EVERY_S = 5.0


class Systemd:
    """The notify socket of a unit with Type=notify; nothing where there is none."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        """environment: has NOTIFY_SOCKET, and WATCHDOG_USEC where the unit has WatchdogSec=."""
        self._address = environment.get("NOTIFY_SOCKET", "")
        usec = environment.get("WATCHDOG_USEC", "")
        ours = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self.watchdog_s = int(usec) / 1e6 if usec.isdigit() and ours else None
        """Within this long the unit must be heard of, or it is restarted; None where nothing is watched."""
        self._ready = False
        self._pulsed_s = self._told_s = float("-inf")

    @property
    def is_there(self) -> bool:
        """Whether anyone listens."""
        return bool(self._address)

    def pulse(self, status: Callable[[], str]) -> None:
        """The run goes on; to be called a few times a second by the thread that scores, and by no other.

        The first call says READY=1; the watchdog is fed every third of its time, the status asked for and
        told every few seconds.
        """
        if not self._address:
            return
        now_s = time.monotonic()
        words = []
        if not self._ready:
            words.append("READY=1")
            self._ready = True
        if self.watchdog_s is not None and now_s - self._pulsed_s >= self.watchdog_s / 3.0:
            self._pulsed_s = now_s
            words.append("WATCHDOG=1")
        if now_s - self._told_s >= STATUS_EVERY_S:
            self._told_s = now_s
            words.append(f"STATUS={' '.join(status().split())}")
        if words:
            self._send("\n".join(words))

    def stopping(self) -> None:
        """The run ends."""
        if self._address:
            self._send("STOPPING=1")

    def _send(self, text: str) -> None:
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
                notify.sendto(text.encode("utf-8"), address)
        except OSError as error:
            logger.debug("systemd does not listen: %s", error)
