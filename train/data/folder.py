"""Training images of a folder of photographs. What cannot be read is listed, skipped and counted; too much of it ends
the run."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from pathlib import Path

from edge_runtime.errors import DataError, FrameError
from edge_runtime.image_files.levels import Levels
from edge_runtime.image_files.unreadable import most_bad
from edge_runtime.model.images import read_image
from edge_runtime.model.preprocess import Frame
from train.data.grouping import photograph_groups
from train.data.image_store import ImageWriter
from train.data.near_duplicates import without_duplicates
from train.data.photograph_store import PhotographStore
from train.data.settings import DataSettings
from train.data.training_set import PHOTO_SIDE, RAW_SAMPLE_BYTES, Probe, TrainingSet, preprocess_for, spread
from train.intake.feedback_images import name_within
from train.intake.picture_quality import PictureQualities
from train.intake.training_files import training_files
from train.networks.registry import NetworkName, network_spec

__all__ = ["is_grey", "load_folder", "probe_folder"]

logger = logging.getLogger(__name__)

SAME_ASPECT = 0.05
"""Aspect ratios within 5 % of each other are one camera's; such images are stretched, others letterboxed."""

PROBED_FILES = 64
"""Files looked at, evenly spread, to settle channels, fit and view where the user names none."""


def load_folder(
    settings: DataSettings, folder: Path, network: NetworkName, cache_folder: Path | None = None
) -> TrainingSet:
    """The images of a folder; raises DataError and ConfigError as load_training_set does."""
    files = _files(settings, folder)
    preprocess = preprocess_for(settings, network, _probe(settings, folder, files))
    tiled = preprocess.fit == "tile"
    photographs: list[Frame] = []
    writer = ImageWriter(preprocess.input_shape, 0 if tiled else len(files), settings.cache, cache_folder)
    minimum = network_spec(network).smallest_side
    names: list[str] = []
    qualities = PictureQualities()
    bad: list[tuple[str, str]] = []
    duplicates: list[tuple[str, str]] = []
    raw_names = {str(file) for file in spread(files)}
    raw_frames = []
    for file in files:
        name = name_within(folder, file)
        frame, reason = _try_read(file, settings.levels, minimum=minimum)
        if frame is not None:
            try:
                if tiled:
                    photographs.append(preprocess.scaled(frame)[:, :, 0])
                else:
                    writer.append(preprocess(frame))
            except FrameError as error:
                reason = str(error)
            else:
                names.append(name)
                qualities.add(frame, preprocess.roi)
                if str(file) in raw_names and frame.nbytes <= RAW_SAMPLE_BYTES:
                    raw_frames.append(frame)
                continue
        bad.append((name, reason))
    _check_bad(settings, folder, bad, len(files))
    store = PhotographStore(photographs, preprocess) if tiled else writer.store()
    if settings.drop_duplicates:
        store, kept, duplicates = without_duplicates(store, names)
        names = [names[index] for index in kept]
        qualities.keep_only(kept)
    groups = photograph_groups(settings.group_by, folder, names, store, distinct=bool(settings.drop_duplicates))
    return TrainingSet(store, names, None, preprocess, raw_frames, bad, duplicates, groups=groups, qualities=qualities)


def probe_folder(settings: DataSettings, folder: Path) -> Probe:
    """What a spread of a folder's images says of all; raises DataError where none can be read."""
    return _probe(settings, folder, _files(settings, folder))


def _files(settings: DataSettings, folder: Path) -> list[Path]:
    files = training_files(folder)
    return files if settings.feedback is None else settings.feedback.joined(files)


def _probe(settings: DataSettings, folder: Path, files: list[Path]) -> Probe:
    """Settles channels and fit before the pass that reads every file and drops its raw pixels."""
    grey, aspects = True, []
    for frame in _probed(files, settings.levels):
        grey = grey and is_grey(frame)
        aspects.append(math.log(frame.shape[1] / frame.shape[0]))
    if not aspects:
        raise DataError(
            f"none of {len(files)} images in {folder} can be read; the first: {_try_read(files[0], None)[1]}"
        )
    return Probe(
        channels=settings.channels or (1 if grey else 3),
        native=(PHOTO_SIDE, PHOTO_SIDE),
        same_aspect=max(aspects) - min(aspects) <= SAME_ASPECT,
        frames=lambda: _probed(files, settings.levels),
    )


def _probed(files: list[Path], levels: Levels | None) -> Iterator[Frame]:
    """A spread of the images, one at a time: those that can be read."""
    for file in spread(files, PROBED_FILES):
        frame, reason = _try_read(file, levels)
        if frame is None:
            logger.debug("not probed: %s", reason)
            continue
        yield frame


def _try_read(file: Path, levels: Levels | None, *, minimum: int = 1) -> tuple[Frame | None, str]:
    """The frame of a file, or the reason why there is none."""
    try:
        frame = read_image(file, levels)
    except DataError as error:
        return None, str(error)
    if min(frame.shape[:2]) < minimum:
        return None, (
            f"{file} is {frame.shape[0]}x{frame.shape[1]}, the network needs images of at least {minimum}x{minimum}"
        )
    return frame, ""


def _check_bad(settings: DataSettings, folder: Path, bad: list[tuple[str, str]], n_files: int) -> None:
    for _, reason in bad:
        logger.warning("skipped: %s", reason)
    if not bad:
        return
    if len(bad) > most_bad(settings.max_bad, n_files) or len(bad) == n_files:
        first = "; ".join(reason for _, reason in bad[:3])
        raise DataError(
            f"{len(bad)} of {n_files} images in {folder} cannot be used ({len(bad) / n_files:.1%}, --max-bad allows "
            f"{settings.max_bad:.1%}): {first}{'; ...' if len(bad) > 3 else ''}"
        )
    logger.warning("skipped %d of %d images", len(bad), n_files)


def is_grey(frame: Frame, *, tolerance: int = 0) -> bool:
    """Whether a frame has no colour: channels that nowhere differ by more than so many grey levels."""
    if frame.ndim == 2:
        return True
    return bool((frame.max(axis=2) - frame.min(axis=2) <= tolerance).all())
