"""What the benchmarks' command lines share: comma-separated choices, the exit status, results as JSON.

Imports nothing heavy, so that a memory figure is the product's own.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from edge_runtime.errors import ConfigError, EdgeAaeError

__all__ = ["chosen", "keep", "status_of"]


def chosen(text: str, known: Sequence[str]) -> list[str]:
    """The names in `text`, or all known ones for "all"; raises ConfigError for others."""
    if text == "all":
        return list(known)
    names = text.split(",")
    if unknown := sorted(set(names) - set(known)):
        raise ConfigError(f"no {', '.join(unknown)} here; expected all, or some of {', '.join(known)}")
    return names


def status_of(run: Callable[[], int]) -> int:
    """The exit status: what run gives, 1 where it raises an error of ours, which is printed."""
    try:
        return run()
    except EdgeAaeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def keep(result: Mapping[str, Any], file: Path) -> None:
    """Print a result and write it, as JSON."""
    text = json.dumps(result, indent=2)
    print(text)
    file.write_text(text + "\n")
