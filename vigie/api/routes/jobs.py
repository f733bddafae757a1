"""``/api/v1/jobs``: trainings that wait, run or have ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse
from fastapi.sse import format_sse_event

from vigie.api.access import is_still_let_in, requires
from vigie.api.bodies import JSON, limit_of, only, word_of
from vigie.api.middleware import IS_HEAD
from vigie.api.schemas import JobLinks, JobList, JobResponse, Problem
from vigie.errors import HistoryError, InvalidDataError, JobNotFoundError
from vigie.faults import nearest
from vigie.keys import Scope
from vigie.models.jobs import Job, JobState
from vigie.services.training_jobs import TrainingJobs

PATH, EVENT_STREAM = "/api/v1/jobs", "text/event-stream"
router = APIRouter(prefix=PATH, tags=["jobs"])

MOST_LISTED = 1000
LISTED = 100
"""Jobs of a list, unless it is asked for more."""
KEEP_ALIVE_S = 15.0
"""Between two comments in a stream without events, which proxies would else take for dead."""
POLL_S = 1.0
"""Between two looks at a job of another replica, in seconds."""
LAST_STATE_S = 2.0
"""How long a stream waits for the last state of its job when the service ends."""
RETRY_MS = 2000
"""How long a browser waits before it connects again."""

UNKNOWN: dict[int | str, dict[str, Any]] = {
    404: {"model": Problem, "description": "There is no such job"}
}
ENDED: dict[int | str, dict[str, Any]] = {
    409: {"model": Problem, "description": "The job has ended"}
}
AWAY: dict[int | str, dict[str, Any]] = {
    503: {"model": Problem, "description": "The database of jobs, or of API keys, cannot be used"}
}
REFUSED: dict[int | str, dict[str, Any]] = {422: {"model": Problem}}
EVENT = {
    "type": "object",
    "required": ["event", "data", "id"],
    "properties": {
        "event": {"type": "string", "enum": list(JobState)},
        "data": {"type": "string", "contentMediaType": JSON},
        "id": {"type": "string"},
    },
}
"""The schema of each event of a stream."""
LIST_PARAMETERS = {
    "state": {"type": "string", "enum": list(JobState)},
    "limit": {"type": "integer", "minimum": 1, "maximum": MOST_LISTED, "default": LISTED},
}


def jobs_of(request: Request) -> TrainingJobs:
    """Return the jobs of the application's service."""
    jobs: TrainingJobs = request.app.state.service.jobs
    return jobs


def response_of(request: Request, job: Job) -> JobResponse:
    """Return a job with its links."""
    path = f"{request.scope['root_path']}{PATH}/{job.id}"
    links = JobLinks.model_validate({"self": path, "events": f"{path}/events"})
    return JobResponse(**dict(job), position=jobs_of(request).position(job), links=links)


def answer(
    request: Request, job: Job, status: HTTPStatus = HTTPStatus.OK, **headers: str
) -> Response:
    """Return the response with a job."""
    content = response_of(request, job).model_dump_json(by_alias=True)
    return Response(content, status, headers, JSON)


@router.get(
    "",
    response_model=JobList,
    responses=REFUSED,
    openapi_extra={
        "parameters": [
            {"name": name, "in": "query", "schema": schema}
            for name, schema in LIST_PARAMETERS.items()
        ]
    },
)
@requires(Scope.READ)
def list_jobs(request: Request) -> Response:
    """Return the last jobs of all replicas, the newest first."""
    state, limit = _listed(request)
    jobs = jobs_of(request)
    found = [response_of(request, job) for job in jobs.newest(state, limit)]
    content = JobList(jobs=found, stored=jobs.are_stored).model_dump_json(by_alias=True)
    return Response(content, media_type=JSON)


@router.get("/{job_id}", response_model=JobResponse, responses=UNKNOWN | AWAY)
@requires(Scope.READ)
def get_job(request: Request, job_id: str) -> Response:
    """Return a job: its state, its progress, and what came out of it."""
    return answer(request, jobs_of(request).get(job_id))


@router.delete(
    "/{job_id}",
    response_model=JobResponse,
    responses=UNKNOWN | ENDED | AWAY | {202: {"model": JobResponse}},
)
@requires(Scope.TRAIN)
def cancel_job(request: Request, job_id: str) -> Response:
    """Cancel a job that waits or runs. Detectors that are trained by then stay.

    The answer has the job as it ended. It is 202 if the replica that runs it has not answered yet.
    """
    job = jobs_of(request).cancel(job_id)
    return answer(request, job, HTTPStatus.OK if job.state.has_ended else HTTPStatus.ACCEPTED)


