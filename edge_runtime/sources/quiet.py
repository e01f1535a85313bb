"""OpenCV as the sources use it."""

from __future__ import annotations

import os
from typing import Any

from edge_runtime.extras import require

__all__ = ["quiet_cv2"]

SILENT = 0
"""OpenCV's LOG_LEVEL_SILENT"""


def quiet_cv2() -> Any:
    """OpenCV without its own lines on standard error: our one line says what went wrong."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    cv2 = require("cv2", extra="camera", purpose="cameras and videos")
    # OpenCV 5 has it in its module of logging alone.
    set_level = getattr(cv2, "setLogLevel", None) or cv2.utils.logging.setLogLevel
    set_level(SILENT)
    return cv2
