"""Bring the server to have what is in the journal: in order, and each training for itself."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from vigie.child import Child, Parent
from vigie.errors import (
    JournalError,
    ModelNotFoundError,
    TrackingError,
    TrackingRefusedError,
    TrackingUnavailableError,
    VigieError,
)
from vigie.registry.server import Server, patiently, server_at
from vigie.tracking import manual_runs, publish
from vigie.tracking.active_runs import OpenRun
from vigie.tracking.outbox import Entry, Journal
from vigie.tracking.records import TrainingEntry

logger = logging.getLogger(__name__)

Registered = Callable[[int, OpenRun], None]
"""Called with version and run of a training as soon as there are."""
OnEntry = Callable[[Entry, str], None]
"""Called with an entry, and that it is sent or why it is not."""
SENT, SENT_BY_ANOTHER = "sent", "sent by another process"
WAIT_S = 120.0
"""How long somebody who has asked for it waits for an entry that another process is sending."""
SENT_BY_ITSELF_S, SYNC_EVERY_S = 15.0, 60.0
"""How old an entry is before a service sends it, and how often that tries."""


def sync(
    server: Server,
    journal: Journal,
    on_entry: OnEntry = lambda entry, outcome: None,
    *,
    again: bool = False,
    within_s: float = 0.0,
) -> None:
    """Send all that is in a journal, oldest first.

    Parameters
    ----------
    server : Server
        Where to.
    journal : Journal
        Whose entries.
    on_entry : callable, optional
        Called with each entry and what became of it.
    again : bool, default False
        Also those that were set aside.
    within_s : float, default 0
        How long to wait for each that another process is sending.

    Raises
    ------
    TrackingUnavailableError
        If the server does not answer; what has not been sent by then stays.
    """
    with patiently():
        server.require()
        journal.sweep()
        for entry in journal.set_aside() if again else []:
            # Two who try again at once would else fetch the same one back.
            with suppress(FileNotFoundError):
                journal.put_back(entry)
        said = False
        for entry in journal.waiting():
            try:
                held = entry.hold()
                if not held and within_s and entry.exists():
                    if not said:
                        logger.info("Another process is sending this journal; it is waited for.")
                    held, said = entry.hold(within_s), True
                if not held:
                    on_entry(entry, _done_by_another(journal, entry))
                    continue
            except OSError as error:
                on_entry(entry, _stays(entry, error))
                continue
            try:
                on_entry(entry, send(server, journal, entry))
            finally:
                entry.release()


def send(
    server: Server,
    journal: Journal,
    entry: Entry,
    registered: Registered = lambda version, run: None,
) -> str:
    """Send one training, and return what became of it: ``SENT``, or why it was not.

    What the server, or this program, finds fault with is set aside, so that it does not fail again
    and again; what cannot be taken now stays.

    Raises
    ------
    TrackingUnavailableError
        If the server does not answer.
    """
    try:
        _bring(server, entry, registered)
        journal.remove(entry)
    except TrackingUnavailableError:
        raise
    except (TrackingRefusedError, ModelNotFoundError, JournalError) as error:
        return _put_aside(journal, entry, error)
    except TrackingError as error:
        server.log_refusal(error, f"Records stay in {journal.folder} until they can be sent.")
        return f"stays: {error}"
    except (OSError, MemoryError) as error:
        return _stays(entry, error)
    except Exception as error:
        return _put_aside(journal, entry, error)
    return SENT


def _done_by_another(journal: Journal, entry: Entry) -> str:
    """Return what has become of an entry that is not ours to send."""
    if entry.exists():
        return "another process is sending it"
    aside = any(one.name == entry.name for one in journal.set_aside())
    return f"set aside by another process, in {journal.folder}" if aside else SENT_BY_ANOTHER


def _put_aside(journal: Journal, entry: Entry, fault: Exception) -> str:
    known = isinstance(fault, VigieError)
    reason = str(fault) if known else repr(fault)
    try:
        journal.put_aside(entry, reason)
    except OSError as error:
        return _stays(entry, error)
    where = entry.folder
    logger.error("A record is set aside in %s. %s", where, reason, exc_info=not known)
    return f"set aside: {reason}"


def _stays(entry: Entry, error: OSError | MemoryError) -> str:
    logger.error(
        "A record stays in %s, for this machine cannot send it: %r. Free its disk or memory, and "
        "let the folder be written.",
        entry.folder,
        error,
    )
    return f"stays: {error!r}. Free the disk or memory, and let the folder be written."


def _bring(server: Server, entry: Entry, registered: Registered) -> None:
    record = entry.record()
    if isinstance(record, TrainingEntry):
        publish.send(server, entry, record, registered)
    else:
        manual_runs.send(server, entry, record, registered)


class BackgroundSync:
    """Send a journal from a process of its own, which has MLflow's client, whenever it is due.

    Parameters
    ----------
    server : Server
        Where to.
    journal : Journal
        Whose entries.
    """

    def __init__(self, server: Server, journal: Journal):
        self._server, self._journal = server, journal
        self._child: Child | None = None
        self._not_before = 0.0

    def send_if_due(self) -> None:
        """Start to send, unless that is under way or was tried a moment ago."""
        if self._child is not None:
            if self._child.is_running:
                return
            self._child.close()
            self._child = None
        # A training of a moment ago is being sent by whoever made it.
        if time.monotonic() < self._not_before or not any(
            entry.age_s > SENT_BY_ITSELF_S for entry in self._journal.waiting()
        ):
            return
        self._child = sync_in_subprocess(self._server, self._journal)
        self._not_before = time.monotonic() + SYNC_EVERY_S

    def close(self) -> None:
        """End what is being sent: what has not been sent by now, the next one will."""
        if self._child is not None:
            self._child.kill()


@dataclass(frozen=True)
class SyncRequest:
    """Which journal to send where; the address may hold a password."""

    server_uri: str = field(repr=False)
    journal: Path


def sync_in_subprocess(server: Server, journal: Journal) -> Child:
    """Start to send a journal in a process of its own, which goes on whatever becomes of this."""
    child = Child(run_sync)
    child.send(SyncRequest(server.uri, journal.folder))
    return child


def run_sync(parent: Parent, request: SyncRequest) -> None:
    """Send the journal that a request names."""
    server = server_at(request.server_uri)
    try:
        sync(server, Journal(request.journal))
    except TrackingUnavailableError as error:
        server.log_outage(error)
