"""Precisions of exported bundles: agreement with PyTorch on real frames, size, and time on each engine of this machine.

    python benchmarks/release/precision_table.py --run runs/tile-1 magnetic-tile/test --run runs/shirt-1 fashion-mnist

Each run is exported, and every precision is held to PyTorch in float32 on the images of its DATA (labelled: AUROC by
both). Times are of single frames, the engines taking turns in one process, so that a busy machine slows all alike:
ratios to onnxruntime in FP32, medians over rounds. Writes NAME.json and NAME.md into --out.
"""

from __future__ import annotations

import argparse
import json
import platform
import shlex
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.command_line import status_of
from benchmarks.machine import cpu_name
from edge_runtime.backends import open_backend
from edge_runtime.bundle.budgets import detector_file
from edge_runtime.bundle.bundle import Bundle
from edge_runtime.errors import BackendError
from edge_runtime.scoring.image_items import load_items
from export.bundling import export_bundle
from export.frames import frames_of_items
from export.parity import Reference
from train.runs.run_folder import RunFolder

ENGINES = ("onnxruntime-cpu", "openvino", "openvino-bf16")
WARM_UP = 5
ROUNDS = 60
THREADS = 1


def main() -> int:
    """Measure, then write both files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", nargs=2, action="append", required=True, metavar=("RUN", "DATA"), type=Path)
    parser.add_argument("--most", type=int, default=2000, help="frames of each DATA, evenly drawn")
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    parser.add_argument("--name", default="precisions", help="of the two files; default: %(default)s")
    return status_of(lambda: _run(parser.parse_args()))


def _run(arguments: argparse.Namespace) -> int:
    rows = [_measured(run, data, arguments.most) for run, data in arguments.run]
    command = shlex.join(["python", "benchmarks/release/precision_table.py", *_without_paths(sys.argv[1:])])
    content = {"command": command, "machine": platform.machine(), "cpu": cpu_name(), "threads": THREADS, "runs": rows}
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / f"{arguments.name}.json").write_text(json.dumps(content, indent=1) + "\n")
    (arguments.out / f"{arguments.name}.md").write_text("\n".join(markdown(content)) + "\n")
    return 0


def markdown(content: dict[str, Any]) -> Iterator[str]:
    """The lines of precisions.md."""
    yield "# Precisions: agreement, size, time"
    yield ""
    yield f"`{content['command']}`, {content['threads']} thread of an {content['cpu']}."
    yield ""
    yield "Against PyTorch in float32, on real frames that were not trained on. Flips: decisions that differ, and in"
    yield "brackets those further from the threshold than the precision's band (FP32 none, FP16 0.1 %, INT8 and"
    yield "bfloat16 5 %). Score error: of max(score, 0), where 0 is the median training image and 1 the limit. Time: of"
    yield "one input, as a ratio to FP32 through onnxruntime in the same run; below 1 is faster."
    for run in content["runs"]:
        yield ""
        yield f"## {run['name']}"
        yield ""
        size = f"{run['parameters']:,} parameters"
        yield f"Network {run['network']}, prior {run['prior']}, {size}, {run['n_frames']} frames."
        if run["refused"]:
            yield ""
        yield from (f"{name} was refused: {reason}" for name, reason in run["refused"].items())
        yield ""
        yield "| precision | engine | MB | flips | largest score error | mean | rank | AUROC shift | gate | time |"
        yield "|---|---|---|---|---|---|---|---|---|---|"
        for row in run["rows"]:
            shift = "-" if row["auroc"] is None else f"{row['auroc'][1] - row['auroc'][0]:+.4f}"
            yield (
                f"| {row['precision']} | {row['engine']} | {row['megabytes']:.2f} | {row['flips']} ({row['beyond']}) | "
                f"{row['max_error']:.1e} | {row['mean_error']:.1e} | {row['rank']:.5f} | {shift} | "
                f"{'passed' if row['passed'] else 'failed'} | {row['time']:.2f} |"
            )
        yield ""
        yield f"FP32 through onnxruntime took {run['milliseconds']:.2f} ms an input, on a machine with other work."


def _measured(run_path: Path, data: Path, most: int) -> dict[str, Any]:
    run = RunFolder(run_path).load()
    with tempfile.TemporaryDirectory() as folder:
        export = export_bundle(run_path, Path(folder) / "model.aae")
    bundle = export.bundle
    items = load_items([data], bundle)
    drawn = np.linspace(0, len(items) - 1, min(most, len(items))).round().astype(int)
    frames = frames_of_items([items[index] for index in drawn], run.config.preprocess)
    reference = Reference(run, frames)
    rows = []
    for precision in bundle.precisions:
        for engine in ENGINES if precision == "fp32" else ENGINES[:2]:
            try:
                check = next(
                    reference.check(bundle.files, run.decision, precision=precision, backend=engine, threads=1)
                )
            except BackendError as error:
                print(f"{run_path.name}: {precision} through {engine} left out: {error}", file=sys.stderr)
                continue
            report, decisions = check.report, check.report.decisions
            score = decisions.score
            assert score is not None, "a precision that ships gives criteria of the right shape"
            rows.append(
                {
                    "precision": precision,
                    "engine": engine,
                    "megabytes": len(bundle.detector(precision)) / 1e6,
                    "flips": decisions.flips,
                    "beyond": decisions.flips_beyond_band,
                    "max_error": score.max_error,
                    "mean_error": score.mean_error,
                    "rank": decisions.rank_correlation,
                    "auroc": decisions.auroc,
                    "passed": report.passed,
                    "failures": report.failures(),
                }
            )
            print(f"{run_path.name}: {report.title} {'passed' if report.passed else report.failures()}", flush=True)
    times = _times(bundle, [(row["precision"], row["engine"]) for row in rows], frames.inputs)
    for row, engine_times in zip(rows, times, strict=True):
        row["time"] = median(own / base for own, base in zip(engine_times, times[0], strict=True))
    return {
        "name": f"{run.config.train.network} on {data.name if data.name != 'test' else data.parent.name}",
        "network": run.config.train.network,
        "prior": run.prior.kind,
        "parameters": bundle.manifest["model"]["parameters"],
        "n_frames": len(frames.labels),
        "n_inputs": len(frames.inputs),
        "milliseconds": 1000.0 * median(times[0]),
        "refused": export.refused,
        "rows": rows,
    }


def _times(bundle: Bundle, engines: list[tuple[str, str]], inputs: NDArray[np.uint8]) -> list[list[float]]:
    """Seconds of each round by each engine, which take turns on the same input."""
    backends = [
        open_backend(engine, bundle.files[detector_file(precision)], threads=THREADS) for precision, engine in engines
    ]
    times: list[list[float]] = [[] for _ in backends]
    for index in range(WARM_UP + ROUNDS):
        frame = inputs[index % len(inputs)][None]
        for backend, own in zip(backends, times, strict=True):
            start = time.perf_counter()
            backend.run(frame)
            if index >= WARM_UP:
                own.append(time.perf_counter() - start)
    return times


def _without_paths(arguments: list[str]) -> list[str]:
    """Folders by their last names: where they lie says nothing elsewhere."""
    return ["/".join(Path(word).parts[-2:]) if word.startswith("/") else word for word in arguments if word != "--out"]


if __name__ == "__main__":
    sys.exit(main())
