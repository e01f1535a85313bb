"""MQTT with a real broker, Mosquitto, on the loopback."""

from __future__ import annotations

import json
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.runtime.broker import MOSQUITTO, Broker
from edge_runtime.delivery import DeliveryError, Message, Mqtt, MqttSettings
from edge_runtime.errors import ConfigError
from tests.edge_runtime.delivery.test_outbox import record

from ..waiting import wait_until

paho = pytest.importorskip("paho.mqtt.client", reason="paho-mqtt is not installed")
needs_broker = pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    made = Broker(tmp_path)
    made.start()
    yield made
    made.stop()


class Listener:
    """What a subscriber gets: (topic, payload, whether it was retained)."""

    def __init__(self, port: int) -> None:
        self.got: list[tuple[str, str, bool]] = []
        ready = threading.Event()
        self.client = paho.Client(paho.CallbackAPIVersion.VERSION2)
        self.client.on_connect = lambda client, *_: client.subscribe("#", 1)
        self.client.on_subscribe = lambda *_: ready.set()
        self.client.on_message = lambda _, __, message: self.got.append(
            (message.topic, message.payload.decode(), message.retain)
        )
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        assert ready.wait(10)

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


def settings(broker: Broker, **changes: Any) -> MqttSettings:
    return MqttSettings(**({"url": f"mqtt://127.0.0.1:{broker.port}", "device": "line3"} | changes))


@needs_broker
def test_events_arrive_and_state_and_availability_are_retained(broker: Broker) -> None:
    early = Listener(broker.port)
    mqtt = Mqtt(settings(broker))
    mqtt.connect()
    mqtt.publish(Message(1, "e/0", record("e", 0, "new")))
    mqtt.tell({"ok": True})
    mqtt.tell({"ok": True})  # no change, no message
    mqtt.tell({"ok": False})
    wait_until(lambda: len(early.got) == 4)
    assert [topic for topic, _, _ in early.got] == [
        "edge-aae/line3/availability", "edge-aae/line3/events", "edge-aae/line3/state", "edge-aae/line3/state",
    ]  # fmt: skip
    assert json.loads(early.got[1][1]) == record("e", 0, "new")
    late = Listener(broker.port)
    wait_until(lambda: len(late.got) == 2)
    assert sorted(late.got) == [
        ("edge-aae/line3/availability", "online", True), ("edge-aae/line3/state", '{"ok": false}', True),
    ]  # fmt: skip
    mqtt.close()
    wait_until(lambda: late.got[-1][:2] == ("edge-aae/line3/availability", "offline"))
    early.close()
    late.close()


@needs_broker
def test_the_last_will_says_that_a_device_is_gone(broker: Broker) -> None:
    listener = Listener(broker.port)
    mqtt = Mqtt(settings(broker))
    mqtt.connect()
    wait_until(lambda: len(listener.got) == 1)
    mqtt._client.socket().shutdown(2)  # as when the device loses its power
    mqtt._client.loop_stop()
    wait_until(lambda: listener.got[-1][:2] == ("edge-aae/line3/availability", "offline"))
    listener.close()


@needs_broker
def test_a_broker_that_goes_is_a_delivery_error_and_a_new_connection_goes_on(broker: Broker) -> None:
    mqtt = Mqtt(settings(broker))
    mqtt.connect()
    broker.stop(politely=False)
    with pytest.raises(DeliveryError, match=r"ended the connection|does not take messages"):
        mqtt.publish(Message(1, "e/0", record("e", 0)))
    with pytest.raises(DeliveryError):
        mqtt.tell({"ok": True})
    mqtt.close()
    with pytest.raises(DeliveryError, match=r"mqtt://127.0.0.1:\d+ refuses connections; is the broker running\?$"):
        mqtt.connect()
    broker.start()
    mqtt.connect()
    mqtt.publish(Message(1, "e/0", record("e", 0)))
    mqtt.close()


@needs_broker
def test_a_wrong_password_is_said(tmp_path: Path) -> None:
    passwords = tmp_path / "passwords"
    passwords.write_text("me:never\n")
    passwords.chmod(0o600)
    broker = Broker(tmp_path, f"password_file {passwords}\nallow_anonymous false\n")
    if shutil.which("mosquitto_passwd"):
        subprocess.run(["mosquitto_passwd", "-U", str(passwords)], check=True, capture_output=True)
    broker.start()
    mqtt = Mqtt(settings(broker, url=f"mqtt://me:wrong@127.0.0.1:{broker.port}"))
    with pytest.raises(DeliveryError, match="does not let us in: Not authorized") as raised:
        mqtt.connect()
    assert "wrong" not in str(raised.value)
    assert "wrong" not in mqtt.name
    mqtt.close()
    broker.stop()


