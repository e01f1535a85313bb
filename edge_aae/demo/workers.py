"""Pieces of work side by side, a process each: on two cores, two trainings of one thread beat one of two threads."""

from __future__ import annotations

import logging
import multiprocessing
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from edge_runtime.backends.onnxruntime_cpu import usable_cores
from edge_runtime.errors import DataError
from edge_runtime.operations.stopping import stop_requests
from edge_runtime.own_packages import PACKAGES, claim

__all__ = ["side_by_side"]

Made = TypeVar("Made")


@contextmanager
def side_by_side(pieces: Mapping[str, Callable[[], Made]]) -> Iterator[dict[str, Future[Made]]]:
    """Run each piece in a process, as many at a time as there are usable cores, which they share; begun in order.

    pieces: what to run, by the name that goes before each line a piece logs; picklable. Within the block, SIGINT and
    SIGTERM end the pieces, and DataError is raised where one that did not finish is asked for. No process outlives
    the block, or this process.
    """
    n_workers = min(usable_cores(), len(pieces))
    width = max(len(name) for name in pieces)
    pool = ProcessPoolExecutor(
        n_workers,
        multiprocessing.get_context("spawn"),  # a fork of a process with threads may hang
        initializer=_begin,
        initargs=(usable_cores() // n_workers,),
    )

    running: dict[str, Future[Made]] = {}

    def stop() -> None:
        # All results break with the first process that is gone; one that ended politely would take up the next piece.
        for process in multiprocessing.active_children():
            process.kill()

    with pool, stop_requests(stop) as stopped:
        try:
            for name, piece in pieces.items():
                running[name] = pool.submit(_logged, f"{name:<{width}}  ", _levels(), piece)
            yield running
        except BrokenExecutor as error:
            if not stopped():
                raise
            raise DataError("the demo was interrupted; run it again") from error
        except BaseException:
            stop()
            raise


def _levels() -> dict[str, int]:
    return {name: logging.getLogger(name).level for name in PACKAGES}


def _begin(n_threads: int) -> None:
    """Make a new process ours: our packages under their names, its share of the cores, no life after its parent."""
    claim()
    import torch

    torch.set_num_threads(n_threads)
    parent = multiprocessing.parent_process()
    assert parent is not None, "this process was spawned"

    def end_with_parent() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()


def _logged(prefix: str, levels: Mapping[str, int], piece: Callable[[], Made]) -> Made:
    logging.basicConfig(format=f"{prefix}%(message)s", level=logging.WARNING, stream=sys.stderr, force=True)
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    return piece()
