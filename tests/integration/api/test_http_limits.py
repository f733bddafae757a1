"""What the service takes over HTTP, how much of it, and for how long it waits."""

from __future__ import annotations

import gzip
import json
import re
import select
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, suppress
from pathlib import Path

import httpx
import pytest
from faults import eventually
from problems import problem_in

from vigie.api.connections import LARGEST_HEAD
from vigie.api.middleware import MOST_AT_ONCE
from vigie.config import Settings

Running = Callable[[Settings], AbstractContextManager[httpx.Client]]

PREFIX = "/api/v1/anomalies"
JSON = {"Content-Type": "application/json"}
PATIENCE_S = 0.5
MAX_BODY = 300_000
ONE = '{"asset_id": "pump", "features": {"rms": 1.0}}'


# How a request may come.


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The service's folder."""
    return tmp_path_factory.mktemp("state")


@pytest.fixture(scope="module")
def api(running: Running, state: Path) -> Iterator[httpx.Client]:
    """A service that nobody has trained, and that soon loses patience."""
    settings = Settings(
        mlflow_enabled=False,
        state_dir=state,
        max_body_bytes=MAX_BODY,
        client_patience_s=PATIENCE_S,
    )
    # A connection that rests between two requests is ended as soon as the others.
    anew = httpx.Limits(max_keepalive_connections=0)
    with (
        running(settings) as client,
        httpx.Client(base_url=client.base_url, limits=anew, timeout=60, trust_env=False) as api,
    ):
        yield api


