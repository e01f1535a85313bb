"""Where `edge-aae run` puts what it finds: options, and the sinks and publishers made of them."""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_aae.commands.options import chained_options
from edge_runtime.errors import ConfigError

if TYPE_CHECKING:
    from edge_runtime.delivery import Outbox, Publisher
    from edge_runtime.live.bridge import LivePage
    from edge_runtime.scoring.detector import Detector
    from edge_runtime.sinks import Annotator, Sink
    from edge_runtime.stream.pipeline import Pipeline

__all__ = [
    "delivered",
    "delivery_options",
    "outbox_of",
    "page_of",
    "page_options",
    "sink_options",
    "sinks_of",
]

logger = logging.getLogger(__name__)

MB = 1_000_000
PATH = click.Path(path_type=Path)
POSITIVE = click.FloatRange(min=0, min_open=True)

sink_options = chained_options(
    click.option(
        "--out", "outs", multiple=True, default=["-"],
        help="- (standard output), FILE.jsonl or FILE.csv; may be repeated.  [default: -]",
    ),
    click.option("--events-only", is_flag=True, help="No frame records on - and in JSON Lines files."),
    click.option("--rotate-mb", type=POSITIVE, help="Begin a new file of --out at this size.  [default: never]"),
    click.option("--rotate-keep", type=click.IntRange(min=0), default=0, help="Older files kept.  [default: all]"),
    click.option("--boxes", is_flag=True, help="Boxes around what is anomalous, in frame records."),
    click.option("--snapshots", type=PATH, help="Folder for a picture of each event."),
    click.option("--clips", type=PATH, help="Folder for a video of each event."),
    click.option("--pre-roll", type=click.FloatRange(0, 60), default=3.0, show_default=True, help="Seconds before."),
    click.option("--post-roll", type=click.FloatRange(0, 600), default=3.0, show_default=True, help="Seconds after."),
    click.option("--record", type=PATH, help="Folder for videos of everything that is scored."),
    click.option("--keep-days", type=click.FloatRange(min=0), default=30.0, show_default=True, help="In these."),
    click.option(
        "--keep-mb", type=click.FloatRange(min=0), default=1000.0, show_default=True, help="In each; 0: no limit."
    ),
)  # fmt: skip

page_options = chained_options(
    click.option("--serve", help="Live page at :PORT (loopback) or HOST:PORT, elsewhere with a token."),
    click.option("--serve-token", envvar="EDGE_AAE_SERVE_TOKEN", help="That token.  [default: a new one, printed]"),
    click.option(
        "--serve-fps", type=click.FloatRange(0.1, 60), default=5.0, show_default=True, help="Its pictures a second."
    ),
    click.option("--feedback", type=PATH, default=Path("feedback"), show_default=True, help="Folder for its answers."),
)  # fmt: skip

delivery_options = chained_options(
    click.option("--mqtt", envvar="EDGE_AAE_MQTT", help="Broker for events and state: mqtt[s]://USER:PASSWORD@HOST:PORT."),
    click.option("--mqtt-topic", default="edge-aae", show_default=True, help="What all topics begin with."),
    click.option("--device", default="", help="This device's name in topics.  [default: the host's name]"),
    click.option("--mqtt-ca", type=PATH, help="Certificates to check the broker's against.  [default: the system's]"),
    click.option("--mqtt-cert", type=PATH, help="This device's own certificate."),
    click.option("--mqtt-key", type=PATH, help="Its key."),
    click.option("--webhook", "webhooks", multiple=True, help="URL that gets each event as a POST; may be repeated."),
    click.option("--webhook-token", envvar="EDGE_AAE_WEBHOOK_TOKEN", help="Sent as Authorization: Bearer TOKEN."),
    click.option(
        "--outbox", type=PATH,
        help="File that keeps events until they are delivered.  [default with --mqtt, --webhook: edge-aae-outbox.db]",
    ),
    click.option("--outbox-mb", type=click.FloatRange(min=1), default=256.0, show_default=True, help="Its limit."),
)  # fmt: skip


