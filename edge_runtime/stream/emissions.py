"""The third stage: the records that follow from a score and its meaning, each with its picture."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from edge_runtime.bundle.bundle import Bundle
from edge_runtime.errors import DataError, FrameError
from edge_runtime.redact import redact
from edge_runtime.sinks.contract import Emission
from edge_runtime.sinks.records import event_record, frame_record, status_record, timestamp
from edge_runtime.stream.scored_frame import ScoredFrame
from edge_runtime.stream.source_watch import EventNews, Meaning
from edge_runtime.watching.drift import Window
from edge_runtime.watching.picture_watch import PictureChange

__all__ = ["drift_emission", "event_emission", "frame_emission", "picture_emission", "unscored_emission"]

logger = logging.getLogger(__name__)


def unscored_emission(source_id: str, error: DataError | FrameError) -> Emission:
    """That a frame could not be decoded, or does not fit the bundle."""
    return Emission(status_record("warning", "FRAME_NOT_SCORED", source_id, {"reason": str(error)}))


def event_emission(source_id: str, news: EventNews, bundle: Bundle) -> Emission:
    """That an event began, goes on or ended. bundle: the one in use."""
    record = event_record(
        source_id,
        news.change,
        number=news.number,
        threshold=news.threshold,
        model=bundle.digest,
        signed_by=bundle.signed_by,
    )
    image, result = news.picture or (None, None)
    return Emission(record, image, result, last_time=timestamp(news.change.last_s))


def frame_emission(
    source_id: str, scored: ScoredFrame, meaning: Meaning, *, boxes: bool, beside: Mapping[str, Any]
) -> Emission:
    """The frame's own record, with the moment and the frame's age of now. boxes: whether it says where; beside: what
    else it holds, at its end."""
    frame, result = scored.frame, scored.result
    record = frame_record(
        source_id,
        frame,
        result,
        t_emit=time.time(),
        age_ms=1000.0 * (time.perf_counter() - frame.grabbed_s),
        model=scored.model,
        score_smoothed=meaning.smoothed,
        state=meaning.state,
        event_id=meaning.event_id,
        boxes=[region.to_json() for region in result.regions(frame.image.shape)] if boxes else None,
        signed_by=scored.signed_by,
    )
    return Emission({**record, **beside}, frame.image, result, grabbed_s=frame.grabbed_s)


def drift_emission(source_id: str, window: Window) -> Emission:
    """That the scores of a source are no longer as usual, or are again."""
    found = {key: round(value, 4) for key, value in asdict(window).items() if key != "drifted"}
    payload = {**found, "reason": str(window)}
    if not window.drifted:
        return Emission(status_record("info", "SCORES_USUAL", source_id, payload))
    logger.warning("%s: %s", redact(source_id), window)
    return Emission(status_record("warning", "SCORES_DRIFT", source_id, payload))


def picture_emission(source_id: str, change: PictureChange) -> Emission:
    """That the pictures of a source are no longer as those trained on, or are again."""
    payload = {"reason": str(change), "faults": [fault.to_json() for fault in change.faults]}
    if not change.faults:
        return Emission(status_record("info", "IMAGE_QUALITY_USUAL", source_id, payload))
    logger.warning("%s: %s", redact(source_id), change)
    return Emission(status_record("warning", "IMAGE_QUALITY", source_id, payload))
