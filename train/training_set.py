"""The images of a run, preprocessed, with what is known about each."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edge_runtime.preprocess import Frame, Preprocess
from train.data_settings import DataSettings
from train.guidance import Guidance
from train.image_store import ImageStore
from train.networks import NetworkName, check_input_size

__all__ = ["PHOTO_SIDE", "RAW_SAMPLE_BYTES", "TrainingSet", "preprocess_for", "spread"]

PHOTO_SIDE = 128
"""Default network input for photographs, pixels: minutes of training on two CPU cores."""

RAW_SAMPLES = 4
RAW_SAMPLE_BYTES = 2_000_000
"""Unprocessed frames kept for the bundle's golden samples, at most so many bytes each."""

HASHED = 1024
"""Images hashed at a time."""


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """Images ready for a network, and where they came from."""

    store: ImageStore
    """N network inputs"""
    names: list[str]
    labels: NDArray[np.int64] | None
    """(N,) classes where the set has them: for reports, never for training"""
    preprocess: Preprocess
    raw_frames: list[Frame] = field(default_factory=list)
    """A few unprocessed frames"""
    bad: list[tuple[str, str]] = field(default_factory=list)
    """(name, reason) of what was skipped"""
    duplicates: list[tuple[str, str]] = field(default_factory=list)
    """(name, name of the earlier image) of near-duplicates left out"""
    guidance: Guidance = field(default_factory=lambda: Guidance.none(0))
    """A person's corrections and labels: (N,) verdicts"""

    @property
    def images(self) -> NDArray[np.uint8]:
        """(N, H, W, C) network inputs; with a store on disk only what is read of them takes memory."""
        return self.store.array

    def sha256(self) -> str:
        """Identifies the images: a resumed run must see the same ones."""
        digest = hashlib.sha256()
        for chunk in self.store.chunks(HASHED):
            digest.update(chunk.permute(0, 2, 3, 1).numpy().tobytes())
        return digest.hexdigest()


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
