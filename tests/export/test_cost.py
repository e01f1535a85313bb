"""Costs by hand: multiply-adds of dense layers, bytes of weights and of what lies between."""

from __future__ import annotations

import pytest

from export.cost import bytes_of, macs_of
from export.quantize import body_layers, quantized
from train.run_folder import TrainedRun


def test_multiply_adds_are_those_of_the_layers(runs: dict[str, TrainedRun]) -> None:
    run = runs["mlp"]  # 144 inputs, two hidden layers of 1000 each way, 2 latent dimensions
    layers = 2 * (144 * 1000 + 1000 * 1000 + 1000 * 2)
    assert macs_of(run.autoencoder, run.prior, run.config.preprocess) == layers


def test_weights_are_counted_at_their_precision(
    graphs: dict[str, dict[str, bytes]], runs: dict[str, TrainedRun]
) -> None:
    full, half = (bytes_of(graphs["mlp"][name]) for name in ("detector.onnx", "detector-fp16.onnx"))
    # Batch normalisation is folded into the layers: weights and one bias a unit.
    values = 2 * (144 * 1000 + 1000 * 1000 + 1000 * 2) + 4 * 1000 + 2 + 144
    assert full["weight_bytes"] == pytest.approx(4 * values, rel=1e-3)
    assert half["weight_bytes"] == pytest.approx(2 * values, rel=1e-3)
    assert half["activation_bytes"] < full["activation_bytes"] + 4000  # casts at both ends of the body
    # At least the frame, x, x_hat and four hidden layers.
    assert full["activation_bytes"] > 144 + 4 * (2 * 144 + 4 * 1000)


def test_of_int8_the_integers_count_alone(graphs: dict[str, dict[str, bytes]], runs: dict[str, TrainedRun]) -> None:
    graph = graphs["conv"]["detector.onnx"]
    full = bytes_of(graph)
    small = bytes_of(quantized(graph, runs["conv"].sample_inputs, body_layers(graph)))
    assert small["activation_bytes"] < full["activation_bytes"]
    assert 0.25 < small["weight_bytes"] / full["weight_bytes"] < 0.35
