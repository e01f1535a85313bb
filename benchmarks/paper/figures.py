"""Figures 1, 3, 4 and 5 of arXiv 1901.06355 from our own runs: docs/images/paper-figure-*.png.

    python benchmarks/paper/figures.py --device cuda             # the published schedule
    python benchmarks/paper/figures.py --epochs-scale 0.016      # a short one, for a CPU

What each shows, and the numbers in it, goes to paper-figures.md in --results. Figure 5's bars are the results that
table.py left there.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from benchmarks.command_line import status_of
from benchmarks.paper.plots import (
    ErrorEpoch,
    RefinementStage,
    plot_bars_and_boxes,
    plot_error_distributions,
    plot_latent_stages,
    plot_union,
)
from benchmarks.paper.protocol import PAIRS, Setting, default_data
from benchmarks.paper.schedule import paper_settings
from edge_runtime.errors import ConfigError
from edge_runtime.metrics import balanced_accuracy
from train.calibration.thresholds import calibrate_union
from train.data.loading import load_training_set
from train.data.settings import DataSettings
from train.learning.scoring import raw_criteria
from train.learning.settings import TrainSettings
from train.learning.task import Task
from train.learning.trainer import EpochRow, Trainer
from train.runs.session import pick_device
from train.strategies.plain import PlainTraining

ALPHA = 0.05
"""Of every figure with contamination."""
MNIST, BOOT, PULLOVER = (Setting(pair=pair, alpha=ALPHA) for pair in PAIRS)
SEED = 0
HISTOGRAM_EPOCHS = 4
"""Panels of figure 1, from the first epoch to the last, evenly spread over the logarithm."""


def main() -> int:
    """Make the figures that were asked for, and the page that explains them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=default_data(), help="folder that holds mnist/, fashion-mnist/")
    parser.add_argument("--images", type=Path, default=Path("docs/images"), help="where the figures go")
    parser.add_argument("--results", type=Path, default=Path("docs/results"), help="paper.json; the page goes there")
    parser.add_argument("--epochs-scale", type=float, default=1.0, help="times the published epochs; 1 is the paper's")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    return status_of(lambda: _run(parser.parse_args()))


def _run(arguments: argparse.Namespace) -> int:
    table = arguments.results / "paper.json"
    if not table.exists():
        raise ConfigError(f"no {table}; run benchmarks/paper/table.py first, figure 5 shows its results")
    results = json.loads(table.read_text())["results"]
    arguments.images.mkdir(parents=True, exist_ok=True)
    runs = _Runs(arguments.data, pick_device(arguments.device), arguments.epochs_scale)
    published = arguments.epochs_scale == 1.0
    scale = "the published schedule" if published else f"SHORT schedule, {arguments.epochs_scale:g} of the published"
    note = f"edge-aae, seed {SEED}, {scale}"
    page = [
        "# The paper's figures, from our own runs",
        "",
        f"`{shlex.join(['python', 'benchmarks/paper/figures.py', *sys.argv[1:]])}`, seed {SEED},",
        f"on {runs.device_name}, {scale}.",
    ]
    if not published:
        page.append("**A short schedule shows the mechanism at best; its numbers are no reproduction of the paper's.**")
    page += ["", "The paper's own captions were not at hand: what each figure of it shows is known from descriptions."]
    for number, make in ((1, _figure_1), (3, _figure_3), (4, _figure_4)):
        print(f"figure {number}", flush=True)
        lines = make(runs, arguments.images / f"paper-figure-{number}.png", note)
        page += ["", f"## Figure {number}", "", f"![figure {number}](../images/paper-figure-{number}.png)", "", *lines]
    print("figure 5", flush=True)
    lines = _figure_5(runs, arguments.images / "paper-figure-5.png", note, results)
    page += ["", "## Figure 5", "", "![figure 5](../images/paper-figure-5.png)", "", *lines]
    (arguments.results / "paper-figures.md").write_text("\n".join(page) + "\n")
    print(f"wrote {arguments.images}/paper-figure-*.png and {arguments.results}/paper-figures.md")
    return 0


