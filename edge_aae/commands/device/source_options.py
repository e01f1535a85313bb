"""What `edge-aae run` asks of its sources: options, the sources named by them and how their frames are taken."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge_aae.commands.option_groups import OptionGroup, option
from edge_aae.commands.options import MOST_UNSCORED
from edge_aae.commands.parameter_types import COUNT_OR_INF, FINITE, PERCENT, SECONDS_RANGE, WIDTH_HEIGHT_CHANNELS
from edge_aae.commands.secret_values import check_mode
from edge_runtime.errors import ConfigError
from edge_runtime.redact import redact, remember

if TYPE_CHECKING:
    from edge_runtime.sources import CaptureSettings, FrameSource
    from edge_runtime.stream.feed import FeedSettings

__all__ = ["CaptureOptions", "FeedOptions", "NamedSource", "NamedSources", "SourceOptions", "sources_of"]

BY_ID = "/dev/v4l/by-id/"


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceOptions(OptionGroup):
    """Which sources take turns."""

    cameras: tuple[str, ...] = option(
        "--camera", multiple=True, help="V4L2 camera: 0 is /dev/video0; or /dev/v4l/by-id/NAME. NAME=0 names it."
    )
    sources: tuple[str, ...] = option(
        "--source",
        multiple=True,
        help="rtsp:// or http:// URL, csi://0, GStreamer pipeline, video, image, folder, glob, - or test://FAULT. "
        "NAME= before it names it.",
    )
    streams: Path | None = option(
        "--streams", type=click.Path(path_type=Path), help="Text file with one source a line."
    )

    def named(self) -> NamedSources:
        """With the lines of --streams; raises ConfigError where they cannot be read."""
        listed = () if self.streams is None else _lines(self.streams)
        return NamedSources.of(self.cameras, (*self.sources, *listed))


@dataclass(frozen=True, slots=True)
class NamedSource:
    """A source, and what it is called besides."""

    name: str
    """Empty where none was given"""
    location: str
    """A camera's index or device; or URL, file, pipeline"""


@dataclass(frozen=True, kw_only=True, slots=True)
class NamedSources:
    """One source or more, each once; raises click.UsageError for none, for one twice and for a name twice."""

    cameras: tuple[NamedSource, ...]
    others: tuple[NamedSource, ...]
    """URLs, files, pipelines"""

    @classmethod
    def of(cls, cameras: Sequence[str], others: Sequence[str]) -> NamedSources:
        """Of what --camera and --source were given, NAME=SOURCE or SOURCE; raises ConfigError for a bad name."""
        from edge_runtime.sources import split_name

        return cls(
            cameras=tuple(NamedSource(*split_name(one, folder=BY_ID if "/" not in one else "")) for one in cameras),
            others=tuple(NamedSource(*split_name(one)) for one in others),
        )

    def __post_init__(self) -> None:
        locations = self.locations
        for location in locations:
            remember(location)
        if not locations:
            raise click.UsageError("name one source or more: edge-aae run SOURCE, or --camera, --source, --streams")
        if len(set(locations)) < len(locations):
            raise click.UsageError(f"a source is named twice among {', '.join(map(redact, locations))}")
        ids = [one.name or f"camera:{one.location}" for one in self.cameras]
        ids += [one.name or one.location for one in self.others]
        if twice := [one for one in ids if ids.count(one) > 1]:
            raise click.UsageError(f"two sources are called {redact(twice[0])}, expected a name of its own for each")

    @property
    def locations(self) -> list[str]:
        """All of them, without the names."""
        return [one.location for one in (*self.cameras, *self.others)]


