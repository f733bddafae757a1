"""Put a date in one column and a time of day in another together."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from vigie.tables.counted_times import Numbers, could_be_days, is_calendar, numbers_or_nan
from vigie.tables.written_times import (
    DAY,
    MISSING,
    ORDERS,
    SECOND,
    Order,
    as_text,
    is_time_of_day,
    read_written,
    shape_of,
    shape_text,
    told_in_english,
)

if TYPE_CHECKING:
    import pyarrow as pa

DateStyle = Literal["text", "ymd", "digits", "excel", "instants", "as_it_is"]
ClockStyle = Literal["text", "hhmmss", "hhmm", "h.mm", "hour", "days", "clock", "dated", "as_it_is"]

NUMBER = re.compile(r" *[-+]?(?:0+|(?!0{14}[.,])0+[.,]0*)(?:e[-+]?0+)? *", re.IGNORECASE)
"""The shapes of numbers; 14 digits before a point are a date and a time of day."""
_HOURS_AND_MINUTES = re.compile(r" *([01]?[0-9]|2[0-3])[.][0-5][0-9] *")
_UNPADDED = re.compile(r" *(1?[0-9]|2[0-3]):[0-5]?[0-9] *")
_MIDNIGHT = r"[ T]00?:00(?::00(?:\.0+)?)?\s*$"
_DAY_ZERO = (
    r"^ *(?:1899[-/.]12[-/.]3[01]|1900[-/.]0?1[-/.]0?[01]|(?:1904|1970|0001)-01-01"
    r"|(?:12[-/.]3[01]|3[01][-/.]12)[-/.](?:18)?99|0?[01][-/.]0?[01][-/.]1900)(?:T| +)"
)
"""What databases and workbooks write before a time of day: the first of their days."""
_DAYS_ZERO = (-25_569, -25_568, -25_567, -24_107, 0, -719_162)
"""The same, in days since 1970."""
_NAMED_DATE = re.compile(
    r"(?:(?<![a-z])(?:date|datum|fecha|data|dato|dátum|päivä|päivämäärä|tarih|дата)(?![a-z])"
    r"|日期|日付|날짜|ddmmyy|mmddyy|yymmdd)",
    re.IGNORECASE,
)
_NAMED_CLOCK = re.compile(
    r"(?:(?<![a-z])(?:time|clock|utc|gmt|zeit|uhrzeit|heure|hora|ora|tijd|kello|aika|tid)(?![a-z])"
    r"|hhmmss)",
    re.IGNORECASE,
)
_N_SAMPLE = 256


@dataclass(frozen=True)
class Pair:
    """How the columns of a date and of a time of day are put together.

    Attributes
    ----------
    date : {0, 1}
        Which of the two columns has the date.
    date_style, clock_style : str
        How the two are written.
    """

    date: int
    date_style: DateStyle
    clock_style: ClockStyle

    def joined(self, cells: Sequence[pa.Array]) -> pa.Array:
        """Return the two columns as text in one; null where either has no value."""
        import pyarrow as pa
        import pyarrow.compute as pc

        date = date_text(cells[self.date], self.date_style)
        clock = clock_text(cells[1 - self.date], self.clock_style)
        empty = pc.or_(pc.equal(pc.utf8_length(date), 0), pc.equal(pc.utf8_length(clock), 0))
        joined = pc.binary_join_element_wise(date, clock, " ")
        return pc.if_else(empty, pa.scalar(None, pa.string()), joined)


def pair_of(columns: Sequence[pa.ChunkedArray], names: Sequence[str]) -> Pair | None:
    """Return how two columns are put together.

    Returns
    -------
    Pair or None
        None if they are no date and time of day, or each could be either.
    """
    found = []
    for date in (0, 1):
        date_style = date_style_of(columns[date], names[date])
        clock_style = clock_style_of(columns[1 - date], names[1 - date])
        if date_style and clock_style:
            found.append(Pair(date, date_style, clock_style))
    if len(found) == 2:
        found = [pair for pair in found if re.match("date|datum|day|jour", names[pair.date], re.I)]
    return found[0] if len(found) == 1 else None


def date_style_of(column: pa.ChunkedArray, name: str = "") -> DateStyle | None:
    """Return how a column writes dates without a time of day; None if it does not.

    Digits such as 250326 and 05022024 need a name that says so.
    """
    import pyarrow as pa

    if pa.types.is_date(column.type):
        return "instants"
    if pa.types.is_timestamp(column.type):
        times = column.cast(pa.timestamp("us"), safe=False).drop_null().to_numpy()
        return "instants" if len(times) and (times.astype(np.int64) % DAY == 0).all() else None
    if (numbers := all_numbers(column)) is not None:
        finite = numbers[np.isfinite(numbers)]
        if not len(finite):
            return None
        if is_calendar(finite, "ymd"):
            return "ymd"
        is_whole = bool((finite == np.rint(finite)).all()) and not is_text(column.type)
        if could_be_days(finite, "excel") and is_whole:
            return "excel"
        return "digits" if is_named_date(name) and orders_of_digits(numbers) else None
    cells = told_in_english([re.sub(_MIDNIGHT, "", cell) for cell in some_text(column)])
    shapes = [shape_of(shape_text(cell)) for cell in cells]
    fits = [shape for shape in shapes if shape and shape.is_date]
    return "text" if cells and len(fits) >= 0.9 * len(cells) else None


def is_named_date(name: str) -> bool:
    """Return whether a name says that a column holds dates."""
    return _NAMED_DATE.search(name) is not None


def orders_of_digits(numbers: Numbers) -> list[Order]:
    """Return the orders in which numbers such as 250326 and 05022024 are dates, in all rows.

    The dates of an order that counts go one way.
    """
    import pyarrow as pa

    finite = numbers[np.isfinite(numbers)]
    if not len(finite) or (finite != np.rint(finite)).any():
        return []
    if not 10_101 <= finite.max() < 10**8 or (finite.max() >= 10**6 > finite.min()):
        return []
    text = date_text(pa.array(finite), "digits")
    read = {order: read_written(text, order) for order in ORDERS}
    steps = {order: np.diff(one.times) for order, one in read.items() if not one.is_wrong.any()}
    return [order for order, by in steps.items() if (by >= 0).all() or (by <= 0).all()]


def clock_style_of(column: pa.ChunkedArray, name: str) -> ClockStyle | None:
    """Return how a column writes times of day without a date; None if it does not."""
    import pyarrow as pa

    if pa.types.is_time(column.type):
        return "clock"
    cells = some_text(column)
    if _are_on_day_zero(column, cells):
        return "dated"
    if cells and all(_HOURS_AND_MINUTES.fullmatch(cell) for cell in cells):
        return "text"
    if (numbers := all_numbers(column)) is not None:
        finite = numbers[np.isfinite(numbers)]
        widths = {len(cell.strip().partition(".")[0]) for cell in cells}
        return _style_of_numbers(finite, widths, name) if len(finite) else None
    is_named = _NAMED_CLOCK.search(name) is not None
    fits = [
        cell
        for cell in cells
        if is_time_of_day(shape_text(cell)) or (is_named and _UNPADDED.fullmatch(cell))
    ]
    return "text" if cells and len(fits) >= 0.9 * len(cells) else None


def is_on_day_zero(column: pa.ChunkedArray) -> bool:
    """Return whether all times lie on the first day of those that some program counts."""
    return _are_on_day_zero(column, some_text(column))


def _are_on_day_zero(column: pa.ChunkedArray, cells: Sequence[str]) -> bool:
    import pyarrow as pa

    if pa.types.is_timestamp(column.type):
        some = column[:_N_SAMPLE].cast(pa.timestamp("us"), safe=False).drop_null().to_numpy()
        days = np.unique(some.astype(np.int64) // DAY)
        return len(days) == 1 and int(days[0]) in _DAYS_ZERO
    return bool(cells) and all(re.match(_DAY_ZERO, cell) for cell in cells)


def all_numbers(column: pa.ChunkedArray) -> Numbers | None:
    """Return a column of numbers, or of text that is mostly numbers; None for other columns.

    Missing cells, and a few of other text, are nan.
    """
    import pyarrow as pa

    if is_text(column.type):
        cells = some_text(column)
        n_numbers = sum(NUMBER.fullmatch(shape_text(cell)) is not None for cell in cells)
        if not cells or n_numbers < 0.9 * len(cells):
            return None
    elif not (
        pa.types.is_integer(column.type)
        or pa.types.is_floating(column.type)
        or pa.types.is_decimal(column.type)
    ):
        return None
    parts: Any = [number_cells(chunk) for chunk in column.chunks if len(chunk)]
    return np.concatenate(parts) if parts else None


def is_text(kind: pa.DataType) -> bool:
    """Return whether a column holds text."""
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )


def some_text(column: pa.ChunkedArray) -> list[str]:
    """Return cells from all over a column of text, without missing ones; [] for other columns."""
    if not is_text(column.type) or not len(column):
        return []
    rows = np.unique(np.linspace(0, len(column) - 1, _N_SAMPLE).astype(int))
    # A ChunkedArray is slow to take from, and quick to index.
    cells: list[Any] = [column[int(row)].as_py() for row in rows]
    return [cell for cell in cells if cell is not None and cell.strip().lower() not in MISSING]


def number_cells(cells: pa.Array) -> Numbers:
    """Return cells as numbers of shape (n_cells,), nan where they hold none."""
    return numbers_or_nan(_plain(cells))


def _plain(chunk: pa.Array) -> pa.Array:
    """Return an array of text with nulls where it says that there is no value."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not is_text(chunk.type):
        return chunk
    text = as_text(chunk)
    if not pc.any(pc.equal(pc.utf8_length(text), 0)).as_py():
        return text
    return pc.if_else(pc.equal(pc.utf8_length(text), 0), pa.scalar(None, pa.string()), text)


