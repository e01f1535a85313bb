"""Picture quality as a user has it: run and score, what is unknown, and bundles that do not know what is usual."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray

from edge_aae.cli import cli as command_line
from edge_runtime.bundle.bundle import Bundle
from edge_runtime.errors import BundleError
from edge_runtime.model.image_quality import limits_of, measured
from edge_runtime.model.images import write_image
from edge_runtime.model.preprocess import Preprocess
from tests.edge_aae.conftest import Cli
from tests.edge_aae.road.test_errors import assert_one_line

THRESHOLD = "6"
"""Above what fine texture gives the network, which sees frames at half their size, far below what a square does"""

Frame = NDArray[np.uint8]


def scene(seed: int) -> Frame:
    noise = np.random.default_rng(seed).normal(0.0, 12.0, (120, 200)).astype(np.float32)
    return np.clip(110.0 + cv2.GaussianBlur(noise, (0, 0), 0.6), 0, 255).astype(np.uint8)


def squared(frame: Frame) -> Frame:
    marked = frame.copy()
    marked[40:80, 30:70] = 255
    return marked


def pictures() -> dict[str, Frame]:
    dark = (scene(2) // 4).astype(np.uint8)
    return {
        "good": scene(1),
        "blurred": cv2.GaussianBlur(scene(3), (0, 0), 2.0),
        "dark": dark,
        "defect": squared(scene(4)),
        "dark_defect": squared(dark),
    }


@pytest.fixture
def old_model(make_bundle: Callable[..., Bundle], tmp_path: Path) -> Path:
    """A bundle of before, which keeps no limits."""
    bundle = make_bundle(Preprocess(height=60, width=100))
    Bundle.from_parts(bundle.manifest, bundle.files, bundle.path).write(tmp_path / "old.aae")
    return tmp_path / "old.aae"


@pytest.fixture
def model(old_model: Path, tmp_path: Path) -> Path:
    """The same with limits of forty scenes."""
    bundle, limits = Bundle.open(old_model), limits_of([measured(scene(seed)) for seed in range(100, 140)])
    assert limits is not None
    calibration = {**bundle.manifest["calibration"], "image_quality": limits.to_json()}
    manifest = {**bundle.manifest, "calibration": calibration}
    Bundle.from_parts(manifest, bundle.files, bundle.path).write(tmp_path / "model.aae")
    return tmp_path / "model.aae"


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for name, picture in pictures().items():
        write_image(tmp_path / "images" / ("bad" if "defect" in name else "good") / f"{name}.png", picture)
    return tmp_path / "images"


def invoked(*arguments: str | Path) -> Any:
    return CliRunner().invoke(command_line, [*map(str, arguments), "--threshold", THRESHOLD, "--threads", "1"])


def done(*arguments: str | Path) -> str:
    found = invoked(*arguments)
    assert found.exit_code == 0, (found.output, found.exception)
    return str(found.stdout)


def records(*arguments: str | Path) -> dict[str, dict[str, Any]]:
    lines = map(json.loads, done("run", *arguments).splitlines())
    return {Path(line["name"]).stem: line for line in lines if line["type"] == "frame"}


def kinds(record: dict[str, Any]) -> set[str]:
    quality = record["image_quality"]
    assert quality is None or quality["code"] == "IMAGE_QUALITY"
    return set() if quality is None else {fault["what"] for fault in quality["faults"]}


def test_records_say_what_is_wrong_with_a_picture_and_decide_as_before(
    model: Path, old_model: Path, images: Path
) -> None:
    found, before = (records("--source", images, "--model", path) for path in (model, old_model))
    assert kinds(found["good"]) == set()
    assert kinds(found["blurred"]) == {"blurred along rows", "blurred along columns"}
    assert "dark" in kinds(found["dark"])
    assert "dark" in kinds(found["dark_defect"])
    fault = next(fault for fault in found["dark"]["image_quality"]["faults"] if fault["what"] == "dark")
    assert fault["value"] < fault["limit"]
    for name, record in before.items():
        assert "image_quality" not in record
        assert [record[key] == found[name][key] for key in ("score", "is_anomaly", "state")] == [True] * 3
    assert [found[name]["is_anomaly"] for name in pictures()] == [False, False, False, True, True]


def test_an_unknown_frame_is_neither_normal_nor_anomalous_and_no_anomaly_is_hidden(model: Path, images: Path) -> None:
    found = records("--source", images, "--model", model, "--bad-image", "unknown")
    assert {name: (found[name]["is_anomaly"], found[name]["state"]) for name in pictures()} == {
        "good": (False, "normal"),
        "blurred": (None, "unknown"),
        "dark": (None, "unknown"),
        "defect": (True, "anomaly"),
        "dark_defect": (True, "anomaly"),
    }
    summed_up = invoked("run", "--source", images, "--model", model, "--bad-image", "unknown").stderr.splitlines()[-1]
    assert "5 frames, 2 anomalies" in summed_up
    assert "2 unknown" in summed_up
    assert "bad pictures" in summed_up


def test_a_table_of_a_run_leaves_the_decision_on_unknown_frames_open(model: Path, images: Path, tmp_path: Path) -> None:
    done("run", "--source", images, "--model", model, "--bad-image", "unknown", "--out", tmp_path / "frames.csv")
    with (tmp_path / "frames.csv").open() as stream:
        rows = {Path(row["name"]).stem: (row["is_anomaly"], row["state"]) for row in csv.DictReader(stream)}
    assert rows["dark"] == ("", "unknown")
    assert rows["good"] == ("0", "normal")


def test_a_camera_that_stays_dark_has_a_status_record(model: Path, tmp_path: Path) -> None:
    for index in range(25):
        picture = scene(index) if index < 5 else (scene(index) // 4).astype(np.uint8)
        write_image(tmp_path / "line" / f"{index:03d}.png", picture)
    lines = [json.loads(line) for line in done("run", "--source", tmp_path / "line", "--model", model).splitlines()]
    (status,) = (line for line in lines if line["type"] == "status")
    assert (status["event_type"], status["severity"]) == ("IMAGE_QUALITY", "warning")
    assert {fault["what"] for fault in status["payload"]["faults"]} >= {"dark"}


def test_score_names_bad_pictures_and_leaves_unknown_ones_out_of_figures(
    model: Path, images: Path, tmp_path: Path
) -> None:
    plain = done("score", images, "--model", model)
    assert "of 5 images differ in picture quality" in plain
    assert "unknown" not in plain
    told = done(
        "score", images, "--model", model, "--bad-image", "unknown",
        "--csv", tmp_path / "scores.csv", "--json", tmp_path / "scores.json",
    )  # fmt: skip
    assert "2 unknown, in no figure" in told
    (normal,) = (line for line in told.splitlines() if line.startswith("normal "))
    assert normal.split()[1] == "1"
    content = json.loads((tmp_path / "scores.json").read_text())
    of = {Path(row["name"]).stem: row for row in content["images"]}
    assert [of[name]["is_anomaly"] for name in pictures()] == [False, None, None, True, True]
    assert [fault["what"] for fault in of["good"]["image_quality"]] == []
    with (tmp_path / "scores.csv").open() as stream:
        rows = {Path(row["name"]).stem: row for row in csv.DictReader(stream)}
    assert (rows["dark"]["is_anomaly"], rows["good"]["is_anomaly"]) == ("", "0")
    assert "dark" in rows["dark"]["image_quality"]
    assert rows["good"]["image_quality"] == ""


@pytest.mark.parametrize("command", [("run", "--source"), ("score",)])
def test_a_bundle_that_knows_no_usual_pictures_cannot_tell_bad_ones(
    cli: Cli, command: tuple[str, ...], old_model: Path, images: Path
) -> None:
    found = cli(*command, images, "--model", old_model, "--bad-image", "unknown", cwd=images)
    assert_one_line(found, 2, "does not say what pictures it was trained on")


def test_a_bench_says_nothing_of_its_own_test_picture(model: Path, tmp_path: Path) -> None:
    write_image(tmp_path / "dark.png", pictures()["dark"])
    for source, n_said in ((tmp_path / "dark.png", 1), ("test://pattern?width=200&height=120&fps=1000", 0)):
        arguments = ("bench", "--model", str(model), "--source", str(source), "--frames", "50", "--no-cold")
        ended = CliRunner().invoke(command_line, [*arguments, "--threads", "1"])
        assert ended.exit_code == 0, ended.output
        assert ended.stderr.count("are not as those trained on") == n_said, ended.stderr


def test_limits_that_make_no_sense_are_refused_when_the_bundle_opens(model: Path) -> None:
    bundle = Bundle.open(model)
    limits = bundle.manifest["calibration"]["image_quality"]
    for wrong in ({**limits, "usual_spots": [-1] * 32}, {**limits, "low": {**limits["low"], "level": 99.0}}, 7):
        calibration = {**bundle.manifest["calibration"], "image_quality": wrong}
        damaged = {**bundle.manifest, "calibration": calibration}
        with pytest.raises(BundleError, match=r"image_quality|usual_spots"):
            Bundle.from_archive(_archive(damaged, bundle), bundle.path)


def test_a_bundle_of_before_aspects_were_kept_opens(model: Path) -> None:
    bundle = Bundle.open(model)
    limits = dict(bundle.manifest["calibration"]["image_quality"])
    del limits["aspects"]
    manifest = {**bundle.manifest, "calibration": {**bundle.manifest["calibration"], "image_quality": limits}}
    opened = Bundle.from_archive(_archive(manifest, bundle), bundle.path).quality_limits
    assert opened is not None
    assert opened.aspects is None


def _archive(manifest: dict[str, Any], bundle: Bundle) -> bytes:
    from edge_runtime.archive import pack
    from edge_runtime.bundle.bundle import manifest_bytes

    return pack({"manifest.json": manifest_bytes(manifest), **dict(sorted(bundle.files.items()))})
