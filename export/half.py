"""FP16 detectors: layers with weights compute in half precision, score, prior, sums and both ends in FP32.

Written into the network before it is exported, so that every TensorRT takes it by one path: strongly typed, no builder
flags. A converter of finished graphs does not know which sums overflow; here they never become half.
"""

from __future__ import annotations

import copy

import onnx
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from train.networks.autoencoder import Autoencoder, Exposure
from train.networks.features_network import SiteLayers

__all__ = ["half_body", "join_half_bodies"]

WEIGHTED = (nn.Linear, nn.Conv2d)
"""Layers that compute in half precision."""
EXACT = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.Flatten, nn.Unflatten, nn.PixelShuffle, nn.Upsample)
"""Layers that lose nothing, or next to it, in half precision: they stay with the layer before them. A sigmoid does not:
its output goes into the score."""


def half_body(autoencoder: Autoencoder) -> Autoencoder:
    """A copy of a trained network whose layers compute in half precision, between float32 inputs and outputs."""
    network = copy.deepcopy(autoencoder).eval()
    _halve(network)
    return network


class HalfBody(nn.Module):
    """A module that computes in half precision between float32 input and output."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body.half()

    def forward(self, x: Tensor) -> Tensor:
        """What the body gives for x, float32."""
        y: Tensor = self.body(x.half()).float()
        return y


def _halve(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, Exposure | SiteLayers):
            continue  # a few rows of weights whose output is a criterion, or is judged by a narrow density
        if isinstance(child, nn.Sequential):
            setattr(module, name, _halved_sequence(_without_norms(child)))
        elif isinstance(child, WEIGHTED):
            setattr(module, name, HalfBody(child))
        else:
            _halve(child)


def _without_norms(layers: nn.Sequential) -> nn.Sequential:
    """Batch normalisation folded into the layer before it, while that still has float32 weights."""
    folded: list[nn.Module] = []
    for layer in layers:
        if isinstance(layer, nn.BatchNorm2d) and folded and isinstance(folded[-1], nn.Conv2d):
            folded[-1] = fuse_conv_bn_eval(folded[-1], layer)
        elif isinstance(layer, nn.BatchNorm1d) and folded and isinstance(folded[-1], nn.Linear):
            folded[-1] = fuse_linear_bn_eval(folded[-1], layer)
        else:
            folded.append(layer)
    return nn.Sequential(*folded)


def _halved_sequence(layers: nn.Sequential) -> nn.Sequential:
    """Half up to the last layer with weights, and what follows it as long as that is exact."""
    end = max((index + 1 for index, layer in enumerate(layers) if isinstance(layer, WEIGHTED)), default=0)
    while 0 < end < len(layers) and isinstance(layers[end], EXACT):
        end += 1
    if end == 0:
        return layers
    return nn.Sequential(HalfBody(layers[:end]), *list(layers)[end:])


def join_half_bodies(model: onnx.ModelProto) -> None:
    """Drop the casts between neighbouring half bodies: half to float32 and back is the same half.

    model: changed in place.
    """
    graph = model.graph
    inferred = onnx.shape_inference.infer_shapes(model).graph
    halves = {v.name for v in inferred.value_info if v.type.tensor_type.elem_type == onnx.TensorProto.FLOAT16}
    producers = {output: node for node in graph.node for output in node.output}
    same: dict[str, str] = {}
    for node in graph.node:
        if node.op_type == "Cast" and node.output[0] in halves:
            source = producers.get(node.input[0])
            if source is not None and source.op_type == "Cast" and source.input[0] in halves:
                same[node.output[0]] = source.input[0]
    for node in graph.node:
        for index, name in enumerate(node.input):
            node.input[index] = same.get(name, name)
    _drop_unused(graph)


def _drop_unused(graph: onnx.GraphProto) -> None:
    outputs = {value.name for value in graph.output}
    while True:
        used = outputs | {name for node in graph.node for name in node.input}
        unused = [node for node in graph.node if used.isdisjoint(node.output)]
        if not unused:
            return
        for node in unused:
            graph.node.remove(node)
