"""What the environment holds in confidence stands in no run, no artifact, no log and no answer."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from faults import AT_MOST_S, Failing
from typer.testing import CliRunner

from vigie.cli import app
from vigie.config import Settings
from vigie.services.mlflow_service import MLflowService
from vigie.services.one_class_svm_service import OneClassSVMService

SECRET = "hunter2"
IN_THE_ENVIRONMENT = {
    "MLFLOW_TRACKING_PASSWORD": SECRET,
    "MLFLOW_TRACKING_TOKEN": SECRET,
    "VIGIE_API_KEY": SECRET,
    "AWS_SECRET_ACCESS_KEY": SECRET,
    "AWS_SESSION_TOKEN": SECRET,
    # Nobody listens there, so that the history says that it cannot be used.
    "VIGIE_HISTORY_URL": f"postgresql://vigie:{SECRET}@127.0.0.1:1/history",
}

FAULTS = ((10_000, "gone"), (0, "gone"), (0, "500"), (3, "gone"), (0, "unanswered"))
"""After how many requests the server fails, and how."""


@pytest.fixture
def confided(
    tracked: Settings, failing: Callable[..., Failing], monkeypatch: pytest.MonkeyPatch
) -> tuple[Settings, Failing]:
    """Settings with passwords wherever there can be one, and the server behind them."""
    server = failing(tracked.mlflow_tracking_uri, 10_000, "gone")
    address = urlsplit(server.uri)._replace(netloc=f"ada:{SECRET}@127.0.0.1:{server.server_port}")
    for name, value in IN_THE_ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address.geturl())
    monkeypatch.setattr("vigie.registry.server.QUIET_AFTER_FAILURE_S", 0.0)
    return Settings(), server


def text_of(folder: Path) -> str:
    """Return all that stands in the files below a folder, and their names."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return "\n".join(f"{path}\n{path.read_bytes().decode('latin-1')}" for path in files)


def recorded(service: MLflowService, folder: Path) -> str:
    """Return all that the server has of runs and versions."""
    client, told = service.server.client, []
    for run in service.search_runs():
        told.append(json.dumps([run.data.params, run.data.tags, run.info.run_name]))
        client.download_artifacts(run.info.run_id, "", str(folder))
    for model in client.search_registered_models():
        for version in client.search_model_versions(f"name='{model.name}'"):
            told.append(json.dumps([version.tags, version.source, version.description]))
    return "\n".join([*told, text_of(folder)])


def test_a_password_stands_in_no_record_no_log_and_no_answer(
    confided, running, healthy, names, tmp_path, caplog, capfd
):
    settings, server = confided
    caplog.set_level(logging.DEBUG)
    told: list[Any] = []

    def train(rows: np.ndarray) -> None:
        service = OneClassSVMService(settings=settings)
        service.train(rows, names)
        service.mlflow_service.flush(AT_MOST_S)

    train(healthy)
    folder = tmp_path / "artifacts"
    folder.mkdir()
    told.append(recorded(MLflowService(settings), folder))
    assert f"{settings.nu}" in told[0]
    reading = {"asset_id": "pump", "features": dict(zip(names, healthy[0].tolist(), strict=True))}
    with running(settings) as api:
        for left, how in (
            (10_000, "gone"),
            (0, "gone"),
            (0, "500"),
            (3, "gone"),
            (0, "unanswered"),
        ):
            server.left, server.how = left, how
            train(healthy)
            MLflowService(settings).start_run("by hand")
            MLflowService(settings).end_run()
            told += [api.get(path).text for path in ("/status", "/metrics", "/health/ready")]
            told.append(api.post("/detect", json=reading).text)
            for command in (["doctor"], ["models", "list"], ["sync"], ["sync", "--dry-run"]):
                done = CliRunner().invoke(app, command)
                told += [done.output, repr(done.exception)]
    told += [text_of(settings.state_dir), caplog.text, *capfd.readouterr()]
    assert server.credentials - {None}, "the password was never used"
    for part in told:
        assert SECRET not in part, part[max(part.find(SECRET) - 300, 0) :][:400]
