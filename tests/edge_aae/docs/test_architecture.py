"""docs/architecture.md and CONTRIBUTING.md name paths that exist, and the picture of the rooms is true."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.edge_aae.package.test_import_stack import ROOMS, ROOT

ARCHITECTURE = ROOT / "docs/architecture.md"
PATH = re.compile(
    r"(?<![\w/.-])(?:edge_runtime|train|export|edge_aae|tests|benchmarks|docs|docker)/[\w./-]*\w|\b[A-Z]+\.md\b"
)


def paths_in(page: Path) -> set[str]:
    """Everything of a page that looks like a path from the repository's root, in pictures and tables too."""
    return set(PATH.findall(page.read_text()))


@pytest.mark.parametrize("page", [ARCHITECTURE, ROOT / "CONTRIBUTING.md"], ids=lambda page: page.name)
def test_every_path_that_is_named_exists(page: Path) -> None:
    named = paths_in(page)
    assert len(named) > 30
    assert {path for path in named if not (ROOT / path).exists()} == set()


def test_the_picture_has_every_room_from_the_roof_down() -> None:
    picture = re.findall(r"^```\n(.*?)^```$", ARCHITECTURE.read_text(), flags=re.MULTILINE | re.DOTALL)[0]
    drawn = re.findall(r"^  ([\w/]+)  ", picture, flags=re.MULTILINE)
    assert drawn == list(reversed(ROOMS))


def test_every_recipe_ends_with_its_tests() -> None:
    recipes = re.split(r"^### ", (ROOT / "CONTRIBUTING.md").read_text(), flags=re.MULTILINE)[1:]
    assert [recipe.splitlines()[0] for recipe in recipes] == ["A network", "A source", "A sink", "A backend"]
    for recipe in recipes:
        assert re.search(r"^\d\. Tests: .*`tests/", recipe, flags=re.MULTILINE | re.DOTALL), recipe
