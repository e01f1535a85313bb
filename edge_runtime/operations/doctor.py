"""What this machine has and lacks for a run: one check a line, each with what to do about it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Literal

from edge_runtime import __version__
from edge_runtime.backends import BACKENDS, EXPERIMENTAL, open_backend
from edge_runtime.bundle.bundle import Bundle
from edge_runtime.engines.device import this_device
from edge_runtime.errors import EdgeAaeError, MissingExtraError
from edge_runtime.operations.power import power_mode, temperatures_c
from edge_runtime.sources import source_from, split_name
from edge_runtime.sources.capture import opencv_has, quiet_cv2

__all__ = ["Check", "examine", "frame_rate"]

State = Literal["ok", "note", "warning", "error"]

SMALL_EXTRAS = {
    "mqtt": "paho-mqtt",
    "metrics": "prometheus-client",
    "sign": "cryptography",
    "dashboard": "starlette",
}
"""Extra to its package, of what commands may be asked for"""

MISSING = "not installed"

DEFAULT_BACKEND = "onnxruntime-cpu"
"""That of a run which names none"""

PACKAGES = {"onnxruntime-cpu": ("onnxruntime", "onnxruntime-gpu"), "onnxruntime-cuda": ("onnxruntime-gpu",)}
"""What brings a backend; of the others it is called as they are. These two have one module, and either the CPU's."""

BUILD_MEMORY_GIB = 2.0
"""Free memory that building a TensorRT engine of ours may take; less ends in a build that is killed."""

LEAST_DISK_GB = 1.0
RATE_SECONDS = 3.0
HOT_C = 85.0
"""Jetson modules throttle from about here on."""

WRITTEN = datetime(2026, 1, 1, tzinfo=timezone.utc)
"""A clock before this one is wrong: the program did not exist."""


@dataclass(frozen=True, slots=True)
class Check:
    """One finding."""

    name: str
    state: State
    """ok; note: as it is, fine for most; warning: will hurt; error: a run cannot work."""
    found: str
    remedy: str = ""
    """What to do; empty where nothing is to be done."""

    def to_json(self) -> dict[str, str]:
        """As JSON values."""
        return asdict(self)


def examine(
    bundle: Path | None = None, cameras: tuple[str, ...] = (), require_signature: Path | None = None
) -> Iterator[Check]:
    """Every check in turn. bundle: whose graph the backends are tried with; cameras: whose frame rate is measured;
    require_signature: as for Bundle.open."""
    for check in (_python, _opencv, _gstreamer, _cameras):
        yield check()
    for camera in cameras:
        yield frame_rate(camera)
    yield from _backends(bundle, require_signature)
    for check in (_gpu, _build_memory, _power, _temperature, _disk, _clock, _extras):
        yield check()


def frame_rate(camera: str, seconds: float = RATE_SECONDS) -> Check:
    """Open a source and count what it really gives; a camera's own figure is often what it was asked for."""
    name, location = split_name(camera)
    name = f"camera {name or camera}"
    try:
        source = source_from(int(location), None) if location.isdigit() else source_from(None, location)
        with source:
            source.grab()
            frame = source.retrieve().image
            started, n_frames = time.perf_counter(), 0
            while time.perf_counter() - started < seconds and source.grab():
                n_frames += 1
            elapsed = time.perf_counter() - started
    except EdgeAaeError as error:
        is_device = location.isdigit() or location.startswith("/dev/")
        remedy = "see the message; `v4l2-ctl --list-devices` shows what is plugged in" if is_device else ""
        return Check(name, "error", str(error), remedy)
    return Check(name, "ok", f"{frame.shape[1]}x{frame.shape[0]}, {n_frames / elapsed:.1f} frames a second measured")


def _python() -> Check:
    words = f"Python {platform.python_version()}, edge-aae {__version__}, {platform.machine()} {platform.system()}"
    return Check("program", "ok", words)


