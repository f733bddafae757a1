"""What a user should know of columns that may hold times, beside those that are read as such."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vigie.errors import InvalidDataError
from vigie.tables.counted_parts import is_plain_part
from vigie.tables.counted_times import FIRST, could_be_days, is_calendar
from vigie.tables.find_times import is_named, is_of_utc, is_plainly_named
from vigie.tables.local_times import is_zone
from vigie.tables.names import letters
from vigie.tables.paired_times import (
    all_numbers,
    clock_style_of,
    date_style_of,
    is_named_date,
    is_text,
    some_text,
)
from vigie.tables.time_format import read_given
from vigie.tables.time_parts import find_half, is_half, is_month, year_and_month
from vigie.tables.times import has_form
from vigie.tables.written_times import (
    DAY,
    MONTHS,
    ORDERS,
    is_time_of_day,
    means_several_months,
    read_written,
    shape_of,
    shape_text,
)

if TYPE_CHECKING:
    import pyarrow as pa

Columns = Mapping[str, "pa.ChunkedArray"]

_SPAN_OF_DAYS = re.compile(r"(?<![^\W\d_])(?:W|KW|CW|WK|Q)[ -]?\d{1,2}(?!\d)", re.IGNORECASE)
_YEAR = re.compile(r"(?<!\d)(?:19|20)\d\d(?!\d)")
_DURATION = re.compile(r" *[-+]?(?:P|\d+ ?(?:days?|d|tage?|jours?)\b)", re.IGNORECASE)
_ELAPSED = re.compile(r" *(?:\d+ days?,? )?\d+:\d\d:\d\d(?:\.\d+)? *")
_DATE = re.compile(r"(?:date?|datum|fecha|dato|dátum|päivä|tarih|дата|日期)", re.IGNORECASE)
_DAY_AND_MONTH = re.compile(
    r" *(?:\d\d?[-./ ]+(?:\d\d?|(?P<behind>[^\W\d_]{3,}))|(?P<before>[^\W\d_]{3,})[-./ ]+\d\d?)"
    r"\.?(?:[ T,]+\d\d?[:.]\d\d.*)? *"
)
_MONTHS = tuple(
    form.replace(" ", mark)
    for form in ("%Y %m", "%m %Y", "%b %Y", "%B %Y", "%b %y", "%B %y", "%Y %b", "%YM%m")
    for mark in (" ", "-", "/", ".")
)
"""The forms of the months of years."""
_MONTHS_READ = 256
"""Rows that show whether numbers go on as years or as days."""
FEWEST_FALLING = 4
"""Rows from which a column may count down."""
_MOST = 0.9
"""Share of cells that show what a column holds."""


def doubts(columns: Columns, clock: Sequence[str], is_stated: bool) -> tuple[str, ...]:
    """Return what to say of columns that may hold times, but are not read.

    Parameters
    ----------
    columns : mapping of pyarrow.ChunkedArray of shape (n_rows,)
        All columns.
    clock : sequence of str
        Those that are read as the times.
    is_stated : bool
        Whether the user names these.

    Raises
    ------
    InvalidDataError
        If a column plainly has dates in a form that is not known, or values beside each other
        have times of their own.
    """
    if not clock:
        return (
            *_of_unread(columns),
            *_of_parts(columns),
            *_of_months(columns),
            *_of_falling(columns),
        )
    others = [name for name in groups_of_clocks(columns, clock) if name not in clock]
    notes = [note for name in others for note in _of_own_times(columns, clock[0], name, is_stated)]
    return (
        *notes,
        *_of_choice(columns, clock),
        *_of_bare_date(columns, clock),
        *_of_zones(columns, clock),
        *_of_halves(columns, clock),
    )


def _of_falling(columns: Columns) -> Iterator[str]:
    """Yield a note if a column counts down from row to row: the newest row may come first."""
    for name, column in columns.items():
        if len(column) < FEWEST_FALLING:
            continue
        for some in (column[:FEWEST_FALLING], column):
            numbers, unit = all_numbers(some), ""
            if numbers is None:
                numbers, unit = _in_seconds(some), " s"
            steps = np.zeros(1) if numbers is None else np.diff(numbers.astype(np.float64))
            if not (steps < 0).all() or np.ptp(steps) > 1e-6 * abs(steps[0]):
                break
        else:
            yield (
                f"{name} falls by {-steps[0]:g}{unit} from row to row: if the newest row comes "
                "first, sort the rows by time"
            )


def _in_seconds(column: pa.ChunkedArray) -> NDArray[np.float64] | None:
    """Return times such as 00:11:00 and 1 days 00:11:00 in seconds; None for other columns."""
    import pandas as pd

    if not all(_ELAPSED.fullmatch(cell) for cell in some_text(column) or [""]):
        return None
    elapsed = pd.to_timedelta(_decoded(column).to_pandas().str.strip(), errors="coerce")
    return np.asarray(elapsed.dt.total_seconds(), np.float64)


def _of_months(columns: Columns) -> Iterator[str]:
    """Yield a note if a year and a month stand without a day, but not once for each row."""
    if names := year_and_month(columns):
        options = " ".join(f"--time {shlex.quote(name)}" for name in names)
        yield (
            f"{' and '.join(names)} tell no day, and several rows are of one month: rows count as "
            f"evenly spaced. {options} reads each as of the first of its month"
        )


def _of_zones(columns: Columns, clock: Sequence[str]) -> Iterator[str]:
    """Yield a note if a column names zones, which the times beside it do not."""
    for name, column in columns.items():
        words = set() if name in clock or not is_text(column.type) else set(some_text(column))
        if not words or not all(is_zone(word.strip()) for word in words):
            continue
        shapes = [shape_of(shape_text(cell)) for cell in some_text(columns[clock[0]])]
        if not any(shape is not None and shape.is_zoned for shape in shapes):
            yield (
                f"{name} may name the zone of the times, such as {min(words)!r}, and is not used: "
                "say --timezone, such as America/New_York"
            )


def _of_halves(columns: Columns, clock: Sequence[str]) -> Iterator[str]:
    """Yield a note if a column says AM or PM of times of 12 hours, and is not read with them."""
    if any(is_half(name, columns[name]) for name in clock):
        return
    for name in find_half(columns, clock):
        options = " ".join(f"--time {shlex.quote(one)}" for one in (*clock, name))
        yield f"{name} tells AM and PM of the times, and is not used: say {options}"


def groups_of_clocks(columns: Columns, clock: Sequence[str]) -> list[str]:
    """Return the columns with times if each stands before values of its own; else none.

    Their names are alike ("Time1", "Time2"), or are those of their values ("Pump Timestamp",
    "Pump Value").
    """
    if len(clock) != 1 or not is_named(clock[0]):
        return []
    names = list(columns)
    alike = [name for name in names if is_named(name) and letters(name) == letters(clock[0])]
    of_values = [a for a, b in pairwise(names) if is_named(a) and _is_of(a, b)]
    for group in (alike, of_values):
        places = [names.index(name) for name in group]
        # Behind each one, the last too, stands a value.
        is_apart = all(b - a > 1 for a, b in pairwise([*places, len(names)]))
        if clock[0] in group and len(group) > 1 and is_apart:
            return group
    return []


def _is_of(name: str, value: str) -> bool:
    """Return whether the name of times begins as that of the values behind them."""
    begin = re.match(r"(?P<tag>.+?)[\W_]+(?:time ?stamp|date ?time|time|zeit\w*)\W*$", name, re.I)
    return begin is not None and value.startswith(begin["tag"]) and not is_named(value)


def _of_own_times(columns: Columns, clock: str, other: str, is_stated: bool) -> Iterator[str]:
    """Yield a note if a second column of times differs from the first.

    Raises
    ------
    InvalidDataError
        If it does, and the user does not name the first.
    """
    import pyarrow.compute as pc

    first, second = (_decoded(columns[name]) for name in (clock, other))
    if first.type == second.type and pc.all(pc.equal(first, second)).as_py():
        return
    a, b = _numbers(first), _numbers(second)
    if a is None or b is None:
        return
    ahead = b - a
    is_known = np.isfinite(ahead)
    if not is_known.any():
        return
    steps = np.abs(np.diff(a[np.isfinite(a)]))
    usual = float(np.median(steps[steps > 0])) if (steps > 0).any() else 0.0
    differs = np.abs(ahead - ahead[is_known][0]) > usual / 2
    if not differs.any():
        if ahead[is_known].any():
            how = "by less than half a step" if np.ptp(ahead[is_known]) else "all by the same"
            yield (
                f"{other} has other times than {clock}, {how}: the values of a row count as "
                f"measured at {clock}"
            )
        return
    row = int(np.argmax(differs))
    said = (
        f"{other} has times of its own: in row {row + 1} it is {second[row].as_py()}, and {clock} "
        f"is {first[row].as_py()}"
    )
    if is_stated:
        yield f"{said}. The values of {other} count as measured at {clock}, and should not be used."
        return
    raise InvalidDataError(
        f"{said}. The values of a row are not of one time.",
        field=f"{clock} and {other}",
        remedy="Export them with one column of times for all; or read the values of one alone: "
        f"--time with its column, such as {clock!r}, and --feature with its values.",
    )


def _decoded(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column with text in the plain type of strings."""
    import pyarrow as pa

    return column.cast(pa.string()) if is_text(column.type) else column


