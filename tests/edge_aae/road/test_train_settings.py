"""From the options of `edge-aae train` to the settings of a run; nothing is trained."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from edge_aae.commands.training.train import train
from edge_aae.commands.training.train_options import ImageOptions, LearningOptions, MethodOptions
from edge_aae.commands.training.train_settings import settings_of
from edge_runtime.errors import ConfigError
from train.calibration.thresholds import LimitSettings
from train.data.settings import DataSettings
from train.learning.augmentation import AUGMENTATIONS
from train.learning.settings import TrainSettings
from train.schedule import Schedule


def settings(*arguments: str, data: str = "photos") -> tuple[DataSettings, TrainSettings]:
    options = train.make_context("train", [data, *arguments]).params
    asked, images, learning = (group.of(options) for group in (MethodOptions, ImageOptions, LearningOptions))
    return settings_of(data, asked, images, learning)


@pytest.mark.parametrize(
    ("network", "method", "refine", "schedule", "latent_dim", "batch_size"),
    [
        ("mlp", "aae", "itsr", Schedule(train=500, refine=100, retrain=500), 2, 128),
        ("mlp", "ae", "none", Schedule(train=4000), 32, 128),
        ("conv", "aae", "robust", Schedule(train=40, refine=20), 32, 32),
        ("patch", "aae", "robust", Schedule(train=150, refine=40), 16, 16),
    ],
)
def test_what_is_left_out_is_as_network_and_method_have_it(
    network: str, method: str, refine: str, schedule: Schedule, latent_dim: int, batch_size: int
) -> None:
    data, found = settings("--network", network, "--method", method, "--refine", refine)
    assert (found.network, found.method, found.refine) == (network, method, refine)
    assert (found.schedule, found.latent_dim, found.batch_size) == (schedule, latent_dim, batch_size)
    assert data == DataSettings(path="photos")


@pytest.mark.parametrize("option", [("--target-fpr", "2%"), ("--threshold-rule", "conformal"), ("--cost-miss", "2")])
def test_a_threshold_of_the_fused_score_is_refused_where_the_union_decides(option: tuple[str, str]) -> None:
    with pytest.raises(ConfigError, match="set the threshold of the fused score"):
        settings("--network", "mlp", "--refine", "itsr", *option)
    found = settings("--network", "mlp", "--refine", "robust", *option)[1].limit
    assert found != LimitSettings()
    assert getattr(found, option[0].removeprefix("--").replace("threshold-", "").replace("-", "_")) in (
        0.02,
        "conformal",
        2,
    )


def test_what_is_named_wins_and_the_seed_draws_images_and_weights() -> None:
    data, found = settings(
        "--network", "conv", "--refine", "itsr", "--epochs", "10", "--refine-epochs", "4", "--retrain-epochs", "6",
        "--epochs-scale", "0.5", "--latent", "7", "--batch", "9", "--augment", "light", "--seed", "3", "--no-amp",
        "--imgsz", "32x48", "--channels", "3", "--fit", "letterbox", "--roi", "1,2,30,40", "--classes", "0,3",
        "--contaminate", "2:0.05", "--max-bad", "5%", "--keep-duplicates", "--cache", "disk",
    )  # fmt: skip
    assert found.schedule == Schedule(train=5, refine=2, retrain=3)
    assert (found.latent_dim, found.batch_size, found.amp) == (7, 9, False)
    assert found.augment == AUGMENTATIONS["light"]
    assert found.seed == data.seed == 3
    assert data == DataSettings(
        path="photos", imgsz=(32, 48), channels=3, fit="letterbox", roi=(1, 2, 30, 40), classes=(0, 3),
        contaminate=((2, 0.05),), max_bad=0.05, drop_duplicates=False, cache="disk", seed=3,
    )  # fmt: skip


def test_the_view_reaches_the_data() -> None:
    data, _ = settings("--network", "conv", "--align", "turn", "--smallest-defect", "12.5")
    assert data == DataSettings(path="photos", align="turn", smallest_defect=12.5)


@pytest.mark.parametrize(
    ("arguments", "align"),
    [
        (("--network", "features"), "auto"),
        (("--network", "features", "--align", "none"), "none"),
        (("--network", "features", "--fit", "letterbox"), "none"),
        (("--network", "conv"), "none"),
        (("--network", "conv", "--align", "auto"), "auto"),
    ],
)
def test_the_view_of_photographs_of_parts_is_chosen_unless_it_is_named(arguments: tuple[str, ...], align: str) -> None:
    assert settings(*arguments)[0].align == align


def test_mixture_width_and_the_files_of_a_person_reach_their_owners(tmp_path: Path) -> None:
    (tmp_path / "bad.txt").write_text("a.png\n")
    data, found = settings(
        "--network", "patch", "--mixture", "2", "--width", "1.5", "--scale", "0.25", "--overlap", "8",
        "--reject", str(tmp_path / "bad.txt"),
    )  # fmt: skip
    assert (found.robust.components, found.width) == (2, 1.5)
    assert (data.scale, data.overlap) == (0.25, 8)
    assert data.guidance.reject is not None
    assert data.guidance.reject.text() == "a.png\n"
    assert data.guidance.keep is data.guidance.labels is None


def test_auto_looks_at_the_images_and_says_why(photos: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="edge_aae")
    _, found = settings(data=str(photos / "train"))
    assert f"network {found.network}: " in caplog.text


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--refine", "none", "--refine-epochs", "2"), "belong to --refine itsr"),
        (("--refine", "none", "--retrain-epochs", "2"), "belong to --refine itsr"),
        (("--retrain-epochs", "2"), "--retrain-epochs belongs to --refine itsr"),
        (("--refine", "itsr", "--mixture", "2"), "--mixture belongs to --refine robust; with --refine itsr"),
    ],
    ids=str,
)
def test_an_option_that_the_refinement_would_pass_over_is_refused(arguments: tuple[str, ...], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        settings("--network", "conv", *arguments)
