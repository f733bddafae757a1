"""Find the parts of a time by their values where names do not tell: year, month, day, hour, ..."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vigie.tables.names import is_numbered
from vigie.tables.paired_times import all_numbers, clock_style_of, date_style_of
from vigie.tables.time_parts import Parts, Role, may_be
from vigie.tables.written_times import HOUR, ORDERS, read_written

if TYPE_CHECKING:
    import pyarrow as pa

Columns = Mapping[str, "pa.ChunkedArray"]

_DAY: tuple[Role, ...] = ("year", "month", "day")
_FORMS: tuple[tuple[Role, ...], ...] = (
    ("date", "clock"),
    ("date", "hour"),
    ("year", "month"),
    ("year", "of_year"),
    _DAY,
    ("year", "of_year", "hhmm"),
    ("year", "of_year", "hour"),
    ("date", "hour", "minute"),
    (*_DAY, "hour"),
    ("year", "of_year", "hhmm", "second"),
    ("year", "of_year", "hour", "minute"),
    (*_DAY, "hour", "minute"),
    (*_DAY, "hour", "minute", "second"),
)
"""The parts that may stand beside each other, the shortest first."""
_WORDS: dict[Role, str] = {
    "of_year": "day of the year",
    "hhmm": "hours and minutes",
    "clock": "time of day",
}
_COUNTED = frozenset(role for form in _FORMS for role in form) - {"date", "clock"}
_NAMED_HOUR = re.compile(r"h[eb]|.*(?:hour|heure|stunde|hora).*", re.IGNORECASE)
MOST_PLACES = 16
"""The parts of a time stand among the first columns."""
_FEWEST = 3
_AT_FIRST = 64
"""Rows that show that most columns are no part of a time."""
_USUAL = 0.9
"""Share of the steps between rows that are the same."""


@dataclass(frozen=True)
class _Read:
    """What columns say as the parts of a time.

    Attributes
    ----------
    is_sure : bool
        Whether a part begins again with its first value where one before it goes on.
    """

    parts: Parts
    is_sure: bool


def find_by_values(columns: Columns, dates: Sequence[str]) -> tuple[str, ...]:
    """Return the columns that make up a time by their values; none if they do not.

    Parameters
    ----------
    columns : mapping of pyarrow.ChunkedArray of shape (n_rows,)
        All columns.
    dates : sequence of str
        Those that hold a whole date.
    """
    first = list(columns)[:MOST_PLACES]
    could_be = {name: _roles_at_first(columns[name]) for name in (*first, *dates)}
    for names in (*_neighbours(first), *_hours_of(first, dates)):
        for form in _FORMS:
            is_form = len(form) == len(names) and all(
                role in could_be[name] for role, name in zip(form, names, strict=True)
            )
            read = _read([columns[name] for name in names], names, form) if is_form else None
            if read is not None and (read.is_sure or _is_likely(form, names)):
                return names
    return ()


def _is_likely(form: Sequence[Role], names: Sequence[str]) -> bool:
    """Return whether even steps suffice: names say nothing, or that a column holds hours."""
    if form == ("date", "hour") and _NAMED_HOUR.fullmatch(names[1]):
        return True
    return (len(form) > 2 or "date" in form) and all(map(is_numbered, names))


def _roles_at_first(column: pa.ChunkedArray) -> frozenset[Role]:
    """Return what a column can be by its first rows."""
    some = column[:_AT_FIRST]
    numbers = all_numbers(some)
    roles: set[Role] = {role for role in _COUNTED if may_be(numbers, role)}
    if numbers is None or (numbers == np.rint(numbers)).all():
        roles |= {"date"}
    return frozenset((*roles, "clock"))


def parts_by_values(cells: Sequence[pa.ChunkedArray], names: Sequence[str]) -> Parts | None:
    """Return how columns are put together by their values; None if they are no parts of a time."""
    forms = [form for form in _FORMS if len(form) == len(names) and _may_be(cells, form)]
    read = [one for form in forms if (one := _read(cells, names, form)) is not None]
    sure = [one for one in read if one.is_sure]
    return next((one.parts for one in (*sure, *read)), None)


def note_on(parts: Parts, names: Sequence[str]) -> str:
    """Return what to say of columns that are read as parts of a time by their values."""
    words = [_WORDS.get(role, role) for role in parts.roles]
    columns = f"{', '.join(names[:-1])} and {names[-1]}"
    return (
        f"{columns} are read as {', '.join(words[:-1])} and {words[-1]}, by their values. --time "
        "chooses other columns"
    )


def _neighbours(names: Sequence[str]) -> Iterator[tuple[str, ...]]:
    for n_parts in sorted({len(form) for form in _FORMS}):
        for first in range(len(names) - n_parts + 1):
            yield tuple(names[first : first + n_parts])


def _hours_of(names: Sequence[str], dates: Sequence[str]) -> Iterator[tuple[str, ...]]:
    return ((date, name) for date in dates for name in names if name != date)


def _may_be(cells: Sequence[pa.ChunkedArray], form: Sequence[Role]) -> bool:
    """Return whether all cells lie within what the parts can be."""
    for column, role in zip(cells, form, strict=True):
        if role in ("date", "clock"):
            continue
        numbers = all_numbers(column)
        if numbers is None or not may_be(numbers, role) or not np.isfinite(numbers).all():
            return False
        if role == "year" and numbers[0] < 100:
            # In two digits, a year looks like many a reading.
            return False
    return True


def _read(
    cells: Sequence[pa.ChunkedArray], names: Sequence[str], form: tuple[Role, ...]
) -> _Read | None:
    """Return what columns say if their times go one way, in even steps; else None."""
    if len(cells[0]) < _FEWEST or not _may_be(cells, form):
        return None
    style = clock = None
    if form[0] == "date":
        is_unnamed = form[1] == "clock" and is_numbered(names[0])
        style = date_style_of(cells[0], "date" if is_unnamed else names[0])
        clock = clock_style_of(cells[1], "time") if form[1] == "clock" else None
        is_of_day = len(cells[0].unique()) == len(cells[0])
        if is_of_day or style in (None, "excel") or (form[1] == "clock" and clock != "hhmmss"):
            return None
    parts = Parts(form, style or "text", clock or "text")
    whole = [column.combine_chunks() for column in cells]
    text = parts.joined(whole)
    orders = ORDERS if style in ("text", "digits") else ("ymd",)
    found: _Read | None = None
    for order in orders:
        times = read_written(text, order)
        if times.is_wrong.any():
            continue
        steps, last = np.diff(times.times), all_numbers(cells[-1])
        rises = np.zeros(len(steps)) if last is None else np.diff(last.astype(np.float64))
        if (steps < 0).all():
            steps, rises = -steps, -rises
        if form == ("year", "month"):
            steps = np.rint(steps / (30.4 * 24 * HOUR)).astype(np.int64)
        is_sure = _are_even(steps, rises < 0)
        if is_sure:
            return _Read(parts, is_sure)
        found = found if is_sure is None else _Read(parts, is_sure)
    return found


def _are_even(steps: NDArray[np.int64], falls: NDArray[np.bool_]) -> bool | None:
    """Return whether steps are the same where the last part begins again; None if uneven."""
    values, counts = np.unique(steps, return_counts=True)
    usual = values[np.argmax(counts)]
    is_usual = steps == usual
    if values[0] <= 0 or np.mean(is_usual) < _USUAL:
        return None
    n_again = np.count_nonzero(falls)
    return bool(n_again and 2 * np.count_nonzero(is_usual & falls) >= n_again)
