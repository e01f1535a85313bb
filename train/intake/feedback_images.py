"""What people said of alarms on the live page, as a training takes it: false alarms are good images, defects are known
defects, which set the threshold and are never trained on."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_runtime.errors import DataError
from edge_runtime.live.feedback import Feedback

__all__ = ["FeedbackImages", "name_within"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class FeedbackImages:
    """The images of a feedback folder as a run first saw them: what is said later is of the next run."""

    good: tuple[str, ...]
    """Absolute paths of frames that were false alarms"""
    defects: tuple[str, ...]
    """The same of frames that show a defect"""

    @classmethod
    def of(cls, folder: Path) -> FeedbackImages:
        """What `edge-aae run --serve --feedback FOLDER` collected; raises DataError where it holds no answer."""
        if not folder.is_dir():
            raise DataError(f"--feedback {folder} is no folder, expected that of `edge-aae run --serve --feedback`")
        labelled = Feedback(folder.absolute()).labelled()
        found = cls(good=tuple(map(str, labelled["good"])), defects=tuple(map(str, labelled["anomalous"])))
        if not (found.good or found.defects):
            raise DataError(
                f"--feedback {folder} holds no answer right or wrong, expected answers.csv and images/ as the live "
                "page writes them; judge some events there first"
            )
        logger.info(
            "feedback: %d good images join, %d known defects set the threshold", len(found.good), len(found.defects)
        )
        return found

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> FeedbackImages:
        """Read back; TypeError or KeyError where it cannot be."""
        return cls(good=tuple(values["good"]), defects=tuple(values["defects"]))

    def joined(self, files: Sequence[Path]) -> list[Path]:
        """A folder's images with the good ones after them, and without whatever of them is a copy of a feedback image.

        Raises DataError where one of these cannot be read any more.
        """
        judged = [Path(path) for path in (*self.good, *self.defects)]
        try:
            sizes = {path.stat().st_size for path in judged}
            hashes = {_sha256(path) for path in judged}
            copies = [file for file in files if file.stat().st_size in sizes and _sha256(file) in hashes]
        except OSError as error:
            raise DataError(
                f"cannot read an image of the feedback: {error}; train a new run with --feedback"
            ) from error
        if copies:
            logger.info("%d images of the folder are those of the feedback, which counts", len(copies))
        dropped = set(copies)
        return [*(file for file in files if file not in dropped), *map(Path, self.good)]


def name_within(folder: Path, file: Path) -> str:
    """How a run calls an image: by its path below the folder; one of the feedback's, which lies elsewhere, by its whole
    path."""
    return file.relative_to(folder).as_posix() if file.is_relative_to(folder) else str(file)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
