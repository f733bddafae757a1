"""One machine of five sensors, a service that has learnt it, and readings of it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from quick_training import CHEAP

from vigie.assessment.assessment import Assessment
from vigie.assessment.status import AssetStatus
from vigie.config import Settings
from vigie.models.anomaly_data import AnomalyDetectionResult, AssetState
from vigie.services.anomaly_detection_service import AnomalyDetectionService
from vigie.serving import saved

NORMAL, WATCH, IN_ALARM = AssetState.NORMAL, AssetState.WATCH, AssetState.ALARM
SENSORS = ("speed", "pressure", "flow", "current", "vibration")
UNIT = np.array([20.0, 0.3, 4.0, 0.5, 0.2])
"""Standard deviation of each sensor."""
START = datetime(2026, 1, 5, 8, tzinfo=UTC)
ROW_MODELS = ("isolation_forest", "one_class_svm")
MODELS = (*ROW_MODELS, "vector_autoregression", "lstm_autoencoder")
QUICKEST = ("one_class_svm",)

Request = dict[str, Any]


def machine(n: int, seed: int) -> np.ndarray:
    """Rows of a healthy machine whose sensors go together, shape (n, 5)."""
    rng = np.random.default_rng(seed)
    load, noise = rng.normal(size=(n, 1)), rng.normal(size=(n, len(SENSORS)))
    together = 0.8 * load * [1, 1, -1, 1, -1] + 0.6 * noise
    return np.array([1500.0, 4.0, 100.0, 12.0, 2.0]) + UNIT * together


def shifted(rows: np.ndarray, sensor: str, deviations: float, where: slice) -> np.ndarray:
    """Return rows in which one sensor reads some of its standard deviations too much."""
    changed = rows.copy()
    changed[where, SENSORS.index(sensor)] += deviations * UNIT[SENSORS.index(sensor)]
    return changed


def trained(
    folder: Path, models: Sequence[str] = MODELS, **changed: Any
) -> AnomalyDetectionService:
    """Return a service that has learnt the machine; the same data and seed, the same models."""
    service = AnomalyDetectionService(Settings(**(CHEAP | {"state_dir": folder} | changed)))
    outcome = service.train_all_models(machine(500, seed=0), SENSORS, models)
    assert {model["status"] for model in outcome.values()} == {"trained"}, outcome
    return service


def saved_models(folder: Path, models: Sequence[str] = MODELS) -> Path:
    """Return a folder with models of the machine, for services that load them."""
    service = trained(folder / "state", models, history_enabled=False)
    serving = service.served.current.for_everything.served
    saved.save([served.model for served in serving.values()], folder / "saved")
    service.close()
    return folder / "saved"


def at(second: float) -> datetime:
    return START + timedelta(seconds=second)


def readings(
    asset_id: str, rows: np.ndarray, seconds: Sequence[float] | None = None
) -> list[Request]:
    """Return rows as readings of an asset, by default one a second."""
    seconds = range(len(rows)) if seconds is None else seconds
    return [
        {
            "asset_id": asset_id,
            "timestamp": at(second),
            "features": dict(zip(SENSORS, row.tolist(), strict=True)),
        }
        for row, second in zip(rows, seconds, strict=True)
    ]


def one_by_one(
    service: AnomalyDetectionService, requests: Sequence[Request]
) -> list[AnomalyDetectionResult]:
    return [service.detect_anomaly(request) for request in requests]


def states(results: Sequence[AnomalyDetectionResult]) -> list[AssetState]:
    return [result.asset.state for result in results]


def statuses_of(judged: Assessment) -> list[AssetStatus]:
    return [judged.status(row) for row in range(len(judged))]


def changes(found: Sequence[Any]) -> int:
    return sum(one != other for one, other in pairwise(found))


def first(found: Sequence[AssetState], state: AssetState) -> int:
    return list(found).index(state)


def same_asset(one: AnomalyDetectionResult, other: AnomalyDetectionResult) -> bool:
    """Whether two results say the same of the asset, to the last digits of the evidence."""
    a, b = one.asset, other.asset
    return (a.state, a.since, a.began) == (b.state, b.since, b.began) and (
        a.evidence == b.evidence
        if a.evidence is None or b.evidence is None
        else a.evidence == pytest.approx(b.evidence, abs=1e-9)
    )


HEALTHY = machine(160, seed=5)
FAULT = slice(60, 100)
FAULTY = shifted(HEALTHY, "flow", 6.0, FAULT)
"""Forty readings, the 60th to the 99th, in which the flow is off by six deviations."""
