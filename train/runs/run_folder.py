"""The run folder: what training leaves behind, and how export finds it again. JSON, CSV, PNG and safetensors."""

from __future__ import annotations

import json
import math
import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.torch import save

from edge_runtime.archive import sha256
from edge_runtime.errors import ConfigError, DataError
from edge_runtime.files import csv_bytes, json_bytes, write_atomically
from edge_runtime.model.preprocess import Frame, Preprocess
from edge_runtime.model.prior import Prior, prior_from_npz
from edge_runtime.model.score import Decision, decision_from_json
from edge_runtime.npz import npz_bytes, read_npz
from train.backbones.saving import saved_backbone
from train.data.settings import DataSettings
from train.learning.settings import TrainSettings
from train.learning.snapshot import Snapshot, in_a_line, load_weights
from train.learning.trainer import EpochRow
from train.networks.autoencoder import EXPOSURE, Autoencoder
from train.networks.registry import build_autoencoder

__all__ = ["RunConfig", "RunFolder", "TrainedRun", "default_run_path", "latest_run", "point_latest_at", "telling_name"]

RUNS = Path("runs")
LATEST = RUNS / "latest"
CONFIG_VERSION = 1
MODEL_ID_DIGITS = 16
GENERIC_NAMES = frozenset({"good", "train", "images", "normal", "data"})
"""Folder names that say nothing: a run is named after the first folder above that does."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunConfig:
    """config.json: the settings of a run and where it stands."""

    edge_aae: str
    """Release that trained"""
    torch: str
    device: str
    status: str
    """running, interrupted or complete"""
    started: str
    """ISO 8601, UTC"""
    epochs_done: int
    epochs_total: int
    n_images: int
    n_skipped: int
    images_sha256: str
    data: DataSettings
    train: TrainSettings
    preprocess: Preprocess

    def to_json(self) -> dict[str, Any]:
        """The configuration as JSON values."""
        plain = {field.name: getattr(self, field.name) for field in fields(self)}
        nested = {name: plain[name].to_json() for name in ("data", "train", "preprocess")}
        return {"version": CONFIG_VERSION, **plain, **nested}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> RunConfig:
        """The configuration read back; raises ConfigError for other versions and unknown keys."""
        if values.get("version") != CONFIG_VERSION:
            raise ConfigError(
                f"config.json has version {values.get('version')!r}, this release reads {CONFIG_VERSION}; train again"
            )
        rest = {key: value for key, value in values.items() if key != "version"}
        try:
            config = cls(
                **{
                    **rest,
                    "data": DataSettings.from_json(rest["data"]),
                    "train": TrainSettings.from_json(rest["train"]),
                    "preprocess": Preprocess.from_json(rest["preprocess"]),
                }
            )
        except (KeyError, TypeError) as error:
            raise ConfigError(f"config.json is of another release: {error}; train again") from error
        if wrong := _of_another_kind(config):
            raise ConfigError(f"config.json holds values of another kind: {', '.join(wrong)}; train again")
        return config


KINDS: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "float": (int, float),
    "bool": (bool,),
    "None": (type(None),),
}
"""What JSON may give for a field that is annotated so"""


def _of_another_kind(settings: Any) -> list[str]:
    """Fields of a dataclass, and of those in it, whose values are not of their annotation: `latent_dim 1e+308`."""
    wrong = []
    for field in fields(settings):
        value, kinds = getattr(settings, field.name), str(field.type).split(" | ")
        if is_dataclass(value):
            wrong += _of_another_kind(value)
        elif all(kind in KINDS for kind in kinds):
            allowed = {kind for name in kinds for kind in KINDS[name]}  # not isinstance: True is an int
            if type(value) not in allowed or value in (math.inf, -math.inf) or value != value:
                wrong.append(f"{field.name} {value!r}")
    return wrong


@dataclass(frozen=True, slots=True)
class TrainedRun:
    """A run read back for export: network in evaluation mode, thresholds, sample images."""

    path: Path
    config: RunConfig
    autoencoder: Autoencoder
    prior: Prior
    calibration: dict[str, Any]
    decision: Decision
    sample_inputs: NDArray[np.uint8]
    """(N, H, W, C) network inputs, spread over the training scores"""
    raw_frames: list[Frame]
    """A few unprocessed training images"""
    model_id: str
    """Names the trained model: the first digits of the SHA-256 of weights and prior"""


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Names and readers of the files of one run."""

    path: Path

    @property
    def config(self) -> Path:
        """Settings and status."""
        return self.path / "config.json"

    @property
    def view(self) -> Path:
        """Which view was chosen, and what by; a run whose view was named has none."""
        return self.path / "view.json"

    @property
    def weights(self) -> Path:
        """Weights of encoder, decoder and discriminator."""
        return self.path / "weights.safetensors"

    @property
    def checkpoint(self) -> Path:
        """What --resume goes on from; a complete run has none."""
        return self.path / "checkpoint.safetensors"

    @property
    def calibration(self) -> Path:
        """Calibration numbers and decision."""
        return self.path / "calibration.json"

    @property
    def prior(self) -> Path:
        """Density of the codes."""
        return self.path / "prior.npz"

    @property
    def samples(self) -> Path:
        """Images for the bundle's golden samples."""
        return self.path / "samples.npz"

    def write_config(self, config: RunConfig) -> None:
        """Write config.json."""
        write_atomically(self.config, json_bytes(config.to_json()))

    def read_config(self) -> RunConfig:
        """Read config.json; raises DataError where this is no run folder."""
        if not self.config.is_file():
            raise DataError(
                f"{self.path} is no run folder: it has no config.json; expected what `edge-aae train` wrote"
            )
        try:
            return RunConfig.from_json(json.loads(self.config.read_text()))
        except ConfigError as error:
            raise DataError(f"{self.config}: {error}") from error
        except (ValueError, AttributeError) as error:
            raise DataError(f"{self.config} is no JSON: {error}; train again") from error

    def write_weights(self, snapshot: Snapshot, modules: Iterable[str]) -> None:
        """Write the weights of these modules of a snapshot, without optimiser state."""
        prefixes = tuple(f"{name}." for name in modules)
        weights = {
            name: tensor.detach().cpu().contiguous()
            for name, tensor in snapshot.tensors.items()
            if name.startswith(prefixes)
        }
        write_atomically(self.weights, save(weights))

    def write_training_log(self, rows: Sequence[EpochRow]) -> None:
        """Write training.csv, one line an epoch."""
        header = [field.name for field in fields(EpochRow)]
        write_csv(self.path / "training.csv", header, [list(asdict(row).values()) for row in rows])

    def write_prior(self, prior: Prior) -> None:
        """Write prior.npz, the density that likelihoods are taken under."""
        write_atomically(self.prior, prior.to_npz())

    def write_calibration(self, calibration: dict[str, Any], decision: Decision) -> None:
        """Write calibration.json."""
        values = {"criteria": list(decision.criteria), "calibration": calibration, "decision": decision.to_json()}
        write_atomically(self.calibration, json_bytes(values))

    def read_calibration(self) -> tuple[dict[str, Any], Decision]:
        """Calibration numbers and decision of calibration.json; raises DataError where it cannot be used."""
        try:
            numbers = json.loads(self.calibration.read_text())
            return numbers["calibration"], decision_from_json(numbers["decision"], numbers["criteria"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{self.calibration} cannot be used: {error}; train again") from error

    def write_samples(self, inputs: NDArray[np.uint8], raw_frames: Sequence[Frame]) -> None:
        """Write samples.npz: network inputs and a few unprocessed frames."""
        frames = {f"frame_{index}": frame for index, frame in enumerate(raw_frames)}
        write_atomically(self.samples, npz_bytes({"inputs": inputs, **frames}))

    def load(self) -> TrainedRun:
        """The run as export needs it; raises DataError for a folder that is incomplete or damaged."""
        config = self.read_config()
        for file in (self.weights, self.calibration, self.prior, self.samples):
            if not file.is_file():
                raise DataError(
                    f"{self.path} lacks {file.name}: training has not got that far; "
                    f"finish it with `edge-aae train --resume --out {shlex.quote(str(self.path))}`"
                )
        autoencoder = self._network(config)
        calibration, decision = self.read_calibration()
        if EXPOSURE in decision.criteria:
            autoencoder.attach_exposure()
        load_weights(self.weights, autoencoder.parts())
        samples = self._read_samples(config.preprocess)
        return TrainedRun(
            path=self.path,
            config=config,
            autoencoder=autoencoder.eval(),
            prior=prior_from_npz(self.prior.read_bytes(), name=str(self.prior)),
            calibration=calibration,
            decision=decision,
            sample_inputs=samples["inputs"],
            raw_frames=[samples[key] for key in sorted(samples) if key.startswith("frame_")],
            model_id=sha256(self.weights.read_bytes() + self.prior.read_bytes())[:MODEL_ID_DIGITS],
        )

    def _network(self, config: RunConfig) -> Autoencoder:
        """The network as it is built, with the weights it was drawn with."""
        n_bytes = self.weights.stat().st_size
        if config.train.latent_dim > n_bytes:
            raise DataError(
                f"{self.config} tells of {config.train.latent_dim} latent dimensions, for which {self.weights.name} "
                f"with {n_bytes} bytes is too small; train again"
            )
        backbone = saved_backbone(self.path) if config.train.spec.reads_backbone else None
        try:
            return build_autoencoder(
                config.train.network,
                channels=config.preprocess.input_shape[2],
                height=config.preprocess.height,
                width=config.preprocess.width,
                latent_dim=config.train.latent_dim,
                batch_norm=config.train.method == "aae",
                width_factor=config.train.width,
                backbone=backbone,
                finer=config.data.finer,
                has_head=config.train.has_head,
            )
        except (RuntimeError, MemoryError) as error:
            raise DataError(
                f"{self.config} tells of a network that cannot be built: {in_a_line(error)}; train again"
            ) from error

    def _read_samples(self, preprocess: Preprocess) -> dict[str, NDArray[np.uint8]]:
        samples = read_npz(self.samples.read_bytes(), name=str(self.samples), error=DataError)
        if "inputs" not in samples:
            raise DataError(f"{self.samples} holds {sorted(samples)}, expected 'inputs'; train again")
        for name, array in samples.items():
            fits = array.shape[1:] == preprocess.input_shape if name == "inputs" else array.ndim in (2, 3)
            if array.dtype != np.uint8 or array.size == 0 or not fits:
                expected = f"(N, {', '.join(map(str, preprocess.input_shape))})" if name == "inputs" else "(H, W[, 3])"
                raise DataError(
                    f"{self.samples} has {name} {array.shape} {array.dtype}, expected {expected} uint8; train again"
                )
        return samples


def telling_name(data: str) -> str:
    """The first folder (or file) name, going up a data path, that says something: `tile` for tile/train/good."""
    path = Path(data).resolve()
    parts = [path.stem if path.is_file() else path.name, *(parent.name for parent in path.parents)]
    telling = next((part for part in parts if part and part.lower() not in GENERIC_NAMES), "run")
    return re.sub(r"[^A-Za-z0-9._-]+", "-", telling)


def default_run_path(data: str) -> Path:
    """runs/NAME-N, with N one above the highest there is and NAME the data's telling name."""
    name = telling_name(data)
    taken = [
        int(match.group(1))
        for run in (RUNS.iterdir() if RUNS.is_dir() else ())
        if (match := re.fullmatch(rf"{re.escape(name)}-(\d+)", run.name))
    ]
    return RUNS / f"{name}-{max(taken, default=0) + 1}"


def point_latest_at(run: Path) -> None:
    """Make runs/latest a link to the run."""
    LATEST.parent.mkdir(parents=True, exist_ok=True)
    temporary = LATEST.with_name(".latest")
    temporary.unlink(missing_ok=True)
    target = run.resolve()
    inside = target.parent == RUNS.resolve()
    temporary.symlink_to(target.name if inside else target, target_is_directory=True)
    temporary.replace(LATEST)


def latest_run() -> Path:
    """The run that runs/latest points at, below the current folder where it lies there; raises DataError for none."""
    if not LATEST.is_dir():
        raise DataError(f"no run folder named and no {LATEST} here; train first: edge-aae train DATA")
    target, here = LATEST.resolve(), Path.cwd()
    return target.relative_to(here) if target.is_relative_to(here) else target


def write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Write a CSV file, whole or not at all."""
    write_atomically(path, csv_bytes(header, rows))