def _numbers(column: pa.ChunkedArray) -> NDArray[np.float64] | None:
    """Return times as numbers that grow with them, nan where there is none."""
    import pyarrow as pa

    if pa.types.is_timestamp(column.type):
        micros = column.cast(pa.timestamp("us"), safe=False).cast(pa.int64())
        return np.asarray(micros.cast(pa.float64()).to_numpy(), np.float64)
    numbers = all_numbers(column)
    if numbers is not None:
        return np.asarray(numbers, np.float64)
    if not is_text(column.type):
        return None
    # Whether the day or the month is first, equal times are equal.
    text = column.combine_chunks()
    readings = [read_written(text, order) for order in ("dmy", "mdy")]
    read = min(readings, key=lambda read: np.count_nonzero(read.is_wrong))
    return np.where(read.is_wrong, np.nan, read.times.astype(np.float64))


def _of_choice(columns: Columns, clock: Sequence[str]) -> Iterator[str]:
    """Yield a note if times are read from a clock of UTC, not from a local one."""
    if not any(map(is_of_utc, clock)):
        return
    others = [
        name
        for name, column in columns.items()
        if name not in clock and is_plainly_named(name) and _are_times(column)
    ]
    if others:
        yield (
            f"The times are read from {' and '.join(clock)}, which is UTC, not from {others[0]}. "
            f"--time chooses another column"
        )


