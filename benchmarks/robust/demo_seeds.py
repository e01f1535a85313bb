"""The demo's table over several seeds: python benchmarks/robust/demo_seeds.py [--seeds 5] [--out docs/results]

Trains AE, AAE, AAE+ITSR and robust on the embedded sample with the demo's own schedules and writes demo.json and
demo.md with mean and standard deviation. About 70 s a seed on two CPU cores.
"""

from __future__ import annotations

import argparse
import json
import logging
import platform
import tempfile
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from edge_aae.demo.training import METHODS, MethodRow, n_contaminants, trainings
from edge_runtime import __version__


def main() -> None:
    """Run every seed and write both files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    rows: dict[str, list[MethodRow]] = {recipe.name: [] for recipe in METHODS}
    for seed in range(arguments.seeds):
        with tempfile.TemporaryDirectory() as folder, trainings(Path(folder), epochs_scale=1.0, seed=seed) as running:
            for name in rows:
                rows[name].append(running[name].result())
                print(f"seed {seed}: {rows[name][-1]}", flush=True)
    machine = f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    arguments.out.mkdir(parents=True, exist_ok=True)
    content = {
        "command": f"python benchmarks/robust/demo_seeds.py --seeds {arguments.seeds}",
        "schedule": {recipe.name: asdict(recipe.schedule) for recipe in METHODS},
        "seeds": list(range(arguments.seeds)),
        "edge_aae": __version__,
        "machine": machine,
        "rows": {name: [asdict(row) for row in of_method] for name, of_method in rows.items()},
    }
    (arguments.out / "demo.json").write_text(json.dumps(content, indent=2) + "\n")
    (arguments.out / "demo.md").write_text(markdown(content, rows))


def markdown(content: dict[str, object], rows: dict[str, list[MethodRow]]) -> str:
    """The table with its provenance."""
    n_all = n_contaminants()
    lines = [
        "# The demo over seeds",
        "",
        f"`{content['command']}`, {content['machine']}, edge-aae {content['edge_aae']}. Embedded sample: 2000 T-shirts",
        f"and {n_all} ankle boots unmarked among them; 40 epochs for each method (ITSR: 10 + 10 rounds of 2 + 10),",
        "network `mlp`; robust: network `hog`, its default schedule, asked false-alarm rate 10 %. CPU.",
        "AUROC: test T-shirts against all else. Observed: against boots; unobserved: against the",
        "other eight classes. Mean ± standard deviation over seeds, which draw weights and batches; the images stay.",
        "",
        *table(rows, n_all),
        "",
        "Every seed:",
        "",
        "| seed | method | AUROC | BAcc observed | BAcc unobserved | contaminants rejected | rejected |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, of_method in rows.items():
        lines += [
            f"| {seed} | {name} | {row.auroc:.3f} | {row.observed_bacc:.3f} | {row.unobserved_bacc:.3f} | "
            f"{row.contaminants_rejected if row.contaminants_rejected is not None else '-'} | "
            f"{row.rejected if row.rejected is not None else '-'} |"
            for seed, row in enumerate(of_method)
        ]
    return "\n".join(lines) + "\n"


def table(rows: dict[str, list[MethodRow]], n_all: int) -> list[str]:
    """Mean and standard deviation of each method."""
    lines = [
        f"| method | AUROC | BAcc observed | BAcc unobserved | contaminants rejected, of {n_all} | images rejected |",
        "|---|---|---|---|---|---|",
    ]
    for name, of_method in rows.items():
        cells = [
            spread([getattr(row, key) for row in of_method]) for key in ("auroc", "observed_bacc", "unobserved_bacc")
        ]
        if of_method[0].rejected is not None:
            cells += [
                spread([float(row.contaminants_rejected or 0) for row in of_method], ".0f"),
                spread([float(row.rejected or 0) for row in of_method], ".0f"),
            ]
        else:
            cells += ["-", "-"]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def spread(values: list[float], form: str = ".3f") -> str:
    """mean ± sample standard deviation."""
    deviation = np.std(values, ddof=1) if len(values) > 1 else 0.0
    return f"{np.mean(values):{form}} ± {deviation:{form}}"


if __name__ == "__main__":
    main()
