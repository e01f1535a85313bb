"""Signals become requests: the first is polite, the second acts as usual, and handlers are put back."""

from __future__ import annotations

import signal
import threading

import pytest

from edge_runtime.operations.stopping import stop_requests


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
