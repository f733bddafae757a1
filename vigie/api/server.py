"""The one way to start the service: uvicorn with the application, and limits on its clients."""

from __future__ import annotations

import uvicorn

from vigie.api.connections import allow_connections, patient_for
from vigie.config import Settings

ANSWERS_WITHIN_S = 5
"""How long requests may still take once the service is told to stop."""


def serve(settings: Settings) -> None:
    """Serve until the process is told to stop, as the settings in the environment say."""
    allow_connections()
    uvicorn.run(
        "vigie.main:app",
        host=settings.host,
        port=settings.port,
        # A line in the log for each reading would cost as much as a fifth of its verdict.
        access_log=False,
        timeout_graceful_shutdown=ANSWERS_WITHIN_S,
        http=patient_for(settings.client_patience_s),
        ws="none",
        # What answers is nobody's business.
        server_header=False,
    )
