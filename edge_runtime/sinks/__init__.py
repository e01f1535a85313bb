"""Where records go, each place in a thread of its own."""

from edge_runtime.sinks.annotate import annotated
from edge_runtime.sinks.contract import Emission, Sink, SinkBase
from edge_runtime.sinks.pictures import Clips, Recording, Snapshots
from edge_runtime.sinks.retention import Retention
from edge_runtime.sinks.runner import SinkCounts, SinkRunner, Sinks
from edge_runtime.sinks.textfiles import CsvFile, JsonLinesFile, Rotation, StandardOutput

__all__ = [
    "Clips", "CsvFile", "Emission", "JsonLinesFile", "Recording", "Retention", "Rotation", "Sink",
    "SinkBase", "SinkCounts", "SinkRunner", "Sinks", "Snapshots", "StandardOutput", "annotated",
]  # fmt: skip
