"""The demo: the whole road on an embedded sample, from unsorted images to records, with a page that shows it."""

from __future__ import annotations

import csv
import logging
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_aae.demo.page import page_of, strip
from edge_aae.demo.training import CONTAMINANT, METHODS, NORMAL, SAMPLE, MethodRow, n_contaminants, trainings
from edge_runtime.bundle.bundle import Bundle
from edge_runtime.errors import ConfigError, DataError
from edge_runtime.files import check_folder_place
from edge_runtime.gate.verification import DEFAULT_BACKEND, verify_bundle
from edge_runtime.model.images import write_image
from edge_runtime.model.preprocess import Frame
from edge_runtime.scoring.detector import Detector
from edge_runtime.scoring.evaluation import BundleScorer, Evaluation, Row
from edge_runtime.scoring.image_items import Item
from edge_runtime.scoring.labelled import LabelledImages, read_labelled
from edge_runtime.sinks.records import to_line
from edge_runtime.sources import VideoSource
from edge_runtime.stream.pipeline import RunSummary, run
from export.bundling import Export, export_bundle
from export.parity import require_passed
from train.pages.page import write_page

__all__ = ["run_demo"]

logger = logging.getLogger(__name__)

MARKER = ".edge-aae-demo"
"""In a folder that this command made and may replace."""

N_VIDEO_NORMAL, N_VIDEO_CONTAMINANT, N_VIDEO_OTHER = 120, 15, 15
VIDEO_FPS = 10.0
VIDEO_SCALE = 10
"""28x28 images fill frames of 280x280; the detector's own preprocessing brings them back."""
STRIP_FRAMES = 16
STAGES = ("preprocess", "infer", "post")
"""Of a record's latency: what scoring a frame takes"""


def run_demo(out: Path, *, epochs_scale: float = 1.0, seed: int = 0) -> Iterator[str]:
    """Run the demo into the folder `out`; yields lines to print.

    Raises ConfigError where `out` holds something else, GateError where the exported graphs differ from PyTorch.
    """
    _prepare(out)
    test = read_labelled(SAMPLE, "test")
    runs = [out / "runs" / recipe.folder for recipe in METHODS]
    with trainings(out, epochs_scale=epochs_scale, seed=seed) as running:
        running[METHODS[-1].name].result()
        logger.info("-- export, verify")
        exported = export_bundle(runs[-1], out / "model.aae")
        require_passed([verify_bundle(Bundle.open(out / "model.aae"))], subject=str(out / "model.aae"))
        rows = [running[recipe.name].result() for recipe in METHODS]
    logger.info("-- run")
    truth = _write_video(out / "conveyor.avi", test, seed)
    _write_truth(out / "conveyor.csv", truth)
    summary, records, frames = _run_on_video(out)
    found = sum(record["is_anomaly"] and truth[index] != NORMAL for index, record in enumerate(records))
    false_alarms = sum(record["is_anomaly"] and truth[index] == NORMAL for index, record in enumerate(records))
    detector = Detector.load(out / "model.aae")
    write_image(out / "strip.png", strip(detector, frames, truth, NORMAL, STRIP_FRAMES))
    evaluation = _judged(detector, records, frames, truth)
    verdict = evaluation.verdict()
    assert verdict is not None, "every frame has a label"
    lines = [
        *_table(rows, n_contaminants()),
        "",
        *_facts(exported, summary),
        f"video: {found} of {N_VIDEO_CONTAMINANT + N_VIDEO_OTHER} anomalous frames found, "
        f"{false_alarms} of {N_VIDEO_NORMAL} normal frames flagged",
        verdict.line,
    ]
    sections = page_of(evaluation, verdict, BundleScorer(detector), lines, out, runs)
    write_page(out / "report.html", "edge-aae demo", sections)
    yield from lines
    yield ""
    yield f"left in {out}/: model.aae, records.jsonl, conveyor.avi, strip.png, report.html, runs/"
    yield "next:"
    yield f"  open {out}/report.html"
    yield f"  edge-aae info {out}/model.aae"
    yield f"  edge-aae run --model {out}/model.aae --source {out}/conveyor.avi --out records.jsonl"
    yield "  edge-aae train YOUR_IMAGES && edge-aae export && edge-aae run --camera 0"


def _prepare(out: Path) -> None:
    if out.exists():
        if not out.is_dir() or (any(out.iterdir()) and not (out / MARKER).exists()):
            raise ConfigError(f"{out} exists and was not made by this command; name another --out")
        shutil.rmtree(out)
    check_folder_place(out)
    out.mkdir(parents=True)
    (out / MARKER).touch()


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


def _judged(
    detector: Detector, records: list[dict[str, Any]], frames: list[Frame], truth: NDArray[np.int64]
) -> Evaluation:
    """What the run said of each frame, beside what it shows."""
    evaluation = Evaluation(detector.decision.threshold, detector.bundle.digest)
    for record, frame, label in zip(records, frames, truth, strict=True):
        item = Item(f"frame {record['frame_id']}", partial(np.copy, frame), anomalous=bool(label != NORMAL))
        evaluation.rows.append(Row(item, record["score"], record["is_anomaly"], record["criteria"]))
        evaluation.times_ms.append(sum(record["latency_ms"][stage] for stage in STAGES))
    return evaluation


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
