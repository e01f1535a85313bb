"""Time of a `features` detector's frame against its bare trunk: docs/results/features-frame-time.md.

    python -m benchmarks.features.frame_time RUN BUNDLE [--rounds 200] [--out docs/results/features-frame-time.md]

RUN is the run that BUNDLE was exported from. The bare trunk is the run's backbone with its normalisation, up to its
deepest tap, exported as the detector is. All ways take turns frame by frame in one process, so that what else runs on
the machine hits them alike; a ratio is taken within a turn.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.command_line import status_of
from benchmarks.machine import cpu_name
from edge_runtime.backends import onnx_session, run_session
from edge_runtime.bundle.budgets import detector_file
from edge_runtime.bundle.bundle import Bundle
from edge_runtime.bundle.golden import Golden
from edge_runtime.errors import ConfigError
from edge_runtime.files import write_atomically
from export.graphs import export_module
from train.backbones.backbone import Backbone
from train.runs.run_folder import RunFolder

ENGINES = ("onnxruntime-cpu", "openvino")
THREADS = (1, 2)
WARM_UP = 5
PAUSE_S = 0.003
"""After each run: threads of onnxruntime go on looking for work, and would take the next way's processor"""
TRUNK = "bare trunk"
AIM = 1.3

Way = Callable[[NDArray[np.uint8]], object]
Times = dict[tuple[int, str, str], NDArray[np.float64]]
"""Milliseconds of each turn, by threads, engine and graph"""


class BareTrunk(nn.Module):
    """uint8 frames to the deepest tap, nothing else."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, frame: Tensor) -> Tensor:
        """(B, c, h, w) for frame (B, H, W, C) uint8."""
        x: Tensor = self.backbone(frame.float().permute(0, 3, 1, 2) / 255.0)[-1]
        return x


def main(words: Sequence[str] | None = None) -> int:
    """Time everything and write the table."""
    words = list(sys.argv[1:] if words is None else words)
    return status_of(lambda: _run(_parser().parse_args(words)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--out", type=Path, default=Path("docs/results/features-frame-time.md"))
    return parser


def _run(arguments: argparse.Namespace) -> int:
    run, bundle = RunFolder(arguments.run).load(), Bundle.open(arguments.bundle)
    if run.autoencoder.backbone is None:
        raise ConfigError(f"{arguments.run} reads no backbone; name a run of network features")
    frames = Golden.from_npz(bundle.files["golden.npz"]).inputs
    trunk = export_module(BareTrunk(run.autoencoder.backbone), torch.from_numpy(frames[:1]), ["frame"], ["tap"])
    graphs = {TRUNK: trunk, **{name: bundle.files[detector_file(name)] for name in bundle.precisions}}
    times = measured(graphs, frames, arguments.rounds)
    height, width, _ = bundle.preprocess.input_shape
    command = f"python -m benchmarks.features.frame_time RUN BUNDLE --rounds {arguments.rounds}"
    lines = markdown(times, f"{height}x{width}", arguments.rounds, command)
    write_atomically(arguments.out, ("\n".join(lines) + "\n").encode())
    print("\n".join(lines))
    return 0


def measured(graphs: dict[str, bytes], frames: NDArray[np.uint8], rounds: int) -> Times:
    """Every graph through every engine in turn, frame by frame."""
    found: Times = {}
    for threads in THREADS:
        ways = {
            (threads, engine, name): _way(engine, graph, threads)
            for engine in ENGINES
            for name, graph in graphs.items()
        }
        times: dict[tuple[int, str, str], list[float]] = {key: [] for key in ways}
        for turn in range(WARM_UP + rounds):
            frame = frames[turn % len(frames)][None]
            for key, way in ways.items():
                start = time.perf_counter()
                way(frame)
                times[key].append(1000.0 * (time.perf_counter() - start))
                time.sleep(PAUSE_S)
        found.update({key: np.array(values[WARM_UP:]) for key, values in times.items()})
    return found


def _way(engine: str, graph: bytes, threads: int) -> Way:
    """As the product's backends open it; these refuse a trunk, which has no criteria."""
    if engine == "onnxruntime-cpu":
        session = onnx_session(graph, threads=threads)
        return lambda frame: run_session(session, {"frame": frame})
    import openvino as ov

    settings = {
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
    }
    core = ov.Core()
    request = core.compile_model(core.read_model(graph, b""), "CPU", settings).create_infer_request()
    return lambda frame: request.infer([frame])


def markdown(times: Times, size: str, rounds: int, command: str) -> list[str]:
    """The page's lines."""
    versions = ", ".join(f"{name} {version(name)}" for name in ("onnxruntime", "openvino", "torch"))
    load, cores = os.getloadavg()[1], os.cpu_count() or 1
    lines = [
        "# Time of a frame of `features`, against its bare trunk",
        "",
        f"`{command}`: {rounds} turns, in each every graph once through every engine; {size}, {cpu_name()}, "
        f"{cores} cores, load {load:.1f}; {versions}. A ratio is of a turn, to the bare trunk through the "
        f"same engine; its spread is from quartile to quartile. Aim: {AIM} by the faster engine.",
        "",
        "| threads | engine | graph | ms, median | ratio, median | quartiles |",
        "|---|---|---|---|---|---|",
    ]
    for (threads, engine, graph), taken in times.items():
        ratios = taken / times[threads, engine, TRUNK]
        low, middle, high = np.quantile(ratios, (0.25, 0.5, 0.75))
        spread = "" if graph == TRUNK else f"{low:.2f} to {high:.2f}"
        lines.append(f"| {threads} | {engine} | {graph} | {np.median(taken):.1f} | {middle:.2f} | {spread} |")
    lines += ["", "| threads | graph | by the faster engine of each, ratio of medians |", "|---|---|---|"]
    for threads in THREADS:
        fastest = {
            graph: min(float(np.median(times[threads, engine, graph])) for engine in ENGINES)
            for graph in dict.fromkeys(key[2] for key in times)
        }
        lines += [
            f"| {threads} | {graph} | {taken / fastest[TRUNK]:.2f} |"
            for graph, taken in fastest.items()
            if graph != TRUNK
        ]
    lines += [
        "",
        "Rows of several threads say little: the sessions of all graphs live in one process, and their threads go on "
        "looking for work. `edge-aae bench --threads` times one alone.",
    ]
    if load > cores:
        lines += [
            "",
            f"With a load of {load:.1f} on {cores} cores every way waited for its turn: a ratio of one thread is still "
            "one of neighbours in time, one of several tells how long a thread waited for another. Measure them again "
            "on a quiet machine.",
        ]
    return lines


if __name__ == "__main__":
    sys.exit(main())
