"""Events and state over MQTT: QoS 1, acknowledged message by message; a Last Will; state that the broker retains."""

from __future__ import annotations

import json
import re
import socket
import ssl
import threading
import time
import zlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from edge_runtime.delivery.courier import DeliveryError, unreached
from edge_runtime.delivery.outbox import Message
from edge_runtime.errors import ConfigError
from edge_runtime.extras import require
from edge_runtime.files import file_stem
from edge_runtime.redact import is_ambiguous, redact, remember
from edge_runtime.serving.deadline import Deadline

__all__ = ["Mqtt", "MqttSettings"]

GOES_WITHIN_S = 1.0
"""How long a connection may take to end in order."""

ANSWER_S = 10.0
"""How long the broker may take to accept a connection or to acknowledge a message."""

KEEPALIVE_S = 30

LARGEST_PACKET = 4096
"""Bytes of a packet of the broker's: we subscribe to nothing, and what answers us has a dozen."""

PUBLISH = 0x30
"""MQTT 3.1.1, 2.2.1: a packet's type, in the upper half of its first byte"""

FREE_PACKETS = 100
"""A broker may send so many that nobody waits for, one a second more, and two for each message of ours"""

SOON_S, MOST_SOON = 5.0, 3
"""So many connections in a row that the broker ended so soon after it had let us in: as MQTT 3.1.1, 3.1.4, has it do
where another client comes with our id; it gives no reason, which MQTT 5 calls 0x8E"""

PORTS = {"mqtt": 1883, "mqtts": 8883}
EXPECTED = "mqtt://HOST:PORT or mqtts://HOST:PORT"

ADDRESS = re.compile(r"[^@?=/#\s]+")
"""HOST or HOST:PORT, which hold no password"""


@dataclass(frozen=True, kw_only=True, slots=True)
class MqttSettings:
    """How to reach the broker, and under which names to publish."""

    url: str
    """mqtt[s]://[USER:PASSWORD@]HOST[:PORT]"""
    topic: str = "edge-aae"
    """What all topics begin with."""
    device: str = ""
    """This device's part of the topics, as somebody named it; empty: default_device."""
    default_device: str = ""
    """That part where nobody named one; the host's name where it is empty. It may change with the sources: what waits
    in an outbox still goes to the same destination."""
    run: str = ""
    """What tells this run from all others on the host and stays from start to start, such as its outbox's path: two
    clients of one id throw each other off the broker"""
    ca: Path | None = None
    """Certificates that the broker's is checked against, for mqtts; None: the system's."""
    certificate: Path | None = None
    """This device's own, with key, where the broker asks for one."""
    key: Path | None = None

    def __post_init__(self) -> None:
        remember(self.url)
        if "://" not in self.url:
            # What stands before an @ or after a ? may be secret, and so is all that came from a file.
            if not ADDRESS.fullmatch(self.url) or redact(self.url) != self.url:
                raise ConfigError("--mqtt (not shown, it may hold a secret) does not begin with mqtt:// or mqtts://")
            raise ConfigError(f"--mqtt is {self.url!r}, expected {EXPECTED}; try mqtt://{self.url}")
        if is_ambiguous(self.url):
            raise ConfigError(
                f"--mqtt is {redact(self.url)!r}: user or password holds one of / ? # as it is; write %2F, %3F, %23"
            )
        try:
            parts = urlsplit(self.url)
            port = parts.port
        except ValueError as error:
            raise ConfigError(f"--mqtt is {redact(self.url)!r}: {redact(str(error))}") from error
        if parts.scheme not in PORTS or not parts.hostname or parts.path not in ("", "/") or port == 0:
            raise ConfigError(f"--mqtt is {redact(self.url)!r}, expected {EXPECTED}")
        for name, value in (("topic", self.topic), ("device", self.device or self.default_device)):
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


class _Shaken(ssl.SSLSocket):
    """Closed where the handshake fails; Paho leaves it open."""

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except BaseException:
            self.close()
            raise


