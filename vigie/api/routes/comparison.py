"""``/api/v1/models/NAME/comparison``: the version in Staging beside the one that serves."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from vigie.api.access import requires
from vigie.api.routes.anomalies import service_of
from vigie.api.schemas import Problem
from vigie.keys import Scope
from vigie.models.comparison import Comparison

router = APIRouter(prefix="/api/v1/models", tags=["models"])

UNKNOWN: dict[int | str, dict[str, Any]] = {404: {"model": Problem}}


@router.get("/{name}/comparison", responses=UNKNOWN)
@requires(Scope.READ)
def compare_versions(request: Request, name: str) -> Comparison:
    """Return what would have changed with the version in Staging, on the readings answered so far.

    It judges alone, beside the version that serves, which for that judges alone too. The answers
    are those of the versions that serve, together.
    """
    service = service_of(request)
    if (found := service.comparison(name)) is None:
        raise service.nothing_to_compare(name)
    return found
