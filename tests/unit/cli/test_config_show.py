"""``vigie config show``: every setting, where it comes from, and no secret."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from vigie.cli import app
from vigie.config import Settings
from vigie.training.variables import NAMED

KEY = f"vigie_{'0' * 12}_{'1' * 48}"


def run(*words: str) -> Result:
    return CliRunner().invoke(app, ["config", "show", *words], env={"COLUMNS": "120"})


@pytest.fixture
def everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings from each source, some of them secret, and one from all at once."""
    monkeypatch.setenv("VIGIE_API_KEY", KEY)
    monkeypatch.setenv("VIGIE_EPOCHS", "3")
    (tmp_path / ".env").write_text("VIGIE_EPOCHS=4\nVIGIE_NU=0.4\nVIGIE_SHRINKAGE=1\n")
    (tmp_path / "vigie.toml").write_text(
        'mlflow_tracking_uri = "http://bob:hunter2@mlflow.example"\n'
        "epochs = 5\nnu = 0.3\nport = 8085\n"
        'allowed_hosts = ["a.example", "b.example"]\n'
        "[sensor_ranges]\nrms = [0, inf]\n"
    )


def test_each_setting_has_its_value_and_its_source(everywhere: None, tmp_path: Path) -> None:
    shown: dict[str, dict[str, Any]] = {
        each.pop("name"): each for each in json.loads(run("--json").stdout)
    }

    assert shown.keys() == {Settings.variable(field) for field in Settings.model_fields}
    file = str(tmp_path / "vigie.toml")
    for name, value, source, path, line in [
        ("VIGIE_CONTAMINATION", 0.01, "default", None, None),
        ("VIGIE_EPOCHS", 3, "environment", None, None),
        ("VIGIE_NU", 0.4, "env_file", str(tmp_path / ".env"), None),
        ("VIGIE_PORT", 8085, "file", file, 4),
        ("VIGIE_ALLOWED_HOSTS", ["a.example", "b.example"], "file", file, 5),
        ("VIGIE_SENSOR_RANGES", {"rms": [0.0, None]}, "file", file, 6),
        ("VIGIE_HISTORY_URL", None, "default", None, None),
    ]:
        assert shown[name] == {"value": value, "source": source, "path": path, "line": line}


def test_no_secret_is_shown_and_the_public_part_of_a_key_is(everywhere: None) -> None:
    for done in (run(), run("--json")):
        assert "1" * 48 not in done.output
        assert "hunter2" not in done.output
        assert f"vigie_{'0' * 12}_***" in done.stdout
        assert "http://bob:***@mlflow.example" in done.stdout


def test_people_see_a_table_and_which_files_were_read(
    everywhere: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv(NAMED, "")

    done = run()

    lines = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines() if line.strip()}
    assert lines["VIGIE_PORT"] == ["8085", "vigie.toml,", "line", "4"]
    assert lines["VIGIE_NU"] == ["0.4", ".env"]
    assert lines["VIGIE_TLS_CERT"] == ["not", "set", "default"]
    assert f"Read: {tmp_path / 'vigie.toml'}" in done.stderr
    assert f"Read: {tmp_path / '.env'}" in done.stderr
    assert "VIGIE_SHRINKAGE is no setting" in caplog.text
