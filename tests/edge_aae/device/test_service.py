"""Runs that start at boot: the unit that is written, and what systemd's own tools say of it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from edge_aae.commands.device.run import run
from edge_aae.commands.device.run_plan import DetectorOptions
from edge_aae.commands.device.service import _asked, service
from edge_runtime.bundle.bundle import Bundle
from edge_runtime.errors import ConfigError
from edge_runtime.gate import verification
from edge_runtime.operations.service_unit import Sandbox, check_name, unit_name, unit_text
from edge_runtime.signing.keys import read_public_keys
from tests.edge_aae.conftest import Cli
from tests.edge_aae.docs.test_readme import ROOT
from tests.signing import key_of, signed

PYTHON = "/usr/bin/env"
"""Stands for an interpreter outside of homes: systemd-analyze wants a program that exists."""

MOST_EXPOSED = 2.5
"""Of 10, by `systemd-analyze security`: below it, the tool calls a service OK"""

with_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze here")

SANDBOXES = {
    "cpu": Sandbox(),
    "openvino": Sandbox.of("openvino", ["rtsp://10.0.0.5/live"]),
    "gpu": Sandbox.of("tensorrt", ["0"]),
    "csi": Sandbox.of("tensorrt", ["csi://0"]),
}


@with_systemd
@pytest.mark.parametrize("sandbox", SANDBOXES.values(), ids=SANDBOXES)
def test_systemd_takes_the_unit_and_finds_it_little_exposed(tmp_path: Path, sandbox: Sandbox) -> None:
    file = tmp_path / unit_name("line3")
    file.write_text(unit_text("line3", PYTHON, groups=("video", "render"), sandbox=sandbox))
    verified = subprocess.run(["systemd-analyze", "verify", file], capture_output=True, text=True, check=False)
    assert verified.returncode == 0, verified.stderr
    assert str(file) not in verified.stderr  # no warning of ours; others are of units of this machine
    judged = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", file], capture_output=True, text=True, check=False
    )
    (score,) = re.findall(r"Overall exposure level for \S+: ([\d.]+)", judged.stdout)
    print(f"systemd-analyze security: {score} of 10")  # noqa: T201
    assert float(score) < MOST_EXPOSED


def test_the_sandbox_is_as_loose_as_the_run_needs_and_no_looser() -> None:
    tight, gpu, csi = (
        unit_text("a", PYTHON, sandbox=Sandbox.of(*needs))
        for needs in (("onnxruntime-cpu", ["0"]), ("auto", ["0"]), ("onnxruntime-cpu", ["csi://0"]))
    )
    assert "MemoryDenyWriteExecute=yes" in tight
    assert "DeviceAllow=char-video4linux rw" in tight
    assert "PrivateTmp=yes" in tight
    for loose in (gpu, csi):
        # Either would shut the GPU out: an allow-list, and ProtectClock=, which brings one.
        assert "DeviceAllow" not in loose
        assert "\nProtectClock" not in loose
    assert "MemoryDenyWriteExecute" not in gpu
    assert "PrivateTmp=yes" in gpu
    assert "PrivateTmp=no" in csi
    assert "SupplementaryGroups" not in unit_text("a", PYTHON, groups=())


@with_systemd
def test_every_system_call_of_a_run_is_allowed(workplace: Path, photos: Path, tmp_path: Path) -> None:
    if shutil.which("strace") is None:
        pytest.skip("there is no strace here")
    trace = tmp_path / "trace"
    command = [
        sys.executable,
        "-m",
        "edge_aae",
        "run",
        "--source",
        photos / "train/c",
        "--model",
        workplace / "model.aae",
    ]
    outputs = [
        "--metrics",
        "0",
        "--outbox",
        "o.db",
        "--alarm",
        "1/1",
        "--mqtt",
        "mqtt://127.0.0.1:1",
        "--out",
        "o.jsonl",
        "--loop",
        "5",
    ]
    done = subprocess.run(
        ["strace", "-f", "-qq", "-o", trace, *command, *outputs],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
        check=False,
    )
    calls = trace.read_text()
    if "ptrace" in done.stderr.lower():
        pytest.skip(f"strace may not trace here: {done.stderr.splitlines()[0]}")
    assert done.returncode == 0, done.stderr
    called = {match[1] for line in calls.splitlines() if (match := re.match(r"\d+ +(\w+)\(", line))}
    assert len(called) > 20
    # Nor does it talk to anyone but the broker, or look for a name server to do so (onnxruntime's telemetry would).
    addresses = re.findall(r"connect\(\d+, \{sa_family=AF_INET6?, .*?htons\((\d+)\)", calls)
    assert set(addresses) == {"1"}
    assert not (tmp_path / "home/.cache").exists()
    filters = unit_text("a", PYTHON)
    assert "SystemCallFilter=@system-service\n" in filters
    # fchown is SQLite's, as root alone.
    assert called - _calls("@system-service") == set()
    assert called & _calls("@privileged") <= {"fchown"}


def _calls(group: str) -> set[str]:
    told = subprocess.run(["systemd-analyze", "syscall-filter", group], capture_output=True, text=True, check=True)
    words = [line.strip() for line in told.stdout.splitlines()[1:] if line.strip() and "#" not in line]
    return {word for word in words if not word.startswith("@")}.union(
        *(_calls(word) for word in words if word.startswith("@"))
    )


@pytest.mark.parametrize("name", ["", "Line3", "../x", "a b", "x" * 33, "-a", "a.b", "a%n"])
def test_names_that_systemd_would_read_otherwise_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="cannot name a service"):
        check_name(name)


@pytest.fixture
def config(cli: Cli, tmp_path: Path) -> Path:
    printed = cli("run", "--source", "test://pattern", "--alarm", "3/5", "--out", "log.jsonl", "--print-config",
                  cwd=tmp_path)  # fmt: skip
    file = tmp_path / "line3.toml"
    file.write_text(printed.stdout)
    return file


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """The root folder of another system."""
    root = tmp_path / "image"
    (root / "etc").mkdir(parents=True)
    (root / "etc/group").write_text("root:x:0:\nvideo:x:44:\n")
    return root


def test_a_service_is_installed_into_an_image_and_taken_out_again(
    workplace: Path, config: Path, image: Path, cli: Cli
) -> None:
    arguments = ("service", "install", "line3", "--config", config, "--root", image, "--python", PYTHON, "--no-start")
    done = cli(*arguments, cwd=workplace)
    assert done.returncode == 0, done.stderr
    folder, unit = image / "etc/edge-aae/line3", image / "etc/systemd/system/edge-aae-line3.service"
    assert (folder / "model.aae").read_bytes() == (workplace / "model.aae").read_bytes()
    assert (folder / "run.toml").read_text() == config.read_text()
    assert (folder / "environment").stat().st_mode & 0o777 == 0o600
    assert "SupplementaryGroups=video\n" in unit.read_text()
    assert (folder / "run.toml").stat().st_mode & 0o777 == 0o600
    (folder / "environment").write_text("EDGE_AAE_MQTT=mqtts://user:password@broker\n")
    config.write_text(config.read_text().replace("3/5", "4/5"))
    assert cli(*arguments, cwd=workplace).returncode == 0
    assert "3/5" in (folder / "run.toml.1").read_text()
    assert "password" in (folder / "environment").read_text()
    assert not (folder / "model.aae.1").exists()
    nowhere = cli(*arguments, "--root", "mistyped", cwd=workplace)
    assert (nowhere.returncode, "there is no folder mistyped; --root names" in nowhere.stderr) == (2, True)
    assert not (workplace / "mistyped").exists()
    other = cli("service", "uninstall", "line4", "--root", image, cwd=workplace)
    assert (other.returncode, "installed are line3" in other.stderr) == (1, True)
    if shutil.which("systemctl"):
        gone = cli("service", "uninstall", "line3", "--root", image, cwd=workplace)
        assert gone.returncode == 0, gone.stderr
        assert f"kept: {folder}" in gone.stdout
        assert not unit.exists()
        assert (folder / "model.aae").exists()


def test_no_file_of_a_service_shows_a_secret_to_others(workplace: Path, config: Path, image: Path, cli: Cli) -> None:
    config.write_text(config.read_text().replace("# mqtt =", 'mqtt = "mqtts://user:geheim@broker"'))
    arguments = ("service", "install", "line3", "--config", config, "--root", image, "--python", PYTHON, "--no-start")
    folder = image / "etc/edge-aae/line3"
    folder.mkdir(parents=True)
    for name in ("run.toml", "run.toml.1", "environment"):  # as an earlier release left them
        (folder / name).write_text("# geheim\n")
        (folder / name).chmod(0o644)
    assert cli(*arguments, cwd=workplace).returncode == 0
    files = [file for file in image.rglob("*") if file.is_file()]
    secret = [file for file in files if b"geheim" in file.read_bytes()]
    assert {file.name for file in secret} >= {"run.toml", "run.toml.1", "environment"}
    assert [file for file in secret if file.stat().st_mode & 0o077] == []
    unit = (image / "etc/systemd/system/edge-aae-line3.service").read_text()
    # What the run's own user may not read, systemd hands it.
    assert "LoadCredential=run.toml:/etc/edge-aae/line3/run.toml\n" in unit
    assert "--config ${CREDENTIALS_DIRECTORY}/run.toml " in unit


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("test://pattern", "test://patern"), "patern"),
        (("3/5", "7/5"), "7"),
        (('source = ["test://pattern"]', "source = []"), "name one source or more"),
        (("# mask =", 'mask = "m.png"'), "calibrate with it"),
        (("precision", "precission"), "no option here"),
    ],
)
def test_a_configuration_that_run_would_refuse_is_not_installed(
    workplace: Path, config: Path, image: Path, cli: Cli, change: tuple[str, str], says: str
) -> None:
    config.write_text(config.read_text().replace(*change))
    done = cli("service", "install", "line3", "--config", config, "--root", image, "--no-start", cwd=workplace)
    assert done.returncode in (1, 2)
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert not (image / "etc/edge-aae").exists()


def test_a_broker_that_the_environment_will_name_is_left_to_the_service(config: Path) -> None:
    config.write_text(config.read_text().replace("# mqtt-ca =", 'mqtt-ca = "/var/lib/edge-aae/line3/ca.pem"'))
    named, engine = _asked(config)
    assert (named.cameras, named.locations) == ((), ["test://pattern"])
    assert (engine.precision, engine.backend) == ("fp32", "onnxruntime-cpu")


def test_a_bundle_that_is_damaged_is_not_installed(workplace: Path, config: Path, image: Path, cli: Cli) -> None:
    damaged = config.with_name("damaged.aae")
    damaged.write_bytes((workplace / "model.aae").read_bytes()[:-500])
    done = cli("service", "install", "line3", "--config", config, "--root", image, "--model", damaged, cwd=workplace)
    assert done.returncode == 1
    assert not (image / "etc/edge-aae").exists()


@pytest.fixture
def model(bundle_file: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(bundle_file, tmp_path / "model.aae"))


def test_a_service_that_requires_signatures_is_installed_with_its_keys_and_keeps_to_them(
    model: Path, config: Path, image: Path, cli: Cli, tmp_path: Path
) -> None:
    plain = ("service", "install", "line3", "--config", config, "--root", image, "--python", PYTHON, "--no-start")
    keys = tmp_path / "keys"
    keys.mkdir()
    signed(model, keys / "release")
    key_of(keys / "next")
    done = cli(*plain, "--model", model, "--require-signature", keys, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    folder, unit = image / "etc/edge-aae/line3", image / "etc/systemd/system/edge-aae-line3.service"
    (start,) = [line for line in unit.read_text().splitlines() if line.startswith("ExecStart=")]
    assert start.endswith(" --systemd --require-signature /etc/edge-aae/line3/trusted.pub")
    opened = Bundle.open(folder / "model.aae", require_signature=folder / "trusted.pub")
    assert opened.signed_by == f"ed25519:{key_of(keys / 'release').public.key_id}"
    assert len(read_public_keys(folder / "trusted.pub")) == 2
    command = run.make_context("run", start.replace("${CREDENTIALS_DIRECTORY}/run.toml", str(config)).split()[4:])
    assert DetectorOptions.of(command.params).require_signature == Path("/etc/edge-aae/line3/trusted.pub")
    # Whoever installs again without naming the keys does not take the requirement away by it.
    again = cli(*plain, "--model", model, cwd=tmp_path)
    assert (again.returncode, "line3 takes signed bundles alone" in again.stderr) == (2, True)
    assert "--require-signature" in unit.read_text()
    rotated = cli(*plain, "--model", model, "--require-signature", keys / "release.pub", cwd=tmp_path)
    assert rotated.returncode == 0, rotated.stderr
    assert len(read_public_keys(folder / "trusted.pub")) == 1


def test_an_unsigned_bundle_is_not_installed_where_a_signature_is_required(
    model: Path, config: Path, image: Path, cli: Cli, tmp_path: Path
) -> None:
    key_of(tmp_path / "release")
    asked = ("service", "install", "line3", "--config", config, "--root", image, "--model", model)
    done = cli(*asked, "--require-signature", tmp_path / "release.pub", cwd=tmp_path)
    assert (done.returncode, "is not signed" in done.stderr) == (1, True)
    config.write_text(config.read_text().replace("# require-signature =", 'require-signature = "release.pub"'))
    named = cli(*asked, cwd=tmp_path)
    assert (named.returncode, "sets require-signature, a file that the service may not see" in named.stderr) == (
        2,
        True,
    )
    assert not (image / "etc/edge-aae").exists()


def test_what_was_verified_is_what_is_installed(
    model: Path, config: Path, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is exchanged after it was verified, by someone who was quick."""
    whole = model.read_bytes()
    verify = verification.verify_bundle

    def exchanged(*arguments: Any, **settings: Any) -> Any:
        report = verify(*arguments, **settings)
        model.write_bytes(b"something else")
        return report

    monkeypatch.setattr(verification, "verify_bundle", exchanged)
    asked = ["install", "line3", "--config", config, "--root", image, "--model", model, "--no-start"]
    ended = CliRunner().invoke(service, [str(word) for word in asked])
    assert ended.exit_code == 0, ended.output
    assert (image / "etc/edge-aae/line3/model.aae").read_bytes() == whole


