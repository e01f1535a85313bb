"""What each part of network `features` adds, clean and with defects mixed in unmarked: features-ablation.md.

    python -m benchmarks.features.ablation --data ROOT --sets mvtec-pill magnetic-tile --seeds 0

ROOT has a folder a set, with train/good, test/good and test/KIND. Defects that are mixed in are not tested on: half of
them, drawn by the seed, are kept for the test at every level. Image AUROC of the mean of the five highest sites.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

import edge_aae
from edge_runtime.metrics import auroc
from edge_runtime.model.images import list_images
from train.runs.run_folder import RunFolder, TrainedRun

LEVELS = (0, 5, 10, 20)
ROWS = ("site distance", "neighbour distance", "reconstruction error", "neg log prior", "score", "site and AAE")


def main(words: Sequence[str] | None = None) -> None:
    """Measure every cell that is not in --out yet, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", default=["mvtec-pill", "magnetic-tile"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--levels", type=int, nargs="+", default=list(LEVELS), help="per cent of defects")
    parser.add_argument("--out", type=Path, default=Path("docs/results/features-ablation.json"))
    asked = parser.parse_args(words)
    cells = json.loads(asked.out.read_text())["cells"] if asked.out.exists() else {}
    for name in asked.sets:
        for level in asked.levels:
            for refine in ("robust", "none"):
                for seed in asked.seeds:
                    key = f"{name} {level} {refine} {seed}"
                    if key not in cells:
                        cells[key] = measured(asked.data / name, level / 100.0, refine, seed)
                        print(key, cells[key], flush=True)
                        write(asked.out, cells, asked.sets)


def measured(root: Path, share: float, refine: str, seed: int) -> dict[str, float]:
    """AUROC by row, images rejected and mixed in, seconds of training."""
    good, defects = list_images(root / "train/good"), []
    for kind in sorted((root / "test").iterdir()):
        defects += list_images(kind) if kind.name != "good" else []
    order = np.random.default_rng(seed).permutation(len(defects))
    tested, pool = order[: len(order) // 2], order[len(order) // 2 :]
    n_mixed = min(len(pool), round(share / (1.0 - share) * len(good)))
    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder) / "images"
        images.mkdir()
        mixed = [defects[index] for index in pool[:n_mixed]]
        for number, file in enumerate([*good, *mixed]):
            shutil.copy(file, images / f"{'mixed' if number >= len(good) else 'good'}-{number:05d}{file.suffix}")
        started = time.perf_counter()
        outcome = edge_aae.train(images, out=Path(folder) / "run", network="features", refine=refine, seed=seed)
        seconds = time.perf_counter() - started
        run = RunFolder(Path(folder) / "run").load()
    normal = criteria_of(run, list_images(root / "test/good"))
    anomalous = criteria_of(run, [defects[index] for index in tested])
    both = np.concatenate((normal, anomalous))
    labels = np.arange(len(both)) >= len(normal)
    logs = np.log(np.maximum(both[:, [0, 2]], 1e-12))
    with_aae = sum(_standard(column, labels) for column in (*logs.T, both[:, 1]))
    scores = [both[:, 2], both[:, 3], both[:, 0], both[:, 1], run.decision.score(both), with_aae]
    found = {row: round(auroc(np.asarray(s), labels), 4) for row, s in zip(ROWS, scores, strict=True)}
    return {**found, "rejected": outcome.n_rejected, "mixed in": n_mixed, "train_s": round(seconds, 1)}


def criteria_of(run: TrainedRun, files: list[Path]) -> NDArray[np.float32]:
    """(N, K) criteria of image files."""
    rows = []
    with torch.inference_mode():
        for file in files:
            x = torch.from_numpy(run.config.preprocess(cv2.imread(str(file)))).permute(2, 0, 1)[None]
            rows.append(run.autoencoder.measure(x.float() / 255.0, run.prior).criteria[0].numpy())
    return np.array(rows)


def _standard(values: NDArray[np.float64], labels: NDArray[np.bool_]) -> NDArray[np.float64]:
    """In spreads of the tested normal images: a bound on what adding a criterion up can give."""
    usual = values[~labels]
    return (values - np.median(usual)) / (usual.std() + 1e-9)


def write(out: Path, cells: dict[str, dict[str, float]], sets: list[str]) -> None:
    """Figures as JSON, and the table beside it."""
    machine = f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    command = f"python -m benchmarks.features.ablation --data ROOT --sets {' '.join(sets)}"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps({"command": command, "machine": machine, "cells": cells}, indent=2) + "\n")
    heads = ("set", "defects mixed in", "refine", *ROWS, "rejected")
    lines = [
        "# What the parts of `features` add",
        "",
        f"`{command}`, {machine}. Image AUROC, mean over seeds; half of the defects are never mixed in and are what is",
        "tested on. Site and AAE: site distance, reconstruction error, log prior in spreads of the tested normal",
        "images, added up; the score leaves the last two out.",
        "",
        "| " + " | ".join(heads) + " |",
        "|" + "---|" * len(heads),
    ]
    groups: dict[tuple[str, ...], list[dict[str, float]]] = {}
    for key, cell in cells.items():
        groups.setdefault(tuple(key.split()[:3]), []).append(cell)
    for (name, level, refine), of_group in groups.items():
        means = [f"{np.mean([cell[row] for cell in of_group]):.3f}" for row in ROWS]
        rejected = f"{np.mean([cell['rejected'] for cell in of_group]):.0f}"
        lines.append("| " + " | ".join((name, f"{level} %", refine, *means, rejected)) + " |")
    out.with_suffix(".md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
