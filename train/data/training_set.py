"""The images of a run, preprocessed, with what is known about each."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import ConfigError, DataError
from edge_runtime.model.alignment import Alignment
from edge_runtime.model.preprocess import Frame, Preprocess
from edge_runtime.model.self_reference import N_CHANNELS
from train.data.grouping import Groups
from train.data.guidance import Guidance
from train.data.image_store import ImageStore
from train.data.photograph_store import PhotographStore
from train.data.settings import DataSettings
from train.intake.picture_quality import PictureQualities
from train.networks.registry import NETWORKS, NetworkName, network_spec
from train.networks.spec import NetworkSpec
from train.views.candidates import ViewCandidate, views_of
from train.views.sizes import SizePolicy

__all__ = [
    "PHOTO_SIDE",
    "RAW_SAMPLE_BYTES",
    "Probe",
    "TrainingSet",
    "finer_input",
    "preprocess_for",
    "spread",
    "view_candidates",
]

logger = logging.getLogger(__name__)

PHOTO_SIDE = 128
"""Default network input for photographs, pixels: minutes of training on two CPU cores."""

RAW_SAMPLES = 4
RAW_SAMPLE_BYTES = 2_000_000
"""Unprocessed frames kept for the bundle's golden samples, at most so many bytes each."""

TILE_SCALE = 0.5
"""Default scale of photographs that are cut into tiles: noise of single pixels is averaged out, and a quarter of the
tiles do."""

FINER = 2
FINER_FROM = 1.5
"""Pixels of the photograph to one of the sites' input along a side, from which a head is given the finer one."""

HASHED = 1024
"""Images hashed at a time."""


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """Images ready for a network, and where they came from."""

    store: ImageStore
    """N network inputs"""
    names: list[str]
    labels: NDArray[np.int64] | None
    """(N,) classes where the set has them: for reports, never for training"""
    preprocess: Preprocess
    raw_frames: list[Frame] = field(default_factory=list)
    """A few unprocessed frames"""
    bad: list[tuple[str, str]] = field(default_factory=list)
    """(name, reason) of what was skipped"""
    duplicates: list[tuple[str, str]] = field(default_factory=list)
    """(name, name of the earlier image) of near-duplicates left out"""
    guidance: Guidance = field(default_factory=lambda: Guidance.none(0))
    """A person's corrections and labels: (N,) verdicts"""
    groups: Groups = field(default_factory=lambda: Groups.alone(0))
    """Which images show one object or come from one session, (N,)"""
    qualities: PictureQualities = field(default_factory=PictureQualities)
    """Measured as the images were read, within the region of interest"""

    @property
    def images(self) -> NDArray[np.uint8]:
        """(N, H, W, C) network inputs; with a store on disk only what is read of them takes memory."""
        return self.store.array

    def picture(self, index: int) -> NDArray[np.uint8]:
        """What a person is shown of an image: (H, W, C) as the network reads it, (h, w) a whole scaled photograph."""
        return self.store.photographs[index] if isinstance(self.store, PhotographStore) else self.images[index]

    def sha256(self) -> str:
        """Identifies the images: a resumed run must see the same ones."""
        digest = hashlib.sha256()
        for chunk in self.store.chunks(HASHED):
            digest.update(chunk.permute(0, 2, 3, 1).numpy().tobytes())
        return digest.hexdigest()


@dataclass(frozen=True, kw_only=True, slots=True)
class Probe:
    """What a spread of the images says of all of them, before these are read."""

    channels: Literal[1, 3]
    """Those named, else those of the images"""
    native: tuple[int, int]
    """Rows and columns of the network's input where none are named"""
    same_aspect: bool
    frames: Callable[[], Iterable[Frame]]
    """Gives the images looked at, raw, one after the other"""

    def fit(self, settings: DataSettings, align: Alignment | None) -> Literal["stretch", "letterbox"]:
        """How the images meet the input's shape: as the settings say, else without bars where that keeps the aspect."""
        return settings.fit or ("stretch" if self.same_aspect or align is not None else "letterbox")


