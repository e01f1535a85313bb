from __future__ import annotations

import csv
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor

import train.runs.findings
import train.runs.session
from edge_runtime.errors import ConfigError, DataError
from train.data.settings import DataSettings
from train.learning.scoring import raw_criteria
from train.learning.settings import TrainSettings
from train.learning.snapshot import Snapshot
from train.learning.task import Task
from train.learning.trainer import Trainer
from train.networks.registry import build_autoencoder
from train.runs.run_folder import RunFolder, latest_run
from train.runs.session import pick_device, resume
from train.schedule import Schedule
from train.strategies.plain import PlainTraining

Shapes = Callable[..., tuple[NDArray[np.uint8], NDArray[np.int64]]]
Quick = Callable[..., TrainSettings]

REPOSITORY = Path(__file__).resolve().parents[3]
REPORTS = {
    "config.json",
    "weights.safetensors",
    "training.csv",
    "refinement.csv",
    "calibration.json",
    "samples.npz",
    "prior.npz",
    "rejected.png",
    "losses.png",
    "scores.png",
}


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def small_set(shapes: Shapes, tmp_path: Path) -> DataSettings:
    """32 images without labels."""
    np.savez(tmp_path / "small.npz", images=shapes(32)[0][..., 0])
    return DataSettings(path="small.npz")


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def timeless(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def assert_same_weights(one: RunFolder, other: RunFolder) -> None:
    ours, theirs = load_file(one.weights), load_file(other.weights)
    assert sorted(ours) == sorted(theirs)
    assert not [name for name, tensor in ours.items() if not torch.equal(tensor, theirs[name])]


def assert_same_findings(one: RunFolder, other: RunFolder) -> None:
    assert_same_weights(one, other)
    assert timeless(read_csv(one.path / "training.csv")) == timeless(read_csv(other.path / "training.csv"))
    for name in ("refinement.csv", "calibration.json", "samples.npz", "rejected.png"):
        assert (one.path / name).read_bytes() == (other.path / name).read_bytes(), name


@contextmanager
def signals_at(start: str, *, number: signal.Signals = signal.SIGINT, times: int = 1) -> Iterator[None]:
    """Sends this process a signal where training logs a line that starts so."""

    class Sender(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.getMessage().startswith(start):
                for _ in range(times):
                    signal.raise_signal(number)

    logger, sender = logging.getLogger("train.runs.progress"), Sender()
    level = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(sender)
    try:
        yield
    finally:
        logger.removeHandler(sender)
        logger.setLevel(level)


# What a finished run leaves


def test_a_finished_run_leaves_every_file_and_no_checkpoint(finished_run: Any) -> None:
    assert finished_run.outcome.complete
    assert repr(finished_run.outcome).startswith(f"<TrainingOutcome {finished_run.outcome.path}: complete, network ")
    assert len(repr(finished_run.outcome)) < 250
    assert {path.name for path in finished_run.path.iterdir()} == REPORTS


def test_no_file_of_a_run_is_a_pickle(finished_run: Any) -> None:
    for path in finished_run.path.iterdir():
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                assert not any(arrays[name].dtype.hasobject for name in arrays.files)
        elif path.suffix == ".safetensors":
            load_file(path)
        elif path.suffix == ".json":
            json.loads(path.read_text())
        elif path.suffix == ".csv":
            assert read_csv(path)
        else:
            assert path.suffix == ".png"
            assert cv2.imread(str(path)) is not None


def test_the_configuration_says_what_was_trained_on_what(finished_run: Any) -> None:
    config = RunFolder(finished_run.path).read_config()
    assert config.status == "complete"
    assert (config.epochs_done, config.epochs_total) == (19, 19)
    assert (config.n_images, config.n_skipped) == (200, 0)
    assert config.train == replace(finished_run.settings, amp=False)  # decided by the device
    assert Path(config.data.path).is_absolute()
    assert (config.preprocess.height, config.preprocess.width, config.preprocess.channels) == (16, 16, 1)
    assert config.torch == torch.__version__
    assert config.device == "cpu"


def test_the_training_log_has_a_line_an_epoch(finished_run: Any) -> None:
    rows = read_csv(finished_run.path / "training.csv")
    assert [int(row["epoch"]) for row in rows] == list(range(1, 20))
    assert [row["phase"] for row in rows] == [
        *["pretrain"] * 12,
        *(f"refine-{number}" for number in range(1, 6)),
        *["retrain"] * 2,
    ]
    for row, next_row in pairwise(rows):
        assert int(row["candidates"]) <= int(next_row["candidates"])
    assert (int(rows[0]["images"]), int(rows[0]["candidates"])) == (200, 0)
    assert int(rows[-1]["candidates"]) == finished_run.outcome.n_rejected


def test_the_refinement_log_has_a_line_an_image_with_a_reason_for_each_rejected_one(finished_run: Any) -> None:
    rows = read_csv(finished_run.path / "refinement.csv")
    assert [int(row["index"]) for row in rows] == list(range(200))
    assert [int(row["label"]) for row in rows] == finished_run.labels.tolist()
    rejected = [row for row in rows if row["kept"] == "0"]
    assert len(rejected) == finished_run.outcome.n_rejected > 0
    for row in rejected:
        assert row["reason"].startswith(f"outlier of the one-class SVM on latent codes in round {row['round']}")
        assert float(row["weight"]) in (0.0, -0.5)
    assert {int(row["round"]) for row in rejected} <= set(range(1, 6))
    for row in rows:
        if row["kept"] == "1":
            assert (row["weight"], row["round"], row["reason"]) == ("1", "", "")


def test_itsr_rejects_more_crosses_than_chance(finished_run: Any) -> None:
    rejected = np.array([row["kept"] == "0" for row in read_csv(finished_run.path / "refinement.csv")])
    of_crosses = rejected[finished_run.labels == 1].mean()
    # Tried with seeds 0 to 4: 6 to 10 of 10 crosses among 14 to 19 of 200 images.
    assert rejected.mean() < 0.25
    assert of_crosses > 2.5 * rejected.mean()


def test_a_run_read_back_gives_what_the_trained_network_gave(finished_run: Any) -> None:
    loaded = RunFolder(finished_run.path).load()
    images = torch.from_numpy(finished_run.images).permute(0, 3, 1, 2)
    criteria, _ = raw_criteria(loaded.autoencoder, loaded.prior, images)
    rows = read_csv(finished_run.path / "refinement.csv")
    for column, name in enumerate(("reconstruction_error", "neg_log_prior")):
        written = np.array([float(row[name]) for row in rows])
        np.testing.assert_allclose(criteria[:, column], written, rtol=1e-5)
    scores = loaded.decision.score(criteria)
    np.testing.assert_allclose(scores, [float(row["score"]) for row in rows], rtol=1e-4, atol=1e-5)
    assert [int(row["above_threshold"]) for row in rows] == loaded.decision.is_anomalous(scores).astype(int).tolist()


def test_a_run_read_back_has_the_weights_that_training_in_memory_ends_with(finished_run: Any) -> None:
    trainer = Trainer(PlainTraining(Task.of(finished_run.settings, finished_run.images, torch.device("cpu"))))
    trainer.run()
    loaded = RunFolder(finished_run.path).load().autoencoder
    x = torch.rand(8, 1, 16, 16)
    with torch.no_grad():
        for ours, theirs in zip(loaded(x), trainer.strategy.autoencoder.eval()(x), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)


def test_the_thresholds_are_quantiles_over_all_training_images(finished_run: Any) -> None:
    rows = read_csv(finished_run.path / "refinement.csv")
    numbers = json.loads((finished_run.path / "calibration.json").read_text())
    for name, limit in numbers["decision"]["limits"].items():
        values = [float(row[name]) for row in rows]  # rejected images too
        assert limit["threshold"] == pytest.approx(np.quantile(values, 0.9), rel=1e-4)
        assert limit["center"] == pytest.approx(np.quantile(values, 0.5), rel=1e-4)
    flagged = np.mean([row["above_threshold"] == "1" for row in rows])
    assert numbers["calibration"]["flagged_share"] == pytest.approx(flagged)
    assert finished_run.outcome.calibration["flagged_share"] == pytest.approx(flagged)
    assert 0.1 <= flagged <= 0.2, "the union of two criteria that flag a tenth each"


def test_the_map_peaks_are_those_of_the_training_images(finished_run: Any) -> None:
    loaded = RunFolder(finished_run.path).load()
    x = torch.from_numpy(finished_run.images).permute(0, 3, 1, 2) / 255.0
    with torch.no_grad():
        peaks = (x - loaded.autoencoder(x)[1]).square().amax(dim=(1, 2, 3)).numpy()
    written = loaded.calibration["anomaly_map_peak"]
    assert list(written) == ["0.5", "0.95", "0.99"]
    assert list(written.values()) == pytest.approx(np.quantile(peaks, [0.5, 0.95, 0.99]).tolist(), rel=1e-4)


def test_the_samples_are_training_images_that_span_the_scores(finished_run: Any) -> None:
    loaded = RunFolder(finished_run.path).load()
    rows = read_csv(finished_run.path / "refinement.csv")
    scores = np.array([float(row["score"]) for row in rows])
    originals = {image.tobytes(): score for image, score in zip(finished_run.images, scores, strict=True)}
    sampled = [originals[image.tobytes()] for image in loaded.sample_inputs]
    assert 4 <= len(sampled) <= 32
    assert min(sampled) == scores.min()
    assert max(sampled) == scores.max()
    below, above = scores[scores <= 1.0].max(), scores[scores > 1.0].min()
    assert {below, above} <= set(sampled), "the two images astride the threshold"


# Without refinement, without adversary, from a folder


def test_a_conventional_run_keeps_every_image_and_has_no_discriminator(small_set: DataSettings, quick: Quick) -> None:
    outcome = train.runs.session.train(small_set, quick(method="ae"), Path("runs/small-1"), device="cpu")
    assert outcome.complete
    assert outcome.n_rejected == 0
    assert {path.name for path in outcome.folder.path.iterdir()} == REPORTS
    assert {name.split(".")[0] for name in load_file(outcome.folder.weights)} == {"encoder", "decoder"}
    assert all(row["kept"] == "1" and row["label"] == "" for row in read_csv(Path("runs/small-1/refinement.csv")))
    loaded = outcome.folder.load()
    assert list(loaded.decision.limits) == ["reconstruction_error"]
    assert not any(isinstance(layer, torch.nn.BatchNorm1d) for layer in loaded.autoencoder.modules())


def test_skipped_files_of_a_folder_are_written_down(shapes: Shapes, quick: Quick, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for index, image in enumerate(shapes(20)[0]):
        cv2.imwrite(str(folder / f"{index}.png"), image)
    (folder / "20.png").write_bytes(b"")
    data = DataSettings(path=str(folder), imgsz=(16, 16), max_bad=0.1)
    outcome = train.runs.session.train(data, quick(schedule=Schedule(train=1)), Path("out"), device="cpu")
    assert (outcome.config.n_images, outcome.config.n_skipped) == (20, 1)
    skipped = read_csv(Path("out/skipped.csv"))
    assert [row["name"] for row in skipped] == ["20.png"]
    assert skipped[0]["reason"].endswith("20.png is empty")
    assert [row["name"] for row in read_csv(Path("out/refinement.csv"))] == [f"{index}.png" for index in range(20)]


# What is refused


def test_an_output_folder_that_is_not_empty_is_refused_and_left_alone(
    small_set: DataSettings, quick: Quick, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/thesis.txt").write_text("years of work")
    with pytest.raises(ConfigError, match=r"out exists and is not empty; name another --out, or go on .* --resume"):
        train.runs.session.train(small_set, quick(), Path("out"), device="cpu")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.txt"]


def test_an_output_path_that_is_a_file_is_refused(small_set: DataSettings, quick: Quick, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(ConfigError, match=r"out exists and is not empty"):
        train.runs.session.train(small_set, quick(), Path("out"), device="cpu")


def test_data_that_cannot_be_used_leave_no_run_folder(quick: Quick, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no data at nowhere"):
        train.runs.session.train(DataSettings(path="nowhere"), quick(), Path("runs/nowhere-1"), device="cpu")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["tpu", "gpu0", "cuda:x", "", "meta"])
def test_an_unknown_device_is_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"--device is '{name}', expected auto, cpu, cuda or cuda:N"):
        pick_device(name)


def test_a_device_that_is_not_there_is_refused_with_the_number_there_is() -> None:
    n_devices = torch.cuda.device_count()
    with pytest.raises(ConfigError, match=rf"--device cuda:99: torch .* sees {n_devices} CUDA devices"):
        pick_device("cuda:99")


def test_the_device_is_checked_before_the_images_are_read(quick: Quick) -> None:
    with pytest.raises(ConfigError, match=r"--device is 'tpu'"):
        train.runs.session.train(DataSettings(path="nowhere"), quick(), Path("out"), device="tpu")


def test_a_complete_run_is_not_resumed(finished_run: Any, tmp_path: Path) -> None:
    shutil.copytree(finished_run.path, tmp_path / "run")
    with pytest.raises(ConfigError, match=r"run is complete \(19 epochs\); there is nothing to resume"):
        resume(Path("run"), device="cpu")


def test_what_is_no_run_folder_is_not_resumed(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is no run folder: it has no config\.json"):
        resume(tmp_path, device="cpu")


# Interruption and resumption


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_is_usable_and_resumes_to_the_weights_of_one_without_a_break(
    finished_run: Any, number: signal.Signals, caplog: pytest.LogCaptureFixture
) -> None:
    handlers = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    out = RunFolder(Path("runs/broken-1"))
    with signals_at("refine-1 epoch", number=number):
        outcome = train.runs.session.train(finished_run.data, finished_run.settings, out.path, device="cpu")
    assert not outcome.complete
    assert "stopping at the last whole epoch; once more to end at once" in caplog.messages
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == handlers
    config = out.read_config()
    assert (config.status, config.epochs_done, config.epochs_total) == ("interrupted", 13, 19)
    assert {path.name for path in out.path.iterdir()} == REPORTS | {"checkpoint.safetensors"}
    assert len(read_csv(out.path / "training.csv")) == 13
    assert len(read_csv(out.path / "refinement.csv")) == 200
    loaded = out.load()
    assert_network_is_at(out, loaded.autoencoder.state_dict())

    assert resume(out.path, device="cpu").complete
    config = out.read_config()
    assert (config.status, config.epochs_done) == ("complete", 19)
    assert {path.name for path in out.path.iterdir()} == REPORTS
    assert_same_findings(out, RunFolder(finished_run.path))


def assert_network_is_at(out: RunFolder, weights: dict[str, Tensor]) -> None:
    """The network's weights are those of the checkpoint that a resumed run would go on from."""
    kept = Snapshot.read(out.checkpoint).tensors
    differing = [name for name, tensor in weights.items() if not torch.equal(tensor, kept[name])]
    assert not differing


def test_a_run_interrupted_twice_still_ends_with_the_same_weights(finished_run: Any) -> None:
    out = RunFolder(Path("runs/broken-1"))
    with signals_at("pretrain epoch 1/"):
        train.runs.session.train(finished_run.data, finished_run.settings, out.path, device="cpu")
    assert out.read_config().epochs_done == 1
    with signals_at("retrain epoch"):
        resume(out.path, device="cpu")
    assert out.read_config().epochs_done == 18
    assert resume(out.path, device="cpu").complete
    assert_same_findings(out, RunFolder(finished_run.path))


def test_a_second_signal_ends_the_run_at_once_and_the_last_checkpoint_resumes(
    finished_run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train.runs.session, "CHECKPOINT_INTERVAL_S", 0.0)
    out = RunFolder(Path("runs/killed-1"))
    with signals_at("refine-1 epoch", times=2), pytest.raises(KeyboardInterrupt):
        train.runs.session.train(finished_run.data, finished_run.settings, out.path, device="cpu")
    assert out.read_config().status == "running"
    assert {path.name for path in out.path.iterdir()} == {"config.json", "checkpoint.safetensors"}
    assert len(Snapshot.read(out.checkpoint).rows) == 12, "the epoch before the signal"
    with pytest.raises(DataError, match=r"lacks weights\.safetensors: training has not got that far"):
        out.load()
    assert resume(out.path, device="cpu").complete
    assert_same_findings(out, RunFolder(finished_run.path))


def test_a_run_killed_before_its_first_checkpoint_starts_again(small_set: DataSettings, quick: Quick) -> None:
    straight = train.runs.session.train(small_set, quick(), Path("runs/straight"), device="cpu")
    with signals_at("train epoch 1/", times=2), pytest.raises(KeyboardInterrupt):
        train.runs.session.train(small_set, quick(), Path("runs/killed"), device="cpu")
    assert [path.name for path in Path("runs/killed").iterdir()] == ["config.json"]
    outcome = resume(Path("runs/killed"), device="cpu")
    assert outcome.complete
    assert_same_findings(outcome.folder, straight.folder)


def test_a_run_that_fails_after_its_last_epoch_resumes_without_training_again(
    small_set: DataSettings, quick: Quick, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = RunFolder(Path("runs/full-disk"))
    with monkeypatch.context() as patch:
        patch.setattr(train.runs.findings, "plot_losses", failing_plot)
        with pytest.raises(DataError, match="No space left"):
            train.runs.session.train(small_set, quick(), out.path, device="cpu")
    n_epochs = len(Snapshot.read(out.checkpoint).rows)
    assert n_epochs == out.read_config().epochs_total
    outcome = resume(out.path, device="cpu")
    assert outcome.complete
    assert len(read_csv(out.path / "training.csv")) == n_epochs
    assert not out.checkpoint.exists()


def failing_plot(*args: Any) -> None:
    raise DataError("cannot write losses.png: No space left on device")


def test_a_run_that_cannot_be_calibrated_is_not_called_complete(quick: Quick, tmp_path: Path) -> None:
    images = np.full((32, 16, 16), 9, dtype=np.uint8)
    images[5] = 10  # of images that are all the same nothing would be begun
    np.savez(tmp_path / "same.npz", images=images)
    with pytest.raises(DataError, match=r"the training images cannot be told apart"):
        train.runs.session.train(DataSettings(path="same.npz"), quick(), Path("out"), device="cpu")
    assert RunFolder(Path("out")).read_config().status == "running"
    with pytest.raises(DataError, match=r"out lacks calibration\.json: training has not got that far"):
        RunFolder(Path("out")).load()


def interrupted(data: DataSettings, settings: TrainSettings, at: str = "train epoch 1/") -> Path:
    out = Path("runs/broken")
    with signals_at(at):
        train.runs.session.train(data, settings, out, device="cpu")
    return out


def test_a_run_is_not_resumed_on_other_images(small_set: DataSettings, quick: Quick, shapes: Shapes) -> None:
    out = interrupted(small_set, quick(schedule=Schedule(train=3)))
    np.savez("small.npz", images=shapes(33)[0][..., 0])
    with pytest.raises(
        DataError, match=r"images in .*small\.npz are not those .*broken was trained on \(33 now, 32 then"
    ):
        resume(out, device="cpu")


def test_a_run_is_not_resumed_on_images_with_other_pixels(
    small_set: DataSettings, quick: Quick, shapes: Shapes
) -> None:
    out = interrupted(small_set, quick(schedule=Schedule(train=3)))
    images = shapes(32)[0][..., 0]
    images[7, 3, 3] ^= 1
    np.savez("small.npz", images=images)
    with pytest.raises(DataError, match=r"\(32 now, 32 then, or other pixels\); train a new run"):
        resume(out, device="cpu")


def test_a_run_is_not_resumed_from_a_damaged_checkpoint(small_set: DataSettings, quick: Quick) -> None:
    out = RunFolder(interrupted(small_set, quick(schedule=Schedule(train=3))))
    out.checkpoint.write_bytes(out.checkpoint.read_bytes()[:200])
    with pytest.raises(DataError, match=r"checkpoint\.safetensors is damaged or no safetensors file"):
        resume(out.path, device="cpu")


def test_a_resumed_run_finds_its_images_from_another_folder(
    small_set: DataSettings, quick: Quick, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = interrupted(small_set, quick(schedule=Schedule(train=3))).absolute()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert resume(out, device="cpu").complete


def test_a_real_interrupt_leaves_a_folder_that_loads(small_set: DataSettings, tmp_path: Path) -> None:
    program = """
        import logging
        from pathlib import Path
        import torch
        from train.data.settings import DataSettings
        from train.runs.session import train
        from train.learning.settings import TrainSettings
        from train.schedule import Schedule

        logging.basicConfig(level=logging.INFO, format="%(message)s")
        torch.set_num_threads(1)
        settings = TrainSettings(network="conv", latent_dim=2, schedule=Schedule(train=100_000), batch_size=16)
        raise SystemExit(0 if train(DataSettings(path="small.npz"), settings, Path("out")).complete else 9)
    """
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "CUDA_VISIBLE_DEVICES": ""}
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)],
        cwd=tmp_path,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        assert any("train epoch 1/100000" in line for line in process.stderr)
        process.send_signal(signal.SIGINT)
        _, rest = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 9, rest
    assert "stopping at the last whole epoch" in rest
    config = RunFolder(tmp_path / "out").read_config()
    assert config.status == "interrupted"
    assert 1 <= config.epochs_done < 100_000
    RunFolder(tmp_path / "out").load()


# runs/latest


def test_latest_points_at_the_newest_run_and_at_a_resumed_one(small_set: DataSettings, quick: Quick) -> None:
    settings = quick(schedule=Schedule(train=2))
    broken = interrupted(small_set, settings)
    assert latest_run() == broken
    train.runs.session.train(small_set, settings, Path("runs/next"), device="cpu")
    assert latest_run() == Path("runs/next")
    train.runs.session.train(small_set, settings, Path("runs/quiet"), device="cpu", announce=False)
    assert latest_run() == Path("runs/next")
    resume(broken, device="cpu")
    assert latest_run() == broken


def test_a_run_read_back_is_built_as_its_configuration_says(finished_run: Any) -> None:
    config = RunFolder(finished_run.path).read_config()
    fresh = build_autoencoder("conv", channels=1, height=16, width=16, latent_dim=4, batch_norm=True)
    loaded = RunFolder(finished_run.path).load().autoencoder
    assert config.train.latent_dim == 4
    assert [type(layer) for layer in loaded.modules()] == [type(layer) for layer in fresh.modules()]
