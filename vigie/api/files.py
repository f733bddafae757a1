"""A file as the body of a request: what kind it is, and what the address states about it."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from email.message import Message
from pathlib import PurePath
from types import MappingProxyType
from typing import Any

from fastapi import Request
from starlette.datastructures import QueryParams

from vigie.api.bodies import LONGEST_WORD, truth_of, word_of
from vigie.api.problems import UnsupportedBody
from vigie.errors import InvalidDataError
from vigie.faults import nearest
from vigie.tables.stated import MEANINGS, read_options

LONGEST_NAME = 120
"""Characters of a file's name."""
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
EXAMPLE = "time;temperature [°C];pressure [bar]\n" + "".join(
    f"05.01.2026 08:{minute:02};61,{minute * minute % 7};3,{10 + 5 * minute % 13}\n"
    for minute in range(60)
)
"""Enough rows for a training."""
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
NO_MORE: Mapping[str, tuple[dict[str, Any], str]] = MappingProxyType({})
EXPECTED = f"Send the file as the body, with Content-Type: text/csv or {OPEN}."


def _schema(name: str) -> dict[str, Any]:
    if name == "time":
        return {"type": "array", "items": {"type": "string"}, "maxItems": 2}
    if name == "day_first":
        return {"type": "boolean"}
    if name == "decimal":
        return {"type": "string", "enum": ["point", "comma"]}
    return {"type": "string", "maxLength": LONGEST_WORD}


def described(more: Mapping[str, tuple[dict[str, Any], str]] = NO_MORE) -> dict[str, Any]:
    """Return what the OpenAPI document says of a request with a file.

    Parameters
    ----------
    more : mapping, optional
        Further parameters of the address: the schema of each, and what it means.
    """
    file = {"schema": {"type": "string", "format": "binary"}}
    texts = {FILENAME: "What the file is called, such as pump-7.csv."} | OPTIONS
    parameters = {name: (_schema(name), text) for name, text in texts.items()} | dict(more)
    return {
        "parameters": [
            {"name": name, "in": "query", "schema": schema, "description": text}
            for name, (schema, text) in parameters.items()
        ],
        "requestBody": {
            "required": True,
            "content": {
                "text/csv": {"schema": {"type": "string"}, "example": EXAMPLE},
                **{kind: dict(file) for kind in (*EXTENSIONS, OPEN) if "text/" not in kind},
            },
        },
    }


def stated(query: QueryParams, others: Collection[str] = ()) -> dict[str, Any]:
    """Return what the query states about the file, for ``read_options``.

    Parameters
    ----------
    query : QueryParams
        Of the request.
    others : collection of str, optional
        Parameters that the query may have besides.

    Raises
    ------
    InvalidDataError
        If it has an unknown parameter, one that comes twice, or one without a usable value.
    """
    given: dict[str, Any] = {}
    for name in dict.fromkeys(query.keys()):
        values = query.getlist(name)
        if name not in OPTIONS and name != FILENAME and name not in others:
            raise InvalidDataError(
                f"There is no parameter {name[:LONGEST_WORD]!r}.",
                field="query",
                remedy=nearest(name, [*OPTIONS, *others]),
            )
        if name in others:
            continue
        if name != "time":
            word_of(query, name)
        elif len(values) > MOST_TIMES:
            raise too_often(name, len(values), MOST_TIMES)
        check_words(name, values)
        if name != FILENAME:
            given[name] = values if name == "time" else values[0]
    if "day_first" in given:
        given["day_first"] = truth_of(query, "day_first")
    try:
        read_options(**given)
    except InvalidDataError as error:
        raise for_http(error) from error
    return given


def check_words(name: str, values: Sequence[str]) -> None:
    """Check that the values of a parameter are words.

    Raises
    ------
    InvalidDataError
        If one is too long, or has a character that no word has.
    """
    if longest := [v for v in values if len(v) > LONGEST_WORD or "\x00" in v]:
        raise InvalidDataError(
            f"{longest[0][:20]!r}... is no usable value.",
            field=name[:LONGEST_WORD],
            remedy=f"Give at most {LONGEST_WORD} characters, without NUL.",
        )


def too_often(name: str, n_values: int, most: int) -> InvalidDataError:
    """Return the error for a parameter that may come several times, but not so often."""
    return InvalidDataError(
        f"It comes {n_values} times.", field=name, remedy=f"Give it {most} times at most."
    )


def name_of(query: Mapping[str, str]) -> str:
    """Return what the client calls the file, without folders."""
    return PurePath(query.get(FILENAME, "")).name[:LONGEST_NAME] or "FILE"


def media_type_of(request: Request) -> str:
    """Return the media type of a request's body, without parameters."""
    message = Message()
    message["content-type"] = request.headers.get("content-type", "")[:LONGEST_WORD]
    return message.get_content_type()


def kind_of(request: Request) -> str:
    """Return the extension of the file by its type, or its name.

    Raises
    ------
    UnsupportedBody
        If the body is encoded, or of another type.
    """
    if request.headers.get("content-encoding", "identity").lower() not in ("identity", ""):
        raise UnsupportedBody("The body is encoded, which is not supported.", EXPECTED)
    kind = media_type_of(request)
    if kind in EXTENSIONS:
        return EXTENSIONS[kind]
    if kind != OPEN:
        raise UnsupportedBody(f"The body is {kind}, but a file is expected.", EXPECTED)
    suffix = PurePath(name_of(request.query_params)).suffix.lower()
    return suffix if suffix in BY_NAME else ".csv"


def for_http(error: InvalidDataError, others: Collection[str] = ()) -> InvalidDataError:
    """Return an error whose options are named as in a query, with these ``others``."""

    def named(text: str) -> str:
        return _as_parameters(text, {*OPTIONS, *others})

    field = "body" if error.field in (None, "FILE", "data") else named(error.field or "")
    remedy = named(error.remedy or "Send a CSV, Excel or Parquet file.")
    return InvalidDataError(named(error.message), field=field, remedy=remedy)


def _as_parameters(text: str, known: Collection[str]) -> str:
    """Return text with ``--time-format`` as ``time_format``."""
    text = text.replace("--day-first", "day_first=true").replace("--month-first", "day_first=false")
    if "model" in known:
        text = re.sub(r"model_names(\[\d+\])?", "model", text)

    def name(match: re.Match[str]) -> str:
        parameter = match[1].replace("-", "_")
        return parameter if parameter in known else match[0]

    return re.sub(r"--([a-z]+(?:-[a-z]+)*)", name, text)
