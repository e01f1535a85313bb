"""What the live page answers: a stream for each viewer, pictures of events, thresholds, and what people say of events.

Over a board that another thread fills. server.py is the process that serves it.
"""

from __future__ import annotations

import asyncio
import base64
import threading
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import IO, Any

from edge_runtime.bundle.kept_scores import KeptScores, threshold_from
from edge_runtime.errors import ConfigError, DataError, EdgeAaeError
from edge_runtime.live.board import Board
from edge_runtime.live.event_files import EventFiles
from edge_runtime.live.event_store import EventStore
from edge_runtime.live.feedback import Feedback
from edge_runtime.live.guarded import ASSETS, SHARED_FILES, GuardedPage
from edge_runtime.live.threshold_desk import Asked
from edge_runtime.live.viewer import TimelyAnswer, Viewer
from edge_runtime.serving.access import Access, Refusal, Visitor
from edge_runtime.serving.doorkeeper import group_of
from edge_runtime.serving.framing import send

__all__ = ["MOST_VIEWERS", "LiveAnswers"]

SCRIPTS = ("words", "card", "events", "panels", "live")

FILES = {
    **SHARED_FILES,
    "/": (ASSETS / "index.html", "text/html; charset=utf-8"),
    **{f"/{name}.js": (ASSETS / f"{name}.js", "text/javascript; charset=utf-8") for name in SCRIPTS},
    "/vendor/uPlot.iife.min.js": (ASSETS / "vendor/uPlot.iife.min.js", "text/javascript; charset=utf-8"),
    "/vendor/uPlot.min.css": (ASSETS / "vendor/uPlot.min.css", "text/css; charset=utf-8"),
}
"""The only files that are served; a path is a key of this, never a path on disk."""

MOST_VIEWERS, MOST_OF_AN_ADDRESS = 32, 16
STREAM = "/api/stream"
EVENTS, SNAPSHOT, CLIP = "/api/events/", "/snapshot.jpg", "/clip.avi"
LOOK_S = 0.05


