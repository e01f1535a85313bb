"""What of a .pt2 archive is let through to torch.export.load, which by itself is as unsafe as a pickle.

Read in torch 2.13: load unpickles sample inputs (weights_only first, but then without), custom objects and weights that
are marked so, hands texts of the graph to sympy's eval, writes names of nodes into Python code that it runs, and links
compiled libraries. Here the archive is read as what it mostly is, JSON and raw numbers, and written anew with these
alone: sample inputs and notes are emptied, and every text must be a plain name. What is loaded is the new archive.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

from edge_runtime.errors import DataError

__all__ = ["checked_archive"]

MAX_BYTES = 1024**3
"""Of what an archive unpacks to; trunks have tens of megabytes."""

CONFIGS = ("data/weights/model_weights_config.json", "data/constants/model_constants_config.json")
GRAPH = "models/model.json"
SAMPLE_INPUTS = "data/sample_inputs/model.pt"
NEEDED = (*CONFIGS, GRAPH, SAMPLE_INPUTS)
MARKS = re.compile(r"archive_format|archive_version|byteorder|\.data/version")
TENSORS = re.compile(r"data/(weights/weight|constants/tensor)_\d+")
LEFT_OUT = re.compile(r"\.data/serialization_id|extra/.*")

PLAIN = re.compile(r"[A-Za-z0-9_.+-]*")
"""No parentheses, quotes or blanks: in Python code or in an expression such a text can call nothing."""
SYMBOL = re.compile(r"Symbol\('[a-z]\w*'(, (positive|integer)=True)*\)", re.ASCII)
"""A dimension that the exporter left open, such as the batch."""
OPERATOR = re.compile(r"torch\.ops\.aten\.(?!from_file)\w+\.\w+", re.ASCII)
"""PyTorch's own operators on tensors, without the one that reads files."""
TRAINING = ("training", "train")
"""Arguments of batch normalisation, of dropout."""
IN_EVALUATION = "call .eval() on the network before torch.export.export"
CONTAINERS = (None, "builtins.tuple", "builtins.list", "builtins.dict")
"""Types in the description of inputs and outputs."""


def checked_archive(content: bytes, *, source: str) -> tuple[bytes, dict[str, Any]]:
    """The archive anew, with nothing in it that could run, and its graph as JSON values.

    Raises DataError, naming what was found, for anything but a float network of plain operators in evaluation mode.
    """
    entries = _entries(content, source)
    missing = [name for name in NEEDED if name not in entries]
    if missing:
        raise DataError(f"{source} has no {missing[0]}; write it with torch.export.save of torch 2.13")
    for name in CONFIGS:
        config = _json(entries[name], name, source)
        for entry in config.get("config", {}).values():
            _check_tensor(entry, name, source)
        _check_texts(config, source)
        entries[name] = json.dumps(config).encode()
    graph = _json(entries[GRAPH], GRAPH, source)
    try:
        nodes = graph["graph_module"]["graph"]["nodes"]
        for node in nodes:
            _check_operator(node, source)
            node["metadata"] = {}
        graph["graph_module"]["metadata"] = {}
        for call in graph["graph_module"]["module_call_graph"]:
            _check_containers(call, source)
        _check_signature(graph["graph_module"]["signature"], source)
    except (KeyError, IndexError, TypeError, AttributeError, json.JSONDecodeError) as error:
        raise DataError(
            f"{source}: {GRAPH} is not as torch writes it ({error!r}); write it with torch.export.save of torch 2.13"
        ) from error
    graph["guards_code"] = []
    _check_texts(graph, source)
    entries[GRAPH] = json.dumps(graph).encode()
    entries[SAMPLE_INPUTS] = b""
    return _packed(entries), graph