@pytest.fixture
def connect(api: httpx.Client) -> Iterator[Callable[[], socket.socket]]:
    """Open a connection to the service."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(
            socket.create_connection(("127.0.0.1", api.base_url.port or 80), timeout=30)
        )


def head(path: str = "/detect", method: str = "POST", **headers: object) -> bytes:
    lines = [
        f"{method} {PREFIX}{path} HTTP/1.1",
        "Host: localhost",
        "Content-Type: application/json",
    ]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode()


def rest_of(connection: socket.socket) -> bytes:
    """Return what comes until the other side ends the connection."""
    came = b""
    with suppress(ConnectionResetError):
        while data := connection.recv(65536):
            came += data
    return came


def drip(connection: socket.socket, data: bytes) -> bytes:
    """Send a byte now and then, for ever, and return what comes until the other side ends it."""
    connection.settimeout(PATIENCE_S / 20)
    came, sent = b"", 0
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            connection.send(data[sent % len(data) :][:1])
            sent += 1
            if not (answer := connection.recv(65536)):
                return came
            came += answer
        except TimeoutError:
            continue
        except OSError:
            return came
    raise AssertionError("it waits for ever")


def status_of(answer: bytes) -> int:
    """Check an answer to be one problem document, and return its status."""
    first, _, body = answer.partition(b"\r\n\r\n")
    assert b"content-type: application/problem+json" in first
    assert b"x-content-type-options: nosniff" in first
    document = json.loads(body)
    assert document["remedy"]
    assert first.startswith(f"HTTP/1.1 {document['status']} ".encode())
    return int(document["status"])


def test_a_connection_that_asks_nothing_is_ended(connect):
    assert rest_of(connect()) == b""


def test_headers_that_come_byte_by_byte_are_not_waited_for(connect):
    connection = connect()
    connection.sendall(head()[:-2])
    assert status_of(drip(connection, b"X-More: of it\r\n")) == 408


def test_headers_that_stop_coming_are_not_waited_for(connect):
    connection = connect()
    connection.sendall(head()[:20])
    assert status_of(rest_of(connection)) == 408


@pytest.mark.parametrize("path", ["/detect", "/detect/batch", "/train"])
def test_a_body_that_comes_byte_by_byte_is_not_waited_for(connect, path):
    connection = connect()
    connection.sendall(head(path, Content_Length=1000))
    assert status_of(drip(connection, b" ")) == 408


def test_a_body_in_chunks_that_come_byte_by_byte_is_not_waited_for(connect):
    connection = connect()
    connection.sendall(head(Transfer_Encoding="chunked"))
    assert status_of(drip(connection, b"1\r\n \r\n")) == 408


def test_a_body_shorter_than_it_says_is_not_waited_for(connect):
    connection = connect()
    connection.sendall(head(Content_Length=1000) + ONE.encode())
    assert status_of(rest_of(connection)) == 408


def test_what_follows_a_body_that_is_longer_than_it_says_is_no_request(connect):
    connection = connect()
    connection.sendall(head(Content_Length=len(ONE)) + ONE.encode() + b" and so on\r\n\r\n")
    answers = rest_of(connection)
    first, second = (b"HTTP/1.1 " + answer for answer in answers.split(b"HTTP/1.1 ")[1:])
    assert (status_of(first), status_of(second)) == (503, 400)


def test_garbage_is_refused_after_all_requests_before_it(connect):
    connection = connect()
    whole = head(Content_Length=len(ONE)) + ONE.encode()
    connection.sendall(whole * 3 + b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n")
    assert re.findall(rb"HTTP/1.1 (\d+)", rest_of(connection)) == [b"503"] * 3 + [b"400"]


def test_a_bad_chunk_is_refused_after_the_request_before_it(connect):
    connection = connect()
    whole = head(Content_Length=len(ONE)) + ONE.encode()
    connection.sendall(whole + head(Transfer_Encoding="chunked") + b"nonsense\r\n")
    assert re.findall(rb"HTTP/1.1 (\d+)", rest_of(connection)) == [b"503", b"400"]


# As Java's HttpClient and `curl --http2` send it.
H2C = {"Connection": "Upgrade, HTTP2-Settings", "HTTP2-Settings": "AAEAAEAA", "Upgrade": "h2c"}
HEALTH = head("/health", "GET")


@pytest.mark.parametrize("body", [ONE.encode(), HEALTH], ids=["reading", "request"])
@pytest.mark.parametrize("in_two", [False, True])
def test_a_body_is_read_though_an_upgrade_is_offered(connect, body, in_two):
    connection = connect()
    told = head(Content_Length=len(body), **H2C)
    if in_two:
        connection.sendall(told)
        # The head has come, and been parsed.
        assert not select.select([connection], [], [], PATIENCE_S / 4)[0]
        connection.sendall(body)
    else:
        connection.sendall(told + body)
    # A body that looks like a request is none: it gets no answer of its own.
    assert status_of(rest_of(connection)) == (503 if body != HEALTH else 422)


def test_a_body_in_chunks_is_read_though_an_upgrade_is_offered_and_so_is_the_next(connect):
    connection = connect()
    chunked = head(Transfer_Encoding="chunked", **H2C)
    chunked += b"%x\r\n%s\r\n0\r\n\r\n" % (len(ONE), ONE.encode())
    connection.sendall(chunked * 2 + head("/health", "GET", **H2C) * 2000)
    statuses = re.findall(rb"HTTP/1.1 (\d+)", rest_of(connection))
    assert statuses == [b"503"] * 2 + [b"200"] * 2000


@pytest.mark.parametrize(
    ("sent", "statuses"),
    [
        (head(Content_Length=len(ONE)) + ONE.encode(), [b"503"]),
        (head(Content_Length=len(ONE)) + ONE.encode() + HEALTH, [b"503", b"200"]),
        (HEALTH + head(Content_Length=len(ONE)) + b"{", [b"200", b"400"]),
        (head(Content_Length=len(ONE)) + b"{", [b"400"]),
        (HEALTH[:-2], []),
    ],
)
def test_what_came_whole_is_answered_to_a_client_that_sends_no_more(connect, sent, statuses):
    connection = connect()
    connection.sendall(sent)
    connection.shutdown(socket.SHUT_WR)
    assert re.findall(rb"HTTP/1.1 (\d+)", rest_of(connection)) == statuses


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ("Host: localhost", 200),
        ("host:LOCALHOST.:8084", 200),
        ("Host: vigie.localhost", 200),
        ("Host: 127.0.0.1:1", 200),
        ("Host: [::1]:8084", 200),
        ("Accept: */*", 400),
        ("Host: localhost\r\nHost: localhost", 400),
        ("Host: a b", 400),
        ("Host: localhost/", 400),
        ("Host: user@localhost", 400),
        # As a page sends it whose name has been made to lead here.
        ("Host: attacker.example:8084", 421),
        ("Host: 127.0.0.1.attacker.example", 421),
        ("Host: localhost.attacker.example", 421),
        ("Host: [2001:db8::1]", 421),
        ("Host: 192.0.2.1", 421),
        ("Host:", 421),
    ],
)
def test_a_request_has_one_host_and_it_is_this_machine(connect, lines, status):
    connection = connect()
    request = f"GET {PREFIX}/health HTTP/1.1\r\n{lines}\r\nConnection: close\r\n\r\n"
    connection.sendall(request.encode())
    answer = rest_of(connection)
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    if status != 200:
        assert status_of(answer) == status


def test_an_old_client_needs_no_host(connect):
    connection = connect()
    connection.sendall(f"GET {PREFIX}/health HTTP/1.0\r\n\r\n".encode())
    assert rest_of(connection).startswith(b"HTTP/1.1 200 ")


def test_whoever_is_answered_before_all_was_sent_cannot_go_on_sending_for_ever(connect):
    connection = connect()
    connection.sendall(head("/nowhere", Content_Length=10**9))
    assert b"404 Not Found" in drip(connection, b" ")


def test_whoever_has_sent_all_after_the_answer_is_not_kept_for_ever(connect):
    connection = connect()
    connection.sendall(head("/nowhere", Content_Length=1))
    assert b"404 Not Found" in connection.recv(65536)
    connection.sendall(b" ")
    assert b"HTTP/1.1" not in rest_of(connection)


def test_whoever_takes_no_answers_is_not_kept_for_ever(connect):
    connection = connect()
    connection.settimeout(PATIENCE_S)
    asked = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 500_000
    with pytest.raises((TimeoutError, ConnectionError)):
        connection.sendall(asked)
    ended = select.poll()
    ended.register(connection, select.POLLHUP)
    assert ended.poll(60_000)


def test_the_log_has_nothing_of_what_clients_do_wrong(api, connect, state):
    before = (state / "vigie.log").read_text()
    page = b"GET /assets/api-docs/swagger-ui-bundle.js HTTP/1.1\r\nHost: localhost\r\n\r\n"
    never_read = connect()
    never_read.settimeout(PATIENCE_S)
    with suppress(TimeoutError, ConnectionError):
        never_read.sendall(page * 500_000)
    for sent in (b"\x00\r\n\r\n", page + b"\x00\r\n\r\n", page * 2 + b"\x00\r\n\r\n", page):
        connection = connect()
        connection.sendall(sent)
        connection.recv(1)
        # Closed with a reset, in the middle of the answer.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
    ended = select.poll()
    ended.register(never_read, select.POLLHUP)
    assert ended.poll(60_000)
    assert api.get("/health").status_code == 200
    assert (state / "vigie.log").read_text() == before


def test_what_the_service_keeps_is_nobody_elses(api, state):
    eventually((state / "history.db").exists)
    assert [path.name for path in state.rglob("history.db*") if path.stat().st_mode & 0o077] == []


def test_a_slow_body_that_gets_on_is_waited_for(connect):
    connection = connect()
    pieces = [b" " * 2500] * 100
    length = len(ONE) + 2500 * len(pieces)
    connection.sendall(head(Content_Length=length, Connection="close"))
    connection.settimeout(PATIENCE_S / 50)
    for piece in pieces:
        connection.sendall(piece)
        with pytest.raises(TimeoutError):
            connection.recv(1)
    connection.settimeout(30)
    connection.sendall(ONE.encode())
    assert status_of(rest_of(connection)) == 503


def test_others_are_answered_while_hundreds_of_slow_clients_are_waited_for(api, connect):
    slow = []
    for number in range(300):
        slow.append(connect())
        slow[-1].sendall(head(Content_Length=1000) if number % 2 else head()[:20])
    assert api.get("/health").json()["status"] == "ok"
    for connection in slow:
        assert status_of(rest_of(connection)) == 408
    assert api.get("/health").json()["status"] == "ok"


def test_a_body_that_says_it_is_too_large_is_refused_before_it_is_sent(connect):
    connection = connect()
    connection.sendall(head(Content_Length=MAX_BODY + 1, Expect="100-continue"))
    assert connection.recv(65536).startswith(b"HTTP/1.1 413 ")


def test_no_more_is_held_at_once_than_a_few_large_bodies(api, connect):
    senders = [connect() for _ in range(MOST_AT_ONCE + 1)]
    for sender in senders:
        sender.sendall(head(Content_Length=MAX_BODY) + b" " * (MAX_BODY - 1))
    statuses = sorted(status_of(rest_of(sender)) for sender in senders)
    assert statuses == [408] * MOST_AT_ONCE + [503]
    problem_in(api.post("/detect", content=ONE, headers=JSON), 503)


def test_a_body_without_a_length_is_none(api, connect):
    connection = connect()
    connection.sendall(head(Connection="close"))
    assert status_of(rest_of(connection)) == 422


@pytest.mark.parametrize(
    "told",
    [
        b"X-Long: " + b"a" * LARGEST_HEAD + b"\r\n\r\n",
        b"X: a\r\n" * (LARGEST_HEAD // 6 + 1) + b"\r\n",
        b"X-Endless: " + b"a" * 10 * LARGEST_HEAD,
    ],
)
def test_headers_beyond_all_measure_are_refused(connect, told):
    connection = connect()
    with suppress(ConnectionError):
        connection.sendall(head()[:-2] + told)
    assert status_of(rest_of(connection)) == 431


def test_a_client_that_sends_all_its_headers_before_it_reads_hears_that_they_are_too_large(connect):
    connection = connect()
    connection.sendall(head(X_Long="a" * 10 * LARGEST_HEAD))
    assert status_of(rest_of(connection)) == 431


def test_an_address_beyond_all_measure_is_refused(connect):
    connection = connect()
    connection.sendall(head("/" + "a" * 2 * LARGEST_HEAD, "GET"))
    assert status_of(rest_of(connection)) == 431


@pytest.mark.parametrize(
    "request_line",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n b\r\n",
        b"hello\r\n",
        b"BREW /coffee HTTP/1.1\r\n",
        b"GET /\xff HTTP/1.1\r\n",
        b"GET * HTTP/1.1\r\nConnection: close\r\n",
        b"CONNECT vigie:443 HTTP/1.1\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: -1\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
def test_what_is_no_http_is_a_problem_and_no_more(connect, request_line):
    connection = connect()
    connection.sendall(request_line + b"\r\n")
    assert status_of(rest_of(connection)) in (400, 404, 405)


@pytest.mark.parametrize(
    "target",
    [
        "/%00", "/%ff%fe", "/%2e%2e/%2e%2e/etc/passwd", "/../../etc/passwd", "//vigie//",
        "/a%3Fb%23c", "/status/", "/status%0d%0aX:%20y", "/%F0%9F%92%A5", "/;a=b",
    ],
)  # fmt: skip
@pytest.mark.parametrize("query", [b"", b"?\xff=\xfe", b"?a=%ff%00"])
@pytest.mark.parametrize("host", [b"localhost", b"[::1", b"a b:99999", b"\xff"])
def test_an_odd_address_is_not_found(connect, target, query, host):
    connection = connect()
    line = b"GET " + PREFIX.encode() + target.encode() + query + b" HTTP/1.1\r\n"
    connection.sendall(line + b"Host: " + host + b"\r\nConnection: close\r\n\r\n")
    assert status_of(rest_of(connection)) in (400, 404)


@pytest.mark.parametrize(
    ("path", "offered", "method"),
    [
        (path, offered, method)
        for path, offered in [("/detect", "POST"), ("/train", "POST"), ("/status", "GET"),
                              ("/nowhere", "")]
        for method in ["HEAD", "OPTIONS", "PUT", "DELETE", "PATCH", "TRACE", "PROPFIND"]
        # What can be got can be asked about.
        if (method, offered) != ("HEAD", "GET")
    ],
)  # fmt: skip
def test_a_method_that_is_not_offered_is_a_problem_that_says_which_one_is(
    api, path, offered, method
):
    response = api.request(method, path)
    assert response.status_code == (405 if offered else 404)
    if offered:
        assert response.headers["allow"] == offered
    if method != "HEAD":
        problem_in(response, response.status_code)


def test_a_request_to_upgrade_is_answered_as_if_it_had_not_been_made(api):
    headers = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    assert api.get("/health", headers=headers).json()["status"] == "ok"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 415),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/xml"}, 415),
        ({"Content-Type": "json"}, 415),
        ({"Content-Type": "é" * 1000}, 415),
        (JSON | {"Content-Encoding": "gzip"}, 415),
        (JSON | {"Content-Encoding": "br, gzip"}, 415),
        (JSON | {"Content-Encoding": "identity"}, 503),
        ({"Content-Type": "application/json; charset=utf-8"}, 503),
        ({"Content-Type": "application/vnd.plant+json"}, 503),
    ],
)
def test_a_body_is_json_and_says_so(api, headers, status):
    body = gzip.compress(ONE.encode()) if "gzip" in str(headers) else ONE.encode()
    told = [(name.encode(), value.encode()) for name, value in headers.items()]
    problem_in(api.post("/detect", content=body, headers=told), status)


def test_an_answer_says_nothing_of_what_answers(api):
    inside = re.compile(
        r"uvicorn|starlette|fastapi|pydantic|python|traceback|\.py\b|/home|/tmp", re.I
    )
    for response in (
        api.get("/nowhere"),
        api.get("/detect"),
        api.post("/detect", content=b"\xff", headers=JSON),
        api.post("/detect", content=b"[" * 9999, headers=JSON),
        api.post("/detect", content=b"0", headers=JSON),
        api.post("/detect/batch", content=b'[{"asset_id": {}}]', headers=JSON),
        api.post("/detect", content=ONE, headers=JSON),
    ):
        assert response.status_code >= 400
        told = "\n".join(f"{name}: {value}" for name, value in response.headers.items())
        assert not inside.search(told + response.text), told + response.text
