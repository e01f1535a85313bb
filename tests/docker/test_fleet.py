"""The fleet's files against the real programs: Mosquitto's access list, Prometheus' rules, the dashboard's queries."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.runtime.broker import MOSQUITTO, Broker
from benchmarks.runtime.fleet_load import PASSWORD, secured
from edge_runtime.delivery import Outbox, OutboxSink, delivering
from edge_runtime.delivery.courier import DeliveryError
from edge_runtime.operations.exposition import metrics_of
from edge_runtime.operations.health_server import observed
from edge_runtime.scoring.detector import Detector
from edge_runtime.sources import source_from
from edge_runtime.stream.pipeline import Pipeline, RunSettings
from edge_runtime.watching.alarm import AlarmSettings

ROOT = Path(__file__).resolve().parents[2]
FLEET = ROOT / "docker/fleet"
DASHBOARD: dict[str, Any] = json.loads((FLEET / "grafana/dashboards/edge-aae.json").read_text())
pytest.importorskip("prometheus_client", reason="prometheus-client is not installed")


def queries() -> dict[str, str]:
    """Panel and target -> expression, with Grafana's variables as Grafana fills them in."""
    return {
        f"{panel['title']} {target['refId']}": target["expr"]
        .replace("$device", ".*")
        .replace("$__rate_interval", "20s")
        for panel in DASHBOARD["panels"]
        for target in panel["targets"]
    }


class Nowhere:
    """A destination that does not answer."""

    name = "nowhere"

    def connect(self) -> None:
        raise DeliveryError("nobody there")

    def publish(self, message: Any) -> None:
        raise AssertionError("never connected")

    def tell(self, state: dict[str, Any]) -> None:
        raise AssertionError("never connected")

    def close(self) -> None:
        pass


@pytest.fixture(scope="module")
def served(bundle_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Pipeline]]:
    """The metrics' port of a run with faults, events and an outbox that nobody empties; and its pipeline."""
    source = source_from(None, "test://black?fps=20&width=32&height=32&at=1&for=2&every=6")
    settings = RunSettings(alarm=AlarmSettings(enter=-1e9, clear=-1e9, n=1, m=1))
    outbox = Outbox(tmp_path_factory.mktemp("outbox") / "o.db", ["nowhere"])
    pipeline = Pipeline(Detector.load(bundle_file), [source], settings=settings, sinks=[OutboxSink(outbox)])
    stop = threading.Event()
    with delivering(pipeline, [Nowhere()], outbox), observed(pipeline, ("127.0.0.1", 0)) as port:
        thread = threading.Thread(target=pipeline.run, kwargs={"stopped": stop.is_set})
        thread.start()
        yield port, pipeline
        stop.set()
        thread.join()
    outbox.close()


def test_every_metric_that_dashboard_and_alerts_name_is_one_of_ours(served: tuple[int, Pipeline]) -> None:
    text = metrics_of(served[1])().decode()
    ours = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}
    named = set(re.findall(r"edge_aae_\w+", " ".join(queries().values()) + (FLEET / "alerts.yml").read_text()))
    assert len(named) > 10
    assert {re.sub(r"_(bucket|sum|count)$", "", name) for name in named} <= ours


def test_a_device_of_the_fleet_takes_signed_bundles_alone_and_cannot_write_its_keys() -> None:
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    (device,) = yaml.safe_load((FLEET / "device/compose.yaml").read_text())["services"].values()
    assert {"--watch-model", "--last-good=model.last-good.aae", "--require-signature=/trusted"} <= set(
        device["command"]
    )
    assert {"./models:/models:ro", "./trusted:/trusted:ro"} <= set(device["volumes"])


