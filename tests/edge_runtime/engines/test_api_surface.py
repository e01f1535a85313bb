"""Every name we use of TensorRT and CUDA is in the published bindings of all releases, and in TensorRT-RTX.

bindings.json was extracted from the wheels by extract_names.py; no GPU is needed.
"""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
SOURCES = ("edge_runtime/engines/build.py", "edge_runtime/engines/flavour.py", "edge_runtime/backends/tensorrt.py")
BINDINGS: dict[str, list[dict[str, Any]]] = json.loads(Path(__file__).with_name("bindings.json").read_text())
AT_LEAST = {
    "Builder", "IBuilderConfig", "ILogger", "IProgressMonitor", "MemoryPoolType", "NetworkDefinitionCreationFlag",
    "OnnxParser", "Runtime", "STRONGLY_TYPED", "TensorIOMode", "WORKSPACE", "build_serialized_network",
    "create_execution_context", "create_network", "create_optimization_profile", "create_timing_cache",
    "deserialize_cuda_engine", "execute_async_v3", "get_tensor_mode", "get_tensor_name", "nptype", "num_io_tensors",
    "parse", "set_memory_pool_limit", "set_tensor_address", "set_timing_cache",
} - {"IBuilderConfig"}  # fmt: skip
"""What the sources must be found to use: else the search is broken."""


def names_of(bindings: dict[str, Any]) -> set[str]:
    """Every name of a module and its classes."""
    return {name for key, value in bindings.items() if isinstance(value, list) for name in (*value, key)}


def used_names() -> set[str]:
    """Attributes in the sources that any release of TensorRT has under that name."""
    known = set().union(*(names_of(bindings) for bindings in BINDINGS["tensorrt"]))
    trees = [ast.parse((ROOT / source).read_text()) for source in SOURCES]
    return {node.attr for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Attribute)} & known


def test_the_search_finds_what_is_used() -> None:
    assert used_names() >= AT_LEAST


@pytest.mark.parametrize("bindings", BINDINGS["tensorrt"], ids=lambda bindings: bindings["version"])
def test_every_name_is_in_the_published_bindings(bindings: dict[str, Any]) -> None:
    assert used_names() - names_of(bindings) == set()


def test_three_generations_are_held_to() -> None:
    assert [bindings["version"] for bindings in BINDINGS["tensorrt"]] == ["10.3.0", "10.16.1.11", "11.4.0.106"]
    assert [bindings["version"].split(".")[0] for bindings in BINDINGS["cuda"]] == ["12", "13"]


def test_every_name_is_in_tensorrt_rtx() -> None:
    rtx = pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx has wheels for x86-64 Linux and Windows alone")
    classes = [key for bindings in BINDINGS["tensorrt"] for key, value in bindings.items() if isinstance(value, list)]
    offered = set(dir(rtx)).union(*(dir(getattr(rtx, name)) for name in classes if hasattr(rtx, name)))
    assert used_names() - offered == set()


@pytest.mark.parametrize("bindings", BINDINGS["cuda"], ids=lambda bindings: bindings["version"])
def test_every_cuda_name_is_in_both_generations_with_one_signature(bindings: dict[str, Any]) -> None:
    tree = ast.parse((ROOT / "edge_runtime/engines/cuda.py").read_text())
    used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr.startswith("cuda")}
    assert len(used) > 15
    assert used - names_of(bindings) == set()
    first = BINDINGS["cuda"][0]["signatures"]
    for name in used & set(bindings["signatures"]):
        assert bindings["signatures"][name].split("->")[0] == first[name].split("->")[0], name
