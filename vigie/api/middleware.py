"""ASGI middleware: a limit on bodies, HEAD requests, and a root path."""

from __future__ import annotations

from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MOST_AT_ONCE = 8
"""Limit of the memory for request bodies, in bodies of the largest size."""


class BodyLimit:
    """Limit the size of each request body, and of all bodies in memory together.

    Parameters
    ----------
    app : ASGI application
        The application behind it.
    max_bytes : int
        The largest body allowed; all together may have ``MOST_AT_ONCE`` times as much.
    """

    def __init__(self, app: ASGIApp, max_bytes: int):
        self.app = app
        self.max_bytes = max_bytes
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        received = -1

        async def limited() -> Message:
            nonlocal received
            if received < 0:
                received = 0
                # Before the first ``receive``, so that "Expect: 100-continue" gets a 413.
                if _content_length(scope) > self.max_bytes:
                    raise self._too_large()
            message = await receive()
            n_bytes = len(message.get("body", b""))
            received += n_bytes
            self._held += n_bytes
            if received > self.max_bytes:
                raise self._too_large()
            if self._held > MOST_AT_ONCE * self.max_bytes:
                raise HTTPException(
                    HTTPStatus.SERVICE_UNAVAILABLE,
                    "Too much data arrives at once.",
                    {"Retry-After": "5"},
                )
            return message

        try:
            await self.app(scope, limited, send)
        finally:
            self._held -= max(received, 0)

    def _too_large(self) -> HTTPException:
        return HTTPException(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            f"The body is larger than {self.max_bytes} bytes.",
        )


def _content_length(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length" and value.strip().isdigit():
            return int(value)
    return 0


class HeadAsGet:
    """Answer HEAD as GET, without the body (RFC 9110, 9.1 and 9.3.2).

    Parameters
    ----------
    app : ASGI application
        The application behind it.
    """

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self.app(scope, receive, send)
            return

        async def without_body(message: Message) -> None:
            if message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        await self.app({**scope, "method": "GET"}, receive, without_body)


class RootPath:
    """Serve the application below a root path, whether or not the proxy strips it.

    Parameters
    ----------
    app : ASGI application
        The application behind it.
    root_path : str
        The path, such as ``/vigie``.
    """

    def __init__(self, app: ASGIApp, root_path: str):
        self.app = app
        self.root_path = root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            path = scope["path"]
            if not f"{path}/".startswith(f"{self.root_path}/"):
                path = self.root_path + path
            scope = {**scope, "root_path": self.root_path, "path": path}
        await self.app(scope, receive, send)
