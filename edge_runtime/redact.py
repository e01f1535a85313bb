"""Taking passwords out of whatever may be shown, logged or recorded."""

from __future__ import annotations

import re

__all__ = ["redact"]

CREDENTIALS = re.compile(
    r"""(?<=://)(?:
        [^/\s]+                                          # up to the last @ before the path
        | [^/\s:@[]+ : (?!\d{1,5}/) (?:(?!://)\S)*        # a password with a slash that nobody encoded, not a port
    )(?=@)""",
    re.VERBOSE,
)


def redact(text: str) -> str:
    """The text with user and password of every URL in it replaced by ***."""
    return CREDENTIALS.sub("***", text)
