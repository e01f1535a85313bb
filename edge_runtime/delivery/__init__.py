"""Events to elsewhere: an outbox on disk, and couriers that bring what is in it to brokers and webhooks."""

from edge_runtime.delivery.courier import Courier, DeliveryError, Publisher, delivering
from edge_runtime.delivery.mqtt import Mqtt, MqttSettings
from edge_runtime.delivery.outbox import Message, Outbox
from edge_runtime.delivery.sink import OutboxSink
from edge_runtime.delivery.webhook import Webhook

__all__ = [
    "Courier",
    "DeliveryError",
    "Message",
    "Mqtt",
    "MqttSettings",
    "Outbox",
    "OutboxSink",
    "Publisher",
    "Webhook",
    "delivering",
]
