"""The times of the rows of a table, whatever order the rows have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from vigie.errors import InvalidDataError
from vigie.tables.cells import is_text
from vigie.tables.find_times import find_clock, is_named
from vigie.tables.options import ReadOptions
from vigie.tables.paired_times import all_numbers
from vigie.tables.table import Times, require_columns
from vigie.tables.time_format import TimeFormat
from vigie.tables.times import TimeParser, has_form, read_times, understand_times

if TYPE_CHECKING:
    import pyarrow as pa

LOOKED_AT = 32_768
"""Rows in which the values of a column are counted."""
MOST_GROUPS, TRIED_GROUPS = 5_000, 4
"""Values of a column that may tell machines or tags apart, and how many such columns are tried."""


def times_of(
    columns: Mapping[str, pa.ChunkedArray], n_rows: int, options: ReadOptions
) -> tuple[tuple[str, ...], Times | None, TimeFormat | None]:
    """Return the columns that hold the time, the times, and how these are written."""
    clock = clock_of(columns, n_rows, options)
    if not clock or not n_rows:
        return clock, None, None
    cells = [columns[name] for name in clock]
    require_columns(columns, options.groups, "--by" if options.by else "--long")
    if options.groups:
        return clock, *_times_by_group(columns, clock, options.groups, options)
    try:
        written, times = read_times(cells, clock, options.times)
        return clock, times, written
    except InvalidDataError:
        found = _other_order(columns, clock, options)
        if found is None:
            raise
        return clock, *found


def _other_order(
    columns: Mapping[str, pa.ChunkedArray], clock: Sequence[str], options: ReadOptions
) -> tuple[Times, TimeFormat] | None:
    """Return times that do not ascend from row to row; None if they have no other order.

    They may be newest first, or ascend for each machine, or for each tag of a table with one value
    a row.
    """
    cells = [columns[name] for name in clock]
    backwards = [column.take(np.arange(len(column))[::-1]) for column in cells]
    with suppress(InvalidDataError):
        written, times = read_times(backwards, clock, options.times)
        return times[::-1], written
    for name in _grouping(columns, clock):
        with suppress(InvalidDataError):
            return _times_by_group(columns, clock, [name], options)
    return None


def is_newest_first(times: Times) -> bool:
    """Return whether times descend from row to row."""
    return len(times) > 1 and times[0] > times[-1] and bool((times[1:] <= times[:-1]).all())


def _times_by_group(
    columns: Mapping[str, pa.ChunkedArray],
    clock: Sequence[str],
    groups: Sequence[str],
    options: ReadOptions,
) -> tuple[Times, TimeFormat]:
    """Return times that ascend within each group of rows; the largest one decides their form."""
    import pandas as pd

    keys = pd.DataFrame({name: columns[name].to_pandas() for name in groups})
    numbers = keys.groupby(list(groups), sort=False, dropna=False).ngroup().to_numpy()
    order = np.argsort(numbers, kind="stable")
    ends = np.bincount(numbers).cumsum()
    bounds = list(pairwise([0, *ends.tolist()]))
    cells = [columns[name].take(order) for name in clock]

    def of(bound: tuple[int, int]) -> list[pa.ChunkedArray]:
        return [column.slice(bound[0], bound[1] - bound[0]) for column in cells]

    largest = max(bounds, key=lambda bound: bound[1] - bound[0])
    written = understand_times(of(largest), clock, options.times)
    times = np.empty(len(numbers), "M8[us]")
    for bound in bounds:
        times[order[slice(*bound)]] = TimeParser(written).read(of(bound))
    return times, written


def _grouping(columns: Mapping[str, pa.ChunkedArray], clock: Sequence[str]) -> list[str]:
    """Return the columns that may tell machines or tags apart, those of text first."""
    candidates = []
    for name, cells in columns.items():
        if name in clock:
            continue
        rows = np.unique(np.linspace(0, len(cells) - 1, LOOKED_AT).astype(int))
        n_values = len(cells.take(rows).unique())
        if 1 < n_values <= min(MOST_GROUPS, len(cells) // 2):
            candidates.append((not is_text(cells), n_values, name))
    return [name for _, _, name in sorted(candidates)][:TRIED_GROUPS]


def clock_of(columns: Mapping[str, Any], n_rows: int, options: ReadOptions) -> tuple[str, ...]:
    """Return the columns that hold the time: those that the user names, or the plainest."""
    if options.time:
        require_columns(columns, options.time, "--time")
        return tuple(options.time)
    found = find_clock(columns, n_rows)
    form = options.times.time_format
    if form is None or not n_rows or (len(found) == 1 and has_form(columns[found[0]], form)):
        return found
    return found if len(found) > 1 else _with_form(columns, found, form)


def _with_form(
    columns: Mapping[str, pa.ChunkedArray], found: tuple[str, ...], form: str
) -> tuple[str, ...]:
    """Return the column with times in the form that the user gives, or else those found.

    Raises
    ------
    InvalidDataError
        If no column has the form.
    """
    fits = [name for name, column in columns.items() if has_form(column, form)]
    # Numbers may mean anything: their name must say that they are times.
    sure = [name for name in fits if is_named(name) or all_numbers(columns[name]) is None]
    if sure or found:
        return (min(sure, key=lambda name: not is_named(name)),) if sure else found
    raise InvalidDataError(
        f"No column has times in the form {form!r}.",
        field="--time-format",
        remedy="Name the column with --time, and give the form that its cells have.",
    )
