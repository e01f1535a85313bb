"""Options and parameter types that several commands share."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from edge_aae.commands.option_groups import OptionGroup, option
from edge_runtime.errors import BundleError, expected_name

if TYPE_CHECKING:
    from edge_runtime.bundle.bundle import Bundle
    from edge_runtime.bundle.frame_view import View
    from edge_runtime.model.defect_size import Area, DefectSize
    from edge_runtime.scoring.detector import Detector

__all__ = [
    "BACKEND",
    "BAD_IMAGE",
    "CLASSES",
    "CONTAMINATE",
    "COUNT_OR_INF",
    "ENGINE",
    "EngineOptions",
    "FINITE",
    "LEVELS",
    "N_OF_M",
    "OF_OTHERS",
    "PERCENT",
    "PRECISION",
    "PRECISION_NAMES",
    "ROI",
    "SECONDS_RANGE",
    "SIZE",
    "SizeOptions",
    "THREADS",
    "ViewOptions",
    "WIDTH_HEIGHT_CHANNELS",
    "MOST_UNSCORED",
    "max_bad_option",
    "max_pixels_option",
    "model_option",
    "require_signature_option",
    "resolve_model",
]

logger = logging.getLogger(__name__)

MODEL_VARIABLE = "EDGE_AAE_MODEL"
DEFAULT_MODEL = Path("model.aae")
MOST_UNSCORED = "50%"
"""From here on what was scored says little of what was asked for."""
LATEST_CONFIG = Path("runs/latest/config.json")

OF_OTHERS = {
    ".yaml": "a YAML file",
    ".yml": "a YAML file",
    ".pt": "a PyTorch file",
    ".pth": "a PyTorch file",
    ".ckpt": "a checkpoint",
    ".safetensors": "a file of weights",
    ".onnx": "an ONNX graph",
    ".engine": "a TensorRT engine",
    ".trt": "a TensorRT engine",
}
"""Suffixes of what other programs take for a model or for data, and what such a file is"""

SIGNATURE: dict[str, Any] = {
    "type": click.Path(path_type=Path),
    "help": "Public keys (a .pub file, or a folder of such): take no bundle that none of them signed.",
}

BAD_IMAGE: dict[str, Any] = {
    "type": click.Choice(["score", "unknown"]),
    "default": "score",
    "show_default": True,
    "help": "Frames blurred, dark or bright unlike those trained on: decided as any, or, where not anomalous, unknown.",
}

Command = TypeVar("Command", bound=Callable[..., Any])


def require_signature_option(command: Command) -> Command:
    """--require-signature, of commands that open a bundle without EngineOptions."""
    return click.option("--require-signature", **SIGNATURE)(command)


def model_option(command: Command) -> Command:
    """--model: the bundle; see resolve_model for what stands in for it."""
    return click.option(
        "--model",
        type=click.Path(path_type=Path),
        help=f"Bundle (.aae file or folder).  [default: ${MODEL_VARIABLE}, or ./{DEFAULT_MODEL}]",
    )(command)


def max_bad_option(command: Command) -> Command:
    """--max-bad: of files that are scored; what was scored is kept, the exit status says that much was not."""
    return click.option(
        "--max-bad",
        type=PERCENT,
        default=MOST_UNSCORED,
        show_default=True,
        callback=_checked_share,
        help="Unreadable files tolerated (1, but with 0%); more: exit status 1, after all else.",
    )(command)


def _checked_share(context: click.Context, parameter: click.Parameter, share: float) -> float:
    from edge_runtime.image_files.unreadable import check_max_bad

    check_max_bad(share)
    return share


def max_pixels_option(command: Command) -> Command:
    """--max-pixels: of the images that this process decodes from here on."""

    def limit(context: click.Context, parameter: click.Parameter, most: int | None) -> int | None:
        from edge_runtime.model.images import MOST_PIXELS, limit_pixels

        limit_pixels(most or MOST_PIXELS)
        return most

    return click.option(
        "--max-pixels",
        type=click.IntRange(min=1),
        callback=limit,
        help="Of an image file; one with more is not decoded.  [default: 100 million]",
    )(command)


class _Named(click.ParamType[str]):
    """One of some names, which are looked up when a value comes: their modules need not be loaded before."""

    def __init__(self, name: str, known: Callable[[], tuple[str, ...]]) -> None:
        self.name = name
        self._known = known

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if value not in self._known():
            self.fail(f"{value!r}, {expected_name(self._known(), str(value))}", param, ctx)
        return str(value)


def _backends() -> tuple[str, ...]:
    from edge_runtime.backends.selection import BACKEND_NAMES

    return BACKEND_NAMES


def _precision_names() -> tuple[str, ...]:
    from edge_runtime.bundle.budgets import PRECISIONS

    return tuple(PRECISIONS)


def _engines() -> tuple[str, ...]:
    from edge_runtime.backends.selection import BACKENDS

    return tuple(BACKENDS)


class _Finite(click.ParamType[float]):
    """A number; not nan, and not infinite."""

    name = "float"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = click.FLOAT.convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r}, expected a finite number", param, ctx)
        return float(number)


BACKEND = _Named("backend", _backends)
"""What a run may be asked for, `auto` among it"""
ENGINE = _Named("backend", _engines)
"""One that is meant by its name"""
FINITE = _Finite()
THREADS = click.IntRange(min=0)
PRECISION = _Named("precision", _precision_names)


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineOptions(OptionGroup):
    """Which bundles are taken, which of a bundle's detectors runs, and through what."""

    precision: str = option(
        "--precision", type=PRECISION, default="fp32", show_default=True, help="Or fp16, int8, if the bundle has them."
    )
    backend: str = option(
        "--backend",
        type=BACKEND,
        default="onnxruntime-cpu",
        show_default=True,
        help="Or auto, openvino, openvino-bf16; experimental, never run on a GPU so far: onnxruntime-cuda, "
        "tensorrt, tensorrt_rtx.",
    )
    require_signature: Path | None = option("--require-signature", **SIGNATURE)

    def detector(self, bundle: Path | Bundle, **asked: Any) -> Detector:
        """The bundle's, through this engine; asked: what else Detector.load takes."""
        from edge_runtime.scoring.detector import Detector

        return Detector.load(
            bundle,
            precision=self.precision,
            backend=self.backend,
            require_signature=self.require_signature,
            **asked,
        )


