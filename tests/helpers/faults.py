"""An MLflow server that fails when it is told to, for tests of what becomes of a training then."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx

AT_MOST_S = 30
"""Left to itself MLflow waits for 4 to 20 minutes: this is not a stopwatch, but a way out."""


class Failing(ThreadingHTTPServer):
    """Stands before an MLflow server, and fails after some requests.

    Parameters
    ----------
    upstream : str
        The real server.
    after : int
        How many requests it lets through.
    how : str
        What becomes of the others: 'gone', 'silent', 'trickling'; a status such as '500' or '200',
        with which a proxy answers a page of its own; '{}', which says nothing; 'slow' answers them
        when it is released, 'readonly' only tells what there is, 'unanswered' does what is asked
        and does not say so, 'cut' says half of it, 'kills' does it and kills ``victim``.

    Attributes
    ----------
    delay_s : float
        How long each answer takes.
    at : str
        What the path of a request ends with that may fail or takes long; by default any.
    """

    daemon_threads = True

    def __init__(self, upstream: str, after: int, how: str):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream, self.left, self.how = upstream, after, how
        self.released = threading.Event()
        self.credentials: set[str | None] = set()
        self.victim: int | None = None
        self.delay_s = 0.0
        self.at = ""
        self.uri = f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of callers who have hung up: they were meant to."""


class _Handler(BaseHTTPRequestHandler):
    server: Failing

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.credentials.add(self.headers.get("Authorization"))
        meant = self.path.partition("?")[0].endswith(self.server.at)
        self.server.left -= meant
        how, fails = self.server.how, meant and self.server.left < 0
        if fails and how == "slow":
            self.server.released.wait(timeout=AT_MOST_S)
        if meant:
            self.server.released.wait(timeout=self.server.delay_s)
        asks = self.command == "GET" or self.path.endswith("/search")
        done_all_the_same = how in ("slow", "unanswered", "cut", "kills")
        if not fails or done_all_the_same or (how == "readonly" and asks):
            answer = httpx.request(
                self.command,
                self.server.upstream + self.path,
                content=body,
                headers={"Content-Type": self.headers.get("Content-Type", "application/json")},
                trust_env=False,
                # Reading the certificates of all authorities takes longer than the request.
                verify=False,
            )
            if fails and how == "kills":
                os.kill(self.server.victim or os.getpid(), signal.SIGKILL)
            elif not fails or how in ("slow", "readonly"):
                self._send(answer.status_code, answer.content)
            elif how == "cut":
                self._send(answer.status_code, answer.content[: len(answer.content) // 2])
        elif how == "{}":
            self._send(200, b"{}")
        elif how == "readonly" or how.isdigit():
            self._send(500 if how == "readonly" else int(how), b"<html>not what was asked</html>")
        elif how == "silent":
            self.server.released.wait(timeout=AT_MOST_S)
        elif how == "trickling":
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            for _ in range(1000):
                self.wfile.write(b" ")
                if self.server.released.wait(timeout=0.1):
                    break
        self.close_connection = True

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _answer

    def _send(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args: Any) -> None:
        """Keep quiet."""


def eventually(holds: Callable[[], Any], at_most_s: float = AT_MOST_S) -> Any:
    """Return what holds, once it does, that another thread or process brings about."""
    until = time.monotonic() + at_most_s
    while not (found := holds()):
        assert time.monotonic() < until, "it never came"
        time.sleep(0.02)
    return found
