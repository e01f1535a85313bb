"""Write docker/locks: what the images and the release install, each version with the hashes of its wheels.

    python docker/lock.py [--check]

Versions come from constraints.txt, what an extra brings from the packages' own metadata, hashes from the index that pip
is set to use: all wheels for Linux on x86-64 and aarch64. pip then takes nothing else: pip install --require-hashes -r
docker/locks/runtime.txt. --check looks for what is missing, without a network.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import re
import subprocess
import sys
import tempfile
import zipfile
from email.parser import Parser
from pathlib import Path

from packaging.markers import default_environment
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
LOCKS = {
    "runtime": ["edge-aae[camera,cpu,mqtt,metrics,dashboard,sign]"],
    "openvino": ["edge-aae[camera,cpu,openvino,mqtt,metrics,dashboard,sign]"],
    "build": ["hatchling"],
}
"""Name of a lock -> what it installs"""
WHEEL = re.compile(r"-(?P<python>[^-]+)-(?P<abi>[^-]+)-(?P<platform>[^-]+)\.whl$")

Pin = tuple[str, str, str]
"""Name, version and marker of a line of constraints.txt, the marker empty where there is none"""


def plain(name: str) -> str:
    """The name as the index has it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pins() -> list[Pin]:
    """Every line of constraints.txt."""
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line]
    found = [re.fullmatch(r"([\w.-]+)==([\w.]+)(?:; (.+))?", line) for line in lines]
    return [(plain(pin[1]), pin[2], pin[3] or "") for pin in found if pin]


def pin_for(name: str, python: str) -> Pin | None:
    """The pin of a package that holds for a Python."""
    holding = [pin for pin in pins() if pin[0] == plain(name) and _holds(pin[2], python)]
    return holding[0] if holding else None


def _holds(marker: str, python: str) -> bool:
    return not marker or Requirement(f"x; {marker}").marker.evaluate(_environment(python))  # type: ignore[union-attr]


def _environment(python: str, extra: str = "") -> dict[str, str]:
    here = {name: str(value) for name, value in default_environment().items()}
    return {**here, "python_version": python, "python_full_version": f"{python}.0", "extra": extra}


def closure(wanted: list[str], requires: dict[str, list[str]]) -> dict[Pin, None]:
    """Pins of all that is wanted brings, over every Python; requires: of `name==version` what its metadata says."""
    found: dict[Pin, None] = {}
    for python in PYTHONS:
        todo, done = [Requirement(text) for text in wanted], set()
        while todo:
            asked = todo.pop()
            key = (plain(asked.name), tuple(sorted(asked.extras)))
            if key in done:
                continue
            done.add(key)
            pin = None if key[0] == "edge-aae" else pin_for(key[0], python)
            if pin is None and key[0] != "edge-aae":
                raise SystemExit(f"constraints.txt has no {asked.name} for Python {python}, which {wanted} brings")
            if pin is not None:
                found[pin] = None
            for text in requires_of(key[0], pin[1] if pin else "", requires):
                needed = Requirement(text)
                environments = [_environment(python, extra) for extra in asked.extras or {""}]
                if needed.marker is None or any(needed.marker.evaluate(where) for where in environments):
                    todo.append(needed)
    return found


def requires_of(name: str, version: str, known: dict[str, list[str]]) -> list[str]:
    """What a package needs: of this project and of installed packages from their metadata, else from its wheel."""
    key = f"{name}=={version}"
    if key not in known:
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            known[key] = _requires_of_wheel(key)
        else:
            same = not version or distribution.version == version
            known[key] = list(distribution.requires or ()) if same else _requires_of_wheel(key)
    return known[key]


def _requires_of_wheel(requirement: str) -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        for python in PYTHONS:
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
            platforms = [f"--platform=manylinux_{glibc}_x86_64" for glibc in ("2_28", "2_27", "2_17")]
            command += [*platforms, "--python-version", python, "--dest", folder, requirement]
            if subprocess.run(command, capture_output=True).returncode == 0:
                break
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            (member,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
            return Parser().parsestr(archive.read(member).decode()).get_all("Requires-Dist") or []


def hashes(pin: Pin) -> list[str]:
    """SHA-256 of a version's wheels for Linux and the Pythons, as the index that pip uses has them."""
    from pip._internal.commands import create_command
    from pip._internal.index.collector import parse_links

    command = create_command("index")
    options, _ = command.parse_args(["versions", pin[0]])
    with command.main_context():
        finder = command._build_package_finder(  # type: ignore[attr-defined]
            options=options, session=command._build_session(options), ignore_requires_python=True
        )
        collector = finder._link_collector
        found = set()
        for source in collector.collect_sources(pin[0], None).index_urls:
            page = collector.fetch_response(source.link) if source and source.link else None
            for link in parse_links(page) if page else ():
                if _fits(link.filename, pin) and "sha256" in link._hashes:
                    found.add(link._hashes["sha256"])
    if not found:
        raise SystemExit(f"the index has no wheel of {pin[0]}=={pin[1]} with a SHA-256")
    return sorted(found)


def _fits(filename: str, pin: Pin) -> bool:
    tags = WHEEL.search(filename)
    if tags is None or plain(filename.split("-")[0]) != pin[0] or filename.split("-")[1] != pin[1]:
        return False
    linux = re.search(r"manylinux.*_(x86_64|aarch64)$", tags["platform"])
    abis = {f"cp{python.replace('.', '')}" for python in PYTHONS if _holds(pin[2], python)} | {"none", "abi3"}
    return (tags["platform"] == "any" or linux is not None) and tags["abi"] in abis


def main() -> None:
    """Write the locks, or with --check say what they lack."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--check", action="store_true", help="Write nothing: exit 1 where a pin is not as locked.")
    check = options.parse_args().check
    requires: dict[str, list[str]] = {}
    for name, wanted in LOCKS.items():
        path = ROOT / "docker" / "locks" / f"{name}.txt"
        if check:
            stale = [line for line in locked(path) if line not in pins()]
            if stale:
                raise SystemExit(f"{path} has {stale}, constraints.txt has not; run python docker/lock.py")
            continue
        lines = [f"# {', '.join(wanted)}, as in constraints.txt; written by docker/lock.py"]
        for pin in sorted(closure(wanted, requires)):
            marker = f" ; {pin[2]}" if pin[2] else ""
            lines.append(
                " \\\n    ".join([f"{pin[0]}=={pin[1]}{marker}", *(f"--hash=sha256:{h}" for h in hashes(pin))])
            )
        path.write_text("\n".join(lines) + "\n")


def locked(path: Path) -> list[Pin]:
    """The pins of a lock."""
    found = re.findall(r"^([\w.-]+)==([\w.]+)(?: ; ([^\\\n]+?))? \\$", path.read_text(), flags=re.MULTILINE)
    return [(name, version, marker) for name, version, marker in found]


if __name__ == "__main__":
    main()
