"""Rejected images in a browser: keep or reject by click or key, written as what `train --keep --reject` takes."""

from __future__ import annotations

import csv
import signal
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edge_runtime.errors import DataError
from edge_runtime.extras import require
from edge_runtime.files import csv_bytes, write_atomically
from edge_runtime.live.guarded import SHARED_FILES, GuardedPage, server_of
from edge_runtime.serving.access import LARGEST_BODY, Access, Refusal, Visitor
from edge_runtime.serving.listening import address_of, bound
from train.data.loading import load_training_set
from train.data.training_set import TrainingSet
from train.runs.review import codes_of, group_codes
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
VERDICTS = ("keep", "reject", "")
MOST_AT_ONCE = 400
"""Images of one request: a body has a bound."""


class ReviewPage(GuardedPage):
    """One run's rejected images and what a person made of them."""

    def __init__(self, path: Path, access: Access) -> None:
        """Raises DataError where the run, or its images, are not there."""
        super().__init__(access, FILES)
        self.path = path
        run = RunFolder(path).load()
        table = read_verdicts(path / "refinement.csv", run.decision)
        self.images: TrainingSet = load_training_set(run.config.data, run.config.train.network)
        if self.images.sha256() != run.config.images_sha256:
            raise DataError(f"{run.config.data.path} holds other images than {path} was trained on")
        self.names, self.reasons = table.names, table.reasons
        self.scores, rejected = run.decision.score(table.criteria), ~table.kept
        self.groups = group_codes(codes_of(run, self.images), rejected, self.scores, run.config.train.seed)
        self._rejected = {int(index) for index in np.flatnonzero(rejected)}
        self._index = {self.names[index]: index for index in self._rejected}
        self._decided: dict[int, str] = {}
        self._lock = threading.Lock()
        for verdict in ("keep", "reject"):
            for name in _names_in(self.file(verdict)):
                if name in self._index:
                    self._decided[self._index[name]] = verdict

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
        """What trains again with what was decided."""
        used = [f"--{verdict} {self.file(verdict)}" for verdict in ("keep", "reject") if self.file(verdict).exists()]
        return f"edge-aae train {RunFolder(self.path).read_config().data.path} {' '.join(used)}".strip()

    def decide(self, indices: Sequence[Any], verdict: str) -> dict[str, Any]:
        """Keep, reject, or leave open; written at once. Raises Refusal."""
        if verdict not in VERDICTS or not indices or len(indices) > MOST_AT_ONCE:
            raise Refusal(400, f"expected keep, reject or nothing, for 1 to {MOST_AT_ONCE} images")
        if any(not isinstance(index, int) or index not in self._rejected for index in indices):
            raise Refusal(400, "expected images that the run rejected")
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
            return JSONResponse(self.told())
        if method in ("GET", "HEAD") and path.startswith("/api/images/") and path.endswith(".png"):
            number = path.removeprefix("/api/images/").removesuffix(".png")
            if not (number.isdecimal() and int(number) in self._rejected):
                raise Refusal(404, "there is no such image")
            return Response(self._picture(int(number)), media_type="image/png")
        if method == "POST" and path == "/api/verdicts":
            indices = asked.get("indices")
            return JSONResponse(
                self.decide(indices if isinstance(indices, list) else [], str(asked.get("verdict", "?")))
            )
        raise Refusal(404, f"there is no such page (bodies up to {LARGEST_BODY} bytes go to /api/verdicts)")

    def _picture(self, index: int) -> bytes:
        picture = np.ascontiguousarray(self.images.picture(index))
        if picture.ndim == 3 and picture.shape[2] == 4:
            picture = np.ascontiguousarray(picture[:, :, 0])
        return bytes(cv2.imencode(".png", picture)[1])


def _names_in(file: Path) -> list[str]:
    try:
        with file.open(newline="", encoding="utf-8", errors="surrogateescape") as lines:
            return [row["name"] for row in csv.DictReader(lines)]
    except FileNotFoundError:
        return []
    except (OSError, KeyError, csv.Error) as error:
        raise DataError(f"{file} cannot be read: {error}; move it away to begin anew") from error


def serve_review(page: ReviewPage, host: str, port: int, token: str, say: Any) -> None:
    """Serve until Ctrl-C or SIGTERM, in the main thread; say gets the address. Raises DataError where that is taken."""
    require("starlette", extra="dashboard", purpose="review pages")
    try:
        listener = bound(host, port)
    except OSError as error:
        raise DataError(f"cannot serve at {host}:{port}: {error.strerror or error}; choose another port") from error
    server = server_of(page)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with suppress(KeyboardInterrupt):  # uvicorn passes signals on once it has closed its connections
            say(address_of(host, listener, token))
            server.run(sockets=[listener])
    finally:
        signal.signal(signal.SIGTERM, before)
