"""How far rows are from the operating points of the training.

See ``vigie.detectors.data.operating_point`` for the method.
"""

from __future__ import annotations

import numpy as np
from numba import boolean, float64, int64
from numpy.typing import NDArray

from vigie.detectors.base import Floats
from vigie.detectors.compiled.compiler import compiled, helper, read_only, writable


@helper
def _distances(
    values: Floats, first: int, owner: NDArray[np.int64], ranges: Floats, found: Floats
) -> None:
    """Write how far each of some values is from the ranges of its number; see ``distances``."""
    found[:] = 0.0
    last = -1
    for i in range(len(owner)):
        column = owner[i] - first
        if column < 0 or column >= len(values) or values[column] != values[column]:
            continue
        distance = max(ranges[i, 0] - values[column], values[column] - ranges[i, 1], 0.0)
        found[column] = distance if column != last else min(found[column], distance)
        last = column


@compiled(
    *(read_only(float64, 2), int64, read_only(int64, 1), read_only(float64, 2)),
    writable(float64, 2),
    fastmath=False,
)
def distances(
    values: Floats, first: int, owner: NDArray[np.int64], ranges: Floats, found: Floats
) -> None:
    """Write how far each value of (n_rows, n_numbers) is from the nearest range of its number.

    ``ranges`` has the shape (n_ranges, 2); ``owner`` has the number of each, ascending; ``first``
    is the number of the first column. The distance of NaN is 0.
    """
    for row in range(values.shape[0]):
        _distances(values[row], first, owner, ranges, found[row])


@compiled(
    *(read_only(float64, 2), read_only(float64, 1), read_only(float64, 1), read_only(float64, 2)),
    *(read_only(int64, 1), read_only(float64, 2), int64, float64, float64, float64),
    writable(boolean, 1),
    fastmath=False,
)
def find_unknown(
    rows: Floats,
    center: Floats,
    scale: Floats,
    components: Floats,
    owner: NDArray[np.int64],
    ranges: Floats,
    fewest: int,
    usual_error: float,
    most_error: float,
    most_deviations: float,
    unknown: NDArray[np.bool_],
) -> None:
    """Write which rows of (n_rows, n_features) are at unknown operating points.

    Parameters are those of ``OperatingPoints``; ``most_error`` is in usual errors, and a
    standardised value counts as ``most_deviations`` at most. A missing one counts as usual.
    """
    n_features, n_components = rows.shape[1], len(components)
    of_sensors, of_scores = np.empty(n_features), np.empty(n_components)
    scaled, scores = np.empty(n_features), np.empty(n_components)
    for row in range(rows.shape[0]):
        _distances(rows[row], 0, owner, ranges, of_sensors)
        n_outside, square = 0, 0.0
        for column in range(n_features):
            n_outside += of_sensors[column] > 0.0
            value = (rows[row, column] - center[column]) / scale[column]
            value = min(max(value, -most_deviations), most_deviations) if value == value else 0.0
            scaled[column] = value
            square += value * value
        for number in range(n_components):
            total = 0.0
            for column in range(n_features):
                total += components[number, column] * scaled[column]
            scores[number] = total
            square -= total * total
        _distances(scores, n_features, owner, ranges, of_scores)
        moved = 0.0
        for number in range(n_components):
            moved += of_scores[number] ** 2
        together = square <= most_error * usual_error and moved > max(square - usual_error, 0.0)
        unknown[row] = n_outside >= fewest or together
