"""What contamination from 0 to 20 % costs each method, and whether asked false-alarm rates hold under it.

    python benchmarks/robust/contamination_sweep.py [--pairs all] [--methods all] [--levels all] [--seeds 1]

MNIST 0 vs 2 and T-shirt vs Pullover, by the protocol of the paper's table; AE, AAE and ITSR with the published
schedule capped at --max-epochs, `robust` with the product's own. The photographs of magnetic tile are swept by
benchmarks/industrial/table.py (--share), whose finished jobs in --industrial join the tables.
A finished job leaves a JSON file in --work and is not done again. Writes contamination.json and contamination.md
into --out.
"""

from __future__ import annotations

import argparse
import json
import logging
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from scipy import stats

from benchmarks.command_line import chosen, status_of
from benchmarks.paper.jobs import Results, identity_of, job_of, work
from benchmarks.paper.protocol import PAIRS, Setting, default_data
from benchmarks.paper.report import TITLES, bacc_and_auroc

LEVELS = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2)
METHODS = ("ae", "aae", "itsr", "robust")
SWEPT = ("mnist-0-2", "fashion-0-2")
INTERVAL = 0.95
TOGETHER = 4
"""Runs of a paper's method that train side by side."""


def main() -> int:
    """Run what is missing, then write both files."""
    return status_of(lambda: _run(_parser().parse_args()))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=default_data())
    parser.add_argument("--pairs", default="all", help=f"comma-separated: {', '.join(SWEPT)}")
    parser.add_argument("--methods", default="all", help=f"comma-separated: {', '.join(METHODS)}")
    parser.add_argument("--levels", default="all", help=f"comma-separated shares: {', '.join(map(str, LEVELS))}")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--max-epochs", type=int, default=6, help="a phase, of AE, AAE and ITSR")
    parser.add_argument("--work", type=Path, default=Path("runs/contamination"))
    parser.add_argument("--industrial", type=Path, default=Path("docs/results/industrial.json"))
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    return parser


def _run(arguments: argparse.Namespace) -> int:
    logging.basicConfig(level=logging.ERROR)
    pairs = [pair for pair in PAIRS if pair.name in chosen(arguments.pairs, SWEPT)]
    levels = [float(level) for level in chosen(arguments.levels, tuple(map(str, LEVELS)))]
    jobs = [
        job_of(Setting(pair=pair, alpha=level), method, seed, scale=1.0, cap=arguments.max_epochs)
        for seed in range(arguments.seeds)
        for method in chosen(arguments.methods, METHODS)
        for pair in pairs
        for level in levels
    ]
    table = arguments.out / "contamination.json"
    earlier = json.loads(table.read_text())["results"] if table.exists() else []
    results = Results(arguments.work, earlier)
    command = shlex.join(["python", "benchmarks/robust/contamination_sweep.py", *sys.argv[1:]])
    missing = [job for job in jobs if results.get(job) is None]
    for job, result in work(missing, torch.device("cpu"), arguments.data, TOGETHER):
        results.add(job, {**result, "command": command})
        auroc = {side: round(cell["auroc"], 3) for side, cell in result["cells"].items()}
        print(f"{job.name}: AUROC {auroc}, false alarms {result.get('false_alarms')}", flush=True)
    done = {job.identity: result for job in jobs if (result := results.get(job)) is not None}
    others = [result for result in earlier if identity_of(result) not in done]
    finished = [*others, *done.values()]
    photographs = json.loads(arguments.industrial.read_text()) if arguments.industrial.exists() else []
    arguments.out.mkdir(parents=True, exist_ok=True)
    table.write_text(json.dumps({"results": finished}, indent=1) + "\n")
    (arguments.out / "contamination.md").write_text("\n".join(markdown(finished, photographs)) + "\n")
    return 0


