"""`edge-aae run` as a process that is watched while it runs: its records, its health, its end."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).resolve().parents[3]


class Running:
    """A run with its health page; use it as a context manager, which kills what is left."""

    def __init__(self, *arguments: str | Path, cwd: Path, stdin: IO[bytes] | int | None = None) -> None:
        self.records: list[dict[str, Any]] = []
        self.said: list[str] = []
        self.process = subprocess.Popen(
            [sys.executable, "-m", "edge_aae.cli", "run", *map(str, arguments), "--metrics", "0", "--threads", "1"],
            cwd=cwd,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL if stdin is None else stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._threads = [
            threading.Thread(target=self._read, args=(self.process.stdout, self._record)),
            threading.Thread(target=self._read, args=(self.process.stderr, self.said.append)),
        ]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        for thread in self._threads:
            thread.join()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()

    def wait_for(self, reached: Callable[[], bool], what: str, timeout_s: float = 30.0) -> None:
        deadline = time.monotonic() + timeout_s
        while not reached():
            assert time.monotonic() < deadline, f"{what} did not come; {self.statuses()}; {self.said}"
            assert self.process.poll() is None, f"the run ended before {what}: {self.said}"
            time.sleep(0.02)

    def wait_for_status(self, event_type: str, timeout_s: float = 30.0) -> dict[str, Any]:
        self.wait_for(lambda: event_type in self.statuses(), event_type, timeout_s)
        return next(record for record in self.records if record.get("event_type") == event_type)

    def wait_for_frames(self, n_more: int, timeout_s: float = 30.0) -> None:
        at_least = len(self.frames()) + n_more
        self.wait_for(lambda: len(self.frames()) >= at_least, f"{n_more} more frames", timeout_s)

    def frames(self) -> list[dict[str, Any]]:
        return [record for record in list(self.records) if record["type"] == "frame"]

    def statuses(self) -> list[str]:
        return [record["event_type"] for record in list(self.records) if record["type"] == "status"]

    def health(self) -> tuple[int, dict[str, Any]]:
        """(HTTP status, what it says) of /healthz."""
        try:
            with urllib.request.urlopen(self._url("healthz"), timeout=5) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def metrics(self) -> str:
        with urllib.request.urlopen(self._url("metrics"), timeout=5) as answer:
            text: str = answer.read().decode()
            return text

    def stop(self) -> int:
        """SIGTERM, and the exit status."""
        self.process.terminate()
        return self.end()

    def end(self, timeout_s: float = 30.0) -> int:
        status = self.process.wait(timeout_s)
        for thread in self._threads:
            thread.join()
        return status

    def _url(self, page: str) -> str:
        pattern = re.compile(r"http://127\.0\.0\.1:(\d+)/healthz")
        self.wait_for(lambda: any(map(pattern.search, list(self.said))), "the health page")
        port = next(found[1] for found in map(pattern.search, list(self.said)) if found)
        return f"http://127.0.0.1:{port}/{page}"

    def _record(self, line: str) -> None:
        self.records.append(json.loads(line))

    @staticmethod
    def _read(stream: IO[str] | None, take: Callable[[str], None]) -> None:
        for line in stream or ():
            take(line)


def assert_no_refused_frame_was_scored(records: list[dict[str, Any]]) -> None:
    """From a fault's status to its end no frame is scored but one that was taken before it."""
    first_bad: int | None = None
    for record in records:
        if record["type"] == "status":
            if record["event_type"].startswith("FRAME_"):
                first_bad = record["payload"].get("frame_id")
            elif record["event_type"] in ("SOURCE_RECOVERED", "FRAMES_GOOD"):
                first_bad = None
        elif record["type"] == "frame" and first_bad is not None:
            assert record["frame_id"] < first_bad, record
