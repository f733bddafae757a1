"""The service: an application that answers under ``/api/v1/anomalies``."""

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

from fastapi import FastAPI, Request, params
from fastapi.responses import RedirectResponse

from vigie import __version__
from vigie.api import document, problems
from vigie.api.executor import BatchExecutor
from vigie.api.middleware import Below, BodyLimit, HeadAsGet
from vigie.api.routes import anomalies
from vigie.config import Settings
from vigie.services.anomaly_detection_service import AnomalyDetectionService

logger = logging.getLogger(__name__)

SWITCH_INTERVAL_S = 0.0005
"""How long a thread goes on while others wait, in seconds."""


def create_app(
    settings: Settings | None = None, dependencies: Sequence[params.Depends] = ()
) -> FastAPI:
    """Return the application.

    Parameters
    ----------
    settings : Settings, optional
        By default read from the environment and ``.env``.
    dependencies : sequence of Depends, optional
        What every route demands, such as a key.
    """
    settings = settings or Settings()
    service = AnomalyDetectionService(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        # No reading meets a cold kernel: before this nothing is answered, and so not ready.
        await asyncio.to_thread(service.start)
        _share_the_interpreter()
        follower = asyncio.create_task(_follow_registry(service, settings.registry_poll_s))
        with (
            _told_to_end(service.stop_training),
            BatchExecutor(service.n_turns_at_once) as app.state.executor,
        ):
            yield
        follower.cancel()
        await asyncio.to_thread(service.close)

    app = FastAPI(
        title="Vigie",
        version=__version__,
        summary="Anomaly detection for machines and their sensors.",
        lifespan=lifespan,
        dependencies=list(dependencies),
        # It would be sent elsewhere by addresses that it makes of what the client says it is.
        redirect_slashes=False,
        # Looking for an exporter that is not there costs each request a twentieth of its time.
        telemetry={"tracing": False, "metrics": False, "logs": False},
        openapi_url=None,
    )
    app.state.service = service
    app.add_middleware(BodyLimit, max_bytes=settings.max_body_bytes)
    app.add_middleware(HeadAsGet)
    if settings.root_path:
        app.add_middleware(Below, root_path=settings.root_path)
    problems.install(app)
    document.install(app)
    if not dependencies:
        app.router.routes.extend(anomalies.straight_routes())
    app.include_router(anomalies.router)

    # Routes are looked through in their order, so the document comes last.
    app.openapi_url = "/openapi.json"
    app.setup()

    @app.get("/", include_in_schema=False)
    def root(request: Request) -> RedirectResponse:
        return RedirectResponse(f"{request.scope['root_path']}/docs")

    return app


def _share_the_interpreter() -> None:
    """Let no thread, and no look for garbage, keep the others waiting for long.

    A request changes threads a few times, and each time waits until a thread that is busy with a
    large batch gives way, by default after five milliseconds.
    """
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    # What is there by now stays, and need not be looked at again.
    gc.freeze()


@contextmanager
def _told_to_end(act: Callable[[], None]) -> Iterator[None]:
    """Act as soon as the process is told to end.

    A server first waits for the answers that it owes and ends the lifespan after that, but a
    training would keep it waiting for minutes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def told(number: int, frame: FrameType | None) -> None:
        # Not here, in the middle of anything: what acts may have to wait for a lock.
        threading.Thread(target=act).start()
        if callable(then := before[signal.Signals(number)]):
            then(number, frame)

    before = {kind: signal.signal(kind, told) for kind in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)


async def _follow_registry(service: AnomalyDetectionService, period_s: float) -> None:
    """Serve what is promoted elsewhere, at the latest one period later.

    A look at the registry takes a part of the period, so the pause is shorter.
    """
    await asyncio.to_thread(service.open_history)
    while True:
        try:
            await asyncio.to_thread(service.refresh)
            await asyncio.to_thread(service.send_outbox)
        except Exception:
            # A fault in one look at the registry must not end all later ones.
            logger.exception("The registry could not be followed.")
        # Many services started at once should not ask at once for ever.
        await asyncio.sleep(period_s * random.uniform(0.7, 0.9))


app = create_app()
