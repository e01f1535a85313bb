"""What the parity gate allows each precision: named constants, each with its reason.

FP32 computes what PyTorch computes, in another order. FP16 and INT8 compute something else, and are judged by what
follows from it: decisions, ranks, and how well anomalies are still told apart. An error counts where it matters: of a
criterion against what the criterion varies by on normal images, of the score against its distance from the threshold.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, get_args

from edge_runtime.errors import ConfigError

__all__ = [
    "BUDGETS",
    "DETECTOR_FILES",
    "PRECISIONS",
    "Budget",
    "PrecisionName",
    "Tolerance",
    "budget_of",
    "detector_file",
]

PrecisionName = Literal["fp32", "fp16", "int8"]
PRECISIONS: tuple[PrecisionName, ...] = get_args(PrecisionName)

DETECTOR_FILES: Mapping[str, str] = {
    "fp32": "detector.onnx",
    "fp16": "detector-fp16.onnx",
    "int8": "detector-int8.onnx",
}
"""Names in a bundle"""


@dataclass(frozen=True, slots=True)
class Tolerance:
    """An output passes where |actual - reference| <= atol + rtol |reference - origin|, element by element."""

    atol: float
    rtol: float
    origin: float = 0.0
    of_largest: float = 0.0
    """For each unit by which a frame's largest value exceeds one: a small one beside it is a difference of such"""

    def __str__(self) -> str:
        sign = "+" if self.origin < 0 else "-"
        reference = f"|reference {sign} {abs(self.origin):g}|" if self.origin else "|reference|"
        return "anything" if math.isinf(self.atol) else f"{self.atol:g} + {self.rtol:g} x {reference}"

    def within(self, atol: float | None, rtol: float | None) -> Tolerance:
        """The tighter of this and what is asked for."""
        return replace(
            self,
            atol=self.atol if atol is None else min(self.atol, atol),
            rtol=self.rtol if rtol is None else min(self.rtol, rtol),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Budget:
    """What one precision may differ by from PyTorch in float32."""

    tolerances: Mapping[str, Tolerance]
    """By output: criteria, score, latent, anomaly_map, x_hat; for those of criteria and score ask the methods below"""
    of_spread: float = 0.0
    """Share of what a criterion varies by over normal images that it may always be off by"""
    most_atol: float = math.inf
    """What no share of a spread exceeds, where less was asked for"""
    band: float
    """Scores this far from the threshold, in units of it, may end on its other side"""
    max_flips: float
    """Share of frames outside the band whose decision may differ"""
    min_rank_correlation: float
    """Of fused scores, Spearman's"""
    max_auroc_shift: float
    """Between both sides, where normal and anomalous frames are known"""

    def of_criterion(self, spread: float) -> Tolerance:
        """The tolerance of a criterion that varies by so much over normal images."""
        tolerance = self.tolerances["criteria"]
        return replace(tolerance, atol=max(tolerance.atol, min(self.of_spread * spread, self.most_atol)))

    def of_score(self, threshold: float) -> Tolerance:
        """The tolerance of the fused score, relative to its distance from the threshold."""
        return replace(self.tolerances["score"], origin=threshold)

    def tightened(self, *, atol: float | None, rtol: float | None, max_flips: float | None) -> Budget:
        """The budget with every tolerance and the share of flips at most what is asked for; never looser.

        Raises ConfigError for values below 0.
        """
        for name, value in (("--atol", atol), ("--rtol", rtol), ("--max-flips", max_flips)):
            if value is not None and not (math.isfinite(value) and value >= 0.0):
                raise ConfigError(f"{name} is {value:g}, expected 0 or more")
        return replace(
            self,
            tolerances={name: tolerance.within(atol, rtol) for name, tolerance in self.tolerances.items()},
            most_atol=self.most_atol if atol is None else min(self.most_atol, atol),
            max_flips=self.max_flips if max_flips is None else min(self.max_flips, max_flips),
        )


ANYTHING = Tolerance(atol=math.inf, rtol=0.0)

COARSE = Budget(
    tolerances={"criteria": ANYTHING, "score": ANYTHING, "latent": ANYTHING, "anomaly_map": ANYTHING},
    band=0.05,
    max_flips=0.02,
    min_rank_correlation=0.95,
    max_auroc_shift=0.005,
)
"""Where single values say little, and decisions and separation do."""

BUDGETS: Mapping[str, Budget] = {
    "fp32": Budget(
        tolerances={
            # Convolutions summed in another order differ by a few float32 steps (1.2e-7) of the largest partial sum;
            # over a dozen layers 1e-6 was seen on reconstructions in [0, 1]. Ten times that still shows one perturbed
            # weight.
            "x_hat": Tolerance(atol=1e-5, rtol=0.0, of_largest=5e-6),
            # A squared difference doubles the error of x_hat, to which the detector's own code adds; 7e-6 was seen on
            # noise.
            "anomaly_map": Tolerance(atol=5e-5, rtol=0.0, of_largest=5e-5),
            # Codes are unbounded sums over some thousand features; their error grows with their size.
            "latent": Tolerance(atol=1e-4, rtol=1e-4),
            # sqrt of a sum of up to a million squares, and a sum of squared codes, both carry the relative error above.
            # A likelihood near 0 is what is left of a density and a volume of some hundred nats: 3e-4 was seen.
            "criteria": Tolerance(atol=5e-4, rtol=1e-4),
            # One unit lies between the median image and the limit; 1e-5 was seen after real training, 2e-4 with a limit
            # from eighteen images that are all alike. A thousandth of the distance to the threshold changes no verdict.
            "score": Tolerance(atol=5e-4, rtol=1e-3),
        },
        # A narrow density multiplies the rounding of codes, on each processor another: 2e-4 of the spread was seen on
        # photographs of solar cells, five times that moves the score by less than it may be off at the threshold.
        of_spread=1e-3,
        band=0.0,
        max_flips=0.0,
        min_rank_correlation=0.999,
        max_auroc_shift=0.001,
    ),
    "fp16": Budget(
        # Eleven bits of mantissa: 5e-4 of each value, a few times that after a dozen layers. Up to 6e-4 was seen on
        # criteria, 1.5e-3 on maps and log odds, 3e-3 on scores a hundred times the limit. A hostile frame goes further.
        tolerances={
            # A code's error counts the more, the narrower the prior: 0.4 nats of some hundred were seen. What it does
            # to the score is held below.
            "criteria": Tolerance(atol=0.5, rtol=1e-2),
            "score": Tolerance(atol=2e-2, rtol=1e-2),
            "latent": Tolerance(atol=5e-2, rtol=5e-3, of_largest=3e-2),
            "anomaly_map": Tolerance(atol=2e-2, rtol=1e-2, of_largest=6e-2),
        },
        of_spread=0.02,
        band=1e-3,
        max_flips=0.0,
        min_rank_correlation=0.999,
        max_auroc_shift=0.001,
    ),
    # OpenVINO's own choice on CPUs that have it: eight bits of mantissa, 4e-3 of each value.
    "bf16": COARSE,
    # 256 levels a tensor; scores moved by .01 to .03 on average of what lies between the median image and the limit.
    "int8": COARSE,
}


def budget_of(precision: str, backend: str) -> Budget:
    """The budget of a precision; of bfloat16 where the backend computes in it."""
    return BUDGETS["bf16" if backend.endswith("bf16") else precision]


def detector_file(precision: str) -> str:
    """Name of a precision's detector in a bundle; raises ConfigError for one that there is not."""
    if precision not in DETECTOR_FILES:
        raise ConfigError(f"precision is {precision!r}, expected one of {', '.join(PRECISIONS)}")
    return DETECTOR_FILES[precision]
