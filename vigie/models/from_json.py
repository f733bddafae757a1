"""From the bytes of a body to what they ask, or to what is wrong with them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from pydantic import TypeAdapter, ValidationError

from vigie.errors import InvalidDataError

MOST_FAULTS = 20
"""Places named in one answer."""
LONGEST_PART = 200
"""Characters of a name in a place: one that is refused for its length must not come back whole."""
DEEPEST = 200
"""Levels of a body, as pydantic's parser has them."""
TOO_DEEP = f"The JSON is nested more than {DEEPEST} deep"

AS_JSON_SAYS = {
    "dict_type": "Input should be an object",
    "model_type": "Input should be an object",
    "list_type": "Input should be an array",
}
"""What is said of types to somebody who sends JSON, and not Python."""

Place = tuple[int | str, ...]


class Counted(Protocol):
    """What knows of how many strings of JSON it was made: keys, and values that are text."""

    @property
    def n_strings(self) -> int: ...


T = TypeVar("T", bound=Counted | list[Any])


def from_json(form: TypeAdapter[T], data: bytes) -> T:
    """Return what a body in UTF-8 says.

    Parameters
    ----------
    form : TypeAdapter
        What it is to say: something ``Counted``, or a list of such.
    data : bytes
        One JSON document, in which no object has a key twice.

    Raises
    ------
    InvalidDataError
        Naming the first place that is wrong; ``faults`` names more.
    """
    found: T | None
    try:
        found = form.validate_json(data)
    except ValidationError:
        # pydantic's own parser knows no place inside what it cannot parse, such as half a
        # character; Python's goes on, and the place is found when its objects are checked.
        found = None
    # Where a key comes twice, that parser forgets the first. But a string has two quotation marks:
    # if there are no more than those of what was found, nothing has been forgotten.
    if found is not None and data.count(b'"') == 2 * _n_strings(found):
        return found
    document = _document(data)
    if found is not None:
        return found
    try:
        return form.validate_python(document)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_context=False, include_input=False)
        raise _invalid(
            [
                {"field": _place(fault["loc"], document), "message": _message(fault)}
                for fault in faults[:MOST_FAULTS]
            ],
            "Correct this place; /docs shows the form with an example.",
        ) from None


def n_strings(value: Any) -> int:
    """Return how many strings the JSON of a value has: keys, and values that are text."""
    if isinstance(value, list):
        return sum(map(n_strings, value))
    if isinstance(value, dict):
        return len(value) + sum(map(n_strings, value.values()))
    return isinstance(value, str)


def nested_within(value: Any, levels: int) -> bool:
    """Return whether lists and dicts stand in each other at most so many deep."""
    if not isinstance(value, (dict, list)):
        return True
    inner = value.values() if isinstance(value, dict) else value
    return levels > 0 and all(nested_within(item, levels - 1) for item in inner)


def _n_strings(found: Counted | list[Any]) -> int:
    if isinstance(found, list):
        return sum([item.n_strings for item in found])
    return found.n_strings


def _document(data: bytes) -> Any:
    """Return a document as Python's objects.

    Raises
    ------
    InvalidDataError
        If it cannot be read, is nested too deeply, or has a key twice in one object.
    """
    twice: dict[int, tuple[dict[str, Any], str]] = {}

    def as_dict(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            [(key, _)] = Counter(key for key, _ in pairs).most_common(1)
            twice[id(found)] = found, key
        return found

    try:
        # Windows likes to begin a file with a byte order mark.
        document = json.loads(data.decode("utf-8-sig"), object_pairs_hook=as_dict)
    except UnicodeDecodeError as error:
        wrong = f"The byte at {error.start} is no UTF-8, in which JSON is sent (RFC 8259)"
        raise _unread(wrong) from None
    except json.JSONDecodeError as error:
        raise _unread(f"The JSON cannot be read: {error}") from None
    except RecursionError:
        raise _unread(TOO_DEEP) from None
    except ValueError:
        raise _unread("The JSON cannot be read: a whole number has thousands of digits") from None
    if not nested_within(document, DEEPEST):
        raise _unread(TOO_DEEP)
    if twice:
        # One in a value that was forgotten is not to be found, but then what has forgotten it is.
        place, key = next(
            (place, twice[id(found)][1])
            for place, found in _objects(document, ())
            if id(found) in twice
        )
        fault = {"field": _place((*place, key), document), "message": "It is given more than once"}
        raise _invalid([fault], "Give each key of an object once.")
    return document


def _objects(value: Any, place: Place) -> Iterator[tuple[Place, dict[str, Any]]]:
    """Yield every object in a document with its place."""
    if isinstance(value, dict):
        yield place, value
        for key, item in value.items():
            yield from _objects(item, (*place, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _objects(item, (*place, index))


def _unread(why: str) -> InvalidDataError:
    return _invalid([{"field": "body", "message": why}], "Send one JSON document in UTF-8.")


def _invalid(faults: Sequence[dict[str, str]], remedy: str) -> InvalidDataError:
    first = faults[0]
    return InvalidDataError(
        f"{first['message']}.", field=first["field"], remedy=remedy, faults=faults
    )


def _message(fault: Mapping[str, Any]) -> str:
    said: str = AS_JSON_SAYS.get(fault["type"], fault["msg"])
    said = said.removeprefix("Value error, ").rstrip(".")
    return f"Its name: {said}" if fault["loc"][-1:] == ("[key]",) else said


def _place(location: Sequence[int | str], document: Any) -> str:
    """Return a place in a document as a person would write it, such as ``data[3].rms``."""
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
