"""What a run is to do: the options of `edge-aae run` as a plan, checked as a whole before anything is opened."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_aae.commands.device.delivery_options import DeliveryOptions
from edge_aae.commands.device.sink_options import PageOptions, SinkOptions
from edge_aae.commands.device.source_options import CaptureOptions, FeedOptions, NamedSources, SourceOptions
from edge_aae.commands.option_groups import OptionGroup, option
from edge_aae.commands.options import BAD_IMAGE, EngineOptions, SizeOptions, ViewOptions
from edge_aae.commands.parameter_types import ALARM_RULE, FINITE, NO_ALARM, PERCENT, THREADS

if TYPE_CHECKING:
    from edge_runtime.bundle.bundle import Bundle
    from edge_runtime.bundle.frame_view import View
    from edge_runtime.scoring.detector import Detector
    from edge_runtime.sources import FrameSource
    from edge_runtime.stream.pipeline import RunSettings
    from edge_runtime.watching.alarm import AlarmSettings

__all__ = ["AlarmOptions", "DetectorOptions", "RunPlan", "UpkeepOptions"]

logger = logging.getLogger(__name__)

SERVED_ALARM = (3, 5)
"""Of a run that serves a page and names no rule: who looks at a page takes it for granted that it raises alarms. That
of AlarmSettings."""

OF_EVENTS = {
    "--alarm": "alarm",
    "--snapshots": "snapshots",
    "--clips": "clips",
    "--mqtt": "mqtt",
    "--webhook": "webhooks",
    "--outbox": "outbox",
}
"""What is about events alone, by the name of its parameter"""


@dataclass(frozen=True, kw_only=True, slots=True)
class DetectorOptions(EngineOptions):
    """How a detector is made of a bundle."""

    threshold: float | None = option(
        "--threshold", type=FINITE, help="On the score; 1 is as calibrated, more flags less."
    )
    target_fpr: float | None = option(
        "--target-fpr", type=PERCENT, help="Threshold for so many false alarms, such as 1%."
    )
    bad_image: str = option("--bad-image", **BAD_IMAGE)
    threads: int = option("--threads", type=THREADS, default=0, help="For inference; 0 uses every core.")

    @property
    def fixes_threshold(self) -> str:
        """The option that sets the threshold, as it was given; empty where none was."""
        if self.threshold is not None:
            return f"--threshold {self.threshold:g}"
        return "" if self.target_fpr is None else f"--target-fpr {self.target_fpr:g}"

    def loader(self, view: View | None, size: SizeOptions) -> Callable[[Bundle], Detector]:
        """Makes a detector of a bundle, that of the run's beginning or one that replaces it."""
        from edge_runtime.scoring.detector import Detector

        return partial(
            Detector.load,
            precision=self.precision,
            backend=self.backend,
            threads=self.threads,
            threshold=self.threshold,
            target_fpr=self.target_fpr,
            view=view,
            bad_image=self.bad_image,
            **size.asked(),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class UpkeepOptions(OptionGroup):
    """How long a run goes on, and what is seen to meanwhile."""

    max_frames: int | None = option("--max-frames", type=click.IntRange(min=1), help="End after so many frames.")
    power: float | None = option(
        "--power", type=click.FloatRange(min=1), help="Report power mode, watts, temperatures every so many s."
    )
    watch_model: bool = option(
        "--watch-model", is_flag=True, help="Take up a bundle that replaces this one, once it is verified."
    )
    last_good: Path | None = option(
        "--last-good",
        type=click.Path(path_type=Path),
        help="Verify; keep a copy of what passed, for when --model does not.",
    )
    shadow: Path | None = option(
        "--shadow", type=click.Path(path_type=Path), help="Bundle that scores beside; noted, never acted on."
    )
    systemd: bool = option("--systemd", is_flag=True, help="Tell systemd readiness, watchdog and status (Type=notify).")
    metrics: str | None = option("--metrics", help="Serve /healthz and /metrics at PORT (loopback) or HOST:PORT.")

    def __post_init__(self) -> None:
        self.address()

    def address(self) -> tuple[str, int] | None:
        """(host, port) of health and metrics; None where they are not asked for. Raises ConfigError."""
        if self.metrics is None:
            return None
        from edge_runtime.serving.listening import address_from

        return address_from(self.metrics, "--metrics")


@dataclass(frozen=True, kw_only=True, slots=True)
class AlarmOptions(OptionGroup):
    """When events begin and end, and what else is made of the scores."""

    alarm: tuple[int, int] | None = option(
        "--alarm",
        type=ALARM_RULE,
        help="Events: begin after N/M frames above threshold; none: no events.  [default: none; with --serve 3/5]",
    )
    clear_threshold: float | None = option(
        "--clear-threshold", type=FINITE, help="Scores at or below it end an event.  [default: threshold]"
    )
    clear_frames: int = option(
        "--clear-frames", type=click.IntRange(min=1), default=5, show_default=True, help="So many in a row."
    )
    min_duration: float = option(
        "--min-duration", type=FINITE, default=0.0, show_default=True, help="Seconds until an event begins."
    )
    cooldown: float = option(
        "--cooldown", type=FINITE, default=0.0, show_default=True, help="Seconds between two events."
    )
    drift: int = option(
        "--drift", type=click.IntRange(min=0), default=0, help="Watch drift over so many frames.  [default: no]"
    )
    smooth: str = option(
        "--smooth", default="none", show_default=True, help="Scores that --alarm sees: ema:0.3, median:5."
    )

    def __post_init__(self) -> None:
        from edge_runtime.watching.smoothing import smoothing_from

        smoothing_from(self.smooth)
        # Whether --clear-threshold fits can only be said of the detector's threshold.
        self._settings(enter=1.0, clear=1.0)

    def for_page(self, *, served: bool) -> AlarmOptions:
        """The same with the rule that counts: where a page is served and none was named, SERVED_ALARM."""
        if self.alarm is None:
            return replace(self, alarm=SERVED_ALARM if served else None)
        return replace(self, alarm=None) if self.alarm == NO_ALARM else self

    def settings(self, threshold: float) -> AlarmSettings | None:
        """The alarm at a detector's threshold; None where no events are asked for. Raises ConfigError."""
        return self._settings(threshold, threshold if self.clear_threshold is None else self.clear_threshold)

    def _settings(self, enter: float, clear: float) -> AlarmSettings | None:
        if self.alarm is None or self.alarm == NO_ALARM:
            return None
        from edge_runtime.watching.alarm import AlarmSettings

        n, m = self.alarm
        return AlarmSettings(
            enter=enter,
            clear=clear,
            n=n,
            m=m,
            clear_frames=self.clear_frames,
            min_duration_s=self.min_duration,
            cooldown_s=self.cooldown,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class RunPlan:
    """Everything that was asked of a run; raises click.UsageError where its parts do not fit together."""

    sources: NamedSources
    capture: CaptureOptions
    model: Path | None
    detector: DetectorOptions
    view: ViewOptions
    size: SizeOptions
    alarm: AlarmOptions
    feed: FeedOptions
    delivery: DeliveryOptions
    sinks: SinkOptions
    page: PageOptions
    upkeep: UpkeepOptions
    of_events: tuple[str, ...] = ()
    """Options that are about events, of those that were given"""

    def __post_init__(self) -> None:
        if self.alarm.alarm is not None:
            return
        if self.delivery.wanted:
            raise click.UsageError("--mqtt, --webhook and --outbox carry events, which --alarm begins; name that too")
        if self.sinks.of_events:
            raise click.UsageError("--snapshots and --clips are of events, which --alarm begins; name that too")

    @classmethod
    def of(cls, parsed: Mapping[str, Any]) -> RunPlan:
        """The plan of what the command was given; where several parts are wrong, the first here is told.

        Reads the file of --streams and opens nothing else. Raises click.UsageError, ConfigError.
        """
        page = PageOptions.of(parsed)
        return cls(
            sources=SourceOptions.of(parsed).named(),
            capture=CaptureOptions.of(parsed),
            model=parsed["model"],
            detector=DetectorOptions.of(parsed),
            view=ViewOptions.of(parsed),
            size=SizeOptions.of(parsed),
            alarm=AlarmOptions.of(parsed).for_page(served=page.serve is not None),
            feed=FeedOptions.of(parsed),
            delivery=DeliveryOptions.of(parsed),
            sinks=SinkOptions.of(parsed),
            page=page,
            upkeep=UpkeepOptions.of(parsed),
            of_events=tuple(flag for flag, name in OF_EVENTS.items() if parsed[name] and parsed[name] != NO_ALARM),
        )

    def tell_unused(self, sources: Sequence[FrameSource]) -> None:
        """Warn of options about events where sources begin none: image files, which follow in no time."""
        from edge_runtime.redact import redact
        from edge_runtime.sources.files import ImageSource

        images = [redact(source.source_id) for source in sources if isinstance(source, ImageSource)]
        if images and self.of_events:
            logger.warning(
                "%s: image files begin no events, so %s %s nothing with %s; try a camera, a video or test://pattern",
                ", ".join(images),
                ", ".join(self.of_events),
                "does" if len(self.of_events) == 1 else "do",
                "it" if len(images) == 1 else "them",
            )

    def settings(self, threshold: float) -> RunSettings:
        """The pipeline's settings at a detector's threshold; raises ConfigError where the alarm does not fit it."""
        from edge_runtime.stream.pipeline import RunSettings

        return RunSettings(
            feed=self.feed.settings(),
            smoothing=self.alarm.smooth,
            alarm=self.alarm.settings(threshold),
            boxes=self.sinks.boxes,
            drift=self.alarm.drift,
        )
