"""Who may ask a server of ours, and what a page of ours may do in a browser.

On the loopback anyone on this machine may, but no page of another site: the Host must be the loopback's (against DNS
rebinding), and whatever changes something must come from our own origin. Elsewhere a token is asked for: once in the
address, from then on in a cookie that scripts cannot read. A second token may look and change nothing.
"""

from __future__ import annotations

import hmac
import ipaddress
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from edge_runtime.errors import ConfigError
from edge_runtime.serving.attempts import Attempts

__all__ = [
    "COOKIE",
    "HEADERS",
    "LARGEST_BODY",
    "Access",
    "Refusal",
    "Visitor",
    "check_named_once",
    "check_token",
    "is_loopback",
]

COOKIE = "edge_aae_token"

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Cache-Control": "no-store",
}

LARGEST_BODY = 16 * 1024
"""Of a request: a threshold and a few words."""

SHORTEST_TOKEN = 16
"""Characters of a token that a person chooses: at the attempts that an address has, guessing one takes for ever."""

TOKEN = re.compile(r"[!-~]+")
"""What a header, a cookie and an address carry alike: visible ASCII"""

HOST = re.compile(r"[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]")
"""A name, an IPv4 address, an IPv6 address in brackets"""

Send = Callable[[dict[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[dict[str, Any]]]


class Refusal(Exception):
    """A request that is not answered: status and reason."""

    def __init__(self, status: int, reason: str, *, retry_after_s: int | None = None) -> None:
        """retry_after_s: whole seconds after which it may be asked again."""
        super().__init__(reason)
        self.status = status
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who asks, as records tell it."""

    role: str
    """`operator` (by the token), `viewer` (by the second one), `local` (where none is asked for)"""
    address: str

    @property
    def may_change(self) -> bool:
        """Whether more than looking is theirs."""
        return self.role != "viewer"


def is_loopback(host: str) -> bool:
    """Whether a name or address is this machine's own; 127.0.0.1.example is a name like any other."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_token(token: str, name: str) -> str:
    """A token that a person chose, as given; raises ConfigError for one that is too short or no header can carry."""
    if len(token) < SHORTEST_TOKEN or not TOKEN.fullmatch(token):
        raise ConfigError(
            f"{name} has {len(token)} characters, expected {SHORTEST_TOKEN} or more, visible ASCII without "
            "spaces, such as `openssl rand -base64 24` prints"
        )
    return token


def check_named_once(names: Sequence[str]) -> None:
    """Refuse a request whose headers, by their names in lower case, say twice who is asked or from where."""
    if names.count("host") > 1 or names.count("origin") > 1:
        raise Refusal(400, "expected one Host and one Origin at most")


class Access:
    """Decides for each request, by its headers alone."""

    def __init__(self, host: str, token: str = "", view_token: str = "") -> None:
        """host: that the server is bound to; token: empty where none is asked for; view_token: who has it may look."""
        self._only_loopback = is_loopback(host)
        self._roles = [(given.encode(), role) for given, role in ((token, "operator"), (view_token, "viewer")) if given]
        self._attempts = Attempts()

    def check(
        self, method: str, headers: Mapping[str, str], query_token: str, cookie_token: str, address: str = ""
    ) -> Visitor:
        """Who asks; raises Refusal. headers: names in lower case. address: where from."""
        host = headers.get("host", "")
        name = _host_of(host) if host else ""  # HTTP/1.0 has none
        if self._only_loopback and not is_loopback(name):
            raise Refusal(403, f"the page is served to the loopback, the request is for {host[:80]!r}")
        origin = headers.get("origin")
        if origin is not None and _netloc_of(origin) != host:
            raise Refusal(403, "the request comes from a page of another site")
        if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            raise Refusal(403, "the request comes from a page of another site")
        reads = method in ("GET", "HEAD")
        if not reads and origin is None and "authorization" not in headers:
            raise Refusal(403, "what changes something must come from this page, or with a token")
        if _length_of(headers.get("content-length", "")) > LARGEST_BODY:
            raise Refusal(413, f"expected {LARGEST_BODY} bytes at most")
        bearer = headers.get("authorization", "").removeprefix("Bearer ")
        visitor = self._visitor((query_token, cookie_token, bearer), address)
        if not reads and not visitor.may_change:
            raise Refusal(403, "this token may look, and change nothing; the other one changes")
        return visitor

    def _visitor(self, given: tuple[str, ...], address: str) -> Visitor:
        if not self._roles:
            return Visitor("local", address)
        wait_s = self._attempts.wait_s(address)
        if any(given) and wait_s > 0:
            reason = f"too many wrong tokens came from {address}; try again in {wait_s} s"
            raise Refusal(429, reason, retry_after_s=wait_s)
        for token, role in self._roles:
            if any(hmac.compare_digest(one.encode(), token) for one in given):
                return Visitor(role, address)
        for one in filter(None, given):
            self._attempts.failed(address, one)
        raise Refusal(401, "expected the token: open the address that `edge-aae run` printed")


def _host_of(host: str) -> str:
    """The name in a Host header; raises Refusal for what is none."""
    name, port = (host, "") if host.endswith("]") or ":" not in host else host.rsplit(":", 1)
    if not HOST.fullmatch(name) or (port and not (port.isascii() and port.isdigit() and int(port) < 65536)):
        raise Refusal(400, f"expected a Host such as 10.0.0.5:8080, it is {host[:80]!r}")
    if name.startswith("["):
        try:
            return str(ipaddress.IPv6Address(name[1:-1]))
        except ValueError as error:
            raise Refusal(400, f"expected a Host such as [::1]:8080, it is {host[:80]!r}") from error
    return name.lower()


def _netloc_of(origin: str) -> str:
    """Host and port of an Origin header, empty for `null`; raises Refusal for what is none."""
    try:
        return urlsplit(origin).netloc
    except ValueError as error:
        raise Refusal(400, f"expected an Origin such as http://10.0.0.5:8080, it is {origin[:80]!r}") from error


def _length_of(text: str) -> int:
    if text and not (text.isascii() and text.isdigit() and len(text) < 20):
        raise Refusal(400, f"expected a Content-Length, it is {text[:80]!r}")
    return int(text or 0)
