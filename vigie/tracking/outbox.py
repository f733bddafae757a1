"""The outbox: records that the tracking server has not confirmed, one folder each, on local disk.

An entry is complete on disk before anything is sent, and stays until the server has all of it. So
no record depends on the server, the network or this process: whatever runs next (a later training,
the service or ``vigie sync``) sends the remaining entries.

::

    journal/
      9f2c…/                a training that the server does not have, or only in part
        entry.json          its record
        artifacts/          uploaded to the artifact store unchanged
        figures.npz         the data of its figures
        lock                held by the process that is sending it
      set_aside/            dead letters: entries that the server rejects, each with reason.txt
      .begun-…, .writing-…, .sent-…
                            left behind by killed processes; ``sweep`` removes them
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from vigie.errors import OutboxError
from vigie.state import make_private
from vigie.tracking.records import Record, from_json, to_json

FACTS, ARTIFACTS, LOCK, REASON = "entry.json", "artifacts", "lock", "reason.txt"
UNANSWERED = "unanswered"
FILES, DIGEST = "files", "sha256"
SET_ASIDE, BEGUN, WRITING, SENT = "set_aside", ".begun-", ".writing-", ".sent-"
LOCKED_WITHIN_S = 60.0
"""After this time, ``sweep`` removes a new entry that is not locked."""
FORMAT, MS_DIGITS = 1, 13
LARGE_BYTES, OLD_S = 1_000_000_000, 24 * 3600.0
"""Above this size or age, the outbox logs a warning."""
NAME = re.compile(rf"[0-9]{{{MS_DIGITS}}}[0-9a-f]{{{32 - MS_DIGITS}}}")
CHANGING = (FACTS, LOCK, REASON, UNANSWERED)
"""Files that may change after an entry is complete."""
IDS = re.compile(rb"[0-9a-f]{32}")
"""Run ids in an ``MLmodel`` file, which change when the run is created."""


class Entry:
    """One training or manual record; its name is unique across all outboxes."""

    def __init__(self, folder: Path):
        self.folder = folder
        # The thread that writes the entry acquires it; the thread that sends it releases it.
        self._lock = FileLock(folder / LOCK, timeout=0, thread_local=False)

    @property
    def name(self) -> str:
        return self.folder.name.rpartition("-")[2]

    @property
    def age_s(self) -> float:
        """Seconds since it was written."""
        return time.time() - int(self.name[:MS_DIGITS]) / 1000

    @property
    def artifacts(self) -> Path:
        return self.folder / ARTIFACTS

    def lock(self) -> None:
        """Lock an entry that no other process knows yet."""
        self._lock.acquire()

    def move(self, folder: Path) -> None:
        """Rename the entry's folder, with the lock in it."""
        self.folder = self.folder.rename(folder)

    def hold(self, within_s: float = 0.0) -> bool:
        """Lock the entry; return False if another process is sending it, or has sent it.

        Parameters
        ----------
        within_s : float
            How long to wait for the lock, in seconds.
        """
        with suppress(Timeout, FileNotFoundError):
            self._lock.acquire(timeout=within_s)
            if any(path.name != LOCK for path in self.folder.iterdir()):
                return True
            # Another process has just sent it, and FileLock created the folder again.
            shutil.rmtree(self.folder, ignore_errors=True)
        self._lock.release()
        return False

    def release(self) -> None:
        """Release the lock."""
        self._lock.release()

    def exists(self) -> bool:
        """Return whether it is still in its folder: neither sent nor moved to the dead letters."""
        return (self.folder / FACTS).exists()

    def record(self) -> Record:
        """Return the record.

        Raises
        ------
        OutboxError
            If it is missing, damaged, or of another format.
        OSError
            If the disk fails; the entry itself may be intact.
        """
        facts = self._facts()
        try:
            return from_json(facts)
        except ValueError as error:
            raise self._unreadable(str(error)) from error

    def _facts(self) -> dict[str, Any]:
        """Return the contents of ``entry.json`` after a check of its digest."""
        try:
            facts: dict[str, Any] = json.loads((self.folder / FACTS).read_text(encoding="utf-8"))
            if facts["format"] != FORMAT:
                reason = f"its format is {facts['format']}"
            elif facts.pop(DIGEST) != _digest_of(facts):
                reason = "its checksum does not match"
            else:
                return facts
        except (FileNotFoundError, KeyError, TypeError, ValueError) as error:
            reason = repr(error)
        raise self._unreadable(reason)

    def _unreadable(self, reason: str) -> OutboxError:
        return OutboxError(
            f"The outbox entry {self.name} cannot be read: {reason}.",
            remedy="It was written by another version of Vigie, or is damaged. "
            "Train again, and delete this entry.",
        )

    def check(self) -> None:
        """Verify the digests of all files that were written with the record.

        Raises
        ------
        OutboxError
            If one is missing or changed; the message names the first.
        """
        digests = _digests(self.folder)
        for path, digest in self._facts()[FILES].items():
            if digests.get(path) != digest:
                raise OutboxError(
                    f"The outbox entry {self.name} is damaged: {path} is "
                    f"{'corrupt' if path in digests else 'missing'}.",
                    remedy="Train again, and delete this entry.",
                )

    def size(self) -> int:
        """Return the total size of its files, in bytes."""
        total = 0
        for folder, _, names in os.walk(self.folder):
            for name in names:
                # Another process may send and remove the entry meanwhile.
                with suppress(FileNotFoundError):
                    total += os.stat(os.path.join(folder, name)).st_size
        return total