@dataclass(frozen=True, kw_only=True, slots=True)
class CaptureOptions(OptionGroup):
    """How sources are opened."""

    width: int | None = option("--width", type=click.IntRange(min=1), help="Asked of a camera, pixels.")
    height: int | None = option("--height", type=click.IntRange(min=1), help="Asked of a camera, pixels.")
    fps: float | None = option("--fps", type=click.FloatRange(min=0, min_open=True), help="Asked of a camera.")
    fourcc: str | None = option("--fourcc", help="Pixel format asked of a camera, such as MJPG or YUYV.")
    flip: str = option(
        "--flip",
        type=click.Choice(["none", "horizontal", "vertical", "180"]),
        default="none",
        show_default=True,
        help="Mirror frames.",
    )
    loop: int = option(
        "--loop", type=click.IntRange(min=0), default=1, help="Times files play; 0: for ever.  [default: 1]"
    )
    raw: tuple[int, int, int] | None = option(
        "--raw", type=WIDTH_HEIGHT_CHANNELS, help="WxHxC of raw BGR frames on -, else Motion JPEG."
    )
    bayer: str | None = option(
        "--bayer",
        type=click.Choice(["RGGB", "BGGR", "GRBG", "GBRG"]),
        help="Colours of Bayer-coded frames: of a V4L2 camera, or --raw WxHx1.",
    )
    open_timeout: float = option(
        "--open-timeout", type=FINITE, default=10.0, show_default=True, help="Seconds a stream may take."
    )
    read_timeout: float = option(
        "--read-timeout", type=FINITE, default=5.0, show_default=True, help="Seconds a frame may take."
    )

    def __post_init__(self) -> None:
        self.settings()

    def settings(self) -> CaptureSettings:
        """As the sources take them."""
        from edge_runtime.sources import CaptureSettings

        return CaptureSettings(
            width=self.width,
            height=self.height,
            fps=self.fps,
            fourcc=self.fourcc,
            flip=self.flip,
            loop=self.loop,
            raw=self.raw,
            bayer=self.bayer,
            open_timeout_s=self.open_timeout,
            read_timeout_s=self.read_timeout,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class FeedOptions(OptionGroup):
    """Which frames are taken, and how a live source is kept alive."""

    every: int = option(
        "--every", type=click.IntRange(min=1), default=1, show_default=True, help="Each n-th frame alone."
    )
    max_fps: float | None = option(
        "--max-fps", type=FINITE, help="Score each source at most so often a second; a file waits."
    )
    max_age_ms: float = option(
        "--max-age-ms", type=FINITE, default=1000.0, show_default=True, help="Drop older live frames."
    )
    stall_timeout: float = option(
        "--stall-timeout", type=FINITE, default=5.0, show_default=True, help="Seconds without a good frame."
    )
    reconnect: float = option(
        "--reconnect", type=COUNT_OR_INF, default="inf", show_default=True, help="Times in all a source is reopened."
    )
    backoff: tuple[float, float] = option(
        "--backoff", type=SECONDS_RANGE, default="1:30", show_default=True, help="Waits, seconds FIRST:MOST."
    )
    max_bad: float = option(
        "--max-bad",
        type=PERCENT,
        default=MOST_UNSCORED,
        show_default=True,
        help="Of files: unreadable ones tolerated (1, but with 0%); more: exit status 1, at the end.",
    )
    reject: str | None = option(
        "--reject",
        help="What is refused: repeated,black,torn,size or none.  [default: all of live sources, nothing of files]",
    )

    def __post_init__(self) -> None:
        from edge_runtime.image_files.unreadable import check_max_bad

        check_max_bad(self.max_bad)
        self.settings()

    @property
    def patient(self) -> bool:
        """Whether a camera that is not there when the run begins may come later."""
        return self.reconnect > 0

    def settings(self) -> FeedSettings:
        """As the pipeline takes them."""
        from edge_runtime.backoff import Backoff
        from edge_runtime.stream.feed import FeedSettings
        from edge_runtime.watching.guard import GuardSettings

        checks = None if self.reject is None else () if self.reject == "none" else tuple(self.reject.split(","))
        first_s, most_s = self.backoff
        return FeedSettings(
            reconnects=self.reconnect,
            backoff=Backoff(first_s=first_s, most_s=most_s),
            stall_timeout_s=self.stall_timeout,
            max_age_ms=self.max_age_ms,
            every=self.every,
            max_fps=math.inf if self.max_fps is None else self.max_fps,
            guard=None if checks is None else GuardSettings(checks=checks),
        )


def sources_of(named: NamedSources, capture: CaptureOptions, *, must_exist: bool) -> list[FrameSource]:
    """The named sources, none of them open.

    must_exist: refuse a camera that is not there now. Raises SourceError, ConfigError.
    """
    from edge_runtime.sources import source_from

    settings = capture.settings()
    return [
        *(
            source_from(_device(one.location), None, settings, must_exist=must_exist, name=one.name)
            for one in named.cameras
        ),
        *(source_from(None, one.location, settings, must_exist=must_exist, name=one.name) for one in named.others),
    ]


def _device(camera: str) -> int | str:
    if camera.isdigit():
        return int(camera)
    if camera.startswith("/dev/"):
        return camera
    if "/" not in camera and camera:
        return f"{BY_ID}{camera.removeprefix('by-id:')}"
    raise ConfigError(f"--camera is {camera!r}, expected an index such as 0, /dev/v4l/by-id/NAME, or by-id:NAME")


def _lines(streams: Path) -> list[str]:
    try:
        lines = streams.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {streams}: {error}; expected a text file with one source a line") from error
    listed = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if not listed:
        raise ConfigError(f"{streams} names no source; expected one a line")
    check_mode(streams, (("sources", line) for line in listed))
    return listed
