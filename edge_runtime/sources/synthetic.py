"""test://: a camera whose faults are to order, for tests and for a user's own alarm drills.

test://KIND?key=value&...: a moving pattern with sensor noise, or a folder of images (images=), at fps frames a second,
live. KIND is what goes wrong, from `at` seconds for `for` seconds, again `every` so many seconds where that is given:
pattern (nothing), defect (a blot, inverted), freeze, black, tear, disconnect, refuse, slow, burst, resize.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import numpy as np

from edge_runtime.errors import ConfigError, SourceError
from edge_runtime.image_files.levels import Levels
from edge_runtime.model.images import FORMATS, list_images, read_image
from edge_runtime.model.preprocess import Frame
from edge_runtime.sources.contract import CapturedFrame, CaptureSettings, SourceContext, flipped
from edge_runtime.sources.quiet import quiet_cv2

__all__ = ["FAULTS", "TestSettings", "TestSource"]

FAULTS = ("pattern", "defect", "freeze", "black", "tear", "disconnect", "refuse", "slow", "burst", "resize")

N_NOISES = 16
"""Noise fields made once and used in turn, shifted: a frame costs little, and none equals the one before."""

NOISE_LEVELS = 4
"""Grey levels of noise, 0 to 3."""

BURST = 8
"""Frames that come at once in a burst, after a pause as long as they would have taken."""

FILLER = 128
"""What a decoder leaves where a JPEG's data ended."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TestSettings:
    """What test:// is asked for; every field is a key of the query."""

    __test__ = False  # no test case, whatever its name

    kind: str = "pattern"
    width: int = 640
    height: int = 480
    fps: float = 30.0
    at: float = 2.0
    """Seconds after the source was made when the fault begins."""
    duration: float = 3.0
    """Seconds it lasts; `for` in the query."""
    every: float = 0.0
    """Seconds from one begin to the next; 0 is once."""
    frames: int = 0
    """Frames until the source ends; 0 is never."""
    images: str = ""
    """Folder of images shown in turn in place of the pattern, each with noise of its own."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.kind not in FAULTS:
            raise ConfigError(f"test://{self.kind}: expected one of {', '.join(FAULTS)}")
        if min(self.width, self.height) < 8 or max(self.width, self.height) > 16384:
            raise ConfigError(f"test://{self.kind} is {self.width}x{self.height}, expected 8 to 16384 pixels a side")
        if not 0 < self.fps <= 10_000 or min(self.at, self.duration, self.every, self.frames, self.seed) < 0:
            raise ConfigError(
                f"test://{self.kind}: expected fps above 0, and at, for, every, frames, seed of 0 or more"
            )

    @classmethod
    def from_url(cls, url: str) -> TestSettings:
        """Settings from test://KIND?key=value&...; raises ConfigError for what it does not know."""
        parts = urlsplit(url)
        kinds: dict[str, Any] = {"int": int, "float": float, "str": str}
        known = {"for" if field.name == "duration" else field.name: field for field in fields(cls)}
        del known["kind"]
        values: dict[str, Any] = {}
        for key, text in parse_qsl(parts.query, keep_blank_values=True):
            if key not in known:
                raise ConfigError(f"{url}: there is no {key!r}; expected some of {', '.join(known)}")
            try:
                values[known[key].name] = kinds[str(known[key].type)](text)
            except ValueError as error:
                raise ConfigError(f"{url}: {key} is {text!r}, expected a number") from error
        return cls(kind=parts.netloc or "pattern", **values)


