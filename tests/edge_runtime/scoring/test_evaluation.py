"""Scoring sets of images: who gets which label, what the metrics come to, and what is written."""

from __future__ import annotations

import csv
import json
import logging
import math
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edge_runtime.backends import OnnxRuntimeCpu
from edge_runtime.bundle.bundle import Bundle
from edge_runtime.errors import BackendError, DataError
from edge_runtime.metrics import Metrics
from edge_runtime.model.images import read_image, write_image
from edge_runtime.scoring.detector import Detector
from edge_runtime.scoring.evaluation import (
    Evaluation,
    Row,
    evaluate,
    heatmap_of,
    labelled_arrays,
    write_csv,
    write_json,
)
from edge_runtime.scoring.heatmap import overlay, scale_of
from edge_runtime.scoring.image_items import Item, load_items

FLAT = np.full((8, 8), 128, dtype=np.uint8)
NOISE = np.random.default_rng(0).integers(0, 256, (8, 8), dtype=np.uint8)

IMAGES = np.stack([np.full((8, 8), level, dtype=np.uint8) for level in (10, 20, 30, 40)])


def folder_of(folder: Path, *names: str) -> Path:
    """A folder with a flat image under each of these names."""
    for name in names:
        write_image(folder / name, FLAT)
    return folder


def in_memory(name: str, frame: NDArray[Any]) -> Item:
    return Item(name, lambda: frame)


def row(score: float, anomalous: bool | None = None, group: str | None = None, observed: bool | None = None) -> Row:
    """A scored image, flagged above one."""
    item = Item(f"{score}.png", lambda: FLAT, group, anomalous, observed)
    return Row(item, score, score > 1.0, {"reconstruction_error": 2.0 * score, "neg_log_prior": 1.5})


def evaluation_of(*rows: Row, unscored: list[tuple[str, str]] | None = None) -> Evaluation:
    return Evaluation(1.0, "ab12", list(rows), unscored or [])


def metrics_of(rows: list[Row]) -> Metrics:
    return Metrics.of(*labelled_arrays(rows))


def two_classes() -> Evaluation:
    """Two normal images, two of an anomalous class that was seen in training, one of a class that was not."""
    return evaluation_of(
        row(0.1, False, "class 0"),
        row(2.0, True, "class 2", True),
        row(0.5, False, "class 0"),
        row(1.5, True, "class 3", False),
        row(0.3, True, "class 2", True),
    )


# Scoring


def test_scores_are_the_detector_s(detector: Detector, tmp_path: Path) -> None:
    frames: dict[str, NDArray[Any]] = {
        "bent/1.png": NOISE,
        "good/1.png": FLAT,
        "good/2.png": cv2.cvtColor(NOISE, cv2.COLOR_GRAY2BGR),
    }
    for name, frame in frames.items():
        write_image(tmp_path / name, frame)
    items = load_items([tmp_path], detector.bundle)
    evaluation = evaluate(detector, items)
    assert [row.item for row in evaluation.rows] == items
    assert [row.item.name for row in evaluation.rows] == list(frames)
    for scored, frame in zip(evaluation.rows, frames.values(), strict=True):
        expected = detector.score(frame)
        assert scored.score == expected.score
        assert scored.is_anomaly is expected.is_anomaly
        assert scored.criteria == expected.criteria
    assert [scored.is_anomaly for scored in evaluation.rows] == [True, False, True]
    assert evaluation.unscored == []
    assert (evaluation.threshold, evaluation.model) == (1.0, detector.bundle.digest)


def test_the_threshold_in_force_decides(bundle: Bundle, detector: Detector) -> None:
    score = detector.score(NOISE).score
    strict = Detector(bundle, OnnxRuntimeCpu(bundle.files["detector.onnx"], threads=1), threshold=score)
    evaluation = evaluate(strict, [in_memory("x", NOISE)])
    assert evaluation.threshold == score
    assert [(scored.score, scored.is_anomaly) for scored in evaluation.rows] == [(score, False)]


