"""The jobs behind the paper's table: one training set and one method each, run, scored, and kept as JSON."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.paper.baselines import BASELINES, missing
from benchmarks.paper.protocol import Setting, evaluate
from benchmarks.paper.schedule import PAPER_METHODS, paper_settings, robust_settings
from benchmarks.paper.side_by_side import Progress, SideBySide
from edge_runtime import __version__
from edge_runtime.bundle.kept_scores import KeptScores
from edge_runtime.scoring.labelled import LabelledImages
from train.calibration.thresholds import calibrate_union
from train.learning.scoring import raw_criteria
from train.learning.settings import TrainSettings
from train.learning.task import Task
from train.runs.run_folder import RunFolder, TrainedRun
from train.runs.session import train
from train.schedule import REFINEMENTS
from train.strategies.plain import PlainTraining

__all__ = ["METHODS", "Job", "Results", "identity_of", "job_of", "missing_method", "trained_and_scored", "work"]

METHODS = (*PAPER_METHODS, "robust", *BASELINES)

RECIPE = 1
"""Of the networks' protocol here; raise it when figures change for another reason than the settings in a job's key."""

REPORT_INTERVAL_S = 30.0

ASKED_RATES = (0.01, 0.05, 0.1)
"""False-alarm rates whose thresholds a calibrated run is held to."""


@dataclass(frozen=True, slots=True)
class Job:
    """One training set, one method."""

    setting: Setting
    method: str
    seed: int
    """Of the network and of the contaminants' draw"""
    settings: TrainSettings | None
    """None for baselines, and for a method that cannot run here"""
    key: dict[str, Any]
    """What a finished result must have in common with this job to stand for it"""

    @property
    def identity(self) -> tuple[str, float, str, int]:
        """Setting, alpha, method and seed."""
        return self.setting.pair.name, self.setting.alpha, self.method, self.seed

    @property
    def name(self) -> str:
        """Of its file."""
        return f"{self.setting.name}-{self.method}-{self.seed}"


def job_of(setting: Setting, method: str, seed: int, *, scale: float, cap: int | None) -> Job:
    """The job; scale and cap shorten the published schedule of AE, AAE and ITSR."""
    if method in BASELINES:
        return Job(setting, method, seed, None, {"baseline": BASELINES[method].version})
    if missing_method(method):
        return Job(setting, method, seed, None, {"missing": method})
    if method == "robust":
        settings = robust_settings(seed)
        chosen = settings.to_json()
    else:
        settings = paper_settings(setting, method, seed, scale=scale, cap=cap)
        # Named one by one, so that a setting which other methods gain does not undo hours of training.
        chosen = {
            name: getattr(settings, name) for name in ("method", "refine", "latent_dim", "batch_size", "learning_rate")
        }
        chosen["adversarial_weight"] = settings.adversary_pull
        chosen["schedule"] = asdict(settings.schedule)
        if settings.refine == "itsr":
            names = ("nu", "rounds", "retrain_percentile", "negative_weight", "error_cap")
            chosen["itsr"] = {name: getattr(settings.itsr, name) for name in names}
    key = {"recipe": RECIPE, "epochs_scale": scale, "max_epochs": cap, "settings": chosen}
    if method == "robust":
        key = {"edge_aae": __version__, "recipe": RECIPE, "settings": chosen}
    return Job(setting, method, seed, settings, json.loads(json.dumps(key)))


def identity_of(result: dict[str, Any]) -> tuple[str, float, str, int]:
    """That of the job whose result it is."""
    return result["setting"], result["alpha"], result["method"], result["seed"]


def missing_method(method: str) -> str | None:
    """Why a method cannot run here."""
    if method == "robust" and "robust" not in REFINEMENTS:
        return "robust: this release knows no --refine robust"
    return missing(BASELINES[method]) if method in BASELINES else None


class Results:
    """Finished jobs: a JSON file each in the work folder, and those of an earlier table."""

    def __init__(self, work: Path, earlier: Iterable[dict[str, Any]]) -> None:
        self.work = work
        self._earlier = {identity_of(result): result for result in earlier}

    def get(self, job: Job) -> dict[str, Any] | None:
        """The result of a job, None where there is none or its key is another."""
        result = self._earlier.get(job.identity)
        file = self.work / f"{job.name}.json"
        if file.exists():
            kept = json.loads(file.read_text())
            if kept["key"] == job.key:
                result = kept
        return result if result is not None and result["key"] == job.key else None

    def add(self, job: Job, result: dict[str, Any]) -> None:
        """Keep a result, whole or not at all."""
        self.work.mkdir(parents=True, exist_ok=True)
        partial = self.work / f"{job.name}.partial"
        partial.write_text(json.dumps(result, indent=1) + "\n")
        partial.replace(self.work / f"{job.name}.json")


def work(jobs: list[Job], device: torch.device, data: Path, together: int) -> Iterator[tuple[Job, dict[str, Any]]]:
    """Each job with its result, as it finishes; `together` runs of a paper's method train side by side."""
    for method in dict.fromkeys(job.method for job in jobs):
        of_method = [job for job in jobs if job.method == method]
        if method in PAPER_METHODS:
            for start in range(0, len(of_method), together):
                yield from _side_by_side(of_method[start : start + together], device, data)
            continue
        for job in of_method:
            started = time.perf_counter()
            found = _robust(job, device, data) if method == "robust" else {"cells": _baseline(job, data)}
            yield job, _result(job, found, time.perf_counter() - started, device if method == "robust" else None)


