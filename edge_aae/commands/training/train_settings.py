"""From the options of `edge-aae train` to the settings of a run."""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from edge_aae.commands.training.train_options import ImageOptions, LearningOptions, MethodOptions
from edge_runtime.errors import ConfigError

if TYPE_CHECKING:
    from train.data.settings import DataSettings
    from train.intake.feedback_images import FeedbackImages
    from train.learning.settings import HeadSettings, TrainSettings
    from train.networks.registry import NetworkName
    from train.networks.spec import NetworkSpec
    from train.schedule import Schedule

__all__ = ["settings_of"]

logger = logging.getLogger(__name__)

CHANNELS: dict[str, Literal[1, 3]] = {"1": 1, "3": 3}


def settings_of(
    data: str, asked: MethodOptions, images: ImageOptions, learning: LearningOptions
) -> tuple[DataSettings, TrainSettings]:
    """The run's settings, with the defaults that depend on data and network.

    Reads some of the images where they choose the network, and the files that name images. Raises ConfigError,
    DataError.
    """
    from train.calibration.thresholds import LimitSettings
    from train.intake.feedback_images import FeedbackImages
    from train.intake.training_files import training_folder
    from train.learning.augmentation import AUGMENTATIONS
    from train.learning.settings import TrainSettings
    from train.networks.registry import network_spec
    from train.refinement.settings import RobustSettings

    data = str(training_folder(Path(data)))
    feedback = None if images.feedback is None else FeedbackImages.of(images.feedback)
    network = _network(data, asked, images, n_added=0 if feedback is None else len(feedback.good))
    _refuse_unused(asked, learning)
    spec = network_spec(network)
    schedule = _schedule(spec, asked, learning)
    data_settings = _data_settings(data, spec, images, feedback, learning.seed)
    train_settings = TrainSettings(
        network=network,
        method=asked.method,
        refine=asked.refine,
        latent_dim=_either(learning.latent, spec.latent_dim(asked.method)),
        schedule=schedule,
        robust=RobustSettings(components=asked.mixture),
        width=images.width,
        batch_size=_either(learning.batch, spec.batch_size),
        augment=AUGMENTATIONS[images.augment],
        amp=learning.amp,
        decision=asked.decision,
        backbone=asked.backbone,
        head=_head(asked, learning),
        limit=LimitSettings(
            rule=asked.threshold_rule,
            target_fpr=asked.target_fpr,
            cost_miss=asked.cost_miss,
            cost_false_alarm=asked.cost_false_alarm,
        ),
        seed=learning.seed,
    )
    if train_settings.rule == "union" and train_settings.limit != LimitSettings():
        raise ConfigError(
            "--threshold-rule, --target-fpr and the costs set the threshold of the fused score; what was asked for "
            "decides by the paper's union (p90 of each criterion): leave them out, or take --refine robust"
        )
    return data_settings, train_settings


def _network(data: str, asked: MethodOptions, images: ImageOptions, *, n_added: int) -> NetworkName:
    if asked.network != "auto":
        return asked.network
    from train.data.network_choice import choose_network

    choice = choose_network(
        Path(data),
        not_features=_against_features(asked, images),
        imgsz=images.imgsz,
        levels=images.levels,
        n_added=n_added,
    )
    logger.info("network %s: %s", choice.network, choice.reason)
    return choice.network


def _against_features(asked: MethodOptions, images: ImageOptions) -> str:
    """The option that network features has no use for, if one was given."""
    from train.distributed import n_processes
    from train.networks.registry import network_spec

    if n_processes(os.environ) > 1:
        return "it trains in one process"
    given = {
        f"--refine {asked.refine}": asked.refine not in network_spec("features").schedules,
        f"--decision {asked.decision}": asked.decision == "union",
        "--mixture": asked.mixture != 1,
        "--scale": images.scale is not None,
        "--overlap": images.overlap is not None,
        "--width": images.width != 1.0,
    }
    for option, conflicts in given.items():
        if conflicts:
            return f"{option} was asked for"
    return ""


def _schedule(spec: NetworkSpec, asked: MethodOptions, learning: LearningOptions) -> Schedule:
    from train.schedule import Schedule

    standard = spec.schedule(asked.method, asked.refine)
    return Schedule(
        train=_either(learning.epochs, standard.train),
        refine=_either(learning.refine_epochs, standard.refine),
        retrain=_either(learning.retrain_epochs, standard.retrain),
    ).scaled(learning.epochs_scale)


def _head(asked: MethodOptions, learning: LearningOptions) -> HeadSettings:
    from train.learning.settings import HeadSettings

    standard = HeadSettings(mode=asked.head)
    return replace(standard, epochs=max(1, round(learning.epochs_scale * standard.epochs)))


def _refuse_unused(asked: MethodOptions, learning: LearningOptions) -> None:
    """Raises ConfigError for an option that the refinement would pass over."""
    refine = asked.refine
    if refine == "none" and (learning.refine_epochs is not None or learning.retrain_epochs is not None):
        raise ConfigError("--refine-epochs and --retrain-epochs belong to --refine itsr")
    if refine == "robust" and learning.retrain_epochs is not None:
        raise ConfigError("--retrain-epochs belongs to --refine itsr; robust has --epochs and --refine-epochs")
    if refine != "robust" and asked.mixture != 1:
        raise ConfigError(f"--mixture belongs to --refine robust; with --refine {refine} leave it out")


def _data_settings(
    data: str, spec: NetworkSpec, images: ImageOptions, feedback: FeedbackImages | None, seed: int
) -> DataSettings:
    from train.data.guidance import GuidanceFiles
    from train.data.settings import DataSettings

    # Bars and a view that follows the part exclude each other: who asks for bars has no use for a choice.
    chooses_view = spec.reads_backbone and images.fit != "letterbox"
    return DataSettings(
        path=data,
        classes=images.classes,
        contaminate=images.contaminate,
        imgsz=images.imgsz,
        channels=None if images.channels is None else CHANNELS[images.channels],
        fit=images.fit,
        scale=images.scale,
        overlap=images.overlap,
        roi=images.roi,
        levels=images.levels,
        align=images.align or ("auto" if chooses_view else "none"),
        smallest_defect=images.smallest_defect,
        max_bad=images.max_bad,
        sample_fps=images.sample_fps,
        drop_duplicates=images.drop_duplicates,
        group_by=images.group_by,
        known_bad=_known_bad(images),
        feedback=feedback,
        cache=images.cache,
        guidance=GuidanceFiles.of(keep=images.keep, reject=images.reject, labels=images.labels),
        seed=seed,
    )


def _known_bad(images: ImageOptions) -> str | None:
    """The folder, absolute, looked into now: nobody should learn after a training that it is empty."""
    if images.known_bad is None:
        return None
    from train.runs.known_defects import known_defects

    known_defects(str(images.known_bad))
    return str(images.known_bad.absolute())


def _either(named: int | None, standard: int) -> int:
    return standard if named is None else named
