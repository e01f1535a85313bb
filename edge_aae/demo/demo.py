"""The demo: the whole road on an embedded sample, from unsorted images to records, with a page that shows it."""

from __future__ import annotations

import csv
import logging
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from edge_aae.demo.page import strip, write_page
from edge_runtime.bundle.bundle import Bundle
from edge_runtime.errors import ConfigError, DataError
from edge_runtime.gate.verification import DEFAULT_BACKEND, verify_bundle
from edge_runtime.metrics import auroc, balanced_accuracy
from edge_runtime.model.images import write_image
from edge_runtime.model.preprocess import Frame
from edge_runtime.scoring.detector import Detector
from edge_runtime.scoring.labelled import LabelledImages, read_labelled
from edge_runtime.sinks.records import to_line
from edge_runtime.sources import VideoSource
from edge_runtime.stream.pipeline import RunSummary, run
from export.bundling import Export, export_bundle
from export.parity import require_passed
from train.data.settings import DataSettings
from train.learning.scoring import raw_criteria
from train.learning.settings import TrainSettings
from train.networks.registry import NetworkName, network_spec
from train.runs.run_folder import RunFolder
from train.runs.session import TrainingOutcome, train
from train.schedule import MethodName, RefineName, Schedule

__all__ = ["METHODS", "MethodRow", "Recipe", "n_contaminants", "run_demo", "train_and_evaluate"]

logger = logging.getLogger(__name__)

SAMPLE = Path(__file__).parents[1] / "sample/fashion.npz"
NORMAL, CONTAMINANT = 0, 9
"""T-shirts; ankle boots, 5 % of the training images."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """One way to train on the sample."""

    name: str
    network: NetworkName = "mlp"
    method: MethodName = "aae"
    refine: RefineName = "none"
    schedule: Schedule


METHODS = (
    Recipe(name="AE", method="ae", schedule=Schedule(train=40)),
    Recipe(name="AAE", schedule=Schedule(train=40)),
    Recipe(name="AAE+ITSR", refine="itsr", schedule=Schedule(train=10, refine=2, retrain=10)),
    Recipe(name="robust", network="hog", refine="robust", schedule=network_spec("hog").schedule("aae", "robust")),
)
"""The paper's three with 40 epochs each, against 1000 to 10000 there: the demo shows the road, not the paper's figures.
`robust`, the default of `edge-aae train`, with its own schedule. The last is exported."""

TARGET_FPR = 0.1
"""Of `robust`: what the paper's p90 asks of each of its criteria. The default of `edge-aae train` is 1 %."""

MARKER = ".edge-aae-demo"
"""In a folder that this command made and may replace."""

N_VIDEO_NORMAL, N_VIDEO_CONTAMINANT, N_VIDEO_OTHER = 120, 15, 15
VIDEO_FPS = 10.0
VIDEO_SCALE = 10
"""28x28 images fill frames of 280x280; the detector's own preprocessing brings them back."""
STRIP_FRAMES = 16


@dataclass(frozen=True, slots=True)
class MethodRow:
    """One line of the demo's table."""

    name: str
    auroc: float
    """Test T-shirts against boots and all other classes"""
    observed_bacc: float
    """Against boots, which were among the training images"""
    unobserved_bacc: float
    """Against the eight other classes"""
    contaminants_rejected: int | None
    rejected: int | None
    seconds: float


