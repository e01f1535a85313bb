"""`edge-aae compare`: the same frames by two bundles, without labels."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result

from edge_aae.cli import cli as command_line
from edge_runtime.bundle.bundle import Bundle
from edge_runtime.bundle.site_calibration import SiteCalibration
from edge_runtime.errors import BundleError, DataError, SourceError
from edge_runtime.model.images import write_image
from edge_runtime.model.score import Limit, UnionRule
from tests.edge_aae.conftest import Cli

LEVELS = (1, 2, 4, 8, 40)
"""Amplitude of each frame's noise in grey levels."""


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    """1.png to 5.png, each noisier than the one before."""
    rng = np.random.default_rng(0)
    signs = rng.choice([-1, 1], (8, 8))
    for number, level in enumerate(LEVELS, start=1):
        write_image(tmp_path / "frames" / f"{number}.png", (128 + level * signs).astype(np.uint8))
    return tmp_path / "frames"


@pytest.fixture
def bundles(make_bundle: Callable[..., Bundle], tmp_path: Path) -> tuple[Path, Path]:
    """old.aae takes frames 4 and 5 for anomalous, new.aae frames 2 to 5."""
    for name, limit in (("old", 0.2), ("new", 0.05)):
        decision = UnionRule(
            limits={
                "reconstruction_error": Limit(threshold=limit, center=0.0),
                "neg_log_prior": Limit(threshold=9.0, center=2.0),
            }
        )
        make_bundle(decision=decision).write(tmp_path / f"{name}.aae")
    return tmp_path / "old.aae", tmp_path / "new.aae"


def compare(*arguments: str | Path) -> Result:
    return CliRunner().invoke(command_line, ["compare", *map(str, arguments), "--threads", "1"])


def test_changed_verdicts_are_counted_and_shown_with_both_scores(bundles: tuple[Path, Path], frames: Path) -> None:
    done = compare(*bundles, "--frames", frames)
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    assert re.fullmatch(r"old  \S+old\.aae sha256:[0-9a-f]{12}, threshold 1", lines[0])
    assert re.fullmatch(r"new  \S+new\.aae sha256:[0-9a-f]{12}, threshold 1", lines[1])
    assert lines[2] == "5 frames: 3 verdicts the same, 2 normal -> anomalous, 0 anomalous -> normal"
    assert lines[3].split() == ["frame", "name", "old", "new"]
    assert [line.split()[0] for line in lines[4:]] == ["2", "1"], "the one whose scores lie further from the thresholds"
    assert lines[4].rstrip().endswith("normal -> anomalous")
    assert "3.png" in lines[4]


def test_the_other_way_round_the_verdicts_go_the_other_way(bundles: tuple[Path, Path], frames: Path) -> None:
    said = compare(*reversed(bundles), "--frames", frames, "--top", "1").output
    assert "0 normal -> anomalous, 2 anomalous -> normal" in said
    assert said.splitlines()[-1] == "and 1 more, which changed less"


def test_a_bundle_changes_nothing_against_itself(bundles: tuple[Path, Path], frames: Path, tmp_path: Path) -> None:
    done = compare(bundles[0], bundles[0], "--frames", frames, "--out", tmp_path / "changed")
    assert done.output.splitlines()[2:] == [
        "5 frames: 5 verdicts the same, 0 normal -> anomalous, 0 anomalous -> normal"
    ]
    assert not (tmp_path / "changed").exists()


