"""``/api/v1/events``: what was seen on which asset, and when."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import TypeAdapter

from vigie.api.access import asker, requires
from vigie.api.bodies import JSON, json_of, limit_of, only, request_body
from vigie.api.lists import (
    CSV,
    FORMATS,
    as_csv,
    asset_of,
    cursor_of,
    parameters,
    place_of,
    time_of,
    wants_csv,
    word_of,
)
from vigie.api.schemas import EventDetail, EventList, Problem
from vigie.keys import Scope
from vigie.models.alarms import Labelling
from vigie.models.events import AssetEvent, EventKind, Label
from vigie.models.from_json import from_json
from vigie.services.asset_events import AssetEvents

if TYPE_CHECKING:
    from vigie.history.events import EventFilter

router = APIRouter(prefix="/api/v1/events", tags=["events"])

MOST_LISTED, LISTED = 1000, 100
"""Events of a page, at most and unless it is asked for more."""
OPEN, CLOSED = "open", "closed"
LABELLING = TypeAdapter(Labelling)
ASKED_LABELS = (*Label, "none")
"""Labels that a list is filtered by; none has those that nobody has labelled."""
TIME = {"type": "string", "format": "date-time"}
PARAMETERS: dict[str, Any] = {
    "asset_id": {"type": "string"},
    "state": {"type": "string", "enum": [OPEN, CLOSED]},
    "kind": {"type": "string", "enum": list(EventKind)},
    "label": {"type": "string", "enum": list(ASKED_LABELS)},
    "from": TIME,
    "to": TIME,
    "limit": {"type": "integer", "minimum": 1, "maximum": MOST_LISTED, "default": LISTED},
    "cursor": {"type": "string"},
    "format": {"type": "string", "enum": list(FORMATS), "default": "json"},
}
UNAVAILABLE: dict[int | str, dict[str, Any]] = {
    409: {"model": Problem, "description": "There is no history"},
    422: {"model": Problem},
}
UNKNOWN: dict[int | str, dict[str, Any]] = {
    404: {"model": Problem, "description": "There is no such event"}
}
BODY: dict[int | str, dict[str, Any]] = {status: {"model": Problem} for status in (408, 413, 415)}
AS_CSV: dict[int | str, dict[str, Any]] = {200: {"content": {CSV: {"schema": {"type": "string"}}}}}


def events_of(request: Request) -> AssetEvents:
    """Return the events of the application's assets."""
    events: AssetEvents = request.app.state.service.events
    return events


@router.get(
    "",
    response_model=EventList,
    responses=UNAVAILABLE | AS_CSV,
    openapi_extra=parameters(**PARAMETERS),
)
@requires(Scope.READ)
def list_events(request: Request) -> Response:
    """Return the events of assets, the last to begin first.

    ``asset_id`` is an asset, or the beginning of its path: ``site/line`` also has
    ``site/line/pump-3``. ``label=none`` has those that nobody has labelled. ``from`` and ``to``
    bound a time with which an event has something in common. With ``format=csv``, or
    ``Accept: text/csv``, the answer is CSV.
    """
    query = request.query_params
    only(query, PARAMETERS)
    is_csv = wants_csv(request)
    found, place = events_of(request).newest(
        filter_of(query), limit_of(query, LISTED, MOST_LISTED), place_of(query)
    )
    if is_csv:
        for_people = request.app.state.service.settings.csv_for_people
        return as_csv(found, AssetEvent.model_fields, cursor_of(place), for_people=for_people)
    content = EventList(events=found, next=cursor_of(place))
    return Response(content.model_dump_json(), media_type=JSON)


@router.get("/{event_id}", response_model=EventDetail, responses=UNAVAILABLE | UNKNOWN)
@requires(Scope.READ)
def get_event(request: Request, event_id: str) -> Response:
    """Return an event with its labels, the readings before it and those from its start on."""
    only(request.query_params)
    return _detail(events_of(request), event_id)


@router.post(
    "/{event_id}/label",
    response_model=EventDetail,
    responses=UNAVAILABLE | UNKNOWN | BODY,
    openapi_extra=request_body(Labelling),
)
@requires(Scope.OPERATE)
async def label_event(request: Request, event_id: str) -> Response:
    """Say what an event was: ``true``, ``false`` (a false alarm) or ``unclear``.

    A later label replaces the former, which stays in ``labels``.
    """
    asked, by = from_json(LABELLING, await json_of(request)), asker(request)
    events = events_of(request)
    await run_in_threadpool(events.label, event_id, asked.label, asked.cause, asked.note, by)
    return await run_in_threadpool(_detail, events, event_id)


def _detail(events: AssetEvents, event_id: str) -> Response:
    event, labels, readings = events.get(event_id)
    content = EventDetail(**dict(event), labels=labels, readings=readings)
    return Response(content.model_dump_json(), media_type=JSON)


def filter_of(query: Any) -> EventFilter:
    """Return which events an address asks for.

    Raises
    ------
    InvalidDataError
        If a parameter has no usable value.
    """
    # Imported here: SQLAlchemy would take a third of the service's start.
    from vigie.history.events import EventFilter

    state, kind = word_of(query, "state", (OPEN, CLOSED)), word_of(query, "kind", EventKind)
    label = word_of(query, "label", ASKED_LABELS)
    return EventFilter(
        asset=asset_of(query),
        is_open=None if state is None else state == OPEN,
        kind=None if kind is None else EventKind(kind),
        first=time_of(query, "from"),
        last=time_of(query, "to"),
        label=None if label is None else "none" if label == "none" else Label(label),
    )
