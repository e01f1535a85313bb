"""edge-aae: train an image anomaly detector on unsorted images, ship it to a device, trust the number it prints.

from edge_aae import Detector
result = Detector.load("model.aae").score(frame)

import edge_aae
edge_aae.train("photos", out="runs/first")
edge_aae.export("runs/first", "model.aae")
"""

from __future__ import annotations

from edge_aae.api import export, train
from edge_runtime import Bundle, Detector, Result, __version__

__all__ = ["Bundle", "Detector", "Result", "__version__", "export", "train"]
