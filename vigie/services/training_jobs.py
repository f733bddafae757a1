"""Training jobs: the queue of a service, and what every replica knows of all jobs.

A job belongs to the process that took it. This process has the job in memory; it writes it to the
history's database, when the state changes and once a second while it runs, and reads there whether
another replica was asked to cancel it. Without a database, jobs exist in memory only.

A request waits in a folder of the process, in ``VIGIE_STATE_DIR/jobs``, with a lock that the system
releases when the process ends, however it ends. The next process that starts with this state folder
takes over: what waited goes on waiting, what ran was interrupted.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
import threading
import time
import uuid
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from filelock import FileLock, Timeout

from vigie import logs
from vigie.child import Child, Parent
from vigie.config import Settings
from vigie.errors import (
    ConflictError,
    HistoryError,
    InvalidDataError,
    JobNotFoundError,
    TooManyJobsError,
    TrainingInterruptedError,
    VigieError,
)
from vigie.models.jobs import Job, JobError, JobProgress, JobState, ModelTraining
from vigie.services.inspection_process import guarded
from vigie.training.job import TrainingProcess, check
from vigie.training.messages import Accepted, JobRequest, Progressed
from vigie.training.requests import About, about_of, body_of, is_stored, store_request

if TYPE_CHECKING:
    from vigie.history.jobs import JobTable, StoredJob

logger = logging.getLogger(__name__)

FOLDER, LOCK = "jobs", "process.lock"
MOST_IN_MEMORY = 1000
"""Jobs that are kept in memory."""
BEAT_S = 1.0
"""Between two looks at the database while a job has not ended, in seconds."""
LOST_AFTER = {JobState.RUNNING: timedelta(minutes=1), JobState.QUEUED: timedelta(days=1)}
"""How long nothing is heard of a job's process until the job counts as interrupted. A process that
is started again takes up what waited."""
CHECK_WITHIN_S = 60.0
"""Limit of the check of a request."""
CHECKS_AT_ONCE = 2
CANCEL_WITHIN_S = 3.0
"""How long a request to cancel a job waits for its end, in seconds."""
ESTIMATED_FROM = 0.03
"""Share of a training that is done before the time left is estimated."""
CLOSE_TIMEOUT_S = 5.0
NOT_STORED = "The job is known to this process only: the history's database cannot be used."

T = TypeVar("T")
Outcomes = dict[str, dict[str, Any]]
Told = Callable[[Accepted | Progressed | tuple[str, dict[str, Any]]], None]
Train = Callable[[Path, Callable[[TrainingProcess], None], Told], Outcomes]
"""Train a stored request: called with its folder, with what gets the process as soon as it runs,
and with what gets its messages, and the name and outcome of each detector."""


@dataclass(eq=False)
class _Entry:
    """A job of this process."""

    job: Job
    folder: Path
    process: TrainingProcess | None = None
    is_cancelled: bool = False
    is_awaited: bool = False
    """Whether a client waits for its answer, which ends with this process."""
    outcomes: Outcomes | None = None
    failure: VigieError | None = None
    is_stored: bool = True
    """Whether the database has its last change."""
    ended: threading.Event = field(default_factory=threading.Event)
    accepted: datetime | None = None


class TrainingJobs:
    """The jobs of a service.

    Parameters
    ----------
    settings : Settings
        The state folder, and the limit of the queue.
    train : callable
        Trains; see ``Train``.
    table : callable
        Returns the table of jobs; None if there is no database. May raise ``HistoryError``.
    """

    def __init__(self, settings: Settings, train: Train, table: Callable[[], JobTable | None]):
        self._settings, self._train, self._table = settings, train, table
        self.owner = uuid.uuid4().hex
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._changing = threading.Condition()
        self._watchers: list[Callable[[], None]] = []
        self._checks = threading.Semaphore(CHECKS_AT_ONCE)
        self._folder: Path | None = None
        self._lock: FileLock | None = None
        self._threads: list[threading.Thread] = []
        self._n_checked = 0
        """Requests under check, which have their place in the queue already."""
        self._is_failing = False
        self._is_recovered = False
        self.is_stopped = False
        self._n_ended = Counter[JobState]()

    # Ask for a training.

    def require_place(self) -> None:
        """Check that the queue takes another job.

        Raises
        ------
        TooManyJobsError
            If it is full.
        """
        with self._changing:
            n_left = sum(not entry.job.state.has_ended for entry in self._entries.values())
            n_left += self._n_checked
        if n_left > self._settings.max_queued_jobs:
            raise TooManyJobsError(
                f"{n_left} trainings run or wait already.",
                remedy="Wait until one ends, cancel one with DELETE /api/v1/jobs/ID, or raise "
                "VIGIE_MAX_QUEUED_JOBS.",
            )

    def submit(self, body: bytes, about: About | None = None, *, is_awaited: bool = False) -> Job:
        """Check a request and put it into the queue.

        Parameters
        ----------
        body : bytes
            As it came.
        about : About, optional
            What is known of it besides.
        is_awaited : bool
            Whether the caller waits for the outcome. A request in JSON that can begin at once is
            then not checked first: the training itself tells what is wrong.

        Raises
        ------
        InvalidDataError
            If it cannot be used.
        TooManyJobsError
            If the queue is full.
        TrainingInterruptedError
            If this process is about to end.
        """
        about = about or About()
        if self.is_stopped:
            raise _stopped()
        with self._changing:
            self.require_place()
            self._n_checked += 1
        job = Job(id=uuid.uuid4().hex, state=JobState.QUEUED, created=about.created)
        folder = self._own_folder() / job.id
        try:
            store_request(folder, body, about)
            if not (is_awaited and about.file is None and self._is_idle()):
                job = _understood(job, self._checked(folder, about))
            entry = _Entry(job, folder, is_awaited=is_awaited)
            with self._changing:
                self._entries[job.id] = entry
                self._forget_old()
        except BaseException as error:
            shutil.rmtree(folder, ignore_errors=True)
            if isinstance(error, OSError):
                raise TrainingInterruptedError(
                    f"The request cannot be stored ({error.strerror}).",
                    remedy="Make room in the state folder of the service (VIGIE_STATE_DIR).",
                ) from error
            raise
        finally:
            with self._changing:
                self._n_checked -= 1
        self._store(entry)
        self._run_threads()
        self._tell()
        return entry.job

    def wait(self, job_id: str) -> Outcomes:
        """Wait for the end of a job of this process; return the outcome of each detector.

        Raises
        ------
        VigieError
            If it has none: the one that says why.
        """
        entry = self._entries[job_id]
        entry.ended.wait()
        if entry.failure is not None:
            if entry.is_awaited and _is_refused(entry):
                # It was answered as a request that cannot be used, and leaves nothing.
                with self._changing:
                    del self._entries[job_id]
                self._with_table(lambda table: table.delete(job_id), None)
            raise entry.failure.with_traceback(None)
        return entry.outcomes or {}

    # Ask about jobs.

    @property
    def are_stored(self) -> bool:
        """Whether jobs are in a database, so that they outlast this process."""
        return self._settings.history_enabled and not self._is_failing

    def get(self, job_id: str) -> Job:
        """Return a job, of any replica.

        Raises
        ------
        JobNotFoundError
            If there is none.
        HistoryError
            If it may be another replica's, and the database fails.
        """
        if (entry := self._entries.get(job_id)) is not None:
            return entry.job
        none: StoredJob | None = None
        stored = self._of_table(lambda table: table.get(job_id), none)
        if stored is None:
            raise _unknown(job_id)
        return self._alive(stored)

    def is_own(self, job_id: str) -> bool:
        """Whether a job belongs to this process, so that watchers are told of its changes."""
        return job_id in self._entries

    def newest(self, state: JobState | None = None, at_most: int = MOST_IN_MEMORY) -> list[Job]:
        """Return the jobs of all replicas, the newest first."""
        none: list[StoredJob] = []
        stored = self._with_table(lambda table: table.newest(), none)
        jobs = {one.job.id: one.job for one in map(self._refreshed, stored)}
        with self._changing:
            jobs |= {job_id: entry.job for job_id, entry in self._entries.items()}
        found = [job for job in jobs.values() if state in (None, job.state)]
        return sorted(found, key=lambda job: job.created, reverse=True)[:at_most]

    def position(self, job: Job) -> int | None:
        """Return how many jobs of this process come before one that waits, and 1 for itself."""
        if job.state is not JobState.QUEUED or not self.is_own(job.id):
            return None
        with self._changing:
            waiting = [e.job.id for e in self._entries.values() if e.job.state is JobState.QUEUED]
        return waiting.index(job.id) + 1 if job.id in waiting else None

    def n_by_state(self) -> Counter[JobState]:
        """Return how many jobs of this process wait, run, and have ended so far."""
        with self._changing:
            left = (entry.job.state for entry in self._entries.values())
            return self._n_ended + Counter(state for state in left if not state.has_ended)

    def watch(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call back, from any thread, after each change of a job; return what ends that."""
        with self._changing:
            self._watchers.append(callback)

        def end() -> None:
            with self._changing, suppress(ValueError):
                self._watchers.remove(callback)

        return end

    # Cancel.

    def cancel(self, job_id: str) -> Job:
        """Cancel a job; return it as it is afterwards.

        That of another replica is cancelled by it, within a second or two; if that takes longer,
        the job that is returned has not ended.

        Raises
        ------
        JobNotFoundError
            If there is none.
        ConflictError
            If it has ended.
        HistoryError
            If it may be another replica's, and the database fails.
        """
        job = self.get(job_id)
        if job.state.has_ended:
            raise ConflictError(
                f"The job has ended: it is {job.state}.",
                remedy="There is nothing to cancel. To take back a version that it made, move "
                "another one to Production with `vigie models promote`.",
            )
        entry = self._entries.get(job_id)
        if entry is not None:
            self._cancel(entry)
            entry.ended.wait(CANCEL_WITHIN_S)
            return entry.job
        self._of_table(lambda table: table.request_cancel(job_id), None)
        until = time.monotonic() + CANCEL_WITHIN_S
        while not (job := self.get(job_id)).state.has_ended and time.monotonic() < until:
            time.sleep(BEAT_S / 4)
        return job

    # From the start to the end of the process.

    def recover(self) -> None:
        """Take over what processes with this state folder have left behind, once.

        If the database fails, the next call tries again.
        """
        if self._is_recovered:
            return
        try:
            root = self._settings.state_dir / FOLDER
            left = [path for path in root.iterdir() if path.is_dir() and path.name != self.owner]
        except OSError:
            left = []
        for folder in sorted(left):
            lock = FileLock(folder / LOCK, thread_local=False)
            try:
                lock.acquire(blocking=False)
            except (Timeout, OSError):
                continue  # Its process lives.
            try:
                self._take_over(folder)
            except HistoryError as error:
                logger.debug("What waits in %s is not trained yet. %s", folder, error)
                return
            finally:
                lock.release()
        self._is_recovered = True

    def stop(self) -> None:
        """Stop the training that runs, and begin no other; end what watches."""
        with self._changing:
            self.is_stopped = True
            processes = [e.process for e in self._entries.values() if e.process is not None]
            awaited = [
                e
                for e in self._entries.values()
                if e.job.state is JobState.QUEUED and (e.is_awaited or not self._outlasts(e))
            ]
            self._changing.notify_all()
        for process in processes:
            process.stop()
        for entry in awaited:
            entry.failure = _stopped()
            self._end(entry, JobState.INTERRUPTED)
        self._tell()

    def close(self) -> None:
        """Stop, and wait until the database knows."""
        self.stop()
        for thread in self._threads:
            thread.join(CLOSE_TIMEOUT_S)
        if self._lock is not None:
            self._lock.release()
        folder, self._folder = self._folder, None
        if folder is not None and not any(path.is_dir() for path in folder.iterdir()):
            shutil.rmtree(folder, ignore_errors=True)

    # Threads.

    def _run_threads(self) -> None:
        with self._changing:
            if not self._threads:
                self._threads = [
                    threading.Thread(target=self._work, name="training-jobs", daemon=True),
                    threading.Thread(target=self._beat, name="job-heartbeat", daemon=True),
                ]
                for thread in self._threads:
                    thread.start()
            self._changing.notify_all()

    def _work(self) -> None:
        """Train what waits, one after the other."""
        while (entry := self._next()) is not None:
            with logs.about(job_id=entry.job.id):
                self._work_on(entry)

    def _work_on(self, entry: _Entry) -> None:
        """Train one job, and tell how it has ended."""
        self._store(entry)
        try:
            entry.outcomes = self._train(
                entry.folder, partial(self._has_process, entry), partial(self._hear, entry)
            )
        except VigieError as error:
            entry.failure = error
        except Exception:
            incident = uuid.uuid4().hex
            logger.exception("A training failed. Incident %s", incident)
            entry.failure = VigieError(
                f"Internal error; the data is not at fault. See the log, incident {incident}."
            )
        is_whole = _is_whole(entry.outcomes)
        if entry.is_cancelled and not is_whole:
            self._end(entry, JobState.CANCELLED)
            if entry.process is not None:
                # What is fitted is uploaded first; two trainings at once would be slower.
                entry.process.wait()
        elif self.is_stopped and not is_whole and not _is_refused(entry):
            self._end(entry, JobState.INTERRUPTED)
        else:
            outcomes = (entry.outcomes or {}).values()
            trained = any(outcome["status"] == "trained" for outcome in outcomes)
            self._end(entry, JobState.SUCCEEDED if trained else JobState.FAILED)
        entry.process = None

    def _next(self) -> _Entry | None:
        """Wait for a job; return None when the process is about to end."""
        with self._changing:
            while not self.is_stopped:
                for entry in self._entries.values():
                    if entry.job.state is JobState.QUEUED:
                        # Within the lock, so that it is cancelled either as waiting or as running.
                        begun = {"started": datetime.now(UTC), "state": JobState.RUNNING}
                        begun |= {"progress": JobProgress(step="starting")}
                        self._change(entry, **begun)
                        return entry
                self._changing.wait()
        return None

    def _beat(self) -> None:
        """Write what has changed, and read what is to be cancelled, once a second."""
        while True:
            with self._changing:
                while not self.is_stopped and not self._unfinished():
                    self._changing.wait()
                if self.is_stopped:
                    return
                self._changing.wait(BEAT_S)
                left = [entry for entry in self._entries.values() if not entry.is_stored]
            for entry in left:
                self._store(entry)
            for job_id in self._to_cancel():
                if (asked := self._entries.get(job_id)) is not None:
                    self._cancel(asked)

    def _to_cancel(self) -> set[str]:
        """Write that this process lives; return the jobs that other replicas are to cancel."""
        none: set[str] = set()
        now = datetime.now(UTC)
        return self._with_table(lambda table: table.beat(self.owner, now), none)

    def _unfinished(self) -> bool:
        return any(not e.job.state.has_ended or not e.is_stored for e in self._entries.values())

    def _is_idle(self) -> bool:
        with self._changing:
            return all(e.job.state.has_ended for e in self._entries.values())

    # Changes of a job.

    def _change(self, entry: _Entry, **changed: Any) -> None:
        with self._changing:
            job = entry.job
            entry.job = job.model_copy(update={**changed, "revision": job.revision + 1})
            entry.is_stored = False
        self._tell()

    def _has_process(self, entry: _Entry, process: TrainingProcess) -> None:
        with self._changing:
            entry.process = process
            is_cancelled, is_stopped = entry.is_cancelled, self.is_stopped
        if is_cancelled:
            process.stop("The job was cancelled.")
        elif is_stopped:
            process.stop()

    def _hear(
        self, entry: _Entry, message: Accepted | Progressed | tuple[str, dict[str, Any]]
    ) -> None:
        match message:
            case Accepted():
                entry.accepted = datetime.now(UTC)
                known = _understood(entry.job, message)
                self._change(
                    entry,
                    data=known.data,
                    model_names=known.model_names,
                    contamination=known.contamination,
                    parameters=known.parameters,
                )
            case Progressed():
                self._change(entry, progress=_progress(message, entry.accepted))
            case (str(name), dict(outcome)):
                trained = ModelTraining.model_validate(outcome)
                self._change(entry, models={**entry.job.models, name: trained})

    def _cancel(self, entry: _Entry) -> None:
        with self._changing:
            if entry.job.state.has_ended or entry.is_cancelled:
                return
            entry.is_cancelled = True
            is_waiting, process = entry.job.state is JobState.QUEUED, entry.process
            if is_waiting:
                # Within the lock: no thread may begin it now.
                ended = {"state": JobState.CANCELLED, "ended": datetime.now(UTC)}
                entry.job = entry.job.model_copy(update=ended)
        if is_waiting:
            self._end(entry, JobState.CANCELLED)
        elif process is not None:
            process.stop("The job was cancelled.")

    def _end(self, entry: _Entry, state: JobState) -> None:
        if state is JobState.CANCELLED:
            entry.failure = _cancelled()
        job, failure = entry.job, entry.failure
        error = None
        if state is JobState.FAILED:
            error = _error_of(failure or none_trained(entry.outcomes or {}))
        elif state is JobState.INTERRUPTED:
            error = _error_of(failure or _stopped())
        progress = job.progress.model_copy(update={"step": state.value, "remaining_s": None})
        if state is JobState.SUCCEEDED:
            progress = JobProgress(percent=100.0, step=state.value)
        models = {
            name: model
            for name, model in job.models.items()
            # Those that were not reached failed only because of this.
            if state is not JobState.CANCELLED or model.status == "trained"
        }
        self._change(
            entry,
            state=state,
            ended=datetime.now(UTC),
            progress=progress,
            models=models,
            error=error,
        )
        with self._changing:
            self._n_ended[state] += 1
        shutil.rmtree(entry.folder, ignore_errors=True)
        self._store(entry)
        entry.ended.set()
        self._tell()

    def _tell(self) -> None:
        with self._changing:
            watchers = list(self._watchers)
        for watcher in watchers:
            watcher()

    def _forget_old(self) -> None:
        ended = [job_id for job_id, entry in self._entries.items() if entry.job.state.has_ended]
        for job_id in ended[: max(len(self._entries) - MOST_IN_MEMORY, 0)]:
            del self._entries[job_id]

    # The check of a request.

    def _checked(self, folder: Path, about: About) -> Accepted:
        with self._checks:
            try:
                with Child(check if about.file is None else check_upload) as child:
                    child.send(JobRequest(folder, self._settings))
                    accepted: Accepted | None = child.receive(CHECK_WITHIN_S)
                    if accepted is None:
                        # Before it is killed, so that it is told how it has ended by itself.
                        raise TrainingInterruptedError(
                            f"The check of the request {child.describe_exit()}",
                            remedy="Send fewer rows, or add memory.",
                        )
            except TimeoutError:
                raise InvalidDataError(
                    f"It takes longer than {CHECK_WITHIN_S:.0f} s to understand.",
                    field="body",
                    remedy="Send fewer rows.",
                ) from None
        return accepted

    # Folders.

    def _own_folder(self) -> Path:
        with self._changing:
            if self._folder is None:
                self._folder, self._lock = self._new_folder()
            return self._folder

    def _new_folder(self) -> tuple[Path, FileLock]:
        folder = self._settings.state_dir / FOLDER / self.owner
        try:
            folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            folder.mkdir(mode=0o700)
        except OSError as error:
            # As said at the start, no state is kept.
            logger.warning("Trainings that wait will not survive a restart: %s.", error)
            folder = Path(tempfile.mkdtemp(prefix="vigie-jobs-"))
        lock = FileLock(folder / LOCK, thread_local=False)
        lock.acquire(blocking=False)
        return folder, lock

    def _outlasts(self, entry: _Entry) -> bool:
        """Whether the next process can train what waits."""
        in_state_folder = self._settings.state_dir / FOLDER in entry.folder.parents
        return self._settings.history_enabled and in_state_folder and entry.is_stored

    def _take_over(self, folder: Path) -> None:
        table = self._table()
        found = [] if table is None else table.unfinished_of([folder.name])
        for stored in found:
            job, waits = stored.job, folder / stored.job.id
            if job.state is JobState.QUEUED and is_stored(waits) and not stored.cancel_requested:
                entry = _Entry(job, self._own_folder() / job.id)
                waits.rename(entry.folder)
                with self._changing:
                    self._entries[job.id] = entry
                self._store(entry)
                continue
            with self._changing:
                entry = _Entry(job, waits, failure=_lost("The service ended while it ran."))
                self._entries[job.id] = entry
            if job.state is JobState.QUEUED:
                entry.failure = _lost("The service ended, and its data are gone.")
            is_cancelled = stored.cancel_requested
            self._end(entry, JobState.CANCELLED if is_cancelled else JobState.INTERRUPTED)
        shutil.rmtree(folder, ignore_errors=True)
        if found:
            self._run_threads()
            self._tell()

    # The database.

    def _store(self, entry: _Entry) -> None:
        """Write a job to the database; the heartbeat tries again if that fails."""
        with self._changing:
            job = entry.job

        def put(table: JobTable) -> bool:
            from vigie.history.jobs import StoredJob

            table.put(StoredJob(job, self.owner, datetime.now(UTC)))
            return True

        if not self._settings.history_enabled or self._with_table(put, False):
            with self._changing:
                entry.is_stored = entry.job is job

    def _alive(self, stored: StoredJob) -> Job:
        return self._refreshed(stored).job

    def _refreshed(self, stored: StoredJob) -> StoredJob:
        """Return a job of another process, which is interrupted if nothing is heard of it."""
        from vigie.history.jobs import StoredJob

        job, now = stored.job, datetime.now(UTC)
        limit = LOST_AFTER.get(job.state)
        if limit is None or stored.owner == self.owner or now - stored.heartbeat < limit:
            return stored
        error = _error_of(_lost("Nothing is heard of the service that took it."))
        change = {"state": JobState.INTERRUPTED, "ended": now, "error": error}
        lost = job.model_copy(update={**change, "revision": job.revision + 1})
        self._with_table(lambda table: table.give_up(stored, lost), False)
        return StoredJob(lost, stored.owner, stored.heartbeat)

    def _with_table(self, ask: Callable[[JobTable], T], otherwise: T) -> T:
        """Return what the table of jobs answers; without one, or if it fails, ``otherwise``."""
        try:
            return self._of_table(ask, otherwise)
        except HistoryError:
            return otherwise

    def _of_table(self, ask: Callable[[JobTable], T], otherwise: T) -> T:
        """Return what the table of jobs answers; ``otherwise`` without one.

        Raises
        ------
        HistoryError
            If it fails.
        """
        try:
            table = self._table()
            if table is None:
                return otherwise
            answer = ask(table)
        except HistoryError as error:
            if not self._is_failing:
                logger.error("%s %s", NOT_STORED, error)
            self._is_failing = True
            raise
        if self._is_failing:
            logger.warning("The history's database works again: jobs are stored.")
        self._is_failing = False
        return answer


