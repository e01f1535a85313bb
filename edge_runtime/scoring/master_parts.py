"""Master parts: objects known good or bad, which a site keeps and tries at every start of a shift: `edge-aae check`."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from edge_runtime.errors import DataError
from edge_runtime.files import unicode_name
from edge_runtime.image_files.levels import Levels
from edge_runtime.image_files.listing import image_files
from edge_runtime.model.images import read_image
from edge_runtime.scoring.evaluation import Evaluation, Row
from edge_runtime.scoring.image_items import Item

__all__ = ["PartsVerdict", "is_right", "master_parts"]

logger = logging.getLogger(__name__)

ANOMALOUS_BY_FOLDER = {"good": False, "bad": True}
"""What the parts of a folder are known to be; capitals in its name do not count."""


def master_parts(folder: Path, levels: Levels | None = None) -> list[Item]:
    """The images of folder/good and folder/bad, named by their path below the folder, with what they are known to be.

    levels: those of the preprocessing that they are scored by, for 16-bit images. One of the two may be missing; other
    folders are said and left out. Raises DataError where both are missing, and
    for one that holds no image.
    """
    if not folder.is_dir():
        raise DataError(f"no folder of master parts at {folder}; expected one with good/, bad/ or both in it")
    inside = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    known = [path for path in inside if path.name.lower() in ANOMALOUS_BY_FOLDER]
    if not known:
        came = ", ".join(f"{path.name}/" for path in inside) or "no folder"
        raise DataError(
            f"{folder} has neither good/ nor bad/ in it but {came}; sort the master parts' images into them"
        )
    for other in inside:
        if other not in known:
            logger.warning("%s is neither good/ nor bad/: its parts are not tried", other)
    return [item for path in known for item in _parts_of(folder, path, levels)]


@dataclass(frozen=True, slots=True)
class PartsVerdict:
    """Master parts that were all scored, and whether each came out as what it is."""

    threshold: float
    rows: Sequence[Row]

    @classmethod
    def of(cls, evaluation: Evaluation) -> PartsVerdict:
        """Of scored master parts; raises DataError where one could not be scored, for then nothing is shown of it."""
        if evaluation.unscored:
            n_tried = len(evaluation.rows) + len(evaluation.unscored)
            name, reason = map(unicode_name, evaluation.unscored[0])
            raise DataError(
                f"{len(evaluation.unscored)} of {n_tried} master parts could not be scored, such as {name}: {reason}; "
                "take their images again"
            )
        return cls(evaluation.threshold, evaluation.rows)

    @property
    def wrong(self) -> list[Row]:
        """The parts that came out as what they are not."""
        return [row for row in self.rows if not is_right(row)]

    @property
    def passed(self) -> bool:
        """Whether every part came out as what it is."""
        return not self.wrong

    def lines(self) -> list[str]:
        """One line for each part that is wrong."""
        return [self._line(row) for row in self.wrong]

    def __str__(self) -> str:
        """The whole in one sentence."""
        if self.passed:
            how = f"all {len(self.rows)} master parts score as they should"
            good, bad = f"{self._count(False, self.rows)}", f"{self._count(True, self.rows)}"
        else:
            how = f"{len(self.wrong)} of {len(self.rows)} master parts score as they should not"
            good = f"{self._count(False, self.wrong)} of {self._count(False, self.rows)}"
            bad = f"{self._count(True, self.wrong)} of {self._count(True, self.rows)}"
        return f"{how}: {good} good, {bad} bad, threshold {self.threshold:.4g}"

    def _line(self, row: Row) -> str:
        side = ">" if row.is_anomaly or row.too_small else "<="
        small = "but all its regions are too small, " if row.too_small else ""
        return (
            f"{unicode_name(row.item.name)}: score {row.score:.4g} {side} threshold {self.threshold:.4g}, "
            f"{small}{_verdict(row.is_anomaly)}; it should be {_verdict(not row.is_anomaly)}"
        )

    @staticmethod
    def _count(anomalous: bool, rows: Sequence[Row]) -> int:
        return sum(row.item.anomalous is anomalous for row in rows)


def is_right(row: Row) -> bool:
    """Whether a master part came out as what it is known to be."""
    return row.is_anomaly is row.item.anomalous


def _parts_of(folder: Path, group: Path, levels: Levels | None) -> list[Item]:
    anomalous = ANOMALOUS_BY_FOLDER[group.name.lower()]
    return [
        Item(file.relative_to(folder).as_posix(), partial(read_image, file, levels), group.name, anomalous, file=file)
        for file in image_files(group)
    ]


def _verdict(is_anomaly: bool) -> str:
    return "anomalous" if is_anomaly else "normal"