def sinks_of(options: Mapping[str, Any], detector: Detector, annotator: Annotator, outbox: Outbox | None) -> list[Sink]:
    """The sinks that were asked for, none of them open; raises click.UsageError where they do not fit together."""
    from edge_runtime import sinks as kinds

    rotation = kinds.Rotation(round(MB * (options["rotate_mb"] or 0)), options["rotate_keep"])
    if options["rotate_keep"] and not rotation.max_bytes:
        raise click.UsageError("--rotate-keep says how many files --rotate-mb leaves; name that too")
    retention = kinds.Retention(days=options["keep_days"], max_bytes=round(MB * options["keep_mb"]))
    records = ("event", "status") if options["events_only"] else kinds.SinkBase.kinds
    outs = options["outs"]
    if len(set(outs)) < len(outs):
        raise click.UsageError(f"--out names one place twice among {', '.join(outs)}")
    found: list[Sink] = []
    if outbox is not None:
        from edge_runtime.delivery import OutboxSink

        found.append(OutboxSink(outbox))
    for out in outs:
        if out == "-":
            found.append(kinds.StandardOutput(records))
        elif out.endswith(".csv"):
            found.append(kinds.CsvFile(Path(out), detector.bundle.criteria, rotation))
        else:
            found.append(kinds.JsonLinesFile(Path(out), rotation, records))
    folders = [options[name] for name in ("snapshots", "clips", "record") if options[name]]
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise click.UsageError("--snapshots, --clips and --record need a folder each: retention counts them apart")
    if (options["snapshots"] or options["clips"]) and options["alarm"] is None:
        raise click.UsageError("--snapshots and --clips are of events, which --alarm begins; name that too")
    if options["snapshots"]:
        found.append(kinds.Snapshots(options["snapshots"], annotator, retention))
    if options["clips"]:
        pre_roll, post_roll = options["pre_roll"], options["post_roll"]
        found.append(kinds.Clips(options["clips"], annotator, retention, before_s=pre_roll, after_s=post_roll))
    if options["record"]:
        found.append(kinds.Recording(options["record"], annotator, retention))
    return found


def page_of(options: Mapping[str, Any], pipeline: Callable[[], Pipeline], bundle: Path) -> LivePage | None:
    """The live page, a sink, not yet open; None where none is asked for. pipeline: that it is of, once there is one."""
    if options["serve"] is None:
        return None
    from edge_runtime.live.access import is_loopback
    from edge_runtime.live.bridge import LivePage, LiveSettings
    from edge_runtime.operations.health_server import address_from

    host, port = address_from(options["serve"])
    token = options["serve_token"] or ("" if is_loopback(host) else secrets.token_urlsafe(18))
    settings = LiveSettings(
        host=host, port=port, token=token, fps=options["serve_fps"], feedback=options["feedback"], bundle=bundle
    )
    page = LivePage(settings, pipeline)
    # A token that was given is known, and stays out of the log.
    page.on_open = lambda: logger.info(
        "live page at %s", page.address.split("?")[0] if options["serve_token"] else page.address
    )
    return page


@contextmanager
def outbox_of(options: Mapping[str, Any]) -> Iterator[tuple[Outbox | None, list[Publisher]]]:
    """The outbox, open within the block, and the publishers; None and none where no one is to be told of events."""
    publishers = _publishers(options)
    if options["outbox"] is None and not publishers:
        yield None, []
        return
    if options["alarm"] is None:
        raise click.UsageError("--mqtt, --webhook and --outbox carry events, which --alarm begins; name that too")
    from edge_runtime.delivery import Outbox

    path = options["outbox"] or Path(os.environ.get("STATE_DIRECTORY", ".")) / "edge-aae-outbox.db"
    names = [publisher.name for publisher in publishers]
    if len(set(names)) < len(names):
        raise click.UsageError(f"one destination is named twice among {', '.join(names)}")
    outbox = Outbox(path, names, max_bytes=round(MB * options["outbox_mb"]))
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

    with delivering(pipeline, publishers, outbox):
        yield


def _publishers(options: Mapping[str, Any]) -> list[Publisher]:
    publishers: list[Publisher] = []
    if options["mqtt"]:
        from edge_runtime.delivery import Mqtt, MqttSettings

        settings = MqttSettings(
            url=options["mqtt"],
            topic=options["mqtt_topic"],
            device=options["device"],
            ca=options["mqtt_ca"],
            certificate=options["mqtt_cert"],
            key=options["mqtt_key"],
        )
        publishers.append(Mqtt(settings))
    elif options["mqtt_ca"] or options["mqtt_cert"] or options["mqtt_key"]:
        raise ConfigError("certificates are for --mqtt mqtts://HOST, which is not named")
    if options["webhooks"]:
        from edge_runtime.delivery import Webhook

        token = options["webhook_token"]
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        publishers.extend(Webhook(url, headers) for url in options["webhooks"])
    elif options["webhook_token"]:
        raise ConfigError("a token is for --webhook URL, which is not named")
    return publishers
