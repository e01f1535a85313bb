"""Two hours of `edge-aae run` at 30 frames a second, an event a minute: does anything grow or slow down?

    python benchmarks/runtime/soak.py MODEL [--seconds 7200] [--out docs/results] [--with ARGUMENT ...]

MODEL: the bundle of `make demo`. The camera is test://defect over the sample's own images that the bundle finds normal;
its blot comes once a minute for three seconds. What is compared: the last ten minutes against the first (a quarter of
shorter trials). Prints the table and writes soak.json. --with hands more options to the run, such as sinks.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.command_line import keep
from benchmarks.machine import cpu_name, footprint
from edge_aae import Detector

SAMPLE = Path(__file__).parents[2] / "edge_aae" / "sample" / "fashion.npz"
N_PICTURES = 48
WINDOW_S = 600.0
FOOTPRINT_EVERY_S = 10.0
FPS = 30
THRESHOLD = "-0.4"
"""These pictures score about -0.9, with the blot 0 to 1: half way."""


def normal_pictures(model: Path, folder: Path) -> None:
    """The pictures of the sample that the bundle finds most normal, as files."""
    detector = Detector.load(model)
    with np.load(SAMPLE, allow_pickle=False) as sample:
        images = sample["train_images"]
    folder.mkdir()
    order = np.argsort([detector.score(image).score for image in images])
    for number, index in enumerate(order[:N_PICTURES]):
        cv2.imwrite(str(folder / f"{number:03}.png"), images[index])


def soaked(model: Path, seconds: float, more: list[str], work: Path) -> dict[str, Any]:
    """Run for so long; the figures."""
    normal_pictures(model, work / "pictures")
    source = f"test://defect?images={work / 'pictures'}&fps={FPS}&at=20&for=3&every=60"
    records = work / "records.jsonl"
    command = [sys.executable, "-m", "edge_aae.cli", "run", "--source", source, "--model", str(model)]
    command += ["--out", str(records), "--alarm", "3/5", "--smooth", "median:3", "--threads", "1"]
    command += ["--threshold", THRESHOLD, *more]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    footprints: list[tuple[float, dict[str, float]]] = []
    start = time.monotonic()
    try:
        while (elapsed := time.monotonic() - start) < seconds and process.poll() is None:
            time.sleep(min(FOOTPRINT_EVERY_S, seconds - elapsed))
            footprints.append((time.monotonic() - start, footprint(process.pid)))
    finally:
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
    return {
        "exit_status": process.returncode,
        "summary": said.strip().splitlines()[-1],
        "wall_s": round(time.monotonic() - start, 1),
        **windows(records, footprints, min(WINDOW_S, seconds / 4)),
    }


def windows(records: Path, footprints: list[tuple[float, dict[str, float]]], window_s: float) -> dict[str, Any]:
    """First and last window: latencies, ages, footprints; and the events of the whole run."""
    frames: list[tuple[np.datetime64, float, float]] = []
    events = {"new": 0, "update": 0, "end": 0}
    statuses: dict[str, int] = {}
    with records.open() as lines:
        for line in lines:
            record = json.loads(line)
            if record["type"] == "frame":
                moment = np.datetime64(record["t_capture"].rstrip("Z"))
                own = {name: value for name, value in record["latency_ms"].items() if name != "capture"}
                frames.append((moment, sum(own.values()), record["age_ms"]))
            elif record["type"] == "event":
                events[record["phase"]] += 1
            else:
                statuses[record["event_type"]] = statuses.get(record["event_type"], 0) + 1
    seconds = np.array([(moment - frames[0][0]) / np.timedelta64(1, "ms") / 1000.0 for moment, _, _ in frames])
    latency, age = (np.array([frame[column] for frame in frames]) for column in (1, 2))
    found: dict[str, Any] = {"frames": len(frames), "events": events, "statuses": statuses}
    for name, kept, at in (
        ("first", seconds < window_s, [figures for moment, figures in footprints if moment < window_s]),
        (
            "last",
            seconds > seconds[-1] - window_s,
            [figures for moment, figures in footprints if moment > footprints[-1][0] - window_s],
        ),
    ):
        found[name] = {
            "frames": int(kept.sum()),
            "latency_ms": {f"p{q}": round(float(np.percentile(latency[kept], q)), 3) for q in (50, 95, 99)},
            "age_ms": {f"p{q}": round(float(np.percentile(age[kept], q)), 3) for q in (50, 95, 99)},
            **{key: [min(row[key] for row in at), max(row[key] for row in at)] for key in at[0]},
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--seconds", type=float, default=7200.0)
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    parser.add_argument("--with", dest="more", nargs=argparse.REMAINDER, default=[])
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        figures = soaked(arguments.model.resolve(), arguments.seconds, arguments.more, Path(work))
    result = {"seconds": arguments.seconds, "with": arguments.more, "machine": cpu_name(), **figures}
    keep(result, arguments.out / "soak.json")


if __name__ == "__main__":
    main()
