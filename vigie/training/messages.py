"""What a service and the process that trains for it say to each other."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vigie.config import Settings


@dataclass(frozen=True)
class JobRequest:
    """What to train; a request that cannot be used is answered by an ``InvalidDataError``.

    Attributes
    ----------
    body : bytes
        A ``TrainRequest`` as JSON, unread: whoever parses many rows holds the interpreter for as
        long as hundreds of readings take.
    settings : Settings
        Of the service.
    folder : Path
        Where the serving form of each model is left, by its name: data, so that the service
        unpickles no estimator.
    """

    body: bytes = field(repr=False)
    settings: Settings
    folder: Path


@dataclass(frozen=True)
class Accepted:
    """The request can be used, and these detectors will be trained, in this order."""

    names: tuple[str, ...]


@dataclass(frozen=True)
class Trained:
    """A detector is trained.

    Attributes
    ----------
    name : str
        Of the algorithm.
    metrics : dict
        See ``DetectorService.train``.
    version, run_id : optional
        None if it is not registered by now.
    card_sha256 : str or None
        Content hash of its serving form; None if there is no record of it.
    """

    name: str
    metrics: dict[str, Any]
    version: int | None = None
    run_id: str | None = None
    card_sha256: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return it as ``train_all_models`` says it."""
        return {"status": "trained", "version": self.version, "metrics": self.metrics}


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
    """All detectors have come to something; what is left are uploads."""


@dataclass(frozen=True)
class Registered:
    """A model that had no version when it was trained has one now."""

    name: str
    version: int
    run_id: str | None
