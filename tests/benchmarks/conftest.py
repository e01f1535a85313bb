"""The images and quick settings that tests of `train` have."""

from tests.train.conftest import one_thread, quick, shapes

__all__ = ["one_thread", "quick", "shapes"]
