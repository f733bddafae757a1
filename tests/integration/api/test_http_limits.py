"""What the service takes over HTTP, how much of it, and for how long it waits."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import select
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, suppress
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from pydantic import TypeAdapter

from vigie.api.connections import LARGEST_HEAD
from vigie.api.middleware import MOST_AT_ONCE
from vigie.api.routes.anomalies import Readings
from vigie.config import Settings
from vigie.detectors.data.matrices import Table
from vigie.errors import InvalidDataError
from vigie.main import create_app
from vigie.models.anomaly_data import DEEPEST, MOST_FEATURES, MOST_READINGS, AnomalyDetectionRequest
from vigie.models.from_json import from_json
from vigie.models.training import TrainRequest
from vigie.services.training_process import train_each

Running = Callable[[Settings], AbstractContextManager[httpx.Client]]

PREFIX = "/api/v1/anomalies"
JSON = {"Content-Type": "application/json"}
PATIENCE_S = 0.5
MAX_BODY = 300_000

TRAINING = TypeAdapter(TrainRequest)
READING = TypeAdapter(AnomalyDetectionRequest)
BATCH = TypeAdapter(Readings)


def problem_in(response: httpx.Response, status: int) -> dict[str, Any]:
    """Check that an answer is a problem that says what to do, and return it."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    assert body["status"] == status
    assert body["remedy"]
    return body


def refused(form: TypeAdapter[Any], text: str) -> InvalidDataError:
    with pytest.raises(InvalidDataError) as caught:
        from_json(form, text.encode())
    assert caught.value.remedy
    return caught.value


# What a body may hold.

ONE = '{"asset_id": "pump", "features": {"rms": 1.0}}'


def reading(**fields: str) -> str:
    """Return a reading with fields replaced by some JSON."""
    told = {"asset_id": '"pump"', "features": '{"rms": 1.0}'} | fields
    return "{" + ", ".join(f'"{name}": {value}' for name, value in told.items()) + "}"


def nested(levels: int) -> str:
    return '{"a": ' * (levels - 1) + "{}" + "}" * (levels - 1)


@pytest.mark.parametrize(
    ("form", "text", "field", "said"),
    [
        (READING, reading(asset_id=f'"{"a" * 201}"'), "asset_id", "at most 200"),
        (READING, reading(sensor_id=f'"{"a" * 201}"'), "sensor_id", "at most 200"),
        (READING, reading(asset_id='"a\\u0000b"'), "asset_id", "pattern"),
        (READING, reading(features='{"a\\u0000": 1}'), "features.a\x00", "Its name"),
        (READING, reading(metadata=nested(DEEPEST + 1)), "metadata", "nested"),
        (READING, reading(metadata='{"a": 1e999}'), "metadata", "JSON"),
        (READING, reading(more="[" * 5000 + "]" * 5000), "body", "nested"),
        (READING, reading(more="[" * 300 + "]" * 300), "body", "nested"),
        (READING, reading(features='{"rms": 1e999}'), "features.rms", "finite"),
        (READING, reading(features='{"rms": -Infinity}'), "features.rms", "finite"),
        (READING, reading(features='{"rms": ' + "9" * 400 + "}"), "features.rms", "number"),
        (READING, reading(features='{"rms": ' + "9" * 5000 + "}"), "body", "thousands of digits"),
        (READING, reading(timestamp="1767600000"), "timestamp", "2026-01-05T08:00:00Z"),
        (READING, reading(timestamp='"1767600000"'), "timestamp", "2026-01-05T08:00:00Z"),
        (READING, reading(timestamp='"20260105"'), "timestamp", "2026-01-05T08:00:00Z"),
        (TRAINING, '{"data": [[1e999]]}', "data[0][0]", "finite"),
        (TRAINING, '{"data": [[NaN]]}', "data[0][0]", "finite"),
        (TRAINING, '{"data": [[' + "9" * 400 + "]]}", "data[0][0]", "number"),
        (TRAINING, f'{{"data": [[1]], "model_names": ["{"a" * 201}"]}}', "model_names[0]", "200"),
        (BATCH, "{}", "body", "array"),
        (BATCH, "[0]", "[0]", "object"),
        (READING, "[]", "body", "object"),
    ],
)  # fmt: skip
def test_what_is_too_long_too_deep_or_no_number_is_named(form, text, field, said):
    error = refused(form, text)
    assert error.field == field
    assert said in error.message


def test_a_name_that_is_too_long_does_not_come_back_whole():
    error = refused(READING, reading(features=f'{{"{"a" * 10_000}": 1}}'))
    assert "Its name" in error.message
    assert len(str(error)) < 500


def test_a_reading_has_at_most_so_many_features_and_a_row_so_many_values():
    def features(count: int) -> str:
        return json.dumps({f"f{n}": 1.0 for n in range(count)})

    from_json(READING, reading(features=features(MOST_FEATURES)).encode())
    assert refused(READING, reading(features=features(MOST_FEATURES + 1))).field == "features"
    row = [1.0] * MOST_FEATURES
    from_json(TRAINING, json.dumps({"data": [row]}).encode())
    assert refused(TRAINING, json.dumps({"data": [[1.0], [*row, 1.0]]})).field == "data[1]"


def test_a_batch_has_at_least_one_reading_and_at_most_so_many():
    def batch(count: int) -> str:
        return "[" + ",".join([ONE] * count) + "]"

    assert len(from_json(BATCH, batch(MOST_READINGS).encode())) == MOST_READINGS
    assert "at most 10000" in refused(BATCH, batch(MOST_READINGS + 1)).message
    assert refused(BATCH, "[]").field == "body"


