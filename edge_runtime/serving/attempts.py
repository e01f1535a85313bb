"""Wrong tokens, address by address, and how long one must wait that has guessed several times."""

from __future__ import annotations

import hashlib
import math
import random
import time
from collections import OrderedDict
from collections.abc import Callable

from edge_runtime.backoff import Backoff
from edge_runtime.serving.doorkeeper import group_of

__all__ = ["Attempts"]

FREE = 5
"""Different wrong tokens of an address that cost nothing: somebody mistypes"""

PAUSE = Backoff(first_s=1.0, most_s=60.0, jitter=0.0)
"""After each one beyond them"""

FORGOTTEN_S = 600.0
MOST_ADDRESSES, MOST_GUESSES = 1024, 64
"""Kept, the newest: the table is bounded whoever asks"""


class Attempts:
    """Counts different wrong tokens. The same one again is no guess: a browser that was open when the run was started
    again asks on with the token of before."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._of: OrderedDict[str, _Guesses] = OrderedDict()

    def wait_s(self, address: str) -> int:
        """Whole seconds until a token of this address is looked at again; 0: now."""
        guesses = self._of.get(group_of(address))
        return 0 if guesses is None else math.ceil(max(0.0, guesses.until_s - self._clock()))

    def failed(self, address: str, token: str) -> None:
        """This address gave this token, which is wrong."""
        group, now_s = group_of(address), self._clock()
        guesses = self._of.pop(group, None)
        if guesses is None or now_s - guesses.last_s > FORGOTTEN_S:
            guesses = _Guesses()
        self._of[group] = guesses
        while len(self._of) > MOST_ADDRESSES:
            self._of.popitem(last=False)
        guesses.last_s = now_s
        digest = hashlib.sha256(token.encode("utf-8", errors="surrogatepass")).digest()
        if digest in guesses.seen:
            return
        guesses.seen[digest] = None
        while len(guesses.seen) > MOST_GUESSES:
            guesses.seen.popitem(last=False)
        guesses.number += 1
        if guesses.number > FREE:
            guesses.until_s = now_s + PAUSE.wait_s(guesses.number - FREE, random.Random(0))


class _Guesses:
    def __init__(self) -> None:
        self.number = 0
        self.until_s = self.last_s = -math.inf
        self.seen: OrderedDict[bytes, None] = OrderedDict()
