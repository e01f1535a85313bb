"""Pieces of work side by side: results, errors, signals; no process outlives them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from functools import partial

import pytest

from edge_aae.demo.workers import side_by_side
from edge_runtime.errors import DataError

pytest.importorskip("torch")


def test_pieces_give_what_they_make_under_their_names() -> None:
    with side_by_side({"seven": partial(int, "7"), "process": os.getpid}) as running:
        assert running["seven"].result(timeout=120) == 7
        assert running["process"].result(timeout=120) != os.getpid()
    assert not multiprocessing.active_children()


def test_a_piece_that_fails_ends_the_others() -> None:
    started = time.monotonic()
    with (
        pytest.raises(ValueError, match="not a number"),
        side_by_side({"bad": partial(int, "not a number"), "slow": partial(time.sleep, 500)}) as running,
    ):
        running["bad"].result(timeout=120)
    assert time.monotonic() - started < 400
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_pieces_and_is_told(number: signal.Signals) -> None:
    def interrupted() -> None:
        with side_by_side({str(index): partial(time.sleep, 500) for index in range(6)}) as running:
            threading.Timer(1.0, os.kill, (os.getpid(), number)).start()
            for future in running.values():
                future.result(timeout=450)

    started = time.monotonic()
    with pytest.raises(DataError, match="interrupted"):
        interrupted()
    assert time.monotonic() - started < 400
    assert not multiprocessing.active_children()
