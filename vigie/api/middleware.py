"""ASGI middleware: the host of a request, a limit on bodies, HEAD requests, and a root path."""

from __future__ import annotations

import re
from collections.abc import Collection
from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vigie.api import problems
from vigie.config import is_loopback_address

MOST_AT_ONCE = 8
"""Limit of the memory for request bodies, in bodies of the largest size."""

HOST = re.compile(rb"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~!$&'()*+,;=%-]*)(?::[0-9]*)?")
"""A Host header's value (RFC 9112, 3.2): a name or address, and perhaps a port."""
LOOPBACK_NAME = "localhost"
MOST_KNOWN = 100
"""Values of Host that are remembered as valid."""
SAFE = ("GET", "HEAD", "OPTIONS")
"""Methods that change nothing."""


class HostCheck:
    """Refuse a request without one valid Host, or for a host that this service is not.

    A page in a browser can have a name of its own lead to 127.0.0.1, and would then read what the
    service answers (DNS rebinding). The browser sends that name as Host. A service that only its
    own machine reaches therefore answers to loopback names and addresses, and to ``allowed``.

    Parameters
    ----------
    app : ASGI application
        The application behind it.
    host : str
        The address that the service listens on.
    allowed : collection of str
        Further names to which it answers. ``*`` is any. If given, a service on another address
        answers to these and loopback ones only.
    """

    def __init__(self, app: ASGIApp, host: str, allowed: Collection[str] = ()):
        self.app = app
        self._is_open = "*" in allowed or not (allowed or _is_loopback(host))
        self._allowed = {name.lower().rstrip(".") for name in allowed}
        self._known: set[bytes] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            hosts = [value for name, value in scope["headers"] if name == b"host"]
            # Few clients send many hosts, and nearly every request has the last one's.
            if len(hosts) != 1 or hosts[0] not in self._known:
                try:
                    self._check(hosts, scope["http_version"])
                except HTTPException as error:
                    response = problems.http_problem(
                        HTTPStatus(error.status_code), error.detail, problems.path_of(scope)
                    )
                    await response(scope, receive, send)
                    return
        await self.app(scope, receive, send)

    def _check(self, hosts: list[bytes], version: str) -> None:
        if len(hosts) != 1:
            if hosts or version == "1.1":
                raise HTTPException(
                    HTTPStatus.BAD_REQUEST, f"One Host header is expected, and not {len(hosts)}."
                )
            return
        if not (parts := HOST.fullmatch(hosts[0])):
            raise HTTPException(HTTPStatus.BAD_REQUEST, "The Host header is no name or address.")
        name = parts[1].decode("ascii").lower().rstrip(".")
        if not (self._is_open or name in self._allowed or _is_loopback(name)):
            raise HTTPException(
                HTTPStatus.MISDIRECTED_REQUEST, f"The service does not answer to {name[:100]!r}."
            )
        if len(self._known) < MOST_KNOWN:
            self._known.add(hosts[0])


class OriginCheck:
    """Refuse what a page of another site lets a browser send.

    A browser sends a form or a file across sites without asking first, so a page anywhere could
    start trainings of a service that its visitor's machine reaches. Programs that are no browsers
    send neither header.

    Parameters
    ----------
    app : ASGI application
        The application behind it.
    trusted : collection of str
        Origins whose pages may send.

    References
    ----------
    OWASP, Cross-Site Request Forgery Prevention Cheat Sheet: Fetch Metadata headers.
    W3C, Fetch Metadata Request Headers.
    """

    def __init__(self, app: ASGIApp, trusted: Collection[str] = ()):
        self.app = app
        self._trusted = {origin.encode() for origin in trusted}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] not in SAFE and self._is_foreign(scope):
            response = problems.http_problem(
                HTTPStatus.FORBIDDEN,
                "A page of another site may not send this.",
                problems.path_of(scope),
                remedy="If that page is yours, add its origin to VIGIE_CORS_ORIGINS.",
            )
            await response(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    def _is_foreign(self, scope: Scope) -> bool:
        site = origin = host = None
        for name, value in scope["headers"]:
            if name == b"sec-fetch-site":
                site = value
            elif name == b"origin":
                origin = value
            elif name == b"host":
                host = value
        if origin in self._trusted or (site is None and origin is None):
            return False
        if site is not None:
            return site not in (b"same-origin", b"none")
        return origin is None or origin.partition(b"://")[2] != host


def _is_loopback(name: str) -> bool:
    is_name = name == LOOPBACK_NAME or name.endswith(f".{LOOPBACK_NAME}")
    return is_name or is_loopback_address(name.strip("[]"))


IS_HEAD = "vigie.is_head"
"""Key of the scope of a HEAD request: a route whose body never ends need not begin it."""


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

        await self.app({**scope, "method": "GET", IS_HEAD: True}, receive, without_body)


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
