"""`edge-aae run`: frames in, records out."""

from __future__ import annotations

import logging
import math
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import click

from edge_aae.commands.config_file import config_of, config_options
from edge_aae.commands.device.delivery_options import DeliveryOptions, delivered, outbox_of
from edge_aae.commands.device.run_plan import AlarmOptions, DetectorOptions, RunPlan, UpkeepOptions
from edge_aae.commands.device.sink_options import PageOptions, SinkOptions, page_of, sinks_of
from edge_aae.commands.device.source_options import CaptureOptions, FeedOptions, SourceOptions, sources_of
from edge_aae.commands.help_pages import Command
from edge_aae.commands.options import SizeOptions, ViewOptions, max_pixels_option, model_option, resolve_model
from edge_aae.commands.places import sources_named
from edge_aae.commands.secret_values import warn_of_shown_secrets
from edge_aae.commands.terminal import say
from edge_runtime.errors import DataError

if TYPE_CHECKING:
    from edge_runtime.gate.trial import Trial
    from edge_runtime.operations.model_watch import ModelWatch
    from edge_runtime.scoring.detector import Detector
    from edge_runtime.stream.pipeline import Pipeline, RunSummary

__all__ = ["run"]

logger = logging.getLogger(__name__)


@click.command(cls=Command, short_help="Score cameras, streams, videos or images, one JSON record a frame.")
@click.argument("places", nargs=-1, metavar="[SOURCE]...")
@SourceOptions.options
@model_option
@DetectorOptions.options
@UpkeepOptions.options
@ViewOptions.options
@SizeOptions.options
@CaptureOptions.options
@max_pixels_option
@FeedOptions.options
@AlarmOptions.options
@SinkOptions.options
@DeliveryOptions.options
@PageOptions.options
@config_options
def run(print_config: bool, **_: Any) -> None:
    """Score cameras, streams, videos or images: one JSON record a frame.

    SOURCE is what --camera and --source take: 0 is a camera, else a URL, a video, an image, a folder. All three may be
    repeated: the sources take turns. A live source gives its newest frame; while it is stalled, lost, frozen, black or
    torn, nothing of it is scored, and status records say so. It is opened again for as long as it takes, unless
    --reconnect says how often. Files give every frame, in order.

    --roi and --mask leave out what is none of the part; calibrate takes them too, and a run then need not name them.

    --min-area leaves out regions of the map that are smaller: a frame that shows no larger one is normal, whatever its
    score, and its record says too_small. In mm2 it needs --mm-per-pixel.

    --shadow NEW scores the same frames by a second bundle too: records say what it found, nothing is done about it.

    SIGINT, SIGTERM and a closed terminal end a run cleanly; any other SIGHUP takes up a calibration that was made or
    undone meanwhile, and opens the files of --out and --outbox again. The last line on standard error sums the run up:
    frames, anomalies, latency. An existing --out file is kept: it gets the suffix .1, .2 and so on. Records that could
    not be written: exit status 1.

    \b
    edge-aae run 0
    edge-aae run line3.avi --out records.jsonl
    edge-aae run rtsp://10.0.0.5/live --alarm 3/5 --smooth median:5
    edge-aae run --config line3.toml
    edge-aae run --camera 0 --alarm 3/5 --snapshots events --mqtt mqtt://broker --out log.jsonl --rotate-mb 100
    """
    context = click.get_current_context()
    parsed = sources_named(context, "edge-aae run SOURCE --model {}")
    if print_config:
        click.echo(config_of(context), nl=False)
        return
    warn_of_shown_secrets(context)
    plan = RunPlan.of(parsed)
    with _own_files():
        _carry_out(plan)


def _carry_out(plan: RunPlan) -> None:
    """Open what the plan names and score until the run ends."""
    from edge_aae.commands.device.upkeep import Upkeep
    from edge_runtime.image_files.unreadable import check_unscored
    from edge_runtime.operations.stopping import reload_requests, stop_requests
    from edge_runtime.operations.systemd import Systemd
    from edge_runtime.redact import redact
    from edge_runtime.sources.contract import described
    from edge_runtime.stream.pipeline import Pipeline, RunSummary

    opened = sources_of(plan.sources, plan.capture, must_exist=not plan.feed.patient)
    plan.tell_unused(opened)
    model = _Model(plan)
    detector = model.detector()
    names = ", ".join(redact(source.source_id) for source in opened)
    logger.info(
        "%s on %s %s, model %s sha256:%s%s, threshold %g",
        ", ".join(map(described, opened)),
        detector.backend.name,
        plan.detector.precision,
        detector.bundle.path,
        detector.bundle.digest[:12],
        f" signed by {detector.bundle.signed_by}" if detector.bundle.signed_by else "",
        detector.decision.threshold,
    )
    shadow = model.shadow()
    summary = RunSummary()
    settings = plan.settings(detector.decision.threshold)
    with (
        _summed_up(summary),
        stop_requests() as stopped,
        reload_requests() as reload_asked,
        outbox_of(plan.delivery, [source.source_id for source in opened]) as (outbox, publishers),
    ):
        sinks = sinks_of(plan.sinks, detector, outbox)
        if bounds := plan.sinks.bounds():
            logger.info("%s", bounds)
        page = page_of(
            plan.page, lambda: upkeep.pipeline, model.path, plan.sinks, fixed_by=plan.detector.fixes_threshold
        )
        if page:
            sinks.append(page)
        manager = Systemd() if plan.upkeep.systemd else None
        power_s = math.inf if plan.upkeep.power is None else plan.upkeep.power
        upkeep = Upkeep(reload_asked, manager, power_s=power_s)
        pipeline = Pipeline(
            detector, opened, settings=settings, summary=summary, sinks=sinks, pulse=upkeep.pulse, shadow=shadow
        )
        upkeep.pipeline, upkeep.page = pipeline, page
        upkeep.tell_of_nobodys()
        model.report_refusal(detector, pipeline)
        upkeep.watch = model.watch(detector, pipeline)
        with (
            upkeep.watch or nullcontext(),
            _observed(pipeline, plan.upkeep.address()),
            delivered(pipeline, outbox, publishers),
        ):
            pipeline.run(stopped=stopped, max_frames=plan.upkeep.max_frames)
        upkeep.stopping()
    if summary.frames == 0 and summary.unscored:
        raise DataError(f"none of {summary.unscored} frames of {names} could be scored; see above")
    pipeline.sinks.check_lost()
    if not any(source.live for source in opened):
        check_unscored(summary.unscored, summary.frames + summary.unscored, plan.feed.max_bad, names)


