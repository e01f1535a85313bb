"""What stands in for POSIX on Windows, piece by piece, with what it would meet there."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
import types
from pathlib import Path

import pytest

from edge_runtime.systems import children, locks, pipes, replacing, users


def test_a_lock_is_had_once_and_ends_with_its_descriptor(tmp_path: Path) -> None:
    first, second = (os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT) for _ in range(2))
    locks.lock(first)
    with pytest.raises(BlockingIOError):
        locks.lock(second)
    os.close(first)
    locks.lock(second, wait=True)
    os.close(second)


def test_without_fcntl_the_first_byte_is_locked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = []

    def locking(descriptor: int, mode: str, n_bytes: int) -> None:
        asked.append((mode, n_bytes, os.lseek(descriptor, 0, os.SEEK_CUR)))
        if len(asked) > 1:
            raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setitem(sys.modules, "fcntl", None)
    windows = types.SimpleNamespace(LK_LOCK="wait", LK_NBLCK="now", locking=locking)
    monkeypatch.setitem(sys.modules, "msvcrt", windows)
    (tmp_path / "lock").write_bytes(b"some bytes")
    with (tmp_path / "lock").open("rb+") as held:
        held.seek(5)
        locks.lock(held.fileno())
        with pytest.raises(BlockingIOError):
            locks.lock(held.fileno(), wait=True)
    assert asked == [("now", 1, 0), ("wait", 1, 0)]


def test_without_users_files_are_ones_own_and_their_mode_says_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "open"
    file.touch()
    file.chmod(0o666)
    if os.name == "posix":
        assert users.own_user() == os.geteuid()
        assert users.others_may(file.stat(), 0o022) == 0o022
        monkeypatch.delattr("os.geteuid")
    assert users.own_user() == 0
    assert users.others_may(file.stat(), 0o022) == 0


def test_a_pipe_that_nobody_reads_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """By poll, and by a thread where there is none; that thread ends with the reader."""
    for is_posix in (True, False):
        if is_posix and os.name != "posix":
            continue
        monkeypatch.setattr(pipes, "polls", lambda is_posix=is_posix: is_posix)
        reader, writer = os.pipe()
        pipes.unblocked(writer)
        pipes.write_within(writer, b"taken", 60.0)
        assert os.read(reader, 5) == b"taken"
        with pytest.raises(TimeoutError, match="takes nothing"):
            pipes.write_within(writer, bytes(1 << 22), 0.05)
        os.close(reader)
        with pytest.raises(OSError, match=r"[Pp]ipe"):
            pipes.write_within(writer, b"more", 60.0)
        os.close(writer)


def test_a_pipe_is_looked_into_until_it_has_bytes_or_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = [0, 0, 3]

    def peek(handle: int, size: int) -> tuple[int, int]:
        assert (handle, size) == (1007, 0)
        if not looks:
            raise BrokenPipeError(errno.EPIPE, "The pipe has been ended")
        return looks.pop(0), 0

    monkeypatch.setattr(pipes, "polls", lambda: False)
    monkeypatch.setitem(sys.modules, "msvcrt", types.SimpleNamespace(get_osfhandle=lambda number: 1000 + number))
    monkeypatch.setitem(sys.modules, "_winapi", types.SimpleNamespace(PeekNamedPipe=peek))
    assert not pipes.readable(7, 0.0)
    assert pipes.readable(7, 60.0)
    assert looks == []
    assert pipes.readable(7, 60.0)  # the end is something to read too


def test_a_child_is_begun_apart_in_either_way(monkeypatch: pytest.MonkeyPatch) -> None:
    if os.name == "posix":
        assert children.apart() == {"start_new_session": True}
        monkeypatch.delattr("os.setsid")
        monkeypatch.delattr("os.nice")
        monkeypatch.setattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0x200, raising=False)
        monkeypatch.setattr(subprocess, "BELOW_NORMAL_PRIORITY_CLASS", 0x4000, raising=False)
    assert children.apart() == {"creationflags": 0x4200}
    children.yield_time(5)


def test_a_file_that_is_read_is_replaced_once_it_is_not(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    source, target = tmp_path / "new", tmp_path / "old"
    source.write_text("new")
    target.write_text("old")
    really, refused = Path.replace, []

    def sharing(self: Path, other: Path) -> Path:
        if len(refused) < 3:
            refused.append(1)
            raise PermissionError(errno.EACCES, "The process cannot access the file", str(other))
        return really(self, other)

    monkeypatch.setattr(Path, "replace", sharing)
    if os.name == "posix":
        with pytest.raises(PermissionError):
            replacing.replace(source, target)
        assert len(refused) == 1
        monkeypatch.delattr("os.geteuid")
    replacing.replace(source, target)
    assert target.read_text() == "new"


def test_a_file_that_stays_open_is_given_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def sharing(self: Path, other: Path) -> Path:
        raise PermissionError(errno.EACCES, "The process cannot access the file")

    monkeypatch.setattr(Path, "replace", sharing)
    monkeypatch.setattr(replacing, "PATIENCE_S", 0.05)
    monkeypatch.setattr(replacing, "_may_be_in_use", lambda: True)
    started = time.monotonic()
    with pytest.raises(PermissionError):
        replacing.replace(tmp_path / "new", tmp_path / "old")
    assert time.monotonic() - started >= 0.05
