"""One viewer of the live page: what it has been sent, and how long it may take over it.

Viewers pull: each is sent the newest that there is once it has taken what came before, so that a slow one sees fewer
pictures and holds nothing back.
"""

from __future__ import annotations

import asyncio
from typing import Any

from edge_runtime.live.board import Board, seconds_of
from edge_runtime.live.feedback import Feedback
from edge_runtime.scoring.regions import Region
from edge_runtime.serving.framing import pack

__all__ = ["TimelyAnswer", "Viewer"]

SLOWEST_S = 10.0
"""A viewer that takes nothing for so long is let go."""

TELL_S = 1.0
"""So often a viewer is told how long the run and each source have been silent, so that what is old is not taken for
now."""


OF_FRAME = (
    "score", "threshold", "is_anomaly", "state", "event_id", "frame_id", "age_ms", "latency_ms", "criteria",
)  # fmt: skip


class Viewer:
    """What one has been sent, and so what is new to it."""

    def __init__(self, *, may_change: bool = True, pictures: bool = True) -> None:
        """may_change: whether the page is to offer what changes things. pictures: whether it is sent any."""
        self._may_change, self._takes_pictures = may_change, pictures
        self._number = -1
        self._pictures: dict[str, int] = {}
        self._scores: dict[str, int] = {}
        self._told_s = float("-inf")

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
                told = _of_frame(board.latest[source])
                rows[source] = {**told, "scores": new, "scored": scores.added, "came_s_ago": board.age_s(source)}
        if rows:
            messages.append(pack({"kind": "scores", "sources": rows}))
        for source, picture in board.pictures.items() if self._takes_pictures else ():
            if self._pictures.get(source) != picture.number:
                self._pictures[source] = picture.number
                header = {
                    "kind": "picture",
                    "source_id": source,
                    "frame_id": picture.frame_id,
                    "map_shape": picture.heat_shape,
                    "n_jpeg": len(picture.jpeg),
                    "told": _of_frame(picture.record),
                }
                messages.append(pack(header, picture.jpeg + picture.heat))
        if now_s - self._told_s >= TELL_S:
            self._told_s = now_s
            ages_s = {source: board.age_s(source) for source in board.latest}
            messages.append(pack({"kind": "still here", "run_silent_s": board.run_silent_s(), "ages_s": ages_s}))
        return messages


def _of_frame(record: dict[str, Any]) -> dict[str, Any]:
    """What is told of one frame beside its picture; t in seconds since the epoch, shown_score as the alarm sees it."""
    smoothed = record["score_smoothed"]
    return {
        "t": seconds_of(record["t_capture"]),
        "shown_score": record["score"] if smoothed is None else smoothed,
        **{key: record[key] for key in OF_FRAME},
        "too_small": record.get("too_small", False),
        "regions": _regions(record.get("boxes")),
        "image_quality": _picture(record.get("image_quality")),
    }


def _picture(quality: dict[str, Any] | None) -> str:
    """What is wrong with a frame's picture, in words; empty where nothing is."""
    return "" if quality is None else ", ".join(fault["what"] for fault in quality["faults"])


def _regions(boxes: list[dict[str, Any]] | None) -> str:
    """What the boxes of a frame come to, in words; empty where there are none."""
    if not boxes:
        return ""
    largest = max((Region(**box) for box in boxes), key=lambda region: region.area_px).size
    return f"1 region of {largest}" if len(boxes) == 1 else f"{len(boxes)} regions, the largest of {largest}"


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
        "not_kept": board.not_kept,
        "feedback": feedback.told(),
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