STAND_IN = """#!/bin/sh
echo "$0 $*" | sed 's:.*/::' >> "$CALLS"
case "$1" in show) echo ActiveState=active; echo StatusText=7 frames, 0 events;; esac
case "$0" in *journalctl) echo "line3 on onnxruntime-cpu";; esac
"""


def test_on_this_system_it_is_enabled_started_shown_and_stopped(
    workplace: Path, config: Path, tmp_path: Path, cli: Cli
) -> None:
    """In a mount namespace whose /etc is a layer of its own; systemctl is a stand-in that notes how it is called."""
    tools, layer, calls = tmp_path / "tools", tmp_path / "layer", tmp_path / "calls"
    for folder in (tools, layer / "upper", layer / "work"):
        folder.mkdir(parents=True)
    for name in ("systemctl", "journalctl"):
        (tools / name).write_text(STAND_IN)
        (tools / name).chmod(0o755)
    overlay = f"mount -t overlay overlay -o lowerdir=/etc,upperdir={layer}/upper,workdir={layer}/work /etc"
    inside = ["unshare", "--mount", "--map-root-user", "sh", "-e", "-c"]
    writable = "test -w /etc/systemd/system || { echo /etc/systemd/system is not writable there >&2; exit 1; }"
    tried = subprocess.run([*inside, f"{overlay}\n{writable}"], capture_output=True, text=True, check=False)
    if tried.returncode != 0:
        pytest.skip(f"no overlay in a user namespace here: {tried.stderr.strip()}")
    edge_aae = f"{sys.executable} -m edge_aae service"
    script = f"""{overlay}
        {edge_aae} install line3 --config {config} --python {PYTHON}
        {edge_aae} status
        {edge_aae} uninstall line3
        test -f /etc/edge-aae/line3/model.aae -a ! -e /etc/systemd/system/edge-aae-line3.service"""
    done = subprocess.run(
        [*inside, script], cwd=workplace, capture_output=True, text=True, check=False,
        env={"PATH": f"{tools}:/usr/bin:/bin:/usr/sbin:/sbin", "PYTHONPATH": str(ROOT), "CALLS": str(calls)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "StatusText=7 frames, 0 events" in done.stdout
    assert "| line3 on onnxruntime-cpu" in done.stdout
    noted = [line.split(" --property")[0] for line in calls.read_text().splitlines()]
    unit = "edge-aae-line3.service"
    assert [line for line in noted if line.startswith("systemctl")] == [
        "systemctl daemon-reload",
        f"systemctl enable {unit}",
        f"systemctl restart {unit}",
        f"systemctl show {unit}",
        f"systemctl disable --now {unit}",
        "systemctl daemon-reload",
    ]
    home = subprocess.run(
        [*inside, f"{overlay}; {edge_aae} install x --config {config} --python /root/venv/bin/python"],
        cwd=workplace, capture_output=True, text=True, check=False,
        env={"PATH": f"{tools}:/usr/bin:/bin", "PYTHONPATH": str(ROOT), "CALLS": str(calls)},
    )  # fmt: skip
    assert "lies in a home folder" in home.stderr
