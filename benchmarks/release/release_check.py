"""Build wheel and sdist, check them, and install every extra in clean environments of every Python at hand.

    python benchmarks/release/release_check.py [--python PATH ...] [--training PATH] [--out docs/results]

Builds twice and compares the bytes; `twine check`; builds the wheel from the sdist again and compares that too. Then,
for each Python and each extra, a new virtual environment takes the wheel with the pins of constraints.txt and does what
the extra is for: with camera,cpu it verifies and runs the bundle that --model names. Prints packages and size of each.
--training: a Python for which pip finds a CPU build of PyTorch; the extras train, export and demo are tried with it.
Writes release.json. Needs virtualenv's module venv, and the package index.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.machine import cpu_name

REPOSITORY = Path(__file__).parents[2]
RUNTIME = {
    "": "import edge_aae, edge_runtime.model.score",
    "camera,cpu": "import cv2, onnxruntime",
    "openvino": "import openvino",
    "mqtt": "import paho.mqtt.client",
    "metrics": "import prometheus_client",
    "sign": "import pathlib; from edge_runtime.signing.keys import make_keys; make_keys(pathlib.Path('release'), None)",
    "heic": "import pi_heif",
    "qr": "from edge_aae.commands.page_address import code_lines; assert code_lines('http://10.0.0.5/')",
    "camera,cpu,openvino,mqtt,metrics": "import cv2, onnxruntime, openvino, paho.mqtt.client, prometheus_client",
}
ONCE = {
    "dashboard": "import starlette, uvicorn, edge_runtime.live.server",
    "gpu": "import onnxruntime; assert 'CUDAExecutionProvider' in onnxruntime.get_available_providers()",
    "tensorrt-rtx": "import tensorrt_rtx, cuda.bindings.runtime",
}
"""With the interpreter that runs this alone; `tensorrt` needs NVIDIA's own package index."""

TRAINING = {
    "train": "import torch, sklearn, scipy, safetensors, cv2, matplotlib, rich, train.runs.session",
    "export": "import torch, onnx, onnxscript, onnxruntime, export.graphs",
    "demo": "import export.bundling, train.runs.session, edge_runtime.stream.pipeline",
}


def built(out: Path, source: Path = REPOSITORY) -> tuple[Path, Path]:
    """Wheel and sdist of a source tree."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-t", "sdist", "-d", str(out)]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    (wheel,), (sdist,) = out.glob("*.whl"), out.glob("*.tar.gz")
    return wheel, sdist


def digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def checked_distribution(work: Path) -> dict[str, Any]:
    """What was found of wheel and sdist; raises where they are not as they should be."""
    wheel, sdist = built(work / "one")
    again = built(work / "two")
    subprocess.run(["tar", "--extract", "--file", sdist, "--directory", work], check=True)
    (unpacked,) = (path for path in work.glob("edge_aae-*") if path.is_dir())
    from_sdist = built(work / "three", unpacked)
    twine = environment(work / "twine", Path(sys.executable))
    installed(twine, "twine")
    said = subprocess.run([twine, "-m", "twine", "check", "--strict", wheel, sdist], capture_output=True, text=True)
    facts = {
        "wheel": wheel.name,
        "wheel_kib": wheel.stat().st_size // 1024,
        "sdist_kib": sdist.stat().st_size // 1024,
        "wheel_sha256": digest(wheel),
        "same_bytes_twice": digest(wheel) == digest(again[0]) and digest(sdist) == digest(again[1]),
        "same_wheel_from_sdist": digest(wheel) == digest(from_sdist[0]),
        "twine_check": said.stdout.count("PASSED"),
    }
    if said.returncode or not (facts["same_bytes_twice"] and facts["same_wheel_from_sdist"]):
        raise SystemExit(f"the distribution is not as it should be: {json.dumps(facts, indent=2)}{said.stderr}")
    return facts


def environment(folder: Path, python: Path) -> Path:
    """A new virtual environment's interpreter."""
    subprocess.run([python, "-m", "venv", folder], check=True)
    return folder / "bin" / "python"


def installed(python: Path, *requirements: str | Path) -> None:
    command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"pip install {' '.join(map(str, requirements))} failed: {done.stderr[-2000:]}")


def tried(wheel: Path, python: Path, extra: str, proof: str, model: Path | None, folder: Path) -> dict[str, Any]:
    """One clean environment: packages, size, and whether what it is for works there."""
    own = environment(folder, python)
    before = footprint_of(own)
    installed(own, "-c", REPOSITORY / "constraints.txt", f"{wheel}[{extra}]" if extra else str(wheel))
    after = footprint_of(own)
    run(own, "-c", proof, cwd=folder)
    run(own, "-m", "edge_aae", "--version", cwd=folder)
    if model and "cpu" in extra:
        run(own, "-m", "edge_aae", "verify", str(model), cwd=folder)
        source = "test://pattern?fps=200&width=64&height=48&frames=20"
        lines = run(own, "-m", "edge_aae", "run", "--model", str(model), "--source", source, cwd=folder).splitlines()
        assert sum('"type": "frame"' in line or '"type":"frame"' in line for line in lines) > 0, lines[:3]
    version = run(own, "-c", "import platform; print(platform.python_version())", cwd=folder).strip()
    return {
        "python": version,
        "extra": extra,
        "packages": after["packages"] - before["packages"],
        "mib": after["mib"] - before["mib"],
    }


def run(python: Path, *words: str, cwd: Path) -> str:
    done = subprocess.run([python, *words], capture_output=True, text=True, cwd=cwd)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)} ended with {done.returncode}: {done.stderr[-2000:]}")
    return done.stdout


def footprint_of(python: Path) -> dict[str, int]:
    code = "import importlib.metadata as m; print(len({d.metadata['Name'] for d in m.distributions()}))"
    size = subprocess.run(["du", "-sm", python.parents[2]], check=True, capture_output=True, text=True).stdout
    return {"packages": int(run(python, "-c", code, cwd=python.parents[2])), "mib": int(size.split()[0])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", action="append", type=Path, help="Interpreters.  [default: this one]")
    parser.add_argument("--training", type=Path, help="Interpreter for the extras that need PyTorch.")
    parser.add_argument("--model", type=Path, help="Bundle to verify and run.")
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    arguments = parser.parse_args()
    model = arguments.model.resolve() if arguments.model else None
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        facts = checked_distribution(work)
        print(json.dumps(facts, indent=2))
        wheel = next((work / "one").glob("*.whl"))
        trials = [
            (python, extra, proof)
            for python in arguments.python or [Path(sys.executable)]
            for extra, proof in RUNTIME.items()
        ]
        trials += [(Path(sys.executable), extra, proof) for extra, proof in ONCE.items()]
        trials += [(arguments.training, extra, proof) for extra, proof in TRAINING.items() if arguments.training]
        rows = []
        for number, (python, extra, proof) in enumerate(trials):
            rows.append(tried(wheel, python, extra, proof, model, work / f"env{number}"))
            print(rows[-1], flush=True)
            subprocess.run(["rm", "-rf", work / f"env{number}"], check=True)
    result = {
        "command": "python benchmarks/release/release_check.py",
        "machine": cpu_name(),
        **facts,
        "environments": rows,
    }
    (arguments.out / "release.json").write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
