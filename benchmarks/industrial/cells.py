"""Cells of the table of real sets: one set, one variant, one seed, and how much of the defects is mixed in.

A finished cell is a JSON file, and stands while its key does: photographs, arguments, and the source of what ran.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.industrial.photographs import PhotographSet
from edge_runtime.errors import DataError
from edge_runtime.files import json_bytes, write_atomically

__all__ = ["MIXED_IN", "Cell", "Split", "Store", "Variant", "lay_out", "replaced", "source_of"]

RECIPE = 1
"""Of the cells; raise it when figures change for another reason than what is in a key."""

PACKAGES = ("edge_aae", "edge_runtime", "export", "train")

MIXED_IN = "m-"
"""How the names of photographs begin that are mixed in: the product reads no labels from names of files."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Variant:
    """What is run on the sets."""

    name: str
    arguments: tuple[str, ...] = ()
    """Of `edge-aae train`, beside data, --out and --seed"""
    tree: Path | None
    """The checkout whose product runs; None for another method (benchmarks/peers)"""
    source: str
    """Revision of what runs, as source_of gives it"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Split:
    """Who is trained on and who is tested."""

    train: tuple[Path, ...]
    """Believed normal"""
    mixed_in: tuple[Path, ...]
    """Defects that are trained on as if they were normal"""
    good: tuple[Path, ...]
    defects: dict[str, tuple[Path, ...]]
    """Of each kind, without any that a cell of the same comparison mixes in"""

    @property
    def n_defects(self) -> int:
        """Tested ones."""
        return sum(map(len, self.defects.values()))


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One training and its evaluation."""

    photographs: PhotographSet
    variant: Variant
    seed: int
    """Of the network, and of who is mixed in"""
    share: float = 0.0
    """Of defects among the training photographs"""
    reserved: float = 0.0
    """The largest share it is compared with: what that one mixes in is left out of every one's test"""

    @cached_property
    def key(self) -> dict[str, Any]:
        """What a finished result must have in common with the cell to stand for it."""
        return {
            "recipe": RECIPE,
            "photographs": self.photographs.fingerprint,
            "arguments": list(self.variant.arguments),
            "source": self.variant.source,
            "seed": self.seed,
            "share": self.share,
            "reserved": self.reserved,
        }

    @property
    def name(self) -> str:
        """Of its files: what it is, and a hash of its key."""
        digest = hashlib.sha256(json.dumps(self.key, sort_keys=True).encode()).hexdigest()[:10]
        mixed = f"-{100 * self.share:g}of{100 * self.reserved:g}" if self.reserved else ""
        variant = self.variant.name.replace(" ", "-")
        return f"{self.photographs.name}-{variant}{mixed}-seed{self.seed}-{digest}"

    def split(self) -> Split:
        """Draws who is mixed in; a smaller share is part of a larger one. Raises DataError where none would be left."""
        order = np.random.default_rng(self.seed).permutation(self.photographs.n_defects)
        n_reserved, n_mixed = (self._n_mixed(share) for share in (self.reserved, self.share))
        _check_left(self.photographs, self.reserved, n_reserved)
        return _split(self.photographs, self.photographs.train, order[:n_mixed], order[:n_reserved])

    def _n_mixed(self, share: float) -> int:
        return round(share / (1.0 - share) * len(self.photographs.train))


def replaced(
    photographs: PhotographSet, *, share: float, reserved: float, seed: int, n_images: int | None = None
) -> Split:
    """A seed's draw of n_images training photographs, all if None, a share of which are defects in others' place.

    What `reserved`, the largest share of a comparison, takes of all photographs is tested at no share. A smaller share
    is part of a larger one. Raises DataError where no defect would be left to test.
    """
    rng = np.random.default_rng(seed)
    order, drawn = rng.permutation(photographs.n_defects), rng.permutation(len(photographs.train))
    n_images = len(drawn) if n_images is None else min(n_images, len(drawn))
    n_mixed, n_reserved = round(share * n_images), round(reserved * len(drawn))
    _check_left(photographs, reserved, n_reserved)
    train = tuple(photographs.train[index] for index in drawn[: n_images - n_mixed])
    return _split(photographs, train, order[:n_mixed], order[:n_reserved])


