"""Checks of incoming rows, in one pass."""

from __future__ import annotations

import numpy as np
from numba import boolean, float64, int64
from numpy.typing import NDArray

from vigie.detectors.base import Floats
from vigie.detectors.compiled.compiler import compiled, read_only, writable


@compiled(
    read_only(float64, 2),
    read_only(float64, 1),
    read_only(float64, 1),
    returns=boolean,
    fastmath=False,
)
def all_within(values: Floats, least: Floats, most: Floats) -> bool:
    """Return whether each value of (n_rows, n_sensors) is in its sensor's range; NaN is not."""
    for row in range(values.shape[0]):
        within = True
        for column in range(values.shape[1]):
            value = values[row, column]
            within &= (value >= least[column]) & (value <= most[column])
        if not within:
            return False
    return True


@compiled(read_only(float64, 2), returns=boolean, fastmath=False)
def none_missing(values: Floats) -> bool:
    """Return whether no value of (n_rows, n_sensors) is NaN."""
    for row in range(values.shape[0]):
        known = True
        for column in range(values.shape[1]):
            known &= values[row, column] == values[row, column]
        if not known:
            return False
    return True


@compiled(
    *(read_only(float64, 2), read_only(float64, 1), read_only(int64, 1), writable(int64, 2)),
    fastmath=False,
)
def held(
    values: Floats, last: Floats, before: NDArray[np.int64], counts: NDArray[np.int64]
) -> None:
    """Write for how many rows each value of (n_rows, n_sensors) has been held.

    ``last`` is the row before them, and ``before`` its counts, both of shape (n_sensors,); zeros if
    there is none.
    """
    # Branch-free, so that the loops are vectorised.
    if len(values):
        for column in range(values.shape[1]):
            counts[0, column] = 1 + (values[0, column] == last[column]) * before[column]
    for row in range(1, len(values)):
        now, then = values[row], values[row - 1]
        for column in range(values.shape[1]):
            counts[row, column] = 1 + (now[column] == then[column]) * counts[row - 1, column]


@compiled(read_only(int64, 1), int64, int64, writable(int64, 1))
def rows_since_gap(
    times: NDArray[np.int64], longest: int, before: int, counts: NDArray[np.int64]
) -> None:
    """Write the number of rows from the last gap longer than ``longest`` to each row, inclusive.

    ``times`` has one more, that of the row before them, and ``before`` is its number.
    """
    for row in range(len(counts)):
        before = before + 1 if times[row + 1] - times[row] <= longest else 1
        counts[row] = before
