"""Understand the times of a table, and read them as UTC, in parts.

All values of a column decide together what they mean: whether the day or the month stands first,
what a number counts, whether a clock was set back. Where the values leave two meanings, and these
differ, the user is asked.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from vigie.errors import InvalidDataError
from vigie.tables.cores import on_all_cores
from vigie.tables.counted_parts import Counted, counted_of
from vigie.tables.counted_times import (
    DAY_ZERO,
    ELSEWHERE,
    PER_SECOND,
    WORDS,
    Numbers,
    Unit,
    almost_calendar,
    are_decimal_years,
    could_be_days,
    is_elapsed,
    is_rounded,
    meanings,
    unit_of,
)
from vigie.tables.local_times import (
    LocalClock,
    changes,
    is_zone_word,
    written,
    zone_in,
    zone_named,
)
from vigie.tables.options import Hint, TimeOptions
from vigie.tables.orders import ORDER_WORDS, chosen, chosen_year_first, has_month_name
from vigie.tables.paired_times import (
    Pair,
    all_numbers,
    date_style_of,
    is_on_day_zero,
    is_text,
    pair_of,
    some_text,
)
from vigie.tables.time_format import (
    Cells,
    Fault,
    TimeFormat,
    aligned,
    cell_of,
    described,
    fault_in,
    read_given,
)
from vigie.tables.time_parts import Parts, is_half, is_milliseconds, parts_of
from vigie.tables.unnamed_parts import note_on, parts_by_values
from vigie.tables.written_times import (
    DAY,
    HOUR,
    MINUTE,
    OFFSETS,
    Order,
    Written,
    is_time_of_day,
    means_several_months,
    shape_of,
    shape_text,
    shared_months,
)

if TYPE_CHECKING:
    import pyarrow as pa

_BRACKETED = re.compile(r"[(\[]([A-Z]{3,5}(?:/[A-Z]{3,5})?)[)\]]")
EARLIEST, LATEST = np.datetime64("1900-01-01", "us"), np.datetime64("2262-01-01", "us")
"""Times outside are marks for a missing one, such as 0001-01-01 or 9999-12-31."""
FIRST_LIKELY = np.datetime64("1980-01-01", "us")
"""Years of two digits are hardly those of earlier times."""
UNITS: tuple[Unit, ...] = (*PER_SECOND, *DAY_ZERO, *ELSEWHERE, "year")
"""What numbers count, as the user may state it."""
HOW_TO_WRITE = "Write the times as 2026-01-05T08:00:00Z, or give their form with --time-format."


class TimeParser:
    """Reads the times of one file, in parts.

    Parameters
    ----------
    format : TimeFormat
        What they mean.

    Attributes
    ----------
    n_rows : int
        Rows that were read.
    last : int or None
        The time of the last of them, in microseconds since 1970; None before the first.
    """

    def __init__(self, format: TimeFormat):  # noqa: A002
        self.format = format
        self.n_rows = 0
        self.last: int | None = None
        self._last_local: int | None = None
        self._shift = 0
        self._changes = {(change.before, change.after): change.by for change in format.changes}
        self._local = LocalClock(ZoneInfo(format.zone), format.repeats) if format.zone else None

    def read(self, cells: Cells) -> NDArray[np.datetime64]:
        """Return the times of the next rows.

        Parameters
        ----------
        cells : sequence of pyarrow arrays of shape (n_rows,)
            The columns named in ``format.names``.

        Returns
        -------
        ndarray of datetime64[us] of shape (n_rows,)
            In UTC, ascending.

        Raises
        ------
        InvalidDataError
            If a row has no time, or one that is before that of the row above; rows are counted
            from 1 over all parts.
        """
        parts = []
        for piece in aligned(cells):
            read = self.format.read(piece)
            if fault := fault_in(self.format, piece, read, self.n_rows):
                _refuse_cell(self.format, fault)
            self._require_same_form(read)
            parts.append(self.settle(read))
        return np.concatenate(parts) if parts else np.empty(0, "M8[us]")

    def settle(self, read: Written) -> NDArray[np.datetime64]:
        """Return the next times in UTC, as ``read`` does, from what the cells say."""
        is_local = ~read.is_zoned
        if is_local.all():
            times = self._in_utc(read.times, is_local)
        else:
            times = read.times.copy()
            if is_local.any():
                times[is_local] = self._in_utc(read.times[is_local], is_local)
        self._check(times)
        self.n_rows += len(times)
        self.last = int(times[-1]) if len(times) else self.last
        return times.view("M8[us]")

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should read about the hours that come twice, in a zone."""
        once = self._local.once if self._local else []
        return tuple(
            f"The hour from {written(begin)} comes twice in {self.format.zone}, but once in the "
            "file: it is taken as summer time."
            for begin in once
        )

    def _require_same_form(self, read: Written) -> None:
        """Check that rows leave nothing open that those did not which the format was found from.

        Raises
        ------
        InvalidDataError
            If they do.
        """
        form = self.format
        has_same_zone = form.zone is not None or not (read.is_zoned != form.is_zoned).any()
        if not (has_same_zone and read.orders <= form.open_orders):
            raise InvalidDataError(
                f"The times from row {self.n_rows + 1} on are written in another form than those "
                "above.",
                field=form.label,
                remedy=HOW_TO_WRITE,
            )

    def _in_utc(self, times: NDArray[np.int64], is_local: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Return the local times of a part in UTC, or go on where a clock was set back."""
        ahead = (self.format.ahead or 0) * MINUTE
        if self._local is not None:
            result, missing = self._local.read(times)
            if missing is not None:
                row = self.n_rows + np.flatnonzero(is_local)[missing] + 1
                raise InvalidDataError(
                    f"{written(int(times[missing]))} in row {row} does not exist in "
                    f"{self.format.zone}: the clock was set forward over it.",
                    field=self.format.label,
                    remedy="Leave out --timezone if the times are UTC, or name their zone.",
                )
            return result
        if not self._changes:
            return times - ahead if ahead else times
        before = np.concatenate(
            [times[:1] if self._last_local is None else [self._last_local], times]
        )
        shifts = np.zeros(len(times), np.int64)
        for row in np.flatnonzero(np.diff(before) <= 0):
            shifts[row:] += self._changes.get((int(before[row]), int(before[row + 1])), 0)
        shifts += self._shift
        self._shift, self._last_local = int(shifts[-1]), int(times[-1])
        return times + shifts - ahead

    def _check(self, times: NDArray[np.int64]) -> None:
        """Check that times ascend.

        Raises
        ------
        InvalidDataError
            If they do not, or a year is none of a reading.
        """
        if not len(times):
            return
        earliest, latest = EARLIEST.astype(np.int64), LATEST.astype(np.int64)
        if times.min() < earliest or times.max() >= latest:
            row = int(np.argmax((times < earliest) | (times >= latest)))
            raise InvalidDataError(
                f"{written(int(times[row]))} in row {self.n_rows + row + 1} is no time of a "
                "reading.",
                field=self.format.label,
                remedy="Remove the rows without a time.",
            )
        if self.last is not None and times[0] < self.last:
            _refuse_order(self.format, self.last, int(times[0]), self.n_rows + 1)
        back = times[1:] < times[:-1]
        if back.any():
            row = int(np.argmax(back)) + 1
            _refuse_order(self.format, int(times[row - 1]), int(times[row]), self.n_rows + row + 1)


def understand_times(
    cells: Sequence[pa.ChunkedArray], names: Sequence[str], options: TimeOptions
) -> TimeFormat:
    """Decide what times mean, from all of their values together; see ``read_times``."""
    return read_times(cells, names, options)[0]


def read_times(
    cells: Sequence[pa.ChunkedArray], names: Sequence[str], options: TimeOptions
) -> tuple[TimeFormat, NDArray[np.datetime64]]:
    """Decide what times mean, from all of their values together, and read them.

    Parameters
    ----------
    cells : sequence of pyarrow.ChunkedArray of shape (n_rows,)
        One column, two with a date and a time of day, or one for each part of a time: text,
        numbers or times.
    names : sequence of str
        Their names.
    options : TimeOptions
        What the user says.

    Returns
    -------
    form : TimeFormat
        What they mean.
    times : ndarray of datetime64[us] of shape (n_rows,)
        In UTC, ascending.

    Raises
    ------
    InvalidDataError
        If the columns hold no times, times that do not ascend, or times with several meanings
        that differ.
    """
    base = _with_zone(_draft(cells, names, options), options)
    hints = _hints_on(base, options)
    readings, faults = _readings(base, cells, options, hints)
    order, note = _order(base, cells, readings, hints)
    if not note:
        note = _against(order, hints, {*readings, *faults}, cell_of(base, cells, 0))
    read = readings[order]
    found = replace(base, order=order, notes=(*base.notes, *note))
    if read.is_zoned.any():
        found = replace(found, ahead=None)
    _require_one_kind_of_zone(found, read)
    found = _with_changes(found, read)
    is_open = options.day_first is None and len(readings) > 1
    found = replace(
        found,
        is_zoned=bool(read.is_zoned.any()),
        open_orders=read.orders,
        is_settled=not (is_open or found.zone or found.changes) and base.kind != "numbers",
    )
    parser = TimeParser(found)
    times = parser.settle(read)
    found = replace(
        found,
        notes=(
            *found.notes,
            *parser.notes,
            *_notes_on_zone(found, read),
            *_future(found, times),
            *_past(found, cells, times),
        ),
        reason="" if note else _why(order, readings, faults, options, cell_of(base, cells, 0)),
        description=described(found, cells),
    )
    return found, times


def _hints_on(form: TimeFormat, options: TimeOptions) -> list[Hint]:
    """Return what tells the order of the numbers in these dates; nothing where it is stated."""
    if form.kind != "text" or options.day_first is not None:
        return []
    return [hint for hint in options.hints if hint.column in (None, *form.names)]


def _against(
    order: Order, hints: Sequence[Hint], possible: Collection[Order], sample: str
) -> tuple[str, ...]:
    """Return a note if dates exclude the order that was to be expected of them."""
    expected = next((hint for hint in hints if hint.order in possible), None)
    if expected is None or expected.order == order or order not in ORDER_WORDS:
        return ()
    return (
        f"Dates such as {sample!r} are read as {ORDER_WORDS[order]}, {expected.differs}: as "
        f"{ORDER_WORDS[expected.order]}, some do not exist, or the times go back.",
    )


def _draft(
    cells: Sequence[pa.ChunkedArray], names: Sequence[str], options: TimeOptions
) -> TimeFormat:
    """Return how the cells are read, before the order of a date is known."""
    texts = (cell for column in cells for cell in some_text(column))
    base = TimeFormat(tuple(names), months=shared_months(texts))
    if len(cells) > 1 and is_milliseconds(names[-1], cells[-1]):
        base = replace(base, has_milliseconds=True)
        cells, names = cells[:-1], names[:-1]
    if len(cells) > 1 and is_half(names[-1], cells[-1]):
        base = replace(base, has_half=True)
        cells, names = cells[:-1], names[:-1]
    if len(cells) > 1:
        pair = (
            counted_of(cells, names)
            or (pair_of(cells, names) if len(cells) == 2 else None)
            or parts_of(cells, names)
        )
        if isinstance(pair, Counted) and options.time_format is None:
            base = replace(base, notes=(pair.note(names),))
        if options.time_format is not None and len(cells) == 2 and _is_in_digits(pair):
            date = pair.date if isinstance(pair, Pair) else 0
            pair = Pair(date, "as_it_is", "as_it_is")
        if pair is None and (pair := parts_by_values(cells, names)) is not None:
            base = replace(base, notes=(note_on(pair, names),))
        if isinstance(pair, Parts) and pair.is_of_months:
            note = f"{base.label} tell no day: each row counts as of the first of its month."
            base = replace(base, notes=(*base.notes, note))
        if pair is None:
            are = "The two columns are" if len(cells) == 2 else f"The {len(cells)} columns are"
            raise InvalidDataError(
                f"{are} no date and time of day, or could be either.",
                field=base.label,
                remedy="Write them as 2026-01-05 and 08:00:00, or name one column with both; or "
                "those of the year, month, day, hour and minute, whose names say so.",
            )
        base = replace(base, pair=pair)
    elif not cells:
        raise InvalidDataError(
            "No column is named for the time.",
            field="--time",
            remedy="Name one, or two: a date and a time of day.",
        )
    if options.time_format is not None:
        return _as_given(base, cells, options.time_format)
    if base.pair is not None or base.has_half:
        return base
    return _draft_of_one(base, cells[0])


def _is_in_digits(pair: Pair | Parts | Counted | None) -> bool:
    """Return whether columns are put together only in a form that the user gives."""
    return pair is None or pair.date_style == "digits"


def _with_zone(form: TimeFormat, options: TimeOptions) -> TimeFormat:
    """Return the format with the zone that the user states, or else the name of a column."""
    if options.timezone:
        return replace(form, zone=zone_named(options.timezone).key)
    for name in form.names:
        zone = zone_in(name)
        if isinstance(zone, str):
            return replace(form, zone=zone)
        if zone is not None:
            return replace(form, ahead=zone)
    return form


def _notes_on_zone(form: TimeFormat, read: Written) -> Iterator[str]:
    """Yield a note if the name of a column tells a zone that is open."""
    if form.zone is not None or form.ahead is not None or read.is_zoned.any():
        return
    words = [word for name in form.names for word in _BRACKETED.findall(name)]
    for word in words:
        if not all(one.lower() in OFFSETS or is_zone_word(one) for one in word.split("/")):
            continue
        yield (
            f"{form.label} names the zone {word}, which several places have, or only in winter: "
            "its times are taken as UTC. Name the place with --timezone, such as Europe/Paris."
        )


def _future(form: TimeFormat, times: NDArray[np.datetime64]) -> Iterator[str]:
    """Yield a note if numbers are times to come, as those that count something else are."""
    if form.kind != "numbers" or not len(times):
        return
    in_a_year = np.datetime64(dt.datetime.now(dt.UTC).replace(tzinfo=None), "us") + 366 * DAY
    if times[-1] > in_a_year:
        yield (
            f"The times lie in the future, up to {written(int(times[-1].astype(np.int64)))}. If "
            "the numbers count something else, say what with --time-format."
        )


def _past(
    form: TimeFormat, cells: Sequence[pa.ChunkedArray], times: NDArray[np.datetime64]
) -> Iterator[str]:
    """Yield a note if years of two digits lie before there were any readings of today."""
    if form.kind != "text" or not len(times):
        return
    if times[0] >= FIRST_LIKELY:
        if len(cells) == 1 and is_on_day_zero(cells[0]):
            yield (
                f"All times lie on {str(times[0])[:10]}, which programs write before a time of day "
                "without a date. --time names the column with the date, too."
            )
        return
    sample = cell_of(form, cells, 0)
    shape = shape_of(shape_text(sample))
    year = None if shape is None else shape.year_of(form.order)
    if year is not None and year[1] - year[0] == 2:
        yield (
            f"{sample!r} is read as of the year {str(times[0])[:4]}: years of two digits are those "
            "from 1969 to 2068. If that is wrong, write them with four digits."
        )


def _draft_of_one(base: TimeFormat, column: pa.ChunkedArray) -> TimeFormat:
    """Return how one column is read."""
    import pyarrow as pa

    if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
        return replace(base, kind="instants")
    numbers = all_numbers(column)
    if numbers is not None:
        if date_style_of(column, base.label) == "digits":
            return replace(base, pair=Parts(("date",), "digits"))
        if is_text(column.type):
            _refuse_leading_zeros(base, column)
        return _draft_of_numbers(base, numbers)
    if pa.types.is_time(column.type) or all(
        is_time_of_day(shape_text(cell)) and shape_of(shape_text(cell)) is None
        for cell in some_text(column) or [""]
    ):
        raise InvalidDataError(
            "There is a time of day, but no date.",
            field=base.label,
            remedy="Name the column with the date, too, or leave out the time: rows are then "
            "counted.",
        )
    if not is_text(column.type) and not pa.types.is_null(column.type):
        raise InvalidDataError(
            f"Values of the type {column.type} are no times.", field=base.label, remedy=HOW_TO_WRITE
        )
    return base


def _draft_of_numbers(base: TimeFormat, numbers: Numbers) -> TimeFormat:
    """Return what numbers count.

    Raises
    ------
    InvalidDataError
        If they are no times, or could count several things.
    """
    finite = numbers[np.isfinite(numbers)]
    if not len(finite):
        return replace(base, kind="numbers", unit="s")
    if almost := almost_calendar(numbers):
        unit, row = almost
        if np.isfinite(numbers[row]):
            raise InvalidDataError(
                f"{numbers[row]:.0f} in row {row + 1} is no date in the form {WORDS[unit]}, as "
                "most others are.",
                field=base.label,
                remedy="Correct or remove the row.",
            )
        return replace(base, kind="numbers", unit=unit)
    if are_decimal_years(base.label, finite):
        note = (
            f"Numbers such as {_shown(finite[0])} are read as {WORDS['year']}, so that times are "
            "rounded as these are."
        )
        return replace(base, kind="numbers", unit="year", notes=(note,))
    words = {word.lower() for word in re.findall(r"[^\W\d_]+", base.label)}
    if "mjd" in words and could_be_days(finite, "mjd"):
        return replace(base, kind="numbers", unit="mjd")
    unit_found = unit_of(finite)
    could_mean = meanings(finite)
    if unit_found == "s" and "gps" in words and not is_elapsed(finite, "s"):
        could_mean = ((WORDS["s"], "s"), (WORDS["gps"], "gps"))
    elif unit_found is not None:
        is_count = unit_found in PER_SECOND and not is_elapsed(finite, unit_found)
        if is_count and is_rounded(finite, unit_found):
            raise InvalidDataError(
                f"{_shown(finite[0])} comes in many rows: the numbers have lost their last digits, "
                "as in a spreadsheet, and tell no times.",
                field=base.label,
                remedy="Export the times with all of their digits.",
            )
        notes = (
            (
                "The numbers count from a start, not from 1970: they are taken as seconds, and "
                "the dates mean nothing.",
            )
            if is_elapsed(finite, unit_found)
            else ()
        )
        if unit_found == "ymdh":
            notes = (
                f"Numbers such as {_shown(finite[0])} are read as {WORDS['ymdh']}. If they are "
                f"{WORDS['s']}, say --time-format s.",
            )
        return replace(base, kind="numbers", unit=unit_found, notes=notes)
    if not could_mean:
        raise InvalidDataError(
            f"Numbers from {_shown(finite.min())} to {_shown(finite.max())} are no times in "
            "seconds, milliseconds, microseconds or nanoseconds since 1970.",
            field=base.label,
            remedy=HOW_TO_WRITE,
        )
    raise InvalidDataError(
        f"{_shown(finite[0])} in row 1 can be {' or '.join(words for words, _ in could_mean)}.",
        field=base.label,
        remedy="Say which with "
        + " or ".join(f"--time-format {option}" for _, option in could_mean)
        + ".",
    )


def _shown(number: Any) -> str:
    return f"{number:.15g}"


def _refuse_leading_zeros(base: TimeFormat, column: pa.ChunkedArray) -> None:
    """Check that digits are a number: 05022024 is a date in a form that the user must give.

    Raises
    ------
    InvalidDataError
        If one begins with a zero, and all have the same length.
    """
    texts = [cell.strip() for cell in some_text(column)]
    is_padded = any(len(text) > 5 and text[0] == "0" and text.isdigit() for text in texts)
    if is_padded and len(set(map(len, texts))) == 1:
        raise InvalidDataError(
            f"{texts[0]!r} can be a number or a date.",
            field=base.label,
            remedy="Give its form with --time-format, such as %d%m%Y.",
        )


def _as_given(base: TimeFormat, cells: Sequence[pa.ChunkedArray], form: str) -> TimeFormat:
    """Return how cells are read in the form that the user gave.

    Raises
    ------
    InvalidDataError
        If the form has no year, or does not go with what the columns hold.
    """
    import pyarrow as pa

    if base.pair is None and pa.types.is_timestamp(cells[0].type):
        return replace(base, kind="instants")
    if (unit := _unit_named(form)) is not None:
        if base.pair is not None or all_numbers(cells[0]) is None:
            raise InvalidDataError(
                f"{base.label} does not hold numbers, which {WORDS[unit]} are.",
                field="--time-format",
                remedy="Give a form as for strptime, such as %d/%m/%Y %H:%M.",
            )
        return replace(base, kind="numbers", unit=unit)
    if not any(part in form for part in ("%Y", "%y", "%G", "%c", "%x")):
        raise InvalidDataError(
            f"The form {form!r} has no year.",
            field="--time-format",
            remedy="Give one as for strptime, such as %d/%m/%Y %H:%M.",
        )
    _require_form(form)
    return replace(base, kind="given", given=form)


def _unit_named(form: str) -> Unit | None:
    """Return what numbers count by ``--time-format``; None for a form as for ``strptime``."""
    return next((unit for unit in UNITS if unit == form), None)


def has_form(column: pa.ChunkedArray, form: str) -> bool:
    """Return whether some cells of a column have the form of ``--time-format``.

    Raises
    ------
    InvalidDataError
        If the form is none.
    """
    import pyarrow as pa

    if pa.types.is_timestamp(column.type):
        return True
    if not len(column):
        return False
    rows = np.unique(np.linspace(0, len(column) - 1, 64).astype(int))
    some = pa.array([column[int(row)].as_py() for row in rows], column.type)
    if _unit_named(form):
        return all_numbers(pa.chunked_array([some])) is not None
    _require_form(form)
    if not (is_text(column.type) or all_numbers(pa.chunked_array([some])) is not None):
        return False
    present = np.asarray(
        [cell is not None and str(cell).strip() != "" for cell in some.to_pylist()]
    )
    is_wrong = read_given(some, form).is_wrong
    return bool(present.any() and np.mean(is_wrong[present]) <= 0.1)


def _require_form(form: str) -> None:
    import pandas as pd

    try:
        pd.to_datetime(pd.Series(["2024"]), format=form, errors="coerce")
    except (ValueError, re.error) as error:
        raise InvalidDataError(
            f"The form {form!r} is none for times: {error}.",
            field="--time-format",
            remedy="Give one as for strptime, such as %d/%m/%Y %H:%M.",
        ) from error


def _readings(
    base: TimeFormat, cells: Cells, options: TimeOptions, hints: Sequence[Hint]
) -> tuple[dict[Order, Written], dict[Order, Fault]]:
    """Return the times by each order of the numbers of a date that fits all rows.

    Of each of the others, the first cell that it does not fit.

    Raises
    ------
    InvalidDataError
        If none does; it names the row that the best of them reaches.
    """
    readings: dict[Order, Written] = {}
    faults: dict[Order, Fault] = {}
    first: Order = "mdy" if options.day_first is False else "dmy"
    seen: set[Order] = {first}
    for order in (first, *(order for order in ORDER_WORDS if order != first)):
        if order not in seen or (options.day_first is not None and order != first):
            continue
        read, fault = _read_all(replace(base, order=order), cells)
        seen |= read.orders
        if fault is None:
            readings[order] = read
        else:
            faults[order] = fault
    is_year_first = base.kind == "text" and options.day_first is None and not seen - {first}
    is_expected = any(hint.order == "ydm" for hint in hints)
    if is_year_first and (is_expected or not readings or _jumps(readings[first].times)):
        # Nobody writes so by custom: it must fit all rows, and ascend.
        read, fault = _read_all(replace(base, order="ydm"), cells)
        is_enough = len(read.times) > 1 or is_expected
        if fault is None and is_enough and (np.diff(read.times) >= 0).all():
            readings["ydm"] = read
    if not readings:
        best = max(faults.values(), key=lambda fault: fault.row)
        _refuse_cell(replace(base, order=first), best, options, len(faults) > 1)
    return readings, faults


def _jumps(times: NDArray[np.int64]) -> bool:
    """Return whether a step is as long as a month, as where the day is taken for the month."""
    return len(times) > 1 and bool(np.diff(times).max() > 27 * DAY)


def _why(
    order: Order,
    readings: Mapping[Order, Written],
    faults: Mapping[Order, Fault],
    options: TimeOptions,
    sample: str,
) -> str:
    """Return why the numbers of a date have an order; empty if no other was possible."""
    said = f"Dates are read as {ORDER_WORDS[order]}"
    if options.day_first is not None:
        return f"{said}, as stated" if order in ("dmy", "mdy") else ""
    refused = [
        f"{fault.cell!r} in row {fault.row + 1} is not {ORDER_WORDS[other]}"
        for other, fault in faults.items()
        if fault.cell
    ]
    if refused:
        return f"{said}: {', and '.join(refused)}"
    if len(readings) < 2:
        return ""
    if not any((np.diff(read.times) < -HOUR).any() for read in readings.values()):
        custom = "the name of a month" if has_month_name(sample) else "dots"
        return f"{said}, as is usual with {custom}"
    return f"{said}: in another order, the times do not ascend"


def _read_all(form: TimeFormat, cells: Cells) -> tuple[Written, Fault | None]:
    """Return the times up to the first cell without one, and that cell."""
    parts: list[Written] = []
    n_rows = 0
    fault = None
    all_pieces = list(aligned(cells))
    all_read = on_all_cores(form.read, all_pieces, len(cells[0]))
    for piece, read in zip(all_pieces, all_read, strict=False):
        parts.append(read)
        if fault := fault_in(form, piece, read, n_rows):
            break
        n_rows += len(read.times)
    return Written.of(parts), fault


def _refuse_cell(
    form: TimeFormat,
    fault: Fault,
    options: TimeOptions | None = None,
    has_orders: bool = False,
) -> NoReturn:
    """Say what is wrong with a cell.

    Raises
    ------
    InvalidDataError
        Always.
    """
    place = f"row {fault.row + 1}"
    if not fault.cell:
        raise InvalidDataError(
            f"There is no time in {place}.",
            field=form.label,
            remedy="Write it, or remove the rows without one.",
        )
    what, remedy = f"{fault.cell!r} in {place} is no time in a known form.", HOW_TO_WRITE
    shape = shape_of(shape_text(fault.cell)) if form.kind == "text" else None
    if form.given is not None:
        what = f"{fault.cell!r} in {place} does not have the form {form.given!r}."
        remedy = "Give the form that all rows have with --time-format."
    elif shape is None and means_several_months(fault.cell):
        what = f"The month of {fault.cell!r} in {place} is another in another language."
        remedy = "Write the months as numbers."
    elif shape is not None and shape.zone and shape.zone not in form.zones:
        zone = shape.zone.upper()
        if form.zone is not None and is_zone_word(shape.zone):
            what = f"{form.zone} calls no time {zone}, as {fault.cell!r} in {place} does."
            remedy = "Name a place that does with --timezone."
        elif is_zone_word(shape.zone):
            what = f"The zone {zone} of {fault.cell!r} in {place} is one of several."
            remedy = "Name a place that has it with --timezone, such as America/New_York."
    elif shape is not None and options is not None and options.day_first is not None:
        option = "--day-first" if options.day_first else "--month-first"
        what, remedy = f"{fault.cell!r} in {place} does not go with {option}.", "Leave it out."
    elif shape is not None and has_orders:
        what = (
            f"{fault.cell!r} in {place} does not fit the other rows, with the day first or the "
            "month."
        )
        remedy = "Correct the row, or give the form with --time-format."
    elif shape is not None:
        what, remedy = f"{fault.cell!r} in {place} does not exist.", "Correct or remove the row."
    raise InvalidDataError(what, field=form.label, remedy=remedy)


def _order(
    base: TimeFormat, cells: Cells, readings: Mapping[Order, Written], hints: Sequence[Hint]
) -> tuple[Order, tuple[str, ...]]:
    """Return what the numbers of a date mean, and a note if the values alone do not tell.

    Raises
    ------
    InvalidDataError
        If several meanings make sense, and the steps between the rows differ.
    """
    times = {order: read.times for order, read in readings.items()}
    sample = cell_of(base, cells, 0)
    hinted = [hint.order for hint in hints]
    choose = partial(chosen_year_first, times) if "ydm" in times else partial(chosen, times, sample)
    found = choose(hinted)
    if found is None:
        row, meant = _difference(times)
        raise InvalidDataError(
            f"{cell_of(base, cells, row)!r} in row {row + 1} can be {' or '.join(meant)}, and the "
            "other rows do not tell which.",
            field=base.label,
            remedy=f"Say {_remedies(times)}.",
        )
    order, reason = found
    others = {other: values for other, values in times.items() if other != order}
    if reason == "hint":
        hint = next(hint for hint in hints if hint.order == order)
        wrong = f" If that is wrong, say {_remedies(others)}." if hint.column is None else ""
        return order, (
            f"Dates such as {sample!r} are read as {ORDER_WORDS[order]}, {hint.agrees}.{wrong}",
        )
    if order == "ydm":
        return order, (
            f"Dates such as {sample!r} are read as {ORDER_WORDS[order]}: in another order, some "
            "do not exist, or follow each other by months.",
        )
    note = f"Dates such as {sample!r} are read as {ORDER_WORDS[order]}"
    if reason == "steps":
        return order, (
            f"{note}, since the steps between rows are then even. If that is wrong, "
            f"say {_remedies(others)}.",
        )
    if reason == "dots":
        return order, (
            f"{note}, as is usual with dots. If that is wrong, say {_remedies(others)}.",
        )
    return order, ()


def _difference(times: Mapping[Order, NDArray[np.int64]]) -> tuple[int, list[str]]:
    """Return the first row in which times differ by their order, and its dates."""
    first, *others = times.values()
    row = min(int(np.argmax(first != other)) for other in others if (first != other).any())
    dates = dict.fromkeys(
        str(np.datetime64(int(values[row]), "us"))[:10] for values in times.values()
    )
    return row, list(dates)


def _remedies(orders: Sequence[Order] | Mapping[Order, Any]) -> str:
    """Return the options that choose one of the orders."""
    options = [{"dmy": "--day-first", "mdy": "--month-first"}.get(order) for order in orders]
    return " or ".join([*(option for option in options if option), "--time-format"])


def _require_one_kind_of_zone(form: TimeFormat, read: Written) -> None:
    """Check that either all times have a zone or none, unless the user has named it.

    Raises
    ------
    InvalidDataError
        If only some have one.
    """
    if form.zone is None and read.is_zoned.any() and not read.is_zoned.all():
        row = int(np.argmax(read.is_zoned != read.is_zoned[0]))
        has = "has a zone, and the rows above it have" if read.is_zoned[row] else "has"
        none = "none" if read.is_zoned[row] else "no zone, but the rows above it have one"
        raise InvalidDataError(
            f"The time in row {row + 1} {has} {none}.",
            field=form.label,
            remedy="Name the zone of those without one with --timezone.",
        )


def _with_changes(form: TimeFormat, read: Written) -> TimeFormat:
    """Return the format with what the order of the rows tells: clocks set back, repeated times.

    Raises
    ------
    InvalidDataError
        If the newest row stands first.
    """
    steps = np.diff(read.times)
    if len(steps) and steps.max() <= 0 and steps.min() < 0:
        raise InvalidDataError(
            f"The newest row stands first: the times go from {written(int(read.times[0]))} back to "
            f"{written(int(read.times[-1]))}.",
            field=form.label,
            remedy="Sort the rows by time, so that the oldest stands first.",
        )
    n_same = int(np.count_nonzero(steps == 0))
    form = replace(form, repeats=n_same > max(2, 0.05 * len(steps)))
    if form.repeats and not (read.times % DAY).any():
        note = "The times are dates without a time of day, so that rows of one day have one time."
        form = replace(form, notes=(*form.notes, note))
    if form.zone is not None or read.is_zoned.any():
        return form
    found = (changes(read.times) or ()) if len(steps) and steps.min() <= 0 else ()
    notes = tuple(
        f"The clock was set back by {change.by // MINUTE} minutes at row {change.row}, from "
        f"{written(change.before)} to {written(change.after)}: the rows from there on are taken as "
        "that much later than they say. Name the zone with --timezone to read the times right."
        for change in found
    )
    return replace(form, changes=found, notes=(*form.notes, *notes))


def _refuse_order(form: TimeFormat, before: int, time: int, row: int) -> NoReturn:
    """Say that a time is before that of the row above.

    Raises
    ------
    InvalidDataError
        Always.
    """
    remedy = "Sort the rows by time, or remove those that go back."
    if before - time <= HOUR and form.zone is None:
        remedy += " If a clock was set back, name its zone with --timezone."
    raise InvalidDataError(
        f"The times are not ascending: see row {row}, where {written(before)} is followed by "
        f"{written(time)}.",
        field=form.label,
        remedy=remedy,
    )