def resolve_model(named: Path | None) -> Path:
    """The bundle to use, which is said: the named one, $EDGE_AAE_MODEL, or ./model.aae.

    Raises BundleError where there is none, and for a run folder.
    """
    from edge_runtime.files import is_run_folder

    path, why = _model(named)
    if other := OF_OTHERS.get(path.suffix.lower()):
        raise BundleError(f"{path} is {other}, not a bundle; expected an .aae file, which `edge-aae export` writes")
    if is_run_folder(path):
        raise BundleError(
            f"{path} is a run folder, not a bundle; make one of it: edge-aae export {path} --out {DEFAULT_MODEL}"
        )
    logger.info("bundle %s%s", path, why)
    return path


def _model(named: Path | None) -> tuple[Path, str]:
    """The bundle, and why it is this one where nobody named it."""
    if named is not None:
        return named, ""
    variable = os.environ.get(MODEL_VARIABLE)
    if variable:
        return Path(variable), f", by ${MODEL_VARIABLE}"
    if DEFAULT_MODEL.exists():
        if LATEST_CONFIG.exists() and LATEST_CONFIG.stat().st_mtime > DEFAULT_MODEL.stat().st_mtime:
            logger.info(
                "note: runs/latest is newer than ./%s; `edge-aae export` would bring it up to date",
                DEFAULT_MODEL,
            )
        return DEFAULT_MODEL, f" in {Path.cwd()}, the default"
    raise BundleError(
        f"no bundle: there is no ./{DEFAULT_MODEL}, ${MODEL_VARIABLE} is not set and --model was not given; "
        "make one with `edge-aae train IMAGES` and `edge-aae export`"
    )


class _Parsed(click.ParamType[Any]):
    """A parameter type around a function that raises ValueError for what it cannot read."""

    def __init__(self, name: str, expected: str, parse: Callable[[str], Any], show: Callable[[Any], str] = str) -> None:
        """show: writes a value so that parse reads it."""
        self.name = name
        self.show = show
        self._expected = expected
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, (int, float)):  # of a configuration file, or from Python
            value = f"{value:.17g}" if isinstance(value, float) else str(value)
        if not isinstance(value, str):
            return value
        try:
            return self._parse(value)
        except ValueError:
            self.fail(f"{value!r}, expected {self._expected}", param, ctx)


def _size(text: str) -> tuple[int, int]:
    sides = [int(side) for side in text.lower().split("x")]
    if len(sides) not in (1, 2) or min(sides) < 1:
        raise ValueError
    return sides[0], sides[-1]


def _classes(text: str) -> tuple[int, ...]:
    return tuple(dict.fromkeys(int(label) for label in text.split(",")))


def _contaminate(text: str) -> tuple[tuple[int, float], ...]:
    parts = [part.split(":") for part in text.split(",")]
    return tuple((int(label), float(share)) for label, share in parts)


def _precisions(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(text.split(",")))
    if not set(names) <= {"fp32", "fp16", "int8"}:
        raise ValueError
    return names


