"""A backbone: a frozen trunk with its normalisation, and the facts that a run, a manifest and a report tell of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn

from edge_runtime.errors import ConfigError, DataError
from train.backbones.normalisation import Normalisation, Normalise
from train.backbones.trunk import Trunk

__all__ = ["PROGRAM", "Backbone", "BackboneFacts", "measured_taps"]

PROGRAM = "program"
"""Architecture of a trunk that came as a .pt2 program."""

PROBE_SIDE = 64
"""Pixels; strides are told on a square that every stride up to 32 divides."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BackboneFacts:
    """What there is to tell of a backbone."""

    name: str
    """Of the shipped one, or of the user's file without its ending"""
    architecture: str
    """efficientnet-lite0, resnet18, mobilenet-v2, or program"""
    origin: str
    licence: str
    taps: tuple[int, ...]
    """Blocks that features are taken after, in the architecture's own naming; of a program the outputs' numbers"""
    strides: tuple[int, ...]
    """Pixels from one site to the next, of each tap"""
    channels: tuple[int, ...]
    """Of each tap"""
    size: tuple[int, int] | None
    """The one height and width that a program takes; None where any will do"""
    normalisation: Normalisation
    sha256: str
    """Of the file that the weights came in"""

    def to_json(self) -> dict[str, Any]:
        """The facts as JSON values."""
        plain = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}
        return {**plain, "normalisation": self.normalisation.to_json()}

    @classmethod
    def from_json(cls, values: Any) -> BackboneFacts:
        """The facts read back; raises ConfigError for missing and unknown keys."""
        expected = {field.name for field in fields(cls)}
        if not isinstance(values, Mapping) or set(values) != expected:
            raise ConfigError(
                f"facts of a backbone are {values!r}, expected an object with {', '.join(sorted(expected))}"
            )
        plain: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in values.items()
        }
        return cls(**{**plain, "normalisation": Normalisation.from_json(values["normalisation"])})


class Backbone(nn.Module):
    """Features of images, fixed: no parameter learns, and training and evaluation are the same."""

    def __init__(self, facts: BackboneFacts, trunk: nn.Module, *, program: bytes | None = None) -> None:
        """trunk: normalised (B, 3, H, W) -> one feature map a tap. program: the .pt2 file, where it came as one."""
        super().__init__()
        self.facts = facts
        self.normalise = Normalise(facts.normalisation)
        self.trunk = trunk
        self.program = program
        self.eval()

    def train(self, mode: bool = True) -> Backbone:
        """Stay in evaluation mode."""
        super().train(False)
        return self

    def forward(self, x: Tensor) -> list[Tensor]:
        """Feature maps (B, channels[i], ceil(H / strides[i]), ceil(W / strides[i])), one a tap.

        x: (B, 1 or 3, H, W) float in [0, 1], grey or BGR.
        """
        features: list[Tensor] = self.trunk(self.normalise(x))
        return features

    @property
    def has_fine_taps(self) -> bool:
        """Whether the trunk can be tapped where its maps are fine; a program gives what it gives."""
        return isinstance(self.trunk, Trunk) and bool(self.trunk.fine_taps)

    def fine(self, x: Tensor) -> list[Tensor]:
        """Feature maps of the fine taps, of strides 2, 4 and 8, for images as `forward` takes them."""
        assert isinstance(self.trunk, Trunk), "asked only where has_fine_taps"
        return self.trunk.read(self.normalise(x), self.trunk.fine_taps)

    def with_fine(self, x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """What `forward` and `fine` give, in one pass."""
        assert isinstance(self.trunk, Trunk), "asked only where has_fine_taps"
        taps, fine_taps = self.trunk.taps, self.trunk.fine_taps
        both = tuple(sorted({*taps, *fine_taps}))
        maps = dict(zip(both, self.trunk.read(self.normalise(x), both), strict=True))
        return [maps[tap] for tap in taps], [maps[tap] for tap in fine_taps]

    def check_size(self, height: int, width: int) -> None:
        """Raise ConfigError where the trunk does not take images of this size."""
        if self.facts.size not in (None, (height, width)):
            fixed = "x".join(map(str, self.facts.size or ()))
            raise ConfigError(
                f"input of {height}x{width}: the program {self.facts.name} takes {fixed} alone; set --imgsz to that, "
                f"or export the program for {height}x{width}"
            )


def measured_taps(
    trunk: Callable[[Tensor], Sequence[Any]], size: tuple[int, int] | None, *, source: str
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Strides and channels of the taps, told by one pass; raises DataError where an output is no feature map.

    size: height and width to pass, None for a square of PROBE_SIDE.
    """
    height, width = size or (PROBE_SIDE, PROBE_SIDE)
    with torch.no_grad():
        features = trunk(torch.zeros(1, 3, height, width))
    for index, feature in enumerate(features):
        is_map = isinstance(feature, Tensor) and feature.ndim == 4 and feature.dtype == torch.float32
        if not is_map or not feature.isfinite().all():
            found = f"{feature.dtype} {tuple(feature.shape)}" if isinstance(feature, Tensor) else type(feature).__name__
            raise DataError(f"{source}: output {index} is {found}, expected finite float32 features (B, c, h, w)")
    strides = tuple(round(height / feature.shape[2]) for feature in features)
    for index, (stride, feature) in enumerate(zip(strides, features, strict=True)):
        if tuple(feature.shape[2:]) != (-(-height // stride), -(-width // stride)):
            raise DataError(
                f"{source}: output {index} is {feature.shape[2]}x{feature.shape[3]} for an image of {height}x{width}, "
                "expected the same whole stride along both sides"
            )
    return strides, tuple(feature.shape[1] for feature in features)
