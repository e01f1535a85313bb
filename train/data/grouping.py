"""Which of a run's images show one object or come from one session: found by near-duplicates, folders, names or times.

Cross-fitting must not tear them apart: a network that has seen one photograph of an object knows the others, so folds
that hold them back one by one say nothing about new objects.
"""

from __future__ import annotations

import logging
import math
import re
import warnings
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import ConfigError, DataError
from edge_runtime.extras import require
from train.data.image_store import ImageStore
from train.data.near_duplicates import duplicate_groups

__all__ = ["Groups", "check_group_by", "frame_groups", "groups_line", "photograph_groups"]

logger = logging.getLogger(__name__)

MINUTES = "minutes:"

EXIF_IFD, DATE_TIME_ORIGINAL = 0x8769, 0x9003
"""Exif 2.32, 4.6.3 and 4.6.5: where a camera says when the shutter opened, and as what."""
EXIF_TIME = "%Y:%m:%d %H:%M:%S"

VIDEO_BLOCKS = 30
"""Blocks that `auto` cuts a video into: enough to share out over folds, so few that blocks rarely tear one part."""
LEAST_BLOCK_S = 2.0
"""A part passes within a second or two."""

FEW_GROUPS = 10
"""Below it a fold holds so few objects or sessions that one unusual one moves the threshold."""

LARGEST_SHARE = 2 / 3
"""Of the images, in one group: its fold's networks would see half of what three folds usually leave them."""


