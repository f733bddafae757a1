"""The stack of open runs, one for each thread or task."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass

from vigie.tracking.records import RunRef


@dataclass
class OpenRun:
    """A run on a server, or one that is still in the outbox.

    Attributes
    ----------
    uri : str
        Of the server.
    experiment_id, run_id : str
        Empty until the server has created the run.
    holds_training : bool
        Whether a training has been recorded in it.
    entry : str or None
        Name of the outbox entry that creates it, if any.
    """

    uri: str
    experiment_id: str
    run_id: str
    holds_training: bool = False
    entry: str | None = None

    def ref(self, *, is_free: bool = False) -> RunRef:
        """Return the reference to this run that an outbox entry holds."""
        return RunRef(self.run_id, self.experiment_id, self.entry, is_free)


OnRegistered = Callable[[int, OpenRun], None]
"""Called with the version and the run of a training when both exist."""

_open: ContextVar[tuple[OpenRun, ...]] = ContextVar("open_runs", default=())
_last: ContextVar[OpenRun | None] = ContextVar("last_run", default=None)


def current(uri: str) -> OpenRun | None:
    """Return the innermost open run of this thread or task on a server."""
    return next((run for run in reversed(_open.get()) if run.uri == uri), None)


def push(run: OpenRun) -> None:
    """Put a run on the stack of this thread or task."""
    _open.set((*_open.get(), run))
    set_last(run)


def set_last(run: OpenRun) -> None:
    """Set the run that ``last`` returns in this thread or task."""
    _last.set(run)


def close(uri: str) -> OpenRun | None:
    """Remove the innermost open run of a server from the stack and return it."""
    run = current(uri)
    _open.set(tuple(other for other in _open.get() if other is not run))
    return run


def last(uri: str) -> OpenRun | None:
    """Return the run that this thread or task created last on a server."""
    run = _last.get()
    return run if run is not None and run.uri == uri else None
