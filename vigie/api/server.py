"""Run the service: uvicorn with the application and limits on its clients."""

from __future__ import annotations

import logging
import os

import uvicorn

from vigie.api.connections import allow_connections, patient_for
from vigie.config import LOOPBACK, Settings

logger = logging.getLogger(__name__)

SHUTDOWN_TIMEOUT_S = 5
"""How long open requests may still take after the stop signal, in seconds."""


def serve(settings: Settings) -> None:
    """Serve until the process receives a stop signal."""
    allow_connections()
    # Readings, models and logs are nobody else's.
    os.umask(0o077)
    if settings.host not in LOOPBACK:
        logger.warning(
            "Vigie has no login: whoever reaches %s port %d may read, train and change what is "
            "served. Put a proxy with a login before it (docs/operations/index.md), or listen on "
            "127.0.0.1 only.",
            settings.host,
            settings.port,
        )
    uvicorn.run(
        "vigie.main:app",
        host=settings.host,
        port=settings.port,
        # An access log would add a fifth to the time of a reading.
        access_log=False,
        # Uvicorn's lines go where Vigie's go, with their time.
        log_config=None,
        timeout_graceful_shutdown=SHUTDOWN_TIMEOUT_S,
        http=patient_for(settings.client_patience_s),
        ws="none",
        # Do not reveal the server software.
        server_header=False,
    )
