"""`edge-aae bench` and `edge-aae doctor` as their users meet them."""

from __future__ import annotations

import json
from pathlib import Path

from .conftest import Cli

SOURCE = "test://pattern?fps=1000&width=64&height=48"


def test_bench_prints_the_stages_and_its_gates_end_with_3(workplace: Path, cli: Cli, tmp_path: Path) -> None:
    fine = cli("bench", "--source", SOURCE, "--frames", "60", "--json", tmp_path / "b.json", cwd=workplace)
    assert fine.returncode == 0, fine.stderr
    for words in ("capture", "end to end", "network alone", "times the network alone", "MiB resident"):
        assert words in fine.stdout
    assert json.loads((tmp_path / "b.json").read_text())["frames"] == 60
    slow = cli("bench", "--source", SOURCE, "--frames", "60", "--no-cold", "--min-fps", "1e9", "--max-p99-ms", "1e-9",
               "--max-overhead", "1e-9", cwd=workplace)  # fmt: skip
    assert slow.returncode == 3
    assert "frames a second, asked for 1e+09 or more; p99 " in slow.stderr
    assert "times the bare network, asked for 1e-09 or less" in slow.stderr


def test_the_doctor_prints_a_line_a_check_and_fails_where_a_run_would(workplace: Path, cli: Cli) -> None:
    fine = cli("doctor", "--camera", SOURCE, cwd=workplace)
    assert fine.returncode == 0, fine.stdout
    assert "runs the bundle's detector" in fine.stdout
    assert "frames a second measured" in fine.stdout
    failing = cli("doctor", "--camera", "97", "--json", cwd=workplace)
    assert failing.returncode == 1
    told = json.loads(failing.stdout)
    assert told["ok"] is False
    assert [check["name"] for check in told["checks"] if check["state"] == "error"] == ["camera 97"]
