"""What is wrong with a value, in our own words: the messages of pydantic's error types.

pydantic speaks to programmers ("Dictionary should have at least 1 item after validation"). What it
finds in a request or a setting is told to a person, in terms of JSON, with what is expected.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from pydantic import TypeAdapter

WHOLE_NUMBER = "A whole number is expected"
NUMBER = "A number is expected"
TIME = "A time in ISO 8601 is expected, such as 2026-01-05T08:00:00Z"
OTHERWISE = "This value cannot be used"
"""For an error type that is not in ``WORDS``."""
NO_NUL = r"^[^\x00]*$"
"""PostgreSQL cannot store NUL."""
PATTERNS = {NO_NUL: "It must not contain the character NUL (\\u0000)"}


def _fewest(facts: Mapping[str, Any]) -> str:
    return f"It needs at least {_count(facts['min_length'], _things(facts))}"


def _most(facts: Mapping[str, Any]) -> str:
    return f"It may have at most {_count(facts['max_length'], _things(facts))}"


def _things(facts: Mapping[str, Any]) -> str:
    return {"Dictionary": "key", "List": "item", "Tuple": "item"}.get(facts["field_type"], "value")


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def _pattern(facts: Mapping[str, Any]) -> str:
    pattern = facts["pattern"]
    return PATTERNS.get(pattern, f"It does not have the form that is expected, {pattern}")


WORDS: dict[str, str | Callable[[Mapping[str, Any]], str]] = {
    "missing": "It is required, but missing",
    "extra_forbidden": "There is no such key",
    **dict.fromkeys(
        ("dict_type", "mapping_type", "model_type", "model_attributes_type"),
        "An object is expected",
    ),
    **dict.fromkeys(("list_type", "tuple_type", "iteration_error"), "An array is expected"),
    "too_short": _fewest,
    "too_long": _most,
    "string_type": "Text is expected",
    "string_sub_type": "Text is expected",
    "string_unicode": "It is not valid Unicode",
    "string_too_short": lambda facts: (
        f"It needs at least {_count(facts['min_length'], 'character')}"
    ),
    "string_too_long": lambda facts: (
        f"It may have at most {_count(facts['max_length'], 'character')}"
    ),
    "string_pattern_mismatch": _pattern,
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float"), WHOLE_NUMBER),
    "int_parsing_size": "The number has too many digits",
    **dict.fromkeys(("float_type", "float_parsing"), NUMBER),
    "finite_number": "A finite number is expected",
    "greater_than": "It must be greater than {gt}",
    "greater_than_equal": "It must be at least {ge}",
    "less_than": "It must be less than {lt}",
    "less_than_equal": "It must be at most {le}",
    **dict.fromkeys(("bool_type", "bool_parsing"), "It must be true or false"),
    "none_required": "It must be null",
    "literal_error": "It must be {expected}",
    "union_tag_invalid": "Its {discriminator} must be one of {expected_tags}",
    "union_tag_not_found": "It needs a {discriminator}, which says what it is",
    **dict.fromkeys(
        (
            *("datetime_type", "datetime_parsing", "datetime_object_invalid"),
            *("datetime_from_date_parsing", "date_from_datetime_inexact"),
        ),
        TIME,
    ),
    **dict.fromkeys(("time_type", "time_parsing"), "A time of day is expected, such as 06:30"),
    "path_type": "A path is expected",
    "value_error": "{error}",
    "assertion_error": "{error}",
}
"""The message of each error type, with places for pydantic's ``ctx``."""


def told(fault: Mapping[str, Any]) -> str:
    """Return the message of one of ``ValidationError.errors()``, without a full stop."""
    words = WORDS.get(fault["type"], OTHERWISE)
    facts = fault.get("ctx", {})
    message = words(facts) if callable(words) else words.format_map(facts)
    return message.rstrip(".")


def nearest(name: str, known: Collection[str], otherwise: str = "") -> str:
    """Return the remedy for an unknown name: the known one that is most like it, or all."""
    if near := get_close_matches(name.lower(), known, n=1):
        return f'Did you mean "{near[0]}"?'
    return otherwise or f"Known are {', '.join(known)}."


def keys_of(form: TypeAdapter[Any], place: Sequence[int | str] = ()) -> list[str]:
    """Return the keys that an object, or the objects of an array, may have.

    Parameters
    ----------
    form : TypeAdapter
        Of the whole document.
    place : sequence of str and int, optional
        The path to the object in it.
    """
    whole = schema = form.json_schema(mode="validation")

    def resolved(part: dict[str, Any]) -> dict[str, Any]:
        reference = part.get("$ref")
        return whole["$defs"][reference.rpartition("/")[2]] if reference else part

    schema = resolved(schema.get("items", schema))
    for key in place:
        if isinstance(key, str):
            schema = resolved(schema.get("properties", {}).get(key, schema))
    return list(schema.get("properties", ()))
