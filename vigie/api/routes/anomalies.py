"""``/api/v1/anomalies``: training, detection and status."""

from __future__ import annotations

from codecs import BOM_UTF8
from dataclasses import asdict
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Body, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.routing import Route

from vigie import __version__
from vigie.api.access import requires
from vigie.api.bodies import JSON, Exchange, json_of, request_body, truth_of
from vigie.api.files import described, for_http
from vigie.api.routes.jobs import answer, ended, jobs_of, response_of
from vigie.api.schemas import (
    HealthResponse,
    JobResponse,
    Problem,
    StatusResponse,
    TrainResponse,
    VersionMetrics,
)
from vigie.api.uploads import PARAMETERS, WAIT, is_file, uploaded, with_kind
from vigie.errors import InvalidDataError
from vigie.keys import Scope
from vigie.models.anomaly_data import (
    MOST_READINGS,
    AnomalyDetectionRequest,
    AnomalyDetectionResult,
)
from vigie.models.columns import ReadingColumns, ResultColumns
from vigie.models.training import HistoryTrainRequest, TrainRequest
from vigie.services.anomaly_detection_service import AnomalyDetectionService
from vigie.services.training_jobs import none_trained

router = APIRouter(prefix="/api/v1/anomalies", tags=["anomalies"])


def service_of(request: Request) -> AnomalyDetectionService:
    """Return the application's service."""
    service: AnomalyDetectionService = request.app.state.service
    return service


Readings = Annotated[
    list[AnomalyDetectionRequest], Body(min_length=1, max_length=MOST_READINGS, fail_fast=True)
]
READING = Exchange(AnomalyDetectionRequest, AnomalyDetectionResult)
BATCH = Exchange(Readings, list[AnomalyDetectionResult])
COLUMNS = Exchange(ReadingColumns, ResultColumns)
EITHER: dict[str, Any] = {
    "response_model": list[AnomalyDetectionResult] | ResultColumns,
    "openapi_extra": request_body(Readings | ReadingColumns),
}

INVALID: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem} for status in (408, 413, 415, 422)
}
NOT_READY: dict[int | str, dict[str, Any]] = {503: {"model": Problem}}
NO_REGISTRY: dict[int | str, dict[str, Any]] = {502: {"model": Problem}}
AWAITED: dict[int | str, dict[str, Any]] = {
    200: {"model": TrainResponse, "description": "The outcome, with `wait=true`"}
}
CANCELLED: dict[int | str, dict[str, Any]] = {
    409: {"model": Problem, "description": "The job was cancelled while its end was awaited"}
}
FULL: dict[int | str, dict[str, Any]] = {429: {"model": Problem}}

WHITESPACE = 64
"""Bytes of a body in which its first character is sought."""

JSON_TRAINING = request_body(TrainRequest | HistoryTrainRequest)
FILE_TRAINING = described(PARAMETERS)
HOW_TO_SEND = (
    "Send JSON with Content-Type: application/json, or a file with Content-Type: text/csv or "
    "application/octet-stream."
)


@router.post(
    "/train",
    status_code=HTTPStatus.ACCEPTED,
    response_model=JobResponse,
    responses=AWAITED | INVALID | CANCELLED | FULL | NOT_READY,
    openapi_extra={
        "parameters": FILE_TRAINING["parameters"],
        "requestBody": {
            "required": True,
            "content": JSON_TRAINING["requestBody"]["content"]
            | FILE_TRAINING["requestBody"]["content"],
        },
    },
)
@requires(Scope.TRAIN)
async def train(request: Request) -> Response:
    """Train detectors on healthy rows, as a job; each is a run and a new version in MLflow.

    The rows are in the JSON body, in the file that is the body, or readings that the service has
    seen. The answer is 202 as soon as the request is checked, with the job and its address in
    ``Location``; with ``wait=true`` it is 200 once the training has ended, with the outcome of each
    detector. A detector that fails does not stop the others.
    """
    jobs, service = jobs_of(request), service_of(request)
    # Before the body is sent.
    jobs.require_place()
    is_awaited = truth_of(request.query_params, WAIT)
    if not is_file(request):
        body = await json_of(request, (WAIT,), HOW_TO_SEND)
        about = service.about_training()
    else:
        file = uploaded(request)
        body = await request.body()
        about = service.about_training(with_kind(file, body))
    # A subprocess parses the body: many megabytes would block this interpreter for seconds, and
    # with it the readings of other clients.
    try:
        job = await run_in_threadpool(jobs.submit, body, about, is_awaited=is_awaited)
    except InvalidDataError as error:
        if about.file is None:
            raise
        raise for_http(error, PARAMETERS) from error
    if not is_awaited:
        accepted = response_of(request, job)
        return answer(request, job, HTTPStatus.ACCEPTED, Location=accepted.links.self_)
    await ended(jobs, job.id)
    outcomes = await run_in_threadpool(jobs.wait, job.id)
    if all(model["status"] == "failed" for model in outcomes.values()):
        raise none_trained(outcomes)
    response = TrainResponse.model_validate({"models": outcomes})
    return Response(response.model_dump_json(), media_type=JSON)


