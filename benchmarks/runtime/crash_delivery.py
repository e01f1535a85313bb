"""kill -9 at random moments, with a real broker going up and down: is every reported event delivered, in order?

    python benchmarks/runtime/crash_delivery.py MODEL [--kills 200] [--seed 0] [--out docs/results]

MODEL: the bundle of `make demo`. A run of `edge-aae run --mqtt` over test:// begins events about every second and is
killed after a random 0 to 3 seconds; a Mosquitto broker, on the loopback, is ended and begun again at random moments of
its own. All runs share one outbox. A subscriber with a session of its own listens throughout. At the end one run
without events empties the outbox. An event counts as reported where standard output named its id, in a frame or an
event record.
Prints the account and writes crash_delivery.json. Needs mosquitto and paho-mqtt.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from benchmarks.command_line import keep
from benchmarks.machine import cpu_name
from benchmarks.runtime.broker import Broker
from benchmarks.runtime.soak import normal_pictures
from edge_runtime.delivery import Outbox
from edge_runtime.scoring.detector import Detector
from edge_runtime.sources.synthetic import TestSource

EVENTS = "test://defect?fps=60&width=64&height=64&at=0.1&for=0.3&every=0.7&images="
QUIET = "test://pattern?fps=30&width=64&height=64&images="
LONGEST_LIFE_S = 3.0
BROKER_UP_S, BROKER_DOWN_S = (1.0, 8.0), (0.2, 4.0)
DEVICE = "crash"
SESSIONS = "persistence true\npersistence_location {folder}/\nmax_queued_messages 0\n"
"""So that the subscriber's session survives the broker's restarts."""


class Subscriber:
    """Everything that arrives under events, in order, across the broker's restarts."""

    def __init__(self, port: int, topic: str) -> None:
        import paho.mqtt.client as paho

        self.arrived: list[dict[str, Any]] = []
        self._subscribed = threading.Event()
        client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id="watcher", clean_session=False)
        client.reconnect_delay_set(0.05, 0.2)
        client.on_connect = lambda c, *_: c.subscribe(topic, 1)
        client.on_subscribe = lambda *_: self._subscribed.set()
        client.on_message = lambda _, __, message: self.arrived.append(json.loads(message.payload))
        client.connect("127.0.0.1", port)
        client.loop_start()
        self._client = client
        assert self._subscribed.wait(10), "the broker takes no subscription"

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


def trial(
    model: Path, pictures: Path, n_kills: int, work: Path, *, seed: int = 0, say: Any = lambda text: None
) -> dict[str, Any]:
    """Kill so many runs over pictures that the bundle finds normal; the account of what was reported and arrived."""
    rng = random.Random(seed)
    threshold = threshold_for(model, pictures)
    broker = Broker(work, SESSIONS.format(folder=work))
    broker.start()
    subscriber = Subscriber(broker.port, f"edge-aae/{DEVICE}/events")
    ended = threading.Event()
    restarts = 0

    def weather() -> None:
        nonlocal restarts
        moods = random.Random(seed + 1)
        while not ended.wait(moods.uniform(*BROKER_UP_S)):
            broker.stop()
            ended.wait(moods.uniform(*BROKER_DOWN_S))
            broker.start()
            restarts += 1

    thread = threading.Thread(target=weather)
    thread.start()
    reported: list[str] = []
    try:
        for number in range(n_kills):
            output = work / "output.jsonl"
            life_s = rng.uniform(0.0, LONGEST_LIFE_S)
            process = run_of(model, f"{EVENTS}{pictures}", threshold, broker.port, work, output)
            begin_s = time.monotonic()
            while not output.stat().st_size and process.poll() is None and time.monotonic() - begin_s < 30:
                time.sleep(0.01)  # its life begins with the first record, whatever the imports took
            time.sleep(life_s)
            process.kill()
            process.wait()
            reported += [event_id for event_id in events_of(output) if event_id not in reported]
            if (number + 1) % 10 == 0:
                say(f"{number + 1} kills, {len(reported)} events reported, {len(subscriber.arrived)} messages arrived")
    finally:
        ended.set()
        thread.join()
    process = run_of(model, f"{QUIET}{pictures}", threshold, broker.port, work, work / "output.jsonl")
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not emptied(subscriber):
        time.sleep(0.2)
    process.terminate()
    process.wait(30)
    time.sleep(0.5)
    subscriber.close()
    broker.stop()
    account = account_of(reported, subscriber.arrived)
    outbox = Outbox(work / "outbox.db", [])
    outbox.close()
    return {"kills": n_kills, "broker_restarts": restarts, **account}


