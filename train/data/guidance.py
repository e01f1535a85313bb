"""What a person knows about single training images: corrections to an earlier run's verdicts, and a few labels.

Three files say it: --keep and --reject name images, --labels gives names and labels. Refinement and the loss ask the
Guidance that comes of them.
"""

from __future__ import annotations

import csv
import hashlib
import logging
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import ConfigError, DataError

__all__ = ["Guidance", "GuidanceFile", "GuidanceFiles", "KEEP", "REJECT", "UNGUIDED", "check_forms", "read_guidance"]

logger = logging.getLogger(__name__)

UNGUIDED, KEEP, REJECT = 0, 1, -1
"""No word about an image; known to be normal; known to be anomalous."""

NORMAL_LABELS = frozenset({"0", "good", "normal", "ok"})
"""Labels, in any case, that say normal; every other one names a defect."""

NAMED_IN_ERRORS = 3


@dataclass(frozen=True, slots=True)
class GuidanceFile:
    """A file as a run first saw it."""

    path: str
    """Absolute"""
    sha256: str

    @classmethod
    def of(cls, path: Path) -> GuidanceFile:
        """The file as it is now; raises DataError where it cannot be read."""
        return cls(str(path.absolute()), hashlib.sha256(_read_bytes(path)).hexdigest())

    def text(self) -> str:
        """The content; raises DataError where the file is gone or has changed since."""
        content = _read_bytes(Path(self.path))
        if hashlib.sha256(content).hexdigest() != self.sha256:
            raise DataError(f"{self.path} has changed since the run began; put the old one back, or train a new run")
        # Bytes of file names that are no UTF-8 come back as Python holds them in paths.
        return content.decode("utf-8-sig", errors="surrogateescape")


@dataclass(frozen=True, kw_only=True, slots=True)
class GuidanceFiles:
    """The files that guide a run, each optional."""

    keep: GuidanceFile | None = None
    """Names of images that are normal, whatever a method thinks of them."""
    reject: GuidanceFile | None = None
    """Names of images that are anomalous."""
    labels: GuidanceFile | None = None
    """Names and labels: 0, good, normal or ok; anything else is a defect."""

    @classmethod
    def of(cls, *, keep: Path | None = None, reject: Path | None = None, labels: Path | None = None) -> GuidanceFiles:
        """The files as they are now; raises DataError where one cannot be read."""
        named = {"keep": keep, "reject": reject, "labels": labels}
        return cls(**{option: GuidanceFile.of(path) for option, path in named.items() if path is not None})

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> GuidanceFiles:
        """The files read back; raises TypeError for unknown keys."""
        return cls(**{option: GuidanceFile(**file) if file else None for option, file in values.items()})


@dataclass(frozen=True, slots=True)
class Guidance:
    """What is known of each training image."""

    verdicts: NDArray[np.int8]
    """(N,) UNGUIDED, KEEP or REJECT"""

    @classmethod
    def none(cls, n_images: int) -> Guidance:
        """Nothing is known."""
        return cls(np.full(n_images, UNGUIDED, dtype=np.int8))

    def keeping(self, names: Sequence[str], good: Collection[str]) -> Guidance:
        """The same, with the images of these names known to be normal. Raises DataError where a file rejects one."""
        verdicts, kept = self.verdicts.copy(), set(good)
        for index, name in enumerate(names):
            if name in kept:
                if verdicts[index] == REJECT:
                    raise DataError(
                        f"{name!r} is called normal by --feedback and anomalous by another file; take it out"
                    )
                verdicts[index] = KEEP
        return Guidance(verdicts)

    @property
    def keep(self) -> NDArray[np.bool_]:
        """(N,) images known to be normal: never rejected, weight 1."""
        kept: NDArray[np.bool_] = self.verdicts == KEEP
        return kept

    @property
    def reject(self) -> NDArray[np.bool_]:
        """(N,) images known to be anomalous."""
        rejected: NDArray[np.bool_] = self.verdicts == REJECT
        return rejected

    def __bool__(self) -> bool:
        """Whether anything is known at all."""
        return bool(self.verdicts.any())

    def __len__(self) -> int:
        return len(self.verdicts)


def check_forms(files: GuidanceFiles) -> None:
    """Raise DataError for files of another form, whatever images they name."""
    for _ in _said(files):
        pass


