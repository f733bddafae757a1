"""P-values together, and the state of an asset that follows from them: one pass over the readings.

What each function computes, and why, stands where it is used: in
``vigie.detectors.calibration.combination`` and ``vigie.services.asset``.
"""

from __future__ import annotations

import math

import numpy as np
from numba import float64, int64, uint8
from numpy.typing import NDArray

from vigie.detectors.base import Floats
from vigie.detectors.compiled.compiler import compiled, filled, given, part_of_kernels

MOST_NORMAL = 0.99
"""A model that finds a reading utterly normal must not outvote one that is alarmed."""


@compiled(given(float64, 2), given(float64, 1), filled(float64, 1), fastmath=False)
def combine(p_values: Floats, weights: Floats, combined: Floats) -> None:
    """Write the Cauchy combination of p-values (n_models, n), weighted by (n_models,), as (n,)."""
    for i in range(len(combined)):
        n_answers, votes, total, only = 0, 0.0, 0.0, np.nan
        for model in range(len(weights)):
            p = p_values[model, i]
            if not math.isnan(p):
                n_answers, only = n_answers + 1, p
                # cot(pi p) is the quantile of the Cauchy distribution, accurate for the smallest p.
                votes += weights[model]
                total += weights[model] / math.tan(math.pi * min(p, MOST_NORMAL))
        # One answer stands as it is.
        combined[i] = math.atan2(votes, total) / math.pi if n_answers > 1 else only


@part_of_kernels
def _take_out(ordered: Floats, p: float) -> int:
    """Take a value out of a full window, and return how many are left."""
    place, last = 0, len(ordered) - 1
    while ordered[place] < p:
        place += 1
    for other in range(place, last):
        ordered[other] = ordered[other + 1]
    return last


@part_of_kernels
def _put_in(ordered: Floats, count: int, p: float) -> int:
    """Put a value where it belongs among the first ``count``, and return how many there are."""
    place = count
    while place > 0 and ordered[place - 1] > p:
        ordered[place] = ordered[place - 1]
        place -= 1
    ordered[place] = p
    return count + 1


@compiled(given(float64, 1), given(int64, 1), int64, filled(float64, 1), fastmath=False)
def twice_the_median(
    p_values: Floats, rows_since_gap: NDArray[np.int64], n: int, found: Floats
) -> None:
    """Write for each of the last rows twice the median of the ``n`` p-values that end with it.

    Parameters
    ----------
    p_values : ndarray of shape (n_rows,)
        NaN where a reading was not judged; among ``n`` of them one is enough to say nothing.
    rows_since_gap : ndarray of int of shape (n_last,)
        For each of the last rows, how far back it may look.
    n : int
        An even number.
    found : ndarray of shape (n_last,)
        Written: at most 1; NaN where nothing is said.
    """
    ordered = np.empty(n)
    n_ordered = 0
    for i in range(len(found)):
        stop = len(p_values) - len(found) + i + 1
        found[i] = np.nan
        if rows_since_gap[i] < n or stop < n:
            n_ordered = 0
            continue
        if n_ordered == n:
            # All but one of them are those of the row before.
            n_ordered = _take_out(ordered, p_values[stop - n - 1])
        while n_ordered < n and not math.isnan(p_values[stop - n + n_ordered]):
            n_ordered = _put_in(ordered, n_ordered, p_values[stop - n + n_ordered])
        if n_ordered == n:
            found[i] = min(ordered[n // 2 - 1] + ordered[n // 2], 1.0)
        else:
            n_ordered = 0


@compiled(
    *(given(float64, 1), float64, float64, given(uint8, 2), int64, int64),
    *(filled(uint8, 1), filled(uint8, 1), filled(int64, 1)),
)
def follow(
    p_values: Floats,
    weak: float,
    strong: float,
    moves: NDArray[np.uint8],
    n_calm: int,
    code: int,
    states: NDArray[np.uint8],
    calm: NDArray[np.uint8],
    entered: NDArray[np.int64],
) -> None:
    """Write the state after each reading, its calm readings, and the reading that brought it.

    Parameters
    ----------
    p_values : ndarray of shape (n,)
        Evidence at each reading; NaN where nothing can be said.
    weak, strong : float
        Below them the evidence counts as such.
    moves : ndarray of shape (n_codes, 4)
        The code that follows another on nothing said, no evidence, weak and strong evidence. A
        code is ``n_calm`` times the state, and the calm readings.
    n_calm : int
    code : int
        From before the first reading.
    states, calm : ndarray of shape (n,)
    entered : ndarray of shape (n,)
        -1 as long as the state is that of before the first reading.
    """
    last = -1
    for i in range(len(p_values)):
        p = p_values[i]
        level = 0 if math.isnan(p) else 1 + (p < weak) + (p < strong)
        before, code = code // n_calm, moves[code, level]
        states[i], calm[i] = code // n_calm, code % n_calm
        last = i if code // n_calm != before else last
        entered[i] = last
