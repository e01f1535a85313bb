"""Imports form one stack of rooms, held by reading every file's syntax tree; docs/architecture.md is its picture.

A room is a folder of modules. What a room needs stands in a room below its own; files and rooms have a size that one
can take in.
"""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
STACK = ("edge_runtime", "train", "export", "edge_aae")
"""From the ground up."""

ROOMS = (
    "edge_runtime/systems",
    "edge_runtime",
    "edge_runtime/serving",
    "edge_runtime/image_files",
    "edge_runtime/model",
    "edge_runtime/signing",
    "edge_runtime/bundle",
    "edge_runtime/engines",
    "edge_runtime/backends",
    "edge_runtime/scoring",
    "edge_runtime/gate",
    "edge_runtime/watching",
    "edge_runtime/sources",
    "edge_runtime/sinks",
    "edge_runtime/delivery",
    "edge_runtime/stream",
    "edge_runtime/operations",
    "edge_runtime/live",
    "train",
    "train/backbones",
    "train/sites",
    "train/heads",
    "train/networks",
    "train/views",
    "train/intake",
    "train/data",
    "train/synthesis",
    "train/refinement",
    "train/calibration",
    "train/learning",
    "train/structure",
    "train/strategies",
    "train/runs",
    "train/evaluation",
    "train/pages",
    "export/standalone",
    "export",
    "edge_aae/commands",
    "edge_aae/demo",
    "edge_aae/commands/device",
    "edge_aae/commands/assurance",
    "edge_aae/commands/shipping",
    "edge_aae/commands/training",
    "edge_aae",
)
"""From the ground up: a room may import from itself and from those before it."""

FACES = {ROOT / "edge_runtime/__init__.py"}
"""Import the public names at their first use, from wherever these are."""

MOST_MODULES = 12
MOST_LINES = 400

HEAVY = {
    "torch",
    "sklearn",
    "safetensors",
    "matplotlib",
    "rich",
    "onnx",
    "onnxscript",
    "onnxruntime",
    "cv2",
    "cryptography",
}
RUNTIME_MAY_IMPORT_AT_TOP = {"numpy"}

SHIPPED_WEIGHTS = ROOT / "train/backbones/weights.py"
"""Reads the one pickle that is read, from a package whose only file is one."""


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


def calls_of_torch_load(file: Path) -> list[ast.AST]:
    """Calls of torch.load, and whatever else takes hold of it."""
    tree = ast.parse(file.read_text())
    calls = {node.func: node for node in ast.walk(tree) if isinstance(node, ast.Call)}
    found: list[ast.AST] = [
        calls.get(node, node)
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and ast.unparse(node) in ("torch.load", "torch.serialization.load")
    ]
    imported = (node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom))
    found += [node for node in imported if node.module in ("torch", "torch.serialization") and "load" in names_of(node)]
    return found


def names_of(node: ast.ImportFrom) -> set[str]:
    return {alias.name for alias in node.names}


def rooms_of(package: str) -> dict[Path, str]:
    """Room of each file of a package: the folder it lies in, from the repository's root."""
    return {file: file.parent.relative_to(ROOT).as_posix() for file in sorted((ROOT / package).rglob("*.py"))}


def imported_rooms(file: Path) -> set[str]:
    """Rooms that a file imports from, within functions and under TYPE_CHECKING too."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            if name.split(".")[0] in STACK:
                found.add(_room_of_name(name))
    return found


def _room_of_name(name: str) -> str:
    """edge_runtime.model.score.Decision -> edge_runtime/model."""
    parts = name.split(".")
    while parts:
        path = ROOT.joinpath(*parts)
        if path.is_dir():
            return "/".join(parts)
        if path.with_suffix(".py").is_file():
            return "/".join(parts[:-1])
        parts.pop()
    raise AssertionError(f"{name} is no module of ours")


def test_every_room_stands_in_the_list_once() -> None:
    rooms = {room for package in STACK for room in rooms_of(package).values()}
    assert len(set(ROOMS)) == len(ROOMS)
    assert rooms == set(ROOMS)


@pytest.mark.parametrize("package", STACK)
def test_a_room_imports_from_rooms_below_it_alone(package: str) -> None:
    floor = {room: number for number, room in enumerate(ROOMS)}
    against = {
        f"{file.relative_to(ROOT)} imports from {other}"
        for file, room in rooms_of(package).items()
        if file not in FACES
        for other in imported_rooms(file)
        if floor[other] > floor[room]
    }
    assert not against, "a room may import from those before it in ROOMS; move what is shared to a room below"


@pytest.mark.parametrize("package", [*STACK, "benchmarks"])
def test_rooms_and_files_are_small(package: str) -> None:
    counts = Counter(room for file, room in rooms_of(package).items() if file.name != "__init__.py")
    assert {room: n for room, n in counts.items() if n > MOST_MODULES} == {}
    lengths = {file.relative_to(ROOT).as_posix(): len(file.read_text().splitlines()) for file in rooms_of(package)}
    assert {file: n for file, n in lengths.items() if n > MOST_LINES} == {}


def test_the_runtime_never_imports_training_libraries_and_takes_numpy_alone_at_the_top() -> None:
    for file in sorted((ROOT / "edge_runtime").rglob("*.py")):
        assert not imports_of(file) & (HEAVY - {"cv2", "onnxruntime", "cryptography"}), file
        assert not imports_of(file, top_level_only=True) & HEAVY, file


def test_commands_import_nothing_heavy_at_the_top() -> None:
    for file in [ROOT / "edge_aae" / "cli.py", *sorted((ROOT / "edge_aae" / "commands").rglob("*.py"))]:
        assert not imports_of(file, top_level_only=True) & (HEAVY | {"train", "export", "numpy"}), file


def test_no_pickle_anywhere() -> None:
    for package in STACK:
        for file in sorted((ROOT / package).rglob("*.py")):
            assert not imports_of(file) & {"pickle", "dill", "joblib", "shelve", "marshal"}, file
            assert "allow_pickle=True" not in file.read_text(), file
            if file != SHIPPED_WEIGHTS:
                assert not calls_of_torch_load(file), file


def test_the_one_pickle_that_is_read_is_known_byte_by_byte_and_gives_tensors_alone() -> None:
    (call,) = calls_of_torch_load(SHIPPED_WEIGHTS)
    assert isinstance(call, ast.Call)
    assert "weights_only=True" in ast.unparse(call)
    text = SHIPPED_WEIGHTS.read_text()
    assert text.index("found != SHIPPED_SHA256") < text.index("torch.load(")
