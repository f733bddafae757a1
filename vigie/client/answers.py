"""What a service answers: its problem documents as errors, jobs that did not succeed, events."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any

import httpx

from vigie import errors
from vigie.api.schemas import JobResponse
from vigie.errors import (
    URN,
    ConflictError,
    InvalidDataError,
    KeyRefusedError,
    ServiceError,
    ServiceUnavailableError,
    TrainingInterruptedError,
    VigieError,
)
from vigie.models.jobs import JobState

KINDS = {
    kind.kind(): kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, VigieError) and kind is not VigieError
}
"""Errors by the end of the type of their problem document."""


def raised_by(response: httpx.Response) -> VigieError:
    """Return the error that an answer describes."""
    try:
        document = response.json()
    except ValueError:
        document = None
    if not isinstance(document, dict) or not str(document.get("type")).startswith(URN):
        stranger = ServiceError(
            f"No Vigie answers at {shown(response.request.url)}, but status "
            f"{response.status_code}.",
            remedy="Check the address and the path.",
        )
        stranger.status = response.status_code
        return stranger
    message = str(document.get("detail"))
    place: dict[str, Any] = {"field": document.get("field"), "remedy": document.get("remedy")}
    if place["field"]:
        message = message.removeprefix(f"{place['field']}: ")
    kind = KINDS.get(document["type"].removeprefix(URN), ServiceError)
    if response.status_code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        kind = KeyRefusedError
    if issubclass(kind, InvalidDataError):
        return kind(message, faults=document.get("errors") or (), **place)
    error = kind(message, **place)
    if isinstance(error, ServiceError):
        error.status = response.status_code
    return error


def unreachable(url: httpx.URL, error: Exception) -> ServiceUnavailableError:
    """Return the error for a service that does not answer."""
    why = str(error) or type(error).__name__
    return ServiceUnavailableError(
        f"The service at {shown(url)} cannot be reached: {why}.",
        remedy="Check the address, and that `vigie serve` runs there.",
    )


def require_success(job: JobResponse) -> None:
    """Check that a job that has ended has trained a detector.

    Raises
    ------
    InvalidDataError
        If its rows or parameters cannot be used.
    ConflictError
        If it was cancelled.
    TrainingInterruptedError
        If the service ended before it did, or no detector could be trained.
    """
    if job.state is JobState.SUCCEEDED:
        return
    if job.state is JobState.CANCELLED:
        raise ConflictError(f"Job {job.id} was cancelled.", remedy="Send the rows again.")
    error = job.error
    if error is not None and error.field is not None:
        raise InvalidDataError(
            error.detail, field=error.field, remedy=error.remedy, faults=error.errors or ()
        )
    raise TrainingInterruptedError(
        error.detail if error else f"Job {job.id} did not succeed: it is {job.state}.",
        remedy=error.remedy if error else None,
    )


class Events:
    """The events of a job, from the lines of a stream of server-sent events.

    Attributes
    ----------
    last : str
        The id of the last event; empty before the first.
    """

    def __init__(self) -> None:
        self.last = ""
        self._data = ""

    def job(self, line: str) -> JobResponse | None:
        """Return the job of an event that a line completes."""
        key, _, value = line.partition(": ")
        if key == "data":
            self._data = value
        elif key == "id" and self._data:
            self.last = value
            return JobResponse.model_validate(json.loads(self._data))
        return None


def shown(url: httpx.URL) -> str:
    """Return an address without its user and password, and without parameters."""
    return str(url.copy_with(userinfo=b"", query=None))
