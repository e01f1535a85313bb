"""`features`: an adversarial autoencoder and distances at the sites of a frozen, pretrained backbone.

The encoder maps a frame to a code at every site, the decoder codes to features; what it reconstructs are the backbone's
features, each reduced at its site (site_statistics.py). Beside error and likelihood stand two distances that need no
gradient step: to the site's own distribution, and to the nearest of the features of all sites. Where it earns it, a
head on finer features joins them, which has learnt what defects look like (structure_head.py).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, softplus

from edge_runtime.errors import ConfigError
from edge_runtime.model.prior import Prior
from edge_runtime.model.score import CRITERIA, Term
from train.backbones.backbone import Backbone, measured_taps
from train.heads.structure_head import CELL, StructureHead
from train.networks.autoencoder import Autoencoder, Measured
from train.networks.spec import Architecture, NetworkSpec
from train.schedule import Schedule
from train.sites.site_statistics import Reduction, SiteStatistics, top_sites

__all__ = ["FEATURES", "FeaturesNetwork", "check_features_size", "site_features"]

SITE_CRITERIA = (*CRITERIA, "site_distance", "neighbour_distance")
"""Each the mean of the five highest sites: root mean square error of reduced features; negative log density of the code
at its site, nats; distance from the site's distribution; distance to the nearest prototype."""
HEAD_CRITERION = "defect_score"
"""The mean of the head's five highest cells, in spreads above what is usual."""
LEAST_DISTANCE = 1e-12

SITE_CONSTANTS = 2_400_000
"""Most values of the sites' whitenings, which bundle and frame time bear: 96 dimensions at 260 sites. For parts at any
angle all 152 of the trunk that ships gain .010 to .017 of AUROC over 64, two of five development sets; 96 keep a half
and more of it for a third of the constants."""
PROTOTYPES = 1000
UNITS = 64
STEPS = 24
"""Gradient steps of an epoch, however many images there are: what they start from was fitted in closed form."""

CONVOLUTION_DIM = 4
"""Of a convolution's weights."""

CHUNK = 2
"""Images of a pass through the backbone: what more of them compute leaves the cache, and the memory that the system
hands out for it takes as long as computing."""

GRID_STEP = 16
"""Pixels from one site to the next, where the backbone's deepest tap has no larger stride."""
MIN_SIDE, MAX_SIDE = 64, 1024


def check_features_size(channels: int, height: int, width: int) -> None:
    """Raise ConfigError, naming a size that would do, where the network cannot take this input."""
    for side in (height, width):
        if side % GRID_STEP or not MIN_SIDE <= side <= MAX_SIDE:
            near = GRID_STEP * round(min(max(side, MIN_SIDE), MAX_SIDE) / GRID_STEP)
            raise ConfigError(
                f"input of {height}x{width}: network features takes sides from {MIN_SIDE} to {MAX_SIDE} that are "
                f"multiples of {GRID_STEP}; try {near}"
            )


def site_features(backbone: Backbone, x: Tensor) -> Tensor:
    """The taps, each averaged over 3x3 of its sites and brought to the coarsest grid: (B, C, h, w).

    x: (B, 1 or 3, H, W) in [0, 1], of a size that check_features_size takes.
    """
    return gathered_sites(backbone(x), backbone.facts.strides)


def gathered_sites(taps: Sequence[Tensor], strides: Sequence[int]) -> Tensor:
    """Taps of these strides, each averaged over 3x3 of its sites and brought to the coarsest grid: (B, C, h, w)."""
    maps = []
    for tap, stride in zip(taps, strides, strict=True):
        smooth = avg_pool2d(tap, 3, stride=1, padding=1, count_include_pad=False)
        step = max(strides) // stride
        maps.append(avg_pool2d(smooth, step) if step > 1 else smooth)
    return torch.cat(maps, dim=1)


def head_for(backbone: Backbone) -> StructureHead:
    """An untrained head on a backbone's fine taps; raises ConfigError where it has none."""
    if not backbone.has_fine_taps:
        raise ConfigError(f"backbone {backbone.facts.name} has no fine taps for a head; train with --head none")
    device = next(backbone.parameters()).device
    strides, channels = measured_taps(lambda x: backbone.fine(x.to(device)), None, source=backbone.facts.name)
    return StructureHead(channels, strides)