def _side_by_side(jobs: list[Job], device: torch.device, data: Path) -> Iterator[tuple[Job, dict[str, Any]]]:
    started = time.perf_counter()
    trainings: dict[str, PlainTraining] = {}
    labels = {}
    for job in jobs:
        assert job.settings is not None, "the paper's methods have settings"
        images = job.setting.training_set(data, job.seed)
        trainings[job.name] = PlainTraining(Task.of(job.settings, images.images, device))
        labels[job.name] = images.labels
    SideBySide(list(trainings.values())).run(on_progress=_Reporter(jobs[0].method))
    trained_s = time.perf_counter() - started
    for job in jobs:
        training = trainings[job.name]
        criteria, _ = training.criteria_and_codes()
        _, decision = calibrate_union(criteria, training.task.settings.method)
        test = _test_set(job.setting, data)
        inputs = torch.tensor(test.images).unsqueeze(1).to(device)  # (n, 1, H, W)
        scores = decision.score(raw_criteria(training.autoencoder, training.prior, inputs)[0])
        assert test.labels is not None, "the original sets have labels"
        cells = evaluate(job.setting, scores, decision.is_anomalous(scores), test.labels)
        # Of the whole group: side by side there is no time of one.
        result = _result(job, {"cells": cells}, trained_s, device)
        contaminating = labels[job.name] == job.setting.pair.anomaly
        result["together"] = len(jobs)
        result["candidates"] = {
            "all": int(training.refinement.candidates.sum()),
            "anomalies": int((training.refinement.candidates & contaminating).sum()),
            "anomalies_in_training": int(contaminating.sum()),
        }
        yield job, result


class _Reporter:
    """Prints steps done, now and then."""

    def __init__(self, method: str) -> None:
        self.method = method
        self.started = self.reported = time.monotonic()

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        if now - self.reported < REPORT_INTERVAL_S:
            return
        self.reported = now
        print(
            f"  {self.method}: {progress.done} of at most {progress.total} steps, {progress.running} running, "
            f"{progress.done / (now - self.started):.0f} steps/s",
            flush=True,
        )


def _robust(job: Job, device: torch.device, data: Path) -> dict[str, Any]:
    """Cells, and the run held to other asked rates than its own."""
    assert job.settings is not None, "robust has settings"
    test = _test_set(job.setting, data)
    assert test.labels is not None, "the original sets have labels"
    trained, scores = trained_and_scored(job.setting, job.settings, test, device, data, job.seed)
    normal = scores[test.labels == job.setting.pair.normal]
    kept = KeptScores.of_manifest(trained.calibration)
    assert kept is not None, "robust keeps its scores"
    return {
        "cells": evaluate(job.setting, scores, trained.decision.is_anomalous(scores), test.labels),
        "false_alarms": {f"{rate:g}": int((normal > kept.threshold_at(rate)).sum()) for rate in ASKED_RATES},
        "n_normal_test": len(normal),
        "contamination": trained.calibration["contamination"],
    }


def trained_and_scored(
    setting: Setting, settings: TrainSettings, test: LabelledImages, device: torch.device, data: Path, seed: int
) -> tuple[TrainedRun, NDArray[np.float64]]:
    """The product's own way: train a run folder, load it; its scores (N,) of the test images. seed: of contaminants."""
    with tempfile.TemporaryDirectory() as folder:
        outcome = train(
            setting.data_settings(data, seed), settings, Path(folder) / "run", device=str(device), announce=False
        )
        trained = RunFolder(outcome.folder.path).load()
    inputs = np.stack([trained.config.preprocess(image) for image in test.images])
    criteria, _ = raw_criteria(trained.autoencoder, trained.prior, torch.from_numpy(inputs).permute(0, 3, 1, 2))
    return trained, trained.decision.score(criteria)


def _baseline(job: Job, data: Path) -> dict[str, dict[str, float]]:
    training = job.setting.training_set(data, job.seed).images[..., 0]
    test = _test_set(job.setting, data)
    scored = BASELINES[job.method].run(training, test.images, job.seed)
    assert test.labels is not None, "the original sets have labels"
    return evaluate(job.setting, scored.scores, scored.scores > scored.threshold, test.labels)


@cache
def _test_set(setting: Setting, data: Path) -> LabelledImages:
    return setting.test_set(data)


def _result(job: Job, found: dict[str, Any], seconds: float, device: torch.device | None) -> dict[str, Any]:
    return {
        "setting": job.setting.pair.name,
        "alpha": job.setting.alpha,
        "method": job.method,
        "seed": job.seed,
        "key": job.key,
        **found,
        "seconds": round(seconds, 1),
        "device": _device_name(device),
        "threads": torch.get_num_threads(),
        "versions": {"edge-aae": __version__, **_versions("torch", "numpy", "scikit-learn", "pyod")},
    }


def _device_name(device: torch.device | None) -> str:
    if device is None or device.type == "cpu":
        return "cpu"
    precision = "TF32" if torch.get_float32_matmul_precision() == "high" else "float32"
    return f"{torch.cuda.get_device_name(device)}, products in {precision}"


def _versions(*packages: str) -> dict[str, str]:
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
