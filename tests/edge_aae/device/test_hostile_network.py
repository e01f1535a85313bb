"""A live run among hostile clients, brokers and webhooks: it goes on, its memory is bounded, it keeps its frames."""

from __future__ import annotations

import re
import socket
import threading
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from edge_runtime.bundle.bundle import Bundle
from tests.edge_aae.device.forking import ROOT
from tests.edge_aae.device.hostile_requests import REQUESTS, Sent, send_all
from tests.edge_aae.device.running import Running
from tests.edge_runtime.delivery.hostile_peers import ACKNOWLEDGES, BROKERS, WEBHOOKS, peer

pytest.importorskip("starlette", reason="starlette is not installed")
pytest.importorskip("prometheus_client", reason="prometheus-client is not installed")
pytest.importorskip("paho.mqtt.client", reason="paho-mqtt is not installed")

MOST_MEMORY = 600 << 20
KEPT = 0.95
FLOODS = ("noise", *(name for name in BROKERS if "200 MiB" in name or "without end" in name or "QoS" in name))
"""What a broker does first: a run tries one connection after the other, ever less often."""

ROUNDS = 3
SLOW = 700
"""Connections that are held open at each server, all at once: 1,400 took the descriptors of a run."""


def test_there_are_enough_of_them() -> None:
    assert len(REQUESTS) >= 300
    assert len(BROKERS) + len(WEBHOOKS) >= 40


def test_the_page_on_security_counts_them() -> None:
    page = (ROOT / "docs/security.md").read_text()
    for counted in (f"{len(REQUESTS)} requests", f"{len(BROKERS)} brokers", f"{len(WEBHOOKS)} webhooks"):
        assert counted in page, counted


def memory(pid: int) -> dict[int, int]:
    """The most that a process and its children had at once, bytes, each."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    found = {}
    for process in (pid, *map(int, children)):
        status = Path(f"/proc/{process}/status").read_text()
        found[process] = 1024 * int(re.findall(r"VmHWM:\s+(\d+)", status)[0])
    return found


def misdeeds(run: Running) -> set[str]:
    """Destinations that failed, or refused a message."""
    failed = ("DELIVERY_FAILED", "DELIVERY_REFUSED")
    return {record["source_id"] for record in list(run.records) if record.get("event_type") in failed}


@pytest.mark.slow
def test_a_run_keeps_its_frames_whoever_asks_it_and_whomever_it_tells(bundle: Bundle, tmp_path: Path) -> None:
    bundle.write(tmp_path / "model.aae")
    with ExitStack() as around:
        broker = around.enter_context(
            peer([BROKERS[name] for name in sorted(BROKERS, key=lambda name: name not in FLOODS)])
        )
        hooks = [around.enter_context(peer([behaviour])) for behaviour in WEBHOOKS.values()]
        run = around.enter_context(
            Running(
                "--source", "test://pattern?fps=20&width=8&height=8", "--model", tmp_path / "model.aae",
                "--serve", ":0", "--alarm", "1/1", "--threshold", "-1e6", "--mqtt", f"mqtt://127.0.0.1:{broker}",
                *(word for hook in hooks for word in ("--webhook", f"http://127.0.0.1:{hook}/hook")), cwd=tmp_path,
            )
        )  # fmt: skip
        run.wait_for(lambda: any("live page at" in line for line in run.said), "the live page")
        said = "".join(run.said)
        ports = [
            int(re.findall(pattern, said)[0]) for pattern in (r"live page at http://\S+?:(\d+)/", r":(\d+)/healthz")
        ]
        run.wait_for_frames(40)
        first = run.frames()[-1]["frame_id"]
        descriptors = len(list(Path(f"/proc/{run.process.pid}/fd").iterdir()))
        for port in ports:
            for number in range(SLOW):
                connection = around.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30.0))
                with suppress(OSError):  # it was turned out already
                    connection.sendall(
                        (b"", b"GET / HTTP/1.1\r\nHost: l", b"POST /api/threshold HTTP/1.1\r\n")[number % 3]
                    )
        sent: dict[int, Sent] = {}
        threads = [
            threading.Thread(target=lambda port=port: sent.update({port: send_all(port, ROUNDS * REQUESTS)}))
            for port in ports
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(300.0)
            assert not thread.is_alive()
        assert run.health()[0] in (200, 503)
        assert "edge_aae_frames_scored_total" in run.metrics()
        run.wait_for(lambda: len(misdeeds(run)) > len(WEBHOOKS) - len(ACKNOWLEDGES), "a misdeed of each", 120.0)
        run.wait_for_frames(20)
        assert len(list(Path(f"/proc/{run.process.pid}/fd").iterdir())) < descriptors + 120
        used = memory(run.process.pid)
        frames = [record["frame_id"] for record in run.frames() if record["frame_id"] >= first]
        assert run.stop() == 0
    for port in ports:
        print(port, dict(sent[port].statuses))  # noqa: T201
        assert sent[port].failed == []
        assert sum(sent[port].statuses.values()) == ROUNDS * len(REQUESTS)
        # Most are answered, and told what they are: a refusal is no silence.
        assert sent[port].statuses["none"] < 0.2 * ROUNDS * len(REQUESTS)
    assert "Traceback" not in "".join(run.said)
    assert [line for line in run.said if " failed: " in line] == []  # nor does what is asked fill the log
    kept = len(frames) / (frames[-1] - frames[0] + 1)
    print(f"{len(frames)} frames, {100 * kept:.1f} % kept; MiB: {[n >> 20 for n in used.values()]}")  # noqa: T201
    assert kept >= KEPT
    assert len(used) >= 3
    assert max(used.values()) < MOST_MEMORY
