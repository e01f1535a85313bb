"""What a run counts, as Prometheus reads it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from edge_runtime.extras import require
from edge_runtime.redact import redact
from edge_runtime.sinks.destination import Destination
from edge_runtime.sinks.runner import Sinks
from edge_runtime.stream.pipeline import Pipeline, SourceState

__all__ = ["metrics_of"]

Values = Iterable[tuple[str, float]]
"""(label, value) of each source, sink or destination"""


def metrics_of(pipeline: Pipeline) -> Callable[[], bytes]:
    """A function that gives the metrics of the moment, in Prometheus' text format. Raises MissingExtraError."""
    core = require("prometheus_client.core", extra="metrics", purpose="metrics")
    exposition = require("prometheus_client", extra="metrics", purpose="metrics")

    class Collector:
        def collect(self) -> Iterator[Any]:
            yield from _of_sources(core, pipeline.states())
            yield from _of_sinks(core, pipeline.sinks)
            yield from _of_destinations(core, pipeline.destinations)
            bundle = pipeline.detector.bundle
            by = {} if bundle.signed_by is None else {"signed_by": bundle.signed_by}
            yield core.InfoMetricFamily("edge_aae_model", "The bundle in use.", value={"digest": bundle.digest, **by})

    registry = exposition.CollectorRegistry(auto_describe=False)
    registry.register(Collector())
    return lambda: bytes(exposition.generate_latest(registry))


def _family(kind: Any, name: str, help_text: str, label: str, values: Values) -> Any:
    family = kind(f"edge_aae_{name}", help_text, labels=[label])
    for key, value in values:
        family.add_metric([key], value)
    return family


def _of_sources(core: Any, states: list[SourceState]) -> Iterator[Any]:
    def each(value: Callable[[SourceState], float]) -> Values:
        return [(redact(state.source_id), float(value(state))) for state in states]

    for name, help_text, value in (
        ("frames_scored", "Frames scored.", each(lambda state: state.frames)),
        ("frames_anomalous", "Frames scored above the threshold.", each(lambda state: state.anomalies)),
        ("frames_unscored", "Frames that could not be decoded or do not fit.", each(lambda state: state.unscored)),
        ("frames_grabbed", "Frames the source gave.", each(lambda state: state.feed.counts.grabbed)),
        ("frames_skipped", "Frames a newer one replaced, or left out.", each(lambda s: s.feed.counts.skipped)),
        ("frames_too_old", "Frames above the greatest age.", each(lambda state: state.feed.counts.too_old)),
        ("reconnects", "Times the source was opened again.", each(lambda state: state.feed.counts.reconnects)),
        ("stalls", "Times the source stalled.", each(lambda state: state.feed.counts.stalls)),
        ("events", "Events that began.", each(lambda state: state.events)),
    ):
        yield _family(core.CounterMetricFamily, name, help_text, "source", value)
    for name, help_text, value in (
        ("camera_up", "1 while the source gives good frames.", each(lambda state: state.up)),
        ("last_good_frame_age_seconds", "Age of the last good frame.", each(lambda state: state.feed.last_good_age_s)),
        ("anomaly_score", "Score of the last frame, smoothed.", each(lambda state: state.last_score)),
        ("alarm", "1 while an event goes on.", each(lambda state: state.in_event)),
    ):
        yield _family(core.GaugeMetricFamily, name, help_text, "source", value)
    rejected = core.CounterMetricFamily(
        "edge_aae_frames_rejected", "Frames that are none, by what is wrong with them.", labels=["source", "reason"]
    )
    bad_pictures = core.CounterMetricFamily(
        "edge_aae_frames_bad_picture", "Frames scored whose picture is not as in training.", labels=["source", "fault"]
    )
    latency = core.HistogramMetricFamily(
        "edge_aae_latency_seconds", "Time a frame took, by stage.", labels=["source", "stage"]
    )
    for state in states:
        for reason, number in sorted(state.feed.counts.rejected.items()):
            rejected.add_metric([redact(state.source_id), reason], number)
        for fault, number in sorted(dict(state.bad_pictures).items()):
            bad_pictures.add_metric([redact(state.source_id), fault], number)
        for stage, histogram in state.latencies.items():
            latency.add_metric([redact(state.source_id), stage], histogram.cumulative(), histogram.sum_s)
    yield rejected
    yield bad_pictures
    yield latency


def _of_sinks(core: Any, sinks: Sinks) -> Iterator[Any]:
    counts = [(runner.sink.name, runner.counts) for runner in sinks.runners]
    for name, help_text, value in (
        ("written", "Records a sink wrote.", [(sink, float(count.written)) for sink, count in counts]),
        ("dropped", "Records that did not fit into a sink's queue.", [(sink, float(c.dropped)) for sink, c in counts]),
        ("failed", "Records a sink could not write.", [(sink, float(count.failed)) for sink, count in counts]),
    ):
        yield _family(core.CounterMetricFamily, f"sink_records_{name}", help_text, "sink", value)


def _of_destinations(core: Any, destinations: Sequence[Destination]) -> Iterator[Any]:
    def each(value: Callable[[Destination], float]) -> Values:
        return [(destination.name, float(value(destination))) for destination in destinations]

    for kind, name, help_text, value in (
        (core.CounterMetricFamily, "delivered", "Messages acknowledged.", each(lambda to: to.delivered)),
        (core.CounterMetricFamily, "refused", "Messages refused for good.", each(lambda to: to.refused)),
        (core.CounterMetricFamily, "failures", "Tries that failed.", each(lambda to: to.failures)),
        (core.GaugeMetricFamily, "pending", "Messages that wait.", each(lambda to: to.n_pending)),
        (core.GaugeMetricFamily, "up", "1 while the destination answers.", each(lambda to: to.up)),
    ):
        yield _family(kind, f"delivery_{name}", help_text, "destination", value)
