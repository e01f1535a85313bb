"""TensorRT engines: built on the device that runs them, from a bundle's ONNX graphs, and kept in a cache.

An engine is never part of a bundle: it fits one TensorRT release on one kind of device.
"""

from edge_runtime.engines.build import BuildSettings, build_engine
from edge_runtime.engines.cache import CachedEngine, EngineCache, EngineKey
from edge_runtime.engines.device import Device, this_device
from edge_runtime.engines.flavour import FLAVOURS, Flavour

__all__ = [
    "FLAVOURS",
    "BuildSettings",
    "CachedEngine",
    "Device",
    "EngineCache",
    "EngineKey",
    "Flavour",
    "build_engine",
    "this_device",
]
