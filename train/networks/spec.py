"""What the rest of the program asks of a network before there is one: its defaults, and what it takes and refuses.

Each network's module ends with its NetworkSpec; registry.py maps names to them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from train.backbones.backbone import Backbone
from train.networks.autoencoder import Autoencoder
from train.schedule import MethodName, RefineName, Schedule

__all__ = ["Architecture", "NetworkSpec"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Architecture:
    """What a network is built to."""

    channels: int
    height: int
    width: int
    latent_dim: int
    """Of the whole image, or of every site"""
    batch_norm: bool = True
    """Whether `mlp` normalises after each hidden encoder layer; the other networks always do, or never"""
    width_factor: float = 1.0
    """On the channels of every layer, where the spec `takes_width`"""
    backbone: Backbone | None = None
    """What the network reads images through, where the spec `reads_backbone`"""
    finer: int = 1
    """How many times finer the input is than what a backbone's sites are made from"""
    has_head: bool = False
    """Whether a head on the backbone's fine features may take part"""


@dataclass(frozen=True, kw_only=True, slots=True)
class NetworkSpec:
    """One network, as settings, data and trainers see it."""

    name: str
    smallest_side: int
    """Pixels of the shorter side of an image, below which it is left out."""
    check_size: Callable[[int, int, int], None]
    """Of channels, height and width of the input (pixels); raises ConfigError, naming sizes that would do."""
    build: Callable[[Architecture], Autoencoder]
    """An untrained network, its weights from torch's global generator; called through build_autoencoder."""

    schedules: Mapping[RefineName, Schedule]
    """Epochs where the user names none, of `none` and each refinement that trains it well."""
    ae_schedules: Mapping[RefineName, Schedule] = field(default_factory=dict)
    """Those that are others with method ae."""
    latent_dims: Mapping[MethodName, int]
    """Latent dimensions where the user names none."""
    batch_size: int = 128
    """Images a step where the user names none."""
    steps_per_epoch: int | None = None
    """None: as many as show every image once."""
    adversarial_weight: float = 4.0
    """Of the encoder's adversarial loss (nats) against the reconstruction's where the user names none.

    4 against the Euclidean error of `mlp` and `conv`: the codes reach the prior within short schedules (2000 T-shirts
    with 5 % boots, 40 epochs, seeds 0 and 1: ITSR's candidates held 104 and 105 of 105 boots, with 1 they held 74 and
    74).
    """

    cuts_tiles: bool = False
    """Trains on photographs of any size, held whole as a PhotographStore: grey, self-referenced, in tiles. Else on
    images of one size."""
    code_at_every_site: bool = False
    """Codes are (B, D, h, w); ITSR, which needs one an image, is refused."""
    always_fused: bool = False
    """Has criteria that the union rule knows nothing of, so it decides by the fused one whatever the refinement."""
    takes_width: bool = False
    """--width makes it wider or narrower."""
    augments_itself: bool = False
    """Varies its images by itself; --augment is refused."""
    chooses_precision: bool = False
    """Trains in bfloat16 where the device has it; --amp is refused."""
    photo_pixels: int | None = None
    """Pixels of an input for photographs where no size is named, in their own aspect; None: a square of 128"""
    reads_backbone: bool = False
    """Works on a pretrained backbone's features: --backbone names it."""
    fewest_images: int = 16
    """Images that a run needs: fewer give other networks neither a batch nor a p90."""
    one_process: bool = False
    """Cannot share its batches among processes."""

    def schedule(self, method: MethodName, refine: RefineName) -> Schedule:
        """Epochs where the user names none; those without refinement where `schedules` has none for it."""
        schedules = {**self.schedules, **(self.ae_schedules if method == "ae" else {})}
        return schedules.get(refine, schedules["none"])

    def latent_dim(self, method: MethodName) -> int:
        """Latent dimensions where the user names none."""
        return self.latent_dims[method]
