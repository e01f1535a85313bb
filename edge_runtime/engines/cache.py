"""The engine cache: built once for a graph, a release and a device; rebuilt whenever one of them is another.

Each entry is an engine and a JSON sidecar with its key and its hash. The sidecar is written last, so an engine without
one is an interrupted write and does not count. One lock an entry: of two processes that want an engine one builds it.
Engines hold code that a GPU runs; the folder belongs to the user alone, and nothing from elsewhere is ever loaded.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edge_runtime.archive import sha256
from edge_runtime.engines.build import BuildSettings
from edge_runtime.engines.device import Device
from edge_runtime.engines.flavour import Flavour
from edge_runtime.errors import ConfigError
from edge_runtime.files import write_atomically
from edge_runtime.systems.locks import lock
from edge_runtime.systems.users import others_may, own_user

__all__ = ["CachedEngine", "EngineCache", "EngineKey"]

logger = logging.getLogger(__name__)

ROOT = 0
"""Who is this user decides what a GPU runs anyway."""
FOLDER_VARIABLE = "EDGE_AAE_CACHE"
NAME_DIGITS = 24
ENGINE, SIDECAR, LOCK, TIMING = ".engine", ".json", ".lock", ".timing"


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineKey:
    """Everything that an engine depends on."""

    onnx_sha256: str
    flavour: str
    version: str
    """Full version of TensorRT"""
    device: str
    """Name, compute capability and Jetson Linux release"""
    precision: str
    workspace_bytes: int
    largest_batch: int

    @classmethod
    def of(cls, graph: bytes, flavour: Flavour, device: Device, precision: str, settings: BuildSettings) -> EngineKey:
        """The key of a graph's engine on a device."""
        return cls(
            onnx_sha256=sha256(graph),
            flavour=flavour.name,
            version=flavour.version,
            device=str(device),
            precision=precision,
            workspace_bytes=settings.workspace_bytes,
            largest_batch=settings.largest_batch,
        )

    @property
    def name(self) -> str:
        """Of its files, without a suffix."""
        return sha256(json.dumps(asdict(self), sort_keys=True).encode())[:NAME_DIGITS]


@dataclass(frozen=True, slots=True)
class CachedEngine:
    """An entry of the cache, or one that was just built."""

    engine: bytes
    path: Path
    built: bool
    """Whether it was built now"""


