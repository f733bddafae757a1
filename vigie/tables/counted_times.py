"""Read times that are numbers: counted since 1970 or 1899, or a calendar date in digits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from vigie.tables import names
from vigie.tables.written_times import DAY, HOUR, MINUTE, SECOND, Written, as_text, text_bytes

if TYPE_CHECKING:
    import pyarrow as pa

Since1970 = Literal["s", "ms", "us", "ns"]
Elsewhere = Literal["labview", "gps", "filetime", "ticks"]
Days = Literal["excel", "matlab", "mjd", "jd"]
Calendar = Literal["ymd", "ymdh", "ymdhm", "ymdhms", "ymdhmsf", "yymdhm", "yymdhms"]
Unit = Since1970 | Elsewhere | Days | Calendar | Literal["year"]
Numbers = NDArray[np.int64] | NDArray[np.float64]

PER_SECOND: dict[Unit, int] = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
LAST = 7_258_118_400
"""The end of what a count since 1970 may mean, in seconds: the year 2200."""
FIRST = 100_000_000
"""Counts below this many seconds (1973) are those of a clock that began at 0."""
ELSEWHERE: dict[Unit, tuple[int, int]] = {
    "labview": (1, -2_082_844_800),
    "gps": (1, 315_964_800),
    "filetime": (10**7, -11_644_473_600),
    "ticks": (10**7, -62_135_596_800),
}
"""Counts in a second, and what they begin at in seconds since 1970."""
LEAP_SECONDS = (599_184_013, 820_108_814, 914_803_215, 1_025_136_016, 1_119_744_017, 1_167_264_018)
"""GPS seconds at which the clock of GPS went 13, 14, ... 18 seconds ahead of UTC."""
DAY_ZERO: dict[Unit, float] = {
    "excel": -25_569,
    "matlab": -719_529,
    "mjd": -40_587,
    "jd": -2_440_587.5,
}
"""What days are counted from (such as 30 December 1899, the year 0), in days since 1970."""
LAST_DAY = 47_482
"""The end of what a count of days may mean, in days since 1970: the year 2100."""
N_DIGITS: dict[Unit, int] = {
    "ymd": 8,
    "ymdh": 10,
    "ymdhm": 12,
    "ymdhms": 14,
    "ymdhmsf": 17,
    "yymdhm": 10,
    "yymdhms": 12,
}
SHORT_YEARS: frozenset[Unit] = frozenset(("yymdhm", "yymdhms"))
MODERN = 946_684_800
"""The year 2000 in seconds since 1970."""
LATER = 2_524_608_000
"""The year 2050 in seconds since 1970: counts that lie behind it can be others."""
CALENDAR_YEARS = (1970, 2200)
DECIMAL_YEARS = (1900, 2101)
FEWEST_YEARS, FEWEST_EVEN = 3, 11
"""Rows that show years with decimals, and steps that do so without a name."""
WORDS: dict[Unit, str] = {
    "s": "seconds since 1970",
    "ms": "milliseconds since 1970",
    "us": "microseconds since 1970",
    "ns": "nanoseconds since 1970",
    "excel": "days since 30 December 1899, as Excel counts them",
    "matlab": "days since the year 0, as MATLAB counts them",
    "ymd": "yyyymmdd",
    "ymdh": "yyyymmddhh",
    "ymdhm": "yyyymmddhhmm",
    "ymdhms": "yyyymmddhhmmss",
    "ymdhmsf": "yyyymmddhhmmssfff",
    "yymdhm": "yymmddhhmm",
    "yymdhms": "yymmddhhmmss",
    "labview": "seconds since 1904, as LabVIEW counts them",
    "gps": "seconds since 6 January 1980, as GPS counts them",
    "filetime": "tenths of a microsecond since 1601, as Windows counts them",
    "ticks": "tenths of a microsecond since the year 1, as .NET counts them",
    "mjd": "modified Julian days",
    "jd": "Julian days",
    "year": "years with decimals",
}


def numbers_of(cells: pa.Array) -> Numbers | None:
    """Return cells as numbers of shape (n_cells,); None if one holds other text.

    An empty cell is nan. Whole numbers stay whole, since nanoseconds need all their digits.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_dictionary(cells.type):
        cells = cells.dictionary_decode()
    if pa.types.is_string(cells.type) or pa.types.is_large_string(cells.type):
        cells = _parsed(cells.cast(pa.string()))
        if cells is None:
            return None
    elif not (
        pa.types.is_integer(cells.type)
        or pa.types.is_floating(cells.type)
        or pa.types.is_decimal(cells.type)
    ):
        return None
    whole = pa.types.is_integer(cells.type) and not cells.null_count
    cells = pc.cast(cells, pa.int64() if whole else pa.float64(), safe=False)
    values: Numbers = cells.to_numpy(zero_copy_only=False)
    return values


