"""Health and metrics over HTTP, on a pipeline that has run."""

from __future__ import annotations

import itertools
import json
import os
import socket
import threading
import time
import urllib.error
import urllib.request
from contextlib import ExitStack, suppress
from datetime import datetime
from types import SimpleNamespace
from typing import Any

import pytest

from edge_runtime.backoff import Backoff
from edge_runtime.errors import ConfigError
from edge_runtime.operations import health_server
from edge_runtime.operations.exposition import metrics_of
from edge_runtime.operations.health_server import observed
from edge_runtime.scoring.detector import Detector
from edge_runtime.serving.listening import address_from
from edge_runtime.sinks import Emission, SinkBase
from edge_runtime.sources import TestSource
from edge_runtime.stream.latency import LatencyHistogram
from edge_runtime.stream.pipeline import Pipeline

from ..raw_request import answer_to
from ..waiting import wait_until


def test_metrics_count_bad_pictures_by_what_is_wrong(detector: Detector) -> None:
    source = TestSource("test://pattern?fps=100&frames=3&width=32&height=24")
    pipeline = Pipeline(detector, [source], lambda record: None)
    pipeline.states()[0].bad_pictures.update(["dark", "dark", "lens spot"])
    label = 'source="test://pattern?fps=100&frames=3&width=32&height=24"'
    lines = metrics_of(pipeline)().decode().splitlines()
    assert f'edge_aae_frames_bad_picture_total{{fault="dark",{label}}} 2.0' in lines


def test_health_and_metrics_of_a_run(detector: Detector) -> None:
    source = TestSource("test://pattern?fps=100&frames=20&width=32&height=24")
    pipeline = Pipeline(detector, [source], lambda record: None)
    with observed(pipeline, ("127.0.0.1", 0)) as port:
        pipeline.run()
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
        label = 'source="test://pattern?fps=100&frames=20&width=32&height=24"'
        assert f"edge_aae_frames_grabbed_total{{{label}}} 20.0" in lines
        assert f"edge_aae_frames_scored_total{{{label}}} {float(pipeline.summary.frames)}" in lines
        count = f'edge_aae_latency_seconds_count{{{label},stage="infer"}} {float(pipeline.summary.frames)}'
        assert count in lines
        # It has ended: no frame will come any more.
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5)
        assert caught.value.code == 503
        assert json.load(caught.value)["sources"][0]["up"] is False
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5)
        taken = Pipeline(detector, [], lambda record: None)
        says = f"health and metrics cannot be served at 127.0.0.1:{port}: .*; choose another port, such as :{port + 1}"
        with pytest.raises(ConfigError, match=says):
            observed(taken, ("127.0.0.1", port)).__enter__()


def test_silent_and_slow_connections_take_nothing_of_the_run_and_shut_out_nobody(detector: Detector) -> None:
    """1,400 of them took every descriptor of the run, so that its camera could not be opened again."""
    pipeline = Pipeline(detector, [], lambda record: None)
    with observed(pipeline, ("127.0.0.1", 0)) as port, ExitStack() as open_ones:
        before, threads = len(os.listdir("/proc/self/fd")), threading.active_count()
        slow = []
        for number in range(300):
            connection = open_ones.enter_context(socket.create_connection(("127.0.0.1", port), timeout=20))
            with suppress(OSError):  # it was turned out already
                connection.sendall(b"" if number % 2 else b"GET /metrics HTTP/1.1\r\nHost: local")
            slow.append(connection)
        assert len(os.listdir("/proc/self/fd")) == before + 300  # this test's own ends alone
        assert threading.active_count() <= threads
        assert b" 200 OK" in answer_to(port, b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
        gone = 0
        for connection in slow[:200]:
            with suppress(ConnectionResetError):
                assert connection.recv(1) == b""
            gone += 1
        assert gone == 200


def test_a_header_that_drips_is_ended_at_its_deadline(detector: Detector) -> None:
    with (
        observed(Pipeline(detector, [], lambda record: None), ("127.0.0.1", 0)) as port,
        socket.create_connection(("127.0.0.1", port), timeout=20) as connection,
    ):
        started_s = time.monotonic()
        with suppress(OSError):
            while time.monotonic() - started_s < 30.0:
                connection.sendall(b"G")
                time.sleep(0.2)
        assert time.monotonic() - started_s < 20.0  # each read alone had five seconds before


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        (b"GET /metrics HTTP/1.1\r\nHost: evil.example\r\n\r\n", 403),
        (b"GET /metrics HTTP/1.1\r\nHost: [::1\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nOrigin: http://[x\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n", 400),
        (b"POST /metrics HTTP/1.1\r\nHost: localhost\r\nAuthorization: x\r\n\r\n", 405),
        (b"GET /" + b"x" * 9000, 431),
        (b"\0\0\0\r\n\r\n", 400),
        (b"HEAD /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", 200),
    ],
)
def test_what_is_no_request_for_it_is_refused(detector: Detector, request_line: bytes, status: int) -> None:
    with observed(Pipeline(detector, [], lambda record: None), ("127.0.0.1", 0)) as port:
        assert answer_to(port, request_line).startswith(f"HTTP/1.1 {status} ".encode())


