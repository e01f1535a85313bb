"""What is released: the same bytes every time, a version in one place, licences and workflows that are true."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import re
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from edge_runtime import __version__

ROOT = Path(__file__).resolve().parents[3]
requirements = pytest.importorskip("packaging.requirements", reason="packaging is not installed")


@pytest.fixture(scope="module")
def builds(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two folders, each with a wheel and an sdist of its own build."""
    folders = [tmp_path_factory.mktemp(name) for name in ("one", "two")]
    for folder in folders:
        command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-t", "sdist", "-d", str(folder)]
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return folders


def test_two_builds_give_the_same_bytes(builds: list[Path]) -> None:
    digests = [
        {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.iterdir()} for folder in builds
    ]
    assert len(digests[0]) == 2
    assert digests[0] == digests[1]


def test_the_sdist_has_what_a_build_and_the_tests_need_and_no_data(builds: list[Path]) -> None:
    (file,) = builds[0].glob("*.tar.gz")
    with tarfile.open(file) as archive:
        names = [name.split("/", 1)[1] for name in archive.getnames()]
    for needed in ("pyproject.toml", "LICENSE", "README.md", "CONTRIBUTING.md", "constraints.txt",
                   "tests/conftest.py", "docs/bundle.md", "docker/runtime-cpu.Dockerfile", "edge_aae/sample/NOTICE",
                   "PKG-INFO"):  # fmt: skip
        assert needed in names
    assert not [name for name in names if name.endswith((".pyc", ".aae", ".safetensors", ".engine"))]
    assert not [name for name in names if name.split("/")[0] in ("demo-out", "runs", "dist", ".venv")]


def test_the_version_stands_in_one_place_and_the_changelog_has_it() -> None:
    told = subprocess.run(
        [sys.executable, "-m", "hatchling", "version"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    assert told.stdout.strip() == __version__
    assert re.search(rf"^## {re.escape(__version__)} ", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
    elsewhere = re.compile(rf"version\s*=\s*[\"']{re.escape(__version__)}[\"']")
    assert not elsewhere.search((ROOT / "pyproject.toml").read_text())


def closure(extras: list[str]) -> set[str]:
    """Names of what the extras bring, as far as it is installed here."""
    found: set[str] = set()
    todo: list[tuple[str, tuple[str, ...]]] = [("edge-aae", tuple(extras))]
    done: set[tuple[str, tuple[str, ...]]] = set()
    while todo:
        name, asked = todo.pop()
        if (name, asked) in done:
            continue
        done.add((name, asked))
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        found.add(plain(name))
        for text in distribution.requires or ():
            needed: Any = requirements.Requirement(text)
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in asked or ("",)):
                todo.append((needed.name, tuple(sorted(needed.extras))))
    return found - {"edge-aae"}


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_the_list_of_licences_has_everything_that_is_installed_beside() -> None:
    table = re.findall(r"^\| (\S+) \| (.+) \|$", (ROOT / "docs/licenses.md").read_text(), flags=re.MULTILINE)
    listed = {plain(name): licence for name, licence in table}
    brought = closure(["demo", "openvino", "mqtt", "metrics", "dashboard", "qr", "sign"])
    assert len(brought) > 5
    assert brought - set(listed) == set()
    assert all(licence.strip() for licence in listed.values())
    assert not [name for name, licence in listed.items() if re.search(r"\b(A?GPL|SSPL)", licence)]


def test_every_package_of_the_extras_is_pinned() -> None:
    pinned = {
        plain(line.split("==")[0]) for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line
    }
    assert closure(["demo", "openvino", "mqtt", "metrics", "dashboard", "qr", "sign"]) - pinned <= {"setuptools"}


def workflow_uses() -> list[tuple[str, str]]:
    """Every action that a workflow, or a page's example of one, runs: file and the line's reference."""
    files = [*(ROOT / ".github/workflows").glob("*.yml"), *(ROOT / "docs").rglob("*.md"), ROOT / "README.md"]
    return [(file.name, found) for file in files for found in re.findall(r"uses: +(\S+@.*)", file.read_text())]


def test_every_action_is_pinned_by_its_commit() -> None:
    used = workflow_uses()
    assert len(used) > 20
    pinned = re.compile(r"[\w-]+/[\w.-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+")
    assert [line for line in used if not pinned.fullmatch(line[1])] == []
    versions = {line.split("@")[0]: set() for _, line in used}  # type: dict[str, set[str]]
    for _, line in used:
        versions[line.split("@")[0]].add(line)
    assert [action for action, lines in versions.items() if len(lines) > 1] == [], "one action, one commit"


def lock_module() -> Any:
    spec = importlib.util.spec_from_file_location("lock", ROOT / "docker/lock.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_locks_are_the_constraints_with_a_hash_for_each_platform() -> None:
    lock = lock_module()
    assert {file.stem for file in (ROOT / "docker/locks").glob("*.txt")} == set(lock.LOCKS)
    for name in lock.LOCKS:
        path = ROOT / f"docker/locks/{name}.txt"
        pins = lock.locked(path)
        entries = [entry for entry in re.split(r"\n(?=\S)", path.read_text()) if "==" in entry]
        assert len(pins) == len(entries) > 4
        assert set(pins) <= set(lock.pins())
        assert all(re.search(r"\n    --hash=sha256:[0-9a-f]{64}", entry) for entry in entries)


@pytest.mark.parametrize("name", ["runtime", "openvino", "build"])
def test_a_lock_has_everything_that_its_extras_bring(name: str) -> None:
    lock = lock_module()
    pins = lock.locked(ROOT / f"docker/locks/{name}.txt")
    (wanted,) = lock.LOCKS[name]
    brought = closure(re.findall(r"\w+", wanted.partition("[")[2])) if "[" in wanted else {"hatchling"}
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    here = {pin[0] for pin in pins if lock.pin_for(pin[0], python) == pin}
    assert brought - {"setuptools"} <= here


def test_the_audit_covers_every_pin_on_every_python() -> None:
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    audit = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]["audit"]
    assert audit["strategy"]["matrix"]["python"] == list(lock_module().PYTHONS)
    (command,) = [step["run"] for step in audit["steps"] if "pip_audit" in step.get("run", "")]
    assert {"constraints.txt", "docker/gpu-requirements.txt"} <= set(command.split())
