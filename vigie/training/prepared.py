"""A request for a training whose rows are read and checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from vigie.assessment.timeline import Times
from vigie.detectors.data.matrices import Table
from vigie.models.jobs import JobData
from vigie.tables.file_form import FileForm


@dataclass(frozen=True)
class Prepared:
    """A request whose rows are read and checked.

    Attributes
    ----------
    names : list of str
        The detectors to train.
    table : Table
        The rows.
    data : JobData
        What they are.
    given : mapping
        The contamination and hyper-parameters of each detector, as far as they are given.
    contamination, parameters : optional
        The same, as they stand in the request.
    source, times, file_form : optional
        See ``train_each``.
    """

    names: list[str]
    table: Table
    data: JobData
    given: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    contamination: float | None = None
    parameters: dict[str, dict[str, Any]] = field(default_factory=dict)
    source: Mapping[str, Any] | None = None
    times: Times | None = None
    file_form: FileForm | None = None
