"""What systemd hears, by a stand-in for its socket."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_runtime.operations.systemd import Systemd


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        made.bind(str(tmp_path / "notify"))
        made.settimeout(0.05)
        yield made


def heard(listener: socket.socket) -> list[str]:
    words: list[str] = []
    try:
        while True:
            words += listener.recv(4096).decode().split("\n")
    except TimeoutError:
        return words


def environment(listener: socket.socket, **more: str) -> dict[str, str]:
    return {"NOTIFY_SOCKET": str(listener.getsockname()), **more}


def test_ready_comes_once_and_the_status_now_and_then(listener: socket.socket) -> None:
    systemd = Systemd(environment(listener))
    for number in range(10):
        systemd.pulse(lambda number=number: f"{number} frames\nREADY=0")  # type: ignore[misc]
    systemd.stopping()
    assert heard(listener) == ["READY=1", "STATUS=0 frames READY=0", "STOPPING=1"]


def test_the_watchdog_is_fed_while_pulses_come_and_no_longer(listener: socket.socket) -> None:
    systemd = Systemd(environment(listener, WATCHDOG_USEC="300000", WATCHDOG_PID=str(os.getpid())))
    assert systemd.watchdog_s == 0.3
    started = time.monotonic()
    while time.monotonic() - started < 0.65:
        systemd.pulse(lambda: "")
        time.sleep(0.01)
    assert 6 <= heard(listener).count("WATCHDOG=1") <= 8
    time.sleep(0.2)
    assert heard(listener) == []


def test_a_watchdog_of_another_process_is_none_of_ours(listener: socket.socket) -> None:
    assert Systemd(environment(listener, WATCHDOG_USEC="300000", WATCHDOG_PID="1")).watchdog_s is None


def test_without_a_listener_nothing_happens(tmp_path: Path) -> None:
    assert not Systemd({}).is_there
    Systemd({}).pulse(lambda: "")
    Systemd({"NOTIFY_SOCKET": str(tmp_path / "absent")}).pulse(lambda: "")


def test_an_abstract_socket_is_reached() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        name = f"edge-aae-test-{os.getpid()}"
        listener.bind(f"\0{name}")
        listener.settimeout(0.05)
        Systemd({"NOTIFY_SOCKET": f"@{name}"}).stopping()
        assert heard(listener) == ["STOPPING=1"]
