"""What the tracking server has not confirmed yet: one folder a training, on this machine's disk.

An entry is complete before the server hears of the training, and is there until the server has all
of it. So nothing depends on the server, on the network, or on this process coming to its end: who
comes next, a later training, the service or ``vigie sync``, sends what is left.

::

    journal/
      9f2c…/                a training that the server may not have, or not all of
        entry.json          its facts
        artifacts/          what goes to the artifact store as it is
        figures.npz         what the figures are drawn from
        lock                held by the process that is sending it
      set_aside/            trainings that the server does not take, each with reason.txt
      .begun-…, .writing-…, .sent-…
                            left behind by a process that was killed there; swept away
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
from vigie.tracking.records import Record, from_json, to_json

FACTS, ARTIFACTS, LOCK, REASON = "entry.json", "artifacts", "lock", "reason.txt"
UNANSWERED = "unanswered"
FILES, DIGEST = "files", "sha256"
SET_ASIDE, BEGUN, WRITING, SENT = "set_aside", ".begun-", ".writing-", ".sent-"
LOCKED_WITHIN_S = 60.0
"""How long an entry that has been begun may be without a lock, while others sweep."""
FORMAT, MS_DIGITS = 1, 13
LARGE_BYTES, OLD_S = 1_000_000_000, 24 * 3600.0
"""From where on somebody should look after an outbox that is not sent."""
NAME = re.compile(rf"[0-9]{{{MS_DIGITS}}}[0-9a-f]{{{32 - MS_DIGITS}}}")
CHANGING = (FACTS, LOCK, REASON, UNANSWERED)
"""Files that are written, or written again, after an entry is complete."""
IDS = re.compile(rb"[0-9a-f]{32}")
"""What changes in a model's description when its run is known."""


class Entry:
    """One training, or what was recorded by hand; its name is unique among all outboxes."""

    def __init__(self, folder: Path):
        self.folder = folder
        # Taken by whoever writes the entry, and given back by the thread that has sent it.
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
        """Hold what only this process knows of."""
        self._lock.acquire()

    def move(self, folder: Path) -> None:
        """Rename the entry, which takes its lock along."""
        self.folder = self.folder.rename(folder)

    def hold(self, within_s: float = 0.0) -> bool:
        """Keep others from sending this; False if one of them does, or it is not there any more.

        Parameters
        ----------
        within_s : float
            How long to wait for whoever is sending it.
        """
        with suppress(Timeout, FileNotFoundError):
            self._lock.acquire(timeout=within_s)
            if any(path.name != LOCK for path in self.folder.iterdir()):
                return True
            # Somebody has just sent it, and the library made the folder again for its lock.
            shutil.rmtree(self.folder, ignore_errors=True)
        self._lock.release()
        return False

    def release(self) -> None:
        """Let others send what is left of this."""
        self._lock.release()

    def exists(self) -> bool:
        """Return whether it is where it was found, neither sent nor set aside since."""
        return (self.folder / FACTS).exists()

    def record(self) -> Record:
        """Return what is to be recorded.

        Raises
        ------
        OutboxError
            If it cannot be read: it is not there, damaged, or of another format.
        OSError
            If the disk does not hand it out, which says nothing of what is on it.
        """
        facts = self._facts()
        try:
            return from_json(facts)
        except ValueError as error:
            raise self._unreadable(str(error)) from error

    def _facts(self) -> dict[str, Any]:
        """Return what stands in ``entry.json``, if it is what was written."""
        try:
            facts: dict[str, Any] = json.loads((self.folder / FACTS).read_text(encoding="utf-8"))
            if facts["format"] != FORMAT:
                reason = f"its format is {facts['format']}"
            elif facts.pop(DIGEST) != _digest_of(facts):
                reason = "it is not what was written"
            else:
                return facts
        except (FileNotFoundError, KeyError, TypeError, ValueError) as error:
            reason = repr(error)
        raise self._unreadable(reason)

    def _unreadable(self, reason: str) -> OutboxError:
        return OutboxError(
            f"The outbox's entry {self.name} cannot be read: {reason}.",
            remedy="It was written by another version of Vigie, or the disk has lost some of it. "
            "Train again, and delete this entry.",
        )

    def check(self) -> None:
        """Return if the disk holds all files that were written with the record.

        Raises
        ------
        OutboxError
            Naming the first file that it does not.
        """
        found = _digests(self.folder)
        for path, digest in self._facts()[FILES].items():
            if found.get(path) != digest:
                raise OutboxError(
                    f"The outbox's entry {self.name} is damaged: {path} is "
                    f"{'not what was written' if path in found else 'missing'}.",
                    remedy="Train again, and delete this entry.",
                )

    def size(self) -> int:
        """Return the bytes of all its files."""
        total = 0
        # It may be sent, and so removed, meanwhile.
        for where, _, names in os.walk(self.folder):
            for name in names:
                with suppress(FileNotFoundError):
                    total += os.stat(os.path.join(where, name)).st_size
        return total


