from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from train.learning.adversarial_step import ADVERSARIAL_CAP, Learner, draw_prior, weighted_mean
from train.networks.autoencoder import Autoencoder, Discriminator
from train.networks.registry import build_autoencoder

SIDE = 8
NO_CAP = math.inf


def make_learner(*, method: str = "aae", seed: int = 0, adversarial_weight: float = 4.0) -> Learner:
    torch.manual_seed(seed)
    autoencoder = build_autoencoder(
        "mlp", channels=1, height=SIDE, width=SIDE, latent_dim=2, batch_norm=method == "aae"
    )
    return Learner(
        autoencoder,
        Discriminator(2) if method == "aae" else None,
        learning_rate=1e-3,
        adversarial_weight=adversarial_weight,
    )


def batch_of(n: int, seed: int = 1) -> tuple[Tensor, Tensor]:
    """Images (n, 1, 8, 8) in [0, 1] and draws (n, 2) from the prior."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n, 1, SIDE, SIDE, generator=generator), torch.randn(n, 2, generator=generator)


def errors_of(autoencoder: Autoencoder, x: Tensor) -> Tensor:
    with torch.no_grad():
        return (x - autoencoder(x)[1]).flatten(1).norm(dim=1)


def test_the_weighted_mean_counts_one_drops_zero_and_subtracts_negative() -> None:
    loss = torch.tensor([3.0, 100.0, 2.0])
    # (1 * 3 + 0 * 100 - 0.5 * 2) / 3
    assert weighted_mean(loss, torch.tensor([1.0, 0.0, -0.5]), cap=10.0).item() == pytest.approx(2.0 / 3.0)


def test_the_weighted_mean_is_over_all_images_of_the_batch() -> None:
    # Dividing by the sum of the weights would give 4.
    assert weighted_mean(torch.tensor([4.0, 4.0]), torch.tensor([1.0, 0.0]), cap=1.0).item() == 2.0


def test_a_negatively_weighted_loss_counts_up_to_the_cap() -> None:
    # (1 * 3 - 0.5 * 4) / 2, the cap in place of 100
    loss = torch.tensor([3.0, 100.0])
    assert weighted_mean(loss, torch.tensor([1.0, -0.5]), cap=4.0).item() == pytest.approx(0.5)


def test_the_cap_leaves_positive_weights_alone() -> None:
    assert weighted_mean(torch.tensor([3.0, 100.0]), torch.ones(2), cap=4.0).item() == pytest.approx(51.5)


def test_the_weighted_mean_is_bounded_below_however_large_the_losses() -> None:
    for size in (1e1, 1e4, 1e30):
        loss = torch.full((5,), size)
        assert weighted_mean(loss, torch.full((5,), -0.5), cap=4.0).item() == pytest.approx(-0.5 * 4.0)


def test_the_gradient_is_the_weight_before_the_cap_and_zero_beyond() -> None:
    loss = torch.tensor([3.0, 3.9, 4.1, 50.0, 50.0], requires_grad=True)
    weighted_mean(loss, torch.tensor([1.0, -0.5, -0.5, 1.0, 0.0]), cap=4.0).backward()
    assert loss.grad is not None
    assert loss.grad.tolist() == pytest.approx([0.2, -0.1, 0.0, 0.2, 0.0])


def test_the_adversarial_cap_is_four_undecided_cross_entropies() -> None:
    assert pytest.approx(4 * math.log(2.0)) == ADVERSARIAL_CAP


def test_the_reported_reconstruction_loss_is_the_weighted_mean_of_the_euclidean_errors() -> None:
    learner = make_learner(method="ae")
    x, draws = batch_of(4)
    weights = torch.tensor([1.0, 1.0, 0.0, -0.5])
    errors = errors_of(learner.autoencoder, x)
    losses = learner.step(x, weights, draws, error_cap=NO_CAP)
    by_hand = (errors[0] + errors[1] - 0.5 * errors[3]) / 4
    assert losses.reconstruction.item() == pytest.approx(by_hand.item(), rel=1e-5)


def test_the_reported_adversarial_losses_are_cross_entropies_of_the_discriminator() -> None:
    learner = make_learner()
    assert learner.discriminator is not None
    learner.autoencoder.eval()
    x, draws = batch_of(4)
    with torch.no_grad():
        real = torch.sigmoid(learner.discriminator(draws))
        fake = torch.sigmoid(learner.discriminator(learner.autoencoder(x)[0]))
    losses = learner.step(x, torch.ones(4), draws, error_cap=NO_CAP)
    # The discriminator's own step comes after the encoder's, with the same discriminator and the same codes.
    assert losses.encoder.item() == pytest.approx((-fake.log()).mean().item(), rel=1e-4)
    by_hand = (-real.log()).mean() + (-(1 - fake).log()).mean()
    assert losses.discriminator.item() == pytest.approx(by_hand.item(), rel=1e-4)


def test_a_perfect_reconstruction_has_a_finite_gradient() -> None:
    learner = make_learner(method="ae")
    x = torch.full((2, 1, SIDE, SIDE), 0.5)
    last = learner.autoencoder.decoder[4]  # type: ignore[index]
    torch.nn.init.zeros_(last.weight)
    torch.nn.init.zeros_(last.bias)  # sigmoid(0) is the image
    learner.step(x, torch.ones(2), torch.zeros(2, 2), error_cap=NO_CAP)
    assert all(parameter.isfinite().all() for parameter in learner.autoencoder.parameters())


def test_a_negative_weight_raises_that_image_s_error_and_lowers_the_others() -> None:
    learner = make_learner(method="ae")
    x, draws = batch_of(4)
    x[3] = 1.0 - x[3].round()
    before = errors_of(learner.autoencoder, x)
    for _ in range(10):
        learner.step(x, torch.tensor([1.0, 1.0, 1.0, -0.5]), draws, error_cap=NO_CAP)
    after = errors_of(learner.autoencoder, x)
    assert after[3] > before[3]
    assert (after[:3] < before[:3]).all()


def test_a_negative_weight_stops_pushing_beyond_the_cap() -> None:
    learner = make_learner(method="ae")
    x, draws = batch_of(4)
    before = [parameter.clone() for parameter in learner.autoencoder.parameters()]
    learner.step(x, torch.full((4,), -0.5), draws, error_cap=0.01)
    assert all(map(torch.equal, before, learner.autoencoder.parameters()))
    learner.step(x, torch.full((4,), -0.5), draws, error_cap=NO_CAP)
    assert not any(map(torch.equal, before, learner.autoencoder.parameters()))


def step_with_second_image(learner: Learner, second: float, weight: float) -> dict[str, Tensor]:
    """Every weight of every network after one step; the batch's second image is grey `second`."""
    # Batch statistics would let an image without weight act on the others: this is about the losses.
    learner.autoencoder.eval()
    x, draws = batch_of(3)
    x[1] = second
    learner.step(x, torch.tensor([1.0, weight, 1.0]), draws, error_cap=NO_CAP)
    return {
        f"{name}.{key}": value
        for name, module in learner.modules().items()
        for key, value in module.state_dict().items()
    }


