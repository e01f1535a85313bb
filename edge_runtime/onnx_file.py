"""What an ONNX file refers to, read from its bytes before any engine sees them; neither onnx nor onnxruntime is needed.

Engines follow a tensor's external data to files beside the working directory, above it, or, by a marker that
onnxruntime uses within a process, to any address of its memory. A bundle's graphs hold their weights: any reference is
refused. Protobuf's wire format: https://protobuf.dev/programming-guides/encoding. Numbers of fields: onnx.proto3.
"""

from __future__ import annotations

from typing import NamedTuple

from edge_runtime.errors import BundleError

__all__ = ["check_onnx"]

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5

WITHIN: dict[str, dict[int, str]] = {
    "ModelProto": {7: "GraphProto", 20: "TrainingInfoProto", 25: "FunctionProto"},
    "TrainingInfoProto": {1: "GraphProto", 2: "GraphProto"},
    "GraphProto": {1: "NodeProto", 5: "TensorProto", 15: "SparseTensorProto"},
    "FunctionProto": {7: "NodeProto", 11: "AttributeProto"},
    "NodeProto": {5: "AttributeProto"},
    "AttributeProto": {
        5: "TensorProto",
        6: "GraphProto",
        10: "TensorProto",
        11: "GraphProto",
        22: "SparseTensorProto",
        23: "SparseTensorProto",
    },
    "SparseTensorProto": {1: "TensorProto", 2: "TensorProto"},
    "TensorProto": {},
}
"""Of each message the fields that lead to tensors."""

KNOWN: dict[str, frozenset[int]] = {
    "ModelProto": frozenset({1, 2, 3, 4, 5, 6, 7, 8, 14, 20, 25, 26}),
    "TrainingInfoProto": frozenset({1, 2, 3, 4}),
    "GraphProto": frozenset({1, 2, 5, 10, 11, 12, 13, 14, 15, 16}),
    "FunctionProto": frozenset({1, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14}),
    "NodeProto": frozenset({1, 2, 3, 4, 5, 6, 7, 8, 9, 10}),
    "AttributeProto": frozenset({1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 14, 15, 20, 21, 22, 23}),
    "SparseTensorProto": frozenset({1, 2, 3}),
    "TensorProto": frozenset({1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 16}),
}
"""Of each message the fields there are; behind any other one a release of ONNX to come may keep tensors."""

GRAPH = 7
"""Of a model"""
EXTERNAL_DATA, DATA_LOCATION = 13, 14
"""Of a tensor: where its data lies outside the file, and whether (1) it does."""

MOST_DEPTH = 64
"""Messages within each other; a graph within an If within a graph takes three."""
MOST_FIELDS = 1_000_000
"""Of the messages that are walked through. A graph of this project has some thousand, and arrays count as one field."""
LONGEST_TAG, LONGEST_VARINT = 5, 10
"""Bytes"""

ORT_FORMAT = b"ORTM"
"""At byte 4 onnxruntime takes this for a format of its own, whatever else the bytes are."""


class _Span(NamedTuple):
    """A message that is still to be walked through."""

    kind: str
    begin: int
    end: int
    depth: int


def check_onnx(content: bytes, name: str) -> None:
    """Raise BundleError unless the bytes are one whole ONNX model, all of whose tensors lie in it.

    name: what messages call it. Looked through are initialisers, constants and sparse tensors, those of graphs within
    nodes, functions and training graphs too.
    """
    if content[4:8] == ORT_FORMAT:
        raise _refused(name, "it is in onnxruntime's own format")
    if not content:
        raise _refused(name, "it is empty")
    n_fields, n_graphs = 0, 0
    waiting = [_Span("ModelProto", 0, len(content), 1)]
    try:
        while waiting:
            kind, position, end, depth = waiting.pop()
            within, known = WITHIN[kind], KNOWN[kind]
            is_tensor = kind == "TensorProto"
            if depth > MOST_DEPTH:
                raise _refused(name, f"its messages lie more than {MOST_DEPTH} deep")
            while position < end:
                n_fields += 1
                if n_fields > MOST_FIELDS:
                    raise _refused(name, f"it has more than {MOST_FIELDS:,} fields")
                tag, position = _varint(content, position, end, LONGEST_TAG)
                field, wire_type = tag >> 3, tag & 7
                begin, position = _value(content, position, end, wire_type)
                if field not in known:
                    raise _refused(name, f"{kind} has field {field}, which this release does not know")
                if is_tensor and field in (EXTERNAL_DATA, DATA_LOCATION):
                    _check_place(content, begin, position, field, wire_type, name)
                if field in within:
                    if wire_type != BYTES:
                        raise _refused(name, f"field {field} of {kind} is of wire type {wire_type}")
                    n_graphs += kind == "ModelProto" and field == GRAPH
                    waiting.append(_Span(within[field], begin, position, depth + 1))
    except _MalformedError as error:
        raise _refused(name, f"it is no ONNX file: {error}") from error
    if n_graphs != 1:
        raise _refused(name, f"it has {n_graphs} graphs, expected one")


class _MalformedError(ValueError):
    """Bytes that are no protobuf message."""


def _check_place(content: bytes, begin: int, end: int, field: int, wire_type: int, name: str) -> None:
    if field == EXTERNAL_DATA or wire_type != VARINT or any(content[begin:end]):
        raise _refused(name, "a tensor's data lies outside it (external data), which could be any file or memory")


def _varint(content: bytes, position: int, end: int, longest: int) -> tuple[int, int]:
    """A number and where it ends."""
    value = 0
    for index in range(longest):
        if position >= end:
            raise _MalformedError(f"it ends within a number, at byte {position}")
        byte = content[position]
        position += 1
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            if longest == LONGEST_TAG and value >> 32:
                raise _MalformedError(f"a field's number is too large, before byte {position}")
            return value, position
    raise _MalformedError(f"a number is too long, before byte {position}")


def _value(content: bytes, position: int, end: int, wire_type: int) -> tuple[int, int]:
    """Where a field's value begins and ends; of a varint the encoded number."""
    if wire_type == BYTES:
        length, position = _varint(content, position, end, LONGEST_VARINT)
        after = position + length
    elif wire_type == VARINT:
        _, after = _varint(content, position, end, LONGEST_VARINT)
    elif wire_type in (FIXED32, FIXED64):
        after = position + (4 if wire_type == FIXED32 else 8)
    else:
        raise _MalformedError(f"wire type {wire_type} at byte {position}")
    if after > end:
        raise _MalformedError(f"a field at byte {position} goes beyond its message")
    return position, after


def _refused(name: str, reason: str) -> BundleError:
    return BundleError(f"{name} is refused: {reason}; do not use this file")
