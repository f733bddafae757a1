"""The messages between a service and its training subprocess."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vigie.config import Settings


@dataclass(frozen=True)
class JobRequest:
    """The request of a training; ``InvalidDataError`` is the answer to an invalid one.

    Attributes
    ----------
    body : bytes
        A ``TrainRequest`` as JSON, unparsed: parsing many rows would block the service's
        interpreter for as long as hundreds of readings take.
    settings : Settings
        Of the service.
    folder : Path
        Folder for the serving forms of the models, by name: they are data, so that the service
        unpickles nothing.
    """

    body: bytes = field(repr=False)
    settings: Settings
    folder: Path


@dataclass(frozen=True)
class Accepted:
    """The request is valid; these detectors will be trained, in this order."""

    names: tuple[str, ...]


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
