"""What can go wrong, said once: every error carries what is wrong and what to do about it.

::

    VigieError
    ├── InvalidDataError (ValueError)   the data or a parameter cannot be used
    ├── NotTrainedError (ValueError)    nothing can answer yet
    ├── ModelNotFoundError              the registry holds no such model, version or stage
    ├── ModelRefusedError               a version exists, but must not or cannot be opened
    ├── ConflictError                   another operation holds what this one needs
    ├── TrainingInterruptedError        a training ended before it was done
    ├── HistoryError                    the database of readings cannot be used
    ├── OutboxError                    a training that is still to be recorded cannot be read
    └── TrackingError                   the MLflow server did not do what was asked
        ├── TrackingUnavailableError    ... because it could not be reached
        └── TrackingRefusedError        ... and will not do it another time either

Nothing here knows HTTP; ``vigie.api.problems`` maps these classes to status codes.
"""

from __future__ import annotations

from collections.abc import Sequence


class VigieError(Exception):
    """Base of all errors that Vigie raises on purpose.

    Parameters
    ----------
    message : str
        What is wrong, in one sentence.
    field : str, optional
        The place of the fault, such as ``data[3].rms`` or ``contamination``.
    remedy : str, optional
        What the reader can do about it.
    """

    def __init__(self, message: str, *, field: str | None = None, remedy: str | None = None):
        self.message = message
        self.field = field
        self.remedy = remedy
        super().__init__(message)

    def __str__(self) -> str:
        place = f"{self.field}: " if self.field else ""
        remedy = f" {self.remedy}" if self.remedy else ""
        return f"{place}{self.message}{remedy}"


class InvalidDataError(VigieError, ValueError):
    """Data or a parameter that cannot be used; nothing has been changed.

    Parameters
    ----------
    message, field, remedy
        Of the first fault.
    faults : sequence of dict
        ``field`` and ``message`` of every fault, where they are looked for one by one.
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


class NotTrainedError(VigieError, ValueError):
    """A question to a model that has not been trained or loaded yet."""


class ModelNotFoundError(VigieError, LookupError):
    """The registry has no such model, version or stage."""


class ModelRefusedError(VigieError):
    """A version that must not be opened (foreign code) or cannot be (damaged)."""


class ConflictError(VigieError):
    """Another operation is under way that this one would disturb."""


class TrainingInterruptedError(VigieError):
    """A training that was killed or stopped; its data may be as good as any."""


class HistoryError(VigieError):
    """The database of readings and results cannot be read or written.

    Attributes
    ----------
    is_outage : bool
        Whether whoever asks next would only wait for the same.
    """

    is_outage = False


class TrackingError(VigieError):
    """The tracking server refused or failed a request."""


class TrackingUnavailableError(TrackingError):
    """The tracking server cannot be reached, or does not answer in time.

    Attributes
    ----------
    timed_out : bool
        Whether it may still carry out what it was asked.
    """

    timed_out = False


class TrackingRefusedError(TrackingError):
    """The tracking server finds fault with the request itself."""


class OutboxError(VigieError):
    """An entry of the outbox cannot be read."""
