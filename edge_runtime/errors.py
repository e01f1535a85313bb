"""The errors a user of edge-aae can meet, one family.

    EdgeAaeError                     base; `exit_code` is what the command line ends with
    |- ConfigError     (ValueError)      an option or a settings value is out of range,
    |    |                               which no restart mends              exit code 2
    |    `- TakenError                   what it names is another's just now exit code 1
    |- FrameError      (ValueError)      a frame has a shape or a type the bundle does not take
    |- DataError       (ValueError)      images or labels on disk cannot be used
    |  `- TornFrameError                 a frame came in part
    |- BundleError     (ValueError)      a bundle is damaged, altered, unsafe or of another version
    |- BackendError    (RuntimeError)    an inference engine failed or is not the one asked for
    |- MissingExtraError (ImportError)   an optional dependency is not installed
    |- GateError       (RuntimeError)    a gate failed: parity, speed, master parts   exit code 3
    `- SourceError     (OSError)         a camera, video or folder cannot be opened
                                         or was lost                                  exit code 4

Every message says what was expected, what came and what to do.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "EdgeAaeError",
    "ConfigError",
    "FrameError",
    "DataError",
    "TornFrameError",
    "BundleError",
    "BackendError",
    "MissingExtraError",
    "GateError",
    "SourceError",
    "TakenError",
    "expected_name",
]


class EdgeAaeError(Exception):
    """Base of every error that edge-aae raises on purpose."""

    exit_code = 1


class ConfigError(EdgeAaeError, ValueError):
    """An option or a settings value is out of range or does not fit the others."""

    exit_code = 2


class TakenError(ConfigError):
    """An address or a file that was named is in use by another process; it may be free again later."""

    exit_code = 1


class FrameError(EdgeAaeError, ValueError):
    """A frame's shape or dtype is not what the bundle takes."""


class DataError(EdgeAaeError, ValueError):
    """Images or labels on disk cannot be used."""


class TornFrameError(DataError):
    """A frame of a stream came in part; the source goes on."""


class BundleError(EdgeAaeError, ValueError):
    """A bundle is damaged, altered, unsafe to read, or of a schema version this release does not know."""


class BackendError(EdgeAaeError, RuntimeError):
    """An inference engine failed, or another one than the named one would have run."""


class MissingExtraError(EdgeAaeError, ImportError):
    """An optional dependency is missing; the message names the extra to install."""


class GateError(EdgeAaeError, RuntimeError):
    """A gate failed: a graph differs from PyTorch, a bundle is too slow, or a master part scores as it should not."""

    exit_code = 3


class SourceError(EdgeAaeError, OSError):
    """A camera, video or folder cannot be opened, or was lost while running."""

    exit_code = 4

    def __init__(self, message: str, *, code: str = "OPEN_FAILED") -> None:
        """code: the kind of failure for machines, one of docs/records.md's source error codes."""
        super().__init__(message)
        self.code = code


def expected_name(known: Iterable[str], came: str) -> str:
    """The end of a message about a name that is none of the known: which there are, which one may have been meant."""
    names = list(known)
    near = difflib.get_close_matches(came.lower(), names, n=1)
    return f"expected one of {', '.join(names)}{f'; did you mean {near[0]}?' if near else ''}"
