"""The fault suite: cameras that freeze, go black, tear, vanish, come late, through the real command line."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_runtime.model.images import list_images
from tests.edge_aae.device.running import Running, assert_no_refused_frame_was_scored

QUICK = ("--stall-timeout", "1", "--backoff", "0.1:0.2")


def test_a_frozen_camera_stalls_and_recovers(workplace: Path) -> None:
    with Running("--source", "test://freeze?fps=20&at=1&for=3", *QUICK, cwd=workplace) as run:
        run.wait_for_frames(5)
        assert run.health()[0] == 200
        assert run.wait_for_status("FRAME_REPEATED")["payload"]["reason"] == "equal in every byte to the frame before"
        stalled = run.wait_for_status("SOURCE_STALLED")
        assert "refused: FRAME_REPEATED" in stalled["payload"]["reason"]
        status, health = run.health()
        assert (status, health["ok"], health["sources"][0]["stalled"]) == (503, False, True)
        run.wait_for_status("SOURCE_RECOVERED")
        run.wait_for_frames(5)
        assert run.health()[0] == 200
        assert "edge_aae_stalls_total{source=" in run.metrics()
        assert run.stop() == 0
    assert "SOURCE_LOST" in run.statuses()  # a camera that repeats itself for so long is opened again
    assert_no_refused_frame_was_scored(run.records)


@pytest.mark.parametrize(
    ("fault", "event_type"), [("black", "FRAME_BLACK"), ("tear", "FRAME_TORN"), ("resize", "FRAME_SIZE")]
)
def test_frames_that_are_none_are_reported_and_not_scored(workplace: Path, fault: str, event_type: str) -> None:
    with Running("--source", f"test://{fault}?fps=20&at=1&for=2.5", *QUICK, cwd=workplace) as run:
        run.wait_for_status(event_type)
        run.wait_for_status("SOURCE_STALLED")
        assert run.health()[0] == 503
        run.wait_for_status("SOURCE_RECOVERED")
        run.wait_for_frames(5)
        assert run.health()[0] == 200
        assert f'reason="{event_type}"' in run.metrics()
        assert run.stop() == 0
    assert_no_refused_frame_was_scored(run.records)


def test_a_camera_that_vanishes_is_opened_again_when_it_returns(workplace: Path) -> None:
    with Running("--source", "test://disconnect?fps=20&at=1&for=2.5", *QUICK, cwd=workplace) as run:
        lost = run.wait_for_status("SOURCE_LOST")
        assert lost["payload"]["code"] == "LOST"
        assert lost["payload"]["retry_s"] <= 0.25
        n_frames = len(run.frames())
        assert run.wait_for_status("SOURCE_OPEN_FAILED")["payload"]["code"] == "REFUSED"
        run.wait_for_status("SOURCE_STALLED")
        assert run.health()[0] == 503
        assert len(run.frames()) == n_frames
        run.wait_for_status("SOURCE_RECOVERED")
        run.wait_for_frames(5)
        assert run.health()[0] == 200
        assert run.stop() == 0
    assert "1 reconnects, 1 stalls" in run.said[-1]


def test_a_first_connection_that_is_refused_is_tried_again(workplace: Path) -> None:
    with Running("--source", "test://refuse?fps=20&at=0&for=2", *QUICK, cwd=workplace) as run:
        run.wait_for_status("SOURCE_OPEN_FAILED")
        assert run.health()[0] == 503
        run.wait_for_status("SOURCE_RECOVERED")
        run.wait_for_frames(5)
        assert run.health()[0] == 200
        assert run.stop() == 0


def test_reconnects_can_be_limited_and_end_with_4(workplace: Path) -> None:
    with Running(
        "--source", "test://refuse?at=0&for=99", "--reconnect", "2", "--backoff", "0.05:0.1", cwd=workplace
    ) as run:
        assert run.end() == 4
    assert run.statuses() == ["SOURCE_OPEN_FAILED"] * 3
    assert "error: cannot open source test://refuse" in run.said[-1]


def test_a_slow_camera_is_scored_at_its_pace_and_not_stalled(workplace: Path) -> None:
    with Running("--source", "test://slow?fps=20&at=0.5&for=99", *QUICK, cwd=workplace) as run:
        run.wait_for_frames(13)
        assert run.health()[0] == 200
        assert run.stop() == 0
    assert run.statuses() == []
    gaps = np.diff([record["frame_id"] for record in run.frames()])
    assert (gaps >= 1).all()


def test_a_burst_is_scored_in_order_and_no_frame_grows_old(workplace: Path) -> None:
    with Running("--source", "test://burst?fps=40&at=0.5&for=99", *QUICK, cwd=workplace) as run:
        run.wait_for_frames(30)
        assert run.stop() == 0
    ids = [record["frame_id"] for record in run.frames()]
    assert ids == sorted(set(ids))
    assert all(record["age_ms"] < 1000 for record in run.frames())


def test_a_stop_is_clean_and_waits_for_no_source_that_is_away(workplace: Path) -> None:
    with Running("--source", "test://refuse?at=0&for=99", "--backoff", "30:30", cwd=workplace) as run:
        run.wait_for_status("SOURCE_OPEN_FAILED")
        started_s = time.monotonic()
        assert run.stop() == 0
        assert time.monotonic() - started_s < 20


def test_two_sources_take_turns_and_one_failing_leaves_the_other_alone(workplace: Path) -> None:
    with Running(
        "--source", "test://pattern?fps=20", "--source", "test://disconnect?fps=20&at=0.5&for=99", *QUICK, cwd=workplace
    ) as run:
        run.wait_for_status("SOURCE_STALLED")
        n_before = sum(record["source_id"] == "test://pattern?fps=20" for record in run.frames())
        run.wait_for_frames(10)
        status, health = run.health()
        assert status == 503
        assert [source["up"] for source in health["sources"]] == [True, False]
        assert run.stop() == 0
    assert sum(record["source_id"] == "test://pattern?fps=20" for record in run.frames()) >= n_before + 10
    assert {record["source_id"] for record in run.frames()} == {
        "test://pattern?fps=20", "test://disconnect?fps=20&at=0.5&for=99",
    }  # fmt: skip


def test_a_defect_makes_one_event_that_begins_and_ends(workplace: Path, photos: Path) -> None:
    source = f"test://defect?fps=20&at=1&for=1&width=48&height=40&images={photos / 'test/good'}"
    with Running("--source", source, "--alarm", "2/3", "--smooth", "median:3", cwd=workplace) as run:
        run.wait_for(lambda: any(record.get("phase") == "end" for record in list(run.records)), "the event's end")
        assert run.stop() == 0
    events = [record for record in run.records if record["type"] == "event"]
    assert [event["phase"] for event in events][:1] == ["new"]
    assert len({event["event_id"] for event in events if event["start_time"] == events[0]["start_time"]}) == 1
    inside = [record for record in run.frames() if record["event_id"] == events[0]["event_id"]]
    assert {record["state"] for record in inside} <= {"alarm", "clearing"}
    assert events[-1]["reason"] in ("cleared", "stopped")


def test_a_video_cut_short_within_a_frame_gives_the_frames_before_it_and_ends_with_4(
    workplace: Path, photos: Path, tmp_path: Path
) -> None:
    file = tmp_path / "cut.avi"
    writer = cv2.VideoWriter(str(file), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (48, 40))
    for image in list_images(photos / "test/good"):
        writer.write(cv2.imread(str(image)))
    writer.release()
    whole = file.read_bytes()
    last = whole.rfind(b"\xff\xd8\xff")
    file.write_bytes(whole[: last + 200])
    with Running("--source", file, cwd=workplace) as run:
        assert run.end() == 4
    assert [record["frame_id"] for record in run.frames()] == list(range(7))


@pytest.mark.parametrize("n_missing", [0, 40])
def test_motion_jpeg_on_standard_input(workplace: Path, photos: Path, tmp_path: Path, n_missing: int) -> None:
    images = [cv2.imread(str(file)) for file in list_images(photos / "test/good")]
    content = b"".join(cv2.imencode(".jpg", image)[1].tobytes() for image in images)
    (tmp_path / "in.mjpg").write_bytes(content[: len(content) - n_missing])
    with (tmp_path / "in.mjpg").open("rb") as stream, Running("--source", "-", cwd=workplace, stdin=stream) as run:
        assert run.end() == 0
    assert len(run.frames()) == (8 if n_missing == 0 else 7)
    assert any("standard input ends within a frame" in line for line in run.said) == bool(n_missing)


def test_raw_frames_on_standard_input(workplace: Path, tmp_path: Path) -> None:
    (tmp_path / "raw").write_bytes(
        np.random.default_rng(0).integers(0, 256, 3 * 40 * 48 * 3 + 7).astype("u1").tobytes()
    )
    raw = (tmp_path / "raw").open("rb")
    with raw, Running("--source", "-", "--raw", "48x40x3", cwd=workplace, stdin=raw) as run:
        assert run.end() == 0
    assert len(run.frames()) == 3
    assert any("7 bytes of one are left out" in line for line in run.said)


@contextmanager
def http_camera(port: int) -> Iterator[None]:
    """ffmpeg as an MJPEG camera, for one client after another: where one gave up, it would be gone for the next."""
    command = [
        "ffmpeg", "-nostdin", "-loglevel", "error", "-re", "-f", "lavfi",
        "-i", "testsrc2=size=64x48:rate=20,noise=alls=20:allf=t", "-c:v", "mjpeg", "-q:v", "4", "-f", "mpjpeg",
        "-listen", "1", f"http://127.0.0.1:{port}/live",
    ]  # fmt: skip
    ended = threading.Event()
    servers: list[subprocess.Popen[bytes]] = []

    def serve() -> None:
        while not ended.is_set():
            servers.append(subprocess.Popen(command, stdin=subprocess.DEVNULL))
            servers[-1].wait()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        while thread.is_alive():
            for server in servers:
                server.kill()
            thread.join(0.1)


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg as a camera")
def test_an_http_camera_that_goes_and_comes_back(workplace: Path) -> None:
    port = free_port()
    url = f"http://admin:secret@127.0.0.1:{port}/live"
    with Running("--source", url, *QUICK, "--read-timeout", "5", cwd=workplace) as run:
        assert run.wait_for_status("SOURCE_OPEN_FAILED")["payload"]["code"] == "REFUSED"
        for _ in range(2):
            with http_camera(port):
                run.wait_for_frames(5)
                assert run.health()[0] == 200
            run.wait_for(lambda: run.health()[0] == 503, "bad health")
        assert run.stop() == 0
    assert "SOURCE_LOST" in run.statuses()
    said = "".join(run.said).replace("a secret on the command line", "")  # the warning of it names the kind alone
    assert "secret" not in said + str(run.records)


RTSP_SERVER = """
import sys, gi
gi.require_version("Gst", "1.0"); gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer
Gst.init(None)
server = GstRtspServer.RTSPServer(address="127.0.0.1", service=sys.argv[1])
factory = GstRtspServer.RTSPMediaFactory(shared=True)
factory.set_launch("( videotestsrc is-live=true pattern=snow"
                   " ! video/x-raw,format=I420,width=64,height=48,framerate=20/1"
                   " ! jpegenc ! rtpjpegpay name=pay0 pt=26 )")
