"""Magnetic tile, trained clean and with defects mixed in: image and pixel figures, false alarms, time, by seed.

    python benchmarks/industrial/table.py --data magnetic-tile                        # the defaults of --network patch
    python benchmarks/industrial/table.py --data magnetic-tile --epochs-scale 0.2     # a short one
    python benchmarks/industrial/table.py --data magnetic-tile --methods ae,aae,itsr  # --network conv, unsliced

`contaminated` mixes a share of test defects into the training photographs, unmarked, and takes them out of the test
set. `twins-out` trains without the photographs whose tile is in the test set (docs/results/twins.md). Every finished
job leaves a JSON file in --work and is not done again; one that was interrupted goes on from its checkpoint. Results go
to industrial.json and industrial.md in --out.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.command_line import chosen, status_of
from benchmarks.industrial.report import markdown
from edge_runtime.bundle.kept_scores import KeptScores
from edge_runtime.errors import DataError
from edge_runtime.metrics import auroc
from edge_runtime.model.images import list_images
from edge_runtime.scoring.evaluation import Evaluation, score_items
from edge_runtime.scoring.image_items import Item, TrainedOn, load_items
from train.data.settings import DataSettings
from train.evaluation.pixel_metrics import PixelTally, find_masks
from train.evaluation.report import Circumstances, Report, report_of
from train.evaluation.run_scorer import RunScorer
from train.learning.settings import TrainSettings
from train.networks.registry import NetworkName, network_spec
from train.runs.session import resume, train
from train.schedule import MethodName, RefineName

CONDITIONS = ("clean", "contaminated", "twins-out")
TWINS = Path("docs/results/magnetic-tile-twins.txt")
WIDER_RATE = 0.05
"""The second false-alarm rate reported, beside the one the threshold is calibrated to."""


METHODS: dict[str, tuple[NetworkName, MethodName, RefineName]] = {
    "robust": ("patch", "aae", "robust"),
    "none": ("patch", "aae", "none"),
    "ae": ("conv", "ae", "none"),
    "aae": ("conv", "aae", "none"),
    "itsr": ("conv", "aae", "itsr"),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """One training and its evaluation."""

    condition: str
    seed: int
    share: float
    """Of defects among the training photographs, with `contaminated`"""
    method: str
    epochs_scale: float

    @property
    def name(self) -> str:
        """Names the job's files."""
        share = f"-{self.share:g}" if self.condition == "contaminated" else ""
        return f"{self.condition}{share}-{self.method}-x{self.epochs_scale:g}-seed{self.seed}"


