"""A run folder as a scorer of images: PyTorch, before or without an export. Called by `edge-aae evaluate`."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from edge_runtime.errors import BackendError
from edge_runtime.model.preprocess import Frame
from edge_runtime.model.score import Decision
from edge_runtime.scoring.evaluation import ScoredImage
from edge_runtime.scoring.heatmap import peak_of
from train.runs.run_folder import RunFolder

__all__ = ["RunScorer"]


class RunScorer:
    """An ImageScorer around a trained run; gives what the run's bundle gives, up to the parity gate's tolerance."""

    def __init__(self, path: Path, *, threshold: float | None = None, device: torch.device | None = None) -> None:
        """threshold: replaces the run's threshold on the fused score. Raises DataError where the run is not usable."""
        folder = RunFolder(path)
        self.run = folder.load()
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
    def map_peak(self) -> float:
        """p99 of the training images' brightest pixels."""
        return peak_of(self.run.calibration)

    def score(self, frame: Frame) -> ScoredImage:
        """Score one frame."""
        preprocess = self.run.config.preprocess
        placement = preprocess.place(frame)
        tiles, _ = preprocess.tiles(frame, placement)
        outputs = [self._outputs(tile) for tile in tiles]
        # A frame of several tiles is as anomalous as its worst, as on the device.
        criteria = np.concatenate([row for row, _ in outputs]).max(axis=0, keepdims=True)
        pixels = np.stack([anomaly_map for _, anomaly_map in outputs])
        score = self._decision.score(criteria)
        return ScoredImage(
            score=float(score[0]),
            is_anomaly=bool(self._decision.is_anomalous(score)[0]),
            criteria=dict(zip(self._names, map(float, criteria[0]), strict=True)),
            heatmap=partial(preprocess.map_to_frame, pixels, frame.shape, placement),
        )

    @torch.inference_mode()
    def _outputs(self, network_input: Frame) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Criteria (1, K) and anomaly map (h, w) of one (H, W, C) uint8 input: what the exported graph computes."""
        images = torch.from_numpy(network_input.transpose(2, 0, 1)[None]).to(self._device)  # (1, C, H, W)
        x = images.float() / 255.0
        measured = self.run.autoencoder.measure(x, self.run.prior)
        criteria = measured.criteria.cpu().numpy()
        if not np.isfinite(criteria).all():
            raise BackendError(
                f"{self.run.path} gives criteria {criteria[0].tolist()}, expected finite numbers; train again"
            )
        return criteria, measured.anomaly_map[0].cpu().numpy()
