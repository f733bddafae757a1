"""Parse the JSON body of a request, or name its errors."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Protocol, TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from vigie.errors import InvalidDataError
from vigie.faults import keys_of, nearest, told

MOST_FAULTS = 20
"""Most errors in one response."""
LONGEST_PART = 200
"""Most characters of a name in a field path; a name refused for its length is shortened."""
DEEPEST = 200
"""Most levels of a body, the limit of pydantic's parser."""
TOO_DEEP = f"The JSON is nested more than {DEEPEST} deep"

EXPECTED = {
    "Expecting property name enclosed in double quotes": "a key in double quotes is expected",
    "Expecting ':' delimiter": "a colon is expected after the key",
    "Expecting ',' delimiter": "a comma is expected, or the end of the object or array",
    "Expecting value": "a value is expected",
    "Unterminated string starting at": "this text has no closing quotation mark",
    "Invalid control character at": "a line break or tab in a text must be written as \\n or \\t",
    "Invalid \\escape": "a backslash in a text must be doubled",
    "Extra data": "the document has ended, but more follows",
}
"""What the messages of Python's parser mean."""
WHOLE, FRACTION = re.compile(r"(-?\d{1,30}),$"), re.compile(r"\d{1,30}")
"""The parts of a number with a decimal comma, of which the parser reads the first one alone."""

Place = tuple[int | str, ...]


class Counted(Protocol):
    """A value that knows how many strings its JSON has: keys, and values that are text."""

    @property
    def n_strings(self) -> int: ...


T = TypeVar("T", bound=Counted | list[Any])


def from_json(form: TypeAdapter[T], data: bytes) -> T:
    """Parse and validate a body in UTF-8.

    Parameters
    ----------
    form : TypeAdapter
        The expected type: ``Counted``, or a list of such.
    data : bytes
        One JSON document, in which no object has a duplicate key.

    Raises
    ------
    InvalidDataError
        Its field is the first wrong place; ``faults`` lists more.
    """
    value: T | None
    try:
        # A key is a field's alias alone: by its name too, one of the two would be lost.
        value = form.validate_json(data, by_name=False)
    except ValidationError:
        # pydantic's parser gives no field for what it cannot parse, such as half a surrogate
        # pair. Python's parser accepts it, and validating its objects names the field.
        value = None
    # Of a duplicate key, pydantic's parser drops all but the last value. A string has two
    # quotation marks, so if the document has no more than the value, no key was dropped.
    if value is not None and data.count(b'"') == 2 * _n_strings(value):
        return value
    document = _document(data)
    if value is not None:
        return value
    try:
        return form.validate_python(document, by_name=False)
    except ValidationError as error:
        raise refused(form, error, document) from None


def refused(form: TypeAdapter[Any], error: ValidationError, document: Any) -> InvalidDataError:
    """Return the error for a document that does not fit, with the place of each fault."""
    faults = error.errors(include_url=False, include_input=False)
    first = faults[0]
    if first["type"] == "missing" and (misspelt := _misspelt(first, faults)):
        faults = [misspelt, *(fault for fault in faults if fault is not misspelt)]
        first = misspelt
    remedy = "Correct this value; /docs shows the schema with an example."
    if first["type"] == "missing":
        remedy = "Add it; /docs shows the schema with an example."
    elif first["type"] == "extra_forbidden":
        remedy = nearest(str(first["loc"][-1]), keys_of(form, first["loc"][:-1]))
    return _invalid(
        [
            {"field": _place(fault["loc"], document), "message": _message(fault)}
            for fault in faults[:MOST_FAULTS]
        ],
        remedy,
    )


def _misspelt(missing: Mapping[str, Any], faults: Sequence[ErrorDetails]) -> ErrorDetails | None:
    """Return the fault of an unknown key that stands where a key of nearly this name is missing."""
    *place, name = missing["loc"]
    for fault in faults:
        *other, key = fault["loc"]
        is_unknown = fault["type"] == "extra_forbidden" and other == place
        if is_unknown and get_close_matches(str(key).lower(), [str(name)], n=1):
            return fault
    return None


def first_fault(error: ValidationError) -> str:
    """Return the place and the message of the first fault, for a file that Vigie has written."""
    fault = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(map(str, fault["loc"]))
    return f"{place}: {told(fault)}" if place else told(fault)


def n_strings(value: Any) -> int:
    """Return how many strings the JSON of a value has: keys, and values that are text."""
    if isinstance(value, list):
        return sum(map(n_strings, value))
    if isinstance(value, dict):
        return len(value) + sum(map(n_strings, value.values()))
    return isinstance(value, str)