def test_what_cannot_be_scored_is_listed_with_its_reason_and_the_rest_is_scored(
    detector: Detector, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = folder_of(tmp_path, "1.png", "4.png")
    (folder / "2.png").write_text("not an image")
    (folder / "3.png").touch()
    items = [*load_items([folder], detector.bundle), in_memory("5", FLAT.astype(np.float32)), in_memory("6", FLAT)]
    with caplog.at_level(logging.WARNING):
        evaluation = evaluate(detector, items, tmp_path / "heat")
    assert [scored.item.name for scored in evaluation.rows] == ["1.png", "4.png", "6"]
    assert evaluation.unscored == [
        ("2.png", f"cannot decode {folder / '2.png'}: not a PNG, JPEG, WebP, BMP or TIFF image, or damaged"),
        ("3.png", f"{folder / '3.png'} is empty"),
        (
            "5",
            "frame is float32, expected (H, W, 3) uint8 BGR or (H, W) uint8 grey; scale it to 0..255 before scoring",
        ),
    ]
    assert [record.getMessage() for record in caplog.records] == [
        f"not scored: {reason}" for _, reason in evaluation.unscored
    ]
    assert sorted(file.name for file in (tmp_path / "heat").iterdir()) == ["1.png.png", "4.png.png", "6.png"]


def test_an_image_that_disappears_after_it_was_listed_is_not_scored(detector: Detector, tmp_path: Path) -> None:
    items = load_items([folder_of(tmp_path, "1.png", "2.png")], detector.bundle)
    (tmp_path / "1.png").unlink()
    evaluation = evaluate(detector, items)
    assert [name for name, _ in evaluation.unscored] == ["1.png"]
    assert [scored.item.name for scored in evaluation.rows] == ["2.png"]


def test_an_engine_that_fails_ends_the_evaluation(
    make_bundle: Callable[..., Bundle], make_detector_onnx: Callable[..., bytes]
) -> None:
    broken = make_bundle(detector_onnx=make_detector_onnx(8, 8, 1, error_scale=float("nan")))
    detector = Detector(broken, OnnxRuntimeCpu(broken.files["detector.onnx"], threads=1))
    with pytest.raises(BackendError, match="expected finite numbers"):
        evaluate(detector, [in_memory("x", NOISE)])


# Heatmaps


def test_each_image_gets_its_heatmap_at_its_place(detector: Detector, tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "set", "good/1.png", "bent/deep/1.jpg")
    np.savez(tmp_path / "digits.npz", images=IMAGES)
    items = load_items([folder, tmp_path / "digits.npz"], detector.bundle)
    evaluate(detector, items, tmp_path / "out" / "heat")
    written = {
        file.relative_to(tmp_path / "out").as_posix() for file in (tmp_path / "out").rglob("*") if file.is_file()
    }
    assert written == {
        "heat/good/1.png.png",
        "heat/bent/deep/1.jpg.png",
        *(f"heat/digits.npz/{i}.png" for i in range(4)),
    }


def test_no_heatmap_is_written_unasked(detector: Detector, tmp_path: Path) -> None:
    evaluate(detector, load_items([folder_of(tmp_path, "1.png")], detector.bundle))
    assert list(tmp_path.rglob("*")) == [tmp_path / "1.png"]


@pytest.mark.parametrize(
    ("shape", "enlarged"),
    [
        ((8, 8), (256, 256)),
        ((28, 28), (252, 252)),
        ((10, 100, 3), (20, 200)),
        ((128, 64), (256, 128)),
        ((129, 64), (129, 64)),
        ((300, 400, 3), (300, 400)),
    ],
)
def test_tiny_images_are_enlarged_by_whole_factors(
    detector: Detector, tmp_path: Path, shape: tuple[int, ...], enlarged: tuple[int, int]
) -> None:
    evaluate(detector, [in_memory("x", np.full(shape, 77, dtype=np.uint8))], tmp_path)
    written = read_image(tmp_path / "x.png")
    assert written.shape == (*enlarged, 3)
    # A flat image is reconstructed up to float32 steps: its heatmap is the image.
    assert np.abs(written.astype(int) - 77).max() <= 1


def test_an_enlarged_pixel_stays_a_block_of_one_colour(detector: Detector) -> None:
    heat = heatmap_of(detector, NOISE, detector.score(NOISE))
    blocks = heat.reshape(8, 32, 8, 32, 3)
    np.testing.assert_array_equal(blocks, np.broadcast_to(blocks[:, :1, :, :1], blocks.shape))


@pytest.mark.parametrize("calibration", [{}, {"anomaly_map_peak": {"0.5": 0.05, "0.99": 0.1}}], ids=str)
def test_heatmaps_share_the_colour_scale_of_the_calibration(bundle: Bundle, calibration: dict[str, Any]) -> None:
    calibrated = Bundle.from_parts({**bundle.manifest, "calibration": calibration}, bundle.files, Path("x.aae"))
    detector = Detector(calibrated, OnnxRuntimeCpu(calibrated.files["detector.onnx"], threads=1))
    frame = np.random.default_rng(1).integers(0, 256, (256, 256), dtype=np.uint8)
    frame[:32, :32] = 255
    result = detector.score(frame)
    expected = overlay(frame, result.heatmap(frame.shape), scale_of(calibration))
    np.testing.assert_array_equal(heatmap_of(detector, frame, result), expected)


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("../../x.png", "x.png.png"),
        ("a/../../../x.png", "a/x.png.png"),
        ("/x.png", "x.png.png"),
        ("/../x.png", "x.png.png"),
        ("./a/./x.png", "a/x.png.png"),
        ("..x.png", "..x.png.png"),
    ],
)
def test_a_heatmap_cannot_leave_its_folder(detector: Detector, tmp_path: Path, name: str, place: str) -> None:
    folder = tmp_path / "a" / "b" / "heat"
    evaluate(detector, [in_memory(name, FLAT)], folder)
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == [folder / place]


