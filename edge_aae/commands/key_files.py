"""Private keys that commands sign with, and how they are opened."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge_runtime.errors import ConfigError

if TYPE_CHECKING:
    from edge_runtime.signing.keys import SigningKey

__all__ = ["passphrase_for", "signing_key"]

PASSPHRASE_VARIABLE = "EDGE_AAE_KEY_PASSPHRASE"


def signing_key(file: Path) -> SigningKey:
    """The private key in a file; its passphrase, where it has one, from the environment or a terminal.

    Raises ConfigError, MissingExtraError.
    """
    from edge_runtime.signing.keys import read_signing_key

    return read_signing_key(file, lambda: passphrase_for(f"passphrase of {file}", confirm=False))


def passphrase_for(prompt: str, *, confirm: bool) -> str:
    """Never empty. Raises ConfigError where there is neither the variable nor a terminal."""
    if (secret := os.environ.get(PASSPHRASE_VARIABLE)) is None:
        if not sys.stdin.isatty():
            raise ConfigError(f"no {prompt}: set ${PASSPHRASE_VARIABLE}, or call this from a terminal")
        secret = str(click.prompt(prompt, hide_input=True, confirmation_prompt=confirm, err=True))
    if not secret:
        raise ConfigError(f"the {prompt} is empty, expected some characters; set ${PASSPHRASE_VARIABLE}")
    return secret
