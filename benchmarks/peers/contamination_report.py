"""contamination-real.md, from finished cells."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks.industrial.photographs import DEVELOPMENT, known
from benchmarks.peers.methods import PEERS

__all__ = ["markdown"]

Result = dict[str, Any]


def markdown(found: Sequence[Result], command: str) -> Iterator[str]:
    """The page's lines."""
    shares = sorted({result["key"]["share"] for result in found})
    titles = [f"{100 * share:g} %" for share in shares]
    yield "# Defects among the training photographs"
    yield ""
    yield f"    {command}"
    yield ""
    yield "So many of the training photographs are defects in place of good ones, drawn by the seed, marked nowhere."
    yield "None that any column of a seed mixes in is tested in any, so a row has one test. features: the product with"
    yield "its defaults, but that its autoencoder, which has no weight in the score, trains one epoch. Other methods"
    yield "stand on the same frozen EfficientNet-Lite0 at 256x256:"
    yield ""
    yield from (f"- {peer.name}: {peer.about}" for peer in PEERS.values() if peer.name in _names(found, "variant"))
    yield ""
    yield "Sets marked * were tuned on. magnetic-tile is trained without the [twins](twins.md) of tested tiles; ELPV is"
    yield "tested on other modules than trained on. Mean ± standard deviation over seeds."
    yield ""
    yield "## Image AUROC"
    yield ""
    yield "In bold the best of a set and share, by three decimals. *Lost*: from the first column to the last."
    yield ""
    yield f"| set | method | seeds | trained / good / defects | {' | '.join(titles)} | lost |"
    yield "|---" * (5 + len(shares)) + "|"
    for name in _names(found, "set"):
        best = {
            share: max(
                (_rounded(_of(found, name, variant, share)) for variant in _names(found, "variant")), default=-1.0
            )
            for share in shares
        }
        for variant in _names(found, "variant"):
            own = [result for result in found if (result["set"], result["variant"]) == (name, variant)]
            if own:
                yield _row(own, shares, best)
    yield ""
    yield from _means(found, shares, titles)
    yield from _thresholds([result for result in found if "tpr" in result])
    machines = dict.fromkeys(f"{result['cpu']}, {result['threads']} threads" for result in found)
    yield f"Made on {'; '.join(machines)}; {len(found)} cells."


def _row(own: Sequence[Result], shares: Sequence[float], best: dict[float, float]) -> str:
    first = own[0]
    cells = []
    for share in shares:
        of_share = [result for result in own if result["key"]["share"] == share]
        shown = _spread(of_share, "auroc")
        cells.append(f"**{shown}**" if of_share and _rounded(of_share) == best[share] else shown)
    counts = f"{first['n_train']} / {first['n_good']} / {first['n_tested_defects']}"
    seeds = len({result["key"]["seed"] for result in own})
    ends = [[result for result in own if result["key"]["share"] == share] for share in (shares[0], shares[-1])]
    lost = f"{_rounded(ends[0]) - _rounded(ends[1]):.3f}" if all(ends) else "-"
    star = "*" if known(first["set"]).role == DEVELOPMENT else ""
    return f"| {first['set']}{star} | {first['variant']} | {seeds} | {counts} | {' | '.join(cells)} | {lost} |"


def _means(found: Sequence[Result], shares: Sequence[float], titles: Sequence[str]) -> Iterator[str]:
    """Over the sets that every method and share has, so that rows compare."""
    variants = _names(found, "variant")
    whole = [
        name
        for name in _names(found, "set")
        if all(_of(found, name, variant, share) for variant in variants for share in shares)
    ]
    if len(whole) < 2:
        return
    yield f"Mean of {', '.join(whole)}:"
    yield ""
    yield f"| method | {' | '.join(titles)} | lost |"
    yield "|---" * (2 + len(shares)) + "|"
    for variant in variants:
        means = [
            statistics.mean(_mean(_of(found, name, variant, share), "auroc") for name in whole) for share in shares
        ]
        shown = " | ".join(f"{mean:.3f}" for mean in means)
        yield f"| {variant} | {shown} | {round(means[0], 3) - round(means[-1], 3):.3f} |"
    yield ""


def _thresholds(found: Sequence[Result]) -> Iterator[str]:
    """What the product's own threshold does; other methods set none."""
    if not found:
        return
    yield "## The product's own threshold"
    yield ""
    yield "Set without labels, on the contaminated photographs. *Rejected*: of the defects mixed in / of the good ones."
    yield "*Head*: cells in which it joined the score. Other methods set no threshold."
    yield ""
    yield "| set | method | mixed in | AUROC | TPR | FPR | rejected | head |"
    yield "|---|---|---|---|---|---|---|---|"
    for name in _names(found, "set"):
        for variant in _names(found, "variant"):
            for share in sorted({result["key"]["share"] for result in found}):
                own = _of(found, name, variant, share)
                if not own:
                    continue
                mixed, caught = (sum(result[what] for result in own) for what in ("n_mixed_in", "mixed_in_rejected"))
                good = sum(result["n_train"] for result in own) - mixed
                lost = sum(result["n_rejected"] for result in own) - caught
                figures = " | ".join(_spread(own, figure) for figure in ("auroc", "tpr", "fpr"))
                heads = f"{sum(result['head_joined'] for result in own)} of {len(own)}"
                rejected = f"{caught} of {mixed} / {lost} of {good}"
                yield f"| {name} | {variant} | {100 * share:g} % | {figures} | {rejected} | {heads} |"
    yield ""


def _names(found: Sequence[Result], what: str) -> list[str]:
    return list(dict.fromkeys(result[what] for result in found))


def _of(found: Sequence[Result], name: str, variant: str, share: float) -> list[Result]:
    return [
        result
        for result in found
        if (result["set"], result["variant"], result["key"]["share"]) == (name, variant, share)
    ]


def _mean(own: Sequence[Result], figure: str) -> float:
    return statistics.mean(result[figure] for result in own)


def _rounded(own: Sequence[Result]) -> float:
    """AUROC as it is printed; below any where there is none."""
    return round(_mean(own, "auroc"), 3) if own else -1.0


def _spread(own: Sequence[Result], figure: str) -> str:
    if not own:
        return "-"
    deviation = f" ± {statistics.stdev(result[figure] for result in own):.3f}" if len(own) > 1 else ""
    return f"{_mean(own, figure):.3f}{deviation}"
