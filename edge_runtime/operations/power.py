"""What a board tells of itself: power, temperatures, power mode. Every reading is None or empty where it does not."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["EnergyMeter", "board_state", "measured_energy", "power_mode", "temperatures_c"]

SYS = Path("/sys")
NVPMODEL = Path("/var/lib/nvpmodel/status")
SAMPLE_S = 0.1


@dataclass(slots=True)
class EnergyMeter:
    """Energy that was used while it ran."""

    joules: float | None = None
    """None where the machine has no meter that we can read."""
    meter: str | None = None
    """rapl (x86-64: the processor's package) or ina3221 (Jetson: the board's input)."""
    _watts: list[float] = field(default_factory=list)


def board_power_w(sys: Path = SYS) -> float | None:
    """Power into a Jetson, watts, from its INA3221: the rail VDD_IN or VIN where it is named, else all rails."""
    rails: dict[str, float] = {}
    for label in sys.glob("bus/i2c/drivers/ina3221/*/hwmon/hwmon*/in*_label"):
        channel = label.name[2:-6]
        volt, ampere = (_number(label.with_name(f"{kind}{channel}_input")) for kind in ("in", "curr"))
        if volt is not None and ampere is not None:
            rails[label.read_text().strip()] = volt * ampere / 1e6
    whole = [watts for name, watts in rails.items() if name in ("VDD_IN", "VIN", "VIN_SYS_5V0")]
    return whole[0] if whole else (sum(rails.values()) if rails else None)


def rapl_joules(sys: Path = SYS) -> float | None:
    """The processor package's energy counter, joules; None where there is none or it is root's alone."""
    total = _number(sys / "class/powercap/intel-rapl:0/energy_uj")
    return None if total is None else total / 1e6


def temperatures_c(sys: Path = SYS) -> dict[str, float]:
    """Thermal zone -> degrees Celsius."""
    zones = {}
    for zone in sorted(sys.glob("class/thermal/thermal_zone*")):
        degrees = _number(zone / "temp")
        if degrees is not None and (zone / "type").is_file():
            zones[(zone / "type").read_text().strip()] = degrees / 1000.0
    return zones


def power_mode(status: Path = NVPMODEL) -> str | None:
    """A Jetson's nvpmodel mode, such as pmode:0000; None on other machines."""
    try:
        return status.read_text().strip() or None
    except OSError:
        return None


def board_state(sys: Path = SYS, status: Path = NVPMODEL) -> dict[str, Any]:
    """Of {mode, watts, temperatures_c} what this board tells; for a status record."""
    told = {"mode": power_mode(status), "watts": board_power_w(sys), "temperatures_c": temperatures_c(sys)}
    return {key: value for key, value in told.items() if value}


@contextmanager
def measured_energy() -> Iterator[EnergyMeter]:
    """A meter that is filled when the block ends."""
    meter = EnergyMeter()
    before = rapl_joules()
    stop = threading.Event()
    started_s = time.perf_counter()

    def sample() -> None:
        while not stop.wait(SAMPLE_S):
            watts = board_power_w()
            if watts is None:
                return
            meter._watts.append(watts)

    thread = threading.Thread(target=sample, name="energy", daemon=True)
    thread.start()
    try:
        yield meter
    finally:
        stop.set()
        thread.join()
        after = rapl_joules()
        if meter._watts:
            seconds = time.perf_counter() - started_s
            meter.joules, meter.meter = sum(meter._watts) / len(meter._watts) * seconds, "ina3221"
        elif before is not None and after is not None and after >= before:
            meter.joules, meter.meter = after - before, "rapl"


def _number(file: Path) -> float | None:
    try:
        return float(file.read_text())
    except (OSError, ValueError):
        return None
