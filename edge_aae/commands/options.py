"""Options that several commands share."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from edge_aae.commands.option_groups import OptionGroup, option
from edge_aae.commands.parameter_types import AREA, BACKEND, MM_PER_PIXEL, PERCENT, PRECISION, ROI
from edge_runtime.errors import BundleError

if TYPE_CHECKING:
    from edge_runtime.bundle.bundle import Bundle
    from edge_runtime.bundle.frame_view import View
    from edge_runtime.model.defect_size import Area, DefectSize
    from edge_runtime.scoring.detector import Detector

__all__ = [
    "BAD_IMAGE",
    "EngineOptions",
    "OF_OTHERS",
    "SizeOptions",
    "ViewOptions",
    "MOST_UNSCORED",
    "max_bad_option",
    "max_pixels_option",
    "model_option",
    "refuse_as_bundle",
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
    path, why = _model(named)
    refuse_as_bundle(path)
    logger.info("bundle %s%s", path, why)
    return path


def refuse_as_bundle(path: Path) -> None:
    """Raise BundleError for a run folder, and for a file of another program, where a bundle belongs."""
    from edge_runtime.files import is_run_folder

    if other := OF_OTHERS.get(path.suffix.lower()):
        raise BundleError(f"{path} is {other}, not a bundle; expected an .aae file, which `edge-aae export` writes")
    if is_run_folder(path):
        raise BundleError(
            f"{path} is a run folder, not a bundle; make one of it: edge-aae export {path} --out {DEFAULT_MODEL}"
        )


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
