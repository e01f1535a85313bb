"""The live page's process: takes what the run hands on at standard input, and serves it.

`python -m edge_runtime.live.server` is started by bridge.py and by nobody else; it ends when its standard input does.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path

from edge_runtime.errors import EdgeAaeError
from edge_runtime.extras import require
from edge_runtime.live.access import LARGEST_BODY, Access
from edge_runtime.live.answers import MOST_VIEWERS, LiveAnswers
from edge_runtime.live.board import Board
from edge_runtime.live.feedback import Feedback
from edge_runtime.live.framing import receive, send
from edge_runtime.live.guarded import address_of, bound

__all__ = ["main"]

LAST_ANSWERS_S = 0.3
"""How long answers may take once the run has ended."""


def main() -> int:
    """Serve until standard input ends."""
    stdin, stdout = sys.stdin.buffer, os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # nothing but messages may go to the run
    first = receive(stdin)
    if first is None:
        return 1
    hello = first[0]
    try:
        listener = bound(hello["host"], hello["port"])
        feedback = Feedback(Path(hello["feedback"]))
        uvicorn = require("uvicorn", extra="dashboard", purpose="live pages")
    except (OSError, EdgeAaeError) as error:
        send(stdout, {"kind": "failed", "reason": str(error)})
        return 1
    board = Board(state=hello["state"])
    bundle = None if hello["bundle"] is None else Path(hello["bundle"])
    access = Access(hello["host"], hello["token"])
    app = LiveAnswers(board, access, feedback, stdout, bundle)
    config = uvicorn.Config(
        app, log_config=None, access_log=False, server_header=False, timeout_keep_alive=5,
        limit_concurrency=4 * MOST_VIEWERS, h11_max_incomplete_event_size=LARGEST_BODY, timeout_graceful_shutdown=1,
        lifespan="off",
    )  # fmt: skip
    server = uvicorn.Server(config)

    def read() -> None:
        try:
            while (message := receive(stdin)) is not None:
                board.take(*message)
        finally:
            server.should_exit = True
            time.sleep(LAST_ANSWERS_S)
            os._exit(0)  # viewers that are still sent something must not keep a process without a run

    threading.Thread(target=read, name="from the run", daemon=True).start()
    send(stdout, {"kind": "serving", "address": address_of(hello["host"], listener, hello["token"])})
    server.run(sockets=[listener])
    return 0


if __name__ == "__main__":
    sys.exit(main())
