"""How long to wait before trying again."""

from __future__ import annotations

import random
from dataclasses import dataclass

from edge_runtime.errors import ConfigError

__all__ = ["Backoff"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Backoff:
    """Waits that double from `first_s` to `most_s`, each with jitter, so that many devices do not return at once."""

    first_s: float = 1.0
    most_s: float = 30.0
    jitter: float = 0.25
    """Share by which a wait may be shorter or longer."""

    def __post_init__(self) -> None:
        if not 0 < self.first_s <= self.most_s:
            raise ConfigError(
                f"--backoff is {self.first_s:g}:{self.most_s:g}, expected FIRST:MOST seconds, FIRST above 0 and "
                "at most MOST, such as 1:30"
            )
        if not 0 <= self.jitter < 1:
            raise ConfigError(f"jitter is {self.jitter}, expected 0 to below 1")

    def wait_s(self, attempt: int, rng: random.Random) -> float:
        """Seconds to wait before attempt 1, 2, 3, ..."""
        plain = min(self.most_s, self.first_s * 2.0 ** min(attempt - 1, 60))
        return plain * (1.0 + self.jitter * (2.0 * rng.random() - 1.0))
