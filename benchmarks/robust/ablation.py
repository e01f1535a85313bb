"""What each piece of `--refine robust` brings, on pairs of classes that no other table reports.

python benchmarks/robust/ablation.py [--pairs all] [--alphas 0.05,0.001] [--variants all] [--seeds 1]

These are the pairs on which the method's choices were made; the paper's 18 cells were not. One JSON a finished run in
the work folder; writes robust-ablation.json and .md from what is finished. About a minute of one core a run.
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import shlex
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.command_line import chosen, status_of
from benchmarks.paper.baselines import BASELINES
from benchmarks.paper.jobs import trained_and_scored
from benchmarks.paper.protocol import Pair, Setting, default_data, evaluate
from benchmarks.paper.report import bacc_and_auroc
from benchmarks.paper.schedule import robust_settings
from edge_runtime import __version__
from train.learning.settings import TrainSettings
from train.networks.hog_network import HOG
from train.networks.registry import NetworkName
from train.refinement.settings import RobustSettings
from train.schedule import MethodName, Schedule

_PAIRS = (
    Pair(name="mnist-1-7", title="MNIST 1 vs 7", folder="mnist", normal=1, anomaly=7),
    Pair(name="mnist-3-5", title="MNIST 3 vs 5", folder="mnist", normal=3, anomaly=5),
    Pair(name="fashion-5-7", title="Sandal vs Sneaker", folder="fashion-mnist", normal=5, anomaly=7),
    Pair(name="fashion-4-3", title="Coat vs Dress", folder="fashion-mnist", normal=4, anomaly=3),
)
PAIRS = {pair.name: pair for pair in _PAIRS}
ALPHAS = (0.05, 0.001)
BASELINE_ROWS = ("hog-ppca-10", "hog-ppca-25")


@dataclass(frozen=True, kw_only=True, slots=True)
class Variant:
    """`robust` with one piece changed."""

    title: str
    train: dict[str, Any] = field(default_factory=dict)
    """Changes of TrainSettings"""
    robust: dict[str, Any] = field(default_factory=dict)
    """Changes of RobustSettings"""

    def settings(self, seed: int) -> TrainSettings:
        """The settings of a run."""
        standard = robust_settings(seed)
        return replace(standard, robust=RobustSettings(**self.robust), **self.train)


def _alone(network: NetworkName, method: MethodName) -> dict[str, Any]:
    """Changes of TrainSettings that leave refinement out; one network, as long as those of `robust` together."""
    return {"network": network, "method": method, "refine": "none", "schedule": Schedule(train=40), "decision": None}


ROBUST = HOG.schedule("aae", "robust")
VARIANTS = {
    "robust": Variant(title="robust"),
    "no-trim": Variant(title="screening networks see all images", robust={"screen_keep": 1.0}),
    "no-rejection": Variant(title="nothing is rejected", robust={"reject_share": 0.0}),
    "reject-10": Variant(title="10 % rejected", robust={"reject_share": 0.1}),
    "reject-30": Variant(title="30 % rejected", robust={"reject_share": 0.3}),
    "no-adversary": Variant(title="no adversary", train={"method": "ae"}),
    "no-noise": Variant(title="no noise on codes", robust={"code_noise": 0.0}),
    "pixels": Variant(title="pixels alone (network mlp)", train={"network": "mlp"}),
    "latent-16": Variant(title="latent 16", train={"latent_dim": 16}),
    "mixture": Variant(title="mixture of 4 densities", robust={"components": 4}),
    "half-epochs": Variant(title="half the epochs", train={"schedule": ROBUST.scaled(0.5)}),
    "twice-epochs": Variant(title="twice the epochs", train={"schedule": ROBUST.scaled(2.0)}),
    "gradients-alone": Variant(title="gradients alone: no adversary, no refinement", train=_alone("hog", "ae")),
    "gradients-adversary": Variant(title="gradients and adversary, no refinement", train=_alone("hog", "aae")),
    "pixels-alone": Variant(title="pixels alone: no adversary, no refinement", train=_alone("mlp", "ae")),
    "pixels-adversary": Variant(title="pixels and adversary, no refinement", train=_alone("mlp", "aae")),
}


def main() -> int:
    """Run what is not finished; both files are written anew after every run."""
    return status_of(lambda: _run(_parser().parse_args()))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=default_data())
    parser.add_argument("--pairs", default="all", help=f"comma-separated: {', '.join(PAIRS)}")
    parser.add_argument("--variants", default="all", help=f"comma-separated: {', '.join(VARIANTS)}")
    parser.add_argument("--alphas", default=",".join(f"{alpha:g}" for alpha in ALPHAS), help="contamination shares")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--work", type=Path, default=Path("runs/ablation"))
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    return parser


def _run(arguments: argparse.Namespace) -> int:
    logging.basicConfig(level=logging.ERROR)
    pairs = [PAIRS[name] for name in chosen(arguments.pairs, tuple(PAIRS))]
    alphas = [float(alpha) for alpha in arguments.alphas.split(",")]
    names = chosen(arguments.variants, tuple(VARIANTS))
    arguments.work.mkdir(parents=True, exist_ok=True)
    arguments.out.mkdir(parents=True, exist_ok=True)
    command = shlex.join(["python", "benchmarks/robust/ablation.py", *sys.argv[1:]])
    results = []
    for seed, name, pair, alpha in itertools.product(range(arguments.seeds), (*BASELINE_ROWS, *names), pairs, alphas):
        results.append(_finished(arguments.work, arguments.data, Setting(pair=pair, alpha=alpha), name, seed))
        content = {"command": command, "edge_aae": __version__, "torch": torch.__version__, "rows": results}
        (arguments.out / "robust-ablation.json").write_text(json.dumps(content, indent=1) + "\n")
        (arguments.out / "robust-ablation.md").write_text("\n".join(markdown(results, command)) + "\n")
    return 0


def markdown(results: Iterable[dict[str, Any]], command: str) -> list[str]:
    """AUROC and BAcc of every variant, observed / unobserved, mean over seeds."""
    cells: dict[tuple[str, str, float], list[dict[str, Any]]] = {}
    for result in results:
        cells.setdefault((result["variant"], result["pair"], result["alpha"]), []).append(result["cells"])
    columns = list(dict.fromkeys((pair, alpha) for _, pair, alpha in cells))
    lines = [
        "# What each piece of robust training brings",
        "",
        f"`{command}`",
        "",
        "BAcc at an asked false-alarm rate of 10 % (without refinement: the paper's union, p90 of each criterion) and",
        "AUROC in brackets, observed / unobserved, mean over seeds. The method's choices were made on these pairs.",
        "",
        "| variant | " + " | ".join(f"{pair} {alpha:.3g}" for pair, alpha in columns) + " |",
        "|---" * (len(columns) + 1) + "|",
    ]
    for variant in dict.fromkeys(name for name, _, _ in cells):
        title = VARIANTS[variant].title if variant in VARIANTS else BASELINES[variant].title
        row = [bacc_and_auroc(cells.get((variant, pair, alpha), [])) for pair, alpha in columns]
        lines.append(f"| {title} | " + " | ".join(row) + " |")
    return lines


def _finished(work: Path, data: Path, setting: Setting, variant: str, seed: int) -> dict[str, Any]:
    """The result of one run, from the work folder where it is there for the same settings."""
    settings = VARIANTS[variant].settings(seed) if variant in VARIANTS else None
    key = json.loads(json.dumps(settings.to_json())) if settings else {"baseline": BASELINES[variant].version}
    file = work / f"{setting.name}-{variant}-{seed}.json"
    if file.exists():
        kept: dict[str, Any] = json.loads(file.read_text())
        if kept["key"] == key:
            return kept
    start = time.monotonic()
    test = setting.test_set(data)
    assert test.labels is not None, "the original sets have labels"
    if settings is None:
        scored = BASELINES[variant].run(setting.training_set(data, seed).images[..., 0], test.images, seed)
        scores, flagged = scored.scores, scored.scores > scored.threshold
    else:
        trained, scores = trained_and_scored(setting, settings, test, torch.device("cpu"), data, seed)
        flagged = trained.decision.is_anomalous(scores)
    result = {
        "variant": variant,
        "pair": setting.pair.name,
        "alpha": setting.alpha,
        "seed": seed,
        "key": key,
        "cells": evaluate(setting, scores, flagged, test.labels),
        "seconds": round(time.monotonic() - start, 1),
    }
    file.write_text(json.dumps(result, indent=1) + "\n")
    observed, unobserved = result["cells"]["observed"], result["cells"]["unobserved"]
    print(
        f"{file.stem}: BAcc {observed['bacc']:.3f} / {unobserved['bacc']:.3f}, FPR {observed['fpr']:.3f}, "
        f"AUROC {observed['auroc']:.3f} / {unobserved['auroc']:.3f}, {result['seconds']:.0f} s",
        flush=True,
    )
    return result


if __name__ == "__main__":
    sys.exit(main())