def check_upload(parent: Parent, request: JobRequest) -> None:
    """Check a request with a file of unknown origin; runs in a subprocess of its own.

    Raises
    ------
    InvalidDataError
        If it cannot be used.
    """
    about = about_of(request.source)
    assert about.file is not None
    check(parent, request, guarded(body_of(request.source, about), about.file.filename))


def none_trained(outcomes: Outcomes) -> InvalidDataError:
    """Return the error for a training of which no detector came out: the reasons."""
    by_reason: dict[str, list[str]] = {}
    for name, model in outcomes.items():
        by_reason.setdefault(str(model["error"]), []).append(name)
    reasons = " ".join(f"{', '.join(names)}: {reason}" for reason, names in by_reason.items())
    return InvalidDataError(f"No detector could be trained. {reasons}", field="data")


def _understood(job: Job, accepted: Accepted) -> Job:
    return job.model_copy(
        update={
            "data": accepted.data,
            "model_names": list(accepted.names),
            "contamination": accepted.contamination,
            "parameters": accepted.parameters,
        }
    )


def _progress(message: Progressed, began: datetime | None) -> JobProgress:
    model, _, step = message.step.partition(": ")
    epoch, share = message.epoch, min(message.share, 1.0)
    remaining = None
    if began is not None and share >= ESTIMATED_FROM:
        passed_s = (datetime.now(UTC) - began).total_seconds()
        remaining = round(passed_s * (1.0 - share) / share, 1)
    return JobProgress(
        percent=round(100.0 * share, 1),
        step=step,
        model=model,
        epoch=epoch and epoch.number,
        epochs=epoch and epoch.of,
        loss=epoch and epoch.loss,
        remaining_s=remaining,
    )