def _are_times(column: pa.ChunkedArray) -> bool:
    import pyarrow as pa

    if pa.types.is_timestamp(column.type):
        return True
    cells = some_text(column)
    return bool(cells) and all(shape_of(shape_text(cell)) is not None for cell in cells)


def _of_bare_date(columns: Columns, clock: Sequence[str]) -> Iterator[str]:
    """Yield a note if times have no time of day, and a column that may hold it is not read."""
    unread = [
        (name, cells)
        for name, column in columns.items()
        if name not in clock
        and is_plainly_named(name)
        and _may_be_times(cells := some_text(column))
    ]
    names = [name for name in columns if name not in clock and is_plain_part(name)]
    if names and not unread and _repeats_days(columns, clock):
        if parts := [name for name in names if _varies(columns[name])]:
            yield (
                f"{clock[0]} is read without a time of day: {parts[0]} is not understood, such as "
                f"{_first(columns[parts[0]])}. Write both together, such as 2026-01-05 08:00"
            )
        return
    if unread and len(clock) == 1 and date_style_of(columns[clock[0]], clock[0]) is not None:
        name, cells = unread[0]
        yield (
            f"{clock[0]} is read without a time of day: {name} is not understood, such as "
            f"{cells[0]!r}. Name both with --time, or give the form of both with --time-format"
        )


def _repeats_days(columns: Columns, clock: Sequence[str]) -> bool:
    """Return whether the clock is a date alone, and several rows are of one."""
    if len(clock) != 1 or date_style_of(columns[clock[0]], clock[0]) is None:
        return False
    return len(columns[clock[0]].unique()) < len(columns[clock[0]])


