"""Averages of consecutive rows, far values brought nearer first.

The rows of an average are added one after the other, so that it is the same to the last digit,
alone and among others: running sums would not be. But many averages are made side by side: the
first row of each, then the second of each, and so on, which neighbouring numbers in memory are.
"""

from __future__ import annotations

import math

import numpy as np
from numba import boolean, float64, int64, types

from vigie.detectors.base import FARTHEST, Floats
from vigie.detectors.compiled.compiler import compiled, filled, given

TOGETHER = 64
"""Averages made side by side: they and their rows fit into the fastest cache."""
ROWS = types.Array(float64, 2, "A", readonly=True)


@compiled(ROWS, *3 * [given(float64, 1)], filled(float64, 2), returns=boolean, fastmath=False)
def _bring_nearer(rows: Floats, low: Floats, high: Floats, room: Floats, nearer: Floats) -> bool:
    """Write rows of shape (n, n_features), and return whether any value of them is NaN."""
    any_missing = False
    for row in range(rows.shape[0]):
        for column in range(rows.shape[1]):
            value = rows[row, column]
            if value > high[column]:
                beyond = min((value - high[column]) / room[column], FARTHEST)
                value = high[column] + room[column] * math.log1p(beyond)
            elif value < low[column]:
                beyond = min((low[column] - value) / room[column], FARTHEST)
                value = low[column] - room[column] * math.log1p(beyond)
            any_missing |= value != value
            nearer[row, column] = value
    return any_missing


@compiled(given(float64, 1), int64, int64, filled(float64, 1), fastmath=False)
def _add_up(values: Floats, step: int, n_steps: int, sums: Floats) -> None:
    """Write ``values[i] + values[i + step] + ...``, of ``n_steps`` values, into ``sums[i]``."""
    whole = n_steps - n_steps % 4
    n = len(sums)
    sums[:] = 0.0
    for at in range(0, whole * step, 4 * step):
        a, b = values[at : at + n], values[at + step : at + step + n]
        c, d = values[at + 2 * step : at + 2 * step + n], values[at + 3 * step : at + 3 * step + n]
        for i in range(n):
            sums[i] = sums[i] + a[i] + b[i] + c[i] + d[i]
    for at in range(whole * step, n_steps * step, step):
        a = values[at : at + n]
        for i in range(n):
            sums[i] += a[i]


@compiled(given(float64, 1), int64, int64, int64, filled(float64, 1), fastmath=False)
def _average_known(
    values: Floats, step: int, n_steps: int, at_least: int, averages: Floats
) -> None:
    """Write the mean of what is not NaN, where there is enough of it; see ``_add_up``."""
    for i in range(len(averages)):
        total, count = 0.0, 0
        for at in range(i, i + n_steps * step, step):
            if not math.isnan(values[at]):
                total += values[at]
                count += 1
        averages[i] = total / count if count >= at_least else np.nan


@compiled(
    types.Array(float64, 3, "A", readonly=True),
    *(*3 * [given(float64, 1)], int64, int64, filled(float64, 3)),
    fastmath=False,
)
def average(
    rows: Floats,
    low: Floats,
    high: Floats,
    room: Floats,
    n_rows: int,
    at_least: int,
    averages: Floats,
) -> None:
    """Write averages of shape (n, n_averages, n_features) of rows (n, n_in_a_row, n_features).

    See ``vigie.detectors.scoring.averages``.
    """
    n, n_averages, n_features = averages.shape
    # Rows that two batches share are brought nearer twice; so long averages come in large ones.
    together = min(max(TOGETHER, n_rows), n_averages)
    nearer = np.empty((together + n_rows - 1, n_features))
    values = nearer.reshape(-1)
    for example in range(n):
        for first in range(0, n_averages, max(together, 1)):
            last = min(first + together, n_averages)
            seen = rows[example, first : last + n_rows - 1]
            any_missing = _bring_nearer(seen, low, high, room, nearer[: len(seen)])
            found = averages[example, first:last].reshape(-1)
            if any_missing:
                _average_known(values, n_features, n_rows, at_least, found)
            else:
                _add_up(values, n_features, n_rows, found)
                for i in range(len(found)):
                    found[i] /= n_rows
