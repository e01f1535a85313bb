"""Fifty simulated devices against a real Mosquitto broker: is every event accounted for?

    python benchmarks/runtime/fleet_load.py MODEL [--devices 50] [--processes 5] [--seconds 600] [--out docs/results]

MODEL: the bundle of `make demo`. Each device is what `edge-aae run` is, a pipeline over test://defect at one frame a
second with an event a minute, an outbox of its own and a courier to the broker, with a user and a password of its own;
ten of them share a process. The broker is Mosquitto with the access list of docker/fleet. In the middle the broker is
ended for ten seconds, and one process is killed with SIGKILL and begun again. A monitor subscribes to everything; one
that comes late shows what is retained. An event counts as reported once a device wrote its record to a file.
Prints the account and writes fleet.json. Needs mosquitto and paho-mqtt.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.command_line import keep
from benchmarks.machine import cpu_name, footprint
from benchmarks.runtime.broker import Broker
from benchmarks.runtime.crash_delivery import events_of, threshold_for
from benchmarks.runtime.soak import normal_pictures

REPOSITORY = Path(__file__).parents[2]
EVENT_EVERY_S, EVENT_FOR_S = 60.0, 6.0
BROKER_DOWN_S = 10.0
PASSWORD = "a password for a trial"
SETTLE_S = 90.0
"""Longest wait at the end for what is in the outboxes: a courier's longest backoff, and more."""


def device_name(number: int) -> str:
    return f"line{number:02}"


def devices(numbers: list[int], model: Path, work: Path, port: int, threshold: float, stop_file: Path) -> None:
    """A process: these devices, each in a thread, until the file is there."""
    threads = [
        threading.Thread(target=device, args=(number, model, work, port, threshold, stop_file)) for number in numbers
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def device(number: int, model: Path, work: Path, port: int, threshold: float, stop_file: Path) -> None:
    """What `edge-aae run` does with --alarm 2/3 --outbox --mqtt --device --out."""
    from edge_runtime.delivery import Mqtt, MqttSettings, Outbox, OutboxSink, delivering
    from edge_runtime.scoring.detector import Detector
    from edge_runtime.sinks import JsonLinesFile, Rotation
    from edge_runtime.sources import source_from
    from edge_runtime.stream.pipeline import Pipeline, RunSettings
    from edge_runtime.watching.alarm import AlarmSettings

    name = device_name(number)
    begin = 5.0 + EVENT_EVERY_S * (number % 50) / 50.0
    source = source_from(
        None,
        f"test://defect?fps=1&width=64&height=64&at={begin}&for={EVENT_FOR_S}&every={EVENT_EVERY_S}&seed={number}"
        f"&images={work / 'pictures'}",
    )
    settings = RunSettings(alarm=AlarmSettings(enter=threshold, clear=threshold, n=2, m=3, clear_frames=2))
    mqtt = Mqtt(MqttSettings(url=f"mqtt://{name}:{PASSWORD.replace(' ', '%20')}@127.0.0.1:{port}", device=name))
    outbox = Outbox(work / f"{name}.db", [mqtt.name])
    records = JsonLinesFile(work / f"{name}-{time.time_ns()}.jsonl", Rotation(0, 0), ("event", "status"))
    detector = Detector.load(model, threads=1, threshold=threshold)
    pipeline = Pipeline(detector, [source], settings=settings, sinks=[OutboxSink(outbox), records])
    with delivering(pipeline, [mqtt], outbox):
        pipeline.run(stopped=stop_file.exists)
    outbox.close()


class Monitor:
    """Everything that arrives under edge-aae/, with the moment it came."""

    def __init__(self, port: int, client_id: str) -> None:
        import paho.mqtt.client as paho

        self.events: list[tuple[float, dict[str, Any]]] = []
        self.availability: dict[str, str] = {}
        self.states: dict[str, dict[str, Any]] = {}
        self._subscribed = threading.Event()
        client = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id=client_id, clean_session=False)
        client.username_pw_set("monitor", PASSWORD)
        client.reconnect_delay_set(0.1, 0.5)
        client.on_connect = lambda c, *_: c.subscribe("edge-aae/#", 1)
        client.on_subscribe = lambda *_: self._subscribed.set()
        client.on_message = self._take
        client.connect("127.0.0.1", port)
        client.loop_start()
        self._client = client
        assert self._subscribed.wait(10), "the broker takes no subscription"

    def _take(self, _: Any, __: Any, message: Any) -> None:
        name, kind = message.topic.split("/")[1:]
        if kind == "events":
            self.events.append((time.time(), json.loads(message.payload)))
        elif kind == "availability":
            self.availability[name] = message.payload.decode()
        else:
            self.states[name] = json.loads(message.payload)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