def _percent(text: str) -> float:
    return float(text.rstrip("%")) / 100.0 if text.endswith("%") else float(text)


def _area(text: str) -> Area:
    from edge_runtime.model.defect_size import Area

    return Area.parse(text)


def _mm_per_pixel(text: str) -> float:
    from edge_runtime.model.defect_size import mm_per_pixel_from

    return mm_per_pixel_from(text)


def _roi(text: str) -> tuple[int, int, int, int]:
    x, y, width, height = (int(number) for number in text.split(","))
    return x, y, width, height


def _joined(mark: str) -> Callable[[Any], str]:
    return lambda values: mark.join(f"{value:g}" for value in values)


def _shares(values: Any) -> str:
    return ",".join(f"{label}:{share!r}" for label, share in values)


SIZE = _Parsed("size", "pixels such as 128, or ROWSxCOLUMNS such as 96x256", _size, _joined("x"))
CLASSES = _Parsed("classes", "class numbers such as 0 or 0,3", _classes, _joined(","))
CONTAMINATE = _Parsed("class:share", "CLASS:SHARE such as 2:0.05", _contaminate, _shares)
PRECISION_NAMES = _Parsed("precisions", "fp32, fp16 or int8, comma-separated", _precisions)


def _count_or_inf(text: str) -> float:
    return math.inf if text == "inf" else float(int(text))


def _seconds_range(text: str) -> tuple[float, float]:
    first, _, most = text.partition(":")
    return float(first), float(most or first)


def _n_of_m(text: str) -> tuple[int, int]:
    n, _, m = text.partition("/")
    return int(n), int(m)


def _width_height_channels(text: str) -> tuple[int, int, int]:
    width, height, channels = (int(number) for number in text.lower().split("x"))
    return width, height, channels


def _levels(text: str) -> tuple[int, int]:
    low, high = (int(level) for level in text.split(","))
    return low, high


COUNT_OR_INF = _Parsed("count", "a whole number, or inf", _count_or_inf, lambda count: f"{count:g}")
SECONDS_RANGE = _Parsed("first:most", "seconds such as 1:30", _seconds_range, _joined(":"))
N_OF_M = _Parsed("n/m", "N/M such as 3/5", _n_of_m, _joined("/"))
WIDTH_HEIGHT_CHANNELS = _Parsed(
    "wxhxc", "WIDTHxHEIGHTxCHANNELS such as 640x480x3", _width_height_channels, _joined("x")
)
PERCENT = _Parsed("percent", "a share such as 1% or 0.01", _percent)
AREA = _Parsed("area", "a number with its unit, px or mm2, such as 12px or 0.5mm2", _area)
MM_PER_PIXEL = _Parsed("mm", "millimetres above 0, such as 0.05", _mm_per_pixel)
LEVELS = _Parsed("low,high", "LOW,HIGH in levels of 16-bit images, such as 0,4095", _levels, _joined(","))
ROI = _Parsed("x,y,w,h", "X,Y,WIDTH,HEIGHT in frame pixels", _roi, _joined(","))


@dataclass(frozen=True, kw_only=True, slots=True)
class ViewOptions(OptionGroup):
    """What of each frame counts."""

    roi: tuple[int, int, int, int] | None = option(
        "--roi", type=ROI, help="Region of interest in frame pixels.  [default: as calibrated, or trained]"
    )
    mask: Path | None = option(
        "--mask", type=click.Path(path_type=Path), help="Image of the frame's size; what is black does not count."
    )

    def view(self) -> View | None:
        """The view, whose mask is read; None where neither was given. Raises ConfigError, DataError."""
        from edge_runtime.bundle.frame_view import View, read_seen_mask

        if self.roi is None and self.mask is None:
            return None
        return View(roi=self.roi, mask=None if self.mask is None else read_seen_mask(self.mask))


@dataclass(frozen=True, kw_only=True, slots=True)
class SizeOptions(OptionGroup):
    """How large what is found must be."""

    mm_per_pixel: float | None = option(
        "--mm-per-pixel",
        type=MM_PER_PIXEL,
        help="Of the camera's full picture, for sizes in mm.  [default: as calibrated, or exported]",
    )
    min_area: Area | None = option(
        "--min-area",
        type=AREA,
        help="12px or 0.5mm2: a frame with smaller regions alone is normal; 0px: none.  [default: as calibrated, or "
        "exported]",
    )

    def size(self) -> DefectSize:
        """What was given."""
        from edge_runtime.model.defect_size import DefectSize

        return DefectSize(mm_per_pixel=self.mm_per_pixel, min_area=self.min_area)

    def asked(self) -> dict[str, Any]:
        """What was given, as Detector.load takes it."""
        return self.size().asked()
