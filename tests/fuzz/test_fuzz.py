"""A few thousand inputs that were damaged at random, by a fixed seed: each is refused in words or read, in time, within
bounded memory, and nothing is written but where it was asked to be."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_runtime.bundle.bundle import Bundle
from edge_runtime.delivery import DeliveryError, Message, Mqtt, MqttSettings, Webhook
from edge_runtime.errors import DataError, EdgeAaeError, SourceError
from edge_runtime.scoring.detector import Detector
from edge_runtime.sources.contract import CaptureSettings
from edge_runtime.sources.motion_jpeg import MotionJpegSource
from tests.edge_aae.device.forking import Commands, Ended
from tests.edge_aae.device.hostile_bundles import Parts
from tests.edge_runtime.delivery.hostile_peers import CONNACK, OK, Behaviour, peer, publish, says_and_goes
from tests.edge_runtime.delivery.test_outbox import record
from tests.fuzz.mutations import mutated, mutated_json, mutated_text

pytestmark = pytest.mark.slow

SEED = 20190119
MOST_MEMORY = 600 << 20
N_IMAGES, N_VIDEOS, N_MANIFESTS, N_CONFIGS = 1500, 120, 700, 400
N_BROKERS, N_WEBHOOKS, N_CAMERAS = 300, 300, 300
IMAGES_AT_ONCE = 150
ANSWER_S = 0.2
MOST_S = 12.0
"""Against a hang: an answer that is none has ANSWER_S a step, but for those that a busy machine delays."""


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    return np.random.default_rng([SEED, *request.node.name.encode()])


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Home, cache and temporary folder of the commands: nothing may be left in them."""
    return tmp_path_factory.mktemp("elsewhere")


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory, elsewhere: Path) -> Iterator[Commands]:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "TMPDIR"):
            (elsewhere / name.lower()).mkdir()
            patch.setenv(name, str(elsewhere / name.lower()))
        with Commands(tmp_path_factory.mktemp("commands")) as running:
            yield running
    left = [str(path.relative_to(elsewhere)) for path in elsewhere.rglob("*") if path.is_file()]
    assert not left, f"files outside the folders that commands were given: {left}"


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory, bundle: Bundle) -> Path:
    path = tmp_path_factory.mktemp("good") / "good.aae"
    bundle.write(path)
    return path


def is_plain(ended: Ended, given: str) -> None:
    assert ended.status >= 0, f"{given}: it ended by signal {-ended.status}: {ended.err[-500:]}"
    assert "Traceback" not in ended.err, f"{given}: {ended.err}"
    assert ended.most_memory < MOST_MEMORY, f"{given}: {ended.most_memory >> 20} MiB"


