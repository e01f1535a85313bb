"""Whom `edge-aae run` tells of events: options, and the outbox and publishers made of them."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge_aae.commands.option_groups import OptionGroup, option
from edge_aae.commands.secret_values import secret_of
from edge_runtime.errors import ConfigError

if TYPE_CHECKING:
    from edge_runtime.delivery import MqttSettings, Outbox, Publisher, Webhook
    from edge_runtime.stream.pipeline import Pipeline

__all__ = ["DeliveryOptions", "delivered", "outbox_of"]

logger = logging.getLogger(__name__)

MB = 1_000_000
PATH = click.Path(path_type=Path)


@dataclass(frozen=True, kw_only=True, slots=True)
class DeliveryOptions(OptionGroup):
    """Where events go beside the sinks, and what keeps them until they are there."""

    mqtt: str | None = option(
        "--mqtt",
        envvar="EDGE_AAE_MQTT",
        help="Broker for events: mqtt[s]://HOST:PORT; @FILE with USER:PASSWORD@ too.",
    )
    mqtt_topic: str = option("--mqtt-topic", default="edge-aae", show_default=True, help="What all topics begin with.")
    device: str = option(
        "--device", default="", help="Name in topics.  [default: the host's and the service's, or the sources']"
    )
    mqtt_ca: Path | None = option(
        "--mqtt-ca", type=PATH, help="Certificates to check the broker's against.  [default: the system's]"
    )
    mqtt_cert: Path | None = option("--mqtt-cert", type=PATH, help="This device's own certificate.")
    mqtt_key: Path | None = option("--mqtt-key", type=PATH, help="Its key.")
    webhooks: tuple[str, ...] = option(
        "--webhook", multiple=True, help="URL that gets each event as a POST, or @FILE with it; may be repeated."
    )
    webhook_token: str | None = option(
        "--webhook-token",
        envvar="EDGE_AAE_WEBHOOK_TOKEN",
        help="@FILE with what is sent as Authorization: Bearer.",
    )
    outbox: Path | None = option(
        "--outbox",
        type=PATH,
        help="File that keeps events until they are delivered.  [default with --mqtt, --webhook: edge-aae-outbox.db]",
    )
    outbox_mb: float = option(
        "--outbox-mb", type=click.FloatRange(min=1), default=256.0, show_default=True, help="Its limit."
    )

    def __post_init__(self) -> None:
        self._broker()
        self._posts()

    @property
    def wanted(self) -> bool:
        """Whether events are kept or brought anywhere."""
        return self.outbox is not None or bool(self.mqtt or self.webhooks)

    @property
    def place(self) -> Path:
        """Where the outbox lies."""
        from edge_runtime.delivery.outbox_file import USUAL_NAME

        return self.outbox or Path(os.environ.get("STATE_DIRECTORY", ".")) / USUAL_NAME

    def publishers(self, sources: Sequence[str] = ()) -> list[Publisher]:
        """The broker and the webhooks, none of them connected; raises MissingExtraError where MQTT's is missing.

        sources: their names, by which a device is called that has no name and is no service.
        """
        found: list[Publisher] = []
        broker = self._broker(sources)
        if broker is not None:
            from edge_runtime.delivery import Mqtt

            found.append(Mqtt(broker))
        return [*found, *self._posts()]

    def _broker(self, sources: Sequence[str] = ()) -> MqttSettings | None:
        if not self.mqtt:
            if self.mqtt_ca or self.mqtt_cert or self.mqtt_key:
                raise ConfigError("certificates are for --mqtt mqtts://HOST, which is not named")
            return None
        from edge_runtime.delivery import MqttSettings

        return MqttSettings(
            url=secret_of(self.mqtt, "--mqtt"),
            topic=self.mqtt_topic,
            device=self.device,
            default_device=default_device(sources),
            run=str(self.place.resolve()),
            ca=self.mqtt_ca,
            certificate=self.mqtt_cert,
            key=self.mqtt_key,
        )

    def _posts(self) -> list[Webhook]:
        if not self.webhooks:
            if self.webhook_token:
                raise ConfigError("a token is for --webhook URL, which is not named")
            return []
        from edge_runtime.delivery import Webhook

        token = secret_of(self.webhook_token or "", "--webhook-token")
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return [Webhook(secret_of(url, "--webhook"), headers) for url in self.webhooks]


def default_device(sources: Sequence[str]) -> str:
    """HOST-SERVICE of a run that systemd started, else HOST-SOURCES: two runs on one host are two devices."""
    from edge_runtime.files import file_stem

    service = Path(os.environ.get("STATE_DIRECTORY", "").partition(":")[0]).name
    called = service or (file_stem(" ".join(sources)) if sources else "")
    return f"{socket.gethostname()}-{called}" if called else ""


@contextmanager
def outbox_of(
    delivery: DeliveryOptions, sources: Sequence[str] = ()
) -> Iterator[tuple[Outbox | None, list[Publisher]]]:
    """The outbox, open within the block, and the publishers; None and none where no one is to be told of events."""
    if not delivery.wanted:
        yield None, []
        return
    from edge_runtime.delivery import Outbox

    publishers = delivery.publishers(sources)
    names = [publisher.name for publisher in publishers]
    if len(set(names)) < len(names):
        raise click.UsageError(f"one destination is named twice among {', '.join(names)}")
    outbox = Outbox(delivery.place, names, max_bytes=round(MB * delivery.outbox_mb))
    try:
        yield outbox, publishers
    finally:
        outbox.close()


@contextmanager
def delivered(pipeline: Pipeline, outbox: Outbox | None, publishers: list[Publisher]) -> Iterator[None]:
    """Couriers at work within the block, where there is anything to carry."""
    if outbox is None or not publishers:
        yield
        return
    from edge_runtime.delivery import delivering

    try:
        with delivering(pipeline, publishers, outbox):
            yield
    finally:
        _tell_waiting(outbox, publishers)


def _tell_waiting(outbox: Outbox, publishers: list[Publisher]) -> None:
    """Say what the run leaves in the file; what is in memory alone, the outbox says itself when it is closed."""
    import sqlite3

    try:
        n_waiting = max(outbox.n_pending(publisher.name) for publisher in publishers)
    except sqlite3.Error:  # nobody may have the file any more; the sink says so
        return
    if n_waiting and not outbox.in_memory:
        logger.warning(
            "%d message%s not delivered yet: %s in %s for the next run",
            n_waiting,
            " is" if n_waiting == 1 else "s are",
            "it waits" if n_waiting == 1 else "they wait",
            outbox.path,
        )
