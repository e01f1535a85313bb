"""Bytes, texts and JSON values that were damaged on purpose, the same ones for the same seed."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = ["mutated", "mutated_json", "mutated_text"]

Rng = np.random.Generator

EXTREMES = (b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\x80\0\0\0", b"\0\0\xff\xff")
"""Numbers of 32 bits that sizes and offsets are read from"""


def mutated(content: bytes, rng: Rng) -> bytes:
    """content with one to four damages: bits, numbers, cuts, pieces that are missing, doubled or moved."""
    for _ in range(int(rng.integers(1, 5))):
        content = DAMAGES[int(rng.integers(len(DAMAGES)))](content, rng)
    return content


def mutated_text(text: str, rng: Rng) -> str:
    """text with damages of its lines, words and characters; valid Unicode still."""
    for _ in range(int(rng.integers(1, 4))):
        kind = int(rng.integers(4))
        lines = text.splitlines() or [""]
        at = int(rng.integers(len(lines)))
        if kind == 0:
            del lines[at]
        elif kind == 1:
            lines.insert(at, lines[int(rng.integers(len(lines)))])
        elif kind == 2:
            name, _, _ = lines[at].partition("=")
            lines[at] = f"{name}= {VALUES[int(rng.integers(len(VALUES)))]}"
        else:
            place = int(rng.integers(len(lines[at]) + 1))
            sign = SIGNS[int(rng.integers(len(SIGNS)))]
            lines[at] = lines[at][:place] + sign + lines[at][place + int(rng.integers(3)) :]
        text = "\n".join(lines)
    return text


def mutated_json(value: Any, rng: Rng) -> Any:
    """A copy of value in which one to three of its parts, however deep, are something else, gone or doubled."""
    value = copy.deepcopy(value)
    for _ in range(int(rng.integers(1, 4))):
        places = list(_places(value))
        holder, key = places[int(rng.integers(len(places)))]
        kind = int(rng.integers(4))
        if kind == 0:
            del holder[key]
        elif kind == 1:
            holder[key] = [holder[key]] * int(rng.integers(4))
        else:
            holder[key] = copy.deepcopy(STRANGE[int(rng.integers(len(STRANGE)))])
        if not value:
            break
    return value


def _places(value: Any) -> Any:
    """Every (container, key) below value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in items:
        yield value, key
        yield from _places(part)


STRANGE: tuple[Any, ...] = (
    None, True, 0, -1, 1, 2**31, -(2**63), 2**70, 0.5, -0.0, 1e308, float("nan"), float("inf"), "", "x", "a" * 10_000,
    "../../x", "/etc/passwd", "\x1b[2J", "\u202e", [], {}, [[]], [0] * 1000, {"a": {"a": {"a": 1}}},
)  # fmt: skip
VALUES = (
    '""', "1", "-1", "0", "nan", "inf", "1e400", "true", "[]", "[1, 'a']", "{}", "{a = 1}", "'x'", "1979-05-27",
    "99999999999999999999999", "'''", "\"\\u0000\"", "'../../x'", "'5/3'", "'auto'",
)  # fmt: skip
SIGNS = ("", "=", '"', "'", "[", "]", "{", "\\", "\t", "#", "\x00", "é", "\u202e", "9", "-", ".", ",")


def _flip_bits(content: bytes, rng: Rng) -> bytes:
    damaged = bytearray(content)
    for at in rng.integers(max(len(damaged), 1), size=int(rng.integers(1, 9))):
        if damaged:
            damaged[at] ^= 1 << int(rng.integers(8))
    return bytes(damaged)


def _flip_head(content: bytes, rng: Rng) -> bytes:
    """Headers are short and matter most."""
    return _flip_bits(content[:64], rng) + content[64:]


def _number(content: bytes, rng: Rng) -> bytes:
    at = int(rng.integers(len(content) + 1))
    if rng.random() < 0.5:
        at = min(at, int(rng.integers(128)))
    return content[:at] + EXTREMES[int(rng.integers(len(EXTREMES)))] + content[at + 4 :]


def _cut(content: bytes, rng: Rng) -> bytes:
    return content[: int(rng.integers(len(content) + 1))]


def _piece(content: bytes, rng: Rng) -> tuple[int, int]:
    first = int(rng.integers(len(content) + 1))
    return first, min(len(content), first + int(rng.integers(1, 200)))


def _missing(content: bytes, rng: Rng) -> bytes:
    first, end = _piece(content, rng)
    return content[:first] + content[end:]


def _doubled(content: bytes, rng: Rng) -> bytes:
    first, end = _piece(content, rng)
    return content[:end] + content[first:end] * int(rng.integers(1, 20)) + content[end:]


def _moved(content: bytes, rng: Rng) -> bytes:
    first, end = _piece(content, rng)
    rest = content[:first] + content[end:]
    at = int(rng.integers(len(rest) + 1))
    return rest[:at] + content[first:end] + rest[at:]


def _noise(content: bytes, rng: Rng) -> bytes:
    first, end = _piece(content, rng)
    return content[:first] + rng.bytes(end - first) + content[end:]


DAMAGES: tuple[Callable[[bytes, Rng], bytes], ...] = (
    _flip_bits, _flip_head, _number, _cut, _missing, _doubled, _moved, _noise,
)  # fmt: skip