@dataclass(frozen=True, slots=True)
class Groups:
    """The group of each training image."""

    by: str
    """As --group-by has it"""
    of: NDArray[np.int64]
    """(N,) from 0 on, in the order of their first images"""
    n_torn: int | None = None
    """Groups found that folds could not keep together, so that `of` has every image on its own; None: no such"""

    @classmethod
    def alone(cls, n_images: int, by: str = "none") -> Groups:
        """Every image on its own."""
        return cls(by, np.arange(n_images, dtype=np.int64))

    @classmethod
    def by_key(cls, by: str, keys: Iterable[Hashable]) -> Groups:
        """Images of one key belong together."""
        numbers: dict[Hashable, int] = {}
        return cls(by, np.array([numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.int64))

    @property
    def n(self) -> int:
        """How many groups were found."""
        return int(self.of.max(initial=-1)) + 1 if self.n_torn is None else self.n_torn

    def __len__(self) -> int:
        return len(self.of)

    def for_folds(self, n_folds: int) -> Groups:
        """These groups, if folds can be made of them, with a warning where they are few.

        Otherwise every image on its own, with a warning, where nobody asked for groups; raises ConfigError where
        somebody did.
        """
        if self.n == len(self) or self.n_torn is not None:
            return self
        reason = self._obstacle(n_folds)
        if reason is None:
            if self.n < FEW_GROUPS:
                logger.warning(
                    "only %d groups of images: the threshold rests on so few objects or sessions, and new ones may "
                    "give more false alarms than asked for; %d or more are better",
                    self.n,
                    FEW_GROUPS,
                )
            return self
        if self.by != "auto":
            raise ConfigError(
                f"--group-by {self.by}: {reason}, expected {n_folds} groups or more of about one size; name other "
                "groups, add images, or use --group-by none, with which the threshold may be too low"
            )
        logger.warning(
            "%s: folds are drawn by image, so networks judge what they have nearly seen, and the threshold may be too "
            "low; photograph more objects, or name groups with --group-by",
            reason,
        )
        return Groups(self.by, np.arange(len(self), dtype=np.int64), n_torn=self.n)

    def _obstacle(self, n_folds: int) -> str | None:
        """Why these groups cannot be laid into so many folds."""
        if self.n < n_folds:
            return f"{self.n} {'group' if self.n == 1 else 'groups'} of images for {n_folds} folds"
        largest = int(np.bincount(self.of).max())
        return f"{largest} of {len(self)} images are one group" if largest > LARGEST_SHARE * len(self) else None

    def to_json(self) -> dict[str, Any]:
        """What a run's calibration says of them."""
        return {"by": self.by, "n": self.n, **({} if self.n_torn is None else {"folds": "by image"})}

    def line(self) -> str:
        """What a person is told of them."""
        return groups_line(self.to_json(), len(self))


def groups_line(found: dict[str, Any], n_images: int) -> str:
    """As `Groups.line`, of what a calibration says."""
    text = f"{found['n']} of {n_images} images, by {found['by']}"
    if found["n"] == n_images:
        return f"{text}: every image on its own"
    if found.get("folds") == "by image":
        return f"{text}; folds cannot keep them together, so the threshold may be too low"
    if found["n"] < FEW_GROUPS:
        return f"{text}; so few that new objects or sessions may give more false alarms than asked for"
    return text


def check_group_by(group_by: str) -> None:
    """Raises ConfigError for a value of --group-by that means nothing."""
    if group_by.startswith(MINUTES):
        _minutes(group_by)
    elif group_by not in ("auto", "none", "folder"):
        _pattern(group_by)


def photograph_groups(
    group_by: str, folder: Path, names: Sequence[str], store: ImageStore, *, distinct: bool
) -> Groups:
    """The groups of a folder's images.

    names: relative to the folder, in the store's order. distinct: whether near-duplicates were left out already.
    Raises DataError where a pattern matches no name.
    """
    if group_by == "none" or (group_by == "auto" and distinct):
        return Groups.alone(len(names), group_by)
    if group_by == "auto":
        return Groups.by_key(group_by, duplicate_groups(store).tolist())
    if group_by == "folder":
        return Groups.by_key(group_by, [Path(name).parent for name in names])
    if group_by.startswith(MINUTES):
        return Groups.by_key(group_by, _sittings(_times(folder, names), 60.0 * _minutes(group_by)).tolist())
    return _by_name(group_by, names)


def frame_groups(group_by: str, names: Sequence[str], times_s: Sequence[float]) -> Groups:
    """The groups of a video's frames. times_s: of each, from the video's beginning, ascending.

    Frames follow each other without a gap, so that `minutes:N` and `auto` cut the video into blocks. Raises ConfigError
    for folders, DataError where a pattern matches no name.
    """
    if group_by == "none":
        return Groups.alone(len(names))
    if group_by == "folder":
        raise ConfigError("--group-by folder: a video has no folders; use minutes:N, auto or none")
    if group_by == "auto":
        block_s = max(LEAST_BLOCK_S, times_s[-1] / VIDEO_BLOCKS)
    elif group_by.startswith(MINUTES):
        block_s = 60.0 * _minutes(group_by)
    else:
        return _by_name(group_by, names)
    return Groups.by_key(group_by, [math.floor(time_s / block_s) for time_s in times_s])


def _minutes(group_by: str) -> float:
    try:
        minutes = float(group_by.removeprefix(MINUTES))
    except ValueError:
        minutes = math.nan
    if not (math.isfinite(minutes) and minutes > 0.0):
        raise ConfigError(f"--group-by {group_by}, expected minutes above 0, such as minutes:5")
    return minutes


def _pattern(group_by: str) -> re.Pattern[str]:
    if not group_by:
        raise ConfigError("--group-by is empty, expected auto, none, folder, a regular expression or minutes:N")
    try:
        return re.compile(group_by)
    except re.error as error:
        raise ConfigError(
            f"--group-by {group_by} is no regular expression ({error}), nor auto, none, folder or minutes:N"
        ) from error


def _by_name(group_by: str, names: Sequence[str]) -> Groups:
    """Names with the same first group of the match, or the same match; what does not match stands alone."""
    pattern = _pattern(group_by)
    matches = [pattern.search(name) for name in names]
    found = [match and match.group(min(1, pattern.groups)) for match in matches]
    n_alone = found.count(None)
    if n_alone == len(names):
        raise DataError(
            f"--group-by {group_by} matches none of {len(names)} names, such as {names[0]}; expected a regular "
            "expression that is found in them, or auto, none, folder, minutes:N"
        )
    if n_alone:
        logger.warning(
            "--group-by %s matches %d of %d names; each other one is a group of its own, the first: %s",
            group_by,
            len(names) - n_alone,
            len(names),
            names[found.index(None)],
        )
    keys = [("alone", name) if text is None else ("found", text) for name, text in zip(names, found, strict=True)]
    return Groups.by_key(group_by, keys)


def _sittings(times_s: NDArray[np.float64], gap_s: float) -> NDArray[np.int64]:
    """(N,) numbers of stretches of time without a gap of so many seconds between an image and the next."""
    order = np.argsort(times_s, kind="stable")
    numbers = np.empty(len(order), dtype=np.int64)
    numbers[order] = np.cumsum(np.diff(times_s[order], prepend=times_s[order[:1]]) >= gap_s)
    return numbers


def _times(folder: Path, names: Sequence[str]) -> NDArray[np.float64]:
    """(N,) seconds at which the images were taken; where they do not say, at which their files were last changed."""
    taken = [_time_taken(folder / name) for name in names]
    n_silent = taken.count(None)
    if n_silent:
        logger.info(
            "%d of %d images do not say when they were taken (EXIF); the time of their files stands for it, which "
            "copying may have changed",
            n_silent,
            len(names),
        )
    times = [
        (datetime.fromtimestamp((folder / name).stat().st_mtime) if time is None else time).timestamp()
        for name, time in zip(names, taken, strict=True)
    ]
    return np.array(times)


def _time_taken(file: Path) -> datetime | None:
    """EXIF's DateTimeOriginal, local time of the camera; None where there is none that can be read."""
    image = require("PIL.Image", extra="train", purpose="times of photographs")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about sizes and damaged tags: the pixels are not read here
        try:
            with image.open(file) as opened:
                said = opened.getexif().get_ifd(EXIF_IFD).get(DATE_TIME_ORIGINAL)
            return datetime.strptime(str(said).strip("\0 "), EXIF_TIME)
        except (OSError, ValueError, SyntaxError, image.DecompressionBombError):
            return None
