"""Between the server and the routes: bodies of a bounded size, HEAD as GET, a path in front."""

from __future__ import annotations

from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MOST_AT_ONCE = 8
"""Bodies of the largest size, or as much in smaller ones, that are held at a time."""


class BodyLimit:
    """Refuse request bodies over a size, announced or not, and more of them than can be held.

    Parameters
    ----------
    app : ASGI application
        What to guard.
    max_bytes : int
        The largest body allowed; of such, ``MOST_AT_ONCE`` are held at a time.
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
                # Who asks before sending a large body is told before it is sent.
                if _announced(scope) > self.max_bytes:
                    raise self._too_large()
            message = await receive()
            came = len(message.get("body", b""))
            received += came
            self._held += came
            if received > self.max_bytes:
                raise self._too_large()
            if self._held > MOST_AT_ONCE * self.max_bytes:
                raise HTTPException(
                    HTTPStatus.SERVICE_UNAVAILABLE,
                    "More comes in at once than can be held.",
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


def _announced(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length" and value.strip().isdigit():
            return int(value)
    return 0


class HeadAsGet:
    """Answer HEAD as GET, without the body (RFC 9110, 9.1 and 9.3.2).

    Parameters
    ----------
    app : ASGI application
        What answers.
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


class Below:
    """Answer below a path, whether or not a proxy has left it in the address.

    Parameters
    ----------
    app : ASGI application
        What answers.
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
