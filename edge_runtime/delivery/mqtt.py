"""Events and state over MQTT: QoS 1, acknowledged message by message; a Last Will; state that the broker retains."""

from __future__ import annotations

import json
import socket
import ssl
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from edge_runtime.delivery.courier import DeliveryError
from edge_runtime.delivery.outbox import Message
from edge_runtime.errors import ConfigError
from edge_runtime.extras import require
from edge_runtime.files import file_stem
from edge_runtime.redact import redact

__all__ = ["Mqtt", "MqttSettings"]

ANSWER_S = 10.0
"""How long the broker may take to accept a connection or to acknowledge a message."""

KEEPALIVE_S = 30

PORTS = {"mqtt": 1883, "mqtts": 8883}


@dataclass(frozen=True, kw_only=True, slots=True)
class MqttSettings:
    """How to reach the broker, and under which names to publish."""

    url: str
    """mqtt[s]://[USER:PASSWORD@]HOST[:PORT]"""
    topic: str = "edge-aae"
    """What all topics begin with."""
    device: str = ""
    """This device's part of the topics; the host's name where it is empty."""
    ca: Path | None = None
    """Certificates that the broker's is checked against, for mqtts; None: the system's."""
    certificate: Path | None = None
    """This device's own, with key, where the broker asks for one."""
    key: Path | None = None

    def __post_init__(self) -> None:
        try:
            parts = urlsplit(self.url)
            port = parts.port
        except ValueError as error:
            raise ConfigError(f"MQTT broker is {redact(self.url)!r}: {error}") from error
        if parts.scheme not in PORTS or not parts.hostname or parts.path not in ("", "/") or port == 0:
            raise ConfigError(f"MQTT broker is {redact(self.url)!r}, expected mqtt://HOST:PORT or mqtts://HOST:PORT")
        for name, value in (("topic", self.topic), ("device", self.device)):
            if any(mark in value for mark in "#+\0") or value.startswith("/") or value.endswith("/"):
                raise ConfigError(f"MQTT {name} is {value!r}, expected names between slashes, without + and #")
        tls = [path for path in (self.ca, self.certificate, self.key) if path]
        if tls and parts.scheme != "mqtts":
            raise ConfigError("certificates are for mqtts://; the broker is named with mqtt://")
        if (self.certificate is None) != (self.key is None):
            raise ConfigError("a certificate and its key belong together; name both")
        for path in tls:
            if not path.is_file():
                raise ConfigError(f"{path} is not a file; expected a certificate or key in PEM")


class Mqtt:
    """A broker. Topics below TOPIC/DEVICE: availability (online, offline), state (JSON), both retained; events."""

    def __init__(self, settings: MqttSettings) -> None:
        self._paho = require("paho.mqtt.client", extra="mqtt", purpose="MQTT")
        self._settings = settings
        self._parts = urlsplit(settings.url)
        device = settings.device or socket.gethostname()
        self.base = f"{settings.topic}/{device}"
        self.name = f"{self._parts.scheme}://{self._parts.hostname}:{self._port}/{self.base}"
        self._client_id = f"edge-aae-{file_stem(device)}-{file_stem(settings.topic)}"[:64]
        self._client: Any = None
        self._answered = threading.Event()
        self._lost = threading.Event()
        self._refusal = ""
        self._told: dict[str, Any] = {}

    def connect(self) -> None:
        """A connection of its own each time: nothing of an earlier one is sent again by anyone but the courier."""
        paho, settings = self._paho, self._settings
        client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id=self._client_id, clean_session=True)
        client.will_set(f"{self.base}/availability", "offline", qos=1, retain=True)
        if self._parts.username is not None:
            client.username_pw_set(unquote(self._parts.username), unquote(self._parts.password or ""))
        if self._parts.scheme == "mqtts":
            try:
                context = ssl.create_default_context(cafile=settings.ca and str(settings.ca))
                if settings.certificate and settings.key:
                    context.load_cert_chain(str(settings.certificate), str(settings.key))
            except (ssl.SSLError, OSError) as error:
                raise DeliveryError(f"certificates cannot be used: {error}") from error
            client.tls_set_context(context)
        client.connect_timeout = ANSWER_S
        self._answered, self._lost, self._refusal, self._told = threading.Event(), threading.Event(), "", {}
        answered, lost = self._answered, self._lost

        def on_connect(_: Any, __: Any, ___: Any, reason: Any, ____: Any) -> None:
            self._refusal = str(reason) if reason.is_failure else ""
            answered.set()

        def on_disconnect(*_: Any) -> None:
            lost.set()

        client.on_connect, client.on_disconnect = on_connect, on_disconnect
        try:
            client.connect(self._parts.hostname, self._port, keepalive=KEEPALIVE_S)
        except (OSError, ValueError) as error:
            raise DeliveryError(f"{self.name} cannot be reached: {error}") from error
        self._client = client
        client.loop_start()
        if not answered.wait(ANSWER_S) or self._refusal:
            raise DeliveryError(f"{self.name} does not let us in: {self._refusal or 'no answer'}")
        self._publish("availability", b"online", retain=True)

    def publish(self, message: Message) -> None:
        """Publish under events; returns at the broker's PUBACK for this very message."""
        self._publish("events", json.dumps(message.record, allow_nan=False).encode("utf-8"), retain=False)

    def tell(self, health: dict[str, Any]) -> None:
        """Publish the state where it changed, retained: who subscribes late knows it at once."""
        if self._lost.is_set():
            raise DeliveryError(f"{self.name} ended the connection")
        if health != self._told:
            self._publish("state", json.dumps(health, allow_nan=False).encode("utf-8"), retain=True)
            self._told = health

    def close(self) -> None:
        """Say offline, and disconnect; where the broker is gone its Last Will says it."""
        client, self._client = self._client, None
        if client is None:
            return
        if not self._lost.is_set() and self._answered.is_set() and not self._refusal:
            farewell = client.publish(f"{self.base}/availability", b"offline", qos=1, retain=True)
            deadline = time.monotonic() + 0.5
            while not farewell.is_published() and time.monotonic() < deadline and not self._lost.is_set():
                time.sleep(0.01)
        client.disconnect()
        client.loop_stop()

    @property
    def _port(self) -> int:
        return self._parts.port or PORTS[self._parts.scheme]

    def _publish(self, topic: str, payload: bytes, *, retain: bool) -> None:
        if self._client is None or self._lost.is_set():
            raise DeliveryError(f"{self.name} ended the connection")
        sent = self._client.publish(f"{self.base}/{topic}", payload, qos=1, retain=retain)
        deadline = time.monotonic() + ANSWER_S
        while True:
            if sent.rc != self._paho.MQTT_ERR_SUCCESS:
                raise DeliveryError(f"{self.name} does not take messages: {self._paho.error_string(sent.rc)}")
            sent.wait_for_publish(0.1)
            if sent.is_published():
                return
            if self._lost.is_set() or time.monotonic() > deadline:
                reason = "ended the connection" if self._lost.is_set() else f"gave no answer for {ANSWER_S:.0f} s"
                raise DeliveryError(f"{self.name} {reason}")
