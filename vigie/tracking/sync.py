"""Send the outbox to the server: in order, each entry independently of the others."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from vigie.child import Child, Parent
from vigie.errors import (
    ModelNotFoundError,
    OutboxError,
    TrackingError,
    TrackingRefusedError,
    TrackingUnavailableError,
    VigieError,
)
from vigie.registry.server import Server, patient_probe, server_at
from vigie.tracking import manual_runs, publish
from vigie.tracking.active_runs import OnRegistered
from vigie.tracking.outbox import Entry, Outbox
from vigie.tracking.records import TrainingEntry

logger = logging.getLogger(__name__)

OnEntry = Callable[[Entry, str], None]
"""Called with an entry and its outcome: sent, or why not."""
SENT, SENT_BY_ANOTHER = "sent", "sent by another process"
WAIT_S = 120.0
"""How long ``vigie sync`` waits for an entry that another process is sending, in seconds."""
SENT_BY_ITSELF_S, SYNC_EVERY_S = 15.0, 60.0
"""Age at which a service sends an entry, and the interval between its attempts, in seconds."""


def ignore(entry: Entry, outcome: str) -> None:
    """Do nothing with the outcome of an entry."""


def sync(
    server: Server,
    outbox: Outbox,
    on_entry: OnEntry = ignore,
    *,
    again: bool = False,
    within_s: float = 0.0,
) -> None:
    """Send all entries of an outbox, oldest first.

    Parameters
    ----------
    server : Server
        Where to send them.
    outbox : Outbox
        The outbox.
    on_entry : callable, optional
        Called with each entry and its outcome.
    again : bool, default False
        Requeue the dead letters first.
    within_s : float, default 0
        How long to wait for each entry that another process is sending, in seconds.

    Raises
    ------
    TrackingUnavailableError
        If the server does not answer; unsent entries stay in the outbox.
    """
    with patient_probe():
        server.require()
        outbox.sweep()
        for entry in outbox.dead_letters() if again else []:
            # Another process may requeue the same entry at the same time.
            with suppress(FileNotFoundError):
                outbox.requeue(entry)
        is_logged = False
        for entry in outbox.waiting():
            try:
                is_held = entry.hold()
                if not is_held and within_s and entry.exists():
                    if not is_logged:
                        logger.info("Waiting for another process that is sending this outbox.")
                    is_held, is_logged = entry.hold(within_s), True
                if not is_held:
                    on_entry(entry, _outcome_elsewhere(outbox, entry))
                    continue
            except OSError as error:
                on_entry(entry, _stays(entry, error))
                continue
            try:
                on_entry(entry, send(server, outbox, entry))
            finally:
                entry.release()


def send(
    server: Server,
    outbox: Outbox,
    entry: Entry,
    on_registered: OnRegistered = lambda version, run: None,
) -> str:
    """Send one entry, and return its outcome: ``SENT``, or why it was not sent.

    An entry that would fail again goes to the dead letters; after a temporary fault it stays.

    Raises
    ------
    TrackingUnavailableError
        If the server does not answer.
    """
    try:
        _publish(server, entry, on_registered)
        outbox.remove(entry)
    except TrackingUnavailableError:
        raise
    except (TrackingRefusedError, ModelNotFoundError, OutboxError) as error:
        return _give_up(outbox, entry, error)
    except TrackingError as error:
        folder = outbox.folder.absolute()
        server.log_refusal(error, f"Records stay in the outbox ({folder}) until they can be sent.")
        return f"stays: {error}"
    except (OSError, MemoryError) as error:
        return _stays(entry, error)
    except Exception as error:
        return _give_up(outbox, entry, error)
    return SENT


def _outcome_elsewhere(outbox: Outbox, entry: Entry) -> str:
    """Return the outcome of an entry that another process sends or has sent."""
    if entry.exists():
        return "another process is sending it"
    is_dead = any(letter.name == entry.name for letter in outbox.dead_letters())
    return (
        f"moved to the dead letters in {outbox.folder} by another process"
        if is_dead
        else SENT_BY_ANOTHER
    )


def _give_up(outbox: Outbox, entry: Entry, fault: Exception) -> str:
    is_expected = isinstance(fault, VigieError)
    reason = str(fault) if is_expected else repr(fault)
    try:
        outbox.give_up(entry, reason)
    except OSError as error:
        return _stays(entry, error)
    logger.error(
        "A record moved to the dead letters in %s. %s",
        entry.folder,
        reason,
        exc_info=not is_expected,
    )
    return f"moved to the dead letters: {reason}"


def _stays(entry: Entry, error: OSError | MemoryError) -> str:
    logger.error(
        "A record stays in %s, since this machine cannot send it: %r. Free disk space or memory, "
        "and make the folder writable.",
        entry.folder,
        error,
    )
    return f"stays: {error!r}. Free disk space or memory, and make the folder writable."


def _publish(server: Server, entry: Entry, on_registered: OnRegistered) -> None:
    record = entry.record()
    if isinstance(record, TrainingEntry):
        publish.send(server, entry, record, on_registered)
    else:
        manual_runs.send(server, entry, record, on_registered)


class BackgroundSync:
    """Send an outbox at intervals, from a child process that imports MLflow's client.

    Parameters
    ----------
    server : Server
        Where to send it.
    outbox : Outbox
        The outbox.
    """

    def __init__(self, server: Server, outbox: Outbox):
        self._server, self._outbox = server, outbox
        self._child: Child | None = None
        self._not_before = 0.0

    def send_if_due(self) -> None:
        """Start to send, unless a child is still sending or the last attempt was too recent."""
        if self._child is not None:
            if self._child.is_running:
                return
            self._child.close()
            self._child = None
        # The process that wrote a new entry is probably still sending it.
        if time.monotonic() < self._not_before or not any(
            entry.age_s > SENT_BY_ITSELF_S for entry in self._outbox.waiting()
        ):
            return
        self._child = sync_in_subprocess(self._server, self._outbox)
        self._not_before = time.monotonic() + SYNC_EVERY_S

    def close(self) -> None:
        """Kill the child process; the next sync sends what it has not."""
        if self._child is not None:
            self._child.kill()


@dataclass(frozen=True)
class SyncRequest:
    """Which outbox to send where; the URI may hold a password."""

    server_uri: str = field(repr=False)
    outbox: Path


def sync_in_subprocess(server: Server, outbox: Outbox) -> Child:
    """Start to send an outbox in a child process, which outlives this one."""
    child = Child(run_sync)
    child.send(SyncRequest(server.uri, outbox.folder))
    return child


def run_sync(parent: Parent, request: SyncRequest) -> None:
    """Send an outbox; runs in the child process."""
    server = server_at(request.server_uri)
    try:
        sync(server, Outbox(request.outbox))
    except TrackingUnavailableError as error:
        server.log_outage(error)
