"""The images of a run, preprocessed, with what is known about each."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import DataError
from edge_runtime.preprocess import Frame, Preprocess
from train.data_settings import DataSettings
from train.guidance import Guidance
from train.networks import NetworkName, check_input_size

__all__ = ["PHOTO_SIDE", "RAW_SAMPLE_BYTES", "TrainingSet", "check_memory", "preprocess_for", "spread"]

PHOTO_SIDE = 128
"""Default network input for photographs, pixels: minutes of training on two CPU cores."""

RAW_SAMPLES = 4
RAW_SAMPLE_BYTES = 2_000_000
"""Unprocessed frames kept for the bundle's golden samples, at most so many bytes each."""

MEMORY_SHARE = 0.7
"""Of the memory that is free: more images than fit there are refused before they fill the machine."""


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
    guidance: Guidance = field(default_factory=lambda: Guidance.none(0))
    """A person's corrections and labels: (N,) verdicts"""

    def sha256(self) -> str:
        """Identifies the images: a resumed run must see the same ones."""
        return hashlib.sha256(self.images.tobytes()).hexdigest()


def preprocess_for(
    settings: DataSettings,
    network: NetworkName,
    *,
    channels: Literal[1, 3],
    native: tuple[int, int],
    same_aspect: bool,
) -> Preprocess:
    """The preprocessing of a run: what the settings name, else what the images suggest.

    native: rows and columns where no input size is named. Raises ConfigError for a size the network cannot take.
    """
    height, width = settings.imgsz or native
    check_input_size(network, channels, height, width)
    return Preprocess(
        height=height,
        width=width,
        channels=channels,
        fit=settings.fit or ("stretch" if same_aspect else "letterbox"),
        roi=settings.roi,
    )


def spread(items: Any, n: int = RAW_SAMPLES) -> list[Any]:
    """n items, evenly spread over the list."""
    positions = np.unique(np.linspace(0, len(items) - 1, min(n, len(items))).round().astype(int))
    return [items[position] for position in positions]


def check_memory(n_images: int, preprocess: Preprocess) -> None:
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
