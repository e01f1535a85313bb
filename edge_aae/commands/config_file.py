"""`--config FILE` and `--print-config`: every option of a command in a TOML file; flags win."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from edge_aae.commands.secret_values import SOURCES, TOKENS, check_mode, is_shown, shown_value
from edge_runtime.errors import ConfigError, expected_name
from edge_runtime.redact import redact, remember

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["config_of", "config_options", "of_the_file", "read_config"]

Command = TypeVar("Command", bound=Callable[..., Any])

FILE = "edge_aae.config"
"""In a context's meta: the file that --config names."""
OWN = ("config", "print_config", "help")


def config_options(command: Command) -> Command:
    """Adds --config and --print-config. The command's other options may stand in the file."""
    command = click.option("--print-config", is_flag=True, help="Print the options as such a file, without passwords.")(
        command
    )
    return click.option(
        "--config",
        type=click.Path(path_type=Path),
        is_eager=True,
        expose_value=False,
        callback=_load,
        help="TOML file with any of these options; flags win.",
    )(command)


def read_config(path: Path, options: Mapping[str, click.Parameter], command: str = "run") -> dict[str, Any]:
    """Option name -> value, from a TOML file whose keys are flags' names; raises ConfigError for any other."""
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(
            f"cannot read {path}: {error}; expected TOML such as `edge-aae {command} --print-config` prints"
        ) from error
    keys = {_key(option): name for name, option in options.items()}
    found = {}
    for key, value in values.items():
        if isinstance(value, dict):
            raise ConfigError(
                f"{path} has a section [{key}]; options stand without sections, one a line{_first(value, keys)}"
            )
        name = keys.get(key.replace("_", "-"))
        if name is None:
            raise ConfigError(
                f"{path} sets {key!r}, which is no option here; {expected_name(sorted(keys), key.replace('_', '-'))}"
            )
        option = options[name]
        many = isinstance(option, click.Option) and option.multiple
        if isinstance(value, list) != many:
            came = "***" if name in TOKENS else redact(repr(value))
            raise ConfigError(f"{path} sets {key} to {came}, expected {_form(key, name, value, many=many)}")
        # To click a path that is a number is an open file.
        kinds = (str,) if isinstance(option.type, click.Path) else (str, int, float)
        if strange := [one for one in _each(value) if not isinstance(one, kinds)]:
            came = "***" if name in TOKENS else redact(str(strange[0]))
            expected = "a text in quotes" + (", a number, true or false" if len(kinds) > 1 else "")
            raise ConfigError(f"{path} sets {key} to {came}, expected {expected}")
        # As flags have it: of a number for a count click cuts 3.5, and fails on inf.
        if not getattr(option, "is_flag", False):
            value = [_text(one) for one in value] if many else _text(value)
        found[name] = value
    check_mode(path, ((name, one) for name, set_to in found.items() for one in _each(set_to)))
    return found


EXAMPLES = {"classes": "0,3", "imgsz": "96x256", "levels": "0,4095", "roi": "0,0,640,480"}
"""Options whose one text people write as a list, with such a text"""


def _form(key: str, name: str, value: Any, *, many: bool) -> str:
    """What was expected in place of a value where a list belongs, or of a list where one value does."""
    if many:
        one = "video.mp4" if key == "source" else "0"
        if isinstance(value, str) and not {*"=:/@\\"} & {*value}:
            one = value  # no address, which may hold a password
        return f'a list, such as {key} = ["{one}"]'
    return f'one text, such as {key} = "{EXAMPLES[name]}"' if name in EXAMPLES else "one value"


def _first(section: Mapping[str, Any], keys: Mapping[str, str]) -> str:
    """The first option of a section, as it would stand without it; nothing for what may hold a secret."""
    key, value = next(((key, value) for key, value in section.items() if key.replace("_", "-") in keys), ("", None))
    if keys.get(key.replace("_", "-")) in TOKENS or "://" in str(value) or not isinstance(value, (str, int, float)):
        return ""
    return f": {key} = " + (f'"{value}"' if isinstance(value, str) else _text(value))


def _text(value: str | float) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _each(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def of_the_file(message: str, context: click.Context, option: click.Parameter | None = None) -> str:
    """The name of the --config that gave the value a message complains of, to be put before it; empty for a flag's.

    option: whose value it is; None: the first option that the message names.
    """
    flags = {flag: one for one in context.command.params for flag in (*one.opts, *one.secondary_opts)}
    if option is None:
        option = next((flags[flag] for flag in re.findall(r"--[a-z-]*[a-z]", message) if flag in flags), None)
    from_file = option is not None and context.get_parameter_source(option.name or "") is ParameterSource.DEFAULT_MAP
    return f"{context.meta[FILE]}: " if from_file and FILE in context.meta else ""


def _load(context: click.Context, option: click.Parameter, path: Path | None) -> None:
    if path is not None:
        context.meta[FILE] = path
        context.default_map = {
            **(context.default_map or {}),
            **read_config(path, _options(context), context.command.name or "run"),
        }


def config_of(context: click.Context) -> str:
    """All options of the running command as such a file, without passwords."""
    options, lines = _options(context), []
    for name, option in options.items():
        value = context.params.get(name)
        if value is None or value == () or (name in TOKENS and is_shown(name, value)):
            lines.append(f"# {_key(option)} =")
        else:
            lines.append(f"{_key(option)} = {_toml(name, value, getattr(option.type, 'show', str))}")
    return "\n".join(lines) + "\n"


def _options(context: click.Context) -> dict[str, click.Parameter]:
    return {
        option.name: option
        for option in context.command.params
        if option.name is not None and option.name not in OWN and isinstance(option, click.Option)
    }


def _key(option: click.Parameter) -> str:
    """As the flag is called: --source is source, whatever its variable."""
    return max(option.opts, key=len).lstrip("-")


def _toml(name: str, value: Any, show: Callable[[Any], str]) -> str:
    if isinstance(value, (tuple, list)) and show is str:
        return "[" + ", ".join(_toml(name, item, show) for item in value) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)) and show is str:
        return repr(value)
    shown = show(value)
    remember(shown)
    if name in SOURCES:
        remember(shown.partition("=")[2])
    text = shown_value(name, shown).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'
