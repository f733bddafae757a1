"""From the bytes of a body to what they ask, or to what is wrong with them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from app.errors import InvalidDataError

MOST_FAULTS = 20
"""Places named in one answer."""

T = TypeVar("T")


def from_json(form: TypeAdapter[T], data: bytes) -> T:
    """Return what a body in UTF-8 says.

    Parameters
    ----------
    form : TypeAdapter
        What it is to say.
    data : bytes
        One JSON document.

    Raises
    ------
    InvalidDataError
        Naming the first place that is wrong; ``faults`` names more.
    """
    try:
        return form.validate_json(data)
    except ValidationError:
        # pydantic's own parser knows no place inside what it cannot parse, such as half a
        # character; Python's goes on, and the place is found when its objects are checked.
        pass
    document = _document(data)
    try:
        return form.validate_python(document)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        raise _invalid(
            [
                {
                    "field": _place(fault["loc"], document),
                    "message": fault["msg"].removeprefix("Value error, ").rstrip("."),
                }
                for fault in found[:MOST_FAULTS]
            ],
            "Correct this place; /docs shows the form with an example.",
        ) from None


def _document(data: bytes) -> Any:
    try:
        # Windows likes to begin a file with a byte order mark.
        return json.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        wrong = f"The byte at {error.start} is no UTF-8, in which JSON is sent (RFC 8259)"
    except json.JSONDecodeError as error:
        wrong = f"The JSON cannot be read: {error}"
    except RecursionError:
        wrong = "The JSON is nested too deeply"
    except ValueError as error:
        # A whole number of thousands of digits.
        wrong = f"The JSON cannot be read: {error}"
    raise _invalid([{"field": "body", "message": wrong}], "Send one JSON document in UTF-8.")


def _invalid(faults: Sequence[dict[str, str]], remedy: str) -> InvalidDataError:
    first = faults[0]
    return InvalidDataError(
        f"{first['message']}.", field=first["field"], remedy=remedy, faults=faults
    )


def _place(location: Sequence[int | str], document: Any) -> str:
    """Return a place in a document as a person would write it, such as ``data[3].rms``."""
    parts = list(location)
    names = document.get("feature_names") if isinstance(document, dict) else None
    if len(parts) >= 3 and parts[0] == "data" and isinstance(names, list):
        column = parts[2]
        if isinstance(column, int) and column < len(names) and isinstance(names[column], str):
            parts[2] = names[column]
    place = ""
    for part in parts:
        place += f"[{part}]" if isinstance(part, int) else f".{part}" if place else str(part)
    return place or "body"
