"""Commands and options that people know from other programs, Ultralytics' and anomalib's above all, or mistyped:
what does it here."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import click

__all__ = ["key_value_word", "unknown_command", "unknown_option"]

SCORES = "`edge-aae score IMAGES` scores images, `edge-aae run SOURCE` cameras, streams and videos"
JUDGES = "`edge-aae evaluate MODEL IMAGES` gives metrics on labelled images, `edge-aae verify` runs the parity gate"
TRAINS = "`edge-aae train IMAGES` trains"
EXPORTS = "`edge-aae export` writes the bundle of a run"
RUNS = "`edge-aae run SOURCE` scores cameras, streams and videos"

COMMANDS = {
    **dict.fromkeys(("predict", "infer", "inference", "detect", "segment", "classify", "track"), SCORES),
    **dict.fromkeys(("val", "validate", "test", "eval", "metrics"), JUDGES),
    **dict.fromkeys(("fit", "tune", "finetune"), TRAINS),
    "resume": "`edge-aae train --resume` goes on with an interrupted run",
    **dict.fromkeys(("convert", "deploy", "onnx"), EXPORTS),
    **dict.fromkeys(("stream", "camera", "webcam", "watch", "live"), RUNS),
    "serve": "`edge-aae run SOURCE --serve :8080` serves the live page, `edge-aae review` the rejected images",
    **dict.fromkeys(("benchmark", "profile"), "`edge-aae bench` measures a bundle on this machine"),
    **dict.fromkeys(("checks", "env", "diagnose"), "`edge-aae doctor` says what this machine has and lacks"),
    **dict.fromkeys(("settings", "config", "cfg"), "`edge-aae run --print-config` shows them, or `edge-aae train`"),
    **dict.fromkeys(("inspect", "summary", "show"), "`edge-aae info` shows what a bundle holds"),
    "threshold": "`edge-aae calibrate` makes the threshold on site, `--threshold` of run and score sets one",
    "help": "`edge-aae --help` lists the commands, `edge-aae COMMAND --help` explains one",
    "version": "`edge-aae --version` says it",
    "install": "`edge-aae service install NAME --config FILE` makes a run start at boot",
}
"""Word -> what does it here."""

NO_FLAG = {
    "train": "the images have no flag: edge-aae train photos/",
    "score": "the images have no flag: edge-aae score test/",
    "evaluate": "the images have no flag: edge-aae evaluate MODEL test/",
    "run": "a source has no flag, or --source: edge-aae run video.mp4",
    "check": "the parts have no flag: edge-aae check parts/",
    "calibrate": "frames come from --source or --camera: edge-aae calibrate --source normal/",
    "compare": "the frames are --frames: edge-aae compare old.aae new.aae --frames test/",
    "export": "it takes a run folder: edge-aae export runs/latest",
}
THRESHOLD = {"*": "the threshold is --threshold, 1 as calibrated"}
OF_RUN_FOLDER = {
    "train": "the run folder is --out: edge-aae train photos/ --out runs/first",
    "*": "what is written is named by --out, where there is something to be written",
}
WEIGHTS = {
    "train": "training begins from nothing; an interrupted run goes on with --resume, and --backbone names a trunk",
    "export": "it takes a run folder: edge-aae export runs/latest",
    "*": "the bundle is --model: --model model.aae",
}
STREAM = {
    "run": "a stream is a source: edge-aae run rtsp://HOST/PATH",
    "calibrate": "a stream is --source: edge-aae calibrate --source rtsp://HOST/PATH",
}
PICTURES = {
    "score": "--heatmaps FOLDER writes pictures, --csv and --json the scores",
    "run": "--record FOLDER keeps videos, --snapshots and --clips those of events; --serve shows them in a browser",
}
FORMAT = {"export": "graphs are always ONNX; --precision names fp32, fp16, int8, and `edge-aae build` makes an engine"}
EPOCHS = {"train": "epochs are --epochs, or --epochs-scale for every phase"}
NO_RATE = {"train": "the optimiser's settings are the network's own; --epochs-scale trains longer, --batch sets a step"}

BATCH = {"train": "images a step are --batch"}
SIZE = {"train": "the input is --imgsz"}
WORKERS = {"*": "images are read as they are needed; --threads, where it is, is of inference"}
PRECISION = {"*": "the precision is --precision: fp32, fp16 or int8"}
DEVICE = {
    "train": "the device is --device: auto, cpu, cuda or cuda:N",
    "*": "the engine is --backend; --backend auto takes the fastest that runs here",
}
FROM_FILE = "settings come from a TOML file: --config FILE; --print-config prints one"
FILE = {"train": FROM_FILE, "run": FROM_FILE}

OPTIONS: dict[str, dict[str, str]] = {
    word: advice
    for words, advice in (
        ("data images input path folder dataset train-data data-root source", NO_FLAG),
        ("name project exp default-root-dir output save-dir output-dir", OF_RUN_FOLDER),
        ("weights ckpt ckpt-path checkpoint pretrained bundle", WEIGHTS),
        ("model", {**WEIGHTS, "train": "the network is --network, the files are --out and, of a trunk, --backbone"}),
        ("rtsp url stream video webcam ip", STREAM),
        ("conf thres conf-thres confidence score-threshold iou", THRESHOLD),
        ("max-epochs n-epochs num-epochs trainer.max-epochs", EPOCHS),
        ("lr lr0 learning-rate optimizer weight-decay momentum patience", NO_RATE),
        ("batch-size bs train-batch-size", BATCH),
        ("img img-size image-size size imgsize", SIZE),
        ("workers num-workers", WORKERS),
        ("save show view-img visualize save-txt plots", PICTURES),
        ("export-type opset include", FORMAT),
        ("half fp16 int8", PRECISION),
        ("gpu gpus accelerator cuda", DEVICE),
        ("cfg yaml hyp", FILE),
    )
    for word in words.split()
}
"""Option without dashes -> command, or * for any -> what does it here."""

CLOSE = 0.8
"""Ratio of difflib from which on a word is a slip of the keys: treshold has 0.94 of threshold, foo 0.33 of fps."""
LEAST_PREFIX = 4
MOST_SUGGESTED = 3


def unknown_command(word: str, context: click.Context) -> str:
    """What to say of a word that names no command."""
    group = context.command
    assert isinstance(group, click.Group)
    said = f"there is no command {word!r}"
    is_root = context.parent is None
    if is_root and word in COMMANDS:
        return f"{said}; {COMMANDS[word]}"
    if close := _similar(word, group.commands):
        return f"{said}; did you mean {' or '.join(close)}?"
    if is_root and (Path(word).exists() or "://" in word or word.endswith(".aae")):
        return f"{said}; {_for_place(word)}"
    return f"{said}; expected one of {', '.join(group.commands)}"


def _for_place(word: str) -> str:
    if word.endswith(".aae"):
        return f"for a bundle: edge-aae info {word}, edge-aae run SOURCE --model {word}"
    if "://" not in word and Path(word).is_dir():
        return f"for a folder of images: edge-aae train {word}, or edge-aae score {word}"
    return f"for a source: edge-aae run {word}"


def unknown_option(flag: str, context: click.Context) -> str:
    """What to say of a flag that the context's command does not have."""
    command = context.command.name or ""
    called = _path(context)
    said = f"{called} has no option {flag}"
    word = flag.lstrip("-").replace("_", "-").lower()
    elsewhere = OPTIONS.get(word, {})
    if advice := elsewhere.get(command):
        return f"{said}; {advice}"
    own = _flags(context.command)
    if close := _similar(word, own):
        return f"{said}; did you mean {' or '.join(f'--{name}' for name in close)}?"
    if advice := elsewhere.get("*"):
        return f"{said}; {advice}"
    root = context.find_root().command
    others = _commands(root) if isinstance(root, click.Group) else ()
    having = [f"`edge-aae {name}`" for name, other in others if word in _flags(other)]
    if having:
        return f"{said}; {' and '.join(having[:MOST_SUGGESTED])} {'has' if len(having) == 1 else 'have'} one"
    return f"{said}; `edge-aae {called} --help-all` lists those it has"