def test_the_json_holds_counts_models_and_every_changed_frame(
    bundles: tuple[Path, Path], frames: Path, tmp_path: Path
) -> None:
    done = compare(*bundles, "--frames", frames, "--json", tmp_path / "c.json", "--top", "0", "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    found = json.loads((tmp_path / "c.json").read_text())
    assert list(found) == [
        "source_id", "old", "new", "frames", "unscored", "same", "to_anomalous", "to_normal", "changed",
        "changed_left_out",
    ]  # fmt: skip
    assert found["source_id"] == str(frames)
    assert found["new"]["model"] == f"sha256:{Bundle.open(bundles[1]).digest}"
    assert [found[key] for key in ("frames", "unscored", "same", "to_anomalous", "to_normal")] == [5, 0, 3, 2, 0]
    first = found["changed"][0]
    assert first["frame_id"] == 2
    assert first["name"] == str(frames / "3.png")
    assert first["old"]["score"] <= 1 < first["new"]["score"]
    assert (first["old"]["is_anomaly"], first["new"]["is_anomaly"]) == (False, True)
    assert Path(first["picture"]) == tmp_path / "out/000002-3.png"


def test_pictures_show_frame_and_both_maps_of_what_changed_most(
    bundles: tuple[Path, Path], frames: Path, tmp_path: Path
) -> None:
    done = compare(*bundles, "--frames", frames, "--out", tmp_path / "out", "--max-pictures", "1")
    assert done.exit_code == 0, done.output
    (picture,) = (tmp_path / "out").iterdir()
    assert picture.name == "000002-3.png", "the second of two changed frames replaced the first"
    image = cv2.imread(str(picture))
    assert image.shape[1] == 3 * 260, "three panels, each as wide as its caption needs"
    plain, old, _ = np.split(image[:256], 3, axis=1)
    np.testing.assert_array_equal(plain[..., 0], plain[..., 2])
    assert (old != plain).any()


def test_a_calibration_on_site_counts(bundles: tuple[Path, Path], frames: Path) -> None:
    digest = Bundle.open(bundles[1]).digest
    site = SiteCalibration.of([0.1] * 60, 0.05, model=digest, source="line", precision="fp32", backend="x")
    replace(site, threshold=1e6).save(bundles[1])
    said = compare(*bundles, "--frames", frames).output
    assert "threshold 1e+06" in said
    assert "0 normal -> anomalous, 2 anomalous -> normal" in said


def test_a_video_is_taken_frame_by_frame(bundles: tuple[Path, Path], tmp_path: Path) -> None:
    writer = cv2.VideoWriter(str(tmp_path / "line.avi"), cv2.VideoWriter_fourcc(*"FFV1"), 10, (32, 32))
    for _ in range(7):
        writer.write(np.full((32, 32, 3), 128, dtype=np.uint8))
    writer.release()
    assert "7 frames: 7 verdicts the same" in compare(*bundles, "--frames", tmp_path / "line.avi").output
    assert "3 frames: 3 verdicts the same" in compare(*bundles, "--frames", tmp_path / "line.avi", "--every", 3).output


def test_a_frame_that_cannot_be_read_is_counted_and_all_of_them_are_an_error(
    bundles: tuple[Path, Path], frames: Path
) -> None:
    (frames / "1.png").write_bytes(b"no image")
    said = compare(*bundles, "--frames", frames).output
    assert "frame not scored: cannot decode" in said
    assert "4 frames: 2 verdicts the same, 2 normal -> anomalous, 0 anomalous -> normal; 1 not scored" in said
    done = compare(*bundles, "--frames", frames / "1.png")
    assert isinstance(done.exception, DataError)
    assert "none of 1 frames" in str(done.exception)


def test_what_cannot_be_compared_is_an_error(bundles: tuple[Path, Path], frames: Path, tmp_path: Path) -> None:
    assert isinstance(compare(bundles[0], tmp_path / "no.aae", "--frames", frames).exception, BundleError)
    assert isinstance(compare(*bundles, "--frames", tmp_path / "nowhere").exception, SourceError)
    live = compare(*bundles, "--frames", "test://pattern")
    assert live.exit_code == 2
    assert "gives frames for ever" in live.output


def test_exit_statuses(cli: Cli, bundles: tuple[Path, Path], frames: Path, tmp_path: Path) -> None:
    assert cli("compare", *bundles, "--frames", frames, cwd=tmp_path).returncode == 0
    assert cli("compare", *bundles, "--frames", tmp_path / "nowhere", cwd=tmp_path).returncode == 4
    assert cli("compare", bundles[0], cwd=tmp_path).returncode == 2
