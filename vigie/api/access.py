"""Who may do what: an API key with a scope, in front of every route.

A route declares its scope where it is declared itself::

    @router.post("/detect")
    @requires(Scope.DETECT)
    async def detect(request: Request) -> Response: ...

One middleware demands it, so that routes with and without FastAPI's dependencies, pages and mounted
files are all behind it. A route that declares none needs the scope ``admin``.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from http import HTTPStatus
from ipaddress import ip_address
from typing import Any, TypeVar

from fastapi import FastAPI, Request
from fastapi.routing import RouteContext, iter_route_contexts
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as Connection

from vigie.api.keyring import Keyring
from vigie.api.problems import http_problem, path_of
from vigie.api.rate import RateLimit
from vigie.api.watch import SEEN, UNMATCHED
from vigie.config import Settings
from vigie.errors import HistoryError, KeyRefusedError
from vigie.keys import ApiKey, Scope

logger = logging.getLogger(__name__)

Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])

DECLARED, PRESENTED = "__vigie_scope__", "vigie.key"
CHALLENGE = 'Bearer realm="vigie"'
CREATE = "`vigie keys create NAME --scope {scope}` makes one on the service's machine."
SEND = "Send it as `Authorization: Bearer vigie_...`, or as `X-API-Key`."
LOG_EVERY_S = 60.0
"""Least time between two lines about refused requests, in seconds."""
FORWARDED = (b"forwarded", b"via", b"cf-connecting-ip", b"true-client-ip")
"""Headers of proxies, beside ``X-Forwarded-*``, ``X-Real-IP`` and ``X-Client-IP``."""
RECORDED = (Scope.OPERATE, Scope.TRAIN, Scope.ADMIN)
"""Scopes whose requests the log names, with the key."""


def requires(scope: Scope | None) -> Callable[[Endpoint], Endpoint]:
    """Declare the scope that an endpoint, or a mounted application, needs; None for no key."""

    def declare(endpoint: Endpoint) -> Endpoint:
        setattr(endpoint, DECLARED, scope)
        return endpoint

    return declare


def required(endpoint: object) -> Scope | None:
    """Return the scope that an endpoint needs; ``ADMIN`` if it declares none."""
    scope: Scope | None = getattr(endpoint, DECLARED, Scope.ADMIN)
    return scope


def endpoints(app: FastAPI) -> Iterator[tuple[RouteContext, Callable[..., Any]]]:
    """Yield each route of an application, with its endpoint or what is mounted there."""
    for context in iter_route_contexts(app.routes):
        yield context, context.endpoint or context.app


async def is_still_let_in(request: Request) -> bool:
    """Return whether the key of a request is still valid, for an answer that takes long."""
    if PRESENTED not in request.scope:
        return True
    keyring, sent, _ = request.scope[PRESENTED]
    try:
        await keyring.verified(sent)
    except (KeyRefusedError, HistoryError):
        return False
    return True


def asker(request: Request) -> str | None:
    """Return who asks: the name of the key, or, where none was needed, the client's address.

    None if a proxy forwards something that is no address.
    """
    if PRESENTED in request.scope:
        name: str = request.scope[PRESENTED][2]
        return name
    try:
        return str(ip_address(_client(request.scope)))
    except ValueError:
        return None


class KeyCheck:
    """Demand an API key with the scope of the route, and limit the rate of each client.

    Parameters
    ----------
    app : ASGI application
        The application behind it.
    keyring : Keyring
        Verifies keys.
    settings : Settings
        Who needs a key, and the rate.
    """

    def __init__(self, app: ASGIApp, keyring: Keyring, settings: Settings):
        self.app = app
        self._keyring = keyring
        self._demands_keys, self._is_off = settings.demands_keys, settings.auth == "off"
        self._rate = RateLimit(*settings.rate) if settings.rate else None
        self._known: dict[tuple[str, str, str], tuple[str, Scope | None]] = {}
        self._n_refused, self._logged_at = 0, -math.inf

    async def __call__(self, scope: Connection, receive: Receive, send: Send) -> None:
        # Apart from HTTP, the server sends only its own start and end.
        if scope["type"] == "http" and (refusal := await self._refusal(scope)):
            await refusal(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def _refusal(self, scope: Connection) -> Response | None:
        """Return the answer to a request that is refused; None if it is not."""
        is_routed, needed = self._needed(scope)
        if is_routed and needed is None:
            return None
        if self._is_off:
            return self._refused_for_rate(scope, _client(scope))
        sent, is_forwarded = _presented(scope)
        if not (self._demands_keys or is_forwarded or not _is_loopback(scope)):
            return self._refused_for_rate(scope, _client(scope))
        if not sent:
            remedy = f"{CREATE.format(scope=needed or Scope.READ)} {SEND}"
            return self._refused(scope, "An API key is needed.", remedy)
        try:
            key = self._keyring.recently_verified(sent) or await self._keyring.verified(sent)
        except KeyRefusedError as error:
            return self._refused(scope, error.message, SEND, error="invalid_token")
        except HistoryError:
            return http_problem(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "API keys cannot be verified now.",
                path_of(scope),
                {"Retry-After": "5"},
            )
        if (refusal := self._refused_for_rate(scope, key.id)) is not None:
            return refusal
        if needed is not None and not key.allows(needed):
            return self._without_scope(scope, key, needed)
        scope[PRESENTED] = self._keyring, sent, key.name
        if needed in RECORDED:
            logger.info(
                "%s %s by API key %s (%s) from %s.",
                *(scope["method"], scope["path"], key.name, key.id, _client(scope)),
            )
        return None

    def _needed(self, scope: Connection) -> tuple[bool, Scope | None]:
        """Return whether a route answers the request, and the scope that it needs."""
        place = scope["method"], scope["path"], scope.get("root_path", "")
        if (known := self._known.get(place)) is not None:
            scope[SEEN].route, needed = known
            return True, needed
        # In the order of the router, and by its own comparison: what it selects is what is asked.
        for route, _ in endpoints(scope["app"]):
            match, selected = route.matches(scope)
            if match is Match.FULL:
                needed = required(selected["endpoint"])
                scope[SEEN].route = route.path or UNMATCHED
                # Not those with parameters, of which there are any number.
                if route.path and scope["path"] == place[2] + route.path:
                    self._known[place] = route.path, needed
                return True, needed
        # It will be 404 or 405; a stranger does not learn which.
        return False, None

    def _refused_for_rate(self, scope: Connection, client: str) -> Response | None:
        if self._rate is None or not (wait_s := self._rate.wait_s(client, time.monotonic())):
            return None
        return http_problem(
            HTTPStatus.TOO_MANY_REQUESTS,
            "Requests come faster than VIGIE_RATE_LIMIT allows.",
            path_of(scope),
            {"Retry-After": str(math.ceil(wait_s))},
            "Send several readings at once (/detect/batch), or wait as Retry-After says.",
        )

    def _refused(
        self, scope: Connection, detail: str, remedy: str, error: str | None = None
    ) -> Response:
        self._count_refused(scope, detail)
        challenge = f'{CHALLENGE}, error="{error}"' if error else CHALLENGE
        return http_problem(
            HTTPStatus.UNAUTHORIZED,
            detail,
            path_of(scope),
            {"WWW-Authenticate": challenge},
            remedy,
        )

    def _without_scope(self, scope: Connection, key: ApiKey, needed: Scope) -> Response:
        detail = f"The API key {key.name} ({key.id}) has not the scope {needed}."
        self._count_refused(scope, detail)
        return http_problem(
            HTTPStatus.FORBIDDEN,
            detail,
            path_of(scope),
            {"WWW-Authenticate": f'{CHALLENGE}, error="insufficient_scope", scope="{needed}"'},
            CREATE.format(scope=needed),
        )

    def _count_refused(self, scope: Connection, why: str) -> None:
        """Log the first refused request, and then a line a minute at most."""
        self._n_refused += 1
        if (now := time.monotonic()) - self._logged_at < LOG_EVERY_S:
            return
        logger.warning(
            "Refused %d request(s) without a valid API key; the last from %s: %s",
            *(self._n_refused, _client(scope), why),
        )
        self._n_refused, self._logged_at = 0, now


def _presented(scope: Connection) -> tuple[str | None, bool]:
    """Return the key that a request sends, and whether a proxy has passed the request on."""
    sent, is_forwarded = None, False
    for name, value in scope["headers"]:
        if name == b"authorization":
            scheme, _, token = value.partition(b" ")
            sent = token.strip().decode("latin-1") if scheme.lower() == b"bearer" else sent
        elif name[:2] == b"x-":
            if name == b"x-api-key":
                sent = sent or value.decode("latin-1")
            elif name in (b"x-real-ip", b"x-client-ip") or name.startswith(b"x-forwarded-"):
                is_forwarded = True
        elif name in FORWARDED:
            is_forwarded = True
    return sent, is_forwarded


def _is_loopback(scope: Connection) -> bool:
    host = _client(scope)
    return host == "::1" or host.startswith("127.")


def _client(scope: Connection) -> str:
    """Return the address of the client; without one, as behind a socket file, a word."""
    address: tuple[str, int] | None = scope.get("client")
    return address[0] if address else "unknown"
