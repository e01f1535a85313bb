"""Comma-separated choices on the benchmarks' command lines."""

from __future__ import annotations

from collections.abc import Sequence

from edge_runtime.errors import ConfigError

__all__ = ["chosen"]


def chosen(text: str, known: Sequence[str]) -> list[str]:
    """The names in `text`, or all known ones for "all"; raises ConfigError for others."""
    if text == "all":
        return list(known)
    names = text.split(",")
    if unknown := sorted(set(names) - set(known)):
        raise ConfigError(f"no {', '.join(unknown)} here; expected all, or some of {', '.join(known)}")
    return names
