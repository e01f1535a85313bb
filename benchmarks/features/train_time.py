"""How long a default training of photographs takes: docs/results/train-time.md.

    python -m benchmarks.features.train_time --photos mvtec-pill/train/good --structure deep-pcb/train/good

Each folder's photographs are enlarged or reduced to 800x800; as many as asked for are taken, some of them turned about
where there are not enough. A time is of the whole `edge-aae train FOLDER`, choice of view, head and report included, by
the clock and in seconds of processors. The load before each says how quiet the machine was.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import cv2

from benchmarks.command_line import status_of
from benchmarks.machine import cpu_name
from edge_runtime.errors import DataError
from edge_runtime.files import write_atomically
from edge_runtime.model.images import list_images

SIDE = 800
SIZES = (300, 31)
AIMS = {("one part", 300): 120, ("one part", 31): 30, ("other structure", 300): 240, ("other structure", 31): 60}
"""Seconds on two quiet cores"""
TURNS = (cv2.ROTATE_90_CLOCKWISE, cv2.ROTATE_180, cv2.ROTATE_90_COUNTERCLOCKWISE)


def main(arguments: Sequence[str] | None = None) -> int:
    """Time and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True, help="photographs of one part that lies alike")
    parser.add_argument("--structure", type=Path, required=True, help="photographs that differ everywhere")
    parser.add_argument("--out", type=Path, help="also write the page there")
    asked = parser.parse_args(arguments)
    rows = []
    for kind, folder in (("one part", asked.photos), ("other structure", asked.structure)):
        for n in SIZES:
            rows.append(_timed(kind, folder, n))
            print(rows[-1], flush=True)
    page = _page(rows)
    if asked.out:
        write_atomically(asked.out, page.encode())
    print(page)
    return 0


def _timed(kind: str, folder: Path, n: int) -> str:
    with tempfile.TemporaryDirectory() as place:
        photos = Path(place) / "photos"
        _copied(folder, n, photos)
        load, before = os.getloadavg()[0], resource.getrusage(resource.RUSAGE_CHILDREN)
        began_s = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "edge_aae", "train", str(photos), "--out", "run"],
            cwd=place, capture_output=True, text=True, check=False,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
        )  # fmt: skip
        seconds, after = time.perf_counter() - began_s, resource.getrusage(resource.RUSAGE_CHILDREN)
        if done.returncode:
            raise DataError(f"training {n} photographs of {folder} ended {done.returncode}: {done.stderr[-400:]}")
    said = "\n".join((done.stdout, done.stderr))
    head = "joined" if "the head joins" in said else "tried" if "the head is left out" in said else "not tried"
    busy = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return f"| {kind} | {n} | {head} | {seconds:.0f} | {busy:.0f} | {AIMS[kind, n]} | {load:.1f} |"


def _copied(folder: Path, n: int, to: Path) -> None:
    files = list_images(folder)
    most = (1 + len(TURNS)) * len(files)
    if n > most:
        raise DataError(f"{folder} has {len(files)} photographs, turned about {most}; name one with {n} of them")
    to.mkdir()
    for number in range(n):
        photograph = cv2.imread(str(files[number % len(files)]))
        if number >= len(files):
            photograph = cv2.rotate(photograph, TURNS[number // len(files) - 1])
        large = cv2.resize(photograph, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        cv2.imwrite(str(to / f"{number:04d}.png"), large)


def _page(rows: Sequence[str]) -> str:
    return "\n".join(
        [
            "# Time of a training",
            "",
            "`python -m benchmarks.features.train_time --photos FOLDER --structure FOLDER`: `edge-aae train FOLDER`,",
            f"photographs of {SIDE}x{SIDE}, view, head and report included; {cpu_name()}, {os.cpu_count()} cores.",
            "Seconds by the clock, and of processors: what waits on a busy machine shows as the first alone.",
            "",
            "| photographs | number | head | s | processor s | aim, s | load before |",
            "|---|---|---|---|---|---|---|",
            *rows,
            "",
        ]
    )


if __name__ == "__main__":
    sys.exit(status_of(main))