def run_demo(out: Path, *, epochs_scale: float = 1.0, seed: int = 0) -> Iterator[str]:
    """Run the demo into the folder `out`; yields lines to print.

    Raises ConfigError where `out` holds something else, GateError where the exported graphs differ from PyTorch.
    """
    _prepare(out)
    test = read_labelled(SAMPLE, "test")
    trained = list(train_and_evaluate(out, epochs_scale=epochs_scale, seed=seed))
    rows, outcomes = [row for row, _ in trained], [outcome for _, outcome in trained]
    logger.info("-- export, verify")
    exported = export_bundle(outcomes[-1].folder.path, out / "model.aae")
    require_passed([verify_bundle(Bundle.open(out / "model.aae"))], subject=str(out / "model.aae"))
    logger.info("-- run")
    truth = _write_video(out / "conveyor.avi", test, seed)
    _write_truth(out / "conveyor.csv", truth)
    summary, records, frames = _run_on_video(out)
    found = sum(record["is_anomaly"] and truth[index] != NORMAL for index, record in enumerate(records))
    false_alarms = sum(record["is_anomaly"] and truth[index] == NORMAL for index, record in enumerate(records))
    write_image(out / "strip.png", strip(Detector.load(out / "model.aae"), frames, truth, NORMAL, STRIP_FRAMES))
    lines = [
        *_table(rows, n_contaminants()),
        "",
        *_facts(exported, summary),
        f"video: {found} of {N_VIDEO_CONTAMINANT + N_VIDEO_OTHER} anomalous frames found, "
        f"{false_alarms} of {N_VIDEO_NORMAL} normal frames flagged",
    ]
    write_page(out, lines, [outcome.folder.path for outcome in outcomes])
    yield from lines
    yield ""
    yield f"left in {out}/: model.aae, records.jsonl, conveyor.avi, strip.png, report.html, runs/"
    yield "next:"
    yield f"  open {out}/report.html"
    yield f"  edge-aae info {out}/model.aae"
    yield f"  edge-aae run --source {out}/conveyor.avi --out records.jsonl"
    yield "  edge-aae train YOUR_IMAGES && edge-aae export && edge-aae run --camera 0"


def _prepare(out: Path) -> None:
    if out.exists():
        if not out.is_dir() or (any(out.iterdir()) and not (out / MARKER).exists()):
            raise ConfigError(f"{out} exists and was not made by this command; name another --out")
        shutil.rmtree(out)
    out.mkdir(parents=True)
    (out / MARKER).touch()


def train_and_evaluate(out: Path, *, epochs_scale: float, seed: int) -> Iterator[tuple[MethodRow, TrainingOutcome]]:
    """Train each of METHODS on the sample into out/runs/ and measure it on the sample's test images."""
    test = read_labelled(SAMPLE, "test")
    for recipe in METHODS:
        name = recipe.name
        logger.info("-- %s", name)
        outcome = _train(out, recipe, recipe.schedule.scaled(epochs_scale), seed)
        if not outcome.complete:
            raise DataError(f"the demo was interrupted in {name}; run it again")
        yield _evaluate(name, outcome, test, recipe.refine), outcome


def n_contaminants() -> int:
    """Ankle boots among the sample's training images."""
    labels = read_labelled(SAMPLE, "train").labels
    assert labels is not None, "the sample has labels"
    return int((labels == CONTAMINANT).sum())


def _train(out: Path, recipe: Recipe, schedule: Schedule, seed: int) -> TrainingOutcome:
    # No classes are named: all images of the sample train, boots among them, unmarked.
    spec = network_spec(recipe.network)
    settings = TrainSettings(
        network=recipe.network,
        method=recipe.method,
        refine=recipe.refine,
        latent_dim=spec.latent_dim(recipe.method),
        schedule=schedule,
        batch_size=spec.batch_size,
        target_fpr=TARGET_FPR,
        seed=seed,
    )
    folder = out / "runs" / recipe.name.lower().replace("+", "-")
    return train(DataSettings(path=str(SAMPLE), seed=seed), settings, folder, announce=False)


def _evaluate(name: str, outcome: TrainingOutcome, test: LabelledImages, refine: RefineName) -> MethodRow:
    assert test.labels is not None, "the sample has labels"
    trained = RunFolder(outcome.folder.path).load()
    inputs = np.stack([trained.config.preprocess(image) for image in test.images])
    criteria, _ = raw_criteria(trained.autoencoder, trained.prior, torch.from_numpy(inputs).permute(0, 3, 1, 2))
    scores = trained.decision.score(criteria)
    flagged = trained.decision.is_anomalous(scores)
    anomalous = test.labels != NORMAL
    observed = ~anomalous | (test.labels == CONTAMINANT)
    unobserved = test.labels != CONTAMINANT
    rejected = _rejected_labels(outcome.folder.path / "refinement.csv") if refine != "none" else None
    return MethodRow(
        name,
        auroc(scores, anomalous),
        balanced_accuracy(flagged[observed], anomalous[observed]),
        balanced_accuracy(flagged[unobserved], anomalous[unobserved]),
        None if rejected is None else rejected.count(CONTAMINANT),
        None if rejected is None else len(rejected),
        outcome.seconds,
    )


