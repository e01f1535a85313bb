"""The patch network: shapes, padding that says nothing, sizes it refuses, and what it can learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from edge_runtime.errors import ConfigError
from edge_runtime.model.prior import StandardNormal
from edge_runtime.model.score import CRITERIA
from train.heads.patch_head import pooled_tops, top_mean
from train.networks.patch_network import PatchNetwork, SiteDiscriminator, check_patch_size
from train.networks.registry import build_autoencoder
from train.strategies.patch_learner import LossWeights, PatchLearner
from train.synthesis.defects import KINDS, SynthesisSettings
from train.synthesis.patch_batches import Augmentation, Batch, crop, draw_batch


def _network(factor: float = 0.5) -> PatchNetwork:
    torch.manual_seed(0)
    return PatchNetwork(channels=4, height=64, width=96, latent_dim=4, factor=factor).eval()


def _tiles(n: int = 2, height: int = 64, width: int = 96) -> torch.Tensor:
    x = torch.rand(n, 4, height, width, generator=torch.Generator().manual_seed(1))
    x[:, 3] = 1.0
    return x


def test_criteria_codes_and_map_have_the_shapes_of_the_contract() -> None:
    network = _network()
    measured = network.measure(_tiles(), StandardNormal(4))
    assert network.criteria == (*CRITERIA, "structural_error", "defect_score")
    assert measured.criteria.shape == (2, 4)
    assert measured.latent.shape == (2, 4, 8, 12)
    assert measured.anomaly_map.shape == (2, 32, 48)
    assert (measured.anomaly_map >= 0).all()
    assert network.decoder(measured.latent).shape == (2, 3, 64, 96)


def test_padding_raises_no_criterion() -> None:
    network = _network()
    x = _tiles(1)
    padded = x.clone()
    padded[..., 48:] = padded[..., :48].flip(3)
    padded[:, 3, :, 48:] = 0.0
    wild = padded.clone()
    wild[:, :3, :, 48:] = torch.rand(1, 3, 64, 48, generator=torch.Generator().manual_seed(5))
    with torch.inference_mode():
        of_padded, of_wild = (network.measure(image, StandardNormal(4)) for image in (padded, wild))
    # The network does not read what is under the mask, and the map shows nothing there.
    torch.testing.assert_close(of_padded.criteria, of_wild.criteria)
    assert of_wild.anomaly_map[..., 24:].max() < 1e-4
    nothing_valid = padded.clone()
    nothing_valid[:, 3] = 0.0
    with torch.inference_mode():
        criteria = network.measure(nothing_valid, StandardNormal(4)).criteria[0]
    assert criteria[0] == 0.0
    assert criteria[1].item() == pytest.approx(StandardNormal(4).floor)
    assert criteria[2] == 0.0
    assert criteria[3] < of_padded.criteria[0, 3]


@pytest.mark.parametrize(
    ("channels", "height", "width", "message"),
    [
        (1, 128, 128, "takes the 4 channels of self-referenced grey, not 1"),
        (4, 100, 128, "multiples of 16; try 96"),
        (4, 1024, 128, "sides from 64 to 512 .* try 512"),
    ],
)
def test_other_inputs_are_refused_and_sizes_named(channels: int, height: int, width: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_patch_size(channels, height, width)


def test_width_scales_the_network_and_the_default_stays_below_two_million_weights() -> None:
    sizes = [
        sum(
            weights.numel()
            for weights in build_autoencoder(
                "patch", channels=4, height=128, width=128, latent_dim=16, batch_norm=True, width_factor=factor
            ).parameters()
        )
        for factor in (0.5, 1.0, 2.0)
    ]
    assert sizes[0] < sizes[1] < sizes[2] < 2_000_000
    assert sizes[1] < 500_000


def test_tops_are_means_of_the_highest_blocks() -> None:
    values = torch.arange(100.0).reshape(1, 10, 10)
    assert top_mean(values, 0.03).item() == pytest.approx((99 + 98 + 97) / 3)
    assert top_mean(values, 0.0001).item() == 99.0
    assert pooled_tops(torch.zeros(3, 32, 32)).shape == (3, 5)
    large = torch.zeros(1, 128, 128)  # more than TensorRT sorts
    large[0, 5, 7] = 4.0
    assert top_mean(large, 1e-6).item() == 4.0


def test_a_map_is_judged_by_the_top_that_lies_furthest_above_what_is_usual() -> None:
    network = PatchNetwork(channels=4, height=64, width=64, latent_dim=4, factor=0.5)
    rng = np.random.default_rng(0)
    usual = torch.tensor(rng.normal(size=(200, 32, 32)), dtype=torch.float32)
    network.head.fit_usual(pooled_tops(usual))
    assert network.head.most_outstanding(usual).mean().item() < 1.5
    pinhole, stain = usual[:1].clone(), usual[:1].clone()
    pinhole[0, 3, 4] += 12.0
    stain[0, 8:24, 8:24] += 1.0  # no cell of it is remarkable
    assert network.head.most_outstanding(pinhole).item() > 5.0
    assert network.head.most_outstanding(stain).item() > 5.0
    network.head.fit_usual(pooled_tops(torch.zeros(3, 32, 32)))
    assert torch.isfinite(network.head.most_outstanding(stain)).all(), "what never varies has a least spread"


def test_a_few_steps_tell_marked_tiles_from_clean_ones() -> None:
    torch.manual_seed(0)
    network = PatchNetwork(channels=4, height=64, width=64, latent_dim=4, factor=0.5)
    learner = PatchLearner(network, SiteDiscriminator(4), learning_rate=3e-3, weights=LossWeights())
    rng = np.random.default_rng(0)
    photographs = [rng.normal(120, 6, (70, 80)).astype(np.uint8) for _ in range(8)]

    def batch(n: int) -> Batch:
        return draw_batch(
            photographs,
            list(range(8)) * (n // 8),
            n // 2,
            (64, 64),
            ["crater"],
            rng,
            synthesis=SynthesisSettings(faintest=0.6),
            augmentation=Augmentation(),
            ease=1.0,
        )

    for _ in range(40):
        losses = learner.step(batch(16), torch.randn(16, 4, 8, 8))
    assert all(np.isfinite(float(loss)) for loss in (losses.reconstruction, losses.encoder, losses.discriminator))
    test = batch(32)
    with torch.inference_mode():
        network = learner.autoencoder.eval()
        whole = network.head.whole(network.marked(test.tiles.float() / 255.0)[1])
    assert whole[:16].median() > whole[16:].median()


def test_a_crop_lies_on_the_defect_and_padding_is_marked_invalid() -> None:
    rng = np.random.default_rng(0)
    channels = np.full((50, 200, 4), 255, dtype=np.uint8)
    mask = np.zeros((50, 200), dtype=np.bool_)
    mask[10:14, 150:155] = True
    hits = 0
    for _ in range(40):
        tile, part = crop(channels, mask, (64, 64), rng)
        assert tile.shape == (64, 64, 4)
        assert (tile[50:, :, 3] == 0).all()
        assert (tile[:50, :, 3] == 255).all()
        hits += bool(part.any())
    assert hits > 30


def test_every_kind_makes_a_batch() -> None:
    rng = np.random.default_rng(0)
    photographs = [rng.integers(60, 180, (60 + i, 90)).astype(np.uint8) for i in range(4)]
    batch = draw_batch(
        photographs, [0, 1, 2, 3], 2, (64, 64), list(KINDS), rng,
        synthesis=SynthesisSettings(), augmentation=Augmentation(), ease=0.5, patches=[0, 1],
    )  # fmt: skip
    assert batch.tiles.shape == (4, 4, 64, 64)
    assert batch.tiles.dtype == torch.uint8
    assert not batch.masks[2:].any()
    assert batch.sources.tolist() == [0, 1, 2, 3]
