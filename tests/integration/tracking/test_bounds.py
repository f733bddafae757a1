"""What a tracking server may answer: nothing without end, nothing that fills the memory."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from faults import eventually
from http_servers import listening

from vigie.config import Settings
from vigie.errors import TrackingError, TrackingUnavailableError, VigieError
from vigie.registry import bounds, lookup
from vigie.registry.server import Server, short_timeout

VERSIONS, MODEL = "model-versions/search", "registered-models/get"
NAME = "isolation_forest"
AT_MOST_S = 10.0


class Hostile(ThreadingHTTPServer):
    """A server that is healthy, and answers all else as it is told."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.uri = f"http://127.0.0.1:{self.server_port}"
        self.answer: Callable[[_Handler], None] = lambda handler: None
        self.asked: list[str] = []
        self.is_over = threading.Event()
        self.at = "/api"

    def handle_error(self, *args: object) -> None:
        """Say nothing of clients that have hung up."""


class _Handler(BaseHTTPRequestHandler):
    server: Hostile

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        if self.path.startswith(self.server.at):
            self.server.answer(self)
        else:
            self.whole(b"OK")

    do_POST = do_GET

    def whole(self, body: bytes, **headers: str) -> None:
        self.send_response(200)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Write nothing to standard error."""


def endless(handler: _Handler) -> None:
    handler.send_response(200)
    handler.end_headers()
    handler.wfile.write(b'{"model_versions": [')
    while not handler.server.is_over.is_set():
        handler.wfile.write(b"{}," * 100_000)


def drips(handler: _Handler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "100000")
    handler.end_headers()
    while not handler.server.is_over.wait(0.05):
        handler.wfile.write(b" ")


def drips_headers(handler: _Handler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    while not handler.server.is_over.wait(0.05):
        handler.wfile.write(b"X: y\r\n")


def hangs(handler: _Handler) -> None:
    handler.server.is_over.wait()


def says(text: str) -> Callable[[_Handler], None]:
    return lambda handler: handler.whole(text.encode())


@pytest.fixture
def hostile() -> Iterator[Hostile]:
    with listening(Hostile()) as server:
        yield server
        server.is_over.set()


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vigie.registry.http.ANSWER_S", 0.5)


def told(hostile: Hostile) -> str:
    """Return what is said of the server's answer, which comes soon."""
    began = time.monotonic()
    with pytest.raises(TrackingError) as raised:
        lookup.versions(Server(hostile.uri), NAME)
    assert time.monotonic() - began < AT_MOST_S
    return str(raised.value)


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize("answer", [drips, drips_headers, hangs])
@pytest.mark.parametrize("at", ["/api", "/health"])
def test_an_answer_that_takes_too_long_is_not_waited_for(hostile, answer, at):
    hostile.answer, hostile.at = answer, at
    if at == "/api" or answer is not drips:
        assert "no answer in time" in told(hostile)
    else:
        # Its headers are the answer.
        Server(hostile.uri).require()


def test_an_endless_answer_is_not_kept(hostile):
    hostile.answer = endless
    assert f"more than {bounds.MOST_ANSWER} bytes" in told(hostile)


def test_a_packed_answer_is_not_unpacked(hostile):
    hostile.answer = lambda handler: handler.whole(b"\x1f\x8b", Content_Encoding="gzip")
    assert "compressed" in told(hostile)


@pytest.mark.parametrize("at", ["/api", "/health"])
def test_a_redirect_is_not_followed_and_told(hostile, at):
    def elsewhere(handler: _Handler) -> None:
        handler.send_response(302)
        handler.send_header("Location", "http://u:secret@10.0.0.1/\x1b[2J")
        handler.end_headers()

    hostile.answer, hostile.at = elsewhere, at
    said = told(hostile)
    assert "redirects to http://***@10.0.0.1/" in said or "redirects to http://u:***@" in said
    assert "secret" not in said
    assert "\x1b" not in said


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"a":' * 900 + "1" + "}" * 900,
        "nonsense",
        '{"model_versions": [{"version": "1", "run_id": "\\ud800"}]}',
        '{"model_versions": [{}], "registered_model": {}}',
        '{"model_versions": {"a": 1}, "registered_model": {}}',
        '{"model_versions": "a", "registered_model": {}}',
        '{"model_versions": 1, "registered_model": {}}',
        '{"model_versions": [], "registered_model": []}',
        '{"model_versions": [], "registered_model": {"aliases": 1}}',
        '{"model_versions": [], "registered_model": {"aliases": [{"alias": 1, "version": 1}]}}',
        *(
            json.dumps({"model_versions": [{"version": "1"} | wrong], "registered_model": {}})
            for wrong in (
                {"version": "-1"}, {"version": 10**400}, {"version": 1e999}, {"version": None},
                {"creation_timestamp": "9" * 15}, {"creation_timestamp": -1},
                {"last_updated_timestamp": [1]}, {"current_stage": {"a": 1}}, {"run_id": ["a"]},
                {"tags": 1}, {"tags": [{"key": "vigie.card_sha256", "value": {}}]},
            )
        ),
        '{"next_page_token": "again", "registered_model": {}}',
    ],
)  # fmt: skip
def test_an_answer_of_another_form_is_an_error_of_the_server(hostile, text):
    hostile.answer = says(text)
    assert told(hostile)
    assert len(hostile.asked) < 200


@pytest.mark.parametrize(
    "run",
    [{}, [], {"info": {}, "data": {"metrics": [{"key": "a", "value": "b"}]}},
     {"info": [], "data": {}}, {"info": {}, "data": {"metrics": 1}}],
)  # fmt: skip
def test_a_run_of_another_form_is_an_error_of_the_server(hostile, run):
    experiments = [{"experiment_id": "1"}]
    hostile.answer = says(json.dumps({"run": run, "runs": [run], "experiments": experiments}))
    version = lookup.Version(NAME, 1, "None", "r", 0, None, None)
    with pytest.raises(TrackingError):
        lookup.runs(Server(hostile.uri), ["0" * 32])
    for ask in (lookup.run_metrics, lookup.run_params):
        with suppress(TrackingError):
            ask(Server(hostile.uri), version)


@pytest.mark.parametrize("answer", [endless, drips])
def test_mlflows_own_client_has_the_same_bounds(hostile, answer):
    hostile.answer = answer
    server = Server(hostile.uri)
    with pytest.raises(TrackingUnavailableError), short_timeout():
        server.call(server.client.get_run, "0" * 32)


def test_a_service_ends_at_once_while_the_server_hangs(hostile, running, tmp_path):
    hostile.answer = hangs
    settings = Settings(mlflow_tracking_uri=hostile.uri, state_dir=tmp_path / "state")
    with running(settings) as api:
        eventually(lambda: any(path.startswith("/api") for path in hostile.asked))
        assert api.get("/health").status_code == 200
        began = time.monotonic()
    assert time.monotonic() - began < AT_MOST_S
    assert "Traceback" not in (tmp_path / "state/vigie.log").read_text()


def test_an_interrupt_ends_a_request_that_waits(hostile, monkeypatch):
    # What is set by the interrupt is taken back, else later tests could not ask for some seconds.
    monkeypatch.setattr(bounds, "_interrupted_at", float("-inf"))
    hostile.answer = hangs
    server = Server(hostile.uri)
    failed: list[VigieError] = []

    def ask() -> None:
        try:
            server.get(VERSIONS)
        except VigieError as error:
            failed.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    eventually(lambda: bool(hostile.asked[1:]))
    server.interrupt()
    asking.join(AT_MOST_S)
    assert isinstance(failed[0], TrackingUnavailableError)
