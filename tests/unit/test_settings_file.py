"""``vigie.toml``: what it sets, what goes before it, and what is refused with its line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from vigie.config import Settings
from vigie.errors import InvalidDataError, SettingsFileError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "vigie.toml"


def test_an_argument_goes_before_the_environment_that_before_env_and_that_before_the_file(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text(
        'mlflow_enabled = false\nport = 1\nepochs = 1\nnu = 0.1\nkernel = "poly"\n'
        "[sensor_ranges]\nrms = [0, 1]\n"
    )
    Path(".env").write_text("VIGIE_PORT=2\nVIGIE_EPOCHS=2\nVIGIE_NU=0.2\n")
    monkeypatch.setenv("VIGIE_PORT", "3")
    monkeypatch.setenv("VIGIE_EPOCHS", "3")
    monkeypatch.setenv("VIGIE_MLFLOW_ENABLED", "true")

    settings = Settings(port=4, sensor_ranges={"temperature": (1, 2)})

    assert settings.port == 4
    assert settings.epochs == 3
    assert settings.nu == 0.2
    assert settings.kernel == "poly"
    # Whichever of its two names sets it.
    assert settings.mlflow_enabled
    # The whole value, not some sensors from here and some from there.
    assert settings.sensor_ranges == {"temperature": (1, 2)}
    assert Settings().sensor_ranges == {"rms": (0, 1)}


def test_a_file_of_another_name_is_read_where_a_variable_names_it(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text("port = 1\n")
    (tmp_path / "line-2.toml").write_text("\ufeffport = 2\n", encoding="utf-8")
    Path(".env").write_text("VIGIE_CONFIG=line-2.toml\n")
    assert Settings().port == 2
    monkeypatch.setenv("VIGIE_CONFIG", "line-3.toml")
    with pytest.raises(SettingsFileError, match=r"VIGIE_CONFIG: There is no file .*line-3\.toml"):
        Settings()


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("port = 1\nprot = 2\n", r"vigie\.toml, line 2: prot is no setting\. Did you mean port\?"),
        ("VIGIE_PORT = 1\n", r"line 1: VIGIE_PORT is no setting\. Did you mean port\?"),
        ("\n[service]\nport = 1\n", r"line 2: service is no setting"),
        ('"a b" = 1\n', r"line 1: a b is no setting"),
        ("port = \n", r"vigie\.toml is no TOML: .*line 1.*name = value"),
        ("# r\xe9glages\n".encode("latin-1"), r"vigie\.toml is not in UTF-8: see line 1"),
        ("nu = 0.5\nport = 'x'\n", r"VIGIE_PORT: .*'x' \(.*vigie\.toml, line 2\)"),
        ("history_url = 'mysql://bob:hunter2@h/d'\n", r"VIGIE_HISTORY_URL: .*\*\*\*@.*line 1"),
        ("[sensor_ranges]\nrms = [2, 1]\n", r"VIGIE_SENSOR_RANGES: .*lower end.*line 1"),
    ],
)
def test_what_cannot_be_used_is_refused_with_its_place(
    written: str | bytes, told: str, file: Path
) -> None:
    file.write_bytes(written if isinstance(written, bytes) else written.encode())
    with pytest.raises(InvalidDataError, match=told) as raised:
        Settings()
    assert "hunter2" not in str(raised.value)


def test_another_process_comes_to_the_same_settings_by_their_variables(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text(
        "horizons = [1, 3]\nsensor_ranges = {rms = [-inf, 2]}\napi_key = 'key'\nfigures = false\n"
    )
    settings = Settings()
    assert settings.sensor_ranges == {"rms": (None, 2)}
    variables = settings.variables(*Settings.model_fields)
    file.unlink()
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert Settings() == settings


def test_a_command_ends_with_the_status_of_a_file_that_cannot_be_used(file: Path) -> None:
    file.write_text("prot = 1\n")
    done = subprocess.run(
        [sys.executable, "-m", "vigie.cli", "sync"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "COLUMNS": "200"},
    )
    assert done.returncode == 2
    assert "line 1: prot is no setting. Did you mean port?" in done.stderr
    assert "Traceback" not in done.stderr
