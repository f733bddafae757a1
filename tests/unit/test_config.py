"""Settings from the environment: what they refuse, and what they keep to themselves."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import pytest

from vigie.cli import main
from vigie.config import Settings, masked
from vigie.errors import InvalidDataError
from vigie.registry.server import Server
from vigie.training.train import checked_parameters


@pytest.mark.parametrize(
    "url",
    ["foo", "mysql://u:p@h/db", "postgresql+nosuch://h/db", "postgresql://u:p@h:port/db"],
)
def test_a_history_that_can_be_kept_nowhere_stops_the_start(url, monkeypatch):
    monkeypatch.setenv("VIGIE_HISTORY_URL", url)
    with pytest.raises(InvalidDataError, match="VIGIE_HISTORY_URL"):
        Settings()


@pytest.mark.parametrize(
    "address",
    [
        "http://bob:hunter2@localhost:5000",
        "http://bob:hun@ter2hunter2@localhost:5000",
        "bob:hunter2@localhost:5000",
        "http://hunter2@localhost:5000",
        "postgresql://h/db?user=bob&password=hunter2",
        "cannot reach 'postgresql://:hunter2@h/db' now",
    ],
)
def test_no_form_of_a_password_in_an_address_is_told(address):
    assert "ter2" not in masked(address)
    assert "hunter" not in masked(address)


@pytest.mark.parametrize("password", [f"hun{character}ter2" for character in "'/ \"@:#?\\\n"])
@pytest.mark.parametrize("written", [str, lambda text: quote(text, safe="")])
def test_a_password_of_any_characters_is_told_nowhere(password, written, monkeypatch):
    address = f"http://bob:{written(password)}@mlflow.example:5000/a"
    server = Server(Settings(mlflow_tracking_uri=address).mlflow_tracking_uri)
    assert server.masked_uri == "http://bob:***@mlflow.example:5000/a"
    for text in (f"GET {address} failed", repr(address), f"no login as {password} at all"):
        assert "ter2" not in masked(text)
    monkeypatch.setenv("VIGIE_HISTORY_URL", f"mysql://bob:{written(password)}@db.example/history")
    with pytest.raises(InvalidDataError) as raised:
        Settings()
    assert "ter2" not in str(raised.value)


def test_an_address_without_a_password_is_told_as_it_is():
    for address in ("http://localhost:5000/a", "sqlite:///mlflow.db", "at 10:30 a@b.org wrote"):
        assert masked(address) == address


@pytest.mark.parametrize("host", ["", " ", "localhost:8084", "http://localhost", "[::1]", "a..b"])
def test_a_host_that_is_none_is_refused_with_what_is_expected(host, monkeypatch):
    monkeypatch.setenv("VIGIE_HOST", host)
    with pytest.raises(InvalidDataError, match=r"VIGIE_HOST: A name or an address .* 127\.0\.0\.1"):
        Settings()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "::1", "pump-7.works.example", "my_host"])
def test_addresses_and_names_are_hosts(host, monkeypatch):
    monkeypatch.setenv("VIGIE_HOST", host)
    assert Settings().host == host


def test_the_port_that_kubernetes_sets_is_refused_with_how_to_stop_it(monkeypatch):
    monkeypatch.setenv("VIGIE_PORT", "tcp://10.0.0.1:8084")
    with pytest.raises(InvalidDataError, match="enableServiceLinks: false"):
        Settings()


def test_a_setting_that_cannot_be_used_is_said_without_its_password(monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "bob:hunter2@localhost:5000")
    monkeypatch.setattr("sys.argv", ["vigie", "doctor"])
    with pytest.raises(SystemExit):
        main()
    told = capsys.readouterr().err
    assert "MLFLOW_TRACKING_URI" in told
    assert "hunter2" not in told


def test_a_number_of_samples_without_a_dot_is_a_count(monkeypatch):
    for written, meant in (("2", 2), ("512", 512), ("1.0", 1.0), ("0.5", 0.5), ("auto", "auto")):
        monkeypatch.setenv("VIGIE_MAX_SAMPLES", written)
        assert repr(Settings().max_samples) == repr(meant)
    for one in ("1", " 1", "+1", "01"):
        monkeypatch.setenv("VIGIE_MAX_SAMPLES", one)
        with pytest.raises(InvalidDataError, match="VIGIE_MAX_SAMPLES: 1 is a count"):
            Settings()


def test_a_value_that_would_take_all_memory_is_refused_with_its_limit():
    given = {"lstm_autoencoder": {"encoder_layers": [10**9]}}
    with pytest.raises(InvalidDataError) as refused:
        checked_parameters(["lstm_autoencoder"], Settings(), parameters=given)
    assert refused.value.field == "parameters.lstm_autoencoder.encoder_layers"
    assert refused.value.message == "It must be at most 1024, but it is 1000000000."


def test_a_path_is_told_as_it_was_given(monkeypatch):
    monkeypatch.setenv("VIGIE_TLS_KEY", "/etc/tls/key.pem")
    for given in ({}, {"tls_key": Path("/etc/tls/key.pem")}):
        with pytest.raises(InvalidDataError, match=r"but it is '/etc/tls/key\.pem'"):
            Settings(**given)
