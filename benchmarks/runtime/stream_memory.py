"""Peak memory of training against the number of images, for images held in memory and on disk.

    python benchmarks/runtime/stream_memory.py --out docs/results/streaming.md

Each figure is a process of its own that reads a folder of that many image files, trains some steps of the default
network, passes over every image once, and reports the most memory it ever held (getrusage). The files are links to 64
distinct ones, so that the folder takes no space; every one is read and decoded all the same.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click
import cv2
import numpy as np

SIDE = 128
DISTINCT = 64
STEPS = 20
BATCHES = 200


@click.command()
@click.option("--images", default="1000,4000,16000,32000", show_default=True, help="Numbers of images.")
@click.option("--out", type=click.Path(path_type=Path), help="Markdown file; standard output if not named.")
@click.option("--measure", nargs=2, hidden=True, help="FOLDER CACHE: what each process runs.")
def main(images: str, out: Path | None, measure: tuple[str, str] | None) -> None:
    """Measure peak memory against image count for both stores."""
    if measure:
        print(json.dumps(_measure(*measure)))
        return
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        for n_images in (int(number) for number in images.split(",")):
            folder = _folder(Path(temporary), n_images)
            found = {cache: _in_a_process(folder, cache) for cache in ("memory", "disk")}
            assert found["memory"]["fingerprint"] == found["disk"]["fingerprint"], "the images differ"
            rows.append((n_images, found["memory"], found["disk"]))
            print(rows[-1], file=sys.stderr)
    text = _report(rows)
    if out is None:
        print(text)
    else:
        out.write_text(text)


def _folder(root: Path, n_images: int) -> Path:
    """A folder of n image files, hard links to DISTINCT grey textures."""
    distinct = root / "distinct"
    if not distinct.is_dir():
        distinct.mkdir()
        rng = np.random.default_rng(0)
        for index in range(DISTINCT):
            cv2.imwrite(str(distinct / f"{index}.png"), rng.integers(0, 256, (SIDE, SIDE), dtype=np.uint8))
    folder = root / str(n_images)
    folder.mkdir()
    for index in range(n_images):
        os.link(distinct / f"{index % DISTINCT}.png", folder / f"{index}.png")
    return folder


def _in_a_process(folder: Path, cache: str) -> dict:
    command = [sys.executable, __file__, "--measure", str(folder), cache]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def _measure(folder: str, cache: str) -> dict:
    import torch

    from train.data.loading import load_training_set
    from train.data.settings import DataSettings
    from train.learning.settings import TrainSettings
    from train.learning.task import Task
    from train.learning.trainer import Trainer
    from train.schedule import Schedule
    from train.strategies.plain import PlainTraining

    torch.set_num_threads(1)
    started_s = time.perf_counter()
    data = load_training_set(DataSettings(path=folder, cache=cache), "conv", Path(tempfile.gettempdir()))  # type: ignore[arg-type]
    settings = TrainSettings(network="conv", latent_dim=32, schedule=Schedule(train=1), batch_size=32)
    trainer = Trainer(PlainTraining(Task.of(settings, data.store, torch.device("cpu"))))
    reading_s = time.perf_counter() - started_s
    n_asked = 0

    def stopped() -> bool:
        nonlocal n_asked
        n_asked += 1
        return n_asked > STEPS

    trainer.run(stopped=stopped)
    batches = torch.randint(len(data.store), (BATCHES, 32), generator=torch.Generator().manual_seed(0))
    batch_s = []
    for batch in batches:
        started_s = time.perf_counter()
        trainer.task.images.batch(batch)
        batch_s.append(time.perf_counter() - started_s)
    for chunk in trainer.task.images.chunks(512):
        chunk.float().mean()
    return {
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "reading_s": reading_s,
        "batch_ms": 1000 * sorted(batch_s)[BATCHES // 2],
        "fingerprint": data.sha256(),
    }


def _report(rows: list) -> str:
    lines = [
        "# Memory against the number of images",
        "",
        "    python benchmarks/runtime/stream_memory.py --out docs/results/streaming.md",
        "",
        f"Grey images of {SIDE}x{SIDE}, network `conv`, {STEPS} steps of 32 images and a pass over all of them, each",
        "figure in a process of its own: the most memory that it ever held (getrusage), Python, PyTorch and network",
        "included; then the median time of drawing 32 random images, of 200 draws. The files",
        "are links to 64 distinct ones. Both stores give the same images, by SHA-256.",
        f"{platform.machine()}, CPU, one thread.",
        "",
        "| images | bytes of images | peak, in memory | peak, on disk | ms a batch, memory | ms a batch, disk |",
        "|---|---|---|---|---|---|",
    ]
    for n_images, memory, disk in rows:
        lines.append(
            f"| {n_images:,} | {n_images * SIDE * SIDE / 2**20:.0f} MiB | {memory['peak_mib']:.0f} MiB | "
            f"{disk['peak_mib']:.0f} MiB | {memory['batch_ms']:.2f} | {disk['batch_ms']:.2f} |"
        )
    (first, first_memory, _), (last, last_memory, _) = rows[0], rows[-1]
    on_disk = [disk["peak_mib"] for _, _, disk in rows]
    if last > first:
        slope = 1024 * (last_memory["peak_mib"] - first_memory["peak_mib"]) / (last - first)
        lines += [
            "",
            f"In memory an image adds {slope:.1f} KiB from the first row to the last; its",
            f"pixels are {SIDE * SIDE / 1024:.0f} KiB. On disk the peak lies between {min(on_disk):.0f} and",
            f"{max(on_disk):.0f} MiB, whatever the number. The file lay in the system's cache: a disk's own delay",
            "is not in the times.",
        ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
