"""A run that stays: its config file, what systemd hears of it, and a threshold that moves while it runs."""

from __future__ import annotations

import json
import shutil
import signal
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from edge_runtime.bundle.bundle import Bundle
from tests.edge_aae.conftest import Cli
from tests.edge_aae.device.running import Running

SOURCE = "test://pattern?fps=50&width=64&height=48"


def test_a_printed_config_gives_the_same_run_and_flags_win(workplace: Path, cli: Cli, tmp_path: Path) -> None:
    arguments = (
        "--source", SOURCE, "--source", "test://black", "--alarm", "2/4", "--backoff", "0.5:2", "--reconnect", "7",
        "--out", tmp_path / "a.jsonl", "--rotate-mb", "2.5", "--target-fpr", "5%", "--events-only",
    )  # fmt: skip
    printed = cli("run", *arguments, "--print-config", cwd=workplace)
    assert printed.returncode == 0, printed.stderr
    (tmp_path / "run.toml").write_text(printed.stdout)
    again = cli("run", "--config", tmp_path / "run.toml", "--print-config", cwd=workplace)
    assert again.stdout == printed.stdout
    other = cli("run", "--config", tmp_path / "run.toml", "--alarm", "1/1", "--print-config", cwd=workplace)
    assert 'alarm = "1/1"' in other.stdout
    assert 'backoff = "0.5:2"' in other.stdout


def test_a_run_takes_its_options_from_the_file(workplace: Path, cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text(f'source = ["{SOURCE}"]\nmax_frames = 3\nthreads = 1\n')
    ended = cli("run", "--config", tmp_path / "run.toml", cwd=workplace)
    assert ended.returncode == 0, ended.stderr
    assert len(ended.stdout.splitlines()) == 3


def test_passwords_are_not_printed(workplace: Path, cli: Cli) -> None:
    arguments = (
        "--source",
        "rtsp://me:secret@host/live",
        "--webhook-token",
        "secret",
        "--mqtt",
        "mqtt://me:secret@host",
    )
    printed = cli("run", *arguments, "--print-config", cwd=workplace)
    assert "rtsp://***@host/live" in printed.stdout
    assert "secret" not in printed.stdout


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("sorce = 3", "sets 'sorce', which is no option here"),
        ('source = "x"', "expected a list"),
        ("threads = [1]", "expected one value"),
        ("[run]", "has a section [run]; options stand without sections"),
        ("a =", "expected TOML"),
        ('max-frames = "many"', "run.toml: max-frames: 'many' is not a valid integer"),
    ],
)
def test_a_file_that_does_not_fit_is_an_error(workplace: Path, cli: Cli, tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "run.toml").write_text(text)
    ended = cli("run", "--config", tmp_path / "run.toml", cwd=workplace)
    assert ended.returncode in (1, 2)
    assert says in ended.stderr
    assert "Traceback" not in ended.stderr


def test_systemd_hears_of_readiness_life_and_end(
    workplace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(5.0)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "600000")
        with Running("--source", SOURCE, "--systemd", cwd=workplace) as run:
            first = listener.recv(4096).decode().split("\n")
            assert first[:2] == ["READY=1", "WATCHDOG=1"]
            assert first[2].startswith("STATUS=0 frames")
            for _ in range(3):
                assert "WATCHDOG=1" in listener.recv(4096).decode()
            run.process.send_signal(signal.SIGSTOP)  # as a scorer that hangs
            listener.settimeout(1.0)
            with suppress(TimeoutError):
                while True:
                    listener.recv(4096)  # what it had said before
            run.process.send_signal(signal.SIGCONT)
            assert "WATCHDOG=1" in listener.recv(4096).decode()
            run.process.terminate()
            while "STOPPING=1" not in listener.recv(4096).decode():
                pass
            assert run.end() == 0


