"""An MLflow server that fails when it is told to, for tests of what becomes of a training then."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx

ONE_RUNS_OWN = re.compile(r"/\d+/[0-9a-f]{32}/|/[^/]+\.\w+$")
"""The experiment, the run and the name of a file, in the path of an upload."""
PROBE = "/health"
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
    counts_probes : bool
        Whether requests count that only ask whether the server is there. A training makes as many
        as its time allows, so that the number of any later request would change with it.
    asked : list of str
        The kind of each request so far: its method, and its path without what is one run's own.
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
        self.counts_probes = True
        self.asked: list[str] = []
        # Made anew for each request, a client would take as long as the request. It keeps no
        # connection, which the real server might end just then.
        self.client = httpx.Client(
            trust_env=False,
            verify=False,
            timeout=AT_MOST_S,
            limits=httpx.Limits(max_keepalive_connections=0),
        )
        self.uri = f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of callers who have hung up: they were meant to."""

    def server_close(self) -> None:
        super().server_close()
        self.client.close()


def each_kind(asked: list[str]) -> list[int]:
    """Return where requests of each kind come first and last."""
    first = {kind: number for number, kind in reversed(list(enumerate(asked)))}
    last = {kind: number for number, kind in enumerate(asked)}
    return sorted({*first.values(), *last.values()})


class _Handler(BaseHTTPRequestHandler):
    server: Failing

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.credentials.add(self.headers.get("Authorization"))
        path = self.path.partition("?")[0]
        meant = path.endswith(self.server.at)
        if self.server.counts_probes or path != PROBE:
            self.server.asked.append(f"{self.command} {ONE_RUNS_OWN.sub('', path)}")
            self.server.left -= meant
        how, fails = self.server.how, meant and self.server.left < 0
        if fails and how == "slow":
            self.server.released.wait(timeout=AT_MOST_S)
        if meant:
            self.server.released.wait(timeout=self.server.delay_s)
        asks = self.command == "GET" or self.path.endswith("/search")
        done_all_the_same = how in ("slow", "unanswered", "cut", "kills")
        if not fails or done_all_the_same or (how == "readonly" and asks):
            answer = self.server.client.request(
                self.command,
                self.server.upstream + self.path,
                content=body,
                headers={"Content-Type": self.headers.get("Content-Type", "application/json")},
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