@dataclass(frozen=True)
class Summary:
    """What is in an outbox.

    Attributes
    ----------
    waiting, set_aside : int
        Entries on their way, and those that the server does not take.
    bytes : int
        Of those on their way.
    oldest_s : float or None
        Seconds for which the first of them has been waiting.
    """

    waiting: int
    set_aside: int
    bytes: int
    oldest_s: float | None

    @property
    def overdue(self) -> bool:
        """Whether somebody should see to it that this is sent."""
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
            parts.append(f"{self.set_aside} set aside")
        return ", ".join(parts)


class Outbox:
    """The entries below a folder, which is made when the first is written."""

    def __init__(self, folder: Path):
        self.folder = folder

    def write(self, write: Callable[[Path, str], Record], name: str | None = None) -> Entry:
        """Write an entry, all of it or nothing.

        Parameters
        ----------
        write : callable
            Puts the entry's files into a folder; given that folder and the entry's name, it
            returns the record.
        name : str, optional
            See ``new_name``; by default a new one.

        Returns
        -------
        Entry
            Held, until it is released.

        Raises
        ------
        OSError
            If the disk does not take it.
        """
        name = name or new_name()
        entry = Entry(self.folder / f"{BEGUN}{name}")
        entry.folder.mkdir(parents=True)
        try:
            # Under this name nobody takes it for abandoned before it is locked.
            entry.lock()
            entry.move(self.folder / f"{WRITING}{name}")
            record = to_json(write(entry.folder, name))
            written = {"format": FORMAT, **record, FILES: _digests(entry.folder)}
            # As they are read again, tuples being lists then.
            facts = json.loads(json.dumps(written))
            text = json.dumps({**facts, DIGEST: _digest_of(facts)}, indent=1)
            (entry.folder / FACTS).write_text(text, encoding="utf-8")
            _to_disk(entry.folder)
            entry.move(self.folder / name)
            _flush(self.folder)
        except BaseException:
            entry.release()
            shutil.rmtree(entry.folder, ignore_errors=True)
            raise
        return entry

    def waiting(self) -> list[Entry]:
        """Return the entries, oldest first."""
        return _entries(self.folder)

    def dead_letters(self) -> list[Entry]:
        """Return the entries that the server does not take."""
        return _entries(self.folder / SET_ASIDE)

    def remove(self, entry: Entry) -> None:
        """Forget an entry: the server has all of it."""
        # Renamed first, so that being killed in between leaves no half of an entry.
        entry.move(self.folder / f"{SENT}{entry.name}")
        shutil.rmtree(entry.folder, ignore_errors=True)

    def give_up(self, entry: Entry, reason: str) -> None:
        """Take an entry out of the way, with the reason beside it."""
        (entry.folder / REASON).write_text(f"{reason}\n", encoding="utf-8")
        (self.folder / SET_ASIDE).mkdir(exist_ok=True)
        entry.move(self.folder / SET_ASIDE / entry.name)

    def requeue(self, entry: Entry) -> None:
        """Return an entry that was set aside to the others."""
        entry.move(self.folder / entry.name)

    def sweep(self) -> None:
        """Remove what processes that were killed have left behind."""
        for folder in self.folder.iterdir() if self.folder.is_dir() else ():
            is_old = folder.name.startswith(BEGUN) and Entry(folder).age_s > LOCKED_WITHIN_S
            if is_old or folder.name.startswith(SENT):
                shutil.rmtree(folder, ignore_errors=True)
            elif folder.name.startswith(WRITING):
                # Nobody holds it: who was writing it is not there any more.
                with suppress(OSError, Timeout), FileLock(folder / LOCK, timeout=0):
                    shutil.rmtree(folder, ignore_errors=True)

    def summary(self) -> Summary:
        """Return how much there is."""
        waiting = self.waiting()
        sizes = (entry.size() for entry in waiting)
        oldest = max((entry.age_s for entry in waiting), default=None)
        return Summary(len(waiting), len(self.dead_letters()), sum(sizes), oldest)


def new_name() -> str:
    """Return a name for an entry: in order of time, and as long as a run's id."""
    return f"{time.time_ns() // 1_000_000:0{MS_DIGITS}d}{uuid.uuid4().hex}"[:32]


def _entries(folder: Path) -> list[Entry]:
    """Return the entries in a folder in order of time; whatever else lies there is none."""
    found = folder.iterdir() if folder.is_dir() else ()
    return [Entry(one) for one in sorted(found) if NAME.fullmatch(one.name) and one.is_dir()]


def _digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of the files of an entry that never change, by their path in it."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.name.startswith(CHANGING):
            continue
        if path.name == "MLmodel":
            digest = hashlib.sha256(IDS.sub(b"", path.read_bytes()))
        else:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256")
        found[str(path.relative_to(folder))] = digest.hexdigest()
    return found


def _digest_of(facts: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _to_disk(folder: Path) -> None:
    """Have the disk take all files of a folder before anything is said of them."""
    for path in (*folder.rglob("*"), folder):
        _flush(path)


def _flush(path: Path) -> None:
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
