"""What a run came to, in figures."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from edge_runtime.sinks.runner import SinkCounts

__all__ = ["FeedCounts", "RunSummary", "ShadowCounts"]

LATENCY_WINDOW = 100_000
"""Latencies kept for the percentiles: the newest; a run that lasts for years must not grow."""


@dataclass(slots=True)
class FeedCounts:
    """What a source came to so far. Each figure is written by one thread, or with the feed's lock held."""

    grabbed: int = 0
    skipped: int = 0
    """Not wanted: a newer frame came first, or every / max_fps left it out."""
    too_old: int = 0
    rejected: dict[str, int] = field(default_factory=dict)
    """By the guard, by fault."""
    reconnects: int = 0
    stalls: int = 0


@dataclass(slots=True)
class ShadowCounts:
    """What a shadow, a bundle that is scored beside the deployed one, came to so far."""

    name: str
    """Where its bundle lies"""
    model: str
    """Digest of its bundle"""
    compared: int = 0
    """Frames scored by both."""
    to_anomalous: int = 0
    """Of these normal as deployed, anomalous to the shadow."""
    to_normal: int = 0
    """Of these the other way round."""
    skipped: int = 0
    """Frames for which there was no time."""
    failed: str | None = None
    """Why it was switched off; None while it works."""

    def add(self, *, deployed: bool, shadow: bool) -> None:
        """Count a frame that both scored, by whether each finds it anomalous."""
        self.compared += 1
        self.to_anomalous += shadow and not deployed
        self.to_normal += deployed and not shadow

    def __str__(self) -> str:
        line = (
            f"shadow {self.name} sha256:{self.model[:12]}: {self.compared} frames compared, "
            f"{self.to_anomalous} normal -> anomalous, {self.to_normal} anomalous -> normal, {self.skipped} skipped"
        )
        return line if self.failed is None else f"{line}; switched off: {self.failed}"


@dataclass(slots=True)
class RunSummary:
    """What a run came to."""

    frames: int = 0
    """Frames scored."""
    anomalies: int = 0
    too_small: int = 0
    """Frames above the threshold that are normal, for all they show is smaller than what counts"""
    bad_pictures: int = 0
    """Frames whose picture is not as those trained on; scored all the same"""
    unknown: int = 0
    """Of these such as are therefore not normal, and not anomalous either"""
    unscored: int = 0
    """Frames that could not be decoded or do not fit the bundle; each has a status record."""
    events: int = 0
    """Events that began."""
    latencies_ms: list[float] = field(default_factory=list)
    """Preprocess + infer + post, milliseconds a frame."""
    sources: list[FeedCounts] = field(default_factory=list)
    """What each source came to, as they were given."""
    sinks: list[SinkCounts] = field(default_factory=list)
    """What each sink came to."""
    shadow: ShadowCounts | None = None
    """What the shadow came to; None without one. Not part of the line."""

    def add_latency(self, latency_ms: float) -> None:
        """Keep one latency, the newest LATENCY_WINDOW of them."""
        if len(self.latencies_ms) < LATENCY_WINDOW:
            self.latencies_ms.append(latency_ms)
        else:
            self.latencies_ms[(self.frames - 1) % LATENCY_WINDOW] = latency_ms

    def percentiles_ms(self) -> tuple[float, float, float] | None:
        """p50, p95 and p99 of the latencies in milliseconds; None before the first frame."""
        if not self.latencies_ms:
            return None
        p50, p95, p99 = np.percentile(self.latencies_ms, (50, 95, 99))
        return float(p50), float(p95), float(p99)

    def __str__(self) -> str:
        line = f"{self.frames} frames, {self.anomalies} anomalies"
        counted = {
            "too small": self.too_small,
            "bad pictures": self.bad_pictures,
            "unknown": self.unknown,
            "not scored": self.unscored,
            "events": self.events,
            "refused": sum(sum(counts.rejected.values()) for counts in self.sources),
            "skipped": sum(counts.skipped for counts in self.sources),
            "too old": sum(counts.too_old for counts in self.sources),
            "reconnects": sum(counts.reconnects for counts in self.sources),
            "stalls": sum(counts.stalls for counts in self.sources),
            "records dropped": sum(counts.dropped for counts in self.sinks),
            "records failed": sum(counts.failed for counts in self.sinks),
        }
        line += "".join(f", {number} {name}" for name, number in counted.items() if number)
        percentiles = self.percentiles_ms()
        if percentiles:
            line += ", latency p50 {:.2f} p95 {:.2f} p99 {:.2f} ms".format(*percentiles)
        return line
