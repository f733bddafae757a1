"""A misspelt setting is named, with the one that was meant."""

from __future__ import annotations

import subprocess
import sys

from vigie.training.variables import NAMED, name_unknown_variables, unknown_variables


def test_a_misspelt_variable_is_named_with_the_nearest(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert unknown_variables() == []
    monkeypatch.setenv("VIGIE_PROT", "8085")
    monkeypatch.setenv("VIGIE_N_ESTIMATORS", "50")
    monkeypatch.setenv("VIGIE_SOURCE_TOKEN", "secret")
    monkeypatch.setenv("VIGIE_DB_PASSWORD", "secret")
    monkeypatch.setenv("VIGIE_XYZZY", "1")
    # Editors on Windows begin a file so.
    (tmp_path / ".env").write_text("VIGIE_CONTAMINATIONS=0.02\nOTHER=1\n", "utf-8-sig")
    assert unknown_variables() == [
        "VIGIE_CONTAMINATIONS is no setting, and is ignored. Did you mean VIGIE_CONTAMINATION?",
        "VIGIE_PROT is no setting, and is ignored. Did you mean VIGIE_PORT?",
        "VIGIE_XYZZY is no setting, and is ignored.",
    ]


def test_a_misspelt_variable_of_mlflow_is_named_and_those_of_mlflow_itself_are_not(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URL", "http://localhost:5001")
    for known in ("MLFLOW_EXPERIMENT_ID", "MLFLOW_TRACKING_TOKEN", "MLFLOW_REGISTRY_URI"):
        monkeypatch.setenv(known, "1")
    assert unknown_variables() == [
        "MLFLOW_TRACKING_URL is no setting, and is ignored. Did you mean MLFLOW_TRACKING_URI?"
    ]


def test_a_variable_that_something_reads_is_not_named(monkeypatch):
    for name in ("vigie_port", "VIGIE_MLFLOW_ENABLED", "Vigie_Mlflow_Tracking_Uri"):
        monkeypatch.setenv(name, "1")
    # What Kubernetes sets for Services named vigie and vigie-mlflow.
    for service in ("VIGIE", "VIGIE_MLFLOW"):
        monkeypatch.setenv(f"{service}_SERVICE_HOST", "10.0.0.1")
        monkeypatch.setenv(f"{service}_SERVICE_PORT_HTTP", "8084")
        monkeypatch.setenv(f"{service}_PORT", "tcp://10.0.0.1:8084")
        monkeypatch.setenv(f"{service}_PORT_8084_TCP_ADDR", "10.0.0.1")
    assert unknown_variables() == []
    monkeypatch.setenv("VIGIE_PLANT_PASSWORD", "secret")
    assert unknown_variables(["VIGIE_PLANT_PASSWORD"]) == []
    assert len(unknown_variables()) == 1


def test_a_process_started_by_one_that_has_named_a_variable_does_not_repeat_it(monkeypatch, caplog):
    monkeypatch.setenv(NAMED, "")
    monkeypatch.setenv("MLFLOW_ENABLED", "false")
    monkeypatch.setenv("VIGIE_PROT", "8085")
    name_unknown_variables()
    name_unknown_variables()
    assert caplog.text.count("VIGIE_PROT") == 1
    monkeypatch.setenv("VIGIE_HOTS", "0.0.0.0")
    child = subprocess.run(
        [sys.executable, "-m", "vigie.cli", "sync"], capture_output=True, text=True, check=False
    )
    assert "VIGIE_HOTS" in child.stderr
    assert "VIGIE_PROT" not in child.stderr
