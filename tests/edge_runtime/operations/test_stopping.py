"""Signals become requests: the first is polite, the second acts as usual, and handlers are put back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from edge_runtime.operations.stopping import stop_requests
from tests.edge_runtime.waiting import wait_until


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_is_a_request(number: signal.Signals) -> None:
    said = []
    with stop_requests(lambda: said.append(number)) as stopped:
        assert not stopped()
        signal.raise_signal(number)
        assert stopped()
    assert said == [number]


def test_a_second_interrupt_interrupts() -> None:
    with stop_requests() as stopped:
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert stopped()


def test_handlers_are_put_back_with_and_without_a_signal() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with stop_requests():
        pass
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    with stop_requests():
        signal.raise_signal(signal.SIGTERM)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_outside_the_main_thread_nothing_is_touched() -> None:
    seen = []

    def work() -> None:
        with stop_requests() as stopped:
            seen.append(stopped())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [False]


ON_A_TERMINAL = """
import signal, sys, time
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # tests under nohup have it ignored
from edge_runtime.operations.stopping import reload_requests, stop_requests
with stop_requests() as stopped, reload_requests() as asked, open(sys.argv[1], "w") as told:
    print("ready", flush=True)
    for _ in range(600):
        if asked():
            print("reload", file=told, flush=True)
        if stopped():
            print("stopped", file=told, flush=True)
            break
        time.sleep(0.05)
"""


def test_a_closed_terminal_is_an_end_and_a_hangup_on_an_open_one_is_not(tmp_path: Path) -> None:
    told, (ours, theirs) = tmp_path / "told", os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", ON_A_TERMINAL, str(told)], stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    try:
        assert b"ready" in os.read(ours, 100)
        process.send_signal(signal.SIGHUP)
        wait_until(lambda: told.read_text() == "reload\n")
        os.close(ours)
        process.send_signal(signal.SIGHUP)  # as the shell of that terminal does
        assert process.wait(20) == 0
        assert told.read_text().splitlines()[-1] == "stopped"
    finally:
        process.kill()
        process.wait()
