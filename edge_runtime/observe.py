"""What a run tells who asks over HTTP: /healthz, and /metrics for Prometheus."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from edge_runtime.errors import ConfigError
from edge_runtime.extras import require
from edge_runtime.pipeline import Pipeline
from edge_runtime.redact import redact

__all__ = ["address_from", "observed"]

logger = logging.getLogger(__name__)

REQUEST_TIMEOUT_S = 5.0
"""A client that sends nothing is let go after this."""


def address_from(text: str) -> tuple[str, int]:
    """(host, port) of HOST:PORT, :PORT or PORT; without a host it is the loopback. Raises ConfigError."""
    host, _, port = text.rpartition(":")
    if not port.isdigit() or int(port) > 65535:
        raise ConfigError(f"address is {text!r}, expected PORT, or HOST:PORT such as 0.0.0.0:9100 for every interface")
    return host.strip("[]") or "127.0.0.1", int(port)


@contextmanager
def observed(pipeline: Pipeline, address: tuple[str, int]) -> Iterator[int]:
    """Serve /healthz and /metrics of a pipeline within the block; gives the port, which port 0 leaves to the system.

    /healthz answers 200 while every source gives good frames and the scorer moves, else 503. Raises ConfigError where
    the address cannot be bound, MissingExtraError without prometheus-client.
    """
    metrics = _metrics_of(pipeline)

    class Handler(BaseHTTPRequestHandler):
        timeout = REQUEST_TIMEOUT_S

        def do_GET(self) -> None:
            path = self.path.split("?", 1)[0]
            if path == "/healthz":
                health = pipeline.health()
                self._send(200 if health["ok"] else 503, "application/json", json.dumps(health).encode() + b"\n")
            elif path == "/metrics":
                self._send(200, "text/plain; version=0.0.4; charset=utf-8", metrics())
            else:
                self._send(404, "text/plain", b"expected /healthz or /metrics\n")

        def _send(self, status: int, kind: str, content: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *arguments: Any) -> None:
            logger.debug(format, *arguments)

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            logger.debug("a client of /healthz or /metrics went away", exc_info=True)

    try:
        server = Server(address, Handler)
    except OSError as error:
        raise ConfigError(
            f"cannot serve at {address[0]}:{address[1]}: {error.strerror or error}; choose another port"
        ) from error
    thread = threading.Thread(target=server.serve_forever, args=(0.1,), name="observe", daemon=True)
    thread.start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()


def _metrics_of(pipeline: Pipeline) -> Callable[[], bytes]:
    """Gives the metrics of the moment, in Prometheus' text format."""
    core = require("prometheus_client.core", extra="metrics", purpose="metrics")
    exposition = require("prometheus_client", extra="metrics", purpose="metrics")

    class Collector:
        def collect(self) -> Iterator[Any]:
            return iter(_families(core, pipeline))

    registry = exposition.CollectorRegistry(auto_describe=False)
    registry.register(Collector())
    return lambda: bytes(exposition.generate_latest(registry))


def _families(core: Any, pipeline: Pipeline) -> list[Any]:
    states = pipeline.states()

    def counter(name: str, help_text: str, value: Callable[[Any], float]) -> Any:
        family = core.CounterMetricFamily(f"edge_aae_{name}", help_text, labels=["source"])
        for state in states:
            family.add_metric([redact(state.source_id)], value(state))
        return family

    def gauge(name: str, help_text: str, value: Callable[[Any], float]) -> Any:
        family = core.GaugeMetricFamily(f"edge_aae_{name}", help_text, labels=["source"])
        for state in states:
            family.add_metric([redact(state.source_id)], value(state))
        return family

    rejected = core.CounterMetricFamily(
        "edge_aae_frames_rejected", "Frames that are none, by what is wrong with them.", labels=["source", "reason"]
    )
    latency = core.HistogramMetricFamily(
        "edge_aae_latency_seconds", "Time a frame took, by stage.", labels=["source", "stage"]
    )
    for state in states:
        for reason, number in sorted(state.feed.counts.rejected.items()):
            rejected.add_metric([redact(state.source_id), reason], number)
        for stage, histogram in state.latencies.items():
            latency.add_metric([redact(state.source_id), stage], histogram.cumulative(), histogram.sum_s)
    model = core.InfoMetricFamily(
        "edge_aae_model", "The bundle in use.", value={"digest": pipeline.detector.bundle.digest}
    )
    return [
        counter("frames_scored", "Frames scored.", lambda state: state.frames),
        counter("frames_anomalous", "Frames scored above the threshold.", lambda state: state.anomalies),
        counter("frames_unscored", "Frames that could not be decoded or do not fit.", lambda state: state.unscored),
        counter("frames_grabbed", "Frames the source gave.", lambda state: state.feed.counts.grabbed),
        counter("frames_skipped", "Frames a newer one replaced, or left out.", lambda state: state.feed.counts.skipped),
        counter("frames_too_old", "Frames above the greatest age.", lambda state: state.feed.counts.too_old),
        counter("reconnects", "Times the source was opened again.", lambda state: state.feed.counts.reconnects),
        counter("stalls", "Times the source stalled.", lambda state: state.feed.counts.stalls),
        counter("events", "Events that began.", lambda state: state.events),
        rejected,
        gauge("camera_up", "1 while the source gives good frames.", lambda state: float(state.up)),
        gauge("last_good_frame_age_seconds", "Age of the last good frame.", lambda state: state.feed.last_good_age_s),
        gauge("anomaly_score", "Score of the last frame, smoothed.", lambda state: state.last_score),
        gauge("alarm", "1 while an event goes on.", lambda state: float(state.in_event)),
        latency,
        model,
    ]  # fmt: skip