def test_an_image_of_weight_zero_has_no_pull_on_any_network() -> None:
    one = step_with_second_image(make_learner(), 0.1, weight=0.0)
    other = step_with_second_image(make_learner(), 0.9, weight=0.0)
    assert {name.split(".")[0] for name in one} == {"encoder", "decoder", "discriminator"}
    for name, values in one.items():
        assert torch.equal(values, other[name]), name


@pytest.mark.parametrize("network", ["encoder", "decoder", "discriminator"])
def test_an_image_of_weight_one_pulls_on_every_network(network: str) -> None:
    one = step_with_second_image(make_learner(), 0.1, weight=1.0)
    other = step_with_second_image(make_learner(), 0.9, weight=1.0)
    assert any(not torch.equal(values, other[name]) for name, values in one.items() if name.startswith(network))


def test_a_negative_weight_turns_the_adversarial_pull_around() -> None:
    def codes_after(weight: float) -> tuple[float, float]:
        learner = make_learner(adversarial_weight=1e4)
        assert learner.discriminator is not None
        learner.autoencoder.eval()
        x, draws = batch_of(2)
        with torch.no_grad():
            before = learner.discriminator(learner.autoencoder(x)[0]).mean().item()
            judge = {name: value.clone() for name, value in learner.discriminator.state_dict().items()}
        learner.step(x, torch.full((2,), weight), draws, error_cap=NO_CAP)
        learner.discriminator.load_state_dict(judge)
        with torch.no_grad():
            return before, learner.discriminator(learner.autoencoder(x)[0]).mean().item()

    before, after = codes_after(1.0)
    assert after > before, "codes of normal images become more like the prior"
    before, after = codes_after(-0.5)
    assert after < before, "codes of anomalies become less like it"


