"""Which backbone a run takes: the shipped one, or a file of the user's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load as load_tensors

from edge_runtime.archive import sha256
from edge_runtime.errors import ConfigError, DataError
from train.backbones.backbone import PROGRAM, Backbone, BackboneFacts, measured_taps
from train.backbones.checkpoint import ARCHITECTURES, recognised, trunk_from_checkpoint
from train.backbones.efficientnet_lite0 import EFFICIENTNET_LITE0
from train.backbones.program import ProgramDescription, load_program
from train.backbones.weights import SHIPPED_LICENCE, SHIPPED_ORIGIN, SHIPPED_SHA256, shipped_weights

__all__ = ["SHIPPED", "load_backbone"]

SHIPPED = EFFICIENTNET_LITE0.name

PICKLES = (".pt", ".pth", ".pkl", ".pickle", ".bin", ".ckpt", ".tar", ".th")
AS_SAFETENSORS = (
    "python -c 'import sys, torch; from safetensors.torch import save_file; "
    's = torch.load(sys.argv[1], weights_only=True, map_location="cpu"); '
    "save_file({k: v.contiguous() for k, v in s.items()}, sys.argv[2])'"
)
"""Writes a state_dict that was pickled as safetensors: named files follow."""


def load_backbone(spec: str | Path = SHIPPED, *, taps: Sequence[int] | None = None) -> Backbone:
    """The backbone by name, efficientnet-lite0, or from a .safetensors or .pt2 file.

    taps: blocks to take features after, in the architecture's own naming (docs/backbones.md); None takes its default,
    and a program has what it has. Raises ConfigError for a file or a choice that cannot be, DataError for contents
    that cannot be used, MissingExtraError where the shipped weights are not installed.
    """
    if str(spec) == SHIPPED:
        return _shipped(tuple(taps or EFFICIENTNET_LITE0.taps))
    path = Path(spec)
    ending = path.suffix.lower()
    if ending in PICKLES:
        raise ConfigError(
            f"backbone {path} is a pickle, and to read a pickle is to run what is in it. Where you trust it, write its "
            f"weights as safetensors: {AS_SAFETENSORS} {path} {path.with_suffix('.safetensors')}"
        )
    if ending not in (".safetensors", ".pt2"):
        raise ConfigError(
            f"backbone is {str(spec)!r}, expected {SHIPPED}, a .safetensors file with weights of "
            f"{', '.join(ARCHITECTURES)}, or a .pt2 program (torch.export.save); see docs/backbones.md"
        )
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"backbone {path} cannot be read: {error.strerror or error}; name a file that is there"
        ) from error
    if ending == ".pt2":
        if taps is not None:
            raise ConfigError(f"backbone {path} is a program, whose taps are its outputs; leave the taps out")
        return _program(path, content)
    return _checkpoint(path, content, taps)


def _shipped(taps: tuple[int, ...]) -> Backbone:
    trunk = trunk_from_checkpoint(EFFICIENTNET_LITE0, taps, shipped_weights(), source=SHIPPED)
    strides, channels = measured_taps(trunk, None, source=SHIPPED)
    facts = BackboneFacts(
        name=SHIPPED,
        architecture=EFFICIENTNET_LITE0.name,
        origin=SHIPPED_ORIGIN,
        licence=SHIPPED_LICENCE,
        taps=taps,
        strides=strides,
        channels=channels,
        size=None,
        normalisation=EFFICIENTNET_LITE0.normalisation,
        sha256=SHIPPED_SHA256,
    )
    return Backbone(facts, trunk)


def _checkpoint(path: Path, content: bytes, taps: Sequence[int] | None) -> Backbone:
    try:
        tensors = load_tensors(content)
        with safe_open(path, "pt") as file:
            notes = file.metadata() or {}
    except (SafetensorError, ValueError) as error:
        raise DataError(
            f"backbone {path} is no safetensors file: {error}; write it with safetensors' save_file"
        ) from error
    architecture = recognised(list(tensors), source=str(path))
    chosen = tuple(architecture.taps if taps is None else taps)
    trunk = trunk_from_checkpoint(architecture, chosen, tensors, source=str(path))
    strides, channels = measured_taps(trunk, None, source=str(path))
    facts = BackboneFacts(
        name=path.stem,
        architecture=architecture.name,
        origin=notes.get("origin", f"the user's file {path.name}"),
        licence=notes.get("licence", notes.get("license", "not stated")),
        taps=chosen,
        strides=strides,
        channels=channels,
        size=None,
        normalisation=architecture.normalisation,
        sha256=sha256(content),
    )
    return Backbone(facts, trunk)


def _program(path: Path, content: bytes) -> Backbone:
    described = ProgramDescription.read(path.with_name(path.name + ".json"))
    trunk = load_program(content, described.size, source=str(path))
    strides, channels = measured_taps(trunk, described.size, source=str(path))
    if strides != described.strides:
        raise DataError(
            f"backbone {path} gives outputs of strides {list(strides)}, its JSON says {list(described.strides)}; "
            "correct `strides`, one number an output in their order"
        )
    facts = BackboneFacts(
        name=path.stem,
        architecture=PROGRAM,
        origin=described.origin,
        licence=described.licence,
        taps=tuple(range(len(strides))),
        strides=strides,
        channels=channels,
        size=described.size,
        normalisation=described.normalisation,
        sha256=sha256(content),
    )
    return Backbone(facts, trunk, program=content)
