"""`--min-area` and `--mm-per-pixel` as a user has them: run, score, check, evaluate, calibrate, and mistakes."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from edge_aae.cli import cli as command_line
from edge_runtime.bundle.bundle import Bundle
from edge_runtime.bundle.site_calibration import SiteCalibration, overlay_path
from edge_runtime.model.defect_size import Area, DefectSize
from edge_runtime.model.images import write_image
from edge_runtime.model.preprocess import Preprocess
from edge_runtime.scoring.detector import Detector
from tests.edge_aae.conftest import Cli
from tests.edge_aae.road.test_errors import assert_one_line

SQUARES = {"clean": 0, "large": 32, "small": 8}
"""Sides of a white square in a black picture of 120 rows by 200 columns, which the network sees at half the size."""


@pytest.fixture
def model(make_bundle: Callable[..., Bundle], tmp_path: Path) -> Path:
    """A bundle whose map is the squared difference to the mean; any square is anomalous to it."""
    bundle = make_bundle(Preprocess(height=60, width=100))
    manifest = {**bundle.manifest, "calibration": {"anomaly_map_peak": {"0.99": 0.5}}}
    Bundle.from_parts(manifest, bundle.files, bundle.path).write(tmp_path / "model.aae")
    return tmp_path / "model.aae"


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """good/clean.png, and bad/ with the squares, each marked in ground_truth/."""
    for name, side in SQUARES.items():
        image = np.zeros((120, 200), np.uint8)
        image[40 : 40 + side, 30 : 30 + side] = 255
        write_image(tmp_path / "images" / ("bad" if side else "good") / f"{name}.png", image)
        if side:
            write_image(tmp_path / "ground_truth/bad" / f"{name}_mask.png", image)
    return tmp_path / "images"


def done(*arguments: str | Path) -> str:
    found = CliRunner().invoke(command_line, [*map(str, arguments), "--threads", "1"])
    assert found.exit_code == 0, (found.output, found.exception)
    return found.stdout


def records(*arguments: str | Path) -> dict[str, dict[str, Any]]:
    """Frame records of a run, by the image's name."""
    lines = map(json.loads, done("run", *arguments).splitlines())
    return {Path(line["name"]).stem: line for line in lines if line["type"] == "frame"}


def test_records_of_a_run_say_how_large_what_counts_is(model: Path, images: Path, tmp_path: Path) -> None:
    plain = records("--source", images, "--model", model, "--boxes")
    assert [plain[name]["is_anomaly"] for name in SQUARES] == [False, True, True]
    assert all("too_small" not in record for record in plain.values())
    assert [plain["large"]["boxes"][0][key] for key in ("area_px", "area_mm2")] == [32 * 32, None]
    found = records(
        "--source", images, "--model", model, "--boxes", "--min-area", "1mm2", "--mm-per-pixel", "0.1",
        "--out", "-", "--out", tmp_path / "frames.csv",
    )  # fmt: skip
    told = {name: (found[name]["is_anomaly"], found[name]["too_small"], found[name]["state"]) for name in SQUARES}
    assert told == {
        "clean": (False, False, "normal"), "large": (True, False, "anomaly"), "small": (False, True, "normal"),
    }  # fmt: skip
    assert found["small"]["score"] == plain["small"]["score"] > found["small"]["threshold"]
    assert found["small"]["boxes"] == []
    (box,) = found["large"]["boxes"]
    assert list(box) == ["x", "y", "width", "height", "peak", "area_px", "area_mm2"]
    assert (box["x"], box["y"], box["width"], box["height"]) == (30, 40, 32, 32)
    assert (box["area_px"], box["area_mm2"]) == (1024, pytest.approx(10.24))
    keys = list(found["large"])
    assert keys[keys.index("is_anomaly") + 1] == "too_small"
    with (tmp_path / "frames.csv").open() as stream:
        rows = {Path(row["name"]).stem: row for row in csv.DictReader(stream)}
    assert [(rows[name]["is_anomaly"], rows[name]["too_small"]) for name in SQUARES] == [
        ("0", "0"), ("1", "0"), ("0", "1"),
    ]  # fmt: skip


def test_a_run_sums_up_what_was_too_small(cli: Cli, model: Path, images: Path) -> None:
    ran = cli("run", "--source", "images", "--model", model, "--min-area", "100px", cwd=images.parent)
    assert "3 frames, 1 anomalies, 1 too small, latency" in ran.stderr.splitlines()[-1]


