"""Brokers and webhooks that mean it no good: each is a delivery that failed, in time, and nothing else."""

from __future__ import annotations

import logging
import resource
import threading
import time

import pytest

from edge_runtime.delivery import DeliveryError, Message, Mqtt, MqttSettings, Webhook
from tests.edge_runtime.delivery.hostile_peers import ACKNOWLEDGES, BROKERS, WEBHOOKS, drips, peer
from tests.edge_runtime.delivery.test_outbox import record
from tests.edge_runtime.waiting import wait_until

ANSWER_S = 1.0
MOST_S = 12.0
"""Against a hang: each step has ANSWER_S, but for those that a busy machine delays."""

MOST_MIB = 64.0


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_runtime.delivery.mqtt.ANSWER_S", ANSWER_S)


def peak_mib() -> float:
    """Of this process's life; what is compared is how it grows."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0


@pytest.mark.parametrize("name", BROKERS)
def test_a_broker_s_misdeeds_end_its_connection_and_nothing_else(name: str, caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("paho.mqtt.client", reason="paho-mqtt is not installed")
    caplog.set_level(logging.WARNING)
    threads, peak, started_s = threading.active_count(), peak_mib(), time.monotonic()
    with peer([BROKERS[name]]) as port:
        mqtt = Mqtt(MqttSettings(url=f"mqtt://127.0.0.1:{port}"))

        def deliver() -> None:
            mqtt.connect()
            for number in range(10_000):
                mqtt.publish(Message(number, f"e/{number}", {**record("e", number), "note": "x" * 20_000}))

        with pytest.raises(DeliveryError, match=f"mqtt://127.0.0.1:{port}[/ ]"):
            deliver()
        mqtt.close()
        took_s = time.monotonic() - started_s
    assert took_s < MOST_S
    assert peak_mib() - peak < MOST_MIB
    wait_until(lambda: threading.active_count() <= threads)
    assert "Traceback" not in caplog.text


def test_a_packet_that_is_too_large_is_not_read_and_is_said() -> None:
    """200 MiB took 758 MB of memory."""
    pytest.importorskip("paho.mqtt.client", reason="paho-mqtt is not installed")
    with peer([BROKERS["CONNACK of 200 MiB"]]) as port:
        mqtt = Mqtt(MqttSettings(url=f"mqtt://127.0.0.1:{port}"))
        with pytest.raises(DeliveryError, match="sent a packet of 209715200 bytes, expected 4096 at most; it was not"):
            mqtt.connect()
        mqtt.close()


def test_a_tls_handshake_that_drips_is_ended_at_its_deadline() -> None:
    """Each byte of it began another thirty seconds."""
    pytest.importorskip("paho.mqtt.client", reason="paho-mqtt is not installed")
    started_s = time.monotonic()
    with peer([lambda connection: drips(b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc", b"\0", connection)]) as port:
        mqtt = Mqtt(MqttSettings(url=f"mqtts://127.0.0.1:{port}"))
        with pytest.raises(DeliveryError, match="no connection within 1 s"):
            mqtt.connect()
        mqtt.close()
        assert time.monotonic() - started_s < MOST_S


@pytest.mark.parametrize("name", WEBHOOKS)
def test_a_webhook_s_misdeeds_are_a_failed_delivery_and_nothing_else(name: str) -> None:
    threads, peak, started_s = threading.active_count(), peak_mib(), time.monotonic()
    with peer([WEBHOOKS[name]]) as port:
        hook = Webhook(f"http://127.0.0.1:{port}/", timeout_s=ANSWER_S)
        message = Message(1, "e/0", record("e", 0))
        if name in ACKNOWLEDGES:
            hook.publish(message)
        else:
            with pytest.raises(DeliveryError, match=f"http://127.0.0.1:{port}/ ") as failed:
                hook.publish(message)
            assert failed.value.retry_after_s is None or failed.value.retry_after_s <= 300.0
        took_s = time.monotonic() - started_s
    assert took_s < MOST_S
    assert peak_mib() - peak < MOST_MIB
    wait_until(lambda: threading.active_count() <= threads)


def test_there_are_enough_of_them() -> None:
    assert len(BROKERS) + len(WEBHOOKS) >= 60
