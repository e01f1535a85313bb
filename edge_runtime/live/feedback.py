"""What people say of events, as a labels file that `edge-aae train --labels` takes, and the frames they said it of."""

from __future__ import annotations

import csv
import re
import shlex
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from edge_runtime.errors import DataError
from edge_runtime.files import OWN_ALONE, csv_bytes, write_atomically
from edge_runtime.model.images import write_image
from edge_runtime.model.preprocess import Frame
from edge_runtime.systems.replacing import replace

__all__ = ["ANSWERS", "Feedback"]

ANSWERS = {"right": "anomalous", "wrong": "good", "unsure": None}
"""What an alarm was, and the label that makes of its frame; who is unsure labels nothing."""

HEADER = ("name", "label", "answer", "event_id", "source_id", "score", "time")

NAME = re.compile(r"[^A-Za-z0-9._-]+")


class Feedback:
    """A folder: answers.csv, labels.csv, and images/ with the frame of each event that somebody spoke of."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._rows: dict[str, list[str]] = {}
        self._read()

    @property
    def table(self) -> Path:
        """Every answer, unsure ones without a label; one line an event, the last answer counts."""
        return self.folder / "answers.csv"

    @property
    def labels(self) -> Path:
        """What `edge-aae train FOLDER/images --labels` takes: right and wrong alone."""
        return self.folder / "labels.csv"

    def labelled(self) -> dict[str, list[Path]]:
        """Label -> images: `good` of false alarms, `anomalous` of defects, by the last answer about each.

        Raises DataError for a table whose images lie elsewhere than in the folder, or are gone.
        """
        found: dict[str, list[Path]] = {label: [] for label in ANSWERS.values() if label}
        for row in self._rows.values():
            image = self.folder / "images" / row[0]
            if row[1] not in found:
                continue
            if row[0] != Path(row[0]).name or not image.is_file():
                raise DataError(f"{self.table} names {row[0]!r}, which is not in {image.parent}; take the line out")
            found[row[1]].append(image)
        return found

    def told(self) -> dict[str, Any]:
        """How many false alarms and defects are kept, and the command that trains with them."""
        labels = [row[1] for row in self._rows.values()]
        command = f"edge-aae train PHOTOS --feedback {shlex.quote(str(self.folder))}"
        return {"good": labels.count("good"), "defects": labels.count("anomalous"), "command": command}

    def answers(self) -> dict[str, str]:
        """Event id -> right, wrong or unsure."""
        return {event_id: row[2] for event_id, row in self._rows.items()}

    def add(self, event_id: str, source_id: str, score: float, answer: str, frame: Frame | None) -> str:
        """Keep an answer; returns the image's name. Raises DataError where it is none, or cannot be kept."""
        if answer not in ANSWERS:
            raise DataError(f"feedback is {answer[:40]!r}, expected one of {', '.join(ANSWERS)}")
        event_id = event_id.replace("\0", "_")  # which a CSV file of Python 3.10 cannot hold
        stem = NAME.sub("_", event_id).strip("._")[:80] or "event"
        name = f"{stem}.png"
        image = self.folder / "images" / name
        if frame is not None and not image.exists():
            image.parent.mkdir(parents=True, exist_ok=True)
            part = image.with_suffix(".part.png")
            write_image(part, frame)
            replace(part, image)
        if not image.exists():
            raise DataError(f"the frame of {event_id} is no longer kept, so that there is nothing to label")
        label = ANSWERS[answer] or ""
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        self._rows[event_id] = [name, label, answer, event_id, source_id, f"{score:.6g}", now]
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self.table, csv_bytes(HEADER, self._rows.values()), mode=OWN_ALONE)
        write_atomically(self.labels, _labels(self._rows), mode=OWN_ALONE)
        return name

    def _read(self) -> None:
        try:
            with self.table.open(newline="", encoding="utf-8") as stream:
                for row in csv.reader(stream):
                    if len(row) == len(HEADER) and row[0] != HEADER[0]:
                        self._rows[row[3]] = row
        except FileNotFoundError:
            return
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise DataError(f"cannot read {self.table}: {error}; move it away to begin anew") from error


def _labels(rows: dict[str, list[str]]) -> bytes:
    return csv_bytes(HEADER[:2], [row[:2] for row in rows.values() if row[1]])
