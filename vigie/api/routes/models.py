"""``/api/v1/models``: the versions of each model, how they are promoted, and who has done that."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import TypeAdapter

from vigie.api.access import asker, requires
from vigie.api.bodies import JSON, json_of, limit_of, only, request_body
from vigie.api.schemas import (
    ModelList,
    MovedVersion,
    MoveList,
    Problem,
    VersionList,
)
from vigie.keys import Scope
from vigie.models.from_json import from_json
from vigie.models.moves import Promotion, Rollback
from vigie.services.model_versions import ModelVersions

router = APIRouter(prefix="/api/v1/models", tags=["models"])

MOST_LISTED, LISTED = 1000, 100
"""Versions or moves of a list, at most and unless it is asked for more."""

PROMOTION, ROLLBACK = TypeAdapter(Promotion), TypeAdapter(Rollback)
REGISTRY: dict[int | str, dict[str, Any]] = {status: {"model": Problem} for status in (409, 502)}
ONE: dict[int | str, dict[str, Any]] = {404: {"model": Problem}, 422: {"model": Problem}}
BODY: dict[int | str, dict[str, Any]] = {status: {"model": Problem} for status in (408, 413, 415)}
LIMIT = {
    "name": "limit",
    "in": "query",
    "schema": {"type": "integer", "minimum": 1, "maximum": MOST_LISTED, "default": LISTED},
}


def versions_of(request: Request) -> ModelVersions:
    """Return the versions of the application's models."""
    versions: ModelVersions = request.app.state.service.versions
    return versions


@router.get("", response_model=ModelList, responses=REGISTRY | {422: {"model": Problem}})
@requires(Scope.READ)
def list_models(request: Request) -> Response:
    """Return each model: which version serves, and which versions the registry has.

    A model without a version is in the list, too.
    """
    only(request.query_params)
    return _answer(ModelList.model_validate({"models": versions_of(request).models()}))


@router.get(
    "/{name}/versions",
    response_model=VersionList,
    responses=REGISTRY | ONE,
    openapi_extra={"parameters": [LIMIT]},
)
@requires(Scope.READ)
def list_versions(request: Request, name: str) -> Response:
    """Return the last versions of a model, the newest first, with what their runs logged."""
    versions = versions_of(request).versions(name, _limit(request))
    return _answer(VersionList.model_validate({"name": name, "versions": versions}))


@router.get(
    "/{name}/history",
    response_model=MoveList,
    responses=REGISTRY | ONE,
    openapi_extra={"parameters": [LIMIT]},
)
@requires(Scope.READ)
def list_moves(request: Request, name: str) -> Response:
    """Return when which version of a model was moved to which stage, by whom and why.

    The newest comes first. A move by another tool is ``unrecorded``: the registry knows the stage
    to which it has led, and at most when.
    """
    moves = versions_of(request).history(name, _limit(request))
    return _answer(MoveList.model_validate({"name": name, "moves": moves}))


@router.post(
    "/{name}/promote",
    response_model=MovedVersion,
    responses=REGISTRY | ONE | BODY,
    openapi_extra=request_body(Promotion),
)
@requires(Scope.ADMIN)
async def promote(request: Request, name: str) -> Response:
    """Move a version to a stage; the previous one in Staging or Production is archived.

    A version in Production serves when the answer comes, at this service; others follow within
    ``VIGIE_REGISTRY_POLL_S``. ``problem`` says why it does not serve, if it cannot.
    """
    asked, by = from_json(PROMOTION, await json_of(request)), asker(request)
    moved = await run_in_threadpool(
        versions_of(request).promote, name, asked.version, asked.stage, asked.reason, by
    )
    return _answer(MovedVersion.model_validate(moved))


@router.post(
    "/{name}/rollback",
    response_model=MovedVersion,
    responses=REGISTRY | ONE | BODY,
    openapi_extra={"requestBody": request_body(Rollback)["requestBody"] | {"required": False}},
)
@requires(Scope.ADMIN)
async def rollback(request: Request, name: str) -> Response:
    """Promote the version that was in Production before; two rollbacks go two versions back.

    The answer is that of a promotion.
    """
    only(request.query_params)
    body = await request.body()
    asked = from_json(ROLLBACK, await json_of(request)) if body else Rollback()
    moved = await run_in_threadpool(
        versions_of(request).rollback, name, asked.reason, asker(request)
    )
    return _answer(MovedVersion.model_validate(moved))


def _limit(request: Request) -> int:
    only(request.query_params, ("limit",))
    return limit_of(request.query_params, LISTED, MOST_LISTED)


def _answer(content: ModelList | VersionList | MoveList | MovedVersion) -> Response:
    return Response(content.model_dump_json(), media_type=JSON)
