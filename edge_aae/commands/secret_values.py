"""Passwords and tokens that commands are given: from files, warned of on the command line, kept out of the journal."""

from __future__ import annotations

import logging
import os
import re
import stat
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path

import click
from click.core import ParameterSource

from edge_runtime.errors import ConfigError
from edge_runtime.redact import redact, remember
from edge_runtime.systems.users import others_may

__all__ = [
    "SOURCES",
    "TOKENS",
    "check_mode",
    "is_shown",
    "secret_of",
    "shown_value",
    "warn_of_shown_secrets",
]

logger = logging.getLogger(__name__)

TOKENS = ("webhook_token", "serve_token", "serve_view_token")
"""Options that are secret as a whole; of others it is the password in a URL."""

SOURCES = ("cameras", "source", "sources")
"""Options whose values may begin with a name: of token=rtsp://... that is no secret"""

BROKER = re.compile(r"[A-Za-z0-9._-]+(:\d{1,5})?")
"""HOST or HOST:PORT of a broker, which hold no password; what is before the host of a webhook or after it may"""

LARGEST = 8192
"""Bytes of a file with one secret in it"""


def secret_of(value: str, name: str) -> str:
    """The value; of @FILE what stands in that file, without line ends. Raises ConfigError where it cannot be used.

    name: the option's, for messages.
    """
    if not value.startswith("@"):
        if not (name == "--mqtt" and BROKER.fullmatch(value)):
            remember(value, token=True)
        return value
    path = Path(value[1:])
    try:
        with path.open("rb") as stream:
            status, content = os.fstat(stream.fileno()), stream.read(LARGEST + 1)
        text = content.decode("utf-8").strip()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise ConfigError(
            f"cannot read {name} from {path}: {reason or error}; expected a file with it alone"
        ) from error
    if not text or len(text.splitlines()) > 1 or len(content) > LARGEST:
        raise ConfigError(f"{path} has {len(text.splitlines())} lines, expected {name} alone, in one")
    if stat.S_ISREG(status.st_mode) and others_may(status, stat.S_IROTH):
        _warn_of_mode(path)
    remember(text, token=True)
    return text


def check_mode(path: Path, values: Iterable[tuple[str, object]]) -> None:
    """Warn where everyone may read a file that sets an option (name, value) to a secret."""
    if any(is_shown(*one) for one in values) and others_may(path.stat(), stat.S_IROTH):
        _warn_of_mode(path)


@lru_cache  # once a file, however often its value is asked for
def _warn_of_mode(path: Path) -> None:
    logger.warning("%s may be read by everyone on this machine; chmod 600 %s", path, path)


def is_shown(name: str, value: object) -> bool:
    """Whether an option's value is a secret itself, not the name of a file that has it."""
    return isinstance(value, str) and (
        (name in TOKENS and bool(value) and not value.startswith("@")) or shown_value(name, value) != value
    )


def shown_value(name: str, value: str) -> str:
    """An option's value without what is secret in it."""
    if name not in SOURCES:
        return redact(value)
    from edge_runtime.sources.selection import shown_source

    return shown_source(value)


def warn_of_shown_secrets(context: click.Context) -> None:
    """One line for each secret that stands on the command line, where everyone on the machine sees it."""
    for option, flag in _shown(context):
        remedies = [f"{flag} @FILE" if "@FILE" in (option.help or "") else "run with --config FILE"]
        remedies += [f"{option.envvar} in the environment"] if isinstance(option.envvar, str) else []
        logger.warning(
            "%s: a secret on the command line is shown to everyone on this machine (ps); better %s",
            flag,
            " or ".join(remedies),
        )


def _shown(context: click.Context) -> Iterator[tuple[click.Option, str]]:
    for option in context.command.params:
        name = option.name or ""
        if (
            not isinstance(option, click.Option)
            or context.get_parameter_source(name) is not ParameterSource.COMMANDLINE
        ):
            continue
        value = context.params.get(name)
        if any(is_shown(name, one) for one in (value if isinstance(value, tuple) else (value,))):
            yield option, max(option.opts, key=len)