def test_score_says_how_many_are_too_small_and_writes_regions(model: Path, images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    text = done(
        "score", images, "--model", model, "--min-area", "100px", "--mm-per-pixel", "0.5", "--json", out / "s.json",
        "--csv", out / "s.csv", "--heatmaps", out / "maps",
    )  # fmt: skip
    assert "1 anomalous (33.3%) above threshold 1" in text
    assert "1 above it are normal: all they show is below 100px" in text
    content = json.loads((out / "s.json").read_text())
    assert (content["mm_per_pixel"], content["min_area"]) == (0.5, "100px")
    of = {Path(image["name"]).stem: image for image in content["images"]}
    assert [of[name]["too_small"] for name in SQUARES] == [False, False, True]
    assert [len(of[name]["regions"]) for name in SQUARES] == [0, 1, 0]
    assert of["large"]["regions"][0]["area_mm2"] == 0.25 * 1024
    with (out / "s.csv").open() as stream:
        assert {Path(row["name"]).stem: row["too_small"] for row in csv.DictReader(stream)} == {
            "clean": "0", "large": "0", "small": "1",
        }  # fmt: skip
    plain = tmp_path / "plain"
    done("score", images, "--model", model, "--json", plain / "s.json", "--heatmaps", plain / "maps")
    assert "min_area" not in json.loads((plain / "s.json").read_text())
    differ = {
        name: (out / f"maps/bad/{name}.png.png").read_bytes() != (plain / f"maps/bad/{name}.png.png").read_bytes()
        for name in ("large", "small")
    }
    assert differ == {"large": False, "small": True}


def test_a_master_part_that_is_bad_and_too_small_is_named_with_the_reason(cli: Cli, model: Path, images: Path) -> None:
    failed = cli("check", images, "--model", model, "--min-area", "100px", cwd=images.parent)
    assert failed.returncode == 3, failed.stderr
    assert "bad/small.png: score" in failed.stdout
    assert "> threshold 1, but all its regions are too small, normal; it should be anomalous" in failed.stdout
    assert cli("check", images, "--model", model, cwd=images.parent).returncode == 0


def test_masks_are_of_the_frames_size_and_of_what_is_large_enough(model: Path, images: Path, tmp_path: Path) -> None:
    def masks(*more: str) -> dict[str, np.ndarray]:
        done("score", images, "--model", model, "--masks", tmp_path / "masks", *more)
        return {file.stem: cv2.imread(str(file), cv2.IMREAD_UNCHANGED) for file in (tmp_path / "masks").rglob("*.png")}

    for more, marked in ((), ("large.png", "small.png")), (("--min-area", "100px"), ("large.png",)):
        found = masks(*more)
        assert set(found) == {"clean.png", "large.png", "small.png"}
        for name, mask in found.items():
            side = SQUARES[Path(name).stem]
            assert (mask.shape, mask.dtype) == ((120, 200), np.uint8)
            expected = np.zeros((120, 200), np.uint8)
            if name in marked:
                expected[40 : 40 + side, 30 : 30 + side] = 255
            assert np.array_equal(mask, expected), name
    result = Detector.load(model).score(cv2.imread(str(images / "bad/large.png"), cv2.IMREAD_GRAYSCALE))
    assert np.array_equal(result.mask((120, 200)), masks()["large.png"])
    both = CliRunner().invoke(
        command_line, ["score", str(images), "--model", str(model), "--masks", "out", "--heatmaps", "out"]
    )
    assert (both.exit_code, "expected a folder for each" in both.output) == (2, True)


def test_evaluate_says_what_a_smallest_area_costs(model: Path, images: Path, tmp_path: Path) -> None:
    plain = done("evaluate", model, images, "--bootstrap", "0")
    assert "do not count" not in plain
    text = done(
        "evaluate", model, images, "--bootstrap", "0", "--min-area", "100px", "--out", tmp_path / "report",
    )  # fmt: skip
    assert (
        "Regions below 100px (100 pixels) do not count: 0 normal and 1 anomalous images above the threshold count as "
        "normal for it. Figures without a threshold, and those of pixels, are as without."
    ) in text
    told = "Of the marked regions 1 are smaller; 1 anomalous images have no larger one, of which 0 are flagged."
    assert told in text
    assert told in (tmp_path / "report/report.md").read_text()
    content = json.loads((tmp_path / "report/report.json").read_text())
    assert content["size"] == {
        "mm_per_pixel": None, "min_area": "100px", "normal_too_small": 0, "anomalous_too_small": 1,
        "small_defects": {"least_px": 100.0, "regions": 1, "images": 1, "flagged": 0},
    }  # fmt: skip
    assert content["subsets"]["all"]["true_positive_rate"] == 0.5
    assert content["subsets"]["all"]["auroc"] == 1.0


def test_sizes_are_calibrated_without_frames_and_then_in_force(model: Path, images: Path) -> None:
    text = done("calibrate", model, "--mm-per-pixel", "0.1", "--min-area", "1mm2")
    assert "0.1 mm a pixel, regions from 1mm2 on" in text
    site = SiteCalibration.beside(model)
    assert site is not None
    assert (site.threshold, site.size) == (1.0, DefectSize(mm_per_pixel=0.1, min_area=Area(1.0, "mm2")))
    found = records("--source", images, "--model", model)
    assert [found[name].get("too_small") for name in SQUARES] == [False, False, True]
    found = records("--source", images, "--model", model, "--min-area", "0px")
    assert [found[name]["is_anomaly"] for name in SQUARES] == [False, True, True]
    done("calibrate", model, "--threshold", "3")
    kept = SiteCalibration.beside(model)
    assert kept is not None
    assert (kept.threshold, kept.size) == (3.0, site.size)
    done("calibrate", model, "--min-area", "0px")
    last = SiteCalibration.beside(model)
    assert last is not None
    assert (last.threshold, last.size) == (3.0, DefectSize(mm_per_pixel=0.1, min_area=Area(0.0, "px")))


def test_a_calibration_s_threshold_is_of_the_scores_and_it_says_what_a_smallest_area_changes(
    model: Path, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    for index in range(60):
        image = np.zeros((120, 200), np.uint8)
        side = 6 + index % 3
        image[40 : 40 + side, 30 : 30 + side] = int(rng.integers(230, 256))
        write_image(tmp_path / "frames" / f"{index}.png", image)
    thresholds = []
    for more in ((), ("--min-area", "100px")):
        text = done("calibrate", model, "--source", tmp_path / "frames", "--frames", "60", "--target-fpr", "20%", *more)
        site = SiteCalibration.beside(model)
        assert site is not None
        thresholds.append(site.threshold)
        overlay_path(model).unlink()
    assert thresholds[0] == thresholds[1]
    told = re.search(r"^of (\d+) frames above it (\d+) count as normal: all they show is below 100px$", text, re.M)
    assert told is not None, text
    assert 0 < int(told[1]) <= 12
    assert told[1] == told[2]


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (["--min-area", "12"], ["'12', expected a number with its unit, px or mm2, such as 12px or 0.5mm2"]),
        (["--min-area", "-1px"], ["expected a number with its unit"]),
        (["--mm-per-pixel", "0"], ["'0', expected millimetres above 0, such as 0.05"]),
        (["--mm-per-pixel", "nan"], ["expected millimetres above 0"]),
    ],
)
@pytest.mark.parametrize("command", ["run --source images", "score images", "evaluate model.aae images", "calibrate"])
def test_what_is_no_size_ends_with_2(
    cli: Cli, model: Path, images: Path, command: str, options: list[str], parts: list[str]
) -> None:
    assert_one_line(cli(*command.split(), *options, cwd=images.parent), 2, *parts)


