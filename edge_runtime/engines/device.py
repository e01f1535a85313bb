"""The device an engine is built for, as the engine cache tells devices apart."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from edge_runtime.engines.cuda import Cuda
from edge_runtime.errors import BackendError, MissingExtraError

__all__ = ["NO_DEVICE", "Device", "l4t_release", "this_device"]

L4T_FILE = Path("/etc/nv_tegra_release")
"""Present on Jetson boards alone."""
NO_DEVICE = "no device"


@dataclass(frozen=True, kw_only=True, slots=True)
class Device:
    """What an engine depends on beside TensorRT itself."""

    name: str
    """As CUDA names the GPU, or `no device`."""
    compute_capability: str
    """Such as 8.7; empty without a GPU."""
    l4t: str = ""
    """Jetson Linux release such as R36.4.3; empty elsewhere."""
    missing: str = ""
    """Why there is no device; empty where there is one."""

    @property
    def is_present(self) -> bool:
        """Whether engines can run here."""
        return self.name != NO_DEVICE

    def to_json(self) -> dict[str, str]:
        """The fields that tell one device from another."""
        return {"name": self.name, "compute_capability": self.compute_capability, "l4t": self.l4t}

    def __str__(self) -> str:
        return ", ".join(filter(None, (self.name, self.compute_capability, self.l4t)))


def this_device(l4t_file: Path = L4T_FILE) -> Device:
    """The first CUDA device; where there is none, NO_DEVICE with the reason under `missing`."""
    l4t = l4t_release(l4t_file)
    try:
        name, compute_capability = Cuda().device()
    except (BackendError, MissingExtraError) as error:
        return Device(name=NO_DEVICE, compute_capability="", l4t=l4t, missing=str(error))
    return Device(name=name, compute_capability=compute_capability, l4t=l4t)


def l4t_release(file: Path = L4T_FILE) -> str:
    """Such as R36.4.3; the file's first line where it reads otherwise; empty without the file."""
    try:
        first_line = file.read_text(encoding="utf-8", errors="replace").partition("\n")[0].strip()
    except OSError:
        return ""
    found = re.match(r"# (R\d+) \(release\), REVISION: ([\d.]+)", first_line)
    return f"{found[1]}.{found[2]}" if found else first_line
