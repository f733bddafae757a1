"""Bodies that only HTTP knows; the words shared with Python are in ``vigie.models``."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel


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


class JournalStatus(BaseModel):
    """Trainings that MLflow does not have yet; `vigie sync` sends them at once."""

    waiting: int
    set_aside: int
    """Those that MLflow has found fault with; they are not tried again by themselves."""
    bytes: int
    oldest_s: float | None
    """Seconds for which the first of them has been waiting."""


class StatusResponse(BaseModel):
    """What serves."""

    ready: bool
    confirmed: datetime | None
    """When the registry last said which versions serve; null where it never has."""
    pending: list[str]
    """Trainings whose record is still on its way to MLflow."""
    journal: JournalStatus | None
    """Null where tracking is disabled."""
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


class Fault(BaseModel):
    """One place of a body that is wrong."""

    field: str
    message: str


class Problem(BaseModel):
    """An error (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    instance: str | None = None
    field: str | None = None
    remedy: str | None = None
    errors: list[Fault] | None = None
    """Of a body: the first place that is wrong, and more of them."""
    incident: str | None = None
    """Of a fault of the service: what its log has it as."""
