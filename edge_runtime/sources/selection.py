"""From what a user names to the source that gives its frames."""

from __future__ import annotations

import glob
import logging
import os
import re
from pathlib import Path
from urllib.parse import urlsplit

from edge_runtime.errors import ConfigError, SourceError
from edge_runtime.image_files.listing import is_image, list_images, natural_order, unread_pictures
from edge_runtime.redact import is_ambiguous, redact, remember
from edge_runtime.sources.capture import JETSON_ALONE, CameraSource, NetworkSource, PipelineSource, opencv_has
from edge_runtime.sources.contract import CaptureSettings, FrameSource, SourceContext
from edge_runtime.sources.files import ImageSource, VideoSource
from edge_runtime.sources.motion_jpeg import HttpSource
from edge_runtime.sources.pipes import ChildSource, StdinSource, ffmpeg_command, gstreamer_command
from edge_runtime.sources.synthetic import TestSource

__all__ = ["csi_pipeline", "shown_source", "source_from", "split_name"]

logger = logging.getLogger(__name__)

NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
"""Of a source: what topics, labels and file names take alike"""

NETWORK = ("rtsp", "rtsps", "http", "https")
SHARED = ("width", "height", "fps", "fourcc", "loop", "raw")
FOR = {
    **dict.fromkeys(("width", "height", "fps", "fourcc"), "it is asked of a camera"),
    "loop": "it is for files",
    "raw": "it is for standard input",
}
"""Settings that not every source takes, and what each is for."""
TAKEN: dict[type, tuple[str, ...]] = {
    CameraSource: ("width", "height", "fps", "fourcc"),
    ImageSource: ("loop",),
    VideoSource: ("loop",),
    StdinSource: ("raw",),
}
FLIP_METHODS = {"none": 0, "180": 2, "horizontal": 4, "vertical": 6}
"""nvvidconv's flip-method for each of ours."""


def split_name(text: str, *, folder: str = "") -> tuple[str, str]:
    """Name and location of NAME=LOCATION; an empty name and the text where it has none.

    What exists is a file, and so is a pattern that one fits; folder: where a device lies that is no path. Raises
    ConfigError for a name that is none, and for a name alone.
    """
    name, mark, location = text.partition("=")
    whole = f"{folder}{text}"
    if not mark or any(sign in name for sign in "/:!") or os.path.exists(whole) or glob.glob(whole):
        return "", text
    if NAME.fullmatch(name):
        if not location:
            raise ConfigError(f"{text} names no source, expected NAME=SOURCE, such as line3=rtsp://10.0.0.5/live")
        return name, location
    if re.search(r"\s!\s", text):  # a pipeline, whose first element has a property
        return "", text
    remember(location)
    raise ConfigError(
        f"{name!r} cannot name a source, expected up to 64 of A-Z, a-z, 0-9, -, _ and ., such as "
        f"line3={redact(location)}; and there is no file {redact(text)!r}"
    )


def shown_source(text: str) -> str:
    """A source as it was named to a command, without passwords; a name stays, whatever keys of secrets it is like."""
    name, mark, location = text.partition("=")
    if mark and NAME.fullmatch(name):
        return f"{name}={redact(location)}"
    return redact(text)


def source_from(
    camera: int | str | None,
    path: str | None,
    settings: CaptureSettings | None = None,
    *,
    must_exist: bool = True,
    name: str = "",
) -> FrameSource:
    """The source that the command line names; it is not opened, but what can be seen to be missing is refused.

    camera: V4L2 index, or a device name such as /dev/v4l/by-id/usb-...; path: everything else that --source takes,
    see docs/sources.md. must_exist: refuse a camera that is not there now; one that may come later is not. name: its
    source_id; empty: what camera or path say. Raises SourceError; ConfigError where neither is named or a setting does
    not fit, and for a name of other characters than NAME.
    """
    if name and not NAME.fullmatch(name):
        raise ConfigError(f"{name!r} cannot name a source, expected up to 64 of A-Z, a-z, 0-9, -, _ and .")
    settings = settings or CaptureSettings()
    source = _unnamed(camera, path, settings, must_exist=must_exist)
    _tell_unused(source, settings)
    if name and isinstance(source, SourceContext):
        source.take_name(name)
    return source


def _unnamed(camera: int | str | None, path: str | None, settings: CaptureSettings, *, must_exist: bool) -> FrameSource:
    if path is not None:
        remember(path)
        if is_ambiguous(path):
            logger.warning(
                "%s: its user or password holds one of / ? # as it is; write %%2F, %%3F, %%23",
                redact(path),
            )
    if settings.bayer is not None and camera is None and not (path == "-" and settings.raw) and not _is_device(path):
        raise ConfigError(
            f"--bayer {settings.bayer} is for V4L2 cameras, and for raw frames on standard input with --raw; "
            f"{redact(str(path))} is neither"
        )
    if camera is None and _is_device(path):
        camera = path
    if camera is not None:
        source = CameraSource(camera, settings)
        if must_exist:
            source.check_present()
        return source
    if path is None:
        raise ConfigError("no source named; expected a camera index or a path")
    if path == "-":
        return StdinSource(settings)
    scheme = path.split("://", 1)[0].lower() if "://" in path.split("!", 1)[0] else ""
    if scheme == "test":
        return TestSource(path, settings)
    if scheme == "csi":
        return _pipeline(path, csi_pipeline(path, settings), settings)
    if re.search(r"\s!\s", path):
        return _pipeline(path, path, settings)
    if scheme in NETWORK:
        return _network(path, settings)
    if scheme and not Path(path).exists():
        raise SourceError(
            f"cannot open source {redact(path)}: {scheme}:// is not known; expected test, csi, {', '.join(NETWORK)}",
            code="UNSUPPORTED",
        )
    return _files(path, settings)


