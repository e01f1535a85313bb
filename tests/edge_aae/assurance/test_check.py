"""`edge-aae check`: master parts come out as what they are, or the check says which do not and fails."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from edge_aae.cli import cli as command_line
from edge_runtime.bundle.bundle import Bundle
from edge_runtime.bundle.site_calibration import SiteCalibration
from edge_runtime.errors import BundleError, DataError, GateError
from edge_runtime.model.images import write_image
from tests.edge_aae.conftest import Cli

FLAT = np.full((8, 8), 128, dtype=np.uint8)
NOISE = np.random.default_rng(0).integers(0, 256, (8, 8), dtype=np.uint8)
"""To the half-means autoencoder what is flat is normal and noise is anomalous."""


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    """good/ with two flat parts, bad/ with one of noise."""
    for name, image in (("good/1.png", FLAT), ("good/10.png", FLAT), ("bad/scratch.png", NOISE)):
        write_image(tmp_path / "parts" / name, image)
    return tmp_path / "parts"


def check(*arguments: str | Path) -> Result:
    return CliRunner().invoke(command_line, ["check", *map(str, arguments), "--threads", "1"])


def test_parts_that_are_what_they_are_known_to_be_pass(parts: Path, bundle_file: Path) -> None:
    done = check(parts, "--model", bundle_file)
    assert done.exit_code == 0, done.output
    assert done.stdout == "all 3 master parts score as they should: 2 good, 1 bad, threshold 1\n"


def test_each_part_that_is_wrong_is_named_with_its_score_and_the_check_fails(parts: Path, bundle_file: Path) -> None:
    write_image(parts / "good/2.png", NOISE)
    write_image(parts / "bad/worn.png", FLAT)
    done = check(parts, "--model", bundle_file)
    assert isinstance(done.exception, GateError)
    assert "2 of 5 master parts score as they should not: 1 of 3 good, 1 of 2 bad" in str(done.exception)
    lines = done.stdout.splitlines()
    assert len(lines) == 2
    assert re.fullmatch(r"bad/worn\.png: score -?[\d.]+ <= threshold 1, normal; it should be anomalous", lines[0]), (
        lines[0]
    )
    assert re.fullmatch(r"good/2\.png: score [\d.]+ > threshold 1, anomalous; it should be normal", lines[1]), lines[1]


@pytest.mark.parametrize(("left", "said"), [("good", "2 good, 0 bad"), ("bad", "0 good, 1 bad")])
def test_one_of_the_two_folders_is_enough(parts: Path, bundle_file: Path, left: str, said: str) -> None:
    parts.joinpath({"good": "bad", "bad": "good"}[left]).rename(parts.parent / "away")
    parts.joinpath(left).rename(parts / left.upper())
    done = check(parts, "--model", bundle_file)
    assert done.exit_code == 0, done.output
    assert said in done.output


def test_a_calibration_on_site_decides_unless_a_threshold_is_named(parts: Path, bundle: Bundle, tmp_path: Path) -> None:
    bundle.write(tmp_path / "model.aae")
    site = SiteCalibration.of([0.1] * 60, 0.05, model=bundle.digest, source="line", precision="fp32", backend="x")
    replace(site, threshold=1e6).save(tmp_path / "model.aae")
    done = check(parts, "--model", tmp_path / "model.aae", "--out", tmp_path / "checks.jsonl")
    assert isinstance(done.exception, GateError)
    assert "bad/scratch.png" in done.output
    named = check(parts, "--model", tmp_path / "model.aae", "--threshold", "1", "--out", tmp_path / "checks.jsonl")
    assert named.exit_code == 0, named.output
    records = [json.loads(line) for line in (tmp_path / "checks.jsonl").read_text().splitlines()]
    assert [(record["threshold"], record["passed"]) for record in records] == [(1e6, False), (1.0, True)]


def test_each_check_adds_one_line_to_the_file(parts: Path, bundle_file: Path, bundle: Bundle, tmp_path: Path) -> None:
    out = tmp_path / "kept/checks.jsonl"
    for _ in range(2):
        assert check(parts, "--model", bundle_file, "--out", out).exit_code == 0
    lines = out.read_text().splitlines()
    assert len(lines) == 2
    record: dict[str, Any] = json.loads(lines[0])
    assert list(record) == [
        "v", "type", "source_id", "t_check", "passed", "threshold", "parts", "precision", "backend", "model",
    ]  # fmt: skip
    assert (record["v"], record["type"], record["source_id"]) == (1, "check", str(parts))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", record["t_check"])
    assert record["model"] == f"sha256:{bundle.digest}"
    assert (record["precision"], record["backend"]) == ("fp32", "onnxruntime-cpu")
    assert [part["name"] for part in record["parts"]] == ["bad/scratch.png", "good/1.png", "good/10.png"]
    assert list(record["parts"][0]) == ["name", "anomalous", "score", "is_anomaly", "right"]
    assert record["parts"][0]["anomalous"] is record["parts"][0]["is_anomaly"] is record["parts"][0]["right"] is True
    assert record["parts"][0]["score"] > 1


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda parts: parts.rename(parts.parent / "away"), "no folder of master parts at"),
        (lambda parts: [(parts / name).rename(parts / f"{name}ish") for name in ("good", "bad")],
         "has neither good/ nor bad/ in it but badish/, goodish/; sort"),
        (lambda parts: (parts / "bad/scratch.png").unlink(), "bad holds no PNG, JPEG, WebP, BMP or TIFF image"),
        (lambda parts: (parts / "bad/scratch.png").write_bytes(b"no image"),
         "1 of 3 master parts could not be scored, such as bad/scratch.png: cannot decode"),
    ],
    ids=["no folder", "neither", "empty", "unreadable"],
)  # fmt: skip
def test_parts_that_cannot_be_tried_are_an_error_and_leave_no_record(
    parts: Path, bundle_file: Path, tmp_path: Path, spoil: Callable[[Path], Any], says: str
) -> None:
    spoil(parts)
    done = check(parts, "--model", bundle_file, "--out", tmp_path / "checks.jsonl")
    assert isinstance(done.exception, DataError)
    assert says in str(done.exception)
    assert not (tmp_path / "checks.jsonl").exists()


def test_folders_of_other_names_are_said(parts: Path, bundle_file: Path) -> None:
    write_image(parts / "unsure/1.png", NOISE)
    done = check(parts, "--model", bundle_file)
    assert done.exit_code == 0
    assert "unsure is neither good/ nor bad/: its parts are not tried" in done.output


def test_a_missing_bundle_and_a_file_that_cannot_be_written_are_errors(
    parts: Path, bundle_file: Path, tmp_path: Path
) -> None:
    assert isinstance(check(parts, "--model", tmp_path / "none.aae").exception, BundleError)
    (tmp_path / "file").write_text("")
    done = check(parts, "--model", bundle_file, "--out", tmp_path / "file/checks.jsonl")
    assert isinstance(done.exception, DataError)
    assert "cannot write a record to" in str(done.exception)


def test_exit_statuses(cli: Cli, parts: Path, bundle_file: Path, tmp_path: Path) -> None:
    assert cli("check", parts, "--model", bundle_file, cwd=tmp_path).returncode == 0
    write_image(parts / "good/2.png", NOISE)
    failed = cli("check", parts, "--model", bundle_file, cwd=tmp_path)
    assert failed.returncode == 3
    assert "\nerror: 1 of 4 master parts score as they should not" in failed.stderr
    assert cli("check", tmp_path / "none", "--model", bundle_file, cwd=tmp_path).returncode == 1
    assert cli("check", parts, "--threshold", "high", cwd=tmp_path).returncode == 2
    assert cli("check", cwd=tmp_path).returncode == 2
