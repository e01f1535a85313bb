"""The product's road over one set, as a user goes it: train, export, evaluate, bench, each a process of its own.

A step that fails is written down with its last words, and what can be measured without it still is.
"""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.industrial.cells import MIXED_IN, Variant

__all__ = ["Failure", "Road", "travelled"]

N_TIMED = 50
"""Frames that `edge-aae bench` measures, the fewest it takes."""

LONGEST_LINE = 300


class Failure(Exception):
    """A step that did not end well; its argument is the line that says why."""


@dataclass(kw_only=True, slots=True)
class Road:
    """Runs commands of one checkout's product, or of another module, until a common deadline."""

    tree: Path
    folder: Path
    """Where the commands run and their output is kept"""
    limit_s: float
    """For all commands together"""
    threads: int | None = None
    """Of the libraries; None leaves them their default"""
    python: Path = Path(sys.executable)
    module: str = "edge_aae"
    spent_s: float = 0.0

    def run(self, *words: str | Path) -> float:
        """Run the module with WORDS, its output into WORDS[0].log; returns the seconds it took. Raises Failure."""
        log = self.folder / f"{words[0]}.log"
        environment = {**os.environ, "PYTHONPATH": str(self.tree.resolve()), "PYTHONWARNINGS": "ignore"}
        if self.threads:
            environment |= {name: str(self.threads) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
        started = time.perf_counter()
        with log.open("wb") as output:
            process = subprocess.Popen(
                [self.python, "-m", self.module, *map(str, words)],
                cwd=self.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                status = process.wait(max(0.0, self.limit_s - self.spent_s))
            except subprocess.TimeoutExpired:
                raise Failure(f"no end after {self.limit_s:.0f} s, the limit of a cell") from None
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
                seconds = time.perf_counter() - started
                self.spent_s += seconds
        if status:
            raise Failure(self._last_words(log, status))
        return seconds

    @property
    def is_out_of_time(self) -> bool:
        """Whether the limit is reached."""
        return self.spent_s >= self.limit_s

    def _last_words(self, log: Path, status: int) -> str:
        lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
        said = [line for line in lines if line.lower().startswith("error:")] or lines or ["nothing was printed"]
        line = said[-1].replace(f"{self.folder}/", "").replace(f"{self.tree.resolve()}/", "")
        return f"exit {status}: {line[:LONGEST_LINE]}"


def travelled(variant: Variant, folder: Path, seed: int, *, limit_s: float, threads: int | None) -> dict[str, Any]:
    """The figures of one cell; folder/data holds train, test and ground_truth, the rest is written beside it.

    `failures` lists what did not end well; a run that could not be exported is evaluated itself.
    """
    assert variant.tree is not None, "only a product has a road"
    road = Road(tree=variant.tree, folder=folder, limit_s=limit_s, threads=threads)
    run, bundle, data = folder / "run", folder / "model.aae", folder / "data"
    found: dict[str, Any] = {"failures": [], "exported": None}

    def step(name: str, *words: str | Path) -> bool:
        try:
            found[f"{name}_s"] = round(road.run(name, *words), 1)
        except Failure as failure:
            found["failures"].append({"step": name, "line": str(failure)})
            if road.is_out_of_time:
                found["out_of_time_s"] = limit_s
            return False
        return True

    if step("train", data / "train", "--out", run, "--seed", str(seed), *variant.arguments):
        found |= _of_run(run)
        found["exported"] = step("export", run, "--out", bundle)
        if found["exported"]:
            found["bundle_mb"] = round(bundle.stat().st_size / 1e6, 2)
        model = bundle if found["exported"] else run
        if step("evaluate", model, data / "test", "--out", folder / "evaluation", "--bootstrap", "0"):
            found |= _figures(json.loads((folder / "evaluation" / "report.json").read_text()))
        if found["exported"] and step(
            "bench", "--model", bundle, "--source", data / "test" / "good", "--frames", str(N_TIMED), "--threads", "1",
            "--no-cold", "--json", folder / "bench.json",
        ):  # fmt: skip
            found["frame_ms"] = json.loads((folder / "bench.json").read_text())["end_to_end_ms"]["p50"]
    return found


def _of_run(run: Path) -> dict[str, Any]:
    """The network that was taken, and who was rejected."""
    found: dict[str, Any] = {"network": json.loads((run / "config.json").read_text())["train"]["network"]}
    verdicts = run / "refinement.csv"
    if verdicts.is_file():
        with verdicts.open(newline="") as lines:
            rejected = [row["name"] for row in csv.DictReader(lines) if row.get("kept") == "0"]
        found["n_rejected"] = len(rejected)
        found["mixed_in_rejected"] = sum(Path(name).name.startswith(MIXED_IN) for name in rejected)
    return found


def _figures(report: dict[str, Any]) -> dict[str, Any]:
    """Of the report.json of `edge-aae evaluate`."""
    whole = report["subsets"]["all"]
    pixels = whole["pixels"] or {}
    names: Sequence[tuple[str, str]] = (
        ("auroc", "auroc"),
        ("ap", "average_precision"),
        ("tpr", "true_positive_rate"),
        ("fpr", "false_positive_rate"),
        ("bacc", "balanced_accuracy"),
    )
    found = {short: whole[name] for short, name in names}
    return {
        **found,
        "pixel_auroc": pixels.get("auroc"),
        "aupro": pixels.get("aupro"),
        "n_normal": whole["n_normal"],
        "n_defects": whole["n_anomalous"],
        "unscored": len(report["unscored"]),
    }
