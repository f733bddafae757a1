"""Connections with a timeout for slow clients, which uvicorn lacks.

They also answer what uvicorn and httptools get wrong: a request that offers an upgrade, one that
the client sends before it closes its side, and what is no request behind one that is.
"""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Sized
from enum import Enum, auto
from http import HTTPStatus
from typing import Any

import httptools
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from vigie.api.headers import ALWAYS
from vigie.api.problems import http_problem
from vigie.api.watch import HEADER as REQUEST_ID
from vigie.api.watch import new_id

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
        self._running: RequestResponseCycle | None = None
        self._reason = HTTPStatus.BAD_REQUEST, "This is not an HTTP request."
        self._refusal: tuple[HTTPStatus, str] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]
        self.flow = OneByOne(self.transport, self.pipeline)
        self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._abandon()
        super().connection_lost(exc)
        self._stop_timer()

    def eof_received(self) -> bool:  # type: ignore[override]
        """Answer what came completely before the client closed its side (RFC 9112, 9.6)."""
        if self.cycle is None or self.cycle.response_complete:
            return False
        if self._awaited is Awaited.NOTHING:
            self.cycle.keep_alive = False
        elif self._refusal is None:
            self._refuse(HTTPStatus.BAD_REQUEST, "The request ended before it was complete.")
        return True

    def data_received(self, data: bytes) -> None:
        if self._refusal is not None:
            return
        self._unset_keepalive_if_required()
        self._chunk = len(data)
        self._received += self._chunk
        try:
            self._parse(data)
        except httptools.HttpParserError:
            self._refuse(*self._reason)
            return
        if self._awaited is Awaited.NOTHING:
            if self._timer is not None and not self.flow.write_paused:
                self._stop_timer()
            if self.cycle.response_complete:
                self._start_keep_alive()
        elif not self.transport.is_closing():
            if self._timer is None:
                self._start_timer()
            self._head += self._chunk
            if self._awaited is Awaited.HEAD and self._head > LARGEST_HEAD:
                self._refuse(*_head_too_large())

    def on_message_begin(self) -> None:
        self._awaited = Awaited.HEAD
        # It counts from the next chunk on: this one may have begun with other requests.
        self._head = -self._chunk
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        fields = sum(len(name) + len(value) + 4 for name, value in self.headers)
        if len(self.url) + fields > LARGEST_HEAD:
            self._reason = _head_too_large()
            raise ValueError
        if self.parser.should_upgrade():
            # The parser would take the body for the other protocol's: see _parse.
            if self.parser.get_method() == b"CONNECT":
                raise ValueError("CONNECT names no resource of this server")
            return
        super().on_headers_complete()
        self._awaited = Awaited.BODY

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        self._awaited = Awaited.NOTHING
        super().on_message_complete()

    def on_response_complete(self) -> None:
        is_last = not self.pipeline
        super().on_response_complete()
        if is_last and self._refusal is not None and not self.transport.is_closing():
            self._send_refusal()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unsent = None
        if self._timer is None:
            self._start_timer()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def _parse(self, data: bytes) -> None:
        """Feed the parser; a request that offers an upgrade is parsed as if it had not.

        Java's client and ``curl --http2`` offer one with each request, and a server may ignore it
        (RFC 9110, 7.8). httptools cannot: it takes what follows the headers for another protocol.
        """
        while True:
            try:
                self.parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as upgrade:
                rest = data[upgrade.args[0] :]
            version = self.parser.get_http_version().encode()
            lines = [b"%s %s HTTP/%s" % (self.parser.get_method(), self.url, version)]
            lines += [b"%s: %s" % field for field in self.headers if field[0] != b"upgrade"]
            self.parser = httptools.HttpRequestParser(self)
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
            self.parser.feed_data(b"\r\n".join([*lines, b"", b""]))
            data = rest

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
            self._abandon()
            self.transport.abort()
            return
        self._unsent = unsent
        self._start_timer()

    def _refuse(self, status: HTTPStatus, detail: str) -> None:
        """Refuse an incomplete or invalid request, after the responses to those before it."""
        self._refusal = status, detail
        if self._awaited is Awaited.BODY and self.pipeline:
            # It waits for others, so nobody has begun to answer it.
            self.pipeline.popleft()
        elif self._awaited is Awaited.BODY or self.cycle is None or self.cycle.response_complete:
            self._send_refusal()

    def _send_refusal(self) -> None:
        """Send the refusal, unless a response has begun, and close the connection.

        A connection that is closed while the client sends is reset, and the client loses the
        response. So only our side closes, and what still comes is discarded.
        """
        assert self._refusal is not None
        is_begun = self._awaited is Awaited.BODY and self.cycle.response_started
        self._abandon()
        self.cycle = None  # type: ignore[assignment]
        if is_begun:
            self.transport.close()
            return
        status, detail = self._refusal
        headers = {**ALWAYS, REQUEST_ID: new_id(), "Connection": "close"}
        response = http_problem(status, detail, None, headers)
        lines = [b"HTTP/1.1 %d %s" % (status, status.phrase.encode())]
        lines += [b"%s: %s" % header for header in response.raw_headers]
        self.transport.write(b"\r\n".join([*lines, b"", bytes(response.body)]))
        self.transport.write_eof()
        self.flow.resume_reading()
        self._stop_timer()
        self._timer = self.loop.call_later(self.patience_s, self.transport.abort)

    def _abandon(self) -> None:
        """Let the application find out that nobody reads the response it works on."""
        if self._running is not None and not self._running.response_complete:
            self._running.disconnected = True
            self._running.message_event.set()

    def _start_keep_alive(self) -> None:
        """Start uvicorn's keep-alive timer if the response preceded the end of the request."""
        self._unset_keepalive_if_required()
        self.timeout_keep_alive_task = self.loop.call_later(
            self.timeout_keep_alive, self.timeout_keep_alive_handler
        )


class OneByOne(FlowControl):
    """Flow control that reads no more requests while others wait; uvicorn would queue them all."""

    def __init__(self, transport: asyncio.Transport, waiting: Sized):
        super().__init__(transport)
        self._waiting = waiting

    def resume_reading(self) -> None:
        if not self._waiting:
            super().resume_reading()


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
