"""How every page opens: the verdict in one sentence, four figures, eight pictures under their maps.

For the person who must decide, and for that person's boss. What nobody measured is said to be so, with the way to
measure it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_runtime.scoring.heatmap import HeatScale
from edge_runtime.verdict import ModelVerdict, expected_alarms, of_thousand, percent
from train.evaluation.report import Report
from train.pages.examples import BEST, Example
from train.pages.page import as_text, heat_picture, still

__all__ = [
    "ALARMS",
    "FOUND",
    "LOOKED_AT",
    "NOT_MEASURED",
    "KeyFigure",
    "figures_of_labelled",
    "figures_of_training",
    "opening",
    "time_figure",
]

NOT_MEASURED = "not measured"
USUAL = 0.95
"""Quantile of the maps of the most usual pictures above which there is colour"""
LOOKED_AT, FOUND, ALARMS, TIME = "parts looked at", "defects found", "false alarms", "time a part"


@dataclass(frozen=True, kw_only=True, slots=True)
class KeyFigure:
    """One of the four figures."""

    name: str
    value: str = NOT_MEASURED
    note: str = ""
    """What it is of, or why it is not known"""
    command: str = ""
    """What measures it, or measures it better"""


def opening(
    verdict: ModelVerdict, usual_next: str, figures: Sequence[KeyFigure], examples: Sequence[Example], missing: str = ""
) -> str:
    """The head of a page, below its title.

    usual_next: the next step where nothing speaks against the model. missing: why there are no examples.
    """
    kind = "sound" if verdict.sound else "doubt"
    sentence = verdict.sentence[:1].upper() + verdict.sentence[1:]
    said = (
        f'<p class="verdict {kind}"><span class="heard">Verdict: </span>{as_text(sentence)}</p>'
        f'<p class="next">{as_text(verdict.next_line(usual_next))}</p>'
    )
    cards = "".join(map(_card, figures))
    low, high = _scale(examples)
    pictures = "".join(_example(example, low, high) for example in examples)
    note = (
        '<p class="quiet">Each part, and below it the same part, coloured where it stands out, the brighter the more. '
        "The number is the score: higher is more anomalous.</p>"
    )
    shown = f'{note}<div class="eight">{pictures}</div>' if examples else ""
    if missing:
        shown = f'<p class="quiet">No pictures: {as_text(missing)}.</p>'
    return f'{said}\n<dl class="four">{cards}</dl>\n{shown}'


def figures_of_training(
    calibration: Mapping[str, Any], n_images: int, n_set_aside: int | None, model: str, time: KeyFigure
) -> list[KeyFigure]:
    """The four figures where no labelled image was looked at. calibration: of the run or manifest; model: its path."""
    aside = "" if not n_set_aside else f", {n_set_aside:,} of them set aside"
    return [
        KeyFigure(name=LOOKED_AT, value=f"{n_images:,}", note=f"training photographs{aside}"),
        _synthetic(calibration, model),
        _expected(calibration, model),
        time,
    ]


def figures_of_labelled(report: Report, time: KeyFigure) -> list[KeyFigure]:
    """The four figures of labelled images."""
    rows, model = report.evaluation.rows, report.circumstances.model
    defects = [row for row in rows if row.item.anomalous]
    good = report.evaluation.normal_rows()
    unscored = len(report.evaluation.unscored)
    aside = f", {unscored} more could not be scored" if unscored else ""
    ask = f"edge-aae report {model} TEST"
    found = KeyFigure(name=FOUND, note="no defect is among these; look at some in TEST:", command=ask)
    alarms = KeyFigure(name=ALARMS, note="no good part is among these; look at some in TEST:", command=ask)
    if defects:
        n = sum(row.is_anomaly for row in defects)
        found = KeyFigure(
            name=FOUND, value=f"{n} of {len(defects)}", note=f"defects in these images, {_share(n, defects)}"
        )
    if good:
        n = sum(row.is_anomaly for row in good)
        alarms = KeyFigure(
            name=ALARMS, value=f"{n} of {len(good)}", note=f"good parts in these images, {_share(n, good)}"
        )
    return [
        KeyFigure(name=LOOKED_AT, value=f"{len(rows):,}", note=f"labelled images{aside}"),
        found,
        alarms,
        time,
    ]


def time_figure(time_ms: float | None, how: str, command: str) -> KeyFigure:
    """What a part takes; how: on what it was measured, or why it was not; command: what measures it on the device."""
    if time_ms is None:
        return KeyFigure(name=TIME, note=how, command=command)
    return KeyFigure(name=TIME, value=_duration(time_ms), note=how, command=command)


def _synthetic(calibration: Mapping[str, Any], model: str) -> KeyFigure:
    known, found = calibration.get("known_bad"), calibration.get("synthetic")
    ask = f"edge-aae report {model} TEST"
    real = "with real ones in folder TEST, beside good parts in TEST/good:"
    if known:
        note = f"defects named for the threshold; of others, {real}"
        return KeyFigure(name=FOUND, value=f"{known['caught']} of {known['defects']}", note=note, command=ask)
    if found:
        note = f"of {found['n']} synthetic defects; {real}"
        return KeyFigure(name=FOUND, value=percent(found["found"]), note=note, command=ask)
    return KeyFigure(name=FOUND, note=f"measure it {real}", command=ask)


def _expected(calibration: Mapping[str, Any], model: str) -> KeyFigure:
    known, rate = calibration.get("known_bad"), expected_alarms(calibration)
    if known:
        return KeyFigure(
            name=ALARMS,
            value=f"{known['false_alarms']} of {known['normal']}",
            note="training photographs, taken for good",
        )
    if rate is not None:
        bounds = "" if rate[1] is None else f" ({of_thousand(rate[1][0])} to {of_thousand(rate[1][1])})"
        note = f"good parts{bounds}: to be expected, not counted"
        return KeyFigure(name=ALARMS, value=f"{of_thousand(rate[0])} of 1,000", note=note)
    share = calibration.get("flagged_share")
    if share is not None:
        return KeyFigure(name=ALARMS, value=percent(share), note="of the training photographs lie above the threshold")
    return KeyFigure(
        name=ALARMS, note="measure it on good parts in TEST/good:", command=f"edge-aae report {model} TEST"
    )


def _share(n: int, of: Sequence[object]) -> str:
    return percent(n / len(of))


def _duration(time_ms: float) -> str:
    if time_ms >= 1000.0:
        return f"{time_ms / 1000.0:.1f} s"
    return f"{time_ms:.0f} ms" if time_ms >= 10.0 else f"{time_ms:.1f} ms"


def _card(figure: KeyFigure) -> str:
    unknown = ' class="unknown"' if figure.value == NOT_MEASURED else ""
    command = f" <code>{as_text(figure.command)}</code>" if figure.command else ""
    return (
        f"<div><dt>{as_text(figure.name)}</dt><dd{unknown}><b>{as_text(figure.value)}</b>"
        f"<span>{as_text(figure.note)}{command}</span></dd></div>"
    )


def _scale(examples: Sequence[Example]) -> tuple[float, float]:
    """Values of the maps from which on there is colour, and at which it is full; one scale for all.

    Distances have no natural zero: those of features lie between .6 and .7 on a usual part. So colour begins above what
    is usual in the most usual of the pictures.
    """
    usual = [example.heat.ravel() for example in examples if example.why == BEST]
    low = float(np.quantile(np.concatenate(usual), USUAL)) if usual else 0.0
    return low, max([low, *(max(example.peak, float(example.heat.max())) for example in examples)])


def _example(example: Example, low: float, high: float) -> str:
    scale = HeatScale(low, 0.5 * (low + high))  # its peak has half the colour
    image, heat = still(example.image), heat_picture(example.image, example.heat, scale)
    told = as_text(example.caption)
    return (
        f'<figure><img alt="{told}" src="{image}"><img alt="what stands out in it" src="{heat}">'
        f"<figcaption><b>{as_text(example.why)}</b> {told}</figcaption></figure>"
    )
