"""real-sets.md: what real_sets.py found, as tables."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks.industrial.photographs import known
from benchmarks.peers.methods import GAUSSIAN, PEERS, called

__all__ = ["markdown"]

TURNED_LOSS = 0.02
"""AUROC that a turned set may lose against the upright one."""
GAUSSIAN_LOSS = 0.01
"""AUROC that any set may lose against the per-site Gaussian."""

Result = dict[str, Any]

FIGURES = (
    ("auroc", "AUROC", 3),
    ("ap", "AP", 3),
    ("tpr", "TPR", 3),
    ("fpr", "FPR", 3),
    ("bacc", "BAcc", 3),
    ("pixel_auroc", "pixel AUROC", 3),
    ("aupro", "AUPRO", 3),
    ("train_s", "train s", 0),
    ("frame_ms", "ms a frame", 1),
    ("bundle_mb", "MB", 1),
)
"""Of a result, of the header, and decimals."""


def markdown(found: Sequence[Result], *, primary: str, missing: Mapping[str, str], command: str) -> Iterator[str]:
    """The lines of real-sets.md.

    found: results of cells, the sets in the order they are shown. primary: the variant that is held to the aims.
    missing: why a set is not here.
    """
    clean = [result for result in found if not result["key"]["reserved"]]
    contaminated = [result for result in found if result["key"]["reserved"]]
    yield "# Real photographs"
    yield ""
    yield f"    {command}"
    yield ""
    yield "A cell is `edge-aae train`, `export`, `evaluate` and `bench`, as a user would call them, on one set with one"
    yield "seed; mean ± standard deviation over seeds. TPR, FPR and balanced accuracy are at the threshold that the"
    yield "product set itself. Development sets were tuned on, so their figures are no claim; the others are looked at"
    yield "to report. magnetic-tile is trained without the [twins](twins.md) of tested tiles. ELPV is split in file"
    yield "order: other modules are tested than trained on. turned-*: the same photographs, each part turned by 0 to"
    yield "360 degrees and shifted on its own painted-in background (`benchmarks/industrial/turned.py`)."
    yield "Other methods, computed apart from the product, all on the same frozen EfficientNet-Lite0 at 256x256,"
    yield "blocks 4 and 10, means of 3x3 sites at stride 8 (anomalib's PaDiM: without the means):"
    yield ""
    yield from (f"- {peer.name}: {peer.about}" for peer in PEERS.values() if peer.name in _names(found, "variant"))
    yield ""
    if clean:
        yield from _aims(clean, primary, missing)
        yield from _peers(clean, primary)
        yield from _details(clean)
    if contaminated:
        yield from _contaminated(contaminated)
    yield from _failures(found)
    yield from _variants(found)


def _aims(found: Sequence[Result], primary: str, missing: Mapping[str, str]) -> Iterator[str]:
    variants = [name for name in _names(found, "variant") if name == GAUSSIAN or called(name) is None]
    yield "## Image AUROC against the aims"
    yield ""
    yield f"Every set: at most {GAUSSIAN_LOSS:g} below the {GAUSSIAN}. A turned one: at most {TURNED_LOSS:g} below the"
    yield "upright."
    yield ""
    yield f"| set | use | aim | {' | '.join(variants)} | {primary}: aims met |"
    yield "|---" * (4 + len(variants)) + "|"
    for name in _names(found, "set"):
        cells = [_spread(_of(found, name, variant), "auroc", 3) for variant in variants]
        yield f"| {name} | {known(name).role} | {_aim(name)} | {' | '.join(cells)} | {_met(found, name, primary)} |"
    for name, reason in missing.items():
        yield f"| {name} | {known(name).role} | {_aim(name)} {'| - ' * len(variants)}| not here: {reason} |"
    yield ""


def _aim(name: str) -> str:
    aim, upright = known(name).aim, known(name).upright
    return f"{aim:g}" if aim is not None else f"{upright} - {TURNED_LOSS:g}" if upright else "-"


def _met(found: Sequence[Result], name: str, primary: str) -> str:
    """Yes, or what is missed and by how much; a mean counts as it is printed, to three decimals."""
    reached = _mean(_of(found, name, primary), "auroc")
    if reached is None:
        return "no figure"
    aims = [(known(name).aim, "aim"), (_less(found, name, GAUSSIAN, GAUSSIAN_LOSS), GAUSSIAN)]
    upright = known(name).upright
    if upright is not None:
        aims.append((_less(found, upright, primary, TURNED_LOSS), "upright"))
    asked = [(aim, what) for aim, what in aims if aim is not None]
    if not asked:
        return "-"
    missed = [f"{what} by {gap:.3f}" for aim, what in asked if (gap := round(aim - reached, 3)) > 0]
    return f"no: {', '.join(missed)}" if missed else "yes"


def _less(found: Sequence[Result], name: str, variant: str, loss: float) -> float | None:
    mean = _mean(_of(found, name, variant), "auroc")
    return None if mean is None else round(mean - loss, 3)


def _peers(found: Sequence[Result], primary: str) -> Iterator[str]:
    """Who is best on each set, as printed; nothing where no other method than the Gaussian was run."""
    peers = [name for name in _names(found, "variant") if called(name) is not None]
    if not set(peers) - {GAUSSIAN}:
        return
    columns = [primary, *peers]
    yield "## Beside other methods"
    yield ""
    yield "Image AUROC, the best of a set in bold, by three decimals; a method without a figure on a set cannot win"
    yield "there. The papers take larger trunks, with which their figures would be others."
    yield ""
    yield f"| set | use | {' | '.join(columns)} | {primary} against the best other |"
    yield "|---" * (3 + len(columns)) + "|"
    won, complete = dict.fromkeys(columns, 0), []
    for name in _names(found, "set"):
        reached = {column: _printed(_of(found, name, column)) for column in columns}
        figures = {column: value for column, value in reached.items() if value is not None}
        best = max(figures.values(), default=None)
        for column, value in figures.items():
            won[column] += value == best
        if len(figures) == len(columns):
            complete.append(figures)
        others = [value for column, value in figures.items() if column != primary]
        against = f"{figures[primary] - max(others):+.3f}" if primary in figures and others else "-"
        cells = [
            f"**{shown}**" if best is not None and value == best else shown
            for value, shown in ((reached[column], _spread(_of(found, name, column), "auroc", 3)) for column in columns)
        ]
        yield f"| {name} | {known(name).role} | {' | '.join(cells)} | {against} |"
    if complete:
        means = [f"{statistics.mean(figures[column] for figures in complete):.3f}" for column in columns]
        yield f"| mean of the {len(complete)} sets with all figures | | {' | '.join(means)} | |"
    yield f"| sets won, alone or with others | | {' | '.join(str(won[column]) for column in columns)} | |"
    yield ""


def _printed(own: Sequence[Result]) -> float | None:
    mean = _mean(own, "auroc")
    return None if mean is None else round(mean, 3)


def _details(found: Sequence[Result]) -> Iterator[str]:
    yield "## Every figure"
    yield ""
    yield "train s: the whole command, its report included. ms a frame: `edge-aae bench`, FP32, onnxruntime, one"
    yield "thread, without decoding. Exported: cells whose bundle passed the parity gate, of all. Other work on the"
    yield "machine makes times longer; they are of:"
    yield ""
    for machine in dict.fromkeys(f"{result['cpu']}, {result['threads']} threads" for result in found):
        yield f"- {machine}"
    yield ""
    header = ["set", "variant", "seeds", "trained / good / defects", *(title for _, title, _ in FIGURES), "exported"]
    yield f"| {' | '.join(header)} |"
    yield "|---" * len(header) + "|"
    for name in _names(found, "set"):
        for variant in _names(found, "variant"):
            own = _of(found, name, variant)
            if not own:
                continue
            first = own[0]
            label = f"{variant} ({first['network']})" if first.get("network") else variant
            cells = [_spread(own, figure, decimals) for figure, _, decimals in FIGURES]
            n = f"{first['n_train']} / {first['n_good']} / {first['n_tested_defects']}"
            yield f"| {name} | {label} | {len(own)} | {n} | {' | '.join(cells)} | {_exported(own)} |"
    yield ""


def _exported(own: Sequence[Result]) -> str:
    if all("exported" not in result for result in own):
        return "-"
    return f"{sum(result['exported'] is True for result in own)} of {len(own)}"


def _contaminated(found: Sequence[Result]) -> Iterator[str]:
    shares = sorted({result["key"]["share"] for result in found})
    yield "## Contamination"
    yield ""
    yield "Image AUROC where a share of the training photographs are defects, unmarked. Drawn by seed; none that any"
    yield "column mixes in is tested in any column, so all columns of a row have one test set. In brackets: how many of"
    yield "those mixed in the run rejected."
    yield ""
    yield f"| set | variant | seeds | {' | '.join(f'{100 * share:g} %' for share in shares)} |"
    yield "|---" * (3 + len(shares)) + "|"
    for name in _names(found, "set"):
        for variant in _names(found, "variant"):
            own = _of(found, name, variant)
            if not own:
                continue
            columns = [[result for result in own if result["key"]["share"] == share] for share in shares]
            seeds = len({result["key"]["seed"] for result in own})
            yield f"| {name} | {variant} | {seeds} | {' | '.join(map(_contaminated_cell, columns))} |"
    yield ""


def _contaminated_cell(own: Sequence[Result]) -> str:
    told = [result for result in own if result.get("mixed_in_rejected") is not None and result["n_mixed_in"]]
    caught = sum(result["mixed_in_rejected"] for result in told)
    bracket = f" ({caught} of {sum(result['n_mixed_in'] for result in told)})" if told else ""
    return _spread(own, "auroc", 3) + bracket


def _failures(found: Sequence[Result]) -> Iterator[str]:
    failed = [(result, failure) for result in found for failure in result["failures"]]
    if not failed:
        return
    yield "## What failed"
    yield ""
    yield "| set | variant | seed | mixed in | step | |"
    yield "|---|---|---|---|---|---|"
    for result, failure in failed:
        key = result["key"]
        line = failure["line"].replace("|", "\\|")
        yield (
            f"| {result['set']} | {result['variant']} | {key['seed']} | {100 * key['share']:g} % | {failure['step']} | "
            f"{line} |"
        )
    yield ""


def _variants(found: Sequence[Result]) -> Iterator[str]:
    yield "## Variants"
    yield ""
    yield "| variant | arguments of `edge-aae train` | source, hash of its Python files |"
    yield "|---|---|---|"
    for variant in _names(found, "variant"):
        own = [result["key"] for result in found if result["variant"] == variant]
        arguments = " ".join(own[0]["arguments"])
        sources = ", ".join(dict.fromkeys(key["source"] for key in own))
        yield f"| {variant} | {f'`{arguments}`' if arguments else '-'} | {sources} |"


def _names(found: Sequence[Result], what: str) -> list[str]:
    return list(dict.fromkeys(result[what] for result in found))


def _of(found: Sequence[Result], name: str, variant: str) -> list[Result]:
    return [result for result in found if result["set"] == name and result["variant"] == variant]


def _mean(own: Sequence[Result], figure: str) -> float | None:
    values = [result[figure] for result in own if result.get(figure) is not None]
    return statistics.mean(values) if values else None


def _spread(own: Sequence[Result], figure: str, decimals: int) -> str:
    """Mean and deviation; of fewer seeds than were asked it says so."""
    values = [result[figure] for result in own if result.get(figure) is not None]
    if not values:
        return "failed" if own and figure == "auroc" else "-"
    deviation = f" ± {statistics.stdev(values):.{decimals}f}" if len(values) > 1 else ""
    few = f" ({len(values)} of {len(own)})" if len(values) < len(own) else ""
    return f"{statistics.mean(values):.{decimals}f}{deviation}{few}"
