"""The sentence on a model: what it says of which evidence, and that its words are explained."""

from __future__ import annotations

import re
import string
from pathlib import Path
from typing import Any

import pytest

from edge_runtime.verdict import AGAIN, TEMPLATES, TERMS, head_line, verdict_of, verdict_on_labelled

GLOSSARY = Path(__file__).parents[2] / "docs/glossary.md"
JARGON = {
    "AP", "BAcc", "FPR", "ROC", "TPR", "anomaly", "auc", "balanced", "baseline", "bootstrap", "bundle", "calibration",
    "conformal", "contamination", "criteria", "criterion", "distribution", "extrapolated", "fold", "fused", "gate",
    "held-out", "interval", "latent", "manifest", "metric", "out-of-fold", "outlier", "percentile", "precision",
    "prior", "quantile", "recall", "score", "separation", "stratified", "threshold", "union", "variance",
}  # fmt: skip
"""Words that a beginner need not know: in a sentence they must be among the terms that the glossary has."""
NAMES = re.compile(r"--[\w-]+|\w+\.png")
"""Options and files are called what they are called."""

LIMIT: dict[str, Any] = {
    "rule": "balanced", "target_fpr": None, "stands_for": 0.05, "n": 300, "expected_fpr": 0.052,
    "realised_fpr": [0.031, 0.087], "extrapolated": False, "level": 0.95,
}  # fmt: skip
CALIBRATION: dict[str, Any] = {
    "n_images": 300,
    "limit": LIMIT,
    "contamination": {"share": 0.01, "low": 0.0, "high": 0.04},
    "synthetic": {"n": 128, "found": 0.93, "auroc": 0.981, "interval": [0.97, 0.99]},
    "folds": {"n": 3, "above": [0.04, 0.07], "found": [0.9, 0.96]},
    "left_out": 12,
}


def test_everything_that_is_known_stands_in_one_sentence() -> None:
    verdict = verdict_of(CALIBRATION)
    assert verdict.line == (
        "verdict: finds 93 % of 128 synthetic defects at its threshold (90 % to 96 % from fold to fold); expect about "
        "52 false alarms per 1,000 good parts (interval 31 to 87), as long as the camera sees what it saw in training. "
        "About 3 of 300 training images look wrong: look at them with edge-aae review."
    )
    assert verdict.sound
    assert verdict.next_line("edge-aae export") == "next: edge-aae export"


def test_what_was_tried_for_the_score_is_told_in_a_line() -> None:
    tried = {"joined": True, "n": 128, "fpr": 0.05, "found": {"features": 0.13, "head": 0.8, "joined": 0.79}}
    assert head_line({**CALIBRATION, "head": tried}) == (
        "the head joins the score: of 128 synthetic defects of kinds that nothing was trained on, at 5 % false alarms, "
        "features find 13 %, the head 80 %, both joined 79 %"
    )
    assert head_line({"head": {**tried, "joined": False}}).startswith("the head is left out, it tells no more than")
    assert head_line(CALIBRATION) == head_line({"head": None}) == ""


@pytest.mark.parametrize(("low", "chance"), [(0.45, True), (0.5, True), (0.51, False)])
def test_an_interval_that_touches_a_half_is_called_chance(low: float, chance: bool) -> None:
    figures = {"n": 128, "found": 0.3, "auroc": 0.52, "interval": [low, 0.58]}
    verdict = verdict_of({**CALIBRATION, "synthetic": figures})
    assert verdict.sound is not chance
    if chance:
        assert verdict.sentence.startswith(
            "this model tells synthetic defects from good images no better than chance (AUROC .52, interval "
        )
        assert "do not rely on it; try a closer view (--roi, --imgsz)" in verdict.sentence
        assert verdict.next_line("edge-aae export") == f"next: {AGAIN}"


@pytest.mark.parametrize(("found", "few"), [(0.19, True), (0.2, False)])
def test_few_found_is_said_with_what_to_try(found: float, few: bool) -> None:
    verdict = verdict_of({**CALIBRATION, "synthetic": {**CALIBRATION["synthetic"], "found": found}})
    assert verdict.sentence.startswith("finds only 19 % of 128" if few else "finds 20 % of 128")
    assert ("allow more false alarms (--target-fpr)" in verdict.sentence) is few
    assert verdict.sound is not few


def test_without_synthetic_defects_nothing_is_made_up() -> None:
    for synthetic in ({}, {"synthetic": None}):
        rest = {name: value for name, value in CALIBRATION.items() if name != "synthetic"}
        verdict = verdict_of({**rest, **synthetic})
        assert verdict.sentence.startswith(
            "nothing is known yet about what it finds: try it on some defects with edge-aae evaluate; expect about 52 "
        )
        assert "synthetic" not in verdict.sentence
        assert verdict.sound