class _Runs:
    """Trains what the figures need, each run once."""

    def __init__(self, data: Path, device: torch.device, scale: float) -> None:
        self.data = data
        self.device = device
        self.scale = scale
        self._stages: dict[str, list[RefinementStage]] = {}

    @property
    def device_name(self) -> str:
        """In words."""
        return torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "a CPU"

    def settings(self, setting: Setting, method: str) -> TrainSettings:
        """Of a run, at this schedule."""
        return paper_settings(setting, method, SEED, scale=self.scale, cap=None)

    def train(
        self, setting: Setting, method: str, on_epoch: Callable[[Trainer, EpochRow, np.ndarray], None]
    ) -> Trainer:
        """A contaminated run; on_epoch gets the trainer, the epoch, and which images are anomalies (N,)."""
        images = setting.training_set(self.data, SEED)
        assert images.labels is not None, "the original sets have labels"
        anomalous = images.labels == setting.pair.anomaly
        task = Task.of(self.settings(setting, method), images.images, self.device)
        trainer = Trainer(PlainTraining(task))
        trainer.run(on_epoch=lambda row: on_epoch(trainer, row, anomalous))
        return trainer

    def itsr(self, setting: Setting) -> list[RefinementStage]:
        """Codes, errors and candidates at the end of every phase of ITSR."""
        stages: list[RefinementStage] = []

        def look(trainer: Trainer, row: EpochRow, anomalous: np.ndarray) -> None:
            if trainer.epoch_in_phase == trainer.strategy.phases[trainer.phase_index].epochs:
                criteria, codes = trainer.strategy.criteria_and_codes()
                candidates = trainer.strategy.refinement.candidates
                stages.append(RefinementStage(row.phase, codes, criteria[:, 0], anomalous, candidates))

        if setting.name not in self._stages:
            self.train(setting, "itsr", look)
            self._stages[setting.name] = stages
        return self._stages[setting.name]


def _figure_1(runs: _Runs, path: Path, note: str) -> list[str]:
    epochs = runs.settings(MNIST, "ae").schedule.train
    looked_at = set(np.unique(np.geomspace(1, epochs, 40).round().astype(int)).tolist())
    shown = np.unique(np.geomspace(1, epochs, HISTOGRAM_EPOCHS).round().astype(int)).tolist()
    history: list[ErrorEpoch] = []

    def look(trainer: Trainer, row: EpochRow, anomalous: np.ndarray) -> None:
        if row.epoch in looked_at:
            history.append(ErrorEpoch(row.epoch, trainer.strategy.criteria_and_codes()[0][:, 0], anomalous))

    runs.train(MNIST, "ae", look)
    plot_error_distributions(path, history, shown, f"AE on MNIST 0 with 5 % of 2, training images; {note}")
    rows = [f"| {h.epoch} | {h.threshold:.2f} | {h.tnr:.3f} | {h.tpr:.3f} |" for h in history if h.epoch in shown]
    return [
        "Reconstruction errors of the AE's normal (0) and anomalous (2, 5 %) training images in the course of",
        "training, T = p90 of all of them, and the shares rightly judged at T. In the paper anomalies are fitted later",
        "than normal images, until the distributions overlap and TNR falls.",
        "",
        "| epoch | T | TNR | TPR |",
        "|---|---|---|---|",
        *rows,
    ]


