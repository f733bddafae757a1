"""What an entry of the outbox says: typed records, and how they stand in its ``entry.json``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from pydantic import TypeAdapter, ValidationError

Metric = tuple[str, float, int, int]
"""Name, value, Unix time in milliseconds, and step."""


@dataclass(frozen=True)
class RunRef:
    """A run by which the outbox finds it again.

    Attributes
    ----------
    run_id, experiment_id : str
        Empty as long as the server does not know of the run.
    entry : str or None
        Name of the outbox's entry that creates it, if one does.
    is_free : bool
        Whether a training may go into it.
    """

    run_id: str
    experiment_id: str
    entry: str | None = None
    is_free: bool = False


@dataclass(frozen=True)
class End:
    """How a run ended, and when (Unix time in milliseconds); as ``set_terminated`` takes it."""

    status: str
    end_time: int


@dataclass(frozen=True)
class TrainingEntry:
    """One training: all that its run and its version are made from, but for the files.

    Attributes
    ----------
    experiment, run_name, model_name, artifact_path : str
        Of the run, and of the registered model.
    parent : RunRef or None
        The run that the caller had open.
    params, metrics, tags : mapping and sequence
        As logged.
    origin : mapping of str to str
        The tags by which MLflow says who has run what, from where.
    server : str
        Where the open run is, without a password.
    content_hash : str
        Of the model's serving form.
    started_ms, ended_ms : int
        Unix time in milliseconds.
    stage : str or None
        The stage that the version is to be moved to.
    """

    experiment: str
    run_name: str
    model_name: str
    artifact_path: str
    parent: RunRef | None
    params: Mapping[str, str]
    metrics: list[Metric]
    tags: Mapping[str, str]
    origin: Mapping[str, str]
    server: str
    content_hash: str
    started_ms: int
    ended_ms: int
    stage: str | None = None

    @property
    def what(self) -> str:
        """What it is, in words."""
        return self.run_name

    @property
    def goes_into(self) -> RunRef | None:
        """The run that must be there first."""
        return self.parent


@dataclass(frozen=True)
class ManualRun:
    """A run that a program has opened by hand.

    Attributes
    ----------
    what : str
        In words, for the log.
    experiment : str
        Its experiment.
    run_name : str or None
        None lets MLflow make one up.
    parent : RunRef or None
        The run that it is nested in.
    started_ms : int
        Unix time in milliseconds.
    ended : End or None
        Set where it is ended as soon as it is there.
    origin : mapping of str to str
        As a training's.
    """

    what: str
    experiment: str
    run_name: str | None
    parent: RunRef | None
    started_ms: int
    ended: End | None
    origin: Mapping[str, str] = field(default_factory=dict)

    @property
    def goes_into(self) -> RunRef | None:
        return self.parent


@dataclass(frozen=True)
class ManualValues:
    """Parameters, metrics, a model or the end of a run, recorded by hand.

    Attributes
    ----------
    what : str
        In words, for the log.
    experiment : str
        The run's.
    run : RunRef
        Where they go.
    params, metrics : mapping and sequence
        As logged.
    ended : End or None
        How the run has ended, if it has.
    artifact_path, model_name : str or None
        Of a model, whose files are the entry's; the name registers it.
    """

    what: str
    experiment: str
    run: RunRef
    params: Mapping[str, str] = field(default_factory=dict)
    metrics: list[Metric] = field(default_factory=list)
    tags: Mapping[str, str] = field(default_factory=dict)
    ended: End | None = None
    artifact_path: str | None = None
    model_name: str | None = None

    @property
    def goes_into(self) -> RunRef | None:
        return self.run


Record = TrainingEntry | ManualRun | ManualValues


def to_json(record: Record) -> dict[str, Any]:
    """Return a record as it stands in ``entry.json``."""
    return asdict(record)


def from_json(facts: Mapping[str, Any]) -> Record:
    """Return the record that stands in ``entry.json``.

    Raises
    ------
    ValueError
        If it is none; the message names the first field that is wrong.
    """
    kind: type[Record] = (
        TrainingEntry if "what" not in facts else ManualValues if "run" in facts else ManualRun
    )
    try:
        return TypeAdapter(kind).validate_python(dict(facts))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"{where}: {first['msg']}") from error
