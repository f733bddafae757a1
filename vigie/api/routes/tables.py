"""``/api/v1/anomalies/inspect``: look at a file before anything is trained on it."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from email.message import Message
from functools import partial
from pathlib import PurePath
from typing import Any

from fastapi import APIRouter, Request, Response
from starlette.datastructures import QueryParams

from vigie.api.access import requires
from vigie.api.bodies import JSON
from vigie.api.problems import UnsupportedBody
from vigie.api.schemas import Problem
from vigie.errors import InvalidDataError
from vigie.faults import nearest
from vigie.keys import Scope
from vigie.services.inspection_process import inspect_body
from vigie.tables.options import ReadOptions
from vigie.tables.report import Report
from vigie.tables.stated import MEANINGS, read_options

router = APIRouter(prefix="/api/v1/anomalies", tags=["anomalies"])

AT_ONCE = 2
"""Files that are inspected at once; others wait."""
LONGEST_WORD, LONGEST_NAME = 200, 120
"""Characters of an option, and of a file's name."""
MOST_TIMES = 8
"""Columns with the parts of a time."""
OPEN = "application/octet-stream"
EXTENSIONS = {
    "text/csv": ".csv",
    "text/plain": ".csv",
    "text/tab-separated-values": ".csv",
    "application/vnd.apache.parquet": ".parquet",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": ".xlsx",
    "application/vnd.ms-excel": ".xls",
    "application/vnd.oasis.opendocument.spreadsheet": ".ods",
}
"""Of the types that a body may have; of any other file, ``OPEN``, its name or its bytes tell."""
BY_NAME = (".csv", ".parquet", ".pq", ".xlsx", ".xlsm", ".xlsb", ".xls", ".ods")
EXAMPLE = "time;temperature [°C];pressure [bar]\n05.01.2026 08:00;61,5;3,02\n"
OPTIONS: dict[str, str] = {
    "time": MEANINGS["time"],
    "day_first": "Whether 01/02/2024 is in February (true) or January (false).",
    "time_format": "How times are written, such as %d.%m.%y %H:%M.",
    "timezone": MEANINGS["timezone"],
    "separator": MEANINGS["separator"],
    "decimal": "The decimal mark: point or comma.",
    "encoding": MEANINGS["encoding"],
    "sheet": MEANINGS["sheet"],
    "long": MEANINGS["long"],
    "by": MEANINGS["by"],
    "hold": MEANINGS["hold"],
}
FILENAME = "filename"
EXPECTED = f"Send the file as the body, with Content-Type: text/csv or {OPEN}."
TRUTH = {"true": True, "1": True, "false": False, "0": False}

_threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="inspect")


def _schema(name: str) -> dict[str, Any]:
    if name == "time":
        return {"type": "array", "items": {"type": "string"}, "maxItems": 2}
    if name == "day_first":
        return {"type": "boolean"}
    if name == "decimal":
        return {"type": "string", "enum": ["point", "comma"]}
    return {"type": "string", "maxLength": LONGEST_WORD}


def _described() -> dict[str, Any]:
    """Return what the OpenAPI document says of the request."""
    file = {"schema": {"type": "string", "format": "binary"}}
    named = {FILENAME: "What the file is called, such as pump-7.csv."}
    return {
        "parameters": [
            {"name": name, "in": "query", "schema": _schema(name), "description": text}
            for name, text in (named | OPTIONS).items()
        ],
        "requestBody": {
            "required": True,
            "content": {
                "text/csv": {"schema": {"type": "string"}, "example": EXAMPLE},
                **{kind: dict(file) for kind in (*EXTENSIONS, OPEN) if "text/" not in kind},
            },
        },
    }


@router.post(
    "/inspect",
    response_model=Report,
    responses={status: {"model": Problem} for status in (408, 413, 415, 422)},
    openapi_extra=_described(),
)
@requires(Scope.DETECT)
async def inspect(request: Request) -> Response:
    """Say what is understood of a file: columns, times, machines. Nothing is trained or kept.

    The body is the file itself: CSV, Excel or Parquet. Options are only needed where the file
    leaves something open; the answer then says which.
    """
    query = request.query_params
    extension, name = _kind(request), _name(query)
    try:
        options = options_of(query)
        body = await request.body()
        look = partial(inspect_body, body, extension, name, options)
        report = await asyncio.get_running_loop().run_in_executor(_threads, look)
    except InvalidDataError as error:
        raise _for_http(error) from error
    return Response(json.dumps(report, allow_nan=False), media_type=JSON)


def options_of(query: QueryParams) -> ReadOptions:
    """Return what the query states about the file.

    Raises
    ------
    InvalidDataError
        If it has an unknown parameter, one that comes twice, or one without a usable value.
    """
    given: dict[str, Any] = {}
    for name in dict.fromkeys(query.keys()):
        values = query.getlist(name)
        if name not in OPTIONS and name != FILENAME:
            raise InvalidDataError(
                f"There is no parameter {name[:LONGEST_WORD]!r}.",
                field="query",
                remedy=nearest(name, OPTIONS),
            )
        if len(values) > (MOST_TIMES if name == "time" else 1):
            raise InvalidDataError(f"It comes {len(values)} times.", field=name)
        if longest := [v for v in values if len(v) > LONGEST_WORD or "\x00" in v]:
            raise InvalidDataError(f"{longest[0][:20]!r}... is no usable value.", field=name)
        if name != FILENAME:
            given[name] = values if name == "time" else values[0]
    if "day_first" in given:
        given["day_first"] = _truth(given["day_first"])
    return read_options(**given)


def _truth(word: str) -> bool:
    if word.lower() not in TRUTH:
        raise InvalidDataError(
            f"{word!r} is neither true nor false.", field="day_first", remedy="Use true or false."
        )
    return TRUTH[word.lower()]


def _name(query: Mapping[str, str]) -> str:
    """Return what the client calls the file, without folders."""
    return PurePath(query.get(FILENAME, "")).name[:LONGEST_NAME] or "FILE"


def _kind(request: Request) -> str:
    """Return the extension of the file by its type, or its name.

    Raises
    ------
    UnsupportedBody
        If the body is encoded, or of another type.
    """
    if request.headers.get("content-encoding", "identity").lower() not in ("identity", ""):
        raise UnsupportedBody("The body is encoded, which is not supported.", EXPECTED)
    message = Message()
    message["content-type"] = request.headers.get("content-type", "")[:LONGEST_WORD]
    kind = message.get_content_type()
    if kind in EXTENSIONS:
        return EXTENSIONS[kind]
    if kind != OPEN:
        raise UnsupportedBody(f"The body is {kind}, but a file is expected.", EXPECTED)
    suffix = PurePath(_name(request.query_params)).suffix.lower()
    return suffix if suffix in BY_NAME else ".csv"


def _for_http(error: InvalidDataError) -> InvalidDataError:
    """Return an error whose options are named as in a query."""
    field = "body" if error.field in (None, "FILE") else _as_parameters(error.field or "")
    remedy = _as_parameters(error.remedy or "Send a CSV, Excel or Parquet file.")
    return InvalidDataError(_as_parameters(error.message), field=field, remedy=remedy)


def _as_parameters(text: str) -> str:
    """Return text with ``--time-format`` as ``time_format``."""
    text = text.replace("--day-first", "day_first=true").replace("--month-first", "day_first=false")

    def name(match: re.Match[str]) -> str:
        parameter = match[1].replace("-", "_")
        return parameter if parameter in OPTIONS else match[0]

    return re.sub(r"--([a-z]+(?:-[a-z]+)*)", name, text)
