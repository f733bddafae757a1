"""Averages of consecutive rows, with far values compressed.

Each average is summed row by row, not as a running sum, so that it is bit-identical alone and in a
batch. Many averages are computed in parallel: the first row of each, then the second, and so on,
which are contiguous in memory.
"""

from __future__ import annotations

import math

import numpy as np
from numba import boolean, float64, int64, types

from vigie.detectors.base import FARTHEST, Floats
from vigie.detectors.compiled.compiler import compiled, read_only, writable

BATCH = 64
"""Averages computed in parallel; with their rows, they fit into the L1 cache."""
ROWS = types.Array(float64, 2, "A", readonly=True)


@compiled(ROWS, *3 * [read_only(float64, 1)], writable(float64, 2), returns=boolean, fastmath=False)
def _compress(rows: Floats, low: Floats, high: Floats, room: Floats, compressed: Floats) -> bool:
    """Write compressed rows of shape (n, n_features), and return whether any value is NaN."""
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
            compressed[row, column] = value
    return any_missing


@compiled(read_only(float64, 1), int64, int64, writable(float64, 1), fastmath=False)
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


@compiled(read_only(float64, 1), int64, int64, int64, writable(float64, 1), fastmath=False)
def _average_known(
    values: Floats, step: int, n_steps: int, at_least: int, averages: Floats
) -> None:
    """Write the mean of the values that are not NaN; NaN if there are too few; see ``_add_up``."""
    for i in range(len(averages)):
        total, count = 0.0, 0
        for at in range(i, i + n_steps * step, step):
            if not math.isnan(values[at]):
                total += values[at]
                count += 1
        averages[i] = total / count if count >= at_least else np.nan


@compiled(
    types.Array(float64, 3, "A", readonly=True),
    *(*3 * [read_only(float64, 1)], int64, int64, writable(float64, 3)),
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
    # Rows shared by two batches are compressed twice, so long averages need large batches.
    batch_size = min(max(BATCH, n_rows), n_averages)
    compressed = np.empty((batch_size + n_rows - 1, n_features))
    values = compressed.reshape(-1)
    for example in range(n):
        for first in range(0, n_averages, max(batch_size, 1)):
            last = min(first + batch_size, n_averages)
            seen = rows[example, first : last + n_rows - 1]
            any_missing = _compress(seen, low, high, room, compressed[: len(seen)])
            batch = averages[example, first:last].reshape(-1)
            if any_missing:
                _average_known(values, n_features, n_rows, at_least, batch)
            else:
                _add_up(values, n_features, n_rows, batch)
                for i in range(len(batch)):
                    batch[i] /= n_rows
