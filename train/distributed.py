"""Several processes that train one network as one would: each takes its share of every batch and of every scoring.

Gradients are summed by plain all_reduce between backward and optimiser step, not by DistributedDataParallel: a step
here has two losses with an optimiser each over parts of one graph, and weights keep their names for checkpoints.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from edge_runtime.errors import ConfigError, EdgeAaeError

__all__ = ["ALONE", "PeerError", "World", "joined", "n_processes"]

TIMEOUT = timedelta(minutes=10)
"""How long a process waits for the others: reading images at the start may take one of them longer than another."""

Given = TypeVar("Given")


class PeerError(EdgeAaeError, RuntimeError):
    """Another process of the run ended or did not answer."""


@dataclass(frozen=True, slots=True)
class World:
    """The processes of a run, as one of them sees them."""

    rank: int = 0
    """0-based; rank 0 alone writes and speaks"""
    size: int = 1
    device: torch.device | None = None
    """What this process trains on; None: not decided here"""
    store: Any = None
    """Keys and values that all processes see; None for one alone"""

    @property
    def is_first(self) -> bool:
        """Whether this process writes the run folder and speaks."""
        return self.rank == 0

    def share(self, n: int) -> slice:
        """This process's part of n rows; parts differ by one row at most."""
        return slice(n * self.rank // self.size, n * (self.rank + 1) // self.size)

    def sum_(self, values: Tensor) -> Tensor:
        """Add up a tensor over all processes, in place; every one gets the same bits. Raises PeerError."""
        if self.size > 1:
            self._together(lambda: dist.all_reduce(values))
        return values

    def sum_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Add up gradients over all processes; those that a parameter lacks are lacking in all."""
        if self.size == 1:
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        if not gradients:
            return
        summed = self.sum_(torch.cat([gradient.flatten() for gradient in gradients]))
        parts = summed.split([gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))

    def agreed(self, wanted: Callable[[], bool]) -> Callable[[], bool]:
        """The function, true in all processes as soon as it is in one; each call waits for all of them."""
        if self.size == 1:
            return wanted
        # On the CPU, so that asking does not wait for a GPU.
        return lambda: bool(self.sum_(torch.tensor(int(wanted()))))

    def mine(self, parts: Iterable[Given]) -> list[Given]:
        """Every size-th of the parts, of which `gathered` puts the results together again."""
        return [part for index, part in enumerate(parts) if index % self.size == self.rank]

    def gathered(
        self, parts: list[NDArray[np.float32]], n_rows: int, chunk: int, columns: tuple[int, ...]
    ) -> NDArray[np.float32]:
        """All rows (n_rows, *columns) in order, from each process's parts of `chunk` rows, as `mine` deals them out."""
        if self.size == 1:
            return np.concatenate(parts)
        rows = np.zeros((n_rows, *columns), dtype=np.float32)
        starts = self.mine(range(0, n_rows, chunk))
        for start, part in zip(starts, parts, strict=True):
            rows[start : start + len(part)] = part
        self.sum_(torch.from_numpy(rows))  # every row is zero in all processes but one
        return rows

    def from_first(self, make: Callable[[], Given]) -> Given:
        """What `make` gives in the first process, in all of them."""
        if self.size == 1:
            return make()
        told = [make() if self.is_first else None]
        self._together(lambda: dist.broadcast_object_list(told, src=0))
        return told[0]  # type: ignore[return-value]

    def check_same(self, value: str, expected: str) -> None:
        """Raise ConfigError where another process has another value. expected: what all should have, in words."""
        if self.from_first(lambda: value) != value:
            raise ConfigError(f"process {self.rank} of {self.size} has not {expected}; start all with the same")

    def _together(self, call: Callable[[], Any]) -> None:
        try:
            call()
        except RuntimeError as error:  # what torch raises for a closed connection and for a timeout
            raise PeerError(
                f"another of the {self.size} processes ended, or did not answer for "
                f"{TIMEOUT.total_seconds() / 60:.0f} minutes ({error}); go on with --resume"
            ) from error


ALONE = World()
"""One process."""


def n_processes(environment: Mapping[str, str]) -> int:
    """How many torchrun's variables describe; 1 without them."""
    return int(environment.get("WORLD_SIZE", "1"))


@contextmanager
def joined(environment: Mapping[str, str], device: str) -> Iterator[World]:
    """The world that torchrun's variables describe, left at the end; ALONE without them.

    device: auto, cpu or cuda; with a GPU each process takes that of its LOCAL_RANK. Of several processes that fail,
    the first raises its error; the others end by SystemExit without a word, so that one message remains. Raises
    ConfigError where there are too few GPUs or the others are not found.
    """
    if n_processes(environment) == 1:
        yield ALONE
        return
    chosen = _device_of(device, int(environment.get("LOCAL_RANK", "0")))
    world = _join(chosen)
    try:
        yield world
    except (Exception, KeyboardInterrupt) as error:
        if _is_first_to_fail(world):
            if world.is_first or not isinstance(error, EdgeAaeError):
                raise
            raise type(error)(f"process {world.rank} of {world.size}: {error}") from error
        raise SystemExit(getattr(error, "exit_code", 1)) from error
    dist.destroy_process_group()


def _join(device: torch.device) -> World:
    if not dist.is_available():
        raise ConfigError(f"torch {torch.__version__} was built without torch.distributed; train in one process")
    try:
        store, rank, size = next(rendezvous("env://", timeout=TIMEOUT))
        backend = "gloo"
        if device.type == "cuda":
            torch.cuda.set_device(device)
            backend = "cpu:gloo,cuda:nccl"  # what is decided stays on the CPU, gradients on the GPU
        failures = PrefixStore("edge-aae", store)
        dist.init_process_group(backend, store=PrefixStore("torch", store), rank=rank, world_size=size, timeout=TIMEOUT)
    except (RuntimeError, ValueError) as error:
        raise ConfigError(f"the processes did not find each other: {error}; start them with torchrun") from error
    return World(rank, size, device, failures)


def _device_of(name: str, local_rank: int) -> torch.device:
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if name not in ("auto", "cuda"):
        raise ConfigError(
            f"--device is {name!r}, with several processes expected auto, cpu or cuda: each takes its own"
        )
    if local_rank >= torch.cuda.device_count():
        raise ConfigError(
            f"process {local_rank} of this machine finds {torch.cuda.device_count()} CUDA devices (torch "
            f"{torch.__version__}); start at most as many processes, or name --device cpu"
        )
    return torch.device("cuda", local_rank)


def _is_first_to_fail(world: World) -> bool:
    try:
        return int(world.store.add("failed", 1)) == 1
    except RuntimeError:  # the process that kept the store is gone, perhaps killed without a word
        return True