def pictures(rng: np.random.Generator) -> list[tuple[str, bytes]]:
    """One small picture in each format that is read, with tags, depths and channels."""
    grey = (rng.random((24, 32)) * 255).astype(np.uint8)
    colour = cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR)
    alpha = cv2.cvtColor(grey, cv2.COLOR_GRAY2BGRA)
    deep = grey.astype(np.uint16) * 16
    made = [(suffix, image) for suffix in (".png", ".jpg", ".webp", ".bmp", ".tif") for image in (grey, colour)]
    made += [(".png", alpha), (".png", deep), (".tif", deep), (".tif", deep.astype(np.float32))]
    found = [(suffix, bytes(cv2.imencode(suffix, image)[1])) for suffix, image in made]
    jpeg = next(content for suffix, content in found if suffix == ".jpg")
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    tagged = jpeg[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + jpeg[2:]
    return [*found, (".jpg", tagged)]


def test_images(commands: Commands, good: Path, tmp_path: Path, rng: np.random.Generator) -> None:
    models = pictures(rng)
    read = 0
    for first in range(0, N_IMAGES, IMAGES_AT_ONCE):
        folder = tmp_path / f"{first}"
        folder.mkdir()
        for number in range(IMAGES_AT_ONCE):
            suffix, content = models[(first + number) % len(models)]
            (folder / f"{number:03}{suffix}").write_bytes(mutated(content, rng))
        ended = commands.run(
            "score", str(folder), "--model", str(good), "--max-bad", "100%", "--csv", str(tmp_path / f"{first}.csv")
        )
        is_plain(ended, f"images from {first}")
        assert ended.status in (0, 3), ended.err[-1000:]
        rows = (tmp_path / f"{first}.csv").read_text().splitlines()[1:]
        read += len(rows)
    # Else nothing but the first look at a file was tried.
    assert N_IMAGES / 20 < read < N_IMAGES


def videos(tmp_path: Path) -> list[tuple[str, bytes]]:
    found = []
    for name, code in (("mjpg.avi", "MJPG"), ("mp4v.mp4", "mp4v"), ("mp4v.mkv", "mp4v"), ("mpeg.avi", "MPG4")):
        path = tmp_path / name
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*code), 25.0, (64, 48))
        if not writer.isOpened():
            continue
        for number in range(12):
            frame = np.full((48, 64, 3), 40, np.uint8)
            cv2.circle(frame, (8 + 4 * number, 24), 6, (200, 200, 200), -1)
            writer.write(frame)
        writer.release()
        found.append((path.suffix, path.read_bytes()))
    return found


def test_videos(commands: Commands, good: Path, tmp_path: Path, rng: np.random.Generator) -> None:
    models = videos(tmp_path)
    assert models, "no codec to make a video with"
    statuses = set()
    for number in range(N_VIDEOS):
        suffix, content = models[number % len(models)]
        path = tmp_path / f"damaged{suffix}"
        path.write_bytes(mutated(content, rng))
        out = tmp_path / "records.jsonl"
        out.unlink(missing_ok=True)
        ended = commands.run("run", "--source", str(path), "--model", str(good), "--out", str(out))
        is_plain(ended, f"video {number}")
        if out.exists():
            for line in out.read_text().splitlines():
                json.loads(line)
        statuses.add(ended.status)
    assert 0 in statuses, "none was read: nothing but the first look at a file was tried"
    assert statuses > {0}


def test_manifests(bundle: Bundle, tmp_path: Path, rng: np.random.Generator) -> None:
    """In this process, which lives on; hostile ones in processes of their own are test_hostile_bundles.py's."""
    frame = np.full((8, 8), 99, np.uint8)
    opened = 0
    path = tmp_path / "x.aae"
    for number in range(N_MANIFESTS):
        parts = Parts.of(bundle)
        if number % 4:
            manifest = json.dumps(mutated_json(parts.manifest, rng)).encode()
        else:
            manifest = mutated(json.dumps(parts.manifest).encode(), rng)
        parts.write(path, manifest)
        with suppress(EdgeAaeError):
            detector = Detector.load(path)
            opened += 1
            detector.score(frame)
    assert N_MANIFESTS / 100 < opened < N_MANIFESTS / 2


CONFIG = """
model = "MODEL"
source = ["video.mp4"]
alarm = "3/5"
threshold = 1.2
rotate-mb = 10
rotate-keep = 3
out = ["records.jsonl"]
clear-threshold = 0.8
smooth = "median:3"
max-fps = 10
device = "line-1"
mqtt = "mqtt://127.0.0.1:1"
"""


def test_config_files(commands: Commands, good: Path, tmp_path: Path, rng: np.random.Generator) -> None:
    statuses = []
    whole = CONFIG.replace("MODEL", str(good)).strip()
    path = tmp_path / "run.toml"
    for number in range(N_CONFIGS):
        if number % 5:
            path.write_text(mutated_text(whole, rng) if number else whole)
        else:
            path.write_bytes(mutated(whole.encode(), rng) if number else whole.encode())
        ended = commands.run("run", "--config", str(path), "--print-config")
        is_plain(ended, path.read_text(errors="replace"))
        statuses.append(ended.status)
    assert statuses[0] == 0
    assert N_CONFIGS / 10 < statuses.count(0) < N_CONFIGS * 9 / 10
    assert set(statuses) <= {0, 1, 2}


