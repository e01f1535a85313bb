"""Connections of a server: deadlines from when they came, and room for who comes next."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from edge_runtime.errors import ConfigError
from edge_runtime.serving.doorkeeper import Doorkeeper, Limits, group_of


def in_loop(steps: Callable[[Doorkeeper, list[str]], None], limits: Limits, wait_s: float = 0.0) -> list[str]:
    """Connections that were ended while these steps were taken and for so long after."""

    async def run() -> list[str]:
        ended: list[str] = []
        steps(Doorkeeper(limits), ended)
        await asyncio.sleep(wait_s)
        return ended

    return asyncio.run(run())


def arrive(door: Doorkeeper, ended: list[str], key: str, address: str) -> None:
    door.arrived(key, address, lambda: ended.append(key))


def test_silent_connections_of_an_address_go_for_the_next_one_of_theirs_alone() -> None:
    def steps(door: Doorkeeper, ended: list[str]) -> None:
        arrive(door, ended, "other", "10.0.0.9")
        for number in range(5):
            arrive(door, ended, f"silent {number}", "10.0.0.1")

    assert in_loop(steps, Limits(waiting=8, waiting_per_address=3)) == ["silent 0", "silent 1"]


def test_where_all_room_is_taken_the_address_that_takes_most_of_it_gives_some() -> None:
    def steps(door: Doorkeeper, ended: list[str]) -> None:
        arrive(door, ended, "one", "10.0.0.1")
        for number in range(3):
            arrive(door, ended, f"many {number}", "10.0.0.2")
        arrive(door, ended, "new", "10.0.0.3")

    assert in_loop(steps, Limits(waiting=4, waiting_per_address=4)) == ["many 0"]


def test_a_request_that_is_being_answered_is_never_turned_out_and_waits_again_after_it() -> None:
    def steps(door: Doorkeeper, ended: list[str]) -> None:
        arrive(door, ended, "asks", "10.0.0.1")
        door.has_header("asks")
        assert door.let_in("asks")
        arrive(door, ended, "first", "10.0.0.1")
        arrive(door, ended, "second", "10.0.0.1")
        assert (ended, door.answering, len(door)) == (["first"], 1, 2)
        door.answered("asks")
        assert ended == ["first", "second"]
        door.left("asks")
        door.left("asks")
        assert len(door) == 0

    assert in_loop(steps, Limits(waiting=2, waiting_per_address=1)) == ["first", "second"]


def test_more_requests_than_are_answered_at_once_are_refused() -> None:
    def steps(door: Doorkeeper, ended: list[str]) -> None:
        for key in ("a", "b"):
            arrive(door, ended, key, "10.0.0.1")
        assert [door.let_in(key) for key in ("a", "a", "b")] == [True, True, False]
        door.answered("a")
        assert door.let_in("b")

    assert in_loop(steps, Limits(answering=1)) == []


def test_every_step_has_a_deadline_that_nothing_puts_off_and_a_stream_its_own() -> None:
    def steps(door: Doorkeeper, ended: list[str]) -> None:
        for key in ("silent", "slow body", "slow reader", "stream"):
            arrive(door, ended, key, "10.0.0.1")
        for key in ("slow body", "slow reader", "stream"):
            door.has_header(key)
        door.let_in("slow reader")
        door.let_in("stream", streams=True)

    limits = Limits(head_s=0.02, body_s=0.05, answer_s=0.08)
    assert in_loop(steps, limits, wait_s=0.5) == ["silent", "slow body", "slow reader"]


def test_what_belongs_to_one_owner_counts_as_one_address() -> None:
    assert group_of("::ffff:10.0.0.1") == group_of("10.0.0.1") == "10.0.0.1"
    assert group_of("2001:db8::1") == group_of("2001:db8:0:0:ffff::2%eth0") != group_of("2001:db8:0:1::1")
    assert group_of("::1") == "::1"
    assert group_of("nothing of the kind") == "nothing of the kind"


@pytest.mark.parametrize("wrong", [{"head_s": 0.0}, {"head_s": 11.0}, {"waiting_per_address": 65}, {"answering": 0}])
def test_limits_that_let_nobody_in_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="expected"):
        Limits(**wrong)  # type: ignore[arg-type]
