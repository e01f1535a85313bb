"""Where `edge-aae run` puts what it finds: options, and the sinks and the live page made of them."""

from __future__ import annotations

import logging
import math
import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge_aae.commands.option_groups import OptionGroup, option
from edge_aae.commands.page_address import say_page
from edge_aae.commands.secret_values import secret_of
from edge_runtime.errors import ConfigError

if TYPE_CHECKING:
    from edge_runtime.delivery import Outbox
    from edge_runtime.live.bridge import LivePage
    from edge_runtime.scoring.detector import Detector
    from edge_runtime.sinks import Sink
    from edge_runtime.stream.pipeline import Pipeline

__all__ = ["PageOptions", "SinkOptions", "page_of", "sinks_of"]

logger = logging.getLogger(__name__)

MB = 1_000_000
PATH = click.Path(path_type=Path)


@dataclass(frozen=True, kw_only=True, slots=True)
class SinkOptions(OptionGroup):
    """Records, pictures and videos, and how much of them is kept."""

    outs: tuple[str, ...] = option(
        "--out",
        multiple=True,
        default=["-"],
        help="- (standard output), FILE.jsonl or FILE.csv; may be repeated.  [default: -]",
    )
    events_only: bool = option("--events-only", is_flag=True, help="No frame records on - and in JSON Lines files.")
    rotate_mb: float = option(
        "--rotate-mb",
        type=click.FloatRange(min=0),
        default=100.0,
        show_default=True,
        help="Begin a new file of --out at this size; 0: never.",
    )
    rotate_keep: int = option(
        "--rotate-keep",
        type=click.IntRange(min=0),
        default=10,
        show_default=True,
        help="Older files of each --out kept; 0: all.",
    )
    boxes: bool = option("--boxes", is_flag=True, help="Boxes around what is anomalous, in frame records.")
    snapshots: Path | None = option("--snapshots", type=PATH, help="Folder for a picture of each event.")
    clips: Path | None = option("--clips", type=PATH, help="Folder for a video of each event.")
    pre_roll: float = option(
        "--pre-roll", type=click.FloatRange(0, 60), default=3.0, show_default=True, help="Seconds before."
    )
    post_roll: float = option(
        "--post-roll", type=click.FloatRange(0, 600), default=3.0, show_default=True, help="Seconds after."
    )
    record: Path | None = option("--record", type=PATH, help="Folder for videos of everything that is scored.")
    keep_days: float = option(
        "--keep-days", type=click.FloatRange(min=0), default=30.0, show_default=True, help="In these."
    )
    keep_mb: float = option(
        "--keep-mb", type=click.FloatRange(min=0), default=1000.0, show_default=True, help="In each; 0: no limit."
    )

    def __post_init__(self) -> None:
        if len(set(self.outs)) < len(self.outs):
            raise click.UsageError(f"--out names one place twice among {', '.join(self.outs)}")
        folders = [folder.resolve() for folder in (self.snapshots, self.clips, self.record) if folder]
        if len(set(folders)) < len(folders):
            raise click.UsageError("--snapshots, --clips and --record need a folder each: retention counts them apart")

    @property
    def rotate_bytes(self) -> int:
        """Size of a file at which the next begins; 0: never."""
        return math.ceil(MB * self.rotate_mb)

    def bounds(self) -> str | None:
        """What is kept of the files of records, in a sentence; None where there are none."""
        files = [out for out in self.outs if out != "-"]
        if not files:
            return None
        named = ", ".join(files)
        if not self.rotate_bytes:
            return f"{named}: one file each, of any size (--rotate-mb 0)"
        older = f"with {self.rotate_keep} older ones" if self.rotate_keep else "with all older ones"
        return f"{named}: a new file each {self.rotate_mb:g} MB, {older} kept (--rotate-mb, --rotate-keep)"

    @property
    def of_events(self) -> bool:
        """Whether pictures or videos of events are asked for."""
        return self.snapshots is not None or self.clips is not None


