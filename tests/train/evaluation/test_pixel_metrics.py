"""Pixel metrics: by hand, against scikit-learn, and AUPRO against thresholds tried one by one; masks on disk."""

from __future__ import annotations

import logging
import math
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edge_runtime.errors import BackendError, DataError
from edge_runtime.model.images import write_image
from edge_runtime.scoring.evaluation import Row, ScoredImage
from edge_runtime.scoring.image_items import Item, TrainedOn, load_items
from train.evaluation.pixel_metrics import (
    AUPRO_FPR_LIMIT,
    Masks,
    PixelCounts,
    PixelTally,
    find_masks,
    read_defect_mask,
)

FLAT = np.full((8, 8), 128, dtype=np.uint8)


def random_maps(seed: int, n: int = 6) -> list[tuple[NDArray[np.float32], NDArray[np.bool_]]]:
    """Maps of a few hundred values, many tied and some negative, with masks of several regions; one is normal."""
    rng = np.random.default_rng(seed)
    images = []
    for index in range(n):
        mask = np.zeros((24, 32), dtype=np.uint8)
        for _ in range(index):
            top, left = rng.integers(0, 20), rng.integers(0, 28)
            mask[top : top + rng.integers(1, 6), left : left + rng.integers(1, 6)] = 1
        heat = rng.normal(mask * 1.2)
        images.append(((np.round(heat * 8) / 8).astype(np.float32), mask.astype(bool)))
    return images


def counted(images: list[tuple[NDArray[np.float32], NDArray[np.bool_]]]) -> PixelCounts:
    counts = PixelCounts()
    for heat, mask in images:
        counts.add(heat, mask)
    return counts


def brute_force_aupro(images: list[tuple[NDArray[np.float32], NDArray[np.bool_]]]) -> float:
    """Every threshold one by one, every region by itself."""
    regions = []
    for heat, mask in images:
        n_labels, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
        regions += [heat[labels == label] for label in range(1, n_labels)]
    unmarked = np.concatenate([heat[~mask] for heat, mask in images])
    points = [(0.0, 0.0)]
    for threshold in np.unique(np.concatenate([heat.ravel() for heat, _ in images]))[::-1]:
        points.append(
            (float((unmarked >= threshold).mean()), float(np.mean([(r >= threshold).mean() for r in regions])))
        )
    rates, overlaps = map(np.array, zip(*points, strict=True))
    inside = rates <= AUPRO_FPR_LIMIT
    x = [*rates[inside], AUPRO_FPR_LIMIT]
    y = [*overlaps[inside], float(np.interp(AUPRO_FPR_LIMIT, rates, overlaps))]
    area = sum((x[i + 1] - x[i]) * (y[i + 1] + y[i]) / 2 for i in range(len(x) - 1))
    return area / AUPRO_FPR_LIMIT


def test_a_map_that_marks_the_mask_exactly_is_perfect() -> None:
    mask = np.zeros((10, 10), dtype=bool)
    mask[2:4, 2:4] = mask[7, 7] = True
    metrics = counted(
        [(mask.astype(np.float32), mask), (np.zeros((10, 10), np.float32), np.zeros((10, 10), bool))]
    ).metrics()
    assert (metrics.n_images, metrics.n_regions) == (2, 2)
    assert metrics.anomalous_share == 5 / 200
    assert (metrics.auroc, metrics.average_precision) == (1.0, 1.0)
    assert metrics.aupro == pytest.approx(1.0)


def test_a_map_that_does_not_vary_gets_what_chance_gets() -> None:
    mask = np.arange(100).reshape(10, 10) < 20
    metrics = counted([(np.full((10, 10), 0.3, np.float32), mask)]).metrics()
    assert metrics.auroc == 0.5
    assert metrics.average_precision == pytest.approx(0.2)
    # The curve is the diagonal: area 0.3 * 0.3 / 2, divided by 0.3.
    assert metrics.aupro == pytest.approx(0.15)


def test_aupro_by_hand_weighs_regions_alike_whatever_their_size() -> None:
    # A region of 4 pixels, all found first; a region of 1 pixel, found after half of the 10 unmarked ones.
    heat = np.array([[9, 9, 9, 9, 5, 5, 5, 5, 5, 4, 4, 4, 4, 4, 4.5]], dtype=np.float32)
    mask = np.array([[1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]], dtype=bool)
    metrics = counted([(heat, mask)]).metrics()
    assert metrics.n_regions == 2
    # PRO 1/2 from a rate of 0 to 0.5, beyond the limit.
    assert metrics.aupro == pytest.approx(0.5)
    # Of 50 pairs the small region's pixel loses 5.
    assert metrics.auroc == pytest.approx(45 / 50)


def test_pixels_that_touch_at_a_corner_are_one_region() -> None:
    mask = np.eye(5, dtype=bool)
    assert counted([(np.zeros((5, 5), np.float32), mask)]).metrics().n_regions == 1


