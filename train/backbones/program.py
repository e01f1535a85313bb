"""A trunk of any architecture, as a program that torch.export wrote, and the JSON beside it that describes it."""

from __future__ import annotations

import copy
import io
import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from edge_runtime.errors import ConfigError, DataError
from train.backbones.archive_check import checked_archive
from train.backbones.normalisation import Normalisation

__all__ = ["ProgramDescription", "ProgramTrunk", "load_program"]

KEYS = ("strides", "size", "normalisation", "licence", "origin")

LOAD_ERRORS = (
    AssertionError,
    AttributeError,
    ImportError,
    IndexError,
    KeyError,
    NotImplementedError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
)
"""What torch.export.load was seen to raise for archives that it cannot read."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ProgramDescription:
    """What a program does not say of itself: FILE.pt2.json."""

    strides: tuple[int, ...]
    """Pixels from one site to the next, one number an output"""
    size: tuple[int, int]
    """Height and width that the program was exported for"""
    normalisation: Normalisation
    licence: str
    origin: str

    @classmethod
    def read(cls, path: Path) -> ProgramDescription:
        """The description from its file; raises ConfigError, naming file and key, where it is not as it must be."""
        if not path.is_file():
            raise ConfigError(
                f"{path} is missing: a .pt2 program needs it beside it, an object with {', '.join(KEYS)}; "
                "see docs/backbones.md"
            )
        try:
            values = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise ConfigError(f"{path} is no JSON: {error}") from error
        if not isinstance(values, Mapping) or set(values) != set(KEYS):
            found = ", ".join(sorted(values)) if isinstance(values, Mapping) else type(values).__name__
            raise ConfigError(f"{path} holds {found}; expected an object with {', '.join(KEYS)}, and no more")
        for name in ("licence", "origin"):
            if not isinstance(values[name], str) or not values[name].strip():
                raise ConfigError(
                    f"{path}: {name} is {values[name]!r}, expected a text such as an SPDX name or an address"
                )
        strides, size = _whole(values["strides"]), _whole(values["size"])
        if not strides:
            raise ConfigError(f"{path}: strides is {values['strides']!r}, expected a list of pixels, one an output")
        if size is None or len(size) != 2:
            raise ConfigError(f"{path}: size is {values['size']!r}, expected [height, width] of the export")
        try:
            normalisation = Normalisation.from_json(values["normalisation"])
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from error
        return cls(
            strides=strides,
            size=(size[0], size[1]),
            normalisation=normalisation,
            licence=values["licence"],
            origin=values["origin"],
        )


class ProgramTrunk(nn.Module):
    """An exported program as a trunk: frozen, and without a mode, which it left behind at its export."""

    def __init__(self, program: nn.Module, *, one_at_a_time: bool) -> None:
        """one_at_a_time: whether the program was exported for a batch of 1, so that more go through singly."""
        super().__init__()
        self.program = program
        self.one_at_a_time = one_at_a_time
        self.requires_grad_(False)
        self.training = False

    def train(self, mode: bool = True) -> ProgramTrunk:
        """Nothing: an exported program refuses to be asked."""
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> ProgramTrunk:
        with warnings.catch_warnings():
            # torch 2.13 copies a class of its own that it calls deprecated.
            warnings.simplefilter("ignore", FutureWarning)
            program = copy.deepcopy(self.program, memo)
        return ProgramTrunk(program, one_at_a_time=self.one_at_a_time)

    def forward(self, x: Tensor) -> list[Tensor]:
        """One (B, c, h, w) an output, for normalised x (B, 3, H, W)."""
        if self.one_at_a_time and x.shape[0] != 1:
            singly = [self._features(one) for one in x.split(1)]
            return [torch.cat(parts) for parts in zip(*singly, strict=True)]
        return self._features(x)

    def _features(self, x: Tensor) -> list[Tensor]:
        features = self.program(x)
        return [features] if isinstance(features, Tensor) else list(features)


def load_program(content: bytes, size: tuple[int, int], *, source: str) -> ProgramTrunk:
    """The trunk of a .pt2 archive, which is checked before torch sees it: see archive_check.py.

    size: height and width that the description names. Raises DataError where the archive is unsafe, of another kind,
    or exported for another input.
    """
    archive, graph = checked_archive(content, source=source)
    batch = _exported_batch(graph, size, source)
    try:
        with _quiet_loader():
            program = torch.export.load(io.BytesIO(archive))
            module = program.module(check_guards=False)
    except LOAD_ERRORS as error:
        raise DataError(
            f"{source} cannot be loaded by torch {torch.__version__}: {type(error).__name__}: {str(error)[:200]}; "
            "write it with this torch"
        ) from error
    _keep_constants(module)
    return ProgramTrunk(module, one_at_a_time=batch == 1)


def _exported_batch(graph: Mapping[str, Any], size: tuple[int, int], source: str) -> int | None:
    """The batch that the program takes, None for any; raises DataError unless the input is (B, 3, *size)."""
    try:
        specs = graph["graph_module"]["signature"]["input_specs"]
        (name,) = (spec["user_input"]["arg"]["as_tensor"]["name"] for spec in specs if "user_input" in spec)
        sizes = [side.get("as_int") for side in graph["graph_module"]["graph"]["tensor_values"][name]["sizes"]]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{source}: its input is no tensor ({error}); expected one image (B, 3, H, W)") from error
    if sizes[1:] != [3, *size]:
        shown = ", ".join("?" if side is None else str(side) for side in sizes)
        raise DataError(
            f"{source} takes ({shown}), its JSON says (B, 3, {size[0]}, {size[1]}); export with these sides fixed, or "
            "correct `size`"
        )
    batch: int | None = sizes[0]
    if batch not in (1, None):
        raise DataError(f"{source} takes a batch of {batch}; export it with a batch of 1, or with a dynamic one")
    return batch


def _keep_constants(module: nn.Module) -> None:
    """Make buffers of tensors that are mere attributes, so that they move to a GPU with the rest."""
    for part in module.modules():
        for name, value in list(vars(part).items()):
            if isinstance(value, Tensor):
                delattr(part, name)
                part.register_buffer(name, value, persistent=False)


@contextmanager
def _quiet_loader() -> Iterator[None]:
    """The loader logs a stack trace besides raising."""
    logger = logging.getLogger("torch.export")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def _whole(values: Any) -> tuple[int, ...] | None:
    """A list of whole numbers above 0 as a tuple; None for anything else."""
    if not isinstance(values, list):
        return None
    is_whole = all(isinstance(value, int) and not isinstance(value, bool) and value > 0 for value in values)
    return tuple(values) if is_whole else None
