"""Memory that is freed and asked for again costs no page faults."""

from __future__ import annotations

import subprocess
import sys

import pytest

FAULTS = """
import resource, sys
import numpy as np
from train.memory import keep_freed_memory

if sys.argv[1] == "kept":
    keep_freed_memory()
block = 64 << 20
np.ones(block, np.uint8)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    np.ones(block, np.uint8)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> int:
    done = subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, timeout=60, check=True)
    return int(done.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mallopt(3) is of glibc")
def test_what_is_freed_is_used_again() -> None:
    given_back = faults("plain")
    if given_back < 100:
        pytest.skip("this system's allocator keeps what is freed by itself")
    assert faults("kept") < given_back / 10
