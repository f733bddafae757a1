"""What ``vigie doctor`` says of settings, and of what listens on the port."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from http_servers import listening

from vigie.cli.doctor import Check, examine
from vigie.config import Settings
from vigie.errors import InvalidDataError
from vigie.local import service


class Foreign(BaseHTTPRequestHandler):
    """A program that is not Vigie, or a proxy that asks for a login."""

    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.end_headers()
        self.wfile.write(b"Hello")

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def foreign() -> Iterator[int]:
    with listening(HTTPServer(("127.0.0.1", 0), Foreign)) as server:
        yield server.server_port


class Stopping(Foreign):
    """A service that serves a model, and an MLflow server that stops after its first answer."""

    def do_GET(self) -> None:
        if self.path not in ("/health", "/api/v1/anomalies/status"):
            self.connection.close()
            return
        self.send_response(200)
        self.end_headers()
        model = {"trained": True, "version": 1, "problem": None}
        self.wfile.write(json.dumps({"models": {"one_class_svm": model}}).encode())


def checks_of(settings: Settings) -> dict[str, Check]:
    return {check.question: check for check in examine(settings)}


def test_the_doctor_fails_for_a_variable_that_sets_nothing(untracked, monkeypatch):
    monkeypatch.setenv("VIGIE_PROT", "8085")
    check = checks_of(untracked)["Settings known?"]
    assert not check.passed
    assert "VIGIE_PROT" in check.finding


def test_the_doctor_tells_no_service_from_another_program(untracked, foreign, new_port):
    none = checks_of(untracked.model_copy(update={"port": new_port()}))["Service running?"]
    assert none.passed is None
    assert "none runs" in none.finding
    other = checks_of(untracked.model_copy(update={"port": foreign}))["Service running?"]
    assert not other.passed
    assert "not Vigie" in other.finding
    assert "VIGIE_PORT" in other.remedy


def test_an_outage_of_mlflow_is_named_once_and_what_it_hides_is_not_called_checked(
    untracked, foreign, monkeypatch
):
    monkeypatch.setattr(Foreign, "do_GET", Stopping.do_GET)
    uri = f"http://127.0.0.1:{foreign}"
    update = {"mlflow_enabled": True, "mlflow_tracking_uri": uri, "port": foreign}
    checks = checks_of(untracked.model_copy(update=update))
    assert checks["Service running?"].passed
    assert checks["Server answers?"].passed
    [failed] = [check for check in checks.values() if check.passed is False]
    assert "cannot be reached" in failed.finding
    for question in ("Versions of one_class_svm?", "Service up to date?"):
        assert checks[question].passed is None
        assert checks[question].finding.startswith("not checked")


@pytest.mark.parametrize("status", [401, 403])
def test_the_doctor_does_not_call_a_service_behind_a_login_another_program(
    untracked, foreign, monkeypatch, status
):
    monkeypatch.setattr(Foreign, "status", status)
    check = checks_of(untracked.model_copy(update={"port": foreign}))["Service running?"]
    assert check.passed is None
    assert f"needs a login ({status})" in check.finding


@pytest.mark.parametrize(
    ("host", "said"),
    [("nosuch.invalid", "has no address"), ("192.0.2.1", "is not an address of this machine")],
)
def test_a_host_at_which_no_service_can_listen_is_named(untracked, new_port, host, said):
    settings = untracked.model_copy(update={"host": host, "port": new_port()})
    check = checks_of(settings)["Service running?"]
    assert not check.passed
    assert f"'{host}' {said}" in check.finding
    assert "VIGIE_HOST" in check.remedy
    with pytest.raises(InvalidDataError, match=f"VIGIE_HOST: '{host}' {said}"), service(settings):
        pass
