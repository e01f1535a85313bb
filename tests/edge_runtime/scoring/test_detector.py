"""The detector against a numpy reference worked from the frame, and its refusals."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_runtime.backends import OnnxRuntimeCpu, RawOutputs
from edge_runtime.bundle.bundle import Bundle
from edge_runtime.errors import BackendError, BundleError, ConfigError, DataError, FrameError
from edge_runtime.model.images import write_image
from edge_runtime.model.preprocess import Preprocess
from edge_runtime.model.score import Limit, UnionRule
from edge_runtime.scoring.detector import Detector

FLOAT32_RTOL = 1e-5
"""Sums of some hundred float32 values in another order."""


def loaded(bundle: Bundle, *, threshold: float | None = None) -> Detector:
    return Detector(bundle, OnnxRuntimeCpu(bundle.files["detector.onnx"], threads=1), threshold=threshold)


def noise(*shape: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize(
    ("preprocess", "frame_shape"),
    [
        pytest.param(Preprocess(height=8, width=8), (8, 8), id="grey as it is"),
        pytest.param(Preprocess(height=8, width=10, channels=3), (33, 47, 3), id="colour, stretched"),
        pytest.param(Preprocess(height=8, width=8, fit="letterbox"), (20, 40, 3), id="colour to grey, letterbox"),
        pytest.param(Preprocess(height=6, width=9, channels=3, roi=(5, 3, 20, 15)), (30, 40), id="grey to colour, roi"),
    ],
)
def test_the_score_of_a_frame_is_that_of_the_numpy_reference(
    make_bundle: Callable[..., Bundle], preprocess: Preprocess, frame_shape: tuple[int, ...]
) -> None:
    frame = noise(*frame_shape)
    result = loaded(make_bundle(preprocess)).score(frame)

    x = preprocess(frame).astype(np.float64) / 255.0  # (H, W, C)
    half = preprocess.width // 2
    left, right = x[:, :half].mean(), x[:, half:].mean()
    x_hat = np.full_like(x, left)
    x_hat[:, half:] = right
    z = np.array([(left + right) / 2, left - right])
    error = math.sqrt(((x - x_hat) ** 2).sum())
    neg_log_prior = 0.5 * (z**2).sum() + math.log(2.0 * math.pi)
    score = float(max((error - 0.5) / (1.0 - 0.5), (neg_log_prior - 2.0) / (2.5 - 2.0)))

    assert result.criteria["reconstruction_error"] == pytest.approx(error, rel=FLOAT32_RTOL)
    assert result.criteria["neg_log_prior"] == pytest.approx(neg_log_prior, rel=FLOAT32_RTOL)
    assert result.score == pytest.approx(score, rel=FLOAT32_RTOL)
    assert result.is_anomaly is (score > 1.0)
    np.testing.assert_allclose(result.latent, z, rtol=FLOAT32_RTOL, atol=1e-6)
    np.testing.assert_allclose(result.anomaly_map, ((x - x_hat) ** 2).mean(axis=2), rtol=FLOAT32_RTOL, atol=1e-6)


def test_a_flat_frame_is_normal_and_a_noisy_one_anomalous(detector: Detector) -> None:
    flat = detector.score(np.full((8, 8), 128, dtype=np.uint8))
    assert flat.criteria["reconstruction_error"] == pytest.approx(0.0, abs=1e-5)
    assert not flat.is_anomaly
    assert detector.score(noise(8, 8)).is_anomaly


def test_the_same_frame_gives_the_same_score(detector: Detector) -> None:
    first, second = detector.score(noise(8, 8)), detector.score(noise(8, 8))
    assert first.score == second.score
    np.testing.assert_array_equal(first.anomaly_map, second.anomaly_map)


def test_a_result_is_not_changed_by_the_next_frame(detector: Detector) -> None:
    first = detector.score(noise(8, 8))
    kept = first.latent.copy(), first.anomaly_map.copy()
    detector.score(noise(8, 8, seed=1))
    np.testing.assert_array_equal(first.latent, kept[0])
    np.testing.assert_array_equal(first.anomaly_map, kept[1])


@pytest.mark.parametrize("as_folder", [False, True])
def test_a_bundle_is_loaded_from_file_and_folder(
    bundle: Bundle, detector: Detector, tmp_path: Path, as_folder: bool
) -> None:
    path = tmp_path / "x.aae"
    if as_folder:
        bundle.write_folder(path)
    else:
        bundle.write(path)
    read = Detector.load(str(path), threads=1)
    assert read.bundle.digest == bundle.digest
    assert read.score(noise(8, 8)).score == detector.score(noise(8, 8)).score


def test_a_bundle_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"no bundle at .*gone\.aae"):
        Detector.load(tmp_path / "gone.aae")


def test_the_threshold_can_be_replaced_without_changing_the_score(bundle: Bundle, bundle_file: Path) -> None:
    frame = noise(8, 8)
    calibrated = loaded(bundle).score(frame)
    assert calibrated.threshold == 1.0
    assert calibrated.is_anomaly
    raised = Detector.load(bundle_file, threads=1, threshold=calibrated.score).score(frame)
    assert raised.threshold == raised.score == calibrated.score
    assert not raised.is_anomaly  # at the threshold is not above it
    lowered = loaded(bundle, threshold=float(np.nextafter(calibrated.score, 0.0))).score(frame)
    assert lowered.is_anomaly


def test_a_threshold_of_zero_is_in_force(bundle: Bundle) -> None:
    assert loaded(bundle, threshold=0.0).decision.threshold == 0.0


def test_a_threshold_that_is_not_finite_is_refused(bundle: Bundle) -> None:
    with pytest.raises(ConfigError, match="threshold is nan, expected a finite number; 1 is as calibrated"):
        loaded(bundle, threshold=float("nan"))


def test_the_threshold_of_the_bundle_is_in_force(make_bundle: Callable[..., Bundle]) -> None:
    decision = UnionRule(limits={"reconstruction_error": Limit(threshold=1.0, center=0.5)}, threshold=100.0)
    result = loaded(make_bundle(decision=decision)).score(noise(8, 8))
    assert result.threshold == 100.0
    assert 1.0 < result.score < 100.0
    assert not result.is_anomaly


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_criteria_that_are_not_finite_are_a_backend_error(
    make_bundle: Callable[..., Bundle], make_detector_onnx: Callable[..., bytes], broken: float
) -> None:
    broken_bundle = make_bundle(detector_onnx=make_detector_onnx(8, 8, 1, error_scale=broken))
    with pytest.raises(BackendError, match=rf"onnxruntime-cpu gave criteria \[{broken}, .*\], expected finite numbers"):
        loaded(broken_bundle).score(noise(8, 8))


def test_a_graph_that_gives_nan_is_refused_when_it_is_loaded(
    make_bundle: Callable[..., Bundle], make_detector_onnx: Callable[..., bytes], tmp_path: Path
) -> None:
    make_bundle(detector_onnx=make_detector_onnx(8, 8, 1, error_scale=float("nan"))).write(tmp_path / "x.aae")
    with pytest.raises(BackendError, match=r"gave criteria \[nan, .*; run `edge-aae verify` on this bundle"):
        Detector.load(tmp_path / "x.aae", threads=1)


def test_a_graph_of_another_input_size_is_refused_when_it_is_loaded(
    make_bundle: Callable[..., Bundle], make_detector_onnx: Callable[..., bytes], tmp_path: Path
) -> None:
    make_bundle(detector_onnx=make_detector_onnx(16, 16, 1)).write(tmp_path / "x.aae")
    with pytest.raises(BackendError, match="onnxruntime failed"):
        Detector.load(tmp_path / "x.aae", threads=1)


@pytest.mark.parametrize("n_criteria", [1, 3])
def test_a_graph_of_another_number_of_criteria_is_refused_when_it_is_loaded(
    make_bundle: Callable[..., Bundle], make_detector_onnx: Callable[..., bytes], tmp_path: Path, n_criteria: int
) -> None:
    make_bundle(detector_onnx=make_detector_onnx(8, 8, 1, n_criteria=n_criteria)).write(tmp_path / "x.aae")
    with pytest.raises(BackendError, match="criteria"):
        Detector.load(tmp_path / "x.aae", threads=1)


def test_a_frame_that_does_not_fit_is_refused_with_both_shapes(detector: Detector) -> None:
    with pytest.raises(FrameError, match=r"frame is \(8, 8, 4\), expected \(H, W, 3\) uint8 BGR"):
        detector.score(noise(8, 8, 4))


def test_a_heatmap_has_the_frame_s_height_and_width(detector: Detector) -> None:
    frame = noise(30, 50, 3)
    heat = detector.score(frame).heatmap(frame.shape)
    assert heat.shape == (30, 50)
    assert heat.dtype == np.float32


def test_a_heatmap_is_hottest_at_the_defect(make_bundle: Callable[..., Bundle]) -> None:
    frame = np.full((64, 64), 100, dtype=np.uint8)
    frame[40:48, 8:16] = 255
    detector = loaded(make_bundle(Preprocess(height=16, width=16)))
    heat = detector.score(frame).heatmap(frame.shape)
    row, column = np.unravel_index(int(heat.argmax()), heat.shape)
    assert 40 <= row < 48
    assert 8 <= column < 16


def test_the_time_of_each_stage_is_given(detector: Detector) -> None:
    latency_ms = detector.score(noise(20, 20)).latency_ms
    assert sorted(latency_ms) == ["infer", "post", "preprocess"]
    assert all(value > 0.0 for value in latency_ms.values())


# Frames of several tiles

TILED = Preprocess(height=8, width=8, fit="tile", overlap=2)


def test_a_frame_s_criteria_are_the_largest_of_its_tiles(make_bundle: Callable[..., Bundle]) -> None:
    detector = loaded(make_bundle(TILED))
    frame = noise(30, 21)
    result = detector.score(frame)
    tiles, tiling = TILED.tiles(frame)
    alone = [detector.score_input(tile) for tile in tiles]
    assert len(tiling) == len(alone) == 5 * 4
    assert result.tiling == tiling
    for name in result.criteria:
        assert result.criteria[name] == max(each.criteria[name] for each in alone)
    # Each criterion takes part with its worst tile, so the frame's score is its worst tile's under the union rule.
    assert result.score == max(each.score for each in alone)
    assert result.is_anomaly is any(each.is_anomaly for each in alone)
    np.testing.assert_array_equal(result.latents, np.stack([each.latent for each in alone]))
    np.testing.assert_array_equal(result.anomaly_maps, np.stack([each.anomaly_map for each in alone]))


def test_criteria_of_different_tiles_come_together(make_bundle: Callable[..., Bundle]) -> None:
    frame = np.full((8, 16), 255, dtype=np.uint8)  # bright and flat: an unlikely code, no error
    frame[:, 8:] = noise(8, 8) // 4  # dark and noisy: an error, a likely code
    detector = loaded(make_bundle(Preprocess(height=8, width=8, fit="tile")))
    left, right = (detector.score(frame[:, side]) for side in (slice(0, 8), slice(8, 16)))
    both = detector.score(frame)
    assert both.criteria == {
        "reconstruction_error": right.criteria["reconstruction_error"],
        "neg_log_prior": left.criteria["neg_log_prior"],
    }


def test_one_anomalous_tile_makes_the_frame_anomalous(make_bundle: Callable[..., Bundle]) -> None:
    detector = loaded(make_bundle(TILED))
    frame = np.full((40, 60), 128, dtype=np.uint8)
    assert not detector.score(frame).is_anomaly
    frame[20:28, 30:38] = noise(8, 8)
    result = detector.score(frame)
    assert result.is_anomaly
    heat = result.heatmap(frame.shape)
    assert heat.shape == frame.shape
    row, column = np.unravel_index(int(heat.argmax()), heat.shape)
    assert 20 <= row < 28
    assert 30 <= column < 38
    assert heat[:12].max() == pytest.approx(0.0, abs=1e-6)


def test_a_tiled_bundle_scores_a_frame_of_one_tile_as_another_does(make_bundle: Callable[..., Bundle]) -> None:
    tiled, plain = loaded(make_bundle(TILED)).score(noise(8, 8)), loaded(make_bundle()).score(noise(8, 8))
    assert tiled.criteria == plain.criteria
    np.testing.assert_array_equal(tiled.anomaly_map, plain.anomaly_map)
    np.testing.assert_array_equal(tiled.latent, plain.latent)


def test_several_tiles_have_no_single_map_and_code(make_bundle: Callable[..., Bundle]) -> None:
    result = loaded(make_bundle(TILED)).score(noise(8, 20))
    with pytest.raises(FrameError, match="the frame was scored in 3 tiles, expected one; use anomaly_maps with tiling"):
        _ = result.anomaly_map
    with pytest.raises(FrameError, match=r"use latents with tiling, or heatmap for one map"):
        _ = result.latent


def test_self_referenced_channels_reach_the_network(make_bundle: Callable[..., Bundle]) -> None:
    preprocess = Preprocess(height=8, width=8, fit="tile", overlap=2, self_reference="row_column")
    detector = loaded(make_bundle(preprocess))
    frame = noise(20, 20, 3)
    tiles, _ = preprocess.tiles(frame)
    assert tiles.shape[1:] == (8, 8, 4)
    alone = [detector.score_input(tile).criteria["reconstruction_error"] for tile in tiles]
    assert detector.score(frame).criteria["reconstruction_error"] == max(alone)


class SpatialBackend:
    """A graph with a code at every site and a map of a quarter of the resolution, as a patch network has."""

    name = "spatial"

    def __init__(self, broken_tile: int | None = None) -> None:
        self.broken_tile = broken_tile
        self.batches: list[tuple[int, ...]] = []

    def run(self, inputs: NDArray[np.uint8]) -> RawOutputs:
        self.batches.append(inputs.shape)
        x = inputs[0, :, :, 0].astype(np.float32) / 255.0
        anomaly_map = x.reshape(x.shape[0] // 4, 4, x.shape[1] // 4, 4).mean(axis=(1, 3))[None]
        criteria = np.array([[anomaly_map.max(), x.mean()]], dtype=np.float32)
        if self.broken_tile == len(self.batches) - 1:
            criteria[0, 1] = np.nan
        return RawOutputs(criteria, np.zeros((1, 3, 2, 2), dtype=np.float32), anomaly_map)


def test_spatial_codes_and_small_maps_are_carried_through(bundle: Bundle, make_bundle: Callable[..., Bundle]) -> None:
    backend = SpatialBackend()
    detector = Detector(make_bundle(TILED), backend)
    frame = np.zeros((20, 26), dtype=np.uint8)
    frame[12:16, 20:24] = 255
    result = detector.score(frame)
    assert backend.batches == [(1, 8, 8, 1)] * 12
    assert result.latents.shape == (12, 3, 2, 2)
    assert result.anomaly_maps.shape == (12, 2, 2)
    heat = result.heatmap(frame.shape)
    row, column = np.unravel_index(int(heat.argmax()), heat.shape)
    assert 12 <= row < 16
    assert 20 <= column < 24
    assert Detector(bundle, SpatialBackend()).score(noise(8, 8)).latent.shape == (3, 2, 2)


def test_one_tile_that_is_not_finite_is_a_backend_error(make_bundle: Callable[..., Bundle]) -> None:
    detector = Detector(make_bundle(TILED), SpatialBackend(broken_tile=7))
    with pytest.raises(BackendError, match=r"spatial gave criteria \[.*, nan\], expected finite numbers"):
        detector.score(noise(20, 26))


def test_a_list_gives_a_list_of_what_each_frame_gives_alone(detector: Detector, tmp_path: Path) -> None:
    path = tmp_path / "noise.png"
    write_image(path, noise(48, 64))
    frames = [noise(48, 64), np.zeros((30, 40, 3), dtype=np.uint8), noise(8, 8, 3)]
    found = detector.score(frames)
    assert [result.score for result in found] == [detector.score(frame).score for frame in frames]
    assert [result.score for result in detector.score([path, str(path)])] == [detector.score(path).score] * 2
    assert detector.score(tuple(frames))[2].score == found[2].score
    assert detector.score([]) == []


def test_the_frame_of_a_list_that_cannot_be_scored_is_named(detector: Detector, tmp_path: Path) -> None:
    with pytest.raises(FrameError, match="number 1 of 2, counted from 0: frame is float32"):
        detector.score([noise(8, 8), noise(8, 8).astype(np.float32)])
    with pytest.raises(DataError, match=r"number 0 of 1, counted from 0: .*gone\.png"):
        detector.score([tmp_path / "gone.png"])


def test_what_the_runtime_gives_says_in_a_line_what_it_is(detector: Detector, bundle: Bundle) -> None:
    result = detector.score(noise(48, 64))
    for thing, parts in (
        (detector, ("<Detector", bundle.digest[:12], "onnxruntime-cpu", "threshold")),
        (result, ("<Result normal: score", f"{result.score:.4g}", *bundle.criteria)),
        (bundle, ("<Bundle", bundle.digest[:12], "fp32")),
    ):
        text = repr(thing)
        assert all(part in text for part in parts), text
        assert len(text) < 250, text
        assert "\n" not in text