def threshold_for(model: Path, pictures: Path) -> float:
    """Half way between the made-up camera's frames without and with its blot."""
    detector = Detector.load(model)
    scores: dict[str, list[float]] = {}
    for url in (f"{QUIET}{pictures}", f"test://defect?fps=60&width=64&height=64&at=0&for=99&images={pictures}"):
        with TestSource(url) as source:
            scores[url] = []
            for _ in range(15):
                source.grab()
                scores[url].append(detector.score(source.retrieve().image).score)
    quiet, blot = scores.values()
    assert max(quiet) < min(blot), "the bundle does not see the blot of test://defect on these pictures"
    return (max(quiet) + min(blot)) / 2.0


def run_of(model: Path, source: str, threshold: float, port: int, work: Path, output: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "edge_aae.cli", "run", "--model", str(model), "--source", source]
    command += [
        "--threshold",
        str(threshold),
        "--alarm",
        "2/3",
        "--clear-frames",
        "5",
        "--threads",
        "1",
        "--reject",
        "none",
    ]
    command += ["--mqtt", f"mqtt://127.0.0.1:{port}", "--device", DEVICE, "--outbox", str(work / "outbox.db")]
    with output.open("wb") as stream:
        return subprocess.Popen(command, stdout=stream, stderr=subprocess.DEVNULL)


def events_of(output: Path) -> list[str]:
    """Ids of the events that standard output named, in order; the last line may have been cut by the kill."""
    found: list[str] = []
    for line in output.read_bytes().splitlines():
        try:
            event_id = json.loads(line).get("event_id")
        except ValueError:
            continue
        if event_id and event_id not in found:
            found.append(event_id)
    return found


def emptied(subscriber: Subscriber) -> bool:
    """Whether the last thing that arrived ended an event and nothing has come for a while."""
    n_arrived = len(subscriber.arrived)
    time.sleep(2.0)
    return len(subscriber.arrived) == n_arrived and bool(n_arrived) and subscriber.arrived[-1]["phase"] == "end"


def account_of(reported: list[str], arrived: list[dict[str, Any]]) -> dict[str, Any]:
    """What was lost, out of order, or came twice as something else."""
    first: dict[str, dict[str, Any]] = {}
    altered = 0
    for record in arrived:
        known = first.setdefault(record["message_id"], record)
        altered += known != record
    order = list(first)
    begun = [message_id.rpartition("/")[0] for message_id in order if message_id.endswith("/0")]
    delivered = set(begun)
    wrong_order = sum(
        1
        for event_id in delivered
        if (numbers := [int(m.rpartition("/")[2]) for m in order if m.startswith(f"{event_id}/")]) != sorted(numbers)
        or numbers != list(range(len(numbers)))
    )
    # Ids begin with the start in milliseconds, so their order is that of the events.
    wrong_order += sum(earlier > later for earlier, later in itertools.pairwise(begun))
    ended = {m.rpartition("/")[0] for m, record in first.items() if record["phase"] == "end"}
    return {
        "events_reported": len(reported),
        "events_delivered": len(delivered),
        "reported_but_not_delivered": len(set(reported) - delivered),
        "out_of_order": wrong_order,
        "messages_arrived": len(arrived),
        "duplicates_with_the_same_id": len(arrived) - len(first),
        "duplicates_that_differ": altered,
        "events_without_end": len(delivered - ended),
        "ended_as_interrupted": sum(record["reason"] == "interrupted" for record in first.values()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        model, pictures = arguments.model.resolve(), Path(work) / "pictures"
        normal_pictures(model, pictures)
        account = trial(model, pictures, arguments.kills, Path(work), seed=arguments.seed, say=print)
    result = {"command": "python benchmarks/runtime/crash_delivery.py", "machine": cpu_name(), **account}
    keep(result, arguments.out / "crash_delivery.json")


if __name__ == "__main__":
    main()
