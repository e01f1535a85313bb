"""A run folder as a scorer of images: PyTorch, before or without an export. Called by `edge-aae evaluate`."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from edge_runtime.model.defect_size import MEASURED_IN_PIXELS, DefectSize
from edge_runtime.model.preprocess import Frame
from edge_runtime.model.score import Decision
from edge_runtime.scoring.evaluation import ScoredImage
from edge_runtime.scoring.heatmap import HeatScale, check_size, scale_of
from edge_runtime.scoring.regions import all_too_small
from train.learning.scoring import frame_outputs
from train.runs.run_folder import RunFolder

__all__ = ["RunScorer"]


class RunScorer:
    """An ImageScorer around a trained run; gives what the run's bundle gives, up to the parity gate's tolerance."""

    def __init__(
        self,
        path: Path,
        *,
        threshold: float | None = None,
        size: DefectSize = MEASURED_IN_PIXELS,
        device: torch.device | None = None,
    ) -> None:
        """threshold: replaces the run's threshold on the fused score; size: from which area on a region counts. Raises
        DataError where the run is not usable, ConfigError where areas cannot be told."""
        folder = RunFolder(path)
        self.run = folder.load()
        check_size(size, self.run.calibration, path)
        self._size = size
        self._device = device or torch.device("cpu")
        self._names = tuple(self.run.calibration["criteria"])
        self._decision = self.run.decision if threshold is None else replace(self.run.decision, threshold=threshold)
        self._digest = hashlib.sha256(
            b"".join(
                hashlib.sha256(file.read_bytes()).digest()
                for file in (folder.config, folder.weights, folder.calibration)
            )
        ).hexdigest()
        self.run.autoencoder.to(self._device)

    @property
    def digest(self) -> str:
        """SHA-256 over the hashes of the run's config, weights and calibration."""
        return self._digest

    @property
    def decision(self) -> Decision:
        """The rule and threshold in force."""
        return self._decision

    @property
    def heat_scale(self) -> HeatScale:
        """By the training images' brightest pixels."""
        return scale_of(self.run.calibration)

    @property
    def size(self) -> DefectSize:
        """How large a pixel is, and from which area on a region counts."""
        return self._size

    def score(self, frame: Frame) -> ScoredImage:
        """Score one frame."""
        preprocess = self.run.config.preprocess
        placement = preprocess.place(frame)
        tiles, _ = preprocess.tiles(frame, placement)
        criteria, pixels = frame_outputs(self.run.autoencoder, self.run.prior, tiles, self._device)
        score = self._decision.score(criteria)
        above = bool(self._decision.is_anomalous(score)[0])
        heatmap = partial(preprocess.map_to_frame, pixels, frame.shape, placement)
        asked = above and self._size.least_px is not None
        too_small = asked and all_too_small(heatmap(), self.heat_scale.peak, self._size)
        return ScoredImage(
            score=float(score[0]),
            is_anomaly=above and not too_small,
            criteria=dict(zip(self._names, map(float, criteria[0]), strict=True)),
            heatmap=heatmap,
            too_small=too_small,
        )