def preprocess_for(settings: DataSettings, network: NetworkName, probe: Probe, *, told: bool = True) -> Preprocess:
    """The preprocessing of a run: what the settings name, else what the images suggest.

    told: whether the log says what view was fitted. Raises ConfigError for a size the network cannot take, DataError
    where no view follows these parts.
    """
    spec = network_spec(network)
    if spec.cuts_tiles:
        return _tiled(settings, spec)
    if settings.scale is not None or settings.overlap is not None:
        cutting = " or ".join(name for name, other in NETWORKS.items() if other.cuts_tiles)
        raise ConfigError(f"--scale and --overlap belong to --network {cutting}; {network} does not cut tiles")
    view = None
    own_aspect = spec.photo_pixels is not None and settings.imgsz is None
    if settings.align != "none" or settings.smallest_defect is not None or own_aspect:
        view = _view(settings, network, probe)
        if told:
            _tell(view)
    height, width = (settings.imgsz or probe.native) if view is None else view.size
    spec.check_size(probe.channels, height, width)
    align = None if view is None else view.align
    return Preprocess(
        height=settings.finer * height,
        width=settings.finer * width,
        channels=probe.channels,
        fit=probe.fit(settings, align),
        roi=settings.roi,
        align=align,
        levels=settings.used_levels,
    )


def finer_input(settings: DataSettings, sites: Preprocess, rows: Sequence[int]) -> int:
    """How many times finer than the sites' input a head is to see photographs: FINER where they hold so much.

    sites: what makes that input; rows: of photographs, cut to the region of interest. 1 where a size was asked for.
    """
    if settings.imgsz is not None or settings.smallest_defect is not None:
        return 1
    height = float(np.median(rows)) if sites.align is None else sites.align.height
    return FINER if height >= FINER_FROM * sites.height else 1


def view_candidates(
    settings: DataSettings, network: NetworkName, probe: Probe, frames: Iterable[Frame]
) -> list[ViewCandidate]:
    """The views that the settings leave, as views_of gives them; frames: the probe's, which are gone through once."""
    spec = network_spec(network)

    def takes(height: int, width: int) -> bool:
        try:
            spec.check_size(probe.channels, height, width)
        except ConfigError:
            return False
        return True

    policy = SizePolicy(
        budget_pixels=spec.photo_pixels or probe.native[0] * probe.native[1],
        imgsz=settings.imgsz,
        smallest_defect=settings.smallest_defect,
        takes=takes,
    )
    return views_of(frames, policy, roi=settings.roi, keep_aspect=settings.fit != "stretch")


def _view(settings: DataSettings, network: NetworkName, probe: Probe) -> ViewCandidate:
    """The view that the settings name, fitted to a sample of the images."""
    if settings.align == "auto":
        raise ConfigError("--align auto is not settled yet: settled_view of train/runs names none, centre or turn")
    candidates = view_candidates(settings, network, probe, probe.frames())
    (view,) = (candidate for candidate in candidates if candidate.name == settings.align)
    if view.refused:
        raise DataError(f"--align {view.name}: {view.refused}; train with another --align, or with none")
    return view


def _tell(view: ViewCandidate) -> None:
    if view.align is not None:
        logger.info("view: %s%s", view.align, f"; {view.note}" if view.note else "")
    if view.span is not None:
        height, width = view.size
        span = f"the smallest defect spans {view.span.pixels:.1f} pixels of the network's input, {height}x{width}"
        if view.span.hint:
            logger.warning("%s, less than it should: %s", span, view.span.hint)
        else:
            logger.info("%s", span)


def _tiled(settings: DataSettings, spec: NetworkSpec) -> Preprocess:
    network = f"network {spec.name}"
    if settings.fit is not None:
        raise ConfigError(f"--fit {settings.fit}: {network} cuts tiles of any photograph; leave --fit out")
    if settings.align != "none" or settings.smallest_defect is not None:
        raise ConfigError(f"--align and --smallest-defect: {network} cuts tiles of any photograph; set --scale instead")
    if settings.drop_duplicates:
        raise ConfigError(f"--drop-duplicates compares whole images of one size; {network} keeps all")
    if settings.cache == "disk":
        raise ConfigError(f"--cache disk: {network} holds its scaled photographs in memory; use auto or memory")
    if settings.channels == 3:
        raise ConfigError(f"--channels 3: {network} works on grey, to which colour is converted; leave it out")
    height, width = settings.imgsz or (PHOTO_SIDE, PHOTO_SIDE)
    spec.check_size(N_CHANNELS, height, width)
    return Preprocess(
        height=height,
        width=width,
        channels=1,
        fit="tile",
        scale=TILE_SCALE if settings.scale is None else settings.scale,
        overlap=min(height, width) // 4 if settings.overlap is None else settings.overlap,
        self_reference="row_column",
        roi=settings.roi,
        levels=settings.used_levels,
    )


def spread(items: Any, n: int = RAW_SAMPLES) -> list[Any]:
    """n items, evenly spread over the list."""
    positions = np.unique(np.linspace(0, len(items) - 1, min(n, len(items))).round().astype(int))
    return [items[position] for position in positions]
