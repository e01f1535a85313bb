"""What a network of `patch` says of whole photographs, tile by tile. Called by patch.py."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edge_runtime.model.prior import Prior
from train.data.photograph_store import PhotographStore
from train.heads.patch_head import pooled_tops
from train.networks.patch_network import PatchNetwork

__all__ = ["codes_and_tops", "measured"]

MEASURED_TILES = 64
"""A forward pass."""


@torch.inference_mode()
def codes_and_tops(
    network: PatchNetwork, store: PhotographStore, photographs: Sequence[NDArray[np.uint8]], device: torch.device
) -> tuple[NDArray[np.float32], Tensor]:
    """Codes of all valid sites (M, D); pooled tops of the map of defects (n, S), the largest over a photograph's tiles.

    photographs: n scaled ones, (h, w) uint8, cut as the store cuts its own.
    """
    network.eval()
    codes: list[NDArray[np.float32]] = []
    tops: list[Tensor] = []
    for tiles, counts in store.batches(iter(photographs), MEASURED_TILES):
        x = tiles.to(device).float() / 255.0
        z, logits = network.marked(x)  # (B, D, h, w), (B, H/2, W/2)
        codes.append(z.permute(0, 2, 3, 1)[network.valid_sites(x) > 0].cpu().numpy())
        tops.extend(part.amax(dim=0) for part in pooled_tops(logits).split(counts))
    return np.concatenate(codes), torch.stack(tops)


@torch.inference_mode()
def measured(
    network: PatchNetwork,
    prior: Prior,
    store: PhotographStore,
    photographs: Sequence[NDArray[np.uint8]],
    device: torch.device,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Criteria (n, K), the largest over each photograph's tiles, and mean codes (n, D); photographs as above."""
    network.eval()
    criteria, codes = [], []
    for tiles, counts in store.batches(iter(photographs), MEASURED_TILES):
        found = network.measure(tiles.to(device).float() / 255.0, prior)
        for part, latent in zip(found.criteria.split(counts), found.latent.split(counts), strict=True):
            criteria.append(part.amax(dim=0).cpu().numpy())
            codes.append(latent.mean(dim=(0, 2, 3)).cpu().numpy())
    return np.stack(criteria), np.stack(codes)
