"""What every source is: open, grab, retrieve, close.

grab is apart from retrieve, so that a frame that is not wanted costs no decoding.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import ConfigError
from edge_runtime.image_files.levels import Levels
from edge_runtime.model.images import as_frame
from edge_runtime.model.preprocess import Frame
from edge_runtime.redact import redact
from edge_runtime.sources.bayer import BAYER

__all__ = ["CaptureSettings", "CapturedFrame", "FrameSource", "SourceContext", "described", "flipped", "tell_levels"]

FLIPS = ("none", "horizontal", "vertical", "180")


@dataclass(frozen=True, slots=True)
class CapturedFrame:
    """One frame with its place and time."""

    image: Frame
    """(H, W, 3) BGR or (H, W) grey, uint8"""
    frame_id: int
    """0 for the first frame of the source; every grabbed frame takes one, so a gap is a frame that was not scored."""
    t_capture: float
    """Seconds since the epoch when the frame was grabbed."""
    grabbed_s: float
    """The same moment by time.perf_counter, for ages."""
    capture_ms: float
    """What grabbing and decoding took; for a live camera this includes waiting for the frame."""
    name: str | None
    """File name of an image file, None for cameras and videos."""
    deep: NDArray[np.uint16] | None = None
    """The picture that image was made of by the source's levels, of the same height and width; None for 8 bits"""

    def read_by(self, levels: Levels | None) -> Frame:
        """The image by other levels than the source's: (H, W, 3) BGR or (H, W) grey, uint8; image itself for 8 bits.

        levels: as Preprocess.levels.
        """
        return self.image if self.deep is None else as_frame(self.deep, levels, called=self.name or "frame")


@dataclass(frozen=True, kw_only=True, slots=True)
class CaptureSettings:
    """What is asked of a source. A camera that cannot give what is asked says so once and gives what it can."""

    width: int | None = None
    """Pixels; None leaves the source's own."""
    height: int | None = None
    fps: float | None = None
    """Frames a second asked of a camera."""
    fourcc: str | None = None
    """Pixel format asked of a V4L2 camera, such as MJPG or YUYV."""
    flip: str = "none"
    """none, horizontal (mirrors left and right), vertical, or 180 (both)."""
    loop: int = 1
    """How often a file or a folder is played; 0 is for ever."""
    open_timeout_s: float = 10.0
    """Seconds that a network source may take to open."""
    read_timeout_s: float = 5.0
    """Seconds that a grab may wait for a frame before the source counts as lost."""
    raw: tuple[int, int, int] | None = field(default=None)
    """Width, height and channels (1 or 3, BGR) of raw frames on standard input; None expects Motion JPEG there."""

    bayer: str | None = None
    """RGGB, BGGR, GRBG or GBRG, where a V4L2 camera or raw frames of one channel are Bayer-coded: the first two pixels
    of the first and of the second row."""

    def __post_init__(self) -> None:
        for name in ("width", "height", "fps", "open_timeout_s", "read_timeout_s"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ConfigError(f"{name} is {value}, expected a number above 0")
        if self.fourcc is not None and len(self.fourcc) != 4:
            raise ConfigError(f"fourcc is {self.fourcc!r}, expected four letters such as MJPG or YUYV")
        if self.flip not in FLIPS:
            raise ConfigError(f"flip is {self.flip!r}, expected one of {', '.join(FLIPS)}")
        if self.loop < 0:
            raise ConfigError(f"loop is {self.loop}, expected 0 (for ever) or how often the files are played")
        if self.raw is not None and (min(self.raw) < 1 or self.raw[2] not in (1, 3)):
            raise ConfigError(f"raw frames are {self.raw}, expected width, height and 1 or 3 channels")
        if self.bayer is not None and self.bayer not in BAYER:
            raise ConfigError(f"bayer is {self.bayer!r}, expected one of {', '.join(BAYER)}")
        if self.bayer is not None and self.raw is not None and self.raw[2] != 1:
            raise ConfigError(f"raw frames have {self.raw[2]} channels, Bayer-coded ones have 1: name WIDTHxHEIGHTx1")


class FrameSource(Protocol):
    """Gives frames. Use it as a context manager; `open` raises SourceError. One thread at a time."""

    source_id: str
    live: bool
    """Whether frames come at their own pace (a camera): then the newest wins. Files give every frame, in order."""

    @property
    def inter_coded(self) -> bool:
        """Whether the codec may copy unchanged parts from the frame before: equal rows then do not prove a torn frame.

        Of an open source; one that cannot tell says True.
        """
        ...

    def open(self) -> None:
        """Make the source ready; raises SourceError. May be called again after close."""
        ...

    def grab(self) -> bool:
        """Take the next frame without decoding it; False at the end of a file. Raises SourceError when lost."""
        ...

    def retrieve(self) -> CapturedFrame:
        """The frame last grabbed. Raises DataError where it cannot be decoded; the source goes on."""
        ...

    def close(self) -> None:
        """Release the source; may be called twice."""
        ...

    def __enter__(self) -> FrameSource:
        """Open it."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        ...


class SourceContext:
    """`with source:` opens and closes it."""

    levels: Levels | None = None
    """What 16-bit frames become 8 bits by, see take_levels"""
    source_id: str
    location: str = ""
    """Where frames come from, for a source that has a name besides; empty: its id says it"""

    def take_name(self, name: str) -> None:
        """Be called so from here on, in records, metrics and files; what it was called stays as its location."""
        self.location, self.source_id = self.location or self.source_id, name

    def described(self) -> str:
        """For messages, without passwords: what it is, with a name before that where it has one."""
        return f"{self.source_id} ({self._place()})" if self.location else self._place()

    def _place(self) -> str:
        return redact(self.location or self.source_id)

    @property
    def inter_coded(self) -> bool:
        """As of FrameSource; False, of sources whose frames are each for themselves."""
        return False

    def take_levels(self, levels: Levels | None) -> None:
        """Read 16-bit frames by these levels from here on: the Preprocess.levels of what scores them.

        A pipeline says it to its sources; so should who scores frames of them in another way.
        """
        self.levels = levels

    def _frame(self, picture: NDArray[Any], flip: str, called: str) -> tuple[Frame, NDArray[np.uint16] | None]:
        """A decoded picture, mirrored and by the levels, and that of 16 bits which it was made of; raises FrameError.

        picture: as for as_frame.
        """
        picture = flipped(picture, flip)
        return as_frame(picture, self.levels, called=called), picture if picture.dtype == np.uint16 else None

    def __enter__(self: Any) -> Any:
        self.open()
        return self

    def __exit__(
        self: Any, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def described(source: FrameSource) -> str:
    """The source for people, without passwords: its id, and where it is where that does not say it."""
    return source.described() if isinstance(source, SourceContext) else redact(source.source_id)


def tell_levels(sources: Iterable[FrameSource], levels: Levels | None) -> None:
    """take_levels of each source that has it; 16-bit frames of others are for these to convert."""
    for source in sources:
        if isinstance(source, SourceContext):
            source.take_levels(levels)


def flipped(image: NDArray[Any], flip: str) -> NDArray[Any]:
    """The image, of any type, mirrored as CaptureSettings.flip says; C-contiguous."""
    if flip == "none":
        return image
    rows = slice(None, None, -1 if flip in ("vertical", "180") else 1)
    columns = slice(None, None, -1 if flip in ("horizontal", "180") else 1)
    mirrored: NDArray[Any] = image[rows, columns].copy()
    return mirrored
