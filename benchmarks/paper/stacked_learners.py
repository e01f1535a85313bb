"""M learners of one architecture as one: weights stacked along a first axis, one batched product for each layer.

Small dense networks leave a GPU idle; side by side they do not. Every member keeps its own batch, batch statistics
and weights; Adam works on each number alone, so that Adam over the stack is M independent Adams.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from edge_runtime.errors import ConfigError
from train.learning.adversarial_step import ADVERSARIAL_CAP, Learner
from train.networks.autoencoder import NORM_EPSILON

__all__ = ["StackedLearner", "StackedSequential"]


class StackedSequential:
    """M networks of the same dense layers, in training mode: (M, B, F) -> (M, B, F')."""

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        """networks: `Sequential`s of one structure. Raises ConfigError for layers other than those of `mlp`."""
        self.layers = _dense_layers(networks[0])
        states = [network.state_dict() for network in networks]
        trained = {name for name, _ in networks[0].named_parameters()}
        # Dense weights lie as (in, out): gradients then come with the same strides, which a fused Adam relies on.
        self._dense = {f"{name}.weight" for name, layer in self.layers if isinstance(layer, nn.Linear)}
        stacked = {
            name: torch.stack([state[name].T if name in self._dense else state[name] for state in states])
            for name in states[0]
        }
        self.parameters = {name: value.requires_grad_() for name, value in stacked.items() if name in trained}
        self.buffers = {name: value for name, value in stacked.items() if name not in trained}

    def __call__(self, x: Tensor) -> Tensor:
        """Output of each network on its own batch. Batch normalisation moves its running statistics."""
        for name, layer in self.layers:
            if isinstance(layer, nn.Linear):
                weight = self.parameters[f"{name}.weight"]  # (M, in, out)
                x = torch.baddbmm(self.parameters[f"{name}.bias"].unsqueeze(1), x, weight)
            elif isinstance(layer, nn.BatchNorm1d):
                x = self._normalised(name, layer, x)
            else:
                x = layer(x)
        return x

    def write_back(self, member: int, network: nn.Module) -> None:
        """Copy one member's weights and statistics into its own network."""
        state = {name: value[member].detach() for name, value in {**self.parameters, **self.buffers}.items()}
        network.load_state_dict({name: value.T if name in self._dense else value for name, value in state.items()})

    def keep(self, members: Tensor) -> None:
        """Go on with these members alone. members: (K,) indices."""
        self.parameters = {name: value.detach()[members].requires_grad_() for name, value in self.parameters.items()}
        self.buffers = {name: value[members] for name, value in self.buffers.items()}

    def _normalised(self, name: str, layer: nn.BatchNorm1d, x: Tensor) -> Tensor:
        variance, mean = torch.var_mean(x, dim=1, correction=0)  # (M, F)
        with torch.no_grad():
            assert layer.momentum is not None, "networks keep torch's default"
            n = x.shape[1]
            self.buffers[f"{name}.running_mean"].lerp_(mean, layer.momentum)
            self.buffers[f"{name}.running_var"].lerp_(variance * (n / (n - 1)), layer.momentum)
            self.buffers[f"{name}.num_batches_tracked"] += 1
        scale = self.parameters[f"{name}.weight"] * (variance + layer.eps).rsqrt()  # (M, F)
        return (x - mean.unsqueeze(1)) * scale.unsqueeze(1) + self.parameters[f"{name}.bias"].unsqueeze(1)


class StackedLearner:
    """The step of `train.learning.adversarial_step.Learner` for M learners at once."""

    def __init__(self, learners: Sequence[Learner], *, learning_rate: float, captured: bool) -> None:
        """learners: untrained, of one architecture and on one device; captured: steps go into a CUDA graph."""
        self.adversarial_weight = learners[0].adversarial_weight
        self.encoder = StackedSequential([learner.autoencoder.encoder for learner in learners])
        self.decoder = StackedSequential([learner.autoencoder.decoder for learner in learners])
        self.discriminator: StackedSequential | None = None
        discriminators = [learner.discriminator for learner in learners if learner.discriminator is not None]
        if discriminators:
            self.discriminator = StackedSequential([network.layers for network in discriminators])
        self._learning_rate, self._captured = learning_rate, captured
        self.optimizer = self._adam(self._autoencoder_parameters())
        self.discriminator_optimizer = (
            self._adam(list(self.discriminator.parameters.values())) if self.discriminator is not None else None
        )

    def step(self, x: Tensor, weights: Tensor, prior_draws: Tensor, error_cap: Tensor) -> Tensor:
        """One step of every member, as `Learner.step`; returns its three losses of each member, (M, 3), detached.

        x: (M, B, F) images in [0, 1], flat; weights: (M, B); prior_draws: (M, B, D); error_cap: (M,).
        """
        z = self.encoder(x)  # (M, B, D)
        x_hat = self.decoder(z)  # (M, B, F)
        error = ((x - x_hat).square().sum(dim=2) + NORM_EPSILON).sqrt()  # (M, B)
        reconstruction = _weighted_means(error, weights, error_cap.unsqueeze(1))  # (M,)
        if self.discriminator is None:
            self._descend(self.optimizer, reconstruction)
            zero = torch.zeros_like(reconstruction)
            return torch.stack((reconstruction.detach(), zero, zero), dim=1)

        cap = torch.full_like(error_cap, ADVERSARIAL_CAP).unsqueeze(1)
        fooled = _weighted_means(softplus(-self._logits(z)), weights, cap)
        self._descend(self.optimizer, reconstruction + self.adversarial_weight * fooled)

        assert self.discriminator_optimizer is not None, "made together with the discriminator"
        on_prior = softplus(-self._logits(prior_draws)).mean(dim=1)
        on_codes = _weighted_means(softplus(self._logits(z.detach())), weights, cap)
        self._descend(self.discriminator_optimizer, on_prior + on_codes)
        return torch.stack((reconstruction, fooled, on_prior + on_codes), dim=1).detach()

    def write_back(self, member: int, learner: Learner) -> None:
        """Copy one member's networks into its own learner; the optimisers' state stays here."""
        self.encoder.write_back(member, learner.autoencoder.encoder)
        self.decoder.write_back(member, learner.autoencoder.decoder)
        if self.discriminator is not None and learner.discriminator is not None:
            self.discriminator.write_back(member, learner.discriminator.layers)

    def keep(self, members: Tensor) -> None:
        """Go on with these members alone, their optimisers' state included. members: (K,) indices."""
        for stack in (self.encoder, self.decoder, self.discriminator):
            if stack is not None:
                stack.keep(members)
        self.optimizer = self._kept(self.optimizer, self._autoencoder_parameters(), members)
        if self.discriminator is not None and self.discriminator_optimizer is not None:
            parameters = list(self.discriminator.parameters.values())
            self.discriminator_optimizer = self._kept(self.discriminator_optimizer, parameters, members)

    def _kept(self, old: torch.optim.Adam, parameters: list[Tensor], members: Tensor) -> torch.optim.Adam:
        new = self._adam(parameters)
        for before, after in zip(old.param_groups[0]["params"], parameters, strict=True):
            # The step count is shared: every member has taken every step.
            new.state[after] = {
                name: value if name == "step" else value[members] for name, value in old.state[before].items()
            }
        return new

    def _adam(self, parameters: list[Tensor]) -> torch.optim.Adam:
        return torch.optim.Adam(parameters, lr=self._learning_rate, fused=True, capturable=self._captured)

    def _logits(self, z: Tensor) -> Tensor:
        assert self.discriminator is not None, "asked for with a discriminator alone"
        return self.discriminator(z).squeeze(2)

    def _autoencoder_parameters(self) -> list[Tensor]:
        return [*self.encoder.parameters.values(), *self.decoder.parameters.values()]

    @staticmethod
    def _descend(optimizer: torch.optim.Optimizer, losses: Tensor) -> None:
        parameters = optimizer.param_groups[0]["params"]
        # Members share no weight, so the gradient of the sum holds each member's own.
        for parameter, gradient in zip(parameters, torch.autograd.grad(losses.sum(), parameters), strict=True):
            parameter.grad = gradient.contiguous()  # no copy where strides are as they should be
        optimizer.step()


def _weighted_means(loss: Tensor, weights: Tensor, cap: Tensor) -> Tensor:
    """`train.learning.adversarial_step.weighted_mean` of each member: (M, B), (M, B), (M, 1) -> (M,)."""
    bounded = torch.where(weights < 0, torch.minimum(loss, cap), loss)
    return (weights * bounded).mean(dim=1)


def _dense_layers(network: nn.Module) -> list[tuple[str, nn.Module]]:
    layers: list[tuple[str, nn.Module]] = []
    for name, layer in network.named_children():
        if isinstance(layer, (nn.Flatten, nn.Unflatten)):
            continue  # images stay flat here
        if not isinstance(layer, (nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Sigmoid)):
            raise ConfigError(f"side by side takes the dense layers of network mlp, not {type(layer).__name__}")
        layers.append((name, layer))
    return layers
