"""No secret of a URL that `edge-aae run` is given stands in anything that it writes or says."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_aae.commands.device.delivery_options import default_device
from edge_runtime.bundle.bundle import Bundle
from tests.edge_aae.device.forking import Commands

SECRET = "kDw7Zq"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, bundle: Bundle) -> Path:
    folder = tmp_path_factory.mktemp("leaks")
    bundle.write(folder / "model.aae")
    return folder


SOURCES = [
    f"rtsp://admin:{SECRET}@127.0.0.1:1/live",
    f"rtsp://admin:{SECRET} x@127.0.0.1:1/live",
    f"rtsp://admin:x {SECRET}@127.0.0.1:1/live",
    f"rtsp://admin:{SECRET}/{SECRET}@127.0.0.1:1/live",
    f"rtsp://admin:ab#{SECRET}@127.0.0.1:1/live",
    f"rtsp://admin:ab?{SECRET}@127.0.0.1:1/live",
    f"http://127.0.0.1:1/video?user=a&password={SECRET}",
    f"http://127.0.0.1:1/video?token={SECRET}&x=1",
    f"http://127.0.0.1:1/video?api_key={SECRET}",
    f"rtsp://127.0.0.1:1/user=admin_password={SECRET}_channel=1_stream=0.sdp",
    f"rtsp://admin:x%20{SECRET}@127.0.0.1:1/live",
    f"foo://admin:{SECRET}@127.0.0.1:1/live",
]


@pytest.mark.parametrize("source", SOURCES, ids=range(len(SOURCES)))
def test_a_source_s_secret_is_nowhere(place: Path, tmp_path: Path, source: str) -> None:
    outputs = ("--out", "-", "--out", tmp_path / "a.jsonl", "--out", tmp_path / "a.csv", "--record",
               tmp_path / "record", "--snapshots", tmp_path / "shots", "--outbox", tmp_path / "o.db")  # fmt: skip
    given = ("--source", source, "--source", "test://pattern?fps=50&width=16&height=16&frames=20", "--reject", "none",
             "--threshold", "-100", "--alarm", "1/1", "--reconnect", "1", "--backoff", "0.1:0.1",
             "--open-timeout", "2")  # fmt: skip
    with Commands(place) as commands:
        ended = [
            commands.run("-v", "run", *map(str, (*given, *outputs))),
            commands.run("run", *map(str, given), "--source", source),  # named twice
            commands.run("run", *map(str, given), "--print-config"),
            commands.run("run", *map(str, given), "--mqtt", source, "--webhook", source),
        ]
    for one in ended:
        assert SECRET not in one.out + one.err
    for path in tmp_path.rglob("*"):
        assert SECRET not in path.name
        assert path.is_dir() or SECRET.encode() not in path.read_bytes(), path


@pytest.mark.parametrize("option", ["--mqtt", "--webhook"])
@pytest.mark.parametrize("mark", ["/", "#", "?"])
def test_a_broker_or_webhook_whose_password_holds_a_mark_is_refused_with_what_to_write(
    place: Path, option: str, mark: str
) -> None:
    scheme = "mqtt" if option == "--mqtt" else "http"
    url = f"{scheme}://user:{SECRET}{mark}{SECRET}@127.0.0.1:1/"
    with Commands(place) as commands:
        ended = commands.run("run", "--source", "test://pattern", "--alarm", "1/1", option, url, "--max-frames", "1")
    assert ended.status != 0
    assert SECRET not in ended.out + ended.err
    assert "%2F" in ended.err


def test_a_device_is_called_by_its_service_or_its_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    names = {default_device([source]) for source in ("camera:0", "camera:1", f"rtsp://a:{SECRET}@cam/live")}
    assert len(names) == 3
    assert not any(SECRET in name or "/" in name for name in names)
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/edge-aae/line3")
    assert default_device(["camera:0"]).endswith("-line3")
