"""The verdict on a model: one plain sentence from the evidence at hand, the same wherever it is said.

train, export, info, score and report make it from the manifest's calibration; with labelled images score, evaluate and
report make it from those. What a word means stands in docs/glossary.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = [
    "TEMPLATES",
    "TERMS",
    "ModelVerdict",
    "expected_alarms",
    "head_line",
    "of_thousand",
    "order_line",
    "percent",
    "verdict_of",
    "verdict_on_labelled",
]

CHANCE = 0.5
"""AUROC of a model that draws lots."""
LEAST_FOUND = 0.2
"""Share of the defects below which a model is said to miss most of them."""
PER = 1000

REMEDY = "try a closer view (--roi, --imgsz), more even light, or another --network"
FOUND = "finds {found} of {n} synthetic defects at its threshold{folds}"
FOLDS = " ({low} to {high} from fold to fold)"
FEW_FOUND = (
    "finds only {found} of {n} synthetic defects at its threshold{folds}: allow more false alarms (--target-fpr), or "
    + REMEDY
)
NO_BETTER = (
    "this model tells synthetic defects from good images no better than chance (AUROC {auroc}, interval {low} to "
    "{high}): do not rely on it; " + REMEDY
)
UNTESTED = "nothing is known yet about what it finds: try it on some defects with edge-aae evaluate"
FALSE_ALARMS = (
    "expect about {n} false alarms per 1,000 good parts{interval}, as long as the camera sees what it saw in training"
)
TOO_FEW = " (so few images cannot show so low a rate)"
ABOVE = "{share} of the training images lie above its threshold, and as many good parts may"
KNOWN_BAD = (
    "its threshold lies between the training images and {n} known defects, of which {found} are above it, as are "
    "{alarms} of {good} training images"
)
LOOK_WRONG = " About {n} of {total} training images look wrong: {look}."
REVIEW = "look at them with edge-aae review"
HIGHEST = "they are the highest in scores.png and on the report's page"
ELSEWHERE = (
    " This holds for the threshold of training or its export; another calibration or threshold is in force here."
)

HEAD = (
    "{decision}: of {n} synthetic defects of kinds that nothing was trained on, at {rate} false alarms, features find "
    "{features}, the head {head}, both joined {joined}"
)
JOINS, LEFT_OUT = "the head joins the score", "the head is left out, it tells no more than the features"

IN_STRETCHES = (
    "the training images change along their order, as sessions and lots make them: the threshold comes from {n} "
    "stretches of it, each judged by what had not seen it, so that it holds for the next one"
)

FOUND_HERE = (
    "on these images it finds {found} of {n} defects and raises {alarms} on {good} good ones (AUROC {auroc}{interval})"
)
FEW_FOUND_HERE = (
    "on these images it finds only {found} of {n} defects, with {alarms} on {good} good ones (AUROC "
    "{auroc}{interval}): lower the threshold (--threshold, or --target-fpr when training), or " + REMEDY
)
NO_BETTER_HERE = (
    "on these images it tells defects from good ones no better than chance (AUROC {auroc}{interval}): do not rely on "
    "it; " + REMEDY
)
NO_DEFECT_HERE = "it raises {alarms} on {good} good images; with no defect among them, what it finds is still untested"
NO_GOOD_HERE = "it finds {found} of {n} defects; with no good image among them, its false alarms are still untested"
AGAIN = "train again with one of these, then look at the verdict again"

TEMPLATES = (
    FOUND, FOLDS, FEW_FOUND, NO_BETTER, UNTESTED, FALSE_ALARMS, TOO_FEW, ABOVE, KNOWN_BAD, LOOK_WRONG, REVIEW, HIGHEST,
    ELSEWHERE, HEAD, JOINS, LEFT_OUT, IN_STRETCHES,
    FOUND_HERE, FEW_FOUND_HERE, NO_BETTER_HERE, NO_DEFECT_HERE, NO_GOOD_HERE, AGAIN,
)  # fmt: skip
TERMS = (
    "AUROC", "calibration", "chance", "false alarm", "features", "fold", "good", "head", "interval", "score",
    "stretch", "synthetic defect", "threshold", "training image",
)  # fmt: skip
"""Words of the sentences that docs/glossary.md explains."""


@dataclass(frozen=True, slots=True)
class ModelVerdict:
    """What is known of a model."""

    sentence: str
    sound: bool
    """Whether nothing speaks against going on with it"""

    @property
    def line(self) -> str:
        """The sentence as a command prints it."""
        return f"verdict: {self.sentence}"

    def next_line(self, usual: str) -> str:
        """The next step as a command prints it; usual: what it is where nothing speaks against the model."""
        return f"next: {usual if self.sound else AGAIN}"


def head_line(calibration: Mapping[str, Any]) -> str:
    """Whether a head joined the score, and what by; empty where none was tried."""
    tried = calibration.get("head")
    if not tried:
        return ""
    shares = {name: percent(tried["found"].get(name, 0.0)) for name in ("features", "head", "joined")}
    decision = JOINS if tried["joined"] else LEFT_OUT
    return HEAD.format(decision=decision, n=tried["n"], rate=percent(tried.get("fpr", 0.0)), **shares)


def order_line(calibration: Mapping[str, Any]) -> str:
    """Whether the threshold comes from stretches of the training images' order; empty where it does not."""
    order, folds = calibration.get("order"), calibration.get("folds")
    if not order or not order["in_stretches"]:
        return ""
    return IN_STRETCHES.format(n=folds["n"] if folds else "some")


