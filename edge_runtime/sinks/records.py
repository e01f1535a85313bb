"""Records: one JSON object a line, stable keys, version 1, no NaN. The format is specified in docs/records.md."""

from __future__ import annotations

import json
import math
import time
from datetime import datetime, timezone
from typing import Any, Literal

from edge_runtime.files import unicode_name
from edge_runtime.redact import redact
from edge_runtime.scoring.master_parts import PartsVerdict, is_right
from edge_runtime.scoring.result import Result
from edge_runtime.sources.contract import CapturedFrame
from edge_runtime.watching.alarm import EventChange

__all__ = ["check_record", "event_record", "frame_record", "status_record", "timestamp", "to_line"]

VERSION = 1


def frame_record(
    source_id: str,
    frame: CapturedFrame,
    result: Result,
    *,
    t_emit: float,
    age_ms: float,
    model: str,
    score_smoothed: float | None = None,
    state: str | None = None,
    event_id: str | None = None,
    boxes: list[dict[str, float | None]] | None = None,
    signed_by: str | None = None,
) -> dict[str, Any]:
    """The record of one scored frame.

    t_emit: seconds since the epoch; age_ms: from capture to emission by the monotonic clock; model: the bundle's
    digest. score_smoothed: None where nothing is smoothed; state: the alarm's, None where there is no alarm; boxes:
    None where nobody asked for them. The key `view` is there where the bundle aligns parts, `too_small` where a
    smallest area is in force, `image_quality` where the bundle has limits of it, `signed_by` where the bundle had to be
    signed.
    """
    placement = result.geometry.placement
    latency_ms = {"capture": frame.capture_ms, **result.latency_ms}
    return {
        "v": VERSION,
        "type": "frame",
        "source_id": _text(source_id),
        "frame_id": frame.frame_id,
        "name": None if frame.name is None else unicode_name(frame.name),
        "t_capture": timestamp(frame.t_capture),
        "t_emit": timestamp(t_emit),
        "age_ms": round(age_ms, 3),
        "score": result.score,
        "score_smoothed": result.score if score_smoothed is None else score_smoothed,
        "threshold": result.threshold,
        "is_anomaly": None if result.unknown else result.is_anomaly,
        **({} if result.size.least_px is None else {"too_small": result.too_small}),
        **({} if result.faults is None else {"image_quality": _quality(result)}),
        "state": state or ("anomaly" if result.is_anomaly else "unknown" if result.unknown else "normal"),
        "event_id": event_id,
        "boxes": boxes,
        **({} if placement is None else {"view": placement.code}),
        "criteria": dict(result.criteria),
        "latency_ms": {name: round(latency_ms[name], 3) for name in ("capture", "preprocess", "infer", "post")},
        **_bundle(model, signed_by),
    }


def event_record(
    source_id: str, change: EventChange, *, number: int, threshold: float, model: str, signed_by: str | None = None
) -> dict[str, Any]:
    """The record of an event's beginning, progress or end.

    number: 0 for the event's first record, 1 for the second; threshold: the alarm's enter threshold; signed_by: as for
    frame_record.
    """
    return {
        "v": VERSION,
        "type": "event",
        "phase": change.phase,
        "event_id": change.event_id,
        "message_id": f"{change.event_id}/{number}",
        "source_id": _text(source_id),
        "start_time": timestamp(change.start_s),
        "end_time": None if change.end_s is None else timestamp(change.end_s),
        "peak_score": change.peak_score,
        "peak_time": timestamp(change.peak_s),
        "threshold": threshold,
        "frames": change.frames,
        "reason": change.reason,
        "snapshot": None,
        "clip": None,
        **_bundle(model, signed_by),
    }


def status_record(
    severity: Literal["info", "warning", "error"], event_type: str, source_id: str, payload: dict[str, Any]
) -> dict[str, Any]:
    """The record of something that happened to a source, such as a frame that could not be decoded, with the moment of
    now."""
    return {
        "v": VERSION,
        "type": "status",
        "severity": severity,
        "event_type": event_type,
        "source_id": _text(source_id),
        "t_emit": timestamp(time.time()),
        "payload": {key: _text(value) if isinstance(value, str) else value for key, value in payload.items()},
    }


def check_record(
    source_id: str, verdict: PartsVerdict, *, model: str, precision: str, backend: str, signed_by: str | None = None
) -> dict[str, Any]:
    """The record of one trial of master parts, with the moment of now. source_id: their folder, as it was given."""
    return {
        "v": VERSION,
        "type": "check",
        "source_id": _text(source_id),
        "t_check": timestamp(time.time()),
        "passed": verdict.passed,
        "threshold": verdict.threshold,
        "parts": [
            {
                "name": unicode_name(row.item.name),
                "anomalous": row.item.anomalous,
                "score": row.score,
                "is_anomaly": row.is_anomaly,
                "right": is_right(row),
            }
            for row in verdict.rows
        ],
        "precision": precision,
        "backend": backend,
        **_bundle(model, signed_by),
    }


def to_line(record: dict[str, Any]) -> str:
    """A record as one line of JSON with its newline; raises ValueError for NaN and infinities."""
    return json.dumps(record, allow_nan=False, separators=(",", ":")) + "\n"


def timestamp(seconds: float) -> str:
    """A moment as records tell it: ISO 8601, UTC, milliseconds. Raises ValueError for what is no moment."""
    if not math.isfinite(seconds):
        raise ValueError(f"time is {seconds}, expected seconds since the epoch")
    moment = datetime.fromtimestamp(seconds, tz=timezone.utc)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _bundle(model: str, signed_by: str | None) -> dict[str, str]:
    """Which bundle, and whose."""
    return {"model": f"sha256:{model}", **({} if signed_by is None else {"signed_by": signed_by})}


def _quality(result: Result) -> dict[str, Any] | None:
    """How the picture differs from those trained on; None where it does not."""
    if not result.faults:
        return None
    return {"code": "IMAGE_QUALITY", "faults": [fault.to_json() for fault in result.faults]}


def _text(text: str) -> str:
    return redact(unicode_name(text))
