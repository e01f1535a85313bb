"""`--network auto`: which network suits the images, and why."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import ConfigError, DataError, MissingExtraError, SourceError
from edge_runtime.image_files.levels import Levels
from edge_runtime.model.images import list_images, read_image
from edge_runtime.model.preprocess import Frame
from edge_runtime.model.self_reference import N_CHANNELS
from edge_runtime.scoring.labelled import is_labelled_set, read_labelled
from train.backbones.weights import shipped_weights_file
from train.data.loading import check_data
from train.data.training_set import spread
from train.data.video import opened_video
from train.intake.depth import found_levels
from train.intake.training_files import training_files
from train.networks.hog import check_hog_size
from train.networks.registry import NetworkName, network_spec

__all__ = ["Choice", "alignment", "choose_network"]

PROBED = 64
"""Images looked at, evenly spread."""
PROBE_SIDE = 32
"""Pixels to which they are reduced: objects stay, grain goes."""

LEAST_PHOTO_SIDE = 64

ALIGNED = 0.5
"""Mean correlation with the median image from which images show one thing in one place. Fashion-MNIST's classes have
0.51 (sandals) to 0.88 (trousers), MNIST's digits 0.53 to 0.72."""

ONE_SIZE = 0.05
"""Sides within 5 % of each other are one camera's at one place: magnetic tiles cut out of photographs have sides from
100 to 620 pixels, and a correlation of 0.63, because their light is alike."""


STAND_INS: tuple[NetworkName, ...] = ("hog", "conv", "mlp")
"""For a size that the network of one's choice does not take, the best first."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A network and the reason for it."""

    network: NetworkName
    reason: str


def choose_network(
    data: Path,
    *,
    not_features: str = "",
    imgsz: tuple[int, int] | None = None,
    levels: Levels | None = None,
    n_added: int = 0,
) -> Choice:
    """The network for a folder of images, a video or a labelled set.

    imgsz: rows and columns that were asked for; a network that does not take them is not chosen where another does.
    levels: of 16-bit images; None: what those looked at use. n_added: photographs from elsewhere that join them.

    `features` for photographs: images with sides of LEAST_PHOTO_SIDE pixels or more. Where it cannot be had, for the
    reason not_features or because the backbone is not installed, `hog` where the images have one size and show one
    thing in one place, so that gradients can be compared place by place, and `patch` where they do not. Says so where
    too few images can be read to tell; loading them then says what is wrong. Raises DataError for what is no data, and
    for fewer photographs than any network takes.
    """
    check_data(data)
    if is_labelled_set(data):
        return _taking(imgsz, _for_labelled(data))
    if imgsz is not None:
        not_features = not_features or _refusal("features", imgsz)
    if not data.is_dir():
        return _taking(imgsz, _for_video(data, not_features))
    files = list_images(data, told=False) and training_files(data, told=False)
    frames = _probe(files, levels)
    if not frames:
        return Choice("hog", "too few images to tell")
    side = int(np.median([min(frame.shape[:2]) for frame in frames]))
    n_images = len(frames) + n_added
    asked, not_features = not_features, not_features or _no_features(side, n_images)
    if not not_features:
        return Choice("features", f"photographs, {side} pixels on the short side")
    choice = _without_backbone(frames)
    if not asked and side >= LEAST_PHOTO_SIDE and len(frames) == len(files):
        _check_number(n_images, choice.network)
    if len(frames) < 2:
        return Choice("hog", "too few images to tell")
    return _taking(imgsz, Choice(choice.network, f"{choice.reason}; not features: {not_features}"))


def _check_number(n_images: int, otherwise: NetworkName) -> None:
    """Raise DataError for too few photographs, also for the network in place of features."""
    fewest, other = network_spec("features").fewest_images, network_spec(otherwise)
    if n_images < fewest and n_images < other.fewest_images and not other.cuts_tiles:
        raise DataError(
            f"{n_images} image{'' if n_images == 1 else 's'} to train on; photographs need {fewest} or more "
            "(30 to 200 are usual); take more"
        )


