"""What the product's own threshold makes of sets of real photographs: thresholds.md.

    python -m benchmarks.thresholds.real_sets --data ROOT --seeds 0 1 2 --work WORK --out docs/results/thresholds.md

Each set clean and with defects mixed in unmarked, all its photographs and thirty of them, which a seed draws. A cell
is a training of network features through the Python interface; every rule is asked of the same out-of-fold scores,
and tried on photographs and defects that were not trained on. The autoencoder, which has no weight in the score,
trains one epoch. A finished cell leaves a JSON file in --work and is not done again while photographs and the
product's source are the same.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.command_line import status_of
from benchmarks.industrial.cells import MIXED_IN, Split, replaced, source_of
from benchmarks.industrial.photographs import PhotographSet, Places, find, names_in
from benchmarks.industrial.real_sets import written_command
from benchmarks.machine import cpu_name
from benchmarks.thresholds.report import markdown
from benchmarks.thresholds.trained import criteria_of, frames_of, trained_on
from edge_runtime.errors import DataError
from edge_runtime.files import json_bytes, write_atomically
from edge_runtime.metrics import auroc, balanced_accuracy
from edge_runtime.model.score import FusedRule
from train.calibration.contamination import Contamination, estimate_contamination
from train.calibration.thresholds import LimitSettings
from train.sites.stretches import stretches_of

ROOT = Path(__file__).resolve().parents[2]
FEW = 30
SHARE = 0.05
"""Of defects among the training photographs of a contaminated regime."""

RULES = {
    "balanced": LimitSettings(),
    "balanced 1 %": LimitSettings(target_fpr=0.01),
    "conformal 5 %": LimitSettings(rule="conformal", target_fpr=0.05),
    "conformal 1 %": LimitSettings(rule="conformal", target_fpr=0.01),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Regime:
    """Who is trained on."""

    name: str
    few: bool = False
    share: float = 0.0


REGIMES = (
    Regime(name="all"),
    Regime(name="all, 5 %", share=SHARE),
    Regime(name="30", few=True),
    Regime(name="30, 5 %", few=True, share=SHARE),
)


def main(words: Sequence[str] | None = None) -> int:
    """Run what is missing, then write the table."""
    words = list(sys.argv[1:] if words is None else words)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a folder with a folder a set")
    parser.add_argument("--elpv", type=Path, help="a copy of elpv-dataset; default: the installed package")
    parser.add_argument("--sets", nargs="+", help="default: every set that is here")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--regimes", nargs="+", default=[regime.name for regime in REGIMES], help="default: all four")
    parser.add_argument("--work", type=Path, default=Path("runs/thresholds"), help="finished cells, turned copies")
    parser.add_argument("--out", type=Path, default=Path("docs/results/thresholds.md"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--any-source", action="store_true", help="let cells of other revisions of the product stand")
    parser.add_argument("--report-only", action="store_true", help="write the table from what is finished")
    return status_of(lambda: _run(parser.parse_args(words), words))


def _run(arguments: argparse.Namespace, words: Sequence[str]) -> int:
    torch.set_num_threads(arguments.threads)
    arguments.work = arguments.work.resolve()
    places = Places(data=arguments.data.resolve(), work=arguments.work, elpv=arguments.elpv)
    source = source_of(ROOT)
    found: list[dict[str, Any]] = []
    for of_set, regime, seed in _cells(arguments, places):
        key = {"photographs": of_set.fingerprint, "regime": regime.name, "seed": seed}
        digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:10]
        file = arguments.work / "cells" / f"{of_set.name}-seed{seed}-{digest}.json"
        kept = json.loads(file.read_text()) if file.is_file() else None
        if kept is not None and (arguments.any_source or arguments.report_only or kept["source"] == source):
            found.append(_with_rules(kept))
        elif not arguments.report_only:
            cell = {"set": of_set.name, **key, "source": source, "cpu": cpu_name(), **_measured(of_set, regime, seed)}
            file.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(file, json_bytes(cell))
            found.append(_with_rules(cell))
            told = found[-1]["rules"]["balanced"]
            print(f"{of_set.name}, {regime.name}, seed {seed}: AUROC {found[-1]['auroc']:.3f}, {told}", flush=True)
    if not found:
        print("nothing is finished, nothing to write")
        return 1
    lines = markdown(found, written_command(words, "benchmarks.thresholds.real_sets"))
    write_atomically(arguments.out, ("\n".join(lines) + "\n").encode())
    write_atomically(arguments.out.with_suffix(".json"), json_bytes({"cells": found}))
    print(f"wrote {arguments.out}: {len(found)} cells")
    return 0


def _cells(arguments: argparse.Namespace, places: Places) -> Iterator[tuple[PhotographSet, Regime, int]]:
    """Seeds in turn, so that each set soon has figures; sets that are not here are passed over unless named."""
    regimes = [regime for regime in REGIMES if regime.name in arguments.regimes]
    for seed in arguments.seeds:
        for name in arguments.sets or names_in(places):
            try:
                of_set = find(name, places)
            except DataError:
                if arguments.sets:
                    raise
                continue
            for regime in regimes:
                yield of_set, regime, seed


def _split(of_set: PhotographSet, regime: Regime, seed: int) -> Split:
    """A seed's draw. What is mixed in of all photographs is tested in no regime, so all are tried on the same ones."""
    return replaced(of_set, share=regime.share, reserved=SHARE, seed=seed, n_images=FEW if regime.few else None)


