"""Put times together whose parts stand in columns of their own: year, month, day, hour, ..."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from vigie.tables.counted_times import Numbers
from vigie.tables.names import letters
from vigie.tables.paired_times import (
    ClockStyle,
    DateStyle,
    all_numbers,
    clock_style_of,
    clock_text,
    date_style_of,
    date_text,
    is_text,
    number_cells,
    pair_of,
    some_text,
)
from vigie.tables.written_times import SECOND, as_text, halves_of_days, shape_of, shape_text

if TYPE_CHECKING:
    import pyarrow as pa

Role = Literal[
    "date", "year", "month", "day", "of_year", "hour", "hhmm", "minute", "second", "clock"
]

_NAMES: dict[Role, str] = {
    "year": "year yyyy yy yr jahr jaar année annee año ano anno rok rok év år vuosi yıl 年",
    "month": "month mm mon mo monat maand mois mes mês mese měsíc miesiąc mjesec hónap 月",
    "day": "day dd dy tag dag jour día dia giorno den dzień dan nap dayofmonth dom 日",
    "of_year": "doy dayofyear yday jday julianday ordinalday",
    "hour": "hour hours hh hr h stunde std uur heure hora ora godzina hodina sat óra 时",
    "hhmm": "hhmm",
    "minute": "minute minutes min mi mn minuut minuto minuta perc 分",
    "second": "second seconds sec ss s sekunde seconde segundo secondo sekunda 秒",
}
_ROLES: dict[str, Role] = {name: role for role, names in _NAMES.items() for name in names.split()}
_DAYS = frozenset(_NAMES["day"].split())
_RANGES: dict[Role, tuple[int, float]] = {
    "month": (1, 12),
    "day": (1, 31),
    "of_year": (1, 366),
    "hour": (0, 24),
    "hhmm": (0, 2400),
    "minute": (0, 59),
    "second": (0, 60),
}
_MILLISECONDS_NAMES = (
    "ms msec msecs millis millisecond milliseconds millitm timems timemillis 毫秒",
    "millisekunde millisekunden milliseconde millisecondes milisegundo milisegundos millisecondi",
)
_AT_FIRST = 64
"""Rows that show that most columns do not hold AM or PM."""
_OF_12_HOURS = r"(^|[ T])(0?\d|1[0-2])([:.h]\d\d?([:.]\d\d?([.,:]\d+)?)?|\d\d(\d\d(\.\d+)?)?)$"
_MILLISECONDS = frozenset(name for names in _MILLISECONDS_NAMES for name in names.split())


@dataclass(frozen=True)
class Parts:
    """How the columns of the parts of a time are put together.

    Attributes
    ----------
    roles : tuple of str
        What each column holds.
    date_style, clock_style : str
        How a whole date or time of day among them is written.
    """

    roles: tuple[Role, ...]
    date_style: DateStyle = "text"
    clock_style: ClockStyle = "text"

    @property
    def is_of_months(self) -> bool:
        """Whether a year and a month stand without a day."""
        return "month" in self.roles and "day" not in self.roles

    def joined(self, cells: Sequence[pa.Array]) -> pa.Array:
        """Return the columns as text in one; null where any has no value."""
        import pyarrow.compute as pc

        of = dict(zip(self.roles, cells, strict=True))
        if "date" in of:
            date = date_text(of["date"], self.date_style)
        else:
            year = number_cells(of["year"])
            year = np.where(year < 69, year + 2000, np.where(year < 100, year + 1900, year))
            days = [padded(number_cells(of[role]), width) for role, width in _WIDTHS if role in of]
            days += ["01"] if self.is_of_months else []
            date = pc.binary_join_element_wise(padded(year, 4), *days, "-")
        if "clock" in of:
            clock = clock_text(of["clock"], self.clock_style)
        elif "hhmm" in of:
            hour, minute = np.divmod(number_cells(of["hhmm"]), 100)
            parts = [padded(hour, 2), padded(minute, 2)]
            parts += [padded_seconds(number_cells(of["second"]))] if "second" in of else []
            clock = pc.binary_join_element_wise(*parts, ":")
        elif "hour" in of:
            clock = self._clock(of)
        else:
            return date
        return pc.binary_join_element_wise(date, clock, " ")

    def _clock(self, of: Mapping[Role, pa.Array]) -> pa.Array:
        import pyarrow.compute as pc

        hour = number_cells(of["hour"])
        minute = number_cells(of["minute"]) if "minute" in of else np.zeros(len(hour))
        parts = [padded(hour, 2), padded(minute, 2)]
        if "second" in of:
            parts.append(padded_seconds(number_cells(of["second"])))
        return pc.binary_join_element_wise(*parts, ":")


_WIDTHS: tuple[tuple[Role, int], ...] = (("month", 2), ("day", 2), ("of_year", 3))


def find_parts(
    columns: Mapping[str, pa.ChunkedArray], dates: Sequence[str], clocks: Sequence[str]
) -> tuple[str, ...]:
    """Return the columns that make up a time by their names; none if they do not.

    Parameters
    ----------
    columns : mapping of pyarrow.ChunkedArray of shape (n_rows,)
        All columns.
    dates, clocks : sequence of str
        Those that hold a whole date, or a whole time of day.
    """
    of = _roles_of(list(columns))
    of = of if dates else _with_day_of_year(of)
    if "year" not in of or not ({"month", "day"} <= of.keys() or "of_year" in of):
        # "Hour 1" beside "Hour 2" has a value of that hour.
        if not dates:
            return _of_months(columns)
        if re.search(r"\d", of.get("hour", "0")):
            return ()
        of = {"date": dates[0], **of}
    wanted: list[Role]
    if "date" in of:
        wanted = ["date"]
    else:
        wanted = ["year", "month", "day"] if {"month", "day"} <= of.keys() else ["year", "of_year"]
    if "hour" in of:
        wanted += ["hour", *_following(of)]
    elif "hhmm" in of:
        wanted.append("hhmm")
    names = [of[role] for role in wanted]
    if "hour" not in of and "hhmm" not in of:
        names += [name for name in clocks if name not in names][:1]
    cells = [columns[name] for name in names]
    parts = parts_of(cells, names)
    if parts is None or (letters(of.get("of_year", "")) in _DAYS and not _goes_on(cells)):
        return ()
    return tuple(names)


def _goes_on(cells: Sequence[pa.ChunkedArray]) -> bool:
    """Return whether a year and a day go one way, so that the day is one of the year."""
    steps = _steps_of(cells, 1000)
    return bool((steps >= 0).all() or (steps <= 0).all())


def year_and_month(columns: Mapping[str, pa.ChunkedArray]) -> tuple[str, ...]:
    """Return the columns of a year and of its month, by their names; none without both."""
    of = _roles_of(list(columns))
    if not {"year", "month"} <= of.keys():
        return ()
    names = of["year"], of["month"]
    return names if parts_of([columns[name] for name in names], names) else ()


def _of_months(columns: Mapping[str, pa.ChunkedArray]) -> tuple[str, ...]:
    """Return the columns of a year and a month if each row has one of its own; else none."""
    names = year_and_month(columns)
    if not names:
        return ()
    steps = _steps_of([columns[name] for name in names], 12)
    return names if (steps > 0).all() or (steps < 0).all() else ()


def _steps_of(cells: Sequence[pa.ChunkedArray], a_year: int) -> NDArray[np.float64]:
    """Return the steps from row to row of a year and its parts, of which it has at most so many."""
    year, part = (number_cells(column.combine_chunks()) for column in cells[:2])
    return np.diff(a_year * year + part)


def _following(of: Mapping[Role, str]) -> list[Role]:
    if "minute" not in of:
        return []
    return ["minute", "second"] if "second" in of else ["minute"]


def _with_day_of_year(of: dict[Role, str]) -> dict[Role, str]:
    """Return which column holds which part: beside a year without a month, a day is one of it."""
    if "day" in of and "year" in of and not {"month", "of_year"} & of.keys():
        return {"of_year" if role == "day" else role: name for role, name in of.items()}
    return of


def parts_of(cells: Sequence[pa.ChunkedArray], names: Sequence[str]) -> Parts | None:
    """Return how columns are put together to a time; None if they are no parts of one."""
    of = _with_day_of_year(_roles_of(names))
    date_style: DateStyle | None = None
    clock_style: ClockStyle | None = None
    roles: list[Role] = []
    for column, name in zip(cells, names, strict=True):
        role = next((role for role, known in of.items() if known == name), None)
        if role is not None and may_be(all_numbers(column), role):
            roles.append(role)
        elif date_style is None and (date_style := date_style_of(column, name)):
            roles.append("date")
        elif clock_style is None and (clock_style := clock_style_of(column, name)):
            roles.append("clock")
        else:
            return None
    held = frozenset(roles)
    is_day = held & {"date", "year", "month", "day", "of_year"} in (
        {"date"},
        {"year", "month", "day"},
        {"year", "month"},
        {"year", "of_year"},
    )
    is_clock = held & {"hour", "hhmm", "minute", "second", "clock"} in (
        *(set(), {"clock"}, {"hhmm"}, {"hhmm", "second"}, {"hour"}),
        *({"hour", "minute"}, {"hour", "minute", "second"}),
    )
    parts = Parts(tuple(roles), date_style or "text", clock_style or "text")
    if len(roles) != len(held) or not (is_day and is_clock):
        return None
    return None if parts.is_of_months and len(roles) > 2 else parts


def _roles_of(names: Sequence[str]) -> dict[Role, str]:
    """Return which column holds which part, by its name; of several, the first."""
    of: dict[Role, str] = {}
    for name in names:
        word = letters(name)
        role = _ROLES.get(word)
        # In "MM DD hh mm" the second is the minute.
        if word == "mm" and "hour" in of:
            role = "minute"
        if role is not None:
            of.setdefault(role, name)
    return of


def is_month(name: str) -> bool:
    """Return whether a column is named for months."""
    return "month" in _roles_of([name])


def may_be(numbers: Numbers | None, role: Role) -> bool:
    """Return whether all numbers of a column can be a part of a time; None of them cannot."""
    finite = np.empty(0) if numbers is None else numbers[np.isfinite(numbers)]
    if not len(finite):
        return False
    low, high = finite.min(), finite.max()
    is_whole = role == "second" or bool((finite == np.rint(finite)).all())
    if role == "year":
        return is_whole and (0 <= low <= high <= 99 or 1900 <= low <= high <= 2100)
    least, most = _RANGES[role]
    return is_whole and bool(least <= low and high <= most)


def find_milliseconds(
    columns: Mapping[str, pa.ChunkedArray], clock: Sequence[str]
) -> tuple[str, ...]:
    """Return the column with the milliseconds of times in whole seconds; none without one.

    Within a second, they must go the same way in every row.
    """
    for name, column in columns.items():
        if name in clock or not is_milliseconds(name, column):
            continue
        cells = [columns[one] for one in clock]
        numbers = all_numbers(column)
        if numbers is None or not _has_whole_seconds(cells[-1]):
            continue
        steps = np.diff(numbers)[repeats(cells)]
        if (steps >= 0).all() or (steps <= 0).all():
            return (name,)
    return ()


def find_half(columns: Mapping[str, pa.ChunkedArray], clock: Sequence[str]) -> tuple[str, ...]:
    """Return the column with AM or PM of times of 12 hours; none without one.

    None beside hours above 12, or those that say their half themselves.
    """
    import pyarrow.compute as pc

    for name, column in columns.items():
        if name in clock or not is_half(name, column):
            continue
        cells = [columns[one] for one in clock]
        pair = pair_of(cells, clock) if len(cells) == 2 else None
        form = pair or (parts_of(cells, clock) if len(cells) > 1 else None)
        if form is None and not (len(cells) == 1 and is_text(cells[0].type)):
            return ()
        whole = [column.combine_chunks() for column in cells]
        text = as_text(whole[0]) if form is None else form.joined(whole)
        clocks = pc.utf8_trim_whitespace(text.drop_null())
        is_of_12 = pc.all(pc.match_substring_regex(clocks, _OF_12_HOURS)).as_py()
        return (name,) if is_of_12 else ()
    return ()


def is_half(name: str, column: pa.ChunkedArray) -> bool:
    """Return whether a column holds AM or PM in all rows."""
    if not is_text(column.type):
        return False
    of_one_letter = letters(name) in ("ampm", "ap", "meridiem")
    return all(
        halves_of_days(some.unique().drop_null().to_pylist(), of_one_letter=of_one_letter)
        for some in (column[:_AT_FIRST], column)
    )


def is_milliseconds(name: str, column: pa.ChunkedArray) -> bool:
    """Return whether a column holds the milliseconds of times, by its name and its values."""
    if letters(name) not in _MILLISECONDS:
        return False
    numbers = all_numbers(column)
    return numbers is not None and are_milliseconds(numbers)


def are_milliseconds(numbers: Numbers) -> bool:
    """Return whether all numbers are whole, and from 0 to 999."""
    return bool(((numbers == np.rint(numbers)) & (numbers >= 0) & (numbers < 1000)).all())


def _has_whole_seconds(column: pa.ChunkedArray) -> bool:
    """Return whether times have seconds, but no part of one."""
    import pyarrow as pa

    if pa.types.is_timestamp(column.type):
        times = column.cast(pa.timestamp("us"), safe=False).drop_null().to_numpy().astype(np.int64)
        return bool((times % SECOND == 0).all())
    if not is_text(column.type):
        return False
    # A time of day alone has a form once a date stands before it.
    texts = [shape_text(cell) for cell in some_text(column)]
    shapes = [shape_of(text) or shape_of(f"0000-00-00 {text}") for text in texts]
    return bool(shapes) and all(shape and shape.second and not shape.fraction for shape in shapes)


def repeats(cells: Sequence[pa.ChunkedArray]) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Return which rows, but for the first, have the same cells as the row before."""
    import pyarrow as pa
    import pyarrow.compute as pc

    same = np.ones(max(len(cells[0]) - 1, 0), np.bool_)
    for column in cells:
        whole = (column.cast(pa.string()) if is_text(column.type) else column).combine_chunks()
        equal = pc.fill_null(pc.equal(whole[1:], whole[:-1]), False)
        same &= equal.to_numpy(zero_copy_only=False)
    return same


def padded_seconds(numbers: Numbers) -> pa.Array:
    """Return seconds as text, with decimals where there are some."""
    import pyarrow.compute as pc

    whole, rest = np.divmod(np.rint(numbers * SECOND), SECOND)
    second = padded(whole, 2)
    if not (rest > 0).any():
        return second
    return pc.binary_join_element_wise(second, padded(rest, 6), ".")


def padded(numbers: Numbers, width: int) -> pa.Array:
    """Return whole numbers as text of a width; null where there is none."""
    import pyarrow as pa
    import pyarrow.compute as pc

    is_null = ~np.isfinite(numbers)
    whole = np.where(is_null, 0, numbers).astype(np.int64)
    return pc.utf8_lpad(pa.array(whole, mask=is_null).cast(pa.string()), width, "0")
