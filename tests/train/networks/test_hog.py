"""Oriented gradients and their cells, against numbers worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from train.networks.hog import BINS, GREY_STEPS, HISTOGRAM_EPSILON, HogBlocks, OrientedGradients, cell_histograms, grey

ATOL = 1e-6
"""Of float32 and of the epsilon under the magnitude's root."""

HALF_BIN_SHARE = (math.cos(math.pi / 8) - math.cos(math.pi / 4)) / (1.0 - math.cos(math.pi / 4))
"""0.7402: what each of two neighbours takes of a gradient of length 1 that points midway between them."""


def oriented(rows: list[list[float]] | Tensor) -> Tensor:
    """(BINS, H, W) of one grey image."""
    image = torch.as_tensor(rows, dtype=torch.float32)
    magnitudes: Tensor = OrientedGradients()(image[None, None])
    return magnitudes[0]


def ramp(degrees: float, side: int = 5) -> Tensor:
    """An image (side, side) whose central differences point in this direction, clockwise from right, with length 1."""
    steps = torch.arange(side, dtype=torch.float32) / 2.0
    angle = math.radians(degrees)
    return math.cos(angle) * steps[None, :] + math.sin(angle) * steps[:, None]


def test_a_vertical_edge_falls_into_the_first_bin_at_the_columns_beside_it() -> None:
    found = oriented([[0.0, 0.0, 1.0, 1.0]] * 4)
    # x[2] - x[0] and x[3] - x[1]; the border columns have no neighbour and count as zero.
    torch.testing.assert_close(found[0], torch.tensor([[0.0, 1.0, 1.0, 0.0]] * 4), rtol=0, atol=ATOL)
    torch.testing.assert_close(found[1:], torch.zeros(BINS - 1, 4, 4), rtol=0, atol=ATOL)


def test_a_horizontal_edge_falls_into_the_third_bin_at_the_rows_beside_it() -> None:
    found = oriented([[0.0] * 4, [0.0] * 4, [0.5] * 4, [0.5] * 4])
    expected = torch.tensor([[0.0] * 4, [0.5] * 4, [0.5] * 4, [0.0] * 4])
    torch.testing.assert_close(found[2], expected, rtol=0, atol=ATOL)
    assert found[[0, 1, 3, 4, 5, 6, 7]].abs().max() < ATOL


def test_an_edge_from_light_to_dark_falls_into_the_opposite_bin() -> None:
    found = oriented([[1.0, 1.0, 0.0, 0.0]] * 4)
    assert found.sum(dim=(1, 2)).argmax() == 4
    assert found[4, 1, 1] == pytest.approx(1.0, abs=ATOL)


def test_a_flat_image_has_no_gradients_and_a_finite_slope() -> None:
    image = torch.full((1, 1, 8, 8), 0.7, requires_grad=True)
    found = OrientedGradients()(image)
    assert found.eq(0.0).all()
    cell_histograms(found, (4, 4)).sum().backward()
    assert image.grad is not None
    assert image.grad.isfinite().all()


