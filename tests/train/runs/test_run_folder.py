from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from edge_runtime.errors import ConfigError, DataError
from edge_runtime.npz import npz_bytes
from train.runs.run_folder import (
    RunConfig,
    RunFolder,
    default_run_path,
    latest_run,
    point_latest_at,
    telling_name,
)


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def run(finished_run: Any, tmp_path: Path) -> RunFolder:
    """A copy of a finished run, to be damaged."""
    return RunFolder(Path(shutil.copytree(finished_run.path, tmp_path / "run")))


def edit_json(path: Path, edit: Callable[[Any], Any]) -> None:
    path.write_text(json.dumps(edit(json.loads(path.read_text()))))


def without(key: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda values: {name: value for name, value in values.items() if name != key}


# config.json


def test_the_configuration_survives_json(run: RunFolder) -> None:
    config = run.read_config()
    assert RunConfig.from_json(json.loads(json.dumps(config.to_json()))) == config
    assert config.to_json()["version"] == 1


def test_the_configuration_written_is_the_one_read(run: RunFolder, tmp_path: Path) -> None:
    config = run.read_config()
    RunFolder(tmp_path / "other").write_config(config)
    assert RunFolder(tmp_path / "other").read_config() == config


def test_a_folder_without_config_is_no_run_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is no run folder: it has no config\.json; expected what `edge-aae train`"):
        RunFolder(tmp_path).read_config()


def test_a_config_of_another_version_is_refused_with_both_versions(run: RunFolder) -> None:
    edit_json(run.config, lambda values: {**values, "version": 7})
    with pytest.raises(DataError, match=r"config\.json has version 7, this release reads 1; train again"):
        run.read_config()


@pytest.mark.parametrize(
    "edit",
    [
        without("images_sha256"),
        without("data"),
        without("preprocess"),
        lambda values: {**values, "colour": "blue"},
        lambda values: {**values, "train": {**values["train"], "dropout": 0.5}},
        lambda values: {**values, "train": {**values["train"], "network": "vgg"}},
        lambda values: {**values, "preprocess": {**values["preprocess"], "fit": "zoom"}},
        lambda values: {**values, "train": None},
    ],
    ids=[
        "no-fingerprint",
        "no-data",
        "no-preprocess",
        "unknown-key",
        "unknown-setting",
        "unknown-network",
        "unknown-fit",
        "no-settings",
    ],
)
def test_a_config_with_other_keys_or_values_is_refused_with_its_path(
    run: RunFolder, edit: Callable[[Any], Any]
) -> None:
    edit_json(run.config, edit)
    with pytest.raises(DataError, match=r"run/config\.json: "):
        run.read_config()


@pytest.mark.parametrize("text", ["", "{", "[]", "7", "\x80"])
def test_a_config_that_is_no_json_object_is_refused(run: RunFolder, text: str) -> None:
    run.config.write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match=r"config\.json is no JSON: .*train again"):
        run.read_config()


# Reading a run back


def test_a_run_reads_back_with_network_prior_thresholds_and_samples(run: RunFolder, finished_run: Any) -> None:
    loaded = run.load()
    assert loaded.path == run.path
    assert loaded.config.train == replace(finished_run.settings, amp=False)  # what the device decided
    assert not loaded.autoencoder.training
    assert loaded.prior.dim == 4
    numbers = json.loads(run.calibration.read_text())
    assert loaded.calibration == numbers["calibration"]
    assert loaded.decision.to_json() == numbers["decision"]
    assert loaded.sample_inputs.shape[1:] == (16, 16, 1)
    assert [frame.shape for frame in loaded.raw_frames] == [(16, 16)] * 4


@pytest.mark.parametrize("name", ["weights.safetensors", "calibration.json", "samples.npz"])
def test_a_run_that_has_not_got_far_enough_says_what_it_lacks(run: RunFolder, name: str) -> None:
    (run.path / name).unlink()
    with pytest.raises(DataError, match=rf"lacks {name}: training has not got that far; finish it with .*--resume"):
        run.load()


def test_cut_weights_are_refused(run: RunFolder) -> None:
    run.weights.write_bytes(run.weights.read_bytes()[:-50])
    with pytest.raises(DataError, match=r"weights\.safetensors is damaged or no safetensors file"):
        run.load()


def test_pickled_weights_are_refused(run: RunFolder) -> None:
    torch.save({"encoder.0.weight": torch.zeros(1)}, run.weights)
    with pytest.raises(DataError, match=r"weights\.safetensors is damaged or no safetensors file"):
        run.load()


def test_weights_that_lack_a_layer_are_refused(run: RunFolder) -> None:
    weights = load_file(run.weights)
    del weights["decoder.0.weight"]
    save_file(weights, run.weights)
    with pytest.raises(DataError, match=r"(?s)does not fit the network of its config\.json: .*Missing key.*0\.weight"):
        run.load()


@pytest.mark.parametrize(
    "edit",
    [
        without("decision"),
        without("calibration"),
        lambda values: [],
        lambda values: {**values, "decision": []},
        lambda values: {**values, "decision": {**values["decision"], "rule": "other"}},
    ],
    ids=["no-decision", "no-numbers", "a-list", "decision-a-list", "another-rule"],
)
def test_a_calibration_that_cannot_be_used_is_refused(run: RunFolder, edit: Callable[[Any], Any]) -> None:
    edit_json(run.calibration, edit)
    with pytest.raises(DataError, match=r"calibration\.json cannot be used: .*train again"):
        run.load()