@contextmanager
def _own_files() -> Iterator[None]:
    """What a run writes is its user's alone: records, pictures, videos, what people say of events."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)


class _Model:
    """The bundle of a run: where it lies, the detector of what lies there, and what becomes of the next one."""

    def __init__(self, plan: RunPlan) -> None:
        """Reads the view's mask and the trusted keys; opens no bundle. Raises BundleError where none is there to be
        used, ConfigError where a key cannot be read."""
        self.path = resolve_model(plan.model)
        self._load = plan.detector.loader(plan.view.view(), plan.size)
        self._precision, self._backend = plan.detector.precision, plan.detector.backend
        self._watched = plan.upkeep.watch_model
        self._shadow = plan.upkeep.shadow
        self._trusted = plan.detector.require_signature
        if self._trusted is not None:
            from edge_runtime.signing.keys import read_public_keys

            keys = read_public_keys(self._trusted)
            logger.info("bundles have to be signed by %s", " or ".join(map(str, keys)))
        self._kept = None
        if plan.upkeep.last_good is not None:
            from edge_runtime.gate.last_good import LastGood

            self._kept = LastGood(plan.upkeep.last_good, self.path, self._load, self._precision, self._trial())

    def _trial(self) -> Trial:
        from edge_runtime.gate.trial import Trial

        trusted = None if self._trusted is None else str(self._trusted)
        return Trial(precision=self._precision, backend=self._backend, require_signature=trusted)

    def detector(self) -> Detector:
        """Of the bundle at the path; of the last good one where such is kept and the bundle cannot be used."""
        return self._kept.open() if self._kept else self._load(self._trial().open(self.path))

    def shadow(self) -> Detector | None:
        """Of the bundle that is to be scored beside, as it would be in the place of the other; None without one."""
        if self._shadow is None:
            return None
        detector = self._load(self._trial().open(self._shadow))
        logger.info(
            "shadow %s sha256:%s, threshold %g: noted, never acted on",
            self._shadow,
            detector.bundle.digest[:12],
            detector.decision.threshold,
        )
        return detector

    def report_refusal(self, detector: Detector, pipeline: Pipeline) -> None:
        """A status record of why the detector is the last good bundle's, where it is."""
        from edge_runtime.sinks.records import status_record

        if self._kept and self._kept.refused:
            payload = {"reason": self._kept.refused, "model": f"sha256:{detector.bundle.digest}"}
            pipeline.report(status_record("error", "MODEL_REFUSED", str(self.path), payload))

    def watch(self, detector: Detector, pipeline: Pipeline) -> ModelWatch | None:
        """Looks at the path for another bundle than the detector's, not yet begun; None where it is not asked for."""
        if not self._watched:
            return None
        from edge_runtime.operations.model_watch import ModelWatch

        return ModelWatch(
            self.path,
            detector.bundle.digest,
            self._load,
            pipeline.report,
            precision=self._precision,
            trial=self._trial(),
            accepted=self._kept.keep if self._kept else lambda bundle: None,
        )


@contextmanager
def _summed_up(summary: RunSummary) -> Iterator[None]:
    """Say at the end of the block what the run came to; of one that failed only where it had frames."""
    failed = True
    try:
        yield
        failed = False
    except BrokenPipeError:
        # The reader of our standard output went away, which is a way to end a run; Python's own flush at exit must
        # not stumble over it again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        failed = False
    finally:
        if logger.isEnabledFor(logging.INFO) and (not failed or summary.frames or summary.unscored):
            if summary.shadow is not None:
                say(str(summary.shadow), err=True)
            say(str(summary), err=True)


@contextmanager
def _observed(pipeline: Pipeline, address: tuple[str, int] | None) -> Iterator[None]:
    if address is None:
        yield
        return
    from edge_runtime.operations.health_server import observed
    from edge_runtime.serving.listening import addresses_of

    with observed(pipeline, address) as bound:
        places = [f"{place}healthz" for place in addresses_of(address[0], bound)]
        logger.info("health and metrics at %s and /metrics", " or ".join(places))
        yield
