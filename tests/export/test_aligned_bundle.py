"""From photographs of a part at any angle to a bundle whose heatmaps mark the defect where it is in the frame."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_runtime.bundle.bundle import Bundle
from edge_runtime.bundle.golden import Golden, hashes_of
from edge_runtime.gate.verification import verify_bundle
from edge_runtime.scoring.detector import Detector
from export.bundling import ExportRequest, export_bundle
from tests.turned_part import defect_place, part_frame
from train.data.settings import DataSettings
from train.evaluation.run_scorer import RunScorer
from train.learning.settings import TrainSettings
from train.runs.run_folder import RunFolder
from train.runs.session import train
from train.schedule import Schedule

MIDDLE = (146.0, 118.0)


@pytest.fixture(scope="module")
def run_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short run on 24 photographs, its view turned along the part."""
    root = tmp_path_factory.mktemp("aligned")
    rng = np.random.default_rng(0)
    (root / "parts").mkdir()
    for index in range(24):
        middle = tuple(rng.uniform((110, 100), (190, 140)))
        cv2.imwrite(str(root / f"parts/{index:02d}.png"), part_frame(rng.uniform(0, 360), middle, seed=index))
    settings = TrainSettings(network="conv", refine="none", latent_dim=4, schedule=Schedule(train=8), batch_size=8)
    data = DataSettings(path=str(root / "parts"), align="turn", imgsz=(48, 96))
    train(data, settings, root / "run", announce=False)
    return root / "run"


@pytest.fixture(scope="module")
def bundle(run_path: Path) -> Bundle:
    return export_bundle(run_path, run_path / "model.aae", ExportRequest(precisions=("fp32",))).bundle


def test_the_bundle_holds_the_view_and_agrees_with_itself(run_path: Path, bundle: Bundle) -> None:
    run = RunFolder(run_path).load()
    assert run.config.data.align == "turn"
    assert bundle.preprocess == run.config.preprocess
    assert bundle.preprocess.align is not None
    assert len(Golden.from_npz(bundle.files["golden.npz"]).raw_views) == len(run.raw_frames) > 0
    report = verify_bundle(bundle)
    assert report.passed, report.failures()
    assert {"preprocess: view", "preprocess: network_input"} <= {item.where for item in report.comparisons}


@pytest.mark.parametrize("angle", [20, 155, 290])
def test_the_defect_is_marked_where_it_is(bundle: Bundle, run_path: Path, angle: int) -> None:
    frame = part_frame(angle, MIDDLE, defect=True)
    detector = Detector.load(bundle)
    result = detector.score(frame)
    assert result.score > detector.score(part_frame(angle, MIDDLE)).score
    in_torch = RunScorer(run_path).score(frame)
    for heat in (result.heatmap(frame.shape), in_torch.heatmap()):
        row, column = np.unravel_index(int(heat.argmax()), heat.shape)
        assert (column, row) == pytest.approx(defect_place(angle, MIDDLE), abs=10)


@pytest.mark.parametrize("change", ["box", "mode"])
def test_a_sabotaged_view_is_caught_even_with_its_hash_renewed(bundle: Bundle, change: str) -> None:
    align = bundle.preprocess.align
    assert align is not None
    other = replace(align, width=1.05 * align.width) if change == "box" else replace(align, mode="centre")
    manifest = {**bundle.manifest, "preprocess": replace(bundle.preprocess, align=other).to_json()}
    sabotaged = Bundle.from_parts(manifest, bundle.files, Path("sabotaged.aae"))
    report = verify_bundle(sabotaged)
    assert not report.passed
    assert report.altered == ("manifest.preprocess",)
    golden = Golden.from_npz(bundle.files["golden.npz"])
    resealed = replace(golden, hashes=hashes_of(manifest, bundle.files)).to_npz()
    report = verify_bundle(Bundle.from_parts(manifest, {**bundle.files, "golden.npz": resealed}, Path("resealed.aae")))
    assert report.altered == ()
    assert [item.where for item in report.comparisons if not item.passed] == ["preprocess: view"]
