"""`edge-aae service`: a run that starts at boot, as a systemd unit."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from edge_aae.commands.device.run import run
from edge_aae.commands.device.run_plan import AlarmOptions
from edge_aae.commands.device.source_options import (
    CaptureOptions,
    FeedOptions,
    NamedSources,
    SourceOptions,
    sources_of,
)
from edge_aae.commands.help_pages import Group
from edge_aae.commands.options import EngineOptions, model_option, require_signature_option, resolve_model
from edge_aae.commands.terminal import say
from edge_runtime.errors import BundleError, ConfigError, DataError, EdgeAaeError, GateError
from edge_runtime.files import OWN_ALONE

__all__ = ["service"]

logger = logging.getLogger(__name__)

UNITS = Path("etc/systemd/system")
GROUPS = ("video", "render")
"""Who owns cameras and GPUs on Debian, Ubuntu and JetPack"""

SECRETS = """# Read by systemd for this service alone; lines such as
# EDGE_AAE_MQTT=mqtts://user:password@broker
# EDGE_AAE_WEBHOOK_TOKEN=...
# EDGE_AAE_SERVE_TOKEN=...
"""

HOMES = ("/home", "/root")
"""Where a service of a user of its own may not look"""

SHOWN = ("ActiveState", "SubState", "UnitFileState", "StatusText", "NRestarts", "ActiveEnterTimestamp")

root_option = click.option(
    "--root",
    type=click.Path(path_type=Path),
    default=Path("/"),
    show_default=True,
    help="Another system's root folder, such as an image's; nothing is started there.",
)


@click.group(cls=Group, short_help="Runs that start at boot: install, status, uninstall (systemd).")
def service() -> None:
    """Runs that start at boot, one systemd unit each, in a sandbox with a user of its own.

    \b
    edge-aae run --camera 0 --alarm 3/5 --print-config > line3.toml
    sudo edge-aae service install line3 --config line3.toml --model model.aae
    edge-aae service status line3
    """


@service.command(short_help="Check configuration and bundle, write the unit, start it.")
@click.argument("name")
@click.option("--config", required=True, type=click.Path(path_type=Path), help="As `run --print-config` writes it.")
@model_option
@root_option
@click.option("--python", default=sys.executable, help="Interpreter that has edge-aae.  [default: this one]")
@require_signature_option
@click.option("--start/--no-start", default=True, show_default=True, help="Enable it at boot and start it now.")
def install(
    name: str,
    config: Path,
    model: Path | None,
    root: Path,
    python: str,
    require_signature: Path | None,
    start: bool,
) -> None:
    """Install the service NAME: configuration, bundle and unit.

    The configuration is read as `run` reads it and the bundle verified on this machine before anything is written to
    /etc/edge-aae/NAME: run.toml, model.aae with its calibration, and environment for passwords. Files of an earlier
    installation are kept with the suffix .1 if they differ. Relative paths of the configuration lie in
    /var/lib/edge-aae/NAME.

    With --require-signature the keys are installed too, as trusted.pub, and the service takes signed bundles alone:
    this one, those that --watch-model finds, and the copy of --last-good.
    """
    from edge_runtime.archive import read_archive
    from edge_runtime.bundle.bundle import Bundle
    from edge_runtime.bundle.site_calibration import overlay_path
    from edge_runtime.gate.verification import verify_bundle
    from edge_runtime.operations.service_unit import CONFIG_FOLDER, TRUSTED, Sandbox, unit_name, unit_text
    from edge_runtime.signing.keys import read_public_keys
    from edge_runtime.signing.signatures import signature_bytes, signature_path
    from edge_runtime.signing.trust import checked_signature

    unit = unit_name(name)
    if not root.is_dir():
        raise ConfigError(f"there is no folder {root}; --root names another system's root folder, which is there")
    named, engine = _asked(config)
    path = resolve_model(model)
    if path.is_dir():
        raise BundleError(f"{path} is a folder, a service takes an .aae file; export it again with --out NAME.aae")
    folder = root / str(CONFIG_FOLDER / name).lstrip("/")
    if require_signature is None and (folder / TRUSTED).exists():
        raise ConfigError(
            f"{name} takes signed bundles alone since it was installed with --require-signature; name that again, or "
            f"remove {folder / TRUSTED}"
        )
    archive = read_archive(path)  # what is verified here is what is installed
    signed = None if require_signature is None else checked_signature(path, archive, require_signature)
    report = verify_bundle(Bundle.from_archive(archive, path), precision=engine.precision)
    if not report.passed:
        raise GateError(f"{path} fails the parity gate here: {report.failures()[0]}; see `edge-aae verify {path}`")
    is_ours = root == Path("/")
    if is_ours:
        _check_python(python)
        _check_systemd()
    sandbox = Sandbox.of(engine.backend, named.locations)
    text = unit_text(name, python, groups=_groups(root), sandbox=sandbox, signed=signed is not None)
    _put(folder / "run.toml", config.read_bytes(), OWN_ALONE)
    if signed is not None and require_signature is not None:
        _put(folder / TRUSTED, b"".join(key.pem for key in read_public_keys(require_signature)))
        _put(signature_path(folder / "model.aae"), signature_bytes([signed.signature]))
    _put(folder / "model.aae", archive)
    if overlay_path(path).exists():
        _put(overlay_path(folder / "model.aae"), overlay_path(path).read_bytes())
    _put(root / UNITS / unit, text.encode("utf-8"))
    if not (folder / "environment").exists():
        _put(folder / "environment", SECRETS.encode("ascii"), OWN_ALONE)
    for name in ("run.toml.1", "environment"):  # of earlier installations
        _put_away(folder / name)
    if not start:
        say(f"not started; `systemctl enable --now {unit}` does")
    elif is_ours:
        _systemctl("daemon-reload")
        _systemctl("enable", unit)
        _systemctl("restart", unit)
        say(f"{unit} starts now and at every boot; `edge-aae service status {name}` tells how it goes")
    else:
        _systemctl(f"--root={root.resolve()}", "enable", unit)
        say(f"{unit} starts when {root} boots")


@service.command(short_help="How a service goes, or all of them.")
@click.argument("name", required=False)
def status(name: str | None) -> None:
    """Say how the service NAME goes, with the last lines of its journal; of all services without one."""
    from edge_runtime.operations.service_unit import unit_name

    units = [unit_name(name)] if name else sorted(file.name for file in _installed(Path("/")))
    if not units:
        raise DataError("no service is installed; `edge-aae service install` does")
    _check_systemd()
    for unit in units:
        if not (Path("/") / UNITS / unit).exists():
            raise DataError(f"there is no {unit}; installed are {_names(Path('/'))}")
        told = _systemctl("show", unit, *(f"--property={key}" for key in SHOWN))
        say(f"{unit}\n" + "\n".join(f"  {line}" for line in told.splitlines() if not line.endswith("=")))
        lines = _told("journalctl", "--unit", unit, "--lines", "5", "--no-pager", "--output", "cat")
        say("\n".join(f"  | {line}" for line in lines.splitlines()))


@service.command(short_help="Stop a service and remove its unit; its files stay.")
@click.argument("name")
@root_option
def uninstall(name: str, root: Path) -> None:
    """Stop the service NAME and remove its unit. Configuration, bundle and what it recorded stay, and are named."""
    from edge_runtime.operations.service_unit import CONFIG_FOLDER, unit_name

    unit = unit_name(name)
    file = root / UNITS / unit
    if not file.exists():
        raise DataError(f"there is no {file}; installed are {_names(root)}")
    is_ours = root == Path("/")
    if is_ours:
        _check_systemd()
        _systemctl("disable", "--now", unit)
    else:
        _systemctl(f"--root={root.resolve()}", "disable", unit)
    try:
        file.unlink()
    except OSError as error:
        raise DataError(f"cannot remove {file}: {error.strerror}; run it with sudo") from error
    if is_ours:
        _systemctl("daemon-reload")
    kept = [root / str(CONFIG_FOLDER / name).lstrip("/"), root / f"var/lib/edge-aae/{name}"]
    say(f"{unit} is gone; kept: {', '.join(str(folder) for folder in kept if folder.exists())}")


def _asked(config: Path) -> tuple[NamedSources, EngineOptions]:
    """Sources and engine that a configuration gives; what it asks of sources and alarm is checked as `run` would."""
    parsed = run.make_context("run", ["--config", str(config)]).params
    for key, instead in (
        ("require_signature", "name it to `service install`, which puts the keys beside the bundle"),
        ("streams", "name its lines under source"),
        ("mask", "calibrate with it, the calibration is installed with the bundle"),
    ):
        if parsed[key] is not None:
            raise ConfigError(f"{config} sets {key.replace('_', '-')}, a file that the service may not see; {instead}")
    # What it asks of delivery is not: passwords and certificates are where the service runs.
    named = SourceOptions.of(parsed).named()
    sources_of(named, CaptureOptions.of(parsed), must_exist=False)
    AlarmOptions.of(parsed).settings(threshold=1.0)
    FeedOptions.of(parsed)
    return named, EngineOptions.of(parsed)


def _check_python(python: str) -> None:
    real = os.path.realpath(python)
    for path in (python, real):
        if path.startswith(tuple(f"{home}/" for home in HOMES)):
            raise ConfigError(
                f"the interpreter {path} lies in a home folder, where a service does not look; install edge-aae "
                "elsewhere: python3 -m venv /opt/edge-aae && /opt/edge-aae/bin/pip install 'edge-aae[camera,cpu]', "
                "then /opt/edge-aae/bin/edge-aae service install ..."
            )
    if not os.access(real, os.X_OK):
        raise ConfigError(f"{python} is no program; expected an interpreter that has edge-aae")


def _check_systemd() -> None:
    if shutil.which("systemctl") is None:
        raise ConfigError("there is no systemctl here; a service needs systemd (--root prepares another system)")


def _groups(root: Path) -> tuple[str, ...]:
    try:
        lines = (root / "etc/group").read_text(encoding="utf-8").splitlines()
        names = {line.split(":")[0] for line in lines}
    except OSError:
        import grp

        names = {group.gr_name for group in grp.getgrall()}
    return tuple(group for group in GROUPS if group in names)


def _put(file: Path, content: bytes, mode: int = 0o644) -> None:
    """Write a file whole; one that is there and differs keeps its content under the suffix .1."""
    from edge_runtime.files import write_atomically

    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        before = file.read_bytes() if file.exists() else content
        if before != content:
            write_atomically(file.with_name(f"{file.name}.1"), before, mode=mode)
        write_atomically(file, content, mode=mode)
    except (OSError, DataError) as error:
        raise DataError(f"cannot write {file}: {error}; run it with sudo") from error
    say(f"wrote {file}")


def _put_away(file: Path) -> None:
    """Make a file that is there its owner's alone."""
    try:
        if file.exists():
            file.chmod(OWN_ALONE)
    except OSError as error:
        raise DataError(f"cannot change the mode of {file}: {error.strerror}; run it with sudo") from error


def _installed(root: Path) -> Iterator[Path]:
    return (root / UNITS).glob("edge-aae-*.service")


def _names(root: Path) -> str:
    names = (file.stem.removeprefix("edge-aae-") for file in _installed(root))
    return ", ".join(sorted(names)) or "none"


def _systemctl(*words: str) -> str:
    return _told("systemctl", *words)


def _told(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EdgeAaeError(f"{' '.join(command)} did not work: {error}") from error
    if done.returncode != 0:
        said = " ".join(done.stderr.split()) or f"exit status {done.returncode}"
        raise EdgeAaeError(f"{' '.join(command)} failed: {said}")
    return done.stdout
