"""Find the columns of a table that hold the times, by what they hold."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from vigie.tables.counted_parts import find_counted
from vigie.tables.counted_times import (
    DAY_ZERO,
    PER_SECOND,
    Numbers,
    Unit,
    are_decimal_years,
    could_be_days,
    has_times_of_day,
    is_elapsed,
    meanings,
    unit_of,
)
from vigie.tables.local_times import is_zone_name
from vigie.tables.paired_times import (
    all_numbers,
    clock_style_of,
    date_style_of,
    is_named_date,
    is_on_day_zero,
    is_text,
    pair_of,
    some_text,
)
from vigie.tables.time_parts import find_half, find_milliseconds, find_parts
from vigie.tables.unnamed_parts import find_by_values
from vigie.tables.written_times import (
    ORDERS,
    Order,
    Written,
    as_text,
    read_written,
    shape_of,
    shape_text,
    told_in_english,
)

if TYPE_CHECKING:
    import pyarrow as pa

Holds = Literal["times", "dates", "clock", "years"]
Way = Literal[0, 1, 2]
FORWARD: Final = 0
BACKWARD: Final = 1
BOTH_WAYS: Final = 2

EXACT = tuple(
    name
    for names in (
        "timestamp datetime time date ts zeitstempel datumuhrzeit zeit datum uhrzeit horodatage",
        "dateheure heure fecha hora fechahora fechayhora tijd tijdstip tijdstempel datumtijd",
        "dataora ora orario datahora czas godzina čas cas datumačas datum dátum idő időpont",
        "időbélyeg dátumidő vrijeme tid tidpunkt tidspunkt dato aika päivämäärä aikaleima tarih",
        "saat zaman время датавремя дата час 时间 日期 日期时间 时间戳",
        "時間 日時 時刻 日付 시간 일시 날짜 시각 utc",
    )
    for name in names.split()
)
"""Names of columns with times, letters only, the plainest first."""
IN_TEXT = frozenset((*EXACT, "data", "datumvrijeme", "datumvreme"))
"""Further names of columns whose text is a time; "data" is English, too."""
_TIMES = (
    "time timestamp datetime date ts epoch clock hour utc gps mjd jd",
    "zeit zeitstempel datum uhrzeit tag",
    "horodatage horodate heure jour fecha hora",
    "tijd tijdstip ora orario czas godzina čas idő dátum vrijeme tid tidpunkt tidspunkt dato aika",
    "aika tarih saat zaman время дата час",
)
WORDS = frozenset(word for words in _TIMES for word in words.split())
_SIGNS = re.compile("时间|時間|日時|時刻|日期|日付|时刻|시간|일시|날짜|시각")
_ZONES = frozenset(("utc", "gmt", "local", "lokal", "locale"))
"""Words that say which of several clocks it is."""
_FILED_WORDS = (
    "ingestion ingested ingest created inserted received arrival processed stored written loaded "
    "uploaded upload enqueued updated modified exported logged server"
)
_FILED = frozenset(_FILED_WORDS.split())
"""Words that say that a clock is one of a program that kept the values later."""
_DURATIONS = (
    "duration elapsed runtime run cycle uptime up operating lap since lifetime",
    "dauer laufzeit durée duree",
)
SPANS = frozenset(word for words in _DURATIONS for word in words.split())
"""Words in the names of columns that hold how long something took."""
MODERN = (946_684_800, 4_102_444_800)
"""From 2000 to 2100, in seconds since 1970: counts outside are those of something else."""
N_SAMPLE = 256
"""About as many cells tell whether a column of numbers can hold times."""
ENOUGH = 0.9
"""Share of cells that must be times; a few wrong ones are faults to be named."""


@dataclass(frozen=True)
class _Found:
    """A column that may hold times.

    Attributes
    ----------
    holds : {"times", "dates", "clock", "years"}
        Both a date and a time of day, or one of them; or years with decimals.
    is_full : bool
        Whether nearly every row has a value.
    way : {0, 1, 2}
        Whether the times go forward, backward, or both ways.
    """

    name: str
    holds: Holds
    place: int
    is_full: bool
    way: Way

    @property
    def rank(self) -> tuple[bool, bool, int, int, bool, bool, int]:
        """What makes a column the one with the times, the best first."""
        letters = _letters(self.name)
        exact = EXACT.index(letters) if letters in EXACT else len(EXACT)
        is_utc = is_of_utc(self.name) and exact < len(EXACT) and self.way != BOTH_WAYS
        named = is_named(self.name)
        late = bool(_words(self.name) & _FILED)
        return not self.is_full, not is_utc, exact, self.way, late, not named, self.place


def find_clock(columns: Mapping[str, pa.ChunkedArray], rows: int) -> tuple[str, ...]:
    """Return the names of the columns that hold the times.

    Parameters
    ----------
    columns : mapping of pyarrow.ChunkedArray of shape (n_rows,)
        The columns, as read: text, numbers or times.
    rows : int
        Number of rows.

    Returns
    -------
    tuple of str
        One name; two for a date and a time of day, in this order; none if there are no times, or
        only those of a clock that began at 0.
    """
    if rows == 0:
        named = [name for name in columns if _letters(name) in EXACT]
        return tuple(sorted(named, key=lambda name: EXACT.index(_letters(name))))[:1]
    found = [
        one
        for place, (name, column) in enumerate(columns.items())
        if (one := _look_at(name, column, place)) is not None
    ]
    kinds: dict[Holds, list[_Found]] = {"times": [], "dates": [], "clock": [], "years": []}
    for one in sorted(found, key=lambda one: one.rank):
        kinds[one.holds].append(one)
    names = _chosen(kinds, columns)
    if not names:
        return ()
    return (*names, *find_half(columns, names), *find_milliseconds(columns, names))


def _chosen(
    kinds: Mapping[Holds, Sequence[_Found]], columns: Mapping[str, pa.ChunkedArray]
) -> tuple[str, ...]:
    """Return the plainest columns of those that hold times, dates and times of day."""
    dates = [one.name for one in kinds["dates"]]
    if kinds["times"]:
        first = kinds["times"][0].name
        return (dates[0], first) if dates and is_on_day_zero(columns[first]) else (first,)
    counted = find_counted(columns, dates)
    if counted and not any(is_named(one.name) for one in kinds["clock"] if one.name not in counted):
        return counted
    named = [one.name for one in kinds["clock"] if is_named(one.name) or is_zone_name(one.name)]
    parts = find_parts(columns, dates, named)
    for date in kinds["dates"]:
        clocks = [one for one in kinds["clock"] if _belongs(one, date, columns)]
        if clocks and clocks[0].name not in parts:
            return date.name, clocks[0].name
    if len(parts) < 2 and (found := find_by_values(columns, dates)):
        return found
    of_days = [name for name in dates[:1] if _changes(columns[name])]
    return parts or tuple(of_days or [one.name for one in kinds["years"][:1]])


def is_named(name: str) -> bool:
    """Return whether a word in a name says that a column holds times."""
    return bool(_words(name) & WORDS) or _SIGNS.search(name) is not None


def names_times(name: str) -> bool:
    """Return whether a name is one for times: a word in it says so, or all of it."""
    return is_named(name) or is_plainly_named(name)


def is_plainly_named(name: str) -> bool:
    """Return whether a name says nothing but that a column holds times."""
    return _letters(name) in IN_TEXT


def is_of_utc(name: str) -> bool:
    """Return whether a name says that times are UTC."""
    return bool(_words(name) & {"utc", "gmt"}) and re.search(r"[-+−] ?\d", name) is None


def _look_at(name: str, column: pa.ChunkedArray, place: int) -> _Found | None:
    """Return what a column holds; None if it holds no times."""
    import pyarrow as pa

    if not len(column) or pa.types.is_null(column.type):
        return None
    is_full = column.null_count <= 0.05 * len(column)
    if pa.types.is_temporal(column.type):
        return _look_at_instants(name, column, place, is_full)
    some = _sample(column)
    numbers = all_numbers(some)
    if numbers is not None:
        # Most columns are readings, which a few of their values tell.
        whole = all_numbers(column) if _may_be_times(name, some, numbers) else None
        return None if whole is None else _look_at_numbers(name, column, whole, place)
    return _look_at_text(name, column, place) if is_text(column.type) else None


def _sample(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return some cells from all over a column."""
    import pyarrow as pa

    rows = range(0, len(column), max(1, len(column) // N_SAMPLE))
    return pa.chunked_array([pa.array([column[row].as_py() for row in rows], column.type)])


def _may_be_times(name: str, some: pa.ChunkedArray, numbers: Numbers) -> bool:
    """Return whether numbers could be times, dates or times of day, but for their order."""
    finite = numbers[np.isfinite(numbers)]
    if not len(finite):
        return True
    unit = unit_of(finite)
    is_unclear = unit is None and (bool(meanings(finite)) or could_be_days(finite, "excel"))
    is_counted = unit is not None and not is_elapsed(finite, unit)
    is_written = clock_style_of(some, name) is not None or date_style_of(some, name) is not None
    return is_unclear or is_counted or is_written or are_decimal_years(name, finite)


def _look_at_instants(
    name: str, column: pa.ChunkedArray, place: int, is_full: bool
) -> _Found | None:
    import pyarrow as pa

    if pa.types.is_time(column.type):
        return _Found(name, "clock", place, is_full, way=BOTH_WAYS)
    if not (pa.types.is_timestamp(column.type) or pa.types.is_date(column.type)):
        return None
    times = column.cast(pa.timestamp("us"), safe=False).drop_null().to_numpy().astype(np.int64)
    # A workbook and other programs write a date as its midnight.
    is_date = pa.types.is_date(column.type) or date_style_of(column) is not None
    holds: Holds = "dates" if is_date else "times"
    return _Found(name, holds, place, is_full, _way(times))


def _look_at_numbers(
    name: str, column: pa.ChunkedArray, numbers: Numbers, place: int
) -> _Found | None:
    finite = numbers[np.isfinite(numbers)]
    if not len(finite):
        return None
    is_full = len(finite) >= 0.95 * len(numbers)
    if are_decimal_years(name, finite):
        return _Found(name, "years", place, is_full, _way(finite))
    if is_named_date(name) and date_style_of(column, name) == "digits":
        return _Found(name, "dates", place, is_full, way=BOTH_WAYS)
    unit = unit_of(finite)
    if unit is None:
        # Times of some kind: the user is asked which.
        is_times = is_named(name) and _way(finite) != BOTH_WAYS and not _words(name) & SPANS
        is_whole = bool((finite == np.rint(finite)).all())
        is_reading = could_be_days(finite, "excel") and not (is_whole or has_times_of_day(finite))
        is_unclear = bool(meanings(finite)) and not is_reading
        if is_times and is_unclear:
            return _Found(name, "times", place, is_full, _way(finite))
    elif unit == "ymd":
        if is_named(name) or _goes_one_way(finite):
            return _Found(name, "dates", place, is_full, _way(finite))
        return None
    elif not is_elapsed(finite, unit) and _is_clock(name, finite, unit):
        return _Found(name, "times", place, is_full, _way(finite))
    if not _words(name) & SPANS and clock_style_of(column, name):
        return _Found(name, "clock", place, is_full, way=BOTH_WAYS)
    return None


def _is_clock(name: str, values: Numbers, unit: Unit) -> bool:
    """Return whether numbers that could be times are times, rather than readings."""
    if unit in PER_SECOND:
        per_second = PER_SECOND[unit]
        is_modern = MODERN[0] * per_second <= values.min() <= values.max() < MODERN[1] * per_second
        return is_modern and (is_named(name) or _goes_one_way(values))
    if unit in DAY_ZERO:
        return is_named(name) or (_goes_one_way(values) and _is_even(values))
    return is_named(name) or _goes_one_way(values)


def _look_at_text(name: str, column: pa.ChunkedArray, place: int) -> _Found | None:
    import pyarrow as pa

    cells = told_in_english(some_text(column))
    is_clock = bool(clock_style_of(column, name))
    shapes = [shape_of(shape_text(cell)) for cell in cells]
    known = [shape for shape in shapes if shape is not None]
    if any(shape.of_year and shape.is_date for shape in known) and not is_plainly_named(name):
        # Numbers of parts and lots look like the days of a year.
        return None
    if not cells or len(known) < ENOUGH * len(cells):
        return _Found(name, "clock", place, is_full=True, way=BOTH_WAYS) if is_clock else None
    is_full = column.null_count <= 0.05 * len(column)
    orders: Sequence[Order] = max((shape.orders for shape in known), key=len)
    fitting: list[Way] = []
    for order in (*orders, *(("ydm",) if all(shape.may_be_ydm for shape in known) else ())):
        if order == "ydm" and fitting:
            break
        read = read_written(pa.array(cells, pa.string()), order)
        if np.count_nonzero(read.is_wrong) <= (1 - ENOUGH) * len(cells):
            fitting.append(_way(read.times[~read.is_wrong]))
    way: Way = min(fitting, default=BOTH_WAYS)
    if is_clock and way == BOTH_WAYS:
        return _Found(name, "clock", place, is_full, way=BOTH_WAYS)
    # Zones that several places share are wrong here, but still times.
    if not fitting and not any(shape.zone for shape in known):
        return None
    is_dates = date_style_of(column) is not None
    return _Found(name, "dates" if is_dates else "times", place, is_full, way)


def _belongs(clock: _Found, date: _Found, columns: Mapping[str, pa.ChunkedArray]) -> bool:
    """Return whether a time of day goes with a date, rather than being how long something took.

    Without a name that says so, it stands beside a date of many rows, and the two ascend together.
    """
    if _words(clock.name) & SPANS:
        return False
    if is_named(clock.name):
        return True
    both = [columns[date.name], columns[clock.name]]
    if abs(clock.place - date.place) != 1 or 2 * len(both[0].unique()) > len(both[0]):
        return False
    pair = pair_of(both, (date.name, clock.name))
    if pair is None or pair.date != 0:
        return False
    orders = ORDERS
    joined = as_text(pair.joined([column.combine_chunks() for column in both]))
    return any(_goes_forward(read_written(joined, order)) for order in orders)


def _goes_forward(read: Written) -> bool:
    steps = np.diff(read.times)
    rises = np.count_nonzero(steps > 0) >= ENOUGH * len(steps)
    return bool(rises) and not read.is_wrong.any() and _way(read.times) == FORWARD


def _changes(column: pa.ChunkedArray) -> bool:
    """Return whether a column has more than one value, if it has more than one row."""
    return len(column) < 2 or len(column.unique()) > 1


def _way(values: Numbers) -> Way:
    """Return which way values go; a few may go the other way, as where a clock is set back."""
    steps = np.diff(values)
    rare = 0.01 * len(steps)
    if np.count_nonzero(steps < 0) <= rare:
        return FORWARD
    return BACKWARD if np.count_nonzero(steps > 0) <= rare else BOTH_WAYS


def _goes_one_way(values: Numbers) -> bool:
    """Return whether values ascend, or descend as where the newest row comes first."""
    steps = np.diff(values)
    return bool(len(steps) and steps.any() and ((steps >= 0).all() or (steps <= 0).all()))


def _is_even(days: Numbers) -> bool:
    """Return whether most steps between times counted in days are the same, to 2 ms."""
    steps = np.diff(days) * 86_400
    return bool(np.mean(np.abs(steps - np.median(steps)) < 2e-3) > 0.5)


def _letters(name: str) -> str:
    """Return the letters of a name in lower case, without the words for a zone."""
    words = _word_list(name)
    return "".join(word for word in words if word not in _ZONES) or "".join(words)


def _words(name: str) -> frozenset[str]:
    return frozenset(_word_list(name))


def _word_list(name: str) -> list[str]:
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()
    return re.findall(r"[^\W\d_]+", apart)
