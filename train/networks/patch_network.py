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
from train.networks.autoencoder import Autoencoder, Measured
from train.networks.structure_losses import multi_scale_dissimilarity, valid_blocks

__all__ = [
    "PATCH_MIN_SIDE",
    "CODE_STEP",
    "PATCH_STEP",
    "PatchNetwork",
    "SiteDiscriminator",
    "check_patch_size",
    "pooled_tops",
]

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
TOP_SHARES = (0.001, 0.01, 0.03, 0.1, 0.3)
"""Of a tile's blocks, highest first, over which the map is averaged: no one share suits a pinhole and a large stain."""
LEAST_SPREAD = 0.01
"""Of a pooled top over normal photographs, in log odds."""
SUPPRESSED = -12.0
"""Logit of padding: as sure as can be that there is no defect."""
BLOCK = 4
"""Pixels along the side of a block of the map, of which the highest cell counts."""
MOST_SORTED = 3840
"""Elements that TensorRT's TopK takes at the most; larger maps are reduced to the highest of 2x2 until they fit."""
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
        self.stem = nn.Sequential(*_layer(N_CHANNELS, half, kernel=6, stride=2), *_layer(half, quarter, stride=2))
        self.quarter = nn.Sequential(*_layer(quarter, quarter))
        self.eighth = nn.Sequential(*_layer(quarter, eighth, stride=2), *_layer(eighth, eighth))
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
            *_layer(latent_dim, eighth),
            nn.Upsample(scale_factor=2, mode="nearest"),
            *_layer(eighth, quarter),
            nn.Conv2d(quarter, RECONSTRUCTED * 16, 1),
        )

    def forward(self, z: Tensor) -> Tensor:
        """Channels (B, 3, H, W) in [0, 1] of codes (B, D, H/8, W/8)."""
        return pixel_shuffle(self.layers(z), 4).sigmoid()


class DefectHead(nn.Module):
    """Shared features to a map of defects and one number for the tile."""

    def __init__(self, widths: list[int]) -> None:
        super().__init__()
        _, quarter, eighth, sixteenth = widths
        self.sixteenth = nn.Sequential(*_layer(eighth, sixteenth, stride=2), *_layer(sixteenth, sixteenth))
        self.context = nn.Conv2d(sixteenth, sixteenth, 1)
        self.joined_eighth = nn.Sequential(*_layer(sixteenth + eighth, eighth))
        self.narrowed = nn.Sequential(*_layer(eighth, quarter, kernel=1))
        self.joined_quarter = nn.Sequential(*_layer(2 * quarter, quarter), *_layer(quarter, quarter))
        self.to_map = nn.Conv2d(quarter, 4, 1)
        if self.to_map.bias is not None:
            nn.init.constant_(self.to_map.bias, -3.0)  # defects are rare
        self.up = nn.Upsample(scale_factor=2, mode="bilinear")
        self.pooling = nn.Parameter(torch.tensor([[1.0] * len(TOP_SHARES), [0.0] * len(TOP_SHARES)]))
        self.register_buffer("usual", torch.tensor([[0.0] * len(TOP_SHARES), [1.0] * len(TOP_SHARES)]))

    usual: Tensor
    """(2, S) median and standard deviation of each pooled top over photographs without a known defect"""

    def forward(self, quarter: Tensor, eighth: Tensor) -> Tensor:
        """Log odds of a defect, (B, H/2, W/2)."""
        deep = self.sixteenth(eighth)
        # The tile as a whole is what a large pale area differs from.
        deep = deep + self.context(deep.mean(dim=(2, 3), keepdim=True))
        joined = self.joined_eighth(torch.cat((self.up(deep), eighth), dim=1))
        joined = self.joined_quarter(torch.cat((self.up(self.narrowed(joined)), quarter), dim=1))
        return pixel_shuffle(self.to_map(joined), 2)[:, 0]

    def whole(self, logits: Tensor) -> Tensor:
        """Log odds (B,) that there is a defect anywhere in the map (B, H/2, W/2), for training.

        The sum of the odds that each pooled top gives, slope and offset learnt: a defect shows in one of them.
        """
        slopes, offsets = self.pooling
        return (pooled_tops(logits) * slopes.abs() + offsets).logsumexp(dim=1)

    def fit_usual(self, tops: Tensor) -> None:
        """Learn what is usual from the pooled tops of photographs (N, S), the largest over each one's tiles."""
        middle, spread = tops.median(dim=0).values, tops.std(dim=0, correction=0).clamp(min=LEAST_SPREAD)
        self.usual.copy_(torch.stack((middle, spread)))

    def most_outstanding(self, logits: Tensor) -> Tensor:
        """The pooled top (B,) of a map (B, H/2, W/2) that lies furthest above what is usual, in standard deviations.

        What the tile is judged by: the odds of `whole` are learnt on synthetic defects and their sizes.
        """
        middle, spread = self.usual
        return ((pooled_tops(logits) - middle) / spread).amax(dim=1)


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


def pooled_tops(logits: Tensor) -> Tensor:
    """Means over the highest TOP_SHARES of blocks of a map (B, H/2, W/2): (B, S)."""
    blocks = max_pool2d(logits[:, None], BLOCK // 2)[:, 0]
    return torch.stack([top_mean(blocks, share) for share in TOP_SHARES], dim=1)


def top_mean(values: Tensor, share: float) -> Tensor:
    """Mean over the highest share of each map, at least one value: (B, h, w) -> (B,)."""
    while values.shape[1] * values.shape[2] > MOST_SORTED:
        values = max_pool2d(values[:, None], 2)[:, 0]
    flat = values.flatten(1)
    return flat.topk(max(1, round(share * flat.shape[1])), dim=1).values.mean(dim=1)


def _layer(n_in: int, n_out: int, *, kernel: int = 3, stride: int = 1) -> list[nn.Module]:
    return [
        nn.Conv2d(n_in, n_out, kernel, stride=stride, padding=(kernel - 1) // 2, bias=False),
        nn.BatchNorm2d(n_out),
        nn.ReLU(inplace=True),
    ]