def trial(model: Path, n_devices: int, n_processes: int, seconds: float, work: Path, say: Any) -> dict[str, Any]:
    normal_pictures(model, work / "pictures")
    threshold = threshold_for(model, work / "pictures")
    broker = Broker(work, secured(work, n_devices))
    broker.start()
    monitor = Monitor(broker.port, "monitor")
    stop_file = work / "stop"
    shares = [list(range(n_devices))[start::n_processes] for start in range(n_processes)]
    context = multiprocessing.get_context("spawn")

    def begun(share: list[int]) -> Any:
        process = context.Process(target=devices, args=(share, model, work, broker.port, threshold, stop_file))
        process.start()
        return process

    processes = [begun(share) for share in shares]
    started_s = time.monotonic()
    facts: dict[str, Any] = {"devices": n_devices, "processes": n_processes, "seconds": seconds}
    wait_for(lambda: sum(v == "online" for v in monitor.availability.values()) == n_devices, 120)
    facts["all_online_after_s"] = round(time.monotonic() - started_s, 1)
    say(f"{n_devices} online after {facts['all_online_after_s']} s")
    begin = footprint(broker.pid)
    cpu_s = broker_cpu_s(broker.pid)
    time.sleep(seconds / 3)
    facts["broker"] = {
        "cpu_share": round((broker_cpu_s(broker.pid) - cpu_s) / (seconds / 3), 4),
        "resident_mib": [begin["resident_mib"], footprint(broker.pid)["resident_mib"]],
    }
    broker.stop()
    say(f"broker ended for {BROKER_DOWN_S:g} s")
    time.sleep(BROKER_DOWN_S)
    broker.start()
    time.sleep(seconds / 3 - BROKER_DOWN_S)
    processes[0].kill()
    killed_s = time.monotonic()
    victims = {device_name(number) for number in shares[0]}
    wait_for(lambda: all(monitor.availability.get(name) == "offline" for name in victims), 60)
    facts["last_will_after_s"] = round(time.monotonic() - killed_s, 2)
    say(f"{len(victims)} devices killed, their Last Will came after {facts['last_will_after_s']} s")
    processes[0].join()
    time.sleep(5.0)
    processes[0] = begun(shares[0])
    time.sleep(seconds / 3 - 5.0)
    late = Monitor(broker.port, "late")
    time.sleep(2.0)
    facts["retained_for_who_comes_late"] = {
        "availability": len(late.availability),
        "states_with_model_and_source": sum(
            "model" in state and bool(state["sources"]) for state in late.states.values()
        ),
    }
    late.close()
    facts["resident_mib_a_device"] = round(sum(footprint(p.pid)["resident_mib"] for p in processes) / n_devices, 1)
    stop_file.touch()
    for process in processes:
        process.join(60)
    facts["exit_statuses"] = [process.exitcode for process in processes]
    facts |= account(work, n_devices, monitor)
    monitor.close()
    broker.stop()
    return facts


def account(work: Path, n_devices: int, monitor: Monitor) -> dict[str, Any]:
    """Reported against delivered, device by device."""
    reported: dict[str, list[str]] = {}
    for number in range(n_devices):
        files = sorted(work.glob(f"{device_name(number)}-*.jsonl"))
        found = [event_id for file in files for event_id in events_of(file)]
        reported[device_name(number)] = list(dict.fromkeys(found))
    everything = {event_id for ids in reported.values() for event_id in ids}
    wait_for(lambda: everything <= {record["event_id"] for _, record in list(monitor.events)}, SETTLE_S)
    first: dict[str, tuple[float, dict[str, Any]]] = {}
    differing = 0
    for moment, record in monitor.events:
        known = first.setdefault(record["message_id"], (moment, record))[1]
        differing += known != record
    wrong_order = 0
    numbers: dict[str, list[int]] = {}
    for message_id in first:
        event_id, _, number_text = message_id.rpartition("/")
        numbers.setdefault(event_id, []).append(int(number_text))
    wrong_order = sum(seen != list(range(len(seen))) for seen in numbers.values())
    phases = Counter(record["phase"] for _, record in first.values())
    delays = [
        moment - np.datetime64(record["start_time"].rstrip("Z")).astype("datetime64[us]").astype(np.int64) / 1e6
        for moment, record in first.values()
        if record["phase"] == "new"
    ]
    return {
        "events_reported": len(everything),
        "events_delivered": len(numbers),
        "reported_but_not_delivered": len(everything - set(numbers)),
        "devices_with_events": sum(bool(ids) for ids in reported.values()),
        "messages": len(monitor.events),
        "duplicates_with_the_same_id": len(monitor.events) - len(first),
        "duplicates_that_differ": differing,
        "events_out_of_order": wrong_order,
        "begun": phases["new"],
        "ended": phases["end"],
        "ended_as_interrupted": sum(record["reason"] == "interrupted" for _, record in first.values()),
        "first_frame_above_to_arrival_s": {f"p{q}": round(float(np.percentile(delays, q)), 2) for q in (50, 95, 100)},
    }


def secured(work: Path, n_devices: int) -> str:
    """Mosquitto's settings: passwords and the access list of docker/fleet."""
    tool = shutil.which("mosquitto_passwd") or "/usr/bin/mosquitto_passwd"
    passwords = work / "passwords"
    lines = [f"{name}:{PASSWORD}" for name in ["monitor", *map(device_name, range(n_devices))]]
    passwords.write_text("\n".join(lines) + "\n")
    subprocess.run([tool, "-U", passwords], check=True)
    return (
        f"allow_anonymous false\npassword_file {passwords}\nacl_file {REPOSITORY / 'docker/fleet/acl'}\n"
        f"persistence true\npersistence_location {work}/\nmax_queued_messages 100000\n"
    )


def broker_cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100.0


def wait_for(condition: Any, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and not condition():
        time.sleep(0.05)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--devices", type=int, default=50)
    parser.add_argument("--processes", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--out", type=Path, default=Path("docs/results"))
    arguments = parser.parse_args()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    with tempfile.TemporaryDirectory() as work:
        facts = trial(
            arguments.model.resolve(), arguments.devices, arguments.processes, arguments.seconds, Path(work), print
        )
    result = {"command": "python benchmarks/runtime/fleet_load.py", "machine": cpu_name(), **facts}
    keep(result, arguments.out / "fleet.json")


if __name__ == "__main__":
    main()