class EngineCache:
    """A folder of engines."""

    def __init__(self, folder: Path | None = None) -> None:
        """folder: $EDGE_AAE_CACHE, else edge-aae/engines below $XDG_CACHE_HOME or ~/.cache."""
        self.folder = folder or _default_folder()

    def get(
        self,
        key: EngineKey,
        build: Callable[[], bytes],
        *,
        loads: Callable[[bytes], bool] = lambda engine: True,
        force: bool = False,
    ) -> CachedEngine:
        """The engine of a key: kept, if it is whole and loads, else built and kept.

        build: gives the serialized engine; what it raises goes through, and leaves the cache as it was. loads: whether
        the engine can be deserialized here. Waits while another process builds the same one. One that others may have
        written is not loaded. Raises ConfigError where the folder is another user's.
        """
        force = not self._own() or force
        with self._locked(key):
            if not force:
                kept = self._kept(key)
                if kept is not None and loads(kept):
                    return CachedEngine(kept, self._file(key, ENGINE), built=False)
                if kept is not None:
                    logger.info("%s does not load here; it is built anew", self._file(key, ENGINE))
            if _foreign(self.timing_file(key)):
                self.timing_file(key).unlink()
            engine = build()
            # While the engine changes there is no sidecar, and so no entry.
            self._file(key, SIDECAR).unlink(missing_ok=True)
            write_atomically(self._file(key, ENGINE), engine)
            facts = {"key": asdict(key), "engine_sha256": sha256(engine), "bytes": len(engine)}
            write_atomically(self._file(key, SIDECAR), (json.dumps(facts, indent=2, sort_keys=True) + "\n").encode())
            return CachedEngine(engine, self._file(key, ENGINE), built=True)

    def _own(self) -> bool:
        """Make the folder this user's alone; whether it was already. Raises ConfigError where it is another user's, who
        could then decide what a GPU runs."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        status = self.folder.stat()
        if status.st_uid not in (own_user(), ROOT):
            raise ConfigError(
                f"the folder of engines, {self.folder}, belongs to user {status.st_uid}, not to this one "
                f"({own_user()}): an engine there could be anybody's code; name another folder by {FOLDER_VARIABLE}"
            )
        if not others_may(status, stat.S_IWGRP | stat.S_IWOTH):
            return True
        logger.warning("others could write to %s; it is closed to them, and its engines are built anew", self.folder)
        try:
            self.folder.chmod(stat.S_IMODE(status.st_mode) & ~(stat.S_IWGRP | stat.S_IWOTH))
        except OSError as error:
            raise ConfigError(
                f"others may write to {self.folder}, where engines lie, and it cannot be closed to them: "
                f"{error.strerror}; name another folder by {FOLDER_VARIABLE}"
            ) from error
        self.clear()
        return False

    def timing_file(self, key: EngineKey) -> Path:
        """Where times of tactics are kept: one file for a release and a device."""
        named = sha256(f"{key.flavour} {key.version} {key.device}".encode())[:NAME_DIGITS]
        return self.folder / f"{named}{TIMING}"

    def entries(self) -> list[dict[str, Any]]:
        """Key, size and path of every whole entry, in the order of their names."""
        found = []
        for sidecar in sorted(self.folder.glob(f"*{SIDECAR}")):
            facts, engine = _facts(sidecar), sidecar.with_suffix(ENGINE)
            if facts is not None and engine.is_file():
                found.append({**facts["key"], "bytes": engine.stat().st_size, "path": str(engine)})
        return found

    def clear(self) -> int:
        """Remove engines and times of tactics; returns how many engines there were. Locks stay: one may be held."""
        n_engines = len(list(self.folder.glob(f"*{ENGINE}")))
        for suffix in (SIDECAR, ENGINE, TIMING):
            for file in self.folder.glob(f"*{suffix}"):
                file.unlink(missing_ok=True)
        return n_engines

    def _kept(self, key: EngineKey) -> bytes | None:
        """The engine whose sidecar has this key and whose bytes have its hash; None for anything less."""
        facts, file = _facts(self._file(key, SIDECAR)), self._file(key, ENGINE)
        if facts is None:
            return None
        for part in (file, self._file(key, SIDECAR)):
            reason = _foreign(part)
            if reason:
                logger.warning("%s %s and is not loaded; it is built anew", part, reason)
                return None
        try:
            engine = file.read_bytes()
        except OSError:
            return None
        if facts["key"] != asdict(key) or facts["engine_sha256"] != sha256(engine):
            logger.info("%s is damaged; it is built anew", file)
            return None
        return engine

    def _file(self, key: EngineKey, suffix: str) -> Path:
        return self.folder / f"{key.name}{suffix}"

    @contextlib.contextmanager
    def _locked(self, key: EngineKey) -> Iterator[None]:
        with self._file(key, LOCK).open("w") as held:
            try:
                lock(held.fileno())
            except BlockingIOError:
                logger.info("another process builds this engine; waiting for it")
                lock(held.fileno(), wait=True)
            yield


def _foreign(path: Path) -> str:
    """Why a file could come from another user; empty where it could not, or none lies there."""
    try:
        status = path.lstat()
    except OSError:
        return ""
    if not stat.S_ISREG(status.st_mode):
        return "is no plain file"
    if status.st_uid not in (own_user(), ROOT):
        return f"belongs to user {status.st_uid}, not to this one ({own_user()}),"
    if others_may(status, stat.S_IWGRP | stat.S_IWOTH):
        return f"may be written by others (mode {stat.S_IMODE(status.st_mode):o})"
    return ""


def _facts(sidecar: Path) -> dict[str, Any] | None:
    """A sidecar's content; None where it is missing or not one."""
    try:
        facts = json.loads(sidecar.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    whole = (
        isinstance(facts, dict) and isinstance(facts.get("key"), dict) and isinstance(facts.get("engine_sha256"), str)
    )
    return facts if whole else None


def _default_folder() -> Path:
    named = os.environ.get(FOLDER_VARIABLE)
    if named:
        return Path(named)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "edge-aae" / "engines"
