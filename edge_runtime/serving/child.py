"""A server in a process of its own, so that whoever asks it cannot slow the run: begun, told things, ended.

It speaks messages of framing.py at its standard input and output, and ends when its input does.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from contextlib import suppress
from typing import IO, Any

from edge_runtime.backoff import Backoff
from edge_runtime.errors import TakenError
from edge_runtime.serving.framing import receive, send_within
from edge_runtime.systems.children import apart, yield_time
from edge_runtime.systems.pipes import unblocked

__all__ = ["AGAIN", "Process", "begin", "end", "greeted", "tell"]

STARTS_WITHIN_S = 20.0

AGAIN = Backoff(first_s=10.0, most_s=600.0, jitter=0.0)
"""Between two tries to begin it again; one that hangs whenever it runs must not cost a run its time."""

NICE = 5
"""Of the process: where cores are few, frames are scored before anyone is told of them."""

Process = subprocess.Popen[bytes]


def begin(module: str, hello: dict[str, Any], what: str) -> tuple[Process, dict[str, Any]]:
    """Start a module, greet it, and wait until it serves: the process and its answer.

    hello: has host and port; sent through the pipe, so that a token in it is in no list of processes. what: starts the
    message of the TakenError that is raised where it does not serve.
    """
    # Ctrl-C is the run's to answer; the process ends with the pipe.
    process = subprocess.Popen([sys.executable, "-m", module], stdin=subprocess.PIPE, stdout=subprocess.PIPE, **apart())
    assert process.stdin is not None
    assert process.stdout is not None
    # Written to past its buffer, by send_within.
    unblocked(process.stdin.fileno())
    timer = threading.Timer(STARTS_WITHIN_S, process.kill)
    timer.start()
    try:
        send_within(process.stdin.fileno(), hello, timeout_s=STARTS_WITHIN_S)
        answer = receive(process.stdout)
    except (OSError, ValueError):
        answer = None
    finally:
        timer.cancel()
    if answer is None or answer[0].get("kind") != "serving":
        end(process)
        process.stdout.close()
        reason = answer[0].get("reason") if answer else "its process ended"
        raise TakenError(f"{what} cannot be served at {hello['host']}:{hello['port']}: {reason}")
    return process, answer[0]


def greeted() -> tuple[IO[bytes], IO[bytes], dict[str, Any]] | None:
    """What such a process begins with: where messages come from and go to, and the first one; None where none came."""
    stdin, stdout = sys.stdin.buffer, os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # nothing but messages may go to the run
    first = receive(stdin)
    if first is None:
        return None
    yield_time(NICE)
    return stdin, stdout, first[0]


def tell(process: Process | None, header: dict[str, Any], body: bytes, what: str, *, timeout_s: float) -> None:
    """Send a message; raises OSError where the process has ended, or takes nothing and was ended for it."""
    if process is None or process.stdin is None:
        raise OSError(f"{what}'s process has ended")
    try:
        send_within(process.stdin.fileno(), header, body, timeout_s=timeout_s)
    except TimeoutError as error:
        end(process)
        raise OSError(f"{what}'s process hangs and was ended: {error}") from error
    except (OSError, ValueError) as error:
        # Not as BrokenPipeError, by which a reader of our output ends a run.
        raise OSError(f"{what}'s process has ended: {error}") from error


def end(process: Process, patience_s: float = 0.0) -> None:
    """The process ends with its pipe, or is killed."""
    assert process.stdin is not None
    with suppress(OSError):
        process.stdin.close()
    try:
        process.wait(patience_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
