"""Checkpoints of random weights and small exported programs, written as a user would."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edge_runtime.errors import MissingExtraError
from train.backbones.trunk import Architecture, checkpoint_shapes, empty_trunk
from train.backbones.weights import shipped_weights

SIDE = 32
"""Height and width that the small programs take."""


@pytest.fixture(scope="session")
def shipped() -> dict[str, Tensor]:
    """The shipped weights; skips where their package is not installed."""
    try:
        return shipped_weights()
    except MissingExtraError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def random_checkpoint() -> Callable[[Architecture], dict[str, Tensor]]:
    """A checkpoint of an architecture without its head, whose features neither vanish nor explode."""

    def make(architecture: Architecture) -> dict[str, Tensor]:
        random = torch.Generator().manual_seed(0)
        found = {}
        for name, shape in checkpoint_shapes(empty_trunk(architecture)).items():
            values = torch.randn(shape, generator=random)
            if len(shape) == 4:
                values *= math.sqrt(2.0 / math.prod(shape[1:]))
            elif name.endswith((".running_var", ".weight")):
                values = values.abs() * 0.3 + 0.7
            else:
                values *= 0.1
            found[name] = values
        return found

    return make


class TwoTaps(nn.Module):
    """Strides 2 and 4, with what an exporter must carry: a buffer, a constant, batch normalisation, padding."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU6(inplace=True))
        self.second = nn.Sequential(nn.Conv2d(8, 12, 3, stride=2), nn.SiLU())
        self.register_buffer("gain", torch.full((1, 3, 1, 1), 1.5))
        self.offset = torch.tensor([0.1, 0.2, 0.3])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        fine = self.first(x * self.gain + self.offset[:, None, None])
        return fine, self.second(nn.functional.pad(fine, (0, 1, 0, 1)))


DESCRIPTION: dict[str, Any] = {
    "strides": [2, 4],
    "size": [SIDE, SIDE],
    "normalisation": {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4], "order": "RGB", "range": 1},
    "licence": "MIT",
    "origin": "the tests",
}


@pytest.fixture(scope="session")
def two_taps() -> nn.Module:
    torch.manual_seed(0)
    network = TwoTaps()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return network.eval()


@pytest.fixture(scope="session")
def description() -> dict[str, Any]:
    return DESCRIPTION


@pytest.fixture(scope="session")
def write_program() -> Callable[..., Path]:
    """write_program(network, path, batch=None | int, **changes of the description) -> path; None is a dynamic batch."""

    def write(network: nn.Module, path: Path, *, batch: int | None = 1, **changes: Any) -> Path:
        dynamic = ({0: torch.export.Dim("batch", min=1, max=64)},) if batch is None else None
        example = torch.zeros(batch or 2, 3, SIDE, SIDE)
        torch.export.save(torch.export.export(network, (example,), dynamic_shapes=dynamic), path)
        path.with_name(path.name + ".json").write_text(json.dumps({**DESCRIPTION, **changes}))
        return path

    return write


@pytest.fixture(scope="session")
def programs(
    two_taps: nn.Module, write_program: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """A program that takes one image, and one that takes any number."""
    folder = tmp_path_factory.mktemp("programs")
    return {
        "one": write_program(two_taps, folder / "one.pt2"),
        "any": write_program(two_taps, folder / "any.pt2", batch=None),
    }
