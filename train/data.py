"""Training images in memory, preprocessed: from a folder of photographs, an IDX pair or an .npz file.

What cannot be read is listed, skipped and counted; too much of it ends the run.
"""

from __future__ import annotations

import hashlib
import logging
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import ConfigError, DataError, FrameError
from edge_runtime.images import list_images, read_image
from edge_runtime.labelled import LabelledImages, is_labelled_set, read_labelled
from edge_runtime.preprocess import Frame, Preprocess
from train.networks import NetworkName, check_input_size, smallest_side

__all__ = ["DataSettings", "TrainingSet", "load_training_set"]

logger = logging.getLogger(__name__)

PHOTO_SIDE = 128
"""Default network input for photographs, pixels: minutes of training on two CPU cores."""

SAME_ASPECT = 0.05
"""Aspect ratios within 5 % of each other are one camera's; such images are stretched, others letterboxed."""

RAW_SAMPLES = 4
RAW_SAMPLE_BYTES = 2_000_000
"""Unprocessed frames kept for the bundle's golden samples, at most so many bytes each."""

PROBED_FILES = 64
"""Files looked at, evenly spread, to settle channels and fit where the user names none."""

MEMORY_SHARE = 0.7
"""Of the memory that is free: more images than fit there are refused before they fill the machine."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DataSettings:
    """Which images a run trains on."""

    path: str
    classes: tuple[int, ...] = ()
    """Normal classes of a labelled set; empty takes all images."""
    contaminate: tuple[tuple[int, float], ...] = ()
    """(class, share) drawn unmarked into the training set; share is n_anomalous / n_all, the paper's alpha."""
    imgsz: tuple[int, int] | None = None
    """Rows and columns of the network's input; None: the images' own size for labelled sets, 128x128 for folders."""
    channels: Literal[1, 3] | None = None
    """None: 1 if the images looked at (64, evenly spread) are all grey, else 3."""
    fit: Literal["stretch", "letterbox"] | None = None
    """None: stretch where the images looked at have one aspect ratio, else letterbox."""
    roi: tuple[int, int, int, int] | None = None
    max_bad: float = 0.01
    """Share of images that may be unreadable."""
    seed: int = 0
    """Draws the contaminating images."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.max_bad <= 1.0:
            raise ConfigError(f"--max-bad is {self.max_bad:.2%}, expected between 0% and 100%")
        for label, share in self.contaminate:
            if not 0.0 < share < 1.0:
                raise ConfigError(f"--contaminate {label}:{share}, expected a share between 0 and 1, such as 2:0.05")
            if label in self.classes:
                raise ConfigError(f"--contaminate {label}: that class is among the normal --classes")
        labels = [label for label, _ in self.contaminate]
        for label in labels:
            if labels.count(label) > 1:
                raise ConfigError(f"--contaminate {label} is named {labels.count(label)} times; name each class once")
        if self.contaminate and not self.classes:
            raise ConfigError("--contaminate needs --classes, the normal ones")
        if sum(share for _, share in self.contaminate) >= 1.0:
            raise ConfigError("--contaminate shares add up to 1 or more; they are parts of the whole training set")

    def to_json(self) -> dict[str, Any]:
        """The settings as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> DataSettings:
        """The settings read back; raises ConfigError for unknown keys."""
        try:
            return cls(
                **{
                    **values,
                    "classes": tuple(values["classes"]),
                    "contaminate": tuple((label, share) for label, share in values["contaminate"]),
                    "imgsz": tuple(values["imgsz"]) if values["imgsz"] else None,
                    "roi": tuple(values["roi"]) if values["roi"] else None,
                }
            )
        except (KeyError, TypeError) as error:
            raise ConfigError(f"the run's data settings are of another release: {error}; train again") from error


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """Images ready for a network, and where they came from."""

    images: NDArray[np.uint8]
    """(N, H, W, C) network inputs"""
    names: list[str]
    labels: NDArray[np.int64] | None
    """(N,) classes where the set has them: for reports, never for training"""
    preprocess: Preprocess
    raw_frames: list[Frame] = field(default_factory=list)
    """A few unprocessed frames"""
    bad: list[tuple[str, str]] = field(default_factory=list)
    """(name, reason) of what was skipped"""

    def sha256(self) -> str:
        """Identifies the images: a resumed run must see the same ones."""
        return hashlib.sha256(self.images.tobytes()).hexdigest()


def load_training_set(settings: DataSettings, network: NetworkName) -> TrainingSet:
    """The images of a run.

    Raises DataError for data that are missing, empty, too small, or unreadable beyond max_bad, and ConfigError for an
    input size that the network cannot take.
    """
    path = Path(settings.path)
    if not path.exists():
        raise DataError(f"no data at {path}; expected a folder of images, an IDX folder or an .npz file")
    if is_labelled_set(path):
        return _from_labelled(settings, read_labelled(path, "train"), network)
    if path.is_file():
        raise DataError(f"{path} is a single file; expected a folder of images, an IDX pair or an .npz file")
    if settings.classes or settings.contaminate:
        raise DataError(f"--classes and --contaminate need labels; {path} is a folder of images without any")
    return _from_folder(settings, path, network)


