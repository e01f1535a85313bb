"""What a manifest may look like: types, ranges and sizes of all that is read from it, checked before any of it is used.

Other keys may stand anywhere, for later releases add some; they are bounded as the rest is, and not read.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

__all__ = ["MOST_MANIFEST_BYTES", "check_manifest", "parse_json"]

MOST_MANIFEST_BYTES = 8 << 20
"""Those of large bundles have thirty thousand."""
MOST_DEPTH = 24
MOST_VALUES = 200_000
MOST_CHARACTERS = 20_000
"""Of one text; the longest that is written is a failed check's message."""
LARGEST_WHOLE = 1 << 63
SHOWN = 40


class Shape(Protocol):
    """What a value may be."""

    def check(self, value: Any, where: str) -> None:
        """Raise ValueError where it is something else."""


@dataclass(frozen=True, slots=True)
class Number:
    """A number within a range, ends included."""

    low: float = -math.inf
    high: float = math.inf
    whole: bool = False

    def check(self, value: Any, where: str) -> None:
        if isinstance(value, bool) or not isinstance(value, int if self.whole else (int, float)):
            raise _unfit(where, value, "a whole number" if self.whole else "a number")
        if not self.low <= value <= self.high:
            raise _unfit(where, value, f"{self.low:g} to {self.high:g}")


@dataclass(frozen=True, slots=True)
class Of:
    """A value of one of Python's types."""

    kind: type

    def check(self, value: Any, where: str) -> None:
        if not isinstance(value, self.kind):
            raise _unfit(where, value, self.kind.__name__)


@dataclass(frozen=True, slots=True)
class OrNull:
    """null, or what it holds."""

    shape: Shape

    def check(self, value: Any, where: str) -> None:
        if value is not None:
            self.shape.check(value, where)


@dataclass(frozen=True, slots=True)
class ListOf:
    """A list, of so many."""

    shape: Shape
    least: int = 0
    most: int = 10_000

    def check(self, value: Any, where: str) -> None:
        Of(list).check(value, where)
        if not self.least <= len(value) <= self.most:
            raise ValueError(f"{where} has {len(value)} values, expected {self.least} to {self.most}")
        for index, item in enumerate(value):
            self.shape.check(item, f"{where}[{index}]")


@dataclass(frozen=True, slots=True)
class MapOf:
    """An object whose values are all alike."""

    shape: Shape

    def check(self, value: Any, where: str) -> None:
        Of(dict).check(value, where)
        for key, item in value.items():
            self.shape.check(item, f"{where}.{_short(key)}")


@dataclass(frozen=True, slots=True)
class Fields:
    """An object of which some keys are known; those of `needed` must be there."""

    known: Mapping[str, Shape]
    needed: Mapping[str, Shape] = field(default_factory=dict)

    def check(self, value: Any, where: str) -> None:
        Of(dict).check(value, where)
        missing = [key for key in self.needed if key not in value]
        if missing:
            raise ValueError(f"{where} lacks {', '.join(missing)}")
        for key, shape in {**self.known, **self.needed}.items():
            if key in value:
                shape.check(value[key], f"{where}.{key}" if where else key)


NUMBER, TEXT, FLAG = Number(), Of(str), Of(bool)
COUNT = Number(0, 1e12, whole=True)
SHARE = Number(0.0, 1.0)
SHARES = ListOf(SHARE, 2, 2)
"""The ends of an interval"""
PIXELS = Number(0, 1 << 20, whole=True)
SIDE = Number(1, 1 << 13, whole=True)
"""Of a network's input; twice what a camera's frame has at most that is not cut in tiles"""
N_QUANTILES = 201
"""Levels of edge_runtime.bundle.kept_scores.SCORE_QUANTILES"""

PREPROCESS = Fields(
    {
        "scale": Number(1e-3, 16.0),
        "overlap": PIXELS,
        "self_reference": TEXT,
        "roi": OrNull(ListOf(PIXELS, 4, 4)),
        "levels": OrNull(ListOf(COUNT, 2, 2)),
        "align": OrNull(
            Fields(
                {},
                {
                    "mode": TEXT,
                    "height": Number(1e-3, 1 << 20),
                    "width": Number(1e-3, 1 << 20),
                    "frame": ListOf(PIXELS, 2, 2),
                },
            )
        ),
    },
    {"height": SIDE, "width": SIDE, "channels": COUNT, "fit": TEXT, "interpolation": TEXT},
)

LIMIT = Fields({}, {"threshold": NUMBER, "center": NUMBER})

DECISION = Fields(
    {
        "rule": TEXT,
        "threshold": NUMBER,
        "limits": MapOf(LIMIT),
        "limit": LIMIT,
        "terms": MapOf(Fields({"transform": TEXT, "floor": NUMBER}, {"weight": NUMBER})),
    },
)

QUALITY = Fields(dict.fromkeys(("sharpness_x", "sharpness_y", "level", "clipped"), NUMBER))
"""Of edge_runtime.model.image_quality.MEASURES"""

