"""The numbers of `--refine robust`: chosen on pairs of classes that no table reports, see docs/results/robust.md."""

from __future__ import annotations

import math
from dataclasses import dataclass

from edge_runtime.errors import ConfigError

__all__ = ["RobustSettings"]


MOST_COMPONENTS = 32


@dataclass(frozen=True, kw_only=True, slots=True)
class RobustSettings:
    """Cross-fitted trimming, exposure, and the fused score."""

    folds: int = 3
    """Parts of the training set; every image is judged by a network that trained on the others."""
    screen_keep: float = 0.6
    """Share of its images that a screening network trains on, the best-fitting ones of the epoch before."""
    screen_latent: int = 16
    """Latent dimensions of the screening networks: little capacity goes to what most images share."""
    reject_share: float = 0.2
    """Share of images, highest screening scores first, that the later networks do not train on. Against a
    tenth, clean data lose some .005 AUROC on unseen classes; a contamination beyond it leaves a remainder."""
    code_noise: float = 0.05
    """Standard deviation of the noise on codes in training, in units of the prior's: neighbours decode alike."""
    exposure_spreads: float = 3.0
    """What an image that looks wholly like those that a person rejected gets on top of its score, in spreads (median
    minus 16 % quantile) of the scores: bounded, so that a wrong word costs little. Exposure to images that only a
    network rejected costs more than it gains: a clean set's tails fire as strongly as a contaminating class."""
    components: int = 1
    """Normal densities whose mixture is fitted to the codes of the judging networks and the last; 1: one, with full
    covariance. More let rare modes keep a place of their own, be they rare products or anomalies. The screening
    networks, which look for what is rare, keep to one."""
    discriminator_units: int = 96
    """Of both hidden layers."""

    def __post_init__(self) -> None:
        if self.folds < 2:
            raise ConfigError(
                f"folds are {self.folds}, expected at least 2: an image is judged by what has not seen it"
            )
        for name, share, least in (("screen keep", self.screen_keep, 0.1), ("reject share", self.reject_share, 0.0)):
            if not least <= share <= 1.0 or (name == "reject share" and share >= 0.5):
                raise ConfigError(f"{name} is {share}, expected a share: {least} or more, and at most half rejected")
        for name, value in (("code noise", self.code_noise), ("exposure spreads", self.exposure_spreads)):
            if not (math.isfinite(value) and value >= 0.0):
                raise ConfigError(f"{name} is {value}, expected 0 or more")
        if self.screen_latent < 1:
            raise ConfigError(f"screening latent dimensions are {self.screen_latent}, expected at least 1")
        if not 1 <= self.components <= MOST_COMPONENTS:
            raise ConfigError(
                f"--mixture is {self.components}, expected 1 to {MOST_COMPONENTS} normal densities of the codes"
            )
        if self.discriminator_units < 1:
            raise ConfigError(f"discriminator units are {self.discriminator_units}, expected at least 1")
