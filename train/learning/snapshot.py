"""The state of a training run in memory and in a safetensors file. No pickle."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from edge_runtime.errors import DataError
from edge_runtime.files import write_atomically

__all__ = [
    "ADVERSARY",
    "Learning",
    "Snapshot",
    "State",
    "in_a_line",
    "load_weights",
    "restore_learner",
    "snapshot_learner",
]

ADVERSARY = "discriminator"
"""Module by whose name an adversary's weights are stored."""

META = "state"

ADAM_STATE = {"step", "exp_avg", "exp_avg_sq"}
"""What Adam, which trains every network here, keeps of a parameter"""

LONGEST_REASON = 300
"""Characters of another library's reason that a message repeats"""


class Learning(Protocol):
    """Networks in training, as Learner and PatchLearner have them."""

    def modules(self) -> dict[str, nn.Module]:
        """The networks by the name under which their weights are stored."""
        ...

    def optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """The optimisers by the name under which their state is stored."""
        ...


@dataclass(frozen=True, slots=True)
class State:
    """A strategy's part of a snapshot."""

    tensors: dict[str, Tensor]
    """Weights and optimiser state, by name"""
    refinement: dict[str, NDArray[Any]]
    """What is known of the images, by name"""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that the rest of a run depends on, at the end of an epoch."""

    tensors: dict[str, Tensor]
    """Weights, optimiser state and the generator's state, by name"""
    refinement: dict[str, NDArray[Any]]
    position: dict[str, int]
    rows: list[dict[str, Any]]

    def write(self, path: Path) -> None:
        """Write the snapshot as one safetensors file, whole or not at all."""
        arrays = {f"refinement/{name}": torch.from_numpy(array) for name, array in self.refinement.items()}
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in {**self.tensors, **arrays}.items()}
        state = json.dumps({"position": self.position, "rows": self.rows})
        write_atomically(path, save(tensors, metadata={META: state}))

    @classmethod
    def read(cls, path: Path) -> Snapshot:
        """The snapshot read back; raises DataError for files that are missing or damaged."""
        tensors, metadata = _read_safetensors(path)
        try:
            state = json.loads(metadata[META])
            position, rows = state["position"], state["rows"]
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{path} is no checkpoint of edge-aae: {error}; train again") from error
        prefix = "refinement/"
        refinement = {
            name.removeprefix(prefix): tensor.numpy() for name, tensor in tensors.items() if name.startswith(prefix)
        }
        rest = {name: tensor for name, tensor in tensors.items() if not name.startswith(prefix)}
        return cls(rest, refinement, position, rows)


def load_weights(path: Path, modules: dict[str, torch.nn.Module]) -> None:
    """Load weights written as `module.parameter` into the named modules.

    Raises DataError for a file that is damaged or belongs to another network.
    """
    tensors, _ = _read_safetensors(path)
    for name, module in modules.items():
        try:
            _load_state(module, _below(tensors, name))
        except (RuntimeError, ValueError) as error:
            raise DataError(f"{path} does not fit the network of its config.json: {in_a_line(error)}") from error


def in_a_line(error: Exception) -> str:
    """What an error says, in one line; torch names every layer on a line of its own."""
    said = " ".join(f"{error}".split())
    return said if len(said) <= LONGEST_REASON else f"{said[:LONGEST_REASON]}..."


def _load_state(module: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Raises RuntimeError or ValueError where names, shapes or types are others: copied, a truth value is a weight."""
    module.load_state_dict(tensors)
    for name, own in module.state_dict().items():
        given = tensors.get(name, own)  # a counter of batches may be missing
        if own.is_floating_point() != given.is_floating_point() or given.dtype == torch.bool:
            raise ValueError(f"{name} is of {given.dtype}, expected {own.dtype}")


def snapshot_learner(learner: Learning) -> dict[str, Tensor]:
    """Copies of weights and optimiser state by name: `encoder.0.weight`, `optimizer.autoencoder/3/exp_avg`."""
    tensors = {
        f"{module_name}.{name}": tensor.detach().clone()
        for module_name, module in learner.modules().items()
        for name, tensor in module.state_dict().items()
    }
    for optimizer_name, optimizer in learner.optimizers().items():
        for index, state in optimizer.state_dict()["state"].items():
            for key, value in state.items():
                tensors[f"optimizer.{optimizer_name}/{index}/{key}"] = torch.as_tensor(value).detach().clone()
    return tensors


def restore_learner(learner: Learning, tensors: dict[str, Tensor]) -> None:
    """Put copies back that snapshot_learner took.

    Raises ValueError or RuntimeError where they are not of these networks and optimisers.
    """
    for name, module in learner.modules().items():
        _load_state(module, _below(tensors, name))
    for name, optimizer in learner.optimizers().items():
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        state: dict[int, dict[str, Tensor]] = {}
        for key, tensor in tensors.items():
            if key.startswith(f"optimizer.{name}/"):
                _, index, entry = key.split("/")
                if not index.isdecimal() or int(index) >= len(parameters) or entry not in ADAM_STATE:
                    raise ValueError(f"{key} is no state of the {len(parameters)} parameters of optimizer.{name}")
                state.setdefault(int(index), {})[entry] = _laid_out_as(parameters[int(index)], tensor, key)
        for number, entries in state.items():
            if entries.keys() != ADAM_STATE:
                raise ValueError(f"optimizer.{name}/{number} has {sorted(entries)}, expected {sorted(ADAM_STATE)}")
        optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def _laid_out_as(parameter: Tensor, stored: Tensor, key: str) -> Tensor:
    """A copy of a moment in the parameter's order of strides: fused Adam walks both as flat memory, and a file holds
    rows first where the weights of a convolution may lie channels last.

    Raises ValueError for another shape: Adam would walk beyond its end.
    """
    shape = () if key.endswith("/step") else parameter.shape
    if stored.shape != shape or not stored.is_floating_point():
        raise ValueError(f"{key} is {tuple(stored.shape)} {stored.dtype}, expected {tuple(shape)} of floats")
    return stored.clone() if key.endswith("/step") else torch.empty_like(parameter).copy_(stored)


def _below(tensors: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    return {key.removeprefix(f"{name}."): tensor for key, tensor in tensors.items() if key.startswith(f"{name}.")}


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        content = path.read_bytes()
        tensors = load(content)
        header_length = int.from_bytes(content[:8], "little")
        metadata = json.loads(content[8 : 8 + header_length]).get("__metadata__", {})
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    except (SafetensorError, ValueError) as error:
        raise DataError(f"{path} is damaged or no safetensors file: {error}; train again") from error
    return tensors, metadata
