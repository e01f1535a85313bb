"""12 bits in 16: the levels that training found are those of everyone who reads the images afterwards."""

from __future__ import annotations

import logging
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from edge_runtime.bundle.bundle import Bundle
from edge_runtime.errors import ConfigError, FrameError
from edge_runtime.image_files import levels as levels_module
from edge_runtime.image_files.levels import levels_up_to, significant_bits, to_8_bit
from edge_runtime.model.images import read_image
from edge_runtime.model.preprocess import Preprocess
from edge_runtime.scoring.detector import Detector
from edge_runtime.scoring.image_items import load_items
from edge_runtime.scoring.master_parts import master_parts
from edge_runtime.sources import source_from
from edge_runtime.stream.pipeline import Pipeline
from edge_runtime.watching.guard import FrameGuard
from train.intake.depth import found_levels

TWELVE = (0, 4095)


def scene(seed: int = 0, brightest: int = 3900) -> np.ndarray:
    """(32, 48) uint16, well lit for a sensor of 12 bits."""
    rows, columns = np.mgrid[:32, :48]
    light = 1900 + 700 * np.sin(columns / 9 + seed) + 150 * np.cos(rows / 5)
    noisy = (light + np.random.default_rng(seed).normal(0, 20, light.shape)) * brightest / 3900
    noisy[4, 5] = brightest  # a glint
    return noisy.round().astype(np.uint16)


def written(folder: Path, n: int = 3, suffix: str = ".png", brightest: int = 3900) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{number}{suffix}" for number in range(n)]
    for number, file in enumerate(files):
        cv2.imwrite(str(file), scene(number, brightest))
    return files


def with_sbit(file: Path, *bits: int) -> None:
    content = file.read_bytes()
    chunk = b"sBIT" + bytes(bits)
    chunk = struct.pack(">I", len(bits)) + chunk + struct.pack(">I", zlib.crc32(chunk))
    file.write_bytes(content[:33] + chunk + content[33:])


