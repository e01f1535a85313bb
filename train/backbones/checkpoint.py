"""Weights for the architectures that are defined here: which one a set of tensors belongs to, and its trunk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from edge_runtime.errors import DataError
from train.backbones.efficientnet_lite0 import EFFICIENTNET_LITE0
from train.backbones.mobilenet_v2 import MOBILENET_V2
from train.backbones.resnet18 import RESNET18
from train.backbones.trunk import Architecture, Trunk, checkpoint_shapes, empty_trunk, folded_weights

__all__ = ["ARCHITECTURES", "recognised", "trunk_from_checkpoint"]

ARCHITECTURES = {known.name: known for known in (EFFICIENTNET_LITE0, RESNET18, MOBILENET_V2)}


def recognised(names: Sequence[str], *, source: str) -> Architecture:
    """The architecture whose tensors these are; raises DataError where it is none of ours.

    Every tensor must be one of the architecture's; which ones must be there depends on the taps.
    """
    given = {name for name in names if not name.endswith(".num_batches_tracked")}
    distances = {}
    for known in ARCHITECTURES.values():
        own = checkpoint_shapes(empty_trunk(known))
        strange = {name for name in given if name not in own and not name.startswith(known.head)}
        if not strange and not given.isdisjoint(own):
            return known
        distances[known.name] = (len(given & set(own)), strange)
    nearest = max(distances, key=lambda name: distances[name][0])
    n_shared, strange = distances[nearest]
    likeness = (
        f"nearest is {nearest}, which has no {min(strange)!r}" if n_shared else f"first is {min(given, default=None)!r}"
    )
    raise DataError(
        f"{source}: {len(given)} tensors of no architecture defined here ({', '.join(ARCHITECTURES)}); {likeness}. "
        "Names are torchvision's, and lukemelas/EfficientNet-PyTorch's for efficientnet-lite0. "
        "Give any other network as a program: torch.export.save, see docs/backbones.md"
    )


def trunk_from_checkpoint(
    architecture: Architecture, taps: Sequence[int], tensors: Mapping[str, Tensor], *, source: str
) -> Trunk:
    """The trunk with a checkpoint's weights; raises DataError where one is missing, misshapen or not finite."""
    trunk = empty_trunk(architecture, taps)
    for name, shape in checkpoint_shapes(trunk).items():
        tensor = tensors.get(name)
        if tensor is None:
            raise DataError(
                f"{source}: {architecture.name} up to block {taps[-1]} needs the tensor {name!r} of shape {shape}, and "
                "there is none; give the whole state_dict"
            )
        if tuple(tensor.shape) != shape:
            raise DataError(
                f"{source}: {name!r} has shape {tuple(tensor.shape)}, {architecture.name} expects {shape}; give "
                "weights of the standard width"
            )
        if not tensor.isfinite().all():
            raise DataError(f"{source}: {name!r} holds NaN or infinity; give the weights as they were published")
    trunk.load_state_dict(folded_weights(trunk, tensors), assign=True)
    return trunk
