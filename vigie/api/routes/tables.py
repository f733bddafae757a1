"""``/api/v1/anomalies/inspect``: look at a file before anything is trained on it."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from fastapi import APIRouter, Request, Response

from vigie.api.access import requires
from vigie.api.bodies import JSON
from vigie.api.files import described, for_http, kind_of, name_of, stated
from vigie.api.schemas import Problem
from vigie.errors import InvalidDataError
from vigie.keys import Scope
from vigie.services.inspection_process import inspect_body
from vigie.tables.report import Report
from vigie.tables.stated import read_options

router = APIRouter(prefix="/api/v1/anomalies", tags=["anomalies"])

AT_ONCE = 2
"""Files that are inspected at once; others wait."""

_threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="inspect")


@router.post(
    "/inspect",
    response_model=Report,
    responses={status: {"model": Problem} for status in (408, 413, 415, 422)},
    openapi_extra=described(),
)
@requires(Scope.DETECT)
async def inspect(request: Request) -> Response:
    """Say what is understood of a file: columns, times, machines. Nothing is trained or kept.

    The body is the file itself: CSV, Excel or Parquet. Options are only needed where the file
    leaves something open; the answer then says which.
    """
    query = request.query_params
    extension, name = kind_of(request), name_of(query)
    try:
        options = read_options(**stated(query))
        body = await request.body()
        look = partial(inspect_body, body, extension, name, options)
        report = await asyncio.get_running_loop().run_in_executor(_threads, look)
    except InvalidDataError as error:
        raise for_http(error) from error
    return Response(json.dumps(report, allow_nan=False), media_type=JSON)