def _tell_unused(source: FrameSource, settings: CaptureSettings) -> None:
    """Warn of what was asked and such a source does not take: several sources have the same options."""
    takes = next((names for kind, names in TAKEN.items() if isinstance(source, kind)), ())
    if source.source_id.startswith("csi://"):
        takes = ("width", "height", "fps")
    usual = CaptureSettings()
    unused = [f"--{name}" for name in SHARED if name not in takes and getattr(settings, name) != getattr(usual, name)]
    if unused:
        reasons = "; ".join(dict.fromkeys(FOR[name.removeprefix("--")] for name in unused))
        logger.warning("%s takes no %s: %s", redact(source.source_id), ", ".join(unused), reasons)


def _is_device(path: str | None) -> bool:
    return path is not None and path.startswith("/dev/") and "!" not in path


def csi_pipeline(url: str, settings: CaptureSettings) -> str:
    """The GStreamer pipeline of a CSI camera on a Jetson, csi://SENSOR; raises ConfigError for another form."""
    matched = re.fullmatch(r"csi://(\d+)", url)
    if matched is None:
        raise ConfigError(f"{url}: expected csi:// and the sensor's number, such as csi://0")
    width, height, fps = settings.width or 1280, settings.height or 720, settings.fps or 30
    return (
        f"nvarguscamerasrc sensor-id={matched[1]} ! video/x-raw(memory:NVMM),width={width},height={height},"
        f"framerate={round(fps)}/1,format=NV12 ! nvvidconv flip-method={FLIP_METHODS[settings.flip]} ! "
        "video/x-raw,format=BGRx ! videoconvert ! video/x-raw,format=BGR ! appsink drop=true max-buffers=1 sync=false"
    )


def _pipeline(source_id: str, pipeline: str, settings: CaptureSettings) -> FrameSource:
    if source_id.startswith("csi://"):
        # nvvidconv has mirrored the frame already.
        settings = CaptureSettings(
            open_timeout_s=settings.open_timeout_s, read_timeout_s=settings.read_timeout_s, fps=settings.fps
        )
    if opencv_has("GStreamer"):
        if "appsink" not in pipeline:
            pipeline += " ! videoconvert ! video/x-raw,format=BGR ! appsink drop=true max-buffers=1 sync=false"
        return PipelineSource(source_id, pipeline, settings)
    lack = (
        "this OpenCV was built without GStreamer and gst-launch-1.0 is not installed; install gstreamer1.0-tools, or "
        "on a Jetson use the system's python3-opencv"
    )
    if source_id.startswith("csi://"):
        lack += JETSON_ALONE
    return _child(source_id, gstreamer_command(pipeline), settings, lack)


def _network(url: str, settings: CaptureSettings) -> FrameSource:
    source = _by_ffmpeg(url, settings)
    return HttpSource(url, source, settings) if urlsplit(url).scheme in ("http", "https") else source


def _by_ffmpeg(url: str, settings: CaptureSettings) -> FrameSource:
    if opencv_has("FFMPEG"):
        return NetworkSource(url, settings)
    command = ffmpeg_command(url) or gstreamer_command(f"uridecodebin uri={url}")
    lack = (
        "this OpenCV was built without FFmpeg, and neither ffmpeg nor gst-launch-1.0 is installed; install one of them"
    )
    return _child(url, command, settings, lack)


def _child(source_id: str, command: list[str] | None, settings: CaptureSettings, lack: str) -> FrameSource:
    """A child process that feeds us; lack: why there is neither it nor OpenCV's own way."""
    if command is None:
        raise SourceError(f"cannot open source {redact(source_id)}: {lack}", code="UNSUPPORTED")
    return ChildSource(source_id, command, settings)


def _files(path: str, settings: CaptureSettings) -> FrameSource:
    file = Path(path)
    if not file.exists():
        matches = sorted(map(Path, glob.glob(path)), key=natural_order)
        if not matches:
            raise SourceError(f"cannot open source {redact(path)}: no such file or folder", code="NOT_FOUND")
        if len(matches) == 1:
            return _files(str(matches[0]), settings)
        return ImageSource(path, [match for match in matches if is_image(match)], settings)
    if file.is_dir():
        files = list_images(file)
        if files and (unread := unread_pictures(file)):
            logger.warning("%s: %s", path, unread)
        return ImageSource(path, files, settings)
    if is_image(file):
        return ImageSource(path, [file], settings)
    return VideoSource(file, settings)
