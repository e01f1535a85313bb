"""The live page's process: takes what the run hands on at standard input, and serves it.

`python -m edge_runtime.live.server` is started by bridge.py and by nobody else; it ends when its standard input does.
Viewers pull: each connection is sent the newest that there is once it has taken what came before, so that a slow one
sees fewer pictures and holds nothing back.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import IO, Any

from edge_runtime.bundle.site_calibration import threshold_at
from edge_runtime.errors import ConfigError, DataError, EdgeAaeError
from edge_runtime.extras import require
from edge_runtime.live.access import LARGEST_BODY, Access, Refusal, is_loopback
from edge_runtime.live.board import Board
from edge_runtime.live.feedback import Feedback
from edge_runtime.live.framing import pack, receive, send
from edge_runtime.live.guarded import GuardedPage

__all__ = ["LiveServer", "address_of", "bound", "main"]

ASSETS = Path(__file__).parent / "assets"
FILES = {
    "/": (ASSETS / "index.html", "text/html; charset=utf-8"),
    "/live.css": (ASSETS / "live.css", "text/css; charset=utf-8"),
    "/page.js": (ASSETS / "page.js", "text/javascript; charset=utf-8"),
    "/live.js": (ASSETS / "live.js", "text/javascript; charset=utf-8"),
    "/vendor/uPlot.iife.min.js": (ASSETS / "vendor/uPlot.iife.min.js", "text/javascript; charset=utf-8"),
    "/vendor/uPlot.min.css": (ASSETS / "vendor/uPlot.min.css", "text/css; charset=utf-8"),
}
"""The only files that are served; a path is a key of this, never a path on disk."""

MOST_VIEWERS = 32
LOOK_S = 0.05
SLOWEST_S = 10.0
"""A viewer that takes nothing for so long is let go."""

LAST_ANSWERS_S = 0.3
"""How long answers may take once the run has ended."""

QUIET_S = 2.0
"""Something is sent at least so often, so that a viewer knows that the run's process is there."""


class LiveServer(GuardedPage):
    """The page, over a board that another thread fills."""

    def __init__(self, board: Board, access: Access, feedback: Feedback, out: IO[bytes], bundle: Path | None) -> None:
        """out: where the run listens."""
        super().__init__(access, FILES)
        self.board, self.feedback = board, feedback
        self._out, self._bundle = out, bundle
        self._viewers = 0
        self._lock = threading.Lock()
        self._checks: list[dict[str, str]] | None = None

    async def answer(self, request: Any) -> Any:
        """See GuardedPage."""
        from starlette.responses import JSONResponse, StreamingResponse

        path, method = request.url.path, request.method
        if method in ("GET", "HEAD"):
            if path == "/api/stream":
                if self._viewers >= MOST_VIEWERS:
                    raise Refusal(503, f"{MOST_VIEWERS} viewers look already")
                return _Stream(StreamingResponse(self._stream(), media_type="application/octet-stream"))
            if path.startswith("/api/events/") and path.endswith(".jpg"):
                return self._event_picture(path.removeprefix("/api/events/").removesuffix(".jpg"))
            if path == "/api/preview":
                return JSONResponse(self._preview(request.query_params))
            if path == "/api/doctor":
                return JSONResponse(await asyncio.to_thread(self._doctor))
            raise Refusal(404, "there is no such page")
        if method == "POST" and path in ("/api/threshold", "/api/feedback"):
            asked = await self.asked(request)
            return JSONResponse(self._set_threshold(asked) if path == "/api/threshold" else self._feed_back(asked))
        raise Refusal(404, "expected GET, or POST to /api/threshold or /api/feedback")

    def _event_picture(self, event_id: str) -> Any:
        from starlette.responses import Response

        event = self.board.events.get(event_id)
        if event is None or event.picture is None:
            raise Refusal(404, "there is no picture of such an event")
        return Response(event.picture.jpeg, media_type="image/jpeg")

    def _threshold_asked(self, asked: Any) -> float:
        usual = self.board.state.get("usual_scores")
        try:
            if asked.get("target_fpr") not in (None, ""):
                return threshold_at({"score_quantiles": usual}, float(asked["target_fpr"]))
            threshold = float(asked["threshold"])
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, EdgeAaeError):
                raise
            raise ConfigError("expected threshold, or target_fpr, a number") from error
        if not -1e9 < threshold < 1e9:
            raise ConfigError(f"threshold is {threshold}, expected a finite number")
        return threshold

    def _preview(self, asked: Any) -> dict[str, Any]:
        threshold = self._threshold_asked(asked)
        return {"threshold": threshold, "sources": self.board.preview(threshold)}

    def _set_threshold(self, asked: dict[str, Any]) -> dict[str, Any]:
        threshold = self._threshold_asked(asked)
        self._tell({"kind": "threshold", "threshold": threshold})
        return {"threshold": threshold}

    def _feed_back(self, asked: dict[str, Any]) -> dict[str, Any]:
        event_id, answer = str(asked.get("event_id", "")), str(asked.get("answer", ""))
        event = self.board.events.get(event_id)
        if event is None:
            raise DataError("there is no such event any more")
        record = event.record
        frame = self.board.frames.get(event_id)
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

    def _count(self, change: int) -> None:
        self._viewers += change
        self._tell({"kind": "viewers", "number": self._viewers})

    async def _stream(self) -> AsyncIterator[bytes]:
        """Messages as in framing.py, for one viewer: what is new since the last one."""
        self._count(1)
        seen = _Seen()
        try:
            while True:
                with self.board.lock:
                    messages = seen.news(self.board, self.feedback)
                for message in messages:
                    yield message
                await asyncio.sleep(LOOK_S)
        finally:
            self._count(-1)


