"""`edge-aae calibrate`: a threshold from frames of the place where the camera stands, or one that a person chose."""

from __future__ import annotations

import logging
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_aae.commands.device.source_options import CaptureOptions, NamedSource, NamedSources, sources_of
from edge_aae.commands.help_pages import Command
from edge_aae.commands.options import EngineOptions, SizeOptions, ViewOptions, max_bad_option, resolve_model
from edge_aae.commands.parameter_types import FINITE, PERCENT, THREADS
from edge_aae.commands.places import bundle_argument, refuse_as_source
from edge_aae.commands.secret_values import warn_of_shown_secrets
from edge_aae.commands.terminal import say
from edge_runtime.errors import BundleError, DataError
from edge_runtime.redact import redact, remember

if TYPE_CHECKING:
    from edge_runtime.bundle.bundle import Bundle
    from edge_runtime.bundle.frame_view import View
    from edge_runtime.bundle.site_calibration import SiteCalibration
    from edge_runtime.model.defect_size import DefectSize
    from edge_runtime.scoring.detector import Detector
    from edge_runtime.sources import FrameSource
    from edge_runtime.watching.calibration_doubts import CalibratingFrame

__all__ = ["calibrate"]

logger = logging.getLogger(__name__)


@click.command(cls=Command, short_help="Make the threshold on site, from frames believed normal.")
@bundle_argument
@click.option("--camera", "cameras", multiple=True, help="As for run.")
@click.option("--source", "sources", multiple=True, help="As for run.")
@click.option("--frames", type=click.IntRange(min=1), default=500, show_default=True, help="How many are scored.")
@click.option("--every", type=click.IntRange(min=1), default=1, show_default=True, help="Each n-th frame alone.")
@click.option("--target-fpr", type=PERCENT, default="1%", show_default=True, help="False alarms asked for.")
@click.option("--strict", is_flag=True, help="Refuse where the frames cannot show that rate.")
@click.option("--known-bad", type=click.Path(path_type=Path), help="Images of defects: a threshold between.")
@click.option("--threshold", type=FINITE, help="Keep this one, which you chose; takes no frames.")
@click.option("--of-source", metavar="NAME", help="It holds for this source alone, as a run calls it.")
@click.option("--undo", is_flag=True, help="Go back to the bundle's own threshold.")
@click.option("--threads", type=THREADS, default=0, help="For inference; 0 uses every core.")
@max_bad_option
@EngineOptions.options
@ViewOptions.options
@SizeOptions.options
@CaptureOptions.options
def calibrate(
    model: Path | None,
    cameras: tuple[str, ...],
    sources: tuple[str, ...],
    frames: int,
    every: int,
    target_fpr: float,
    strict: bool,
    known_bad: Path | None,
    threshold: float | None,
    of_source: str | None,
    undo: bool,
    threads: int,
    max_bad: float,
    **options: Any,
) -> None:
    """Make BUNDLE's threshold (default: as for run) from frames of the place where it will work.

    The frames are believed normal; those far above the rest are left out as anomalies among them, and what else gives
    to doubt is said. The threshold is written beside the bundle, which stays as it is, and used from then on by run,
    score and evaluate, with the --roi and --mask given here; their --threshold still wins. Precision and backend
    should be those that will run. Frames that follow each other look alike: take them over a while, with --every.

    Where the frames are too few to show the asked rate (n show 1 / (n + 1) at best), the threshold is set for what they
    show, and said so. With --known-bad it lies between the frames and those defects, which are never trained on.

    --mm-per-pixel and --min-area are kept beside the threshold, for runs; without frames they change nothing else. The
    threshold is of the scores alone, so that a smallest area makes false alarms fewer than asked for.

    With --of-source NAME only that source of a run is judged by it, such as a camera under another lamp; the others
    keep theirs.

    \b
    edge-aae calibrate --camera 0 --frames 2000 --every 10 --target-fpr 0.5%
    edge-aae calibrate --camera 0 --frames 200 --known-bad defects/
    edge-aae calibrate --threshold 1.3
    edge-aae calibrate --camera line3=/dev/video2 --of-source line3
    edge-aae calibrate --mm-per-pixel 0.05 --min-area 0.5mm2
    edge-aae calibrate --undo
    edge-aae calibrate --undo --of-source line3
    """
    warn_of_shown_secrets(click.get_current_context())
    refuse_as_source(sources, "edge-aae calibrate --source NORMAL --model {}")
    path = resolve_model(model)
    asked_view, asked_size = ViewOptions.of(options).view(), SizeOptions.of(options).size()
    takes_frames = bool(cameras or sources or known_bad)
    _check_together(click.get_current_context(), takes_frames=takes_frames, sized=bool(asked_size))
    if of_source is not None:
        of_source = of_source.strip()
        remember(of_source)
        of_source = redact(of_source)
    if undo:
        _undo(path) if of_source is None else _undo_one(path, of_source)
        return
    if threshold is not None or (asked_size and not takes_frames):
        _keep_chosen(path, threshold, asked_view, asked_size, EngineOptions.of(options), of_source)
        return
    from edge_runtime.bundle.bundle import Bundle
    from edge_runtime.bundle.frame_view import WHOLE_FRAME
    from edge_runtime.bundle.site_calibration import SiteCalibration
    from edge_runtime.watching.calibration_doubts import doubts

    # The sources are opened once: who calibrates stands beside the camera, and should see that it is not there.
    capture = CaptureOptions.of(options)
    opened = sources_of(NamedSources.of(cameras, sources), capture, must_exist=True)
    of_defects: list[FrameSource] = []
    if known_bad is not None:
        named = NamedSources(cameras=(), others=(NamedSource("", str(known_bad)),))
        of_defects = sources_of(named, replace(capture, loop=1), must_exist=True)
    engine = EngineOptions.of(options)
    bundle_there = Bundle.open(path, require_signature=engine.require_signature)
    before = _before(bundle_there)
    if of_source is not None:
        asked_view = _view_of_all(before, asked_view)
    view = asked_view or WHOLE_FRAME
    # A scale measured once holds for the next threshold too.
    size = asked_size.or_else(before.size) if before else asked_size
    detector = engine.detector(bundle_there, threads=threads, view=view, on_site=False, **size.asked())
    names = ", ".join(redact(source.source_id) for source in opened)
    logger.info("scoring %d frames of %s", frames, names)
    normal = _scored(detector, opened, every=every, most=frames, max_bad=max_bad)
    defects = _scored(detector, of_defects, every=1, most=None, max_bad=max_bad) if of_defects else []
    found = SiteCalibration.of(
        [frame.score for frame in normal],
        target_fpr,
        model=detector.bundle.digest,
        source=names,
        precision=engine.precision,
        backend=detector.backend.name,
        view=view,
        size=size,
        strict=strict,
    )
    if of_defects:
        found = found.parted([frame.score for frame in normal], [frame.score for frame in defects])
    for doubt in doubts(normal, target_fpr, detector):
        logger.warning("%s", doubt)
    limit = _limit_before(before, view, of_source, detector.bundle.decision.threshold)
    share = sum(frame.score > limit for frame in normal) / len(normal)
    written = _written(found, before, of_source, bundle_there)
    say(f"{found}" if of_source is None else f"{of_source}: {found}")
    for line in (found.rate_line(), *(found.separation.lines() if found.separation else ())):
        if line is not None:
            say(line)
    for line in _too_small_lines(detector.size, found.threshold, normal, defects):
        say(line)
    say(f"before: threshold {limit:.4g}, {share:.1%} of these frames above it")
    say(_wrote_line(written, path, of_source))