def _of_unread(columns: Columns) -> Iterator[str]:
    """Yield a note if a column is named as times are, and the rows have none.

    Raises
    ------
    InvalidDataError
        If its cells are dates of some form.
    """
    for name, column in columns.items():
        if column.null_count == len(column):
            continue
        if not (is_month(name) or is_plainly_named(name)):
            continue
        column = _decoded(column)
        if form := _form_of_months(name, column):
            options = f"--time {shlex.quote(name)} --time-format {shlex.quote(form)}"
            if is_plainly_named(name) and is_text(column.type):
                raise InvalidDataError(
                    f"{some_text(column)[0]!r} in row 1 is a month, and no day.",
                    field=name,
                    remedy=f"Read each as its first day with {options}.",
                )
            yield (
                f"{name} holds months, which are not read as times: rows count as evenly spaced. "
                f"{options} reads each as its first day"
            )
            continue
        if not is_plainly_named(name):
            continue
        cells = some_text(column)
        numbers = all_numbers(column)
        if numbers is not None:
            yield from _of_counts(name, column, numbers[np.isfinite(numbers)])
        elif _are_times_of_day(column, cells):
            yield _no_date(name)
        elif len(set(cells)) == 1 and shape_of(shape_text(cells[0])) is not None:
            # One day for all rows tells nothing, but is understood.
            continue
        elif _may_be_times(cells):
            if np.mean([_YEAR.search(cell) is not None for cell in cells]) >= _MOST:
                unknown = [c for c in cells if shape_of(shape_text(c)) is None] or cells
                row = column.index(unknown[0]).as_py() + 1
                if means_several_months(unknown[0]):
                    raise InvalidDataError(
                        f"The month of {unknown[0]!r} in row {row} is another in another language.",
                        field=name,
                        remedy="Write the months as numbers.",
                    )
                if _SPAN_OF_DAYS.search(unknown[0]):
                    raise InvalidDataError(
                        f"{unknown[0]!r} in row {row} is a week or a quarter, and no day.",
                        field=name,
                        remedy="Write each as its first day, such as 2026-01-05. --time names "
                        "another column.",
                    )
                if unknown is cells:
                    _refuse_mixed(name, column)
                raise InvalidDataError(
                    f"{unknown[0]!r} in row {row} is no time in a known form.",
                    field=name,
                    remedy="Give its form with --time-format, such as '%d.%m.%Y %H:%M', or write "
                    "the times as 2026-01-05T08:00:00Z. --time names another column.",
                )
            if np.mean([_tells_no_year(cell) for cell in cells]) >= _MOST:
                yield (
                    f"{name} tells no year, such as {cells[0]!r}: rows count as evenly spaced. "
                    "Write the dates with their year"
                )
                continue
            yield (
                f"{name} is not understood as a time, such as {cells[0]!r}: rows count as evenly "
                "spaced. --time-format gives its form"
            )


def _of_parts(columns: Columns) -> Iterator[str]:
    """Yield a note if numbers named for parts of a day are not understood beside a single date."""
    parts = [name for name in columns if is_plain_part(name) and _varies(columns[name])]
    dates = [name for name in columns if is_named_date(name) and name not in parts]
    if parts and any(date_style_of(columns[name], name) is not None for name in dates):
        yield (
            f"{parts[0]} is not understood as part of a time, such as {_first(columns[parts[0]])}: "
            "rows count as evenly spaced. Write date and time of day together, such as "
            "2026-01-05 08:00"
        )


def _varies(column: pa.ChunkedArray) -> bool:
    numbers = all_numbers(column)
    return numbers is not None and bool(np.diff(numbers).any())


def _first(column: pa.ChunkedArray) -> str:
    first = column[0].as_py()
    return repr(first) if isinstance(first, str) else f"{first:g}"


def _refuse_mixed(name: str, column: pa.ChunkedArray) -> None:
    """Check that dates of known forms have no order that fits most of them.

    Raises
    ------
    InvalidDataError
        If they have; it names the first row that does not fit.
    """
    text = column.combine_chunks()
    readings = [read_written(text, order) for order in ORDERS]
    is_wrong = min((read.is_wrong for read in readings), key=np.count_nonzero)
    if is_wrong.any() and not is_wrong.all():
        row, fits = int(np.argmax(is_wrong)), int(np.argmin(is_wrong))
        raise InvalidDataError(
            f"{text[row].as_py()!r} in row {row + 1} does not have the form of other rows, such as "
            f"{text[fits].as_py()!r}.",
            field=name,
            remedy="Write all dates in one form, such as 2026-01-05 08:00.",
        )


