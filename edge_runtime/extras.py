"""Importing optional dependencies with an error that names the extra to install."""

from __future__ import annotations

import importlib
from typing import Any

from edge_runtime.errors import MissingExtraError


def require(module: str, *, extra: str, purpose: str) -> Any:
    """The imported module, or MissingExtraError with the pip command that brings it.

    purpose: starts the message, a plural noun phrase such as "TensorRT runs".
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f'{purpose} need {module}: pip install "edge-aae[{extra}]" (import failed with: {error})'
        ) from error