def test_bundles_of_before_say_what_they_can() -> None:
    conformal = {"target_fpr": 0.01, "n": 500, "extrapolated": False, "realised_fpr": [0.004, 0.018]}
    assert "about 10 false alarms per 1,000 good parts (interval 4 to 18)" in verdict_of({"limit": conformal}).sentence
    assert verdict_of({}).sentence == (
        "nothing is known yet about what it finds: try it on some defects with edge-aae evaluate."
    )
    assert "15 % of the training images lie above its threshold" in verdict_of({"flagged_share": 0.15}).sentence


def test_a_number_of_images_that_is_null_leaves_contamination_out() -> None:
    calibration = {"contamination": {"share": 0.1, "low": 0.0, "high": 0.2}, "n_images": None}
    assert "look wrong" not in verdict_of(calibration).sentence


def test_a_rate_that_few_images_cannot_show_is_not_pretended() -> None:
    limit = {"target_fpr": 0.0001, "n": 40, "extrapolated": True, "realised_fpr": None}
    assert "about 0.1 false alarms per 1,000 good parts (so few images cannot show so low a rate)" in (
        verdict_of({"limit": limit}).sentence
    )


def test_contamination_is_said_where_there_is_some_and_the_review_where_it_shows_any() -> None:
    none = verdict_of({**CALIBRATION, "contamination": {"share": 0.001, "low": 0.0, "high": 0.04}})
    assert "look wrong" not in none.sentence
    kept = verdict_of({**CALIBRATION, "left_out": 0})
    assert kept.sentence.endswith("look wrong: they are the highest in scores.png and on the report's page.")


def test_another_threshold_in_force_is_said() -> None:
    assert "another calibration or threshold is in force here" in verdict_of(CALIBRATION, as_trained=False).sentence
    assert "in force" not in verdict_of(CALIBRATION).sentence


def labelled(**changes: Any) -> Any:
    given = {"n_defects": 40, "n_found": 37, "n_good": 100, "n_alarms": 5, "auroc": 0.94, "interval": (0.91, 0.97)}
    return verdict_on_labelled(**{**given, **changes})


def test_labelled_images_are_told_in_counts() -> None:
    assert labelled().sentence == (
        "on these images it finds 37 of 40 defects and raises 5 false alarms on 100 good ones (AUROC .94, interval .91 "
        "to .97)."
    )
    assert labelled().sound


def test_labelled_images_that_are_not_told_apart_are_called_chance() -> None:
    for changes in ({"auroc": 0.52, "interval": (0.45, 0.58)}, {"auroc": 0.3, "interval": None}):
        verdict = labelled(**changes)
        assert "no better than chance" in verdict.sentence
        assert "do not rely on it" in verdict.sentence
        assert not verdict.sound


def test_few_labelled_defects_found_are_said_with_what_to_try() -> None:
    verdict = labelled(n_found=7)
    assert verdict.sentence.startswith("on these images it finds only 7 of 40 defects, with 5 false alarms on 100 good")
    assert "lower the threshold" in verdict.sentence
    assert not verdict.sound


def test_images_of_one_label_alone_leave_the_rest_open() -> None:
    good = labelled(n_defects=0, n_found=0, auroc=float("nan"), interval=None)
    assert good.sentence == (
        "it raises 5 false alarms on 100 good images; with no defect among them, what it finds is still untested."
    )
    bad = labelled(n_good=0, n_alarms=0, auroc=float("nan"), interval=None)
    assert bad.sentence.startswith("it finds 37 of 40 defects; with no good image among them")


def glossary() -> dict[str, str]:
    return dict(re.findall(r"^\*\*(.+?)\*\*: (.+?)(?=\n\n|\Z)", GLOSSARY.read_text(), flags=re.MULTILINE | re.DOTALL))


def words_of(template: str) -> str:
    """A template's own words: without its fields."""
    return " ".join(literal for literal, *_ in string.Formatter().parse(template))


@pytest.mark.parametrize("term", [*TERMS, "bundle", "contamination", "out-of-fold", "separation kept", "TPR"])
def test_every_term_is_explained_in_few_lines(term: str) -> None:
    assert 0 < len(glossary()[term].splitlines()) <= 2


def test_the_terms_are_those_of_the_sentences() -> None:
    said = " ".join(words_of(template) for template in TEMPLATES)
    assert [term for term in TERMS if not re.search(rf"\b{term}", said)] == []


@pytest.mark.parametrize("template", TEMPLATES)
def test_no_other_jargon_is_in_a_sentence(template: str) -> None:
    words = NAMES.sub("", words_of(template))
    used = {word for word in JARGON if re.search(rf"\b{word}s?\b", words, flags=re.IGNORECASE)}
    assert used <= set(TERMS)


def test_the_glossary_is_in_the_order_of_the_alphabet() -> None:
    assert list(glossary()) == sorted(glossary(), key=str.lower)
