"""Batch normalisation over the shares that several processes hold of one batch, as if one process held it all.

torch's SyncBatchNorm needs CUDA; this one works on every backend, so that it is tested on the CPU.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from train.distributed import World

__all__ = ["share_norms"]


def share_norms(module: nn.Module, world: World) -> None:
    """Have every batch normalisation below `module` take its statistics over all processes; names stay as they are."""
    if world.size == 1:
        return
    for name, child in module.named_children():
        if isinstance(child, _BatchNorm):
            setattr(module, name, _SharedNorm(child, world))
        else:
            share_norms(child, world)


class _SharedNorm(_BatchNorm):
    """A batch normalisation (B, C, ...) whose mean and variance are those of all processes' samples."""

    def __init__(self, own: _BatchNorm, world: World) -> None:
        super().__init__(own.num_features, own.eps, own.momentum, own.affine, own.track_running_stats)
        self.weight, self.bias = own.weight, own.bias
        self.running_mean, self.running_var = own.running_mean, own.running_var
        self.num_batches_tracked = own.num_batches_tracked
        self._world = world

    def _check_input_dim(self, x: Tensor) -> None:
        """Any number of dimensions will do."""

    def forward(self, x: Tensor) -> Tensor:
        """x, normalised; in evaluation mode by the running statistics, as ever."""
        if not self.training:
            return super().forward(x)
        over = [0, *range(2, x.ndim)]
        column = [1, -1] + [1] * (x.ndim - 2)
        # Statistics in float32 where autocast gives half of it.
        values = x.to(torch.promote_types(x.dtype, torch.float32))
        n_here = torch.tensor(float(x.numel() // x.shape[1]), device=x.device)
        n = self._world.sum_(n_here)
        mean = _SumOverAll.apply(values.sum(over), self._world) / n  # (C,)
        centred = values - mean.view(column)
        variance = _SumOverAll.apply(centred.square().sum(over), self._world) / n  # (C,)
        with torch.no_grad():
            assert self.running_mean is not None, "tracked in every network here"
            assert self.running_var is not None, "likewise"
            assert self.num_batches_tracked is not None, "likewise"
            assert self.momentum is not None, "likewise"
            self.num_batches_tracked.add_(1)
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (n / (n - 1.0)), self.momentum)
        normalised = centred * (variance + self.eps).rsqrt().view(column)
        return (normalised * self.weight.view(column) + self.bias.view(column)).to(x.dtype)


class _SumOverAll(torch.autograd.Function):
    """The sum over all processes. Every process's loss hangs on it, so its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, world: World) -> Tensor:
        ctx.world = world
        return world.sum_(values.clone())

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (gradient,) = gradients
        return ctx.world.sum_(gradient.clone().contiguous()), None