@pytest.mark.parametrize("seed", range(4))
def test_pixel_metrics_agree_with_scikit_learn(seed: int) -> None:
    reference = pytest.importorskip("sklearn.metrics")
    images = random_maps(seed)
    metrics = counted(images).metrics()
    values = np.concatenate([heat.ravel() for heat, _ in images])
    marked = np.concatenate([mask.ravel() for _, mask in images])
    assert metrics.auroc == pytest.approx(reference.roc_auc_score(marked, values), abs=1e-12)
    assert metrics.average_precision == pytest.approx(reference.average_precision_score(marked, values), abs=1e-12)
    assert metrics.anomalous_share == pytest.approx(marked.mean())


@pytest.mark.parametrize("seed", range(4))
def test_aupro_agrees_with_thresholds_tried_one_by_one(seed: int) -> None:
    images = random_maps(seed)
    assert counted(images).metrics().aupro == pytest.approx(brute_force_aupro(images), abs=1e-9)


def test_bins_lose_next_to_nothing_on_maps_of_any_range() -> None:
    reference = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    mask = rng.random((200, 200)) < 0.05
    for scale in (1e-12, 1.0, 1e12):
        heat = (scale * rng.lognormal(mask * 1.0)).astype(np.float32)
        metrics = counted([(heat, mask)]).metrics()
        assert metrics.auroc == pytest.approx(reference.roc_auc_score(mask.ravel(), heat.ravel()), abs=1e-5)
        precision = reference.average_precision_score(mask.ravel(), heat.ravel())
        assert metrics.average_precision == pytest.approx(precision, abs=1e-3)


def test_negative_values_and_both_zeros_keep_their_order() -> None:
    heat = np.array([[-2.0, -1.0, -0.0, 0.0, 1.0]], dtype=np.float32)
    mask = np.array([[False, False, False, True, True]])
    # The two zeros tie: half a pair of 6.
    assert counted([(heat, mask)]).metrics().auroc == pytest.approx(5.5 / 6)


def test_joined_counts_are_those_of_all_images() -> None:
    images = random_maps(1)
    assert counted(images[:3]).joined(counted(images[3:])).metrics() == counted(images).metrics()


def test_without_marked_pixels_metrics_are_nan_and_null() -> None:
    metrics = counted([(np.zeros((4, 4), np.float32), np.zeros((4, 4), bool))]).metrics()
    assert math.isnan(metrics.auroc)
    assert metrics.to_json() == {
        "n_images": 1, "n_regions": 0, "anomalous_share": 0.0, "auroc": None, "average_precision": None, "aupro": None,
    }  # fmt: skip
    assert math.isnan(PixelCounts().metrics().anomalous_share)


def test_maps_of_another_shape_and_broken_maps_are_refused() -> None:
    with pytest.raises(DataError, match=r"anomaly map is \(4, 5\), mask is \(4, 4\)"):
        PixelCounts().add(np.zeros((4, 5), np.float32), np.zeros((4, 4), bool))
    with pytest.raises(BackendError, match="not finite"):
        PixelCounts().add(np.full((4, 4), np.nan, np.float32), np.zeros((4, 4), bool))


# Masks on disk


@pytest.fixture
def tile(tmp_path: Path) -> Path:
    """tile/test with good, bent (png) and broken (jpg), and tile/ground_truth with masks for all but bent/2."""
    mask = np.zeros((8, 8), np.uint8)
    mask[2:5, 2:5] = 255
    for name in ("good/1.png", "bent/1.png", "bent/2.png", "broken/1.jpg"):
        write_image(tmp_path / "tile/test" / name, FLAT)
    write_image(tmp_path / "tile/ground_truth/bent/1_mask.png", mask)
    write_image(tmp_path / "tile/ground_truth/broken/1.png", mask)
    return tmp_path / "tile"


def items_of(*paths: Path) -> list[Item]:
    return load_items(paths, TrainedOn())


def test_masks_are_found_beside_the_folder_by_either_name(tile: Path) -> None:
    masks = find_masks(items_of(tile / "test"), [tile / "test"])
    assert masks is not None
    assert masks.folders == (tile / "ground_truth",)
    assert masks.of_image == {
        "bent/1.png": tile / "ground_truth/bent/1_mask.png",
        "broken/1.jpg": tile / "ground_truth/broken/1.png",
    }
    assert masks.missing == ["bent/2.png"]


def test_masks_are_found_from_inside_the_folder(tile: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tile / "test")
    masks = find_masks(items_of(Path(".")), [Path(".")])
    assert masks is not None
    assert set(masks.of_image) == {"bent/1.png", "broken/1.jpg"}


def test_a_named_folder_of_masks_replaces_ground_truth(tile: Path) -> None:
    (tile / "ground_truth").rename(tile / "marked")
    assert find_masks(items_of(tile / "test"), [tile / "test"]) is None
    masks = find_masks(items_of(tile / "test"), [tile / "test"], tile / "marked")
    assert masks is not None
    assert len(masks.of_image) == 2


