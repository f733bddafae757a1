"""Headers that tell a browser what it must not do with an answer.

References
----------
OWASP, REST Security Cheat Sheet and HTTP Security Response Headers Cheat Sheet.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

ALWAYS = {
    # The body is what Content-Type says.
    "X-Content-Type-Options": "nosniff",
    # Addresses may name machines.
    "Referrer-Policy": "no-referrer",
    # A page brings its own; anything else is data, and neither runs nor is shown in a frame.
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    # Readings stay in no cache. Files with a version of their own may.
    "Cache-Control": "no-store",
}
OVER_TLS = {"Strict-Transport-Security": "max-age=31536000"}
VERSIONED = b"etag"


class SecurityHeaders:
    """Add the headers to every answer; what an answer says itself stays.

    Parameters
    ----------
    app : ASGI application
        The application behind it.
    """

    def __init__(self, app: ASGIApp):
        self.app = app
        self._always, self._over_tls = _encoded(ALWAYS), _encoded(ALWAYS | OVER_TLS)
        self._names = {name for name, _ in self._over_tls}

    # Functions that hand on what is to be awaited: a coroutine for each message would cost another
    # percent of a reading's time.
    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] != "http":
            return self.app(scope, receive, send)

        def with_headers(message: Message) -> Awaitable[None]:
            if message["type"] == "http.response.start":
                headers = message.get("headers", ())
                own = {name for name, _ in headers}
                if VERSIONED in own:
                    own.add(b"cache-control")
                added = self._over_tls if scope["scheme"] == "https" else self._always
                if not own.isdisjoint(self._names):
                    added = [header for header in added if header[0] not in own]
                message["headers"] = [*headers, *added]
            return send(message)

        return self.app(scope, receive, with_headers)


def install(app: FastAPI) -> None:
    """Add the headers to every answer of an application, also to those of failures.

    Middleware that is added to it is behind the one that answers 500, so these go in front.
    """
    build: Callable[[], ASGIApp] = app.build_middleware_stack
    app.build_middleware_stack = lambda: SecurityHeaders(build())  # type: ignore[method-assign]


def _encoded(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode(), value.encode()) for name, value in headers.items()]
