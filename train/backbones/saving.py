"""A backbone in a run folder: backbone.json with its weights beside it, so that a run needs no package and no file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from edge_runtime.archive import sha256
from edge_runtime.errors import ConfigError, DataError
from edge_runtime.files import json_bytes, write_atomically
from train.backbones.backbone import PROGRAM, Backbone, BackboneFacts
from train.backbones.checkpoint import ARCHITECTURES
from train.backbones.program import load_program
from train.backbones.trunk import Trunk, empty_trunk

__all__ = ["save_backbone", "saved_backbone"]

DESCRIPTION = "backbone.json"
WEIGHTS, COPY = "backbone.safetensors", "backbone.pt2"
VERSION = 1


def save_backbone(backbone: Backbone, folder: Path) -> None:
    """Write backbone.json, and backbone.safetensors (the trunk up to its deepest tap) or backbone.pt2 (the program).

    Raises DataError where the folder cannot be written.
    """
    if backbone.program is None:
        name = WEIGHTS
        state = {key: value.detach().cpu().contiguous() for key, value in backbone.trunk.state_dict().items()}
        content = save_tensors(state)
    else:
        name, content = COPY, backbone.program
    write_atomically(folder / name, content)
    values = {"version": VERSION, "file": name, "file_sha256": sha256(content), "facts": backbone.facts.to_json()}
    write_atomically(folder / DESCRIPTION, json_bytes(values))


def saved_backbone(folder: Path) -> Backbone:
    """The backbone that `save_backbone` wrote; raises DataError where a file is missing, altered or not as written."""
    path = folder / DESCRIPTION
    try:
        values: dict[str, Any] = json.loads(path.read_text())
        version, name, expected = values["version"], values["file"], values["file_sha256"]
        if version != VERSION:
            raise DataError(f"{path} has version {version!r}, this release reads {VERSION}; train again")
        facts = BackboneFacts.from_json(values["facts"])
        if facts.architecture not in (PROGRAM, *ARCHITECTURES) or name not in (WEIGHTS, COPY):
            raise DataError(f"{path} names {facts.architecture!r} in {name!r}, which this release does not know")
        content = (folder / name).read_bytes()
    except OSError as error:
        raise DataError(f"{folder} has no whole backbone: {error}; train again") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} is not as it was written: {error}; train again") from error
    if sha256(content) != expected:
        raise DataError(f"{folder / name} has SHA-256 {sha256(content)}, {DESCRIPTION} says {expected}; train again")
    if facts.architecture == PROGRAM:
        if facts.size is None:
            raise DataError(f"{path}: a program has no size; train again")
        return Backbone(facts, load_program(content, facts.size, source=str(folder / name)), program=content)
    return Backbone(facts, _trunk(facts, content, folder / name))


def _trunk(facts: BackboneFacts, content: bytes, path: Path) -> Trunk:
    try:
        tensors: dict[str, Tensor] = load_tensors(content)
        trunk = empty_trunk(ARCHITECTURES[facts.architecture], facts.taps)
        trunk.load_state_dict(tensors, assign=True)
    except (SafetensorError, ConfigError, RuntimeError) as error:
        raise DataError(f"{path} does not hold the weights of {facts.architecture}: {error}; train again") from error
    return trunk
