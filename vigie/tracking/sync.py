"""Bring the server to have what is in the journal: in order, and each training for itself."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

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
"""Told version and run of a training as soon as there are."""
Told = Callable[[Entry, str], None]
"""Told of an entry that it is sent, or why it is not."""
SENT, SENT_BY_ANOTHER = "sent", "sent by another process"
WAIT_S = 120.0
"""How long somebody who has asked for it waits for an entry that another process is sending."""


def sync(
    server: Server,
    journal: Journal,
    told: Told = lambda entry, outcome: None,
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
    told : callable, optional
        Told what became of each.
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
                    told(entry, _done_by_another(journal, entry))
                    continue
            except OSError as error:
                told(entry, _stays(entry, error))
                continue
            try:
                told(entry, send(server, journal, entry))
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


def sync_apart(server: Server, journal: Journal) -> subprocess.Popen[str]:
    """Start to send a journal in a process of its own, which has MLflow's client."""
    process = subprocess.Popen(
        [sys.executable, "-m", "vigie.tracking.sync"], stdin=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    # Not on the command line, which everybody can read: the address may hold a password.
    with suppress(BrokenPipeError), process.stdin as pipe:
        json.dump({"server": server.uri, "journal": str(journal.folder)}, pipe)
    return process


def main() -> None:
    """Send the journal that the standard input names, to the server that it names."""
    asked = json.load(sys.stdin)
    # Whoever answers somebody goes first.
    os.nice(10)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    server = server_at(asked["server"])
    try:
        sync(server, Journal(Path(asked["journal"])))
    except TrackingUnavailableError as error:
        server.log_outage(error)


if __name__ == "__main__":
    main()
