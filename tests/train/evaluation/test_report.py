"""The report of an evaluation: which figures of which images, on a terminal, as JSON and as markdown."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_runtime.errors import DataError
from edge_runtime.metrics import wilson_interval
from edge_runtime.model.images import write_image
from edge_runtime.model.score import Limit, UnionRule
from edge_runtime.scoring.evaluation import Evaluation, Row, ScoredImage
from edge_runtime.scoring.image_items import Item
from train.evaluation.pixel_metrics import Masks, PixelTally
from train.evaluation.report import Circumstances, Report, report_of
from train.evaluation.report_forms import json_of, lines_of, markdown_of, write_json, write_markdown

FLAT = np.full((8, 8), 128, dtype=np.uint8)
DECISION = UnionRule(limits={"reconstruction_error": Limit(threshold=2.0, center=1.0)})
HERE = Circumstances(model="m.aae", kind="bundle", data=["tile/test"], decision=DECISION, n_resamples=0)


def row(score: float, anomalous: bool | None, group: str | None = None, observed: bool | None = None) -> Row:
    """A scored image, flagged above one."""
    item = Item(f"{group}/{score}.png", lambda: FLAT, group, anomalous, observed)
    return Row(item, score, score > 1.0, {"reconstruction_error": score})


ROWS = [
    row(0.1, False, "good"),
    row(0.5, False, "good"),
    row(1.2, False, "good"),
    row(0.3, True, "bent"),
    row(2.0, True, "bent"),
    row(3.0, True, "worn"),
    row(9.0, None),
]


def report(rows: list[Row] = ROWS, tally: PixelTally | None = None, **changes: Any) -> Report:
    evaluation = Evaluation(1.0, "ab" * 32, list(rows), changes.pop("unscored", []))
    return report_of(evaluation, replace(HERE, **changes), tally)


def test_the_figures_are_as_by_hand() -> None:
    found = report()
    assert list(found.subsets) == ["all", "bent", "worn"]
    whole, bent = found.subsets["all"], found.subsets["bent"]
    assert (whole.metrics.n_normal, whole.metrics.n_anomalous) == (3, 3)
    assert whole.metrics.auroc == pytest.approx(7 / 9)  # 0.3 lies above one of three
    assert whole.true_positive_rate == pytest.approx(2 / 3)
    assert whole.false_positive_rate == pytest.approx(1 / 3)
    assert whole.metrics.balanced_accuracy == pytest.approx((2 / 3 + 2 / 3) / 2)
    assert whole.fpr_at_95_tpr == pytest.approx(2 / 3)  # all found from 0.3 down: 0.5 and 1.2 flagged
    assert whole.oracle_f1 == pytest.approx(4 / 5)  # from 2.0: precision 1, recall 2/3
    assert whole.oracle_threshold == 2.0
    assert bent.metrics.auroc == pytest.approx(4 / 6)
    assert bent.true_positive_rate == 0.5
    assert bent.false_positive_rate == whole.false_positive_rate
    assert found.subsets["worn"].fpr_at_95_tpr == 0.0


def test_rates_follow_the_verdict_and_not_the_score() -> None:
    turned = [replace(each, is_anomaly=not each.is_anomaly) for each in ROWS]
    found = report(turned).subsets["all"]
    assert found.true_positive_rate == pytest.approx(1 / 3)
    assert found.false_positive_rate == pytest.approx(2 / 3)
    assert found.metrics.auroc == report().subsets["all"].metrics.auroc


def test_rates_have_wilson_intervals_without_a_bootstrap() -> None:
    intervals = report().subsets["all"].intervals
    assert intervals == {"true_positive_rate": wilson_interval(2, 3), "false_positive_rate": wilson_interval(1, 3)}


def test_the_bootstrap_adds_intervals_that_repeat_with_the_seed() -> None:
    first, again, other = (report(n_resamples=50, seed=seed).subsets for seed in (5, 5, 6))
    assert set(first["all"].intervals) == {
        "auroc", "average_precision", "balanced_accuracy", "fpr_at_95_tpr", "true_positive_rate", "false_positive_rate",
    }  # fmt: skip
    assert first["all"].intervals == again["all"].intervals
    assert first["all"].intervals != other["all"].intervals


def test_a_group_more_leaves_the_other_intervals_as_they_are() -> None:
    without = report([each for each in ROWS if each.item.group != "bent"], n_resamples=50)
    assert report(n_resamples=50).subsets["worn"].intervals == without.subsets["worn"].intervals


def test_observed_and_unobserved_anomalies_are_subsets() -> None:
    rows = [row(0.1, False, "class 0"), row(2.0, True, "class 2", True), row(0.05, True, "class 3", False)]
    found = report(rows).subsets
    assert list(found) == ["all", "class 2", "class 3", "observed", "unobserved"]
    assert (found["observed"].metrics.auroc, found["unobserved"].metrics.auroc) == (1.0, 0.0)


def test_several_groups_of_normal_images_have_a_rate_each() -> None:
    rows = [
        row(0.1, False, "class 0"),
        row(2.0, False, "class 3"),
        row(0.2, False, "class 3"),
        row(3.0, True, "class 5"),
    ]
    found = report(rows)
    assert found.normal_groups == {"class 0": (1, 0), "class 3": (2, 1)}
    assert any(line.startswith("  class 3      1 of 2 flagged, 0.500") for line in lines_of(found))
    assert report().normal_groups == {}


def test_normal_images_alone_give_the_false_alarm_rate_and_nothing_made_up() -> None:
    found = report(ROWS[:3], n_resamples=50)
    low, high = wilson_interval(1, 3)
    assert f"normal         1 of 3 flagged, 0.333 [{low:.3f}, {high:.3f}]" in lines_of(found)
    assert not any("AUROC" in line for line in lines_of(found))
    content = json_of(found)["subsets"]["all"]
    assert content["auroc"] is content["true_positive_rate"] is content["oracle_f1"] is None
    assert set(content["intervals"]) == {"false_positive_rate"}


def test_images_without_any_label_are_refused() -> None:
    with pytest.raises(DataError, match="has a label; `edge-aae score`"):
        report([row(1.0, None)])


def test_the_terminal_report_is_pinned() -> None:
    assert lines_of(report(n_excluded=2, unscored=[("x.png", "x.png is empty")])) == [
        "7 images scored, 2 left out by name, 1 not scored; threshold 1",
        "normal         1 of 3 flagged, 0.333 [0.061, 0.792]",
        "",
        "anomalous       images  AUROC     AP  FPR@95   BAcc    TPR  F1max (oracle)",
        "all                  3  0.778  0.867   0.667  0.667  0.667           0.800",
        "bent                 2  0.667  0.750   0.667  0.583  0.500           0.667",
        "worn                 1  1.000  1.000   0.000  0.833  1.000           1.000",
        "",
        "BAcc, TPR and FPR are at the deployed threshold.",
        "F1max is an oracle: its threshold is chosen on these very labels.",
        "Intervals: 95%; of TPR and FPR Wilson's; no bootstrap.",
        "",
        "verdict: on these images it finds 2 of 3 defects and raises 1 false alarm on 3 good ones (AUROC .78).",
    ]


def test_the_json_names_what_was_evaluated_and_holds_no_nan(tmp_path: Path) -> None:
    found = report(n_excluded=2, unscored=[("x.png", "x.png is empty")])
    write_json(tmp_path / "deep/report.json", found)
    text = (tmp_path / "deep/report.json").read_text()
    content = json.loads(text)
    assert "NaN" not in text
    assert content["model"] == {"path": "m.aae", "kind": "bundle", "sha256": "ab" * 32}
    assert content["decision"] == DECISION.to_json()
    assert content["data"] == ["tile/test"]
    assert (content["n_images"], content["n_excluded"]) == (7, 2)
    assert content["unscored"] == [{"name": "x.png", "reason": "x.png is empty"}]
    assert content["bootstrap"] == {"n_resamples": 0, "seed": 0, "level": 0.95}
    assert content["masks"] is None
    bent = content["subsets"]["bent"]
    assert (bent["n_normal"], bent["n_anomalous"], bent["true_positive_rate"]) == (3, 2, 0.5)
    assert bent["intervals"]["true_positive_rate"] == list(wilson_interval(1, 2))
    assert bent["pixels"] is None


def test_the_markdown_has_a_table_and_its_plots(tmp_path: Path) -> None:
    page = markdown_of(report([*ROWS, row(4.0, True, "a|b")], n_resamples=20), ["roc.png"])
    lines = page.splitlines()
    assert lines[0] == "# m.aae on tile/test"
    assert "![roc](roc.png)" in lines
    (worn,) = (line for line in lines if line.startswith("| worn |"))
    assert worn.count("[") == 5
    assert any(line.startswith(r"| a\|b |") for line in lines)
    table = [line.replace(r"\|", "") for line in lines if line.startswith("| ")]
    assert {line.count("|") for line in table[2:]} == {9}


def test_names_that_are_no_utf_8_keep_their_bytes(tmp_path: Path) -> None:
    write_markdown(tmp_path / "report.md", report([*ROWS, row(4.0, True, "pr\udcfcf")]))
    assert b"| pr\xfcf |" in (tmp_path / "report.md").read_bytes()


def test_pixel_figures_stand_where_masks_are(tmp_path: Path) -> None:
    mask = np.zeros((8, 8), np.uint8)
    mask[2:5, 2:5] = 255
    write_image(tmp_path / "bent/1_mask.png", mask)
    names = [each.item.name for each in ROWS]
    tally = PixelTally(Masks((tmp_path,), {names[3]: tmp_path / "bent/1_mask.png"}, names[4:6]))
    for each in ROWS:
        heat = (mask / 255).astype(np.float32) if each.item.anomalous else np.zeros((8, 8), np.float32)
        tally.add(each, ScoredImage(each.score, each.is_anomaly, each.criteria, lambda heat=heat: heat))  # type: ignore[misc]
    found = report(tally=tally)
    assert found.subsets["worn"].pixels is None
    content = json_of(found)
    assert content["subsets"]["bent"]["pixels"]["auroc"] == 1.0
    assert content["subsets"]["all"]["pixels"]["n_images"] == 4
    assert content["masks"] == {"folders": [str(tmp_path)], "missing": names[4:6]}
    lines = lines_of(found)
    assert "bent                 4        1  1.000  1.000  1.000" in lines
    assert lines[-3].endswith("which lacks those of 2 anomalous images.")
    assert "| bent | 4 | 1 | 1.000 | 1.000 | 1.000 |" in markdown_of(found).splitlines()
