"""A process that has imported the command line, and forks for each command: many commands, each in one of its own.

Started by Commands; reads one JSON list of arguments a line, writes one JSON object a line.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

__all__ = ["ROOT", "Commands", "Ended"]

ROOT = Path(__file__).resolve().parents[3]
LONGEST_S = 60


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    status: int
    """Exit status; negative, the signal"""
    out: str
    err: str
    most_memory: int
    """Bytes, resident"""


class Commands:
    """edge-aae commands, one after another. A context manager."""

    def __init__(self, folder: Path) -> None:
        """folder: where they run, and leave what they say."""
        self._folder = folder

    def __enter__(self) -> Commands:
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=self._folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(LONGEST_S)

    def run(self, *arguments: str) -> Ended:
        """One command to its end."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(arguments) + "\n")
        self._process.stdin.flush()
        told = json.loads(self._process.stdout.readline())
        out, err = ((self._folder / name).read_text(errors="replace") for name in ("out", "err"))
        return Ended(told["status"], out, err, 1024 * told["most_kb"])


def serve() -> None:
    import cv2  # noqa: F401  here once, not in every child

    import edge_runtime.gate.last_good
    import edge_runtime.stream.pipeline  # noqa: F401
    from edge_aae.cli import main
    from edge_runtime.extras import require

    require("onnxruntime", extra="cpu", purpose="commands")

    for line in sys.stdin:
        arguments = json.loads(line)
        child = os.fork()
        if child == 0:
            signal.alarm(LONGEST_S)
            for name, number in (("out", 1), ("err", 2)):
                os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), number)
            sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
            sys.argv = ["edge-aae", *arguments]
            try:
                main()
            except SystemExit as end:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(end.code if isinstance(end.code, int) else 0)
            except BaseException:  # noqa: BLE001  what the tests look for
                import traceback

                traceback.print_exc()
                sys.stderr.flush()
                os._exit(99)
        _, status, usage = os.wait4(child, 0)
        told = {"status": os.waitstatus_to_exitcode(status), "most_kb": usage.ru_maxrss}
        sys.stdout.write(json.dumps(told) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    serve()
