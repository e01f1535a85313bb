"""The page's process over real connections: what it serves, and what it refuses."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_runtime.backends import OnnxRuntimeCpu
from edge_runtime.bundle.bundle import Bundle
from edge_runtime.errors import ConfigError
from edge_runtime.live.bridge import LivePage, LiveSettings
from edge_runtime.live.threshold_desk import Asked
from edge_runtime.model.images import write_image
from edge_runtime.model.preprocess import Preprocess
from edge_runtime.scoring.detector import Detector
from edge_runtime.scoring.heatmap import HeatScale
from edge_runtime.serving.access import Access, Refusal, Visitor, is_loopback
from edge_runtime.serving.framing import receive
from edge_runtime.sinks.contract import Emission
from edge_runtime.sources import source_from
from edge_runtime.stream.pipeline import Pipeline, RunSettings
from edge_runtime.watching.alarm import AlarmSettings

pytest.importorskip("starlette", reason="starlette is not installed")
pytest.importorskip("uvicorn", reason="uvicorn is not installed")

SCRIPT = "<script>alert(1)</script>"
EVENT = "1795649916888-9fab0011"
FRAME = np.full((48, 64, 3), 100, np.uint8)


@pytest.fixture
def pipeline(detector: Detector) -> Pipeline:
    source = source_from(None, "test://pattern?fps=20&width=64&height=48")
    return Pipeline(detector, [source], settings=RunSettings(alarm=AlarmSettings(enter=1.0, clear=0.5, n=1, m=1)))


@pytest.fixture
def serve(pipeline: Pipeline, tmp_path: Path) -> Iterator[Callable[..., LivePage]]:
    pages: list[LivePage] = []

    def start(**more: Any) -> LivePage:
        page = LivePage(LiveSettings(port=0, feedback=tmp_path / "feedback", **more), lambda: pipeline)
        page.open()
        pages.append(page)
        return page

    yield start
    for page in pages:
        page.close()


def port_of(page: LivePage) -> int:
    return int(page.addresses[0].rsplit(":", 1)[1].split("/")[0])


def asked(
    page: LivePage, path: str, method: str = "GET", body: Any = None, **headers: str
) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port_of(page), timeout=10)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    content = json.dumps(body).encode() if isinstance(body, dict) else body
    try:
        connection.request(method, path, content, named)
        answer = connection.getresponse()
        return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def own(page: LivePage) -> dict[str, str]:
    return {"Origin": f"http://127.0.0.1:{port_of(page)}"}


def event(page: LivePage, pipeline: Pipeline, event_id: str = EVENT) -> None:
    """An event with its frame, as the pipeline emits it."""
    record = {
        "type": "event", "phase": "new", "event_id": event_id, "source_id": SCRIPT, "peak_score": 2.0, "frames": 1,
        "start_time": "2026-11-25T10:00:00Z", "end_time": None,
    }  # fmt: skip
    page.write(Emission(record, FRAME, pipeline.detector.score(FRAME)))


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.02)


def messages(page: LivePage, wanted: Callable[[list[dict[str, Any]]], bool]) -> list[dict[str, Any]]:
    """Headers that one viewer is sent, until they are what is wanted."""
    connection = http.client.HTTPConnection("127.0.0.1", port_of(page), timeout=10)
    connection.request("GET", "/api/stream")
    answer = connection.getresponse()
    found: list[dict[str, Any]] = []
    try:
        while not wanted(found):
            message = receive(answer)  # type: ignore[arg-type]
            assert message is not None
            found.append(message[0])
    finally:
        connection.close()
    return found


def test_the_page_and_its_files_come_with_headers_that_forbid_everything_else(serve: Callable[..., LivePage]) -> None:
    page = serve()
    for path in (
        "/",
        "/live.js",
        "/card.js",
        "/events.js",
        "/panels.js",
        "/words.js",
        "/live.css",
        "/vendor/uPlot.iife.min.js",
        "/vendor/uPlot.min.css",
    ):
        status, headers, content = asked(page, path)
        assert (status, bool(content)) == (200, True)
        assert headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'")
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
        assert "server" not in headers
    html = asked(page, "/")[2].decode()
    assert "http://" not in html.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in html
    assert "onclick" not in html


@pytest.mark.parametrize(
    "path",
    [
        "/../pyproject.toml", "/vendor/../../server.py", "/vendor/%2e%2e/%2e%2e/server.py", "//etc/passwd",
        "/live.js/..",
        "/api/events/../../../etc/passwd.jpg", "/api/events/%2e%2e%2f%2e%2e%2fetc%2fpasswd.jpg", "/api/events/.jpg",
        "/api/events/../../x/clip.avi", "/api/events/%2e%2e%2fx/snapshot.jpg", "/api/events/x.json",
        "/api/events/%00.jpg", "/vendor/uPlot.LICENSE", "/api", "/feedback/answers.csv",
    ],
)  # fmt: skip
def test_no_path_leads_to_another_file(serve: Callable[..., LivePage], path: str) -> None:
    status, _, content = asked(serve(), path)
    assert status == 404
    assert b"root:" not in content


@pytest.mark.parametrize("path", ["/api/threshold", "/api/feedback"])
def test_a_page_of_another_site_can_change_nothing(serve: Callable[..., LivePage], path: str) -> None:
    page = serve()
    body = {"threshold": 5.0, "event_id": EVENT, "answer": "right"}
    for headers in (
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": f"http://127.0.0.1:{port_of(page) + 1}"},
        {"Origin": f"http://localhost:{port_of(page)}"},
        {**own(page), "Sec_Fetch_Site": "cross-site"},
        {},
    ):
        status, _, content = asked(page, path, "POST", body, **headers)
        assert status == 403, headers
        assert b"another site" in content or b"must come from this page" in content
    assert page.take_threshold() is None


def test_a_name_that_was_bent_to_the_loopback_is_refused(serve: Callable[..., LivePage]) -> None:
    page = serve()
    assert asked(page, "/", Host="evil.example")[0] == 403
    assert asked(page, "/api/stream", Host=f"evil.example:{port_of(page)}")[0] == 403
    assert asked(page, "/", Host=f"localhost:{port_of(page)}")[0] == 200


def test_elsewhere_than_on_the_loopback_a_token_is_needed_and_moves_into_a_cookie(
    serve: Callable[..., LivePage],
) -> None:
    page = serve(host="0.0.0.0", token="correct horse")
    for path in ("/", "/live.js", "/api/stream", "/api/preview?threshold=1", "/api/doctor"):
        status, headers, content = asked(page, path)
        assert (status, b"expected the token" in content) == (401, True)
        assert "content-security-policy" in headers
    assert asked(page, "/?token=wrong")[0] == 401
    assert asked(page, "/", Cookie="edge_aae_token=correct%20hors")[0] == 401
    status, headers, _ = asked(page, "/?token=correct%20horse")
    assert (status, headers["location"]) == (303, "/")
    cookie = headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert asked(page, "/", Cookie=cookie.split(";")[0])[0] == 200
    assert asked(page, "/api/preview?threshold=1", Authorization="Bearer correct horse")[0] == 200
    assert asked(page, "/api/threshold", "POST", {"threshold": 1}, Authorization="Bearer wrong")[0] == 401


def test_bodies_that_are_too_large_or_no_json_are_refused(serve: Callable[..., LivePage]) -> None:
    page = serve()
    large = b'{"threshold": ' + b"1" * 20_000 + b"}"
    assert asked(page, "/api/threshold", "POST", large, **own(page))[0] == 413

    def chunks() -> Iterator[bytes]:
        for _ in range(100):
            yield b" " * 1000

    connection = http.client.HTTPConnection("127.0.0.1", port_of(page), timeout=10)
    connection.request("POST", "/api/threshold", chunks(), own(page), encode_chunked=True)
    assert connection.getresponse().status == 413
    connection.close()
    for body in (
        b"",
        b"[]",
        b"nonsense",
        b"[" * 10_000,
        b'{"threshold": "x"}',
        b'{"threshold": 1e400}',
        b'{"threshold": null}',
    ):
        status, _, content = asked(page, "/api/threshold", "POST", body, **own(page))
        assert status == 400, body
        assert b"expected" in content
    assert page.take_threshold() is None
    status, _, _ = asked(page, "/api/threshold", "PUT", {"threshold": 1}, **own(page))
    assert status == 404


def test_a_threshold_reaches_the_run_once(serve: Callable[..., LivePage]) -> None:
    page = serve()
    assert asked(page, "/api/threshold", "POST", {"threshold": 2.5}, **own(page))[0] == 200
    eventually(lambda: bool(page._asked))
    assert page.take_threshold() == Asked(2.5, Visitor("local", "127.0.0.1"))
    assert page.take_threshold() is None


def test_two_thresholds_within_one_frame_both_reach_the_run(serve: Callable[..., LivePage]) -> None:
    page = serve()
    for threshold in (2.5, 3.5):
        assert asked(page, "/api/threshold", "POST", {"threshold": threshold}, **own(page))[0] == 200
    eventually(lambda: len(page._asked) == 2)
    taken = [page.take_threshold(), page.take_threshold()]
    assert [one.threshold for one in taken if one is not None] == [2.5, 3.5]
    assert page.take_threshold() is None


def test_a_threshold_of_one_source_is_previewed_and_asked_for_that_one(
    serve: Callable[..., LivePage], pipeline: Pipeline
) -> None:
    page = serve()
    page.tick()
    name = pipeline.states()[0].source_id
    body = {"threshold": 2.5, "source_id": name}
    eventually(lambda: asked(page, "/api/threshold", "POST", body, **own(page))[0] == 200)
    eventually(lambda: bool(page._asked))
    assert page.take_threshold() == Asked(2.5, Visitor("local", "127.0.0.1"), source_id=name)
    for other in ("elsewhere", ["a"], 5):
        status, _, content = asked(page, "/api/threshold", "POST", {**body, "source_id": other}, **own(page))
        assert (status, b"expected source_id, of a source of this run" in content) == (400, True)
    status, _, content = asked(page, "/api/preview?threshold=1&source_id=elsewhere")
    assert (status, b"expected source_id" in content) == (400, True)


def test_what_the_run_calls_things_comes_as_data_and_never_as_markup(
    serve: Callable[..., LivePage], pipeline: Pipeline
) -> None:
    page = serve()
    event(page, pipeline)
    page.write(Emission({"type": "status", "severity": "error", "event_type": "X", "source_id": SCRIPT,
                         "payload": {"reason": SCRIPT}}))  # fmt: skip
    found = messages(page, lambda seen: any(m["kind"] == "board" and m["statuses"] and m["events"] for m in seen))
    board = [message for message in found if message["kind"] == "board"][-1]
    assert board["events"][0]["source_id"] == SCRIPT
    scripts = ("live", "card", "events", "panels", "words", "page")
    script = "".join(asked(page, f"/{name}.js")[2].decode() for name in scripts)
    for sink in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"):
        assert sink not in script


def test_feedback_is_of_events_that_there_are(
    serve: Callable[..., LivePage], pipeline: Pipeline, tmp_path: Path
) -> None:
    page = serve()
    event(page, pipeline)
    eventually(lambda: asked(page, f"/api/events/{EVENT}.jpg")[0] == 200)
    told = asked(page, "/api/feedback", "POST", {"event_id": EVENT, "answer": "wrong"}, **own(page))
    assert told[0] == 200, told
    assert (tmp_path / "feedback/labels.csv").read_text().splitlines()[1] == f"{EVENT}.png,good"
    for body in ({"event_id": "../../x", "answer": "right"}, {"event_id": EVENT, "answer": "rm -rf"}, {}):
        status, _, content = asked(page, "/api/feedback", "POST", body, **own(page))
        assert status == 400
        assert b"error" in content
    assert {file.name for file in tmp_path.iterdir()} == {"feedback"}


def test_pictures_are_sent_while_somebody_looks_and_only_then(
    serve: Callable[..., LivePage], pipeline: Pipeline
) -> None:
    page = serve(fps=60)
    result = pipeline.detector.score(FRAME)
    record = {
        "type": "frame", "source_id": "s", "t_capture": "2026-11-25T10:00:00.000Z", "score": 0.5, "score_smoothed": 0.5,
        "threshold": 1.0, "is_anomaly": False, "state": "normal", "event_id": None, "frame_id": 1, "age_ms": 1.0,
        "latency_ms": {"infer": 1.0}, "criteria": {},
    }  # fmt: skip
    page.write(Emission(record, FRAME, result))
    assert page._viewers == 0
    assert page._sent_s == {}
    stop = threading.Event()

    def feed() -> None:
        while not stop.is_set():
            page.write(Emission(record, FRAME, result))
            time.sleep(0.02)

    thread = threading.Thread(target=feed)
    thread.start()
    try:
        found = messages(page, lambda seen: sum(message["kind"] == "picture" for message in seen) >= 3)
    finally:
        stop.set()
        thread.join()
    assert any(message["kind"] == "scores" and message["sources"]["s"]["score"] == 0.5 for message in found)
    eventually(lambda: page._viewers == 0)


def test_a_reader_that_takes_nothing_holds_nobody_up(serve: Callable[..., LivePage], pipeline: Pipeline) -> None:
    page = serve(fps=60)
    big = np.random.default_rng(0).integers(0, 256, (540, 960, 3), dtype=np.uint8)
    result = pipeline.detector.score(big)
    slow = [socket.create_connection(("127.0.0.1", port_of(page))) for _ in range(5)]
    for connection in slow:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.sendall(f"GET /api/stream HTTP/1.1\r\nHost: 127.0.0.1:{port_of(page)}\r\n\r\n".encode())
    eventually(lambda: page._viewers == 5)
    record = {
        "type": "frame", "source_id": "s", "t_capture": "2026-11-25T10:00:00.000Z", "score": 0.5, "score_smoothed": 0.5,
        "threshold": 1.0, "is_anomaly": False, "state": "normal", "event_id": None, "frame_id": 1, "age_ms": 1.0,
        "latency_ms": {}, "criteria": {},
    }  # fmt: skip
    longest_s = 0.0
    for _ in range(60):
        started_s = time.monotonic()
        page.write(Emission(record, big, result))
        longest_s = max(longest_s, time.monotonic() - started_s)
        time.sleep(0.02)
    assert longest_s < 1.0
    found = messages(page, lambda seen: any(message["kind"] == "picture" for message in seen))
    assert found
    for connection in slow:
        connection.close()


def test_a_port_that_is_taken_is_an_error_before_the_run_begins(pipeline: Pipeline, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        page = LivePage(LiveSettings(port=taken.getsockname()[1], feedback=tmp_path), lambda: pipeline)
        with pytest.raises(
            ConfigError, match=r"cannot be served at 127.*: Address already in use; choose another port, such as :"
        ):
            page.open()


def test_a_page_whose_process_was_killed_is_begun_again_and_never_ends_the_run(serve: Callable[..., LivePage]) -> None:
    page = serve()
    before = page._process
    assert before is not None
    before.kill()
    before.wait()
    with pytest.raises(OSError, match="has ended") as caught:
        page.write(Emission({"type": "status"}))
    assert not isinstance(caught.value, BrokenPipeError)
    page.tick()
    assert page._process is not before
    assert asked(page, "/")[0] == 200


def test_a_page_whose_process_hangs_is_ended_and_begun_again(
    serve: Callable[..., LivePage], pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_runtime.live.bridge.WRITE_WITHIN_S", 0.3)
    page = serve()
    before = page._process
    assert before is not None
    before.send_signal(signal.SIGSTOP)
    started_s = time.monotonic()

    def fill() -> None:
        for number in range(100):
            event(page, pipeline, f"{number}")

    with pytest.raises(OSError, match=r"hangs and was ended: it takes nothing, 0\.3 s"):
        fill()
    assert time.monotonic() - started_s < 5.0
    assert before.poll() is not None
    with pytest.raises(OSError, match="has ended"):
        event(page, pipeline)
    page.tick()
    assert page._process is not before
    assert asked(page, "/")[0] == 200


def test_a_page_that_hangs_stops_no_run_over_files(
    detector: Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_runtime.live.bridge.WRITE_WITHIN_S", 0.3)
    for number in range(60):
        write_image(tmp_path / "images" / f"{number}.png", FRAME)
    page = LivePage(LiveSettings(port=0, feedback=tmp_path / "feedback"), lambda: pipeline)
    page.on_open = lambda: page._process.send_signal(signal.SIGSTOP) if page._process else None
    page._viewers = 1
    monkeypatch.setattr(LivePage, "tick", lambda page: None)
    pipeline = Pipeline(detector, [source_from(None, str(tmp_path / "images"))], sinks=[page])
    started_s = time.monotonic()
    assert pipeline.run().frames == 60
    assert time.monotonic() - started_s < 20.0
    assert page._process is None


def test_a_map_is_where_and_as_bright_as_it_was_scored_whatever_the_run_scores_with_by_now(
    pipeline: Pipeline, make_bundle: Callable[..., Bundle], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Other(Detector):
        heat_scale = HeatScale(0.0, 1e-3)  # type: ignore[assignment]

    page = LivePage(LiveSettings(port=0, feedback=tmp_path), lambda: pipeline)
    sent: list[bytes] = []
    monkeypatch.setattr(page, "_send", lambda header, body=b"": sent.append(body))
    result = pipeline.detector.score(FRAME)
    record = {"type": "event", "source_id": "s", "event_id": EVENT}
    page.write(Emission(record, FRAME, result))
    moved = make_bundle(Preprocess(height=8, width=8, roi=(0, 0, 8, 8)))
    pipeline.set_detector(Other(moved, OnnxRuntimeCpu(moved.files["detector.onnx"], threads=1)))
    page.write(Emission(record, FRAME, result))
    assert len(sent) == 6
    assert sent[:3] == sent[3:]


def test_the_loopback_is_told_from_everything_else() -> None:
    own, others = ("127.0.0.1", "127.8.8.8", "localhost", "::1"), ("0.0.0.0", "10.0.0.5", "127.0.0.1.example", "")
    assert all(map(is_loopback, own))
    assert not any(map(is_loopback, others))
    with pytest.raises(Refusal, match="loopback"):
        Access("127.0.0.1", "").check("GET", {"host": "127.0.0.1.example:8080"}, "", "")
    with pytest.raises(Refusal, match="token"):
        Access("10.0.0.5", "t").check("GET", {"host": "10.0.0.5:80"}, "", "")
    Access("10.0.0.5", "t").check("GET", {"host": "10.0.0.5:80"}, "t", "")


def test_a_bundle_of_scores_makes_thresholds_of_rates(serve: Callable[..., LivePage], bundle: Bundle) -> None:
    status, _, content = asked(serve(), "/api/preview?target_fpr=0.01")
    kept = bundle.manifest["calibration"].get("score_quantiles")
    assert (status == 200) == (kept is not None)
    assert b"threshold" in content


def test_frames_of_a_line_camera_are_shown_small_and_monstrous_ones_cost_only_their_feedback(
    serve: Callable[..., LivePage], pipeline: Pipeline
) -> None:
    page = serve()
    tall = np.full((9000, 2500, 3), 100, np.uint8)  # 67 MB: more than a message may have
    record = {
        "type": "event", "phase": "new", "event_id": EVENT, "source_id": "s", "peak_score": 2.0, "frames": 1,
        "start_time": "2026-11-25T10:00:00Z", "end_time": None,
    }  # fmt: skip
    page.write(Emission(record, tall, pipeline.detector.score(tall)))
    eventually(lambda: asked(page, f"/api/events/{EVENT}.jpg")[0] == 200)
    assert len(asked(page, f"/api/events/{EVENT}.jpg")[2]) < 100_000
    status, _, content = asked(page, "/api/feedback", "POST", {"event_id": EVENT, "answer": "wrong"}, **own(page))
    assert (status, b"no longer kept" in content) == (400, True)
