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
from edge_runtime.live.answers import LiveAnswers
from edge_runtime.live.board import Board
from edge_runtime.live.event_files import EventFiles
from edge_runtime.live.event_store import EventStore
from edge_runtime.live.feedback import Feedback
from edge_runtime.live.guarded import server_of
from edge_runtime.serving.access import Access
from edge_runtime.serving.child import greeted
from edge_runtime.serving.framing import receive, send
from edge_runtime.serving.listening import addresses_of, bound

__all__ = ["main"]

LAST_ANSWERS_S = 0.3
"""How long answers may take once the run has ended."""


def main() -> int:
    """Serve until standard input ends."""
    found = greeted()
    if found is None:
        return 1
    stdin, stdout, hello = found
    try:
        listener = bound(hello["host"], hello["port"])
        feedback = Feedback(Path(hello["feedback"]))
        bundle = None if hello["bundle"] is None else Path(hello["bundle"])
        access = Access(hello["host"], hello["token"], hello["view_token"])
        board = Board(state=hello["state"])
        store = EventStore(Path(hello["feedback"]), board)
        folders = {key: None if hello[key] is None else Path(hello[key]) for key in ("snapshots", "clips")}
        answers = LiveAnswers(
            board, access, feedback, stdout, bundle=bundle, store=store, pictures=EventFiles(**folders)
        )
        server = server_of(answers)
    except (OSError, EdgeAaeError) as error:
        send(stdout, {"kind": "failed", "reason": str(error)})
        return 1

    def read() -> None:
        try:
            while (message := receive(stdin)) is not None:
                board.take(*message)
        finally:
            server.should_exit = True
            store.flush()
            time.sleep(LAST_ANSWERS_S)
            os._exit(0)  # viewers that are still sent something must not keep a process without a run

    store.start()
    threading.Thread(target=read, name="from the run", daemon=True).start()
    port = listener.getsockname()[1]
    send(stdout, {"kind": "serving", "addresses": addresses_of(hello["host"], port, hello["token"])})
    server.run(sockets=[listener])
    return 0


if __name__ == "__main__":
    sys.exit(main())
