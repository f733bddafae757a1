"""``/metrics``: what Prometheus scrapes."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from vigie.api.access import requires
from vigie.keys import Scope

PATH = "/metrics"
PLAIN, OPEN_METRICS = "text/plain", "application/openmetrics-text"
router = APIRouter(tags=["operations"])


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
def metrics(request: Request) -> Response:
    """Return the metrics of this process, for Prometheus."""
    # Imported here: the client library would add to the service's start.
    from vigie.api.metrics import Metrics

    state = request.app.state
    if state.metrics is None:
        state.metrics = Metrics(state.service, state.requests)
    content, media_type = state.metrics.text(request.headers.get("accept", ""))
    return Response(content, headers={"Content-Type": media_type})
