"""The least time a board can need for a frame, by its published peaks: an estimate, nothing that was measured.

Roofline (Williams, Waterman, Patterson 2009): a frame takes at least its arithmetic at peak rate, and at least its
bytes at peak bandwidth. Real engines reach a fraction of either; small networks wait for launches more than for both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["BOARDS", "Board", "least_seconds"]


@dataclass(frozen=True, slots=True)
class Board:
    """Published peaks of a board's GPU (dense, without DLA) and of its memory."""

    name: str
    bandwidth: float
    """Bytes a second"""
    operations: Mapping[str, float]
    """By precision, operations a second; a multiply-add is two"""


def _ampere(name: str, cores: int, megahertz: float, gigabytes: float) -> Board:
    """A Jetson Orin: a CUDA core does one FP32 multiply-add a cycle, a tensor core (one for 32 of them) 256 in FP16 and
    512 in INT8. Dense: 20, 30 and 85 INT8 TOPS of the three, half of the sparse figures that data sheets headline.
    """
    fp32 = 2.0 * cores * megahertz * 1e6
    tensor = 2.0 * (cores / 32) * megahertz * 1e6
    return Board(name, gigabytes * 1e9, {"fp32": fp32, "fp16": 256 * tensor, "int8": 512 * tensor})


BOARDS = (
    # NVIDIA Jetson Orin series data sheets: CUDA cores, highest GPU clock, memory bandwidth.
    _ampere("Jetson Orin Nano 8GB", 1024, 625, 68),
    _ampere("Jetson Orin NX 16GB", 1024, 918, 102.4),
    _ampere("Jetson AGX Orin 64GB", 2048, 1300, 204.8),
)


def least_seconds(board: Board, precision: str, macs: int, n_bytes: int) -> float:
    """The longer of arithmetic at peak rate and bytes at peak bandwidth. n_bytes: read or written once."""
    return max(2.0 * macs / board.operations[precision], n_bytes / board.bandwidth)
