"""Which options a command's help shows under which heading, and which of them most people need."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["HelpSection", "sections_of"]


@dataclass(frozen=True, slots=True)
class HelpSection:
    """Options under one heading, by their long flags without the dashes."""

    title: str
    shown: tuple[str, ...]
    """Those of the short help"""
    more: tuple[str, ...] = ()
    """Those of --help-all alone"""

    @property
    def all(self) -> tuple[str, ...]:
        """Every option of the section, in the order of the long help."""
        return (*self.shown, *self.more)


def _section(title: str, shown: str, more: str = "") -> HelpSection:
    return HelpSection(title, tuple(shown.split()), tuple(more.split()))


CAMERA = "width height fps fourcc flip loop raw bayer open-timeout read-timeout"
FRAME = _section("Frame", "roi mask", "mm-per-pixel min-area")
ENGINE = "precision backend threads require-signature"
SETTINGS = _section("Settings", "config print-config")

SECTIONS: dict[str, tuple[HelpSection, ...]] = {
    "run": (
        _section("Source", "camera source streams", f"{CAMERA} max-pixels"),
        _section(
            "Frames taken",
            "max-frames",
            "every max-fps max-age-ms reject max-bad bad-image stall-timeout reconnect backoff",
        ),
        _section("Model", "model threshold", f"target-fpr {ENGINE}"),
        FRAME,
        _section("Alarm", "alarm smooth", "clear-threshold clear-frames min-duration cooldown drift"),
        _section("Records", "out", "events-only boxes rotate-mb rotate-keep"),
        _section("Pictures and videos", "snapshots clips", "pre-roll post-roll record keep-days keep-mb"),
        _section(
            "Delivery of events",
            "mqtt webhook",
            "webhook-token mqtt-topic device mqtt-ca mqtt-cert mqtt-key outbox outbox-mb",
        ),
        _section("Live page", "serve", "serve-token serve-view-token serve-fps feedback"),
        _section("Service and upkeep", "metrics", "watch-model last-good shadow power systemd"),
        SETTINGS,
    ),
    "train": (
        _section("Run folder", "out resume dry-run", "report review"),
        _section("Method", "network", "method refine backbone head mixture"),
        _section("Threshold", "target-fpr", "threshold-rule cost-miss cost-false-alarm decision"),
        _section("Images", "imgsz roi", "channels fit align smallest-defect scale overlap width levels augment"),
        _section(
            "Which files",
            "max-bad",
            "sample-fps drop-duplicates group-by cache max-pixels classes contaminate",
        ),
        _section("What people know of images", "labels known-bad", "feedback keep reject"),
        _section(
            "Learning", "epochs-scale device", "epochs refine-epochs retrain-epochs latent batch seed amp"
        ),
        SETTINGS,
    ),
    "export": (
        _section("What is written", "format out precision batch sign"),
        _section("Gate", "calibration worst allow-failing"),
        _section("Sizes", "mm-per-pixel min-area"),
    ),
    "score": (
        _section("Model", "model threshold", ENGINE),
        _section("Images", "labels", "classes max-pixels max-bad bad-image"),
        FRAME,
        _section("What is written", "heatmaps masks csv json top"),
    ),
    "evaluate": (
        _section("Model", "model threshold", "device threads"),
        _section("Images", "labels exclude masks", "classes max-pixels max-bad"),
        _section("Frame", "", "mm-per-pixel min-area"),
        _section("Figures", "out heatmaps", "bootstrap seed"),
    ),
    "calibrate": (
        _section("Model", "model", ENGINE),
        _section("Source", "camera source frames every", f"{CAMERA} max-bad"),
        _section("Threshold", "target-fpr known-bad threshold undo", "strict of-source"),
        FRAME,
    ),
    "check": (
        _section("Model", "model threshold", ENGINE),
        FRAME,
        _section("What is written", "out"),
    ),
    "compare": (
        _section("Frames", "frames every"),
        _section("Model", "precision backend", "threads require-signature"),
        FRAME,
        _section("What is written", "out json top", "max-pictures"),
    ),
    "verify": (
        _section("Model", "model", "precision backend threads require-signature"),
        _section("Compared with", "against frames"),
        _section("Allowed", "", "atol rtol max-flips"),
        _section("What is written", "details json junit", "worst"),
    ),
    "bench": (
        _section("Model", "model precision backend threads", "require-signature"),
        _section("Measured", "source frames", "no-cold"),
        _section("Gate", "min-fps max-p99-ms", "max-overhead"),
        _section("What is written", "json"),
    ),
}  # fmt: skip


def sections_of(command: str | None) -> Sequence[HelpSection]:
    """The sections of a command's help, in order; none where one list is short enough."""
    return SECTIONS.get(command or "", ())
