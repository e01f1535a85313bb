"""Health and metrics over HTTP, on a pipeline that has run."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from types import SimpleNamespace

import pytest

from edge_runtime.errors import ConfigError
from edge_runtime.operations.exposition import metrics_of
from edge_runtime.operations.health_server import address_from, observed
from edge_runtime.scoring.detector import Detector
from edge_runtime.sinks import Emission, SinkBase
from edge_runtime.sources import TestSource
from edge_runtime.stream.latency import LatencyHistogram
from edge_runtime.stream.pipeline import Pipeline


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
        with pytest.raises(ConfigError, match=f"cannot serve at 127.0.0.1:{port}: .*; choose another port"):
            observed(taken, ("127.0.0.1", port)).__enter__()


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
    assert address_from(text) == address


@pytest.mark.parametrize("text", ["", "host", "host:", "host:http", "1:70000"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="expected PORT, or HOST:PORT"):
        address_from(text)


def test_latencies_are_counted_at_or_below_their_bound() -> None:
    histogram = LatencyHistogram()
    for latency_s in (0.0005, 0.001, 0.0011, 9.0):
        histogram.add(latency_s)
    counted = dict(histogram.cumulative())
    assert (counted["0.001"], counted["0.0025"], counted["5.0"], counted["+Inf"]) == (2, 3, 3, 4)
    assert histogram.sum_s == pytest.approx(9.0026)
