"""Twins across two lists of images: the same object photographed twice, at another exposure or another crop.

A test image with a twin in the training set measures memory as much as detection; benchmarks report with and without.
Two stages: the peak of a cross-correlation on coarse images names candidates, normalised template matching on finer
ones decides (Lewis 1995, "Fast normalized cross-correlation"; cv2.matchTemplate, TM_CCOEFF_NORMED).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from edge_runtime.model.preprocess import Frame

__all__ = ["LEAST_CORRELATION", "Twin", "TwinFinder"]

COARSE_SIDE, FINE_SIDE = 96, 320
"""Pixels of the longest side of all images, scaled together, so that objects keep their relative size."""

MAX_SHIFT = 0.25
"""Of the coarse canvas and of the fine image: how far the crops of one object may be apart."""

TEMPLATE_SHARE = 0.7
"""Of each side: the middle of an image is looked for in the other, so that borders and backgrounds count little."""

LEAST_CORRELATION = 0.7
"""Pairs above are twins. On magnetic tiles the best match of 398 images is at 0.79 or more, and then a twin by its look
and by the number in its name, or at 0.57 or less (docs/results/twins.md)."""

ALWAYS_TRIED = 5
"""With 2 instead of 5 the search found twins of 94 of 95 normal magnetic tiles, with 5 of all."""

DETAIL = 0.02
"""Standard deviation of the blur that is taken off, of the longest side: what is coarser is lighting."""


@dataclass(frozen=True, slots=True)
class Twin:
    """A pair of images, one from each list."""

    index: int
    """In the second list, the one looked up"""
    of: int
    """In the first list"""
    correlation: float
    """Of the fine images, in [-1, 1]"""


class TwinFinder:
    """Looks images up among a list of known ones."""

    def __init__(self, frames: Sequence[Frame], *, largest_side: int | None = None, candidates: int = 12) -> None:
        """frames: (H, W) or (H, W, 3) uint8, of any sizes, from one camera. largest_side: pixels, over both lists."""
        self._side = largest_side or max(max(frame.shape[:2]) for frame in frames)
        # The likeliest by the coarse images, of which an object rarely has so many photographs.
        self._candidates = min(candidates, len(frames))
        self._fine = [self._details(frame, FINE_SIDE) for frame in frames]
        self._spectra = torch.stack([self._spectrum(frame) for frame in frames])

    def pairs(self, frames: Sequence[Frame], *, least: float = LEAST_CORRELATION) -> Iterator[Twin]:
        """Every pair of a frame and a known image that are twins, and for frames without one their best match.

        Known images are tried from the likeliest on: at least five, then until two in a row are no twin.
        """
        for index, frame in enumerate(frames):
            template = _middle(self._details(frame, FINE_SIDE))
            tried: list[Twin] = []
            for of in self._nearest(frame):
                tried.append(Twin(index, int(of), _correlation(template, self._fine[of])))
                if len(tried) >= ALWAYS_TRIED and max(twin.correlation for twin in tried[-2:]) < least:
                    break
            tried.sort(key=lambda twin: -twin.correlation)
            yield tried[0]
            yield from (twin for twin in tried[1:] if twin.correlation >= least)

    def _nearest(self, frame: Frame) -> NDArray[np.int64]:
        """Known images with the highest coarse correlation at any small shift."""
        products = self._spectra * self._spectrum(frame).conj()
        correlations = torch.fft.irfft2(products, s=(_canvas(), _canvas()))  # (N, S, S), shifts modulo S
        reach = round(MAX_SHIFT * COARSE_SIDE)
        shifts = torch.arange(-reach, reach + 1) % _canvas()
        peaks = correlations[:, shifts][:, :, shifts].amax(dim=(1, 2))
        return torch.topk(peaks, self._candidates).indices.numpy()

    def _spectrum(self, frame: Frame) -> torch.Tensor:
        """The Fourier transform of a coarse image of unit norm on a square canvas."""
        details = self._details(frame, COARSE_SIDE)
        return torch.fft.rfft2(torch.from_numpy(details / np.linalg.norm(details)), s=(_canvas(), _canvas()))

    def _details(self, frame: Frame, side: int) -> NDArray[np.float32]:
        """What is left of an image without its lighting: high-passed, and scaled to one contrast everywhere."""
        grey = cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY) if frame.ndim == 3 else frame
        scale = min(1.0, side / self._side)
        size = (max(8, round(grey.shape[1] * scale)), max(8, round(grey.shape[0] * scale)))
        small = cv2.resize(grey, size, interpolation=cv2.INTER_AREA).astype(np.float32)
        sigma = max(1.5, DETAIL * side)
        detail = small - cv2.GaussianBlur(small, (0, 0), sigma)
        contrast = np.sqrt(cv2.GaussianBlur(detail * detail, (0, 0), 2.0 * sigma))
        # One grey level below: sensor noise in a flat field must not become detail.
        return np.asarray(detail / (contrast + 1.0), dtype=np.float32)


def _canvas() -> int:
    return COARSE_SIDE + round(MAX_SHIFT * COARSE_SIDE)


def _middle(image: NDArray[np.float32]) -> NDArray[np.float32]:
    height, width = image.shape
    rows, columns = round(height * (1 - TEMPLATE_SHARE) / 2), round(width * (1 - TEMPLATE_SHARE) / 2)
    return np.ascontiguousarray(image[rows : height - rows, columns : width - columns])


def _correlation(template: NDArray[np.float32], image: NDArray[np.float32]) -> float:
    """The highest normalised correlation of a template anywhere in an image, which is padded where it is smaller."""
    rows = max(0, template.shape[0] - image.shape[0]) + round(0.5 * MAX_SHIFT * template.shape[0])
    columns = max(0, template.shape[1] - image.shape[1]) + round(0.5 * MAX_SHIFT * template.shape[1])
    padded = cv2.copyMakeBorder(image, rows, rows, columns, columns, cv2.BORDER_CONSTANT, value=0.0)
    return float(cv2.matchTemplate(padded, template, cv2.TM_CCOEFF_NORMED).max())
