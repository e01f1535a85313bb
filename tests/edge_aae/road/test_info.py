"""What `edge-aae info` says of a bundle's input."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from edge_aae.cli import cli
from edge_runtime.bundle.bundle import Bundle
from edge_runtime.model.alignment import Alignment
from edge_runtime.model.preprocess import Preprocess


def test_the_view_is_described(make_bundle: Callable[..., Bundle], tmp_path: Path) -> None:
    align = Alignment(mode="turn", height=80.0, width=160.2, frame=(240, 300))
    make_bundle(Preprocess(height=8, width=16, align=align)).write(tmp_path / "x.aae")
    said = CliRunner().invoke(cli, ["info", str(tmp_path / "x.aae")])
    line = "view        80x160 pixels of frames of 240x300, centred on the part and turned along it\n"
    assert line in said.output


@pytest.mark.parametrize(
    ("preprocess", "line"),
    [
        (Preprocess(height=8, width=8), "8x8x1 uint8, stretch, area interpolation, region of interest whole frame"),
        (
            Preprocess(height=8, width=16, fit="tile", scale=0.5, overlap=4, self_reference="row_column"),
            "8x16x4 uint8, tiles at scale 0.5 that share 4 pixels or more, row and column medians removed, area inter",
        ),
    ],
    ids=["one input", "tiles"],
)
def test_the_input_is_described(
    make_bundle: Callable[..., Bundle], tmp_path: Path, preprocess: Preprocess, line: str
) -> None:
    make_bundle(preprocess).write(tmp_path / "x.aae")
    said = CliRunner().invoke(cli, ["info", str(tmp_path / "x.aae")])
    assert said.exit_code == 0
    assert f"input       {line}" in said.output
