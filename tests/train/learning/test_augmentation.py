from __future__ import annotations

import pytest
import torch
from torch import Tensor

from edge_runtime.errors import ConfigError
from train.learning.augmentation import AUGMENTATIONS, AugmentSettings, augment


def images(n: int = 64, channels: int = 1) -> Tensor:
    return torch.rand(n, channels, 12, 16, generator=torch.Generator().manual_seed(1))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_none_changes_nothing_and_draws_nothing() -> None:
    x, generator = images(), seeded()
    before = generator.get_state()
    assert augment(x, generator, AUGMENTATIONS["none"]) is x
    assert torch.equal(generator.get_state(), before)


@pytest.mark.parametrize("channels", [1, 3])
def test_light_keeps_shape_and_range_and_repeats_with_its_seed(channels: int) -> None:
    x = images(channels=channels)
    first = augment(x, seeded(3), AUGMENTATIONS["light"])
    assert first.shape == x.shape
    assert 0.0 <= float(first.min()) <= float(first.max()) <= 1.0
    assert torch.equal(first, augment(x, seeded(3), AUGMENTATIONS["light"]))
    assert not torch.equal(first, augment(x, seeded(4), AUGMENTATIONS["light"]))


def test_a_shift_moves_all_channels_together_and_repeats_the_border() -> None:
    x = images(200, channels=3)
    shifted = augment(x, seeded(), AugmentSettings(shift_px=2))
    found = set()
    for before, after in zip(x, shifted, strict=True):
        matches = []
        for down in range(-2, 3):
            for right in range(-2, 3):
                rows = (torch.arange(12) + down).clamp(0, 11)
                columns = (torch.arange(16) + right).clamp(0, 15)
                if torch.equal(before[:, rows][:, :, columns], after):
                    matches.append((down, right))
        assert len(matches) == 1
        found.update(matches)
    assert len(found) == 25, "every shift comes up"


def test_light_alone_moves_nothing_and_stays_within_its_bounds() -> None:
    x = torch.full((500, 1, 4, 4), 0.5)
    gain = augment(x, seeded(), AugmentSettings(gain=0.1))[:, 0, 0, 0]
    assert 0.45 <= float(gain.min()) < 0.455
    assert 0.545 < float(gain.max()) <= 0.55
    gamma = augment(x, seeded(), AugmentSettings(gamma=0.2))[:, 0, 0, 0]
    assert 0.5**1.2 - 1e-6 <= float(gamma.min()) < float(gamma.max()) <= 0.5 ** (1 / 1.2) + 1e-6


def test_flips_come_in_all_four_ways_and_lose_nothing() -> None:
    x = images(100)
    flipped = augment(x, seeded(), AugmentSettings(flips=True))
    ways = [x, x.flip(2), x.flip(3), x.flip(2, 3)]
    counts = [sum(torch.equal(way[i], flipped[i]) for i in range(100)) for way in ways]
    assert sum(counts) == 100
    assert min(counts) > 10


def test_a_flipped_image_is_shifted_as_a_whole() -> None:
    x = torch.zeros(50, 1, 12, 16)
    x[:, :, 5:7, 7:9] = 1.0
    moved = augment(x, seeded(), AugmentSettings(flips=True, shift_px=2))
    assert torch.equal(moved.sum(dim=(1, 2, 3)), torch.full((50,), 4.0))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"shift_px": -1}, r"shift is -1 pixels, expected 0 or more"),
        ({"gain": 1.0}, r"gain is 1\.0, expected from 0 to below 1"),
        ({"gamma": float("inf")}, r"gamma is inf, expected 0 or more"),
    ],
)
def test_values_out_of_range_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        AugmentSettings(**settings)  # type: ignore[arg-type]
