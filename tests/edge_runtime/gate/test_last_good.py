"""The copy of the bundle that last proved itself."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_runtime.bundle.bundle import Bundle
from edge_runtime.bundle.site_calibration import SiteCalibration
from edge_runtime.errors import BundleError, GateError
from edge_runtime.gate.last_good import LastGood, verified
from edge_runtime.model.preprocess import Preprocess
from edge_runtime.scoring.detector import Detector


@pytest.fixture
def place(bundle_file: Path, tmp_path: Path) -> Path:
    shutil.copy(bundle_file, tmp_path / "model.aae")
    return tmp_path


def last_good(place: Path) -> LastGood:
    return LastGood(place / "state/good.aae", place / "model.aae", Detector.load, "fp32")


def test_what_was_verified_is_kept_and_stands_in_for_what_cannot_be_used(
    place: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = last_good(place)
    digest = first.open().bundle.digest
    assert first.refused == ""
    assert Bundle.open(place / "state/good.aae").digest == digest
    whole = (place / "model.aae").read_bytes()
    for damaged in (whole[:-100], b""):
        (place / "model.aae").write_bytes(damaged)
        again = last_good(place)
        assert again.open().bundle.digest == digest
        assert again.refused
        assert "the last good bundle is used" in caplog.text
    (place / "model.aae").unlink()
    assert last_good(place).open().bundle.digest == digest


def test_a_calibration_of_the_last_good_bundle_still_counts(place: Path) -> None:
    detector = last_good(place).open()
    facts = {"model": detector.bundle.digest, "source": "camera:0", "precision": "fp32", "backend": "onnxruntime-cpu"}
    SiteCalibration.of([3.0] * 100, 0.05, **facts).save(place / "model.aae")
    (place / "model.aae").write_bytes(b"damaged")
    assert last_good(place).open().decision.threshold == 3.0


def test_a_bundle_that_fails_the_gate_here_is_not_used(
    place: Path, make_bundle: Callable[..., Bundle], make_detector_onnx: Callable[..., bytes]
) -> None:
    digest = last_good(place).open().bundle.digest
    wrong = make_bundle(Preprocess(height=8, width=8), detector_onnx=make_detector_onnx(8, 8, 1, error_scale=2.0))
    with pytest.raises(GateError, match="fails the parity gate on this machine"):
        verified(wrong, Detector.load, "fp32")
    wrong.write(place / "model.aae")
    again = last_good(place)
    assert again.open().bundle.digest == digest
    assert "parity gate" in again.refused


def test_without_a_copy_that_can_be_used_the_first_error_is_the_one_to_mend(place: Path) -> None:
    (place / "model.aae").write_bytes(b"damaged")
    with pytest.raises(BundleError, match=r"model\.aae"):
        last_good(place).open()
    (place / "state").mkdir()
    (place / "state/good.aae").write_bytes(b"damaged too")
    with pytest.raises(BundleError, match=r"model\.aae"):
        last_good(place).open()


def test_a_damaged_copy_is_replaced_and_a_disk_that_takes_none_stops_nothing(
    place: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (place / "state").mkdir()
    (place / "state/good.aae").write_bytes(b"damaged")
    digest = last_good(place).open().bundle.digest
    assert Bundle.open(place / "state/good.aae").digest == digest
    shutil.rmtree(place / "state")
    (place / "state").write_text("a file in the way")
    assert last_good(place).open().bundle.digest == digest
    assert "cannot be kept" in caplog.text