def test_the_conventional_autoencoder_has_no_adversary() -> None:
    learner = make_learner(method="ae")
    x, draws = batch_of(4)
    losses = learner.step(x, torch.ones(4), draws, error_cap=NO_CAP)
    assert (losses.encoder.item(), losses.discriminator.item()) == (0.0, 0.0)
    assert losses.reconstruction.item() > 0.0
    assert sorted(learner.modules()) == ["decoder", "encoder"]
    assert sorted(learner.optimizers()) == ["autoencoder"]


def test_the_adversary_has_its_own_optimiser() -> None:
    learner = make_learner()
    assert sorted(learner.modules()) == ["decoder", "discriminator", "encoder"]
    held = {
        name: {id(p) for group in optimizer.param_groups for p in group["params"]}
        for name, optimizer in learner.optimizers().items()
    }
    assert learner.discriminator is not None
    assert held["autoencoder"] == {id(p) for p in learner.autoencoder.parameters()}
    assert held["discriminator"] == {id(p) for p in learner.discriminator.parameters()}


def test_without_weight_the_adversary_leaves_the_autoencoder_alone() -> None:
    def weights_after(draws_scale: float) -> list[Tensor]:
        learner = make_learner(adversarial_weight=0.0)
        x, draws = batch_of(4)
        for _ in range(2):
            learner.step(x, torch.ones(4), draws_scale * draws, error_cap=NO_CAP)
        return list(learner.autoencoder.parameters())

    assert all(map(torch.equal, weights_after(1.0), weights_after(50.0)))


def test_draws_from_the_prior_are_standard_normal_and_follow_the_generator() -> None:
    def draw(seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return draw_prior(3, 4000, generator, torch.device("cpu"))

    draws = draw(0)
    assert draws.shape == (4000, 3)
    assert draws.dtype == torch.float32
    assert draws.mean(dim=0).abs().max() < 0.1
    assert (torch.cov(draws.T) - torch.eye(3)).abs().max() < 0.1
    assert torch.equal(draws, draw(0))
    assert not torch.equal(draws, draw(1))


GOLDEN_CURVE = [
    (1.706821, 0.5004401, 1.197103),
    (1.812369, 0.1000131, 1.801801),
    (1.692475, 0.1063514, 2.508812),
    (1.678425, 0.9940374, 1.385532),
    (1.754445, 3.597101, 1.038446),
    (1.558768, 4.063282, 1.401764),
    (1.592957, 3.630842, 1.799788),
    (1.558396, 2.805548, 1.471359),
    (1.562832, 1.572389, 1.557383),
    (1.600037, 1.147226, 1.428848),
    (1.597871, 0.4901188, 1.380925),
    (1.643847, 0.6458525, 1.349773),
    (1.645978, 0.6484287, 1.117257),
    (1.693635, 1.251682, 0.9164217),
    (1.699798, 1.442865, 0.7745517),
    (1.76593, 2.038985, 0.7250954),
    (1.713397, 1.800178, 0.9902968),
    (1.783039, 1.832448, 0.8078578),
    (1.697641, 1.104376, 0.6643994),
    (1.761689, 0.9808479, 0.8706601),
]
"""Reconstruction, encoder and discriminator loss of each step."""
GOLDEN_TOLERANCE = 1e-3
"""Relative; threads and vector units change the order of sums, which moves these losses by 1e-6."""


def test_twenty_steps_give_the_golden_losses() -> None:
    learner = make_learner()
    x, _ = batch_of(32)
    weights = torch.ones(16)
    weights[:3] = torch.tensor([0.0, -0.5, -0.5])
    generator = torch.Generator().manual_seed(2)
    for step, golden in enumerate(GOLDEN_CURVE):
        half = x[:16] if step % 2 else x[16:]
        draws = draw_prior(2, 16, generator, torch.device("cpu"))
        losses = learner.step(half, weights, draws, error_cap=2.2)
        measured = (losses.reconstruction.item(), losses.encoder.item(), losses.discriminator.item())
        assert measured == pytest.approx(golden, rel=GOLDEN_TOLERANCE), f"step {step}"
    assert step == 19
