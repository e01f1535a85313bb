"""What defects among the training photographs cost the product and other methods: contamination-real.md.

    python -m benchmarks.peers.contamination --data ROOT --elpv ELPV --seeds 0 --work WORK
    python -m benchmarks.peers.contamination --data ROOT --sets mvtec-pill --methods features gaussian --shares 0 20

0, 5, 10 and 20 % of the training photographs are replaced by defects, drawn by the seed and marked nowhere. What the
largest share takes is tested at no share, so a set's columns have one test. The product is network features by its
Python interface with its own defaults, but that the autoencoder, without weight in the score, trains one epoch;
`features-no-head` leaves the head out. The other methods stand on the same trunk (methods.py). A finished cell leaves
a JSON file in --work and is not done again while photographs and the source of what ran are the same.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.command_line import status_of
from benchmarks.industrial.cells import MIXED_IN, Cell, Split, Store, Variant, replaced, source_of
from benchmarks.industrial.photographs import Places, find
from benchmarks.industrial.real_sets import written_command
from benchmarks.industrial.site_gaussian import weights_file
from benchmarks.machine import cpu_name
from benchmarks.peers.contamination_report import markdown
from benchmarks.peers.methods import PEERS, called, measured_here, variant_of
from benchmarks.thresholds.trained import criteria_of, frames_of, trained_on
from edge_runtime.errors import ConfigError
from edge_runtime.files import json_bytes, write_atomically
from edge_runtime.metrics import auroc, average_precision
from train.networks.features_network import FeaturesNetwork

ROOT = Path(__file__).resolve().parents[2]

SETS = ("magnetic-tile", "mvtec-pill", "elpv-poly", "deep-pcb")
SHARES = (0.0, 5.0, 10.0, 20.0)
PRODUCT = {"features": (), "features-no-head": ("--head", "none")}
"""Arguments of `edge-aae train` beside --network features."""
BESIDE = tuple(word for word, peer in PEERS.items() if peer.fit is not None)
DEFAULT = ("features", "patchcore", "softpatch", "gaussian")


class ReplacedCell(Cell):
    """A training with defects in other photographs' place, where Cell adds them."""

    @cached_property
    def key(self) -> dict[str, Any]:
        """That of a Cell, and that it is another draw."""
        return {**super().key, "replaced": True}

    def split(self) -> Split:
        """A seed's draw, one test for all shares."""
        return replaced(self.photographs, share=self.share, reserved=self.reserved, seed=self.seed)


def main(words: Sequence[str] | None = None) -> int:
    """Run what is missing, then write the tables."""
    words = list(sys.argv[1:] if words is None else words)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data", type=Path, required=True, help="a folder with a folder a set")
    add("--elpv", type=Path, help="a copy of elpv-dataset; default: the installed package")
    add("--weights", type=Path, help="EfficientNet-Lite0's .pth for the others; default: the installed package's")
    add("--sets", nargs="+", default=list(SETS), help="default: %(default)s")
    add("--methods", nargs="+", default=list(DEFAULT), choices=[*PRODUCT, *BESIDE], help="default: %(default)s")
    add("--shares", type=float, nargs="+", default=list(SHARES), metavar="PERCENT", help="default: %(default)s")
    add("--seeds", type=int, nargs="+", default=[0])
    add("--work", type=Path, default=Path("runs/contamination-real"), help="finished cells")
    add("--out", type=Path, default=Path("docs/results/contamination-real.md"))
    add("--threads", type=int, default=1)
    add("--any-source", action="store_true", help="let cells of other revisions of the product stand")
    add("--report-only", action="store_true", help="write the tables from what is finished")
    return status_of(lambda: _run(parser.parse_args(words), words))


