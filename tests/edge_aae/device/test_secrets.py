"""Passwords, tokens and what a camera saw: who can read them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_aae.commands.config_file import read_config
from edge_aae.commands.device.run import run
from edge_aae.commands.device.source_options import SourceOptions
from edge_aae.commands.secret_values import is_shown, secret_of
from edge_runtime.bundle.bundle import Bundle
from edge_runtime.errors import ConfigError
from tests.edge_aae.device.forking import Commands
from tests.edge_aae.device.running import Running

SECRET = "geheim-geheim-geheim"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, bundle: Bundle) -> Path:
    """A bundle and a few frames for it, the last of them odd."""
    folder = tmp_path_factory.mktemp("place")
    bundle.write(folder / "model.aae")
    (folder / "frames").mkdir()
    for number in range(6):
        frame = np.full((8, 8), 99, np.uint8)
        frame[:, 4:] = 255 if number > 3 else 99
        cv2.imwrite(str(folder / f"frames/{number}.png"), frame)
    return folder


@pytest.fixture(scope="module")
def commands(place: Path) -> Iterator[Commands]:
    with Commands(place) as running:
        yield running


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--mqtt", f"mqtt://user:{SECRET}@127.0.0.1:1"), "--mqtt: .*--mqtt @FILE or EDGE_AAE_MQTT in the environment"),
        (
            ("--webhook", "http://127.0.0.1:1/", "--webhook-token", SECRET),
            "--webhook-token: .*better --webhook-token @FILE",
        ),
        (("--webhook", f"http://u:{SECRET}@127.0.0.1:1/"), "--webhook: .*better --webhook @FILE"),
        (("--serve-token", SECRET), "--serve-token: .*--serve-token @FILE or EDGE_AAE_SERVE_TOKEN"),
        (("--serve-view-token", SECRET), "--serve-view-token: .*EDGE_AAE_SERVE_VIEW_TOKEN in the environment"),
        (("--source", f"rtsp://user:{SECRET}@127.0.0.1:1/"), "--source: .*better run with --config FILE"),
    ],
)
def test_a_secret_on_the_command_line_is_warned_of_and_never_shown_again(
    commands: Commands, arguments: tuple[str, ...], says: str
) -> None:
    given = ("--source", "frames", "--out", "/dev/null", "--alarm", "1/1", "--reconnect", "0")
    ended = commands.run("run", *given, *arguments, "--max-frames", "1", "--outbox", "warned.db")
    assert re.search(rf"^{says}", ended.err, flags=re.MULTILINE), ended.err
    assert SECRET not in ended.out + ended.err


def test_secrets_in_files_and_in_the_configuration_are_taken_without_a_warning(commands: Commands, place: Path) -> None:
    for name, content in (("token", SECRET), ("broker", f"mqtt://user:{SECRET}@127.0.0.1:1")):
        (place / name).write_text(f"{content}\n")
        (place / name).chmod(0o600)
    arguments = ("--source", "frames", "--out", "/dev/null", "--alarm", "1/1", "--webhook", "http://127.0.0.1:1/",
                 "--outbox", "files.db")  # fmt: skip
    secrets = ("--mqtt", "@broker", "--webhook-token", "@token", "--serve", ":0", "--serve-token", "@token")
    ended = commands.run("run", *arguments, *secrets, "--max-frames", "1")
    assert (ended.status, "command line" in ended.err) == (0, False), ended.err
    printed = commands.run("run", *arguments, *secrets, "--print-config").out
    assert 'webhook-token = "@token"' in printed
    assert 'mqtt = "@broker"' in printed
    (place / "run.toml").write_text(printed.replace("@broker", f"mqtt://user:{SECRET}@127.0.0.1:1"))
    ended = commands.run("run", "--config", "run.toml", "--max-frames", "1")
    assert (ended.status, "command line" in ended.err) == (0, False), ended.err
    hidden = commands.run("run", *arguments, "--webhook-token", SECRET, "--print-config").out
    assert "# webhook-token =" in hidden
    assert SECRET not in hidden


@pytest.mark.parametrize("content", [None, b"", b"\n\n", b"one\ntwo\n", b"\xff\xfe", b"x" * 9000])
def test_a_file_that_has_no_secret_in_it_is_refused_by_name(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "token").write_bytes(content)
    with pytest.raises(ConfigError, match=f"{tmp_path}/token.*expected") as refused:
        secret_of(f"@{tmp_path}/token", "--serve-token")
    assert "xxx" not in str(refused.value)


def test_a_secret_that_everyone_may_read_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "token"
    file.write_text(f" {SECRET}\n")
    for mode, warned in ((0o640, False), (0o644, True)):
        file.chmod(mode)
        assert secret_of(f"@{file}", "--serve-token") == SECRET
        assert (f"{file} may be read by everyone" in caplog.text) == warned
    assert secret_of(SECRET, "--serve-token") == SECRET


@pytest.mark.parametrize("kind", ["config", "streams"])
def test_a_file_with_a_password_in_it_that_everyone_may_read_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    file, url = tmp_path / "file", f"rtsp://user:{SECRET}@h/live"
    file.write_text(f'source = ["{url}"]\n' if kind == "config" else f"{url}\n")
    options = {option.name: option for option in run.params if option.name}

    def read() -> None:
        if kind == "config":
            read_config(file, options)
        else:
            SourceOptions(cameras=(), sources=(), streams=file).named()

    for mode, warned in ((0o600, False), (0o644, True)):
        file.chmod(mode)
        read()
        assert (f"{file} may be read by everyone" in caplog.text) == warned
    assert SECRET not in caplog.text


def test_a_token_of_the_wrong_kind_in_a_configuration_is_not_shown(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    options = {option.name: option for option in run.params if option.name}
    for line in (f'webhook-token = ["{SECRET}"]', f'mqtt = ["mqtt://u:{SECRET}@h"]'):
        file.write_text(line)
        with pytest.raises(ConfigError, match="expected one value") as refused:
            read_config(file, options)
        assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--mqtt", "broker"), "--mqtt is 'broker', expected mqtt://HOST:PORT or mqtts://HOST:PORT; try mqtt://broker"),
        (("--mqtt", "10.0.0.7:1883"), "--mqtt is '10.0.0.7:1883', expected .*; try mqtt://10.0.0.7:1883"),
        (("--mqtt", "http://broker"), "--mqtt is 'http://broker', expected mqtt://HOST:PORT"),
        (("--mqtt", f"user:{SECRET}@broker"), "--mqtt .not shown, it may hold a secret. does not begin with mqtt://"),
        (("--mqtt", f"broker?password={SECRET}"), "--mqtt .not shown, it may hold a secret. does not begin"),
        (("--mqtt", "@named"), "--mqtt .not shown, it may hold a secret. does not begin"),
        (("--webhook", f"hooks.example.com/{SECRET}"), "--webhook .not shown, it may hold a secret. does not begin"),
    ],
    ids=str,
)
def test_an_address_without_its_beginning_is_shown_where_it_can_hold_no_secret(
    commands: Commands, place: Path, arguments: tuple[str, ...], says: str
) -> None:
    (place / "named").write_text(SECRET)
    (place / "named").chmod(0o600)
    ended = commands.run("run", "--source", "frames", "--alarm", "1/1", *arguments)
    assert ended.status == 2
    assert re.search(says, ended.err), ended.err
    assert SECRET not in ended.err


def test_what_is_a_secret_is_known() -> None:
    assert is_shown("serve_token", SECRET)
    assert is_shown("sources", "rtspsrc location=rtsp://u:p@h/live ! appsink")
    assert not any(is_shown("serve_token", value) for value in ("@file", "", None))
    assert not is_shown("mqtt", "mqtt://broker:1883")


def test_tokens_that_are_short_and_two_sources_alike_are_refused_without_telling_them(commands: Commands) -> None:
    ended = commands.run("run", "--source", "frames", "--serve", ":0", "--serve-token", "hunter2")
    assert ended.status == 2
    assert "--serve-token has 7 characters, expected 16 or more" in ended.err
    assert "hunter2" not in ended.err
    twice = ("--source", f"rtsp://user:{SECRET}@h/") * 2
    ended = commands.run("run", *twice)
    assert (ended.status, SECRET in ended.err) == (2, False), ended.err


def test_what_a_run_writes_is_its_user_s_alone(commands: Commands, place: Path) -> None:
    ended = commands.run(
        "run", "--source", "test://pattern?fps=99&frames=20&width=8&height=8", "--alarm", "1/1", "--threshold", "-1e6",
        "--out", "own/log.jsonl", "--out", "own/table.csv", "--outbox", "own/events.db", "--snapshots", "own/shots",
        "--clips", "own/clips", "--record", "own/all",
    )  # fmt: skip
    assert ended.status == 0, ended.err
    files = [file for file in (place / "own").rglob("*") if file.is_file()]
    assert {file.suffix for file in files} >= {".jsonl", ".csv", ".db", ".jpg", ".avi"}
    assert {file.name: oct(file.stat().st_mode) for file in files if file.stat().st_mode & 0o077} == {}


def test_a_token_that_was_made_is_in_a_file_and_in_no_log(place: Path, tmp_path: Path) -> None:
    pytest.importorskip("starlette", reason="starlette is not installed")
    with Running("--source", "test://pattern?fps=20&width=8&height=8", "--model", place / "model.aae", "--serve",
                 "0.0.0.0:0", cwd=tmp_path) as running:  # fmt: skip
        running.wait_for(lambda: any("live page at" in line for line in running.said), "the live page")
        file = tmp_path / "edge-aae-live-page"
        assert file.stat().st_mode & 0o777 == 0o600
        token = file.read_text().strip().partition("?token=")[2]
        assert len(token) >= 16
        assert token not in "".join(running.said)
        assert any(line.rstrip().endswith(f"(with its token: {file.name})") for line in running.said)