def _check_together(context: click.Context, *, takes_frames: bool, sized: bool) -> None:
    """What says nothing beside another option, or contradicts it, is refused before a frame is taken."""
    given = context.params

    def named(option: str) -> bool:
        return context.get_parameter_source(option) is click.core.ParameterSource.COMMANDLINE

    if given["undo"] and (takes_frames or sized or given["threshold"] is not None or named("target_fpr")):
        raise click.UsageError("--undo goes back to what the bundle has: give it by itself, or with --of-source alone")
    if given["threshold"] is not None and takes_frames:
        raise click.UsageError("--threshold is a value that you chose and takes no frames: name no source with it")
    if given["threshold"] is not None and (named("target_fpr") or given["strict"]):
        raise click.UsageError("--threshold is a value that you chose: leave --target-fpr and --strict out")
    if not 0.0 < given["target_fpr"] < 0.5:
        raise click.UsageError(
            f"--target-fpr is {given['target_fpr']:g} ({given['target_fpr']:.0%}), expected a rate above 0 and below "
            "50 %, such as 5%"
        )
    if given["of_source"] is not None and (sized or not given["of_source"].strip()):
        raise click.UsageError(
            "--of-source names the source that a threshold is for, made of its frames or given by --threshold; "
            "--mm-per-pixel and --min-area are for all sources: give them by themselves"
        )
    if not (given["undo"] or sized or given["threshold"] is not None or given["cameras"] or given["sources"]):
        raise click.UsageError(
            "name where normal frames come from: --camera 0, or --source FOLDER; or give --threshold 1.3, or --undo"
        )


