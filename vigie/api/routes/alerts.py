"""``/api/v1/alerts``: what was told of alarms, by which channel, and whether it has arrived."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response

from vigie.api.access import requires
from vigie.api.bodies import JSON, limit_of, only
from vigie.api.lists import cursor_of, parameters, place_of, word_of
from vigie.api.routes.alarms import alarms_of
from vigie.api.routes.events import LISTED, MOST_LISTED, PARAMETERS, UNAVAILABLE
from vigie.api.schemas import Problem
from vigie.keys import Scope
from vigie.models.alarms import Alert, AlertList, AlertState

router = APIRouter(prefix="/api/v1/alerts", tags=["alerts"])

LIST_PARAMETERS: dict[str, Any] = {
    "state": {"type": "string", "enum": list(AlertState)},
    **{name: PARAMETERS[name] for name in ("limit", "cursor")},
}
UNKNOWN: dict[int | str, dict[str, Any]] = {
    404: {"model": Problem, "description": "There is no such dead letter"}
}


@router.get(
    "",
    response_model=AlertList,
    responses=UNAVAILABLE,
    openapi_extra=parameters(**LIST_PARAMETERS),
)
@requires(Scope.READ)
def list_alerts(request: Request) -> Response:
    """Return what is told of alarms, the newest first.

    Alerts that are ``dead`` were given up after many attempts, and can be sent again.
    """
    query = request.query_params
    only(query, LIST_PARAMETERS)
    state = word_of(query, "state", AlertState)
    found, place = alarms_of(request).alerts(
        None if state is None else AlertState(state),
        limit_of(query, LISTED, MOST_LISTED),
        place_of(query),
    )
    content = AlertList(alerts=found, next=cursor_of(place))
    return Response(content.model_dump_json(), media_type=JSON)


@router.post("/{alert_id}/retry", response_model=Alert, responses=UNAVAILABLE | UNKNOWN)
@requires(Scope.OPERATE)
def retry_alert(request: Request, alert_id: str) -> Response:
    """Send a dead letter again, as if it had never been tried."""
    only(request.query_params)
    return Response(alarms_of(request).retry(alert_id).model_dump_json(), media_type=JSON)
