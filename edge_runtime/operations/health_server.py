"""What a run tells who asks over HTTP: /healthz, and /metrics for Prometheus.

Served by a process of its own (health_process.py), so that no number of connections takes the run's descriptors, its
threads or its time: that process asks the run at most every ASKED_EVERY_S, whoever asks it.
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from edge_runtime.errors import ConfigError
from edge_runtime.operations.exposition import metrics_of
from edge_runtime.serving.child import AGAIN, Process, begin, end, tell
from edge_runtime.serving.framing import receive
from edge_runtime.stream.pipeline import Pipeline

__all__ = ["observed"]

logger = logging.getLogger(__name__)

WHAT = "health and metrics"
WRITE_WITHIN_S = 2.0
"""What was asked for is taken by then, or the process that asked hangs and is ended."""


@contextmanager
def observed(pipeline: Pipeline, address: tuple[str, int]) -> Iterator[int]:
    """Serve /healthz and /metrics of a pipeline within the block; gives the port, which port 0 leaves to the system.

    /healthz answers 200 while every source gives good frames and the scorer moves, else 503. Raises ConfigError where
    the address cannot be bound, MissingExtraError without prometheus-client.
    """
    server = _Server(metrics_of(pipeline), pipeline.health, address)
    try:
        yield server.port
    finally:
        server.close()


class _Server:
    """The process, and the thread that answers it; begun again where it ends by itself."""

    def __init__(
        self, metrics: Callable[[], bytes], health: Callable[[], dict[str, Any]], address: tuple[str, int]
    ) -> None:
        self._metrics, self._health, self._host = metrics, health, address[0]
        self._closing = threading.Event()
        self._process, self.port = self._begun(address[1])
        self._thread = threading.Thread(target=self._serve, name="observe", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End it."""
        self._closing.set()
        end(self._process, patience_s=0.8)
        self._thread.join(2.0)

    def _begun(self, port: int) -> tuple[Process, int]:
        hello = {"kind": "hello", "host": self._host, "port": port}
        process, answer = begin("edge_runtime.operations.health_process", hello, WHAT)
        return process, int(answer["port"])

    def _serve(self) -> None:
        tries = 0
        while not self._closing.is_set():
            self._answer()
            if self._closing.is_set():
                return
            tries += 1
            wait_s = AGAIN.wait_s(tries, random.Random())
            logger.warning("the process of %s has ended; it is begun again in %.0f s", WHAT, wait_s)
            if self._closing.wait(wait_s):
                return
            try:
                self._process, _ = self._begun(self.port)
            except (ConfigError, OSError) as error:
                logger.warning("%s", error)
            else:
                if self._closing.is_set():
                    end(self._process)

    def _answer(self) -> None:
        """Tell what is asked for, until the process has ended."""
        said = self._process.stdout
        assert said is not None
        try:
            while receive(said) is not None:
                header = {"kind": "told", "health": self._health()}
                tell(self._process, header, self._metrics(), WHAT, timeout_s=WRITE_WITHIN_S)
        except Exception as error:  # whatever a collector raises, the run goes on
            logger.debug("%s: %r", WHAT, error, exc_info=True)
        finally:
            end(self._process)
            if not said.closed:
                said.close()
