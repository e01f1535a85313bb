"""What `edge-aae calibrate` with thirty frames restores in another place: other-place.md.

    python -m benchmarks.thresholds.other_place --data ROOT --elpv ELPV --seeds 0 --out docs/results/other-place.md

Solar cells of other modules than trained on (ELPV, in the order of its files), and photographs whose lamp, focus or
camera changed after the training: darker (gamma 1.4), lighter (gamma .7), blurred (2 pixels), shifted (2 % of the
width, edges repeated). Half of the good photographs of the latter train. Thirty good frames of the new place
calibrate, drawn by the seed; the other good ones and the defects, changed alike, are tried with the threshold of
before and of after. An area of 1 cannot be lost by a threshold: AUROC says what the place itself costs.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from scipy import stats

from benchmarks.command_line import status_of
from benchmarks.industrial.cells import Split
from benchmarks.industrial.photographs import PhotographSet, Places, find
from benchmarks.industrial.real_sets import written_command
from benchmarks.machine import cpu_name
from benchmarks.thresholds.trained import criteria_of, frames_of, trained_on
from edge_runtime.bundle.site_calibration import SiteCalibration
from edge_runtime.files import json_bytes, write_atomically
from edge_runtime.metrics import auroc
from edge_runtime.model.preprocess import Frame

CALIBRATING = 30
ASKED = 0.01
OTHER_MODULES = ("elpv-mono", "elpv-poly")
CHANGED = ("mvtec-pill", "mvtec-bottle", "kolektor")


def gamma(frame: Frame, power: float) -> Frame:
    """Another lamp."""
    table = (255.0 * (np.arange(256) / 255.0) ** power).round().astype(np.uint8)
    changed: Frame = table[frame]
    return changed


def blurred(frame: Frame) -> Frame:
    """Out of focus."""
    changed: Frame = cv2.GaussianBlur(frame, (0, 0), 2.0)
    return changed


def shifted(frame: Frame) -> Frame:
    """A camera that was knocked."""
    by = round(0.02 * frame.shape[1])
    moved = np.float32([[1, 0, by], [0, 1, by]])
    changed: Frame = cv2.warpAffine(frame, moved, frame.shape[1::-1], borderMode=cv2.BORDER_REPLICATE)
    return changed


CHANGES: dict[str, Callable[[Frame], Frame]] = {
    "none": lambda frame: frame,
    "darker": lambda frame: gamma(frame, 1.4),
    "lighter": lambda frame: gamma(frame, 0.7),
    "blurred": blurred,
    "shifted": shifted,
}


def main(words: Sequence[str] | None = None) -> int:
    """Measure, and write the table."""
    words = list(sys.argv[1:] if words is None else words)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a folder with a folder a set")
    parser.add_argument("--elpv", type=Path, help="a copy of elpv-dataset; default: the installed package")
    parser.add_argument("--sets", nargs="+", default=[*OTHER_MODULES, *CHANGED])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--out", type=Path, default=Path("docs/results/other-place.md"))
    parser.add_argument("--threads", type=int, default=1)
    return status_of(lambda: _run(parser.parse_args(words), words))


def _run(arguments: argparse.Namespace, words: Sequence[str]) -> int:
    torch.set_num_threads(arguments.threads)
    places = Places(data=arguments.data.resolve(), work=Path("runs"), elpv=arguments.elpv)
    rows = []
    for name in arguments.sets:
        for seed in arguments.seeds:
            for row in _measured(find(name, places), seed):
                rows.append(row)
                print(json.dumps(row), flush=True)
    lines = markdown(rows, written_command(words, "benchmarks.thresholds.other_place"))
    write_atomically(arguments.out, ("\n".join(lines) + "\n").encode())
    write_atomically(arguments.out.with_suffix(".json"), json_bytes({"rows": rows}))
    return 0


def _measured(of_set: PhotographSet, seed: int) -> Iterator[dict[str, Any]]:
    """A row a change; ELPV's test photographs are another place as they are."""
    elsewhere = of_set.name in OTHER_MODULES
    rng = np.random.default_rng(seed)
    good = list(of_set.good)
    train = list(of_set.train)
    if not elsewhere:
        drawn = rng.permutation(len(train))
        good += [train[index] for index in drawn[len(train) // 2 :]]
        train = [train[index] for index in drawn[: len(train) // 2]]
    run, _ = trained_on(Split(train=tuple(train), mixed_in=(), good=(), defects={}), seed)
    order = rng.permutation(len(good))
    calibrating, tried = order[:CALIBRATING], order[CALIBRATING:]
    defects = [file for files in of_set.defects.values() for file in files]
    for name, change in {"other modules": CHANGES["none"]}.items() if elsewhere else CHANGES.items():
        normal = run.decision.score(criteria_of(run, map(change, frames_of(good))))
        anomalous = run.decision.score(criteria_of(run, map(change, frames_of(defects))))
        found = SiteCalibration.of(
            normal[calibrating].tolist(), ASKED, model="", source="", precision="fp32", backend="torch"
        )
        assert found.realised_fpr is not None, "a rate was asked for"
        scores = np.concatenate((normal[tried], anomalous))
        yield {
            "set": of_set.name,
            "seed": seed,
            "change": name,
            "trained": len(train),
            "good": len(tried),
            "defects": len(anomalous),
            "auroc": round(auroc(scores, np.arange(len(scores)) >= len(tried)), 4),
            "before": _rates(normal[tried], anomalous, run.decision.threshold),
            "after": _rates(normal[tried], anomalous, found.threshold),
            "states": round(found.stated_fpr or 0.0, 4),
            "interval": [round(end, 4) for end in found.realised_fpr],
            "within": _within(int((normal[tried] > found.threshold).sum()), len(tried), found.realised_fpr),
        }


def _rates(normal: Any, anomalous: Any, threshold: float) -> dict[str, float]:
    return {
        "fpr": round(float((normal > threshold).mean()), 4),
        "tpr": round(float((anomalous > threshold).mean()), 4),
    }


def _within(false_alarms: int, n: int, interval: tuple[float, float]) -> bool:
    """Whether so many of n may come of a rate in the interval, by the binomial distribution, 95 %."""
    low, high = stats.binom.ppf(0.025, n, interval[0]), stats.binom.ppf(0.975, n, interval[1])
    return bool(low <= false_alarms <= high)


def markdown(rows: Sequence[dict[str, Any]], command: str) -> list[str]:
    """The page's lines."""
    told = (sys.modules[__name__].__doc__ or "").split("\n\n")[2].strip()
    lines = ["# Another place", "", f"    {command}"]
    lines += ["", told, ""]
    lines += [
        f"Asked of `calibrate`: {ASKED:.0%}, which {CALIBRATING} frames cannot show; it says so and what it is set for."
    ]
    lines += ["Within: the realised count fits a rate in the interval that it prints (90 %).", ""]
    lines += ["| set | change | seed | AUROC | FPR before | TPR before | states | FPR after | TPR after | within |"]
    lines += ["|---|---|---|---|---|---|---|---|---|---|"]
    lines += [
        f"| {row['set']} | {row['change']} | {row['seed']} | {row['auroc']:.3f} | {row['before']['fpr']:.3f} | "
        f"{row['before']['tpr']:.3f} | {row['states']:.3f}, {row['interval'][0]:.3f} to {row['interval'][1]:.3f} | "
        f"{row['after']['fpr']:.3f} of {row['good']} | {row['after']['tpr']:.3f} | {'yes' if row['within'] else 'no'} |"
        for row in rows
    ]
    within = sum(row["within"] for row in rows)
    return [*lines, "", f"Within in {within} of {len(rows)}. Made on {cpu_name()}."]


if __name__ == "__main__":
    sys.exit(main())
