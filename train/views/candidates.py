"""The views that a set of photographs allows: all of the frame, centred on the part, and turned along it as well.

The outline is judged on a sample of the training frames: where it cannot be had of nearly all, a view is refused, with
the reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from edge_runtime.errors import DataError
from edge_runtime.model.alignment import Alignment, Pose, part_pose
from edge_runtime.model.preprocess import Frame, Preprocess
from train.views.sizes import SizePolicy, Span

__all__ = ["ViewCandidate", "ViewName", "views_of"]

ViewName = Literal["none", "centre", "turn"]

MOST_WITHOUT_POSE = 0.05
"""Of the sample; what an outline is not found of is seen in another view than the rest."""

LARGEST_AREA_RATIO = 1.6
"""Of the outline's area, its 90 % to its 10 % quantile: one part seen by one camera varied by 1.1 at most."""

LEAST_ELONGATION = 1.1
"""Long axis to short one, 5 % quantile: a bottle seen from above has 1.01, a pill 1.46."""

UNSURE_SKEW = 0.02
"""Median: below, a part looks much the same from both ends, and either may come first."""

REACH_QUANTILE = 0.98
MARGIN = 1.06
"""Of the view over the parts' reach."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ViewCandidate:
    """One way to look at the photographs."""

    name: ViewName
    align: Alignment | None
    """None with `none`, and where the view is refused"""
    size: tuple[int, int]
    """Height and width of the network's input"""
    refused: str = ""
    """Why it cannot be taken; empty where it can"""
    note: str = ""
    """What is to be known of it"""
    span: Span | None = None
    """What the smallest defect comes to, where it was named"""


@dataclass(frozen=True, slots=True)
class _Sample:
    """What is kept of the frames looked at."""

    frame: tuple[int, int]
    """Rows and columns of a whole frame of median size"""
    cut: tuple[int, int]
    """The same of what the region of interest leaves"""
    poses: list[Pose]
    scales: list[float]
    """Of each pose, `frame` to its own frame"""
    without: Counter[str]

    @property
    def n_frames(self) -> int:
        return len(self.poses) + self.without.total()


def views_of(
    frames: Iterable[Frame],
    policy: SizePolicy | None = None,
    *,
    roi: tuple[int, int, int, int] | None = None,
    keep_aspect: bool = True,
) -> list[ViewCandidate]:
    """The candidates `none`, `centre` and `turn`, in this order, each with its input's size or why it is refused.

    frames: a sample of the training frames, gone through once; their poses alone are kept. keep_aspect: views grow to
    the aspect of the input; else they are stretched onto it. Raises DataError where there is no frame, FrameError where
    the region of interest leaves one, ConfigError where the network takes no such size.
    """
    policy = policy or SizePolicy()
    sample = _sampled(frames, roi)
    size = policy.size_of(*sample.cut)
    whole = ViewCandidate(name="none", align=None, size=size, span=policy.span(size, *sample.cut))
    scattered = _scattered(sample)
    if scattered:
        return [whole, *(_refused(name, size, scattered) for name in ("centre", "turn"))]
    return [whole, _aligned("centre", sample, policy, keep_aspect), _turned(sample, policy, keep_aspect)]


def _sampled(frames: Iterable[Frame], roi: tuple[int, int, int, int] | None) -> _Sample:
    cutting = Preprocess(height=1, width=1, roi=roi)
    shapes: list[tuple[int, int]] = []
    posed: list[tuple[int, Pose]] = []
    without: Counter[str] = Counter()
    for frame in frames:
        shapes.append((frame.shape[0], frame.shape[1]))
        pose = part_pose(cutting.cut(frame))
        if isinstance(pose, Pose):
            posed.append((len(shapes) - 1, pose))
        else:
            without[pose] += 1
    if not shapes:
        raise DataError("there is no image to look at the parts in")
    frame_shape = sorted(shapes, key=max)[len(shapes) // 2]
    _, _, width, height = roi or (0, 0, frame_shape[1], frame_shape[0])
    scales = [max(frame_shape) / max(shapes[index]) for index, _ in posed]
    return _Sample(frame_shape, (height, width), [pose for _, pose in posed], scales, without)


def _scattered(sample: _Sample) -> str:
    """Why no part's outline can be had of these frames; empty where it can."""
    n_without = sample.without.total()
    if n_without > MOST_WITHOUT_POSE * sample.n_frames:
        (code, n_most), *_ = sample.without.most_common()
        return f"no outline in {n_without} of {sample.n_frames} frames, {code} in {n_most}"
    low, high = np.quantile([pose.area for pose in sample.poses], (0.1, 0.9))
    if high > LARGEST_AREA_RATIO * low:
        return f"the outline's area varies from {low:.1%} to {high:.1%} of the frame"
    return ""


def _turned(sample: _Sample, policy: SizePolicy, keep_aspect: bool) -> ViewCandidate:
    elongation = float(np.quantile([pose.elongation for pose in sample.poses], 0.05))
    if elongation < LEAST_ELONGATION:
        return _refused(
            "turn", policy.size_of(*sample.cut), f"the part has no long axis, its elongation is {elongation:.2f}"
        )
    return _aligned("turn", sample, policy, keep_aspect)


def _aligned(name: Literal["centre", "turn"], sample: _Sample, policy: SizePolicy, keep_aspect: bool) -> ViewCandidate:
    reach = np.array([pose.turned_reach if name == "turn" else pose.reach for pose in sample.poses])
    reached = np.quantile(reach * np.array(sample.scales)[:, None], REACH_QUANTILE, axis=0)
    height, width = (2.0 * MARGIN * reached).tolist()
    size = policy.size_of(height, width)
    if keep_aspect:
        step = max(height / size[0], width / size[1])
        height, width = step * size[0], step * size[1]
    skew = float(np.median([pose.skew for pose in sample.poses]))
    unsure = name == "turn" and skew < UNSURE_SKEW
    return ViewCandidate(
        name=name,
        align=Alignment(mode=name, height=round(height, 2), width=round(width, 2), frame=sample.frame),
        size=size,
        note="by its outline either end of the part may come first" if unsure else "",
        span=policy.span(size, height, width),
    )


def _refused(name: Literal["centre", "turn"], size: tuple[int, int], reason: str) -> ViewCandidate:
    return ViewCandidate(name=name, align=None, size=size, refused=reason)