@dataclass(frozen=True, kw_only=True, slots=True)
class PageOptions(OptionGroup):
    """The live page."""

    serve: str | None = option("--serve", help="Live page at :PORT (loopback) or HOST:PORT, elsewhere with a token.")
    serve_token: str | None = option(
        "--serve-token", envvar="EDGE_AAE_SERVE_TOKEN", help="@FILE with that token.  [default: a new one]"
    )
    serve_view_token: str | None = option(
        "--serve-view-token", envvar="EDGE_AAE_SERVE_VIEW_TOKEN", help="@FILE with one to look with, no more."
    )
    serve_fps: float = option(
        "--serve-fps", type=click.FloatRange(0.1, 60), default=5.0, show_default=True, help="Its pictures a second."
    )
    feedback: Path = option(
        "--feedback", type=PATH, default=Path("feedback"), show_default=True, help="Folder for its answers."
    )

    def __post_init__(self) -> None:
        if self.address() is not None:
            self.tokens()
        elif self.serve_token or self.serve_view_token:
            raise ConfigError("a token is for --serve :PORT, which is not named")

    def tokens(self) -> tuple[str, str]:
        """Those that were given, to change things and to look alone; empty where none was. Raises ConfigError."""
        from edge_runtime.serving.access import check_token

        found = []
        for name, value in (("--serve-token", self.serve_token), ("--serve-view-token", self.serve_view_token)):
            token = secret_of(value or "", name)
            found.append(check_token(token, name) if token else "")
        return found[0], found[1]

    def address(self) -> tuple[str, int] | None:
        """(host, port) of the page; None where none is asked for. Raises ConfigError."""
        if self.serve is None:
            return None
        from edge_runtime.serving.listening import address_from

        return address_from(self.serve, "--serve")


def sinks_of(places: SinkOptions, detector: Detector, outbox: Outbox | None) -> list[Sink]:
    """The sinks that were asked for, none of them open."""
    from edge_runtime import sinks as kinds

    rotation = kinds.Rotation(places.rotate_bytes, places.rotate_keep)
    retention = kinds.Retention(days=places.keep_days, max_bytes=round(MB * places.keep_mb))
    records = ("event", "status") if places.events_only else kinds.SinkBase.kinds
    found: list[Sink] = []
    if outbox is not None:
        from edge_runtime.delivery import OutboxSink

        found.append(OutboxSink(outbox))
    for out in places.outs:
        if out == "-":
            found.append(kinds.StandardOutput(records))
        elif out.endswith(".csv"):
            has_least = detector.size.least_px is not None
            found.append(kinds.CsvFile(Path(out), detector.bundle.criteria, rotation, too_small=has_least))
        else:
            found.append(kinds.JsonLinesFile(Path(out), rotation, records))
    if places.snapshots:
        found.append(kinds.Snapshots(places.snapshots, retention))
    if places.clips:
        before_s, after_s = places.pre_roll, places.post_roll
        found.append(kinds.Clips(places.clips, retention, before_s=before_s, after_s=after_s))
    if places.record:
        found.append(kinds.Recording(places.record, retention))
    return found


def page_of(
    asked: PageOptions, pipeline: Callable[[], Pipeline], bundle: Path, places: SinkOptions, *, fixed_by: str
) -> LivePage | None:
    """The live page, a sink, not yet open; None where none is asked for.

    pipeline: that it is of, once there is one. places: where the run puts pictures of events. fixed_by: the option that
    sets the run's threshold, empty where none does.
    """
    address = asked.address()
    if address is None:
        return None
    from edge_runtime.live.bridge import LivePage, LiveSettings
    from edge_runtime.serving.access import is_loopback

    host, port = address
    given, view_token = asked.tokens()
    needs_one = not given and (bool(view_token) or not is_loopback(host))
    token = secrets.token_urlsafe(18) if needs_one else given
    settings = LiveSettings(
        host=host, port=port, token=token, view_token=view_token, fps=asked.serve_fps, feedback=asked.feedback,
        bundle=bundle, snapshots=places.snapshots, clips=places.clips, fixed_by=fixed_by,
    )  # fmt: skip
    page = LivePage(settings, pipeline)
    file = Path(os.environ.get("STATE_DIRECTORY", ".")) / "edge-aae-live-page"
    page.on_open = lambda: say_page("live page at", page.addresses, token_is_new=needs_one, file=file)
    return page
