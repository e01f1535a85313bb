"""paper.json and paper.md: every cell beside the published figure, mean and spread over seeds."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.paper.baselines import BASELINES
from benchmarks.paper.protocol import ALPHAS, PAIRS, Setting

__all__ = ["TITLES", "bacc_and_auroc", "write_results"]

TITLES = {
    "ae": "AE",
    "aae": "AAE",
    "itsr": "ITSR",
    "robust": "robust",
    **{name: baseline.title for name, baseline in BASELINES.items()},
}

HOG_ROWS = ("hog-ppca-10", "hog-ppca-25")
SIDES = ("observed", "unobserved")

Values = dict[tuple[str, str, str], list[float]]
"""(setting name, side, method) -> one value a seed"""


def write_results(out: Path, results: list[dict[str, Any]]) -> None:
    """Write both files into the folder `out`."""
    out.mkdir(parents=True, exist_ok=True)
    content = {
        "commands": list(dict.fromkeys(result["command"] for result in results)),
        "schedules": _schedules(results),
        "devices": sorted({f"{result['device']}, {result['threads']} threads" for result in results}),
        "versions": _versions(results),
        "results": results,
    }
    (out / "paper.json").write_text(json.dumps(content, indent=1) + "\n")
    (out / "paper.md").write_text(markdown(content))


def markdown(content: dict[str, Any]) -> str:
    """The tables with their provenance."""
    results = content["results"]
    methods = [method for method in TITLES if any(result["method"] == method for result in results)]
    bacc, auroc = _values(results, "bacc"), _values(results, "auroc")
    lines = [
        "# The paper's table",
        "",
        *_provenance(content, methods),
        "",
        "## Balanced accuracy",
        "",
        "At the threshold that the contaminated training images give. In brackets the figure of arXiv 1901.06355.",
        "",
        *_table(bacc, methods, published=True),
        "",
        "## AUROC",
        "",
        *_table(auroc, methods, published=False),
        "",
        "## Cells at or above",
        "",
        "Mean BAcc over seeds, against the published ITSR (two digits) and the better of the two HOG-PPCA rows.",
        "",
        *_wins(bacc, methods),
    ]
    return "\n".join(lines) + "\n"


def bacc_and_auroc(of_seeds: list[dict[str, dict[str, float]]]) -> str:
    """A table's cell, BAcc (AUROC), both observed / unobserved and means over seeds; from the cells of each seed."""
    if not of_seeds:
        return "-"

    def mean(side: str, name: str) -> str:
        return f"{np.mean([cells[side][name] for cells in of_seeds]):.3f}"

    bacc, auroc = (" / ".join(mean(side, name) for side in SIDES) for name in ("bacc", "auroc"))
    return f"{bacc} ({auroc})"


def _provenance(content: dict[str, Any], methods: list[str]) -> list[str]:
    seeds = ", ".join(f"{TITLES[method]} {_n_seeds(content['results'], method)}" for method in methods)
    versions = ", ".join(f"{name} {value}" for name, value in content["versions"].items())
    lines = [
        "Made by:",
        "",
        *(f"- `{command}`" for command in content["commands"]),
        "",
        f"Devices: {'; '.join(content['devices'])}. Versions: {versions}.",
        "",
    ]
    if content["schedules"]:
        lines += [
            "Schedules of the networks:",
            "",
            *(f"- {entry}" for entry in content["schedules"]),
            "",
        ]
    if any("SHORT" in entry for entry in content["schedules"]):
        lines += [
            "**A short schedule is not the paper's: its figures say what so little training gives, and are no",
            "reproduction of the published ones.**",
            "",
        ]
    return [
        *lines,
        f"Seeds draw the contaminating images and the network together: {seeds}. Mean ± sample standard deviation.",
        "",
        "Protocol: all normal training images and alpha contaminants, drawn as `edge-aae train --contaminate` does;",
        "original test images. Observed: against the contaminating class; unobserved: against the eight others.",
        "Thresholds come from the training images without labels. AE, AAE, ITSR: the paper's p90 limits, their union.",
        "HOG-PPCA: exp(m + 2 (m - q16)), m median and q16 16 % quantile of the log scores. Others: p90 of the scores.",
    ]


