"""Plots of an evaluation: which are written, and that they show what they say."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edge_runtime.errors import DataError
from edge_runtime.model.score import Limit, UnionRule
from edge_runtime.scoring.evaluation import Evaluation, Row
from edge_runtime.scoring.image_items import Item
from train.evaluation.plots import PLOTS, plot_report
from train.evaluation.report import Circumstances, report_of

HERE = Circumstances(
    model="m.aae",
    kind="bundle",
    data=["tile/test"],
    decision=UnionRule(limits={"reconstruction_error": Limit(threshold=2.0, center=1.0)}),
    n_resamples=0,
)


def rows_of(
    group: str | None, anomalous: bool | None, scores: NDArray[np.float64], observed: bool | None = None
) -> list[Row]:
    return [
        Row(
            Item(f"{group}/{index}", lambda: np.zeros((1, 1), np.uint8), group, anomalous, observed),
            score,
            score > 1.0,
            {},
        )
        for index, score in enumerate(scores.tolist())
    ]


def plot(folder: Path, *rows: list[Row]) -> dict[str, NDArray[np.uint8]]:
    names = plot_report(folder, report_of(Evaluation(1.0, "ab" * 32, [row for some in rows for row in some]), HERE))
    assert sorted(file.name for file in folder.iterdir()) == sorted(names)
    plots = {name: cv2.imread(str(folder / name)) for name in names}
    assert all(image is not None and image.std() > 5 for image in plots.values())
    return plots  # type: ignore[return-value]


def reddish(image: NDArray[np.uint8]) -> int:
    return int((image[..., 2].astype(int) - image[..., 0] > 60).sum())


def test_labelled_groups_give_every_plot(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    plots = plot(
        tmp_path, rows_of("good", False, rng.gamma(2, 0.3, 500)), rows_of("bent", True, rng.gamma(4, 0.5, 60)),
        rows_of("worn $x$ pr\udcfcf", True, rng.gamma(3, 0.4, 40)), rows_of(None, None, np.array([1e9])),
    )  # fmt: skip
    assert tuple(plots) == PLOTS
    assert reddish(plots["scores.png"]) > 1000
    assert reddish(plots["groups.png"]) > 100


def test_normal_images_alone_have_no_curves(tmp_path: Path) -> None:
    plots = plot(tmp_path, rows_of("good", False, np.array([0.1, 0.5, 2.0])))
    assert set(plots) == {"scores.png", "groups.png"}
    assert reddish(plots["scores.png"]) == 0


def test_labels_without_groups_and_equal_scores_can_be_drawn(tmp_path: Path) -> None:
    plots = plot(tmp_path, rows_of(None, False, np.ones(3)), rows_of(None, True, np.ones(2)))
    assert tuple(plots) == PLOTS


def test_a_far_image_does_not_squeeze_the_others(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    normal, bent = rows_of("good", False, rng.random(300)), rows_of("bent", True, 1.0 + rng.random(300))
    near = plot(tmp_path / "near", normal, bent)["scores.png"]
    far = plot(tmp_path / "far", normal, bent, rows_of("bent", True, np.array([1e6])))["scores.png"]
    assert reddish(far) == pytest.approx(reddish(near), rel=0.2)


def test_many_groups_and_both_kinds_of_anomaly_can_be_drawn(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    groups = [rows_of(f"class {n}", True, rng.gamma(n, 1.0, 20), observed=n == 2) for n in range(1, 15)]
    plots = plot(
        tmp_path, rows_of("class 0", False, rng.random(20)), rows_of("class 20", False, rng.random(9)), *groups
    )
    assert tuple(plots) == PLOTS
    # A line for each: 14 classes, observed, unobserved, two normal ones.
    assert plots["groups.png"].shape[0] > 18 * 40


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    report = report_of(Evaluation(1.0, "ab" * 32, rows_of("good", False, np.array([0.1]))), HERE)
    with pytest.raises(DataError, match=r"cannot write .*file"):
        plot_report(tmp_path / "file", report)