def numbers_or_nan(cells: pa.Array) -> Numbers:
    """Return cells as numbers of shape (n_cells,), nan where they hold other text."""
    import pandas as pd

    values = numbers_of(cells)
    if values is None:
        text = as_text(cells).to_pandas().str.strip().str.replace(",", ".", regex=False)
        values = pd.to_numeric(text, errors="coerce").to_numpy(np.float64)
    return values


def _parsed(cells: pa.Array) -> pa.Array | None:
    """Return text as numbers; None if it holds anything else."""
    import pyarrow as pa
    import pyarrow.compute as pc

    data = text_bytes(cells)
    if (data == ord(" ")).any():
        cells = pc.utf8_trim_whitespace(cells)
    if (data == ord(",")).any():
        cells = pc.replace_substring(cells, ",", ".")
    is_whole = not np.isin(data, np.frombuffer(b".,eE", np.uint8)).any()
    # A cast that fails takes long, so that only the one that can succeed is tried.
    try:
        return cells.cast(pa.int64() if is_whole else pa.float64())
    except pa.ArrowInvalid:
        return None


def read_counted(values: Numbers, unit: Unit) -> Written:
    """Return the times that numbers mean.

    Parameters
    ----------
    values : ndarray of int64 or float64 of shape (n_cells,)
        Numbers.
    unit : str
        What they count, or how they write a date.
    """
    is_wrong = ~np.isfinite(values)
    values = values if values.dtype == np.int64 else np.where(is_wrong, 0, values)
    if unit in N_DIGITS:
        times, fits = _calendar(values, unit)
        is_wrong |= ~fits
    elif unit == "year":
        times, fits = _of_years(values)
        is_wrong |= ~fits
    elif unit in DAY_ZERO:
        # Excel rounds to a millisecond, and days are not written with more decimals than that.
        fits = np.abs(values) < LAST_DAY - DAY_ZERO[unit]
        days = np.where(fits, values, 0) + DAY_ZERO[unit]
        times = np.rint(days * 86_400_000.0).astype(np.int64) * 1000
        is_wrong |= ~fits
    elif unit in ELSEWHERE:
        times, fits = _since(values, unit)
        is_wrong |= ~fits
    else:
        times, fits = _since_1970(values, PER_SECOND[unit])
        is_wrong |= ~fits
    times = np.where(is_wrong, 0, times)
    is_utc = unit in PER_SECOND or unit in ("labview", "gps", "filetime")
    return Written(times, np.full(len(values), is_utc), is_wrong)


