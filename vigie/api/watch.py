"""Every request, from its first byte to the last of its answer: an id, a count, and its time."""

from __future__ import annotations

import logging
import random
import re
from bisect import bisect_left
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from time import perf_counter

from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vigie import logs
from vigie.api.problems import path_of

logger = logging.getLogger("vigie.access")

HEADER = "X-Request-ID"
_NAME = HEADER.lower().encode()
ID = re.compile(rb"[A-Za-z0-9._~:/+=@-]{1,64}")
"""Of these characters none ends a field or moves a cursor, whatever shows the id."""
METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
OTHER, UNMATCHED = "other", "unmatched"
NO_STATUS = "none"
"""Of a request that ended without an answer: the service was stopped, or its client left."""
BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)
"""Upper bounds of the classes into which times are counted, in seconds."""
SEEN = "vigie.seen"
"""Key of the scope with the ``Seen`` of a request."""


class Seen:
    """What is found out about a request on its way.

    Attributes
    ----------
    route : str
        The template of the path that answers, such as ``/api/v1/jobs/{job_id}``.
    """

    __slots__ = ("route",)

    def __init__(self) -> None:
        self.route = UNMATCHED


@dataclass
class Times:
    """How long requests have taken.

    Attributes
    ----------
    by_class : list of int
        How many there are in each class of ``BOUNDS_S``; the last one has no upper bound.
    total_s : float
        Their sum, in seconds.
    """

    by_class: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_S) + 1))
    total_s: float = 0.0


class RequestCounts:
    """Requests by method, route and status; written by the event loop alone."""

    def __init__(self) -> None:
        self._times: dict[tuple[str, str, str], Times] = {}

    def add(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request that has ended."""
        known = method if method in METHODS else OTHER
        kind = known, route, str(status) if status else NO_STATUS
        if (times := self._times.get(kind)) is None:
            times = self._times[kind] = Times()
        times.by_class[bisect_left(BOUNDS_S, seconds)] += 1
        times.total_s += seconds

    def times(self) -> list[tuple[tuple[str, str, str], Times]]:
        """Return the times by method, route and status."""
        return list(self._times.items())


class RequestWatch:
    """Give each request an id, and count it.

    Parameters
    ----------
    app : ASGI application
        The application behind it.
    counts : RequestCounts
        Where it is counted.
    logs_access : bool
        Whether the log has a line for each request.
    """

    def __init__(self, app: ASGIApp, counts: RequestCounts, *, logs_access: bool):
        self.app = app
        self._counts, self._logs_access = counts, logs_access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, status = perf_counter(), 0
        seen = scope[SEEN] = Seen()
        request_id = _sent_id(scope) or new_id()
        header = _NAME, request_id.encode()
        logs.begin(request_id)

        # Not a coroutine, which would cost a percent of a reading's time.
        def watched(message: Message) -> Awaitable[None]:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), header]
            return send(message)

        try:
            await self.app(scope, receive, watched)
        finally:
            seconds = perf_counter() - began
            self._counts.add(scope["method"], seen.route, status, seconds)
            if self._logs_access:
                _log(scope, status, seconds)


def install(app: FastAPI, counts: RequestCounts, *, logs_access: bool) -> None:
    """Watch every request of an application; called last, to be in front of all else."""
    build: Callable[[], ASGIApp] = app.build_middleware_stack
    app.build_middleware_stack = lambda: RequestWatch(  # type: ignore[method-assign]
        build(), counts, logs_access=logs_access
    )


def new_id() -> str:
    """Return an id for a request: 16 hexadecimal digits."""
    return f"{random.getrandbits(64):016x}"


def _sent_id(scope: Scope) -> str | None:
    """Return the id that a client or proxy has given a request; None without a well-formed one."""
    for name, value in scope["headers"]:
        if name == _NAME:
            return value.decode() if ID.fullmatch(value) else None
    return None


def _log(scope: Scope, status: int, seconds: float) -> None:
    method, path = scope["method"], path_of(scope)
    client = scope.get("client")
    logger.info(
        "%s %s %s in %.1f ms from %s",
        *(method, path, status or "without an answer", 1000.0 * seconds),
        client[0] if client else "unknown",
        extra={"method": method, "path": path, "status": status, "duration_s": round(seconds, 6)},
    )
