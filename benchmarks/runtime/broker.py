"""A Mosquitto broker of our own on a loopback port, for measurements and tests."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

__all__ = ["MOSQUITTO", "Broker"]

MOSQUITTO = shutil.which(
    "mosquitto", path=os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"))
)


class Broker:
    """Started, stopped, started again, always at the same port."""

    def __init__(self, folder: Path, more: str = "allow_anonymous true\n") -> None:
        """folder: for its configuration; more: lines of that configuration."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        user = "user root\n" if os.geteuid() == 0 else ""
        anonymous = "" if "allow_anonymous" in more else "allow_anonymous true\n"
        self._config = folder / "mosquitto.conf"
        self._config.write_text(f"listener {self.port} 127.0.0.1\n{user}{anonymous}{more}")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Begin, and wait until it takes connections."""
        assert MOSQUITTO is not None, "mosquitto is not installed"
        command = [MOSQUITTO, "-c", str(self._config)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                time.sleep(0.02)
        raise RuntimeError("mosquitto did not begin to listen")

    @property
    def pid(self) -> int:
        """Its process, while it runs."""
        assert self._process is not None, "the broker is not running"
        return self._process.pid

    def stop(self, *, politely: bool = True) -> None:
        """End it; politely, it keeps its sessions on disk where it was told to."""
        if self._process is not None:
            (self._process.terminate if politely else self._process.kill)()
            self._process.wait(10)
            self._process = None
