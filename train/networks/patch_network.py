"""`patch`: fully convolutional, a code at every site, and a head that marks defects; for textures and large frames.

The input is a self-referenced tile (edge_runtime/model/self_reference.py). Encoder, decoder and discriminator are an
adversarial autoencoder whose prior holds at every site; the head shares the encoder, in the manner of a U-Net, and is
trained on synthetic defects (DRAEM: Zavrtanik et al. 2021, arXiv 2108.07610). Skips lead into the head alone.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import max_pool2d, pixel_shuffle

from edge_runtime.errors import ConfigError
from edge_runtime.model.prior import Prior
from edge_runtime.model.score import CRITERIA, Term, reconstruction_error
from edge_runtime.model.self_reference import MASK, N_CHANNELS, NEUTRAL, VALID
from train.heads.patch_head import BLOCK, DefectHead, conv_layer, top_mean
from train.networks.autoencoder import Autoencoder, Measured
from train.networks.spec import NetworkSpec
from train.networks.structure_losses import multi_scale_dissimilarity, valid_blocks
from train.schedule import Schedule

__all__ = ["CODE_STEP", "PATCH", "PATCH_STEP", "PatchNetwork", "SiteDiscriminator", "check_patch_size"]

PATCH_MIN_SIDE = 16
"""Pixels of an image; smaller than a tile is continued by reflection, and below this is nothing to reflect."""

PATCH_STEP = 16
"""The head halves four times."""
CODE_STEP = 8
"""Pixels from one code to the next."""
MIN_SIDE, MAX_SIDE = 64, 512

WIDTHS = (16, 32, 64, 96)
"""Channels at a half, a quarter, an eighth and a sixteenth of the resolution, at width 1. Full resolution has no
feature map: memory traffic would take most of the time."""
RECONSTRUCTED = 3
"""Channels that are reconstructed: all but the mask."""
CONTRAST = (4.0, 12.0, 12.0)
"""Factors on the input channels, so that each varies by about one: grey levels vary by a quarter of the range, what
is left without the medians by a twelfth."""
SUPPRESSED = -12.0
"""Logit of padding: as sure as can be that there is no defect."""
STRUCTURE_SHARE = 0.01
"""Of the sites, most dissimilar first, whose mean is the structural error."""


def check_patch_size(channels: int, height: int, width: int) -> None:
    """Raise ConfigError, naming sizes that would do, where the network cannot take this tile."""
    if channels != N_CHANNELS:
        raise ConfigError(
            f"network patch takes the {N_CHANNELS} channels of self-referenced grey, not {channels}; "
            "leave --channels out, colour is converted"
        )
    for side in (height, width):
        if side % PATCH_STEP or not MIN_SIDE <= side <= MAX_SIDE:
            near = PATCH_STEP * round(min(max(side, MIN_SIDE), MAX_SIDE) / PATCH_STEP)
            raise ConfigError(
                f"tile of {height}x{width}: network patch takes sides from {MIN_SIDE} to {MAX_SIDE} that are multiples "
                f"of {PATCH_STEP}; try {near}"
            )


class PatchNetwork(Autoencoder):
    """Encoder with a code at every eighth pixel, decoder, and a head for the map of defects."""

    own_criteria = (*CRITERIA, "structural_error", "defect_score")
    """After the two that every network has: the mean gradient dissimilarity where it is largest, 0 to 1, and the most
    outstanding of the map's pooled tops, in standard deviations over photographs that were trained on."""

    encoder: PatchEncoder

    def __init__(self, *, channels: int, height: int, width: int, latent_dim: int, factor: float = 1.0) -> None:
        """factor: on the number of channels of every layer. Raises ConfigError for tiles it cannot take."""
        check_patch_size(channels, height, width)
        widths = [8 * max(1, round(factor * n / 8)) for n in WIDTHS]
        super().__init__(PatchEncoder(widths, latent_dim), PatchDecoder(widths, latent_dim), latent_dim)
        self.head = DefectHead(widths)
        self.fusion = Fusion(len(self.own_criteria))

    def parts(self) -> dict[str, nn.Module]:
        """Encoder, decoder, head, and the weights of the fused score."""
        return {**super().parts(), "head": self.head, "fusion": self.fusion}

    def terms(self, prior: Prior) -> dict[str, Term]:
        """The weights that tell held-out synthetic defects from none best; see Fusion."""
        weights = self.fusion.weights.tolist()
        log_terms = {
            "reconstruction_error": Term(weight=weights[0]),
            "neg_log_prior": Term(weight=weights[1], floor=prior.floor),
            "structural_error": Term(weight=weights[2]),
        }
        used = {name: term for name, term in log_terms.items() if term.weight > 0.0}
        return {**used, "defect_score": Term(weight=weights[3], transform="linear")}

    def marked(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """For tiles (B, 4, H, W) in [0, 1]: codes (B, D, H/8, W/8), log odds of a defect (B, H/2, W/2)."""
        quarter, eighth = self.encoder.features(x)
        logits = self.head(quarter, eighth)
        valid = valid_blocks(x[:, MASK])  # a cell with padding in it counts as padding
        logits = logits * valid + SUPPRESSED * (1.0 - valid)
        return self.encoder.code(eighth), logits

    def valid_sites(self, x: Tensor) -> Tensor:
        """1 for each code (B, H/8, W/8) whose pixels are all valid, 0 for padding; x: (B, 4, H, W)."""
        return valid_blocks(valid_blocks(valid_blocks(x[:, MASK])))

    def measure_prepared(self, prepared: Tensor, prior: Prior) -> Measured:
        """The outputs of the exported detector for tiles (B, 4, H, W) in [0, 1]; the map has half their resolution."""
        z, logits = self.marked(prepared)
        x_hat = self.decoder(z)  # (B, 3, H, W)
        valid = prepared[:, MASK:]  # (B, 1, H, W)
        x = prepared[:, :RECONSTRUCTED]
        dissimilar = multi_scale_dissimilarity(x[:, :1], x_hat[:, :1], valid)[1]  # (B, 1, H/2 - 2, W/2 - 2)
        B, D, h, w = z.shape
        surprise = prior.neg_log_density(z.permute(0, 2, 3, 1).reshape(B * h * w, D)).reshape(B, h, w)
        site_valid = self.valid_sites(prepared)
        surprise = surprise * site_valid + prior.floor * (1.0 - site_valid)
        criteria = (
            reconstruction_error(x * valid, x_hat * valid),
            top_mean(surprise, STRUCTURE_SHARE),
            top_mean(max_pool2d(dissimilar, BLOCK // 2)[:, 0], STRUCTURE_SHARE),
            self.head.most_outstanding(logits),
        )
        return Measured(torch.stack(criteria, dim=1), z, nn.functional.softplus(logits))


class PatchEncoder(nn.Module):
    """Tiles to codes, and to the features that the head shares."""

    def __init__(self, widths: list[int], latent_dim: int) -> None:
        super().__init__()
        half, quarter, eighth, _ = widths
        self.stem = nn.Sequential(
            *conv_layer(N_CHANNELS, half, kernel=6, stride=2), *conv_layer(half, quarter, stride=2)
        )
        self.quarter = nn.Sequential(*conv_layer(quarter, quarter))
        self.eighth = nn.Sequential(*conv_layer(quarter, eighth, stride=2), *conv_layer(eighth, eighth))
        self.to_code = nn.Conv2d(eighth, latent_dim, 1)
        self.register_buffer("center", torch.tensor([0.5, NEUTRAL / VALID, NEUTRAL / VALID]).reshape(1, 3, 1, 1))
        self.register_buffer("contrast", torch.tensor(CONTRAST).reshape(1, 3, 1, 1))

    center: Tensor
    contrast: Tensor

    def features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Features at a quarter and an eighth of the resolution, of tiles (B, 4, H, W) in [0, 1]."""
        valid = x[:, MASK:]
        standard = (x[:, :RECONSTRUCTED] - self.center) * self.contrast * valid
        quarter = self.quarter(self.stem(torch.cat((standard, valid), dim=1)))
        return quarter, self.eighth(quarter)

    def code(self, eighth: Tensor) -> Tensor:
        """Codes (B, D, H/8, W/8) of features at an eighth of the resolution."""
        z: Tensor = self.to_code(eighth)
        return z

    def forward(self, x: Tensor) -> Tensor:
        """Codes (B, D, H/8, W/8) of tiles (B, 4, H, W) in [0, 1]."""
        return self.code(self.features(x)[1])


class PatchDecoder(nn.Module):
    """Codes to the three channels that describe the photograph."""

    def __init__(self, widths: list[int], latent_dim: int) -> None:
        super().__init__()
        _, quarter, eighth, _ = widths
        self.layers = nn.Sequential(
            *conv_layer(latent_dim, eighth),
            nn.Upsample(scale_factor=2, mode="nearest"),
            *conv_layer(eighth, quarter),
            nn.Conv2d(quarter, RECONSTRUCTED * 16, 1),
        )

    def forward(self, z: Tensor) -> Tensor:
        """Channels (B, 3, H, W) in [0, 1] of codes (B, D, H/8, W/8)."""
        return pixel_shuffle(self.layers(z), 4).sigmoid()


class Fusion(nn.Module):
    """Weights of the criteria in the fused score, fitted on held-out synthetic defects: no label, no real defect."""

    weights: Tensor

    def __init__(self, n_criteria: int) -> None:
        super().__init__()
        weights = torch.zeros(n_criteria)
        weights[-1] = 1.0
        self.register_buffer("weights", weights)


class SiteDiscriminator(nn.Module):
    """Tells draws from the prior from codes, site by site: convolutions of 1x1."""

    def __init__(self, latent_dim: int, units: int = 64) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(latent_dim, units, 1),
            nn.LeakyReLU(0.1),
            nn.Conv2d(units, units, 1),
            nn.LeakyReLU(0.1),
            nn.Conv2d(units, 1, 1),
        )

    def forward(self, z: Tensor) -> Tensor:
        """Logits (B, h, w) that codes (B, D, h, w) came from the prior."""
        logits: Tensor = self.layers(z)
        return logits[:, 0]


PATCH = NetworkSpec(
    name="patch",
    smallest_side=PATCH_MIN_SIDE,
    check_size=check_patch_size,
    build=lambda architecture: PatchNetwork(
        channels=architecture.channels,
        height=architecture.height,
        width=architecture.width,
        latent_dim=architecture.latent_dim,
        factor=architecture.width_factor,
    ),
    # 22 minutes of one thread for 762 photographs of 330x280 at half scale, 9,540 steps; the screening networks judge
    # as well.
    schedules={"none": Schedule(train=200), "robust": Schedule(train=150, refine=40)},
    latent_dims={"aae": 16, "ae": 16},  # at every site, which stands for 8x8 pixels
    batch_size=16,  # its maps then stay in the cache
    adversarial_weight=0.1,
    cuts_tiles=True,
    code_at_every_site=True,
    always_fused=True,
    takes_width=True,
    augments_itself=True,
    chooses_precision=True,
    one_process=True,
)