def _measured(of_set: PhotographSet, regime: Regime, seed: int) -> dict[str, Any]:
    """Counts, and the scores that rules are tried on: out-of-fold, of good photographs, of defects."""
    split = _split(of_set, regime, seed)
    started = time.perf_counter()
    run, held_out = trained_on(split, seed)
    seconds = time.perf_counter() - started
    assert isinstance(run.decision, FusedRule), "features decide by one score"
    kept, names = held_out.kept, held_out.names
    defects = [file for files in split.defects.values() for file in files]
    good = run.decision.sum_of_terms(criteria_of(run, frames_of(split.good)))
    bad = run.decision.sum_of_terms(criteria_of(run, frames_of(defects)))
    own = run.decision.sum_of_terms(held_out.criteria.astype(np.float64))
    return {
        "n_train": len(split.train) + len(split.mixed_in),
        "n_mixed": len(split.mixed_in),
        "rejected": int((~kept).sum()),
        "mixed_rejected": sum(MIXED_IN in Path(name).name for name, k in zip(names, kept, strict=True) if not k),
        "train_s": round(seconds, 1),
        "order": run.calibration.get("order"),
        "scores": {name: np.round(of, 5).tolist() for name, of in (("own", own), ("good", good), ("bad", bad))},
    }


def _with_rules(cell: dict[str, Any]) -> dict[str, Any]:
    """AUROC, and of each rule what it says and what it does, in place of the scores."""
    own, good, bad = (np.array(cell["scores"][name]) for name in ("own", "good", "bad"))
    anomalous = estimate_contamination(own, cell["seed"])
    in_stretches = (cell.get("order") or {}).get("in_stretches", False)
    stretch = stretches_of(np.arange(len(own))) if in_stretches else None
    both = np.concatenate((good, bad))
    is_bad = np.arange(len(both)) >= len(good)
    return {
        **{name: value for name, value in cell.items() if name != "scores"},
        "n_good": len(good),
        "n_bad": len(bad),
        "auroc": round(auroc(both, is_bad), 4),
        "best": round(max(balanced_accuracy(both > limit, is_bad) for limit in both), 4),
        "rules": {name: _tried(rule, own, anomalous, stretch, both, is_bad) for name, rule in RULES.items()},
    }


def _tried(
    rule: LimitSettings,
    own: NDArray[np.float64],
    anomalous: Contamination,
    stretch: NDArray[np.int64] | None,
    scores: NDArray[np.float64],
    is_bad: NDArray[np.bool_],
) -> dict[str, Any]:
    limit, told = rule.found(own, anomalous, stretch)
    flagged = scores > limit
    return {
        "asked": told["target_fpr"],
        "stands_for": round(told.get("stands_for", told["target_fpr"]), 4),
        "expected": None if told.get("expected_fpr") is None else round(told["expected_fpr"], 4),
        "interval": None if told["realised_fpr"] is None else [round(end, 4) for end in told["realised_fpr"]],
        "false_alarms": int(flagged[~is_bad].sum()),
        "fpr": round(float(flagged[~is_bad].mean()), 4),
        "tpr": round(float(flagged[is_bad].mean()), 4),
        "bacc": round(balanced_accuracy(flagged, is_bad), 4),
    }


if __name__ == "__main__":
    sys.exit(main())