def _check_left(photographs: PhotographSet, reserved: float, n_reserved: int) -> None:
    if n_reserved >= photographs.n_defects:
        raise DataError(
            f"{photographs.name}: {100 * reserved:g} % takes {n_reserved} defects, and there are "
            f"{photographs.n_defects}; none would be left to test"
        )


def _split(
    photographs: PhotographSet, train: tuple[Path, ...], mixed: NDArray[np.int64], untested: NDArray[np.int64]
) -> Split:
    """mixed, untested: indices of the defects that are trained on, and of those that are not tested."""
    every = [(kind, file) for kind, files in photographs.defects.items() for file in files]
    taken = set(untested.tolist())
    tested = [pair for index, pair in enumerate(every) if index not in taken]
    return Split(
        train=train,
        mixed_in=tuple(every[index][1] for index in mixed),
        good=photographs.good,
        defects={
            kind: files
            for kind in photographs.defects
            if (files := tuple(file for of_kind, file in tested if of_kind == kind))
        },
    )


class Store:
    """Finished cells: a JSON file each in a folder, and those of an earlier table."""

    def __init__(self, folder: Path, earlier: Iterable[dict[str, Any]] = (), *, any_source: bool = False) -> None:
        """any_source: whether a cell may stand that another revision of the product made."""
        self._folder = folder
        self._any_source = any_source
        self._known: dict[str, dict[str, Any]] = {}
        kept = (json.loads(file.read_text()) for file in sorted(folder.glob("*.json"), key=os.path.getmtime))
        for result in (*earlier, *kept):
            self._known[self._identity(result["set"], result["variant"], result["key"])] = result

    def get(self, cell: Cell, *, limit_s: float = math.inf, retry: bool = False) -> dict[str, Any] | None:
        """The result of a cell; None where there is none.

        limit_s: a cell that ran out of a shorter time than this is not finished. retry: nor is one that failed.
        """
        result = self._known.get(self._identity(cell.photographs.name, cell.variant.name, cell.key))
        if result is None:
            return None
        if result["failures"] and retry:
            return None
        return None if result.get("out_of_time_s", math.inf) < limit_s else result

    def add(self, cell: Cell, result: dict[str, Any]) -> dict[str, Any]:
        """Keep a result, whole or not at all; returns it with what it is a result of."""
        result = {"set": cell.photographs.name, "variant": cell.variant.name, "key": cell.key, **result}
        self._folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self._folder / f"{cell.name}.json", json_bytes(result))
        self._known[self._identity(cell.photographs.name, cell.variant.name, cell.key)] = result
        return result

    def _identity(self, photographs: str, variant: str, key: dict[str, Any]) -> str:
        counted = {name: value for name, value in key.items() if not (self._any_source and name == "source")}
        return json.dumps([photographs, variant, counted], sort_keys=True)


def lay_out(split: Split, masks: dict[Path, Path], folder: Path) -> None:
    """Links to the photographs: train/NAME, test/good/NAME, test/KIND/NAME, ground_truth/KIND/NAME_mask.png."""
    for file in split.train:
        _link(folder / "train" / file.name, file)
    for file in split.mixed_in:
        _link(folder / "train" / f"{MIXED_IN}{file.parent.name}-{file.name}", file)
    for file in split.good:
        _link(folder / "test" / "good" / file.name, file)
    for kind, files in split.defects.items():
        for file in files:
            _link(folder / "test" / kind / file.name, file)
            if file in masks:
                _link(folder / "ground_truth" / kind / f"{file.stem}_mask{masks[file].suffix}", masks[file])


def source_of(tree: Path, packages: Sequence[str] = PACKAGES) -> str:
    """A hash of the product's Python files in a checkout. Raises DataError where there are none."""
    files = sorted(file for package in packages for file in (tree / package).rglob("*.py"))
    if not files:
        raise DataError(f"{tree} holds no {', '.join(packages)}; expected a checkout of edge-aae")
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.relative_to(tree).as_posix()} {hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()[:12]


def _link(place: Path, file: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    if place.is_symlink():
        raise DataError(f"two photographs called {place.name}: {place.resolve()} and {file}; rename one")
    place.symlink_to(file.resolve())
