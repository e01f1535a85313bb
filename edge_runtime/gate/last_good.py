"""The bundle that last proved itself here, kept for the day when the one at its path cannot be used.

A bad bundle that arrives while a run goes on is refused by operations/model_watch.py; the same file must not keep the
run from starting again after a power cut, or after it ended the run itself.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from edge_runtime.archive import MAX_BYTES
from edge_runtime.bundle.bundle import Bundle
from edge_runtime.errors import BundleError, EdgeAaeError, GateError
from edge_runtime.files import json_bytes, write_atomically
from edge_runtime.gate.trial import Trial
from edge_runtime.gate.verification import verify_bundle
from edge_runtime.scoring.detector import Detector
from edge_runtime.signing.signatures import signature_path, write_signed

__all__ = ["LastGood", "verified"]

logger = logging.getLogger(__name__)

Load = Callable[[Bundle], Detector]

BOOT = Path("/proc/sys/kernel/random/boot_id")
CHUNK_BYTES = 1 << 20


def verified(bundle: Bundle, load: Load, precision: str) -> Detector:
    """A detector of the bundle, which reproduced its golden samples on this machine; raises GateError otherwise."""
    detector = load(bundle)
    report = verify_bundle(bundle, precision=precision, backend=detector.backend.name)
    if not report.passed:
        raise GateError(f"it fails the parity gate on this machine: {report.failures()[0]}")
    return detector


class LastGood:
    """A copy beside a path: of the bundle there, when it was last verified and used."""

    def __init__(self, file: Path, model: Path, load: Load, precision: str, trial: Trial | None = None) -> None:
        """file: the copy, an .aae file, beside it its signature where the trial requires one; model: where bundles
        arrive; load: makes a detector of one; trial: how one is opened, and tried that was not good before."""
        self._file, self._model, self._load, self._precision = file, model, load, precision
        self._trial = trial or Trial(precision=precision)
        self._mark = file.with_name(f"{file.name}.trying")
        self.refused = ""
        """Why the bundle at the path is not the one in use; empty where it is"""

    def open(self) -> Detector:
        """The detector of the bundle at the path where it can be used, else of the copy, which is said.

        Raises the first bundle's error where there is no copy, or none that can be used.
        """
        try:
            detector = self._new()
        except Exception as error:  # whatever lies there must not keep a run from starting that has a copy
            _note(error, self._model)
            if not self._file.exists():
                raise
            logger.warning("%s is not used: %s", self._model, error)
            try:
                # Under the name of the path, so that a calibration beside it counts if it is of this bundle.
                copy = replace(self._trial.open(self._file), path=self._model)
                detector = verified(copy, self._load, self._precision)
            except Exception as second:  # likewise
                logger.warning("nor is %s, the last good one: %s", self._file, second)
                raise error from second
            self.refused = str(error)
            logger.warning("the last good bundle is used, %s; put a good one at %s", self._file, self._model)
            return detector
        self.keep(detector.bundle)
        return detector

    def keep(self, bundle: Bundle) -> None:
        """Make the copy one of this bundle; a full disk is said and stops nothing."""
        try:
            if self._file.exists() and self._trial.open(self._file).digest == bundle.digest:
                return
        except EdgeAaeError:
            pass  # a damaged copy is replaced
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            if bundle.signed is not None:
                write_signed(self._file, bundle.signed.archive, bundle.signed.signature)
                return
            bundle.write(self._file)
            signature_path(self._file).unlink(missing_ok=True)  # of a copy before
        except (OSError, EdgeAaeError) as error:
            logger.warning("the bundle in use cannot be kept as %s: %s", self._file, error)

    def _new(self) -> Detector:
        """The detector of the bundle at the path, tried in a process of its own first unless it is the copy's.

        While it is tried a mark lies beside the copy. One that is found means that a run ended in the midst.
        """
        identity = _identity(self._model)
        if not self._file.exists():
            return self._tried()  # without a copy there is nothing that a mark could lead to
        if identity == _identity(self._file):
            return verified(self._trial.open(self._model), self._load, self._precision)
        self._refuse_what_ended_a_run(identity)
        self._write_mark(identity)
        try:
            with _before_sigterm(self._forget):
                return self._tried()
        finally:
            self._forget()

    def _tried(self) -> Detector:
        self._trial.of(self._model)
        return verified(self._trial.open(self._model), self._load, self._precision)

    def _forget(self) -> None:
        self._mark.unlink(missing_ok=True)

    def _refuse_what_ended_a_run(self, identity: str) -> None:
        """A power cut is none of the bundle's doing: a mark of another boot counts from the second time on."""
        mark = self._read_mark()
        if mark.get("sha256") == identity and (mark.get("boot") == _boot() or mark.get("times", 0) > 1):
            raise BundleError(
                f"{self._model} was being tried when a run ended without a word, and is not tried again; put another "
                f"one there, or remove {self._mark}"
            )

    def _write_mark(self, identity: str) -> None:
        before = self._read_mark()
        times = 1 + (before.get("times", 0) if before.get("sha256") == identity else 0)
        try:
            write_atomically(self._mark, json_bytes({"sha256": identity, "boot": _boot(), "times": times}))
        except EdgeAaeError as error:
            logger.warning("what is tried cannot be noted: %s", error)

    def _read_mark(self) -> dict[str, Any]:
        try:
            mark = json.loads(self._mark.read_bytes())
        except (OSError, ValueError):
            return {}
        return mark if isinstance(mark, dict) and isinstance(mark.get("times", 0), int) else {}


@contextmanager
def _before_sigterm(act: Callable[[], None]) -> Iterator[None]:
    """Act before SIGTERM ends the process: who stops a service while it starts says nothing about its bundle."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def acted(number: int, frame: object) -> None:
        act()
        signal.signal(number, before)
        os.kill(os.getpid(), number)

    before = signal.signal(signal.SIGTERM, acted)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _note(error: Exception, model: Path) -> None:
    if not isinstance(error, EdgeAaeError):
        logger.debug("the bundle at %s cannot be used", model, exc_info=error)


def _identity(path: Path) -> str:
    """SHA-256 of a file, or of a folder's files and their names."""
    total, n_bytes = hashlib.sha256(), 0
    try:
        for file in sorted(path.iterdir()) if path.is_dir() else [path]:
            if not file.is_file():
                continue
            n_bytes += file.stat().st_size
            if n_bytes > MAX_BYTES:
                raise BundleError(f"{path} is larger than {MAX_BYTES} bytes; do not use it")
            if file != path:
                total.update(f"{file.name}\0{file.stat().st_size}\0".encode(errors="surrogateescape"))
            with file.open("rb") as stream:
                while chunk := stream.read(CHUNK_BYTES):
                    total.update(chunk)
    except OSError as error:
        raise BundleError(f"cannot read bundle {path}: {error.strerror or error}") from error
    return total.hexdigest()


def _boot() -> str:
    try:
        return BOOT.read_text(encoding="utf-8").strip()
    except OSError:
        return ""
