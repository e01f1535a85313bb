"""What the figures were made on. Imports nothing heavy, so that a memory figure is the product's own."""

from __future__ import annotations

import os
import platform
from pathlib import Path

__all__ = ["cpu_name", "footprint"]


def cpu_name() -> str:
    """The processor, by its own name."""
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else ():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or "unknown CPU"


def footprint(pid: int | str = "self") -> dict[str, float]:
    """Resident memory in MiB, open descriptors and threads of a process, libraries' own threads among them."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return {
        "resident_mib": round(pages * os.sysconf("SC_PAGE_SIZE") / 2**20, 1),
        "descriptors": len(os.listdir(f"/proc/{pid}/fd")),
        "threads": len(os.listdir(f"/proc/{pid}/task")),
    }