# paho-mqtt 2.1.0 leaves a socket to the garbage collector whose handshake fails.
@pytest.mark.filterwarnings("ignore:unclosed <ssl.SSLSocket:ResourceWarning")
@needs_broker
@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_a_connection_with_tls_checks_the_broker_s_certificate(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    broker = Broker(tmp_path, f"certfile {certificate}\nkeyfile {key}\n")
    broker.start()
    url = f"mqtts://127.0.0.1:{broker.port}"
    mqtt = Mqtt(settings(broker, url=url, ca=certificate))
    mqtt.connect()
    mqtt.publish(Message(1, "e/0", record("e", 0)))
    mqtt.close()
    stranger = Mqtt(settings(broker, url=url))  # the system's certificates do not know it
    with pytest.raises(DeliveryError, match="CERTIFICATE_VERIFY_FAILED"):
        stranger.connect()
    stranger.close()
    broker.stop()
    assert ssl.OPENSSL_VERSION


@pytest.mark.parametrize(
    "changes",
    [
        {"url": "http://host"}, {"url": "mqtt://"}, {"url": "mqtt://host/path"}, {"url": "mqtt://host:port"},
        {"topic": "a/#"}, {"device": "/x"}, {"ca": Path("cert.pem")}, {"url": "mqtts://host", "ca": Path("absent.pem")},
        {"url": "mqtts://host", "certificate": Path("cert.pem")},
    ],
    ids=str,
)  # fmt: skip
def test_settings_that_do_not_fit_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        MqttSettings(**({"url": "mqtt://user:secret@host"} | changes))


def test_a_broker_that_answers_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    monkeypatch.setattr("edge_runtime.delivery.mqtt.ANSWER_S", 0.3)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        mqtt = Mqtt(MqttSettings(url=f"mqtt://127.0.0.1:{silent.getsockname()[1]}"))
        started = time.monotonic()
        with pytest.raises(DeliveryError, match="no answer"):
            mqtt.connect()
        mqtt.close()
        assert time.monotonic() - started < 9  # An answer is waited for 10 s by default.


def test_a_client_id_is_the_run_s_own_and_the_same_after_a_restart() -> None:
    def of(**changes: Any) -> Mqtt:
        return Mqtt(MqttSettings(**({"url": "mqtt://127.0.0.1", "run": "/a/o.db"} | changes)))

    ids = [of()._client_id, of(run="/b/o.db")._client_id, of(topic="t")._client_id, of(device="x" * 80)._client_id]
    assert len(set(ids)) == 4
    assert max(map(len, ids)) <= 64
    assert of()._client_id == ids[0]


def test_what_waits_goes_on_to_the_same_destination_whatever_a_device_is_called_by_default() -> None:
    first, second = (
        Mqtt(MqttSettings(url="mqtt://127.0.0.1", default_device=name)) for name in ("host-camera_0", "host-camera_1")
    )
    assert first.name == second.name
    assert (first.base, second.base) == ("edge-aae/host-camera_0", "edge-aae/host-camera_1")
    explicit = Mqtt(MqttSettings(url="mqtt://127.0.0.1", device="line3", default_device="host-camera_0"))
    assert (explicit.base, explicit.name) == ("edge-aae/line3", "mqtt://127.0.0.1:1883/edge-aae/line3")


@needs_broker
def test_two_runs_of_one_device_do_not_throw_each_other_off(broker: Broker) -> None:
    runs = [Mqtt(settings(broker, run=run)) for run in ("/a/o.db", "/b/o.db")]
    for run in runs:
        run.connect()
    for number in range(5):
        for run in runs:
            run.publish(Message(number + 1, f"e/{number}", record("e", number)))
    for run in runs:
        run.close()


def test_a_broker_that_throws_a_client_off_again_and_again_is_told_with_the_likely_cause() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def throw_off() -> None:
            for _ in range(4):
                connection, _ = server.accept()
                with connection:
                    connection.settimeout(10)
                    connection.recv(4096)
                    connection.sendall(b"\x20\x02\x00\x00")  # CONNACK: let in
                    connection.recv(4096)

        thread = threading.Thread(target=throw_off)
        thread.start()
        mqtt = Mqtt(MqttSettings(url=f"mqtt://127.0.0.1:{server.getsockname()[1]}", device="line3"))
        said = []
        for _ in range(4):
            with pytest.raises(DeliveryError) as ended:
                mqtt.connect()
            said.append(str(ended.value))
            mqtt.close()
        thread.join(20)
    assert ["session taken over" in line for line in said] == [False, False, True, True], said
    assert mqtt._client_id in said[-1]
