"""Importing optional dependencies with an error that names the extra to install."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

from edge_runtime.errors import MissingExtraError

__all__ = ["require"]

SILENT = {"ORT_DISABLE_TELEMETRY": "1"}
"""Unless this is set, onnxruntime's wheels (1.32.0) ask for a server from their import on, and keep an identifier below
~/.cache. A camera's computer must not; who wants it sets the variable to something else."""


UNWANTED = ("openvino_telemetry",)
"""`import openvino` (2026.4.1) sends its version to an analytics service through this package, from a process that it
forks; where the package is missing it goes on without."""


def require(module: str, *, extra: str, purpose: str) -> Any:
    """The imported module, or MissingExtraError with the pip command that brings it.

    purpose: starts the message, a plural noun phrase such as "TensorRT runs".
    """
    for name, value in SILENT.items():
        os.environ.setdefault(name, value)
    for name in UNWANTED:
        # None in its place makes an import of it fail, which these packages are prepared for.
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f'{purpose} need {module}: pip install "edge-aae[{extra}]" (import failed with: {error})'
        ) from error
