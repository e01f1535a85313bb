"""What a thousand reconnects leave behind: resident memory, file descriptors, threads.

    python benchmarks/runtime/reconnects.py [--reconnects 1000] [--source test|http] [--out docs/results]

test: the made-up camera, disconnecting again and again. http: a Motion JPEG server on the loopback, of this process,
that hangs up after a few frames, through OpenCV's FFmpeg. Both through the feed that `edge-aae run` uses. Figures
after a tenth, half and all of the reconnects; prints them and writes reconnects.json.
"""

from __future__ import annotations

import argparse
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.machine import cpu_name, footprint
from edge_runtime.backoff import Backoff
from edge_runtime.sources import source_from
from edge_runtime.stream.feed import Feed, FeedSettings

FRAMES_A_CONNECTION = 3
TEST_SOURCE = "test://disconnect?fps=400&at=0&for=0.005&every=0.012&width=320&height=240"


@contextmanager
def camera_that_hangs_up() -> Iterator[str]:
    """The URL of a Motion JPEG server that ends every connection after a few frames."""
    rng = np.random.default_rng(0)
    frames = [cv2.imencode(".jpg", rng.integers(0, 256, (240, 320, 3), dtype=np.uint8))[1].tobytes() for _ in range(8)]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            try:
                for frame in frames[: FRAMES_A_CONNECTION + 3]:
                    head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(frame)}\r\n\r\n"
                    self.wfile.write(head.encode() + frame + b"\r\n")
                    time.sleep(0.005)
            except OSError:
                pass  # the client had enough

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/live"
    finally:
        server.shutdown()
        server.server_close()


def measured(kind: str, n_reconnects: int) -> dict[str, Any]:
    """Footprints after a tenth of the reconnects and after all of them."""
    ready = threading.Condition()
    settings = FeedSettings(backoff=Backoff(first_s=0.001, most_s=0.001), max_age_ms=1e9)
    statuses = 0

    def count(record: dict[str, Any]) -> None:
        nonlocal statuses
        statuses += 1

    with camera_that_hangs_up() if kind == "http" else nullcontext(TEST_SOURCE) as named:
        feed = Feed(source_from(None, named), settings, count, ready, seed=0)
        started_s = time.perf_counter()
        feed.start()
        seen: dict[int, dict[str, float]] = {}
        taken = 0
        marks = [n_reconnects // 10, n_reconnects // 2, n_reconnects]
        while marks:
            with ready:
                taken += feed.take() is not None
                ready.wait(0.01)
            if feed.counts.reconnects >= marks[0]:
                seen[marks.pop(0)] = {**footprint(), "threads": threading.active_count()}
        feed.stop()
        feed.join(1.0)
    return {
        "source": kind,
        "reconnects": n_reconnects,
        "seconds": round(time.perf_counter() - started_s, 1),
        "frames_taken": taken,
        "statuses": statuses,
        "footprints": seen,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reconnects", type=int, default=1000)
    parser.add_argument("--source", choices=("test", "http"), action="append")
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    arguments = parser.parse_args()
    rows = [measured(kind, arguments.reconnects) for kind in arguments.source or ("test", "http")]
    for row in rows:
        print(
            f"{row['source']}: {row['reconnects']} reconnects in {row['seconds']} s, {row['frames_taken']} frames taken"
        )
        for mark, figures in row["footprints"].items():
            print(f"  after {mark}: " + ", ".join(f"{name} {value}" for name, value in figures.items()))
    result = {"command": "python benchmarks/runtime/reconnects.py", "machine": cpu_name(), "runs": rows}
    (arguments.out / "reconnects.json").write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