def _rejected_labels(refinement: Path) -> list[int]:
    with refinement.open(newline="") as stream:
        return [int(row["label"]) for row in csv.DictReader(stream) if row["kept"] == "0"]


def _write_video(path: Path, test: LabelledImages, seed: int) -> NDArray[np.int64]:
    """Write held-out images as a lossless video, one a frame; returns the class of each frame.

    FFV1 decodes to the same bytes on every machine. Motion JPEG and H.264 do not: FFmpeg's conversion to BGR moved two
    pixels of three by a grey level or two between x86-64 and aarch64, which moves scores (docs/results/aarch64.md).
    """
    assert test.labels is not None, "the sample has labels"
    rng = np.random.default_rng(seed)
    pools = (
        (test.labels == NORMAL, N_VIDEO_NORMAL),
        (test.labels == CONTAMINANT, N_VIDEO_CONTAMINANT),
        ((test.labels != NORMAL) & (test.labels != CONTAMINANT), N_VIDEO_OTHER),
    )
    chosen = np.concatenate([rng.choice(np.flatnonzero(pool), n, replace=False) for pool, n in pools])
    rng.shuffle(chosen)
    side = test.images.shape[1] * VIDEO_SCALE
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"FFV1"), VIDEO_FPS, (side, side))
    if not writer.isOpened():
        raise DataError(f"OpenCV cannot write FFV1 video to {path}; install opencv-python-headless from PyPI")
    for image in test.images[chosen]:
        frame = cv2.resize(image, (side, side), interpolation=cv2.INTER_NEAREST)
        writer.write(cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR))
    writer.release()
    truth: NDArray[np.int64] = test.labels[chosen]
    return truth


def _write_truth(path: Path, truth: NDArray[np.int64]) -> None:
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["frame_id", "class", "anomalous"])
        writer.writerows((index, int(label), int(label != NORMAL)) for index, label in enumerate(truth))


def _run_on_video(out: Path) -> tuple[RunSummary, list[dict[str, Any]], list[Frame]]:
    records: list[dict[str, Any]] = []
    with (out / "records.jsonl").open("w") as stream:

        def write(record: dict[str, Any]) -> None:
            stream.write(to_line(record))
            records.append(record)

        summary = run(Detector.load(out / "model.aae"), VideoSource(out / "conveyor.avi"), write)
    frames = []
    with VideoSource(out / "conveyor.avi") as source:
        while source.grab():
            frames.append(source.retrieve().image)
    return summary, [record for record in records if record["type"] == "frame"], frames


def _table(rows: list[MethodRow], n_contaminants: int) -> list[str]:
    lines = [
        f"{'':<10} {'AUROC':>6} {'BAcc observed':>14} {'BAcc unobserved':>16} {'contaminants found':>20} {'train s':>8}"
    ]
    for row in rows:
        found = (
            "-"
            if row.contaminants_rejected is None
            else f"{row.contaminants_rejected}/{n_contaminants} in {row.rejected}"
        )
        lines.append(
            f"{row.name:<10} {row.auroc:>6.3f} {row.observed_bacc:>14.3f} {row.unobserved_bacc:>16.3f} "
            f"{found:>20} {row.seconds:>8.0f}"
        )
    return lines


def _facts(exported: Export, summary: RunSummary) -> list[str]:
    reports = [
        report
        for report in exported.reports
        if report.backend == DEFAULT_BACKEND and report.reference == "PyTorch float32"
    ]
    flips = ", ".join(f"{report.precision} {report.decisions.flips}" for report in reports)
    left_out = "".join(f"; {name} left out: {reason}" for name, reason in exported.refused.items())
    percentiles = summary.percentiles_ms()
    assert percentiles is not None, "the video has frames"
    return [
        f"exported {METHODS[-1].name}: decisions that flip against PyTorch float32 on "
        f"{reports[0].decisions.n_frames} frames: {flips}{left_out}",
        "run: {} frames, {:.2f} ms a frame (p50; p95 {:.2f}, p99 {:.2f}) on this machine".format(
            summary.frames, *percentiles
        ),
    ]
