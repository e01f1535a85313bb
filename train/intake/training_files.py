"""The files of a folder that are trained on: a data set's training images, and nothing that was made of them."""

from __future__ import annotations

import logging
import shlex
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from edge_runtime.errors import DataError
from edge_runtime.files import is_run_folder
from edge_runtime.image_files.listing import image_files, list_images
from edge_runtime.scoring.image_items import GOOD

__all__ = ["training_files", "training_folder"]

logger = logging.getLogger(__name__)

TRAINING = Path("train/good")
"""Where a data set of MVTec's layout has its training images, beside `test` and `ground_truth`."""
OF_A_TEST = ("test", "ground_truth")
MOST_NAMED = 4


def training_folder(data: Path) -> Path:
    """Where the training images of a data path lie: its train/good, which is said, where it has one; else the path.

    That images in a good/ are trained on with those of folders beside it is said too. Raises DataError for a run
    folder, and for a folder of several such data sets.
    """
    if not data.is_dir():
        return data
    if is_run_folder(data):
        raise DataError(
            f"{data} is a run folder, not images; `edge-aae train --resume --out {data}` goes on with an interrupted "
            "one, a new run needs the folder of the photographs"
        )
    if (data / TRAINING).is_dir():
        logger.info("%s is a data set: training on %s alone", data, data / TRAINING)
        return data / TRAINING
    sets = sorted(path.name for path in data.iterdir() if (path / TRAINING).is_dir())
    if len(sets) > 1:
        named = ", ".join(sets[:MOST_NAMED]) + (", ..." if len(sets) > MOST_NAMED else "")
        raise DataError(f"{data} holds {len(sets)} data sets ({named}); train on one: edge-aae train {data / sets[0]}")
    if sets:
        logger.info("%s holds a data set: training on %s alone", data, data / sets[0] / TRAINING)
        return data / sets[0] / TRAINING
    _tell_sorted(data)
    return data


def _tell_sorted(data: Path) -> None:
    """Say of a folder whose images are sorted into good/ and others that they are trained on as if they were not."""
    inside = sorted(path for path in data.iterdir() if path.is_dir() and not path.name.startswith("."))
    good = next((path for path in inside if path.name.lower() == GOOD), None)
    if good is None or not list_images(good, told=False):
        return
    others = [
        path
        for path in inside
        if path != good
        and path.name.lower() not in OF_A_TEST
        and any(not _why_not(data, file) for file in list_images(path, told=False))
    ]
    if not others:
        return
    *first, last = [f"{path.name}/" for path in (good, *others[:MOST_NAMED])]
    more = ", ..." if len(others) > MOST_NAMED else ""
    known = f" --known-bad {shlex.quote(str(others[0]))}" if len(others) == 1 else ""
    logger.info(
        "%s has %s and %s%s in it: all are trained on as unsorted; good ones alone: edge-aae train %s%s",
        data,
        ", ".join(first),
        last,
        more,
        shlex.quote(str(good)),
        known,
    )


def training_files(folder: Path, *, told: bool = True) -> list[Path]:
    """The images below a folder but test images, masks, and what runs, reports and heatmaps hold: said where told.

    In natural order. Raises DataError where none is left.
    """
    files = image_files(folder, told=told)
    reasons = [_why_not(folder, file) for file in files]
    heatmaps = _heatmaps(files)
    reasons = [reason or ("heatmaps" if file in heatmaps else "") for file, reason in zip(files, reasons, strict=True)]
    kept = [file for file, reason in zip(files, reasons, strict=True) if not reason]
    counted = Counter(reason for reason in reasons if reason)
    if not counted:
        return kept
    said = ", ".join(f"{n} of {reason}" for reason, n in counted.items())
    if not kept:
        raise DataError(f"{folder} holds no training images but {said}; name the folder of the photographs")
    if told:
        logger.warning("not trained on, below %s: %s; to train on such a folder name it", folder, said)
    return kept


def _why_not(folder: Path, file: Path) -> str:
    """What keeps a file from being trained on; empty where nothing does."""
    within = file.relative_to(folder).parts[:-1]
    if within and within[0].lower() in OF_A_TEST:
        return f"{within[0]}/"
    place = folder
    for part in within:
        place = place / part
        if is_run_folder(place):
            return f"the run folder {place.relative_to(folder)}/"
        if (place / "report.json").is_file():
            return f"the report {place.relative_to(folder)}/"
    return ""


def _heatmaps(files: Sequence[Path]) -> set[Path]:
    """Those that are named as --heatmaps names them: another file's whole name, and .png."""
    names = {file.name for file in files}
    return {file for file in files if file.suffix == ".png" and file.stem in names}
