"""The device's side of edge-aae: bundle, preprocessing, score, sources, backends. Imports numpy, never torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edge_runtime.bundle.bundle import Bundle as Bundle
    from edge_runtime.scoring.detector import Detector as Detector
    from edge_runtime.scoring.result import Result as Result

__version__ = "0.1.0"

__all__ = ["Bundle", "Detector", "Result", "__version__"]


def __getattr__(name: str) -> Any:
    """Import the public names at first use, so that `import edge_runtime` costs nothing."""
    if name == "Bundle":
        from edge_runtime.bundle.bundle import Bundle

        return Bundle
    if name == "Detector":
        from edge_runtime.scoring.detector import Detector

        return Detector
    if name == "Result":
        from edge_runtime.scoring.result import Result

        return Result
    raise AttributeError(f"module 'edge_runtime' has no attribute {name!r}")
