"""Training jobs in the history's database, so that every replica can answer for all of them."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Connection,
    MetaData,
    String,
    Table,
    delete,
    insert,
    select,
    update,
)

from vigie.history.records import microseconds, time_of
from vigie.history.store import History
from vigie.models.jobs import Job, JobState

MOST_KEPT = 1000
"""Jobs that are kept; older ones that have ended are deleted."""
UNFINISHED = tuple(state for state in JobState if not state.has_ended)

JOBS = Table(
    "training_jobs",
    MetaData(),
    Column("id", String(32), primary_key=True),
    Column("created_us", BigInteger),
    Column("owner", String(32)),
    Column("state", String(16)),
    Column("heartbeat_us", BigInteger),
    Column("cancel_requested", Boolean),
    Column("job", JSON),
)


@dataclass(frozen=True, slots=True)
class StoredJob:
    """A row of the table.

    Attributes
    ----------
    job : Job
        The job.
    owner : str
        The process that took it.
    heartbeat : datetime
        When the owner was last heard of.
    cancel_requested : bool
        Whether the owner is to cancel it.
    """

    job: Job
    owner: str
    heartbeat: datetime
    cancel_requested: bool = False


class JobTable:
    """The table of jobs.

    Parameters
    ----------
    history : History
        The database.

    Raises
    ------
    HistoryError
        From every method, if the database fails.
    """

    def __init__(self, history: History):
        self._history = history

    def put(self, stored: StoredJob) -> None:
        """Store a job, new or changed; a request to cancel it stays."""
        job = stored.job
        values = {
            "owner": stored.owner,
            "state": job.state.value,
            "heartbeat_us": microseconds(stored.heartbeat),
            "job": _as_json(job),
        }
        with self._history.connection() as connection:
            if connection.execute(update(JOBS).where(JOBS.c.id == job.id).values(values)).rowcount:
                return
            created = microseconds(job.created)
            new = {"id": job.id, "created_us": created, "cancel_requested": False}
            connection.execute(insert(JOBS).values(**new, **values))
            self._prune(connection)

    def get(self, job_id: str) -> StoredJob | None:
        """Return a job; None if there is none."""
        return next(self._read(JOBS.c.id == job_id), None)

    def newest(self, at_most: int = MOST_KEPT) -> list[StoredJob]:
        """Return jobs, the newest first."""
        return list(self._read(at_most=at_most))

    def unfinished_of(self, owners: Collection[str]) -> list[StoredJob]:
        """Return the jobs of these processes that have not ended, the oldest first."""
        found = self._read(JOBS.c.owner.in_(list(owners)), JOBS.c.state.in_(UNFINISHED))
        return list(found)[::-1]

    def delete(self, job_id: str) -> None:
        """Delete a job."""
        with self._history.connection() as connection:
            connection.execute(delete(JOBS).where(JOBS.c.id == job_id))

    def request_cancel(self, job_id: str) -> None:
        """Ask the owner of a job to cancel it."""
        with self._history.connection() as connection:
            connection.execute(
                update(JOBS).where(JOBS.c.id == job_id).values(cancel_requested=True)
            )

    def beat(self, owner: str, now: datetime) -> set[str]:
        """Note that a process lives; return the ids of its jobs that it is to cancel."""
        ours = (JOBS.c.owner == owner) & JOBS.c.state.in_(UNFINISHED)
        with self._history.connection() as connection:
            connection.execute(update(JOBS).where(ours).values(heartbeat_us=microseconds(now)))
            asked = select(JOBS.c.id).where(ours & JOBS.c.cancel_requested)
            return set(connection.scalars(asked))

    def give_up(self, stored: StoredJob, job: Job) -> bool:
        """Store a job that has lost its owner, unless this one is heard of; return whether so."""
        same = (JOBS.c.id == job.id) & (JOBS.c.heartbeat_us == microseconds(stored.heartbeat))
        values = {"state": job.state.value, "job": _as_json(job)}
        with self._history.connection() as connection:
            return bool(connection.execute(update(JOBS).where(same).values(values)).rowcount)

    def _read(self, *conditions: Any, at_most: int | None = None) -> Iterator[StoredJob]:
        query = select(JOBS).where(*conditions).order_by(JOBS.c.created_us.desc()).limit(at_most)
        with self._history.connection(writes=False) as connection:
            rows: Sequence[Any] = connection.execute(query).all()
        for row in rows:
            job = Job.model_validate(row.job)
            yield StoredJob(job, row.owner, time_of(row.heartbeat_us), row.cancel_requested)

    def _prune(self, connection: Connection) -> None:
        last = select(JOBS.c.created_us).order_by(JOBS.c.created_us.desc()).offset(MOST_KEPT - 1)
        oldest = connection.scalar(last.limit(1))
        if oldest is not None:
            has_ended = JOBS.c.state.not_in(UNFINISHED)
            connection.execute(delete(JOBS).where(has_ended & (JOBS.c.created_us < oldest)))


def _as_json(job: Job) -> Any:
    # Not ``model_dump``, which leaves numbers that are none as they are: PostgreSQL refuses them.
    return json.loads(job.model_dump_json())
