"""Run the service: uvicorn with the application and limits on its clients."""

from __future__ import annotations

import logging
import os

import uvicorn

from vigie.api.connections import allow_connections, patient_for
from vigie.config import Settings
from vigie.tls import Certificate

logger = logging.getLogger(__name__)

SHUTDOWN_TIMEOUT_S = 5
"""How long open requests may still take after the stop signal, in seconds."""


def serve(settings: Settings) -> None:
    """Serve until the process receives a stop signal."""
    allow_connections()
    # Readings, models and logs are nobody else's.
    os.umask(0o077)
    if settings.auth == "off" and not settings.is_local:
        logger.warning(
            "Vigie asks nobody for an API key (VIGIE_AUTH=off): whoever reaches %s port %d may "
            "read, train and change what is served.",
            settings.host,
            settings.port,
        )
    if settings.demands_keys and not settings.tls_cert and not settings.is_local:
        logger.warning(
            "Readings and API keys cross the network as they are: give a certificate (--tls-cert), "
            "or put a proxy with TLS before Vigie."
        )
    certificate = settings.tls_cert and Certificate(settings.tls_cert, settings.tls_key)
    # The application reads them itself, and what the command line says goes before.
    os.environ |= settings.variables("host", "port", "auth", "tls_cert", "tls_key")
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
        ssl_context_factory=(lambda *_: certificate.context) if certificate else None,
        # Do not reveal the server software.
        server_header=False,
    )