@torch.inference_mode()
def features_of(backbone: Backbone, images: Tensor, device: torch.device, *, finer: int = 1) -> Tensor:
    """Features (n, C, h, w) on the CPU of uint8 images (n, C, H, W), so many times finer; CHUNK at a time."""
    parts = (part.to(device).float() / 255.0 for part in images.split(CHUNK))
    return torch.cat([site_features(backbone, reduced(part, finer)).cpu() for part in parts])


def reduced(x: Tensor, finer: int) -> Tensor:
    """Images (B, C, H, W) as the sites are made from them, (B, C, H / finer, W / finer)."""
    return avg_pool2d(x, finer) if finer > 1 else x


class FeaturesNetwork(Autoencoder):
    """Encoder, decoder and statistics at the sites of a backbone's features, and a head on its fine ones."""

    encoder: FeatureEncoder

    def __init__(
        self, backbone: Backbone, *, height: int, width: int, latent_dim: int, finer: int = 1, has_head: bool = False
    ) -> None:
        """finer: how many times finer the input is than what the sites are made from. Raises ConfigError for sizes that
        the backbone cannot take."""
        if height % finer or width % finer:
            raise ConfigError(f"input of {height}x{width}: expected multiples of {finer}, by which it is reduced")
        height, width = height // finer, width // finer
        check_features_size(3, height, width)
        backbone.check_size(height, width)
        step = max(backbone.facts.strides)
        grid = (-(-height // step), -(-width // step))
        encoder = FeatureEncoder(backbone, grid, latent_dim, finer)
        super().__init__(encoder, SiteLayers(latent_dim, encoder.dimensions, grid), latent_dim)
        self.statistics = SiteStatistics(encoder.dimensions, grid, PROTOTYPES)
        self.head = head_for(backbone) if has_head else None
        self.cells_per_site = step * finer // CELL
        self.fusion = FusionWeights(len(SITE_CRITERIA) + has_head)

    @property
    def has_joined(self) -> bool:
        """Whether the head takes part in the score."""
        return self.head is not None and self.fusion.values[-1] > 0.0

    @property
    def own_criteria(self) -> tuple[str, ...]:  # type: ignore[override]
        """Those of the sites, and the head's where it takes part."""
        return (*SITE_CRITERIA, HEAD_CRITERION) if self.has_joined else SITE_CRITERIA

    @property
    def backbone(self) -> Backbone:  # type: ignore[override]
        """What images are read through."""
        return self.encoder.backbone

    def parts(self) -> dict[str, nn.Module]:
        """What is fitted and trained; the backbone is kept in files of its own."""
        named = {
            "reduction": self.encoder.statistics,
            "code": self.encoder.to_code,
            "decoder": self.decoder,
            "statistics": self.statistics,
            "fusion": self.fusion,
        }
        return named if self.head is None else {**named, "head": self.head}

    def terms(self, prior: Prior) -> dict[str, Term]:
        """The criteria that are used, weighed by `fusion`."""
        floors = {"neg_log_prior": prior.floor}
        names = (*SITE_CRITERIA, HEAD_CRITERION)
        return {
            name: Term(
                weight=weight, floor=floors.get(name, 0.0), transform="linear" if name == HEAD_CRITERION else "log"
            )
            for name, weight in zip(names, self.fusion.values, strict=False)
            if weight > 0.0
        }

    def measure(self, x: Tensor, prior: Prior) -> Measured:
        """The outputs of the exported detector for images (B, 1 or 3, H, W) in [0, 1].

        Where the head takes part, the map has a cell for CELL x CELL pixels: softplus of what site and cell add to the
        score.
        """
        if self.head is None or not self.has_joined:
            return super().measure(x, prior)
        features, fine = self.encoder.features_and_fine(x)
        sites = self.measure_prepared(features, prior)
        outstanding = self.head.outstanding(self.head(*self.head.gathered(fine)))
        criteria = torch.cat((sites.criteria, top_sites(outstanding)[:, None]), dim=1)
        distance = interpolate(
            sites.anomaly_map.clamp(min=LEAST_DISTANCE).log()[:, None],
            scale_factor=float(self.cells_per_site),
            mode="bilinear",
        )[:, 0]
        of_distance, of_head = sum(self.fusion.values[len(CRITERIA) : -1]), self.fusion.values[-1]
        return Measured(criteria, sites.latent, softplus(of_distance * distance + of_head * outstanding))

    def prepare(self, x: Tensor) -> Tensor:
        """Features (B, C, h, w) of images (B, 1 or 3, H, W) in [0, 1]."""
        return self.encoder.features(x)

    def measure_prepared(self, prepared: Tensor, prior: Prior) -> Measured:
        """The outputs of the exported detector; the map is the site distance."""
        projected = self.encoder.statistics.project(prepared)
        reduced = projected - self.encoder.statistics.site_mean
        z = self.encoder.to_code(reduced)
        error = (reduced - self.decoder(z)).square().mean(dim=1).sqrt()
        distance = self.statistics.site_distance(reduced)
        maps = (error, prior.neg_log_density(z), distance, self.statistics.neighbour_distance(projected))
        return Measured(torch.stack([top_sites(sites) for sites in maps], dim=1), z, distance)


class FeatureEncoder(nn.Module):
    """Frames to codes at the sites."""

    def __init__(self, backbone: Backbone, grid: tuple[int, int], latent_dim: int, finer: int = 1) -> None:
        super().__init__()
        self.backbone = backbone
        self.finer = finer
        # What half precision holds: FP16 detectors have the very same, and a bundle packs them to half.
        for weights in (*backbone.parameters(), *backbone.buffers()):
            if weights.dim() == CONVOLUTION_DIM and weights.dtype == torch.float32:
                weights.data.copy_(weights.half().float())
        channels = sum(backbone.facts.channels)
        self.dimensions = min(channels, math.isqrt(SITE_CONSTANTS // (grid[0] * grid[1])))
        self.statistics = Reduction(channels, self.dimensions, grid)
        self.to_code = SiteLayers(self.dimensions, latent_dim, grid)

    def features(self, x: Tensor) -> Tensor:
        """Features (B, C, h, w) of images (B, 1 or 3, H, W) in [0, 1]."""
        return site_features(self.backbone, reduced(x, self.finer))

    def features_and_fine(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Features as `features` gives them, and the backbone's fine taps of the image as it comes."""
        if self.finer > 1:
            return self.features(x), self.backbone.fine(x)
        taps, fine = self.backbone.with_fine(x)
        return gathered_sites(taps, self.backbone.facts.strides), fine

    def forward(self, x: Tensor) -> Tensor:
        """Codes (B, D, h, w) of images (B, 1 or 3, H, W) in [0, 1]."""
        z: Tensor = self.to_code(self.statistics(self.features(x)))
        return z


class SiteLayers(nn.Module):
    """Two layers of 1x1 convolutions that know their site's place by a learnt offset."""

    def __init__(self, n_in: int, n_out: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.hidden = nn.Conv2d(n_in, UNITS, 1)
        self.place = nn.Parameter(torch.zeros(1, UNITS, *grid))
        self.activation = nn.LeakyReLU(0.1)
        self.out = nn.Conv2d(UNITS, n_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, n_in, h, w) -> (B, n_out, h, w)."""
        y: Tensor = self.out(self.activation(self.hidden(x) + self.place))
        return y


class FusionWeights(nn.Module):
    """Weights of the criteria in the fused score; zero for one that is not used."""

    weights: Tensor
    values: tuple[float, ...]
    """The weights, as constants of a graph and for a choice that tracing cannot take back"""

    def __init__(self, n_criteria: int) -> None:
        super().__init__()
        self.register_buffer("weights", torch.zeros(n_criteria))
        self.values = (0.0,) * n_criteria
        self.register_load_state_dict_post_hook(lambda module, _: module.take(module.weights))

    def take(self, weights: Tensor) -> None:
        """Weigh by these (K,)."""
        self.weights.copy_(weights)
        self.values = tuple(self.weights.tolist())


def _built(architecture: Architecture) -> FeaturesNetwork:
    if architecture.backbone is None:
        raise ConfigError("network features needs a backbone, and was given none")
    return FeaturesNetwork(
        architecture.backbone,
        height=architecture.height,
        width=architecture.width,
        latent_dim=architecture.latent_dim,
        finer=architecture.finer,
        has_head=architecture.has_head,
    )


FEATURES = NetworkSpec(
    name="features",
    smallest_side=32,
    check_size=check_features_size,
    build=_built,
    schedules={"none": Schedule(train=12), "robust": Schedule(train=12)},
    latent_dims={"aae": 16, "ae": 16},  # at every site
    batch_size=16,
    steps_per_epoch=STEPS,
    adversarial_weight=0.1,
    code_at_every_site=True,
    always_fused=True,
    augments_itself=True,
    chooses_precision=True,
    one_process=True,
    photo_pixels=256 * 256,
    reads_backbone=True,
    fewest_images=5,
)
