"""The doctor, the board's readings, and the bench."""

from __future__ import annotations

import json
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest

from edge_runtime.engines.device import NO_DEVICE, Device
from edge_runtime.errors import MissingExtraError, SourceError
from edge_runtime.operations import doctor, power
from edge_runtime.operations.bench import bench, cold_start
from edge_runtime.scoring.detector import Detector
from edge_runtime.sources import source_from


def found(name: str, bundle: Path | None = None, cameras: tuple[str, ...] = ()) -> doctor.Check:
    return next(check for check in doctor.examine(bundle, cameras) if check.name == name)


def test_every_check_has_its_line_and_a_bundle_is_tried(bundle_file: Path) -> None:
    checks = {check.name: check for check in doctor.examine(bundle_file)}
    assert {"program", "OpenCV", "GStreamer", "cameras", "bundle", "memory", "disk", "clock", "extras"} <= set(checks)
    assert checks["onnxruntime-cpu"].found == "runs the bundle's detector"
    assert json.dumps([check.to_json() for check in checks.values()])


def test_without_a_bundle_backends_are_only_looked_for() -> None:
    assert "not tried, for want of a bundle" in found("onnxruntime-cpu").found


def test_a_bundle_that_is_none_is_an_error_and_nothing_is_asked_for_in_its_place(tmp_path: Path) -> None:
    (tmp_path / "model.aae").write_text("no bundle")
    assert found("bundle", tmp_path / "model.aae").state == "error"
    check = found("onnxruntime-cpu", tmp_path / "model.aae")
    assert check.found.endswith("not tried: the bundle above cannot be read")
    assert (check.state, check.remedy) == ("ok", "")


def without(monkeypatch: pytest.MonkeyPatch, *absent: str) -> None:
    monkeypatch.setattr(doctor, "_version_of", lambda package: None if package in absent else "1.0")


@pytest.mark.parametrize("tried", [True, False])
def test_without_the_default_backend_no_run_works_unless_it_names_another(
    tried: bool, bundle_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without(monkeypatch, "onnxruntime", "onnxruntime-gpu")
    opened = {"openvino", "openvino-bf16"}

    def none(name: str, graph: bytes) -> None:
        if name not in opened:
            raise MissingExtraError("no such package")

    monkeypatch.setattr(doctor, "open_backend", none)
    checks = {check.name: check for check in doctor._backends(bundle_file if tried else None, None)}
    check = checks["onnxruntime-cpu"]
    assert (check.state, check.found[:14]) == ("error", "not installed,")
    assert check.remedy == 'pip install "edge-aae[cpu]", or run with --backend openvino'
    opened.clear()
    if tried:
        check = next(check for check in doctor._backends(bundle_file, None) if check.state == "error")
        assert check.remedy == 'pip install "edge-aae[cpu]"'


def test_the_package_for_gpus_has_the_cpu_s_backend_too(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "onnxruntime")
    assert found("onnxruntime-cpu").state == "ok"


def test_a_backend_of_gpus_is_noted_as_such_without_one(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch)
    monkeypatch.setattr(
        doctor, "this_device", lambda: Device(name=NO_DEVICE, compute_capability="", missing="no cuda-bindings")
    )
    check = found("tensorrt_rtx")
    assert (check.state, check.remedy) == ("note", "")
    assert check.found.endswith("not tried: no GPU found")


def test_a_camera_s_rate_is_counted_and_one_that_is_absent_is_an_error() -> None:
    check = doctor.frame_rate("test://pattern?fps=50&width=64&height=48", seconds=0.5)
    assert check.state == "ok"
    size, rate = check.found.split(", ")
    assert size == "64x48"
    assert 30 < float(rate.split()[0]) < 60
    assert doctor.frame_rate("97").state == "error"


def test_devices_that_are_plugged_in_are_the_remedy_of_cameras_alone(tmp_path: Path) -> None:
    for camera in ("97", "/dev/video97", "line3=97"):
        assert "v4l2-ctl" in doctor.frame_rate(camera).remedy
    for camera in (str(tmp_path / "absent.avi"), "rtsp://127.0.0.1:1/live"):
        check = doctor.frame_rate(camera)
        assert (check.state, check.remedy) == ("error", "")


def test_every_small_extra_has_a_package_that_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "starlette")
    check = doctor._extras()
    assert (check.found, check.remedy) == (
        "installed: mqtt, metrics, sign", 'for these: pip install "edge-aae[dashboard]"',
    )  # fmt: skip