class Mqtt:
    """A broker. Topics below TOPIC/DEVICE: availability (online, offline), state (JSON), both retained; events."""

    def __init__(self, settings: MqttSettings) -> None:
        self._paho = require("paho.mqtt.client", extra="mqtt", purpose="connections over MQTT")
        self._settings = settings
        self._parts = urlsplit(settings.url)
        host = socket.gethostname()
        device = settings.device or settings.default_device or host
        self.base = f"{settings.topic}/{device}"
        self._broker = f"{self._parts.scheme}://{self._parts.hostname}:{self._port}"
        self.name = f"{self._broker}/{settings.topic}/{settings.device or host}"
        # The same after a restart: a broker ends a connection of before, and tells its Last Will, before it lets us in.
        own = zlib.crc32("\n".join((host, settings.run, self.base)).encode())
        self._client_id = f"edge-aae-{file_stem(device)}"[:55] + f"-{own:08x}"
        self._let_in_s = 0.0
        self._n_soon = 0
        self._client: Any = None
        self._answered = threading.Event()
        self._lost = threading.Event()
        self._refusal = self._fault = ""
        self._packets = self._published = 0
        self._told: dict[str, Any] = {}

    def connect(self) -> None:
        """A connection of its own each time: nothing of an earlier one is sent again by anyone but the courier."""
        paho, settings = self._paho, self._settings
        deadline = Deadline(ANSWER_S)
        client = self._bounded(deadline)(
            paho.CallbackAPIVersion.VERSION2, client_id=self._client_id, clean_session=True, reconnect_on_failure=False
        )
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
            context.sslsocket_class = _Shaken
            client.tls_set_context(context)
        client.connect_timeout = ANSWER_S
        self._answered, self._lost, self._refusal, self._told = threading.Event(), threading.Event(), "", {}
        self._fault, self._packets, self._published = "", 0, 0
        answered, lost = self._answered, self._lost

        def on_connect(_: Any, __: Any, ___: Any, reason: Any, ____: Any) -> None:
            self._refusal = str(reason) if reason.is_failure else ""
            self._let_in_s = time.monotonic()
            answered.set()

        def on_disconnect(*_: Any) -> None:
            if answered.is_set() and not self._refusal and not lost.is_set() and self._client is not None:
                self._n_soon = self._n_soon + 1 if time.monotonic() - self._let_in_s < SOON_S else 0
            lost.set()

        client.on_connect, client.on_disconnect = on_connect, on_disconnect
        try:
            with deadline:
                client.connect(self._parts.hostname, self._port, keepalive=KEEPALIVE_S)
        except (OSError, ValueError) as error:
            if deadline.is_over:
                raise DeliveryError(f"{self._broker} gave no connection within {ANSWER_S:g} s") from error
            raise DeliveryError(unreached(self._broker, error, "the broker")) from error
        self._client = client
        client.loop_start()
        if not answered.wait(ANSWER_S) or self._refusal:
            raise DeliveryError(f"{self.name} does not let us in: {self._refusal or self._fault or 'no answer'}")
        self._publish("availability", b"online", retain=True)

    def publish(self, message: Message) -> None:
        """Publish under events; returns at the broker's PUBACK for this very message."""
        self._publish("events", json.dumps(message.record, allow_nan=False).encode("utf-8"), retain=False)

    def tell(self, health: dict[str, Any]) -> None:
        """Publish the state where it changed, retained: who subscribes late knows it at once."""
        if self._lost.is_set():
            raise DeliveryError(f"{self.name} {self._end()}")
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
            with suppress(RuntimeError, ValueError):  # Paho's, where the connection went meanwhile
                while not farewell.is_published() and time.monotonic() < deadline and not self._lost.is_set():
                    time.sleep(0.01)
        with Deadline(GOES_WITHIN_S) as going:
            connection = client.socket()
            if connection is not None:
                with suppress(OSError, ValueError):  # it may be closed by now
                    going.hold(connection)
            client.disconnect()
            client.loop_stop()  # a broker that takes nothing would keep it waiting

    def _end(self) -> str:
        if self._fault or self._n_soon < MOST_SOON:
            return self._fault or "ended the connection"
        return (
            f"ended the connection {self._n_soon} times in a row soon after it had let us in: another client may have "
            f"the id {self._client_id} (session taken over); give each run an --outbox and a --device of its own"
        )

    def _check_packet(self, is_publish: bool, begun_s: float) -> str:
        """What is wrong with getting another packet; empty: nothing."""
        self._packets += 1
        if is_publish:
            return "publishes to us, who subscribe to nothing; the connection was ended"
        if self._packets > FREE_PACKETS + time.monotonic() - begun_s + 2 * self._published:
            return f"sent {self._packets} packets, {self._published} of ours to answer; the connection was ended"
        return ""

    def _bounded(self, deadline: Deadline) -> Any:
        """Paho's client for a broker that is not trusted: it takes small packets that answer us, and no others.

        Paho reads whatever length is announced, keeps what is published to it, and ends its thread with a traceback
        where a packet is none (2.1.0).
        """
        paho, mqtt, begun_s = self._paho, self, time.monotonic()

        class Client(paho.Client):  # type: ignore[name-defined, misc]
            def _create_socket_connection(self) -> Any:
                return deadline.hold(super()._create_socket_connection())

            def _sock_recv(self, size: int) -> Any:
                if size > LARGEST_PACKET:
                    mqtt._fault = f"sent a packet of {size} bytes, expected {LARGEST_PACKET} at most; it was not read"
                    raise ConnectionAbortedError(mqtt._fault)
                return super()._sock_recv(size)

            def _packet_handle(self) -> Any:
                fault = mqtt._check_packet(self._in_packet["command"] & 0xF0 == PUBLISH, begun_s)
                if not fault:
                    try:
                        return super()._packet_handle()
                    except Exception as error:  # noqa: BLE001 - of a broker's bytes anything may come
                        fault = f"sent a packet that is none: {error!r}"
                mqtt._fault = fault
                return paho.MQTT_ERR_PROTOCOL

        return Client

    @property
    def _port(self) -> int:
        return self._parts.port or PORTS[self._parts.scheme]

    def _publish(self, topic: str, payload: bytes, *, retain: bool) -> None:
        if self._client is None or self._lost.is_set():
            raise DeliveryError(f"{self.name} {self._end()}")
        self._published += 1
        sent = self._client.publish(f"{self.base}/{topic}", payload, qos=1, retain=retain)
        deadline = time.monotonic() + ANSWER_S
        while True:
            if sent.rc != self._paho.MQTT_ERR_SUCCESS:
                raise DeliveryError(f"{self.name} does not take messages: {self._paho.error_string(sent.rc)}")
            with suppress(RuntimeError, ValueError):  # Paho's, where the connection went meanwhile
                sent.wait_for_publish(0.1)
                if sent.is_published():
                    return
            if self._lost.is_set() or time.monotonic() > deadline:
                reason = self._end() if self._lost.is_set() else f"gave no answer for {ANSWER_S:.0f} s"
                raise DeliveryError(f"{self.name} {reason}")
