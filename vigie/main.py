"""The ASGI application of the service."""

from __future__ import annotations

import asyncio
import gc
import logging
import random
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from types import FrameType
from typing import TYPE_CHECKING

from fastapi import FastAPI, Request, params
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import RedirectResponse

from vigie import __version__
from vigie.api import document, headers, pages, problems, watch
from vigie.api.access import KeyCheck, endpoints, requires
from vigie.api.executor import BatchExecutor
from vigie.api.keyring import Keyring
from vigie.api.middleware import BodyLimit, HeadAsGet, HostCheck, OriginCheck, RootPath
from vigie.api.routes import (
    alarms,
    alerts,
    anomalies,
    assets,
    comparison,
    events,
    jobs,
    metrics,
    models,
    readings,
    tables,
)
from vigie.api.telemetry import telemetry
from vigie.config import Settings
from vigie.keys import Scope
from vigie.services.anomaly_detection_service import AnomalyDetectionService
from vigie.training.variables import name_unknown_variables

if TYPE_CHECKING:
    from vigie.history.keys import KeyStore

logger = logging.getLogger(__name__)

SWITCH_INTERVAL_S = 0.0005
"""The interpreter's thread switch interval, in seconds."""


def create_app(
    settings: Settings | None = None, dependencies: Sequence[params.Depends] = ()
) -> FastAPI:
    """Return the application.

    Parameters
    ----------
    settings : Settings, optional
        By default read from the environment and ``.env``.
    dependencies : sequence of Depends, optional
        Dependencies of every route, such as a login of yours.
    """
    settings = settings or Settings()
    service = AnomalyDetectionService(settings)
    keyring = Keyring(lambda: _open_keys(settings))

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        name_unknown_variables()
        # Compile the kernels before the first request, so that none has to wait for it.
        await asyncio.to_thread(service.start)
        _share_the_interpreter()
        follower = asyncio.create_task(_follow_registry(service, settings.registry_poll_s))
        with (
            _on_termination(service.stop),
            BatchExecutor(service.n_turns_at_once) as app.state.executor,
        ):
            yield
        follower.cancel()
        await asyncio.to_thread(service.close)
        await asyncio.to_thread(keyring.close)

    app = FastAPI(
        title="Vigie",
        version=__version__,
        summary="Anomaly detection for machines and their sensors.",
        description=document.DESCRIPTION,
        license_info=document.LICENSE,
        openapi_tags=document.TAGS,
        generate_unique_id_function=document.operation_id,
        lifespan=lifespan,
        dependencies=list(dependencies),
        # The redirect's URL would be built from the Host header, which the client controls.
        redirect_slashes=False,
        telemetry=telemetry(settings),
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
    )
    app.state.service = service
    app.state.requests, app.state.metrics = watch.RequestCounts(), None
    app.add_middleware(BodyLimit, max_bytes=settings.max_body_bytes)
    app.add_middleware(KeyCheck, keyring=keyring, settings=settings)
    app.add_middleware(HeadAsGet)
    if settings.root_path:
        app.add_middleware(RootPath, root_path=settings.root_path)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["Authorization", "Content-Type", "X-API-Key", watch.HEADER],
            expose_headers=["Retry-After", watch.HEADER],
        )
    app.add_middleware(OriginCheck, trusted=settings.cors_origins)
    app.add_middleware(HostCheck, host=settings.host, allowed=settings.allowed_hosts)
    problems.install(app)
    headers.install(app)
    watch.install(app, app.state.requests, logs_access=settings.access_log)
    document.install(app, settings, service.usual_reading)
    if not dependencies:
        app.router.routes.extend(anomalies.fast_routes())
    app.include_router(anomalies.router)
    app.include_router(readings.router)
    app.include_router(tables.router)
    app.include_router(jobs.router)
    app.include_router(alarms.router)
    app.include_router(alerts.router)
    app.include_router(assets.router)
    app.include_router(events.router)
    app.include_router(models.router)
    app.include_router(comparison.router)
    app.include_router(metrics.router)

    # Routes are matched in order; the document is the least used.
    app.openapi_url = "/openapi.json"
    app.setup()
    for route, endpoint in endpoints(app):
        if route.path == app.openapi_url:
            requires(Scope.READ)(endpoint)
    pages.install(app)

    @app.get("/", include_in_schema=False)
    @requires(Scope.READ)
    def root(request: Request) -> RedirectResponse:
        return RedirectResponse(f"{request.scope['root_path']}/docs")

    return app


def _open_keys(settings: Settings) -> KeyStore:
    # Imported here: SQLAlchemy would take a third of the service's start.
    from vigie.history.keys import KeyStore

    return KeyStore(settings)


def _share_the_interpreter() -> None:
    """Reduce how long a busy thread or the garbage collector blocks other threads.

    A request changes threads a few times. Each time it may wait until a thread that works on a
    large batch releases the interpreter, by default after five milliseconds.
    """
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    # The objects that exist now are permanent, so later collections can skip them.
    gc.freeze()


@contextmanager
def _on_termination(callback: Callable[[], None]) -> Iterator[None]:
    """Call back as soon as the process receives SIGINT or SIGTERM.

    The server first completes open requests and only then ends the lifespan, so a training would
    delay the shutdown by minutes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def on_signal(number: int, frame: FrameType | None) -> None:
        # In another thread: the callback may wait for a lock that the interrupted code holds.
        threading.Thread(target=callback).start()
        if callable(previous := handlers[signal.Signals(number)]):
            previous(number, frame)

    # Known before the first one is replaced: a signal may come in between.
    handlers = {kind: signal.getsignal(kind) for kind in (signal.SIGINT, signal.SIGTERM)}
    for kind in handlers:
        signal.signal(kind, on_signal)
    try:
        yield
    finally:
        for kind, handler in handlers.items():
            signal.signal(kind, handler)


async def _follow_registry(service: AnomalyDetectionService, period_s: float) -> None:
    """Serve newly promoted versions, at most one period after their promotion.

    A refresh takes a part of the period, so the pause between two is shorter.
    """
    await asyncio.to_thread(service.open_history)
    while True:
        try:
            await asyncio.to_thread(service.recover_jobs)
            await asyncio.to_thread(service.refresh)
            await asyncio.to_thread(service.promote_by_rule)
            await asyncio.to_thread(service.send_outbox)
        except Exception:
            # One failed refresh must not end the loop.
            logger.exception("The refresh from the registry failed.")
        # Jitter, so that services started together do not poll the registry together.
        await asyncio.sleep(period_s * random.uniform(0.7, 0.9))


app = create_app()
