"""Connections that end when their client does not get on, for uvicorn waits without end.

And whose answers leave in one piece, for uvicorn sends a head by itself: one more call of the
system, after which a client has to be woken twice.
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
"""Bytes a second that a client has to send or take, if it does not do with less than that."""
LARGEST_HEAD = 64 * 1024
"""Bytes of a request line and headers."""
MOST_FILES = 16_384
"""Files, and so connections, that this process may have open, if the system allows as many."""


class Awaited(Enum):
    """What of a request has not come yet."""

    HEAD = auto()
    BODY = auto()
    NOTHING = auto()


class Connection(HttpToolsProtocol):
    """One connection of uvicorn's, looked at as long as it is the client's turn.

    A client has ``patience_s`` seconds to send the whole of a request, or to send ``SLOWEST`` bytes
    a second of it; then as long to send more. Else it is answered by 408, or, if it has been
    answered already, not at all, and the connection ends. It has as long to take as much of its
    answer, and to send its next request.

    Nothing of this costs a request that comes in one piece more than a comparison.
    """

    patience_s = 10.0

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.timeout_keep_alive = self.patience_s  # type: ignore[assignment]
        # Whoever connects has something to ask.
        self._awaited = Awaited.HEAD
        self._head = self._piece = 0
        self._came = 0
        self._unsent: int | None = None
        self._look_again: asyncio.TimerHandle | None = None
        self._refusal = HTTPStatus.BAD_REQUEST, "This is no request of HTTP/1.1."

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]
        self._look_later()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._look_no_more()

    def data_received(self, data: bytes) -> None:
        in_head = self._awaited is Awaited.HEAD
        self._piece = len(data)
        self._came += self._piece
        super().data_received(data)
        if self._awaited is Awaited.NOTHING:
            # Nearly always it came in one piece, and nobody has looked or answered yet.
            if self._look_again is not None and not self.flow.write_paused:
                self._look_no_more()
            if self.cycle.response_complete:
                self._let_it_rest()
        elif not self.transport.is_closing():
            if self._look_again is None:
                self._look_later()
            self._head = self._head + len(data) if in_head and self._awaited is Awaited.HEAD else 0
            if self._head > LARGEST_HEAD:
                self._refuse(*_head_too_large())

    def on_message_begin(self) -> None:
        self._awaited = Awaited.HEAD
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._awaited = Awaited.BODY
        if self._piece > LARGEST_HEAD:
            fields = sum(len(name) + len(value) + 4 for name, value in self.headers)
            if len(self.url) + fields > LARGEST_HEAD:
                self._refusal = _head_too_large()
                raise ValueError
        before = self.cycle
        super().on_headers_complete()
        # The answer to HEAD is nothing but a head.
        if self.cycle is not before and self.scope["method"] != "HEAD":
            self.cycle.transport = InOnePiece(self.cycle)

    def on_message_complete(self) -> None:
        self._awaited = Awaited.NOTHING
        super().on_message_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unsent = None
        if self._look_again is None:
            self._look_later()

    def _unsupported_upgrade_warning(self) -> None:
        """Say nothing: what cannot be upgraded is answered as if that had not been asked."""

    def send_400_response(self, msg: str) -> None:
        self._refuse(*self._refusal)

    def _look_later(self) -> None:
        self._came = 0
        self._look_again = self.loop.call_later(self.patience_s, self._look)

    def _look_no_more(self) -> None:
        if self._look_again is not None:
            self._look_again.cancel()
            self._look_again = None

    def _look(self) -> None:
        """End the connection, unless its client got on."""
        self._look_again = None
        enough = self._came >= SLOWEST * self.patience_s
        answered = self.cycle is None or self.cycle.response_complete
        if self.flow.write_paused:
            self._end_unless_taken()
        elif self._awaited is Awaited.NOTHING or self.transport.is_closing():
            return
        elif self.flow.read_paused or (self._awaited is Awaited.HEAD and not answered):
            # It is our turn: an earlier request is not answered yet.
            self._look_later()
        elif self._awaited is Awaited.BODY and answered:
            self.transport.close()
        elif enough:
            self._look_later()
        elif self.headers is None:
            # Nothing was asked, as by a browser that connects ahead of a click.
            self.transport.close()
        else:
            self._refuse(
                HTTPStatus.REQUEST_TIMEOUT,
                f"The request has come too slowly: less than {SLOWEST} bytes a second of it "
                f"in {self.patience_s:g} s.",
            )

    def _end_unless_taken(self) -> None:
        unsent, before = self.transport.get_write_buffer_size(), self._unsent
        if before is not None and unsent > before - SLOWEST * self.patience_s:
            self.transport.abort()
            return
        self._unsent = unsent
        self._look_later()

    def _refuse(self, status: HTTPStatus, detail: str) -> None:
        """Answer what never became a request, and end the connection."""
        response = http_problem(status, detail, None, {"Connection": "close"})
        lines = [b"HTTP/1.1 %d %s" % (status, status.phrase.encode())]
        lines += [b"%s: %s" % header for header in response.raw_headers]
        self.transport.write(b"\r\n".join([*lines, b"", bytes(response.body)]))
        self.transport.close()

    def _let_it_rest(self) -> None:
        """Have uvicorn end it in time, where the request was answered before all of it had come."""
        self._unset_keepalive_if_required()
        self.timeout_keep_alive_task = self.loop.call_later(
            self.timeout_keep_alive, self.timeout_keep_alive_handler
        )


class InOnePiece(asyncio.Transport):
    """What one answer is written to: its head waits for the first part of its body.

    Parameters
    ----------
    cycle : RequestResponseCycle
        The request and its answer.
    """

    def __init__(self, cycle: RequestResponseCycle):
        self._cycle, self._transport = cycle, cycle.transport
        self._head: bytes | None = None

    def write(self, data: Any) -> None:
        if self._head is None and self._cycle.response_started:
            self._head = data
        else:
            # Before any head there is only "100 Continue", which is to come at once.
            self._transport.write(self._head + data if self._head else data)
            self._head = self._head and b""

    def close(self) -> None:
        if self._head:
            self.write(b"")
        self._transport.close()

    def is_closing(self) -> bool:
        return self._transport.is_closing()


def patient_for(seconds: float) -> type[Connection]:
    """Return the class of connections that wait so long for a client."""

    class Patient(Connection):
        patience_s = seconds

    return Patient


def allow_connections() -> None:
    """Let this process have as many connections open as the system grants it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _head_too_large() -> tuple[HTTPStatus, str]:
    return (
        HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
        f"The request line and its headers have more than {LARGEST_HEAD} bytes.",
    )
