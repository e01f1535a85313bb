"""The images of a run, from whatever its data path is: a folder of photographs, an IDX pair or an .npz file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from edge_runtime.errors import DataError
from edge_runtime.labelled import is_labelled_set, read_labelled
from train.data_settings import DataSettings
from train.folder_data import load_folder
from train.guidance import read_guidance
from train.labelled_data import load_labelled
from train.networks import NetworkName
from train.training_set import TrainingSet

__all__ = ["DataSettings", "TrainingSet", "load_training_set"]


def load_training_set(settings: DataSettings, network: NetworkName) -> TrainingSet:
    """The images of a run, and what is known about them.

    Raises DataError for data that are missing, empty, too small, or unreadable beyond max_bad, and for guidance that
    does not fit them; ConfigError for an input size that the network cannot take.
    """
    images = _load_images(settings, network)
    guidance = read_guidance(settings.guidance, images.names, {name for name, _ in images.bad})
    return replace(images, guidance=guidance)


def _load_images(settings: DataSettings, network: NetworkName) -> TrainingSet:
    path = Path(settings.path)
    if not path.exists():
        raise DataError(f"no data at {path}; expected a folder of images, an IDX folder or an .npz file")
    if is_labelled_set(path):
        return load_labelled(settings, read_labelled(path, "train"), network)
    if path.is_file():
        raise DataError(f"{path} is a single file; expected a folder of images, an IDX pair or an .npz file")
    if settings.classes or settings.contaminate:
        raise DataError(f"--classes and --contaminate need labels; {path} is a folder of images without any")
    return load_folder(settings, path, network)
