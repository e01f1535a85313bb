"""What somebody who has never used the program types: each mistake ends in one line with the next command."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from edge_aae.cli import cli as root
from edge_aae.commands.foreign_words import COMMANDS, OPTIONS, unknown_option
from edge_aae.commands.places import sources_named

Cli = Callable[..., "subprocess.CompletedProcess[str]"]

MISTAKES = {
    # another program's commands
    "predict test/": (2, "'predict'; `edge-aae score IMAGES`", "`edge-aae run SOURCE`"),
    "detect train data=photos": (2, "'detect'", "edge-aae score IMAGES"),
    "val test/": (2, "`edge-aae evaluate MODEL IMAGES`", "`edge-aae verify`"),
    "test test/": (2, "edge-aae evaluate MODEL IMAGES"),
    "fit photos/": (2, "edge-aae train IMAGES"),
    "help train": (2, "edge-aae COMMAND --help"),
    "trian photos/": (2, "did you mean train?"),
    "photos": (2, "edge-aae train photos", "edge-aae score photos"),
    "model.aae": (2, "edge-aae info model.aae", "edge-aae run SOURCE --model model.aae"),
    "rtsp://10.0.0.5/live": (2, "edge-aae run rtsp://10.0.0.5/live"),
    "service instal": (2, "did you mean install?"),
    # and options
    "train --data photos": (2, "no option --data; the images have no flag: edge-aae train photos/"),
    "train data=photos epochs=3": (2, "data=photos: the images have no flag: edge-aae train photos/"),
    "train photos epochs=3": (2, "epochs=3: write options as flags: --epochs 3"),
    "train photos --name first": (2, "no option --name; the run folder is --out"),
    "train photos --model patchcore": (2, "the network is --network"),
    "train photos --max_epochs 3": (2, "--epochs"),
    "train photos --lr 0.1": (2, "--epochs-scale"),
    "train photos --batch-size 8": (2, "--batch"),
    "run --rtsp rtsp://10.0.0.5/live": (2, "edge-aae run rtsp://HOST/PATH"),
    "score photos --weights model.aae": (2, "--model model.aae"),
    "score photos --source photos": (2, "edge-aae score test/"),
    "score photos --conf 0.5": (2, "the threshold is --threshold"),
    "score photos --alarm 3/5": (2, "score has no option --alarm; `edge-aae run` has one"),
    "export --format engine": (2, "graphs are always ONNX"),
    "export --weights runs/latest": (2, "edge-aae export runs/latest"),
    "doctor --foo": (2, "doctor has no option --foo; `edge-aae doctor --help-all` lists those it has"),
    "keys make --foo": (2, "keys make has no option --foo; `edge-aae keys make --help-all` lists those it has"),
    "run --passphrase x": (2, "run has no option --passphrase; `edge-aae keys make` has one"),
    "run --camra 0": (2, "did you mean --camera?"),
    "run --timeout 3": (2, "--open-timeout", "--read-timeout"),
    "run --foo": (2, "run --help-all` lists those it has"),
    # one thing in the place of another
    "run model.aae": (2, "model.aae is a bundle, not a source", "edge-aae run SOURCE --model model.aae"),
    "run --source model.aae": (2, "edge-aae run SOURCE --model model.aae"),
    "run runs/latest": (2, "is a run folder", "edge-aae export runs/latest"),
    "run --model photos photos": (1, "photos is not a bundle"),
    "run --model best.pt photos": (1, "best.pt is a PyTorch file, not a bundle", "edge-aae export"),
    "score photos model.aae": (2, "not images", "edge-aae score photos --model model.aae"),
    "score runs/latest": (1, "runs/latest is a run folder, not images", "edge-aae export runs/latest"),
    "check model.aae": (2, "edge-aae check IMAGES --model model.aae"),
    "compare model.aae model.aae --frames model.aae": (2, "edge-aae compare OLD NEW --frames IMAGES"),
    "calibrate --source model.aae": (2, "edge-aae calibrate --source NORMAL --model model.aae"),
    "train model.aae": (2, "model.aae is a bundle", "edge-aae train IMAGES"),
    "train data.yaml": (2, "data.yaml is a YAML file, expected images"),
    "train yolo.pt": (2, "yolo.pt is a PyTorch file, expected images"),
    "train rtsp://10.0.0.5/live": (2, "rtsp://10.0.0.5/live is an address; train takes a folder of images or a video"),
    "score rtsp://10.0.0.5/live": (2, "score takes image files and folders; streams: edge-aae run rtsp://10.0.0.5/live"),
    "evaluate model.aae http://10.0.0.5/live": (2, "streams: edge-aae run http://10.0.0.5/live"),
    "train runs/latest": (1, "edge-aae train --resume --out runs/latest"),
    "export model.aae": (2, "is a bundle already", "edge-aae verify model.aae"),
    "export photos": (2, "photos is no run folder", "edge-aae train photos, then edge-aae export"),
    "evaluate photos": (2, "that comes first: edge-aae evaluate MODEL photos"),
    "evaluate photos model.aae": (2, "that comes first: edge-aae evaluate model.aae photos"),
    "evaluate model.aae": (2, "name labelled images: edge-aae evaluate model.aae test/"),
    "evaluate": (2, "edge-aae evaluate runs/latest test/"),
    "verify runs/latest": (1, "edge-aae export runs/latest --out model.aae"),
    "report nosuch": (1, "there is no nosuch; expected a run folder such as runs/latest, or an .aae bundle"),
    "report runs/latest photos --out best.pt/x.html": (1, "cannot write best.pt/x.html: Not a directory"),
    "report runs/latest photos --out photos": (1, "cannot write photos: Is a directory"),
    "export --out photos": (2, "--out photos is a folder; name a file, such as photos/model.aae"),
    "export nosuch --out best.pt/x.aae": (1, "cannot write best.pt/x.aae: Not a directory"),
    "export nosuch --format onnx --out best.pt/x": (1, "cannot make the folder best.pt/x: Not a directory"),
    "verify model.aae --backend tensorrt --against nosuch": (1, "nosuch is no run folder"),
    "compare model.aae runs/latest --frames photos": (1, "runs/latest is a run folder, not a bundle"),
    "score photos --classes 0": (2, "--classes names normal classes of an IDX set or .npz file, photos has none"),
    "info model.aae --model other.aae": (2, "two bundles are named, model.aae and --model other.aae"),
    # nothing there
    "run": (2, "name one source or more: edge-aae run SOURCE"),
    "train": (2, "name the images to train on"),
    "score nowhere": (1, "no such file or folder: nowhere"),
}  # fmt: skip


@pytest.fixture(scope="module")
def place(workplace: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a newcomer's folder has: photos, a run folder, a bundle, files of other programs."""
    folder = tmp_path_factory.mktemp("newcomer")
    for name in ("model.aae", "runs"):
        (folder / name).symlink_to(workplace / name)
    (folder / "photos").symlink_to(photos / "train")
    for name in ("best.pt", "yolo.pt", "data.yaml"):
        (folder / name).write_text("of another program")
    return folder