def test_a_log_says_now_and_then_how_the_run_goes(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, workplace: Path
) -> None:
    from edge_aae.commands.device import upkeep
    from edge_runtime.scoring.detector import Detector
    from edge_runtime.sources import source_from
    from edge_runtime.stream.pipeline import Pipeline

    monkeypatch.setattr(upkeep, "LOG_S", 0.2)
    monkeypatch.setattr("sys.stderr.isatty", lambda: False, raising=False)
    caplog.set_level("INFO", logger="edge_aae")
    detector = Detector.load(workplace / "model.aae")
    care = upkeep.Upkeep(lambda: False, None)
    source = source_from(None, "test://pattern?fps=50&width=64&height=48&frames=30")
    care.pipeline = Pipeline(detector, [source], pulse=care.pulse)
    care.pipeline.run()
    lines = [record.message for record in caplog.records if "a second" in record.message]
    assert 1 <= len(lines) <= 5
    assert " frames, " in lines[0]


def test_sighup_takes_up_a_new_calibration(workplace: Path, cli: Cli, tmp_path: Path) -> None:
    model = Path(shutil.copy(workplace / "model.aae", tmp_path / "model.aae"))
    with Running("--source", SOURCE, "--alarm", "1/1", "--model", model, cwd=tmp_path) as run:
        run.wait_for_frames(5)
        source = "test://pattern?fps=1000&width=64&height=48&seed=4"
        made = cli("calibrate", model, "--source", source, "--frames", "200", cwd=tmp_path)
        assert made.returncode == 0, made.stderr
        threshold = json.loads(Path(f"{model}.calibration.json").read_text())["threshold"]
        before = run.frames()[-1]["threshold"]
        assert before != threshold
        run.process.send_signal(signal.SIGHUP)
        run.wait_for(lambda: run.frames()[-1]["threshold"] == threshold, "the new threshold")
        Path(f"{model}.calibration.json").write_text("damaged")
        run.process.send_signal(signal.SIGHUP)
        run.wait_for(lambda: any("threshold and view stay as they are" in line for line in run.said), "the warning")
        run.wait_for_frames(3)
        assert run.frames()[-1]["threshold"] == threshold
        assert run.stop() == 0


def test_a_bundle_that_replaces_the_one_in_use_is_verified_and_taken_up(
    workplace: Path, cli: Cli, tmp_path: Path
) -> None:
    model = Path(shutil.copy(workplace / "model.aae", tmp_path / "model.aae"))
    old = Bundle.open(model)
    renamed = {**old.manifest, "training": {**old.manifest["training"], "device": "another"}}
    Bundle.from_parts(renamed, old.files, tmp_path).write(tmp_path / "other.aae")
    source = "test://pattern?fps=20&width=64&height=48"
    kept = ("--last-good", "good.aae")
    with Running("--source", source, "--model", model, "--watch-model", *kept, cwd=tmp_path) as run:
        run.wait_for_frames(3)
        first = run.frames()[0]["model"]
        (tmp_path / "part").write_bytes(model.read_bytes()[:-1000])
        (tmp_path / "part").replace(model)
        refused = run.wait_for_status("MODEL_REFUSED")
        assert refused["payload"]["model"] == first
        run.wait_for_frames(3)
        assert run.frames()[-1]["model"] == first
        (tmp_path / "other.aae").replace(model)
        swapped = run.wait_for_status("MODEL_SWAPPED")
        assert swapped["payload"]["before"] == first != swapped["payload"]["model"]
        run.wait_for(lambda: run.frames()[-1]["model"] == swapped["payload"]["model"], "a frame of the new bundle")
        assert run.stop() == 0
    ids = [record["frame_id"] for record in run.frames()]
    assert ids == sorted(ids)
    model.write_bytes(b"half a file, and then the power went")
    again = cli("run", "--source", source, "--model", model, *kept, "--max-frames", "3", cwd=tmp_path)
    records = [json.loads(line) for line in again.stdout.splitlines()]
    assert again.returncode == 0, again.stderr
    assert [record["event_type"] for record in records if record["type"] == "status"] == ["MODEL_REFUSED"]
    assert {r["model"] for r in records if r["type"] == "frame"} == {swapped["payload"]["model"]}


