"""What the product makes of sets of real photographs, beside other methods: real-sets.md.

    python -m benchmarks.industrial.real_sets --data ROOT --network features --seeds 0 1 2
    python -m benchmarks.industrial.real_sets --data ROOT --network hog --seeds 0 --sets aliens     # a short one
    python -m benchmarks.industrial.real_sets --data ROOT --seeds 0 1 2 --reference old=CHECKOUT    # another revision
    python -m benchmarks.industrial.real_sets --data ROOT --seeds 0 --contaminate 0 5 10 20 \\
        --variant plain="--refine none"                                                           # defects mixed in
    python -m benchmarks.industrial.real_sets --data ROOT --seeds 0 --peers patchcore softpatch               # peers

ROOT has a folder a set, with train/good, test/good, test/KIND and masks in ground_truth/KIND. A finished cell leaves a
JSON file in --work and is not done again while photographs, arguments and the product's source are the same; one that
failed is finished too, and stands in the table with its last words. Beside --out a .json of the same name holds every
figure; cells in it are not done again either.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.command_line import status_of
from benchmarks.industrial.cells import Cell, Split, Store, Variant, lay_out, source_of
from benchmarks.industrial.heatmap_sheets import write_sheet
from benchmarks.industrial.photographs import PhotographSet, Places, find, names_in
from benchmarks.industrial.product_road import travelled
from benchmarks.industrial.real_sets_report import markdown
from benchmarks.industrial.site_gaussian import weights_file
from benchmarks.machine import cpu_name
from benchmarks.peers.methods import PEERS, called, measured_by_anomalib, measured_here, variant_of
from edge_runtime.errors import ConfigError, DataError, EdgeAaeError, MissingExtraError
from edge_runtime.files import json_bytes, write_atomically

ROOT = Path(__file__).resolve().parents[2]

CONTAMINATED = ("mvtec-pill", "magnetic-tile")

PATHS = ("--data", "--elpv", "--mvtec", "--visa", "--weights", "--work", "--images", "--reference", "--anomalib")
"""Options whose values say where something lies on one machine: the written command has their names alone."""
NEVER_STARTED = "start"
"""The step that failed where a cell lacks what it needs."""

ABOUT_THE_RUN = ("--retry-failed", "--any-source", "--report-only")


def main(words: Sequence[str] | None = None) -> int:
    """Run what is missing, then write the table."""
    words = list(sys.argv[1:] if words is None else words)
    return status_of(lambda: _run(_parser().parse_args(words), words))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--data", type=Path, required=True, help="a folder with a folder a set")
    add("--elpv", type=Path, help="a copy of elpv-dataset; default: the installed package")
    add("--mvtec", type=Path, help="your copy of MVTec AD: each category becomes a set mvtec-ad-CATEGORY")
    add("--visa", type=Path, help="your copy of VisA, with split_csv or sorted into 1cls: sets visa-CATEGORY")
    add("--weights", type=Path, help="EfficientNet-Lite0's .pth for the Gaussian; default: the installed package's")
    add("--sets", nargs="+", help="default: every set that is here")
    add("--network", default="features", help="of `edge-aae train`; the variant that is held to the aims")
    add("--seeds", type=int, nargs="+", default=[0])
    add("--variant", action="append", default=[], metavar="NAME=ARGS", help="also with these arguments of train")
    add("--reference", action="append", default=[], metavar="NAME=TREE", help="also another checkout, first seed alone")
    add("--peers", nargs="+", default=[], choices=list(PEERS), help="other methods, beside the per-site Gaussian")
    add("--anomalib", type=Path, metavar="PYTHON", help="of the environment that benchmarks/peers/anomalib.sh made")
    add("--contaminate", type=float, nargs="+", default=[], metavar="PERCENT", help="of defects, mixed in unmarked")
    add("--contaminated", nargs="+", default=list(CONTAMINATED), metavar="SET", help="default: %(default)s")
    add("--heatmaps", type=int, default=0, metavar="N", help="sheets of N defects a set, of the first seed")
    add("--images", type=Path, help="where the sheets go; default: WORK/heatmaps")
    add("--out", type=Path, default=Path("docs/results/real-sets.md"))
    add("--work", type=Path, default=Path("runs/real-sets"), help="finished cells, models, turned copies")
    add("--limit-min", type=float, default=60.0, help="of a cell")
    add("--threads", type=int, help="of training and evaluation; default: the libraries' own")
    add("--retry-failed", action="store_true", help="do cells again that failed")
    add("--any-source", action="store_true", help="let cells stand that another revision of the product made")
    add("--report-only", action="store_true", help="write the table from what is finished")
    return parser


def _run(arguments: argparse.Namespace, words: Sequence[str]) -> int:
    # Links and commands of other folders need them whole.
    arguments.work, arguments.data = arguments.work.resolve(), arguments.data.resolve()
    torch.set_num_threads(arguments.threads or 1)  # of the Gaussian; the product runs in processes of its own
    table = arguments.out.with_suffix(".json")
    earlier = json.loads(table.read_text())["cells"] if table.exists() else []
    store = Store(arguments.work / "cells", earlier, any_source=arguments.any_source)
    photographs, missing = _sets(arguments)
    cells = cells_of(arguments, photographs)
    limit_s = 60.0 * arguments.limit_min
    found = []
    for index, cell in enumerate(cells, start=1):
        result = store.get(cell, limit_s=limit_s, retry=arguments.retry_failed)
        if (result is None or _never_started(result)) and not arguments.report_only:
            result = store.add(cell, _done(cell, arguments))
            print(f"{index} of {len(cells)}, {cell.name}: {_line(result)}", flush=True)
        if result is not None:
            found.append(result)
    if not found:
        print("nothing is finished, nothing to write")
        return 1
    lines = markdown(found, primary=arguments.network, missing=missing, command=written_command(words))
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(table, json_bytes({"command": written_command(words), "missing": missing, "cells": found}))
    write_atomically(arguments.out, ("\n".join(lines) + "\n").encode())
    print(f"wrote {arguments.out} and {table.name}: {len(found)} of {len(cells)} cells")
    if arguments.heatmaps:
        _write_sheets(cells, arguments, limit_s)
    return 0


def _sets(arguments: argparse.Namespace) -> tuple[dict[str, PhotographSet], dict[str, str]]:
    """The sets that are here, and why others are not; a set that was asked for by name must be."""
    places = Places(
        data=arguments.data,
        work=arguments.work,
        elpv=arguments.elpv,
        mvtec=arguments.mvtec,
        visa=arguments.visa,
    )
    names = names_in(places)
    asked = arguments.sets or names
    if unknown := sorted(set(asked) - set(names)):
        raise ConfigError(f"no sets {', '.join(unknown)}; expected some of {', '.join(names)}")
    here, missing = {}, {}
    for name in asked:
        try:
            here[name] = find(name, places)
        except DataError as error:
            if arguments.sets:
                raise
            missing[name] = str(error).replace(f"{arguments.data}/", "").removeprefix(f"{name}: ")
    return here, missing


def cells_of(arguments: argparse.Namespace, photographs: dict[str, PhotographSet]) -> list[Cell]:
    """Every cell of the table, set by set, seeds in turn, so that each set soon has a figure."""
    own = Variant(name=arguments.network, arguments=("--network", arguments.network), tree=ROOT, source=source_of(ROOT))
    variants = [own]
    for name, value in _pairs(arguments.variant, "--variant"):
        added = (*own.arguments, *shlex.split(value))
        variants.append(Variant(name=name, arguments=added, tree=ROOT, source=own.source))
    references = [
        Variant(name=name, tree=Path(tree).resolve(), source=source_of(Path(tree)))
        for name, tree in _pairs(arguments.reference, "--reference")
    ]
    beside = [PEERS[name] for name in dict.fromkeys(("gaussian", *arguments.peers))]
    _check_names([*variants, *references, *map(variant_of, beside)])
    first = arguments.seeds[0]
    cells = [
        Cell(photographs=of_set, variant=variant, seed=seed)
        for seed in arguments.seeds
        for of_set in photographs.values()
        for variant in (*variants, *(variant_of(peer) for peer in beside if peer.is_seeded or seed == first))
    ]
    shares = [percent / 100.0 for percent in arguments.contaminate]
    if any(not 0.0 <= share < 0.5 for share in shares):
        raise ConfigError(f"--contaminate is {arguments.contaminate}, expected percentages from 0 to below 50")
    if shares and (absent := sorted(set(arguments.contaminated) - set(photographs))):
        raise ConfigError(f"--contaminated {', '.join(absent)}: not among the sets, which are {', '.join(photographs)}")
    cells += [
        Cell(photographs=photographs[name], variant=variant, seed=seed, share=share, reserved=max(shares))
        for seed in arguments.seeds
        for name in (arguments.contaminated if any(shares) else ())
        for share in shares
        for variant in (*variants, *map(variant_of, beside))
    ]
    old = [
        Cell(photographs=of_set, variant=variant, seed=first)
        for variant in references
        for of_set in photographs.values()
    ]
    return cells + old


def _pairs(texts: Sequence[str], option: str) -> list[tuple[str, str]]:
    pairs = [text.partition("=")[::2] for text in texts]
    if broken := [text for text, (name, value) in zip(texts, pairs, strict=True) if not name or not value]:
        raise ConfigError(f"{option} is {broken[0]!r}, expected NAME=VALUE")
    return pairs


def _check_names(variants: Sequence[Variant]) -> None:
    names = [variant.name for variant in variants]
    if doubled := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(f"two variants are called {doubled[0]}; give each a name of its own")
    if strange := [name for name in names if not name.replace(" ", "-").replace("-", "").replace("_", "").isalnum()]:
        raise ConfigError(f"{strange[0]!r} cannot be part of a file's name; use letters, digits, - and _")


def _done(cell: Cell, arguments: argparse.Namespace) -> dict[str, Any]:
    """The result of a cell: counts, figures, and what failed."""
    about: dict[str, Any] = {"cpu": cpu_name(), "threads": arguments.threads or os.cpu_count(), "failures": []}
    try:
        split = cell.split()
        about |= {
            "n_train": len(split.train) + len(split.mixed_in),
            "n_mixed_in": len(split.mixed_in),
            "n_good": len(split.good),
            "n_tested_defects": split.n_defects,
        }
        if cell.variant.tree is None:
            return {**about, **_of_peer(cell, split, arguments)}
    except (DataError, MissingExtraError) as error:
        return {
            "n_train": 0,
            "n_mixed_in": 0,
            "n_good": 0,
            "n_tested_defects": 0,
            **about,
            "failures": [_failure(error, arguments)],
        }
    folder = _folder(cell, arguments)
    shutil.rmtree(folder, ignore_errors=True)
    lay_out(split, dict(cell.photographs.masks), folder / "data")
    limit_s = 60.0 * arguments.limit_min
    found = travelled(cell.variant, folder, cell.seed, limit_s=limit_s, threads=arguments.threads)
    if not found["failures"]:
        shutil.rmtree(folder / "run")  # the bundle is what is needed again
    return {**about, **found}


def _of_peer(cell: Cell, split: Split, arguments: argparse.Namespace) -> dict[str, Any]:
    peer = called(cell.variant.name)
    assert peer is not None, "what is no peer is a product, and has a checkout"
    weights = weights_file(arguments.weights)
    if peer.fit is not None:
        return measured_here(peer, split, cell.seed, weights)
    return measured_by_anomalib(
        peer,
        split,
        cell.seed,
        weights,
        python=arguments.anomalib,
        folder=_folder(cell, arguments),
        limit_s=60.0 * arguments.limit_min,
        threads=arguments.threads,
    )


def _failure(error: EdgeAaeError, arguments: argparse.Namespace) -> dict[str, str]:
    line = str(error)
    for file in (arguments.weights, arguments.data):
        line = line.replace(f"{file.parent}/", "") if file else line
    return {"step": NEVER_STARTED, "line": line}


def _never_started(result: dict[str, Any]) -> bool:
    """Whether something was missing: it costs nothing to look again."""
    return any(failure["step"] == NEVER_STARTED for failure in result["failures"])


def _folder(cell: Cell, arguments: argparse.Namespace) -> Path:
    folder: Path = arguments.work / "models" / cell.name
    return folder


def _line(result: dict[str, Any]) -> str:
    reached = f"AUROC {result['auroc']:.3f}, " if result.get("auroc") is not None else ""
    failed = "".join(f", {failure['step']} failed: {failure['line']}" for failure in result["failures"])
    return f"{reached}trained in {result.get('train_s', 0.0):.0f} s{failed}"


def _write_sheets(cells: Sequence[Cell], arguments: argparse.Namespace, limit_s: float) -> None:
    images = arguments.images or arguments.work / "heatmaps"
    for cell in cells:
        wanted = cell.variant.name == arguments.network and cell.seed == arguments.seeds[0] and not cell.reserved
        if not wanted:
            continue
        sheet = images / f"real-sets-{cell.photographs.name}.jpg"
        try:
            write_sheet(cell, _folder(cell, arguments), arguments.heatmaps, sheet, limit_s=limit_s)
            print(f"wrote {sheet}")
        except DataError as error:
            print(f"no sheet: {error}")


def written_command(words: Sequence[str], module: str = "benchmarks.industrial.real_sets") -> str:
    """The command line as a page shows it, without what is true of one machine alone."""
    shown: list[str] = []
    option = ""
    for word in words:
        option = word if word.startswith("--") else option
        if word in ABOUT_THE_RUN:
            continue
        if option in PATHS and word != option:
            name, _, tree = word.partition("=") if option == "--reference" else ("", "", word)
            place = option.removeprefix("--").upper()
            word = f"{name}={place}" if tree and name else place
        shown.append(word)
    return shlex.join(["python", "-m", module, *shown])


if __name__ == "__main__":
    sys.exit(main())
