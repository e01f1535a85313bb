"""What scored, labelled images come to: every figure of `edge-aae evaluate`.

Needs no torch. edge_runtime/scoring/evaluation.py scores the images; report_forms.py writes the figures out, plots.py
draws.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edge_runtime.errors import DataError
from edge_runtime.metrics import Metrics, best_f1, bootstrap, fpr_at_tpr, wilson_interval
from edge_runtime.model.defect_size import MEASURED_IN_PIXELS, DefectSize
from edge_runtime.model.score import Decision
from edge_runtime.scoring.evaluation import ALL, Evaluation, Row, labelled_arrays
from edge_runtime.verdict import ModelVerdict
from train.evaluation.pixel_metrics import Masks, PixelMetrics, PixelTally, SmallDefects

__all__ = ["Circumstances", "Report", "Subset", "report_of"]

LEVEL = 0.95
"""Of the intervals."""

Interval = tuple[float, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Circumstances:
    """What was evaluated, on what, and how: printed with the figures, so that they can be made again."""

    model: str
    """Path of the run folder or bundle"""
    kind: str
    """run, scored in PyTorch, or bundle, through onnxruntime"""
    data: Sequence[str]
    """Paths as they were named"""
    decision: Decision
    size: DefectSize = MEASURED_IN_PIXELS
    """How large a pixel is, and from which area on a region counts"""
    n_excluded: int = 0
    """Images left out by name"""
    n_resamples: int = 1000
    """Of the bootstrap; 0 gives no intervals but those of rates"""
    seed: int = 0
    """Of the bootstrap"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Subset:
    """The figures of one subset: its anomalous images against all normal ones. NaN where not defined."""

    metrics: Metrics
    true_positive_rate: float
    """Share of the anomalous images above the deployed threshold"""
    false_positive_rate: float
    """Share of the normal images above it: the same in every subset"""
    fpr_at_95_tpr: float
    oracle_f1: float
    """The highest F1 of any threshold, chosen on these very labels: out of a deployed detector's reach"""
    oracle_threshold: float
    intervals: dict[str, Interval]
    """By figure, level LEVEL; the rates' are Wilson's, the others' the bootstrap's"""
    pixels: PixelMetrics | None
    """None without masks"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """An evaluation with every figure."""

    evaluation: Evaluation
    circumstances: Circumstances
    subsets: dict[str, Subset]
    """all; each anomalous group; observed and unobserved: as Evaluation.rows_of_subsets names them"""
    normal_groups: dict[str, tuple[int, int]]
    """Images and how many were flagged, of each group of normal images where there are several"""
    masks: Masks | None
    small_defects: SmallDefects | None = None
    """Of the masks, where a smallest area was asked"""

    @property
    def verdict(self) -> ModelVerdict:
        """One sentence from all of the labelled images."""
        found = self.evaluation.verdict(self.subsets[ALL].intervals)
        assert found is not None, "report_of refuses images without labels"
        return found


def report_of(evaluation: Evaluation, circumstances: Circumstances, tally: PixelTally | None = None) -> Report:
    """Every figure of the scored images. tally: was filled while they were scored, where there are masks.

    Raises DataError where no scored image has a label.
    """
    if not any(row.item.anomalous is not None for row in evaluation.rows):
        raise DataError("no image that could be scored has a label; `edge-aae score` scores images without")
    normal = evaluation.normal_rows()
    subsets = {name: _subset(rows, circumstances, tally) for name, rows in evaluation.rows_against_normal().items()}
    groups = {row.item.group for row in normal if row.item.group is not None}
    return Report(
        evaluation=evaluation,
        circumstances=circumstances,
        subsets=subsets,
        normal_groups={
            name: (len(own), sum(row.is_anomaly for row in own))
            for name in sorted(groups)
            if (own := [row for row in normal if row.item.group == name]) and len(groups) > 1
        },
        masks=tally.masks if tally else None,
        small_defects=tally.small_defects if tally else None,
    )


def _subset(rows: Sequence[Row], circumstances: Circumstances, tally: PixelTally | None) -> Subset:
    scores, flagged, anomalous = labelled_arrays(rows)
    # One generator a subset: a group more or less leaves the others' intervals as they are.
    rng = np.random.default_rng(circumstances.seed)
    intervals = bootstrap(scores, flagged, anomalous, n_resamples=circumstances.n_resamples, rng=rng, level=LEVEL)
    rates = {}
    for name, of_label in (("true_positive_rate", anomalous), ("false_positive_rate", ~anomalous)):
        n, hits = int(of_label.sum()), int(flagged[of_label].sum())
        rates[name] = hits / n if n else math.nan
        if n:
            intervals[name] = wilson_interval(hits, n, LEVEL)
    oracle_f1, oracle_threshold = best_f1(scores, anomalous)
    return Subset(
        metrics=Metrics.of(scores, flagged, anomalous),
        true_positive_rate=rates["true_positive_rate"],
        false_positive_rate=rates["false_positive_rate"],
        fpr_at_95_tpr=fpr_at_tpr(scores, anomalous),
        oracle_f1=oracle_f1,
        oracle_threshold=oracle_threshold,
        intervals=intervals,
        pixels=tally.metrics_of(rows) if tally else None,
    )
