"""A training job, as data: what the database keeps and the API answers."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class JobState(StrEnum):
    """The state of a job."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    """At least one detector was trained."""
    FAILED = "failed"
    """No detector was trained; ``error`` says why."""
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"
    """The service ended while the training ran."""

    @property
    def has_ended(self) -> bool:
        """Whether it is the last state of a job."""
        return self not in (JobState.QUEUED, JobState.RUNNING)


class ModelTraining(BaseModel):
    """The outcome of training one detector."""

    status: str
    """'trained' or 'failed'."""
    version: int | None = None
    """The new version in the registry; null if it is not registered (yet)."""
    run_id: str | None = None
    """Its run in MLflow; null if it is not recorded (yet)."""
    serving_version: int | None = None
    """The version that serves now: a promoted one keeps serving."""
    metrics: dict[str, Any] | None = None
    error: str | None = None
    note: str | None = None
    """What to know of a trained one, such as that its record waits in the outbox."""


class JobProgress(BaseModel):
    """How far a training is."""

    percent: float = 0.0
    """Of the whole job, 0 to 100."""
    step: str = "waiting"
    """What it is doing, such as ``epoch 3/20``."""
    model: str | None = None
    """The detector that is being trained."""
    epoch: int | None = None
    epochs: int | None = None
    """Most epochs; training may end earlier."""
    loss: float | None = None
    """Mean training loss of the epoch."""
    remaining_s: float | None = None
    """Estimate of the time left, in seconds; null until there is one."""


class JobData(BaseModel):
    """What a job learns from."""

    model_config = ConfigDict(populate_by_name=True, serialize_by_alias=True)

    source: Literal["body", "file", "history"] = "body"
    filename: str | None = None
    asset_id: str | None = None
    sensor_id: str | None = None
    start: datetime | None = Field(None, alias="from")
    """The first and the last time that is asked for, of the history."""
    end: datetime | None = Field(None, alias="to")
    n_rows: int | None = None
    """Rows that are learnt; null until they are read."""
    feature_names: list[str] | None = None
    notes: list[str] = Field(default_factory=list)
    """What to know of how a file was read."""
    left_out: dict[str, int] = Field(default_factory=dict)
    """Readings of the history that are not learnt, by the reason: a state of the asset, or
    ``anomaly`` where a history has no states."""


class JobError(BaseModel):
    """Why a job did not succeed."""

    detail: str
    field: str | None = None
    """Where the fault is, in the request."""
    remedy: str | None = None
    errors: list[dict[str, str]] | None = None
    """Each fault of an invalid request."""


class Job(BaseModel):
    """A training job."""

    id: str
    state: JobState
    created: datetime
    started: datetime | None = None
    ended: datetime | None = None
    data: JobData = Field(default_factory=JobData)
    model_names: list[str] | None = None
    """The detectors to train; null until the request is read."""
    contamination: float | None = None
    parameters: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """The hyper-parameters given for this training, by detector."""
    progress: JobProgress = Field(default_factory=JobProgress)
    models: dict[str, ModelTraining] = Field(default_factory=dict)
    """The outcome of each detector, as soon as it has one."""
    error: JobError | None = None
    revision: int = 0
    """Grows with each change; the ``id`` of its events."""
