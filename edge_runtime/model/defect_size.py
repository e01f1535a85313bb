"""How large a defect is: from pixels of the camera's picture to millimetres, and the area below which none counts."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from edge_runtime.errors import ConfigError

__all__ = ["MEASURED_IN_PIXELS", "Area", "DefectSize", "mm_per_pixel_from"]

LEAST_MM, MOST_MM = 1e-6, 1e6
"""Millimetres a pixel: a nanometre, and a kilometre"""

SYNTAX = re.compile(r"([0-9.eE+-]+) ?(px|mm2|mm²)")


@dataclass(frozen=True, slots=True)
class Area:
    """An area with its unit."""

    value: float
    unit: Literal["px", "mm2"]

    def __post_init__(self) -> None:
        if self.unit not in ("px", "mm2") or not (math.isfinite(self.value) and self.value >= 0.0):
            raise ConfigError(f"area is {self.value}{self.unit}, expected 0 or more px or mm2, such as 12px or 0.5mm2")

    @classmethod
    def parse(cls, text: str) -> Area:
        """From 12px or 0.5mm2; raises ConfigError for anything else."""
        found = SYNTAX.fullmatch(text.strip())
        try:
            if found is None:
                raise ValueError
            return cls(float(found[1]), "px" if found[2] == "px" else "mm2")
        except ValueError:
            raise ConfigError(
                f"area is {text!r}, expected a number with its unit, px or mm2, such as 12px or 0.5mm2"
            ) from None

    def __str__(self) -> str:
        return f"{self.value:.12g}{self.unit}"


@dataclass(frozen=True, kw_only=True, slots=True)
class DefectSize:
    """What is known of sizes at a camera, and from which on a region counts. None leaves it open."""

    mm_per_pixel: float | None = None
    """Of the part's surface, for one pixel of the frame as the camera gives it, before any region, resizing or tiles"""
    min_area: Area | None = None
    """Smaller regions are left out, and a frame with no larger one counts as normal; 0 leaves none out"""

    def __post_init__(self) -> None:
        if self.mm_per_pixel is not None and not LEAST_MM <= self.mm_per_pixel <= MOST_MM:
            raise ConfigError(
                f"{self.mm_per_pixel} mm a pixel, expected {LEAST_MM:g} to {MOST_MM:g}, such as 0.05; measure "
                "something of known length in the camera's full picture"
            )

    def __bool__(self) -> bool:
        return self.mm_per_pixel is not None or self.min_area is not None

    def __str__(self) -> str:
        parts = [] if self.mm_per_pixel is None else [f"{self.mm_per_pixel:.6g} mm a pixel"]
        if self.min_area is not None:
            parts.append(f"regions from {self.min_area} on" if self.min_area.value else "regions of any size")
        return ", ".join(parts) or "in pixels"

    def or_else(self, other: DefectSize) -> DefectSize:
        """This, and what it leaves open by the other."""
        return DefectSize(
            mm_per_pixel=other.mm_per_pixel if self.mm_per_pixel is None else self.mm_per_pixel,
            min_area=other.min_area if self.min_area is None else self.min_area,
        )

    @property
    def least_px(self) -> float | None:
        """Pixels of the frame that a region must have; None where none is too small. Raises ConfigError for mm2 where
        no scale is known."""
        if self.min_area is None or self.min_area.value == 0.0:
            return None
        if self.min_area.unit == "px":
            return self.min_area.value
        if self.mm_per_pixel is None:
            raise ConfigError(
                f"a smallest area of {self.min_area} needs to know how large a pixel is; give --mm-per-pixel too, or "
                "the area in px"
            )
        return self.min_area.value / self.mm_per_pixel**2

    def area_mm2(self, area_px: float) -> float | None:
        """Of so many pixels; None where no scale is known."""
        return None if self.mm_per_pixel is None else area_px * self.mm_per_pixel**2

    def asked(self) -> dict[str, Any]:
        """As Detector and Detector.load take it."""
        return {"mm_per_pixel": self.mm_per_pixel, "min_area": self.min_area}

    def to_json(self) -> dict[str, Any]:
        """As JSON values, for a manifest or a calibration."""
        return {
            "mm_per_pixel": self.mm_per_pixel,
            "min_area": None if self.min_area is None else str(self.min_area),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any] | None) -> DefectSize:
        """Read back; None, as of bundles from before, leaves all open. Raises ConfigError, TypeError."""
        values = values or {}
        scale, area = values.get("mm_per_pixel"), values.get("min_area")
        return cls(
            mm_per_pixel=None if scale is None else float(scale), min_area=None if area is None else Area.parse(area)
        )


MEASURED_IN_PIXELS = DefectSize()
"""Nothing is asked"""


def mm_per_pixel_from(text: str) -> float:
    """Millimetres a pixel, checked; raises ValueError, ConfigError among it."""
    value = float(text)
    DefectSize(mm_per_pixel=value)
    return value
