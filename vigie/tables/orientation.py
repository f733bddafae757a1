"""Refuse tables whose columns are times: with a sensor in each row, or a day."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from vigie.errors import InvalidDataError

Times = NDArray[np.datetime64]

FEWEST, MOST_OF = 3, 0.6
"""Columns named by times, and their share of all columns but the first."""
_DATE = re.compile(
    r"(\d{4}([-/.])\d{1,2}\2\d{1,2}|\d{1,2}([-/.])\d{1,2}\3(\d{4}|\d{2}))([T ]+\d{1,2}:\d{2}.*)?"
)
_CLOCK = re.compile(r"\d{1,2}:\d{2}(:\d{2}([.,]\d+)?)?( ?[AaPp][Mm])?")
_COUNTED = re.compile(
    r"(?:h|hr|hour|stunde|std|heure|hora|uhr|m|min|q|qh)?[ _.]?(\d{1,2})(?: ?(?:h|uhr))?"
)
_MONTHS = """
    jan feb mar apr may jun jul aug sep oct nov dec mär mai okt dez
    janv févr fév mars avr juin juil août sept déc
    january february march april june july august september october november december
    januar februar märz juni juli oktober dezember
    janvier février avril juillet septembre octobre novembre décembre
"""
MONTHS = frozenset(_MONTHS.split())
DAY = np.timedelta64(1, "D")
PARTS_OF_A_DAY = {24: DAY, 48: DAY, 96: DAY, 60: np.timedelta64(1, "h")}
"""Columns that count the parts of a day or an hour, and the step of the rows where they do."""


def refuse_times_as_columns(columns: Sequence[str]) -> None:
    """Check that the names of columns are no times.

    Raises
    ------
    InvalidDataError
        If most of them are.
    """
    others = [re.sub(r"\.\d{1,2}$", "", name.strip()) for name in columns[1:]]
    for known, what in ((_DATE, "times"), (_CLOCK, "times of day")):
        found = [name for name in others if known.fullmatch(name)]
        if len(found) >= FEWEST and len(found) >= MOST_OF * len(others):
            raise _turned(what, found[0])
    months = [name for name in others if name.casefold().rstrip(".") in MONTHS]
    if len(months) == 12:
        raise _turned("months", months[0])


def refuse_parts_of_a_day(columns: Sequence[str], clock: Collection[str], times: Times) -> None:
    """Check that columns do not count the hours of the day that stands in each row.

    Raises
    ------
    InvalidDataError
        If they do.
    """
    names = [name.strip() for name in columns if name not in clock]
    matches = [_COUNTED.fullmatch(name.casefold()) for name in names]
    numbers = [int(match[1]) for match in matches if match]
    step = PARTS_OF_A_DAY.get(len(numbers))
    if step is None or numbers[0] not in (0, 1) or len(times) < FEWEST:
        return
    is_counted = numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    if is_counted and np.median(np.diff(times).astype(np.int64)) == step / np.timedelta64(1, "us"):
        first = next(name for name, match in zip(names, matches, strict=True) if match)
        raise _turned("parts of a day" if step == DAY else "parts of an hour", first)


def _turned(what: str, name: str) -> InvalidDataError:
    return InvalidDataError(
        f"The columns are {what}, such as {name!r}.",
        field="FILE",
        remedy="Turn the table: give each time a row of its own, and each sensor a column.",
    )
