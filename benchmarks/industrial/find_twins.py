"""Finds test images that show the same object as a training image.

    python benchmarks/industrial/find_twins.py TRAIN TEST --out FILE

Writes three files: FILE, the pairs as CSV; FILE with .txt, the names of both sides and of their twins in training, one
a line, to be left out of benchmarks; FILE with .png, a contact sheet of pairs, training image above test image, the
least alike first.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import click
import cv2
import numpy as np
import torch

from benchmarks.industrial.twins import LEAST_CORRELATION, Twin, TwinFinder
from edge_runtime.files import csv_bytes, write_atomically
from edge_runtime.model.images import list_images, read_image
from edge_runtime.model.preprocess import Frame
from train.runs.pictures import contact_sheet

SHEET_COLUMNS = 50


@click.command()
@click.argument("train", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("test", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="CSV file of the pairs.")
@click.option("--least", type=float, default=LEAST_CORRELATION, show_default=True, help="Correlation of twins.")
def main(train: Path, test: Path, out: Path, least: float) -> None:
    """Find test images that show the same object as a training image."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    train_files, test_files = list_images(train), list_images(test)
    known, looked_up = [read_image(file) for file in train_files], [read_image(file) for file in test_files]
    side = max(max(frame.shape[:2]) for frame in known + looked_up)
    finder = TwinFinder(known, largest_side=side)
    tried = list(finder.pairs(looked_up, least=least))
    twins = sorted((twin for twin in tried if twin.correlation >= least), key=lambda twin: twin.correlation)
    below = [twin.correlation for twin in tried if twin.correlation < least]

    folder_of = {index: file.relative_to(test).parent.as_posix() for index, file in enumerate(test_files)}
    n_all, n_twins = Counter(folder_of.values()), Counter(folder_of[index] for index in {twin.index for twin in twins})
    print("| test folder | images | with a twin in training |\n|---|---|---|")
    for folder, n in sorted(n_all.items()):
        print(f"| {folder} | {n} | {n_twins[folder]} |")
    of_train = {twin.of for twin in twins}
    of_normal = {twin.of for twin in twins if folder_of[twin.index] == "good"}
    print(f"\n{len(of_train)} of {len(train_files)} training images have a twin in the test set", end="")
    print(f", {len(of_normal)} of them a twin in good/" if "good" in n_all else "")
    # A photograph that is no match for the test image itself can be one for another photograph of the same object.
    siblings = _siblings(finder, known, of_train, least)
    n_left = len(train_files) - len(of_train | siblings)
    print(f"{len(siblings)} more are twins of those; without them all {n_left} are left")
    if twins and below:
        print(f"correlations: twins from {twins[0].correlation:.3f}, others up to {max(below):.3f}")

    write_atomically(
        out,
        csv_bytes(
            ["test", "train", "correlation"], [_row(twin, test, test_files, train, train_files) for twin in twins]
        ),
    )
    names = {f"train/{train_files[index].relative_to(train).as_posix()}" for index in of_train | siblings}
    names |= {f"test/{test_files[twin.index].relative_to(test).as_posix()}" for twin in twins}
    write_atomically(out.with_suffix(".txt"), "".join(f"{name}\n" for name in sorted(names)).encode())
    _write_sheet(out.with_suffix(".png"), twins, known, looked_up, test_files)


def _siblings(finder: TwinFinder, known: list[Frame], of_train: set[int], least: float) -> set[int]:
    """Known images that are twins of some of them, and not among those."""
    pairs = finder.pairs([known[index] for index in sorted(of_train)], least=least)
    return {twin.of for twin in pairs if twin.correlation >= least} - of_train


def _row(twin: Twin, test: Path, test_files: list[Path], train: Path, train_files: list[Path]) -> tuple[str, str, str]:
    tested, trained = test_files[twin.index].relative_to(test), train_files[twin.of].relative_to(train)
    return tested.as_posix(), trained.as_posix(), f"{twin.correlation:.3f}"


def _write_sheet(
    path: Path, twins: list[Twin], known: list[Frame], looked_up: list[Frame], test_files: list[Path]
) -> None:
    """The least alike pairs and a spread of the rest: ten pairs a double row."""
    least = twins[: SHEET_COLUMNS // 2]
    rest = twins[SHEET_COLUMNS // 2 :]
    spread = np.unique(np.linspace(0, len(rest) - 1, min(SHEET_COLUMNS - len(least), len(rest))).round().astype(int))
    shown = [*least, *(rest[position] for position in spread)]
    images, captions = [], []
    for start in range(0, len(shown), 10):
        row = shown[start : start + 10]
        blank = [np.full((8, 8), 255, np.uint8)] * (10 - len(row))
        images += [known[twin.of] for twin in row] + blank + [looked_up[twin.index] for twin in row] + blank
        captions += [f"train {twin.correlation:.2f}" for twin in row] + [""] * len(blank)
        captions += [test_files[twin.index].stem[-14:] for twin in row] + [""] * len(blank)
    contact_sheet(path, f"{len(twins)} pairs: training image above, test image below", images, captions)


if __name__ == "__main__":
    main()
