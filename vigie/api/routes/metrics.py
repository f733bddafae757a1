"""``/metrics``: what Prometheus scrapes."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

from fastapi import APIRouter, Request, Response
from starlette.datastructures import State

from vigie.api.access import requires
from vigie.keys import Scope

PATH = "/metrics"
PLAIN, OPEN_METRICS = "text/plain", "application/openmetrics-text"
router = APIRouter(tags=["operations"])

# A thread of its own: those of other routes may all wait for a database.
_scrapes = ThreadPoolExecutor(1, thread_name_prefix="metrics")


@router.get(
    PATH,
    response_class=Response,
    responses={
        200: {
            "description": "In the text format of Prometheus, or that of OpenMetrics.",
            "content": {kind: {"schema": {"type": "string"}} for kind in (PLAIN, OPEN_METRICS)},
        }
    },
)
@requires(Scope.READ)
async def prometheus_metrics(request: Request) -> Response:
    """Return the metrics of this process, for Prometheus."""
    content, media_type = await asyncio.get_running_loop().run_in_executor(
        _scrapes, _text, request.app.state, request.headers.get("accept", "")
    )
    return Response(content, headers={"Content-Type": media_type})


def _text(state: State, accept: str) -> tuple[bytes, str]:
    # Imported here: the client library would add to the service's start.
    from vigie.api.metrics import Metrics

    if state.metrics is None:
        state.metrics = Metrics(state.service, state.requests)
    text: tuple[bytes, str] = state.metrics.text(accept)
    return text
