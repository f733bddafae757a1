"""Bounds on what a tracking server may answer: size, time, nesting, and no redirects.

``requests`` limits the time between two bytes and nothing else: a server that sends a byte a second
would hold a thread for ever, and one that never ends its answer would fill the memory.
"""

from __future__ import annotations

import json
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError

from vigie.config import masked
from vigie.printable import printable

MOST_ANSWER = 16 * 1024 * 1024
"""Largest answer that is kept in memory, in bytes; a thousand versions have four million."""
CHUNK = 64 * 1024
MOST_NESTED = 50
"""Deepest nesting of JSON; MLflow's has less than ten levels."""
SURROGATE = re.compile("[\ud800-\udfff]")

QUIET_AFTER_INTERRUPT_S = 5.0
"""How long no other request begins after ``interrupt``, in seconds."""

_current: ContextVar[Deadline | None] = ContextVar("deadline", default=None)
_under_way: dict[int, Callable[[], None]] = {}
_lock = threading.Lock()
_interrupted_at = float("-inf")


class BadAnswer(requests.RequestException):
    """An answer beyond the bounds."""


class Deadline:
    """The time until requests must have been answered; then their connections are shut down."""

    def __init__(self) -> None:
        self._sockets: list[socket.socket] = []
        self._lock = threading.Lock()
        self.is_over = False

    def watch(self, connection: socket.socket) -> None:
        """Shut a connection down when time is over."""
        # A copy, since TLS detaches the original.
        copy = socket.socket(fileno=os.dup(connection.fileno()))
        with self._lock:
            self._sockets.append(copy)
        if self.is_over:
            self.end()

    def end(self) -> None:
        """Shut all connections down, so that who waits for them fails."""
        self.is_over = True
        with self._lock:
            for connection in self._sockets:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Forget the connections."""
        with self._lock:
            for connection in self._sockets:
                connection.close()
            self._sockets.clear()


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Limit the time of all requests in a block together.

    Raises
    ------
    requests.Timeout
        If it is over.
    """
    deadline = Deadline()
    outer = _current.get()
    timer = threading.Timer(seconds, deadline.end)
    timer.daemon = True
    token = _current.set(deadline)
    timer.start()
    try:
        with ended_by_interrupt(deadline.end):
            yield
        if deadline.is_over:
            # Headers that were cut off read like whole ones.
            raise requests.Timeout("timed out")
    except requests.RequestException as error:
        is_over = deadline.is_over or (outer is not None and outer.is_over)
        if is_over and not isinstance(error, requests.Timeout):
            raise requests.Timeout("timed out") from error
        raise
    finally:
        timer.cancel()
        _current.reset(token)
        deadline.close()


@contextmanager
def ended_by_interrupt(end: Callable[[], None]) -> Iterator[None]:
    """Call ``end`` if ``interrupt`` is called during a block, or was a moment ago."""
    with _lock:
        _under_way[id(end)] = end
        is_ending = time.monotonic() < _interrupted_at + QUIET_AFTER_INTERRUPT_S
    try:
        if is_ending:
            end()
        yield
    finally:
        with _lock:
            _under_way.pop(id(end), None)


def interrupt() -> None:
    """End all requests of this process that are under way, since it is about to end."""
    global _interrupted_at
    with _lock:
        _interrupted_at = time.monotonic()
        ends = list(_under_way.values())
    for end in ends:
        end()


@contextmanager
def session_for(seconds: float) -> Iterator[requests.Session]:
    """Yield a session within the bounds, whose requests together may take this long."""
    with within(seconds), requests.Session() as session:
        adapter = BoundedAdapter()
        session.mount("https://", adapter)
        session.mount("http://", adapter)
        yield session


class BoundedAdapter(HTTPAdapter):
    """An adapter that follows no redirect and reads no answer of more than ``MOST_ANSWER`` bytes.

    It belongs into a ``within`` block.
    """

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = POOLS

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(*args, **kwargs)
        manager.pool_classes_by_scheme = POOLS
        return manager

    def send(
        self, request: requests.PreparedRequest, stream: bool = False, *args: Any, **kwargs: Any
    ) -> requests.Response:
        request.headers["Accept-Encoding"] = "identity"
        response = super().send(request, stream, *args, **kwargs)
        try:
            check_head(response)
            if not stream:
                read_all(response)
        except requests.RequestException:
            response.close()
            raise
        return response


def check_head(response: requests.Response) -> None:
    """Raise if a response redirects, or is compressed, though that was not asked for."""
    if response.is_redirect:
        where = response.headers["Location"][:200]
        raise BadAnswer(f"it redirects to {masked(printable(where))}")
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise BadAnswer("its answer is compressed, though that was not asked for")


def read_all(response: requests.Response) -> None:
    """Read the body of a response into memory, as far as it is not too large."""
    body = bytearray()
    try:
        for chunk in response.raw.stream(CHUNK):
            body += chunk
            if len(body) > MOST_ANSWER:
                break
    except (HTTPError, OSError) as error:
        raise requests.ConnectionError(error) from error
    if len(body) > MOST_ANSWER:
        raise BadAnswer(f"its answer has more than {MOST_ANSWER} bytes")
    response._content = bytes(body)
    response._content_consumed = True  # type: ignore[attr-defined]
    response.raw.release_conn()


def parsed(data: bytes) -> Any:
    """Return JSON as Python objects.

    Raises
    ------
    BadAnswer
        If it is none, is nested too deeply, or holds text that is not Unicode.
    """
    try:
        answer = json.loads(data)
    except RecursionError as error:
        raise BadAnswer("its answer is nested too deeply") from error
    except ValueError as error:
        raise BadAnswer("its answer is no JSON") from error
    left: list[tuple[Any, int]] = [(answer, 0)]
    while left:
        value, depth = left.pop()
        if depth > MOST_NESTED:
            raise BadAnswer("its answer is nested too deeply")
        if isinstance(value, dict):
            left += [(item, depth + 1) for pair in value.items() for item in pair]
        elif isinstance(value, list):
            left += [(item, depth + 1) for item in value]
        elif isinstance(value, str) and SURROGATE.search(value):
            raise BadAnswer("its answer holds text that is not Unicode")
    return answer


def _watch(connection: socket.socket | None) -> None:
    deadline = _current.get()
    if deadline is not None and connection is not None:
        deadline.watch(connection)


class _Watched(HTTPConnection):
    """A connection that is shut down when the time of its request is over."""

    def _new_conn(self) -> socket.socket:
        connection = super()._new_conn()
        _watch(connection)
        return connection

    def request(self, *args: Any, **kwargs: Any) -> None:
        _watch(self.sock)
        super().request(*args, **kwargs)


class _WatchedOverTls(_Watched, HTTPSConnection):
    """The same over TLS."""


class _HttpPool(HTTPConnectionPool):
    ConnectionCls = _Watched


class _HttpsPool(HTTPSConnectionPool):
    ConnectionCls = _WatchedOverTls


POOLS = {"http": _HttpPool, "https": _HttpsPool}