@pytest.mark.parametrize("index", range(BINS))
def test_each_bin_takes_all_of_the_gradient_that_points_its_way(index: int) -> None:
    inside = oriented(ramp(45.0 * index))[:, 2, 2]
    expected = torch.zeros(BINS)
    expected[index] = 1.0
    torch.testing.assert_close(inside, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("index", range(BINS))
def test_two_neighbouring_bins_share_a_gradient_between_them(index: int) -> None:
    inside = oriented(ramp(45.0 * index + 22.5))[:, 2, 2]
    expected = torch.zeros(BINS)
    expected[[index, (index + 1) % BINS]] = HALF_BIN_SHARE
    torch.testing.assert_close(inside, expected, rtol=0, atol=1e-5)


def test_the_share_grows_with_the_contrast() -> None:
    torch.testing.assert_close(oriented(0.25 * ramp(10.0)), 0.25 * oriented(ramp(10.0)), rtol=0, atol=1e-5)


def test_cells_hold_the_roots_of_their_sums_bin_by_bin() -> None:
    magnitudes = torch.zeros(1, 2, 2, 4)
    magnitudes[0, 0] = torch.tensor([[1.0, 2.0, 0.0, 0.0], [3.0, 3.0, 0.0, 4.0]])
    magnitudes[0, 1, 1, 0] = 16.0
    roots = cell_histograms(magnitudes, (2, 2))
    assert roots.shape == (1, 4)  # bin 0 left and right, bin 1 left and right
    nothing = HISTOGRAM_EPSILON**0.5
    torch.testing.assert_close(roots, torch.tensor([[3.0, 2.0, 4.0, nothing]]), rtol=1e-6, atol=1e-6)


def test_cells_need_not_be_square() -> None:
    magnitudes = torch.arange(8.0).reshape(1, 1, 2, 4)  # 0 1 2 3 over 4 5 6 7
    squares = cell_histograms(magnitudes, (1, 4)).square()
    torch.testing.assert_close(squares, torch.tensor([[6.0, 22.0]]), rtol=1e-5, atol=1e-5)


def test_grey_weighs_blue_green_and_red_as_opencv_does() -> None:
    cv2 = pytest.importorskip("cv2")
    bgr = torch.tensor([10.0, 200.0, 90.0]).reshape(1, 3, 1, 1)
    # 0.114 * 10 + 0.587 * 200 + 0.299 * 90 = 1.14 + 117.4 + 26.91
    assert grey(bgr).item() == pytest.approx(145.45, abs=1e-4)
    frame = bgr.permute(0, 2, 3, 1)[0].byte().numpy()
    assert int(cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)[0, 0]) == 145


def test_grey_images_stay_as_they_are() -> None:
    x = torch.rand(2, 1, 4, 4)
    assert grey(x) is x


def stripes(seed: int) -> Tensor:
    """A grey image (1, 1, 128, 128) in [0, 1] of diagonal stripes, each of one level: where two bins end."""
    levels = torch.randint(0, 256, (255,), generator=torch.Generator().manual_seed(seed))
    return levels[torch.arange(128)[:, None] + torch.arange(128)[None]][None, None] / 255.0


@pytest.mark.parametrize("bgr", [(1.0,), (0.3, 0.9, 0.5)], ids=["grey", "colour"])
def test_diagonal_edges_leave_exactly_nothing_outside_their_bin(bgr: tuple[float, ...]) -> None:
    image = torch.cat([(stripes(0) * 255.0 * share).round() for share in bgr], dim=1) / 255.0
    blocks = HogBlocks(len(bgr), 128, 128)
    _, coarse, fine = blocks.raw(image).split(blocks.sizes, dim=1)
    for histograms, side in ((coarse, 4), (fine, 8)):
        inner = histograms.reshape(BINS, side, side)[:, 1:-1, 1:-1]  # the border has no gradient across it
        assert inner[[0, 2, 3, 4, 6, 7]].eq(torch.tensor(HISTOGRAM_EPSILON).sqrt()).all()
        assert inner[[1, 5]].gt(0.1).all()


def test_float32_keeps_the_digits_of_float64() -> None:
    blocks = HogBlocks(1, 128, 128)
    torch.testing.assert_close(blocks.raw(stripes(0)).double(), blocks.raw(stripes(0).double()), rtol=1e-6, atol=1e-7)


def test_an_image_in_another_unit_has_the_same_gradients() -> None:
    image = torch.randint(0, 256, (1, 1, 9, 9), generator=torch.Generator().manual_seed(0)) / 255.0
    steps = (image * GREY_STEPS).round()
    found = OrientedGradients(1.0 / GREY_STEPS)(steps)
    torch.testing.assert_close(found, OrientedGradients()(image), rtol=1e-4, atol=1e-6)
