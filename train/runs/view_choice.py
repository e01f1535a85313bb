"""`--align auto`: which view a run takes, settled on a sample of its photographs before they are loaded.

Synthetic defects are drawn on photographs as they are, so that every view sees the same ones. The view is taken in
which a normal distribution at every site of pretrained features tells them best from photographs that it was fitted
without.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edge_runtime.errors import ConfigError, DataError, MissingExtraError
from edge_runtime.files import json_bytes, write_atomically
from edge_runtime.metrics import auroc
from edge_runtime.model.preprocess import Frame, Preprocess
from train.backbones.backbone import Backbone
from train.backbones.loading import load_backbone
from train.data.loading import probe_images
from train.data.settings import DataSettings
from train.data.training_set import Probe, spread, view_candidates
from train.learning.settings import TrainSettings
from train.networks.features_network import check_features_size, features_of
from train.networks.registry import NetworkName
from train.sites.site_gaussian import distances_from, refitted
from train.sites.site_statistics import top_mean
from train.synthesis.photograph_defects import defective_copies
from train.views.candidates import ViewCandidate, ViewName
from train.views.choice import LEAST_GAIN, ViewFigure, choose_view

__all__ = ["ViewChoice", "read_view", "settled_view"]

logger = logging.getLogger(__name__)

FEWEST_IMAGES = 10
"""Below, no view is chosen: a photograph more or less decides."""
MOST_IMAGES = 48
"""Photographs compared, and copies of them with a defect."""
MOST_PIXELS = MOST_IMAGES * 256 * 256
"""Of all their inputs in one view: of larger inputs fewer are compared, down to FEWEST_LARGE."""
FEWEST_LARGE = 16
COPIES_EACH = 4
"""Copies of a photograph, at most, where there are few."""
DIMENSIONS = 64
"""Of reduced features: enough to tell views apart, and quicker than all of them."""
FOLDS = 4
"""Blocks in the order of the files, each judged by what was fitted to the others: neighbours may show one object."""
LONGEST_SIDE = 768
"""Pixels that photographs are reduced to: three times the usual input's, so that a part of a third loses nothing."""
SAME_ASPECT = 0.05
"""Of the middle one's: photographs of another aspect are left out, since defects are drawn at one size."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ViewChoice:
    """The view that was chosen, and what by; view.json in the run folder."""

    chosen: ViewName
    reason: str
    figures: tuple[ViewFigure, ...]
    n_images: int
    """Photographs compared; 0 where nothing was"""
    n_copies: int
    """Copies of them with a synthetic defect"""
    backbone: str
    """Whose features; empty where nothing was compared"""
    seed: int
    """Draws the defects"""

    def write(self, path: Path) -> None:
        """Write view.json."""
        write_atomically(path, json_bytes(asdict(self)))


def read_view(path: Path) -> ViewChoice | None:
    """What view.json says, None where a run has none; raises DataError where it is damaged."""
    if not path.exists():
        return None
    try:
        values = json.loads(path.read_text())
        figures = tuple(ViewFigure(**{**figure, "size": tuple(figure["size"])}) for figure in values["figures"])
        return ViewChoice(**{**values, "figures": figures})
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} cannot be read: {error}; train again") from error


def settled_view(
    data: DataSettings, settings: TrainSettings, device: torch.device, backbone: Backbone | None
) -> ViewChoice | None:
    """The view for `--align auto`; None where the settings name one, or the network cuts tiles.

    backbone: the run's. Networks without one are judged by the shipped one's features, at the size that `features` has.
    Raises what loading the images would, and ConfigError where the shipped weights are needed and not installed.
    """
    if data.align != "auto" or settings.spec.cuts_tiles:
        return None
    started_s = time.perf_counter()
    probe = probe_images(data, settings.network)
    network: NetworkName = settings.network
    if backbone is None:
        network, data = "features", replace(data, imgsz=None)
    photographs = _Photographs(data, probe)
    candidates = view_candidates(data, network, probe, photographs.passing(probe.frames()))
    found = _chosen(candidates, photographs, backbone, device, settings)
    if found.n_images:
        logger.info(
            "views compared in %.1f s on %d photographs and %d copies of them with a synthetic defect",
            time.perf_counter() - started_s,
            found.n_images,
            found.n_copies,
        )
    for figure in found.figures:
        logger.info("view %s", figure)
    logger.info("view %s: %s", found.chosen, found.reason)
    return found


def _chosen(
    candidates: Sequence[ViewCandidate],
    photographs: _Photographs,
    backbone: Backbone | None,
    device: torch.device,
    settings: TrainSettings,
) -> ViewChoice:
    allowed = [candidate for candidate in candidates if not candidate.refused]
    frames = photographs.of_one_size()
    if len(allowed) == 1 or len(frames) < FEWEST_IMAGES:
        reason = "the photographs allow no other"
        if len(allowed) > 1:
            reason = f"{len(frames)} photographs of one shape are too few to choose by, {FEWEST_IMAGES} are needed"
        figures = tuple(ViewFigure.of(candidate) for candidate in candidates)
        return ViewChoice(
            chosen="none", reason=reason, figures=figures, n_images=0, n_copies=0, backbone="", seed=settings.seed
        )
    backbone = backbone or _shipped()
    most = min(MOST_IMAGES, max(FEWEST_LARGE, MOST_PIXELS // max(math.prod(view.size) for view in allowed)))
    frames = spread(frames, most)
    copies = defective_copies(frames, min(most, COPIES_EACH * len(frames)), settings.seed)

    def told(view: ViewCandidate) -> float:
        preprocess = photographs.preprocess(view, frames[0].shape)
        normal, defective = (
            _features(backbone.to(device), preprocess, raw, device) for raw in (frames, list(copies.frames))
        )
        return _auroc(normal, defective, copies.sources, settings.seed)

    chosen, found = choose_view(candidates, told)
    return ViewChoice(
        chosen=chosen.name,
        reason=_reason(chosen, found),
        figures=tuple(found),
        n_images=len(frames),
        n_copies=len(copies.frames),
        backbone=backbone.facts.name,
        seed=settings.seed,
    )


def _reason(chosen: ViewCandidate, figures: Sequence[ViewFigure]) -> str:
    if chosen.name == "none":
        return f"no other gains more than {LEAST_GAIN} on it"
    by_name = {figure.name: figure.auroc for figure in figures}
    return (
        f"it tells synthetic defects by an AUROC of {by_name[chosen.name]:.3f}, the plain view by {by_name['none']:.3f}"
    )


def _auroc(normal: Tensor, defective: Tensor, sources: NDArray[np.intp], seed: int) -> float:
    """Mean over folds of the AUROC by which copies are told from photographs, both judged by fits to other folds.

    normal: (n, C, h, w) features; defective: (m, C, h, w), of copies of the photographs `sources` (m,).
    """
    folds = np.arange(len(normal)) * FOLDS // len(normal)
    own, others = refitted(
        normal,
        np.ones(len(normal), dtype=np.bool_),
        folds,
        defective,
        sources,
        judge=distances_from,
        by_site=True,
        dimensions=DIMENSIONS,
        seed=seed,
    )
    scores, of = np.concatenate((top_mean(own), top_mean(others))), np.concatenate((folds, folds[sources]))
    is_copy = np.arange(len(scores)) >= len(normal)
    return float(np.mean([auroc(scores[of == fold], is_copy[of == fold]) for fold in range(FOLDS)]))


def _features(backbone: Backbone, preprocess: Preprocess, frames: Sequence[Frame], device: torch.device) -> Tensor:
    """Features (n, C, h, w) on the CPU of raw photographs as the view shows them."""
    check_features_size(preprocess.channels, preprocess.height, preprocess.width)
    backbone.check_size(preprocess.height, preprocess.width)
    images = torch.from_numpy(np.stack([preprocess(frame) for frame in frames])).permute(0, 3, 1, 2)
    return features_of(backbone, images, device)


def _shipped() -> Backbone:
    try:
        return load_backbone()
    except MissingExtraError as error:
        raise ConfigError(f"--align auto judges views by a backbone; name none, centre or turn. {error}") from error


class _Photographs:
    """What is kept of the photographs that views are fitted to: each cut, converted, and reduced to LONGEST_SIDE."""

    def __init__(self, data: DataSettings, probe: Probe) -> None:
        self.data = data
        self.probe = probe
        self.frames: list[Frame] = []

    def passing(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        """The frames, of each of which a copy is kept once it was used."""
        for frame in frames:
            yield frame
            height, width = Preprocess(height=1, width=1, roi=self.data.roi).cut(frame).shape[:2]
            scale = min(1.0, LONGEST_SIDE / max(height, width))
            reducing = Preprocess(
                height=max(1, round(scale * height)),
                width=max(1, round(scale * width)),
                channels=self.probe.channels,
                roi=self.data.roi,
            )
            self.frames.append(reducing.scaled(frame))

    def of_one_size(self) -> list[Frame]:
        """Those of about the middle aspect ratio, at one size."""
        aspects = [math.log(frame.shape[1] / frame.shape[0]) for frame in self.frames]
        middle = int(np.argsort(aspects, kind="stable")[len(aspects) // 2])
        height, width, channels = self.frames[middle].shape
        resizing = Preprocess(height=height, width=width, channels=channels)
        alike = [abs(aspect - aspects[middle]) <= SAME_ASPECT for aspect in aspects]
        return [resizing(frame) for frame, is_alike in zip(self.frames, alike, strict=True) if is_alike]

    def preprocess(self, view: ViewCandidate, shape: tuple[int, ...]) -> Preprocess:
        """What training would do to its photographs in a view, for those kept, of this shape."""
        height, width = view.size
        align = view.align
        if align is not None:
            _, _, *cut = self.data.roi or (0, 0, *align.frame)
            scale = max(shape[:2]) / max(cut)
            align = replace(align, height=scale * align.height, width=scale * align.width, frame=(shape[0], shape[1]))
        return Preprocess(
            height=height,
            width=width,
            channels=self.probe.channels,
            fit=self.probe.fit(self.data, align),
            align=align,
        )
