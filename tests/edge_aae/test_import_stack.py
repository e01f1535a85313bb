"""Imports form one stack, edge_aae -> export -> train -> edge_runtime, held by reading every file's syntax tree."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
STACK = ("edge_runtime", "train", "export", "edge_aae")
"""From the ground up: a package may import itself and those before it."""

HEAVY = {"torch", "sklearn", "safetensors", "matplotlib", "rich", "onnx", "onnxscript", "onnxruntime", "cv2"}
RUNTIME_MAY_IMPORT_AT_TOP = {"numpy"}


def imports_of(file: Path, *, top_level_only: bool = False) -> set[str]:
    """Top-level package names that a file imports; outside functions and TYPE_CHECKING if top_level_only."""
    tree = ast.parse(file.read_text())
    nodes = tree.body if top_level_only else list(ast.walk(tree))
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("package", STACK)
def test_a_package_imports_nothing_above_itself(package: str) -> None:
    above = set(STACK[STACK.index(package) + 1 :])
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    offenders = {str(file.relative_to(ROOT)): imports_of(file) & above for file in files}
    assert {file: names for file, names in offenders.items() if names} == {}


def test_the_runtime_never_imports_training_libraries_and_takes_numpy_alone_at_the_top() -> None:
    for file in sorted((ROOT / "edge_runtime").rglob("*.py")):
        assert not imports_of(file) & (HEAVY - {"cv2", "onnxruntime"}), file
        assert not imports_of(file, top_level_only=True) & HEAVY, file


def test_commands_import_nothing_heavy_at_the_top() -> None:
    for file in [ROOT / "edge_aae" / "cli.py", *sorted((ROOT / "edge_aae" / "commands").glob("*.py"))]:
        assert not imports_of(file, top_level_only=True) & (HEAVY | {"train", "export", "numpy"}), file


def test_no_pickle_anywhere() -> None:
    for package in STACK:
        for file in sorted((ROOT / package).rglob("*.py")):
            assert not imports_of(file) & {"pickle", "dill", "joblib", "shelve", "marshal"}, file
            assert "torch.load" not in file.read_text(), file
            assert "allow_pickle=True" not in file.read_text(), file
