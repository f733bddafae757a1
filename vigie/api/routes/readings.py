"""``GET /api/v1/anomalies/``: what was measured and said, from the history."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter, Request, Response

from vigie.api.access import requires
from vigie.api.bodies import JSON
from vigie.api.routes.anomalies import service_of
from vigie.api.schemas import Problem
from vigie.errors import ConflictError
from vigie.keys import Scope
from vigie.models.readings import SEARCH, ReadingFormat, ReadingPage, ReadingSearch, search_of
from vigie.services.anomaly_detection_service import AnomalyDetectionService
from vigie.services.reading_search import found_readings

router = APIRouter(prefix="/api/v1/anomalies", tags=["anomalies"])

MEDIA_TYPES = {
    ReadingFormat.JSON: JSON,
    ReadingFormat.CSV: "text/csv",
    ReadingFormat.PARQUET: "application/vnd.apache.parquet",
    ReadingFormat.ARROW: "application/vnd.apache.arrow.stream",
}

DESCRIBED = SEARCH.json_schema()
LISTS = [name for name, of in DESCRIBED["properties"].items() if of.get("type") == "array"]


def _inlined(schema: Any) -> Any:
    """Return a schema with each definition where it is referred to."""
    if isinstance(schema, list):
        return [_inlined(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if (address := schema.get("$ref")) is not None:
        definition = DESCRIBED["$defs"][address.rpartition("/")[2]]
        schema = {"type": definition["type"], "enum": definition["enum"]} | schema
    return {key: _inlined(value) for key, value in schema.items() if key != "$ref"}


PARAMETERS = [
    {
        "name": name,
        "in": "query",
        "description": schema["description"],
        "schema": _inlined({key: value for key, value in schema.items() if key != "description"}),
    }
    for name, schema in DESCRIBED["properties"].items()
]
BINARY = {"schema": {"type": "string", "format": "binary"}}
NEXT = {
    "Link": {
        "schema": {"type": "string"},
        "description": 'The address of the readings that follow, with `rel="next"`.',
    }
}
FOUND: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The readings",
        "headers": NEXT,
        "content": {kind: BINARY for kind in MEDIA_TYPES.values() if kind != JSON},
    }
}
FAULTS: dict[int | str, dict[str, Any]] = {status: {"model": Problem} for status in (409, 422, 503)}

# One at a time: in parallel they would not finish sooner, and each would compete with the
# assessment of readings for the interpreter.
_threads = ThreadPoolExecutor(1, thread_name_prefix="stored-readings")


@router.get(
    "/",
    response_model=ReadingPage,
    responses=FOUND | FAULTS,
    openapi_extra={"parameters": PARAMETERS},
)
@requires(Scope.READ)
async def list_readings(request: Request) -> Response:
    """Return readings that were assessed, with what was said of them then.

    The newest come first. `next`, and the header Link, lead to those that follow. The answer is
    JSON, or by `format` or the header Accept a file: CSV, Parquet, or a stream of Arrow.
    """
    asked = _asked(request)
    answer = partial(copy_context().run, _answer, service_of(request), asked)
    content, following = await asyncio.get_running_loop().run_in_executor(_threads, answer)
    headers = {"Vary": "Accept"}
    if following is not None:
        query = dict(request.query_params) | {"cursor": following, "format": asked.format}
        query.pop("offset", None)
        lists = {name: request.query_params.getlist(name) for name in LISTS if name in query}
        path = f"{request.scope['root_path']}{router.prefix}/"
        headers["Link"] = f'<{path}?{urlencode(query | lists, doseq=True)}>; rel="next"'
    if asked.format is not ReadingFormat.JSON:
        headers["Content-Disposition"] = f'attachment; filename="readings.{asked.format}"'
    return Response(content, media_type=MEDIA_TYPES[asked.format], headers=headers)


def _asked(request: Request) -> ReadingSearch:
    """Return what is asked for.

    Raises
    ------
    InvalidDataError
        If a parameter cannot be used.
    """
    query = request.query_params
    given: dict[str, Any] = dict(query)
    given |= {name: query.getlist(name) for name in LISTS if name in query}
    given.setdefault("format", _accepted(request.headers))
    return search_of(given)


def _accepted(headers: Mapping[str, str]) -> ReadingFormat:
    """Return the first format that the client accepts; JSON if it names none of ours."""
    by_type = {kind: one for one, kind in MEDIA_TYPES.items()}
    for accepted in headers.get("accept", "").split(","):
        kind = accepted.partition(";")[0].strip().lower()
        if kind in by_type:
            return by_type[kind]
    return ReadingFormat.JSON


def _answer(service: AnomalyDetectionService, asked: ReadingSearch) -> tuple[bytes, str | None]:
    """Return the content of the answer, and the cursor of what follows."""
    history = service.detection.history_if_enabled()
    if history is None:
        raise ConflictError(
            "The history is disabled, so there are no readings to return.",
            remedy="Set VIGIE_HISTORY_ENABLED=true.",
        )
    page = found_readings(history, asked)
    if asked.format is ReadingFormat.JSON:
        return page.model_dump_json().encode(), page.next
    # Imported here: Arrow is slow to import, and few services need it.
    from vigie.history import export

    if asked.format is ReadingFormat.CSV:
        content = export.csv_of(page.readings, service.settings.csv_for_people)
    else:
        write = {ReadingFormat.PARQUET: export.parquet_of, ReadingFormat.ARROW: export.arrow_of}
        content = write[asked.format](page.readings)
    return content, page.next
