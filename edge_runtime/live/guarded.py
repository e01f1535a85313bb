"""What every page of ours has in common: who may ask, headers, errors as JSON, bounded bodies, socket and address."""

from __future__ import annotations

import json
import socket
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from edge_runtime.errors import EdgeAaeError
from edge_runtime.live.access import COOKIE, HEADERS, LARGEST_BODY, Access, Refusal, is_loopback

__all__ = ["ASSETS", "SHARED_FILES", "GuardedPage", "address_of", "bound"]

ASSETS = Path(__file__).parent / "assets"
SHARED_FILES = {
    "/live.css": (ASSETS / "live.css", "text/css; charset=utf-8"),
    "/page.js": (ASSETS / "page.js", "text/javascript; charset=utf-8"),
}
"""Of every page: path -> file and content type."""

A_MONTH_S = 30 * 86400


class GuardedPage(ABC):
    """An ASGI application; what is asked for is answered by `answer`, of which each page has its own."""

    def __init__(self, access: Access, files: dict[str, tuple[Path, str]]) -> None:
        """files: path -> file and content type: the only files that are served."""
        self.access, self.files = access, files

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """One request."""
        if scope["type"] != "http":
            return
        from starlette.requests import Request
        from starlette.responses import JSONResponse, Response

        request = Request(scope, receive)
        try:
            token = request.query_params.get("token", "")
            self.access.check(request.method, dict(request.headers.items()), token, request.cookies.get(COOKIE, ""))
            path, reads = request.url.path, request.method in ("GET", "HEAD")
            answer: Any
            if token and path == "/":
                # Out of the address bar, and of every log on the way, into a cookie that scripts cannot read.
                answer = Response(status_code=303, headers={"Location": "/"})
                answer.set_cookie(COOKIE, token, httponly=True, samesite="strict", max_age=A_MONTH_S)
            elif reads and path in self.files:
                file, kind = self.files[path]
                answer = Response(file.read_bytes(), media_type=kind)
            else:
                answer = await self.answer(request)
        except Refusal as refusal:
            answer = JSONResponse({"error": str(refusal)}, status_code=refusal.status)
        except EdgeAaeError as error:
            answer = JSONResponse({"error": str(error)}, status_code=400)
        for name, value in HEADERS.items():
            answer.headers[name] = value
        await answer(scope, receive, send)

    @abstractmethod
    async def answer(self, request: Any) -> Any:
        """The answer to a request that may be asked; raises Refusal and EdgeAaeError."""

    @staticmethod
    async def asked(request: Any) -> dict[str, Any]:
        """The JSON object that a request brings; raises Refusal."""
        content = b""
        async for chunk in request.stream():
            content += chunk
            if len(content) > LARGEST_BODY:
                raise Refusal(413, f"expected {LARGEST_BODY} bytes at most")
        try:
            asked = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise Refusal(400, f"expected JSON: {error}") from error
        if not isinstance(asked, dict):
            raise Refusal(400, "expected a JSON object")
        return asked


def bound(host: str, port: int) -> socket.socket:
    """A socket that listens; raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port))
    listener.listen(128)  # who is told the address may connect at once
    return listener


def address_of(host: str, listener: socket.socket, token: str) -> str:
    """Where a browser finds it, token included."""
    port = listener.getsockname()[1]
    shown = f"[{host}]" if ":" in host else host
    if not is_loopback(host) and host in ("0.0.0.0", "::"):  # every interface: some name has to stand for it
        shown = socket.gethostname()
    return f"http://{shown}:{port}/" + (f"?token={token}" if token else "")
