"""What `edge-aae run` asks of its sources and its alarm: options, and the settings made of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_aae.commands.options import COUNT_OR_INF, N_OF_M, SECONDS_RANGE, WIDTH_HEIGHT_CHANNELS, chained_options
from edge_runtime.errors import ConfigError

if TYPE_CHECKING:
    from edge_runtime.sources import FrameSource
    from edge_runtime.stream.pipeline import RunSettings

__all__ = ["alarm_options", "capture_options", "feed_options", "run_settings", "sources_of"]


capture_options = chained_options(
    click.option("--width", type=click.IntRange(min=1), help="Asked of a camera, pixels."),
    click.option("--height", type=click.IntRange(min=1), help="Asked of a camera, pixels."),
    click.option("--fps", type=click.FloatRange(min=0, min_open=True), help="Asked of a camera."),
    click.option("--fourcc", help="Pixel format asked of a camera, such as MJPG or YUYV."),
    click.option(
        "--flip", type=click.Choice(["none", "horizontal", "vertical", "180"]), default="none", show_default=True,
        help="Mirror frames.",
    ),
    click.option("--loop", type=click.IntRange(min=0), default=1, help="Times files play; 0: for ever.  [default: 1]"),
    click.option("--raw", type=WIDTH_HEIGHT_CHANNELS, help="WxHxC of raw BGR frames on -, else Motion JPEG."),
    click.option("--open-timeout", type=float, default=10.0, show_default=True, help="Seconds a stream may take."),
    click.option("--read-timeout", type=float, default=5.0, show_default=True, help="Seconds a frame may take."),
)  # fmt: skip

feed_options = chained_options(
    click.option("--every", type=click.IntRange(min=1), default=1, show_default=True, help="Each n-th frame alone."),
    click.option("--max-fps", type=float, help="Score a live source at most so often a second."),
    click.option("--max-age-ms", type=float, default=1000.0, show_default=True, help="Drop older live frames."),
    click.option("--stall-timeout", type=float, default=5.0, show_default=True, help="Seconds without a good frame."),
    click.option(
        "--reconnect", type=COUNT_OR_INF, default="inf", show_default=True, help="Times a source is reopened."
    ),
    click.option("--backoff", type=SECONDS_RANGE, default="1:30", show_default=True, help="Waits, seconds FIRST:MOST."),
    click.option(
        "--reject",
        help="What is refused: repeated,black,torn,size or none.  [default: all of live sources, nothing of files]",
    ),
)

alarm_options = chained_options(
    click.option("--alarm", type=N_OF_M, help="Events: begin after N/M frames above threshold.  [default: no events]"),
    click.option("--clear-threshold", type=float, help="Scores at or below it end an event.  [default: threshold]"),
    click.option("--clear-frames", type=click.IntRange(min=1), default=5, show_default=True, help="So many in a row."),
    click.option("--min-duration", type=float, default=0.0, show_default=True, help="Seconds until an event begins."),
    click.option("--cooldown", type=float, default=0.0, show_default=True, help="Seconds between two events."),
    click.option(
        "--drift", type=click.IntRange(min=0), default=0, help="Watch drift over so many frames.  [default: no]"
    ),
    click.option("--smooth", default="none", show_default=True, help="Scores that --alarm sees: ema:0.3, median:5."),
)


def sources_of(
    cameras: Sequence[str], sources: Sequence[str], streams: Path | None, options: Mapping[str, Any]
) -> list[FrameSource]:
    """The sources that were named, none of them open; raises click.UsageError where there are none or one twice."""
    from edge_runtime.sources import CaptureSettings, source_from

    listed = _listed(streams) if streams else []
    if not (cameras or sources or listed):
        raise click.UsageError("name one source or more: --camera INDEX, --source PATH or --streams FILE")
    named = [*cameras, *sources, *listed]
    if len(set(named)) < len(named):
        raise click.UsageError(f"a source is named twice among {', '.join(named)}")
    names = ("width", "height", "fps", "fourcc", "flip", "loop", "raw")
    settings = CaptureSettings(
        **{name: options[name] for name in names},
        open_timeout_s=options["open_timeout"],
        read_timeout_s=options["read_timeout"],
    )
    patient = options["reconnect"] > 0
    return [
        *(source_from(_device(camera), None, settings, must_exist=not patient) for camera in cameras),
        *(source_from(None, source, settings, must_exist=not patient) for source in [*sources, *listed]),
    ]


def run_settings(options: Mapping[str, Any], threshold: float) -> RunSettings:
    """The settings of the pipeline; raises ConfigError where they do not fit together."""
    from edge_runtime.backoff import Backoff
    from edge_runtime.stream.feed import FeedSettings
    from edge_runtime.stream.pipeline import RunSettings
    from edge_runtime.watching.alarm import AlarmSettings
    from edge_runtime.watching.guard import GuardSettings
    from edge_runtime.watching.smoothing import smoothing_from

    smoothing_from(options["smooth"])
    reject = options["reject"]
    checks = None if reject is None else () if reject == "none" else tuple(reject.split(","))
    first_s, most_s = options["backoff"]
    alarm = None
    if options["alarm"] is not None:
        n, m = options["alarm"]
        alarm = AlarmSettings(
            enter=threshold,
            clear=threshold if options["clear_threshold"] is None else options["clear_threshold"],
            n=n,
            m=m,
            clear_frames=options["clear_frames"],
            min_duration_s=options["min_duration"],
            cooldown_s=options["cooldown"],
        )
    return RunSettings(
        feed=FeedSettings(
            reconnects=options["reconnect"],
            backoff=Backoff(first_s=first_s, most_s=most_s),
            stall_timeout_s=options["stall_timeout"],
            max_age_ms=options["max_age_ms"],
            every=options["every"],
            max_fps=math.inf if options["max_fps"] is None else options["max_fps"],
            guard=None if checks is None else GuardSettings(checks=checks),
        ),
        smoothing=options["smooth"],
        alarm=alarm,
        boxes=options["boxes"],
        drift=options["drift"],
    )


def _device(camera: str) -> int | str:
    if camera.isdigit():
        return int(camera)
    if camera.startswith("/dev/"):
        return camera
    if "/" not in camera and camera:
        return f"/dev/v4l/by-id/{camera.removeprefix('by-id:')}"
    raise ConfigError(f"--camera is {camera!r}, expected an index such as 0, /dev/v4l/by-id/NAME, or by-id:NAME")


def _listed(streams: Path) -> list[str]:
    try:
        lines = streams.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {streams}: {error}; expected a text file with one source a line") from error
    listed = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if not listed:
        raise ConfigError(f"{streams} names no source; expected one a line")
    return listed
