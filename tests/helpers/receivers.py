"""Receivers of alerts, each a real server: HTTP, and SMTP with STARTTLS and a login."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from http_servers import listening


class Receiver(ThreadingHTTPServer):
    """Takes what is posted.

    Attributes
    ----------
    requests : list of (dict, bytes)
        Headers in lower case and bodies, in the order in which they came.
    status : int
        What it answers.
    headers : dict
        What it answers with.
    lock : Lock
        Whoever holds it lets the others wait for an answer.
    has_come : Event
        Whether a request has come, answered or not.
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, port: int = 0):
        super().__init__(("127.0.0.1", port), _Handler)
        self.requests: list[tuple[dict[str, str], bytes]] = []
        self.status, self.headers = 204, dict[str, str]()
        self.lock, self.has_come = threading.Lock(), threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/alerts"

    @property
    def events(self) -> list[dict[str, Any]]:
        """The bodies, as JSON."""
        with self.lock:
            return [json.loads(body) for _, body in self.requests]


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.has_come.set()
        headers = {name.lower(): value for name, value in self.headers.items()}
        with self.server.lock:
            self.server.requests.append((headers, body))
        self.send_response(self.server.status)
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        """Keep quiet."""


@contextmanager
def receiver(port: int = 0) -> Iterator[Receiver]:
    """Run an HTTP receiver as long as a block lasts."""
    with listening(Receiver(port)) as server:
        yield server


class Mailbox:
    """Keeps mails; see aiosmtpd's handlers."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        self.refuses = False

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        if self.refuses:
            return "451 Try again later"
        mail = message_from_bytes(envelope.content, policy=policy.default)
        assert isinstance(mail, EmailMessage)
        self.mails.append(mail)
        return "250 OK"


@contextmanager
def mail_server(
    port: int, tls: ssl.SSLContext | None = None, login: tuple[str, str] | None = None
) -> Iterator[tuple[Mailbox, int]]:
    """Run an SMTP server; with a context it demands STARTTLS, with a login that."""
    from aiosmtpd.controller import Controller
    from aiosmtpd.smtp import AuthResult, LoginPassword

    def check(server: Any, session: Any, envelope: Any, how: str, given: Any) -> AuthResult:
        assert isinstance(given, LoginPassword)
        found = (given.login.decode(), given.password.decode())
        return AuthResult(success=found == login, handled=False)

    box = Mailbox()
    options: dict[str, Any] = {}
    if tls is not None:
        options |= {"tls_context": tls, "require_starttls": True}
    if login is not None:
        options |= {
            "authenticator": check,
            "auth_required": True,
            "auth_require_tls": tls is not None,
        }
    controller = Controller(box, hostname="127.0.0.1", port=port, **options)
    controller.start()
    try:
        yield box, port
    finally:
        controller.stop()
