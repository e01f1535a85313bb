"""What a run has to learn from, and with what: the ground that every kind of training stands on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edge_runtime.errors import ConfigError, DataError
from train.backbones.backbone import Backbone
from train.data.guidance import Guidance
from train.data.image_store import ImageStore, MemoryStore
from train.distributed import ALONE, World
from train.learning.settings import TrainSettings

__all__ = ["Task"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """The settings, images, device and processes of one run."""

    settings: TrainSettings
    images: ImageStore
    """N network inputs, given on `device`"""
    guidance: NDArray[np.int8]
    """(N,) KEEP, REJECT or UNGUIDED"""
    groups: NDArray[np.int64]
    """(N,) numbers from 0 on, equal for images that no fold may tear apart"""
    device: torch.device
    world: World
    """Processes that hold the same images and settings and share every batch and every scoring"""
    backbone: Backbone | None
    """What the network reads images through, where it reads through one"""
    finer: int
    """How many times finer images are than what a backbone's sites are made from"""
    ordered: bool
    """Whether images stand in the order of their names or times, and nobody has said which of them belong together"""
    generator: torch.Generator
    """The run's own, on the CPU: what is drawn while networks train comes from it; its state is part of a snapshot"""

    @classmethod
    def of(
        cls,
        settings: TrainSettings,
        images: NDArray[np.uint8] | ImageStore,
        device: torch.device,
        guidance: NDArray[np.int8] | None = None,
        world: World = ALONE,
        groups: NDArray[np.int64] | None = None,
        backbone: Backbone | None = None,
        finer: int = 1,
        ordered: bool = False,
    ) -> Task:
        """images: (N, H, W, C) uint8 network inputs; guidance: None for no word at all; groups: None for every image
        on its own.

        Raises DataError where there are too few images, ConfigError where a batch has fewer than there are processes.
        """
        store = MemoryStore(images) if isinstance(images, np.ndarray) else images
        n_images = len(store)
        fewest = settings.spec.fewest_images
        if n_images < fewest:
            raise DataError(f"{n_images} images to train on, network {settings.network} needs {fewest} or more")
        if settings.batch_size < world.size:
            raise ConfigError(
                f"--batch is {settings.batch_size}, expected one image or more for {world.size} processes"
            )
        return cls(
            settings=settings,
            images=store.on(device),
            guidance=Guidance.none(n_images).verdicts if guidance is None else guidance,
            groups=np.arange(n_images) if groups is None else groups,
            device=device,
            world=world,
            backbone=backbone,
            finer=finer,
            ordered=ordered,
            generator=torch.Generator().manual_seed(settings.seed),
        )

    @property
    def input_size(self) -> tuple[int, int, int]:
        """Channels, height and width of a network input."""
        _, height, width, channels = self.images.array.shape
        return channels, height, width

    def batches(self, used: Tensor) -> Iterator[Tensor]:
        """An epoch's batches of the images of these indices (n,), shuffled: (<= batch_size,) indices each."""
        shuffled = used[torch.randperm(len(used), generator=self.generator)]
        for batch in shuffled.split(self.settings.batch_size):
            # Batch normalisation needs two images, and every process one: not all layers take an empty share.
            if len(batch) >= max(2, self.world.size):
                yield batch
