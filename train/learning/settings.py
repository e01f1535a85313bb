"""What a training run is set to: written to config.json, read back by --resume and export."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from edge_runtime.errors import ConfigError
from train.learning.augmentation import AugmentSettings
from train.networks.registry import NETWORKS, NetworkName
from train.refinement.itsr import ItsrSettings
from train.refinement.settings import RobustSettings
from train.schedule import METHODS, REFINEMENTS, MethodName, RefineName, Schedule

__all__ = [
    "TrainSettings",
    "default_batch_size",
    "default_latent_dim",
    "default_schedule",
]

DecisionName = Literal["union", "fused"]
DECISIONS: tuple[DecisionName, ...] = ("union", "fused")


def default_schedule(network: NetworkName, method: MethodName, refine: RefineName) -> Schedule:
    """Epochs where the user names none.

    `mlp`: arXiv 1901.06355 section 5. Where the paper has one figure for each data set this is the AE's for MNIST
    (4000; Fashion-MNIST 10000) and re-training for Fashion-MNIST (500; MNIST 1000).
    `conv`: minutes on two CPU cores for a thousand images of 128x128. `hog`: a minute of one core for six thousand
    of 28x28 with `robust`, whose `refine` epochs screen and whose `train` epochs are those of the judging networks
    and of the last. `patch`: 22 minutes of one thread for 762 photographs of 330x280 at half scale, 9,540
    steps; its screening networks judge as well.
    """
    if network == "patch":
        return Schedule(train=150, refine=40) if refine == "robust" else Schedule(train=200)
    if network == "hog":
        return Schedule(train=20, refine=11) if refine == "robust" else Schedule(train=40)
    if network == "mlp":
        if refine == "itsr":
            return Schedule(train=500, refine=100, retrain=500)
        if refine == "robust":
            return Schedule(train=100, refine=50)
        return Schedule(train=4000 if method == "ae" else 1000)
    if refine == "itsr":
        return Schedule(train=50, refine=5, retrain=50)
    if refine == "robust":
        return Schedule(train=40, refine=20)
    return Schedule(train=100)


def default_latent_dim(network: NetworkName, method: MethodName) -> int:
    """Latent dimensions where the user names none: the paper's for `mlp` (AE 32, AAE 2), 32 for `conv`; 16 at every
    site for `patch`, whose sites stand for 8x8 pixels."""
    if network == "patch":
        return 16
    return 2 if network == "mlp" and method == "aae" else 32


def default_batch_size(network: NetworkName) -> int:
    """Images a step where the user names none: 128; 32 for `conv` and 16 for `patch`, whose maps then stay
    in the cache."""
    return {"conv": 32, "patch": 16}.get(network, 128)


def default_adversarial_weight(network: NetworkName) -> float:
    """Weight of the encoder's adversarial loss where the user names none.

    4 against the Euclidean error of `mlp` and `conv`: the codes reach the prior within short schedules (2000 T-shirts
    with 5 % boots, 40 epochs, seeds 0 and 1: ITSR's candidates held 104 and 105 of 105 boots, with 1 they held 74 and
    74). 0.02 against the summed squares of `hog`, 0.1 against the losses of `patch`.
    """
    return {"hog": 0.02, "patch": 0.1}.get(network, 4.0)


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
    """The paper names none; default_batch_size says what is used."""
    learning_rate: float = 1e-3
    """Adam's default, for autoencoder and discriminator."""
    adversarial_weight: float | None = None
    """Of the encoder's adversarial loss (nats) against the reconstruction's; None: default_adversarial_weight."""
    augment: AugmentSettings = field(default_factory=AugmentSettings)
    """How training images are changed in every batch; the defaults change nothing."""
    width: float = 1.0
    """Factor on the channels of `patch`; the other networks have none."""
    amp: bool | None = None
    """Networks compute in bfloat16 while they train, losses and everything after training in float32; None: on CUDA
    devices that have it built in."""
    seed: int = 0
    itsr: ItsrSettings = field(default_factory=ItsrSettings)
    robust: RobustSettings = field(default_factory=RobustSettings)
    decision: DecisionName | None = None
    """union: the paper's, a limit on each criterion; fused: one score, one limit at target_fpr. None: fused with
    `robust` and with network `patch`, else union."""
    target_fpr: float = 0.01
    """False-alarm rate that the fused rule's limit asks for."""

    def __post_init__(self) -> None:
        for name, value, known in (
            ("network", self.network, NETWORKS),
            ("method", self.method, METHODS),
            ("refine", self.refine, REFINEMENTS),
        ):
            if value not in known:
                raise ConfigError(f"{name} is {value!r}, expected one of {', '.join(known)}")
        if self.method == "ae" and self.refine == "itsr":
            raise ConfigError("--method ae has no prior to refine with; use --refine none or --method aae")
        if self.decision is not None and self.decision not in DECISIONS:
            raise ConfigError(f"decision is {self.decision!r}, expected one of {', '.join(DECISIONS)}")
        if self.decision == "union" and self.network == "patch":
            raise ConfigError("--decision union knows reconstruction and prior alone; network patch decides by fused")
        if self.decision == "fused" and self.refine != "robust" and self.network != "patch":
            raise ConfigError(
                "--decision fused needs out-of-fold scores, which only --refine robust makes; use --decision union"
            )
        if not 0.0 < self.target_fpr < 0.5:
            raise ConfigError(f"--target-fpr is {self.target_fpr:g}, expected a rate above 0 and below 0.5, such as 1%")
        if not (math.isfinite(self.width) and 0.1 <= self.width <= 8.0):
            raise ConfigError(f"--width is {self.width}, expected a factor from 0.1 to 8")
        if self.width != 1.0 and self.network != "patch":
            raise ConfigError(f"--width belongs to --network patch; {self.network} has one size")
        if self.network == "patch" and self.augment != AugmentSettings():
            raise ConfigError("--augment is for the other networks; patch always varies its photographs")
        if self.network == "patch" and self.refine == "itsr":
            raise ConfigError("--network patch has a code at every site, --refine itsr needs one an image; use robust")
        if self.amp and self.network == "patch":
            raise ConfigError("--amp: network patch takes bfloat16 by itself where the machine has it; leave it out")
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
    def adversary_pull(self) -> float:
        """The adversarial weight in force."""
        if self.adversarial_weight is None:
            return default_adversarial_weight(self.network)
        return self.adversarial_weight

    @property
    def rule(self) -> DecisionName:
        """The decision rule in force."""
        return self.decision or ("fused" if self.refine == "robust" or self.network == "patch" else "union")

    def to_json(self) -> dict[str, Any]:
        """The settings as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> TrainSettings:
        """The settings read back; raises ConfigError for unknown keys and values."""
        try:
            return cls(
                **{
                    **values,
                    "schedule": Schedule(**values["schedule"]),
                    "augment": AugmentSettings(**values["augment"]),
                    "itsr": ItsrSettings(**values["itsr"]),
                    "robust": RobustSettings(**values["robust"]),
                }
            )
        except (KeyError, TypeError) as error:
            raise ConfigError(f"the run's settings are of another release: {error}; train again") from error
