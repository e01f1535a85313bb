"""Who may look at the live page, and what a page of ours may do in a browser.

On the loopback anyone on this machine may, but no page of another site: the Host must be the loopback's (against DNS
rebinding), and whatever changes something must come from our own origin. Elsewhere a token is asked for: once in the
address, from then on in a cookie that scripts cannot read.
"""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

__all__ = ["COOKIE", "HEADERS", "Access", "Refusal", "is_loopback"]

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

Send = Callable[[dict[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[dict[str, Any]]]


class Refusal(Exception):
    """A request that is not answered: status and reason."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


def is_loopback(host: str) -> bool:
    """Whether a name or address is this machine's own; 127.0.0.1.example is a name like any other."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Access:
    """Decides for each request, by its headers alone."""

    def __init__(self, host: str, token: str) -> None:
        """host: that the server is bound to; token: empty where none is asked for."""
        self._only_loopback = is_loopback(host)
        self._token = token

    def check(self, method: str, headers: Mapping[str, str], query_token: str, cookie_token: str) -> None:
        """Raises Refusal. headers: names in lower case."""
        host = headers.get("host", "")
        if self._only_loopback and not is_loopback(urlsplit(f"//{host}").hostname or ""):
            raise Refusal(403, f"the page is served to the loopback, the request is for {host[:80]!r}")
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != host:
            raise Refusal(403, "the request comes from a page of another site")
        if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            raise Refusal(403, "the request comes from a page of another site")
        if method not in ("GET", "HEAD") and origin is None and "authorization" not in headers:
            raise Refusal(403, "what changes something must come from this page, or with a token")
        if int(headers.get("content-length", "0") or 0) > LARGEST_BODY:
            raise Refusal(413, f"expected {LARGEST_BODY} bytes at most")
        bearer = headers.get("authorization", "").removeprefix("Bearer ")
        if self._token and not any(
            hmac.compare_digest(given.encode(), self._token.encode()) for given in (query_token, cookie_token, bearer)
        ):
            raise Refusal(401, "expected the token: open the address that `edge-aae run` printed")
