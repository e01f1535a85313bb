"""Bundles, run folders and images, each where another was expected; and the bundle by --model or without a flag."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

import click
from click.core import ParameterSource

from edge_aae.commands.options import OF_OTHERS, model_option

__all__ = [
    "bundle_argument",
    "kind_of",
    "model_and_data",
    "refuse_as_run",
    "refuse_as_source",
    "refuse_as_training_data",
    "refuse_bundles",
    "sources_named",
]

Command = TypeVar("Command", bound=Callable[..., Any])


def kind_of(path: Path) -> Literal["bundle", "run", "other"]:
    """What lies at a path, by its name and what a folder holds; nothing is read."""
    from edge_runtime.files import is_run_folder

    if path.suffix == ".aae" or (path / "manifest.json").is_file():
        return "bundle"
    return "run" if is_run_folder(path) else "other"


def bundle_argument(command: Command) -> Command:
    """[BUNDLE] and --model, either of which names the bundle; the command gets it as `model`."""

    @wraps(command)
    def with_model(*arguments: Any, bundle: Path | None, model: Path | None, **options: Any) -> Any:
        if bundle is not None and model is not None and bundle != model:
            raise click.UsageError(f"two bundles are named, {bundle} and --model {model}; expected one")
        return command(*arguments, model=bundle or model, **options)

    named = model_option(cast(Command, with_model))
    return click.argument("bundle", required=False, type=click.Path(path_type=Path))(named)


def model_and_data(places: Sequence[Path], model: Path | None, command: str) -> tuple[Path, tuple[Path, ...]]:
    """Run folder or bundle, and the images: of `MODEL DATA...`, or of `DATA... --model MODEL`.

    Raises click.UsageError where the first is neither and another one is.
    """
    if model is not None:
        return model, tuple(places)
    if not places:
        raise click.UsageError(f"name a run folder or bundle: edge-aae {command} runs/latest test/")
    first, *others = places
    if first.exists() and kind_of(first) == "other" and not first.is_file():
        models = [place for place in others if kind_of(place) != "other"]
        named = models[0] if models else "MODEL"
        data = [str(place) for place in places if place not in models]
        raise click.UsageError(
            f"{first} is neither a run folder nor a bundle; that comes first: edge-aae {command} {named} "
            f"{shlex.join(data)}"
        )
    return first, tuple(others)


def refuse_bundles(images: Sequence[Path], command: str, *, by: Path | None = None) -> None:
    """Raise click.UsageError for a bundle or a URL among the images to be scored. by: the bundle that --model names."""
    for path in images:
        if url := _url(str(path)):
            raise click.UsageError(
                f"{url} is an address; {command} takes image files and folders; "
                f"streams: edge-aae run {shlex.quote(url)}"
            )
        if kind_of(path) == "bundle":
            others = shlex.join(str(other) for other in images if other != path) or "IMAGES"
            also = "" if by is None else f", as {by} was"
            raise click.UsageError(
                f"{path} is a bundle, not images; name it with --model{also}: "
                f"edge-aae {command} {others} --model {shlex.quote(str(path))}"
            )


def refuse_as_source(named: Sequence[str], corrected: str) -> None:
    """Raise click.UsageError for a bundle or a run folder among the sources of frames, named or not.

    corrected: the command with what was expected; {} stands for the bundle.
    """
    from edge_runtime.sources import split_name

    for one in named:
        _, source = split_name(one)
        if "://" in source or " ! " in source:
            continue
        kind, quoted = kind_of(Path(source)), shlex.quote(source)
        if kind == "bundle":
            raise click.UsageError(f"{source} is a bundle, not a source of frames: {corrected.format(quoted)}")
        if kind == "run":
            raise click.UsageError(
                f"{source} is a run folder, not a source of frames; edge-aae export {quoted} makes a bundle of it, "
                f"then: {corrected.format('model.aae')}"
            )


def refuse_as_training_data(data: str) -> None:
    """Raise click.UsageError for a bundle, a URL, or a network's file, where images to train on belong."""
    if url := _url(data):
        raise click.UsageError(
            f"{url} is an address; train takes a folder of images or a video file: save one of the two first"
        )
    path, quoted = Path(data), shlex.quote(data)
    if kind_of(path) == "bundle":
        raise click.UsageError(
            f"{path} is a bundle, which training leads to; expected images: edge-aae train IMAGES; what the bundle "
            f"holds: edge-aae info {quoted}"
        )
    if path.suffix.lower() in OF_OTHERS:
        raise click.UsageError(
            f"{path} is {OF_OTHERS[path.suffix.lower()]}, expected images: edge-aae train IMAGES; training begins from "
            "nothing, and --backbone names a trunk (docs/backbones.md)"
        )


def _url(word: str) -> str:
    """The URL that a word is, also one whose slashes pathlib has joined; empty where it is none."""
    found = re.match(r"([A-Za-z][A-Za-z0-9+.-]+):/+(?=[^/])", word)
    return "" if found is None or Path(word).exists() else f"{found[1]}://{word[found.end() :]}"


def refuse_as_run(path: Path) -> None:
    """Raise click.UsageError for a bundle, and for a folder or file of something else, where a run folder belongs."""
    quoted = shlex.quote(str(path))
    if kind_of(path) == "bundle":
        raise click.UsageError(
            f"{path} is a bundle already, made by export; what can be done with it: edge-aae verify {quoted}, "
            f"edge-aae run SOURCE --model {quoted}"
        )
    if path.is_dir() and any(path.iterdir()) and not (path / "config.json").is_file():
        raise click.UsageError(
            f"{path} is no run folder, which edge-aae train makes; where it holds images: edge-aae train {quoted}, "
            "then edge-aae export"
        )


def sources_named(context: click.Context, corrected: str) -> Mapping[str, Any]:
    """The parameters of a command whose sources may stand without a flag too: as if --camera or --source named them.

    A number is a camera's, with a name (line3=0) too. The context then holds them so. Raises click.UsageError for what
    is no source, ConfigError for a name that is none.
    """
    from edge_runtime.sources import split_name

    params = context.params
    places = params.pop("places")
    cameras = [place for place in places if split_name(place)[1].isdigit()]
    for name, found in (("cameras", cameras), ("sources", [place for place in places if place not in cameras])):
        if found:
            from_flags = context.get_parameter_source(name) is ParameterSource.COMMANDLINE
            params[name] = (*(params[name] if from_flags else ()), *found)  # as a flag would, in place of the file's
            context.set_parameter_source(name, ParameterSource.COMMANDLINE)
    refuse_as_source(params["sources"], corrected)
    return params
