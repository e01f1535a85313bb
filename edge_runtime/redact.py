"""Taking passwords out of whatever may be shown, logged or recorded: the one place that knows how they look.

By form: user and password before a host, values of keys such as `password=` in queries and vendors' paths. By value:
what `remember` was told, URLs as a person gave them, where a space or `#` in a password leaves the form unclear.
"""

from __future__ import annotations

import re
from urllib.parse import quote, unquote

__all__ = ["is_ambiguous", "redact", "remember"]

CREDENTIALS = re.compile(
    r"""(?<=://)(?:
        [^/\s]+                                          # up to the last @ before the path
        | [^/\s:@[]+ : (?!\d{1,5}/) (?:(?!://)\S)*        # a password with a slash that nobody encoded, not a port
    )(?=@)""",
    re.VERBOSE,
)

KEYS = r"""(?:[\w.-]*(?:passw(?:or)?d|passwort|passphrase|pwd|[_-]pw|token|secret|api[_-]?key|credentials?|signature
    |jwt)|pass|psw|pw|auth|authorization|key|access[_-]?key|sig|session(?:id)?|sid|private[_-]?key)"""
"""Of a query or a path, whose values are secrets"""

KEYED = re.compile(
    rf"""(?<![A-Za-z0-9]) (?P<key>{KEYS}) (?P<is>=|%3D)
    (?P<value> [^&;\s'"<>] (?: (?!_[A-Za-z]+=) [^&;\s'"<>] )* )""",
    re.VERBOSE | re.IGNORECASE,
)
WHOLE_KEYED = re.compile(KEYED.pattern.replace(r"""[^&;\s'"<>]""", "[^&;]"), re.VERBOSE | re.IGNORECASE)
"""Of a value that is one URL: neither space nor quotation mark ends it"""

PORT = re.compile(r"""(?P<before>port: |alue as )(?P<mark>['"]).+?(?P=mark)""")
"""What the standard library says of a port that is none: the end of a password, where that holds a mark"""

URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")

SHORTEST = 4
"""Characters of a secret that is looked for by itself: what is shorter stands in every other word."""

_known: dict[str, str] = {}
"""What is a secret, or holds one -> what is shown of it"""
_pattern: re.Pattern[str] | None = None


def redact(text: str) -> str:
    """The text with user and password of every URL, values of secret keys, and all that is remembered, as ***."""
    if _pattern is not None:
        text = _pattern.sub(lambda found: _known[found[0]], text)
    if "://" in text:
        text = CREDENTIALS.sub("***", text)
    if "port: " in text or "alue as " in text:
        text = PORT.sub(r"\g<before>'***'", text)
    return KEYED.sub(_shown, text) if "=" in text or "%3" in text else text


def remember(value: str, *, token: bool = False) -> None:
    """Keep what is secret in a URL, as somebody gave it, out of all that redact gives from here on, in this process.

    Messages of libraries quote parts of it, decoded or not. token: the whole value is a secret.
    """
    if token and "://" not in value and len(value) >= SHORTEST:
        _know({value: "***"})
    if not URL.match(value):
        return
    secrets = _secrets(value)
    shown = value
    for secret in sorted(secrets, key=len, reverse=True):
        shown = shown.replace(secret, "***")
    if secrets:
        _know({value: shown, repr(value)[1:-1]: repr(shown)[1:-1]})
    for secret in secrets:
        if len(secret) >= SHORTEST:
            forms = {secret, unquote(secret), quote(secret, safe=""), quote(secret), repr(secret)[1:-1]}
            # What lies between marks that nobody encoded: a parser takes them for the ends of host, port and path.
            forms |= {part for part in re.split(r"[\s/?#@:]+", secret) if len(part) >= SHORTEST}
            _know({form: "***" for form in forms if len(form) >= SHORTEST})


def is_ambiguous(value: str) -> bool:
    """Whether user or password of a URL hold a mark that ends a host: no reader of URLs finds the host then."""
    begin = URL.match(value)
    host = "" if begin is None else re.split(r"[/?#]", value[begin.end() :], maxsplit=1)[0]
    return "@" not in host and _credentials(value) is not None


def _know(more: dict[str, str]) -> None:
    global _pattern
    _known.update(more)
    _pattern = re.compile("|".join(re.escape(known) for known in sorted(_known, key=len, reverse=True)))


def _shown(found: re.Match[str]) -> str:
    return f"{found['key']}{found['is']}***"


def _credentials(value: str) -> str | None:
    """What stands before the host of a value that is one URL; None where nothing does."""
    begin = URL.match(value)
    if begin is None:
        return None
    rest = value[begin.end() :]
    host = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if "@" in host:  # and further ones: of a path, or of a password that was cut at a mark
        return rest.rpartition("@")[0]
    # A port and a path with an @, or a password that begins before a mark.
    if "@" not in rest or ":" not in host or re.fullmatch(r"(?:[^:\[]*|\[[^\]]*\]):\d{1,5}", host):
        return None
    return rest.rpartition("@")[0]


def _secrets(value: str) -> set[str]:
    """The password before the host, and what secret keys hold; users are known by form, and their names are words."""
    found = {match["value"] for match in WHOLE_KEYED.finditer(value)}
    found.add((_credentials(value) or "").partition(":")[2])
    return found - {""}
