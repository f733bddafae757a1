"""``/api/v1/alarms``: events that ask somebody to act, and what is done about them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, TypeAdapter

from vigie.api.access import asker, requires
from vigie.api.bodies import JSON, json_of, limit_of, only, request_body
from vigie.api.lists import (
    as_csv,
    asset_of,
    cursor_of,
    parameters,
    place_of,
    time_of,
    wants_csv,
    word_of,
)
from vigie.api.routes.events import AS_CSV, BODY, LISTED, MOST_LISTED, PARAMETERS, TIME, UNAVAILABLE
from vigie.api.schemas import Problem
from vigie.keys import Scope
from vigie.models.alarms import (
    Acknowledgement,
    Alarm,
    AlarmDetail,
    AlarmList,
    AlarmLoad,
    AlarmState,
    Shelving,
    Unshelving,
)
from vigie.models.events import EventKind
from vigie.models.from_json import from_json
from vigie.services.asset_alarms import AssetAlarms

if TYPE_CHECKING:
    from vigie.history.alarms import AlarmFilter

router = APIRouter(prefix="/api/v1/alarms", tags=["alarms"])

ACKNOWLEDGEMENT, SHELVING = TypeAdapter(Acknowledgement), TypeAdapter(Shelving)
UNSHELVING = TypeAdapter(Unshelving)
TRUTH = {"true": True, "false": False}
LIST_PARAMETERS: dict[str, Any] = {
    "asset_id": {"type": "string"},
    "state": {"type": "string", "enum": list(AlarmState)},
    "acknowledged": {"type": "boolean"},
    "kind": {"type": "string", "enum": list(EventKind)},
    **{name: PARAMETERS[name] for name in ("limit", "cursor", "format")},
}
LOAD_PARAMETERS: dict[str, Any] = {"asset_id": {"type": "string"}, "from": TIME, "to": TIME}
UNKNOWN: dict[int | str, dict[str, Any]] = {
    404: {"model": Problem, "description": "There is no such alarm"}
}
ONE: dict[str, Any] = {
    "response_model": AlarmDetail,
    "responses": UNAVAILABLE | UNKNOWN | BODY,
}


def alarms_of(request: Request) -> AssetAlarms:
    """Return the alarms of the application's assets."""
    alarms: AssetAlarms = request.app.state.service.alarms
    return alarms


@router.get(
    "",
    response_model=AlarmList,
    responses=UNAVAILABLE | AS_CSV,
    openapi_extra=parameters(**LIST_PARAMETERS),
)
@requires(Scope.READ)
def list_alarms(request: Request) -> Response:
    """Return alarms, the last to be raised first.

    ``asset_id`` is an asset, or the beginning of its path. With ``format=csv``, or
    ``Accept: text/csv``, the answer is CSV.
    """
    query = request.query_params
    only(query, LIST_PARAMETERS)
    is_csv = wants_csv(request)
    found, place = alarms_of(request).newest(
        _filter_of(query), limit_of(query, LISTED, MOST_LISTED), place_of(query)
    )
    if is_csv:
        for_people = request.app.state.service.settings.csv_for_people
        return as_csv(found, Alarm.model_fields, cursor_of(place), for_people=for_people)
    return _answer(AlarmList(alarms=found, next=cursor_of(place)))


@router.get(
    "/load",
    response_model=AlarmLoad,
    responses=UNAVAILABLE,
    openapi_extra=parameters(**LOAD_PARAMETERS),
)
@requires(Scope.READ)
def alarm_load(request: Request) -> Response:
    """Return how many alarms there were, by default in seven days, and how many were of no use.

    Alarms per asset and day; those that stood for long, were gone at once, or chattered; and floods
    of them. VIGIE_ALARM_LOAD says what counts as what.
    """
    query = request.query_params
    only(query, LOAD_PARAMETERS)
    found = alarms_of(request).load(time_of(query, "from"), time_of(query, "to"), asset_of(query))
    return _answer(found)


@router.get("/{alarm_id}", response_model=AlarmDetail, responses=UNAVAILABLE | UNKNOWN)
@requires(Scope.READ)
def get_alarm(request: Request, alarm_id: str) -> Response:
    """Return an alarm with its log: what changed on it, when, and by whom."""
    only(request.query_params)
    return _answer(alarms_of(request).get(alarm_id))


@router.post("/{alarm_id}/acknowledge", openapi_extra=request_body(Acknowledgement), **ONE)
@requires(Scope.OPERATE)
async def acknowledge_alarm(request: Request, alarm_id: str) -> Response:
    """Record who has seen an alarm; one that is acknowledged already stays as it is."""
    asked, by = from_json(ACKNOWLEDGEMENT, await json_of(request)), asker(request)
    alarms = alarms_of(request)
    return _answer(await run_in_threadpool(alarms.acknowledge, alarm_id, by, asked.note))


@router.post("/{alarm_id}/shelve", openapi_extra=request_body(Shelving), **ONE)
@requires(Scope.OPERATE)
async def shelve_alarm(request: Request, alarm_id: str) -> Response:
    """Put an alarm aside for a bounded time: nobody is told of it, nor of others of its kind there.

    If it is still active when the time is over, it is told then.
    """
    asked, by = from_json(SHELVING, await json_of(request)), asker(request)
    alarms = alarms_of(request)
    found = await run_in_threadpool(alarms.shelve, alarm_id, asked.for_s, asked.reason, by)
    return _answer(found)


@router.post("/{alarm_id}/unshelve", openapi_extra=request_body(Unshelving), **ONE)
@requires(Scope.OPERATE)
async def unshelve_alarm(request: Request, alarm_id: str) -> Response:
    """Take up an alarm that is shelved."""
    asked, by = from_json(UNSHELVING, await json_of(request)), asker(request)
    return _answer(await run_in_threadpool(alarms_of(request).unshelve, alarm_id, by, asked.note))


def _filter_of(query: Any) -> AlarmFilter:
    # Imported here: SQLAlchemy would take a third of the service's start.
    from vigie.history.alarms import AlarmFilter

    state, kind = word_of(query, "state", AlarmState), word_of(query, "kind", EventKind)
    is_acknowledged = word_of(query, "acknowledged", TRUTH)
    return AlarmFilter(
        asset=asset_of(query),
        state=None if state is None else AlarmState(state),
        is_acknowledged=None if is_acknowledged is None else TRUTH[is_acknowledged],
        kind=None if kind is None else EventKind(kind),
    )


def _answer(content: BaseModel) -> Response:
    return Response(content.model_dump_json(), media_type=JSON)
