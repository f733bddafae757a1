"""``/api/v1/anomalies``: training, detection and status."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Body, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.routing import APIRoute
from starlette.routing import Route

from vigie import __version__
from vigie.api.access import requires
from vigie.api.bodies import Exchange, json_of, request_body
from vigie.api.schemas import (
    HealthResponse,
    Problem,
    StatusResponse,
    TrainResponse,
    VersionMetrics,
)
from vigie.errors import InvalidDataError
from vigie.keys import Scope
from vigie.models.anomaly_data import (
    MOST_READINGS,
    AnomalyDetectionRequest,
    AnomalyDetectionResult,
)
from vigie.models.training import TrainRequest
from vigie.services.anomaly_detection_service import AnomalyDetectionService

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

INVALID: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem} for status in (408, 413, 415, 422)
}
NOT_READY: dict[int | str, dict[str, Any]] = {503: {"model": Problem}}
NO_REGISTRY: dict[int | str, dict[str, Any]] = {502: {"model": Problem}}
BUSY: dict[int | str, dict[str, Any]] = {409: {"model": Problem}}


@router.post(
    "/train", responses=INVALID | BUSY | NOT_READY, openapi_extra=request_body(TrainRequest)
)
@requires(Scope.TRAIN)
async def train(request: Request) -> TrainResponse:
    """Train detectors on healthy rows; each training is a run and a new version in MLflow.

    A detector that fails does not stop the others; the response holds its error.
    """
    service = service_of(request)
    service.refuse_a_second_training()
    # The subprocess parses the body: many megabytes would block this interpreter for seconds, and
    # with it the readings of other clients.
    outcome = await run_in_threadpool(service.train_in_subprocess, await json_of(request))
    if all(model["status"] == "failed" for model in outcome.values()):
        by_reason: dict[str, list[str]] = {}
        for name, model in outcome.items():
            by_reason.setdefault(str(model["error"]), []).append(name)
        reasons = " ".join(f"{', '.join(names)}: {reason}" for reason, names in by_reason.items())
        raise InvalidDataError(f"No detector could be trained. {reasons}", field="data")
    return TrainResponse.model_validate({"models": outcome})


@router.post("/detect", responses=INVALID | NOT_READY, **READING.described)
@requires(Scope.DETECT)
async def detect(request: Request) -> Response:
    """Assess one reading by all models that serve."""
    return await READING(request, service_of(request).detect_anomaly)


@router.post("/detect/batch", responses=INVALID | NOT_READY, **BATCH.described)
@requires(Scope.DETECT)
async def detect_batch(request: Request) -> Response:
    """Assess readings, with the same results as one by one, in the same order."""
    return await BATCH(request, service_of(request).detect_anomalies_batch)


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
    """Return 200 if a model serves, otherwise 503 with the remedy."""
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
