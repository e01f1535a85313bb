"""What the frames of a calibration on site give to doubt, in words: too alike, standing out, the training's.

What cannot be told: bundles keep a few of their training images and no hash of the others, so that frames of the
training are known by those few, or suspected for scoring lower than images that no network had seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_runtime.bundle.golden import Golden
from edge_runtime.bundle.kept_scores import KeptScores
from edge_runtime.model.conformal import conformal_rank
from edge_runtime.scoring.detector import Detector
from edge_runtime.watching.drift import LEAST_WINDOW, DriftWatch

__all__ = ["CalibratingFrame", "doubts"]

OUTSTANDING_SIGMAS = 4.0
"""Above the median by so many standard deviations, by the spread of the upper half, a frame stands out."""

UPPER_QUARTILE = 0.6745
"""Of a normal distribution, in standard deviations"""

OUTSTANDING_SHARE = 0.01
"""Of skewed scores, some always lie far up: below this share of the frames nothing is said."""

NAMED = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class CalibratingFrame:
    """A frame that was scored."""

    name: str
    """What a person finds it by"""
    score: float
    criteria: tuple[float, ...]
    too_small: bool = False
    """Whether all that its map shows is too small, wherever the threshold lies"""


def doubts(frames: Sequence[CalibratingFrame], target_fpr: float, detector: Detector) -> list[str]:
    """One sentence or two for each doubt; none for frames that look as they should. frames: one or more."""
    scores = np.array([frame.score for frame in frames])
    return [*_repeated(scores), *_outstanding(frames, target_fpr), *_of_training(frames, detector)]


def _repeated(scores: NDArray[np.float64]) -> Iterator[str]:
    n, different = len(scores), len(np.unique(scores))
    if n > 1 and different == 1:
        yield (
            f"all {n} frames have the same score, {scores[0]:.4g}: the source repeats one picture, or shows nothing "
            "that the bundle sees; a threshold on it means nothing, so look at the picture and calibrate again"
        )
    elif 2 * different <= n:
        yield (
            f"{n} frames have {different} different scores: what repeats shows no more than once, so the false-alarm "
            f"rate is known as by {different} frames; take them over a longer while, with --every"
        )


def _outstanding(frames: Sequence[CalibratingFrame], target_fpr: float) -> Iterator[str]:
    scores = np.array([frame.score for frame in frames])
    middle, upper = np.quantile(scores, (0.5, 0.75))
    limit = middle + OUTSTANDING_SIGMAS * (upper - middle) / UPPER_QUARTILE
    above = [frame for frame in sorted(frames, key=lambda frame: -frame.score) if frame.score > limit]
    if upper <= middle or len(above) <= OUTSTANDING_SHARE * len(frames):
        return
    rest = np.sort(scores[scores <= limit])
    names = ", ".join(frame.name for frame in above[:NAMED])
    more = f" and {len(above) - NAMED} more" if len(above) > NAMED else ""
    without = float(rest[min(conformal_rank(len(rest), target_fpr), len(rest)) - 1])
    yield (
        f"{len(above)} of {len(frames)} frames stand out, with scores of {above[-1].score:.4g} to {above[0].score:.4g} "
        f"where the others reach {rest[-1]:.4g}: {names}{more}. Look at them: if they are defects, take them out and "
        f"calibrate again (the threshold would be {without:.4g}), or name their folder with --known-bad"
    )


def _of_training(frames: Sequence[CalibratingFrame], detector: Detector) -> Iterator[str]:
    golden = Golden.from_npz(detector.bundle.files["golden.npz"])
    samples = {tuple(detector.score_input(image).criteria.values()) for image in golden.inputs}
    same = [frame for frame in frames if frame.criteria in samples]
    advice = "the network knows them, so new frames score higher than they did; calibrate with frames it has not seen"
    if same and len({frame.criteria for frame in same}) > 1:
        yield f"{len(same)} frames are images that the bundle was trained on, {same[0].name} for one: {advice}"
        return
    kept = KeptScores.of_manifest(detector.bundle.manifest["calibration"])
    if kept is None or len(frames) < LEAST_WINDOW:
        return
    *_, window = map(DriftWatch(kept, len(frames)).add, [frame.score for frame in frames])
    if window is not None and window.drifted and window.median < window.usual_median:
        yield (
            f"the frames score lower than training images that no network had seen (median {window.median:.4g}, "
            f"theirs {window.usual_median:.4g}): the place is calmer, or these are the images of the training; of "
            f"those, {advice}"
        )
