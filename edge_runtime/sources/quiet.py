"""OpenCV as the sources use it."""

from __future__ import annotations

import os
from typing import Any

from edge_runtime.extras import require

__all__ = ["quiet_cv2"]


def quiet_cv2() -> Any:
    """OpenCV without its own lines on standard error: our one line says what went wrong."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    cv2 = require("cv2", extra="camera", purpose="cameras and videos")
    if hasattr(cv2, "setLogLevel"):
        cv2.setLogLevel(0)
    return cv2