def _opencv() -> Check:
    try:
        cv2 = quiet_cv2()
    except MissingExtraError as error:
        on_jetson = this_device().l4t != ""
        remedy = "apt-get install python3-opencv (it has GStreamer)" if on_jetson else 'pip install "edge-aae[camera]"'
        return Check("OpenCV", "error", str(error), remedy)
    has = [name for name in ("v4l/v4l2", "FFMPEG", "GStreamer") if opencv_has(name)]
    return Check("OpenCV", "ok", f"{cv2.__version__}, built with {', '.join(has) or 'no video input'}")


def _gstreamer() -> Check:
    try:
        built_in = opencv_has("GStreamer")
    except MissingExtraError:
        built_in = False
    program, ffmpeg = shutil.which("gst-launch-1.0"), shutil.which("ffmpeg")
    if built_in:
        return Check("GStreamer", "ok", "in OpenCV")
    if program:
        return Check("GStreamer", "ok", "not in OpenCV; pipelines run in a gst-launch-1.0 child")
    remedy = "for csi:// and pipelines: apt-get install gstreamer1.0-tools gstreamer1.0-plugins-good"
    return Check(
        "GStreamer", "note", f"neither in OpenCV nor as a program; ffmpeg {'is' if ffmpeg else 'is not'} there", remedy
    )


def _cameras() -> Check:
    if sys.platform != "linux":
        # Nothing lists them here without opening each.
        return Check("cameras", "note", "not listed on this system", "`edge-aae doctor --camera 0` tries the first")
    devices = sorted(Path("/dev").glob("video*"))
    if not devices:
        return Check(
            "cameras", "note", "no /dev/video*", "network streams and files work without; in a container pass --device"
        )
    closed = [device.name for device in devices if not os.access(device, os.R_OK | os.W_OK)]
    if closed:
        import grp

        groups = {grp.getgrgid(os.stat(Path("/dev") / name).st_gid).gr_name for name in closed}
        who = f"usermod -aG {','.join(sorted(groups))} USER, then log in again"
        return Check("cameras", "error", f"no permission for {', '.join(closed)}", who)
    stable = sorted(link.name for link in Path("/dev/v4l/by-id").glob("*")) if Path("/dev/v4l/by-id").is_dir() else []
    names = "; stable names: " + ", ".join(stable) if stable else "; no stable names under /dev/v4l/by-id"
    return Check("cameras", "ok", ", ".join(device.name for device in devices) + names)


def _backends(bundle: Path | None, require_signature: Path | None) -> Iterator[Check]:
    graph: bytes | None = None
    if bundle is not None:
        try:
            opened = Bundle.open(bundle, require_signature=require_signature)
            graph = opened.detector("fp32")
        except EdgeAaeError as error:
            yield Check("bundle", "error", str(error), "name another with --model, or export again")
        else:
            by = "" if opened.signed_by is None else f", signed by {opened.signed_by}"
            yield Check("bundle", "ok", f"{bundle}{by}")
    checks = {name: _backend(name, graph, is_broken=bundle is not None and graph is None) for name in BACKENDS}
    run = [name for name, check in checks.items() if check.state == "ok"]
    if checks[DEFAULT_BACKEND].found == MISSING:
        instead = f", or run with --backend {run[0]}" if run else ""
        checks[DEFAULT_BACKEND] = replace(
            checks[DEFAULT_BACKEND],
            state="error",
            found=f"{MISSING}, and a run takes it unless told otherwise",
            remedy=f'pip install "edge-aae[cpu]"{instead}',
        )
    yield from checks.values()
    if not run:
        yield Check("backends", "error", "none runs", 'pip install "edge-aae[cpu]"; on a Jetson see docs/tensorrt.md')


def _backend(name: str, graph: bytes | None, *, is_broken: bool = False) -> Check:
    """is_broken: there is no graph because the bundle cannot be read."""
    note = " (experimental: never run on a GPU so far)" if name in EXPERIMENTAL else ""
    if graph is None:
        packages = PACKAGES.get(name, (name.split("-")[0],))
        package = next((package for package in packages if _version_of(package)), None)
        if package is None:
            return Check(name, "note", f"{MISSING}{note}")
        found = f"{package} {_version_of(package)}{note}; not tried"
        if name.startswith("tensorrt") and not this_device().is_present:
            return Check(name, "note", f"{found}: no GPU found")
        if is_broken:
            return Check(name, "ok", f"{found}: the bundle above cannot be read")
        return Check(name, "ok", f"{found}, for want of a bundle", "name one with --model")
    try:
        open_backend(name, graph)
    except MissingExtraError:
        return Check(name, "note", f"{MISSING}{note}")
    except Exception as error:  # noqa: BLE001 - a driver may raise anything, and the next check must come
        state: State = "warning" if name == DEFAULT_BACKEND else "note"
        return Check(name, state, f"not usable here{note}: {' '.join(str(error).split())[:300]}")
    return Check(name, "ok", f"runs the bundle's detector{note}")


