"""Names of sources: what is one, what only looks like one, and what goes by it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_runtime.errors import ConfigError, SourceError
from edge_runtime.model.images import write_image
from edge_runtime.redact import redact
from edge_runtime.sources import source_from, split_name
from edge_runtime.sources.contract import CaptureSettings, described
from edge_runtime.sources.selection import shown_source

SECRET = "geheim#geheim"


@pytest.mark.parametrize(
    ("text", "name", "location"),
    [
        ("line3=rtsp://10.0.0.5/live", "line3", "rtsp://10.0.0.5/live"),
        ("line3=rtsp://10.0.0.5/live?a=b=c", "line3", "rtsp://10.0.0.5/live?a=b=c"),
        ("Line_3.left-2=0", "Line_3.left-2", "0"),
        (f"{'n' * 64}=0", "n" * 64, "0"),
        ("token=rtsp://10.0.0.5/live", "token", "rtsp://10.0.0.5/live"),
        ("line3=v4l2src device=/dev/video2 ! videoconvert", "line3", "v4l2src device=/dev/video2 ! videoconvert"),
        ("line3=test://freeze?at=1", "line3", "test://freeze?at=1"),
        ("line3=-", "line3", "-"),
    ],
)
def test_a_name_stands_before_the_first_equals_sign(text: str, name: str, location: str) -> None:
    assert split_name(text) == (name, location)


@pytest.mark.parametrize(
    "text",
    [
        "rtsp://host/x?y=1", "http://host/cgi?user=a&password=b", "test://freeze?at=1", "./a=b.png", "/data/a=b.png",
        "/dev/v4l/by-id/x=y", "by-id:usb-x=y", "v4l2src device=/dev/video2 ! videoconvert", "photos/good", "0", "-",
        "rtsp:=x", "fakesrc ! a=b",
    ],
)  # fmt: skip
def test_what_holds_an_equals_sign_elsewhere_has_no_name(text: str) -> None:
    assert split_name(text) == ("", text)


def test_a_file_is_a_file_whatever_it_is_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c=d").mkdir()
    for name in ("a=b.png", "a=c.png", "c=d/e.png", "b.png", "line 3=b.png"):
        write_image(tmp_path / name, np.zeros((8, 8, 3), np.uint8))
    for text in ("a=b.png", "a=*.png", "c=d", "c=d/e.png", "line 3=b.png"):
        assert split_name(text) == ("", text)
        assert source_from(None, text).source_id == text
    assert split_name("z=b.png") == ("z", "b.png")
    assert split_name("x=y", folder=f"{tmp_path}/") == ("x", "y")
    (tmp_path / "x=y").touch()
    assert split_name("x=y", folder=f"{tmp_path}/") == ("", "x=y")


@pytest.mark.parametrize(
    "text", ["=0", "line 3=0", "linie\u00e4=rtsp://h/x", f"{'n' * 65}=0", "line\n=0", "a,b=0", "\u0663=0", "(x)=y.png"]
)
def test_a_name_of_other_characters_is_refused_and_says_which_fit(text: str) -> None:
    with pytest.raises(ConfigError, match=r"cannot name a source, expected up to 64 of A-Z, a-z, 0-9, -, _ and \."):
        split_name(text)
    with pytest.raises(ConfigError, match="cannot name a source"):
        source_from(None, "test://pattern", name=text.rpartition("=")[0] or " ")


def test_a_name_alone_names_no_source() -> None:
    with pytest.raises(ConfigError, match=r"line3= names no source, expected NAME=SOURCE"):
        split_name("line3=")


def test_a_name_hides_no_password_and_is_none_itself() -> None:
    url = f"rtsp://user:{SECRET}@h/live"
    _, location = split_name(f"cam={url}")
    source_from(None, location, name="cam")
    assert SECRET not in redact(f"nobody could read {url} or {SECRET}")
    assert shown_source(f"token={url}") == "token=rtsp://***@h/live"
    assert shown_source("key=0") == "key=0"
    with pytest.raises(ConfigError) as refused:
        split_name("line 3=rtsp://user:another-geheim@h/live")
    assert "another-geheim" not in str(refused.value)


def test_a_named_source_is_called_so_and_messages_say_where_it_is(tmp_path: Path) -> None:
    source = source_from(None, "test://refuse?at=0&for=9", name="line3")
    assert (source.source_id, described(source)) == ("line3", "line3 (test://refuse?at=0&for=9)")
    with pytest.raises(SourceError, match=r"cannot open source line3 \(test://refuse\?at=0&for=9\): refused"):
        source.open()
    assert described(source_from(97, None, must_exist=False, name="line3")) == "line3 (camera 97)"
    assert described(source_from(97, None, must_exist=False)) == "camera 97"
    folder = source_from(None, str(tmp_path), name="line3")
    with pytest.raises(SourceError, match=rf"cannot open source line3 \({tmp_path}\): it holds no"):
        folder.open()


def test_the_parts_of_an_http_source_are_called_so_too() -> None:
    source = source_from(None, "http://user:geheim-geheim@127.0.0.1:1/live", name="line3")
    with pytest.raises(SourceError, match=r"cannot open source line3 \(http://\*\*\*@127.0.0.1:1/live\): ") as refused:
        source.open()
    assert "geheim-geheim" not in str(refused.value)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"width": 640, "fps": 5.0}, "takes no --width, --fps: it is asked of a camera"),
        ({"fourcc": "MJPG", "loop": 2}, "takes no --fourcc: it is asked of a camera"),
        ({"raw": (8, 8, 3)}, "takes no --raw: it is for standard input"),
        ({"loop": 0, "flip": "180"}, ""),
        ({}, ""),
    ],
)
def test_what_a_folder_cannot_take_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, settings: dict[str, Any], said: str
) -> None:
    write_image(tmp_path / "a.png", np.zeros((8, 8), np.uint8))
    source_from(None, str(tmp_path), CaptureSettings(**settings))
    assert [record.getMessage().partition(" ")[2] for record in caplog.records] == ([said] if said else [])


def test_what_streams_and_a_sensor_cannot_take_is_said(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = CaptureSettings(loop=3, width=640, height=480)
    source_from(None, "http://127.0.0.1:9/geheim", asked)
    monkeypatch.setattr("edge_runtime.sources.selection.opencv_has", lambda feature: feature != "GStreamer")
    monkeypatch.setattr("edge_runtime.sources.pipes.shutil.which", lambda program: None)
    with pytest.raises(SourceError, match=r"gst-launch-1.0 is not installed.*; csi:// works on a Jetson alone$"):
        source_from(None, "csi://0", asked)
    told = [record.getMessage() for record in caplog.records]
    assert told[0].endswith("takes no --width, --height, --loop: it is asked of a camera; it is for files")
    assert all(line.endswith("takes no --loop: it is for files") for line in told[1:])