server.get_mount_points().add_factory("/live", factory)
server.attach(None)
GLib.timeout_add_seconds(120, lambda: sys.exit(1))
print("serves", flush=True)
GLib.MainLoop().run()
"""


@contextmanager
def rtsp_camera(port: int) -> Iterator[None]:
    with subprocess.Popen(["/usr/bin/python3", "-c", RTSP_SERVER, str(port)], stdout=subprocess.PIPE) as server:
        try:
            assert server.stdout is not None
            assert server.stdout.readline() == b"serves\n"
            yield
        finally:
            server.kill()


def has_rtsp_server() -> bool:
    check = "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import GstRtspServer"
    try:
        return subprocess.run(["/usr/bin/python3", "-c", check], capture_output=True, timeout=30).returncode == 0
    except OSError:
        return False


@pytest.mark.skipif(not has_rtsp_server(), reason="needs GStreamer's RTSP server (gir1.2-gst-rtsp-server-1.0)")
def test_an_rtsp_camera_that_goes_and_comes_back(workplace: Path) -> None:
    port = free_port()
    with Running("--source", f"rtsp://127.0.0.1:{port}/live", *QUICK, "--read-timeout", "1", cwd=workplace) as run:
        for _ in range(2):
            with rtsp_camera(port):
                run.wait_for_frames(5)
                assert run.health()[0] == 200
            run.wait_for(lambda: run.health()[0] == 503, "bad health")
        assert run.stop() == 0
    assert "SOURCE_RECOVERED" in run.statuses()


@pytest.mark.skipif(shutil.which("gst-launch-1.0") is None, reason="needs gst-launch-1.0")
def test_a_gstreamer_pipeline_runs_in_a_child_where_opencv_lacks_gstreamer(workplace: Path) -> None:
    pipeline = "videotestsrc is-live=true pattern=snow ! video/x-raw,width=64,height=48,framerate=20/1"
    with Running("--source", pipeline, *QUICK, cwd=workplace) as run:
        run.wait_for_frames(5)
        assert run.stop() == 0
    assert any("gst-launch-1.0" in line for line in run.said) or "GStreamer: YES" in cv2.getBuildInformation()


@pytest.mark.skipif(shutil.which("gst-launch-1.0") is None, reason="needs gst-launch-1.0")
def test_a_pipeline_that_cannot_run_says_what_gstreamer_says(workplace: Path) -> None:
    with Running("--source", "nosuchelement ! fakesink", "--reconnect", "0", cwd=workplace) as run:
        assert run.end() == 4
    assert "nosuchelement" in run.said[-1]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
