"""What a training run is set to: written to config.json, read back by --resume and export."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from edge_runtime.errors import ConfigError
from train.backbones.loading import SHIPPED
from train.calibration.thresholds import LimitSettings
from train.learning.augmentation import AugmentSettings
from train.networks.registry import NETWORKS, NetworkName, network_spec
from train.networks.spec import NetworkSpec
from train.refinement.itsr import ItsrSettings
from train.refinement.settings import RobustSettings
from train.schedule import METHODS, REFINEMENTS, MethodName, RefineName, Schedule

__all__ = ["HEADS", "HeadName", "HeadSettings", "TrainSettings"]

DecisionName = Literal["union", "fused"]
DECISIONS: tuple[DecisionName, ...] = ("union", "fused")
HeadName = Literal["auto", "try", "none"]
HEADS: tuple[HeadName, ...] = ("auto", "try", "none")


@dataclass(frozen=True, kw_only=True, slots=True)
class HeadSettings:
    """The head of `features`, which learns synthetic defects."""

    mode: HeadName = "auto"
    """try: it joins the score where it tells kinds of defects that it was not trained on; auto: only tried where
    photographs differ from each other at every place; train/runs/settling.py settles it"""
    epochs: int = 12
    """Of each of its three trainings"""

    def __post_init__(self) -> None:
        if self.mode not in HEADS:
            raise ConfigError(f"--head is {self.mode!r}, expected one of {', '.join(HEADS)}")
        if self.epochs < 1:
            raise ConfigError(f"the head's epochs are {self.epochs}, expected 1 or more")


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainSettings:
    """Network, method and optimisation of one run."""

    network: NetworkName
    method: MethodName = "aae"
    """aae: adversarial training against N(0, I), union of both criteria; ae: conventional, error threshold alone."""
    refine: RefineName = "none"
    latent_dim: int
    schedule: Schedule
    batch_size: int
    """The paper names none; the network's spec says what is used."""
    learning_rate: float = 1e-3
    """Adam's default, for autoencoder and discriminator."""
    adversarial_weight: float | None = None
    """Of the encoder's adversarial loss (nats) against the reconstruction's; None: the network's own."""
    augment: AugmentSettings = field(default_factory=AugmentSettings)
    """How training images are changed in every batch; the defaults change nothing."""
    width: float = 1.0
    """Factor on the channels of every layer, of networks that take it."""
    amp: bool | None = None
    """Networks compute in bfloat16 while they train, losses and everything after training in float32; None: on CUDA
    devices that have it built in."""
    seed: int = 0
    itsr: ItsrSettings = field(default_factory=ItsrSettings)
    robust: RobustSettings = field(default_factory=RobustSettings)
    decision: DecisionName | None = None
    """union: the paper's, a limit on each criterion; fused: one score, one limit. None: fused with
    `robust` and with networks that are always fused, else union."""
    backbone: str = SHIPPED
    """Of networks that read through one: the shipped one, or the file that it came in; a run folder keeps a copy"""
    limit: LimitSettings = field(default_factory=LimitSettings)
    """Where the fused rule's limit is to lie."""
    head: HeadSettings = field(default_factory=HeadSettings)
    """Of networks that read through a backbone."""

    def __post_init__(self) -> None:
        spec = self.spec
        for name, value, known in (("method", self.method, METHODS), ("refine", self.refine, REFINEMENTS)):
            if value not in known:
                raise ConfigError(f"{name} is {value!r}, expected one of {', '.join(known)}")
        if self.method == "ae" and self.refine == "itsr":
            raise ConfigError("--method ae has no prior to refine with; use --refine none or --method aae")
        if self.decision is not None and self.decision not in DECISIONS:
            raise ConfigError(f"decision is {self.decision!r}, expected one of {', '.join(DECISIONS)}")
        if self.decision == "union" and spec.always_fused:
            raise ConfigError(
                f"--decision union knows reconstruction and prior alone; network {self.network} decides by fused"
            )
        if self.decision == "fused" and self.refine != "robust" and not spec.always_fused:
            raise ConfigError(
                "--decision fused needs out-of-fold scores, which only --refine robust makes; use --decision union"
            )
        if not (math.isfinite(self.width) and 0.1 <= self.width <= 8.0):
            raise ConfigError(f"--width is {self.width}, expected a factor from 0.1 to 8")
        if self.width != 1.0 and not spec.takes_width:
            scalable = " or ".join(name for name, other in NETWORKS.items() if other.takes_width)
            raise ConfigError(f"--width belongs to --network {scalable}; {self.network} has one size")
        if spec.augments_itself and self.augment != AugmentSettings():
            raise ConfigError(f"--augment is for the other networks; {self.network} always varies its photographs")
        if spec.code_at_every_site and self.refine == "itsr":
            raise ConfigError(
                f"--network {self.network} has a code at every site, --refine itsr needs one an image; use robust"
            )
        if self.amp and spec.chooses_precision:
            raise ConfigError(
                f"--amp: network {self.network} takes bfloat16 by itself where the machine has it; leave it out"
            )
        if self.backbone != SHIPPED and not spec.reads_backbone:
            raise ConfigError(f"--backbone belongs to --network features; {self.network} reads pixels")
        if self.head.mode == "try" and not spec.reads_backbone:
            raise ConfigError(f"--head try belongs to --network features; {self.network} has no head to try")
        if self.latent_dim < 1:
            raise ConfigError(f"--latent is {self.latent_dim}, expected 1 or more")
        if self.batch_size < 2:
            raise ConfigError(f"--batch is {self.batch_size}, expected 2 or more: batch normalisation needs two")
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise ConfigError(f"learning rate is {self.learning_rate}, expected a number above 0")
        if self.adversarial_weight is not None and not 0.0 <= self.adversarial_weight < math.inf:
            raise ConfigError(f"adversarial weight is {self.adversarial_weight}, expected 0 or more")
        if not 0 <= self.seed < 2**63:
            raise ConfigError(f"--seed is {self.seed}, expected 0 or more, below 2^63")

    @property
    def spec(self) -> NetworkSpec:
        """What there is to know of the network."""
        return network_spec(self.network)

    @property
    def adversary_pull(self) -> float:
        """The adversarial weight in force."""
        return self.spec.adversarial_weight if self.adversarial_weight is None else self.adversarial_weight

    @property
    def rule(self) -> DecisionName:
        """The decision rule in force."""
        return self.decision or ("fused" if self.refine == "robust" or self.spec.always_fused else "union")

    @property
    def has_head(self) -> bool:
        """Whether the network has a head that may join."""
        return self.spec.reads_backbone and self.head.mode != "none"

    @property
    def makes_folds(self) -> bool:
        """Whether images are judged by networks that have not seen their fold, which no group should be torn by."""
        return self.refine == "robust" or self.spec.reads_backbone

    def to_json(self) -> dict[str, Any]:
        """The settings as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> TrainSettings:
        """The settings read back; raises ConfigError for unknown keys and values."""
        try:
            rest = dict(values)
            # Runs of before knew the conformal rule alone.
            before = {"rule": "conformal", "target_fpr": rest.pop("target_fpr", None)}
            return cls(
                **{
                    **rest,
                    "limit": LimitSettings(**rest.get("limit", before)),
                    "head": HeadSettings(**rest.get("head", {"mode": "none"})),
                    "schedule": Schedule(**values["schedule"]),
                    "augment": AugmentSettings(**values["augment"]),
                    "itsr": ItsrSettings(**values["itsr"]),
                    "robust": RobustSettings(**values["robust"]),
                }
            )
        except (KeyError, TypeError) as error:
            raise ConfigError(f"the run's settings are of another release: {error}; train again") from error