def markdown(results: list[dict[str, Any]], photographs: list[dict[str, Any]]) -> Iterator[str]:
    """Both tables; results of this script, and those of benchmarks/industrial/table.py."""
    yield "# Contamination from 0 to 20 %"
    yield ""
    yield "Made by:"
    yield ""
    for command in dict.fromkeys(result["command"] for result in results):
        yield f"- `{command}`"
    yield ""
    epochs = sorted({result["key"]["max_epochs"] for result in results if "max_epochs" in result["key"]})
    yield "One CPU thread a run. AE, AAE and ITSR have a SHORT schedule, not the paper's: at most"
    yield f"{' or '.join(map(str, epochs))} epochs a phase (--max-epochs). `robust` has the product's own. A cell holds"
    yield "BAcc (AUROC), observed / unobserved, mean over seeds, BAcc at each method's threshold: p90 limits and their"
    yield "union for AE, AAE, ITSR; an asked rate of 10 % for `robust`."
    yield ""
    levels = sorted({result["alpha"] for result in results})
    for pair in PAIRS:
        of_pair = [result for result in results if result["setting"] == pair.name]
        if not of_pair:
            continue
        yield f"## {pair.title}"
        yield ""
        yield f"| method | seeds | {' | '.join(f'{100 * level:g} %' for level in levels)} |"
        yield "|---" * (2 + len(levels)) + "|"
        for method in METHODS:
            of_method = [result for result in of_pair if result["method"] == method]
            if of_method:
                seeds = len({result["seed"] for result in of_method})
                cells = [
                    bacc_and_auroc([result["cells"] for result in of_method if result["alpha"] == level])
                    for level in levels
                ]
                yield f"| {TITLES[method]} | {seeds} | {' | '.join(cells)} |"
        yield ""
    if photographs:
        yield from _of_photographs(photographs)
    yield "## False-alarm rates asked for and realised"
    yield ""
    yield f"Normal test images that the threshold of `robust` flags, and the {INTERVAL:.0%} interval of the binomial"
    yield "distribution of one seed's images at the asked rate. What lies above it is marked; contamination makes the"
    yield "threshold careful, so below is expected. Realised rates are means over seeds, which share their test images."
    yield ""
    yield "| data | contamination | asked | realised | nominal interval | |"
    yield "|---|---|---|---|---|---|"
    yield from _rates(results, photographs)


def _of_photographs(photographs: list[dict[str, Any]]) -> Iterator[str]:
    swept = [result for result in photographs if result["condition"] != "twins-out"]
    shares = sorted({_share_of(result) for result in swept})
    yield "## Magnetic tile"
    yield ""
    yield "By `benchmarks/industrial/table.py` ([industrial.md](industrial.md)), BAcc (AUROC): AE, AAE and ITSR with"
    yield "network `conv` on whole photographs of 128x128, `robust` with `patch`; the jobs' names there tell the share"
    yield "of their default epochs. What is mixed in are defects of the kinds that are tested, taken out of the test"
    yield "set."
    yield ""
    yield f"| method | {' | '.join(f'{100 * share:g} %' for share in shares)} |"
    yield "|---" * (1 + len(shares)) + "|"
    for method in METHODS:
        cells = [
            [result for result in swept if result["method"] == method and _share_of(result) == share]
            for share in shares
        ]
        if any(cells):
            yield f"| {TITLES[method]} | {' | '.join(_photograph_cell(of_cell) for of_cell in cells)} |"
    yield ""


def _photograph_cell(results: list[dict[str, Any]]) -> str:
    if not results:
        return "-"
    bacc, auroc = fmean(result["bacc"] for result in results), fmean(result["auroc"]["all"] for result in results)
    seeds = f", {len(results)} seeds" if len(results) > 1 else ""
    return f"{bacc:.3f} ({auroc:.3f}){seeds}"


def _share_of(result: dict[str, Any]) -> float:
    """Of contaminants, of a result of benchmarks/industrial/table.py."""
    return round(result["n_mixed_in"] / result["n_train"], 2)


def _rates(results: list[dict[str, Any]], photographs: list[dict[str, Any]]) -> Iterator[str]:
    titles = {pair.name: pair.title for pair in PAIRS}
    counts: dict[tuple[str, float, float], list[tuple[int, int]]] = {}
    for result in results:
        for asked, flagged in result.get("false_alarms", {}).items():
            key = titles[result["setting"]], result["alpha"], float(asked)
            counts.setdefault(key, []).append((flagged, result["n_normal_test"]))
    for result in photographs:
        if result["method"] == "robust" and result["condition"] != "twins-out":
            for asked, rate in result["false_alarms"].items():
                n = result["n_test"]["all"] - sum(count for name, count in result["n_test"].items() if name != "all")
                key = "Magnetic tile", _share_of(result), float(asked.split()[-1])
                counts.setdefault(key, []).append((round(rate * n), n))
    for (title, share, asked), of_seeds in sorted(counts.items()):
        flagged, n = sum(count for count, _ in of_seeds), of_seeds[0][1]
        rate = flagged / (n * len(of_seeds))
        # Seeds share the test images: the interval is that of one of them.
        low, high = stats.binom.interval(INTERVAL, n, asked)
        verdict = "**above**" if rate * n > high else ""
        yield (
            f"| {title} | {100 * share:g} % | {asked:.0%} | {rate:.2%} ({len(of_seeds)} x {n}) | "
            f"{low / n:.2%} - {high / n:.2%} | {verdict} |"
        )


if __name__ == "__main__":
    sys.exit(main())