def test_a_program_without_opencv_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> Any:
        raise MissingExtraError("cameras need cv2")

    monkeypatch.setattr(doctor, "quiet_cv2", none)
    check = doctor._opencv()
    assert (check.state, check.remedy) == ("error", 'pip install "edge-aae[camera]"')


def test_little_memory_little_disk_and_a_wrong_clock_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_meminfo", lambda: {"MemAvailable": 500_000})
    assert (doctor._build_memory().state, doctor._build_memory().found[:7]) == ("warning", "0.5 GiB")
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: usage(0, 0, 1000))
    assert doctor._disk().state == "warning"
    monkeypatch.setattr(doctor, "WRITTEN", doctor.datetime(2999, 1, 1, tzinfo=doctor.timezone.utc))
    assert doctor._clock().state == "error"


def test_a_jetson_s_sensors_are_read(tmp_path: Path) -> None:
    sensor = tmp_path / "bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon3"
    sensor.mkdir(parents=True)
    for name, text in {
        "in1_label": "VDD_IN", "in1_input": "5000", "curr1_input": "2000", "in2_label": "VDD_CPU", "in2_input": "5000",
        "curr2_input": "400",
    }.items():  # fmt: skip
        (sensor / name).write_text(f"{text}\n")
    assert power.board_power_w(tmp_path) == 10.0
    (sensor / "in1_label").write_text("VDD_GPU")
    assert power.board_power_w(tmp_path) == 12.0
    zone = tmp_path / "class/thermal/thermal_zone0"
    zone.mkdir(parents=True)
    (zone / "type").write_text("cpu-thermal\n")
    (zone / "temp").write_text("51500\n")
    assert power.temperatures_c(tmp_path) == {"cpu-thermal": 51.5}
    (tmp_path / "status").write_text("pmode:0002\n")
    assert power.power_mode(tmp_path / "status") == "pmode:0002"
    rapl = tmp_path / "class/powercap/intel-rapl:0"
    rapl.mkdir(parents=True)
    (rapl / "energy_uj").write_text("2500000\n")
    assert power.rapl_joules(tmp_path) == 2.5


def test_a_machine_without_sensors_says_nothing(tmp_path: Path) -> None:
    assert power.board_power_w(tmp_path) is None
    assert power.rapl_joules(tmp_path) is None
    assert power.temperatures_c(tmp_path) == {}
    assert power.power_mode(tmp_path / "absent") is None


def test_energy_is_power_times_time(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    monkeypatch.setattr(power, "board_power_w", lambda: 8.0)
    monkeypatch.setattr(power, "SAMPLE_S", 0.01)
    with power.measured_energy() as meter:
        time.sleep(0.2)
    assert meter.meter == "ina3221"
    assert meter.joules is not None
    assert 1.5 < meter.joules < 8.0


def test_a_bench_measures_every_stage_and_the_bare_network(detector: Detector) -> None:
    report = bench(detector, source_from(None, "test://pattern?fps=1000&width=64&height=48"), n_frames=60)
    assert set(report.stages_ms) == {"capture", "preprocess", "infer", "post", "sink"}
    assert report.frame_shape == (48, 64, 3)
    scored = sum(report.stages_ms[name].p50 for name in ("preprocess", "infer", "post"))
    assert report.end_to_end_ms.p50 > 0.8 * scored  # medians do not add up to the last digit
    assert report.overhead == pytest.approx(report.end_to_end_ms.p50 / report.bare_ms.p50, rel=0.05)
    assert report.fps > 0
    assert (report.cold_start_s, report.resident_mib) == (None, None)
    assert json.dumps(report.to_json())


def test_a_bench_needs_frames_and_a_start_needs_a_record(detector: Detector, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"absent\.avi"):
        bench(detector, source_from(None, str(tmp_path / "absent.avi"), must_exist=False))
    with pytest.raises(SourceError, match="gave no record; run it to see why"):
        cold_start(["--model", str(tmp_path / "absent.aae")])


def test_a_start_in_a_process_of_its_own_is_timed(bundle_file: Path) -> None:
    seconds, mib = cold_start(["--model", str(bundle_file), "--reject", "none"])
    assert 0 < seconds < 60
    assert 20 < mib < 400
