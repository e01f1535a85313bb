"""How pixels become what a backbone was trained on; part of the graph, so a device needs nothing else."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from edge_runtime.errors import ConfigError

__all__ = ["IMAGENET", "Normalisation", "Normalise"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Normalisation:
    """(x - mean) / std on pixels in [0, range], channels in `order`."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    order: Literal["RGB", "BGR"] = "RGB"
    range: Literal[1, 255] = 1

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            values = getattr(self, name)
            if len(values) != 3 or not all(_is_finite(value) for value in values):
                raise ConfigError(f"normalisation: {name} is {values!r}, expected three numbers, one a channel")
        if min(self.std) <= 0:
            raise ConfigError(f"normalisation: std is {self.std}, expected three numbers above 0")
        if self.order not in ("RGB", "BGR"):
            raise ConfigError(f'normalisation: order is {self.order!r}, expected "RGB" or "BGR"')
        if isinstance(self.range, bool) or self.range not in (1, 255):
            raise ConfigError(f"normalisation: range is {self.range!r}, expected 1 or 255, what white is before it")

    def to_json(self) -> dict[str, Any]:
        """The normalisation as JSON values."""
        return {**asdict(self), "mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_json(cls, values: Any) -> Normalisation:
        """The normalisation read back; raises ConfigError where something is missing, unknown or out of range."""
        expected = {"mean", "std", "order", "range"}
        if not isinstance(values, Mapping) or set(values) != expected:
            raise ConfigError(f"normalisation is {values!r}, expected an object with {', '.join(sorted(expected))}")
        try:
            triples = {name: tuple(values[name]) for name in ("mean", "std")}
        except TypeError as error:
            raise ConfigError(f"normalisation is {values!r}: mean and std are three numbers each") from error
        return cls(order=values["order"], range=values["range"], **triples)


class Normalise(nn.Module):
    """Frames (B, 1 or 3, H, W) in [0, 1], grey or BGR -> (B, 3, H, W) as the trunk takes them; grey three times."""

    scale: Tensor
    shift: Tensor
    channels: Tensor

    def __init__(self, normalisation: Normalisation) -> None:
        super().__init__()
        mean, std = (torch.tensor(values, dtype=torch.float64) for values in (normalisation.mean, normalisation.std))
        self.register_buffer("scale", (normalisation.range / std).float().view(1, 3, 1, 1))
        self.register_buffer("shift", (-mean / std).float().view(1, 3, 1, 1))
        self.register_buffer("channels", torch.tensor([2, 1, 0]))
        self.flips = normalisation.order == "RGB"

    def forward(self, x: Tensor) -> Tensor:
        """The trunk's input."""
        if x.shape[1] == 3 and self.flips:
            x = x.index_select(1, self.channels)
        return x * self.scale + self.shift


def _is_finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


IMAGENET = Normalisation(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
"""What torchvision's ImageNet weights take."""
