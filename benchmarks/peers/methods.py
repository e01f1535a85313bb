"""The methods that stand beside the product: what each is, and what it makes of one split."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.industrial import site_gaussian
from benchmarks.industrial.cells import Split, Variant, lay_out
from benchmarks.industrial.product_road import Failure, Road
from benchmarks.industrial.site_gaussian import SiteGaussian, site_features, trunk
from benchmarks.peers import memory
from benchmarks.peers.memory import PatchCore, SoftPatch
from edge_runtime.errors import MissingExtraError
from edge_runtime.metrics import auroc, average_precision

__all__ = ["ANOMALIB", "GAUSSIAN", "PEERS", "Peer", "called", "measured_by_anomalib", "measured_here", "variant_of"]

ROOT = Path(__file__).resolve().parents[2]

GAUSSIAN = "per-site Gaussian"
"""The reference that the product is held to."""
ANOMALIB = "2.7.0"
"""As benchmarks/peers/anomalib.txt pins it."""
FEWER = 0.01
"""Share of the patches in the coreset of PatchCore-1."""
MEMORY = f"recipe {memory.RECIPE}, features {site_gaussian.RECIPE}"
BY_ANOMALIB = f"anomalib {ANOMALIB}, recipe 1"


class Scorer(Protocol):
    """A method that has seen its training images."""

    def scores(self, features: Tensor) -> NDArray[np.float64]:
        """(N,), higher = more anomalous, for features (N, H, W, C)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Peer:
    """A method that is no part of the product."""

    name: str
    """Among the variants of a table"""
    source: str
    """Another one means other figures"""
    about: str
    """For the page: a clause"""
    fit: Callable[[Tensor, int], Scorer] | None = None
    """From features of the training images and a seed; None where anomalib does it"""
    words: tuple[str, ...] = ()
    """Of benchmarks/peers/anomalib_models.py"""
    is_seeded: bool = True
    """Whether another seed gives other figures on clean data"""


PEERS = {
    "gaussian": Peer(
        name=GAUSSIAN,
        source=f"recipe {site_gaussian.RECIPE}",
        about="a Gaussian at every site, covariance shrunk by a tenth (as PaDiM, arXiv 2011.08785)",
        fit=lambda features, seed: SiteGaussian(features),
        is_seeded=False,
    ),
    "patchcore": Peer(
        name="PatchCore",
        source=MEMORY,
        about="arXiv 2106.08265, coreset of 10 %",
        fit=PatchCore,
    ),
    "patchcore-1": Peer(
        name="PatchCore-1",
        source=MEMORY,
        about="with a coreset of 1 %",
        fit=lambda features, seed: PatchCore(features, seed, share=FEWER),
    ),
    "softpatch": Peer(
        name="SoftPatch",
        source=MEMORY,
        about="arXiv 2403.14233, by local outlier factor, 15 % taken out, coreset of 10 %",
        fit=SoftPatch,
    ),
    "anomalib-patchcore": Peer(
        name="anomalib PatchCore-1",
        source=BY_ANOMALIB,
        about=f"of anomalib {ANOMALIB}, coreset of 1 %, because its search for one takes hours at 10 %",
        words=("patchcore", "--coreset", str(FEWER)),
    ),
    "anomalib-padim": Peer(
        name="anomalib PaDiM",
        source=BY_ANOMALIB,
        about=f"of anomalib {ANOMALIB}, 100 of 152 channels",
        words=("padim",),
    ),
}
"""By the word of the command line."""


def called(name: str) -> Peer | None:
    """The peer of a name among a table's variants; None for the product's."""
    return next((peer for peer in PEERS.values() if peer.name == name), None)


def variant_of(peer: Peer) -> Variant:
    """As a cell names it."""
    return Variant(name=peer.name, tree=None, source=peer.source)


def measured_here(peer: Peer, split: Split, seed: int, weights: Path) -> dict[str, Any]:
    """AUROC and AP of images, and seconds from files to a method that is ready to score."""
    assert peer.fit is not None, f"{peer.name} runs elsewhere"
    lite0 = trunk(weights)
    defects = [file for files in split.defects.values() for file in files]
    started = time.perf_counter()
    method = peer.fit(site_features(lite0, [*split.train, *split.mixed_in]), seed)
    seconds = time.perf_counter() - started
    scores = np.concatenate([method.scores(site_features(lite0, files)) for files in (split.good, defects)])
    anomalous = np.arange(len(scores)) >= len(split.good)
    return {
        "auroc": auroc(scores, anomalous),
        "ap": average_precision(scores, anomalous),
        "train_s": round(seconds, 1),
    }


def measured_by_anomalib(
    peer: Peer,
    split: Split,
    seed: int,
    weights: Path,
    *,
    python: Path | None,
    folder: Path,
    limit_s: float,
    threads: int | None,
) -> dict[str, Any]:
    """The same, of anomalib in an environment of its own; `failures` has what did not end well.

    python: of that environment. folder: emptied, and gone where all went well. Raises MissingExtraError.
    """
    if python is None or not python.is_file():
        raise MissingExtraError(
            f"{peer.name} runs in an environment of its own: benchmarks/peers/anomalib.sh FOLDER makes it, "
            "--anomalib FOLDER/bin/python names it"
        )
    shutil.rmtree(folder, ignore_errors=True)
    lay_out(split, {}, folder / "data")
    # A Python in an environment is a link, which must stay one to find its packages.
    road = Road(
        tree=ROOT,
        folder=folder,
        limit_s=limit_s,
        threads=threads,
        python=python.absolute(),
        module="benchmarks.peers.anomalib_models",
    )
    model, *options = peer.words
    try:
        road.run(
            model, folder / "data", "--weights", weights.resolve(), "--seed", str(seed), "--version", ANOMALIB,
            "--threads", str(threads or 1), "--out", folder / "result.json", *options,
        )  # fmt: skip
    except Failure as failure:
        out_of_time = {"out_of_time_s": limit_s} if road.is_out_of_time else {}
        return {"failures": [{"step": "train", "line": str(failure)}], **out_of_time}
    found: dict[str, Any] = json.loads((folder / "result.json").read_text())
    read = found.pop("read")
    expected = [len(split.train) + len(split.mixed_in), len(split.good), split.n_defects]
    if read != expected:
        line = f"anomalib read {read} photographs to train on, good and with defects; there are {expected}"
        return {"failures": [{"step": "train", "line": line}]}
    shutil.rmtree(folder)
    return found
