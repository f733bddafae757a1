"""``/api/v1/assets``: how each asset is, and whether it is in service."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, TypeAdapter

from vigie.api.access import asker, requires
from vigie.api.bodies import JSON, json_of, limit_of, only, request_body
from vigie.api.lists import as_csv, asset_of, parameters, wants_csv, word_of
from vigie.api.routes.alarms import alarms_of
from vigie.api.routes.events import AS_CSV, BODY, LISTED, MOST_LISTED, PARAMETERS, UNAVAILABLE
from vigie.api.schemas import Problem
from vigie.errors import InvalidDataError
from vigie.keys import Scope
from vigie.models.alarms import Asset, AssetList, AssetService, OutOfService
from vigie.models.anomaly_data import AssetState
from vigie.models.from_json import from_json

router = APIRouter(prefix="/api/v1/assets", tags=["assets"])

OUT_OF_SERVICE = TypeAdapter(OutOfService)
LIST_PARAMETERS: dict[str, Any] = {
    "asset_id": {"type": "string"},
    "state": {"type": "string", "enum": list(AssetState)},
    **{name: PARAMETERS[name] for name in ("limit", "cursor", "format")},
}
UNKNOWN: dict[int | str, dict[str, Any]] = {
    404: {"model": Problem, "description": "No reading of this asset has come"}
}


@router.get(
    "",
    response_model=AssetList,
    responses=UNAVAILABLE | AS_CSV,
    openapi_extra=parameters(**LIST_PARAMETERS),
)
@requires(Scope.READ)
def list_assets(request: Request) -> Response:
    """Return assets by their path: state, last reading, quality of the data, open events.

    ``asset_id`` is an asset, or the beginning of its path. With ``format=csv``, or
    ``Accept: text/csv``, the answer is CSV.
    """
    query = request.query_params
    only(query, LIST_PARAMETERS)
    is_csv, state = wants_csv(request), word_of(query, "state", AssetState)
    found, last = alarms_of(request).assets(
        asset_of(query),
        None if state is None else AssetState(state),
        limit_of(query, LISTED, MOST_LISTED),
        _place_of(query),
    )
    following = None if last is None else urlsafe_b64encode(json.dumps(last).encode()).decode()
    if is_csv:
        for_people = request.app.state.service.settings.csv_for_people
        return as_csv(found, Asset.model_fields, following, for_people=for_people)
    return _answer(AssetList(assets=found, next=following))


@router.post(
    "/{asset:path}/out-of-service",
    response_model=AssetService,
    responses=UNAVAILABLE | UNKNOWN | BODY,
    openapi_extra=request_body(OutOfService),
)
@requires(Scope.OPERATE)
async def take_out(request: Request, asset: str) -> Response:
    """Take an asset, with all below its path, out of service: nobody is told of its alarms."""
    asked, by = from_json(OUT_OF_SERVICE, await json_of(request)), asker(request)
    alarms = alarms_of(request)
    return _answer(await run_in_threadpool(alarms.take_out, asset, asked.reason, asked.until, by))


@router.delete(
    "/{asset:path}/out-of-service",
    response_model=AssetService,
    responses=UNAVAILABLE,
)
@requires(Scope.OPERATE)
def put_in(request: Request, asset: str) -> Response:
    """Put an asset back into service. Alarms that are still active are told then."""
    only(request.query_params)
    return _answer(alarms_of(request).put_in(asset, asker(request)))


def _place_of(query: Mapping[str, str]) -> tuple[str, str] | None:
    if (cursor := query.get("cursor")) is None:
        return None
    try:
        asset_id, sensor_id = json.loads(urlsafe_b64decode(cursor.encode()))
        are_texts = isinstance(asset_id, str) and isinstance(sensor_id, str)
        if are_texts and "\0" not in asset_id + sensor_id:
            return asset_id, sensor_id
    except (ValueError, TypeError):
        # Told below, as for texts that are no pair.
        pass
    raise InvalidDataError(
        "The cursor is not one that a page has named.",
        field="cursor",
        remedy="Send `next` of the page before, or leave it out.",
    )


def _answer(content: BaseModel) -> Response:
    return Response(content.model_dump_json(), media_type=JSON)
