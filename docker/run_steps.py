"""Do a Dockerfile's steps without Docker: in Debian roots from system packages, one a stage, then run what came out.

    sudo python docker/run_steps.py docker/runtime-cpu.Dockerfile --root /tmp/image --model demo-out/model.aae \
        --video demo-out/conveyor.avi

Needs root, mmdebstrap and bubblewrap, and dockerfile-parse from PyPI. Every RUN is executed by sh in a chroot, with the
ENV, USER and WORKDIR that hold there, every COPY copies what .dockerignore lets through. At the end `edge-aae doctor`
and `edge-aae run` on the video are started in the last stage as its USER, with the root read-only, no capabilities, no
network but the loopback, and /var/lib/edge-aae and /tmp alone writable.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dockerfile_parse import DockerfileParser

REPOSITORY = Path(__file__).resolve().parents[1]
SUITES = {"bookworm": "bookworm", "trixie": "trixie"}
"""Names in debian:... tags whose packages make the same root"""

CERTIFICATES = "/tmp/certificates.crt"
"""Of this machine, within a root, while steps run: behind a proxy pip would trust nobody else"""


@dataclass
class Stage:
    """One FROM, as far as it was done."""

    root: Path
    name: str = ""
    env: dict[str, str] = field(default_factory=dict)
    user: str = "0"
    folder: str = "/"

    def within(self, command: str) -> None:
        """Run a shell command in it; raises CalledProcessError."""
        env = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", **self.env}
        proxies = {key: value for key, value in os.environ.items() if key.lower().endswith("_proxy")}
        shutil.copy("/etc/ssl/certs/ca-certificates.crt", self.root / CERTIFICATES.lstrip("/"))
        shutil.copy("/etc/resolv.conf", self.root / "etc/resolv.conf")
        script = (
            f"mount --rbind /dev {self.root}/dev && mount -t proc proc {self.root}/proc && "
            f"exec chroot --userspec={self.user}:{self.user} {self.root} /usr/bin/env -i "
            f"{' '.join(shlex.quote(f'{key}={value}') for key, value in {**env, **proxies}.items())} "
            f"PIP_CERT={CERTIFICATES} DEBIAN_FRONTEND=noninteractive "
            f"sh -c {shlex.quote(f'cd {shlex.quote(self.folder)} && {command}')}"
        )
        subprocess.run(["unshare", "--mount", "--fork", "sh", "-c", script], check=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dockerfile", type=Path)
    parser.add_argument("--root", type=Path, required=True, help="Folder for the stages' roots; must be new.")
    parser.add_argument("--model", type=Path, help="Bundle to run with.")
    parser.add_argument("--video", type=Path, help="Video to score.")
    parser.add_argument("--json", type=Path, help="Write what was found.")
    arguments = parser.parse_args()
    for tool in ("mmdebstrap", "bwrap", "unshare"):
        if shutil.which(tool) is None:
            parser.error(f"needs {tool}: apt-get install mmdebstrap bubblewrap util-linux")
    if os.geteuid() != 0:
        parser.error("needs root, for chroot and mounts")
    if arguments.root.exists():
        parser.error(f"{arguments.root} exists; name a new folder")
    started_s = time.monotonic()
    last = build(arguments.dockerfile, arguments.root)
    facts: dict[str, object] = {
        "dockerfile": arguments.dockerfile.name,
        "build_s": round(time.monotonic() - started_s),
        "root_mib": mebibytes(last.root),
        "environment_mib": mebibytes(last.root / "opt/edge-aae"),
    }
    print(json.dumps(facts))
    if arguments.model:
        facts |= prove(last, arguments.model, arguments.video)
    if arguments.json:
        arguments.json.write_text(json.dumps(facts, indent=2) + "\n")
    return 0


def build(dockerfile: Path, folder: Path) -> Stage:
    """Do the steps; returns the last stage."""
    with tempfile.TemporaryDirectory() as parsed:
        (Path(parsed) / "Dockerfile").write_text(dockerfile.read_text())
        steps = DockerfileParser(path=parsed).structure
    arguments: dict[str, str] = {}
    stages: list[Stage] = []
    for step in steps:
        instruction, value = step["instruction"], step["value"]
        if instruction == "COMMENT":
            continue
        print(f"--> {instruction} {value}", flush=True)
        if instruction == "ARG":
            key, _, default = value.partition("=")
            arguments[key] = default
        elif instruction == "FROM":
            image, _, name = value.partition(" AS ")
            stages.append(Stage(folder / f"stage{len(stages)}", name))
            debian(substituted(image, arguments), stages[-1].root)
        elif instruction == "RUN":
            stages[-1].within(value)
        elif instruction == "COPY":
            copy(value, stages)
        elif instruction == "ENV":
            stages[-1].env |= dict(word.split("=", 1) for word in shlex.split(value))
        elif instruction == "USER":
            stages[-1].user = value
        elif instruction == "WORKDIR":
            stages[-1].folder = value
            (stages[-1].root / value.lstrip("/")).mkdir(parents=True, exist_ok=True)
        elif instruction not in ("EXPOSE", "HEALTHCHECK", "STOPSIGNAL", "ENTRYPOINT", "CMD"):
            raise SystemExit(f"{dockerfile}: {instruction} is not done here")
    return stages[-1]


def debian(image: str, root: Path) -> None:
    """A minimal Debian root, as the image debian:SUITE-...-slim is one."""
    matched = re.fullmatch(r"debian:(\w+)-[\d.]+-slim", image)
    if not matched or matched[1] not in SUITES:
        raise SystemExit(f"{image}: only debian:SUITE-DATE-slim can be made here")
    root.parent.mkdir(parents=True, exist_ok=True)
    kept = root.parent / f"{matched[1]}.tar"
    if not kept.exists():
        subprocess.run(["mmdebstrap", "--quiet", "--variant=minbase", matched[1], kept], check=True)
    root.mkdir()
    subprocess.run(["tar", "--extract", "--file", kept, "--directory", root], check=True)


def copy(value: str, stages: Sequence[Stage]) -> None:
    words = [word for word in value.split() if not word.startswith("--")]
    source = REPOSITORY
    for word in value.split():
        if word.startswith("--from="):
            source = next(stage.root for stage in stages if stage.name == word.removeprefix("--from="))
    target = stages[-1].root / os.path.join(stages[-1].folder, words[-1]).lstrip("/")
    for name in words[:-1]:
        item = source / name.lstrip("/")
        if source == REPOSITORY and not item.exists():
            raise SystemExit(f"COPY {name}: there is no such file in {REPOSITORY}")
        if item.is_dir():
            shutil.copytree(
                item, target, symlinks=True, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__", "*.pyc")
            )
        else:
            target.mkdir(parents=True, exist_ok=True) if words[-1].endswith("/") or len(words) > 2 else None
            shutil.copy2(item, target)


def substituted(text: str, arguments: dict[str, str]) -> str:
    return re.sub(r"\$\{(\w+)\}", lambda matched: arguments[matched[1]], text)


def prove(stage: Stage, model: Path, video: Path | None) -> dict[str, object]:
    """Run what came out as a container would be run; raises SystemExit where it does not work."""
    state = stage.root.parent / "state"
    state.mkdir(exist_ok=True)
    os.chown(state, int(stage.user), int(stage.user))
    inside = [
        # As the user outside too: within a root's user namespace nobody's files would be the user's own.
        "setpriv", "--reuid", stage.user, "--regid", stage.user, "--clear-groups", "--no-new-privs",
        "bwrap", "--unshare-all", "--die-with-parent", "--cap-drop", "ALL", "--uid", stage.user, "--gid", stage.user,
        "--ro-bind", stage.root, "/", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp",
        "--bind", state, "/var/lib/edge-aae", "--ro-bind", model.resolve().parent, "/models",
        "--chdir", stage.folder, "--clearenv",
        *(word for key, value in stage.env.items() for word in ("--setenv", key, value)),
        "--setenv", "EDGE_AAE_MODEL", f"/models/{model.name}",
    ]  # fmt: skip
    probe = "import os; print(os.getuid(), open('/proc/self/status').read().split('CapEff:')[1].split()[0])"
    who = said([*inside, "python3", "-c", probe]).split()
    refused = subprocess.run(
        [*map(str, inside), "sh", "-c", "touch /etc/written"], capture_output=True, text=True, check=False
    )
    doctor = json.loads(said([*inside, "edge-aae", "doctor", "--json"]))
    print(f"user {who[0]}, capabilities {who[1]}, root: {refused.stderr.strip()}")
    print(f"edge-aae doctor: ok {doctor['ok']}, {len(doctor['checks'])} checks")
    if not (doctor["ok"] and refused.returncode and who == ["10001", "0" * 16]):
        raise SystemExit("the root could be written, or doctor found what a run cannot work with")
    found: dict[str, object] = {"uid": who[0], "capabilities": who[1], "root_is_read_only": True, "doctor_ok": True}
    if video:
        shutil.copy(video, state / video.name)
        run = subprocess.run(
            [*map(str, inside), "edge-aae", "run", "--source", video.name, "--out", "records.jsonl"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        print(run.stderr.strip())
        lines = (state / "records.jsonl").read_text().splitlines() if run.returncode == 0 else []
        if not lines:
            raise SystemExit("the run on the video did not work")
        found |= {"frames": len(lines), "anomalies": sum(json.loads(line)["is_anomaly"] for line in lines)}
    return found


def said(command: Sequence[object]) -> str:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command[-3:]))} ended with {done.returncode}: {done.stderr}{done.stdout}")
    return done.stdout


def mebibytes(folder: Path) -> int:
    done = subprocess.run(["du", "--summarize", "--block-size=1M", folder], capture_output=True, text=True, check=True)
    return int(done.stdout.split()[0])


if __name__ == "__main__":
    sys.exit(main())
