"""Architecture, schedule and cost of the methods with networks, by arXiv 1901.06355 section 5."""

from __future__ import annotations

from dataclasses import dataclass, replace

from benchmarks.paper.protocol import Setting
from train.calibration.thresholds import LimitSettings
from train.learning.settings import TrainSettings
from train.networks.hog_network import HOG
from train.networks.mlp import MLP, MLP_HIDDEN
from train.schedule import MethodName, RefineName, Schedule
from train.strategies.plain import phases_of

__all__ = ["PAPER_METHODS", "Cost", "cost_of", "paper_settings", "robust_settings"]

PAPER_METHODS = ("ae", "aae", "itsr")

FASHION_AE_EPOCHS = 10_000
MNIST_RETRAIN_EPOCHS = 1_000
PIXELS = 28 * 28
N_NORMAL = {"mnist": 5923, "fashion-mnist": 6000}
"""Training images of class 0."""


def paper_settings(setting: Setting, method: str, seed: int, *, scale: float, cap: int | None) -> TrainSettings:
    """The settings of a run; `mlp`'s defaults, and the epochs that differ between the paper's two data sets.

    scale: times all epochs; cap: the most epochs of a phase, after that.
    """
    name: MethodName = "ae" if method == "ae" else "aae"
    refine: RefineName = "itsr" if method == "itsr" else "none"
    schedule = MLP.schedule(name, refine)
    if method == "ae" and setting.pair.folder == "fashion-mnist":
        schedule = replace(schedule, train=FASHION_AE_EPOCHS)
    if method == "itsr" and setting.pair.folder == "mnist":
        schedule = replace(schedule, retrain=MNIST_RETRAIN_EPOCHS)
    schedule = schedule.scaled(scale)
    if cap is not None:
        schedule = Schedule(
            train=min(cap, schedule.train), refine=min(cap, schedule.refine), retrain=min(cap, schedule.retrain)
        )
    return _mlp_settings(name, refine, schedule, seed)


ROBUST_TARGET_FPR = 0.1
"""The paper's own quantile, p90, here of out-of-fold scores: one label-free rule for every cell."""


def robust_settings(seed: int) -> TrainSettings:
    """The product's own refinement on its own network, with its defaults; the schedule is not scaled."""
    return TrainSettings(
        network="hog",
        method="aae",
        refine="robust",
        latent_dim=HOG.latent_dim("aae"),
        schedule=HOG.schedule("aae", "robust"),
        batch_size=HOG.batch_size,
        seed=seed,
        limit=LimitSettings(rule="conformal", target_fpr=ROBUST_TARGET_FPR),
    )


def _mlp_settings(method: MethodName, refine: RefineName, schedule: Schedule, seed: int) -> TrainSettings:
    return TrainSettings(
        network="mlp",
        method=method,
        refine=refine,
        latent_dim=MLP.latent_dim(method),
        schedule=schedule,
        batch_size=MLP.batch_size,
        seed=seed,
    )


@dataclass(frozen=True, slots=True)
class Cost:
    """What a run of network `mlp` takes, counted, not measured."""

    steps: int
    flops: float
    """Of the matrix products: two for each weight and image forwards, four back"""
    bytes: float
    """Weights, gradients and Adam's moments through memory, float32, once an operation: a lower bound"""


def cost_of(settings: TrainSettings, setting: Setting) -> Cost:
    """The cost of a run if no image leaves its training set; alpha and class sizes give the number of images."""
    n_images = N_NORMAL[setting.pair.folder] / (1.0 - setting.alpha)
    steps = sum(round(phase.epochs * n_images / settings.batch_size) for phase in phases_of(settings))
    dense = PIXELS * MLP_HIDDEN + MLP_HIDDEN**2 + MLP_HIDDEN * settings.latent_dim
    autoencoder = 2 * dense
    adversary = settings.latent_dim * MLP_HIDDEN + MLP_HIDDEN**2 + MLP_HIDDEN if settings.method == "aae" else 0
    # The adversary: forwards and back to the codes for the encoder, then forwards and back on draws and codes.
    products = 6 * autoencoder + (4 + 2 * 6) * adversary
    # Forwards and back read a weight, the gradient is written; Adam reads four numbers and writes three.
    traffic = 4 * (3 + 7) * (autoencoder + adversary)
    return Cost(steps, float(steps) * settings.batch_size * products, float(steps) * traffic)
