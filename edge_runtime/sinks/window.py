"""A window on this machine's display, with the picture as snapshots show it."""

from __future__ import annotations

import os
import re

from edge_runtime.errors import ConfigError
from edge_runtime.extras import require
from edge_runtime.sinks.annotate import Annotator
from edge_runtime.sinks.contract import Emission, SinkBase

__all__ = ["Window"]

TITLE = "edge-aae"


class Window(SinkBase):
    """One window a source. What does not fit into the queue while one is drawn is dropped and counted."""

    name = "window"
    kinds: tuple[str, ...] = ("frame",)
    pictures = True

    def __init__(self, annotator: Annotator) -> None:
        self._annotator = annotator
        self._cv2 = require("cv2", extra="camera", purpose="windows")

    def open(self) -> None:
        """Raises ConfigError where there is no display, or OpenCV cannot draw on it."""
        if not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
            raise ConfigError(
                "--show needs a display, and neither DISPLAY nor WAYLAND_DISPLAY is set; use --serve :8080"
            )
        gui = re.search(r"GUI:\s+(\S+)", self._cv2.getBuildInformation())
        if gui is None or gui[1] == "NONE":
            raise ConfigError(
                "--show needs an OpenCV with windows, this one has none (opencv-python-headless): put opencv-python "
                "or the system's python3-opencv in its place, or use --serve :8080"
            )

    def write(self, emission: Emission) -> None:
        """Draw one frame; raises OSError where the display is gone."""
        if emission.image is None or emission.result is None:
            return
        try:
            picture = self._annotator.picture(emission.image, emission.result, emission.record)
            self._cv2.imshow(f"{TITLE} {emission.record['source_id']}", picture)
            self._cv2.waitKey(1)
        except self._cv2.error as error:
            raise OSError(f"the window cannot be drawn: {error.err or error}") from error

    def close(self) -> None:
        """Close the windows."""
        try:
            self._cv2.destroyAllWindows()
        except self._cv2.error:
            return
