"""A run's plan: what was asked, typed and checked as a whole before a bundle, a source or a file is opened."""

from __future__ import annotations

import math
import re
from dataclasses import fields
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner

from edge_aae.cli import cli
from edge_aae.commands.device.run import run
from edge_aae.commands.device.run_plan import AlarmOptions, RunPlan
from edge_aae.commands.device.source_options import SourceOptions
from edge_aae.commands.option_groups import OptionGroup
from edge_runtime.errors import ConfigError
from edge_runtime.model.images import write_image
from edge_runtime.watching.guard import GuardSettings

SOURCE = ("--source", "test://pattern")


def plan_of(*arguments: str) -> RunPlan:
    return RunPlan.of(run.make_context("run", list(arguments)).params)


def test_every_option_of_a_run_belongs_to_one_part_of_the_plan() -> None:
    plan = plan_of(*SOURCE)
    parts = [type(getattr(plan, part.name)) for part in fields(plan)]
    groups = [SourceOptions, *(part for part in parts if issubclass(part, OptionGroup))]
    held = [field.name for group in groups for field in fields(group)]
    assert sorted([*held, "model", "max_pixels", "config", "print_config", "places"]) == sorted(
        str(option.name) for option in run.params
    )


def test_options_become_the_pipelines_settings() -> None:
    plan = plan_of(
        *SOURCE, "--every", "3", "--max-fps", "7", "--max-age-ms", "250", "--stall-timeout", "2", "--reconnect", "4",
        "--backoff", "0.5:8", "--reject", "black,size", "--alarm", "2/4", "--clear-threshold", "0.5", "--cooldown", "9",
        "--clear-frames", "6", "--min-duration", "0.25", "--smooth", "median:5", "--drift", "100", "--boxes",
    )  # fmt: skip
    settings = plan.settings(1.5)
    feed, alarm = settings.feed, settings.alarm
    assert (feed.every, feed.max_fps, feed.max_age_ms, feed.stall_timeout_s, feed.reconnects) == (3, 7, 250, 2, 4)
    assert (feed.backoff.first_s, feed.backoff.most_s) == (0.5, 8.0)
    assert feed.guard == GuardSettings(checks=("black", "size"))
    assert alarm is not None
    assert (alarm.enter, alarm.clear, alarm.n, alarm.m, alarm.clear_frames) == (1.5, 0.5, 2, 4, 6)
    assert (alarm.min_duration_s, alarm.cooldown_s) == (0.25, 9.0)
    assert (settings.smoothing, settings.drift, settings.boxes) == ("median:5", 100, True)


def test_without_options_a_run_waits_for_ever_and_watches_for_no_events() -> None:
    plan = plan_of(*SOURCE)
    settings = plan.settings(1.0)
    assert plan.feed.patient
    assert settings.alarm is None
    assert settings.feed.reconnects == settings.feed.max_fps == math.inf
    assert settings.feed.guard is None
    assert plan_of(*SOURCE, "--reject", "none").settings(1.0).feed.guard == GuardSettings(checks=())
    assert not plan_of(*SOURCE, "--reconnect", "0").feed.patient
    assert plan_of(*SOURCE, "--alarm", "3/5").settings(0.75).alarm == AlarmOptions.of(
        run.make_context("run", [*SOURCE, "--alarm", "3/5", "--clear-threshold", "0.75"]).params
    ).settings(0.75)


