"""Pixels to what a trunk takes: order, range, grey."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from edge_runtime.errors import ConfigError
from train.backbones.normalisation import IMAGENET, Normalisation, Normalise

LITE = Normalisation(mean=(127, 127, 127), std=(128, 128, 128), range=255)


def test_bgr_frames_become_normalised_rgb() -> None:
    x = torch.rand(2, 3, 4, 5)
    blue, green, red = x.unbind(1)
    expected = torch.stack([(red - 0.485) / 0.229, (green - 0.456) / 0.224, (blue - 0.406) / 0.225], dim=1)
    torch.testing.assert_close(Normalise(IMAGENET)(x), expected)


def test_a_trunk_that_takes_bgr_gets_it_in_that_order() -> None:
    x = torch.rand(1, 3, 2, 2)
    kept = Normalise(Normalisation(mean=(0, 0, 0), std=(1, 1, 1), order="BGR"))(x)
    torch.testing.assert_close(kept, x)


def test_range_255_is_taken_of_frames_in_0_to_1() -> None:
    levels = torch.tensor([0.0, 127.0, 255.0]).view(1, 1, 1, 3) / 255
    found = Normalise(LITE)(levels)
    assert found.shape == (1, 3, 1, 3)
    torch.testing.assert_close(found[0, 1, 0], torch.tensor([-127 / 128, 0.0, 1.0]))


def test_grey_is_taken_three_times() -> None:
    x = torch.rand(2, 1, 4, 5)
    normalise = Normalise(IMAGENET)
    torch.testing.assert_close(normalise(x), normalise(x.expand(2, 3, 4, 5)))


def test_normalisation_survives_json() -> None:
    assert Normalisation.from_json(IMAGENET.to_json()) == IMAGENET


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mean": [0.5, 0.5]}, "mean is .* expected three numbers"),
        ({"std": [1, 0, 1]}, "expected three numbers above 0"),
        ({"std": ["1", 1, 1]}, "std is .* expected three numbers"),
        ({"mean": [float("nan"), 0, 0]}, "expected three numbers"),
        ({"mean": 0.5}, "three numbers each"),
        ({"order": "rgb"}, "order is 'rgb', expected"),
        ({"range": 256}, "range is 256, expected 1 or 255"),
        ({"range": True}, "range is True"),
        ({"scale": 1}, "expected an object with mean, order, range, std"),
    ],
)
def test_unusable_normalisations_are_refused_by_name(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Normalisation.from_json({**IMAGENET.to_json(), **changes})