CALIBRATION = Fields(
    {
        "anomaly_map_peak": MapOf(NUMBER),
        "criteria": MapOf(Fields({"quantiles": MapOf(NUMBER), "mean": NUMBER, "std": NUMBER})),
        "score_quantiles": OrNull(ListOf(NUMBER, N_QUANTILES, N_QUANTILES)),
        "n_images": OrNull(Number(1, 1e12, whole=True)),
        "flagged_share": OrNull(SHARE),
        "contamination": OrNull(Fields({}, {"share": SHARE, "low": SHARE, "high": SHARE})),
        "limit": OrNull(
            Fields(
                {
                    "stands_for": OrNull(NUMBER),
                    "n": COUNT,
                    "rule": TEXT,
                    "limit": NUMBER,
                    "expected_fpr": OrNull(SHARE),
                    "realised_fpr": OrNull(SHARES),
                },
                {"target_fpr": OrNull(SHARE), "extrapolated": FLAG},
            )
        ),
        "left_out": OrNull(COUNT),
        "image_quality": OrNull(
            Fields(
                {"aspects": OrNull(ListOf(Number(1e-6, 1e6), 2, 2))},
                {
                    "low": QUALITY,
                    "high": QUALITY,
                    "diagonals": ListOf(Number(1, 1e6), 2, 2),
                    "n": COUNT,
                    "usual_spots": ListOf(Number(0, (1 << 32) - 1, whole=True), 32, 32),
                },
            )
        ),
        "synthetic": OrNull(Fields({}, {"n": COUNT, "found": SHARE, "auroc": SHARE, "interval": SHARES})),
        "head": OrNull(
            Fields({"aurocs": MapOf(SHARE), "fpr": SHARE}, {"joined": FLAG, "n": COUNT, "found": MapOf(SHARE)})
        ),
        "order": OrNull(Fields({"in_stretches": FLAG, "change": NUMBER})),
        "folds": OrNull(Fields({"n": COUNT, "above": SHARES, "found": OrNull(SHARES)})),
        "known_bad": OrNull(
            Fields({"threshold": NUMBER}, {"normal": COUNT, "false_alarms": COUNT, "defects": COUNT, "caught": COUNT})
        ),
    }
)

TRAINING = Fields(
    {
        "data": Fields(
            {
                "classes": OrNull(ListOf(COUNT)),
                "contaminate": OrNull(ListOf(ListOf(NUMBER, 2, 2))),
                "path": OrNull(TEXT),
            }
        ),
        "n_images": OrNull(COUNT),
        "epochs": OrNull(COUNT),
        "epochs_planned": OrNull(COUNT),
        "status": OrNull(TEXT),
        "device": OrNull(TEXT),
    }
)

REPORT = Fields(
    {"failures": ListOf(TEXT), "passed": FLAG, "decision_flips": COUNT, "n_frames": COUNT, "reference": TEXT},
    {"backend": TEXT},
)

MANIFEST = Fields(
    {"defect_size": OrNull(Fields({"mm_per_pixel": OrNull(NUMBER), "min_area": OrNull(TEXT)}))},
    {
        "schema_version": Number(1, 1, whole=True),
        "created_by": Fields({"edge_aae": OrNull(TEXT), "torch": OrNull(TEXT)}),
        "model": Fields({"parameters": COUNT, "network": OrNull(TEXT), "method": OrNull(TEXT), "id": OrNull(TEXT)}),
        "preprocess": PREPROCESS,
        "graphs": MapOf(Of(dict)),
        "criteria": ListOf(TEXT, 1, 100),
        "prior": Fields({"kind": TEXT, "dim": COUNT}),
        "calibration": CALIBRATION,
        "decision": DECISION,
        "training": TRAINING,
        "parity": MapOf(Fields({"passed": FLAG, "reports": ListOf(REPORT)})),
        "files": Of(dict),
    },
)


def check_manifest(manifest: Mapping[str, Any]) -> None:
    """Raise ValueError, which says where, unless all that is read from the manifest has its type, range and size."""
    MANIFEST.check(manifest, "")


def parse_json(raw: bytes) -> Any:
    """JSON of a bounded size; raises ValueError for anything else, NaN, infinity and keys that stand there twice."""
    if len(raw) > MOST_MANIFEST_BYTES:
        raise ValueError(f"it has {len(raw)} bytes, expected at most {MOST_MANIFEST_BYTES}")
    try:
        value = json.loads(raw, parse_constant=_no_number, object_pairs_hook=_each_once)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error
    _check_size(value)
    return value


def _check_size(value: Any) -> None:
    waiting, n_values = [(value, 1)], 0
    while waiting:
        item, depth = waiting.pop()
        n_values += 1
        if depth > MOST_DEPTH or n_values > MOST_VALUES:
            raise ValueError(f"it is nested deeper than {MOST_DEPTH}, or has more than {MOST_VALUES} values")
        if isinstance(item, dict):
            waiting += ((part, depth + 1) for pair in item.items() for part in pair)
        elif isinstance(item, list):
            waiting += ((part, depth + 1) for part in item)
        elif isinstance(item, str) and len(item) > MOST_CHARACTERS:
            raise ValueError(f"it has a text of {len(item)} characters, expected at most {MOST_CHARACTERS}")
        elif isinstance(item, float) and not math.isfinite(item):
            raise ValueError("it has a number that is not finite")
        elif isinstance(item, int) and abs(item) > LARGEST_WHOLE:
            raise ValueError("it has a whole number of more than 63 bits")


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("it has a key twice in one object")
    return found


def _no_number(name: str) -> float:
    raise ValueError(f"it has {name}, which is no JSON")


def _unfit(where: str, value: Any, expected: str) -> ValueError:
    return ValueError(f"{where} is {_short(repr(value))}, expected {expected}")


def _short(text: str) -> str:
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
