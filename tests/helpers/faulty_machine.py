"""A machine whose sensors fail: its readings, and what may be wrong with one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from quick_training import CHEAP

from vigie.config import Settings
from vigie.detectors.data.quality import frozen_after
from vigie.services.anomaly_detection_service import AnomalyDetectionService

Request = dict[str, Any]

SENSORS = ("temperature", "pressure", "flow", "current")
RANGES = {"temperature": (-40.0, 150.0), "flow": (0.0, None), "level": (0.0, 1.0)}
MODELS = {"isolation_forest", "one_class_svm", "vector_autoregression", "lstm_autoencoder"}
START = datetime(2026, 1, 5, 8, tzinfo=UTC)


def machine(n: int, seed: int) -> np.ndarray:
    """Rows of a healthy machine whose sensors go together, shape (n, 4)."""
    rng = np.random.default_rng(seed)
    load, noise = rng.normal(size=(n, 1)), rng.normal(size=(n, len(SENSORS)))
    together = 0.7 * load * [1, -1, 1, 1] + 0.7 * noise
    return np.array([60.0, 4.0, 100.0, 12.0]) + np.array([2.0, 0.1, 3.0, 0.4]) * together


TRAINED_ON = machine(500, seed=0)
HEALTHY = machine(120, seed=1)


def trained(
    folder: Path,
    rows: np.ndarray = TRAINED_ON,
    models: list[str] | None = None,
    **changed: Any,
) -> AnomalyDetectionService:
    service = AnomalyDetectionService(Settings(**(CHEAP | {"state_dir": folder} | changed)))
    outcome = service.train_all_models(rows, SENSORS, models)
    assert {model["status"] for model in outcome.values()} == {"trained"}, outcome
    return service


def reading(asset_id: str, row: np.ndarray, second: int = 0) -> Request:
    return {
        "asset_id": asset_id,
        "timestamp": START + timedelta(seconds=second),
        "features": dict(zip(SENSORS, row.tolist(), strict=False)),
    }


def recording(asset_id: str, rows: np.ndarray) -> list[Request]:
    return [reading(asset_id, row, second) for second, row in enumerate(rows)]


def broken(request: Request, sensor: str, value: Any) -> Request:
    """Return a reading in which a sensor has this value; without it, where that is ``...``."""
    features = {name: known for name, known in request["features"].items() if name != sensor}
    return request | {"features": features if value is ... else features | {sensor: value}}


FAULTS = [
    ("pressure", ..., "missing"),
    ("pressure", None, "missing"),
    ("temperature", 150.1, "out_of_range"),
    ("temperature", -273.15, "out_of_range"),
    ("flow", -0.5, "out_of_range"),
    ("flow", 100_000.0, "wrong_unit"),
    ("pressure", 4_000.0, "wrong_unit"),
    ("current", -12_000.0, "wrong_unit"),
]
IDS = [f"{sensor}-{'left out' if value is ... else value}" for sensor, value, _ in FAULTS]
each_fault = pytest.mark.parametrize(("sensor", "value", "reason"), FAULTS, ids=IDS)


AFTER = int(frozen_after(TRAINED_ON)[SENSORS.index("flow")])
"""Readings for which the flow may hold one value."""


def stuck(n: int, first: int, length: int) -> np.ndarray:
    """Return rows in which the flow holds one value for some readings, from ``first`` on."""
    rows = machine(n, seed=2)
    rows[first : first + length, SENSORS.index("flow")] = rows[first, SENSORS.index("flow")]
    return rows
