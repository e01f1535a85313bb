"""One viewer of the live page: what it has been sent, and how long it may take over it.

Viewers pull: each is sent the newest that there is once it has taken what came before, so that a slow one sees fewer
pictures and holds nothing back.
"""

from __future__ import annotations

import asyncio
from typing import Any

from edge_runtime.live.board import Board
from edge_runtime.live.feedback import Feedback
from edge_runtime.scoring.regions import Region
from edge_runtime.serving.framing import pack

__all__ = ["TimelyAnswer", "Viewer"]

SLOWEST_S = 10.0
"""A viewer that takes nothing for so long is let go."""

QUIET_S = 2.0
"""Something is sent at least so often, so that a viewer knows that the run's process is there."""


class Viewer:
    """What one has been sent, and so what is new to it."""

    def __init__(self, *, may_change: bool = True) -> None:
        """may_change: whether the page is to offer what changes things."""
        self._may_change = may_change
        self._number = -1
        self._pictures: dict[str, int] = {}
        self._scores: dict[str, int] = {}
        self._quiet_since = float("-inf")

    def news(self, board: Board, feedback: Feedback, now_s: float) -> list[bytes]:
        """Messages as in framing.py: what is new since the last time. The caller holds the board's lock."""
        messages = []
        if board.number != self._number:
            self._number = board.number
            messages.append(pack({"kind": "board", "may_change": self._may_change, **_board(board, feedback)}))
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
                    "too_small": latest.get("too_small", False),
                    "image_quality": _picture(latest.get("image_quality")),
                    "regions": _regions(latest.get("boxes")),
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


def _regions(boxes: list[dict[str, Any]] | None) -> str:
    """What the boxes of a frame come to, in words; empty where there are none."""
    if not boxes:
        return ""
    largest = max((Region(**box) for box in boxes), key=lambda region: region.area_px).size
    return f"1 region of {largest}" if len(boxes) == 1 else f"{len(boxes)} regions, the largest of {largest}"


def _picture(quality: dict[str, Any] | None) -> str:
    """What is wrong with a frame's picture, in words; empty where nothing is."""
    return "" if quality is None else ", ".join(fault["what"] for fault in quality["faults"])


def _board(board: Board, feedback: Feedback) -> dict[str, Any]:
    state = {key: value for key, value in board.state.items() if key != "usual"}
    answers = feedback.answers()
    return {
        "state": {**state, "has_rates": board.state.get("usual") is not None},
        "events": [
            {**event.record, "picture": event.picture is not None, "answer": answers.get(event_id, "")}
            for event_id, event in reversed(board.events.items())
        ],
        "statuses": list(board.statuses)[::-1],
    }


class TimelyAnswer:
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
