"""Raw criteria of many images under a network: for refinement, calibration and the parity gate's reference."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edge_runtime.errors import BackendError
from edge_runtime.model.prior import Prior
from train.data.image_store import ImageStore, image_chunks
from train.distributed import ALONE, World
from train.networks.autoencoder import Autoencoder, Measured

__all__ = ["encoded", "frame_outputs", "map_peaks", "raw_criteria"]

CHUNK = 512
"""Images that are read at a time."""
MOST_PIXELS = CHUNK * 128 * 128
"""Of the images of a forward pass; keeps the memory of large ones bounded."""
BACKBONE_PIXELS = 512 * 512
"""Of those that are read through a backbone, whose maps are larger: what is more leaves the cache."""
PEAK_PIXELS = 64 * 512 * 512
"""Of the images whose brightest pixels are looked at: their quantiles set a scale of colours and need no more."""


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
    """The largest value of each image's anomaly map, (n,), in evaluation mode.

    Of all N images, of large ones of as many, evenly drawn, as have PEAK_PIXELS.
    """
    n_images = len(images)
    height, width = images.shape[2:] if isinstance(images, Tensor) else images.array.shape[1:3]
    n_looked_at = min(n_images, max(1, PEAK_PIXELS // (height * width)))
    used = images
    if n_looked_at < n_images:
        drawn = torch.linspace(0, n_images - 1, n_looked_at).round().long()
        used = images[drawn] if isinstance(images, Tensor) else images.batch(drawn)
    chunks = _measured(autoencoder, prior, used, world)
    peaks = [chunk.anomaly_map.amax(dim=(1, 2)).cpu().numpy() for chunk in chunks]
    return world.gathered(peaks, len(used), CHUNK, ())


@torch.inference_mode()
def encoded(autoencoder: Autoencoder, images: ImageStore) -> NDArray[np.float32]:
    """Codes (N, D) or (N, D, h, w) of a network that reads through a backbone: its encoder's alone."""
    codes = []
    for chunk in images.chunks(CHUNK):
        codes += [autoencoder.encoder(part).cpu().numpy() for part in _passes(autoencoder, chunk)]
    return np.concatenate(codes)


@torch.inference_mode()
def frame_outputs(
    autoencoder: Autoencoder, prior: Prior, tiles: NDArray[np.uint8], device: torch.device
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Criteria (1, K) of one frame, and the anomaly maps (T, h, w) of its tiles: what a device computes.

    tiles: (T, H, W, C), as Preprocess.tiles cuts the frame.
    A frame of several tiles is as anomalous as its worst. Raises BackendError where criteria are not finite.
    """
    rows, maps = [], []
    for tile in tiles:
        images = torch.from_numpy(tile.transpose(2, 0, 1)[None]).to(device)  # (1, C, H, W)
        measured = autoencoder.measure(images.float() / 255.0, prior)
        rows.append(measured.criteria.cpu().numpy())
        maps.append(measured.anomaly_map[0].cpu().numpy())
    criteria = np.concatenate(rows).max(axis=0, keepdims=True)
    if not np.isfinite(criteria).all():
        raise BackendError(f"the network gives criteria {criteria[0].tolist()}, expected finite numbers; train again")
    return criteria, np.stack(maps)


@torch.inference_mode()
def _measured(autoencoder: Autoencoder, prior: Prior, images: Tensor | ImageStore, world: World) -> Iterator[Measured]:
    was_training = autoencoder.training
    autoencoder.eval()
    for chunk in image_chunks(images, CHUNK, world.rank, world.size):
        parts = [autoencoder.measure(part, prior) for part in _passes(autoencoder, chunk)]
        yield Measured(*(torch.cat(outputs) for outputs in zip(*parts, strict=True)))
    autoencoder.train(was_training)


def _passes(autoencoder: Autoencoder, chunk: Tensor) -> Iterator[Tensor]:
    """uint8 images (n, C, H, W) in [0, 1], as many at a time as a forward pass is to take."""
    most_pixels = MOST_PIXELS if autoencoder.backbone is None else BACKBONE_PIXELS
    for part in chunk.split(max(1, most_pixels // (chunk.shape[2] * chunk.shape[3]))):
        yield part.float() / 255.0
