"""Few of many readings for a picture, with the extremes of each value.

The time is divided into equal parts. Of each, the first and the last reading are chosen, and those
with the lowest and the highest of each value and of the score. A line through them touches
the same lowest and highest point in each part as one through all: U. Jugel, Z. Jerzak,
G. Hackenbroich and V. Markl, "M4: a visualization-oriented time series data aggregation",
Proceedings of the VLDB Endowment 7 (2014), for several values at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from vigie.history.packed import Layout, numbers_of
from vigie.history.records import Reading
from vigie.history.search import Found, Search

PORTION = 10_000
"""Rows of a part that are looked at together."""


def thinned(search: Search, points: int) -> tuple[list[Reading], int]:
    """Return few of the readings of an asset, oldest first, and how many there are.

    Parameters
    ----------
    search : Search
        For the readings of one asset, oldest first.
    points : int
        Most readings; four, and two for each value, if that is more.
    """
    if not search.assets:
        return [], 0
    [asset] = search.assets
    n, first_us, last_us = search.extent(asset)
    if n <= points:
        return search.readings(list(search.rows(None, n))) if n else [], n
    rows = search.rows(None, n)
    head = next(rows)
    n_values = len(search.layouts([head])[head.row[1]].names)
    n_parts = max(1, points // (2 * (n_values + 1) + 2))
    width = (last_us - first_us) // n_parts + 1

    def part_of(one: Found) -> int:
        return (one.key.measured_us - first_us) // width

    chosen: list[Found] = []
    for _, part in groupby(_all(head, rows), part_of):
        chosen += _extremes(search, part)
    return search.readings(chosen), n


def _all(head: Found, rows: Iterator[Found]) -> Iterator[Found]:
    yield head
    yield from rows


def _extremes(search: Search, part: Iterable[Found]) -> list[Found]:
    """Return the first and the last row of a part, and those with an extreme value."""
    chosen: list[Found] = []
    rows = list(part)
    for begin in range(0, len(rows), PORTION):
        # Of the extremes so far and of further rows, the extremes.
        some = chosen + rows[begin : begin + PORTION]
        chosen = [some[place] for place in _places(some, search.layouts(some))]
    return chosen


def _places(rows: Sequence[Found], layouts: Mapping[int, Layout]) -> list[int]:
    """Return the places of the first and last row and of the extremes, in order."""
    names = list(dict.fromkeys(name for layout in layouts.values() for name in layout.names))
    values = np.full((len(rows), len(names) + 1), np.nan)
    numbers = np.array([row[1] for _, row in rows])
    for number, layout in layouts.items():
        places = np.flatnonzero(numbers == number)
        packed = [rows[place].row[3] for place in places.tolist()]
        columns = np.array([*map(names.index, layout.names), len(names)])
        values[np.ix_(places, columns)] = numbers_of(layout, packed)
    extremes = {0, len(rows) - 1, *_lowest(values), *_lowest(-values)}
    return sorted(extremes)


def _lowest(values: NDArray[np.float64]) -> list[int]:
    """Return the row of the lowest number of each column that has one."""
    known = np.where(np.isnan(values), np.inf, values)
    return list(known.argmin(axis=0)[np.isfinite(values).any(axis=0)].tolist())
