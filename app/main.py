"""The service: an application that answers under ``/api/v1/anomalies``."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.responses import RedirectResponse

from app import __version__
from app.api import anomalies, problems
from app.config import Settings
from app.services.anomaly_detection_service import AnomalyDetectionService

logger = logging.getLogger(__name__)


def create_app(settings: Settings | None = None) -> FastAPI:
    """Return the application.

    Parameters
    ----------
    settings : Settings, optional
        By default read from the environment and ``.env``.
    """
    settings = settings or Settings()
    service = AnomalyDetectionService(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        # No reading meets a cold kernel: before this nothing is answered, and so not ready.
        await asyncio.to_thread(service.start)
        follower = asyncio.create_task(_follow_registry(service, settings.registry_poll_s))
        yield
        follower.cancel()
        await asyncio.to_thread(service.close)

    app = FastAPI(
        title="Vigie",
        version=__version__,
        summary="Anomaly detection for machines and their sensors.",
        lifespan=lifespan,
    )
    app.state.service = service
    app.add_middleware(problems.BodyLimit, max_bytes=settings.max_body_bytes)
    problems.install(app)
    app.include_router(anomalies.router)

    @app.get("/", include_in_schema=False)
    def root() -> RedirectResponse:
        return RedirectResponse("/docs")

    return app


async def _follow_registry(service: AnomalyDetectionService, period_s: float) -> None:
    """Serve what is promoted elsewhere, at the latest one period later."""
    await asyncio.to_thread(service.open_history)
    while True:
        try:
            await asyncio.to_thread(service.refresh)
        except Exception:
            # A fault in one look at the registry must not end all later ones.
            logger.exception("The registry could not be followed.")
        # Many services started at once should not ask at once for ever.
        await asyncio.sleep(period_s * random.uniform(0.8, 1.2))


app = create_app()