class TestSource(SourceContext):
    """A live camera that is made up. Its clock runs from the first open on, across reconnects."""

    __test__ = False
    live = True

    def __init__(self, url: str, settings: CaptureSettings | None = None) -> None:
        self.source_id = url
        self.asked = TestSettings.from_url(url)
        self._settings = settings or CaptureSettings()
        asked = self.asked
        rng = np.random.default_rng(asked.seed)
        self._noises = rng.integers(0, NOISE_LEVELS, (N_NOISES, asked.height, asked.width, 1), dtype=np.uint8)
        self._pictures = self._loaded(asked)
        self._closed = threading.Event()
        self._started_s = 0.0
        self._n_grabbed = 0
        self._due = 0
        self._before: Frame | None = None
        self._shown = 0
        self._grabbed_s = self._t_capture = self._waited_s = 0.0

    def take_levels(self, levels: Levels | None) -> None:
        """As of any source; the images are read again."""
        if levels != self.levels:
            self._pictures = self._loaded(self.asked, levels)
        self.levels = levels

    def open(self) -> None:
        """Start, or go on after a close; raises SourceError while refuse or disconnect is due."""
        self._closed.clear()
        now = time.perf_counter()
        self._started_s = self._started_s or now
        self._due = int((now - self._started_s) * self.asked.fps)
        if self.asked.kind in ("refuse", "disconnect") and self._at_fault(now):
            raise SourceError(f"cannot open source {self.described()}: refused, as asked for", code="REFUSED")

    def grab(self) -> bool:
        """Wait for the next frame's time; False after the last. Raises SourceError for a disconnect."""
        asked = self.asked
        if asked.frames and self._n_grabbed >= asked.frames:
            return False
        self._waited_s = time.perf_counter()
        self._due += 1
        at = self._started_s + self._due / asked.fps
        fault = self._at_fault(max(at, self._waited_s))
        if fault and asked.kind == "burst":
            at = self._started_s + (self._due // BURST + 1) * BURST / asked.fps
        if fault and asked.kind == "slow":
            at = max(at, self._waited_s) + 9.0 / asked.fps
            self._due += 9
        self._closed.wait(max(0.0, at - time.perf_counter()))
        if fault and asked.kind == "disconnect":
            raise SourceError(f"lost {self.described()} after {self._n_grabbed} frames, as asked for", code="LOST")
        self._n_grabbed += 1
        self._grabbed_s, self._t_capture = time.perf_counter(), time.time()
        return True

    def retrieve(self) -> CapturedFrame:
        """The frame, made now."""
        image = self._picture(self._at_fault(self._grabbed_s))
        capture_ms = 1000.0 * (time.perf_counter() - self._waited_s)
        frame_id = self._n_grabbed - 1
        return CapturedFrame(
            flipped(image, self._settings.flip), frame_id, self._t_capture, self._grabbed_s, capture_ms, None
        )

    def close(self) -> None:
        """Stop waiting."""
        self._closed.set()

    def _at_fault(self, now_s: float) -> bool:
        since = now_s - self._started_s - self.asked.at
        if since < 0:
            return False
        return (since % self.asked.every if self.asked.every else since) < self.asked.duration

    def _picture(self, fault: bool) -> Frame:
        kind, before = self.asked.kind if fault else "pattern", self._before
        if kind == "freeze" and before is not None:
            return before.copy()
        if kind == "black":
            return np.zeros((self.asked.height, self.asked.width, 3), dtype=np.uint8)
        image = self._fresh()
        height, width = image.shape[:2]
        if kind == "defect":
            blot = slice(height // 3, height // 2), slice(width // 8, width // 2)
            image[blot] = 255 - image[blot]
        if kind == "tear":
            # In turn: a buffer half of which is the frame before, and data that ended early.
            image[height * 2 // 3 :] = before[height * 2 // 3 :] if before is not None and self._shown % 2 else FILLER
        self._before = image
        if kind == "resize":
            return np.ascontiguousarray(image[: height // 2, : width // 2])
        return image

    def _fresh(self) -> Frame:
        self._shown += 1
        picture = self._pictures[self._shown % len(self._pictures)]
        shift = self._shown // N_NOISES
        noise = np.roll(self._noises[self._shown % N_NOISES], shift, axis=0)
        image: Frame = picture + noise
        return image

    @staticmethod
    def _loaded(asked: TestSettings, levels: Levels | None = None) -> list[Frame]:
        """The pictures without noise, (height, width, 3), with room above for the noise."""
        if not asked.images:
            rows, columns = np.mgrid[: asked.height, : asked.width]
            waves = 110.0 + 50.0 * np.sin(columns / 23.0) * np.cos(rows / 31.0)
            return [np.repeat(waves.astype(np.uint8)[:, :, None], 3, axis=2)]
        cv2 = quiet_cv2()
        files = list_images(Path(asked.images))
        if not files:
            raise SourceError(f"{asked.images} holds no {FORMATS} image", code="NOT_FOUND")
        pictures = []
        for file in files:
            read = read_image(file, levels)
            colour = np.repeat(read[:, :, None], 3, axis=2) if read.ndim == 2 else read
            resized = cv2.resize(colour, (asked.width, asked.height), interpolation=cv2.INTER_AREA)
            pictures.append(np.minimum(resized, 255 - NOISE_LEVELS).astype(np.uint8))
        return pictures
