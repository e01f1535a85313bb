"""A bundle that nobody knows yet, opened and verified in a process of its own: what it breaks is not the run.

The child has limits of memory and time, and its end by a signal is a refusal like any other.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edge_runtime.errors import BackendError, BundleError, EdgeAaeError, GateError, MissingExtraError

if TYPE_CHECKING:
    from edge_runtime.bundle.bundle import Bundle

__all__ = ["Trial", "attempt"]

MEBIBYTE = 1 << 20
CPU_BACKENDS = ("onnxruntime-cpu", "openvino", "openvino-bf16")
FALLBACK = "onnxruntime-cpu"
"""Stands in for a GPU's backend: its driver reserves more addresses than any limit, and engines take minutes."""
QUIET = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}
"""Each thread of a math library reserves memory of its own, which would count."""
START = "import os, sys; sys.path[:] = sys.argv[1].split(os.pathsep); from edge_runtime.gate.trial import main; main()"
"""With the parent's own path: `python -m` would look into the working folder first."""
REFUSED = 3
CPU_FACTOR = 4
"""Seconds of all cores for one of the wall clock, after which a child ends whose parent is gone"""
KINDS: dict[str, type[EdgeAaeError]] = {kind.__name__: kind for kind in (BundleError, BackendError, GateError)}
LONGEST_REASON = 2000


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """How a bundle is tried."""

    precision: str = "fp32"
    backend: str = FALLBACK
    most_memory_mb: int = 4096
    """Of addresses (RLIMIT_AS); the libraries alone take one gigabyte"""
    most_s: float = 120.0
    """Wall clock. A bundle takes seconds, on a small board with a large network half a minute."""
    require_signature: str | None = None
    """File or folder of the public keys, one of which must have signed it; see Bundle.open"""

    def open(self, path: Path) -> Bundle:
        """Open a bundle in this process, as the child opens it."""
        from edge_runtime.bundle.bundle import Bundle

        return Bundle.open(path, require_signature=self.require_signature)

    def of(self, path: Path) -> None:
        """Raise the error with which the bundle at a path cannot be used, a crash, too much memory or time included."""
        settings = json.dumps({**asdict(self), "path": str(path)})
        command = [sys.executable, "-c", START, os.pathsep.join(entry for entry in sys.path if entry), settings]
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, timeout=self.most_s, env={**os.environ, **QUIET}
            )
        except subprocess.TimeoutExpired as error:
            raise BundleError(f"{path} takes more than {self.most_s:g} s to be verified; it is not used") from error
        except OSError as error:
            raise BundleError(f"{path} cannot be tried: {error}") from error
        if done.returncode == 0:
            return
        if done.returncode < 0:
            raise BundleError(f"{path} ends the process that opens it by signal {-done.returncode}; it is not used")
        try:
            told = json.loads(done.stdout)
            kind, reason = KINDS.get(told["kind"], BundleError), str(told["reason"])
        except (ValueError, KeyError, TypeError):
            kind, reason = BundleError, f"{path} breaks the process that opens it (status {done.returncode})"
        raise kind(reason[:LONGEST_REASON])


def attempt(trial: Trial, path: Path) -> None:
    """Open and verify a bundle in this process; raises whatever that raises."""
    from edge_runtime.gate.verification import verify_bundle

    bundle = trial.open(path)
    backend = trial.backend if trial.backend in CPU_BACKENDS else FALLBACK
    try:
        report = verify_bundle(bundle, precision=trial.precision, backend=backend, threads=1)
    except MissingExtraError:
        return  # a device with a GPU's backend alone: that one verifies it
    if backend == trial.backend and not report.passed:
        raise GateError(f"it fails the parity gate on this machine: {report.failures()[0]}")


def main() -> None:
    """The child: limits, one attempt, and what came of it as JSON on standard output."""
    settings = json.loads(sys.argv[2])
    path = Path(settings.pop("path"))
    trial = Trial(**settings)
    _limit("RLIMIT_CORE", 0)
    _limit("RLIMIT_CPU", CPU_FACTOR * math.ceil(trial.most_s))
    _limit("RLIMIT_AS", trial.most_memory_mb * MEBIBYTE)
    try:
        attempt(trial, path)
    except MemoryError:
        _refuse("BundleError", f"{path} takes more than {trial.most_memory_mb} MiB of memory; it is not used")
    except EdgeAaeError as error:
        _refuse(type(error).__name__, str(error))
    except Exception as error:  # noqa: BLE001  whatever it is, it is the bundle's
        _refuse("BundleError", f"{path} cannot be used: {type(error).__name__}: {error}")


def _limit(name: str, most: int) -> None:
    """Allow no more; a system that forbids limits, has none or a lower one, is none of the bundle's doing."""
    try:
        import resource
    except ImportError:
        return  # Windows: there remains the wall clock
    with suppress(OSError, ValueError):
        kind = getattr(resource, name)
        _, hard = resource.getrlimit(kind)
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (most, most))


def _refuse(kind: str, reason: str) -> None:
    sys.stdout.write(json.dumps({"kind": kind, "reason": reason[:LONGEST_REASON]}))
    sys.stdout.flush()
    os._exit(REFUSED)
