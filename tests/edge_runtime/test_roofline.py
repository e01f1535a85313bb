"""The roofline by hand, and the boards' peaks against their data sheets."""

from __future__ import annotations

import pytest

from edge_runtime.roofline import BOARDS, Board, least_seconds

BOARD = Board("test", bandwidth=1e9, operations={"fp32": 1e12})


@pytest.mark.parametrize(
    ("macs", "n_bytes", "seconds"),
    [
        (10**9, 0, 2e-3),  # two operations each
        (0, 10**6, 1e-3),
        (10**9, 10**6, 2e-3),
        (10**8, 10**6, 1e-3),
    ],
)
def test_the_slower_of_arithmetic_and_memory_counts(macs: int, n_bytes: int, seconds: float) -> None:
    assert least_seconds(BOARD, "fp32", macs, n_bytes) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("name", "int8_tops", "fp32_tflops"),
    [("Jetson Orin Nano 8GB", 20.0, 1.28), ("Jetson Orin NX 16GB", 30.0, 1.88), ("Jetson AGX Orin 64GB", 85.0, 5.32)],
)
def test_peaks_are_those_of_the_data_sheets(name: str, int8_tops: float, fp32_tflops: float) -> None:
    (board,) = [board for board in BOARDS if board.name == name]
    assert board.operations["int8"] / 1e12 == pytest.approx(int8_tops, rel=0.03)
    assert board.operations["fp16"] * 2 == board.operations["int8"]
    assert board.operations["fp32"] / 1e12 == pytest.approx(fp32_tflops, rel=0.01)
