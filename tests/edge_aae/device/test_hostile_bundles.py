"""Bundles that want more than to be scored with: refused in a sentence, and never in the way of the last good one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_runtime.bundle.bundle import Bundle
from tests.edge_aae.device.forking import ROOT, Commands, Ended
from tests.edge_aae.device.hostile_bundles import HOSTILE, Parts

MOST_MEMORY = 600 << 20


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commands]:
    with Commands(tmp_path_factory.mktemp("commands")) as running:
        yield running


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory, bundle: Bundle) -> Path:
    """A good bundle beside one frame for it."""
    folder = tmp_path_factory.mktemp("good")
    bundle.write(folder / "good.aae")
    cv2.imwrite(str(folder / "frame.png"), np.full((8, 8), 99, np.uint8))
    return folder


def is_plain(ended: Ended) -> None:
    assert ended.status >= 0, f"it ended by signal {-ended.status}"
    assert "Traceback" not in ended.err, ended.err
    assert ended.most_memory < MOST_MEMORY
    assert not any(ord(character) < 32 and character not in "\n\t" for character in ended.out + ended.err)


def test_there_are_enough_of_them() -> None:
    assert len(HOSTILE) >= 60


@pytest.mark.parametrize("name", HOSTILE)
def test_info_refuses_it_in_a_sentence(commands: Commands, bundle: Bundle, tmp_path: Path, name: str) -> None:
    HOSTILE[name](Parts.of(bundle), tmp_path / "x.aae")
    ended = commands.run("info", str(tmp_path / "x.aae"))
    is_plain(ended)
    assert ended.status == 1, ended.out
    said, refused = ended.err.splitlines()[:2]
    assert (said, refused[:7]) == (f"bundle {tmp_path / 'x.aae'}", "error: ")
    assert len(ended.err) < 3000


@pytest.mark.parametrize("name", HOSTILE)
def test_a_run_that_has_a_last_good_bundle_scores_with_that(
    commands: Commands, bundle: Bundle, good: Path, tmp_path: Path, name: str
) -> None:
    HOSTILE[name](Parts.of(bundle), tmp_path / "x.aae")
    ended = commands.run(
        "run", "--model", str(tmp_path / "x.aae"), "--last-good", str(good / "good.aae"), "--source",
        str(good / "frame.png"), "--out", str(tmp_path / "records.jsonl"),
    )  # fmt: skip
    is_plain(ended)
    assert ended.status == 0, ended.err
    assert "the last good bundle is used" in ended.err
    records = (tmp_path / "records.jsonl").read_text()
    assert '"score"' in records
    assert "MODEL_REFUSED" in records
    assert not (good / "good.aae.trying").exists()


def test_the_page_on_security_counts_them() -> None:
    page = (ROOT / "docs/security.md").read_text()
    assert f"| {len(HOSTILE)} bundles: " in page
    for file in re.findall(r"`(tests/[a-z_/]+\.py)`", page):
        assert (ROOT / file).is_file(), file