class LiveAnswers(GuardedPage):
    """Answers the page's requests; what a viewer is sent is its Viewer's to say."""

    def __init__(
        self,
        board: Board,
        access: Access,
        feedback: Feedback,
        out: IO[bytes],
        *,
        bundle: Path | None = None,
        store: EventStore | None = None,
        pictures: EventFiles | None = None,
    ) -> None:
        """out: where the run listens. store: of events, which has frames that the board has no more. pictures:
        snapshots and clips that the run makes."""
        super().__init__(access, FILES)
        self.board, self.feedback = board, feedback
        self._out, self._bundle, self._store = out, bundle, store
        self._files = pictures or EventFiles()
        self._viewers: Counter[str] = Counter()
        self._looking = 0
        """Viewers that are sent pictures: a page in the background is not"""
        self._lock = threading.Lock()
        self._examining = asyncio.Lock()
        self._checks: list[dict[str, str]] | None = None

    async def answer(self, request: Any, asked: dict[str, Any], visitor: Visitor) -> Any:
        """See GuardedPage."""
        from starlette.responses import JSONResponse, StreamingResponse

        path, method = request.scope["path"], request.method
        if method in ("GET", "HEAD"):
            if path == STREAM:
                self._check_room(visitor)
                pictures = request.query_params.get("pictures") != "0"
                stream = self._stream(visitor, pictures=pictures) if method == "GET" else ()
                return TimelyAnswer(StreamingResponse(stream, media_type="application/octet-stream"))
            if path.startswith(EVENTS):
                return self._of_event(path.removeprefix(EVENTS))
            if path == "/api/preview":
                return JSONResponse(self._preview(request.query_params))
            if path == "/api/doctor":
                async with self._examining:
                    return JSONResponse(await asyncio.to_thread(self._doctor))
            raise Refusal(404, "there is no such page")
        if method == "POST" and path == "/api/threshold":
            return JSONResponse(self._set_threshold(asked, visitor))
        if method == "POST" and path == "/api/feedback":
            return JSONResponse(self._feed_back(asked))
        raise Refusal(404, "expected GET, or POST to /api/threshold or /api/feedback")

    def _check_room(self, visitor: Visitor) -> None:
        if self._viewers.total() >= MOST_VIEWERS:
            raise Refusal(503, f"{MOST_VIEWERS} viewers look already")
        if self._viewers[group_of(visitor.address)] >= MOST_OF_AN_ADDRESS:
            raise Refusal(503, f"{MOST_OF_AN_ADDRESS} viewers look already from {visitor.address}")

    def streams(self, path: str) -> bool:
        """See GuardedPage."""
        return path == STREAM or (path.startswith(EVENTS) and path.endswith(CLIP))

    def _of_event(self, asked: str) -> Any:
        """A picture, the details, the snapshot or the clip of one event. asked: its id, and which of them."""
        from starlette.responses import FileResponse, JSONResponse, Response

        ending = next((one for one in (SNAPSHOT, CLIP, ".jpg", ".json") if asked.endswith(one)), "")
        event_id = asked.removesuffix(ending) if ending else ""
        with self.board.lock:
            event = self.board.events.get(event_id)
            scores = self.board.scores_of(event_id) if event is not None and ending == ".json" else []
        if event is None:
            raise Refusal(404, "there is no such event any more")
        if ending == ".json":
            picture, snapshot, clip = event.picture, self._files.snapshot(event), self._files.clip(event)
            return JSONResponse(
                {
                    "record": event.record,
                    "map_shape": None if picture is None else picture.heat_shape,
                    "heat": "" if picture is None else base64.b64encode(picture.heat).decode("ascii"),
                    "scores": scores,
                    "snapshot": snapshot is not None,
                    "clip": clip is not None,
                }
            )
        if ending == ".jpg":
            if event.picture is None:
                raise Refusal(404, "there is no picture of such an event")
            return Response(event.picture.jpeg, media_type="image/jpeg")
        file = self._files.snapshot(event) if ending == SNAPSHOT else self._files.clip(event)
        if file is None:
            raise Refusal(404, "the run has made none of this event yet, or it is no longer kept")
        if ending == SNAPSHOT:
            return FileResponse(file, media_type="image/jpeg")
        return TimelyAnswer(FileResponse(file, media_type="video/x-msvideo"))

    def _threshold_asked(self, asked: Any, of: str | None) -> float:
        sources = self.board.state.get("sources", ())
        own = [source["usual"] for source in sources if source["source_id"] == of and "usual" in source]
        usual = own[0] if own else self.board.state.get("usual")
        try:
            if asked.get("target_fpr") not in (None, ""):
                kept = None if usual is None else KeptScores.from_json(usual)
                return threshold_from(kept, float(asked["target_fpr"]))
            threshold = float(asked["threshold"])
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, EdgeAaeError):
                raise
            raise ConfigError("expected threshold, or target_fpr, a number") from error
        if not -1e9 < threshold < 1e9:
            raise ConfigError(f"threshold is {threshold}, expected a finite number")
        return threshold

    def _preview(self, asked: Any) -> dict[str, Any]:
        of = self._source_asked(asked)
        threshold = self._threshold_asked(asked, of)
        sources = [one for one in self.board.preview(threshold) if of in (None, one["source_id"])]
        return {"threshold": threshold, "source_id": of, "sources": sources}

    def _source_asked(self, asked: Any) -> str | None:
        """The source that is meant alone; None for all."""
        of = asked.get("source_id") or None
        if of is not None and all(of != source["source_id"] for source in self.board.state.get("sources", ())):
            raise ConfigError("expected source_id, of a source of this run, or none for all")
        return of

    def _set_threshold(self, asked: dict[str, Any], visitor: Visitor) -> dict[str, Any]:
        keep, undo = asked.get("keep", False), asked.get("undo", False)
        if not (isinstance(keep, bool) and isinstance(undo, bool)) or (keep and undo):
            raise ConfigError("expected keep or undo, true or false")
        of = self._source_asked(asked)
        threshold = None if undo else self._threshold_asked(asked, of)
        self._tell({"kind": "threshold", **Asked(threshold, visitor, keep, of).to_json()})
        return {"threshold": threshold, "keep": keep, "source_id": of}

    def _feed_back(self, asked: dict[str, Any]) -> dict[str, Any]:
        event_id, answer = str(asked.get("event_id", "")), str(asked.get("answer", ""))
        event = self.board.events.get(event_id)
        if event is None:
            raise DataError("there is no such event any more")
        record = event.record
        frame = self.board.frames.get(event_id)
        if frame is None and self._store is not None:
            frame = self._store.frame(event_id)
        name = self.feedback.add(event_id, record["source_id"], record["peak_score"], answer, frame)
        self.board.number += 1
        return {"event_id": event_id, "answer": answer, "name": name, "labels": str(self.feedback.labels)}

    def _doctor(self) -> dict[str, Any]:
        from edge_runtime.operations.doctor import examine

        if self._checks is None:
            self._checks = [check.to_json() for check in examine(self._bundle, ())]
        return {"checks": self._checks}

    def _tell(self, header: dict[str, Any]) -> None:
        with self._lock:
            try:
                send(self._out, header)
            except (OSError, ValueError) as error:
                raise ConfigError(f"the run no longer listens: {error}") from error

    def _count(self, visitor: Visitor, change: int, *, pictures: bool) -> None:
        self._viewers[group_of(visitor.address)] += change
        self._viewers += Counter()  # without those that are none any more
        self._looking += change * pictures
        self._tell({"kind": "viewers", "number": self._looking})

    async def _stream(self, visitor: Visitor, *, pictures: bool) -> AsyncIterator[bytes]:
        """Messages as in framing.py, for one viewer: what is new since the last one."""
        self._count(visitor, 1, pictures=pictures)
        viewer = Viewer(may_change=visitor.may_change, pictures=pictures)
        try:
            while True:
                with self.board.lock:
                    messages = viewer.news(self.board, self.feedback, asyncio.get_running_loop().time())
                for message in messages:
                    yield message
                await asyncio.sleep(LOOK_S)
        finally:
            self._count(visitor, -1, pictures=pictures)
