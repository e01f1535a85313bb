"""The site of docs/: builds without a warning, loads nothing from elsewhere, and says what the program says."""

from __future__ import annotations

import ast
import html
import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import click
import pytest

from edge_aae.cli import cli
from tests.edge_aae.docs.test_commands import commands_in

pytest.importorskip("mkdocs", reason="mkdocs is not installed")
pytest.importorskip("mkdocstrings", reason="mkdocstrings is not installed")

ROOT = Path(__file__).resolve().parents[3]
LIMIT_S = 600
"""Against a hang"""

REMOTE = re.compile(r"^(https?:)?//")
LOADED = {
    "script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src", "audio": "src", "embed": "src",
    "object": "data",
}  # fmt: skip
"""Elements by which a browser fetches something, and where it stands; links to icons and style sheets besides"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built pages; a link or anchor that leads nowhere ends the build."""
    folder = tmp_path_factory.mktemp("site")
    ended = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True, text=True, timeout=LIMIT_S, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    return folder


class Elements(HTMLParser):
    """What a page loads from another host."""

    def __init__(self) -> None:
        super().__init__()
        self.remote: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = dict(attributes)
        named = (
            found.get("href") if tag == "link" and found.get("rel") != "canonical" else found.get(LOADED.get(tag, ""))
        )
        if named and REMOTE.match(named):
            self.remote.append(f"{tag} {named}")


def test_no_page_loads_anything_from_elsewhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 60
    for page in pages:
        elements = Elements()
        elements.feed(page.read_text(encoding="utf-8"))
        assert elements.remote == [], page
    for sheet in site.rglob("*.css"):
        text = sheet.read_text(encoding="utf-8")
        assert re.findall(r"(?:url\(|@import )[\"']?(?:https?:)?//[^)\"']*", text) == [], sheet


def test_what_a_page_must_not_load_would_be_seen() -> None:
    for shown in (
        '<script src="https://a/b.js">',
        '<link rel="stylesheet" href="//a/b.css">',
        '<img src="http://a/b">',
    ):
        elements = Elements()
        elements.feed(shown)
        assert len(elements.remote) == 1, shown


def held(name: str, command: click.Command) -> list[tuple[str, click.Command]]:
    below = command.commands.items() if isinstance(command, click.Group) else ()
    return [(name, command), *((f"{name}-{inner}", one) for inner, one in below)]


def test_every_command_has_a_page_with_every_option(site: Path) -> None:
    for name, command in [pair for top, one in cli.commands.items() for pair in held(top, one)]:
        text = html.unescape((site / f"reference/commands/{name}.html").read_text(encoding="utf-8"))
        for parameter in command.params:
            if isinstance(parameter, click.Option) and not parameter.hidden:
                assert max(parameter.opts, key=len) in text, (name, parameter.opts)
        assert " ".join((command.help or "").split()[:3]).strip("\b ") in text, name


def test_classes_are_shown_with_their_docstrings(site: Path) -> None:
    text = (site / "reference/python.html").read_text(encoding="utf-8")
    for identifier in (
        "edge_runtime.scoring.detector.Detector.score",
        "edge_runtime.bundle.bundle.Bundle.open",
        "edge_aae.api.train",
        "edge_runtime.errors.BundleError",
        "edge_runtime.sources.contract.FrameSource",
    ):
        assert f'id="{identifier}"' in text, identifier


def test_the_search_finds_an_option(site: Path) -> None:
    index = json.loads((site / "search/search_index.json").read_text(encoding="utf-8"))
    assert any("--require-signature" in entry["text"] for entry in index["docs"])


def test_the_quickstart_ends_in_a_heatmap_after_six_commands_at_most() -> None:
    (block,) = re.findall(r"((?:^    \S.*\n)+)", (ROOT / "docs/quickstart.md").read_text(), flags=re.MULTILINE)
    lines = [line.strip() for line in block.splitlines()]
    assert lines == commands_in(ROOT / "docs/quickstart.md")
    assert 1 <= len(lines) <= 6
    assert lines[0].startswith("git clone")
    assert "score" in lines[-1]
    assert "--heatmaps" in lines[-1]
    measured = (ROOT / "docs/results/quickstart.md").read_text()
    for line in lines:
        assert (
            line.replace("edge-aae/", "")
            .replace("-C edge-aae ", "")
            .split(" ADDRESS")[0]
            .split(" photos")[0]
            .split(" test/")[0]
            in measured
        ), line


def test_messages_of_the_troubleshooting_are_messages_of_the_program() -> None:
    said = []
    for package in ("edge_runtime", "edge_aae", "train", "export"):
        for file in (ROOT / package).rglob("*.py"):
            tree = ast.parse(file.read_text(encoding="utf-8"))
            said += [str(node.value) for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    page = (ROOT / "docs/troubleshooting.md").read_text()
    rows = re.findall(r"^\| (`.*?) \| .* \| .* \|$", page, flags=re.MULTILINE)
    assert len(rows) > 20
    for fragment in [part for row in rows for part in re.findall(r"`([^`]+)`", row)]:
        assert any(fragment in text for text in said), fragment
