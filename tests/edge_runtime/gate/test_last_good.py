"""The copy of the bundle that last proved itself."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_runtime.bundle.bundle import Bundle
from edge_runtime.bundle.site_calibration import SiteCalibration
from edge_runtime.errors import BundleError, GateError
from edge_runtime.gate.last_good import LastGood, verified
from edge_runtime.gate.trial import Trial
from edge_runtime.model.preprocess import Preprocess
from edge_runtime.model.score import Limit, UnionRule
from edge_runtime.scoring.detector import Detector
from edge_runtime.signing.signatures import read_signatures, signature_path
from tests.signing import key_of, signed


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


def refuses_to_be_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Trial, "of", lambda *_: pytest.fail("it is tried again"))


def mark_of(place: Path) -> Path:
    return place / "state/good.aae.trying"


def test_what_is_good_already_is_not_tried_again(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    last_good(place).open()
    refuses_to_be_tried(monkeypatch)
    assert last_good(place).open().bundle.digest


def another(place: Path, make_bundle: Callable[..., Bundle]) -> None:
    """Another bundle at the path, as good as the first."""
    make_bundle(decision=UnionRule(limits={"reconstruction_error": Limit(threshold=2.0, center=0.5)})).write(
        place / "model.aae"
    )


@pytest.mark.parametrize("breaks", [TypeError("of a kind nobody foresaw"), MemoryError(), RecursionError()])
def test_any_exception_of_a_new_bundle_leads_to_the_copy(
    place: Path, make_bundle: Callable[..., Bundle], monkeypatch: pytest.MonkeyPatch, breaks: Exception
) -> None:
    digest = last_good(place).open().bundle.digest
    another(place, make_bundle)

    def breaking(*_: object) -> None:
        raise breaks

    monkeypatch.setattr(Trial, "of", breaking)
    again = last_good(place)
    assert again.open().bundle.digest == digest
    assert not mark_of(place).exists()


def test_a_bundle_that_ended_a_run_is_not_tried_again(place: Path, make_bundle: Callable[..., Bundle]) -> None:
    digest = last_good(place).open().bundle.digest
    another(place, make_bundle)
    code = f"""
import os, signal
from pathlib import Path
from edge_runtime.gate.last_good import LastGood
from edge_runtime.gate.trial import Trial
Trial.of = lambda *_: None
def ends(bundle):
    os.kill(os.getpid(), signal.{{signal}})
LastGood(Path({str(place / "state/good.aae")!r}), Path({str(place / "model.aae")!r}), ends, "fp32").open()
"""
    stopped = subprocess.run([sys.executable, "-c", code.format(signal="SIGTERM")], env={**os.environ})
    assert stopped.returncode == -signal.SIGTERM
    assert not mark_of(place).exists(), "who stops a service says nothing about its bundle"
    crashed = subprocess.run([sys.executable, "-c", code.format(signal="SIGKILL")], env={**os.environ})
    assert crashed.returncode == -signal.SIGKILL
    assert mark_of(place).exists()
    again = last_good(place)
    assert again.open().bundle.digest == digest
    assert "was being tried when a run ended without a word" in again.refused
    mark_of(place).unlink()
    assert last_good(place).open().bundle.digest != digest


def test_a_mark_of_before_a_power_cut_counts_from_the_second_time_on(
    place: Path, make_bundle: Callable[..., Bundle]
) -> None:
    digest = last_good(place).open().bundle.digest
    another(place, make_bundle)
    sha256 = hashlib.sha256((place / "model.aae").read_bytes()).hexdigest()
    for times, is_tried in ((2, False), (1, True)):
        mark_of(place).write_text(json.dumps({"sha256": sha256, "boot": "another", "times": times}))
        assert (last_good(place).open().bundle.digest != digest) == is_tried
    mark_of(place).write_text("[]")
    assert last_good(place).open()


def test_a_folder_is_tried_and_kept_too(place: Path, bundle: Bundle) -> None:
    bundle.write_folder(place / "folder")
    kept = LastGood(place / "state/good.aae", place / "folder", Detector.load, "fp32")
    assert kept.open().bundle.digest == bundle.digest
    (place / "folder/prior.npz").write_bytes(b"altered")
    assert kept.open().bundle.digest == bundle.digest
    assert kept.refused


def signed_last_good(place: Path, trusted: Path) -> LastGood:
    trial = Trial(require_signature=str(trusted))
    return LastGood(place / "state/good.aae", place / "model.aae", Detector.load, "fp32", trial)


def test_a_signed_bundle_is_kept_with_its_signature_and_stands_in_for_one_without(
    place: Path, make_bundle: Callable[..., Bundle]
) -> None:
    trusted = signed(place / "model.aae", place / "release")
    digest = signed_last_good(place, trusted).open().bundle.digest
    copy = place / "state/good.aae"
    assert copy.read_bytes() == (place / "model.aae").read_bytes()
    assert signature_path(copy).read_bytes() == signature_path(place / "model.aae").read_bytes()
    another(place, make_bundle)
    for says in ("does not match its signature", "is not signed"):
        again = signed_last_good(place, trusted)
        detector = again.open()
        assert says in again.refused
        assert (detector.bundle.digest, detector.bundle.path) == (digest, place / "model.aae")
        assert detector.bundle.signed_by == read_signatures(copy)[0].name
        signature_path(place / "model.aae").unlink(missing_ok=True)
    signed(place / "model.aae", place / "release")
    assert signed_last_good(place, trusted).open().bundle.digest != digest
    assert copy.read_bytes() == (place / "model.aae").read_bytes()


def test_a_copy_that_no_trusted_key_signed_is_never_fallen_back_on(
    place: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Whether it was kept before a signature was required, altered since, or signed by a key that was taken away."""
    whole = (place / "model.aae").read_bytes()
    last_good(place).open()
    trusted = signed(place / "model.aae", place / "release")
    key_of(place / "next")
    copy = place / "state/good.aae"
    assert copy.exists()

    def refused(keys: Path, says: str) -> None:
        (place / "model.aae").write_bytes(b"damaged")
        caplog.clear()
        with pytest.raises(BundleError, match=r"model\.aae"):
            signed_last_good(place, keys).open()
        assert f"nor is {copy}, the last good one: {copy} {says}" in caplog.text
        (place / "model.aae").write_bytes(whole)

    refused(trusted, "is not signed")
    signed_last_good(place, trusted).open()
    assert signature_path(copy).exists(), "the copy of before is replaced by one with a signature"
    refused(place / "next.pub", "is signed by")
    copy.write_bytes(whole[:-1])
    refused(trusted, "does not match its signature")


def test_where_signatures_are_no_longer_required_none_is_left_beside_the_copy(
    place: Path, make_bundle: Callable[..., Bundle]
) -> None:
    signed_last_good(place, signed(place / "model.aae", place / "release")).open()
    assert signature_path(place / "state/good.aae").exists()
    another(place, make_bundle)
    last_good(place).open()
    assert not signature_path(place / "state/good.aae").exists()