def verdict_of(calibration: Mapping[str, Any], *, as_trained: bool = True) -> ModelVerdict:
    """The verdict from a manifest's calibration, of any release; what it does not hold is left out.

    as_trained: False where another calibration or threshold than the bundle's own decides.
    """
    found, folds = calibration.get("synthetic"), calibration.get("folds") or {}
    if found and found["interval"][0] <= CHANCE:
        low, high = found["interval"]
        return ModelVerdict(
            f"{NO_BETTER.format(auroc=_auroc(found['auroc']), low=_auroc(low), high=_auroc(high))}.", False
        )
    sound, detection = True, UNTESTED
    if found:
        sound = found["found"] >= LEAST_FOUND
        spread = folds.get("found")
        detection = (FOUND if sound else FEW_FOUND).format(
            found=percent(found["found"]),
            n=found["n"],
            folds=FOLDS.format(low=percent(spread[0]), high=percent(spread[1])) if spread else "",
        )
    parts = [detection, *_false_alarms(calibration)]
    ends = _look_wrong(calibration) + ("" if as_trained else ELSEWHERE)
    return ModelVerdict(f"{'; '.join(parts)}.{ends}", sound)


def verdict_on_labelled(
    *,
    n_defects: int,
    n_found: int,
    n_good: int,
    n_alarms: int,
    auroc: float,
    interval: tuple[float, float] | None,
) -> ModelVerdict:
    """The verdict from labelled images: how many are above the threshold of each kind, and the AUROC with its interval.

    interval: None where none was worked out; then the AUROC alone says whether it is chance.
    """
    alarms = f"{n_alarms} false alarm{'' if n_alarms == 1 else 's'}"
    bounds = "" if interval is None else f", interval {_auroc(interval[0])} to {_auroc(interval[1])}"
    if not n_defects:
        return ModelVerdict(f"{NO_DEFECT_HERE.format(alarms=alarms, good=n_good)}.", True)
    if not n_good:
        return ModelVerdict(f"{NO_GOOD_HERE.format(found=n_found, n=n_defects)}.", n_found >= LEAST_FOUND * n_defects)
    if (auroc if interval is None else interval[0]) <= CHANCE:
        return ModelVerdict(f"{NO_BETTER_HERE.format(auroc=_auroc(auroc), interval=bounds)}.", False)
    sound = n_found >= LEAST_FOUND * n_defects
    told = (FOUND_HERE if sound else FEW_FOUND_HERE).format(
        found=n_found, n=n_defects, alarms=alarms, good=n_good, auroc=_auroc(auroc), interval=bounds
    )
    return ModelVerdict(f"{told}.", sound)


def expected_alarms(calibration: Mapping[str, Any]) -> tuple[float, Sequence[float] | None] | None:
    """The rate of false alarms to expect, with its interval where images allow one; None where no rate was set."""
    limit = calibration.get("limit") or {}
    expected = limit.get("expected_fpr")
    rate = limit.get("target_fpr") if expected is None else expected
    return None if rate is None else (rate, limit.get("realised_fpr"))


def _false_alarms(calibration: Mapping[str, Any]) -> list[str]:
    """What is to be expected on good parts, by the rule that set the limit; nothing where nothing tells."""
    limit, known = calibration.get("limit"), calibration.get("known_bad")
    if known:
        return [
            KNOWN_BAD.format(
                n=known["defects"], found=known["caught"], alarms=known["false_alarms"], good=known["normal"]
            )
        ]
    if not limit:
        share = calibration.get("flagged_share")
        return [] if share is None else [ABOVE.format(share=percent(share))]
    found = expected_alarms(calibration)
    if found is None:
        return []
    rate, bounds = found
    n = of_thousand(rate)
    interval = TOO_FEW if bounds is None else f" (interval {of_thousand(bounds[0])} to {of_thousand(bounds[1])})"
    return [FALSE_ALARMS.format(n=n, interval=interval)]


def _look_wrong(calibration: Mapping[str, Any]) -> str:
    """Anomalies among the training images in words, none where they round to none."""
    share, total = calibration.get("contamination"), calibration.get("n_images") or 0
    n = round(share["share"] * total) if share else 0
    if not n:
        return ""
    # The review shows what was left out of training; where nothing was, there is nothing to look at.
    return LOOK_WRONG.format(n=n, total=total, look=REVIEW if calibration.get("left_out", n) else HIGHEST)


def _auroc(value: float) -> str:
    """.93, and 1.00."""
    return f"{value:.2f}".removeprefix("0")


def percent(share: float) -> str:
    """`93 %`."""
    return f"{100.0 * share:.0f} %"


def of_thousand(rate: float) -> str:
    """A rate as a count of 1,000: `52`, `0.31`."""
    count = PER * rate
    return f"{count:.0f}" if count >= 1.0 or not count else f"{count:.2g}"