def test_power_and_temperatures_are_reported_where_the_board_tells(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, workplace: Path, tmp_path: Path
) -> None:
    from edge_aae.commands.device.upkeep import Upkeep
    from edge_runtime.operations import power
    from edge_runtime.scoring.detector import Detector
    from edge_runtime.sources import source_from
    from edge_runtime.stream.pipeline import Pipeline

    (tmp_path / "class/thermal/thermal_zone0").mkdir(parents=True)
    (tmp_path / "class/thermal/thermal_zone0/temp").write_text("51500")
    (tmp_path / "class/thermal/thermal_zone0/type").write_text("cpu-thermal")
    (tmp_path / "status").write_text("pmode:0002")
    told = power.board_state(tmp_path, tmp_path / "status")
    assert told == {"mode": "pmode:0002", "temperatures_c": {"cpu-thermal": 51.5}}
    detector = Detector.load(workplace / "model.aae")
    for state, expected in ((told, 2), ({}, 0)):
        monkeypatch.setattr(power, "board_state", lambda state=state: state)
        records: list[dict[str, Any]] = []
        care = Upkeep(lambda: False, None, power_s=0.2)
        source = source_from(None, "test://pattern?fps=50&width=64&height=48&frames=30")
        care.pipeline = Pipeline(detector, [source], records.append, pulse=care.pulse)
        care.pipeline.run()
        found = [record for record in records if record["type"] == "status"]
        assert len(found) >= expected
        assert all(record["payload"] == told and record["event_type"] == "BOARD_POWER" for record in found)
        assert bool(found) == bool(state)
    assert caplog.text.count("tells neither power mode") == 1


def test_the_little_curve_shows_scores_against_the_threshold() -> None:
    from edge_aae.commands.device.upkeep import sparkline

    assert sparkline([0.0, 0.5, 1.0, 1.1], 1.0) == "▁▄▇█"
    assert sparkline([5.0], 1.0) == "█"
    assert sparkline([], 1.0) == ""
    assert sparkline([-3.0, -3.0], -2.0) == "▁▁"


def test_a_shadow_is_noted_beside_and_summed_up_before_the_run(
    workplace: Path, cli: Cli, photos: Path, tmp_path: Path
) -> None:
    shutil.copy(workplace / "model.aae", tmp_path / "new.aae")
    arguments = "run", "--source", photos / "test", "--threads", "1"
    alone = cli(*arguments, cwd=workplace)
    beside = cli(*arguments, "--shadow", tmp_path / "new.aae", cwd=workplace)
    assert beside.returncode == alone.returncode == 0, beside.stderr
    digest = Bundle.open(workplace / "model.aae").digest
    said = beside.stderr.splitlines()
    assert f"shadow {tmp_path / 'new.aae'} sha256:{digest[:12]}, threshold 1: noted, never acted on" in said
    assert said[-2] == (
        f"shadow {tmp_path / 'new.aae'} sha256:{digest[:12]}: 16 frames compared, 0 normal -> anomalous, "
        "0 anomalous -> normal, 0 skipped"
    )
    assert said[-1].split(", latency")[0] == alone.stderr.splitlines()[-1].split(", latency")[0]
    for line, before in zip(beside.stdout.splitlines(), alone.stdout.splitlines(), strict=True):
        record = json.loads(line)
        noted = record.pop("shadow")
        assert (noted["score"], noted["anomalous"]) == (record["score"], record["is_anomaly"])
        assert list(record) == list(json.loads(before))


@pytest.mark.parametrize(
    ("content", "says"), [(None, "no bundle at"), (b"no bundle", "new.aae")], ids=["none", "broken"]
)
def test_a_shadow_that_cannot_be_opened_is_an_error_before_anything_runs(
    workplace: Path, cli: Cli, photos: Path, tmp_path: Path, content: bytes | None, says: str
) -> None:
    if content is not None:
        (tmp_path / "new.aae").write_bytes(content)
    ended = cli(
        "run", "--source", photos / "test", "--shadow", tmp_path / "new.aae", "--out", tmp_path / "a.jsonl",
        cwd=workplace,
    )  # fmt: skip
    assert ended.returncode == 1
    assert says in ended.stderr.splitlines()[-1]
    assert not (tmp_path / "a.jsonl").exists()
    assert "frames" not in ended.stderr