def test_each_of_several_folders_has_its_own_masks(tile: Path, tmp_path: Path) -> None:
    for name in ("good/1.png", "bent/1.png"):
        write_image(tmp_path / "wood/test" / name, FLAT)
    write_image(tmp_path / "wood/ground_truth/bent/1_mask.png", FLAT)
    paths = [tile / "test", tmp_path / "wood/test"]
    masks = find_masks(items_of(*paths), paths)
    assert masks is not None
    assert masks.folders == (tile / "ground_truth", tmp_path / "wood/ground_truth")
    assert masks.of_image[(tmp_path / "wood/test/bent/1.png").as_posix()].is_relative_to(tmp_path / "wood")
    assert masks.of_image[(tile / "test/bent/1.png").as_posix()].is_relative_to(tile)
    with pytest.raises(DataError, match="belong to the images of one folder, came 2"):
        find_masks(items_of(*paths), paths, tile / "ground_truth")


def test_a_named_folder_without_masks_or_images_is_refused(tile: Path, tmp_path: Path) -> None:
    items = items_of(tile / "test")
    with pytest.raises(DataError, match="no folder of masks at"):
        find_masks(items, [tile / "test"], tile / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"no mask of any anomalous image, such as bent/1\.png"):
        find_masks(items, [tile / "test"], tmp_path / "empty")
    np.savez(tmp_path / "d.npz", images=np.stack([FLAT]))
    with pytest.raises(DataError, match="of one folder, came 0"):
        find_masks(items_of(tmp_path / "d.npz"), [tmp_path / "d.npz"], tile / "ground_truth")


def test_a_ground_truth_that_belongs_to_other_images_is_a_warning(tile: Path, caplog: pytest.LogCaptureFixture) -> None:
    for file in (tile / "ground_truth").rglob("*.png"):
        file.rename(file.with_name(f"other-{file.name}"))
    with caplog.at_level(logging.WARNING):
        assert find_masks(items_of(tile / "test"), [tile / "test"]) is None
    assert "no pixel metrics" in caplog.text


def test_masks_mark_from_128_and_class_numbers_mark_all_but_zero(tmp_path: Path) -> None:
    grey = np.array([[0, 100, 128, 255]], dtype=np.uint8)
    write_image(tmp_path / "grey.png", grey)
    write_image(tmp_path / "colour.png", cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR))
    write_image(tmp_path / "classes.png", np.array([[0, 1, 2, 100]], dtype=np.uint8))
    assert read_defect_mask(tmp_path / "grey.png", (1, 4)).tolist() == [[False, False, True, True]]
    assert read_defect_mask(tmp_path / "colour.png", (1, 4, 3)).tolist() == [[False, False, True, True]]
    assert read_defect_mask(tmp_path / "classes.png", (1, 4)).tolist() == [[False, True, True, True]]
    with pytest.raises(DataError, match=r"is 1x4, its image is 8x8"):
        read_defect_mask(tmp_path / "grey.png", (8, 8))


# Counting while images are scored


def scored(heat: NDArray[np.float32]) -> ScoredImage:
    return ScoredImage(0.0, False, {}, lambda: heat)


def row(name: str, anomalous: bool | None, group: str | None) -> Row:
    return Row(Item(name, lambda: FLAT, group, anomalous), 0.0, False, {})


def test_the_tally_counts_normal_images_and_masked_anomalies_by_group(tile: Path) -> None:
    truth = tile / "ground_truth"
    tally = PixelTally(
        Masks((truth,), {"bent/1": truth / "bent/1_mask.png", "broken/1": truth / "broken/1.png"}, ["bent/2"])
    )
    marked = np.zeros((8, 8), np.float32)
    marked[2:5, 2:5] = 1.0
    rows = [row("good/1", False, "good"), row("bent/1", True, "bent"), row("bent/2", True, "bent")]
    rows += [row("broken/1", True, "broken"), row("new/1", None, None)]
    for each, heat in zip(rows, [0 * marked, marked, marked, 1 - marked, marked], strict=True):
        tally.add(each, scored(heat))
    bent, broken, both = (tally.metrics_of(some) for some in (rows[1:3], rows[3:4], rows))
    assert bent is not None
    assert broken is not None
    assert both is not None
    assert (bent.n_images, broken.n_images, both.n_images) == (2, 2, 3)
    assert bent.auroc == 1.0
    assert broken.auroc < 0.5
    assert broken.auroc < both.auroc < bent.auroc
    assert tally.metrics_of([row("dirty/1", True, "dirty")]) is None


def test_a_heatmap_is_worked_out_only_where_pixels_count(tile: Path) -> None:
    def never() -> NDArray[np.float32]:
        raise AssertionError("worked out")

    tally = PixelTally(Masks((tile,), {}, ["bent/2"]))
    tally.add(row("bent/2", True, "bent"), ScoredImage(0.0, False, {}, never))