def _from_labelled(settings: DataSettings, data: LabelledImages, network: NetworkName) -> TrainingSet:
    chosen = _choose(settings, data)
    frames = data.images[chosen]
    height, width = frames.shape[1:3]
    minimum = smallest_side(network)
    if min(height, width) < minimum:
        raise DataError(
            f"images are {height}x{width}, network {network} needs at least {minimum}x{minimum}; use another network"
        )
    preprocess = _preprocess(
        settings,
        network,
        channels=settings.channels or (1 if frames.ndim == 3 else 3),
        native=(height, width),
        same_aspect=True,
    )
    _check_memory(len(frames), preprocess)
    images = np.stack([preprocess(frame) for frame in frames])
    names = [str(index) for index in chosen]
    labels = data.labels[chosen] if data.labels is not None else None
    return TrainingSet(images, names, labels, preprocess, list(_spread(frames)))


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


def _from_folder(settings: DataSettings, folder: Path, network: NetworkName) -> TrainingSet:
    files = list_images(folder)
    if not files:
        raise DataError(f"{folder} holds no PNG, JPEG, BMP or TIFF image, at any depth")
    grey, aspects = _probe(folder, files)
    preprocess = _preprocess(
        settings,
        network,
        channels=settings.channels or (1 if grey else 3),
        native=(PHOTO_SIDE, PHOTO_SIDE),
        same_aspect=max(aspects) - min(aspects) <= SAME_ASPECT,
    )
    _check_memory(len(files), preprocess)
    images, names, bad = [], [], []
    raw_names = {str(file) for file in _spread(files)}
    raw_frames = []
    for file in files:
        name = file.relative_to(folder).as_posix()
        frame, reason = _try_read(file, minimum=smallest_side(network))
        if frame is not None:
            try:
                images.append(preprocess(frame))
            except FrameError as error:
                reason = str(error)
            else:
                names.append(name)
                if str(file) in raw_names and frame.nbytes <= RAW_SAMPLE_BYTES:
                    raw_frames.append(frame)
                continue
        bad.append((name, reason))
    _check_bad(settings, folder, bad, len(files))
    return TrainingSet(np.stack(images), names, None, preprocess, raw_frames, bad)


def _probe(folder: Path, files: list[Path]) -> tuple[bool, list[float]]:
    """Whether a spread of files is all grey, and the logarithms of their aspect ratios.

    Settles channels and fit before the pass that reads every file and drops its raw pixels.
    """
    grey, aspects = True, []
    for file in _spread(files, PROBED_FILES):
        frame, reason = _try_read(file)
        if frame is None:
            logger.debug("not probed: %s", reason)
            continue
        grey = grey and _is_grey(frame)
        aspects.append(math.log(frame.shape[1] / frame.shape[0]))
    if not aspects:
        raise DataError(f"none of {len(files)} images in {folder} can be read; the first: {_try_read(files[0])[1]}")
    return grey, aspects


def _try_read(file: Path, *, minimum: int = 1) -> tuple[Frame | None, str]:
    """The frame of a file, or the reason why there is none."""
    try:
        frame = read_image(file)
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
    share = len(bad) / n_files
    if share > settings.max_bad or len(bad) == n_files:
        first = "; ".join(reason for _, reason in bad[:3])
        raise DataError(
            f"{len(bad)} of {n_files} images in {folder} cannot be used ({share:.1%}, --max-bad allows "
            f"{settings.max_bad:.1%}): {first}{'; ...' if len(bad) > 3 else ''}"
        )
    logger.warning("skipped %d of %d images", len(bad), n_files)


def _preprocess(
    settings: DataSettings,
    network: NetworkName,
    *,
    channels: Literal[1, 3],
    native: tuple[int, int],
    same_aspect: bool,
) -> Preprocess:
    height, width = settings.imgsz or native
    check_input_size(network, channels, height, width)
    return Preprocess(
        height=height,
        width=width,
        channels=channels,
        fit=settings.fit or ("stretch" if same_aspect else "letterbox"),
        roi=settings.roi,
    )


def _is_grey(frame: Frame) -> bool:
    if frame.ndim == 2:
        return True
    return bool((frame[:, :, 0] == frame[:, :, 1]).all() and (frame[:, :, 1] == frame[:, :, 2]).all())


def _spread(items: Any, n: int = RAW_SAMPLES) -> list[Any]:
    """n items, evenly spread over the list."""
    positions = np.unique(np.linspace(0, len(items) - 1, min(n, len(items))).round().astype(int))
    return [items[position] for position in positions]


def _check_memory(n_images: int, preprocess: Preprocess) -> None:
    """Refuse sets that do not fit: the images are held twice while they are stacked."""
    needed = 2 * n_images * math.prod(preprocess.input_shape)
    meminfo = Path("/proc/meminfo")
    if not meminfo.exists():
        return
    available = next(
        (int(line.split()[1]) * 1024 for line in meminfo.read_text().splitlines() if line.startswith("MemAvailable")),
        None,
    )
    if available is not None and needed > MEMORY_SHARE * available:
        raise DataError(
            f"{n_images} images of {preprocess.input_shape} need {needed / 2**30:.1f} GiB, "
            f"{available / 2**30:.1f} GiB are free; use fewer images or a smaller --imgsz"
        )
