"""Which run is open here: a fact of the thread or task that opened it, not of any object."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass

from vigie.tracking.records import RunRef


@dataclass
class OpenRun:
    """A run on a server, or one that only the outbox knows of yet.

    Attributes
    ----------
    uri : str
        The server's.
    experiment_id, run_id : str
        Empty as long as the server does not know of it.
    holds_training : bool
        Whether a training has been recorded in it.
    entry : str or None
        Name of the outbox's entry that creates it, if one does.
    """

    uri: str
    experiment_id: str
    run_id: str
    holds_training: bool = False
    entry: str | None = None

    def ref(self, *, is_free: bool = False) -> RunRef:
        """Return by what the outbox finds this again."""
        return RunRef(self.run_id, self.experiment_id, self.entry, is_free)


_open: ContextVar[tuple[OpenRun, ...]] = ContextVar("open_runs", default=())
_last: ContextVar[OpenRun | None] = ContextVar("last_run", default=None)


def current(uri: str) -> OpenRun | None:
    """Return the innermost open run of this thread or task on a server."""
    return next((run for run in reversed(_open.get()) if run.uri == uri), None)


def opened(run: OpenRun) -> None:
    """Note that this thread or task has opened a run."""
    _open.set((*_open.get(), run))
    made(run)


def made(run: OpenRun) -> None:
    """Note that this thread or task has made a run, open or not."""
    _last.set(run)


def close(uri: str) -> OpenRun | None:
    """Take the innermost open run of a server off the stack and return it."""
    run = current(uri)
    _open.set(tuple(other for other in _open.get() if other is not run))
    return run


def last(uri: str) -> OpenRun | None:
    """Return the run that this thread or task made last on a server."""
    run = _last.get()
    return run if run is not None and run.uri == uri else None