@pytest.fixture(autouse=True)
def nothing_said_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(levels_module, "_exceeded", set())


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_12_bits_are_found_and_give_a_picture_that_is_not_black(tmp_path: Path, suffix: str) -> None:
    files = written(tmp_path, suffix=suffix)
    assert found_levels(files) == TWELVE
    dark, lit = read_image(files[0]), read_image(files[0], TWELVE)
    assert dark.max() <= 15
    assert FrameGuard().check(dark) is not None
    assert lit.max() == 242
    assert FrameGuard().check(lit) is None
    np.testing.assert_array_equal(lit, scene(0).astype(int) * 255 // 4095)


def test_the_brightest_of_all_files_counts(tmp_path: Path) -> None:
    files = [*written(tmp_path / "dark", 80, brightest=900), *written(tmp_path / "lit", 1)]
    assert found_levels(files[:80]) == (0, 1023)
    assert found_levels(files) == TWELVE
    assert found_levels(written(tmp_path / "full", brightest=65000)) == (0, 65535)


def test_8_bit_files_have_no_levels_and_are_not_read_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for suffix in (".png", ".jpg", ".bmp", ".webp"):
        cv2.imwrite(str(tmp_path / f"a{suffix}"), (scene() // 257).astype(np.uint8))
    monkeypatch.setattr("train.intake.depth.decoded", lambda *_, **__: pytest.fail("it was decoded"))
    assert found_levels(sorted(tmp_path.iterdir())) is None


def test_unreadable_files_do_not_count(tmp_path: Path) -> None:
    files = written(tmp_path)
    files[0].write_bytes(files[0].read_bytes()[:200])
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere")
    assert found_levels([*files, tmp_path / "gone.png"]) == TWELVE


def test_what_a_png_states_counts_where_its_samples_fit(tmp_path: Path) -> None:
    (dark,) = written(tmp_path, 1, brightest=700)
    assert found_levels([dark]) == (0, 1023)
    with_sbit(dark, 12)
    assert significant_bits(dark.read_bytes()) == 12
    assert found_levels([dark]) == TWELVE
    (scaled_up,) = written(tmp_path / "up", 1, brightest=62400)  # as the PNG specification wants them
    with_sbit(scaled_up, 12)
    assert found_levels([scaled_up]) == (0, 65535)


def test_what_a_tiff_states_counts(tmp_path: Path) -> None:
    Image.fromarray(scene(0, 700)).save(tmp_path / "a.tif", tiffinfo={281: 4095})
    assert significant_bits((tmp_path / "a.tif").read_bytes()) == 12
    assert found_levels([tmp_path / "a.tif"]) == TWELVE


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_bits_of_a_file_that_is_cut_or_altered_are_some_or_none(tmp_path: Path, suffix: str) -> None:
    (file,) = written(tmp_path, 1, suffix)
    if suffix == ".png":
        with_sbit(file, 12)
    content = file.read_bytes()
    for offset in (*range(200), *range(max(0, len(content) - 200), len(content))):
        for changed in (content[:offset], content[:offset] + b"\xff" + content[offset + 1 :]):
            bits = significant_bits(changed)
            assert bits is None or 8 <= bits <= 16


@pytest.mark.parametrize(
    ("brightest", "bits"), [(0, 8), (255, 8), (256, 10), (1023, 10), (1024, 12), (4096, 14), (16384, 16), (65535, 16)]
)
def test_levels_are_those_of_a_converter(brightest: int, bits: int) -> None:
    assert levels_up_to(brightest) == (0, (1 << bits) - 1)


def test_the_arithmetic_is_exact_and_by_default_what_it_was() -> None:
    every = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    np.testing.assert_array_equal(to_8_bit(every, None), every // 257)
    np.testing.assert_array_equal(to_8_bit(every, (0, 65535)), every // 257)
    by_hand = np.clip((every.astype(int) - 100) * 255 // 900, 0, 255)
    np.testing.assert_array_equal(to_8_bit(every, (100, 1000)), by_hand)


def test_a_brighter_frame_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        to_8_bit(np.full((2, 2), 4095, np.uint16), TWELVE, called="a.png")
        assert caplog.messages == []
        for name in ("b.png", "c.png"):
            assert to_8_bit(np.full((2, 2), 9000, np.uint16), TWELVE, called=name).min() == 255
    (message,) = caplog.messages
    assert message.startswith("b.png reaches level 9000, above the 4095 that became white in training")
    assert "--levels 0,16383" in message


@pytest.mark.parametrize("levels", [(0, 0), (5, 4), (-1, 4095), (0, 65536), (0.0, 4095), (0, True), (0, 1, 2)])
def test_levels_out_of_range_are_refused(levels: tuple[int, int]) -> None:
    with pytest.raises(ConfigError, match="expected LOW,HIGH of 16-bit images, 0 <= LOW < HIGH <= 65535"):
        Preprocess(height=8, width=8, levels=levels)


def test_the_bundle_holds_them_and_older_ones_lack_them() -> None:
    found = Preprocess(height=8, width=8, levels=TWELVE)
    assert found.to_json()["levels"] == [0, 4095]
    assert Preprocess.from_json(found.to_json()) == found
    older = Preprocess(height=8, width=8).to_json()
    assert "levels" not in older
    assert Preprocess.from_json(older).levels is None


def test_whoever_scores_reads_by_the_bundle_s_levels(tmp_path: Path, make_bundle: Callable[..., Bundle]) -> None:
    (file,) = written(tmp_path / "good", 1)
    bundle = make_bundle(Preprocess(height=8, width=8, levels=TWELVE))
    detector = Detector.load(bundle)
    lit = read_image(file, TWELVE)
    expected = detector.score(lit).score
    assert detector.score(read_image(file)).score != expected
    assert detector.score(file).score == detector.score(scene(0)).score == expected
    np.testing.assert_array_equal(load_items([tmp_path / "good"], bundle)[0].load(), lit)
    np.testing.assert_array_equal(master_parts(tmp_path, detector.preprocess.levels)[0].load(), lit)
    records: list[dict[str, object]] = []
    Pipeline(detector, [source_from(None, str(tmp_path / "good"))], records.append).run()
    assert [record["score"] for record in records if record["type"] == "frame"] == [expected]
    with pytest.raises(FrameError, match="frame is uint16"):
        Detector.load(make_bundle()).score(scene(0))
