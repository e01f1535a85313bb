"""Every option of every command, given a value that is none: one line about it, and exit status 2.

A new option needs a line here, unless click's own type refuses what is no number or none of its choices.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from edge_aae.cli import cli
from edge_aae.commands.parameter_types import FINITE
from edge_runtime.delivery import Outbox
from edge_runtime.errors import ConfigError, EdgeAaeError, TakenError
from edge_runtime.operations.service_unit import unit_text

HERE = "a name of a file or folder, whose absence is another error"
BAD: dict[str, tuple[str, ...] | str] = {
    "--alarm": ("5/3", "0/3", "many"),
    "--backbone": HERE,
    "--backend": ("tpu", "onnxruntime"),
    "--camera": ("a/b", "", "line 3=0", "line3="),
    "--classes": ("zero",),
    "--clear-threshold": ("nan", "high"),
    "--contaminate": ("2", "2:1.5", "2:0.05"),
    "--cooldown": ("-1", "inf"),
    "--cost-false-alarm": ("0", "nan"),
    "--cost-miss": ("-1", "inf"),
    "--device": ("gpu", "tpu:0"),
    "--drift": ("3", "-1"),
    "--epochs": ("0", "many"),
    "--epochs-scale": ("0", "nan"),
    "--fourcc": ("RGB",),
    "--frames": ("many",),
    "--group-by": ("", "minutes:0", "("),
    "--imgsz": ("0", "x"),
    "--latent": ("0",),
    "--levels": ("9,3", "all"),
    "--max-age-ms": ("0", "nan"),
    "--max-bad": ("101%", "-1%", "most"),
    "--max-flips": ("some",),
    "--max-fps": ("0", "-3", "nan"),
    "--metrics": ("here", ":99999"),
    "--min-area": ("12", "-1px", "12cm"),
    "--min-duration": ("-1", "nan"),
    "--mixture": ("0", "99"),
    "--mm-per-pixel": ("0", "nan", "thin"),
    "--mqtt": ("http://broker", "mqtt://", "mqtt://h:x"),
    "--mqtt-topic": ("a/#",),
    "--of-source": ("", " "),
    "--open-timeout": ("0", "nan"),
    "--out": HERE,
    "--overlap": ("-1",),
    "--precision": ("fp8", "FP-16"),
    "--python": HERE,
    "--raw": ("640x480", "0x4x3", "4x4x2"),
    "--read-timeout": ("0",),
    "--reconnect": ("-1", "often"),
    "--reject": ("blurred",),
    "--roi": ("1,2,3", "0,0,0,5"),
    "--sample-fps": ("0",),
    "--scale": ("0",),
    "--serve": ("here", ":99999"),
    "--serve-token": ("short",),
    "--serve-view-token": ("short",),
    "--smallest-defect": ("0",),
    "--smooth": ("mean:3", "ema:2", "median:0", "median:x"),
    "--source": ("test://nothing", "test://black?fps=0", "csi://one", "line 3=test://black", "line3="),
    "--stall-timeout": ("0", "nan"),
    "--target-fpr": ("1", "0", "few"),
    "--threads": ("-1",),
    "--threshold": ("nan", "inf"),
    "--webhook": ("broker", "ftp://host/x"),
    "--webhook-token": ("a secret",),
    "--width": ("0",),
    "--backoff": ("9:3", "0:1", "soon"),
    "--batch": ("0",),
    "--seed": ("-1",),
    "--refine-epochs": ("-1",),
    "--retrain-epochs": ("3",),
}
"""By option: values that are none of it."""

MORE = {
    "--device": ["--mqtt", "mqtt://h"],
    "--mqtt-topic": ["--mqtt", "mqtt://h"],
    "--serve-token": ["--serve", ":0"],
    "--serve-view-token": ["--serve", ":0"],
}
"""What else a run is given, for an option that says nothing alone."""

RANGES = (
    type(FINITE),
    click.types.IntParamType,
    click.types.FloatParamType,
    click.Choice,
    click.IntRange,
    click.FloatRange,
)


def options() -> Iterator[tuple[tuple[str, ...], click.Option]]:
    def walk(command: click.Command, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], click.Option]]:
        if isinstance(command, click.Group):
            for name, one in command.commands.items():
                yield from walk(one, (*path, name))
            return
        for option in command.params:
            if isinstance(option, click.Option) and not option.is_flag:
                yield path, option

    return walk(cli, ())


def values(path: tuple[str, ...], option: click.Option) -> tuple[str, ...]:
    """Bad ones of an option; none where any text names something."""
    name = max(option.opts, key=len)
    if (path, name) in {(("run",), "--device"), (("export",), "--precision"), (("evaluate",), "--device")}:
        return {"run": ("a+b",), "export": ("fp8",), "evaluate": ("gpu",)}[path[0]]
    if (path, name) == (("doctor",), "--camera"):  # one that cannot be opened is a finding
        return ("line 3=0", "line3=")
    if isinstance(option.type, click.Path) or BAD.get(name) == HERE or (path[0], name) == ("compare", "--frames"):
        return ()
    found = BAD.get(name, ())
    if isinstance(option.type, RANGES):
        own = ["no such value", *(["nan"] if isinstance(option.type, type(FINITE)) else [])]
        if isinstance(option.type, (click.IntRange, click.FloatRange)) and option.type.min is not None:
            own.append(str(option.type.min - 1))
        return tuple(dict.fromkeys((*own, *(found if path[0] in ("run", "train") else ()))))
    assert found, f"{' '.join(path)} {name} has no bad value in this table"
    return tuple(found)


CASES = [
    pytest.param(path, max(option.opts, key=len), value, id=f"{'-'.join(path)}{max(option.opts, key=len)}={value}")
    for path, option in options()
    for value in values(path, option)
]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for index in range(24):
        cv2.imwrite(str(folder / f"{index}.png"), rng.integers(0, 255, (48, 64, 3), dtype=np.uint8))
    return folder


def base(path: tuple[str, ...], photos: Path, bundle: Path) -> list[str]:
    """Arguments with which a command would get on, in an empty folder."""
    model, source = ["--model", str(bundle)], ["--source", str(photos)]
    return {
        "train": [str(photos), "--dry-run"],
        "report": [str(bundle), str(photos)],
        "evaluate": [str(bundle), str(photos)],
        "verify": [str(bundle)],
        "build": [str(bundle)],
        "run": [*model, *source],
        "score": [str(photos), *model],
        "calibrate": [str(bundle), *source],
        "check": [str(photos), *model],
        "compare": [str(bundle), str(bundle), "--frames", str(photos)],
        "bench": [*model],
        "doctor": [*model],
    }.get(path[0], [])


def status_of(ended: Any) -> tuple[int, str]:
    error = ended.exception
    if isinstance(error, EdgeAaeError):
        return error.exit_code, f"error: {error}"
    return ended.exit_code, ended.output


@pytest.mark.parametrize(("path", "option", "value"), CASES)
def test_a_value_that_is_none_ends_with_status_2_and_a_line_about_it(
    path: tuple[str, ...], option: str, value: str, photos: Path, bundle_file: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    more = MORE.get(option, []) if path == ("run",) else []
    if path == ("run",) and option != "--alarm":
        more = [*more, "--alarm", "1/1"]
    arguments = [*path, *base(path, photos, bundle_file), *more, option, value]
    status, said = status_of(CliRunner().invoke(cli, arguments))
    assert status == 2, said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("--backend", "onnxruntime", "tensorrt, tensorrt_rtx, auto; did you mean onnxruntime-cpu?"),
        ("--backend", "auot", "did you mean auto?"),
        ("--precision", "fp-16", "expected one of fp32, fp16, int8; did you mean fp16?"),
    ],
)
def test_a_name_that_is_none_is_told_with_those_there_are_and_the_nearest(option: str, value: str, says: str) -> None:
    ended = CliRunner().invoke(cli, ["score", "photos", option, value])
    assert ended.exit_code == 2
    assert says in " ".join(ended.output.split())


def test_a_typo_in_a_configuration_ends_with_status_2_and_says_what_was_meant(tmp_path: Path) -> None:
    (tmp_path / "line3.toml").write_text('source = ["test://pattern"]\nalram = "3/5"\n')
    ended = CliRunner().invoke(cli, ["run", "--config", str(tmp_path / "line3.toml")])
    assert isinstance(ended.exception, ConfigError)
    assert status_of(ended)[0] == 2
    assert "did you mean alarm?" in str(ended.exception)
    (tmp_path / "line3.toml").write_text('source = ["test://pattern"]\nbackend = "tpu"\n')
    assert CliRunner().invoke(cli, ["run", "--config", str(tmp_path / "line3.toml")]).exit_code == 2


def test_what_is_taken_by_another_may_be_free_after_a_restart(tmp_path: Path) -> None:
    """A service is started again after status 1, and not after 2."""
    with closing(Outbox(tmp_path / "events.db", ["broker"])), pytest.raises(TakenError) as refused:
        Outbox(tmp_path / "events.db", ["broker"])
    assert refused.value.exit_code == 1
    assert "RestartPreventExitStatus=2" in unit_text("line3", "/usr/bin/python3").splitlines()
