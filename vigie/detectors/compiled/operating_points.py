"""How far rows are from the operating points of the training.

See ``vigie.detectors.data.operating_point`` for the method.
"""

from __future__ import annotations

import numpy as np
from numba import float64, int64, uint8
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
    *(read_only(int64, 1), read_only(float64, 2), read_only(float64, 2)),
    *(int64, float64, float64, float64, writable(uint8, 1)),
    fastmath=False,
)
def find_places(
    rows: Floats,
    center: Floats,
    scale: Floats,
    components: Floats,
    owner: NDArray[np.int64],
    ranges: Floats,
    limits: Floats,
    fewest: int,
    usual_error: float,
    most_error: float,
    most_deviations: float,
    places: NDArray[np.uint8],
) -> None:
    """Write where rows of (n_rows, n_features) are; see ``OperatingPoints.places``.

    Parameters are those of ``OperatingPoints``; ``most_error`` is in usual errors, and a
    standardised value counts as ``most_deviations`` at most. A missing one counts as usual.
    """
    n_features, n_components = rows.shape[1], len(components)
    of_sensors, of_scores = np.empty(n_features), np.empty(n_components)
    scaled, scores = np.empty(n_features), np.empty(n_components)
    for row in range(rows.shape[0]):
        square = 0.0
        for column in range(n_features):
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
        _distances(rows[row], 0, owner, ranges, of_sensors)
        _distances(scores, n_features, owner, ranges, of_scores)
        is_within = np.sum(of_sensors > 0.0) < fewest and np.sum(of_scores) == 0.0
        if is_within:
            places[row] = 0
            continue
        _distances(rows[row], 0, owner, limits, of_sensors)
        _distances(scores, n_features, owner, limits, of_scores)
        moved = np.sum(of_scores**2)
        together = square <= most_error * usual_error and moved > max(square - usual_error, 0.0)
        places[row] = 2 if np.sum(of_sensors > 0.0) >= fewest or together else 1