def main() -> int:
    """Run what is missing, then write the table."""
    return status_of(lambda: _run(_parser().parse_args()))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with train/good, test/*, ground_truth/*")
    parser.add_argument("--out", type=Path, default=Path("docs/results"), help="where industrial.json and .md go")
    parser.add_argument("--work", type=Path, default=Path("runs/industrial"), help="runs, and a file a finished job")
    parser.add_argument("--conditions", default="clean,contaminated", help=f"comma-separated: {', '.join(CONDITIONS)}")
    parser.add_argument("--seeds", type=int, default=1, help="seeds 0 to N - 1: of the network, and of who is mixed in")
    parser.add_argument("--share", type=float, default=0.05, help="of defects among the contaminated training set")
    parser.add_argument(
        "--methods",
        default="robust",
        help="comma-separated: robust and none, --network patch with and without refinement; ae, aae and itsr, "
        "--network conv on whole photographs",
    )
    parser.add_argument("--epochs-scale", type=float, default=1.0, help="times the default epochs")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--report-only", action="store_true", help="write the table from what is finished")
    return parser


def _run(arguments: argparse.Namespace) -> int:
    jobs = [
        Job(
            condition=condition,
            seed=seed,
            share=arguments.share,
            method=method,
            epochs_scale=arguments.epochs_scale,
        )
        for method in chosen(arguments.methods, tuple(METHODS))
        for seed in range(arguments.seeds)
        for condition in chosen(arguments.conditions, CONDITIONS)
    ]
    for job in jobs:
        result = arguments.work / f"{job.name}.json"
        if not result.exists() and not arguments.report_only:
            found = _done(job, arguments)
            result.write_text(json.dumps(found, indent=2, allow_nan=False) + "\n")
            print(f"{job.name}: AUROC {found['auroc']['all']:.3f}, {found['minutes']:.1f} min", flush=True)
    return _write(arguments)


def _done(job: Job, arguments: argparse.Namespace) -> dict[str, Any]:
    """Train and evaluate one job."""
    defects = [file for file in list_images(arguments.data / "test") if file.parent.name != "good"]
    mixed_in = _mixed_in(job, arguments.data, defects)
    run = arguments.work / job.name
    started_s = time.monotonic()
    if (run / "config.json").exists():
        if json.loads((run / "config.json").read_text())["status"] != "complete":
            resume(run, device=arguments.device)
    else:
        images = _training_folder(job, arguments.data, mixed_in, arguments.work / f"{job.name}-images")
        network, method, refine = METHODS[job.method]
        spec = network_spec(network)
        settings = TrainSettings(
            network=network,
            method=method,
            refine=refine,
            latent_dim=spec.latent_dim(method),
            schedule=spec.schedule(method, refine).scaled(job.epochs_scale),
            batch_size=spec.batch_size,
            seed=job.seed,
        )
        train(DataSettings(path=str(images)), settings, run, device=arguments.device, announce=False)
    if json.loads((run / "config.json").read_text())["status"] != "complete":
        raise DataError(f"{job.name} was interrupted; the same command goes on with it")
    minutes = (time.monotonic() - started_s) / 60.0
    names = {f"{file.parent.name}/{file.name}" for file in mixed_in}
    items = [
        item
        for item in load_items([arguments.data / "test"], TrainedOn(), None, ())
        if "/".join(Path(item.name).parts[-2:]) not in names
    ]
    torch.set_num_threads(1)
    report, scorer = _evaluated(run, items, arguments.data / "test")
    return {
        "job": job.name,
        "method": job.method,
        "condition": job.condition,
        "seed": job.seed,
        "command": _command(job, arguments.data),
        "minutes": minutes,
        "epoch_minutes": _epoch_minutes(run),
        "threads": int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)),
        "device": scorer.run.config.device,
        "parameters": sum(weights.numel() for weights in scorer.run.autoencoder.parameters()),
        "epochs": scorer.run.config.epochs_done,
        "n_train": scorer.run.config.n_images,
        "n_mixed_in": len(mixed_in),
        "mixed_in_rejected": _n_rejected(run, mixed_in),
        "n_rejected": _n_rejected(run, None),
        "decision": scorer.decision.to_json(),
        **_figures(report, scorer),
    }


def _command(job: Job, data: Path) -> str:
    """How the job is done again; the data by their folder's name, for a path says nothing elsewhere."""
    options = {
        "--data": data.name,
        "--conditions": job.condition,
        "--share": f"{job.share:g}",
        "--methods": job.method,
        "--epochs-scale": f"{job.epochs_scale:g}",
        "--seeds": str(job.seed + 1),
    }
    return shlex.join(
        ["python", "benchmarks/industrial/table.py", *(word for pair in options.items() for word in pair)]
    )


def _mixed_in(job: Job, data: Path, defects: Sequence[Path]) -> list[Path]:
    if job.condition != "contaminated":
        return []
    n_good = len(list_images(data / "train" / "good"))
    n_mixed = round(job.share / (1.0 - job.share) * n_good)
    if n_mixed >= len(defects):
        raise DataError(f"--share {job.share:g} needs {n_mixed} defects, {data / 'test'} has {len(defects)}")
    chosen = np.random.default_rng(job.seed).choice(len(defects), n_mixed, replace=False)
    return [defects[index] for index in sorted(chosen)]


def _training_folder(job: Job, data: Path, mixed_in: Sequence[Path], folder: Path) -> Path:
    """A folder of links to the training photographs, nothing in their names telling who was mixed in."""
    left_out: set[str] = set()
    if job.condition == "twins-out":
        left_out = {line.removeprefix("train/good/") for line in TWINS.read_text().splitlines() if "train/" in line}
        left_out |= {Path(line).name for line in left_out}
    folder.mkdir(parents=True, exist_ok=True)
    good = [file for file in list_images(data / "train" / "good") if file.name not in left_out]
    for prefix, files in (("", good), ("m-", mixed_in)):
        for file in files:
            link = folder / f"{prefix}{file.name}"
            if not link.is_symlink():
                link.symlink_to(file.resolve())
    return folder


def _evaluated(run: Path, items: list[Item], test: Path) -> tuple[Report, RunScorer]:
    scorer = RunScorer(run)
    masks = find_masks(items, [test], None)
    tally = PixelTally(masks) if masks else None
    evaluation = score_items(scorer, items, None, tally.add if tally else None)
    circumstances = Circumstances(model=str(run), kind="run", data=[str(test)], decision=scorer.decision)
    return report_of(evaluation, circumstances, tally), scorer


def _figures(report: Report, scorer: RunScorer) -> dict[str, Any]:
    evaluation = report.evaluation
    normal = np.array([row.score for row in evaluation.normal_rows()])
    kept = KeptScores.of_manifest(scorer.run.calibration)  # a union rule keeps none
    wider = None if kept is None else float((normal > kept.threshold_at(WIDER_RATE)).mean())
    everything = report.subsets["all"]
    return {
        "n_test": {name: len(rows) for name, rows in evaluation.rows_of_subsets().items()},
        "auroc": {name: subset.metrics.auroc for name, subset in report.subsets.items()},
        "auroc_interval": list(everything.intervals.get("auroc", ())),
        "auroc_of_criteria": _of_criteria(evaluation),
        "average_precision": everything.metrics.average_precision,
        "bacc": everything.metrics.balanced_accuracy,
        "tpr": everything.true_positive_rate,
        "false_alarms": {"asked 0.01": everything.false_positive_rate, "asked 0.05": wider},
        "pixel": everything.pixels.to_json() if everything.pixels else None,
    }


def _of_criteria(evaluation: Evaluation) -> dict[str, dict[str, float]]:
    """AUROC of each criterion alone, overall and by defect: what it contributes."""
    normal = evaluation.normal_rows()
    found: dict[str, dict[str, float]] = {}
    for name in normal[0].criteria:
        found[name] = {}
        for group, rows in evaluation.rows_of_subsets().items():
            both = [*normal, *(row for row in rows if row.item.anomalous)]
            values = np.array([row.criteria[name] for row in both])
            found[name][group] = auroc(values, np.array([bool(row.item.anomalous) for row in both]))
    return found


def _epoch_minutes(run: Path) -> float:
    lines = (run / "training.csv").read_text().splitlines()
    column = lines[0].split(",").index("seconds")
    return sum(float(line.split(",")[column]) for line in lines[1:]) / 60.0


def _n_rejected(run: Path, mixed_in: Sequence[Path] | None) -> int:
    """Photographs that the run rejected; of those mixed in alone where they are given."""
    lines = (run / "refinement.csv").read_text().splitlines()
    header = lines[0].split(",")
    rejected = {
        values[header.index("name")] for line in lines[1:] if (values := line.split(","))[header.index("kept")] == "0"
    }
    return len(rejected) if mixed_in is None else len(rejected & {f"m-{file.name}" for file in mixed_in})


def _write(arguments: argparse.Namespace) -> int:
    found = [json.loads(file.read_text()) for file in sorted(arguments.work.glob("*-seed*.json"))]
    if not found:
        print("nothing is finished, nothing to write")
        return 1
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "industrial.json").write_text(json.dumps(found, indent=2) + "\n")
    (arguments.out / "industrial.md").write_text("\n".join(markdown(found)) + "\n")
    print(f"wrote {arguments.out / 'industrial.json'} and industrial.md: {len(found)} jobs")
    return 0


if __name__ == "__main__":
    sys.exit(main())
