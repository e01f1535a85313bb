"""What every page of ours has in common: who may ask, deadlines, headers, errors as JSON, bounded bodies."""

from __future__ import annotations

import asyncio
import json
import logging
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from edge_runtime.errors import EdgeAaeError
from edge_runtime.extras import require
from edge_runtime.serving.access import COOKIE, HEADERS, LARGEST_BODY, Access, Refusal, Visitor, check_named_once
from edge_runtime.serving.doorkeeper import BACKLOG, Doorkeeper

__all__ = ["ASSETS", "SHARED_FILES", "GuardedPage", "server_of"]

logger = logging.getLogger(__name__)

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
        self.door = Doorkeeper()

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """One request."""
        if scope["type"] != "http":
            return
        key = tuple(scope.get("client") or ())
        self.door.has_header(key)
        answer = await self._answered(scope, receive, key)
        for name, value in HEADERS.items():
            answer.headers[name] = value

        whole = False

        async def told(message: Any) -> None:
            nonlocal whole
            await send(message)
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                whole = True
                self.door.answered(key)

        try:
            await answer(scope, receive, told)
        finally:
            if not whole:  # what is left of it is not waited for any longer than for a request
                self.door.answered(key)

    async def _answered(self, scope: dict[str, Any], receive: Any, key: Any) -> Any:
        """The answer, whatever is asked; nothing that is asked raises."""
        from starlette.requests import Request
        from starlette.responses import JSONResponse

        request = Request(scope, receive)
        try:
            return await self._allowed(request, key)
        except Refusal as refusal:
            answer = JSONResponse({"error": str(refusal)}, status_code=refusal.status)
            if refusal.retry_after_s is not None:
                answer.headers["Retry-After"] = str(refusal.retry_after_s)
            return answer
        except EdgeAaeError as error:
            return JSONResponse({"error": str(error)}, status_code=400)
        except Exception as error:  # whatever a request does, it is answered, and the page goes on
            logger.error("%s %s failed: %r", request.method, scope["path"][:80], error)
            logger.debug("raised here", exc_info=error)
            return JSONResponse({"error": "the page failed at this request"}, status_code=500)

    async def _allowed(self, request: Any, key: Any) -> Any:
        from starlette.responses import Response

        check_named_once(request.headers.keys())
        token = request.query_params.get("token", "")
        address = key[0] if key else ""
        visitor = self.access.check(
            request.method, dict(request.headers.items()), token, request.cookies.get(COOKIE, ""), address
        )
        # Not of request.url, which is made of the Host header too.
        path, reads = request.scope["path"], request.method in ("GET", "HEAD")
        asked = {} if reads else await self._asked(request)
        if not self.door.let_in(key, streams=reads and self.streams(path)):
            raise Refusal(503, f"{self.door.limits.answering} requests are being answered already")
        if token and path == "/":
            # Out of the address bar, and of every log on the way, into a cookie that scripts cannot read.
            answer = Response(status_code=303, headers={"Location": "/"})
            if visitor.role != "local":  # else nobody has looked at it, and it may be anything
                answer.set_cookie(COOKIE, token, httponly=True, samesite="strict", max_age=A_MONTH_S)
            return answer
        if reads and path in self.files:
            file, kind = self.files[path]
            return Response(file.read_bytes(), media_type=kind)
        return await self.answer(request, asked, visitor)

    def streams(self, path: str) -> bool:
        """Whether the answer to a path has deadlines of its own, for it has no end, or is large."""
        return False

    @abstractmethod
    async def answer(self, request: Any, asked: dict[str, Any], visitor: Visitor) -> Any:
        """The answer to a request that may be asked; raises Refusal and EdgeAaeError.

        asked: the JSON object that it brings, empty for GET and HEAD.
        """

    @staticmethod
    async def _asked(request: Any) -> dict[str, Any]:
        """The JSON object that a request brings; raises Refusal."""
        from starlette.requests import ClientDisconnect

        content = b""
        try:
            async for chunk in request.stream():
                content += chunk
                if len(content) > LARGEST_BODY:
                    raise Refusal(413, f"expected {LARGEST_BODY} bytes at most")
        except ClientDisconnect as error:
            raise Refusal(400, "expected the whole of the request") from error
        try:
            asked = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise Refusal(400, f"expected JSON: {error}") from error
        if not isinstance(asked, dict):
            raise Refusal(400, "expected a JSON object")
        return asked


def server_of(page: GuardedPage) -> Any:
    """A uvicorn server of a page, whose connections are the page's doorkeeper's. Raises MissingExtraError."""
    uvicorn = require("uvicorn", extra="dashboard", purpose="pages")
    http = require("uvicorn.protocols.http.h11_impl", extra="dashboard", purpose="pages")
    door = page.door

    class Guarded(http.H11Protocol):  # type: ignore[name-defined, misc]
        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(transport)
            peer = transport.get_extra_info("peername") or ("", 0)
            self._key = (str(peer[0]), int(peer[1]))
            door.arrived(self._key, self._key[0], transport.abort)

        def connection_lost(self, exc: Exception | None) -> None:
            door.left(self._key)
            super().connection_lost(exc)

    config = uvicorn.Config(
        page, http=Guarded, ws="none", loop="asyncio", log_config=None, log_level="critical", access_log=False,
        server_header=False, proxy_headers=False, lifespan="off", backlog=BACKLOG,
        h11_max_incomplete_event_size=LARGEST_BODY, timeout_keep_alive=int(door.limits.head_s),
        timeout_graceful_shutdown=1,
    )  # fmt: skip
    return uvicorn.Server(config)
