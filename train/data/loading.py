"""The images of a run, from whatever its data path is: photographs, a video, an IDX pair, an .npz."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

from edge_runtime.errors import DataError
from edge_runtime.image_files.levels import Levels
from edge_runtime.image_files.listing import is_image
from edge_runtime.scoring.labelled import is_labelled_set, read_labelled
from train.data.folder import load_folder, probe_folder
from train.data.guidance import GuidanceFiles, check_forms, read_guidance
from train.data.labelled import load_labelled, probe_labelled
from train.data.settings import DataSettings
from train.data.training_set import Probe, TrainingSet
from train.data.video import load_video, probe_video
from train.intake.depth import found_levels
from train.intake.feedback_images import name_within
from train.intake.training_files import training_files
from train.networks.registry import NetworkName, network_spec

__all__ = ["check_data", "check_guidance", "levels_of", "load_training_set", "probe_images"]


def load_training_set(settings: DataSettings, network: NetworkName, cache_folder: Path | None = None) -> TrainingSet:
    """The images of a run, and what is known about them.

    cache_folder: where a file of images goes that memory does not hold; it is gone with the process. None: the system's
    folder for temporary files. Raises DataError for data that are missing, empty, too small, or unreadable beyond
    max_bad, and for guidance that does not fit them; ConfigError for an input size that the network cannot take.
    """
    images = _load_images(settings, network, cache_folder)
    guidance = read_guidance(settings.guidance, images.names, {name for name, _ in (*images.bad, *images.duplicates)})
    if settings.feedback is not None:
        good = [name_within(Path(settings.path), Path(file)) for file in settings.feedback.good]
        guidance = guidance.keeping(images.names, good)
    return replace(images, guidance=guidance)


def check_data(path: Path) -> None:
    """Raise DataError where nothing lies at a data path, and for an image that stands alone; nothing is opened."""
    if not path.exists():
        is_pattern = "*" in path.name and path.parent.is_dir()
        folder = f"; the folder itself: edge-aae train {shlex.quote(str(path.parent))}" if is_pattern else ""
        raise DataError(
            f"no data at {path}; expected a folder of images, a video, an IDX folder or an .npz file{folder}"
        )
    if path.is_file() and is_image(path):
        raise DataError(f"{path} is a single file; expected a folder of images, a video, an IDX pair or an .npz file")


def check_guidance(settings: DataSettings) -> None:
    """Raise what the files about single images tell by themselves and by a folder's names, before an image is read.

    As load_training_set does, which tells the rest: names of a video's frames are known once it is decoded.
    """
    files, path = settings.guidance, Path(settings.path)
    if files == GuidanceFiles():
        return
    if not path.is_dir() or is_labelled_set(path):
        check_forms(files)
        return
    names = [name_within(path, file) for file in training_files(path, told=False)]
    if settings.feedback is not None:
        names += settings.feedback.good
    read_guidance(files, names, told=False)


def probe_images(settings: DataSettings, network: NetworkName) -> Probe:
    """What a spread of a run's images says of all of them; raises DataError as load_training_set does."""
    path = _source(settings, network)
    if is_labelled_set(path):
        return probe_labelled(settings, read_labelled(path, "train"))
    return (probe_video if path.is_file() else probe_folder)(settings, path)


def levels_of(settings: DataSettings, *, told: bool = True) -> Levels | None:
    """The levels of a folder's 16-bit images, found among all of them; None for what has none. As found_levels."""
    path = Path(settings.path)
    if not path.is_dir() or is_labelled_set(path):
        return None
    return found_levels(training_files(path, told=False), told=told)


def _load_images(settings: DataSettings, network: NetworkName, cache_folder: Path | None) -> TrainingSet:
    path = _source(settings, network)
    if is_labelled_set(path):
        return load_labelled(settings, read_labelled(path, "train"), network, cache_folder)
    return (load_video if path.is_file() else load_folder)(settings, path, network, cache_folder)


def _source(settings: DataSettings, network: NetworkName) -> Path:
    """Where the images are, of a kind that the network trains on."""
    path, cuts_tiles = Path(settings.path), network_spec(network).cuts_tiles
    check_data(path)
    if settings.feedback is not None and (path.is_file() or is_labelled_set(path)):
        raise DataError(f"--feedback adds photographs to a folder of such, {path} is none; name the folder")
    if is_labelled_set(path):
        if cuts_tiles:
            raise DataError(
                f"network {network} trains on a folder of photographs, {path} is a labelled set; use another"
            )
        return path
    if settings.classes or settings.contaminate:
        kind = "video" if path.is_file() else "folder of images"
        raise DataError(f"--classes and --contaminate need labels; {path} is a {kind} without any")
    if cuts_tiles and path.is_file():
        raise DataError(f"network {network} trains on a folder of photographs, {path} is a video; use --network conv")
    return path
