"""A Python that has imported what `edge-aae` imports, and forks a process for each command line that it is told.

Run as a script: a JSON object a line on standard input, {arguments, cwd, environment, stdout, stderr}; the process's
id and, once it has ended, its exit status come as lines on standard output. Each command has a process of its own, as a
user's has, without the seconds of CPU that importing PyTorch takes.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from contextlib import suppress
from typing import Any, NoReturn

IMPORTED = (
    "edge_aae.cli", "edge_runtime.scoring.detector", "cv2", "onnxruntime", "train.runs.session",
    "train.pages.run_page", "train.pages.bundle_page", "export.bundling", "scipy.stats", "sklearn.svm",
    "sklearn.mixture", "matplotlib.backends.backend_svg", "matplotlib.backends.backend_agg", "torch._dynamo",
    "onnxruntime.quantization", "openvino",
)  # fmt: skip


def main() -> None:
    from edge_runtime.extras import require

    for module in IMPORTED:
        with suppress(ImportError):  # the command itself says what is missing
            require(module, extra="dev", purpose="tests")
    with suppress(ImportError):
        from export.graphs import table_of_operators

        table_of_operators()
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            run(json.loads(line))
        tell(pid)
        tell(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


def tell(number: int) -> None:
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


def run(asked: dict[str, Any]) -> NoReturn:
    """Become the command."""
    for number, path, flags in (
        (0, os.devnull, os.O_RDONLY),
        (1, asked["stdout"], os.O_WRONLY),
        (2, asked["stderr"], os.O_WRONLY),
    ):
        descriptor = os.open(path, flags)
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    sys.argv = ["edge-aae", *asked["arguments"]]
    status = 1
    try:
        from edge_aae.cli import main as edge_aae

        edge_aae()
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else 0
    finally:
        if sys.exc_info()[0] is not None:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    main()