def _figure_3(runs: _Runs, path: Path, note: str) -> list[str]:
    pair = PULLOVER.pair
    clean = DataSettings(path=str(runs.data / pair.folder), classes=(pair.normal,), seed=SEED)
    task = Task.of(runs.settings(PULLOVER, "aae"), load_training_set(clean, "mlp").images, runs.device)
    trained = PlainTraining(task)
    Trainer(trained).run()
    training, _ = trained.criteria_and_codes()
    _, decision = calibrate_union(training, "aae")
    limits = [decision.limits[name].threshold for name in ("reconstruction_error", "neg_log_prior")]
    test = PULLOVER.test_set(runs.data)
    assert test.labels is not None, "the original sets have labels"
    taken = np.isin(test.labels, (pair.normal, pair.anomaly))
    inputs = torch.tensor(test.images[taken]).unsqueeze(1).to(runs.device)
    criteria, _ = raw_criteria(trained.autoencoder, trained.prior, inputs)
    anomalous = test.labels[taken] == pair.anomaly
    above = criteria > np.array(limits)
    names = ("error alone", "likelihood alone", "union")
    flags = (above[:, 0], above[:, 1], above.any(axis=1))
    figures = [balanced_accuracy(flagged, anomalous) for flagged in flags]
    plot_union(path, criteria, anomalous, limits, dict(zip(names, figures, strict=True)), note)
    return [
        "The two criteria of an AAE trained on clean T-shirts, for test T-shirts and Pullovers, with the limits p90 of",
        "the error and p10 of the likelihood from training. BAcc, in brackets the paper's:",
        ", ".join(f"{n} {v:.2f} [{p}]" for n, v, p in zip(names, figures, (0.72, 0.73, "0.80"), strict=True)) + ".",
    ]


def _figure_4(runs: _Runs, path: Path, note: str) -> list[str]:
    stages = runs.itsr(BOOT)
    shown = [stages[0], stages[1], stages[len(stages) // 2], stages[-2], stages[-1]]
    plot_latent_stages(path, shown, f"ITSR on T-shirts with 5 % boots, codes of the training images; {note}")
    last = stages[-1]
    found = int((last.candidates & last.anomalous).sum())
    return [
        "Codes of all training images (T-shirts, 5 % boots) at the end of pretraining, of rounds of refinement and of",
        "re-training; candidates of the one-class SVM ringed, axes differ from panel to panel. The dashed circle holds",
        f"90 % of the prior. At the end {found} of {int(last.anomalous.sum())} boots are among",
        f"{int(last.candidates.sum())} candidates.",
    ]


def _figure_5(runs: _Runs, path: Path, note: str, results: list[dict]) -> list[str]:
    settings = (MNIST, BOOT, PULLOVER)
    bars = {
        (setting.name, side, method): [
            result["cells"][side]["bacc"]
            for result in results
            if (result["setting"], result["alpha"], result["method"]) == (setting.pair.name, ALPHA, method)
        ]
        for setting in settings
        for side in ("observed", "unobserved")
        for method in ("ae", "aae", "itsr")
    }
    boxes = {setting.name: (runs.itsr(setting)[0], runs.itsr(setting)[-1]) for setting in settings}
    plot_bars_and_boxes(path, settings, bars, boxes, note)
    lines = [
        "Above: BAcc at 5 % contamination from paper.json (mean over its seeds, at its own schedule, see paper.md),",
        "the paper's figures as dashes. Below: reconstruction errors of the training images before ITSR (end of",
        "pretraining) and after (end of re-training), without outliers beyond 1.5 interquartile ranges.",
        "",
        "| setting | normal, median before | after | anomalous, median before | after |",
        "|---|---|---|---|---|",
    ]
    for setting in settings:
        medians = [
            f"{np.median(stage.errors[mask]):.2f}"
            for which in (False, True)
            for stage in boxes[setting.name]
            for mask in [stage.anomalous == which]
        ]
        lines.append(f"| {setting.pair.title} | {' | '.join(medians)} |")
    risen = [
        setting.pair.title
        for setting in settings
        for before, after in [boxes[setting.name]]
        if np.median(after.errors[after.anomalous]) > np.median(before.errors[before.anomalous])
    ]
    lines += [
        "",
        "In the paper ITSR raises the anomalous median in all three settings and hardly moves the normal one; here it",
        f"rises in {len(risen)} of {len(settings)}" + (f" ({', '.join(risen)})." if risen else "."),
    ]
    return lines


if __name__ == "__main__":
    sys.exit(main())
