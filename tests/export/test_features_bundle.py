"""A bundle of `features`: exported whole, judged right, and every sabotage of its constants is caught."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
import torch

from edge_aae.cli import main
from edge_runtime import Bundle, Detector
from edge_runtime.engines.build import build_engine
from edge_runtime.engines.flavour import Flavour
from edge_runtime.errors import BackendError
from edge_runtime.gate.verification import verify_bundle
from edge_runtime.model.prior import SiteNormal, prior_from_npz
from tests.export.conftest import FEATURES_SIDE, rtx_engine_bytes
from tests.export.test_sabotage import change_initializer, changed_graph, constant_map, packed
from train.learning.scoring import raw_criteria

Array = np.ndarray[Any, Any]
GRID = FEATURES_SIDE // 16


def test_it_is_exported_in_every_precision_that_passes(features_bundle: Bundle) -> None:
    parity = features_bundle.manifest["parity"]
    assert (parity["fp32"]["shipped"], parity["int8"]["shipped"]) == (True, True)
    # Half precision moves scores by some thousandths, and blends lie astride the threshold more closely than that.
    assert parity["fp16"]["shipped"] == ("refused" not in parity["fp16"])
    assert parity["int8"]["layers"] == 28
    assert len(parity["int8"]["layers_left_out"]) == 5
    assert features_bundle.manifest["model"]["backbone"]["name"] == "efficientnet-lite0"
    assert prior_from_npz(features_bundle.files["prior.npz"]).kind == "site_normal"
    for precision in features_bundle.precisions:
        assert verify_bundle(features_bundle, precision=precision).failures() == []


def test_half_precision_keeps_scores_and_maps_near(features_run: Path) -> None:
    from export.graphs import export_half_detector
    from train.runs.run_folder import RunFolder

    trained = RunFolder(features_run).load()
    session = ort.InferenceSession(export_half_detector(trained.autoencoder, trained.prior, trained.config.preprocess))
    inputs = trained.sample_inputs[:4]
    criteria, _ = raw_criteria(trained.autoencoder, trained.prior, torch.from_numpy(inputs).permute(0, 3, 1, 2))
    found = np.concatenate([session.run(None, {session.get_inputs()[0].name: x[None]})[0] for x in inputs])
    np.testing.assert_allclose(trained.decision.score(found), trained.decision.score(criteria), rtol=0.01, atol=0.02)


def test_on_the_device_a_photograph_has_the_score_of_training(features_bundle: Bundle, features_run: Path) -> None:
    import torch

    from train.runs.run_folder import RunFolder

    trained = RunFolder(features_run).load()
    inputs = trained.sample_inputs[:4]
    criteria, _ = raw_criteria(trained.autoencoder, trained.prior, torch.from_numpy(inputs).permute(0, 3, 1, 2))
    detector = Detector.load(features_bundle.path)
    scores = [detector.score(image).score for image in inputs]
    np.testing.assert_allclose(scores, trained.decision.score(criteria), rtol=1e-3, atol=1e-3)


def constant(
    shape: tuple[int, ...], change: Callable[[Array], Array], graph: str = "detector.onnx"
) -> Callable[[Bundle], Bundle]:
    """Changes the first constant of that shape in a graph."""
    return lambda bundle: changed_graph(
        bundle, graph, lambda model: change_initializer(model, lambda name, array: array.shape == shape, change)
    )


def at(index: Any, to: Callable[[Any], Any]) -> Callable[[Array], Array]:
    def change(array: Array) -> Array:
        array[index] = to(array[index])
        return array

    return change


def prior(change: Callable[[SiteNormal], SiteNormal]) -> Callable[[Bundle], Bundle]:
    def changed(bundle: Bundle) -> Bundle:
        assert isinstance(bundle.prior, SiteNormal)
        return packed(bundle, {"prior.npz": change(bundle.prior).to_npz()})

    return changed


def another_view(bundle: Bundle) -> Bundle:
    moved = replace(bundle.preprocess, fit="letterbox", roi=(0, 0, 48, 64))
    return packed(bundle, preprocess=moved.to_json())


CHANNELS = 152
"""Of the taps, and of reduced features where the sites are few"""
SITES = (CHANNELS, GRID, GRID)
DISTRIBUTIONS = (GRID * GRID, CHANNELS, CHANNELS)
SABOTAGES: dict[str, tuple[Callable[[Bundle], Bundle], str]] = {
    "a weight of the first layer": (constant((32, 3, 3, 3), at((0, 0, 0, 0), lambda value: value + 0.2)), "latent"),
    "a channel of a later layer": (constant((96, 16, 1, 1), at(slice(0, 24), lambda value: value * 1.2)), "latent"),
    "the projection": (constant((CHANNELS, CHANNELS, 1, 1), at(slice(0, 2), lambda rows: rows[::-1])), "latent"),
    "the mean of one site": (constant(SITES, at((slice(None), 1, 2), lambda value: value + 0.3)), "latent"),
    "the distribution of one site": (constant(DISTRIBUTIONS, at(5, lambda value: value * 1.3)), "anomaly_map"),
    "the sites' order": (constant(DISTRIBUTIONS, lambda array: array[::-1]), "anomaly_map"),
    "the prototypes": (constant((1000, CHANNELS), lambda array: array * 0.5), "neighbour_distance"),
    "the view": (another_view, "preprocess: network_input"),
    "the prior's mean at one site": (
        prior(lambda density: replace(density, mean=at((0, 1, 2), lambda value: value + 0.2)(density.mean.copy()))),
        "prior.npz: neg_log_prior",
    ),
    "the prior's width": (
        prior(lambda density: replace(density, whitening=density.whitening * np.float32(1.01))),
        "prior.npz: neg_log_prior",
    ),
    "the prior's sites": (
        prior(lambda density: replace(density, whitening=density.whitening[::-1].copy())),
        "prior.npz: neg_log_prior",
    ),
    "the integer graph's means": (
        constant(SITES, lambda array: array + 20.0, "detector-int8.onnx"), "int8 onnxruntime-cpu against golden samples"
    ),
    "the integer graph's map": (
        lambda bundle: constant_map(-7.0)(bundle, {}, {}), "anomaly_map differs from golden samples: signal-to-noise"
    ),
    "the integer graph's map, as it is on average": (
        lambda bundle: constant_map(1.0)(bundle, {}, {}), "anomaly_map differs from golden samples: signal-to-noise"
    ),
}  # fmt: skip


@pytest.mark.parametrize("graph", ["detector.onnx", "encoder.onnx", "decoder.onnx"])
def test_tensorrt_rtx_parses_and_builds_the_graph(features_bundle: Bundle, graph: str) -> None:
    assert rtx_engine_bytes(features_bundle.files[graph]) > 1000


def test_tensorrt_rtx_parses_and_builds_half_precision(features_run: Path) -> None:
    from export.graphs import export_half_detector
    from train.runs.run_folder import RunFolder

    trained = RunFolder(features_run).load()
    graph = export_half_detector(trained.autoencoder, trained.prior, trained.config.preprocess)
    assert rtx_engine_bytes(graph) > 1000


def test_tensorrt_rtx_refuses_the_int8_graph_for_its_zero_points(features_bundle: Bundle) -> None:
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx has wheels for x86-64 Linux and Windows alone")
    with pytest.raises(BackendError, match="Non-zero zero point is not supported"):
        build_engine(Flavour.load("tensorrt_rtx"), features_bundle.files["detector-int8.onnx"])


def verified(path: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """Exit status of `edge-aae verify` where neither torch nor onnx can be imported."""
    for package in ("torch", "onnx"):
        monkeypatch.setitem(sys.modules, package, None)
    words = ["edge-aae", "verify", str(path), "--worst", str(path.parent / "worst"), "--backend", "onnxruntime-cpu"]
    monkeypatch.setattr("sys.argv", words)
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


@pytest.mark.parametrize("name", SABOTAGES)
def test_a_sabotage_with_its_hashes_made_right_is_told_without_torch(
    features_bundle: Bundle,
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    sabotage, cause = SABOTAGES[name]
    sabotage(features_bundle).write(tmp_path / "bad.aae")
    assert verified(tmp_path / "bad.aae", monkeypatch) == 3
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert cause in last
    assert "SHA-256" not in last


def test_the_untouched_bundle_passes_without_torch(features_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    assert verified(features_bundle.path, monkeypatch) == 0