def _taking(imgsz: tuple[int, int] | None, choice: Choice) -> Choice:
    """The choice, or the first other network in its place that takes the size; where none does, training says why."""
    if imgsz is None or not (refused := _refusal(choice.network, imgsz)):
        return choice
    for network in STAND_INS:
        if not _refusal(network, imgsz):
            return Choice(network, f"{choice.reason}; not {choice.network}: {refused}")
    return choice


def _refusal(network: NetworkName, imgsz: tuple[int, int]) -> str:
    """Why a network does not take an input of so many rows and columns; empty where it does."""
    spec = network_spec(network)
    try:
        spec.check_size(N_CHANNELS if spec.cuts_tiles else 3, *imgsz)
    except ConfigError as error:
        return str(error)
    return ""


def _for_video(path: Path, not_features: str) -> Choice:
    source = opened_video(path)
    try:
        with source:
            height, width = source.retrieve().image.shape[:2] if source.grab() else (0, 0)
    except SourceError:
        return Choice("hog", "frames of one camera")  # loading them says what is damaged
    side = min(height, width)
    not_features = not_features or _no_features(side)
    if not not_features:
        return Choice("features", f"photographs of one camera, {side} pixels on the short side")
    return Choice("hog", f"frames of one camera; not features: {not_features}")


def _no_features(side: int, n_images: int | None = None) -> str:
    if side < LEAST_PHOTO_SIDE:
        return f"the images have {side} pixels a side, a backbone tells little below {LEAST_PHOTO_SIDE}"
    if n_images is not None and n_images < (fewest := network_spec("features").fewest_images):
        return f"there are {n_images} images, {fewest} are needed"
    try:
        shipped_weights_file()
    except MissingExtraError as error:
        return str(error)
    return ""


def _without_backbone(frames: list[Frame]) -> Choice:
    shapes = np.array([frame.shape[:2] for frame in frames])
    if (shapes.max(axis=0) > shapes.min(axis=0) * (1.0 + ONE_SIZE)).any():
        sides = f"{shapes.min()} to {shapes.max()} pixels"
        return Choice("patch", f"images of several sizes ({sides}) cannot be compared place by place")
    value = alignment(frames)
    if value >= ALIGNED:
        return Choice("hog", f"the images show one thing in one place (correlation with their median {value:.2f})")
    return Choice("patch", f"the images do not line up (correlation with their median {value:.2f})")


def _for_labelled(data: Path) -> Choice:
    height, width = read_labelled(data, "train").images.shape[1:3]
    try:
        check_hog_size(height, width)
    except ConfigError:
        return Choice("mlp", f"images of {height}x{width} do not divide into the cells of hog")
    return Choice("hog", "a labelled set of small images of one size")


def alignment(frames: list[Frame]) -> float:
    """Mean correlation of images, reduced to 32x32 grey, with their median image: 1 for copies, near 0 for textures."""
    rows = np.stack([_reduced(frame) for frame in frames])  # (N, 32 * 32)
    median = np.median(rows, axis=0)
    return float(np.mean([_correlation(row, median) for row in rows]))


def _probe(files: list[Path], levels: Levels | None) -> list[Frame]:
    if not files:
        return []
    looked_at = spread(files, PROBED)
    levels = levels or found_levels(looked_at, told=False)
    frames = []
    for file in looked_at:
        try:
            frames.append(read_image(file, levels))
        except DataError:
            continue  # loading lists what cannot be read
    return frames


def _reduced(frame: Frame) -> NDArray[np.float64]:
    grey = frame if frame.ndim == 2 else cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)
    small = cv2.resize(grey, (PROBE_SIDE, PROBE_SIDE), interpolation=cv2.INTER_AREA)
    return small.astype(np.float64).ravel()


def _correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / scale if scale > 0.0 else 1.0
