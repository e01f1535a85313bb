"""Records on their way out: one order for `write` and for every sink."""

from __future__ import annotations

from typing import Any

from edge_runtime.sinks import Emission, SinkBase
from edge_runtime.stream.outlet import Outlet


class Kept(SinkBase):
    """Keeps what it gets, and names a file for each event."""

    name = "kept"

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []

    def fields(self, record: dict[str, Any]) -> dict[str, str]:
        return {"snapshot": f"{record['event_id']}.jpg"}

    def write(self, emission: Emission) -> None:
        self.records.append(emission.record)


def test_records_go_out_in_order_and_reported_ones_in_their_turn() -> None:
    written: list[dict[str, Any]] = []
    sink = Kept()
    outlet = Outlet(written.append, [sink], lossless=True, stopped=lambda: False)
    outlet.sinks.start()
    outlet.emit(Emission({"type": "frame", "frame_id": 0}))
    outlet.report({"type": "status"})
    assert len(written) == 1
    outlet.emit_reported()
    outlet.emit_reported()
    outlet.emit(Emission({"type": "event", "event_id": "7-a", "snapshot": None}))
    outlet.sinks.close(patient=True)
    assert [record["type"] for record in written] == ["frame", "status", "event"]
    assert written == sink.records
    assert written[2]["snapshot"] == "7-a.jpg"
