from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edge_runtime.model.score import Limit, UnionRule
from train.learning.trainer import EpochRow
from train.runs.pictures import (
    CAPTION_HEIGHT,
    COLUMNS,
    MARGIN,
    MAX_TILES,
    TILE_SIDE,
    contact_sheet,
    plot_losses,
    plot_scores,
    tile,
)

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
CELL_HEIGHT = TILE_SIDE + CAPTION_HEIGHT + MARGIN
CELL_WIDTH = TILE_SIDE + MARGIN
BLUE = (255, 0, 0)


def decode(path: Path) -> NDArray[np.uint8]:
    assert path.read_bytes().startswith(PNG_MAGIC)
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert image is not None
    return np.asarray(image, dtype=np.uint8)


def blue(n: int) -> list[NDArray[np.uint8]]:
    return [np.full((20, 20, 3), BLUE, dtype=np.uint8) for _ in range(n)]


def n_blue_tiles(sheet: NDArray[np.uint8]) -> int:
    return round(int((sheet == BLUE).all(axis=2).sum()) / TILE_SIDE**2)


def rows_of(phases: Sequence[str], *, adversary: bool = True) -> list[EpochRow]:
    loss = 0.7 if adversary else 0.0
    return [EpochRow(phase, epoch, 5.0 / epoch, loss, loss, 100, 0, 0.1) for epoch, phase in enumerate(phases, 1)]


@pytest.mark.parametrize(("n", "shown", "n_rows"), [(0, 0, 1), (3, 3, 1), (10, 10, 1), (11, 11, 2), (150, 100, 10)])
def test_a_sheet_shows_up_to_a_hundred_images_ten_a_row(tmp_path: Path, n: int, shown: int, n_rows: int) -> None:
    contact_sheet(tmp_path / "sheet.png", f"{n} images", blue(n), [f"{index}" for index in range(n)])
    sheet = decode(tmp_path / "sheet.png")
    assert MAX_TILES == 100
    assert n_blue_tiles(sheet) == shown
    assert sheet.shape[1] == COLUMNS * CELL_WIDTH + MARGIN
    assert n_rows * CELL_HEIGHT < sheet.shape[0] < n_rows * CELL_HEIGHT + 40


def test_a_sheet_without_images_still_has_its_title(tmp_path: Path) -> None:
    contact_sheet(tmp_path / "sheet.png", "none of 40 rejected", [], [])
    assert decode(tmp_path / "sheet.png").min() < 128, "no ink"


def test_a_sheet_that_leaves_images_out_says_so(tmp_path: Path) -> None:
    for name, n in (("all", 100), ("cut", 101)):
        contact_sheet(tmp_path / f"{name}.png", "rejected", blue(n), [""] * n)
    titles = [decode(tmp_path / f"{name}.png")[:24] for name in ("all", "cut")]
    assert (
        np.flatnonzero((titles[1] < 128).any(axis=(0, 2))).max()
        > 40 + np.flatnonzero((titles[0] < 128).any(axis=(0, 2))).max()
    )


def test_captions_stand_below_their_images(tmp_path: Path) -> None:
    contact_sheet(tmp_path / "sheet.png", "", blue(2), ["", "1.23"])
    sheet = decode(tmp_path / "sheet.png")
    band = sheet[-MARGIN - CAPTION_HEIGHT :]
    assert band[:, :CELL_WIDTH].min() == 255
    assert band[:, CELL_WIDTH : 2 * CELL_WIDTH].min() < 128


@pytest.mark.parametrize("shape", [(8, 8, 1), (96, 96, 1), (128, 128, 3), (300, 40, 1), (1, 500, 3)])
def test_a_tile_has_one_size_whatever_the_image_s(shape: tuple[int, ...]) -> None:
    drawn = tile(np.zeros(shape, dtype=np.uint8), "")
    assert drawn.shape == (TILE_SIDE + CAPTION_HEIGHT, TILE_SIDE, 3)
    dark = (drawn == 0).all(axis=2)
    height, width = (max(1, round(side * TILE_SIDE / max(shape[:2]))) for side in shape[:2])
    assert dark.sum() == height * width, "the aspect ratio is kept"


def test_a_tile_keeps_colours() -> None:
    assert tile(blue(1)[0], "")[TILE_SIDE // 2, TILE_SIDE // 2].tolist() == list(BLUE)


@pytest.mark.parametrize(
    ("phases", "adversary"),
    [(["pretrain", "pretrain", "refine-1", "retrain"], True), (["train"], False), ([], True)],
)
def test_a_loss_plot_is_a_png_of_plausible_size(tmp_path: Path, phases: list[str], adversary: bool) -> None:
    plot_losses(tmp_path / "losses.png", rows_of(phases, adversary=adversary))
    plot = decode(tmp_path / "losses.png")
    assert 300 < plot.shape[0] < 600 < plot.shape[1] < 1500
    assert plot[..., :3].std() > 5, "the plot is empty"


def test_a_score_plot_shows_thresholds_and_rejected_images(tmp_path: Path) -> None:
    criteria = np.random.default_rng(0).gamma(4.0, size=(200, 2)).astype(np.float32)
    limits = {"reconstruction_error": Limit(threshold=8.0, center=4.0)}
    plots = []
    for rejected in (np.zeros(200, dtype=bool), criteria[:, 0] > 6.0):
        plot_scores(tmp_path / "scores.png", criteria, UnionRule(limits=limits), rejected)
        plots.append(decode(tmp_path / "scores.png")[..., :3].astype(int))
    assert plots[0].shape == plots[1].shape
    assert 300 < plots[0].shape[0] < 600 < plots[0].shape[1] < 1500
    reddish = [((plot[..., 2] - plot[..., 0]) > 80).sum() for plot in plots]
    assert reddish[0] == 0
    assert reddish[1] > 100


def test_a_caption_that_is_no_ascii_does_not_crash_the_sheet() -> None:
    # OpenCV ends the process on a file name that is no UTF-8.
    image = np.zeros((8, 8), dtype=np.uint8)
    np.testing.assert_array_equal(tile(image, "pr\udcfcf \xe4"), tile(image, "pr?f ?"))


def test_no_legend_is_placed_in_a_way_that_warns_where_it_takes_long() -> None:
    """Without `loc` matplotlib warns once that took a second, as it may on a busy machine."""
    root = Path(__file__).parents[3]
    files = [file for room in ("train", "benchmarks") for file in (root / room).rglob("*.py")]
    assert [str(file) for file in files if "legend()" in file.read_text()] == []