def test_metadata_are_as_deep_as_they_say_and_brackets_in_text_do_not_count():
    from_json(READING, reading(metadata=nested(DEEPEST)).encode())
    from_json(READING, reading(metadata=f'{{"note": "{"[" * 100}"}}').encode())


@pytest.mark.parametrize(
    ("form", "text", "field"),
    [
        (READING, reading(features='{"rms": 1, "rms": 2}'), "features.rms"),
        (READING, reading(features='{"rms": 1, "\\u0072ms": 2}'), "features.rms"),
        (READING, reading(features='{"a": 1, "a": 1}', timestamp='"2026-01-05"'), "features.a"),
        (READING, reading(metadata='{"a": {"b": "x", "b": "x"}}'), "metadata.a.b"),
        (READING, reading(more='{"a": 1, "a": 2}'), "more.a"),
        (READING, ONE[:-1] + ', "asset_id": "other"}', "asset_id"),
        (READING, ONE[:-1] + ', "features": {"rms": 1, "rms": 2}}', "features"),
        (READING, "\ufeff" + ONE[:-1] + ', "asset_id": "other"}', "asset_id"),
        (BATCH, f'[{ONE}, {ONE[:-1]}, "asset_id": "other"}}]', "[1].asset_id"),
        (TRAINING, '{"data": [[1]], "data": [[2]]}', "data"),
        (TRAINING, '{"data": [[1]], "model_names": ["a"], "model_names": ["b"]}', "model_names"),
    ],
)  # fmt: skip
def test_a_key_that_is_given_twice_is_named_since_nobody_knows_which_one_is_meant(
    form, text, field
):
    error = refused(form, text)
    assert error.field == field
    assert "more than once" in error.message


@pytest.mark.parametrize(
    "text",
    [
        reading(asset_id='"pump \\"7\\""'),
        reading(more='{"a": "b"}', metadata='{"a": ["b", {"c": null}]}'),
        reading(sensor_id="null", timestamp="null", metadata="{}"),
        reading(sensor_id='""', timestamp='"2026-01-05T08:00:00Z"'),
        reading(features='{"rms": NaN, "flow": null}'),
    ],
)
def test_a_reading_with_every_key_once_is_taken_whatever_its_text_holds(text):
    assert from_json(READING, text.encode()).asset_id.startswith("pump")


def test_of_a_million_wrong_values_no_million_faults_are_made():
    text = json.dumps({"data": [[None] * 900] * 1000})
    assert len(refused(TRAINING, text).faults) == 1
    assert len(refused(BATCH, "[" + "0," * 500_000 + "0]").faults) == 1


# How a request may come.


@pytest.fixture(scope="module")
def api(running: Running, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A service that nobody has trained, and that soon loses patience."""
    settings = Settings(
        mlflow_enabled=False,
        state_dir=tmp_path_factory.mktemp("state"),
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
    lines = [f"{method} {PREFIX}{path} HTTP/1.1", "Host: vigie", "Content-Type: application/json"]
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
    assert status_of(answers[answers.rindex(b"HTTP/1.1 ") :]) == 400


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
    asked = b"GET /openapi.json HTTP/1.1\r\nHost: vigie\r\n\r\n" * 500_000
    with pytest.raises((TimeoutError, ConnectionError)):
        connection.sendall(asked)
    ended = select.poll()
    ended.register(connection, select.POLLHUP)
    assert ended.poll(60_000)


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


def test_an_address_beyond_all_measure_is_refused(connect):
    connection = connect()
    connection.sendall(head("/" + "a" * 2 * LARGEST_HEAD, "GET"))
    assert status_of(rest_of(connection)) == 431


@pytest.mark.parametrize(
    "request_line",
    [
        b"GET / HTTP/1.1\r\nHost: a\r\n b\r\n",
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
@pytest.mark.parametrize("host", [b"vigie", b"[::1", b"a b:99999", b"\xff"])
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


def ask(app: FastAPI, path: str) -> httpx.Response:
    """Return what an application answers that is not started, nor served by anything."""

    async def asked() -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://vigie") as client:
            return await client.get(path)

    return asyncio.run(asked())


def test_an_answer_says_nothing_of_the_server_behind_it(tmp_path, caplog):
    behind = "http://plant:secret@127.0.0.1:9"
    app = create_app(Settings(mlflow_tracking_uri=behind, state_dir=tmp_path))
    response = ask(app, f"{PREFIX}/metrics")
    assert "doctor" in problem_in(response, 502)["remedy"]
    assert "127.0.0.1" not in response.text
    assert "127.0.0.1:9" in caplog.text
    assert "secret" not in caplog.text + response.text


def test_a_fault_of_the_service_is_answered_by_a_number_that_stands_in_the_log(untracked, caplog):
    def bug() -> None:
        raise RuntimeError("/var/lib/vigie has no such thing")

    app = create_app(untracked)
    app.add_api_route("/bug", bug)
    response = ask(app, "/bug")
    found = response.json()
    assert (response.status_code, found["status"]) == (500, 500)
    assert found["incident"] in found["detail"]
    assert "such thing" not in response.text
    [record] = [record for record in caplog.records if found["incident"] in record.getMessage()]
    assert "such thing" in str(record.exc_info[1])


def test_a_training_that_fails_by_a_fault_of_the_service_says_no_more_than_its_number(caplog):
    class Broken:
        def train(self, *given: Any, **named: Any) -> None:
            raise RuntimeError("/var/lib/vigie has no such thing")

    [(name, outcome)] = train_each({"broken": Broken()}, Table(np.zeros((1, 1)), ("a",)))
    assert (name, outcome["status"]) == ("broken", "failed")
    assert "such thing" not in outcome["error"]
    [record] = caplog.records
    assert outcome["error"].rstrip(".").rpartition(" ")[2] in record.getMessage()
