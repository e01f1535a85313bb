"""The paper's table beside ours and baselines: 3 settings x 3 alphas x observed and unobserved, methods, seeds.

    python benchmarks/paper/table.py --device cuda                                   # the published schedule
    python benchmarks/paper/table.py --epochs-scale 0.006 --max-epochs 6 --seeds 2   # a short one, for a CPU

Every finished (setting, alpha, method, seed) leaves a JSON file in --work and is not done again unless its schedule or
its recipe changed, so that an interrupted call goes on where it was. Results go to paper.json and paper.md in --out;
methods that are there and not asked for now stay.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from dataclasses import asdict
from pathlib import Path

import torch

from benchmarks.command_line import chosen, status_of
from benchmarks.paper.jobs import METHODS, Job, Results, job_of, missing_method, work
from benchmarks.paper.protocol import default_data, settings_named
from benchmarks.paper.report import TITLES, write_results
from benchmarks.paper.schedule import PAPER_METHODS, cost_of
from edge_runtime.errors import ConfigError
from train.runs.session import pick_device

TOGETHER_CUDA, TOGETHER_CPU = 9, 1
"""Runs trained side by side where --together does not say: on a CPU nothing is gained by it."""


def main() -> int:
    """Run what is missing, then write the table."""
    return status_of(lambda: _run(_parser().parse_args()))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=default_data(), help="folder that holds mnist/, fashion-mnist/")
    parser.add_argument("--out", type=Path, default=Path("docs/results"), help="where paper.json and paper.md go")
    parser.add_argument("--work", type=Path, default=Path("runs/paper"), help="one JSON file a finished job")
    parser.add_argument("--methods", default="all", help=f"comma-separated, or all: {', '.join(METHODS)}")
    parser.add_argument("--settings", default="all", help="such as mnist-0-2,fashion-0-2:0.05, or all")
    parser.add_argument("--seeds", type=int, default=1, help="seeds 0 to N - 1")
    parser.add_argument("--epochs-scale", type=float, default=1.0, help="times the published epochs; 1 is the paper's")
    parser.add_argument("--max-epochs", type=int, help="no phase trains longer, after scaling")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--together", type=int, help="runs trained side by side; 9 on CUDA, 1 on a CPU")
    parser.add_argument("--dry-run", action="store_true", help="say what would be trained, and its FLOPs")
    parser.add_argument("--report-only", action="store_true", help="write the table from what is finished")
    return parser


def _run(arguments: argparse.Namespace) -> int:
    device = pick_device(arguments.device)
    for name, value in (("--seeds", arguments.seeds), ("--max-epochs", arguments.max_epochs)):
        if value is not None and value < 1:
            raise ConfigError(f"{name} is {value}, expected 1 or more")
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")  # products in TF32
    methods = chosen(arguments.methods, METHODS)
    jobs = [
        job_of(setting, method, seed, scale=arguments.epochs_scale, cap=arguments.max_epochs)
        for seed in range(arguments.seeds)
        for method in methods
        for setting in settings_named(arguments.settings)
    ]
    table = arguments.out / "paper.json"
    earlier = json.loads(table.read_text())["results"] if table.exists() else []
    results = Results(arguments.work, earlier)
    missing_jobs = [job for job in jobs if results.get(job) is None]
    print(f"{len(jobs)} jobs, {len(jobs) - len(missing_jobs)} finished before", flush=True)
    if arguments.dry_run:
        _say_cost(missing_jobs)
        return 0
    for method in dict.fromkeys(job.method for job in missing_jobs):
        reason = missing_method(method)
        if reason:
            print(f"skipped: {reason}", flush=True)
            missing_jobs = [job for job in missing_jobs if job.method != method]
    command = shlex.join(["python", "benchmarks/paper/table.py", *sys.argv[1:]])
    if not arguments.report_only:
        together = arguments.together or (TOGETHER_CUDA if device.type == "cuda" else TOGETHER_CPU)
        for job, result in work(missing_jobs, device, arguments.data, together):
            results.add(job, {**result, "command": command})
            observed, unobserved = result["cells"]["observed"], result["cells"]["unobserved"]
            print(
                f"{job.name}: BAcc {observed['bacc']:.3f} / {unobserved['bacc']:.3f}, "
                f"AUROC {observed['auroc']:.3f} / {unobserved['auroc']:.3f}, {result['seconds']:.0f} s",
                flush=True,
            )
    finished = [result for job in jobs if (result := results.get(job)) is not None]
    done = {result["method"] for result in finished}
    kept = [result for result in earlier if result["method"] not in done]
    if not finished:
        print("nothing is finished, nothing to write")
        return 1
    write_results(arguments.out, [*finished, *kept])
    print(f"wrote {table} and paper.md: {len(finished)} of {len(jobs)} jobs, {len(kept)} results of other methods kept")
    return 0


def _say_cost(jobs: list[Job]) -> None:
    for method in dict.fromkeys(job.method for job in jobs):
        of_method = [job for job in jobs if job.method == method]
        line = f"{TITLES[method]}: {len(of_method)} jobs"
        reason = missing_method(method)
        if reason:
            line += f", would be skipped: {reason}"
        elif method in PAPER_METHODS:
            costs = [cost_of(job.settings, job.setting) for job in of_method if job.settings is not None]
            epochs = {str(asdict(job.settings.schedule)) for job in of_method if job.settings is not None}
            line += f", {sum(cost.steps for cost in costs)} steps, {sum(cost.flops for cost in costs) / 1e15:.2f} PFLOP"
            line += f", {sum(cost.bytes for cost in costs) / 1e12:.0f} TB; epochs {' or '.join(sorted(epochs))}"
        print(line)


if __name__ == "__main__":
    sys.exit(main())
