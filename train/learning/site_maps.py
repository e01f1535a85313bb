"""What the backbone says of a run's images at each site, reduced: made once, held, made anew where the reduction is."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from train.learning.task import Task
from train.networks.features_network import CHUNK, FeaturesNetwork, features_of

__all__ = ["SiteMaps"]

MOST_FITTED = 2000
"""Images, evenly drawn, that the reduction is fitted on; their features are held in memory."""


class SiteMaps:
    """Reduced features of all images of a task, on the CPU."""

    def __init__(self, task: Task, network: FeaturesNetwork) -> None:
        self.task = task
        self.network = network
        self._reduced: Tensor | None = None

    @property
    def reduced(self) -> Tensor:
        """(N, d, h, w) under the reduction as it was when they were made."""
        if self._reduced is None:
            self.reduce_all(torch.zeros(0), np.zeros(0, dtype=np.int64))
            assert self._reduced is not None, "they were just made"
        return self._reduced

    @property
    def sites(self) -> Tensor:
        """(N, S, d), site by site."""
        return self.reduced.flatten(2).transpose(1, 2)

    def forget(self) -> None:
        """Make them anew when they are next needed."""
        self._reduced = None

    def drawn(self) -> tuple[Tensor, NDArray[np.int64]]:
        """Features (n, C, h, w) of up to MOST_FITTED images, and their indices."""
        n_images = len(self.task.images)
        drawn = np.linspace(0, n_images - 1, min(n_images, MOST_FITTED)).round().astype(np.int64)
        parts = [self.features_of(self.task.images.batch(part)) for part in torch.from_numpy(drawn).split(CHUNK)]
        return torch.cat(parts), drawn

    def features_of(self, images: Tensor) -> Tensor:
        """Features (n, C, h, w) on the CPU of uint8 images (n, C, H, W)."""
        return features_of(self.network.backbone, images, self.task.device, finer=self.task.finer)

    def sites_of(self, features: Tensor) -> Tensor:
        """Reduced features (n, S, d) of features (n, C, h, w)."""
        return self._reduce(features).flatten(2).transpose(1, 2)

    def reduce_all(self, features: Tensor, drawn: NDArray[np.int64]) -> None:
        """Make them under the present reduction, from the features of the images drawn where these are all."""
        if len(drawn) == len(self.task.images):
            self._reduced = self._reduce(features)
            return
        indices = torch.arange(len(self.task.images))
        parts = [self._reduce(self.features_of(self.task.images.batch(part))) for part in indices.split(CHUNK)]
        self._reduced = torch.cat(parts)

    @torch.inference_mode()
    def _reduce(self, features: Tensor) -> Tensor:
        reduction = self.network.encoder.statistics
        return torch.cat([reduction(part.to(self.task.device)).cpu() for part in features.split(CHUNK)])
