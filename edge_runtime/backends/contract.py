"""What every backend takes and gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import BackendError

__all__ = ["Backend", "DETECTOR_OUTPUTS", "RawOutputs", "check_outputs"]

DETECTOR_OUTPUTS = ("criteria", "latent", "anomaly_map")


@dataclass(frozen=True, slots=True)
class RawOutputs:
    """What the detector graph gives for a batch."""

    criteria: NDArray[np.float32]
    """(B, K), columns in the order of the manifest's criteria."""
    latent: NDArray[np.float32]
    """(B, D), or (B, D, h, w) where the network has a code at every site."""
    anomaly_map: NDArray[np.float32]
    """(B, h, w), any resolution, >= 0, higher = more anomalous."""


class Backend(Protocol):
    """Runs a detector graph. One call at a time: engines keep buffers from call to call, so those who share a backend
    score in one thread."""

    name: str

    def run(self, inputs: NDArray[np.uint8]) -> RawOutputs:
        """Raw outputs for (B, H, W, C) uint8 network inputs; B is what the graph was exported with, 1."""
        ...


def check_outputs(outputs: Sequence[str]) -> None:
    """Raise BackendError where a graph's outputs are not a detector's."""
    if list(outputs) != list(DETECTOR_OUTPUTS):
        raise BackendError(
            f"detector gives {list(outputs)}, expected {list(DETECTOR_OUTPUTS)}; export the bundle again"
        )