def _wrote_line(written: Path, path: Path, of_source: str | None) -> str:
    """Where it lies, and what takes back no more than that."""
    alone = "" if of_source is None else f" --of-source {shlex.quote(of_source)}"
    return f"wrote {written}; undo: edge-aae calibrate --undo {path}{alone}"


def _undo_one(path: Path, of_source: str) -> None:
    """Take back the threshold of one source; where nothing else is kept, the file goes."""
    from edge_runtime.bundle.site_calibration import SiteCalibration

    site = SiteCalibration.beside(path)
    if site is None or of_source not in site.sources:
        others = f", but for {', '.join(site.sources)}" if site is not None and site.sources else ""
        raise DataError(f"nothing to undo: no threshold is kept for {of_source} alone{others}")
    left = site.without([of_source])
    if left is None:
        _undo(path)
    else:
        written = left.save(path)
        say(f"{of_source} is judged as all sources are again: {left.threshold:.4g}; wrote {written}")


def _undo(path: Path) -> None:
    from edge_runtime.bundle.site_calibration import set_aside

    aside = set_aside(path)
    say(f"{path} has its own threshold again; the calibration lies as {aside}")


def _keep_chosen(
    path: Path,
    threshold: float | None,
    view: View | None,
    asked_size: DefectSize,
    engine: EngineOptions,
    of_source: str | None,
) -> None:
    """threshold: None keeps the one so far, which is of the view so far; a view then needs one."""
    from edge_runtime.bundle.bundle import Bundle
    from edge_runtime.bundle.site_calibration import SiteCalibration
    from edge_runtime.scoring.heatmap import check_size

    if threshold is None and view is not None:
        raise click.UsageError("--roi and --mask need frames or a --threshold: the one so far is of another view")
    bundle = Bundle.open(path, require_signature=engine.require_signature)
    before = _before(bundle)
    if of_source is not None:
        view = _view_of_all(before, view)
    size = asked_size.or_else(before.size) if before else asked_size
    check_size(size.or_else(bundle.defect_size), bundle.manifest["calibration"], path)
    if threshold is None and before is not None:
        found = replace(before, size=size)
    else:
        chosen = bundle.decision.threshold if threshold is None else threshold
        found = SiteCalibration.chosen(chosen, model=bundle.digest, before=before, view=view, size=size)
    limit = _limit_before(before, found.view, of_source, bundle.decision.threshold)
    written = _written(found, before, of_source, bundle)
    say(f"{found}" if of_source is None else f"{of_source}: {found}")
    say(f"before: threshold {limit:.4g}")
    say(_wrote_line(written, path, of_source))


