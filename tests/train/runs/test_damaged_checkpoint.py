"""Checkpoints and run folders from strangers: whatever is wrong with one, --resume and export say it in a line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save

import train.runs.session
from edge_runtime.errors import DataError
from tests.train.runs.test_session import interrupted
from train.data.settings import DataSettings
from train.learning.settings import TrainSettings
from train.learning.snapshot import META, Snapshot
from train.runs.run_folder import RunFolder
from train.schedule import Schedule

Tensors = dict[str, torch.Tensor]
State = dict[str, Any]
Damage = Callable[[Tensors, State], None]


@pytest.fixture(scope="module")
def broken(
    shapes: Any, quick: Callable[..., TrainSettings], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """Interrupted runs by kind of refinement; not to be changed."""
    root = tmp_path_factory.mktemp("broken")
    np.savez(root / "small.npz", images=shapes(32)[0][..., 0])
    data = DataSettings(path=str(root / "small.npz"))
    found = {}
    for refine, phase in (("none", "train"), ("itsr", "pretrain"), ("robust", "screen-1")):
        (root / refine).mkdir()
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(root / refine)
            settings = quick(refine=refine, schedule=Schedule(train=3, refine=1 if refine != "none" else 0))
            found[refine] = interrupted(data, settings, at=f"{phase} epoch 1/").absolute()
    return found


def read(path: Path) -> tuple[Tensors, State]:
    content = path.read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return load_file(path), json.loads(header["__metadata__"][META])


def position(**values: Any) -> Damage:
    return lambda _, state: state["position"].update(values)


def row(**values: Any) -> Damage:
    return lambda _, state: state["rows"][0].update(values)


def state_of(**values: Any) -> Damage:
    return lambda _, state: state.update(values)


def tensors_like(part: str, change: Callable[[torch.Tensor], torch.Tensor | None]) -> Damage:
    """Changes every tensor whose name holds the part; None takes it away."""

    def damage(tensors: Tensors, _: State) -> None:
        names = [name for name in tensors if part in name]
        for name in names:
            new = change(tensors.pop(name))
            if new is not None:
                tensors[name] = new.contiguous()

    return damage


CHANGES: dict[str, Callable[[torch.Tensor], torch.Tensor | None]] = {
    "gone": lambda _: None,
    "empty": lambda tensor: tensor.reshape(-1)[:0],
    "longer": lambda tensor: torch.cat((tensor.reshape(-1), tensor.reshape(-1)[:1])),
    "scalar": lambda tensor: torch.zeros((), dtype=tensor.dtype),
    "another dimension": lambda tensor: tensor[None],
}
PARTS = ("encoder", "exp_avg", "/step", "refinement/", "refinement/guidance", "generator")
HARMLESS = {("/step", "scalar"), ("generator", "another dimension")}
"""Another number of steps, and the same bytes"""
DAMAGES: dict[str, Damage] = {
    "a phase beyond the last": position(phase_index=99),
    "a phase before the first": position(phase_index=-1),
    "a phase in words": position(phase_index="one"),
    "half a phase": position(phase_index=0.5),
    "no phase": position(phase_index=None),
    "an epoch beyond the last": position(epoch_in_phase=10**30),
    "an epoch before the first": position(epoch_in_phase=-3),
    "a list of epochs": position(epoch_in_phase=[1]),
    "no position": state_of(position={}),
    "a position in a list": state_of(position=[1, 2]),
    "rows in words": state_of(rows="rows"),
    "rows of numbers": state_of(rows=[1]),
    "a number of rows": state_of(rows=7),
    "a row too much": row(surprise=1),
    "rows of another kind": row(epoch="first", images=None),
    "an optimiser's parameter that is none": lambda tensors, _: tensors.update(
        {"optimizer.autoencoder/99/exp_avg": torch.zeros(3)}
    ),
    "an optimiser's parameter without a number": lambda tensors, _: tensors.update(
        {"optimizer.autoencoder/x/exp_avg": torch.zeros(3)}
    ),
    "an optimiser's parameter without a name": lambda tensors, _: tensors.update(
        {"optimizer.autoencoder/1": torch.zeros(3)}
    ),
    **{
        f"{part} {name}": tensors_like(part, change)
        for part in PARTS
        for name, change in CHANGES.items()
        if (part, name) not in HARMLESS
    },
    **{
        f"{part} in words": tensors_like(part, lambda tensor: torch.zeros(tensor.shape, dtype=torch.bool))
        for part in ("generator", "refinement/", "encoder")
    },
    "weights of images not finite": tensors_like("refinement/weights", lambda tensor: tensor + float("nan")),
    "refinement/ far out": tensors_like("refinement/", lambda tensor: torch.full_like(tensor, 100)),
}


@pytest.mark.parametrize("refine", ["none", "itsr", "robust"])
@pytest.mark.parametrize("name", DAMAGES)
def test_a_run_is_not_resumed_from_a_checkpoint_that_is_not_its_own(
    broken: dict[str, Path], refine: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = RunFolder(Path(shutil.copytree(broken[refine], tmp_path / "run")))
    tensors, state = read(folder.checkpoint)
    before = save(tensors), json.dumps(state)
    DAMAGES[name](tensors, state)
    if (save(tensors), json.dumps(state)) == before:
        pytest.skip("this kind of run keeps no such thing")
    folder.checkpoint.write_bytes(save(tensors, metadata={META: json.dumps(state)}))
    kept = folder.checkpoint.read_bytes()
    with pytest.raises(DataError, match=r"checkpoint\.safetensors .*train again"):
        train.runs.session.resume(folder.path, device="cpu")
    assert folder.checkpoint.read_bytes() == kept


def test_the_checkpoint_itself_goes_on(
    broken: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for refine, path in broken.items():
        out = Path(shutil.copytree(path, tmp_path / refine))
        assert train.runs.session.resume(out, device="cpu").complete


@pytest.mark.parametrize("n_bytes", [0, 1, 7, 8, 9, 100, 5000, -1])
def test_a_checkpoint_cut_anywhere_is_refused(broken: dict[str, Path], tmp_path: Path, n_bytes: int) -> None:
    (tmp_path / "checkpoint.safetensors").write_bytes(
        (broken["none"] / "checkpoint.safetensors").read_bytes()[:n_bytes]
    )
    with pytest.raises(DataError, match=r"checkpoint\.safetensors is damaged or no safetensors file"):
        Snapshot.read(tmp_path / "checkpoint.safetensors")


HEADERS: dict[str, Any] = {
    "a huge shape": {"x": {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 4]}},
    "a negative shape": {"x": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}},
    "offsets beyond the file": {"x": {"dtype": "F32", "shape": [2**30], "data_offsets": [0, 2**32]}},
    "a type that is none": {"x": {"dtype": "F99", "shape": [1], "data_offsets": [0, 4]}},
    "a list": [],
    "a number": 7,
    "metadata in a list": {"__metadata__": []},
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_header_from_strangers_is_refused(tmp_path: Path, name: str) -> None:
    header = json.dumps(HEADERS[name]).encode()
    path = tmp_path / "checkpoint.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    with pytest.raises(DataError, match=r"checkpoint\.safetensors is "):
        Snapshot.read(path)


def test_a_header_that_says_it_is_terabytes_long_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    path.write_bytes((2**62).to_bytes(8, "little") + b"{}")
    with pytest.raises(DataError, match="damaged or no safetensors file"):
        Snapshot.read(path)
