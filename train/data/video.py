"""Training images from a video file: frames sampled evenly in time, those left out in which nothing has changed."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from edge_runtime.errors import DataError, FrameError, SourceError
from edge_runtime.image_files.unreadable import most_bad
from edge_runtime.model.preprocess import Frame
from edge_runtime.sources import VideoSource
from train.data.folder import is_grey
from train.data.grouping import frame_groups
from train.data.image_store import ImageWriter
from train.data.near_duplicates import LARGEST_DIFFERENCE, cell_means, largest_difference
from train.data.settings import DataSettings
from train.data.training_set import PHOTO_SIDE, RAW_SAMPLE_BYTES, Probe, TrainingSet, preprocess_for, spread
from train.intake.picture_quality import PictureQualities
from train.networks.registry import NetworkName, network_spec

__all__ = ["load_video", "opened_video", "probe_video"]

logger = logging.getLogger(__name__)

PROBED_FRAMES = 16
"""Sampled frames looked at to settle channels."""

CODEC_COLOUR = 6
"""Grey levels by which channels of a grey frame may differ: MJPG and MPEG-4 gave back up to 3."""

USUAL_RATE = 25.0
"""Frames a second where the file does not say."""


def load_video(
    settings: DataSettings, file: Path, network: NetworkName, cache_folder: Path | None = None
) -> TrainingSet:
    """Sampled frames of a video, named `video.mp4#000123` after the frame's number from 0.

    A frame is a near-duplicate of the last one taken, or it is taken: what comes back later is seen again. Raises
    DataError where OpenCV finds no video, too little of it can be decoded, or its frames are too small.
    """
    n_expected, rate = _length(settings, file)
    probe = probe_video(settings, file)
    height, width = next(iter(probe.frames())).shape[:2]
    minimum = network_spec(network).smallest_side
    if min(height, width) < minimum:
        raise DataError(f"frames of {file} are {height}x{width}, network {network} needs at least {minimum}x{minimum}")
    preprocess = preprocess_for(settings, network, probe)
    writer = ImageWriter(preprocess.input_shape, n_expected, settings.cache, cache_folder)
    names: list[str] = []
    bad: list[tuple[str, str]] = []
    duplicates: list[tuple[str, str]] = []
    raw_frames: list[Frame] = []
    qualities = PictureQualities()
    raw_positions = set(spread(range(n_expected)))
    last = None
    for position, (name, frame) in enumerate(_sampled(settings, file)):
        if isinstance(frame, DataError):
            bad.append((name, str(frame)))
            continue
        if position in raw_positions and frame.nbytes <= RAW_SAMPLE_BYTES:
            raw_frames.append(frame)
        try:
            image = preprocess(frame)
        except FrameError as error:
            bad.append((name, str(error)))
            continue
        if settings.drop_duplicates is not False:
            means = cell_means(image[None])[0]
            if last is not None and largest_difference(means, last) <= LARGEST_DIFFERENCE:
                duplicates.append((name, names[-1]))
                continue
            last = means
        names.append(name)
        qualities.add(frame, preprocess.roi)
        writer.append(image)
    n_sampled = len(names) + len(bad) + len(duplicates)
    for name, reason in bad:
        logger.warning("skipped: %s: %s", name, reason)
    if len(bad) > most_bad(settings.max_bad, n_sampled) or not names:
        raise DataError(
            f"{len(bad)} of {n_sampled} frames of {file} cannot be used (--max-bad allows {settings.max_bad:.1%}): "
            f"{bad[0][1]}"
        )
    logger.info("%s: %d frames sampled, %d near-duplicates left out", file, n_sampled, len(duplicates))
    times_s = [int(name.rpartition("#")[2]) / rate for name in names]
    groups = frame_groups(settings.group_by, names, times_s)
    return TrainingSet(
        writer.store(), names, None, preprocess, raw_frames, bad, duplicates, groups=groups, qualities=qualities
    )


def probe_video(settings: DataSettings, file: Path) -> Probe:
    """What the first sampled frames say of all; raises DataError where OpenCV finds no video, or none is decoded."""
    frames = [frame for _, frame in islice(_sampled(settings, file), PROBED_FRAMES) if not isinstance(frame, DataError)]
    if not frames:
        raise DataError(f"no frame of {file} can be decoded; play it to see whether it is damaged")
    grey = all(is_grey(frame, tolerance=CODEC_COLOUR) for frame in frames)
    return Probe(
        channels=settings.channels or (1 if grey else 3),
        native=(PHOTO_SIDE, PHOTO_SIDE),
        same_aspect=True,
        frames=lambda: frames,
    )


def _length(settings: DataSettings, file: Path) -> tuple[int, float]:
    """How many frames will be sampled, by the file's header, of how many a second."""
    with opened_video(file) as source:
        rate = source.frame_rate or USUAL_RATE
        return max(1, math.ceil(source.n_frames * min(1.0, settings.sample_fps / rate))), rate


def _sampled(settings: DataSettings, file: Path) -> Iterator[tuple[str, Frame | DataError]]:
    """(name, frame) of every sampled frame, or why it could not be decoded."""
    with opened_video(file) as source:
        if not source.frame_rate:
            logger.warning("%s does not say its frame rate; taken for %g a second", file, USUAL_RATE)
        share = min(1.0, settings.sample_fps / (source.frame_rate or USUAL_RATE))
        number = 0
        while _grabbed(source):
            # Of frames 0, 1, 2, ... the first of each 1 / share; the others are not decoded.
            if math.floor(number * share) > math.floor((number - 1) * share):
                name = f"{file.name}#{number:06d}"
                try:
                    yield name, source.retrieve().image
                except DataError as error:
                    yield name, error
            number += 1


def _grabbed(source: VideoSource) -> bool:
    """Whether there is a next frame; that frames are missing is said, and what there is is trained on."""
    try:
        return source.grab()
    except SourceError as error:
        logger.warning("%s", error)
        return False


def opened_video(file: Path) -> VideoSource:
    """The video, to be entered; raises DataError where it is none."""
    source = VideoSource(file)
    try:
        source.open()
    except SourceError as error:
        raise DataError(
            f"{file} is no video that OpenCV can read; expected a folder of images, a video, an IDX pair or an .npz"
        ) from error
    source.close()
    return source