def _form_of_months(name: str, column: pa.ChunkedArray) -> str | None:
    """Return the form of a column with the months of years, for ``--time-format``."""
    if is_text(column.type):
        return next((form for form in _MONTHS if _are_of_months(column, form)), None)
    numbers = all_numbers(column)
    if numbers is None or not np.isfinite(numbers).all():
        return None
    year, month = np.divmod(numbers, 100)
    are_months = (year >= 1900) & (year <= 2100) & (month >= 1) & (month <= 12)
    is_named = is_month(name) or bool(np.diff(numbers).any())
    return "%Y%m" if is_named and are_months.all() and has_form(column, "%Y%m") else None


def _are_of_months(column: pa.ChunkedArray, form: str) -> bool:
    """Return whether cells have a form of months, and are no days of them, such as Jan 01."""
    if not has_form(column, form):
        return False
    if "%y" not in form:
        return True
    times = read_given(_decoded(column[:_MONTHS_READ]).combine_chunks(), form).times
    return bool(len(times) < 2 or np.median(np.abs(np.diff(times))) < 300 * DAY)


def _are_times_of_day(column: pa.ChunkedArray, cells: Sequence[str]) -> bool:
    import pyarrow as pa

    is_written = bool(cells) and all(is_time_of_day(shape_text(cell)) for cell in cells)
    return is_written or pa.types.is_time(column.type)


def _no_date(name: str) -> str:
    return (
        f"{name} holds a time of day, but no date: rows count as evenly spaced. --time names the "
        "column with the date, too"
    )


def _writes_clock(
    name: str, column: pa.ChunkedArray, numbers: NDArray[np.float64] | NDArray[np.int64]
) -> bool:
    """Return whether digits such as 80000 and 80100 are times of day, rather than a count.

    They go on in even steps as times of day only, or begin late.
    """
    if clock_style_of(column, name) not in ("hhmm", "hhmmss"):
        return False
    high, low = np.divmod(np.rint(numbers), 100)
    hour, minute = np.divmod(high, 100)
    clock_steps, steps = np.diff(3600 * hour + 60 * minute + low), np.diff(numbers)
    is_even_as_clock = len(np.unique(clock_steps)) == 1 < len(np.unique(steps))
    return bool(is_even_as_clock or numbers[0] >= 10_000)


def _of_counts(
    name: str, column: pa.ChunkedArray, numbers: NDArray[np.float64] | NDArray[np.int64]
) -> Iterator[str]:
    """Yield a note if numbers go one way, but it is not known what they count or write."""
    steps = np.diff(numbers)
    if not len(steps) or ((steps < 0).any() and (steps >= 0).any()):
        return
    if numbers.min() >= FIRST and 2 * np.count_nonzero(steps == 0) > len(steps):
        yield (
            f"{name} has lost its last digits, as in a spreadsheet, such as {numbers[0]:g}: rows "
            "count as evenly spaced. Export the times with all of their digits"
        )
        return
    if _writes_clock(name, column, numbers):
        yield _no_date(name)
        return
    is_date = _DATE.match(name) is not None and not is_calendar(numbers, "ymd")
    is_date = is_date and numbers.min() >= 10_000
    if is_date or numbers.min() >= FIRST or could_be_days(numbers, "excel"):
        yield (
            f"{name} is not understood as a time, such as {numbers[0]:.15g}: rows count as evenly "
            "spaced. --time-format says what it counts, or how it writes dates"
        )


def _tells_no_year(cell: str) -> bool:
    """Return whether a cell has a day and a month, such as "05/01 08:00" and "5-Jan", alone."""
    found = _DAY_AND_MONTH.fullmatch(cell)
    word = "" if found is None else found["before"] or found["behind"] or ""
    return found is not None and (not word or word.lower() in MONTHS)


def _may_be_times(cells: Sequence[str]) -> bool:
    """Return whether nearly all cells have several numbers, but are not how long something took."""
    fits = [
        (len(re.findall(r"\d+", cell)) > 1 or _tells_no_year(cell))
        and _DURATION.match(cell) is None
        for cell in cells
    ]
    return bool(cells) and float(np.mean(fits)) >= _MOST
