"""What each criterion varies by over normal images: the unit in which the parity gate measures its errors."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from edge_runtime.errors import BundleError

__all__ = ["criterion_spreads"]

QUARTILES = ("0.25", "0.75")
"""Names of the quantiles in a calibration. Between them lies the normal half, whatever anomalies are among the rest."""


def criterion_spreads(calibration: Mapping[str, Any]) -> dict[str, float]:
    """By criterion the interquartile range over the training images; without those of which no quantiles are kept.

    calibration: of a manifest or a run. Raises BundleError where it cannot be used.
    """
    spreads = {}
    try:
        for name, numbers in calibration.get("criteria", {}).items():
            quantiles = numbers.get("quantiles", {})
            if all(level in quantiles for level in QUARTILES):
                low, high = (float(quantiles[level]) for level in QUARTILES)
                spreads[name] = high - low
    except (AttributeError, TypeError, ValueError) as error:
        raise BundleError(f"the calibration of criteria cannot be used: {error}; export the bundle again") from error
    wrong = {name: value for name, value in spreads.items() if not (math.isfinite(value) and value >= 0.0)}
    if wrong:
        raise BundleError(f"the calibration has quartiles that are apart by {wrong}, expected 0 or more")
    return spreads
