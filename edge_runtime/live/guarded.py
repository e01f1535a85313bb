"""What every page of ours has in common: who may ask, headers on every answer, errors as JSON, bounded bodies."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from edge_runtime.errors import EdgeAaeError
from edge_runtime.live.access import COOKIE, HEADERS, LARGEST_BODY, Access, Refusal

__all__ = ["GuardedPage"]

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
