"""What the parity gate allows each precision: named constants, each with its reason.

FP32 computes what PyTorch computes, in another order. FP16, BF16 and INT8 compute something else, and are judged by
what follows from it: decisions, ranks, how well anomalies are still told apart, and of each output how far it varies
beyond its noise. An error counts where it matters: of a criterion against what the criterion varies by on normal
images, of the score against its distance from the threshold.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, get_args

from edge_runtime.errors import ConfigError, expected_name

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
    """An output passes where |actual - reference| <= atol + rtol |reference - origin|, element by element, and, where
    frames are compared that differ, its signal-to-noise ratio is min_snr_db or more."""

    atol: float
    rtol: float
    origin: float = 0.0
    of_largest: float = 0.0
    """For each unit by which a frame's largest value exceeds one: a small one beside it is a difference of such"""
    of_peak: float = 0.0
    """Share of the largest value over all frames: the scale of an output that has no unit"""
    min_snr_db: float = -math.inf
    """10 log10 of what the reference varies by from frame to frame over what the two sides differ by, both squared"""
    quiet: float = 0.0
    """A root mean square error as small as this is no noise, however little the reference varies"""
    quiet_share: float = 0.01
    """Likewise as this share of the reference's root mean square"""
    most_atol: float = math.inf
    """What atol, of_largest and of_peak do not exceed together, where less was asked for"""

    def __str__(self) -> str:
        sign = "+" if self.origin < 0 else "-"
        reference = f"|reference {sign} {abs(self.origin):g}|" if self.origin else "|reference|"
        peak = f" + {self.of_peak:g} x the largest" if self.of_peak else ""
        return f"{min(self.atol, self.most_atol):g}{peak} + {self.rtol:g} x {reference}"

    def within(self, atol: float | None, rtol: float | None) -> Tolerance:
        """The tighter of this and what is asked for; noise is relative to its signal, hence rtol's too."""
        tight = self
        if atol is not None:
            tight = replace(tight, atol=min(tight.atol, atol), most_atol=min(tight.most_atol, atol))
            tight = replace(tight, quiet=min(tight.quiet, atol))
        if rtol is not None:
            tight = replace(tight, rtol=min(tight.rtol, rtol), of_peak=min(tight.of_peak, rtol))
            tight = replace(tight, quiet=min(tight.quiet, rtol), quiet_share=min(tight.quiet_share, rtol))
            if tight.min_snr_db > -math.inf:
                asked = -20.0 * math.log10(rtol) if rtol else math.inf
                tight = replace(tight, min_snr_db=max(tight.min_snr_db, asked))
        return tight


@dataclass(frozen=True, kw_only=True, slots=True)
class Budget:
    """What one precision may differ by from PyTorch in float32."""

    tolerances: Mapping[str, Tolerance]
    """By output: criteria, score, latent, anomaly_map, x_hat; for those of criteria and score ask the methods below"""
    of_spread: float = 0.0
    """Share of what a criterion varies by over normal images that it may always be off by"""
    quiet_spread: float = 0.0
    """Share of that which is no noise of the criterion, however little it varies over the frames"""
    most_atol: float = math.inf
    """What no share of a spread exceeds, where less was asked for"""
    band: float
    """Scores this far from the threshold, in units of it, may end on its other side"""
    max_flips: float
    """Share of frames outside the band whose decision may differ"""
    min_rank_correlation: float
    """Of fused scores, Spearman's"""
    tie: float
    """Two scores whose difference is off by no more, in units of the threshold, have not changed their order"""
    max_auroc_shift: float
    """Between both sides, where normal and anomalous frames are known"""

    def of_criterion(self, spread: float) -> Tolerance:
        """The tolerance of a criterion that varies by so much over normal images."""
        tolerance = self.tolerances["criteria"]
        atol = max(tolerance.atol, min(self.of_spread * spread, self.most_atol))
        return replace(tolerance, atol=atol, quiet=min(self.quiet_spread * spread, self.most_atol))

    def of_score(self, threshold: float) -> Tolerance:
        """The tolerance of the fused score, relative to its distance from the threshold."""
        return replace(self.tolerances["score"], origin=threshold)

    def tie_at(self, threshold: float) -> float:
        """The tie of scores whose threshold is this."""
        return self.tie * max(1.0, abs(threshold))

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
            quiet_spread=self.quiet_spread if rtol is None else min(self.quiet_spread, rtol),
            tie=self.tie if atol is None else min(self.tie, atol),
        )


COARSE_TOLERANCES = {
    # Of single values the bounds are wide: on images that a network has learnt by heart every site is far more normal
    # than on others, and INT8 moved maps and distances of such by 2.6 times their largest value: nothing to little.
    "criteria": Tolerance(atol=0.0, rtol=0.5, of_peak=3.0, min_snr_db=4.0),
    "score": Tolerance(atol=2.0, rtol=0.5, min_snr_db=6.0, quiet=0.05),
    "latent": Tolerance(atol=0.0, rtol=0.5, of_peak=2.0, min_snr_db=6.0),
    "anomaly_map": Tolerance(atol=0.0, rtol=0.5, of_peak=3.0, min_snr_db=6.0),
}
"""Six decibels: noise is half of what frames differ by. The same value for every frame is 0 dB or less. Four for
criteria: on one processor neg_log_prior of a small `mlp` had 5.2 on the frames of `verify`, and no decision flipped."""

COARSE = Budget(
    tolerances=COARSE_TOLERANCES,
    of_spread=2.0,
    quiet_spread=0.25,
    band=0.05,
    max_flips=0.02,
    min_rank_correlation=0.95,
    tie=0.05,
    max_auroc_shift=0.005,
)
"""Where single values say little, and decisions, separation and the share of noise do."""

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
            # Codes are unbounded sums over some thousand features; their error grows with their size. One of 398
            # photographs of magnetic tiles went beyond half of this, through OpenVINO; no score was off by 1e-5.
            "latent": Tolerance(atol=2e-4, rtol=1e-4),
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
        tie=5e-4,  # the score's atol
        max_auroc_shift=0.001,
    ),
    "fp16": Budget(
        # Eleven bits of mantissa: 5e-4 of each value, a few times that after a dozen layers. Up to 6e-4 was seen on
        # criteria, 1.5e-3 on maps and log odds, 3e-3 on scores a hundred times the limit. A hostile frame goes further.
        tolerances={
            # A code's error counts the more, the narrower the prior: 0.4 nats of some hundred were seen. What it does
            # to the score is held below.
            # Noise: 30 dB was seen of codes of `features`, 35 of its maps, 67 and more of other networks.
            "criteria": Tolerance(atol=0.5, rtol=1e-2, min_snr_db=20.0),
            "score": Tolerance(atol=2e-2, rtol=1e-2, min_snr_db=20.0, quiet=5e-3),
            "latent": Tolerance(atol=5e-2, rtol=5e-3, of_largest=3e-2, min_snr_db=20.0),
            # 5e-2 was seen of `features` on photographs that it was fitted to: maps of .9; unseen ones have 2 to 7.
            "anomaly_map": Tolerance(atol=6e-2, rtol=1e-2, of_largest=6e-2, min_snr_db=20.0),
        },
        of_spread=0.02,
        quiet_spread=0.02,
        band=1e-3,
        max_flips=0.0,
        min_rank_correlation=0.999,
        tie=5e-3,  # 3.5e-3 was seen on scores below the limit
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
        raise ConfigError(f"precision is {precision!r}, {expected_name(PRECISIONS, precision)}")
    return DETECTOR_FILES[precision]
