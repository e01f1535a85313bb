"""Gradient dissimilarity against hand-worked values."""

from __future__ import annotations

import torch

from train.networks.structure_losses import STABILITY, gradient_dissimilarity, multi_scale_dissimilarity


def test_an_image_is_like_itself_and_like_itself_brighter() -> None:
    x = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    assert gradient_dissimilarity(x, x).abs().max() < 1e-6
    assert gradient_dissimilarity(0.5 * x, 0.5 * x + 0.3).abs().max() < 1e-4


def test_a_ramp_against_nothing_is_as_dissimilar_as_worked_by_hand() -> None:
    ramp = 0.1 * torch.arange(8.0).expand(1, 1, 8, 8)  # Prewitt: difference of two columns apart, 0.2
    flat = torch.zeros(1, 1, 8, 8)
    expected = 1.0 - (2 * 0.2 * 1e-3 + STABILITY) / (0.2**2 + STABILITY)
    torch.testing.assert_close(
        gradient_dissimilarity(ramp, flat), torch.full((1, 1, 6, 6), expected), rtol=1e-3, atol=1e-4
    )


def test_padding_has_no_structure_to_compare() -> None:
    generator = torch.Generator().manual_seed(0)
    x, x_hat = torch.rand(1, 1, 32, 32, generator=generator), torch.rand(1, 1, 32, 32, generator=generator)
    valid = torch.ones(1, 1, 32, 32)
    valid[..., 16:] = 0.0
    for scale, found in enumerate(multi_scale_dissimilarity(x, x_hat, valid)):
        assert found.shape[-1] == 32 // 2**scale - 2
        assert found[..., 16 // 2**scale - 2 :].abs().max() == 0.0
        assert found[..., : 16 // 2**scale - 2].abs().max() > 0.0
