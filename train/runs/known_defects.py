"""A threshold between the training images and a handful of known defects, which are never trained on."""

from __future__ import annotations

import logging
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from edge_runtime.bundle.separation import Separation
from edge_runtime.errors import BackendError, DataError
from edge_runtime.image_files.listing import list_images, unread_pictures
from edge_runtime.model.images import read_image
from edge_runtime.model.preprocess import Preprocess
from edge_runtime.model.prior import Prior
from edge_runtime.model.score import Decision
from train.data.settings import DataSettings
from train.learning.scoring import frame_outputs
from train.networks.autoencoder import Autoencoder

__all__ = ["has_known_defects", "known_defects", "parted"]

logger = logging.getLogger(__name__)


def known_defects(folder: str) -> list[Path]:
    """The images of a folder; raises DataError where there are none."""
    path = Path(folder)
    found = list_images(path) if path.is_dir() else []
    unread = unread_pictures(path)
    if not found:
        hint = f"; {unread}" if unread else ""
        raise DataError(f"--known-bad {folder} holds no images, expected a folder with photographs of defects{hint}")
    if unread:
        logger.warning("--known-bad %s: %s", folder, unread)
    return found


def has_known_defects(data: DataSettings) -> bool:
    """Whether a run was given any, by --known-bad or among its feedback."""
    return data.known_bad is not None or bool(data.feedback and data.feedback.defects)


def parted(
    decision: Decision,
    held_out: NDArray[np.float64],
    data: DataSettings,
    autoencoder: Autoencoder,
    prior: Prior,
    preprocess: Preprocess,
    device: torch.device,
) -> tuple[Decision, dict[str, Any] | None]:
    """The decision with its threshold between held-out scores (N,) and the defects', and what the manifest says of it.

    Where the network does not see these defects, or they cannot be read any more, the decision stays and a warning says
    why: the training is worth more than the threshold.
    """
    try:
        frames = (read_image(file, preprocess.levels) for file in _files(data))
        criteria = [frame_outputs(autoencoder, prior, preprocess.tiles(frame)[0], device)[0] for frame in frames]
        scores = decision.score(np.concatenate(criteria))
        threshold, found = Separation.between(held_out.tolist(), scores.tolist())
    except (BackendError, DataError) as error:
        logger.warning("known defects do not move the threshold: %s", error)
        return decision, None
    return replace(decision, threshold=threshold), {"threshold": threshold, **asdict(found)}


def _files(data: DataSettings) -> list[Path]:
    found = [] if data.known_bad is None else known_defects(data.known_bad)
    return [*found, *map(Path, data.feedback.defects if data.feedback else ())]
