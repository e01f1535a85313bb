"""The engine cache: kept while everything is the same, built again when anything is not, never half."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from edge_runtime.engines import Device, EngineCache, EngineKey
from edge_runtime.errors import ConfigError

ROOT = Path(__file__).resolve().parents[3]
KEY = EngineKey(
    onnx_sha256="a" * 64,
    flavour="tensorrt",
    version="10.3.0.30",
    device=str(Device(name="Orin", compute_capability="8.7", l4t="R36.4.3")),
    precision="fp16",
    workspace_bytes=1 << 29,
    largest_batch=16,
)


class Builder:
    """Counts its builds."""

    def __init__(self, engine: bytes = b"engine") -> None:
        self.engine = engine
        self.n_builds = 0

    def __call__(self) -> bytes:
        self.n_builds += 1
        return self.engine


@pytest.fixture
def cache(tmp_path: Path) -> EngineCache:
    return EngineCache(tmp_path / "engines")


def test_an_engine_is_built_once_and_then_kept(cache: EngineCache) -> None:
    build = Builder()
    first, second = cache.get(KEY, build), cache.get(KEY, build)
    assert (first.built, second.built, build.n_builds) == (True, False, 1)
    assert first.engine == second.engine == second.path.read_bytes() == b"engine"
    (entry,) = cache.entries()
    assert entry["onnx_sha256"] == KEY.onnx_sha256
    assert entry["bytes"] == 6


@pytest.mark.parametrize(
    "changed",
    [
        {"onnx_sha256": "b" * 64},
        {"version": "10.16.1.11"},
        {"flavour": "tensorrt_rtx"},
        {"device": "Orin, 8.7, R36.4.4"},
        {"precision": "int8"},
        {"workspace_bytes": 1 << 30},
        {"largest_batch": 1},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_another_key_is_another_engine(cache: EngineCache, changed: dict[str, object]) -> None:
    build = Builder()
    cache.get(KEY, build)
    assert cache.get(replace(KEY, **changed), build).built  # type: ignore[arg-type]
    assert not cache.get(KEY, build).built
    assert len(cache.entries()) == 2


@pytest.mark.parametrize("damage", ["a changed byte", "cut short", "no sidecar", "another key", "no JSON", "no engine"])
def test_a_damaged_entry_is_built_again(cache: EngineCache, damage: str) -> None:
    path = cache.get(KEY, Builder()).path
    sidecar = path.with_suffix(".json")
    if damage == "a changed byte":
        path.write_bytes(b"enginE")
    elif damage == "cut short":
        path.write_bytes(b"engi")
    elif damage == "no sidecar":
        sidecar.unlink()
    elif damage == "another key":
        facts = json.loads(sidecar.read_text())
        sidecar.write_text(json.dumps({**facts, "key": {**facts["key"], "version": "9"}}))
    elif damage == "no JSON":
        sidecar.write_text("{")
    else:
        path.unlink()
    build = Builder(b"again")
    found = cache.get(KEY, build)
    assert (found.engine, found.built) == (b"again", True)
    assert cache.get(KEY, build).engine == b"again"
    assert build.n_builds == 1


def test_an_engine_that_does_not_load_is_built_again(cache: EngineCache) -> None:
    cache.get(KEY, Builder(b"old"))
    found = cache.get(KEY, Builder(b"new"), loads=lambda engine: engine == b"new")
    assert (found.engine, found.built) == (b"new", True)
    assert not cache.get(KEY, Builder(), loads=lambda engine: engine == b"new").built


def test_force_builds_anew(cache: EngineCache) -> None:
    cache.get(KEY, Builder(b"old"))
    assert cache.get(KEY, Builder(b"new"), force=True).engine == b"new"


def test_a_build_that_fails_leaves_no_half_file_and_keeps_what_was_there(cache: EngineCache) -> None:
    def fails() -> bytes:
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        cache.get(KEY, fails)
    assert cache.entries() == []
    assert not list(cache.folder.glob("*.engine"))
    cache.get(KEY, Builder())
    with pytest.raises(RuntimeError):
        cache.get(KEY, fails, force=True)
    assert cache.get(KEY, Builder(b"other")).engine == b"engine"


PROCESS = """
import sys, time
from pathlib import Path
from tests.edge_runtime.engines.test_cache import KEY
from edge_runtime.engines import EngineCache

def build():
    with open(sys.argv[2], "a") as log:
        log.write("built\\n")
    if sys.argv[3] == "killed":
        import os, signal
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.5)
    return b"engine"

