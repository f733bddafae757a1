"""Response models of the HTTP API; those shared with Python are in ``vigie.models``."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, Field

from vigie.models.events import AssetEvent, EventLabel, EventReading
from vigie.models.jobs import Job, ModelTraining
from vigie.models.moves import Action


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


class EventList(BaseModel):
    """Events of assets, the last to begin first."""

    events: list[AssetEvent]
    next: str | None
    """The ``cursor`` of the next page; null on the last one."""


class EventDetail(AssetEvent):
    """An event with the readings around it."""

    labels: list[EventLabel]
    """All that it has had, the first to be given first; the last one holds."""
    readings: list[EventReading]
    """Oldest first: some from before it, and those from its start on."""


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


class ServingVersion(BaseModel):
    """The version that serves."""

    version: int | None
    """Null if it was trained here, and the registry does not have it yet."""
    stage: str | None


class ModelSummary(BaseModel):
    """A model: what serves, and what the registry has."""

    name: str
    algorithm: str
    serving: ServingVersion | None
    production: int | None
    """Numbers of versions: in Production, in Staging, and the last one that was registered."""
    staging: int | None
    newest: int | None
    n_versions: int
    problem: str | None
    """Why what the registry says does not serve, if so."""


class ModelList(BaseModel):
    """All models."""

    models: list[ModelSummary]


class RegisteredVersion(BaseModel):
    """A version, with what its run logged. Times are in UTC."""

    version: int
    stage: str
    is_serving: bool
    """Whether readings are judged by it here."""
    created: datetime
    """When it was registered."""
    trained: datetime | None
    """When its training ended, which may be long before; null if another tool made it."""
    promoted: datetime | None
    """When Vigie last promoted it to Production; null if it was rolled back since."""
    run_id: str | None
    run_name: str | None
    """Null if the run was deleted for good."""
    run_page: str | None
    """MLflow's page of the run."""
    metrics: dict[str, float]
    parameters: dict[str, str]


class VersionList(BaseModel):
    """The last versions of a model, the newest first."""

    name: str
    versions: list[RegisteredVersion]


class MovedVersion(RegisteredVersion):
    """A version that was moved to a stage."""

    previous: int | None
    """The version whose place it took, if any."""
    problem: str | None
    """Why it does not serve, though it should."""
    compared: str | None
    """What its comparison with the version before says, if it was compared in Staging."""


class MoveResponse(BaseModel):
    """A move of a version from a stage to another."""

    at: datetime | None
    """In UTC; null if the registry does not know it."""
    version: int
    from_stage: str | None
    to_stage: str
    action: Action
    by: str | None
    """The name of the API key or of the user, or the address of a client that needed no key; null
    if it is not known."""
    reason: str | None
    run_id: str | None


class MoveList(BaseModel):
    """The last moves of a model's versions, the newest first."""

    name: str
    moves: list[MoveResponse]


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
