"""Raw criteria of many images under a network: for refinement, calibration and the parity gate's reference."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edge_runtime.model.prior import Prior
from train.data.image_store import ImageStore, image_chunks
from train.distributed import ALONE, World
from train.networks.autoencoder import Autoencoder, Measured

__all__ = ["map_peaks", "raw_criteria"]

CHUNK = 512
"""Images a forward pass; keeps the memory of large sets bounded."""


def raw_criteria(
    autoencoder: Autoencoder, prior: Prior, images: Tensor | ImageStore, world: World = ALONE
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Criteria (N, K) and codes (N, D) of uint8 images (N, C, H, W), in evaluation mode.

    world: processes that take part of the images each; all get all rows.
    """
    measured = list(_measured(autoencoder, prior, images, world))
    criteria = [chunk.criteria.cpu().numpy() for chunk in measured]
    codes = [chunk.latent.cpu().numpy() for chunk in measured]
    n_images = len(images)
    return (
        world.gathered(criteria, n_images, CHUNK, (len(autoencoder.criteria),)),
        world.gathered(codes, n_images, CHUNK, (autoencoder.latent_dim,)),
    )


def map_peaks(
    autoencoder: Autoencoder, prior: Prior, images: Tensor | ImageStore, world: World = ALONE
) -> NDArray[np.float32]:
    """The largest value of each image's anomaly map, (N,), for uint8 images (N, C, H, W), in evaluation mode."""
    chunks = _measured(autoencoder, prior, images, world)
    peaks = [chunk.anomaly_map.amax(dim=(1, 2)).cpu().numpy() for chunk in chunks]
    return world.gathered(peaks, len(images), CHUNK, ())


@torch.inference_mode()
def _measured(autoencoder: Autoencoder, prior: Prior, images: Tensor | ImageStore, world: World) -> Iterator[Measured]:
    was_training = autoencoder.training
    autoencoder.eval()
    for chunk in image_chunks(images, CHUNK, world.rank, world.size):
        yield autoencoder.measure(chunk.float() / 255.0, prior)
    autoencoder.train(was_training)
