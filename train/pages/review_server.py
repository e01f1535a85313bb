"""Rejected images in a browser: keep or reject by click or key, written as what `train --keep --reject` takes."""

from __future__ import annotations

import asyncio
import csv
import shlex
import signal
import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import DataError, EdgeAaeError
from edge_runtime.extras import require
from edge_runtime.files import csv_bytes, write_atomically
from edge_runtime.live.guarded import SHARED_FILES, GuardedPage, server_of
from edge_runtime.model.images import read_image
from edge_runtime.model.preprocess import Frame
from edge_runtime.scoring.labelled import is_labelled_set
from edge_runtime.serving.access import LARGEST_BODY, Access, Refusal, Visitor
from train.data.loading import load_training_set
from train.data.training_set import TrainingSet
from train.runs.review import Group, codes_of, group_codes, keep_groups, kept_groups, words_of
from train.runs.run_folder import RunFolder
from train.runs.verdicts import read_verdicts

__all__ = ["ReviewPage", "serve_review"]

ASSETS = Path(__file__).parent / "review_assets"
FILES = {
    "/": (ASSETS / "index.html", "text/html; charset=utf-8"),
    "/review.css": (ASSETS / "review.css", "text/css; charset=utf-8"),
    "/review.js": (ASSETS / "review.js", "text/javascript; charset=utf-8"),
    **SHARED_FILES,
}
SIDES = {"/api/images/": 288, "/api/photographs/": 1600}
"""Addresses of pictures, and the pixels that their longer side has at most"""
JPEG_QUALITY = 88
CHECK_AFTER_S = 3.0
LONGEST_NUMBER = 12
"""Digits; int refuses thousands of them"""
VERDICTS = ("keep", "reject", "")
MOST_AT_ONCE = 400
"""Images of one request: a body has a bound."""


