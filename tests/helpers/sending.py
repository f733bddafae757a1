"""One training that is sent to MLflow, and what became of it there and here."""

from __future__ import annotations

from typing import Any

import numpy as np
from faults import AT_MOST_S, Failing

from vigie.config import Settings
from vigie.services.mlflow_service import MLflowService
from vigie.services.one_class_svm_service import OneClassSVMService

NAME = "one_class_svm"


def train(settings: Settings, rows: np.ndarray) -> OneClassSVMService:
    """Train on the first two sensors, which is quick."""
    service = OneClassSVMService(settings=settings)
    service.train(rows[:, :2])
    service.mlflow_service.flush(AT_MOST_S)
    return service


def runs(settings: Settings) -> list[Any]:
    return MLflowService(settings).search_runs(order_by=["attributes.start_time ASC"])


def versions(settings: Settings) -> list[Any]:
    return MLflowService(settings).list_versions(NAME)


def waiting(settings: Settings) -> int:
    return MLflowService(settings).outbox.summary().waiting


def files(client: Any, run_id: str, path: str | None = None) -> set[str]:
    found = client.list_artifacts(run_id, path)
    nested = (files(client, run_id, one.path) if one.is_dir else {one.path} for one in found)
    return set().union(*nested)


def recovered(settings: Settings, server: Failing) -> None:
    """Let the server be well, and send what it has missed."""
    server.left = 10_000
    service = MLflowService(settings)
    assert service.flush(AT_MOST_S)
    service.sync()
    assert waiting(settings) == 0
