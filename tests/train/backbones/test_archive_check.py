"""Hostile .pt2 archives: torch.export.load would run what is in them, and never gets to see it."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from edge_runtime.errors import DataError
from train.backbones.archive_check import checked_archive
from train.backbones.loading import load_backbone

GRAPH = "models/model.json"
WEIGHTS = "data/weights/model_weights_config.json"
CONSTANTS = "data/constants/model_constants_config.json"
SAMPLES = "data/sample_inputs/model.pt"


class Trap:
    """Touches a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def altered(source: Path, path: Path, change: Callable[[dict[str, bytes]], None], description: dict[str, Any]) -> Path:
    """A program with changed entries, its description beside it."""
    with zipfile.ZipFile(source) as archive:
        entries = {info.filename.partition("/")[2]: archive.read(info) for info in archive.infolist()}
    change(entries)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            archive.writestr(f"trunk/{name}", content)
    path.with_name(path.name + ".json").write_text(json.dumps(description))
    return path


def in_json(name: str, change: Callable[[Any], None]) -> Callable[[dict[str, bytes]], None]:
    def apply(entries: dict[str, bytes]) -> None:
        values = json.loads(entries[name])
        change(values)
        entries[name] = json.dumps(values).encode()

    return apply


def test_sample_inputs_are_never_unpickled(
    programs: dict[str, Path], description: dict[str, Any], tmp_path: Path
) -> None:
    trap = tmp_path / "sprung"

    def change(entries: dict[str, bytes]) -> None:
        buffer = io.BytesIO()
        torch.save((Trap(trap),), buffer)
        entries[SAMPLES] = buffer.getvalue()

    path = altered(programs["one"], tmp_path / "p.pt2", change, description)
    assert load_backbone(path).facts.strides == (2, 4)
    assert not trap.exists()


def test_the_trap_is_one(programs: dict[str, Path], tmp_path: Path) -> None:
    """What the check is for: without it the same file runs code."""
    trap = tmp_path / "sprung"
    pickle.loads(pickle.dumps(Trap(trap)))
    assert trap.exists()


def first_weight(values: dict[str, Any]) -> dict[str, Any]:
    weight: dict[str, Any] = next(iter(values["config"].values()))
    return weight


def node(values: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = values["graph_module"]["graph"]["nodes"][0]
    return found


def call(values: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = values["graph_module"]["module_call_graph"][0]["signature"]
    return found


CODE = "__import__('os').system('true')"

CHANGES: dict[str, tuple[Callable[[dict[str, bytes]], None], str]] = {
    "a pickled weight": (in_json(WEIGHTS, lambda v: first_weight(v).update(use_pickle=True)), "no plain tensor"),
    "a weight elsewhere": (
        in_json(WEIGHTS, lambda v: first_weight(v).update(path_name="../constants/x")),
        "no plain tensor",
    ),
    "a custom object": (
        in_json(CONSTANTS, lambda v: first_weight(v).update(path_name="custom_obj_0")),
        "no plain tensor",
    ),
    "an old pickle of weights": (lambda e: e.update({"data/weights/model.pt": b""}), "may be a pickle"),
    "a compiled library": (lambda e: e.update({"data/aotinductor/m/x.so": b""}), "may be a pickle or compiled code"),
    "a second graph": (lambda e: e.update({"models/other.json": b"{}"}), "holds 'trunk/models/other.json'"),
    "code as an expression": (
        in_json(GRAPH, lambda v: v.update(note={"expr_str": CODE})),
        "expected plain names alone",
    ),
    "code as a symbol": (
        in_json(GRAPH, lambda v: v.update(note={"expr_str": f"Symbol('s0', positive={CODE})"})),
        "expected plain names alone",
    ),
    "code as a name": (in_json(GRAPH, lambda v: node(v).update(name=f"a={CODE}")), "expected plain names alone"),
    "code as a key": (in_json(GRAPH, lambda v: v.update({CODE: 1})), "expected plain names alone"),
    "a buffer that changes": (
        in_json(GRAPH, lambda v: v["graph_module"]["signature"].update(output_specs=[{"buffer_mutation": {}}])),
        "changes its buffers or its input as it runs",
    ),
    "a second input": (
        in_json(GRAPH, lambda v: v["graph_module"]["signature"]["input_specs"].append({"user_input": {}})),
        "takes 2 inputs, expected one",
    ),
    "an operator of Python": (in_json(GRAPH, lambda v: node(v).update(target="torch.load")), "calls 'torch.load'"),
    "an operator of others": (
        in_json(GRAPH, lambda v: node(v).update(target="torch.ops.mine.run.default")),
        "calls 'torch.ops.mine.run.default'",
    ),
    "an operator on files": (
        in_json(GRAPH, lambda v: node(v).update(target="torch.ops.aten.from_file.default")),
        "calls 'torch.ops.aten.from_file.default'",
    ),
    "a container of others": (
        in_json(GRAPH, lambda v: call(v).update(out_spec=call(v)["out_spec"].replace("builtins.tuple", "os.x"))),
        "takes or gives os.x",
    ),
    "containers that are no JSON": (in_json(GRAPH, lambda v: call(v).update(out_spec="[")), "not as torch writes it"),
    "no nodes": (in_json(GRAPH, lambda v: v["graph_module"].pop("graph")), "not as torch writes it"),
    "no JSON": (lambda e: e.update({GRAPH: b"["}), "is no JSON"),
    "a list": (lambda e: e.update({GRAPH: b"[]"}), "holds a list, expected an object"),
    "no graph": (lambda e: e.pop(GRAPH) and None, "has no models/model.json"),
    "weights cut short": (lambda e: e.update({"data/weights/weight_0": b"1234"}), "cannot be loaded by torch"),
    "another version": (lambda e: e.update({"archive_version": b"9"}), "cannot be loaded by torch"),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_whatever_could_run_is_refused_before_torch_loads_it(
    kind: str, programs: dict[str, Path], description: dict[str, Any], tmp_path: Path
) -> None:
    change, message = CHANGES[kind]
    path = altered(programs["one"], tmp_path / "p.pt2", change, description)
    with pytest.raises(DataError, match=message):
        load_backbone(path)


def test_guards_and_notes_do_not_come_along(
    programs: dict[str, Path], description: dict[str, Any], tmp_path: Path
) -> None:
    def change(values: dict[str, Any]) -> None:
        values["guards_code"] = [CODE]
        node(values)["metadata"] = {"stack_trace": CODE}

    path = altered(programs["one"], tmp_path / "p.pt2", in_json(GRAPH, change), description)
    archive, _ = checked_archive(path.read_bytes(), source="p.pt2")
    assert b"__import__" not in archive
    assert load_backbone(path).facts.strides == (2, 4)


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"p.pt2 is no archive of torch.export.save"):
        checked_archive(b"PK but no", source="p.pt2")


def test_an_entry_that_stands_twice_is_refused(programs: dict[str, Path]) -> None:
    buffer = io.BytesIO(programs["one"].read_bytes())
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr(f"other/{GRAPH}", "{}")
    with pytest.raises(DataError, match="twice"):
        checked_archive(buffer.getvalue(), source="p.pt2")