@pytest.mark.skipif(shutil.which("promtool") is None, reason="there is no promtool here (apt-get install prometheus)")
@pytest.mark.parametrize(
    "words", [("config", "fleet/prometheus.yml"), ("rules", "fleet/alerts.yml"), ("config", "prometheus.yml")]
)
def test_prometheus_takes_its_files(words: tuple[str, str]) -> None:
    done = subprocess.run(
        ["promtool", "check", words[0], ROOT / "docker" / words[1]], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.skipif(
    shutil.which("prometheus") is None, reason="there is no prometheus here (apt-get install prometheus)"
)
def test_every_query_of_the_dashboard_is_answered_by_a_real_prometheus(
    served: tuple[int, Pipeline], tmp_path: Path
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = (FLEET / "prometheus.yml").read_text().replace("15s", "1s")
    (tmp_path / "prometheus.yml").write_text(config)
    shutil.copy(FLEET / "alerts.yml", tmp_path)
    (tmp_path / "devices.json").write_text(json.dumps([{"targets": [f"localhost:{served[0]}"]}]))
    process = subprocess.Popen(
        ["prometheus", f"--config.file={tmp_path / 'prometheus.yml'}", f"--storage.tsdb.path={tmp_path / 'data'}",
         f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"],
    )  # fmt: skip

    def asked(query: str) -> list[dict[str, Any]]:
        address = f"http://127.0.0.1:{port}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
        with urllib.request.urlopen(address, timeout=5) as answer:
            found: list[dict[str, Any]] = json.load(answer)["data"]["result"]
        return found

    try:
        deadline = time.monotonic() + 60
        answers: dict[str, list[dict[str, Any]]] = {}
        # A rate needs two scrapes of a series, and the camera's fault comes after a while.
        while time.monotonic() < deadline and not (answers and all(answers.values())):
            time.sleep(1.0)
            try:
                answers = {name: asked(query) for name, query in queries().items()}
            except OSError:
                continue
        assert answers
        assert [name for name, found in answers.items() if not found] == []
        (up,) = asked('up{job="edge-aae"}')
        assert (up["metric"]["device"], up["value"][1]) == ("localhost", "1")
    finally:
        process.terminate()
        process.wait(30)


@pytest.mark.skipif(MOSQUITTO is None, reason="there is no mosquitto here")
def test_a_device_writes_its_own_topics_alone_and_the_monitor_reads(tmp_path: Path) -> None:
    paho = pytest.importorskip("paho.mqtt.client", reason="paho-mqtt is not installed")
    tmp_path.chmod(0o755)
    broker = Broker(tmp_path, secured(tmp_path, 2))
    broker.start()
    heard: dict[str, list[str]] = {"monitor": [], "line01": []}

    def client(user: str, password: str = PASSWORD) -> Any:
        made = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id=user)
        made.username_pw_set(user, password)
        made.on_message = lambda _, __, message: heard[user].append(message.topic)
        made.connect("127.0.0.1", broker.port)
        made.loop_start()
        return made

    try:
        monitor, first, second = client("monitor"), client("line00"), client("line01")
        for listener in (monitor, second):
            listener.subscribe("edge-aae/#", 1)
        time.sleep(0.5)
        for topic in ("edge-aae/line01/events", "edge-aae/line00/events", "elsewhere"):
            first.publish(topic, b"{}", qos=1).wait_for_publish(5)
        time.sleep(0.5)
        assert heard == {"monitor": ["edge-aae/line00/events"], "line01": []}
        stranger = client("line00", "another password")
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline and stranger.is_connected():
            time.sleep(0.05)
        assert not stranger.is_connected()
        for one in (monitor, first, second, stranger):
            one.loop_stop()
    finally:
        broker.stop()


def test_the_brokers_settings_are_those_of_a_mosquitto(tmp_path: Path) -> None:
    """Started with its own file, but for paths and TLS; a setting that does not exist would end it."""
    if MOSQUITTO is None:
        pytest.skip("there is no mosquitto here")
    tmp_path.chmod(0o755)
    own = secured(tmp_path, 1).splitlines()
    paths = ("listener", "certfile", "keyfile", "password_file", "acl_file", "persistence_location", "persistence ")
    lines = [line for line in (FLEET / "mosquitto.conf").read_text().splitlines() if not line.startswith(paths)]
    more = [line for line in own if line.startswith(("password_file", "acl_file", "persistence"))]
    broker = Broker(tmp_path, "\n".join([*lines, *more]) + "\n")
    broker.start()
    broker.stop()
