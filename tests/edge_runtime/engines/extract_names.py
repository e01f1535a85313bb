"""Writes bindings.json: the names that published wheels of TensorRT and cuda-bindings offer. Not a test.

    pip download --no-deps tensorrt-cu12-bindings==10.3.0       (and 10.16.1.11, 11.4.0.106 of tensorrt-cu13-bindings)
    pip download --no-deps cuda-bindings==12.9.10 cuda-pathfinder
    python extract_names.py FOLDER_OF_WHEELS > bindings.json

TensorRT's libraries are gigabytes and need a GPU; its bindings alone import beside empty stand-ins for them, which gcc
makes here, and then every class tells its members. Wheels must be for the Python that runs this.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

STUB = """
#define STUB(name) void* name() { return 0; }
STUB(createInferBuilder_INTERNAL) STUB(createInferRefitter_INTERNAL) STUB(createInferRuntime_INTERNAL)
STUB(createNvOnnxParserRefitter_INTERNAL) STUB(createNvOnnxParser_INTERNAL) STUB(getBuilderPluginRegistry)
STUB(getNvOnnxParserVersion) STUB(getPluginRegistry) STUB(initLibNvInferPlugins)
"""
"""The functions that the bindings take from TensorRT's libraries; importing calls none of them."""

TENSORRT_CLASSES = [
    "Builder",
    "BuilderFlag",
    "DataType",
    "IBuilderConfig",
    "ICudaEngine",
    "IExecutionContext",
    "IHostMemory",
    "ILogger",
    "INetworkDefinition",
    "IOptimizationProfile",
    "IProgressMonitor",
    "ITensor",
    "ITimingCache",
    "MemoryPoolType",
    "NetworkDefinitionCreationFlag",
    "OnnxParser",
    "ParserError",
    "Runtime",
    "TensorIOMode",
]
CUDA_ENUMS = ("cudaMemcpyKind", "cudaStreamCaptureMode")
CUDA_NAMES_KEPT = (
    r"cuda(Malloc|Free|Host|Memcpy|Stream|Graph(Launch|Instantiate|Exec|Destroy)|GetDevice|GetError|Device(Get|Attr)"
    r"|Error_t|RuntimeGetVersion|DriverGetVersion|Event)"
)
"""Of more than a thousand names those around what a runtime needs, so that the file stays small."""

TENSORRT_NAMES = f"""
import json, tensorrt_bindings as trt
public = lambda thing: sorted(name for name in dir(thing) if not name.startswith("_"))
print(json.dumps({{"version": trt.__version__, "module": [*public(trt), "__version__"],
    **{{name: public(getattr(trt, name)) for name in {TENSORRT_CLASSES} if hasattr(trt, name)}}}}))
"""
CUDA_NAMES = f"""
import json, re, cuda.bindings
from cuda.bindings import runtime
names = [name for name in dir(runtime) if re.match({CUDA_NAMES_KEPT!r}, name)]
print(json.dumps({{"version": cuda.bindings.__version__, "module": sorted(names),
    "signatures": {{name: getattr(runtime, name).__doc__.splitlines()[0] for name in names
                   if (getattr(runtime, name).__doc__ or "").startswith(name + "(")}},
    **{{name: [member.name for member in getattr(runtime, name)] for name in {CUDA_ENUMS}}}}}))
"""


def main() -> None:
    """Extract the names of every wheel in the folder that is named on the command line."""
    wheels = sorted(Path(sys.argv[1]).glob("*.whl"))
    pathfinder = [wheel for wheel in wheels if wheel.name.startswith("cuda_pathfinder")]
    found: dict[str, list[object]] = {"tensorrt": [], "cuda": []}
    for wheel in wheels:
        if wheel.name.startswith("tensorrt_"):
            found["tensorrt"].append(names_of([wheel], TENSORRT_NAMES))
        elif wheel.name.startswith("cuda_bindings"):
            found["cuda"].append(names_of([wheel, *pathfinder], CUDA_NAMES))
    json.dump(found, sys.stdout, sort_keys=True, separators=(",", ":"))
    sys.stdout.write("\n")


def names_of(wheels: list[Path], code: str) -> object:
    """What the code prints where the unpacked wheels can be imported."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for wheel in wheels:
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(folder)
        for extension in folder.glob("tensorrt_bindings/*.so"):
            make_stubs(folder, extension.read_bytes())
        environment = {**os.environ, "PYTHONPATH": name, "LD_LIBRARY_PATH": name}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        return json.loads(done.stdout)


def make_stubs(folder: Path, extension: bytes) -> None:
    """Empty libraries under the names that the extension module asks the loader for."""
    source = folder / "stub.c"
    source.write_text(STUB)
    for library in set(re.findall(rb"\0(libnv\w+\.so\.\d+)(?=\0)", extension)):
        subprocess.run(["gcc", "-shared", "-fPIC", "-o", folder / library.decode(), source], check=True)


if __name__ == "__main__":
    main()