@router.post("/detect", responses=INVALID | NOT_READY, **READING.described)
@requires(Scope.DETECT)
async def detect(request: Request) -> Response:
    """Assess one reading by all models that serve."""
    return await READING(request, service_of(request).detect_anomaly)


@router.post("/detect/batch", responses=INVALID | NOT_READY, **EITHER)
@requires(Scope.DETECT)
async def detect_batch(request: Request) -> Response:
    """Assess readings, with the same results as one by one, in the same order.

    They are a list, or the columns of one asset: an object with a list for each feature. The answer
    has the form of the request; columns are a quarter of the size.
    """
    service, data = service_of(request), await json_of(request)
    if data[:WHITESPACE].removeprefix(BOM_UTF8).lstrip().startswith(b"{"):
        return await COLUMNS.answer(request, data, service.detect_columns)
    return await BATCH.answer(request, data, service.detect_anomalies_batch)


@router.get("/status")
@requires(Scope.READ)
def status(request: Request) -> StatusResponse:
    """Return whether the service is ready, and which version of each model serves."""
    service = service_of(request)
    outbox = service.mlflow_service.outbox.summary() if service.mlflow_service.enabled else None
    return StatusResponse.model_validate(
        {
            "ready": service.is_ready(),
            "confirmed": service.confirmed,
            "pending": service.pending(),
            "journal": outbox and asdict(outbox),
            "replaced": service.n_replaced,
            "models": service.get_model_status(),
        }
    )


@router.get("/metrics", responses=NO_REGISTRY)
@requires(Scope.READ)
def metrics(request: Request) -> dict[str, list[VersionMetrics]]:
    """Return the newest versions of each model with their stage, run and metrics."""
    return {
        name: [VersionMetrics.model_validate(version) for version in versions]
        for name, versions in service_of(request).get_metrics().items()
    }


@router.get("/health")
@requires(None)
def health() -> HealthResponse:
    """Return 200 while the process is alive, ready or not."""
    return HealthResponse(status="ok", version=__version__)


@router.get("/health/ready", responses=NOT_READY)
@requires(None)
def ready(request: Request) -> HealthResponse:
    """Return 200 if a model serves, otherwise 503 with the remedy; 503 too before the end."""
    if service_of(request).is_stopping:
        raise HTTPException(
            HTTPStatus.SERVICE_UNAVAILABLE, "The service is stopping.", {"Retry-After": "5"}
        )
    if not service_of(request).is_ready():
        raise service_of(request).none_serves()
    return HealthResponse(status="ready", version=__version__)


def fast_routes() -> list[Route]:
    """Return the detection routes as plain Starlette routes, without FastAPI's dependencies.

    Endpoints, middleware and errors are the same, but FastAPI does not resolve dependencies, which
    takes 5 % of a reading's time on one connection and 20 % on sixteen. Register them before
    ``router``, and only if the application has no dependencies.
    """
    return [
        Route(route.path, route.endpoint, methods=["POST"])
        for route in router.routes
        if isinstance(route, APIRoute)
        and route.endpoint in (detect, detect_batch)
        and not route.dependencies
    ]