def nested_within(value: Any, levels: int) -> bool:
    """Return whether lists and dicts are nested at most ``levels`` deep."""
    if not isinstance(value, (dict, list)):
        return True
    inner = value.values() if isinstance(value, dict) else value
    return levels > 0 and all(nested_within(item, levels - 1) for item in inner)


def _n_strings(value: Counted | list[Any]) -> int:
    if isinstance(value, list):
        return sum([item.n_strings for item in value])
    return value.n_strings


def _document(data: bytes) -> Any:
    """Return a document as Python objects.

    Raises
    ------
    InvalidDataError
        If it cannot be parsed, is nested too deeply, or has a duplicate key in an object.
    """
    duplicates: dict[int, tuple[dict[str, Any], str]] = {}

    def as_dict(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(pairs)
        if len(value) < len(pairs):
            [(key, _)] = Counter(key for key, _ in pairs).most_common(1)
            duplicates[id(value)] = value, key
        return value

    try:
        # Files written on Windows often begin with a byte order mark.
        document = json.loads(data.decode("utf-8-sig"), object_pairs_hook=as_dict)
    except UnicodeDecodeError as error:
        message = f"The byte at {error.start} is not valid UTF-8, which JSON requires (RFC 8259)"
        raise _unreadable(message) from None
    except json.JSONDecodeError as error:
        raise _not_json(error) from None
    except RecursionError:
        raise _unreadable(TOO_DEEP) from None
    except ValueError:
        raise _unreadable("The JSON cannot be read: an integer has thousands of digits") from None
    if not nested_within(document, DEEPEST):
        raise _unreadable(TOO_DEEP)
    if duplicates:
        # A duplicate inside a dropped value is not in the document, but the object that dropped
        # the value is.
        place, key = next(
            (place, duplicates[id(value)][1])
            for place, value in _objects(document, ())
            if id(value) in duplicates
        )
        fault = {"field": _place((*place, key), document), "message": "It is given more than once"}
        raise _invalid([fault], "Give each key of an object once.")
    return document


def _objects(value: Any, place: Place) -> Iterator[tuple[Place, dict[str, Any]]]:
    """Yield every object in a document with its path."""
    if isinstance(value, dict):
        yield place, value
        for key, item in value.items():
            yield from _objects(item, (*place, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _objects(item, (*place, index))


def _unreadable(message: str) -> InvalidDataError:
    return _invalid([{"field": "body", "message": message}], "Send one JSON document in UTF-8.")


def _not_json(error: json.JSONDecodeError) -> InvalidDataError:
    """Return the error for a document that is no JSON: what was expected, and where."""
    before, after = error.doc[: error.pos], error.doc[error.pos :]
    fault = {
        "field": "body",
        "message": f"The JSON cannot be read from line {error.lineno}, column {error.colno} on: "
        f"{EXPECTED.get(error.msg, error.msg)}",
    }
    remedy = "Send one JSON document in UTF-8."
    if (whole := WHOLE.search(before)) and (fraction := FRACTION.match(after)):
        number = f"{whole[1]}.{fraction[0]}"
        remedy = f"Write numbers with a decimal point: {number}, not {whole[1]},{fraction[0]}."
    return _invalid([fault], remedy)


def _invalid(faults: Sequence[dict[str, str]], remedy: str) -> InvalidDataError:
    first = faults[0]
    return InvalidDataError(
        f"{first['message']}.", field=first["field"], remedy=remedy, faults=faults
    )


def _message(fault: Mapping[str, Any]) -> str:
    message = told(fault)
    return f"Invalid name: {message}" if fault["loc"][-1:] == ("[key]",) else message


def _place(location: Sequence[int | str], document: Any) -> str:
    """Return a path in a document in dotted notation, such as ``data[3].rms``."""
    parts = [part for part in location if part != "[key]"]
    names = document.get("feature_names") if isinstance(document, dict) else None
    if len(parts) >= 3 and parts[0] == "data" and isinstance(names, list):
        column = parts[2]
        if isinstance(column, int) and column < len(names) and isinstance(names[column], str):
            parts[2] = names[column]
    place = ""
    for part in parts:
        place += (
            f"[{part}]"
            if isinstance(part, int)
            else f"{'.' if place else ''}{part if len(part) <= LONGEST_PART else part[:50] + '…'}"
        )
    return place or "body"