def read_guidance(
    files: GuidanceFiles, names: Sequence[str], skipped: Collection[str] = (), *, told: bool = True
) -> Guidance:
    """The guidance that files give for images of these names; where told, how many are known is said.

    skipped: names of images that exist but are not trained on; a word about them is passed over with a warning.
    Raises DataError for unknown names, files of another form, and images that two files call differently; ConfigError
    where every image would be rejected.
    """
    index_of = {name: index for index, name in enumerate(names)}
    guidance = Guidance.none(len(names))
    said_by: dict[int, str] = {}
    for option, file, verdicts in _said(files):
        unknown = [name for name in verdicts if name not in index_of]
        passed_over = [name for name in unknown if name in skipped]
        if len(passed_over) < len(unknown):
            strange = [name for name in unknown if name not in skipped]
            raise DataError(
                f"--{option} {file.path} names {len(strange)} images that are not in the training set: "
                f"{_some(strange)}; expected names of its images, such as {_some(list(names)[:1])}"
            )
        if passed_over:
            logger.warning("--%s names %d skipped images: %s", option, len(passed_over), _some(passed_over))
        for name, verdict in verdicts.items():
            if name not in index_of:
                continue
            index = index_of[name]
            if guidance.verdicts[index] not in (UNGUIDED, verdict):
                raise DataError(
                    f"{name!r} is called {_word(guidance.verdicts[index])} by {said_by[index]} and {_word(verdict)} "
                    f"by --{option}; take it out of one of them"
                )
            guidance.verdicts[index] = verdict
            said_by[index] = f"--{option}"
    if len(names) and guidance.reject.all():
        raise ConfigError(f"--reject and --labels call all {len(names)} images anomalous; nothing is left to train on")
    if guidance and told:
        logger.info("known: %d normal and %d anomalous images", guidance.keep.sum(), guidance.reject.sum())
    return guidance


def _said(files: GuidanceFiles) -> Iterator[tuple[str, GuidanceFile, dict[str, int]]]:
    """(option, file, verdict by name) of each file there is."""
    if files.keep:
        yield "keep", files.keep, dict.fromkeys(_names(files.keep), KEEP)
    if files.reject:
        yield "reject", files.reject, dict.fromkeys(_names(files.reject), REJECT)
    if files.labels:
        yield "labels", files.labels, _labels(files.labels)


def _names(file: GuidanceFile) -> list[str]:
    """The names of a text file, one a line, or of a CSV file's column `name`."""
    text = file.text()
    if "\0" in text:
        raise DataError(f"{file.path} is no text; expected one name of an image a line")
    header = next(csv.reader(text.splitlines()), [])
    if Path(file.path).suffix.lower() == ".csv" or (len(header) > 1 and "name" in header):
        return [row["name"] for row in _rows(file, text, ("name",))]
    return [line.strip() for line in text.splitlines() if line.strip()]


def _labels(file: GuidanceFile) -> dict[str, int]:
    verdicts: dict[str, int] = {}
    for row in _rows(file, file.text(), ("name", "label")):
        name, label = row["name"], row["label"].strip()
        if not label:
            raise DataError(f"{file.path}: {name!r} has no label; expected 0 or good for normal, else a defect")
        verdict = KEEP if label.lower() in NORMAL_LABELS else REJECT
        if verdicts.setdefault(name, verdict) != verdict:
            raise DataError(f"{file.path} calls {name!r} both normal and anomalous; leave one line for it")
    return verdicts


def _rows(file: GuidanceFile, text: str, columns: tuple[str, ...]) -> list[dict[str, str]]:
    """The rows of a CSV file, those columns of them."""
    if "\0" in text:
        raise DataError(f"{file.path} is no CSV text; expected lines {','.join(columns)}, the first one saying so")
    reader = csv.DictReader(text.splitlines())
    missing = [column for column in columns if column not in (reader.fieldnames or ())]
    if missing:
        raise DataError(
            f"{file.path} has columns {', '.join(reader.fieldnames or ()) or 'none'}; expected a first line that names "
            f"{' and '.join(columns)}"
        )
    return [{column: row[column] or "" for column in columns} for row in reader if row["name"]]


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error


def _some(names: list[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:NAMED_IN_ERRORS])
    return f"{shown}, ..." if len(names) > NAMED_IN_ERRORS else shown


def _word(verdict: int) -> str:
    return "normal" if verdict == KEEP else "anomalous"