def test_a_run_that_does_not_answer_is_not_healthy(detector: Detector, monkeypatch: pytest.MonkeyPatch) -> None:
    waits = threading.Event()
    pipeline = Pipeline(detector, [], lambda record: None)
    monkeypatch.setattr(pipeline, "health", lambda: waits.wait(30) and {"ok": True})
    with observed(pipeline, ("127.0.0.1", 0)) as port:
        assert b" 503 " in answer_to(port, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").splitlines()[0]
        waits.set()
        assert b" 200 " in answer_to(port, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").splitlines()[0]


def test_a_process_that_was_killed_is_begun_again(detector: Detector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_runtime.operations.health_server.AGAIN", Backoff(first_s=0.01, most_s=0.01))
    server = health_server._Server(lambda: b"", lambda: {"ok": True}, ("127.0.0.1", 0))
    first, port = server._process, server.port
    first.kill()
    wait_until(lambda: server._process is not first)
    assert answer_to(port, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").endswith(b'{"ok": true}\n')
    server.close()
    assert server._process.poll() is not None


@pytest.mark.parametrize("set_by_s", [-86_400.0, -3600.0, 3600.0, 86_400.0])
def test_ages_are_what_they_are_however_the_time_of_day_is_set(
    detector: Detector, monkeypatch: pytest.MonkeyPatch, set_by_s: float
) -> None:
    """The time of day is set between any two who ask for it: capture, record, health."""
    real, is_set = time.time, itertools.cycle((0.0, 1.0, 1.0, 0.0, 1.0))
    monkeypatch.setattr("time.time", lambda: real() + next(is_set) * set_by_s)
    records: list[dict[str, Any]] = []
    health: list[dict[str, Any]] = []
    began = time.monotonic()

    def told(record: dict[str, Any]) -> None:
        records.append(record)
        if len(records) % 5 == 0:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=30) as answer:
                health.append(json.load(answer)["sources"][0])

    source = TestSource("test://pattern?fps=100&frames=20000&width=32&height=24")  # it never ends by itself
    pipeline = Pipeline(detector, [source], told)
    with observed(pipeline, ("127.0.0.1", 0)) as port:
        pipeline.run(max_frames=60)
    took_s = time.monotonic() - began
    frames = [record for record in records if record["type"] == "frame"]
    emitted = [datetime.fromisoformat(frame["t_emit"].replace("Z", "+00:00")).timestamp() for frame in frames]
    assert max(emitted) - min(emitted) > 3500.0  # it was set
    assert all(0.0 <= frame["age_ms"] <= 1000.0 * took_s for frame in frames)
    assert health
    assert all(0.0 <= state["last_good_frame_age_s"] <= took_s for state in health)
    assert all(state["up"] for state in health)


def test_metrics_of_sinks_and_destinations(detector: Detector) -> None:
    class Unlit(SinkBase):
        name = "unlit"

        def write(self, emission: Emission) -> None:
            raise OSError("no lamp")

    pipeline = Pipeline(detector, [TestSource("test://pattern?fps=100&frames=3&width=32&height=24")], sinks=[Unlit()])
    pipeline.destinations = [SimpleNamespace(name="mqtt", up=True, delivered=5, refused=1, failures=2, n_pending=3)]
    pipeline.run()
    lines = metrics_of(pipeline)().decode().splitlines()
    for line in (
        'edge_aae_delivery_delivered_total{destination="mqtt"} 5.0',
        'edge_aae_delivery_refused_total{destination="mqtt"} 1.0',
        'edge_aae_delivery_failures_total{destination="mqtt"} 2.0',
        'edge_aae_delivery_pending{destination="mqtt"} 3.0',
        'edge_aae_delivery_up{destination="mqtt"} 1.0',
        'edge_aae_sink_records_written_total{sink="unlit"} 0.0',
    ):
        assert line in lines
    failed = next(line for line in lines if line.startswith('edge_aae_sink_records_failed_total{sink="unlit"}'))
    assert float(failed.split()[-1]) >= pipeline.summary.frames


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("9100", ("127.0.0.1", 9100)),
        (":9100", ("127.0.0.1", 9100)),
        ("0.0.0.0:9100", ("0.0.0.0", 9100)),
        ("[::1]:9100", ("::1", 9100)),
    ],
)
def test_addresses(text: str, address: tuple[str, int]) -> None:
    assert address_from(text, "--metrics") == address


@pytest.mark.parametrize("text", ["", "host", "host:", "host:http", "1:70000"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=f"--metrics is {text!r}, expected PORT, or HOST:PORT"):
        address_from(text, "--metrics")


def test_latencies_are_counted_at_or_below_their_bound() -> None:
    histogram = LatencyHistogram()
    for latency_s in (0.0005, 0.001, 0.0011, 9.0):
        histogram.add(latency_s)
    counted = dict(histogram.cumulative())
    assert (counted["0.001"], counted["0.0025"], counted["5.0"], counted["+Inf"]) == (2, 3, 3, 4)
    assert histogram.sum_s == pytest.approx(9.0026)