def _is_whole(outcomes: Outcomes | None) -> bool:
    return outcomes is not None and all(o["status"] == "trained" for o in outcomes.values())


def _is_refused(entry: _Entry) -> bool:
    """Whether the request could not be used."""
    return entry.accepted is None and isinstance(entry.failure, InvalidDataError)


def _error_of(error: VigieError) -> JobError:
    if isinstance(error, HistoryError):
        # Its message may name other servers.
        logger.error("A training failed. %s", error)
        return JobError(
            detail="The database of readings cannot be used.",
            remedy="Run `vigie doctor` on the service's machine.",
        )

    # A message may quote half a surrogate pair, which no database and no JSON takes.
    def plain(text: str | None) -> str | None:
        return text and text.encode("utf-8", "backslashreplace").decode().replace("\x00", "\\x00")

    faults: Sequence[dict[str, str]] = getattr(error, "faults", ())
    errors = [{key: plain(value) or "" for key, value in fault.items()} for fault in faults]
    return JobError(
        detail=plain(error.message) or "",
        field=plain(error.field),
        remedy=plain(error.remedy),
        errors=errors or None,
    )


def _stopped() -> TrainingInterruptedError:
    return _lost("The service was stopped.")


def _lost(why: str) -> TrainingInterruptedError:
    return TrainingInterruptedError(
        why, remedy="The previous models keep serving; send the rows again."
    )


def _cancelled() -> ConflictError:
    return ConflictError("The job was cancelled.", remedy="Send the rows again to train on them.")


def _unknown(job_id: str) -> JobNotFoundError:
    return JobNotFoundError(
        f"There is no job {job_id[:40]!r}.",
        remedy="GET /api/v1/jobs lists the last jobs.",
    )
