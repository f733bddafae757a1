"""The messages between a service and its training subprocess."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vigie.config import Settings
from vigie.detectors.base import Epoch
from vigie.models.jobs import JobData


@dataclass(frozen=True)
class JobRequest:
    """The request of a training; ``InvalidDataError`` is the answer to an invalid one.

    Attributes
    ----------
    source : Path
        The folder with the request, as ``training.requests`` stores it: unparsed, since many rows
        would block the service's interpreter for as long as hundreds of readings take.
    settings : Settings
        Of the service.
    folder : Path, optional
        Folder for the serving forms of the models, by name: they are data, so that the service
        unpickles nothing. Not needed for a check.
    """

    source: Path
    settings: Settings
    folder: Path | None = None


@dataclass(frozen=True)
class Accepted:
    """The request is valid; these detectors will be trained, in this order.

    Attributes
    ----------
    names : tuple of str
        Of the detectors.
    data : JobData
        What they learn from.
    contamination : float or None
        As given for this training.
    parameters : dict
        As given for this training, by detector.
    """

    names: tuple[str, ...]
    data: JobData
    contamination: float | None = None
    parameters: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Progressed:
    """How far the training is.

    Attributes
    ----------
    step : str
        What it is doing, with the name of the detector and a colon before it.
    share : float
        Of the whole training, 0 to 1.
    epoch : Epoch or None
        The last pass over the rows, of a detector that learns in several.
    """

    step: str
    share: float
    epoch: Epoch | None = None


@dataclass(frozen=True)
class Trained:
    """A detector was trained.

    Attributes
    ----------
    name : str
        Of the algorithm.
    metrics : dict
        See ``DetectorService.train``.
    version, run_id : optional
        None if it has not been registered yet.
    card_sha256 : str or None
        Content hash of its serving form; None if it was not recorded.
    """

    name: str
    metrics: dict[str, Any]
    version: int | None = None
    run_id: str | None = None
    card_sha256: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return it as ``train_all_models`` says it."""
        facts = {"version": self.version, "run_id": self.run_id, "metrics": self.metrics}
        return {"status": "trained", **facts}


@dataclass(frozen=True)
class Failed:
    """A detector could not be trained, and why."""

    name: str
    error: str

    def as_dict(self) -> dict[str, Any]:
        """Return it as ``train_all_models`` says it."""
        return {"status": "failed", "error": self.error}


@dataclass(frozen=True)
class Done:
    """All detectors have an outcome; only uploads are left."""


@dataclass(frozen=True)
class Registered:
    """A model without a version has been registered."""

    name: str
    version: int
    run_id: str | None