class ReviewPage(GuardedPage):
    """One run's rejected images and what a person made of them."""

    def __init__(self, path: Path, access: Access) -> None:
        """Raises DataError where the run, or its images, are not there."""
        super().__init__(access, FILES)
        self.path = path
        self.config = RunFolder(path).read_config()
        _, decision = RunFolder(path).read_calibration()
        table = read_verdicts(path / "refinement.csv", decision)
        self.data = Path(self.config.data.path)
        if not self.data.exists():
            raise DataError(f"no data at {self.data}, where {path} had its images; put them back, or train again")
        self.names, self.reasons, self.threshold = table.names, table.reasons, decision.threshold
        self.scores, rejected = decision.score(table.criteria), ~table.kept
        kept = kept_groups(path, self.names, rejected, self.scores) if rejected.any() else []
        self.images: TrainingSet | None = None
        """Read only where they are needed: of a folder whose groups the report has left, files are shown one by one"""
        self.wrong = ""
        """Why nothing may be decided here"""
        self._checking = False
        if kept is None or not self.data.is_dir() or is_labelled_set(self.data):
            self.images = self._loaded()
        self.groups = kept if kept is not None else self._grouped(rejected)
        self._rejected = {int(index) for index in np.flatnonzero(rejected)}
        self._index = {self.names[index]: index for index in self._rejected}
        self._decided: dict[int, str] = {}
        self._lock = threading.Lock()
        for verdict in ("keep", "reject"):
            for name in _names_in(self.file(verdict)):
                if name in self._index:
                    self._decided[self._index[name]] = verdict

    def check(self) -> None:
        """Read all images, as training does, and hold them to the run's; what is wrong is said with the next answer."""
        try:
            self._loaded()
        except EdgeAaeError as error:
            self.wrong = str(error)

    def _check_later(self) -> None:
        """Once, beside the answers, and not while the first pictures are on their way."""
        if self.images is None and not self._checking:
            self._checking = True
            timer = threading.Timer(CHECK_AFTER_S, self.check)
            timer.daemon = True
            timer.start()

    def _loaded(self) -> TrainingSet:
        images = load_training_set(self.config.data, self.config.train.network)
        if images.sha256() != self.config.images_sha256:
            raise DataError(f"{self.data} holds other images than {self.path} was trained on")
        return images

    def _grouped(self, rejected: NDArray[np.bool_]) -> list[Group]:
        assert self.images is not None, "read where no groups were kept"
        run = RunFolder(self.path).load()
        groups = group_codes(codes_of(run, self.images), rejected, self.scores, self.config.train.seed)
        with suppress(DataError):  # a run folder that is only read
            keep_groups(self.path, groups, self.names)
        return groups

    def file(self, verdict: str) -> Path:
        """Where the names that were kept, or rejected, are written."""
        return self.path / f"review-{verdict}.csv"

    def told(self) -> dict[str, Any]:
        """Everything the page shows but the pictures."""
        return {
            "run": str(self.path),
            "groups": [
                {
                    "spread": group.spread,
                    "words": words_of(group, len(self.groups), self.names, self.scores, self.threshold),
                    "images": [
                        {
                            "index": int(index),
                            "name": self.names[index],
                            "score": float(self.scores[index]),
                            "reason": self.reasons[index],
                            "verdict": self._decided.get(int(index), ""),
                        }
                        for index in group.members
                    ],
                }
                for group in self.groups
            ],
            "command": self.command(),
        }

    def command(self) -> str:
        """What trains again with what was decided, and with the defects and answers that the run had."""
        words = ["edge-aae", "train", str(self.data)]
        for verdict in ("keep", "reject"):
            if self.file(verdict).exists():
                words += [f"--{verdict}", str(self.file(verdict))]
        settings = self.config.data
        if settings.known_bad is not None:
            words += ["--known-bad", settings.known_bad]
        if settings.feedback is not None:
            frames = [*settings.feedback.good, *settings.feedback.defects]
            words += ["--feedback", str(Path(frames[0]).parent.parent)]  # of FOLDER/images/FRAME
        return shlex.join(words)

    def decide(self, indices: Sequence[Any], verdict: str) -> dict[str, Any]:
        """Keep, reject, or leave open; written at once. Raises Refusal."""
        if verdict not in VERDICTS or not indices or len(indices) > MOST_AT_ONCE:
            raise Refusal(400, f"expected keep, reject or nothing, for 1 to {MOST_AT_ONCE} images")
        if any(not isinstance(index, int) or index not in self._rejected for index in indices):
            raise Refusal(400, "expected images that the run rejected")
        if self.wrong:
            raise Refusal(409, self.wrong)
        with self._lock:
            for index in indices:
                if verdict:
                    self._decided[index] = verdict
                else:
                    self._decided.pop(index, None)
            counts = {}
            for name in ("keep", "reject"):
                chosen = sorted(index for index, given in self._decided.items() if given == name)
                counts[name] = len(chosen)
                if chosen or self.file(name).exists():
                    write_atomically(self.file(name), csv_bytes(["name"], [[self.names[index]] for index in chosen]))
        return {**counts, "open": len(self._rejected) - len(self._decided), "command": self.command()}

    async def answer(self, request: Any, asked: dict[str, Any], visitor: Visitor) -> Any:
        """See GuardedPage."""
        from starlette.responses import JSONResponse, Response

        path, method = request.scope["path"], request.method
        if method in ("GET", "HEAD") and path == "/api/groups":
            self._check_later()
            return JSONResponse(self.told())
        for start, longest in SIDES.items():
            if method in ("GET", "HEAD") and path.startswith(start):
                number = path.removeprefix(start)
                if not (
                    len(number) < LONGEST_NUMBER
                    and number.isascii()
                    and number.isdecimal()
                    and int(number) in self._rejected
                ):
                    raise Refusal(404, "there is no such image")
                # In a thread: a photograph takes its time, and decisions must not wait for it.
                return Response(*await asyncio.to_thread(self._picture, int(number), longest))
        if method == "POST" and path == "/api/verdicts":
            indices = asked.get("indices")
            return JSONResponse(
                self.decide(indices if isinstance(indices, list) else [], str(asked.get("verdict", "?")))
            )
        raise Refusal(404, f"there is no such page (bodies up to {LARGEST_BODY} bytes go to /api/verdicts)")

    def _picture(self, index: int, longest: int) -> tuple[bytes, int, None, str]:
        """Content, status, headers and type of a picture; raises DataError where its file cannot be read."""
        picture = self._frame(index)
        factor = longest / max(picture.shape[:2])
        if factor >= 1.0:
            return bytes(cv2.imencode(".png", picture)[1]), 200, None, "image/png"
        size = max(1, round(factor * picture.shape[1])), max(1, round(factor * picture.shape[0]))
        smaller = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        content = cv2.imencode(".jpg", smaller, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]
        return bytes(content), 200, None, "image/jpeg"

    def _frame(self, index: int) -> Frame:
        """The photograph itself where it is a file, else what the network reads; (H, W) or (H, W, 1 or 3) uint8."""
        name = Path(self.names[index])
        if self.data.is_dir() and not is_labelled_set(self.data):
            if name.is_absolute() or ".." in name.parts:
                raise Refusal(404, "there is no such image")
            return read_image(self.data / name, self.config.data.used_levels)
        assert self.images is not None, "read where there are no files"
        picture = np.ascontiguousarray(self.images.picture(index))
        return np.ascontiguousarray(picture[:, :, 0]) if picture.ndim == 3 and picture.shape[2] == 4 else picture


def _names_in(file: Path) -> list[str]:
    try:
        with file.open(newline="", encoding="utf-8", errors="surrogateescape") as lines:
            return [row["name"] for row in csv.DictReader(lines)]
    except FileNotFoundError:
        return []
    except (OSError, KeyError, csv.Error) as error:
        raise DataError(f"{file} cannot be read: {error}; move it away to begin anew") from error


def serve_review(page: ReviewPage, listener: socket.socket, say_ready: Callable[[], None]) -> None:
    """Serve until Ctrl-C or SIGTERM, in the main thread. listener: bound; say_ready: called once either ends it."""
    require("starlette", extra="dashboard", purpose="review pages")
    server = server_of(page)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with suppress(KeyboardInterrupt):  # uvicorn passes signals on once it has closed its connections
            say_ready()
            server.run(sockets=[listener])
    finally:
        signal.signal(signal.SIGTERM, before)