def _entries(content: bytes, source: str) -> dict[str, bytes]:
    """Known files of the archive by their names below its one folder."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            infos = archive.infolist()
            if sum(info.file_size for info in infos) > MAX_BYTES:
                raise DataError(f"{source} unpacks to more than {MAX_BYTES >> 20} MiB, which is no trunk for a device")
            found: dict[str, bytes] = {}
            for info in infos:
                _, _, name = info.filename.partition("/")
                if LEFT_OUT.fullmatch(name):
                    continue
                if name in found:
                    raise DataError(f"{source} holds {info.filename!r} twice; write it anew with torch.export.save")
                if name not in NEEDED and not MARKS.fullmatch(name) and not TENSORS.fullmatch(name):
                    raise DataError(
                        f"{source} holds {info.filename!r}, which may be a pickle or compiled code and is not read; "
                        "expected a graph with plain tensors, from torch.export.save of torch 2.13"
                    )
                found[name] = archive.read(info)
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError) as error:
        raise DataError(f"{source} is no archive of torch.export.save: {error}") from error
    return found


def _json(content: bytes, name: str, source: str) -> dict[str, Any]:
    try:
        values = json.loads(content)
    except ValueError as error:
        raise DataError(f"{source}: {name} is no JSON: {error}") from error
    if not isinstance(values, dict):
        raise DataError(f"{source}: {name} holds a {type(values).__name__}, expected an object")
    return values


def _check_tensor(entry: Any, name: str, source: str) -> None:
    """Raise DataError unless this describes raw numbers."""
    is_plain = isinstance(entry, Mapping) and entry.get("use_pickle") is False
    if not is_plain or not TENSORS.fullmatch(f"{name.rpartition('/')[0]}/{entry.get('path_name')}"):
        raise DataError(
            f"{source}: {name} has a weight or constant that is no plain tensor; to read it would run a pickle. Export "
            "a network of plain float tensors"
        )


def _check_operator(node: Mapping[str, Any], source: str) -> None:
    """One of PyTorch's own, and not as in training."""
    if not OPERATOR.fullmatch(str(node["target"])):
        raise DataError(
            f"{source} calls {node['target']!r}, expected PyTorch's own operators on tensors (torch.ops.aten); write "
            "the network with these"
        )
    if any(given["name"] in TRAINING and given["arg"].get("as_bool") for given in node["inputs"]):
        raise DataError(f"{source} was exported in training mode ({node['target']}); {IN_EVALUATION}")


def _check_containers(call: Mapping[str, Any], source: str) -> None:
    """Check how one call packs its inputs and outputs: JSON within JSON, which torch builds Python containers from."""
    for spec in ("in_spec", "out_spec"):
        text = (call.get("signature") or {}).get(spec)
        if not text:
            continue
        for node in _nodes_of_spec(json.loads(text)[1]):
            context = node["context"]
            if node["type"] not in CONTAINERS or context not in (None, "null", "[]"):
                raise DataError(
                    f"{source} takes or gives {node['type']} {context}; expected one tensor in, and one or a tuple out"
                )


def _nodes_of_spec(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node["children_spec"]:
        yield from _nodes_of_spec(child)


def _check_signature(signature: Mapping[str, Any], source: str) -> None:
    """One image in, features out, and nothing that is changed on the way."""
    inputs = [kind for spec in signature["input_specs"] for kind in spec]
    outputs = [kind for spec in signature["output_specs"] for kind in spec]
    if inputs.count("user_input") != 1 or not set(inputs) <= {"user_input", "parameter", "buffer", "tensor_constant"}:
        raise DataError(f"{source} takes {inputs.count('user_input')} inputs, expected one, the image (B, 3, H, W)")
    if set(outputs) != {"user_output"}:
        raise DataError(
            f"{source} changes its buffers or its input as it runs ({', '.join(sorted(set(outputs)))}); {IN_EVALUATION}"
        )


def _check_texts(values: Any, source: str, key: str = "") -> None:
    if isinstance(values, dict):
        for name, value in values.items():
            _check_texts(name, source)
            _check_texts(value, source, name)
    elif isinstance(values, list):
        for value in values:
            _check_texts(value, source, key)
    elif isinstance(values, str) and key not in ("in_spec", "out_spec"):
        is_symbol = key == "expr_str" and SYMBOL.fullmatch(values)
        if not is_symbol and not PLAIN.fullmatch(values):
            raise DataError(
                f"{source}: the graph holds {values[:60]!r}, expected plain names alone; export with a fixed "
                "height and width, where at most the batch is dynamic"
            )


def _packed(entries: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, content in entries.items():
            archive.writestr(f"trunk/{name}", content)
    return buffer.getvalue()