@router.get(
    "/{job_id}/events",
    response_class=StreamingResponse,
    responses=UNKNOWN
    | AWAY
    | {
        200: {"content": {EVENT_STREAM: {"schema": EVENT}}},
        204: {"description": "The job has ended, and its last event was sent."},
    },
    openapi_extra={
        "parameters": [{"name": "Last-Event-ID", "in": "header", "schema": {"type": "string"}}]
    },
)
@requires(Scope.READ)
async def job_events(request: Request, job_id: str) -> Response:
    """Follow a job by server-sent events, each with the job as ``GET`` returns it.

    An event is named after the job's state: ``queued``, ``running``, or how it ended, which is the
    last one. A client that connects again with ``Last-Event-ID`` gets what is newer; 204 tells it
    that nothing more will come.
    """
    jobs, last = jobs_of(request), request.headers.get("last-event-id", "")
    job = await run_in_threadpool(jobs.get, job_id)
    if job.state.has_ended and last == str(job.revision):
        return Response(status_code=HTTPStatus.NO_CONTENT)
    if request.scope.get(IS_HEAD):
        return Response(media_type=EVENT_STREAM)
    # Proxies must not hold events back.
    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    return StreamingResponse(_events(request, job_id, last), 200, headers, EVENT_STREAM)


async def ended(jobs: TrainingJobs, job_id: str) -> None:
    """Wait for the end of a job of this process."""
    async for _ in _changes(jobs):
        if jobs.get(job_id).state.has_ended:
            return


async def _events(request: Request, job_id: str, last: str) -> AsyncIterator[bytes]:
    jobs, loop = jobs_of(request), asyncio.get_running_loop()
    yield format_sse_event(retry=RETRY_MS)
    told_at, leaves_at = loop.time(), None
    told_place: int | None = None
    async for _ in _changes(jobs, POLL_S):
        try:
            # That of another replica is looked up in the database.
            is_own = jobs.is_own(job_id)
            job = jobs.get(job_id) if is_own else await run_in_threadpool(jobs.get, job_id)
        except JobNotFoundError:
            return
        except HistoryError:
            if jobs.is_stopped:
                return
            continue  # It is asked again; the client need not know.
        if not await is_still_let_in(request):
            return
        place = jobs.position(job)
        if str(job.revision) != last or place != told_place:
            last, told_place, told_at = str(job.revision), place, loop.time()
            data = response_of(request, job).model_dump_json(by_alias=True)
            yield format_sse_event(data_str=data, event=job.state.value, id=last)
        elif loop.time() - told_at > KEEP_ALIVE_S:
            told_at = loop.time()
            yield format_sse_event(comment="still there")
        if job.state.has_ended:
            return
        if jobs.is_stopped:
            # What runs is interrupted within moments; what waits goes on with the next process.
            leaves_at = leaves_at or loop.time() + LAST_STATE_S
            if job.state is JobState.QUEUED or loop.time() > leaves_at:
                return


async def _changes(jobs: TrainingJobs, every_s: float | None = None) -> AsyncIterator[None]:
    """Yield at once, and after each change of a job, or the time given."""
    loop, changed = asyncio.get_running_loop(), asyncio.Event()

    def tell() -> None:
        loop.call_soon_threadsafe(changed.set)

    end = jobs.watch(tell)
    try:
        while True:
            changed.clear()
            yield
            try:
                await asyncio.wait_for(changed.wait(), every_s)
            except TimeoutError:
                continue
    finally:
        end()


def _listed(request: Request) -> tuple[JobState | None, int]:
    """Return which jobs are asked for, and how many at most.

    Raises
    ------
    InvalidDataError
        If the address has another parameter, or one without a usable value.
    """
    query = request.query_params
    only(query, LIST_PARAMETERS)
    state = word_of(query, "state")
    if state is not None and state not in list(JobState):
        raise InvalidDataError(
            f"{state[:100]!r} is no state of a job.",
            field="state",
            remedy=nearest(state, list(JobState)),
        )
    return None if state is None else JobState(state), limit_of(query, LISTED, MOST_LISTED)
