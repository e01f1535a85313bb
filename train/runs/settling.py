"""What a run settles by looking at its photographs before they are loaded: the view, whether a head is tried, and how
fine the input is.
"""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from train.backbones.backbone import Backbone
from train.data.loading import levels_of, probe_images
from train.data.settings import DataSettings
from train.data.training_set import finer_input, preprocess_for, spread
from train.learning.settings import TrainSettings
from train.networks.features_network import features_of
from train.runs.view_choice import ViewChoice, settled_view

__all__ = ["settled", "share_by_place"]

logger = logging.getLogger(__name__)

MOST_LOOKED_AT = 48
"""Photographs that show how alike they are."""
MOST_BY_PLACE = 0.25
"""Of the features' variance explained by their place, above which no head is tried: what differs from what is usual at
its place then shows by itself, and what a head finds of synthetic defects promises nothing of real ones.
docs/training.md has the figures."""


def settled(
    data: DataSettings, settings: TrainSettings, device: torch.device, backbone: Backbone | None
) -> tuple[DataSettings, TrainSettings, ViewChoice | None]:
    """Settings in which nothing is left to choose, and how the view was chosen; None where one was named.

    Raises what settled_view and preprocess_for raise.
    """
    data = replace(data, levels=data.levels or levels_of(data))
    view = settled_view(data, settings, device, backbone)
    if view is not None:
        data = replace(data, align=view.chosen)
    if backbone is None or not settings.has_head:
        return data, settings, view
    if not backbone.has_fine_taps:
        logger.info("no head is tried: backbone %s gives no features of strides 2, 4 and 8", backbone.facts.name)
        return data, replace(settings, head=replace(settings.head, mode="none")), view
    probe = probe_images(data, settings.network)
    sites = preprocess_for(replace(data, finer=1), settings.network, probe, told=False)
    images, rows = [], []
    for frame in probe.frames():  # large ones, of which one is held at a time
        images.append(sites(frame))
        rows.append(sites.cut(frame).shape[0])
    if settings.head.mode == "auto":
        looked_at = torch.from_numpy(np.stack(spread(images, MOST_LOOKED_AT))).permute(0, 3, 1, 2)
        share = share_by_place(features_of(backbone.to(device), looked_at, device))
        if share > MOST_BY_PLACE:
            logger.info("no head is tried: their place explains %.0f %% of what photographs show", 100.0 * share)
            return data, replace(settings, head=replace(settings.head, mode="none")), view
        logger.info("a head is tried: their place explains %.0f %% of what photographs show", 100.0 * share)
    if data.finer == 1:
        data = replace(data, finer=finer_input(data, sites, rows))
    return data, settings, view


def share_by_place(features: Tensor) -> float:
    """Share of the variance of features (n, C, h, w) that their site explains, mean over channels; 0 to 1."""
    within = features.var(dim=0).mean(dim=(1, 2))
    # Means of few photographs differ by chance alone.
    between = (features.mean(dim=0).var(dim=(1, 2)) - within / len(features)).clamp(min=0.0)
    return float((between / (between + within).clamp(min=1e-12)).mean())
