"""Bring tables into one shape: one row a time and one column a sensor, of one machine.

A table in *long format* has one value a row: the time, the tag (name) of a sensor, and its value,
as historians, InfluxDB and Home Assistant export them. A table *by asset* holds the rows of several
machines. With *mixed rates*, some sensors are recorded less often than the rows, or only when they
change; between, their last value holds.

All times are arrays of datetime64[us], one for each row.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import combinations, pairwise
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from vigie.errors import InvalidDataError
from vigie.tables import names
from vigie.tables.kinds import Kind, kinds
from vigie.tables.numbers import SWITCHED_OFF, SWITCHED_ON
from vigie.tables.qualities import (
    is_flag,
    may_name_a_quality,
    names_a_flag,
    names_a_quality,
    quality_of,
)
from vigie.tables.unit_columns import holds_units
from vigie.tables.units import UNITS

if TYPE_CHECKING:
    import pandas as pd

Times = NDArray[np.datetime64]
Rows = NDArray[np.intp]
Floats = NDArray[np.float64]

FEWEST_ROWS = 12
MOST_TAGS = 5000
ORDINALS = frozenset(("index", "no", "nr", "number", "num"))
ROWS_A_TAG = 3
"""A tag has this many rows on average, at least."""
ROWS_A_TIME = 1.5
"""Rows for each time, on average, from which a time stands in several rows."""
CYCLES = frozenset((12, 24, 60))
"""Rows of one year, day or hour, if they are of months, hours or minutes."""
TWICE = 0.02
"""Share of the rows that may repeat the time of a tag, as in the hour that comes twice."""
NUMBERS = 0.5
"""Share of numbers among the words of a value, such as "23.4", "on", "unavailable"."""
MOST_CELLS = 400_000_000
"""Cells of a pivoted table; they take 8 bytes each."""
RARE = 1.5
"""Rows between two values of a sensor, from which it is recorded less often than the rows."""
MOST_KEYS = 6
"""Columns that are looked at for keys."""
FEWEST_VALUES = 5
REGULAR, CHANGED = 0.9, 0.9
"""Share of the gaps near the usual one; share of the values that differ from the one before."""
LONGEST_GAP = 0.25
"""Share of the empty cells of a sensor recorded by change that one gap may have."""
STATES = dict.fromkeys(SWITCHED_ON, 1.0) | dict.fromkeys(SWITCHED_OFF, 0.0)


# Long format


@dataclass(frozen=True)
class LongFormat:
    """The columns of a table with one value a row.

    Attributes
    ----------
    tag : str
        The column that says which sensor it is.
    value : str
        The column with its value.
    others : tuple of str
        All other columns, which a pivoted table does not have.
    quality : str or None
        The one of these that says which values are bad.
    """

    tag: str
    value: str
    others: tuple[str, ...] = ()
    quality: str | None = None


def looks_long(frame: pd.DataFrame, times: Times | None) -> LongFormat | None:
    """Return the columns of a table that plainly holds one value a row; None for others.

    It does if a column of tags has 2 to 5000 of them, at hardly any time a tag stands twice, and
    there is one column of numbers beside constants, row numbers, clocks, qualities, and what
    follows from the tag. Each time stands in several rows; or, if the times of the tags
    differ, the names must say so ("tag" and "value", "entity_id" and "state"), since a column of
    text beside one sensor, such as the product, looks the same.

    Parameters
    ----------
    frame : DataFrame of shape (n_rows, n_columns)
        As read.
    times : ndarray of datetime64[us] of shape (n_rows,) or None
        The times of the rows, in any order; None if they are not known, which tells nothing.
    """
    if times is None:
        return None
    tags = [name for name in frame.columns if _may_be_tag(frame, name)]
    tags.sort(key=lambda name: (not _is_named_tag(name), names.names_a_machine(name)))
    for tag in tags:
        value = _value_of(frame, tag)
        if value is None or not _stands_once(times, [frame[tag]]):
            continue
        is_named = _is_named_tag(tag) and names.ends_with(value, names.VALUE)
        # One sensor of several machines.
        is_machine = names.names_a_machine(tag) and not names.ends_with(value, names.VALUE)
        is_shown = len(frame) >= FEWEST_ROWS and _rows_a_time(times) >= ROWS_A_TIME
        if is_named or (is_shown and not is_machine):
            return long_format(frame, str(tag), str(value))
    return None


def long_format(
    frame: pd.DataFrame, tag: str, value: str, clock: Collection[str] = ()
) -> LongFormat:
    """Return the columns of a table with one value a row, whose tag and value are known."""
    others = [str(name) for name in frame.columns if name not in (tag, value, *clock)]
    told = [
        name
        for name in others
        if (may_name_a_quality(name) or names_a_flag(name)) and quality_of(frame[name])
    ]
    # One that is named so says more than a status.
    told.sort(key=lambda name: not names_a_quality(name))
    return LongFormat(tag, value, tuple(others), told[0] if told else None)


def pivot(frame: pd.DataFrame, times: Times, long: LongFormat) -> tuple[pd.DataFrame, Times]:
    """Turn one value a row into one row a time and one column a tag.

    Parameters
    ----------
    frame : DataFrame of shape (n_rows, n_columns)
        In long format.
    times : ndarray of datetime64[us] of shape (n_rows,)
        In any order.
    long : LongFormat
        Its columns.

    Returns
    -------
    table : DataFrame of shape (n_times, n_tags)
        float64, tags in the order in which they first appear; NaN where a tag has no value. If a
        tag has several values at one time, the last one in the table counts, as a historian that
        writes again overwrites; ``repeated`` counts them. "on", "true" are 1, "off", "false" 0, and
        other words, such as "unavailable", are no value.
    times : ndarray of datetime64[us] of shape (n_times,)
        Ascending, each one once.

    Raises
    ------
    InvalidDataError
        If the result would have more than 400 million cells, 3.2 GB.
    """
    import pandas as pd

    codes, tags = pd.factorize(frame[long.tag])
    values = as_numbers(frame[long.value])
    moments, rows = np.unique(times, return_inverse=True)
    if len(moments) * len(tags) > MOST_CELLS:
        raise InvalidDataError(
            f"One row for each of {len(moments)} times and one column for each of {len(tags)} tags "
            "is more than memory holds.",
            field=long.tag,
            remedy="Export the tags at common times, or fewer of them.",
        )
    table = np.full((len(moments), len(tags)), np.nan)
    # A row without a value overwrites none.
    counts = ~np.isnan(values) & (codes >= 0) & ~np.isnat(times)
    table[rows[counts], codes[counts]] = values[counts]
    known = ~np.isnat(moments)
    columns = [names.written(tag) for tag in tags]
    return pd.DataFrame(table[known], columns=columns, copy=False), moments[known]


def repeated(frame: pd.DataFrame, times: Times, long: LongFormat) -> int:
    """Return how many values of a long table ``pivot`` drops for a later one of their time."""
    counts = ~np.isnan(as_numbers(frame[long.value]))
    return _n_repeated(times[counts], [frame.loc[counts, long.tag]])


def _may_be_tag(frame: pd.DataFrame, name: Any) -> bool:
    """Return whether a column has few text, or few whole numbers and the name of a tag."""
    series = frame[name]
    if _is_number(series):
        if not _is_named_tag(name) or not _is_whole(series):
            return False
    elif names.ends_with(name, names.VALUE) or _is_clock(frame, name):
        return False
    n_tags = series.nunique()
    return bool(2 <= n_tags <= min(MOST_TAGS, series.count() / ROWS_A_TAG))


def _is_named_tag(name: Any) -> bool:
    # "TagIndex" and "channel no" end with a word of their own.
    *first, last = names.words(name)[-2:] or [""]
    return names.ends_with(name, names.TAG) or (last in ORDINALS and names.TAG.issuperset(first))


def _value_of(frame: pd.DataFrame, tag: Any) -> Any:
    """Return the one column that holds values; None if there is none, or several.

    Of several beside a column that is named like a tag, it is the one that is named like a value.
    """
    others = frame.drop(columns=tag)
    found = []
    for name, column in zip(others.columns, kinds(others), strict=True):
        series = others[name]
        is_value = names.ends_with(name, names.VALUE)
        if column.kind is Kind.TEXT:
            if is_value and _share_of_numbers(series) >= NUMBERS:
                found.append(name)
        elif column.is_feature or (column.kind is Kind.LABEL and is_value):
            is_quality = may_name_a_quality(name) or is_flag(series)
            if is_value or not (is_quality or _follows_from(series, frame[tag])):
                found.append(name)
    if len(found) > 1 and _is_named_tag(tag):
        found = [name for name in found if names.ends_with(name, names.VALUE)]
    return found[0] if len(found) == 1 else None


def _follows_from(series: pd.Series[Any], tag: pd.Series[Any]) -> bool:
    return bool((series.groupby(tag.to_numpy()).nunique() <= 1).all())


def _share_of_numbers(series: pd.Series[Any]) -> float:
    return float(np.mean(~np.isnan(as_numbers(series.dropna())))) if series.count() else 0.0


def as_numbers(series: pd.Series[Any]) -> Floats:
    """Return the values of a column of numbers, or of text with numbers and states."""
    import pandas as pd

    if _is_number(series):
        return series.to_numpy(dtype=np.float64, na_value=np.nan)
    # Words repeat, so that each one is read once.
    codes, found = pd.factorize(series)
    texts = pd.Series(found, dtype=object).astype(str)
    states = texts.str.strip().str.lower().map(STATES)
    read = pd.to_numeric(texts, errors="coerce").fillna(states).to_numpy(dtype=np.float64)
    return np.append(read, np.nan)[codes]


def _stands_once(times: Times, keys: list[pd.Series[Any]]) -> bool:
    """Return whether the same time and keys hardly ever stand in two rows."""
    return _n_repeated(times, keys) <= TWICE * len(times)


def _n_repeated(times: Times, keys: list[pd.Series[Any]]) -> int:
    import pandas as pd

    columns = {f"key {i}": key.to_numpy() for i, key in enumerate(keys)}
    return int(pd.DataFrame({"time": times, **columns}).duplicated().sum())


def _rows_a_time(times: Times) -> float:
    return len(times) / max(len(np.unique(times)), 1)


# Several machines


def looks_by_asset(frame: pd.DataFrame, times: Times | None) -> str | None:
    """Return the column that tells machines apart, if a table holds several; else None.

    The times start anew, or repeat, with each of its values; or, without times, a row number
    does. If the times neither repeat nor go back, only a column named like a machine is taken for
    one, since a product or a status looks the same.

    Parameters
    ----------
    frame : DataFrame of shape (n_rows, n_columns)
        As read.
    times : ndarray of datetime64[us] of shape (n_rows,) or None
        The times of the rows, in the order of the table.
    """
    candidates = [name for name in frame.columns if _may_be_asset(frame, name)]
    candidates.sort(key=lambda name: not _is_named_asset(name))
    if not candidates or len(frame) < FEWEST_ROWS or looks_long(frame, times):
        return None
    for name in candidates:
        is_named = names.names_a_machine(name)
        if is_named or _is_of_machines(frame, times, name):
            return str(name)
    return None


def asset_within(frame: pd.DataFrame, times: Times | None) -> str | None:
    """Return a column named like a machine or place that tells the rows of each time apart."""
    if not _share_times(times):
        return None
    for name in frame.columns:
        is_named = names.names_a_machine(name) or names.ends_with(name, names.PLACE)
        if is_named and _may_be_asset(frame, name) and _stands_once(times, [frame[name]]):
            return str(name)
    return None


def by_asset(
    frame: pd.DataFrame, times: Times | None, column: str
) -> Iterator[tuple[str, pd.DataFrame, Times | None, Rows]]:
    """Yield the rows of each machine, in the order in which the machines first appear.

    Parameters
    ----------
    frame : DataFrame of shape (n_rows, n_columns)
        Rows of several machines, one after the other or mixed.
    times : ndarray of datetime64[us] of shape (n_rows,) or None
        The times of the rows.
    column : str
        The column that tells the machines apart.

    Yields
    ------
    name : str
        Of the machine; "7", if it is the number 7.
    table : DataFrame of shape (n_rows_of_it, n_columns - 1)
        Its rows, in their order, without ``column``.
    times : ndarray of datetime64[us] of shape (n_rows_of_it,) or None
        Theirs.
    rows : ndarray of int of shape (n_rows_of_it,)
        Their numbers in ``frame``, from 0.

    Raises
    ------
    InvalidDataError
        If there is no such column, or a row names no machine.
    """
    import pandas as pd

    _require(frame, [column])
    codes, found = pd.factorize(frame[column])
    if (codes < 0).any():
        raise InvalidDataError(
            f"Row {int(np.argmax(codes < 0)) + 1} does not say which machine it is of.",
            field=column,
            remedy="Fill the column in all rows, or remove those rows.",
        )
    order = np.argsort(codes, kind="stable")
    ends = np.bincount(codes, minlength=len(found)).cumsum()
    others = frame.drop(columns=column)
    for asset, (begin, end) in zip(found, pairwise([0, *ends.tolist()]), strict=True):
        rows = order[begin:end]
        its_times = None if times is None else times[rows]
        yield names.written(asset), others.iloc[rows].reset_index(drop=True), its_times, rows


def several_keys(frame: pd.DataFrame, times: Times | None) -> tuple[str, ...]:
    """Return the columns that tell the rows of a time apart only together; empty if none do.

    As a room and a sensor do, or a site and a machine. One after the other may tell machines
    apart, or sensors.

    Parameters
    ----------
    frame : DataFrame of shape (n_rows, n_columns)
        As read.
    times : ndarray of datetime64[us] of shape (n_rows,) or None
        The times of the rows.
    """
    if not _share_times(times):
        return ()
    keys = [name for name in frame.columns if _may_be_key(frame, name)][:MOST_KEYS]
    alone = [name for name in keys if not _stands_once(times, [frame[name]])]
    if len(alone) < len(keys):
        return ()
    for n_keys in (2, 3):
        for together in combinations(keys, n_keys):
            if _stands_once(times, [frame[name] for name in together]):
                return tuple(map(str, together))
    return ()


def _share_times(times: Times | None) -> TypeGuard[Times]:
    """Return whether several rows have one time, as those of several machines or sensors do."""
    if times is None or len(times) < FEWEST_ROWS or (times[1:] > times[:-1]).all():
        return False
    return _rows_a_time(times) >= ROWS_A_TIME


def _may_be_key(frame: pd.DataFrame, name: Any) -> bool:
    is_named = _is_named_tag(name) or _is_named_asset(name) or names.ends_with(name, names.PLACE)
    if _is_number(frame[name]) and not is_named:
        return False
    is_other = may_name_a_quality(name) or names.ends_with(name, names.VALUE)
    return not is_other and _may_be_asset(frame, name)


def _may_be_asset(frame: pd.DataFrame, name: Any) -> bool:
    series = frame[name]
    if _is_number(series) and not _is_whole(series):
        return False
    if _is_clock(frame, name) or not series.notna().all():
        return False
    if _is_number(series) and names.ends_with(
        name, names.CLOCK | names.PART_OF_DAY | names.CALENDAR.keys()
    ):
        return False
    if not _is_number(series) and (holds_units(frame, name) or UNITS.issuperset(series.unique())):
        return False  # "unit" is no machine there.
    return bool(2 <= series.nunique() <= len(frame) / ROWS_A_TAG)


def _is_named_asset(name: Any) -> bool:
    return names.names_a_machine(name) or names.ends_with(name, names.IDENTIFIER)


def _is_of_machines(frame: pd.DataFrame, times: Times | None, name: Any) -> bool:
    return _starts_anew(frame, name) if times is None else _repeats(frame, times, name)


def _repeats(frame: pd.DataFrame, times: Times, name: Any) -> bool:
    """Return whether times start anew with each value of a column, or repeat with it."""
    series = frame[name]
    backwards = np.flatnonzero(times[1:] < times[:-1]) + 1
    if len(backwards) and np.array_equal(backwards, _changes(series)):
        return True
    if _rows_a_time(times) < ROWS_A_TIME or not _stands_once(times, [series]):
        return False
    # A sensor in whole numbers seldom repeats within a time either, but has far more values than a
    # time has rows.
    return bool(series.nunique() <= 3 * np.unique(times, return_counts=True)[1].max())


def _starts_anew(frame: pd.DataFrame, name: Any) -> bool:
    """Return whether a row number starts anew where a column changes.

    A number that does so every 60 or 24 rows is a minute or an hour.
    """
    changes = _changes(frame[name])
    if _is_number(frame[name]) and set(np.diff(changes).tolist()) <= CYCLES:
        return False
    return len(changes) == frame[name].nunique() - 1 and any(
        column.name == str(name) and column.kind is Kind.IDENTIFIER for column in kinds(frame)
    )


def _changes(series: pd.Series[Any]) -> Rows:
    import pandas as pd

    codes = pd.factorize(series)[0]
    return np.flatnonzero(codes[1:] != codes[:-1]) + 1


# Sensors that are recorded less often


def mixed_rates(frame: pd.DataFrame, times: Times | None) -> dict[str, timedelta]:
    """Return the sensors that are recorded less often than the rows, with the step of each.

    Regularly, or irregularly, such as by change only. A sensor that fails for a while is none, and
    neither is one that misses single values.

    Parameters
    ----------
    frame : DataFrame of shape (n_rows, n_columns)
        Numbers with NaN for empty cells.
    times : ndarray of datetime64[us] of shape (n_rows,) or None
        Ascending times of the rows.

    Returns
    -------
    dict of str to timedelta
        The usual time between two values of a regular sensor, the longest of an irregular
        one: ``hold`` with the longest of all leaves few gaps.
    """
    if times is None:
        return {}
    steps = {}
    for place, name in enumerate(map(str, frame.columns)):
        series = frame.iloc[:, place]
        if _is_number(series):
            step = _step(series.to_numpy(dtype=np.float64, na_value=np.nan), times)
            if step is not None:
                steps[name] = step
    return steps


def _step(values: Floats, times: Times) -> timedelta | None:
    rows = np.flatnonzero(~np.isnan(values))
    if len(rows) < FEWEST_VALUES or len(rows) * RARE > len(values):
        return None
    between, gaps = np.diff(rows), np.diff(times[rows]).astype(np.int64)
    usual = float(np.median(gaps))
    # Rows apart in the same moment are no rate.
    is_regular = np.mean(np.abs(gaps - usual) <= usual / 2) >= REGULAR and usual > 0
    if is_regular and np.median(between) >= RARE:
        return timedelta(microseconds=usual)
    empty = np.diff(rows, prepend=-1, append=len(values)) - 1
    is_by_change = np.mean(np.diff(values[rows]) != 0) >= CHANGED
    is_spread = empty.max() <= LONGEST_GAP * empty.sum()
    if is_spread and (is_by_change or np.median(between) >= RARE):
        return timedelta(microseconds=int(gaps.max()))
    return None


def hold(
    frame: pd.DataFrame,
    times: Times,
    longest: timedelta | Mapping[str, timedelta],
    also: Collection[str] = (),
) -> pd.DataFrame:
    """Fill empty cells with the last value of their column, for a limited time.

    Parameters
    ----------
    frame : DataFrame of shape (n_rows, n_columns)
        Rows of one machine; never changed.
    times : ndarray of datetime64[us] of shape (n_rows,)
        Ascending times of the rows.
    longest : timedelta, or mapping of str to timedelta
        How old a value may be, inclusively. One for all columns of numbers, or one for each of
        these columns, whatever they hold.
    also : collection of str, optional
        Columns of text to hold too, such as the product.

    Returns
    -------
    DataFrame of shape (n_rows, n_columns)
        A cell stays empty if the last value is older, or there is none before.

    Raises
    ------
    InvalidDataError
        If a time to hold is not positive, or a named column does not exist.
    """
    return Holder(longest, also).hold(frame, times)


@dataclass
class Holder:
    """Holds last values like ``hold``, over the parts of a file.

    Parameters
    ----------
    longest, also
        See ``hold``.

    Raises
    ------
    InvalidDataError
        If a time to hold is not positive.
    """

    longest: timedelta | Mapping[str, timedelta]
    also: Collection[str] = ()
    _last: dict[str, tuple[np.datetime64, Any]] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        limits = [self.longest] if isinstance(self.longest, timedelta) else self.longest.values()
        if any(limit <= timedelta() for limit in limits):
            raise InvalidDataError(
                "A value can be held for a positive time only.",
                field="--hold",
                remedy="Write it with its unit, such as 10min.",
            )

    def hold(self, frame: pd.DataFrame, times: Times) -> pd.DataFrame:
        """Return the next rows with their empty cells filled; see ``hold``.

        Raises
        ------
        InvalidDataError
            If a named column does not exist.
        """
        filled = {
            name: self._filled(name, frame[name], times, np.timedelta64(limit, "us"))
            for name, limit in self._limits(frame).items()
        }
        return frame.assign(**filled)

    def _limits(self, frame: pd.DataFrame) -> dict[str, timedelta]:
        _require(frame, self.also)
        if not isinstance(self.longest, timedelta):
            _require(frame, self.longest)
            return dict(self.longest)
        longest = self.longest
        return {
            name: longest for name in frame.columns if name in self.also or _is_number(frame[name])
        }

    def _filled(
        self, name: str, series: pd.Series[Any], times: Times, limit: np.timedelta64
    ) -> pd.Series[Any]:
        import pandas as pd

        is_empty = series.isna().to_numpy()
        rows, known = np.flatnonzero(is_empty), np.flatnonzero(~is_empty)
        at, value = self._last.get(name, (np.datetime64("NaT", "us"), None))
        if len(known):
            self._last[name] = (times[known[-1]], series.iloc[known[-1]])
        if len(rows) == 0:
            return series
        is_number = _is_number(series) and not isinstance(value, str)
        filled = np.array(as_numbers(series) if is_number else series.to_numpy(dtype=object))
        # Each gap is filled with the value before it, or that of earlier parts, and then empty.
        is_first = np.diff(rows, prepend=-2) > 1
        starts = rows[is_first]
        sizes = np.diff(np.flatnonzero(np.append(is_first, True)))
        found, since = filled[starts - 1], times[starts - 1]
        if starts[0] == 0:
            found[0], since[0] = value, at
        too_late = np.searchsorted(times, since + limit, side="right")
        held = np.clip(too_late - starts, 0, sizes)
        empty = np.full(len(found), np.nan if is_number else None, dtype=filled.dtype)
        counts = np.column_stack([held, sizes - held])
        filled[rows] = np.repeat(np.column_stack([found, empty]).ravel(), counts.ravel())
        dtype = filled.dtype if _is_number(series) else series.dtype
        return pd.Series(filled, index=series.index, name=series.name, dtype=dtype)


# Columns


def _is_number(series: pd.Series[Any]) -> bool:
    import pandas as pd

    return pd.api.types.is_numeric_dtype(series)


def _is_clock(frame: pd.DataFrame, name: Any) -> bool:
    """Return whether a column holds times, a part of them, or row numbers."""
    return kinds(frame[[name]])[0].kind in (Kind.CLOCK, Kind.ROW_NUMBER)


def _is_whole(series: pd.Series[Any]) -> bool:
    values = series.to_numpy(dtype=np.float64, na_value=np.nan)
    return bool(np.all((values == np.floor(values)) | np.isnan(values)))


def _require(frame: pd.DataFrame, columns: Collection[str]) -> None:
    unknown = [name for name in columns if name not in frame.columns]
    if unknown:
        raise InvalidDataError(
            f"There is no column {', '.join(map(str, unknown))}.",
            remedy=f"Columns: {', '.join(map(str, frame.columns))}.",
        )
