"""A user's mistake ends in one line that says what was expected, and in the right exit status; never in a traceback."""

from __future__ import annotations

import json
import pickle
import shutil
import subprocess
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.archive import pack
from edge_runtime.bundle.bundle import Bundle, manifest_bytes

Cli = Callable[..., "subprocess.CompletedProcess[str]"]


HANG_S = 30.0


def assert_one_line(done: subprocess.CompletedProcess[str], status: int, *parts: str) -> None:
    """The process ended with the status, and its last line of standard error holds every part."""
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    for part in parts:
        assert part in last, last


def test_an_absent_camera_ends_with_4_without_a_wait(cli: Cli, workplace: Path) -> None:
    start = time.monotonic()
    done = cli("run", "--camera", "97", "--reconnect", "0", cwd=workplace)
    assert time.monotonic() - start < HANG_S
    assert_one_line(done, 4, "cannot open camera 97", "/dev/video97")
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("source", "part"),
    [("nowhere.avi", "no such file or folder"), ("notes.avi", "no video in it"), ("empty", "holds no PNG")],
)
def test_a_source_that_cannot_be_opened_ends_with_4(
    cli: Cli, workplace: Path, tmp_path: Path, source: str, part: str
) -> None:
    (tmp_path / "notes.avi").write_text("not a video")
    (tmp_path / "empty").mkdir()
    assert_one_line(
        cli("run", "--source", tmp_path / source, "--model", workplace / "model.aae", cwd=tmp_path), 4, part
    )


def test_no_source_and_one_source_twice_are_usage_errors(cli: Cli, workplace: Path) -> None:
    assert_one_line(cli("run", cwd=workplace), 2, "name one source or more")
    twice = cli("run", "--source", "test://pattern", "--source", "test://pattern", cwd=workplace)
    assert_one_line(twice, 2, "a source is named twice")


@pytest.mark.parametrize(("line", "part"), [("roi = 7", "X,Y,WIDTH,HEIGHT"), ("alarm = 3", "N/M such as 3/5")])
def test_a_number_in_a_configuration_that_stands_for_no_such_value_is_a_usage_error(
    cli: Cli, tmp_path: Path, line: str, part: str
) -> None:
    (tmp_path / "line.toml").write_text(f"{line}\n")
    done = cli("run", "--config", "line.toml", "--source", "test://pattern", cwd=tmp_path)
    assert_one_line(done, 2, line.rpartition(" ")[2], part)


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("rotate-keep = inf", "rotate-keep"), ("rotate-keep = 3.5", "rotate-keep"), ("threshold = true", "threshold"),
        ("model = 1", "a text in quotes"), ("model = 99999999999999999999999", "a text in quotes"),
        ("model = 1979-05-27", "a text in quotes"), ("out = [[1]]", "a text in quotes"),
        ("device = 07:32:00", "a text in quotes"), ("boxes = 'perhaps'", "boxes"),
        ("camera = '0'", 'expected a list, such as camera = ["0"]'),
        ("source = 'rtsp://me:secret@h/x'", 'rtsp://***@h/x\', expected a list, such as source = ["video.mp4"]'),
    ],
)  # fmt: skip
def test_a_value_of_another_kind_in_a_configuration_is_refused(cli: Cli, tmp_path: Path, line: str, part: str) -> None:
    """A number for a path was an open file to click, a date and an infinity ended in tracebacks, 3.5 counted as 3."""
    (tmp_path / "line.toml").write_text(f"{line}\n")
    done = cli("run", "--config", "line.toml", "--print-config", cwd=tmp_path)
    assert_one_line(done, 2, part)


def test_no_bundle_is_named_with_the_way_to_make_one(cli: Cli, photos: Path, tmp_path: Path) -> None:
    done = cli("score", photos / "test", cwd=tmp_path)
    assert_one_line(done, 1, "no ./model.aae", "EDGE_AAE_MODEL", "--model", "edge-aae export")


def test_the_bundle_comes_from_the_environment_variable(
    cli: Cli, workplace: Path, photos: Path, tmp_path: Path
) -> None:
    done = cli("score", photos / "test", cwd=tmp_path, EDGE_AAE_MODEL=str(workplace / "model.aae"))
    assert done.returncode == 0, done.stderr


