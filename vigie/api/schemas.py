"""Response models of the HTTP API; those shared with Python are in ``vigie.models``."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, Field

from vigie.models.jobs import Job, ModelTraining


class TrainResponse(BaseModel):
    """The outcome of each training."""

    models: dict[str, ModelTraining]


class JobLinks(BaseModel):
    """Addresses of a job, as paths."""

    self_: str = Field(serialization_alias="self", validation_alias="self")
    """GET: the job. DELETE: cancel it."""
    events: str
    """GET: its progress as server-sent events."""


class JobResponse(Job):
    """A training job."""

    position: int | None = None
    """Its place among the jobs that wait, from 1; null once it runs, and for another replica's."""
    links: JobLinks


class JobList(BaseModel):
    """The last jobs, the newest first."""

    jobs: list[JobResponse]
    stored: bool
    """Whether jobs are in the history's database; otherwise they end with this process."""


class ModelStatus(BaseModel):
    """Whether a model serves, its version, and the problem if any."""

    trained: bool
    version: int | None
    stage: str | None
    n_features: int | None
    feature_names: list[str] | None
    """All columns, those of the context too."""
    context_features: list[str] | None
    """Those of them that say how the machine is run."""
    problem: str | None


class JournalStatus(BaseModel):
    """The outbox of records that MLflow does not have yet; `vigie sync` sends them at once."""

    waiting: int
    set_aside: int
    """Dead letters, which MLflow rejects; they are not retried automatically."""
    bytes: int
    oldest_s: float | None
    """Age of the oldest waiting record, in seconds."""


class StatusResponse(BaseModel):
    """The state of the service."""

    ready: bool
    confirmed: datetime | None
    """When the registry last confirmed the versions that serve; null if it never has."""
    pending: list[str]
    """Trainings whose record is still being uploaded to MLflow."""
    journal: JournalStatus | None
    """Null if tracking is disabled."""
    replaced: int
    """Readings since the start that took the place of another one, with other values, of the same
    asset and time."""
    models: dict[str, ModelStatus]


class VersionMetrics(BaseModel):
    """A registered version with the metrics of its run."""

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
    """One invalid field of a body."""

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
    """The first fault of an invalid body, and possibly more."""
    incident: str | None = None
    """Id of an internal error in the service's log."""