def one_after_another(behaviours: list[Behaviour]) -> Iterator[int]:
    """The port of a server whose next connection gets the next of them, once for each."""
    with peer(behaviours) as port:
        for _ in behaviours:
            yield port


def test_brokers(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("paho.mqtt.client", reason="paho-mqtt is not installed")
    monkeypatch.setattr("edge_runtime.delivery.mqtt.ANSWER_S", ANSWER_S)
    caplog.set_level(logging.WARNING)
    conversation = (
        CONNACK + b"\x40\x02\x00\x01" + publish(b"topic", b"payload", 1) + b"\xd0\x00" + b"\x90\x03\x00\x01\x00"
    )
    behaviours: list[Behaviour] = [partial(says_and_goes, mutated(conversation, rng)) for _ in range(N_BROKERS)]
    for port in one_after_another(behaviours):
        started_s = time.monotonic()
        mqtt = Mqtt(MqttSettings(url=f"mqtt://127.0.0.1:{port}"))
        with suppress(DeliveryError):
            mqtt.connect()
            mqtt.publish(Message(0, "e/0", record("e", 0)))
        mqtt.close()
        assert time.monotonic() - started_s < MOST_S
    assert "Traceback" not in caplog.text


def test_webhooks(rng: np.random.Generator, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    answer = OK + b'Content-Type: application/json\r\nContent-Length: 12\r\nRetry-After: 3\r\n\r\n{"ok": true}'
    behaviours: list[Behaviour] = [partial(says_and_goes, mutated(answer, rng)) for _ in range(N_WEBHOOKS)]
    outcomes = {True: 0, False: 0}
    for port in one_after_another(behaviours):
        started_s = time.monotonic()
        webhook = Webhook(f"http://127.0.0.1:{port}/", timeout_s=2.0)
        try:
            webhook.publish(Message(0, "e/0", record("e", 0)))
            outcomes[True] += 1
        except DeliveryError:
            outcomes[False] += 1
        webhook.close()
        assert time.monotonic() - started_s < MOST_S
    assert min(outcomes.values()) > N_WEBHOOKS / 20
    assert "Traceback" not in caplog.text


def test_cameras(rng: np.random.Generator, caplog: pytest.LogCaptureFixture) -> None:
    """What a camera's server answers and streams: frames that are given are whole, everything else is said."""
    caplog.set_level(logging.WARNING)
    shown = [(rng.random((48, 64, 3)) * 255).astype(np.uint8) for _ in range(3)]
    jpegs = [bytes(cv2.imencode(".jpg", image)[1]) for image in shown]
    parts = b"".join(
        b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(content) + content + b"\r\n"
        for content in jpegs
    )
    answer = OK + b"Content-Type: multipart/x-mixed-replace; boundary=frame\r\n\r\n" + parts + b"--frame--\r\n"
    behaviours: list[Behaviour] = [partial(says_and_goes, mutated(answer, rng)) for _ in range(N_CAMERAS)]
    given = refused = ended = 0
    for port in one_after_another(behaviours):
        started_s = time.monotonic()
        source = MotionJpegSource(f"http://127.0.0.1:{port}/", CaptureSettings(open_timeout_s=2.0, read_timeout_s=2.0))
        try:
            is_open = source.opens()
            while is_open and source.grab():
                try:
                    given += source.retrieve().image.size > 0
                except DataError:
                    refused += 1
        except SourceError:
            ended += 1
        source.close()
        assert time.monotonic() - started_s < MOST_S
    assert given > N_CAMERAS / 2
    assert refused > N_CAMERAS / 10
    assert ended > N_CAMERAS / 2
    assert "Traceback" not in caplog.text
