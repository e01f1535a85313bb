"""How the decoder of `conv` should double its maps: transposed convolution, nearest and convolution, or pixel shuffle.

    python benchmarks/runtime/upsampling_speed.py [--side 128] [--channels 1]

The three decoders have the same channels; only the way of doubling differs. Exported as the product exports them, timed
on one input, taking turns in one process: ratios to nearest and convolution, medians over rounds. Writes upsampling.md
and upsampling.json into --out.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.machine import cpu_name
from edge_runtime.backends import onnx_session, run_session
from edge_runtime.extras import require
from export.graphs import export_module
from train.networks.conv import CONV_WIDTHS

LATENT = 32
ROUNDS = 80
WARM_UP = 10


def _transposed(n_in: int, n_out: int) -> list[nn.Module]:
    return [nn.ConvTranspose2d(n_in, n_out, 4, stride=2, padding=1)]


def _nearest(n_in: int, n_out: int) -> list[nn.Module]:
    return [nn.Upsample(scale_factor=2, mode="nearest"), nn.Conv2d(n_in, n_out, 3, padding=1)]


def _shuffled(n_in: int, n_out: int) -> list[nn.Module]:
    return [nn.Conv2d(n_in, 4 * n_out, 3, padding=1), nn.PixelShuffle(2)]


DOUBLINGS: dict[str, Callable[[int, int], list[nn.Module]]] = {
    "nearest and convolution": _nearest,
    "transposed convolution": _transposed,
    "pixel shuffle": _shuffled,
}
LAST = {"the same to the end": None, "pixel shuffle for the last doubling": _shuffled}


def main() -> int:
    """Measure, then write both files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--channels", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    arguments = parser.parse_args()
    torch.manual_seed(0)
    decoders = {
        (name, last): _decoder(doubling, LAST[last], arguments.side, arguments.channels)
        for (name, doubling), last in itertools.product(DOUBLINGS.items(), LAST)
    }
    rows = []
    for engine in ("onnxruntime", "openvino"):
        runs = {key: _runner(engine, graph) for key, (graph, _) in decoders.items()}
        times = _times(runs)
        base = times[next(iter(times))]
        rows += [
            {
                "engine": engine,
                "doubling": name,
                "last": last,
                "parameters": decoders[name, last][1],
                "time": median(own / other for own, other in zip(times[name, last], base, strict=True)),
                "milliseconds": 1000.0 * median(times[name, last]),
            }
            for name, last in runs
        ]
    command = f"python benchmarks/runtime/upsampling_speed.py --side {arguments.side} --channels {arguments.channels}"
    arguments.out.mkdir(parents=True, exist_ok=True)
    content = {"command": command, "cpu": cpu_name(), "threads": 1, "rows": rows}
    (arguments.out / "upsampling.json").write_text(json.dumps(content, indent=1) + "\n")
    (arguments.out / "upsampling.md").write_text("\n".join(_markdown(content)) + "\n")
    return 0


def _markdown(content: dict[str, Any]) -> list[str]:
    lines = [
        "# How the decoder doubles its maps",
        "",
        f"`{content['command']}`, one thread of an {content['cpu']}.",
        "",
        "Time of the decoder alone, as a ratio to nearest and convolution all the way in the same run; below 1 is",
        "faster. Quality was not compared.",
        "",
        "| engine | doubling | last doubling | parameters | time |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['engine']} | {row['doubling']} | {row['last']} | {row['parameters']:,} | {row['time']:.2f} |"
        for row in content["rows"]
    ]
    return lines


def _decoder(doubling: Any, last: Any, side: int, channels: int) -> tuple[bytes, int]:
    n_halvings = 1
    while side >> n_halvings > 7:
        n_halvings += 1
    widths = [CONV_WIDTHS[min(index, len(CONV_WIDTHS) - 1)] for index in range(n_halvings)][::-1]
    grid = side >> n_halvings
    layers: list[nn.Module] = [nn.Linear(LATENT, widths[0] * grid * grid), nn.Unflatten(1, (widths[0], grid, grid))]
    for n_in, n_out in itertools.pairwise(widths):
        layers += [*doubling(n_in, n_out), nn.BatchNorm2d(n_out), nn.ReLU()]
    layers += [*(last or doubling)(widths[-1], channels), nn.Sigmoid()]
    decoder = nn.Sequential(*layers).eval()
    graph = export_module(decoder, torch.zeros(1, LATENT), ["z"], ["x_hat"])
    return graph, sum(parameter.numel() for parameter in decoder.parameters())


def _runner(engine: str, graph: bytes) -> Callable[[], Any]:
    z = np.random.default_rng(0).standard_normal((1, LATENT), dtype=np.float32)
    if engine == "onnxruntime":
        session = onnx_session(graph, threads=1)
        return lambda: run_session(session, {"z": z})
    ov = require("openvino", extra="openvino", purpose="OpenVINO timings")
    core = ov.Core()
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    request = core.compile_model(core.read_model(graph, b""), "CPU", settings).create_infer_request()
    return lambda: request.infer([z])


def _times(runs: dict[Any, Callable[[], Any]]) -> dict[Any, list[float]]:
    times: dict[Any, list[float]] = {key: [] for key in runs}
    for index in range(WARM_UP + ROUNDS):
        for key, run in runs.items():
            start = time.perf_counter()
            run()
            if index >= WARM_UP:
                times[key].append(time.perf_counter() - start)
    return times


if __name__ == "__main__":
    sys.exit(main())
