"""A bundle of `features`: exported whole, judged right, and every sabotage of its constants is caught."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edge_runtime import Bundle, Detector
from edge_runtime.gate.verification import verify_bundle
from edge_runtime.model.prior import prior_from_npz
from tests.export.conftest import FEATURES_SIDE
from tests.export.test_sabotage import change_initializer, changed_graph, packed
from train.learning.scoring import raw_criteria

Array = np.ndarray[Any, Any]
GRID = FEATURES_SIDE // 16


def test_it_is_exported_in_every_precision(features_bundle: Bundle) -> None:
    parity = features_bundle.manifest["parity"]
    assert parity["fp16"].get("refused", "") == ""
    assert [parity[name]["shipped"] for name in ("fp32", "fp16", "int8")] == [True, True, True]
    assert parity["int8"]["layers"] == 28
    assert len(parity["int8"]["layers_left_out"]) == 5
    assert features_bundle.manifest["model"]["backbone"]["name"] == "efficientnet-lite0"
    assert prior_from_npz(features_bundle.files["prior.npz"]).kind == "site_normal"
    for precision in ("fp32", "fp16", "int8"):
        assert verify_bundle(features_bundle, precision=precision).failures() == []


def test_on_the_device_a_photograph_has_the_score_of_training(features_bundle: Bundle, features_run: Path) -> None:
    import torch

    from train.runs.run_folder import RunFolder

    trained = RunFolder(features_run).load()
    inputs = trained.sample_inputs[:4]
    criteria, _ = raw_criteria(trained.autoencoder, trained.prior, torch.from_numpy(inputs).permute(0, 3, 1, 2))
    detector = Detector.load(features_bundle.path)
    scores = [detector.score(image).score for image in inputs]
    np.testing.assert_allclose(scores, trained.decision.score(criteria), rtol=1e-3, atol=1e-3)


def changed_constant(shape: tuple[int, ...], change: Callable[[Array], Array]) -> Callable[[onnx.ModelProto], None]:
    return lambda model: change_initializer(model, lambda name, array: array.shape == shape, change)


def at(index: Any, to: Callable[[Any], Any]) -> Callable[[Array], Array]:
    def change(array: Array) -> Array:
        array[index] = to(array[index])
        return array

    return change


CONSTANTS = {
    "a weight of the first layer": ((32, 3, 3, 3), at((0, 0, 0, 0), lambda value: value + 0.2)),
    "a channel of a later layer": ((96, 16, 1, 1), at(slice(0, 24), lambda value: value * 1.2)),
    "the projection": ((64, 152, 1, 1), at(slice(0, 2), lambda rows: rows[::-1])),
    "the mean of one site": ((64, GRID, GRID), at((slice(None), 1, 2), lambda value: value + 0.3)),
    "the distribution of one site": ((GRID * GRID, 64, 64), at(5, lambda value: value * 1.3)),
    "the sites' order": ((GRID * GRID, 64, 64), lambda array: array[::-1]),
}


@pytest.mark.parametrize("name", CONSTANTS)
def test_a_changed_constant_is_caught(features_bundle: Bundle, name: str) -> None:
    sabotaged = changed_graph(features_bundle, "detector.onnx", changed_constant(*CONSTANTS[name]))
    assert verify_bundle(sabotaged).failures()


def test_changed_prototypes_and_another_view_are_caught(features_bundle: Bundle) -> None:
    halved = changed_graph(features_bundle, "detector.onnx", changed_constant((1000, 64), lambda array: array * 0.5))
    assert verify_bundle(halved).failures()
    stretched = replace(features_bundle.preprocess, fit="letterbox", roi=(0, 0, 48, 64))
    assert verify_bundle(packed(features_bundle, preprocess=stretched.to_json())).failures()