def _of_years(values: Numbers) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return the times that years with decimals mean, to a second."""
    fits = (values >= DECIMAL_YEARS[0]) & (values < DECIMAL_YEARS[1])
    years, part = np.divmod(np.where(fits, values, 1970.0), 1)
    first = (years.astype(np.int64) - 1970).astype("M8[Y]")
    begin = first.astype("M8[s]").astype(np.int64)
    length = (first + 1).astype("M8[s]").astype(np.int64) - begin
    return (begin + np.rint(part * length).astype(np.int64)) * SECOND, fits


def are_decimal_years(name: str, values: Numbers) -> bool:
    """Return whether numbers are years with decimals that go one way, by their name, too.

    Without a name, they go on in even steps.
    """
    is_named = names.has(name, names.YEAR)
    if len(values) < FEWEST_YEARS or not (is_named or names.is_numbered(name)):
        return False
    if not DECIMAL_YEARS[0] <= values.min() <= values.max() < DECIMAL_YEARS[1]:
        return False
    steps = np.diff(values)
    goes_one_way = (values % 1 != 0).any() and ((steps > 0).all() or (steps < 0).all())
    # They are rounded, and months are not of one length.
    is_even = len(steps) >= FEWEST_EVEN and np.ptp(steps) <= 0.2 * abs(np.median(steps))
    return bool(goes_one_way and (is_named or is_even))


def _since_1970(values: Numbers, per_second: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    fits = np.abs(values) < LAST * per_second
    values = np.where(fits, values, 0)
    if per_second > SECOND:
        return (values // (per_second // SECOND)).astype(np.int64), fits
    return np.rint(values * (SECOND // per_second)).astype(np.int64), fits


def _since(values: Numbers, unit: Unit) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return the times that are counted from another start than 1970."""
    per_second, start = ELSEWHERE[unit]
    fits = (values >= 0) & (values < (LAST - start) * per_second)
    values = np.where(fits, values, 0)
    if per_second > SECOND:
        times = (values // (per_second // SECOND)).astype(np.int64)
    else:
        times = np.rint(values * float(SECOND // per_second)).astype(np.int64)
    if unit == "gps":
        times -= (12 + np.searchsorted(LEAP_SECONDS, values, side="right")) * SECOND
    return times + start * SECOND, fits


def _calendar(values: Numbers, unit: Unit) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return the times that digits write, and which of them exist."""
    digits = values.astype(np.int64)
    fits = digits == values
    rest = digits
    times = np.zeros(len(digits), np.int64)
    if unit == "ymdhmsf":
        rest, part = np.divmod(rest, 1000)
        times += part * (SECOND // 1000)
    if unit in ("ymdhms", "ymdhmsf", "yymdhms"):
        rest, part = np.divmod(rest, 100)
        fits &= part < 60
        times += part * SECOND
    if unit not in ("ymd", "ymdh"):
        rest, part = np.divmod(rest, 100)
        fits &= part < 60
        times += part * MINUTE
    if unit != "ymd":
        rest, part = np.divmod(rest, 100)
        fits &= part < 24
        times += part * HOUR
    rest, day = np.divmod(rest, 100)
    year, month = np.divmod(rest, 100)
    if unit in SHORT_YEARS:
        year = np.where(year < 69, year + 2000, -1)
    fits &= (year >= CALENDAR_YEARS[0]) & (year < CALENDAR_YEARS[1])
    fits &= (month >= 1) & (month <= 12)
    first = (np.where(fits, year - 1970, 0) * 12 + month - 1).astype("M8[M]")
    length = ((first + 1).astype("M8[D]") - first.astype("M8[D]")).astype(np.int64)
    fits &= (day >= 1) & (day <= length)
    times += (first.astype("M8[D]").astype(np.int64) + day - 1) * DAY
    return times, fits


def almost_calendar(values: Numbers) -> tuple[Unit, int] | None:
    """Return the unit of dates in digits of which a few do not exist, and the first such row."""
    some = values[:: max(1, len(values) // 64)]
    for unit in N_DIGITS.keys() - SHORT_YEARS:
        # Few numbers are dates: some cells tell so at once.
        may_be = _calendar(np.where(np.isfinite(some), some, 0), unit)[1]
        if 2 * np.count_nonzero(may_be) < len(some):
            continue
        fits = _calendar(np.where(np.isfinite(values), values, 0), unit)[1]
        if 0.9 * len(fits) <= np.count_nonzero(fits) < len(fits):
            if unit == "ymdh" and not _writes_hours(values[fits]):
                continue
            return unit, int(np.argmin(fits))
    return None


def unit_of(values: Numbers) -> Unit | None:
    """Return what numbers count, or how they write a date, by all of them.

    Parameters
    ----------
    values : ndarray of int64 or float64 of shape (n_cells,)
        Numbers; nan is left out.

    Returns
    -------
    str or None
        None if they are no times, or could be several kinds of times.
    """
    values = values[np.isfinite(values)]
    if not len(values):
        return None
    if meanings(values):
        return None
    for unit in N_DIGITS:
        if is_calendar(values, unit):
            return unit
    days: Unit
    for days in ("excel", "matlab", "jd"):
        if could_be_days(values, days) and has_times_of_day(values):
            return days
    for unit, (per_second, start) in ELSEWHERE.items():
        # Smaller counts look like those since 1970.
        if per_second > SECOND and _is_modern(values / per_second + start):
            return unit
    return None if could_be_days(values, "excel") else _count(values)


def meanings(values: Numbers) -> tuple[tuple[str, str], ...]:
    """Return what numbers can count, in words and as ``--time-format`` takes it, if several.

    Parameters
    ----------
    values : ndarray of int64 or float64 of shape (n_cells,)
        Finite numbers.
    """
    seconds = (WORDS["s"], "s")
    has_short_year = is_calendar(values, "yymdhm")
    short_year = (WORDS["yymdhm"], "%y%m%d%H%M")
    if is_day_and_hour(values):
        if _writes_hours(values):
            return ()
        others = (short_year,) if has_short_year else ()
        return seconds, ("yyyymmddhh", "%Y%m%d%H"), *others
    if has_short_year and values.min() < LATER and not _crosses_hours(values):
        return seconds, short_year
    if could_be_days(values, "excel"):
        if not has_times_of_day(values):
            return ("seconds", "s"), (WORDS["excel"], "excel")
        if values.min() >= LATER / 86_400 - DAY_ZERO["excel"]:
            return (WORDS["excel"], "excel"), (WORDS["mjd"], "mjd")
    if values.min() >= LATER and _is_modern(values + ELSEWHERE["labview"][1]):
        return seconds, (WORDS["labview"], "labview")
    return ()


def _is_modern(seconds: Numbers) -> bool:
    """Return whether counts since 1970 lie between the years 2000 and 2050."""
    return bool(seconds.min() >= MODERN and seconds.max() < LATER)


def _crosses_hours(values: Numbers) -> bool:
    """Return whether numbers that can all be yymmddhhmm are no seconds since 1970.

    These would have some 60 to 99 in the place of the minutes, if they last for an hour.
    """
    return bool(np.ptp(values) >= 3600 and len(np.unique(values)) >= 20)


def is_rounded(values: Numbers, unit: Unit) -> bool:
    """Return whether a count since 1970 has lost its last digits, as in 1.76820E+12 of Excel."""
    steps = np.diff(values)
    is_coarse = bool((values % (1000 * PER_SECOND[unit]) == 0).all())
    return is_coarse and len(steps) > 0 and int(np.count_nonzero(steps == 0)) * 2 > len(steps)


def is_calendar(values: Numbers, unit: Unit) -> bool:
    """Return whether all numbers write a date of some unit."""
    if not 10 ** (N_DIGITS[unit] - 1) <= values.min() <= values.max() < 10 ** N_DIGITS[unit]:
        return False
    # Seconds have as many digits: the first of them tell.
    return all(bool(_calendar(some, unit)[1].all()) for some in (values[:64], values))


def is_day_and_hour(values: Numbers) -> bool:
    """Return whether all numbers can be yyyymmddhh, which seconds since 1970 look like."""
    if not 1_970_000_000 <= values.min() <= values.max() < 2_200_000_000:
        return False
    digits = values.astype(np.int64)
    is_whole = bool((digits == values).all())
    return is_whole and is_calendar(digits // 100, "ymd") and bool((digits % 100 < 24).all())


def _writes_hours(values: Numbers) -> bool:
    """Return whether numbers are plainly yyyymmddhh, not seconds or yymmddhhmm.

    In these, hours go on by 1 and jump at midnight; and of many seconds, which last longer than a
    day of the other meaning, most would be no date.
    """
    if not len(values) or not is_day_and_hour(values):
        return False
    distinct: Any = np.unique(values)
    others = [distinct]
    if is_calendar(distinct, "yymdhm"):
        others.append(_calendar(distinct, "yymdhm")[0])
    elif len(distinct) >= 20 and np.ptp(distinct) >= 100:
        return True
    n_odd = _n_odd_steps(_calendar(distinct, "ymdh")[0])
    return all(n_odd < _n_odd_steps(other) for other in others)


def _n_odd_steps(values: Numbers) -> int:
    """Return how many steps differ from the most common one."""
    counts = np.unique(np.diff(values), return_counts=True)[1]
    return int(counts.sum() - counts.max()) if len(counts) else 0


def could_be_days(values: Numbers, unit: Unit) -> bool:
    """Return whether all numbers lie where Excel or MATLAB has the days from 1970 to 2100."""
    begin = -DAY_ZERO[unit]
    return bool(begin <= values.min() and values.max() < begin + LAST_DAY)


def has_times_of_day(values: Numbers) -> bool:
    """Return whether numbers are days with a time of day, not seconds of an elapsed time.

    A time of day has many decimals as a fraction of a day, and few as seconds or milliseconds;
    elapsed seconds have neither.
    """
    has_many_decimals = _distance(values * 1000.0) > 1e-4
    is_round = (_distance(values * 86_400.0) < 0.05) | (_distance(values * 86_400_000.0) < 0.05)
    return bool(
        np.count_nonzero(has_many_decimals) > 0.5 * len(values)
        and np.count_nonzero(is_round) > 0.9 * len(values)
    )


def _distance(values: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Return how far numbers are from whole ones."""
    distance: NDArray[np.float64] = np.abs(values - np.rint(values))
    return distance


def _count(values: Numbers) -> Unit | None:
    """Return the unit of a count since 1970, by its magnitude."""
    smallest, largest = values.min(), values.max()
    for unit, per_second in PER_SECOND.items():
        if largest < LAST * per_second:
            # A column in two units, such as s and ms, is none in either.
            began = largest < FIRST * per_second or smallest >= FIRST * per_second
            return unit if began and smallest >= -LAST * per_second else None
    return None


def is_elapsed(values: Numbers, unit: Unit) -> bool:
    """Return whether a count is one of an elapsed time, which began at or near 0."""
    finite: Any = values[np.isfinite(values)]
    return unit in PER_SECOND and bool(finite.max() < FIRST * PER_SECOND[unit])
