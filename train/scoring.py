"""Raw criteria of many images under a network: for refinement, calibration and the parity gate's reference."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edge_runtime.prior import StandardNormal
from edge_runtime.score import anomaly_map, reconstruction_error
from train.networks import Autoencoder

__all__ = ["criteria_of", "map_peaks", "raw_criteria"]

CHUNK = 512
"""Images a forward pass; keeps the memory of large sets bounded."""


def criteria_of(x: Tensor, x_hat: Tensor, z: Tensor, prior: StandardNormal) -> Tensor:
    """The criteria (B, K) in the order of edge_runtime.score.CRITERIA; also what the exported graph computes.

    x, x_hat: (B, C, H, W) in [0, 1]; z: (B, D).
    """
    return torch.stack((reconstruction_error(x, x_hat), prior.neg_log_density(z)), dim=1)


@torch.inference_mode()
def raw_criteria(
    autoencoder: Autoencoder, prior: StandardNormal, images: Tensor
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Criteria (N, K) and codes (N, D) of uint8 images (N, C, H, W), in evaluation mode."""
    was_training = autoencoder.training
    autoencoder.eval()
    criteria, codes = [], []
    for chunk in images.split(CHUNK):
        x = chunk.float() / 255.0
        z, x_hat = autoencoder(x)
        criteria.append(criteria_of(x, x_hat, z, prior).cpu().numpy())
        codes.append(z.cpu().numpy())
    autoencoder.train(was_training)
    return np.concatenate(criteria), np.concatenate(codes)


@torch.inference_mode()
def map_peaks(autoencoder: Autoencoder, images: Tensor) -> NDArray[np.float32]:
    """The largest value of each image's anomaly map, (N,), for uint8 images (N, C, H, W), in evaluation mode."""
    was_training = autoencoder.training
    autoencoder.eval()
    peaks = []
    for chunk in images.split(CHUNK):
        x = chunk.float() / 255.0
        peaks.append(anomaly_map(x, autoencoder(x)[1]).amax(dim=(1, 2)).cpu().numpy())
    autoencoder.train(was_training)
    return np.concatenate(peaks)
