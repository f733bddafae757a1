"""Averages of consecutive rows, far values brought nearer first."""

from __future__ import annotations

import math

import numpy as np
from numba import float64, int64, types

from app.detectors.base import Floats
from app.detectors.kernels import FARTHEST
from app.detectors.kernels.compiled import compiled, filled, given


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

    See ``app.detectors.kernels.averages``.
    """
    n, length, n_features = rows.shape
    nearer = np.empty((length, n_features))
    for example in range(n):
        for row in range(length):
            for column in range(n_features):
                value = rows[example, row, column]
                if value > high[column]:
                    beyond = min((value - high[column]) / room[column], FARTHEST)
                    value = high[column] + room[column] * math.log1p(beyond)
                elif value < low[column]:
                    beyond = min((low[column] - value) / room[column], FARTHEST)
                    value = low[column] - room[column] * math.log1p(beyond)
                nearer[row, column] = value
        for first in range(averages.shape[1]):
            for column in range(n_features):
                total, count = 0.0, 0
                # One row after the other: the same to the last digit, alone and among others.
                for row in range(first, first + n_rows):
                    if not math.isnan(nearer[row, column]):
                        total += nearer[row, column]
                        count += 1
                averages[example, first, column] = total / count if count >= at_least else np.nan