def _path(context: click.Context) -> str:
    """What is typed for a command after the program's name: `keys make`."""
    above = context.parent
    own = context.command.name or ""
    return own if above is None or above.parent is None else f"{_path(above)} {own}"


def _commands(group: click.Group) -> Iterator[tuple[str, click.Command]]:
    """Each command of a group, those of its groups by their path."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from ((f"{name} {below}", one) for below, one in _commands(command))
        else:
            yield name, command


def key_value_word(words: Sequence[str], command: str | None) -> str:
    """What to say of the first word such as epochs=10, as Ultralytics takes them; empty where there is none.

    A word after a flag is that flag's value, what exists is a file, and a run may name a source NAME=URL.
    """
    for before, word in zip(("", *words), words, strict=False):
        key, mark, value = word.partition("=")
        known = re.fullmatch(r"[a-z_0-9]+", key) and (key in KEYS or key.replace("_", "-") in OPTIONS)
        if not (mark and known) or before.startswith("-") or Path(word).exists() or "://" in value:
            continue
        flag = key.replace("_", "-")
        advice = OPTIONS.get(flag, {}).get(command or "", f"write options as flags: --{flag} {value}")
        return f"{word}: {advice}"
    return ""


KEYS = {"epochs", "batch", "device", "imgsz", "seed", "network", "backend", "precision", "threshold", "mode", "task"}
"""Options of ours that people write as key=value"""


def _flags(command: click.Command) -> list[str]:
    return [
        flag.lstrip("-")
        for param in command.params
        if isinstance(param, click.Option)
        for flag in (*param.opts, *param.secondary_opts)
        if flag.startswith("--")
    ]


def _similar(word: str, names: Iterable[str]) -> list[str]:
    """The names that the word stands for: slips of the keys, beginnings, and names that hold it as a word."""
    names = list(dict.fromkeys(names))
    begun = [name for name in names if name.startswith(word) and len(word) >= LEAST_PREFIX]
    close = difflib.get_close_matches(word, names, n=MOST_SUGGESTED, cutoff=CLOSE)
    within = [name for name in names if word in name.split("-") and len(word) >= LEAST_PREFIX]
    return (begun or close or within)[:MOST_SUGGESTED]