@pytest.mark.parametrize("command", ["run --source images", "score images", "evaluate model.aae images", "calibrate"])
def test_square_millimetres_without_a_scale_end_with_the_remedy(
    cli: Cli, model: Path, images: Path, command: str
) -> None:
    failed = cli(*command.split(), "--min-area", "0.5mm2", cwd=images.parent)
    assert_one_line(failed, 2, "0.5mm2 needs to know how large a pixel is; give --mm-per-pixel too, or the area in px")
    assert not overlay_path(model).exists()


def test_a_bundle_whose_map_has_no_usual_peak_is_refused_a_smallest_area(
    cli: Cli, bundle: Bundle, images: Path
) -> None:
    bundle.write(images.parent / "old.aae")
    for command in ("score images --model old.aae", "calibrate old.aae"):
        failed = cli(*command.split(), "--min-area", "12px", cwd=images.parent)
        assert_one_line(failed, 2, "old.aae keeps no usual peak of its anomaly map", "leave --min-area out")


def test_a_region_of_interest_without_threshold_or_frames_is_no_calibration_of_sizes(
    cli: Cli, model: Path, images: Path
) -> None:
    failed = cli("calibrate", "--mm-per-pixel", "0.1", "--roi", "0,0,50,50", cwd=images.parent)
    assert_one_line(failed, 2, "--roi and --mask need frames or a --threshold")


def test_the_options_stand_in_a_configuration(model: Path, images: Path, tmp_path: Path) -> None:
    text = done("run", "--min-area", "0.5mm2", "--mm-per-pixel", "0.05", "--print-config")
    assert 'min-area = "0.5mm2"' in text
    assert "mm-per-pixel" in text
    (tmp_path / "line.toml").write_text('min-area = "1mm2"\nmm-per-pixel = "0.1"\n')
    found = records("--config", tmp_path / "line.toml", "--source", images, "--model", model)
    assert found["small"]["too_small"]
    (tmp_path / "line.toml").write_text('min-area = "1mm2"\nmm-per-pixel = 0.1\n')
    assert records("--config", tmp_path / "line.toml", "--source", images, "--model", model)["small"]["too_small"]
    (tmp_path / "line.toml").write_text("min-area = 12\n")
    failed = CliRunner().invoke(command_line, ["run", "--config", str(tmp_path / "line.toml"), "--source", str(images)])
    assert failed.exit_code == 2
    assert "'12', expected a number with its unit" in failed.output
