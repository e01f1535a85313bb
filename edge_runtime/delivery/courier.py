"""Brings what is in the outbox to one destination: a thread that sends, waits for the answer, and tries again."""

from __future__ import annotations

import logging
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from edge_runtime.backoff import Backoff
from edge_runtime.delivery.outbox import Message, Outbox
from edge_runtime.sinks.destination import Destination
from edge_runtime.sinks.records import status_record

__all__ = ["Courier", "DeliveryError", "Publisher", "delivering", "unreached"]

logger = logging.getLogger(__name__)

LOOK_S = 0.2
"""How often the outbox is looked at for something new."""

TELL_S = 1.0
"""How often a destination that keeps a state is told it."""

LAST_TRIES_S = 0.8
"""How long after the run's end what is in the outbox may still be delivered; the rest waits for the next run."""


class DeliveryError(Exception):
    """A message was not acknowledged."""

    def __init__(self, reason: str, *, for_good: bool = False, retry_after_s: float | None = None) -> None:
        """for_good: the destination will never take this message. retry_after_s: it asked for this pause."""
        super().__init__(reason)
        self.for_good = for_good
        self.retry_after_s = retry_after_s


class Publisher(Protocol):
    """One destination. All methods run in its courier's thread and raise DeliveryError."""

    name: str
    """For people, metrics and the outbox; holds no password and stays the same from run to run."""

    def connect(self) -> None:
        """Make a connection, a new one after a failure."""

    def publish(self, message: Message) -> None:
        """Send one message; returns once the destination has acknowledged it."""

    def tell(self, health: dict[str, Any]) -> None:
        """What the run's state is, about once a second; for destinations that keep one."""

    def close(self) -> None:
        """End the connection, in order where that can be; never raises."""


class Courier:
    """Delivers to one publisher until it is stopped."""

    def __init__(
        self,
        publisher: Publisher,
        outbox: Outbox,
        report: Callable[[dict[str, Any]], None],
        health: Callable[[], dict[str, Any]],
        *,
        backoff: Backoff | None = None,
        seed: int | None = None,
    ) -> None:
        """report: takes status records; health: gives what `tell` is told; both from the courier's thread."""
        self.publisher = publisher
        self.delivered = self.failures = self.refused = 0
        self.up = False
        """Whether the last try succeeded."""
        self._outbox = outbox
        self._report = report
        self._health = health
        self._backoff = backoff or Backoff(first_s=0.5, most_s=30.0)
        self._rng = random.Random(seed)
        self._stop = threading.Event()
        self._stopped_s = float("inf")
        self._thread = threading.Thread(target=self._run, name=f"courier {publisher.name}", daemon=True)

    def start(self) -> None:
        """Begin to deliver."""
        self._thread.start()

    def stop(self) -> None:
        """Ask for the end; what is pending is tried for LAST_TRIES_S more."""
        self._stopped_s = time.monotonic()
        self._stop.set()

    def join(self, timeout_s: float) -> bool:
        """Wait for the end; whether it came."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    @property
    def name(self) -> str:
        """The destination's name."""
        return self.publisher.name

    @property
    def n_pending(self) -> int:
        """Messages that wait."""
        return self._outbox.n_pending(self.publisher.name)

    def _run(self) -> None:
        failures = 0
        while not self._ends(failed=failures > 0):
            try:
                self.publisher.connect()
                self._deliver()
                break
            except Exception as error:  # whatever a destination does, it must not take the courier down
                logger.debug("%s failed", self.publisher.name, exc_info=True)
                failures = 1 if self.up else failures + 1
                reason = str(error) or type(error).__name__
                self._failed(error if isinstance(error, DeliveryError) else DeliveryError(reason), failures)
            finally:
                self.publisher.close()
        self.up = False

    def _deliver(self) -> None:
        told_s = 0.0
        while True:
            messages = self._outbox.pending(self.publisher.name)
            for message in messages:
                self._send(message)
                self._succeeded()
                if self._stop.is_set() and self._ends(failed=False):
                    return
            if time.monotonic() - told_s >= TELL_S or self._stop.is_set():
                told_s = time.monotonic()
                self.publisher.tell(self._health())
                self._succeeded()
            if not messages and self._stop.wait(LOOK_S):
                if self._outbox.pending(self.publisher.name, 1) and not self._ends(failed=False):
                    continue
                return

    def _send(self, message: Message) -> None:
        try:
            self.publisher.publish(message)
        except DeliveryError as error:
            if not error.for_good:
                raise
            self.refused += 1
            self._outbox.refuse(self.publisher.name, message, str(error))
            self._say("error", "DELIVERY_REFUSED", message_id=message.message_id, reason=str(error))
            return
        self._outbox.acknowledge(self.publisher.name, message)
        self.delivered += 1

    def _ends(self, *, failed: bool) -> bool:
        return self._stop.is_set() and (failed or time.monotonic() - self._stopped_s > LAST_TRIES_S)

    def _succeeded(self) -> None:
        if not self.up and self.failures:
            self._say("info", "DELIVERY_RECOVERED", pending=self.n_pending)
        self.up = True

    def _failed(self, error: DeliveryError, failures: int) -> None:
        wait_s = error.retry_after_s or self._backoff.wait_s(failures, self._rng)
        if self.up or self.failures == 0:
            logger.warning("%s", _told(self.publisher.name, str(error)))
            self._say("error", "DELIVERY_FAILED", reason=str(error), retry_s=round(wait_s, 3))
        self.up = False
        self.failures += 1
        self._stop.wait(wait_s)

    def _say(self, severity: Any, event_type: str, **payload: Any) -> None:
        self._report(status_record(severity, event_type, self.publisher.name, payload))


def unreached(name: str, reason: object, listener: str) -> str:
    """Why a destination could not be connected to, in words. listener: what should run there."""
    if isinstance(reason, ConnectionRefusedError):
        return f"{name} refuses connections; is {listener} running?"
    if isinstance(reason, socket.gaierror):
        return f"{name} cannot be reached: its host's name is not known here"
    return f"{name} cannot be reached: {(reason.strerror if isinstance(reason, OSError) else None) or reason}"


def _told(name: str, reason: str) -> str:
    """What is said of a failure: where it happened, once, what happened, and that it is not the end."""
    where = reason.partition(" ")[0]
    said = reason if "://" in where and name.startswith(where) else f"{name}: {reason}"
    return f"{said} Trying again" if said.endswith("?") else f"{said}; trying again"


class Run(Protocol):
    """What couriers need of a run: who hears of their troubles, and what they tell of its state."""

    destinations: Sequence[Destination]
    """Where events go; for the metrics."""

    def report(self, record: dict[str, Any]) -> None:
        """Take a status record. From any thread."""

    def current(self) -> dict[str, Any]:
        """The run's state. From any thread."""


@contextmanager
def delivering(run: Run, publishers: Sequence[Publisher], outbox: Outbox) -> Iterator[None]:
    """Couriers for all publishers at work within the block, shown in the run's metrics."""
    couriers = [Courier(publisher, outbox, run.report, run.current) for publisher in publishers]
    run.destinations = couriers
    for courier in couriers:
        courier.start()
    try:
        yield
    finally:
        for courier in couriers:
            courier.stop()
        deadline = time.monotonic() + 2.0 * LAST_TRIES_S
        for courier in couriers:
            if not courier.join(max(0.0, deadline - time.monotonic())):
                logger.warning("%s hangs; what it has not acknowledged stays in the outbox", courier.name)