def _view_of_all(before: SiteCalibration | None, asked: View | None) -> View | None:
    """What of the frames counts for all sources; one alone has no other. Raises click.UsageError."""
    from edge_runtime.bundle.frame_view import WHOLE_FRAME

    of_all = WHOLE_FRAME if before is None else before.view
    if asked is not None and asked != of_all:
        raise click.UsageError(
            f"all sources are judged by {of_all}: --of-source has no --roi or --mask of its own; calibrate all with it "
            "first"
        )
    return of_all


def _limit_before(before: SiteCalibration | None, view: View, of_source: str | None, otherwise: float) -> float:
    """The threshold so far, of all sources or of the one that is meant; otherwise: the bundle's."""
    if before is None or before.view != view:
        return otherwise
    own = None if of_source is None else before.sources.get(of_source)
    return (own or before).threshold


def _written(found: SiteCalibration, before: SiteCalibration | None, of_source: str | None, bundle: Bundle) -> Path:
    """Beside the bundle, for all sources or the one that is meant. Raises DataError."""
    if of_source is not None:
        return found.alone_for(of_source, before, bundle.decision.threshold).save(bundle.path)
    written = found.save(bundle.path)
    for name in () if before is None else sorted(set(before.sources) - set(found.sources)):
        say(f"{name} has no threshold of its own any more")
    return written


def _too_small_lines(
    size: DefectSize, threshold: float, normal: Sequence[CalibratingFrame], defects: Sequence[CalibratingFrame]
) -> list[str]:
    """What a smallest area changes of what lies above the threshold; nothing where none is asked."""
    if size.least_px is None:
        return []
    lines = []
    for called, frames in (("frames", normal), ("known defects", defects)):
        above = [frame for frame in frames if frame.score > threshold]
        if frames:
            small = sum(frame.too_small for frame in above)
            lines.append(
                f"of {len(above)} {called} above it {small} count as normal: all they show is below {size.min_area}"
            )
    return lines


def _before(bundle: Bundle) -> SiteCalibration | None:
    """The calibration so far; None too where it is damaged, which is said, for it is about to be replaced."""
    from edge_runtime.bundle.site_calibration import SiteCalibration

    try:
        return SiteCalibration.of_bundle(bundle)
    except BundleError as error:
        logger.warning("the calibration so far is replaced: %s", error)
        return None


def _scored(
    detector: Detector, opened: Sequence[FrameSource], *, every: int, most: int | None, max_bad: float
) -> list[CalibratingFrame]:
    """The scores of the sources' frames; raises DataError where a person stops it."""
    from edge_runtime.image_files.unreadable import check_unscored
    from edge_runtime.operations.stopping import stop_requests
    from edge_runtime.stream.feed import FeedSettings
    from edge_runtime.stream.pipeline import Pipeline, RunSettings
    from edge_runtime.watching.calibration_doubts import CalibratingFrame

    scored: list[CalibratingFrame] = []
    # Sizes are told of what lies above the threshold, and where that will lie is not known yet.
    detector = detector.with_threshold(-sys.float_info.max)

    def keep(record: dict[str, Any]) -> None:
        if record["type"] == "frame":
            name = record["name"] or f"frame {record['frame_id']} of {record['source_id']} at {record['t_capture']}"
            criteria = tuple(record["criteria"].values())
            small = record.get("too_small", False)
            scored.append(CalibratingFrame(name=name, score=record["score"], criteria=criteria, too_small=small))
        elif record["type"] == "status":
            logger.warning("%s: %s", record["event_type"], record["payload"].get("reason", ""))

    with stop_requests() as stopped:
        settings = RunSettings(feed=FeedSettings(reconnects=0, every=every))
        summary = Pipeline(detector, opened, keep, settings).run(stopped=stopped, max_frames=most)
        if stopped():
            raise DataError(f"stopped after {len(scored)} frames; nothing was changed")
    if not any(source.live for source in opened):
        names = ", ".join(redact(source.source_id) for source in opened)
        check_unscored(summary.unscored, summary.frames + summary.unscored, max_bad, names)
    return scored