def _gpu() -> Check:
    device = this_device()
    versions = [f"{package} {version}" for package in ("tensorrt", "tensorrt-rtx") if (version := _version_of(package))]
    words = ", ".join([str(device), *versions])
    return Check("accelerator", "ok" if device.is_present else "note", words)


def _build_memory() -> Check:
    free = _meminfo().get("MemAvailable")
    if free is None:
        return Check("memory", "note", "unknown: no /proc/meminfo")
    gib = free / 2**20
    if gib < BUILD_MEMORY_GIB:
        remedy = "add swap, or stop other programs, before `edge-aae build`"
        return Check("memory", "warning", f"{gib:.1f} GiB free, an engine build may take {BUILD_MEMORY_GIB:g}", remedy)
    return Check("memory", "ok", f"{gib:.1f} GiB free, enough for an engine build")


def _power() -> Check:
    mode = power_mode()
    if mode is None:
        return Check("power mode", "note", "no nvpmodel here")
    return Check("power mode", "ok", mode, "`nvpmodel -q` names it; `jetson_clocks` holds the clocks for measurements")


def _temperature() -> Check:
    zones = temperatures_c()
    if not zones:
        return Check("temperature", "note", "no thermal zones")
    zone, degrees = max(zones.items(), key=lambda entry: entry[1])
    state: State = "warning" if degrees >= HOT_C else "ok"
    return Check(
        "temperature",
        state,
        f"{zone} {degrees:.0f} C",
        "cool it: the clocks are lowered from here on" if state != "ok" else "",
    )


def _disk() -> Check:
    free_gb = shutil.disk_usage(Path.cwd()).free / 1e9
    if free_gb < LEAST_DISK_GB:
        return Check(
            "disk",
            "warning",
            f"{free_gb:.2f} GB free here",
            "bound --keep-mb, --rotate-mb with --rotate-keep, --outbox-mb",
        )
    return Check("disk", "ok", f"{free_gb:.1f} GB free here")


def _clock() -> Check:
    now = datetime.now(timezone.utc)
    if now < WRITTEN:
        return Check(
            "clock",
            "error",
            f"it says {now:%Y-%m-%d}",
            "set it: times of events would be wrong; timedatectl set-ntp true",
        )
    synchronized = _ntp()
    if synchronized is None:
        return Check("clock", "note", f"{now:%Y-%m-%d %H:%M} UTC; whether it is synchronized is unknown")
    state: State = "ok" if synchronized else "warning"
    words = "synchronized" if synchronized else "not synchronized"
    return Check(
        "clock", state, f"{now:%Y-%m-%d %H:%M} UTC, {words}", "" if synchronized else "timedatectl set-ntp true"
    )


def _extras() -> Check:
    have = [extra for extra, package in SMALL_EXTRAS.items() if _version_of(package)]
    lack = [extra for extra in SMALL_EXTRAS if extra not in have]
    remedy = f'for these: pip install "edge-aae[{",".join(lack)}]"' if lack else ""
    return Check("extras", "note" if lack else "ok", f"installed: {', '.join(have) or 'none'}", remedy)


def _ntp() -> bool | None:
    if not shutil.which("timedatectl"):
        return None
    command = ["timedatectl", "show", "--property=NTPSynchronized", "--value"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return None
    return {"yes": True, "no": False}.get(said)


def _meminfo(file: Path = Path("/proc/meminfo")) -> dict[str, int]:
    """Name -> KiB."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    return {name: int(value.split()[0]) for name, _, value in (line.partition(":") for line in lines) if value.split()}


def _version_of(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