def test_an_empty_folder_a_missing_path_and_no_data_are_named(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert_one_line(cli("train", "empty", cwd=tmp_path), 1, "empty holds no PNG, JPEG, WebP, BMP or TIFF image")
    assert_one_line(cli("train", "nowhere", cwd=tmp_path), 1, "no data at nowhere")
    assert_one_line(cli("train", cwd=tmp_path), 2, "name the images to train on")
    assert not (tmp_path / "runs").exists()


def test_a_class_that_is_not_there_is_named_with_those_that_are(cli: Cli, tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", images=np.zeros((20, 8, 8), np.uint8), labels=np.arange(20) % 3)
    assert_one_line(cli("train", "d.npz", "--classes", "7", cwd=tmp_path), 1, "no class 7", "[0, 1, 2]")


def test_images_smaller_than_the_network_needs_are_refused(cli: Cli, tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", images=np.zeros((20, 8, 8), np.uint8))
    done = cli("train", "d.npz", "--network", "conv", cwd=tmp_path)
    assert_one_line(done, 1, "images are 8x8", "at least 16x16")


def test_a_size_the_network_cannot_take_comes_with_one_it_can(cli: Cli, photos: Path, tmp_path: Path) -> None:
    hog = cli("train", photos / "train", "--imgsz", "100", "--network", "hog", cwd=tmp_path)
    assert_one_line(hog, 2, "divide into its cells", "96x96")
    assert_one_line(cli("train", photos / "train", "--imgsz", "ten", cwd=tmp_path), 2, "'ten'", "pixels such as 128")


def test_too_many_unreadable_images_fail_the_run_with_counts(cli: Cli, photos: Path, tmp_path: Path) -> None:
    shutil.copytree(photos / "train", tmp_path / "data")
    (tmp_path / "data/broken.png").write_bytes(b"\x89PNG but no more")
    (tmp_path / "data/empty.jpg").touch()
    failed = cli("train", "data", "--imgsz", "16", "--epochs", "1", cwd=tmp_path)
    assert_one_line(failed, 1, "2 of 42 images", "--max-bad allows 1.0%")
    passed = cli("train", "data", "--imgsz", "16", "--epochs", "1", "--max-bad", "5%", "--no-report", cwd=tmp_path)
    assert passed.returncode == 0, passed.stderr
    assert "2 more could not be read (skipped.csv)" in passed.stdout
    assert "skipped: data/empty.jpg is empty" in passed.stderr
    assert "broken.png" in (tmp_path / "runs/latest/skipped.csv").read_text()


def test_a_run_folder_in_use_is_not_overwritten(cli: Cli, photos: Path, workplace: Path) -> None:
    done = cli("train", photos / "train", "--out", workplace / "runs/latest", cwd=workplace)
    assert_one_line(done, 2, "exists and is not empty")


def test_settings_beside_resume_are_refused(cli: Cli, workplace: Path, photos: Path) -> None:
    done = cli("train", photos / "train", "--resume", "--epochs", "3", cwd=workplace)
    assert_one_line(done, 2, "a resumed run keeps its settings: drop DATA, --epochs")
    assert_one_line(cli("train", "--resume", cwd=workplace), 2, "is complete")


def test_a_folder_that_is_no_run_and_an_absent_run_are_named(cli: Cli, tmp_path: Path) -> None:
    assert_one_line(cli("export", cwd=tmp_path), 1, "no run folder named", "edge-aae train DATA")
    (tmp_path / "x").mkdir()
    assert_one_line(cli("export", "x", cwd=tmp_path), 1, "x is no run folder")


@pytest.mark.parametrize("command", ["info", "verify", "score"])
def test_damaged_and_hostile_bundles_are_refused_by_cause_and_nothing_is_written(
    cli: Cli, workplace: Path, photos: Path, tmp_path: Path, command: str
) -> None:
    good = (workplace / "model.aae").read_bytes()
    bundle = Bundle.open(workplace / "model.aae")
    flipped = bytearray(good)
    flipped[len(good) // 2] ^= 1
    with zipfile.ZipFile(tmp_path / "slip.aae", "w") as archive:
        archive.writestr("manifest.json", manifest_bytes(bundle.manifest))
        archive.writestr("../x", b"outside")
    pickled = Bundle.from_parts(bundle.manifest, {**bundle.files, "golden.npz": pickle.dumps([1])}, tmp_path)
    cases = {
        "flipped": (bytes(flipped), "altered"),
        "truncated": (good[: len(good) // 2], "truncated"),
        "future": (
            pack({"manifest.json": manifest_bytes({**bundle.manifest, "schema_version": 99}), **bundle.files}),
            "schema version 99, this release reads version 1",
        ),
        "slip": ((tmp_path / "slip.aae").read_bytes(), "'../x' is refused"),
        "pickle": (pickle.dumps({"a": 1}), "a Python pickle"),
        "no-zip": (b"hello", "no zip archive"),
    }
    if command == "verify":
        cases["pickled-golden"] = (pickled.to_bytes(), "golden.npz is a Python pickle")
    (tmp_path / "place").mkdir()
    for name, (content, part) in cases.items():
        file = tmp_path / f"{name}.aae"
        file.write_bytes(content)
        arguments = [photos / "test", "--model", file] if command == "score" else [file]
        assert_one_line(cli(command, *arguments, cwd=tmp_path / "place"), 1, part)
    assert list((tmp_path / "place").iterdir()) == []
    assert not (tmp_path / "x").exists()


def test_a_pickle_renamed_to_npz_is_no_training_data(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "d.npz").write_bytes(pickle.dumps({"images": 1}))
    assert_one_line(cli("train", "d.npz", cwd=tmp_path), 1, "d.npz is a Python pickle")


def test_labels_that_match_nothing_are_refused(cli: Cli, workplace: Path, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_text("name,label\nother.png,1\n")
    done = cli("score", photos / "test", "--labels", tmp_path / "l.csv", cwd=workplace)
    assert_one_line(done, 1, "names none of the images", "good/0.png")
    (tmp_path / "l.csv").write_text("name,label\n0.png,perhaps\n")
    done = cli("score", photos / "test", "--labels", tmp_path / "l.csv", cwd=workplace)
    assert_one_line(done, 1, "line 2", "'perhaps'", "expected 0 or good, 1 or anomalous")


def test_the_demo_does_not_replace_a_folder_it_did_not_make(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/work.txt").write_text("dear")
    assert_one_line(cli("demo", "--out", "mine", cwd=tmp_path), 2, "was not made by this command")
    assert (tmp_path / "mine/work.txt").read_text() == "dear"
    nowhere = cli("demo", "--out", "mine/work.txt/out", cwd=tmp_path)
    assert_one_line(nowhere, 1, "cannot make the folder mine/work.txt/out: Not a directory; name another --out")


def test_version_and_unknown_commands(cli: Cli, tmp_path: Path) -> None:
    from edge_runtime import __version__

    assert cli("--version", cwd=tmp_path).stdout.strip() == f"edge-aae, version {__version__}"
    assert cli("fly", cwd=tmp_path).returncode == 2


def test_a_bundle_json_of_info_is_one_object(cli: Cli, workplace: Path) -> None:
    assert isinstance(json.loads(cli("info", "--json", cwd=workplace).stdout), dict)
