"""How many images of a set may be unreadable before what is made of the others is not believed."""

from __future__ import annotations

import math

from edge_runtime.errors import ConfigError, DataError

__all__ = ["check_max_bad", "check_unscored", "most_bad"]


def check_max_bad(max_bad: float) -> None:
    """Raise ConfigError unless it is a share, 0 to 1."""
    if not 0.0 <= max_bad <= 1.0:
        raise ConfigError(f"--max-bad is {max_bad:.2%}, expected between 0% and 100%")


def check_unscored(n_unscored: int, n_images: int, max_bad: float, called: str) -> None:
    """Raise DataError where more of the images could not be scored than most_bad allows; called: what they are of."""
    if n_unscored > most_bad(max_bad, n_images):
        raise DataError(
            f"{n_unscored} of {n_images} images of {called} could not be scored ({n_unscored / n_images:.1%}, "
            f"--max-bad allows {max_bad:.1%}); see above"
        )


def most_bad(max_bad: float, n_images: int) -> int:
    """How many of n images the share allows: one at least, since one of few is a large share; none where it is 0."""
    return 0 if max_bad == 0.0 else max(1, math.floor(max_bad * n_images))