def test_a_file_named_by_its_path_gets_its_heatmap_inside_the_folder(
    detector: Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder_of(tmp_path, "set/1.png", "here/2.png")
    monkeypatch.chdir(tmp_path / "here")
    items = load_items([tmp_path / "set" / "1.png", Path("../set/1.png")], detector.bundle)
    evaluate(detector, items, tmp_path / "heat")
    written = sorted(file for file in tmp_path.rglob("*") if file.is_file())
    assert written == sorted(
        [
            tmp_path / "set" / "1.png",
            tmp_path / "here" / "2.png",
            tmp_path / "heat" / "set" / "1.png.png",
            tmp_path / "heat" / (tmp_path / "set" / "1.png.png").relative_to("/"),
        ]
    )


def test_images_of_the_same_name_in_two_folders_get_a_heatmap_each(detector: Detector, tmp_path: Path) -> None:
    folder_of(tmp_path, "monday/1.png", "tuesday/1.png")
    items = load_items([tmp_path / "monday", tmp_path / "tuesday"], detector.bundle)
    evaluate(detector, items, tmp_path / "heat")
    assert len([file for file in (tmp_path / "heat").rglob("*") if file.is_file()]) == 2


def test_a_heatmap_folder_that_cannot_be_made_is_named(detector: Detector, tmp_path: Path) -> None:
    (tmp_path / "heat").write_text("a file in the way")
    with pytest.raises(DataError, match=r"cannot write .*heat"):
        evaluate(detector, [in_memory("a/x", FLAT)], tmp_path / "heat")


# Metrics


def test_metrics_as_by_hand() -> None:
    metrics = metrics_of(
        [row(0.4, True), row(0.1, False), row(9.0), row(2.0, True), row(0.5, False), row(1.2, False), row(-3.0)]
    )
    assert (metrics.n_normal, metrics.n_anomalous) == (3, 2)
    # 0.4 lies above one normal image, 2.0 above all three.
    assert metrics.auroc == pytest.approx(4 / 6)
    # Falling: 2.0 (1 of 1), 1.2, 0.5, 0.4 (2 of 4).
    assert metrics.average_precision == pytest.approx((1 / 1 + 2 / 4) / 2)
    # Above one: one of two anomalous, one of three normal.
    assert metrics.balanced_accuracy == pytest.approx((1 / 2 + 2 / 3) / 2)


def test_balanced_accuracy_follows_the_verdict_and_not_the_score() -> None:
    rows = [replace(row(0.1, False), is_anomaly=True), replace(row(0.2, True), is_anomaly=False)]
    assert metrics_of(rows).balanced_accuracy == 0.0
    assert metrics_of(rows).auroc == 1.0


@pytest.mark.parametrize(
    ("rows", "counts", "average_precision"),
    [
        ([], (0, 0), math.nan),
        ([row(1.0), row(2.0)], (0, 0), math.nan),
        ([row(0.1, False), row(0.2, False)], (2, 0), math.nan),
        ([row(0.1, True), row(0.2, True)], (0, 2), 1.0),
    ],
    ids=["no rows", "no labels", "normal alone", "anomalous alone"],
)
def test_metrics_that_are_not_defined_are_nan_and_null(
    rows: list[Row], counts: tuple[int, int], average_precision: float
) -> None:
    metrics = metrics_of(rows)
    assert (metrics.n_normal, metrics.n_anomalous) == counts
    assert math.isnan(metrics.auroc)
    assert math.isnan(metrics.balanced_accuracy)
    assert metrics.average_precision == pytest.approx(average_precision, nan_ok=True)
    assert metrics.to_json() == {
        "n_normal": counts[0],
        "n_anomalous": counts[1],
        "auroc": None,
        "average_precision": None if math.isnan(average_precision) else average_precision,
        "balanced_accuracy": None,
    }


def test_subsets_set_each_kind_of_anomaly_against_all_normal_images() -> None:
    subsets = two_classes().subsets()
    assert {name: (metrics.n_normal, metrics.n_anomalous) for name, metrics in subsets.items()} == {
        "all": (2, 3),
        "class 2": (2, 2),
        "class 3": (2, 1),
        "observed": (2, 2),
        "unobserved": (2, 1),
    }
    assert list(subsets) == ["all", "class 2", "class 3", "observed", "unobserved"]
    assert {name: metrics.auroc for name, metrics in subsets.items()} == pytest.approx(
        {"all": 5 / 6, "class 2": 3 / 4, "class 3": 1.0, "observed": 3 / 4, "unobserved": 1.0}
    )


def test_anomalies_nobody_trained_with_or_without_are_in_neither_subset() -> None:
    evaluation = evaluation_of(row(0.1, False, "good"), row(2.0, True, "bent"), row(3.0, None, None))
    assert list(evaluation.subsets()) == ["all", "bent"]
    assert evaluation.subsets()["all"].n_anomalous == 1


def test_without_labels_there_are_no_subsets() -> None:
    assert evaluation_of(row(0.1, None, "monday"), row(2.0, None, "tuesday")).subsets() == {}


@pytest.mark.parametrize("folder", ["all", "observed"])
def test_a_folder_named_like_a_subset_hides_none(folder: str) -> None:
    evaluation = evaluation_of(
        row(0.1, False, "good"), row(0.5, False, "good"), row(2.0, True, folder), row(0.3, True, "bent")
    )
    assert evaluation.subsets()["all"].n_anomalous == 2
    assert sorted(metrics.n_anomalous for metrics in evaluation.subsets().values()) == [1, 1, 2]
    n_images = [re.search(r" (\d+) +\d+\.\d%", line) for line in evaluation.lines(0)[2:]]
    assert sorted(int(found[1]) for found in n_images if found) == [1, 1, 2, 4]  # two folders, normal, all


# The report


def test_the_table_is_pinned() -> None:
    assert two_classes().lines(10) == [
        "5 images scored, 2 anomalous (40.0%) above threshold 1",
        "                images  flagged   AUROC      AP    BAcc",
        "normal               2     0.0%",
        "all                  5    40.0%   0.833   0.917   0.833",
        "class 2              2    50.0%   0.750   0.833   0.750",
        "class 3              1   100.0%   1.000   1.000   1.000",
        "observed             2    50.0%   0.750   0.833   0.750",
        "unobserved           1   100.0%   1.000   1.000   1.000",
    ]


def test_the_table_of_anomalies_alone_has_no_numbers_to_make_up() -> None:
    assert evaluation_of(row(2.0, True)).lines(10)[2:] == [
        "normal               0        -",
        "all                  1   100.0%       -   1.000       -",
    ]


def test_without_labels_the_highest_scores_are_listed() -> None:
    evaluation = evaluation_of(row(0.25), row(12.34567), row(-1.0), row(3.0), unscored=[("x.png", "x.png is empty")])
    assert evaluation.lines(3) == [
        "4 images scored, 2 anomalous (50.0%) above threshold 1, 1 not scored",
        "     12.346  12.34567.png",
        "      3.000  3.0.png",
        "      0.250  0.25.png",
    ]
    assert len(evaluation.lines(0)) == 1
    assert len(evaluation.lines(99)) == 5


def test_equal_scores_are_listed_in_the_order_scored() -> None:
    rows = [replace(row(1.5), item=in_memory(name, FLAT)) for name in ("b", "a", "c")]
    assert [line.split()[-1] for line in evaluation_of(*rows).lines(3)[1:]] == ["b", "a", "c"]


@pytest.mark.parametrize("report", ["lines", "csv"])
def test_an_evaluation_of_unreadable_images_alone_is_reported(tmp_path: Path, report: str) -> None:
    evaluation = evaluation_of(unscored=[("x.png", "x.png is empty")])
    if report == "lines":
        assert "1 not scored" in evaluation.lines(10)[0]
    else:
        write_csv(tmp_path / "x.csv", evaluation)
        assert len((tmp_path / "x.csv").read_text().splitlines()) == 1


# Written files


def test_the_csv_is_pinned(tmp_path: Path) -> None:
    path = tmp_path / "new" / "deep" / "scores.csv"
    write_csv(path, evaluation_of(row(0.1 + 0.2, False, "good"), row(2.0, True, 'line "3", left'), row(0.5)))
    assert path.read_bytes() == (
        b"name,group,anomalous,score,is_anomaly,reconstruction_error,neg_log_prior\n"
        b"0.30000000000000004.png,good,0,0.30000000000000004,0,0.6000000000000001,1.5\n"
        b'2.0.png,"line ""3"", left",1,2.0,1,4.0,1.5\n'
        b"0.5.png,,,0.5,0,1.0,1.5\n"
    )


def test_the_csv_gives_back_what_was_scored(detector: Detector, tmp_path: Path) -> None:
    evaluation = evaluate(detector, [in_memory("ä\n1", NOISE), in_memory("2", FLAT)])
    write_csv(tmp_path / "scores.csv", evaluation)
    with (tmp_path / "scores.csv").open(newline="", encoding="utf-8") as stream:
        read = list(csv.DictReader(stream))
    assert [line["name"] for line in read] == ["ä\n1", "2"]
    for line, frame in zip(read, (NOISE, FLAT), strict=True):
        expected = detector.score(frame)
        assert float(line["score"]) == expected.score
        assert {name: float(line[name]) for name in expected.criteria} == expected.criteria


def test_the_json_is_pinned(tmp_path: Path) -> None:
    path = tmp_path / "new" / "deep" / "scores.json"
    write_json(path, evaluation_of(row(0.25, False, "good"), row(2.0), unscored=[("x.png", "x.png is empty")]))
    content = path.read_text()
    assert json.loads(content) == {
        "model": "sha256:ab12",
        "threshold": 1.0,
        "metrics": {
            "all": {
                "n_normal": 1,
                "n_anomalous": 0,
                "auroc": None,
                "average_precision": None,
                "balanced_accuracy": None,
            }
        },
        "images": [
            {
                "name": "0.25.png",
                "group": "good",
                "anomalous": False,
                "score": 0.25,
                "is_anomaly": False,
                "criteria": {"reconstruction_error": 0.5, "neg_log_prior": 1.5},
            },
            {
                "name": "2.0.png",
                "group": None,
                "anomalous": None,
                "score": 2.0,
                "is_anomaly": True,
                "criteria": {"reconstruction_error": 4.0, "neg_log_prior": 1.5},
            },
        ],
        "unscored": [{"name": "x.png", "reason": "x.png is empty"}],
    }
    assert "NaN" not in content
    assert content.endswith("}\n")


def test_the_json_without_labels_has_no_metrics(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", evaluation_of(row(0.25)))
    assert json.loads((tmp_path / "x.json").read_text())["metrics"] == {}


def test_the_json_gives_back_what_was_scored(detector: Detector, tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", evaluate(detector, [in_memory("1", NOISE)]))
    read = json.loads((tmp_path / "x.json").read_text())
    assert read["model"] == f"sha256:{detector.bundle.digest}"
    assert read["images"][0]["score"] == detector.score(NOISE).score


@pytest.mark.parametrize("write", [write_csv, write_json])
@pytest.mark.parametrize("place", ["folder", "file/x", "file/deep/x"])
def test_a_path_that_cannot_be_written_is_named(
    tmp_path: Path, write: Callable[[Path, Evaluation], None], place: str
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("a file in the way")
    with pytest.raises(DataError, match=rf"cannot write {re.escape(str(tmp_path / place))}: \w"):
        write(tmp_path / place, evaluation_of(row(0.25)))
    assert (tmp_path / "file").read_text() == "a file in the way"


@pytest.mark.parametrize("write", [write_csv, write_json])
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux")
def test_a_full_disk_is_named_with_the_file(write: Callable[[Path, Evaluation], None]) -> None:
    with pytest.raises(DataError, match=r"cannot write /dev/full: No space left on device"):
        write(Path("/dev/full"), evaluation_of(row(0.25)))


def image_with_a_latin_1_name(folder: Path) -> None:
    """A file name that is no UTF-8, as old cameras and USB sticks carry; skips where no file system takes it."""
    folder_of(folder, "x.png")
    try:
        (folder / "x.png").rename(os.fsdecode(os.fsencode(folder) + b"/pr\xfcfling.png"))
    except OSError as error:
        pytest.skip(f"this file system wants UTF-8 names: {error}")


def test_an_image_whose_name_is_no_utf_8_is_scored_and_written_as_json(detector: Detector, tmp_path: Path) -> None:
    image_with_a_latin_1_name(tmp_path / "set")
    evaluation = evaluate(detector, load_items([tmp_path / "set"], detector.bundle), tmp_path / "heat")
    write_json(tmp_path / "x.json", evaluation)
    (image,) = json.loads((tmp_path / "x.json").read_text())["images"]
    assert os.fsencode(image["name"]) == b"pr\xfcfling.png"
    assert [os.fsencode(file.name) for file in (tmp_path / "heat").iterdir()] == [b"pr\xfcfling.png.png"]


def test_an_image_whose_name_is_no_utf_8_is_written_as_csv(detector: Detector, tmp_path: Path) -> None:
    image_with_a_latin_1_name(tmp_path / "set")
    write_csv(tmp_path / "x.csv", evaluate(detector, load_items([tmp_path / "set"], detector.bundle)))
    assert (tmp_path / "x.csv").read_bytes().splitlines()[1].startswith(b"pr\xfcfling.png,")