def _run(arguments: argparse.Namespace, words: Sequence[str]) -> int:
    torch.set_num_threads(arguments.threads)
    arguments.work = arguments.work.resolve()
    table = arguments.out.with_suffix(".json")
    earlier = json.loads(table.read_text())["cells"] if table.exists() else []
    store = Store(arguments.work / "cells", earlier, any_source=arguments.any_source)
    cells = _cells(arguments)
    found = []
    for index, cell in enumerate(cells, start=1):
        result = store.get(cell)
        if result is None and not arguments.report_only:
            result = store.add(cell, _measured(cell, arguments))
            told = f"AUROC {result['auroc']:.3f}, trained in {result['train_s']:.0f} s"
            print(f"{index} of {len(cells)}, {cell.name}: {told}", flush=True)
        if result is not None:
            found.append(result)
    if not found:
        print("nothing is finished, nothing to write")
        return 1
    command = written_command(words, "benchmarks.peers.contamination")
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(table, json_bytes({"command": command, "cells": found}))
    write_atomically(arguments.out, ("\n".join(markdown(found, command)) + "\n").encode())
    print(f"wrote {arguments.out} and {table.name}: {len(found)} of {len(cells)} cells")
    return 0


def _cells(arguments: argparse.Namespace) -> list[ReplacedCell]:
    """Seeds in turn, and of each the methods of one set and share together."""
    shares = sorted({percent / 100.0 for percent in arguments.shares})
    if shares[0] < 0.0 or shares[-1] >= 0.5:
        raise ConfigError(f"--shares is {arguments.shares}, expected percentages from 0 to below 50")
    places = Places(data=arguments.data.resolve(), work=arguments.work, elpv=arguments.elpv)
    photographs = [find(name, places) for name in arguments.sets]
    variants = [_variant(word) for word in dict.fromkeys(arguments.methods)]
    return [
        ReplacedCell(photographs=of_set, variant=variant, seed=seed, share=share, reserved=shares[-1])
        for seed in arguments.seeds
        for of_set in photographs
        for share in shares
        for variant in variants
    ]


def _variant(word: str) -> Variant:
    if word in PRODUCT:
        return Variant(name=word, arguments=PRODUCT[word], tree=ROOT, source=source_of(ROOT))
    return variant_of(PEERS[word])


def _measured(cell: ReplacedCell, arguments: argparse.Namespace) -> dict[str, Any]:
    """Counts, image AUROC and AP; of the product also what its own threshold does, and whom it rejected."""
    split = cell.split()
    about = {
        "n_train": len(split.train) + len(split.mixed_in),
        "n_mixed_in": len(split.mixed_in),
        "n_good": len(split.good),
        "n_tested_defects": split.n_defects,
        "cpu": cpu_name(),
        "threads": arguments.threads,
        "failures": [],
    }
    peer = called(cell.variant.name)
    if peer is not None:
        return {**about, **measured_here(peer, split, cell.seed, weights_file(arguments.weights))}
    return {**about, **_of_product(cell, split)}


def _of_product(cell: ReplacedCell, split: Split) -> dict[str, Any]:
    options = dict(zip(cell.variant.arguments[::2], cell.variant.arguments[1::2], strict=True))
    started = time.perf_counter()
    run, verdicts = trained_on(split, cell.seed, **{name.removeprefix("--"): value for name, value in options.items()})
    seconds = time.perf_counter() - started
    assert isinstance(run.autoencoder, FeaturesNetwork), "trained_on trains no other"
    defects = [file for files in split.defects.values() for file in files]
    normal, anomalous = (run.decision.score(criteria_of(run, frames_of(files))) for files in (split.good, defects))
    scores = np.concatenate((normal, anomalous))
    is_defect = np.arange(len(scores)) >= len(normal)
    rejected = [Path(name).name for name, kept in zip(verdicts.names, verdicts.kept, strict=True) if not kept]
    return {
        "auroc": auroc(scores, is_defect),
        "ap": average_precision(scores, is_defect),
        "tpr": float((anomalous > run.decision.threshold).mean()),
        "fpr": float((normal > run.decision.threshold).mean()),
        "n_rejected": len(rejected),
        "mixed_in_rejected": sum(name.startswith(MIXED_IN) for name in rejected),
        "head_joined": run.autoencoder.has_joined,
        "train_s": round(seconds, 1),
    }


if __name__ == "__main__":
    sys.exit(main())
