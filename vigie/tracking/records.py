"""The records of outbox entries, and their form in ``entry.json``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import Any

from pydantic import TypeAdapter, ValidationError

from vigie.models.from_json import first_fault

Metric = tuple[str, float, int, int]
"""Name, value, Unix time in milliseconds, and step."""


@dataclass(frozen=True)
class RunRef:
    """A reference to a run, on the server or in the outbox.

    Attributes
    ----------
    run_id, experiment_id : str
        Empty until the server has created the run.
    entry : str or None
        Name of the outbox entry that creates it, if any.
    is_free : bool
        Whether a training may go into it.
    """

    run_id: str
    experiment_id: str
    entry: str | None = None
    is_free: bool = False


@dataclass(frozen=True)
class End:
    """The status of an ended run and its Unix time in ms: the arguments of ``set_terminated``."""

    status: str
    end_time: int


@dataclass(frozen=True)
class TrainingEntry:
    """One training: all that its run and its version are made from, except the files.

    Attributes
    ----------
    experiment, run_name, model_name, artifact_path : str
        Of the run, and of the registered model.
    parent : RunRef or None
        The open run of the caller.
    params, metrics, tags : mapping and sequence
        As logged.
    origin : mapping of str to str
        MLflow's context tags: user, source and host.
    server : str
        The server of the open run, without a password.
    content_hash : str
        Of the model's serving form.
    started_ms, ended_ms : int
        Unix time in milliseconds.
    stage : str or None
        The stage to which the version is moved.
    description : str
        Of the version.
    dataset : mapping of str to str
        The arguments of MLflow's ``Dataset``; empty in entries of older versions of Vigie.
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
    description: str = ""
    dataset: Mapping[str, str] = field(default_factory=dict)

    @property
    def what(self) -> str:
        """A description for the log."""
        return self.run_name

    @property
    def goes_into(self) -> RunRef | None:
        """The run that must exist first."""
        return self.parent


@dataclass(frozen=True)
class ManualRun:
    """A run that a program has opened.

    Attributes
    ----------
    what : str
        A description for the log.
    experiment : str
        Its experiment.
    run_name : str or None
        By default MLflow generates one.
    parent : RunRef or None
        The run in which it is nested.
    started_ms : int
        Unix time in milliseconds.
    ended : End or None
        Set if the run is ended as soon as it is created.
    origin : mapping of str to str
        See ``TrainingEntry``.
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
    """Parameters, metrics, a model or the end of a run, recorded by a program.

    Attributes
    ----------
    what : str
        A description for the log.
    experiment : str
        Of the run.
    run : RunRef
        The run.
    params, metrics : mapping and sequence
        As logged.
    ended : End or None
        Set if the run has ended.
    artifact_path, model_name : str or None
        Of a model, whose files are the entry's artifacts; with a name it is registered.
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
    """Return a record in the form of ``entry.json``."""
    return asdict(record)


def from_json(facts: Mapping[str, Any]) -> Record:
    """Return the record in an ``entry.json``.

    Raises
    ------
    ValueError
        If it is invalid; the message names the first invalid field.
    """
    kind: type[Record] = (
        TrainingEntry if "what" not in facts else ManualValues if "run" in facts else ManualRun
    )
    try:
        record: Record = _forms()[kind].validate_python(dict(facts))
    except ValidationError as error:
        raise ValueError(first_fault(error)) from error
    return record


@cache
def _forms() -> dict[type[Record], TypeAdapter[Any]]:
    # Built on first use: a service that only serves reads no record.
    return {kind: TypeAdapter(kind) for kind in (TrainingEntry, ManualRun, ManualValues)}
