"""Does looking cost anything? Latency of scoring with nobody and with ten viewers of the live page, in one run.

    python benchmarks/runtime/viewers.py MODEL [--viewers 10] [--rounds 6] [--seconds 20] [--out docs/results]

One `edge-aae run --serve` at 30 frames a second from test://, 640x480. Rounds of so many seconds alternate: no viewer,
then ten, each a curl that takes everything it is sent. Compared are the latencies (preprocess, infer, post) of the
frames of either kind, all rounds together, and round by round. Prints the table and writes viewers.json. Needs curl.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.command_line import keep
from benchmarks.machine import cpu_name

SETTLE_S = 1.5
"""Left out at the begin of each round: viewers come and go."""


def trial(model: Path, n_viewers: int, rounds: int, seconds: float, work: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "edge_aae", "run", "--source", "test://pattern?fps=30&width=640&height=480"]
    command += ["--model", str(model), "--threads", "1", "--serve", ":0", "--out", "-", "--feedback", str(work / "f")]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    frames: list[tuple[float, float]] = []
    address: list[str] = []

    def read() -> None:
        assert run.stdout is not None
        for line in run.stdout:
            record = json.loads(line)
            if record["type"] == "frame":
                spent = sum(value for name, value in record["latency_ms"].items() if name != "capture")
                frames.append((time.monotonic(), spent))

    def listen() -> None:
        assert run.stderr is not None
        for line in run.stderr:
            if "live page at " in line:
                address.append(line.split("live page at ")[1].strip())

    for target in (read, listen):
        threading.Thread(target=target, daemon=True).start()
    while not (address and frames):
        time.sleep(0.05)
    windows: list[tuple[int, float, float]] = []
    received = 0
    for number in range(2 * rounds):
        looking = n_viewers if number % 2 else 0
        viewers = [
            subprocess.Popen(
                ["curl", "--silent", "--no-buffer", f"{address[0]}api/stream", "--output", str(work / f"v{index}")]
            )
            for index in range(looking)
        ]
        time.sleep(SETTLE_S)
        start_s = time.monotonic()
        time.sleep(seconds)
        windows.append((looking, start_s, time.monotonic()))
        for viewer in viewers:
            viewer.terminate()
            viewer.wait()
        received += sum((work / f"v{index}").stat().st_size for index in range(looking))
    run.send_signal(signal.SIGTERM)
    run.wait(20)
    by_kind: dict[int, list[float]] = {0: [], n_viewers: []}
    by_round = []
    for looking, start_s, end_s in windows:
        spent = [ms for moment, ms in frames if start_s <= moment < end_s]
        by_kind[looking] += spent
        by_round.append({"viewers": looking, "p50": round(float(np.median(spent)), 3), "p99": percentile(spent, 99)})
    alone, watched = by_kind[0], by_kind[n_viewers]
    return {
        "viewers": n_viewers,
        "frames": {"none": len(alone), "watched": len(watched)},
        "latency_ms": {
            kind: {f"p{q}": percentile(values, q) for q in (50, 95, 99)}
            for kind, values in (("none", alone), ("watched", watched))
        },
        "p99_ratio": round(percentile(watched, 99) / percentile(alone, 99), 3),
        "p50_ratio": round(percentile(watched, 50) / percentile(alone, 50), 3),
        "mb_a_second_a_viewer": round(received / n_viewers / rounds / seconds / 1e6, 2),
        "rounds": by_round,
    }


def percentile(values: list[float], q: float) -> float:
    return round(float(np.percentile(values, q)), 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--viewers", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        found = trial(arguments.model.resolve(), arguments.viewers, arguments.rounds, arguments.seconds, Path(work))
    result = {"command": "python benchmarks/runtime/viewers.py", "machine": cpu_name(), **found}
    keep(result, arguments.out / "viewers.json")


if __name__ == "__main__":
    main()