@pytest.mark.parametrize("typed", MISTAKES)
def test_a_newcomers_mistake_is_answered_with_the_next_command(cli: Cli, place: Path, typed: str) -> None:
    status, *parts = MISTAKES[typed]
    done = cli(*typed.split(), cwd=place)
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    for part in parts:
        assert str(part) in last, last


def test_there_are_as_many_kinds_of_mistakes_as_were_promised() -> None:
    assert len(MISTAKES) >= 10


def test_no_word_of_ours_is_taken_for_another_programs() -> None:
    assert not set(COMMANDS) & set(root.commands)


def test_what_is_advised_exists() -> None:
    """Each flag in an answer is one of the command it is an answer for, or of one that it names."""
    for word, answers in OPTIONS.items():
        for name, advice in answers.items():
            commands = [root.commands[name]] if name != "*" else list(root.commands.values())
            named = [root.commands[other] for other in root.commands if f"edge-aae {other}" in advice]
            known = {flag for command in [*commands, *named] for param in command.params for flag in param.opts}
            advised = {part.strip(".,;:`") for part in advice.split() if part.startswith("--")}
            assert advised <= known, (word, name, advised - known)


@pytest.mark.parametrize("flag", ["--foo", "--xyz", "--a", "--z-index", "--verbosely"])
def test_what_is_like_nothing_gets_no_absurd_suggestion(flag: str) -> None:
    context = click.Context(root.commands["run"], info_name="run", parent=click.Context(root, info_name="edge-aae"))
    assert unknown_option(flag, context) == f"run has no option {flag}; `edge-aae run --help-all` lists those it has"


