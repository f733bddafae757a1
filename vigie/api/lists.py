"""What lists share: parameters of their addresses, pages by a cursor, and answers as CSV."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from fastapi import Request, Response
from pydantic import BaseModel, TypeAdapter, ValidationError

from vigie.errors import InvalidDataError
from vigie.faults import nearest
from vigie.models.anomaly_data import Moment
from vigie.printable import FORMULA

CSV = "text/csv"
CURSOR = re.compile(r"(-?\d{1,18})\.([0-9a-f]{1,32})")
FORMATS = ("json", "csv")
LONGEST = 200
"""Characters of a parameter that an error quotes."""
_MOMENT: TypeAdapter[datetime] = TypeAdapter(Moment)


def parameters(**schemas: Mapping[str, Any]) -> dict[str, Any]:
    """Return the OpenAPI description of parameters of an address."""
    described = [
        {"name": name.rstrip("_"), "in": "query", "schema": dict(schema)}
        for name, schema in schemas.items()
    ]
    return {"parameters": described}


def asset_of(query: Mapping[str, str]) -> str | None:
    """Return the asset, or the beginning of its path, that an address asks for; None without it.

    Raises
    ------
    InvalidDataError
        If no asset can be called so.
    """
    name = query.get("asset_id")
    if name is not None and (not name or "\0" in name or len(name) > LONGEST):
        raise InvalidDataError(
            f"A name has 1 to {LONGEST} characters, and no NUL.",
            field="asset_id",
            remedy="GET /api/v1/assets lists the assets.",
        )
    return name


def word_of(query: Mapping[str, str], name: str, words: Iterable[str]) -> str | None:
    """Return a parameter that is one of some words; None without it.

    Raises
    ------
    InvalidDataError
        If it is none of them.
    """
    known, word = list(words), query.get(name)
    if word is not None and word not in known:
        raise InvalidDataError(
            f"{word[:LONGEST]!r} is none of {', '.join(known)}.",
            field=name,
            remedy=nearest(word[:LONGEST], known),
        )
    return word


def time_of(query: Mapping[str, str], name: str) -> datetime | None:
    """Return a parameter that is a time, in UTC if it has no offset; None without it.

    Raises
    ------
    InvalidDataError
        If it is none.
    """
    if (text := query.get(name)) is None:
        return None
    try:
        # In an address, a plus sign is a blank.
        moment = _MOMENT.validate_python(text.replace(" ", "+") if "T" in text else text)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValidationError, OverflowError) as error:
        raise InvalidDataError(
            f"{text[:LONGEST]!r} is no time.",
            field=name,
            remedy="Write it in ISO 8601, such as 2026-01-05T08:00:00Z.",
        ) from error


def place_of(query: Mapping[str, str]) -> tuple[int, str] | None:
    """Return the place after which a page begins; None for the first page.

    Raises
    ------
    InvalidDataError
        If the cursor is not one that a page has named.
    """
    if (cursor := query.get("cursor")) is None:
        return None
    if not (match := CURSOR.fullmatch(cursor)):
        raise InvalidDataError(
            "The cursor is not one that a page has named.",
            field="cursor",
            remedy="Send `next` of the page before, or leave it out.",
        )
    return int(match[1]), match[2]


def cursor_of(place: tuple[int, str] | None) -> str | None:
    """Return the cursor of the page after a place."""
    return place and f"{place[0]}.{place[1]}"


def wants_csv(request: Request) -> bool:
    """Return whether an answer is to be CSV: by ``format``, or by the header Accept.

    Raises
    ------
    InvalidDataError
        If there is no such format.
    """
    asked = word_of(request.query_params, "format", FORMATS)
    return asked == "csv" or (asked is None and CSV in request.headers.get("accept", ""))


def as_csv(
    items: Sequence[BaseModel],
    columns: Iterable[str],
    following: str | None,
    *,
    for_people: bool,
) -> Response:
    """Return items as CSV, one a line; lists and mappings are JSON within their cell.

    The cursor of the next page is in the header ``X-Next-Cursor``.

    Parameters
    ----------
    items : sequence of BaseModel
        The items.
    columns : iterable of str
        Their fields.
    following : str or None
        The cursor of the next page.
    for_people : bool
        Whether a text that a spreadsheet would take for a formula gets an apostrophe.
    """
    columns, text = list(columns), io.StringIO()
    writer = csv.writer(text)
    writer.writerow(columns)
    for item in items:
        values = item.model_dump(mode="json")
        writer.writerow([_cell(values[name], for_people=for_people) for name in columns])
    headers = {"X-Next-Cursor": following} if following else {}
    return Response(text.getvalue(), headers=headers, media_type=CSV)


def _cell(value: Any, *, for_people: bool) -> Any:
    if isinstance(value, list | dict):
        return json.dumps(value)
    if for_people and isinstance(value, str) and value.startswith(FORMULA):
        return f"'{value}"
    return value
