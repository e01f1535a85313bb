"""`edge-aae build` and `edge-aae cache` on a machine without a GPU: a real TensorRT-RTX build, kept and cleared."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_runtime.backends import EXPERIMENTAL
from edge_runtime.operations.doctor import examine

Cli = Callable[..., "subprocess.CompletedProcess[str]"]


def test_an_engine_is_built_kept_listed_and_cleared(cli: Cli, bundle_file: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx has wheels for x86-64 Linux and Windows alone")
    environment = {"EDGE_AAE_CACHE": str(tmp_path / "cache")}
    command = ("build", bundle_file, "--backend", "tensorrt_rtx")
    first = cli(*command, cwd=tmp_path, **environment)
    assert first.returncode == 0, first.stderr
    assert first.stdout.startswith(f"built {tmp_path}/cache/")
    second = cli(*command, cwd=tmp_path, **environment)
    assert second.stdout.startswith(f"kept {tmp_path}/cache/")
    listed = cli("cache", "list", cwd=tmp_path, **environment)
    assert "fp32  tensorrt_rtx 1." in listed.stdout
    assert listed.stdout.splitlines()[-1] == f"1 engine in {tmp_path}/cache"
    cleared = cli("cache", "clear", cwd=tmp_path, **environment)
    assert cleared.stdout == f"removed 1 engine from {tmp_path}/cache\n"
    assert cli("cache", "list", cwd=tmp_path, **environment).stdout == f"0 engines in {tmp_path}/cache\n"


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        (("--precision", "int8", "--backend", "tensorrt_rtx"), 1, "has no detector-int8.onnx; it holds fp32"),
        (("--precision", "fp8", "--backend", "tensorrt_rtx"), 2, "'fp8', expected one of fp32, fp16, int8"),
    ],
)
def test_a_graph_that_is_not_there_ends_in_one_line(
    cli: Cli, bundle_file: Path, tmp_path: Path, options: tuple[str, ...], status: int, message: str
) -> None:
    done = cli("build", bundle_file, *options, cwd=tmp_path, EDGE_AAE_CACHE=str(tmp_path / "cache"))
    assert done.returncode == status
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_backends_that_never_ran_on_a_gpu_are_called_experimental_where_they_are_offered(
    cli: Cli, workplace: Path
) -> None:
    for command in ("run", "score", "bench", "verify"):
        before, said, after = cli(command, "--help-all", cwd=workplace).stdout.partition("experimental")
        assert said, command
        assert not [name for name in EXPERIMENTAL if name in before or name not in after], command
    found = {check.name: check.found for check in examine(workplace / "model.aae")}
    assert all("experimental" in found[name] for name in EXPERIMENTAL)