def _table(values: Values, methods: list[str], *, published: bool) -> list[str]:
    lines = [
        f"| setting | alpha | test | {' | '.join(TITLES[method] for method in methods)} |",
        f"|{'---|' * (3 + len(methods))}",
    ]
    for setting in _settings():
        for position, side in enumerate(SIDES):
            cells = []
            for method in methods:
                cell = _spread(values.get((setting.name, side, method), []))
                figures = setting.published(method) if published else None
                cells.append(f"{cell} [{figures[position]:.2f}]" if figures else cell)
            lines.append(f"| {setting.pair.title} | {100 * setting.alpha:g} % | {side} | {' | '.join(cells)} |")
    return lines


def _wins(values: Values, methods: list[str]) -> list[str]:
    lines = [
        "| method | of published ITSR | of best HOG-PPCA | below ITSR in | below HOG-PPCA in |",
        "|---|---|---|---|---|",
    ]
    for method in methods:
        below: dict[str, list[str]] = {"itsr": [], "hog": []}
        counted = {"itsr": 0, "hog": 0}
        for setting in _settings():
            for position, side in enumerate(SIDES):
                mean = _mean(values.get((setting.name, side, method), []))
                published = setting.published("itsr")
                assert published is not None, "the paper has ITSR"
                hog = max((_mean(values.get((setting.name, side, row), [])) for row in HOG_ROWS), key=_nan_last)
                for name, bar in (("itsr", published[position]), ("hog", hog)):
                    if np.isnan(mean) or np.isnan(bar):
                        continue
                    counted[name] += 1
                    if mean < bar:
                        below[name].append(f"{setting.pair.title} {100 * setting.alpha:g} % {side} ({mean - bar:+.3f})")
        cells = [f"{counted[name] - len(below[name])} of {counted[name]}" for name in ("itsr", "hog")]
        cells += ["; ".join(below[name]) or "-" for name in ("itsr", "hog")]
        lines.append(f"| {TITLES[method]} | {' | '.join(cells)} |")
    return lines


def _settings() -> list[Setting]:
    return [Setting(pair=pair, alpha=alpha) for pair in PAIRS for alpha in ALPHAS]


def _values(results: Iterable[dict[str, Any]], metric: str) -> Values:
    by_pair = {pair.name: pair for pair in PAIRS}
    values: Values = {}
    for result in results:
        setting = Setting(pair=by_pair[result["setting"]], alpha=result["alpha"])
        for side in SIDES:
            values.setdefault((setting.name, side, result["method"]), []).append(result["cells"][side][metric])
    return values


def _schedules(results: list[dict[str, Any]]) -> list[str]:
    """A line for each method and data set that trained networks."""
    lines = []
    for result in results:
        settings = result["key"].get("settings")
        if settings is None:
            continue
        epochs = settings["schedule"]
        text = f"{epochs['train']} epochs"
        if settings["refine"] == "itsr":
            rounds = settings["itsr"]["rounds"]
            text = f"{epochs['train']} + {rounds} x {epochs['refine']} + {epochs['retrain']} epochs"
        data = "MNIST" if result["setting"].startswith("mnist") else "Fashion-MNIST"
        lines.append(f"{TITLES[result['method']]}, {data}: {text}, batch {settings['batch_size']}; {_length(result)}")
    return list(dict.fromkeys(lines))


def _length(result: dict[str, Any]) -> str:
    """How a schedule compares with the published one."""
    key = result["key"]
    if "epochs_scale" not in key:
        return "the product's default"
    if key["epochs_scale"] == 1.0 and key["max_epochs"] is None:
        return "the published schedule"
    capped = f", at most {key['max_epochs']} epochs a phase" if key["max_epochs"] else ""
    return f"SHORT: {key['epochs_scale']:g} of the published epochs{capped}"


def _versions(results: list[dict[str, Any]]) -> dict[str, str]:
    found: dict[str, set[str]] = {}
    for result in results:
        for name, value in result["versions"].items():
            found.setdefault(name, set()).add(value)
    return {name: " and ".join(sorted(values)) for name, values in found.items()}


def _n_seeds(results: list[dict[str, Any]], method: str) -> int:
    return len({result["seed"] for result in results if result["method"] == method})


def _mean(values: list[float]) -> float:
    return float(np.mean(values)) if values else float("nan")


def _nan_last(value: float) -> float:
    return -1.0 if np.isnan(value) else value


def _spread(values: list[float]) -> str:
    if not values:
        return "-"
    if len(values) == 1:
        return f"{values[0]:.3f}"
    return f"{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f}"
