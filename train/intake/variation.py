"""Training images that do not vary: nothing can be learnt of what varies, and no error of linear algebra says why."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray

from edge_runtime.errors import DataError

__all__ = ["check_variation", "singular_as_sameness"]

logger = logging.getLogger(__name__)

TORCH_ERROR: type[RuntimeError] = torch.linalg.LinAlgError  # type: ignore[attr-defined]  # documented, not in the stubs


def check_variation(picture: Callable[[int], NDArray[np.uint8]], n_images: int, called: str) -> None:
    """Raise DataError where two images or more are all the same, as the network would see them.

    picture: gives one by its index; they are looked at until one differs. called: the folder.
    """
    if n_images < 2:
        return
    first = picture(0)
    if any(not np.array_equal(first, picture(index)) for index in range(1, n_images)):
        return
    what = f"one grey level, {first.flat[0]}" if (first == first.flat[0]).all() else "one picture"
    raise DataError(
        f"all {n_images} images of {called} show the same, {what}: expected photographs that differ; is the camera "
        "covered, or one frame saved again and again?"
    )


@contextmanager
def singular_as_sameness() -> Iterator[None]:
    """Raise DataError in place of an error of linear algebra, which only images that hardly vary can cause."""
    try:
        yield
    except (np.linalg.LinAlgError, TORCH_ERROR) as error:
        logger.debug("an error of linear algebra: %s", str(error).splitlines()[0])
        raise DataError(
            "the training images cannot be told apart, they vary too little; are they all the same, or all black? "
            "Look through the folder, or take photographs of different parts"
        ) from error
