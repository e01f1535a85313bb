"""What `edge-aae info` says of a bundle's input."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

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


ESCAPES = "\x1b[2J\x1b]0;owned\x07\r\nmodel.aae: passed \u202e \ud800"


def test_escapes_of_a_manifest_are_shown_and_not_obeyed(bundle: Bundle, tmp_path: Path) -> None:
    manifest: dict[str, Any] = json.loads(json.dumps(bundle.manifest))
    manifest["created_by"] = {"edge_aae": ESCAPES, "torch": ESCAPES}
    manifest["model"] |= {"network": ESCAPES, "method": ESCAPES}
    manifest["training"] = {"data": {"path": ESCAPES}, "status": ESCAPES, "device": ESCAPES}
    manifest["parity"] = {ESCAPES: {"reports": [{"backend": ESCAPES, "reference": ESCAPES}]}}
    Bundle.from_parts(manifest, bundle.files, bundle.path).write(tmp_path / "x.aae")
    for arguments in (["info"], ["info", "--json"]):
        said = CliRunner().invoke(cli, [*arguments, str(tmp_path / "x.aae")])
        assert said.exit_code == 0, said.output
        assert "owned" in said.output
        assert not set(said.output) & {"\x1b", "\x07", "\r", "\u202e"}
        assert "\nmodel.aae: passed" not in said.output


def test_a_bundle_that_no_run_would_take_is_not_described(
    make_bundle: Callable[..., Bundle], make_detector_onnx: Callable[..., bytes], bundle: Bundle, tmp_path: Path
) -> None:
    three = make_bundle(detector_onnx=make_detector_onnx(8, 8, 1, n_criteria=3))
    broken = Bundle.from_parts(bundle.manifest, {**bundle.files, "golden.npz": b"none"}, bundle.path)
    for wrong, reason in ((three, "gave criteria of shape"), (broken, "golden.npz is no .npz archive")):
        wrong.write(tmp_path / "x.aae")
        said = CliRunner().invoke(cli, ["info", str(tmp_path / "x.aae")])
        assert said.exit_code == 1
        assert reason in str(said.exception)


def test_a_limit_without_a_rate_is_described(bundle: Bundle, tmp_path: Path) -> None:
    manifest: dict[str, Any] = json.loads(json.dumps(bundle.manifest))
    manifest["decision"] = {
        "rule": "fused",
        "threshold": 1.0,
        "limit": {"threshold": 2.0, "center": 1.0},
        "terms": {"reconstruction_error": {"weight": 1.0}},
    }
    limit = {"target_fpr": None, "extrapolated": False, "rule": "balanced", "n": 9}
    manifest["calibration"] = {"limit": limit, "score_quantiles": [i / 200 for i in range(201)], "n_images": 100}
    Bundle.from_parts(manifest, bundle.files, bundle.path).write(tmp_path / "x.aae")
    said = CliRunner().invoke(cli, ["info", str(tmp_path / "x.aae")])
    assert "threshold by rule balanced, false-alarm rate not known from 9 out-of-fold scores" in said.output
