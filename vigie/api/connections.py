"""Connections with a timeout for slow clients, which uvicorn lacks.

They also send the head of a response together with its body. uvicorn sends the head by itself,
which costs a system call here and wakes the client twice.
"""

from __future__ import annotations

import asyncio
import resource
from enum import Enum, auto
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from vigie.api.problems import http_problem

SLOWEST = 1024
"""Minimum rate at which a client must send or receive, in bytes a second."""
LARGEST_HEAD = 64 * 1024
"""Limit of the request line and headers, in bytes."""
MOST_FILES = 16_384
"""Limit of open files, and so of connections, if the system allows as many."""


class Awaited(Enum):
    """The part of a request that has not been received completely."""

    HEAD = auto()
    BODY = auto()
    NOTHING = auto()


class Connection(HttpToolsProtocol):
    """A uvicorn connection with a timer that runs while the server waits for the client.

    Every ``patience_s`` seconds a client must have completed its request, or have sent ``SLOWEST``
    bytes a second of it. Otherwise the response is 408 (none if one was already sent), and the
    connection closes. The same limits apply to receiving the response and to the idle time before
    the next request.

    For a request that arrives in one piece all this costs one comparison.
    """

    patience_s = 10.0

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.timeout_keep_alive = self.patience_s  # type: ignore[assignment]
        # A client that connects is expected to send a request.
        self._awaited = Awaited.HEAD
        self._head = self._chunk = 0
        self._received = 0
        self._unsent: int | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._refusal = HTTPStatus.BAD_REQUEST, "This is not an HTTP request."

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]
        self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._stop_timer()

    def data_received(self, data: bytes) -> None:
        in_head = self._awaited is Awaited.HEAD
        self._chunk = len(data)
        self._received += self._chunk
        super().data_received(data)
        if self._awaited is Awaited.NOTHING:
            if self._timer is not None and not self.flow.write_paused:
                self._stop_timer()
            if self.cycle.response_complete:
                self._start_keep_alive()
        elif not self.transport.is_closing():
            if self._timer is None:
                self._start_timer()
            self._head = self._head + len(data) if in_head and self._awaited is Awaited.HEAD else 0
            if self._head > LARGEST_HEAD:
                self._refuse(*_head_too_large())

    def on_message_begin(self) -> None:
        self._awaited = Awaited.HEAD
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._awaited = Awaited.BODY
        if self._chunk > LARGEST_HEAD:
            fields = sum(len(name) + len(value) + 4 for name, value in self.headers)
            if len(self.url) + fields > LARGEST_HEAD:
                self._refusal = _head_too_large()
                raise ValueError
        before = self.cycle
        super().on_headers_complete()
        # A response to HEAD has no body with which to send the head.
        if self.cycle is not before and self.scope["method"] != "HEAD":
            self.cycle.transport = JoinedTransport(self.cycle)

    def on_message_complete(self) -> None:
        self._awaited = Awaited.NOTHING
        super().on_message_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unsent = None
        if self._timer is None:
            self._start_timer()

    def _unsupported_upgrade_warning(self) -> None:
        """Log nothing: an unsupported upgrade is ignored, as RFC 9110 allows."""

    def send_400_response(self, msg: str) -> None:
        self._refuse(*self._refusal)

    def _start_timer(self) -> None:
        self._received = 0
        self._timer = self.loop.call_later(self.patience_s, self._on_timer)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_timer(self) -> None:
        """Close the connection if its client is too slow."""
        self._timer = None
        is_fast_enough = self._received >= SLOWEST * self.patience_s
        is_answered = self.cycle is None or self.cycle.response_complete
        if self.flow.write_paused:
            self._check_sending()
        elif self._awaited is Awaited.NOTHING or self.transport.is_closing():
            return
        elif self.flow.read_paused or (self._awaited is Awaited.HEAD and not is_answered):
            # The client waits for the response to an earlier request.
            self._start_timer()
        elif self._awaited is Awaited.BODY and is_answered:
            self.transport.close()
        elif is_fast_enough:
            self._start_timer()
        elif self.headers is None:
            # No request was begun, as by a browser that connects ahead of time.
            self.transport.close()
        else:
            self._refuse(
                HTTPStatus.REQUEST_TIMEOUT,
                f"The request arrived too slowly: less than {SLOWEST} bytes a second "
                f"in {self.patience_s:g} s.",
            )

    def _check_sending(self) -> None:
        unsent, before = self.transport.get_write_buffer_size(), self._unsent
        if before is not None and unsent > before - SLOWEST * self.patience_s:
            self.transport.abort()
            return
        self._unsent = unsent
        self._start_timer()

    def _refuse(self, status: HTTPStatus, detail: str) -> None:
        """Send an error for an incomplete or invalid request, and close the connection."""
        response = http_problem(status, detail, None, {"Connection": "close"})
        lines = [b"HTTP/1.1 %d %s" % (status, status.phrase.encode())]
        lines += [b"%s: %s" % header for header in response.raw_headers]
        self.transport.write(b"\r\n".join([*lines, b"", bytes(response.body)]))
        self.transport.close()

    def _start_keep_alive(self) -> None:
        """Start uvicorn's keep-alive timer if the response preceded the end of the request."""
        self._unset_keepalive_if_required()
        self.timeout_keep_alive_task = self.loop.call_later(
            self.timeout_keep_alive, self.timeout_keep_alive_handler
        )


class JoinedTransport(asyncio.Transport):
    """A transport for one response that sends its head with the first part of its body.

    Parameters
    ----------
    cycle : RequestResponseCycle
        The request and its response.
    """

    def __init__(self, cycle: RequestResponseCycle):
        self._cycle, self._transport = cycle, cycle.transport
        self._head: bytes | None = None

    def write(self, data: Any) -> None:
        if self._head is None and self._cycle.response_started:
            self._head = data
        else:
            # "100 Continue" comes before the head, and must not be delayed.
            self._transport.write(self._head + data if self._head else data)
            self._head = self._head and b""

    def close(self) -> None:
        if self._head:
            self.write(b"")
        self._transport.close()

    def is_closing(self) -> bool:
        return self._transport.is_closing()


def patient_for(seconds: float) -> type[Connection]:
    """Return a class of connections with this ``patience_s``."""

    class Patient(Connection):
        patience_s = seconds

    return Patient


def allow_connections() -> None:
    """Raise the limit of open files to ``MOST_FILES``, or as far as the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _head_too_large() -> tuple[HTTPStatus, str]:
    return (
        HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
        f"The request line and headers have more than {LARGEST_HEAD} bytes.",
    )