def test_samples_that_are_a_pickle_are_refused(run: RunFolder) -> None:
    run.samples.write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(DataError, match=r"samples\.npz is a Python pickle"):
        run.load()


def test_samples_without_inputs_are_refused(run: RunFolder) -> None:
    np.savez(run.samples, frame_0=np.zeros((4, 4), dtype=np.uint8))
    with pytest.raises(DataError, match=r"samples\.npz"):
        run.load()


# Where runs lie


@pytest.mark.parametrize(
    ("data", "name"),
    [
        ("tiles", "tiles"),
        ("tiles/train/good", "tiles"),
        ("tiles/Train/Images", "tiles"),
        ("tiles/data/normal/", "tiles"),
        ("line 3 (left)", "line-3-left-"),
    ],
)
def test_a_run_is_named_after_the_first_telling_folder(tmp_path: Path, data: str, name: str) -> None:
    (tmp_path / data).mkdir(parents=True)
    assert telling_name(data) == name
    assert default_run_path(data) == Path("runs") / f"{name}-1"


def test_a_run_on_a_file_is_named_after_it_without_its_suffix(tmp_path: Path) -> None:
    (tmp_path / "mnist.npz").write_bytes(b"")
    assert default_run_path("mnist.npz") == Path("runs/mnist-1")


def test_a_data_path_that_goes_up_is_named_after_the_folder_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "tiles/train").mkdir(parents=True)
    (tmp_path / "work").mkdir()
    assert telling_name("work/../tiles/train") == "tiles"
    assert telling_name("tiles/train/..") == "tiles"


def test_run_numbers_count_on_from_the_highest(tmp_path: Path) -> None:
    for name in ("tiles-1", "tiles-9", "tiles-10", "tiles-x", "other-40", "tiles-99-old"):
        (tmp_path / "runs" / name).mkdir(parents=True)
    assert default_run_path("tiles") == Path("runs/tiles-11")


def test_latest_points_at_the_newest_run(tmp_path: Path) -> None:
    for name in ("tiles-1", "tiles-2"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        point_latest_at(Path("runs") / name)
        assert latest_run() == Path("runs") / name
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["latest", "tiles-1", "tiles-2"]


def test_latest_survives_moving_the_folder_above(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "project/runs/tiles-1").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "project")
    point_latest_at(Path("runs/tiles-1"))
    (tmp_path / "project").rename(tmp_path / "moved")
    monkeypatch.chdir(tmp_path / "moved")
    assert latest_run() == Path("runs/tiles-1")


def test_latest_can_point_outside_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    point_latest_at(tmp_path / "elsewhere")
    assert latest_run() == (tmp_path / "elsewhere").resolve()


def test_without_a_run_latest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no run folder named and no runs/latest here; train first: edge-aae train"):
        latest_run()
    (tmp_path / "runs/gone").mkdir(parents=True)
    point_latest_at(Path("runs/gone"))
    (tmp_path / "runs/gone").rmdir()
    with pytest.raises(DataError, match=r"no runs/latest here"):
        latest_run()


def test_values_without_a_version_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"config\.json has version None, this release reads 1"):
        RunConfig.from_json({})


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("inputs", np.zeros((3, 16, 16, 1)), r"has inputs \(3, 16, 16, 1\) float64, expected \(N, 16, 16, 1\) uint8"),
        ("inputs", np.zeros((0, 16, 16, 1), dtype=np.uint8), r"has inputs \(0, 16, 16, 1\) uint8"),
        ("inputs", np.zeros((3, 16, 8, 1), dtype=np.uint8), r"has inputs \(3, 16, 8, 1\) uint8"),
        ("inputs", np.zeros((1, 3, 16, 16, 1), dtype=np.uint8), r"has inputs \(1, 3, 16, 16, 1\) uint8"),
        ("inputs", np.uint8(3), r"has inputs \(\) uint8"),
        ("inputs", np.array("images"), r"has inputs \(\) <U6"),
        (
            "frame_0",
            np.zeros((4, 4), dtype=np.float32),
            r"has frame_0 \(4, 4\) float32, expected \(H, W\[, 3\]\) uint8",
        ),
        ("frame_0", np.uint8(3), r"has frame_0 \(\) uint8"),
    ],
)
def test_samples_of_another_shape_or_kind_are_refused(run: RunFolder, name: str, array: Any, message: str) -> None:
    with np.load(run.samples) as samples:
        run.samples.write_bytes(npz_bytes({**samples, name: array}))
    with pytest.raises(DataError, match=message):
        run.load()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("latent_dim", 10**12, r"tells of 1000000000000 latent dimensions, for which weights\.safetensors with"),
        ("latent_dim", 1e300, r"values of another kind: latent_dim 1e\+300"),
        ("latent_dim", True, "values of another kind: latent_dim True"),
        ("batch_size", 32.0, r"values of another kind: batch_size 32\.0"),
    ],
)
def test_a_config_of_a_network_that_cannot_be_is_refused(run: RunFolder, key: str, value: Any, message: str) -> None:
    edit_json(run.config, lambda values: {**values, "train": {**values["train"], key: value}})
    with pytest.raises(DataError, match=message):
        run.load()


@pytest.mark.parametrize("value", [7, None, ["a"]])
def test_a_config_whose_data_path_is_no_text_is_refused(run: RunFolder, value: Any) -> None:
    edit_json(run.config, lambda values: {**values, "data": {**values["data"], "path": value}})
    with pytest.raises(DataError, match="values of another kind: path"):
        run.load()
