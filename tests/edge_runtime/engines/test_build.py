"""Builds with TensorRT-RTX, which needs no GPU for them; and what stops a build, in words."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_runtime.bundle.bundle import Bundle
from edge_runtime.engines import BuildSettings, Flavour, build_engine, this_device
from edge_runtime.engines.build import check_free_memory
from edge_runtime.engines.device import l4t_release
from edge_runtime.errors import BackendError, ConfigError, MissingExtraError


@pytest.fixture(scope="module")
def rtx() -> Flavour:
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx has wheels for x86-64 Linux and Windows alone")
    return Flavour.load("tensorrt_rtx")


def test_a_detector_and_a_graph_with_a_dynamic_batch_become_engines(rtx: Flavour, bundle: Bundle) -> None:
    for name in ("detector.onnx", "encoder.onnx"):
        engine = build_engine(rtx, bundle.files[name], BuildSettings(largest_batch=4))
        assert len(engine) > 1000


def test_a_graph_that_cannot_be_parsed_is_refused_with_the_reason(rtx: Flavour) -> None:
    with pytest.raises(BackendError, match=r"TensorRT-RTX 1\.\d+.* cannot parse the graph: .*; export it again"):
        build_engine(rtx, b"not a graph")


def test_an_operator_that_tensorrt_lacks_is_named(rtx: Flavour, bundle: Bundle) -> None:
    import onnx

    model = onnx.load_from_string(bundle.files["decoder.onnx"])
    next(node for node in model.graph.node if node.op_type == "MatMul").op_type = "NoSuchOperator"
    with pytest.raises(BackendError, match="NoSuchOperator"):
        build_engine(rtx, model.SerializeToString())


def test_an_unknown_flavour_and_one_that_is_not_installed_are_refused() -> None:
    with pytest.raises(ConfigError, match="'tensorflow', expected one of tensorrt, tensorrt_rtx"):
        Flavour.load("tensorflow")
    try:
        import tensorrt  # noqa: F401
    except ImportError:
        with pytest.raises(MissingExtraError, match=r'pip install "edge-aae\[tensorrt\]"'):
            Flavour.load("tensorrt")


@pytest.mark.parametrize(("kilobytes", "enough"), [(1024 * 1024, True), (1024 * 1024 - 1, False)])
def test_a_build_wants_a_gibibyte_of_free_memory(tmp_path: Path, kilobytes: int, enough: bool) -> None:
    file = tmp_path / "meminfo"
    file.write_text(f"MemTotal:  8000000 kB\nMemAvailable:  {kilobytes} kB\n")
    if enough:
        check_free_memory(file)
    else:
        with pytest.raises(BackendError, match=r"1023 MiB of memory are free, a build needs 1024 MiB: .*--force"):
            check_free_memory(file)
    check_free_memory(tmp_path / "nothing")


@pytest.mark.parametrize("wrong", [{"workspace_bytes": 1}, {"largest_batch": 0}])
def test_settings_out_of_range_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="expected"):
        BuildSettings(**wrong)


@pytest.mark.parametrize(
    ("line", "release"),
    [
        ("# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic", "R36.4.3"),
        ("something else", "something else"),
    ],
)
def test_jetson_linux_is_read_from_its_file(tmp_path: Path, line: str, release: str) -> None:
    (tmp_path / "nv_tegra_release").write_text(line + "\nmore\n")
    assert l4t_release(tmp_path / "nv_tegra_release") == release
    assert l4t_release(tmp_path / "nothing") == ""


def test_a_machine_without_a_gpu_says_why() -> None:
    device = this_device()
    assert device.is_present == (device.missing == "")
    if not device.is_present:
        assert str(device).startswith("no device")
