"""What a run knows of where its events are delivered to: enough for its metrics."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Destination"]


class Destination(Protocol):
    """One place that events are brought to, in figures. Read from any thread."""

    @property
    def name(self) -> str:
        """For people and metrics; holds no password."""

    @property
    def up(self) -> bool:
        """Whether the last try succeeded."""

    @property
    def delivered(self) -> int:
        """Messages acknowledged."""

    @property
    def refused(self) -> int:
        """Messages refused for good."""

    @property
    def failures(self) -> int:
        """Tries that failed."""

    @property
    def n_pending(self) -> int:
        """Messages that wait."""