def test_lines_of_streams_are_sources_and_named_once(tmp_path: Path) -> None:
    (tmp_path / "streams.txt").write_text("# the hall\nrtsp://10.0.0.5/live\n\n  test://black \n")
    named = plan_of("--camera", "0", *SOURCE, "--streams", str(tmp_path / "streams.txt")).sources
    assert [one.location for one in named.cameras] == ["0"]
    assert [one.location for one in named.others] == ["test://pattern", "rtsp://10.0.0.5/live", "test://black"]
    with pytest.raises(click.UsageError, match="a source is named twice among test://black, rtsp"):
        plan_of("--source", "test://black", "--streams", str(tmp_path / "streams.txt"))


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        (("--fourcc", "RGB"), ConfigError, "expected four letters"),
        (("--smooth", "mean:3"), ConfigError, "expected none, ema:WEIGHT or median:LENGTH"),
        (("--alarm", "7/5"), ConfigError, "alarm needs 7 of 5 frames"),
        (("--alarm", "3/5", "--cooldown", "-1"), ConfigError, "cooldown -1.0 s"),
        (("--backoff", "9:3"), ConfigError, "--backoff is 9:3, expected FIRST:MOST"),
        (("--max-fps", "0"), ConfigError, "--max-fps is 0, expected a number above 0"),
        (("--max-age-ms", "-5"), ConfigError, "--max-age-ms is -5, expected a number above 0"),
        (("--stall-timeout", "0"), ConfigError, "--stall-timeout is 0, expected seconds above 0"),
        (("--smooth", "ema:3"), ConfigError, "--smooth is ema:3, expected a weight above 0 and at most 1"),
        (("--smooth", "median:0"), ConfigError, "--smooth is median:0, expected 1 or more scores, such as median:5"),
        (("--smooth", "ema:much"), ConfigError, "--smooth is 'ema:much': 'much' is no number"),
        (("--reject", "blurred"), ConfigError, "--reject names blurred, expected some of repeated, .* or none"),
        (("--mqtt", "http://broker", "--alarm", "1/1"), ConfigError, "expected mqtt://HOST:PORT"),
        (("--webhook", "broker", "--alarm", "1/1"), ConfigError, "does not begin with http:// or https"),
        (("--mqtt-key", "key.pem"), ConfigError, "certificates are for --mqtt"),
        (("--webhook-token", "t"), ConfigError, "a token is for --webhook"),
        (("--serve-token", "t" * 16), ConfigError, "a token is for --serve"),
        (("--serve-view-token", "@absent"), ConfigError, "a token is for --serve"),
        (("--mqtt", "mqtt://broker"), click.UsageError, "--mqtt, --webhook and --outbox carry events"),
        (("--outbox", "events.db"), click.UsageError, "--mqtt, --webhook and --outbox carry events"),
        (("--clips", "clips"), click.UsageError, "--snapshots and --clips are of events"),
        (("--clips", "c", "--record", "x/../c"), click.UsageError, "need a folder each"),
        (("--out", "a.csv", "--out", "a.csv"), click.UsageError, "names one place twice"),
        (("--serve", "here"), ConfigError, "--serve is 'here'"),
        (("--metrics", "here"), ConfigError, "--metrics is 'here'"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_told_before_anything_is_opened(
    arguments: tuple[str, ...], error: type[Exception], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=says):
        plan_of(*SOURCE, *arguments)
    ended = CliRunner().invoke(run, ["--source", "nowhere.avi", "--model", "none.aae", *arguments])
    assert isinstance(ended.exception, error) or says in ended.output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--alarm", "1/1"], "so --alarm does nothing with it; try a camera, a video or test://pattern"),
        (["--alarm", "1/1", "--snapshots", "s", "--webhook", "http://h/"], "so --alarm, --snapshots, --webhook do"),
        (["--serve", ":0", "--clips", "c"], "so --clips does nothing"),
        (["--serve", ":0"], ""),
        (["--alarm", "none"], ""),
    ],
    ids=str,
)
def test_options_about_events_are_said_to_do_nothing_with_image_files(
    arguments: list[str], says: str, bundle_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    write_image(tmp_path / "photos/a.png", np.arange(64, dtype=np.uint8).reshape(8, 8))
    shared = ["--model", str(bundle_file), "--out", "log.jsonl", "--max-frames", "1"]
    ended = CliRunner().invoke(cli, ["run", "photos", "test://pattern?width=8&height=8", *shared, *arguments])
    assert ended.exit_code == 0, ended.output
    assert ended.stderr.count("photos: image files begin no events") == bool(says)
    assert says in ended.stderr


def test_files_of_records_are_bounded_unless_asked_otherwise_and_that_is_said() -> None:
    files = plan_of(*SOURCE, "--out", "a.jsonl", "--out", "-", "--out", "b.csv").sinks
    assert (files.rotate_bytes, files.rotate_keep) == (100_000_000, 10)
    assert files.bounds() == (
        "a.jsonl, b.csv: a new file each 100 MB, with 10 older ones kept (--rotate-mb, --rotate-keep)"
    )
    assert plan_of(*SOURCE).sinks.bounds() is None
    endless = plan_of(*SOURCE, "--out", "a.jsonl", "--rotate-mb", "0", "--rotate-keep", "3").sinks
    assert endless.rotate_bytes == 0
    assert endless.bounds() == "a.jsonl: one file each, of any size (--rotate-mb 0)"
    every = plan_of(*SOURCE, "--out", "a.jsonl", "--rotate-mb", "0.0000001", "--rotate-keep", "0").sinks
    assert every.rotate_bytes == 1
    assert "with all older ones kept" in str(every.bounds())


@pytest.mark.parametrize("quiet", [True, False])
def test_a_quiet_run_says_nothing_but_errors(
    quiet: bool, bundle_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of two files cannot be read, which is a warning."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    write_image(tmp_path / "photos/a.png", np.arange(64, dtype=np.uint8).reshape(8, 8))
    (tmp_path / "photos/b.png").write_bytes(b"")
    level = ["--quiet"] if quiet else []
    ended = CliRunner().invoke(
        cli, [*level, "run", "--source", "photos", "--model", str(bundle_file), "--out", "log.jsonl"]
    )
    assert (ended.exit_code, ended.stdout) == (0, ""), ended.output
    assert (ended.stderr == "") is quiet, ended.stderr
    assert ("log.jsonl: a new file each 100 MB" in ended.stderr) is not quiet
    assert ("frame not scored" in ended.stderr) is not quiet


def test_what_a_run_could_not_deliver_is_said_at_its_end(
    bundle_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    source = "test://pattern?fps=99&frames=20&width=8&height=8"
    to = ["--webhook", "http://127.0.0.1:9/", "--outbox", "kept.db", "--out", "log.jsonl"]
    ended = CliRunner().invoke(
        cli, ["run", source, "--model", str(bundle_file), "--alarm", "1/1", "--threshold", "-1e6", *to]
    )
    assert ended.exit_code == 0, ended.output
    assert "http://127.0.0.1:9/ refuses connections; is its server running? Trying again" in ended.stderr
    assert re.search(r"\d messages are not delivered yet: they wait in kept.db for the next run", ended.stderr)


def test_a_clearing_threshold_is_checked_against_the_detectors() -> None:
    plan = plan_of(*SOURCE, "--alarm", "3/5", "--clear-threshold", "1.2")
    assert plan.settings(1.5).alarm is not None
    with pytest.raises(ConfigError, match=r"enters above 1\.0 and clears at 1\.2"):
        plan.settings(1.0)


def test_a_configuration_is_printed_of_options_that_do_not_fit() -> None:
    printed = CliRunner().invoke(run, ["--alarm", "7/5", "--snapshots", "s", "--print-config"])
    assert printed.exit_code == 0
    assert 'alarm = "7/5"' in printed.output
