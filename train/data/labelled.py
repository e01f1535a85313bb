"""Training images of a labelled set: an IDX pair or an .npz file, all of it or some classes with a mixed-in other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import ConfigError, DataError
from edge_runtime.scoring.labelled import LabelledImages
from train.data.grouping import Groups
from train.data.image_store import ImageWriter
from train.data.near_duplicates import without_duplicates
from train.data.settings import DataSettings
from train.data.training_set import Probe, TrainingSet, preprocess_for, spread
from train.intake.picture_quality import PictureQualities
from train.networks.registry import NetworkName, network_spec

__all__ = ["load_labelled", "probe_labelled"]

LOOKED_AT = 64
"""Images, evenly spread, that a view is fitted to."""


def load_labelled(
    settings: DataSettings, data: LabelledImages, network: NetworkName, cache_folder: Path | None = None
) -> TrainingSet:
    """The training images of a labelled set; raises DataError and ConfigError as load_training_set does."""
    if settings.group_by not in ("auto", "none"):
        raise ConfigError(
            f"--group-by {settings.group_by}: {settings.path} is a labelled set, whose images have neither names nor "
            "times; leave it out"
        )
    chosen = _choose(settings, data)
    frames = data.images[chosen]
    height, width = frames.shape[1:3]
    minimum = network_spec(network).smallest_side
    if min(height, width) < minimum:
        raise DataError(
            f"images are {height}x{width}, network {network} needs at least {minimum}x{minimum}; use another network"
        )
    preprocess = preprocess_for(settings, network, _probe(settings, frames))
    writer = ImageWriter(preprocess.input_shape, len(frames), settings.cache, cache_folder)
    qualities = PictureQualities()
    for frame in frames:
        writer.append(preprocess(frame))
        qualities.add(frame, preprocess.roi)
    store, names = writer.store(), [str(index) for index in chosen]
    labels = data.labels[chosen] if data.labels is not None else None
    duplicates: list[tuple[str, str]] = []
    if settings.drop_duplicates:
        store, kept, duplicates = without_duplicates(store, names)
        names = [names[index] for index in kept]
        qualities.keep_only(kept)
        labels = labels[kept] if labels is not None else None
    groups = Groups.alone(len(names))
    return TrainingSet(
        store,
        names,
        labels,
        preprocess,
        list(spread(frames)),
        duplicates=duplicates,
        groups=groups,
        qualities=qualities,
    )


def probe_labelled(settings: DataSettings, data: LabelledImages) -> Probe:
    """What the training images of a labelled set have in common; raises DataError as load_labelled does."""
    return _probe(settings, data.images[_choose(settings, data)])


def _probe(settings: DataSettings, frames: NDArray[np.uint8]) -> Probe:
    height, width = frames.shape[1:3]
    return Probe(
        channels=settings.channels or (1 if frames.ndim == 3 else 3),
        native=(height, width),
        same_aspect=True,
        frames=lambda: spread(frames, LOOKED_AT),
    )


def _choose(settings: DataSettings, data: LabelledImages) -> NDArray[np.int64]:
    """Indices of the training images: all normal ones, and a draw from each contaminating class."""
    if not settings.classes:
        return np.arange(len(data.images))
    if data.labels is None:
        raise DataError(f"--classes needs labels; {settings.path} has none beside its images")
    present = set(np.unique(data.labels).tolist())
    for label in (*settings.classes, *(label for label, _ in settings.contaminate)):
        if label not in present:
            raise DataError(f"{settings.path} has no class {label}; it has {sorted(present)}")
    normal = np.flatnonzero(np.isin(data.labels, settings.classes))
    n_all = len(normal) / (1.0 - sum(share for _, share in settings.contaminate))
    rng = np.random.default_rng(settings.seed)
    parts = [normal]
    for label, share in settings.contaminate:
        of_class = np.flatnonzero(data.labels == label)
        wanted = max(1, round(share * n_all))
        if wanted > len(of_class):
            raise DataError(
                f"--contaminate {label}:{share} wants {wanted} images of class {label}, there are {len(of_class)}"
            )
        parts.append(rng.choice(of_class, wanted, replace=False))
    return np.concatenate(parts)
