"""Images that are all the same end a training in one line, whatever the network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from edge_runtime.errors import DataError
from train.data.settings import DataSettings
from train.intake.variation import singular_as_sameness
from train.learning.settings import TrainSettings
from train.networks.registry import NETWORKS, NetworkName, network_spec
from train.runs.session import load_images


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("black", [False, True])
def test_the_same_image_again_and_again_is_refused(tmp_path: Path, network: NetworkName, black: bool) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8) * (not black)
    for number in range(6):
        cv2.imwrite(str(tmp_path / f"{number}.png"), picture)
    settings = DataSettings(path=str(tmp_path), imgsz=(64, 64))
    what = "one grey level, 0" if black and network != "patch" else "one picture|one grey level, 0"
    schedule = network_spec(network).schedule("aae", "robust")
    asked = TrainSettings(network=network, latent_dim=4, batch_size=4, schedule=schedule)
    with pytest.raises(DataError, match=rf"all 6 images of .* show the same, ({what}): expected photographs"):
        load_images(settings, asked, None)
    cv2.imwrite(str(tmp_path / "5.png"), 255 - picture)
    assert len(load_images(settings, asked, None).names) == 6


def in_numpy() -> None:
    np.linalg.inv(np.zeros((2, 2)))


def in_torch() -> None:
    torch.linalg.cholesky(torch.zeros(2, 2))


@pytest.mark.parametrize("fails", [in_numpy, in_torch])
def test_an_error_of_linear_algebra_is_one_line_about_the_images(fails: Callable[[], None]) -> None:
    said = "the training images cannot be told apart, they vary too little; are they .* of different parts$"
    with pytest.raises(DataError, match=said):
        singular_as_sameness()(fails)()
