"""The systemd unit of a run that starts at boot: its text, and what a run's options mean for its sandbox.

Nothing here talks to systemd; `edge-aae service` writes what this makes. Directives: systemd.exec(5) and .service(5).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from edge_runtime.errors import ConfigError

__all__ = ["CONFIG_FOLDER", "TRUSTED", "Sandbox", "check_name", "unit_name", "unit_text"]

CONFIG_FOLDER = PurePosixPath("/etc/edge-aae")
"""One folder a line below it: run.toml, model.aae, environment; model.aae.sig and trusted.pub where one is required."""

TRUSTED = "trusted.pub"
"""The public keys of who may sign a line's bundles, one after the other"""

WATCHDOG_S = 30
"""A run that has not scored or looked for a frame for so long is started again."""

START_MIN = 30
"""Readiness may take so long: the first start on a Jetson builds the TensorRT engine."""

SEVERAL_DEVICES = ("onnxruntime-cuda", "tensorrt", "tensorrt_rtx", "auto")
"""Backends that open device nodes whose names differ from board to board"""

COMPILING = ("openvino", "openvino-bf16", *SEVERAL_DEVICES)
"""Backends that write machine code at run time, which MemoryDenyWriteExecute= forbids (OpenVINO: tried)"""

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Sandbox:
    """What a run needs beyond the usual; each field loosens the unit."""

    compiles: bool = False
    """Makes machine code at run time"""
    any_device: bool = False
    """Opens other device nodes than V4L2 cameras"""
    shared_tmp: bool = False
    """Talks to nvargus-daemon, whose socket lies in /tmp"""

    @classmethod
    def of(cls, backend: str, sources: Sequence[str]) -> Sandbox:
        """sources: as they are named to `edge-aae run`."""
        argus = any(source.startswith("csi:") or "nvarguscamerasrc" in source for source in sources)
        return cls(compiles=backend in COMPILING, any_device=argus or backend in SEVERAL_DEVICES, shared_tmp=argus)


def check_name(name: str) -> str:
    """The name of a line, as given; raises ConfigError where systemd and file names would not take it."""
    if not NAME.fullmatch(name):
        raise ConfigError(f"{name!r} cannot name a service, expected up to 32 of a-z, 0-9, - and _, such as line3")
    return name


def unit_name(name: str) -> str:
    """edge-aae-line3.service"""
    return f"edge-aae-{check_name(name)}.service"


def unit_text(
    name: str,
    python: str,
    *,
    groups: Sequence[str] = ("video",),
    sandbox: Sandbox | None = None,
    signed: bool = False,
) -> str:
    """The unit file of a line.

    python: absolute path of the interpreter that has edge-aae. groups: that exist on this machine and own its cameras
    and GPU; systemd refuses to start a unit that names one that does not exist. signed: whether the run takes those
    bundles alone that a key in the line's TRUSTED file signed.
    """
    sandbox = sandbox or Sandbox()
    folder = CONFIG_FOLDER / check_name(name)
    own = f"edge-aae/{name}"
    lines = [
        f"# Written by `edge-aae service install {name}`. Change it with `systemctl edit {unit_name(name)}`.",
        "[Unit]",
        f"Description=Anomaly scores of {name} (edge-aae)",
        "Wants=network-online.target",
        "After=network-online.target time-sync.target",
        "# A camera may be away for days: it is never given up.",
        "StartLimitIntervalSec=0",
        "",
        "[Service]",
        "Type=notify",
        f"ExecStart={python} -m edge_aae run --config ${{CREDENTIALS_DIRECTORY}}/run.toml"
        f" --model {folder}/model.aae --watch-model --last-good model.last-good.aae --systemd"
        + (f" --require-signature {folder}/{TRUSTED}" if signed else ""),
        "ExecReload=/bin/kill -HUP $MAINPID",
        "# Both are root's alone and read by systemd: the configuration may name passwords, as the environment does",
        "# (EDGE_AAE_MQTT, EDGE_AAE_WEBHOOK_TOKEN, EDGE_AAE_SERVE_TOKEN).",
        f"LoadCredential=run.toml:{folder}/run.toml",
        f"EnvironmentFile=-{folder}/environment",
        f"Environment=EDGE_AAE_CACHE=%C/{own}",
        f"WatchdogSec={WATCHDOG_S}",
        f"TimeoutStartSec={START_MIN}min",
        "TimeoutStopSec=15",
        "Restart=on-failure",
        "RestartSec=5",
        "# Status 2: an option that does not exist or has no such value. No restart mends it.",
        "RestartPreventExitStatus=2",
        "",
        "# A user of its own, made at start; relative paths of run.toml lie in /var/lib/edge-aae.",
        "DynamicUser=yes",
        *([f"SupplementaryGroups={' '.join(groups)}"] if groups else []),
        f"StateDirectory={own}",
        "StateDirectoryMode=0750",
        f"CacheDirectory={own}",
        f"WorkingDirectory=%S/{own}",
        "UMask=0077",
        "",
        "NoNewPrivileges=yes",
        "CapabilityBoundingSet=",
        "ProtectSystem=strict",
        "ProtectHome=yes",
        *_tmp(sandbox),
        *_devices(sandbox),
        "ProtectKernelTunables=yes",
        "ProtectKernelModules=yes",
        "ProtectKernelLogs=yes",
        "ProtectControlGroups=yes",
        "ProtectHostname=yes",
        "ProtectProc=invisible",
        "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6",
        "RestrictNamespaces=yes",
        "RestrictRealtime=yes",
        "RestrictSUIDSGID=yes",
        "LockPersonality=yes",
        *([] if sandbox.compiles else ["MemoryDenyWriteExecute=yes"]),
        "SystemCallArchitectures=native",
        "SystemCallFilter=@system-service",
        "SystemCallFilter=~@privileged",
        "SystemCallErrorNumber=EPERM",
        "",
        "[Install]",
        "WantedBy=multi-user.target",
    ]
    return "\n".join(lines) + "\n"


def _tmp(sandbox: Sandbox) -> list[str]:
    if sandbox.shared_tmp:
        return ["# CSI: nvargus-daemon's socket lies in /tmp.", "PrivateTmp=no"]
    return ["PrivateTmp=yes"]


def _devices(sandbox: Sandbox) -> list[str]:
    if sandbox.any_device:
        # ProtectClock= would bring a device allow-list with it (systemd.exec(5)), and shut out the GPU.
        return ["# GPU and CSI nodes differ from board to board: group permissions decide.", "DevicePolicy=auto"]
    return ["DevicePolicy=closed", "DeviceAllow=char-video4linux rw", "ProtectClock=yes"]
