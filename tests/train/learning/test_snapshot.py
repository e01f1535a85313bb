from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from edge_runtime.errors import DataError
from train.learning.settings import TrainSettings
from train.learning.snapshot import Snapshot, load_weights, restore_learner, snapshot_learner
from train.learning.task import Task
from train.learning.trainer import Trainer
from train.networks.registry import build_autoencoder
from train.strategies.plain import PlainTraining

Shapes = Callable[..., tuple[NDArray[np.uint8], NDArray[np.int64]]]
Quick = Callable[..., TrainSettings]


@pytest.fixture
def trained(shapes: Shapes, quick: Quick) -> Trainer:
    trainer = Trainer(PlainTraining(Task.of(quick(), shapes(32)[0], torch.device("cpu"))))
    trainer.run()
    return trainer


def test_a_snapshot_read_back_is_the_one_written(trained: Trainer, tmp_path: Path) -> None:
    snapshot = trained.snapshot()
    snapshot.write(tmp_path / "checkpoint.safetensors")
    again = Snapshot.read(tmp_path / "checkpoint.safetensors")
    assert sorted(again.tensors) == sorted(snapshot.tensors)
    for name, tensor in snapshot.tensors.items():
        assert again.tensors[name].dtype == tensor.dtype
        assert torch.equal(again.tensors[name], tensor), name
    assert sorted(again.refinement) == sorted(snapshot.refinement)
    for name, array in snapshot.refinement.items():
        assert again.refinement[name].dtype == array.dtype
        np.testing.assert_array_equal(again.refinement[name], array)
    assert again.position == snapshot.position
    assert again.rows == snapshot.rows


def test_a_snapshot_holds_weights_of_every_network_and_the_state_of_both_optimisers(trained: Trainer) -> None:
    names = trained.snapshot().tensors
    groups = {name.split(".")[0] for name in names}
    assert groups == {"encoder", "decoder", "discriminator", "optimizer", "generator"}
    modules = {"autoencoder": trained.strategy.autoencoder, "discriminator": trained.strategy.learner.discriminator}
    for optimizer, module in modules.items():
        assert module is not None
        for index, parameter in enumerate(module.parameters()):
            assert names[f"optimizer.{optimizer}/{index}/exp_avg"].shape == parameter.shape
            assert names[f"optimizer.{optimizer}/{index}/exp_avg_sq"].shape == parameter.shape
            assert names[f"optimizer.{optimizer}/{index}/step"] == 4, "two epochs of two batches"


def test_a_snapshot_does_not_change_while_training_goes_on(trained: Trainer) -> None:
    snapshot = trained.snapshot()
    before = {name: tensor.clone() for name, tensor in snapshot.tensors.items()}
    trained.strategy.learner.step(torch.rand(4, 1, 16, 16), torch.ones(4), torch.randn(4, 2), error_cap=math.inf)
    assert all(torch.equal(tensor, before[name]) for name, tensor in snapshot.tensors.items())
    after = snapshot_learner(trained.strategy.learner)
    assert not torch.equal(after["optimizer.autoencoder/0/exp_avg"], before["optimizer.autoencoder/0/exp_avg"])


def test_a_restored_learner_steps_as_the_original_would_have(trained: Trainer) -> None:
    batch = (torch.rand(4, 1, 16, 16), torch.ones(4), torch.randn(4, 2))
    kept = snapshot_learner(trained.strategy.learner)
    trained.strategy.learner.step(*batch, error_cap=math.inf)
    first = snapshot_learner(trained.strategy.learner)
    for _ in range(3):
        trained.strategy.learner.step(*batch, error_cap=math.inf)
    restore_learner(trained.strategy.learner, kept)
    trained.strategy.learner.step(*batch, error_cap=math.inf)
    second = snapshot_learner(trained.strategy.learner)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_missing_snapshot_is_refused_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot read .*none\.safetensors: No such file"):
        Snapshot.read(tmp_path / "none.safetensors")


@pytest.mark.parametrize("content", [b"", b"\x80\x04K\x01.", b"{}", b"\xff" * 64])
def test_a_file_of_another_kind_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "checkpoint.safetensors"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"is damaged or no safetensors file: .*train again"):
        Snapshot.read(path)


def test_a_snapshot_cut_short_is_refused(trained: Trainer, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    trained.snapshot().write(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"checkpoint\.safetensors is damaged or no safetensors file"):
        Snapshot.read(path)


@pytest.mark.parametrize("metadata", [{}, {"state": "no JSON"}])
def test_safetensors_without_a_run_s_state_are_no_checkpoint(tmp_path: Path, metadata: dict[str, str]) -> None:
    path = tmp_path / "weights.safetensors"
    save_file({"encoder.0.weight": torch.zeros(2)}, path, metadata=metadata)
    with pytest.raises(DataError, match=r"weights\.safetensors is no checkpoint of edge-aae: .*train again"):
        Snapshot.read(path)


def test_a_state_that_lacks_its_position_is_no_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    save_file({"encoder.0.weight": torch.zeros(2)}, path, metadata={"state": json.dumps({"rows": []})})
    with pytest.raises(DataError, match=r"is no checkpoint of edge-aae"):
        Snapshot.read(path)


def test_weights_load_into_the_network_they_belong_to(trained: Trainer, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in snapshot_learner(trained.strategy.learner).items()}, path)
    fresh = build_autoencoder("conv", channels=1, height=16, width=16, latent_dim=2, batch_norm=True).eval()
    load_weights(path, {"encoder": fresh.encoder, "decoder": fresh.decoder})
    x = torch.rand(3, 1, 16, 16)
    with torch.no_grad():
        expected = trained.strategy.autoencoder.eval()(x)
        for loaded, original in zip(fresh(x), expected, strict=True):
            torch.testing.assert_close(loaded, original)


def test_weights_of_another_network_are_refused(trained: Trainer, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in snapshot_learner(trained.strategy.learner).items()}, path)
    other = build_autoencoder("conv", channels=1, height=16, width=16, latent_dim=7, batch_norm=True)
    with pytest.raises(DataError, match=r"weights\.safetensors does not fit the network of its config\.json"):
        load_weights(path, {"encoder": other.encoder, "decoder": other.decoder})
