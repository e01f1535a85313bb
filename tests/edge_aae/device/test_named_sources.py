"""Sources with names, from the command line to records, pictures, metrics and services."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import click
import cv2
import numpy as np
import pytest

from edge_aae.commands.config_file import read_config
from edge_aae.commands.device.delivery_options import default_device
from edge_aae.commands.device.run import run
from edge_aae.commands.device.run_plan import RunPlan
from edge_aae.commands.device.service import _asked
from edge_aae.commands.device.source_options import NamedSource, NamedSources, SourceOptions, sources_of
from edge_aae.commands.secret_values import is_shown
from edge_runtime.bundle.bundle import Bundle
from edge_runtime.errors import ConfigError
from edge_runtime.operations.doctor import frame_rate
from edge_runtime.operations.service_unit import Sandbox
from tests.edge_aae.device.forking import Commands
from tests.edge_aae.device.running import Running

SECRET = "geheim-geheim-geheim"
PATTERN = "test://pattern?fps=99&frames=20&width=8&height=8"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, bundle: Bundle) -> Path:
    folder = tmp_path_factory.mktemp("place")
    bundle.write(folder / "model.aae")
    cv2.imwrite(str(folder / "a=b.png"), np.full((8, 8), 99, np.uint8))
    cv2.imwrite(str(folder / "plain.png"), np.full((8, 8), 99, np.uint8))
    return folder


@pytest.fixture(scope="module")
def commands(place: Path) -> Iterator[Commands]:
    with Commands(place) as running:
        yield running


def records(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


def test_records_pictures_and_videos_go_by_the_name(commands: Commands, place: Path) -> None:
    cv2.imwrite(str(place / "c=d.png"), np.full((8, 8), 99, np.uint8))
    ended = commands.run(
        "run", "--source", f"line3={PATTERN}", "left=c=d.png", "a=b.png", "--alarm", "1/1", "--threshold", "-1e6",
        "--record", "named/all",
    )  # fmt: skip
    assert ended.status == 0, ended.err
    assert {record["source_id"] for record in records(ended.out)} == {"line3", "left", "a=b.png"}
    assert "left (c=d.png)" in ended.err
    assert {record["type"] for record in records(ended.out) if record["source_id"] == "line3"} >= {"frame", "event"}
    assert any(file.name.startswith("line3-") for file in (place / "named/all").rglob("*.avi"))
    assert f"line3 ({PATTERN})" in ended.err  # where it is, once


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (("--source", "a=test://pattern", "--source", "a=test://defect"), "two sources are called a, expected a name"),
        (("--source", "plain.png=test://pattern", "--source", "plain.png"), "two sources are called plain.png"),
        (("--camera", "a=0", "--source", "a=test://pattern"), "two sources are called a"),
        (("--source", "a=test://pattern", "--source", "b=test://pattern"), "a source is named twice"),
        (("--source", "line 3=test://pattern"), "'line 3' cannot name a source, expected up to 64 of"),
        (("--camera", "=0"), "'' cannot name a source"),
        (("line 3=0",), "'line 3' cannot name a source"),
        (("--source", "line3="), "line3= names no source"),
        (("line3=model.aae",), "model.aae is a bundle, not a source of frames: edge-aae run SOURCE --model model.aae"),
    ],
)
def test_names_that_do_not_fit_are_refused(commands: Commands, given: tuple[str, ...], says: str) -> None:
    ended = commands.run("run", *given, "--max-frames", "1")
    assert (ended.status, says in ended.err) == (2, True), ended.err


def test_a_number_with_a_name_is_a_camera_and_devices_are_none(commands: Commands) -> None:
    named = SourceOptions(
        cameras=("line3=0", "1", "/dev/v4l/by-id/x=y", "by-id:usb-x=y"), sources=("q=test://pattern",), streams=None
    ).named()
    assert named.cameras == (
        NamedSource("line3", "0"), NamedSource("", "1"), NamedSource("", "/dev/v4l/by-id/x=y"),
        NamedSource("", "by-id:usb-x=y"),
    )  # fmt: skip
    plan = RunPlan.of(run.make_context("run", ["--camera", "line3=97"]).params)
    assert [source.source_id for source in sources_of(plan.sources, plan.capture, must_exist=False)] == ["line3"]
    ended = commands.run("run", "left=97", "--reconnect", "0", "--max-frames", "1")
    assert (ended.status, "there is no /dev/video97" in ended.err) == (4, True), ended.err
    printed = commands.run("run", "left=97", "--print-config").out
    assert 'camera = ["left=97"]' in printed


def test_names_stand_in_configurations_and_in_files_of_streams(commands: Commands, place: Path) -> None:
    given = ("--source", f"token=rtsp://user:{SECRET}@h/live", "--source", "left=plain.png")
    printed = commands.run("run", *given, "--print-config").out
    assert 'source = ["token=rtsp://***@h/live", "left=plain.png"]' in printed
    (place / "run.toml").write_text(f'source = ["left=plain.png", "token={PATTERN}"]\ncamera = []\n')
    ended = commands.run("run", "--config", "run.toml")
    assert (ended.status, "secret" in ended.err) == (0, False), ended.err
    assert {record["source_id"] for record in records(ended.out)} == {"left", "token"}
    (place / "streams.txt").write_text(f"# two\nleft=plain.png\nright={PATTERN}\n")
    ended = commands.run("run", "--streams", "streams.txt")
    assert {record["source_id"] for record in records(ended.out)} == {"left", "right"}, ended.err
    options = {option.name: option for option in run.params if option.name}
    assert read_config(place / "run.toml", options)["sources"] == ["left=plain.png", f"token={PATTERN}"]
    assert is_shown("sources", f"left=rtsp://user:{SECRET}@h/live")
    assert not is_shown("sources", "token=rtsp://h/live")


def test_a_service_looks_at_what_is_named(tmp_path: Path) -> None:
    config = tmp_path / "run.toml"
    config.write_text('source = ["left=csi://0", "right=rtsp://10.0.0.5/live"]\n')
    named, engine = _asked(config)
    assert named.locations == ["csi://0", "rtsp://10.0.0.5/live"]
    assert Sandbox.of(engine.backend, named.locations).shared_tmp
    config.write_text('source = ["left=csi://0", "left=rtsp://10.0.0.5/live"]\n')
    with pytest.raises(click.UsageError, match="two sources are called left"):
        _asked(config)
    config.write_text('source = ["le ft=csi://0"]\n')
    with pytest.raises(ConfigError, match="cannot name a source"):
        _asked(config)


def test_known_defects_are_a_folder_whatever_it_is_called() -> None:
    named = NamedSources(cameras=(), others=(NamedSource("", "a=b"),))
    assert named.locations == ["a=b"]


def test_topics_and_checks_go_by_the_name() -> None:
    assert default_device(["line3"]).endswith("-line3")
    check = frame_rate("line3=test://pattern?fps=99", seconds=0.1)
    assert (check.name, check.state) == ("camera line3", "ok")
    check = frame_rate("line3=97")
    assert "there is no /dev/video97" in check.found


def test_health_and_metrics_go_by_the_name(place: Path) -> None:
    with Running("--source", "line3=test://pattern?fps=20&width=8&height=8", cwd=place) as run:
        run.wait_for_frames(1)
        assert [source["source_id"] for source in run.health()[1]["sources"]] == ["line3"]
        assert 'edge_aae_frames_scored_total{source="line3"}' in run.metrics()
        assert "test://" not in run.metrics()


def test_calibrate_takes_names(commands: Commands) -> None:
    ended = commands.run("calibrate", "--source", "left=plain.png", "--loop", "30", "--frames", "30")
    assert ended.status == 0, ended.err
    assert "frames of left" in ended.err
    commands.run("calibrate", "--undo")
    ended = commands.run("calibrate", "--source", "left=model.aae")
    assert "model.aae is a bundle, not a source of frames" in ended.err