def test_a_word_with_an_equals_sign_that_is_a_flags_value_or_a_file_is_left_alone(tmp_path: Path) -> None:
    run = root.commands["run"]
    parsed = run.make_context("run", ["--source", "data=rtsp://10.0.0.5/live", "source=rtsp://10.0.0.5/x"]).params
    assert parsed["sources"] == ("data=rtsp://10.0.0.5/live",)
    assert parsed["places"] == ("source=rtsp://10.0.0.5/x",)
    with pytest.raises(click.UsageError, match="source=0"):
        run.make_context("run", ["source=0"])


def sources(*words: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    parsed = sources_named(root.commands["run"].make_context("run", list(words)), "edge-aae run SOURCE")
    return parsed["cameras"], parsed["sources"]


def test_a_source_needs_no_flag_and_stands_beside_those_that_have_one() -> None:
    assert sources("0") == (("0",), ())
    assert sources("a.mp4", "rtsp://10.0.0.5/live") == ((), ("a.mp4", "rtsp://10.0.0.5/live"))
    assert sources("--camera", "1", "0", "--source", "a.mp4", "b.mp4") == (("1", "0"), ("a.mp4", "b.mp4"))


def test_a_source_without_a_flag_wins_over_the_configurations_as_one_with_a_flag_does(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text('source = ["old.mp4"]\ncamera = ["3"]\n')
    for word in (["new.mp4"], ["--source", "new.mp4"]):
        assert sources("--config", str(tmp_path / "c.toml"), *word) == (("3",), ("new.mp4",))


def test_a_source_without_a_flag_is_printed_into_a_configuration_without_its_password() -> None:
    ended = CliRunner().invoke(root, ["run", "rtsp://me:secret@10.0.0.5/live", "0", "--print-config"])
    assert 'camera = ["0"]' in ended.output
    assert "10.0.0.5/live" in ended.output
    assert "secret" not in ended.output


def test_a_password_in_a_source_without_a_flag_is_warned_of(cli: Cli, tmp_path: Path) -> None:
    done = cli("run", "http://me:secret@127.0.0.1:1/x", "--model", "nowhere.aae", cwd=tmp_path)
    assert "--source: a secret on the command line is shown" in done.stderr
    assert "secret@" not in done.stderr


def test_the_bundle_is_named_by_model_or_without_a_flag_wherever_one_is_taken(cli: Cli, place: Path) -> None:
    for words in (["info"], ["doctor"]):
        without, by_flag = cli(*words, "model.aae", cwd=place), cli(*words, "--model", "model.aae", cwd=place)
        assert "model.aae" in without.stdout
        assert (without.returncode, by_flag.returncode) in ((0, 0), (1, 1))
    for name, command in root.commands.items():
        flags = {flag for param in command.params for flag in param.opts}
        takes_a_bundle = {"run", "score", "check", "calibrate", "bench", "doctor", "verify", "info", "sign", "build",
                          "evaluate", "report"}  # fmt: skip
        assert ("--model" in flags) == (name in takes_a_bundle), name


def test_evaluate_takes_the_model_by_its_flag_too(cli: Cli, place: Path, photos: Path) -> None:
    first = cli("evaluate", "model.aae", photos / "test", "--bootstrap", "0", cwd=place)
    by_flag = cli("evaluate", photos / "test", "--model", "model.aae", "--bootstrap", "0", cwd=place)
    assert first.returncode == by_flag.returncode == 0, by_flag.stderr
    assert [line for line in first.stdout.splitlines() if "AUROC" in line] == [
        line for line in by_flag.stdout.splitlines() if "AUROC" in line
    ]
