"""All exceptions of Vigie. Each one names the fault and, where there is one, the remedy.

::

    VigieError
    ├── InvalidDataError (ValueError)   the data or a parameter cannot be used
    │   └── SettingsFileError           .env or vigie.toml cannot be read or used
    ├── NotTrainedError (ValueError)    no model can answer yet
    ├── ModelNotFoundError              the registry has no such model, version or stage
    ├── ModelRefusedError               a version exists, but must not or cannot be opened
    ├── ConflictError                   another operation holds what this one needs
    ├── JobNotFoundError                there is no such training job
    ├── EventNotFoundError              there is no such event of an asset
    ├── AlarmNotFoundError              there is no such alarm
    ├── AssetNotFoundError              no reading of this asset has come
    ├── AlertError                      a message about alarms could not be delivered
    ├── AlertNotFoundError              there is no such alert, or it is no dead letter
    ├── TooManyJobsError                the queue of trainings is full
    ├── TrainingInterruptedError        a training ended before it was complete
    ├── KeyRefusedError                 an API key is unknown, revoked or expired
    ├── ServiceError                    a service refused or failed a request of a client
    │   └── ServiceUnavailableError     ... because it cannot be reached
    ├── HistoryError                    the database of readings cannot be used
    ├── OutboxError                     an entry of the outbox cannot be read
    └── TrackingError                   the MLflow server failed a request
        ├── TrackingUnavailableError    ... because it cannot be reached
        └── TrackingRefusedError        ... and will refuse it again

``vigie.api.problems`` maps these classes to HTTP status codes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

_WORD = re.compile(r"[A-Z][a-z]+")
URN = "urn:problem:vigie:"
"""Beginning of the type of every problem document."""
MOST_NAMED = 8
"""Names that a message lists."""


def listed(names: Iterable[str], most: int = MOST_NAMED) -> str:
    """Return names with commas between them: the first ones, if they are many."""
    shown = list(names)
    return ", ".join(shown[:most]) + (", ..." if len(shown) > most else "")


class VigieError(Exception):
    """Base class of all errors that Vigie raises.

    Parameters
    ----------
    message : str
        What is wrong, in one sentence.
    field : str, optional
        Where the fault is, such as ``data[3].rms`` or ``contamination``.
    remedy : str, optional
        What the user can do about it.
    """

    def __init__(self, message: str, *, field: str | None = None, remedy: str | None = None):
        self.message = message
        self.field = field
        self.remedy = remedy
        super().__init__(message)

    @classmethod
    def kind(cls) -> str:
        """Return the end of the type of its problem documents, such as ``invalid-data``."""
        return "-".join(_WORD.findall(cls.__name__.removesuffix("Error"))).lower()

    def __str__(self) -> str:
        place = f"{self.field}: " if self.field else ""
        remedy = f" {self.remedy}" if self.remedy else ""
        return f"{place}{self.message}{remedy}"


class InvalidDataError(VigieError, ValueError):
    """The data or a parameter cannot be used; nothing was changed.

    Parameters
    ----------
    message, field, remedy
        Of the first fault.
    faults : sequence of dict
        ``field`` and ``message`` of each fault, where all of them were collected.
    """

    def __init__(
        self,
        message: str,
        *,
        field: str | None = None,
        remedy: str | None = None,
        faults: Sequence[dict[str, str]] = (),
    ):
        super().__init__(message, field=field, remedy=remedy)
        self.faults = faults


class SettingsFileError(InvalidDataError):
    """``.env`` or ``vigie.toml`` cannot be read, or has a name that is no setting."""


class NotTrainedError(VigieError, ValueError):
    """The model has not been trained or loaded yet."""


class ModelNotFoundError(VigieError, LookupError):
    """The registry has no such model, version or stage."""


class ModelRefusedError(VigieError):
    """A version must not be opened (foreign code) or cannot be opened (damaged)."""


class ConflictError(VigieError):
    """Another operation that conflicts with this one is in progress."""


class JobNotFoundError(VigieError, LookupError):
    """There is no such training job."""


class EventNotFoundError(VigieError, LookupError):
    """There is no such event of an asset."""


class AlarmNotFoundError(VigieError, LookupError):
    """There is no such alarm."""


class AssetNotFoundError(VigieError, LookupError):
    """No reading of this asset, or of one below its path, has come yet."""


class AlertError(VigieError):
    """A message about alarms could not be delivered.

    Attributes
    ----------
    retry_after_s : float or None
        How long the receiver asks to wait, in seconds.
    is_final : bool
        Whether it will never take the message.
    """

    retry_after_s: float | None = None
    is_final = False


class AlertNotFoundError(VigieError, LookupError):
    """There is no such alert, or it is no dead letter."""


class TooManyJobsError(VigieError):
    """The queue of trainings is full."""


class TrainingInterruptedError(VigieError):
    """A training was killed or stopped; this says nothing about its data."""


class KeyRefusedError(VigieError):
    """An API key is unknown, revoked or expired, or does not allow a request."""


class ServiceError(VigieError):
    """A service refused or failed a request of ``vigie.client``, and no other class says why.

    Attributes
    ----------
    status : int or None
        The HTTP status of its answer.
    """

    status: int | None = None


class ServiceUnavailableError(ServiceError):
    """The service cannot be reached, or does not answer in time."""


class HistoryError(VigieError):
    """The database of readings and results cannot be read or written.

    Attributes
    ----------
    is_outage : bool
        Whether the next query would fail in the same way, possibly after a timeout.
    """

    is_outage = False


class TrackingError(VigieError):
    """The tracking server refused or failed a request."""


class TrackingUnavailableError(TrackingError):
    """The tracking server cannot be reached, or does not answer in time.

    Attributes
    ----------
    timed_out : bool
        Whether it may still carry out the request.
    """

    timed_out = False


class TrackingRefusedError(TrackingError):
    """The tracking server rejects the request itself, so a retry would fail too."""


class OutboxError(VigieError):
    """An entry of the outbox cannot be read."""
