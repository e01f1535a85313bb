"""thresholds.md, from finished cells."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import stats

from benchmarks.industrial.photographs import DEVELOPMENT, known

__all__ = ["markdown"]

HEAD = """# Thresholds on real photographs

    {command}

Network features, trained on unsorted photographs alone; a rule sees the out-of-fold scores of these and no label.
Realised false alarms and hits are of photographs and defects that were not trained on. *Within*: the realised count
lies in the binomial 95 % interval of the rate that the run states (expected of the rule, asked of the conformal one)
/ in that of the 95 % interval that the run prints. *Lost*: balanced accuracy less than that of the best threshold on
the tested photographs, which no rule can know. TPR is, by its definition, that of the best threshold with the same
realised false alarms. Sets marked * were tuned on. ELPV is tested on other modules than trained on: another session,
where no threshold holds.

"""
OTHER_SESSION = ("elpv-mono", "elpv-poly")
LEVEL = 0.95
CLEAR = 0.9
"""AUROC above which the loss of a threshold is the threshold's."""


def markdown(cells: Sequence[dict[str, Any]], command: str) -> list[str]:
    """The page's lines."""
    lines = HEAD.format(command=command).splitlines()
    regimes = list(dict.fromkeys(cell["regime"] for cell in cells))
    rules = list(cells[0]["rules"])
    lines += ["## By rule, over the sets of one session", ""]
    lines += [f"AUROC of {CLEAR} and more; mean over cells, their number in brackets.", ""]
    lines += ["| rule | regime | FPR | TPR | lost, mean / worst | within stated | within printed |"]
    lines += ["|---|---|---|---|---|---|---|"]
    same = [cell for cell in cells if cell["set"] not in OTHER_SESSION]
    for rule in rules:
        lines += [_of_rule(rule, regime, [cell for cell in same if cell["regime"] == regime]) for regime in regimes]
    lines += ["", "## Every set, rule balanced", ""]
    lines += [
        "| set | regime | seeds | trained, mixed in | AUROC | states | prints | FPR of good | TPR | lost | within |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name in dict.fromkeys(cell["set"] for cell in cells):
        for regime in regimes:
            of_one = [cell for cell in cells if (cell["set"], cell["regime"]) == (name, regime)]
            lines += [_of_set(name, regime, of_one)] if of_one else []
    machines = Counter(cell["cpu"] for cell in cells)
    lines += ["", f"Made on {', '.join(machines)}, one thread; {len(cells)} cells."]
    return lines


def _of_rule(rule: str, regime: str, cells: Sequence[dict[str, Any]]) -> str:
    clear = [cell for cell in cells if cell["auroc"] >= CLEAR]
    if not clear:
        return f"| {rule} | {regime} | - | - | - | - | - |"
    of_clear = [cell["rules"][rule] for cell in clear]
    lost = [cell["best"] - tried["bacc"] for cell, tried in zip(clear, of_clear, strict=True)]
    stated = sum(_within_stated(cell, rule) for cell in cells)
    printed = [_within_printed(cell, rule) for cell in cells if cell["rules"][rule]["interval"] is not None]
    return (
        f"| {rule} | {regime} | {_mean(of_clear, 'fpr'):.3f} | {_mean(of_clear, 'tpr'):.3f} | "
        f"{np.mean(lost):.3f} / {max(lost):.3f} ({len(clear)}) | {stated} of {len(cells)} | "
        f"{sum(printed)} of {len(printed)} |"
    )


def _of_set(name: str, regime: str, cells: Sequence[dict[str, Any]]) -> str:
    tried = [cell["rules"]["balanced"] for cell in cells]
    lost = np.mean([cell["best"] - one["bacc"] for cell, one in zip(cells, tried, strict=True)])
    low, high = (np.mean([one["interval"][end] for one in tried]) for end in (0, 1))
    auroc = np.mean([cell["auroc"] for cell in cells])
    star = "*" if known(name).role == DEVELOPMENT else ""
    good = sum(cell["n_good"] for cell in cells)
    return (
        f"| {name}{star} | {regime} | {len(cells)} | {cells[0]['n_train']}, {cells[0]['n_mixed']} | "
        f"{auroc:.3f} | {_mean(tried, 'expected'):.3f} | {low:.3f} to {high:.3f} | "
        f"{_mean(tried, 'fpr'):.3f} of {good} | {_spread(tried, 'tpr')} | {lost:.3f} | "
        f"{sum(_within_stated(cell, 'balanced') for cell in cells)} / "
        f"{sum(_within_printed(cell, 'balanced') for cell in cells)} of {len(cells)} |"
    )


def _within_stated(cell: dict[str, Any], rule: str) -> bool:
    tried = cell["rules"][rule]
    rate = tried["stands_for"] if tried["expected"] is None else tried["expected"]
    low, high = stats.binom.interval(LEVEL, cell["n_good"], rate)
    return bool(low <= tried["false_alarms"] <= high)


def _within_printed(cell: dict[str, Any], rule: str) -> bool:
    tried = cell["rules"][rule]
    low = stats.binom.interval(LEVEL, cell["n_good"], tried["interval"][0])[0]
    high = stats.binom.interval(LEVEL, cell["n_good"], tried["interval"][1])[1]
    return bool(low <= tried["false_alarms"] <= high)


def _mean(tried: Sequence[dict[str, Any]], figure: str) -> float:
    return float(np.mean([one[figure] for one in tried]))


def _spread(tried: Sequence[dict[str, Any]], figure: str) -> str:
    values = [one[figure] for one in tried]
    return f"{np.mean(values):.3f}" + (f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else "")