@dataclass(frozen=True)
class Summary:
    """The size and age of an outbox.

    Attributes
    ----------
    waiting, set_aside : int
        Number of entries to be sent, and of dead letters.
    bytes : int
        Size of the entries to be sent.
    oldest_s : float or None
        Age of the oldest of them, in seconds.
    """

    waiting: int
    set_aside: int
    bytes: int
    oldest_s: float | None

    @property
    def overdue(self) -> bool:
        """Whether so much, or such old records, wait that an operator should act."""
        return self.bytes > LARGE_BYTES or (self.oldest_s or 0.0) > OLD_S

    def __str__(self) -> str:
        if self.waiting + self.set_aside == 0:
            return "empty"
        parts = []
        if self.oldest_s is not None:
            waiting = f"{self.waiting} record{'' if self.waiting == 1 else 's'} to be sent"
            age = timedelta(seconds=round(self.oldest_s))
            parts.append(f"{waiting} ({self.bytes / 1e6:.1f} MB, the oldest for {age})")
        if self.set_aside:
            parts.append(f"{self.set_aside} dead letter{'' if self.set_aside == 1 else 's'}")
        return ", ".join(parts)


class Outbox:
    """The entries in a folder, which is created with the first of them."""

    def __init__(self, folder: Path):
        self.folder = folder

    def write(self, write: Callable[[Path, str], Record], name: str | None = None) -> Entry:
        """Write an entry atomically.

        Parameters
        ----------
        write : callable
            Called with the entry's folder and name; writes its files there and returns the
            record.
        name : str, optional
            See ``new_name``; by default a new one.

        Returns
        -------
        Entry
            Locked until it is released.

        Raises
        ------
        OSError
            If the disk cannot be written.
        """
        name = name or new_name()
        entry = Entry(self.folder / f"{BEGUN}{name}")
        make_private(entry.folder.parent)
        entry.folder.mkdir(mode=0o700)
        try:
            # ``sweep`` does not take this name for abandoned before the entry is locked.
            entry.lock()
            entry.move(self.folder / f"{WRITING}{name}")
            record = to_json(write(entry.folder, name))
            written = {"format": FORMAT, **record, FILES: _digests(entry.folder)}
            # The digest covers the facts as they are read back, with lists in place of tuples.
            facts = json.loads(json.dumps(written))
            text = json.dumps({**facts, DIGEST: _digest_of(facts)}, indent=1)
            (entry.folder / FACTS).write_text(text, encoding="utf-8")
            _fsync_tree(entry.folder)
            entry.move(self.folder / name)
            _fsync(self.folder)
        except BaseException:
            entry.release()
            shutil.rmtree(entry.folder, ignore_errors=True)
            raise
        return entry

    def waiting(self) -> list[Entry]:
        """Return the entries to be sent, oldest first."""
        return _entries(self.folder)

    def dead_letters(self) -> list[Entry]:
        """Return the entries that the server rejects, oldest first."""
        return _entries(self.folder / SET_ASIDE)

    def remove(self, entry: Entry) -> None:
        """Remove an entry that has been sent."""
        # Renamed first, so that a process killed here leaves no partial entry.
        entry.move(self.folder / f"{SENT}{entry.name}")
        shutil.rmtree(entry.folder, ignore_errors=True)

    def give_up(self, entry: Entry, reason: str) -> None:
        """Move an entry to the dead letters, with the reason in ``reason.txt``."""
        (entry.folder / REASON).write_text(f"{reason}\n", encoding="utf-8")
        (self.folder / SET_ASIDE).mkdir(exist_ok=True)
        entry.move(self.folder / SET_ASIDE / entry.name)

    def requeue(self, entry: Entry) -> None:
        """Move a dead letter back to the entries to be sent."""
        entry.move(self.folder / entry.name)

    def sweep(self) -> None:
        """Remove the remains of killed processes."""
        for folder in self.folder.iterdir() if self.folder.is_dir() else ():
            is_old = folder.name.startswith(BEGUN) and Entry(folder).age_s > LOCKED_WITHIN_S
            if is_old or folder.name.startswith(SENT):
                shutil.rmtree(folder, ignore_errors=True)
            elif folder.name.startswith(WRITING):
                # Not locked: the process that was writing it has died.
                with suppress(OSError, Timeout), FileLock(folder / LOCK, timeout=0):
                    shutil.rmtree(folder, ignore_errors=True)

    def summary(self) -> Summary:
        """Return the size and age of the outbox."""
        waiting = self.waiting()
        sizes = (entry.size() for entry in waiting)
        oldest = max((entry.age_s for entry in waiting), default=None)
        return Summary(len(waiting), len(self.dead_letters()), sum(sizes), oldest)


def new_name() -> str:
    """Return a name for an entry: sortable by time, and as long as a run id."""
    return f"{time.time_ns() // 1_000_000:0{MS_DIGITS}d}{uuid.uuid4().hex}"[:32]


def _entries(folder: Path) -> list[Entry]:
    """Return the entries in a folder, oldest first; other files and folders are ignored."""
    paths = folder.iterdir() if folder.is_dir() else ()
    return [Entry(path) for path in sorted(paths) if NAME.fullmatch(path.name) and path.is_dir()]


def _digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of the files of an entry that must not change, by relative path."""
    digests = {}
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.name.startswith(CHANGING):
            continue
        if path.name == "MLmodel":
            digest = hashlib.sha256(IDS.sub(b"", path.read_bytes()))
        else:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256")
        digests[str(path.relative_to(folder))] = digest.hexdigest()
    return digests


def _digest_of(facts: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _fsync_tree(folder: Path) -> None:
    for path in (*folder.rglob("*"), folder):
        _fsync(path)


def _fsync(path: Path) -> None:
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