class _Seen:
    """What a viewer has been sent."""

    def __init__(self) -> None:
        self._number = -1
        self._pictures: dict[str, int] = {}
        self._scores: dict[str, int] = {}
        self._quiet_since = float("-inf")

    def news(self, board: Board, feedback: Feedback) -> list[bytes]:
        now_s = asyncio.get_running_loop().time()
        messages = []
        if board.number != self._number:
            self._number = board.number
            messages.append(pack({"kind": "board", **_board(board, feedback)}))
        rows = {}
        for source, scores in board.scores.items():
            new = scores.since(self._scores.get(source, 0))
            self._scores[source] = scores.added
            if new:
                latest = board.latest[source]
                rows[source] = {
                    "scores": new,
                    "score": latest["score"],
                    "threshold": latest["threshold"],
                    "is_anomaly": latest["is_anomaly"],
                    "state": latest["state"],
                    "frame_id": latest["frame_id"],
                    "age_ms": latest["age_ms"],
                    "latency_ms": latest["latency_ms"],
                    "criteria": latest["criteria"],
                    "scored": scores.added,
                }
        if rows:
            messages.append(pack({"kind": "scores", "sources": rows}))
        for source, picture in board.pictures.items():
            if self._pictures.get(source) != picture.number:
                self._pictures[source] = picture.number
                header = {
                    "kind": "picture",
                    "source_id": source,
                    "frame_id": picture.frame_id,
                    "map_shape": picture.heat_shape,
                    "n_jpeg": len(picture.jpeg),
                }
                messages.append(pack(header, picture.jpeg + picture.heat))
        if messages or now_s - self._quiet_since > QUIET_S:
            self._quiet_since = now_s
            messages = messages or [pack({"kind": "still here"})]
        return messages


def _board(board: Board, feedback: Feedback) -> dict[str, Any]:
    state = {key: value for key, value in board.state.items() if key != "usual_scores"}
    answers = feedback.answers()
    return {
        "state": {**state, "has_rates": board.state.get("usual_scores") is not None},
        "events": [
            {**event.record, "picture": event.picture is not None, "answer": answers.get(event_id, "")}
            for event_id, event in reversed(board.events.items())
        ],
        "statuses": list(board.statuses)[::-1],
    }


class _Stream:
    """A streaming answer whose viewer must take what it is sent within SLOWEST_S."""

    def __init__(self, response: Any) -> None:
        self._response = response
        self.headers = response.headers

    async def __call__(self, scope: Any, receive_: Any, send_: Any) -> None:
        async def timely(message: Any) -> None:
            await asyncio.wait_for(send_(message), SLOWEST_S)

        try:
            await self._response(scope, receive_, timely)
        except (TimeoutError, asyncio.TimeoutError):
            return


def main() -> int:
    """Serve until standard input ends."""
    stdin, stdout = sys.stdin.buffer, os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # nothing but messages may go to the run
    first = receive(stdin)
    if first is None:
        return 1
    hello = first[0]
    try:
        listener = bound(hello["host"], hello["port"])
        feedback = Feedback(Path(hello["feedback"]))
        uvicorn = require("uvicorn", extra="dashboard", purpose="live pages")
    except (OSError, EdgeAaeError) as error:
        send(stdout, {"kind": "failed", "reason": str(error)})
        return 1
    board = Board(state=hello["state"])
    bundle = None if hello["bundle"] is None else Path(hello["bundle"])
    access = Access(hello["host"], hello["token"])
    app = LiveServer(board, access, feedback, stdout, bundle)
    config = uvicorn.Config(
        app, log_config=None, access_log=False, server_header=False, timeout_keep_alive=5,
        limit_concurrency=4 * MOST_VIEWERS, h11_max_incomplete_event_size=LARGEST_BODY, timeout_graceful_shutdown=1,
        lifespan="off",
    )  # fmt: skip
    server = uvicorn.Server(config)

    def read() -> None:
        try:
            while (message := receive(stdin)) is not None:
                board.take(*message)
        finally:
            server.should_exit = True
            time.sleep(LAST_ANSWERS_S)
            os._exit(0)  # viewers that are still sent something must not keep a process without a run

    threading.Thread(target=read, name="from the run", daemon=True).start()
    send(stdout, {"kind": "serving", "address": address_of(hello["host"], listener, hello["token"])})
    server.run(sockets=[listener])
    return 0


def bound(host: str, port: int) -> socket.socket:
    """A socket that listens; raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port))
    listener.listen(128)  # who is told the address may connect at once
    return listener


def address_of(host: str, listener: socket.socket, token: str) -> str:
    """Where a browser finds it, token included."""
    port = listener.getsockname()[1]
    shown = f"[{host}]" if ":" in host else host
    if not is_loopback(host) and host in ("0.0.0.0", "::"):  # every interface: some name has to stand for it
        shown = socket.gethostname()
    return f"http://{shown}:{port}/" + (f"?token={token}" if token else "")


if __name__ == "__main__":
    sys.exit(main())