def _style_of_numbers(values: Numbers, widths: set[int], name: str) -> ClockStyle | None:
    """Return how numbers write a time of day, such as 93000, 930 or 0.3958."""
    smallest, largest = values.min(), values.max()
    if smallest < 0 or largest >= 240_000:
        return None
    whole = np.floor(values).astype(np.int64)
    fits_seconds = bool(((whole % 100 < 60) & (whole // 100 % 100 < 60)).all())
    fits_seconds = fits_seconds and (widths == {6} or largest >= 2400)
    if (whole != values).any():
        if largest < 1:
            return "days"
        if fits_seconds and _NAMED_CLOCK.search(name):
            return "hhmmss"
        return "h.mm" if _are_hours_and_minutes(values, name) else None
    if fits_seconds:
        return "hhmmss"
    # The hour 24 ends a day.
    if largest <= 24 and widths <= {1, 2} and re.search("hour|heure|stunde", name, re.IGNORECASE):
        return "hour"
    fits_minutes = largest < 2400 and bool((whole % 100 < 60).all())
    return "hhmm" if fits_minutes and (widths == {4} or largest >= 100) else None


def _are_hours_and_minutes(values: Numbers, name: str) -> bool:
    """Return whether numbers such as 8.41 are times of day, by the name of their column."""
    minutes = np.rint(values * 100).astype(np.int64)
    is_exact = np.abs(values * 100 - minutes) < 1e-6
    is_clock = (minutes % 100 < 60) & (minutes < 2400)
    named = re.fullmatch(r"(?i)time|zeit|uhrzeit|heure|hora|ora|tijd|kello|aika|tid", name.strip())
    return named is not None and bool((is_exact & is_clock).all())


def date_text(cells: pa.Array, style: DateStyle) -> pa.Array:
    """Return dates as text; null where there is none."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if style == "as_it_is":
        return _as_it_is(cells)
    if style == "instants":
        return pc.strftime(cells.cast(pa.timestamp("s"), safe=False), "%Y-%m-%d")
    if style == "text":
        return pc.replace_substring_regex(pc.utf8_trim_whitespace(as_text(cells)), _MIDNIGHT, "")
    values = number_cells(cells)
    is_null = ~np.isfinite(values)
    digits = np.where(is_null, 0, values).astype(np.int64)
    if style == "ymd":
        return pa.array(digits, mask=is_null).cast(pa.string())
    if style == "digits":
        text = pc.utf8_lpad(pa.array(digits, mask=is_null).cast(pa.string()), 6, "0")
        text = pc.if_else(pa.array(digits >= 10**6), pc.utf8_lpad(text, 8, "0"), text)
        return pc.replace_substring_regex(text, "^(..)(..)(.+)$", r"\1/\2/\3")
    days = (digits - 25_569).astype("M8[D]")
    return pa.array(np.datetime_as_string(days).astype(object), pa.string(), mask=is_null)


def clock_text(cells: pa.Array, style: ClockStyle) -> pa.Array:
    """Return times of day as text; null where there is none."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if style == "as_it_is":
        return _as_it_is(cells)
    if style == "clock":
        return cells.cast(pa.time64("us")).cast(pa.string())
    if style == "dated":
        if pa.types.is_timestamp(cells.type):
            return (
                cells.cast(pa.timestamp("us"), safe=False).cast(pa.time64("us")).cast(pa.string())
            )
        return pc.replace_substring_regex(as_text(cells), _DAY_ZERO, "")
    if style == "text":
        return pc.utf8_trim_whitespace(as_text(cells))
    values = number_cells(cells)
    is_null = ~np.isfinite(values)
    values = np.where(is_null, 0, values)
    if style == "days":
        # A day of a double is no finer than a millisecond once Excel has rounded it.
        clock = np.minimum(np.rint(values * 86_400_000.0).astype(np.int64) * 1000, DAY - 1)
        return pa.array(clock, mask=is_null).cast(pa.time64("us")).cast(pa.string())
    if style == "h.mm":
        values = np.rint(values * 100)
    whole, part = np.divmod(np.rint(values * float(SECOND)).astype(np.int64), SECOND)
    text = pa.array(whole, mask=is_null).cast(pa.string())
    if style == "hour":
        return pc.binary_join_element_wise(pc.utf8_lpad(text, 2, "0"), "00", ":")
    text = pc.utf8_lpad(text, 6 if style == "hhmmss" else 4, "0")
    if not part.any():
        return text
    return pc.binary_join_element_wise(
        text, pc.utf8_lpad(pa.array(part).cast(pa.string()), 6, "0"), "."
    )


def _as_it_is(cells: pa.Array) -> pa.Array:
    """Return cells as text; whole numbers with the zeros that they lack at their beginning."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if is_text(cells.type):
        return pc.utf8_trim_whitespace(as_text(cells))
    digits = cells.cast(pa.int64(), safe=False).cast(pa.string())
    longest = pc.max(pc.utf8_length(digits)).as_py() or 0
    return pc.utf8_lpad(digits, longest + longest % 2, "0")
