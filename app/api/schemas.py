"""Bodies that only HTTP knows; the words shared with Python are in ``app.models``."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from app.models.anomaly_data import Name, Value


def _example_rows() -> list[JsonValue]:
    """Return sixty healthy readings of a small pump, enough to train on when pasted."""
    return [
        [
            round(0.40 + 0.03 * math.sin(0.7 * i) + 0.01 * math.cos(2.3 * i), 3),
            round(3.05 + 0.12 * math.sin(1.1 * i + 1.0), 3),
            round(61.0 + 0.8 * math.sin(0.13 * i) + 0.1 * math.cos(1.7 * i), 2),
        ]
        for i in range(60)
    ]


class TrainRequest(BaseModel):
    """Healthy rows, and what to train on them."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "data": _example_rows(),
                    "feature_names": ["rms", "kurtosis", "temperature"],
                    "model_names": ["isolation_forest", "one_class_svm"],
                }
            ]
        },
    )

    data: Annotated[list[list[Value]], Field(min_length=1)]
    """Readings of healthy operation, in time order; one row each."""
    feature_names: list[Name] | None = None
    """Names of the columns; by default feature_1, feature_2 ..."""
    model_names: list[Name] | None = None
    """Which detectors; by default all."""


class ModelTraining(BaseModel):
    """How the training of one detector went."""

    status: str
    """'trained' or 'failed'."""
    version: int | None = None
    """The new version in the registry; null where it could not be registered (yet)."""
    serving_version: int | None = None
    """The version that answers now: a promoted one goes on serving."""
    metrics: dict[str, Any] | None = None
    error: str | None = None


class TrainResponse(BaseModel):
    """How each training went."""

    models: dict[str, ModelTraining]


class ModelStatus(BaseModel):
    """Whether a detector can answer, by which version, and why not."""

    trained: bool
    version: int | None
    stage: str | None
    n_features: int | None
    feature_names: list[str] | None
    problem: str | None


class StatusResponse(BaseModel):
    """What serves."""

    ready: bool
    confirmed: datetime | None
    """When the registry last said which versions serve; null where it never has."""
    pending: list[str]
    """Trainings whose record is still on its way to MLflow."""
    models: dict[str, ModelStatus]


class VersionMetrics(BaseModel):
    """A registered version with what its run measured."""

    version: int
    stage: str
    run_id: str | None
    run_name: str | None
    created: str
    metrics: dict[str, float]


class HealthResponse(BaseModel):
    """The process is alive."""

    status: str
    version: str


class Problem(BaseModel):
    """An error (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    field: str | None = None
    remedy: str | None = None
