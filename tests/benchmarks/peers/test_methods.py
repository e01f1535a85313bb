"""The methods by name, and anomalib's road with a stand-in for its environment."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch import fx

from benchmarks.industrial.cells import Split
from benchmarks.industrial.site_gaussian import Lite0
from benchmarks.peers import methods
from benchmarks.peers.anomalib_models import fixed_padding
from benchmarks.peers.methods import ANOMALIB, PEERS, called, measured_by_anomalib
from edge_runtime.errors import MissingExtraError

ROOT = Path(__file__).resolve().parents[3]

STAND_IN = """#!/bin/sh
while [ $# -gt 1 ]; do [ "$1" = --out ] && out=$2; shift; done
echo 'ValueError: no such layer' >&2
{last}
"""


@pytest.fixture
def split(tmp_path: Path) -> Split:
    for index in range(6):
        (tmp_path / f"{index}.png").touch()
    files = [tmp_path / f"{index}.png" for index in range(6)]
    return Split(train=tuple(files[:2]), mixed_in=(files[2],), good=(files[3],), defects={"hole": tuple(files[4:])})


def _run(split: Split, folder: Path, last: str, limit_s: float = 60.0) -> dict[str, object]:
    python = folder / "python"
    python.write_text(STAND_IN.format(last=last))
    python.chmod(0o755)
    given = {"python": python, "folder": folder / "cell", "limit_s": limit_s, "threads": 1}
    return measured_by_anomalib(PEERS["anomalib-padim"], split, 0, folder / "weights.pth", **given)


def test_what_anomalib_found_is_kept_if_it_read_all_photographs(split: Split, tmp_path: Path) -> None:
    written = 'echo "{\\"auroc\\": 0.9, \\"ap\\": 0.8, \\"train_s\\": 1.5, \\"read\\": [3, 1, %d]}" > "$out"'
    assert _run(split, tmp_path, written % 2) == {"auroc": 0.9, "ap": 0.8, "train_s": 1.5}
    assert not (tmp_path / "cell").exists()
    (failure,) = _run(split, tmp_path, written % 1)["failures"]  # type: ignore[misc]
    assert "read [3, 1, 1] photographs to train on, good and with defects; there are [3, 1, 2]" in failure["line"]


def test_how_anomalib_failed_is_told(split: Split, tmp_path: Path) -> None:
    found = _run(split, tmp_path, "exit 1")
    assert found == {"failures": [{"step": "train", "line": "exit 1: ValueError: no such layer"}]}
    found = _run(split, tmp_path, "exec sleep 60", limit_s=0.5)
    assert found["out_of_time_s"] == 0.5
    with pytest.raises(MissingExtraError, match=r"benchmarks/peers/anomalib\.sh FOLDER makes it"):
        measured_by_anomalib(
            PEERS["anomalib-padim"], split, 0, tmp_path, python=None, folder=tmp_path, limit_s=1.0, threads=1
        )


def test_names_of_methods_are_their_own_and_can_be_part_of_a_files() -> None:
    names = [peer.name for peer in PEERS.values()]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[A-Za-z0-9 -]+", name) for name in names)
    assert [called(name) for name in names] == list(PEERS.values())
    assert called("features") is None
    assert all((peer.fit is None) == bool(peer.words) for peer in PEERS.values())


def test_the_environment_has_the_versions_that_are_named() -> None:
    folder = Path(methods.__file__).parent
    pins = (folder / "anomalib.txt").read_text().splitlines()
    assert f"anomalib=={ANOMALIB}" in pins
    assert all(line.startswith("#") or re.fullmatch(r"[\w.-]+==[\w.+]+", line) for line in pins)
    (pinned,) = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line.startswith("torch==")]
    assert f" {pinned} torchvision==" in (folder / "anomalib.sh").read_text()


def test_a_trunk_with_fixed_padding_is_the_same_and_can_be_traced() -> None:
    torch.manual_seed(0)
    lite0 = Lite0().eval()
    x = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        expected = lite0(x)
        fixed = fixed_padding(lite0, 64)
        traced = fx.symbolic_trace(fixed)
        for given in (fixed(x), traced(x)):
            for tap, wanted in zip(given, expected, strict=True):
                torch.testing.assert_close(tap, wanted)