print(EngineCache(Path(sys.argv[1])).get(KEY, build).engine)
"""


def start(tmp_path: Path, how: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROCESS, str(tmp_path / "engines"), str(tmp_path / "log"), how],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_two_processes_at_once_build_once(tmp_path: Path) -> None:
    both = [start(tmp_path, "whole") for _ in range(2)]
    assert [process.communicate(timeout=60)[0].strip() for process in both] == ["b'engine'"] * 2
    assert (tmp_path / "log").read_text() == "built\n"


def test_a_killed_build_leaves_nothing_and_holds_no_lock(tmp_path: Path) -> None:
    killed = start(tmp_path, "killed")
    killed.communicate(timeout=60)
    assert killed.returncode != 0
    cache = EngineCache(tmp_path / "engines")
    assert cache.entries() == []
    assert not list(cache.folder.glob("*.engine"))
    assert cache.get(KEY, Builder()).built


def test_clearing_removes_engines_and_says_how_many(cache: EngineCache) -> None:
    cache.get(KEY, Builder())
    cache.get(replace(KEY, precision="int8"), Builder())
    cache.timing_file(KEY).write_bytes(b"times")
    assert cache.clear() == 2
    assert cache.entries() == []
    assert {file.suffix for file in cache.folder.iterdir()} == {".lock"}


def test_the_folder_is_named_by_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGE_AAE_CACHE", str(tmp_path / "own"))
    assert EngineCache().folder == tmp_path / "own"
    monkeypatch.delenv("EDGE_AAE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert EngineCache().folder == tmp_path / "xdg/edge-aae/engines"


@pytest.mark.parametrize("suffix", [".engine", ".json"])
def test_an_engine_that_others_may_write_is_not_loaded(
    cache: EngineCache, suffix: str, caplog: pytest.LogCaptureFixture
) -> None:
    build = Builder()
    file = cache.get(KEY, build).path.with_suffix(suffix)
    file.chmod(0o666)
    assert cache.get(KEY, build).built
    assert "may be written by others (mode 666) and is not loaded; it is built anew" in caplog.text
    assert not cache.get(KEY, build).built


def test_an_engine_of_another_user_is_not_loaded(
    cache: EngineCache, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    forged = Builder(b"forged")
    file = cache.get(KEY, forged).path
    lstat = Path.lstat

    def of_another(path: Path) -> os.stat_result:
        status = lstat(path)
        return os.stat_result((*status[:4], 65534, *status[5:10])) if path == file else status

    monkeypatch.setattr(Path, "lstat", of_another)
    assert cache.get(KEY, Builder()).engine == b"engine"
    assert "belongs to user 65534" in caplog.text


def test_an_engine_that_is_a_link_is_not_followed(cache: EngineCache, tmp_path: Path) -> None:
    file = cache.get(KEY, Builder()).path
    (tmp_path / "elsewhere").write_bytes(b"engine")
    file.unlink()
    file.symlink_to(tmp_path / "elsewhere")
    assert cache.get(KEY, Builder()).built
    assert not file.is_symlink()


def test_a_folder_that_others_could_write_to_is_closed_and_all_of_it_built_anew(
    cache: EngineCache, caplog: pytest.LogCaptureFixture
) -> None:
    cache.get(KEY, Builder(b"forged"))
    cache.timing_file(KEY).write_bytes(b"forged times")
    cache.folder.chmod(0o777)
    found = cache.get(KEY, Builder())
    assert (found.engine, found.built) == (b"engine", True)
    assert cache.folder.stat().st_mode & 0o777 == 0o755
    assert not cache.timing_file(KEY).exists()
    assert "others could write to" in caplog.text


def test_a_folder_of_another_user_is_refused(cache: EngineCache, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.get(KEY, Builder())
    monkeypatch.setattr("os.geteuid", lambda: 4242)
    monkeypatch.setattr("edge_runtime.engines.cache.ROOT", 4243)
    with pytest.raises(ConfigError, match=r"belongs to user .*could be anybody's code; name another folder by"):
        cache.get(KEY, Builder())


def test_times_that_others_may_write_are_measured_anew(cache: EngineCache) -> None:
    cache.folder.mkdir()
    cache.timing_file(KEY).write_bytes(b"times")
    cache.timing_file(KEY).chmod(0o666)
    cache.get(KEY, Builder())
    assert not cache.timing_file(KEY).exists()
