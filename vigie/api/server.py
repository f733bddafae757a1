"""Run the service: uvicorn with the application and limits on its clients.

A stop signal ends a process at once until it answers; then it completes open requests first.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from types import FrameType

import uvicorn

from vigie.api.connections import allow_connections, patient_for
from vigie.config import Settings
from vigie.tls import Certificate

logger = logging.getLogger(__name__)

NOT_STARTED = 3
"""Exit status of a service that could not start, as uvicorn's."""


class Server(uvicorn.Server):
    """A server that also ends by a signal that comes while it starts."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if not self.started:
            # An exception could be caught by any library that is being imported, and a thread that
            # compiles kernels would be waited for.
            os._exit(0)
        super().handle_exit(sig, frame)


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
    config = uvicorn.Config(
        "vigie.main:app",
        host=settings.host,
        port=settings.port,
        # Uvicorn's would add a fifth to the time of a reading; see vigie.api.watch.
        access_log=False,
        # Uvicorn's lines go where Vigie's go, with their time.
        log_config=None,
        timeout_graceful_shutdown=settings.stop_patience_s,  # type: ignore[arg-type]
        http=patient_for(settings.client_patience_s),
        ws="none",
        ssl_context_factory=(lambda *_: certificate.context) if certificate else None,
        # Do not reveal the server software.
        server_header=False,
    )
    server = Server(config)
    for kind in (signal.SIGTERM, signal.SIGINT):
        # Before the application is imported; uvicorn raises the signal again at its end.
        signal.signal(kind, server.handle_exit)
    config.load_app()
    server.run()
    if not server.started:
        sys.exit(NOT_STARTED)
