"""A scorer ten times slower than its camera: does the age of frames stay bounded, and the memory flat?

    python benchmarks/runtime/slow_consumer.py MODEL [--seconds 60] [--out docs/results]

test:// gives 100 frames of 640x480 a second; every score is held up to 100 ms. Through the pipeline that `edge-aae run`
uses, with its defaults. Prints the figures and writes slow_consumer.json.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.command_line import keep
from benchmarks.machine import cpu_name, footprint
from edge_runtime.model.preprocess import Frame
from edge_runtime.scoring.detector import Detector
from edge_runtime.scoring.result import Result
from edge_runtime.sources import source_from
from edge_runtime.stream.feed import FeedSettings
from edge_runtime.stream.pipeline import Pipeline, RunSettings

FPS = 100
SLOWER = 10


class Slow(Detector):
    """A detector that takes ten of the camera's periods for a frame."""

    def score(self, frame: Frame) -> Result:
        started_s = time.perf_counter()
        result = super().score(frame)
        time.sleep(max(0.0, SLOWER / FPS - (time.perf_counter() - started_s)))
        return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    arguments = parser.parse_args()
    ages_ms: list[float] = []
    waits_ms: list[float] = []
    footprints: list[dict[str, float]] = []

    def take(record: dict[str, Any]) -> None:
        if record["type"] == "frame":
            ages_ms.append(record["age_ms"])
            waits_ms.append(record["age_ms"] - 1000.0 * SLOWER / FPS)
            if len(ages_ms) % 50 == 0:
                footprints.append(footprint())

    detector = Slow.load(arguments.model, threads=1)
    settings = RunSettings(feed=FeedSettings())
    source = source_from(None, f"test://pattern?fps={FPS}")
    pipeline = Pipeline(detector, [source], take, settings)
    end_s = time.monotonic() + arguments.seconds
    summary = pipeline.run(stopped=lambda: time.monotonic() > end_s)
    counts = summary.sources[0]
    result = {
        "command": "python benchmarks/runtime/slow_consumer.py",
        "machine": cpu_name(),
        "seconds": arguments.seconds,
        "grabbed": counts.grabbed,
        "scored": summary.frames,
        "skipped": counts.skipped,
        "too_old": counts.too_old,
        "max_age_ms_allowed": settings.feed.max_age_ms,
        "age_ms": {
            name: round(float(np.percentile(ages_ms, q)), 1) for name, q in (("p50", 50), ("p99", 99), ("max", 100))
        },
        "age_when_taken_ms_max": round(max(waits_ms), 1),
        "resident_mib": [footprints[0]["resident_mib"], footprints[-1]["resident_mib"]],
    }
    keep(result, arguments.out / "slow_consumer.json")


if __name__ == "__main__":
    main()
