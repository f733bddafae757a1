"""Combine p-values, and compute the states of an asset from them, in one pass over the readings.

See ``vigie.detectors.calibration.combination`` and ``vigie.assessment.status`` for the methods.
"""

from __future__ import annotations

import math

import numpy as np
from numba import boolean, float64, int64, uint8
from numpy.typing import NDArray

from vigie.detectors.base import CREDIBLE, Floats, Level
from vigie.detectors.compiled.compiler import compiled, helper, read_only, writable

USUAL_READINGS = 100.0
"""Readings over which the surprise of an asset is smoothed."""
EXCESS = 0.7
"""Surprise in excess of the usual one that sustains an alarm: five times less probable."""


@compiled(
    *(read_only(float64, 2), read_only(float64, 1), float64, writable(float64, 1)),
    fastmath=False,
)
def combine(p_values: Floats, weights: Floats, most_normal: float, combined: Floats) -> None:
    """Write the Cauchy combination of p-values (n_models, n), weighted by (n_models,), as (n,).

    ``most_normal`` is the upper limit of p-values.
    """
    for i in range(len(combined)):
        n_known, weight, total, only = 0, 0.0, 0.0, np.nan
        for model in range(len(weights)):
            p = p_values[model, i]
            if not math.isnan(p):
                n_known, only = n_known + 1, p
                # cot(pi p) is the quantile of the Cauchy distribution, accurate for the smallest p.
                weight += weights[model]
                total += weights[model] / math.tan(math.pi * min(p, most_normal))
        # A single p-value is returned without rounding errors or the upper limit.
        combined[i] = math.atan2(weight, total) / math.pi if n_known > 1 else only


@helper
def _remove(ordered: Floats, p: float) -> int:
    """Remove a value from a full, sorted window, and return how many are left."""
    place, last = 0, len(ordered) - 1
    while ordered[place] < p:
        place += 1
    for other in range(place, last):
        ordered[other] = ordered[other + 1]
    return last


@helper
def _insert(ordered: Floats, count: int, p: float) -> int:
    """Insert a value into the first ``count``, which are sorted, and return the new count."""
    place = count
    while place > 0 and ordered[place - 1] > p:
        ordered[place] = ordered[place - 1]
        place -= 1
    ordered[place] = p
    return count + 1


@compiled(read_only(float64, 1), read_only(int64, 1), int64, writable(float64, 1), fastmath=False)
def twice_the_median(
    p_values: Floats, rows_since_gap: NDArray[np.int64], n: int, combined: Floats
) -> None:
    """Write for each of the last rows twice the median of the ``n`` p-values that end with it.

    Parameters
    ----------
    p_values : ndarray of shape (n_rows,)
        NaN where a reading was not assessed.
    rows_since_gap : ndarray of int of shape (n_last,)
        Rows from the last gap to each of the last rows, itself counted.
    n : int
        An even number.
    combined : ndarray of shape (n_last,)
        Output: at most 1; NaN with a gap or a NaN among the ``n``.
    """
    ordered = np.empty(n)
    n_ordered = 0
    for i in range(len(combined)):
        stop = len(p_values) - len(combined) + i + 1
        combined[i] = np.nan
        if rows_since_gap[i] < n or stop < n:
            n_ordered = 0
            continue
        if n_ordered == n:
            # Slide the window of the row before.
            n_ordered = _remove(ordered, p_values[stop - n - 1])
        while n_ordered < n and not math.isnan(p_values[stop - n + n_ordered]):
            n_ordered = _insert(ordered, n_ordered, p_values[stop - n + n_ordered])
        if n_ordered == n:
            combined[i] = min(ordered[n // 2 - 1] + ordered[n // 2], 1.0)
        else:
            n_ordered = 0


@helper
def _after(
    code: int,
    usual: float,
    p: float,
    change: float,
    odd: bool,
    frozen: bool,
    operating_point: int,
    limits: Floats,
    limits_of_change: Floats,
    transitions: NDArray[np.uint8],
    n_calm: int,
    bad_data: int,
    unknown_point: int,
) -> tuple[int, float]:
    """Return the code and the usual surprise after one reading; see ``follow``."""
    alarm = len(transitions) // n_calm - 1
    level = Level.UNKNOWN
    if not math.isnan(p):
        level = Level.WEAK if p < limits[0] else Level.NONE
        if p < limits[1]:
            level = Level.CHANGED
            if change < limits_of_change[1]:
                level = Level.CHANGED_ANEW
            elif change >= limits_of_change[0]:
                level = Level.DRIFTED
        surprise = -math.log10(p)
        if code // n_calm != alarm:
            usual += (min(surprise, CREDIBLE) - usual) / USUAL_READINGS
        elif level > Level.NONE and surprise < usual + EXCESS and not math.isnan(change):
            level = Level.EASED
    if odd and level < Level.ODD:
        level = Level.ODD
    before = code // n_calm
    code = transitions[0 if before in (bad_data, unknown_point) else code, level]
    if before != alarm and operating_point > (before != unknown_point):
        code = n_calm * unknown_point
    elif frozen and code // n_calm < bad_data:
        code = n_calm * bad_data
    return code, usual


_EVIDENCE = (
    *(read_only(float64, 1), read_only(float64, 1), read_only(boolean, 1), read_only(boolean, 1)),
    *(read_only(uint8, 1), read_only(float64, 2), read_only(float64, 2), read_only(uint8, 2)),
    *(int64, int64, int64),
)


@compiled(
    *_EVIDENCE,
    *(int64, float64),
    *(writable(uint8, 1), writable(uint8, 1), writable(int64, 1), writable(float64, 1)),
)
def follow(
    p_values: Floats,
    changes: Floats,
    odd: NDArray[np.bool_],
    frozen: NDArray[np.bool_],
    operating_point: NDArray[np.uint8],
    limits: Floats,
    limits_of_change: Floats,
    transitions: NDArray[np.uint8],
    n_calm: int,
    bad_data: int,
    unknown_point: int,
    code: int,
    first_usual: float,
    states: NDArray[np.uint8],
    calm: NDArray[np.uint8],
    entered: NDArray[np.int64],
    usual: Floats,
) -> None:
    """Write the state after each reading, its calm readings, and the reading that entered it.

    Parameters
    ----------
    p_values : ndarray of shape (n,)
        Evidence at each reading; NaN if unknown.
    changes : ndarray of shape (n,)
        Evidence of a change, as opposed to a drift; NaN if unknown.
    odd, frozen : ndarray of bool of shape (n,)
        Whether most of the latest readings are anomalies, and whether a sensor is frozen.
    operating_point : ndarray of shape (n,)
        2 at an unknown operating point, 1 shortly after some row at one, else 0.
    limits, limits_of_change : ndarray of shape (1, 2) or (n, 2)
        p-values below which evidence is weak and strong, for all readings or for each.
    transitions : ndarray of shape (n_codes, 8)
        The next code by ``Level`` of evidence; see ``vigie.assessment.status``. A code is
        ``n_calm`` times the state, plus the calm readings.
    n_calm : int
        Calm readings that clear a state.
    bad_data : int
        The state while a sensor is frozen, if it is not more severe.
    unknown_point : int
        The state at an unknown operating point, unless an alarm was raised before.
    code : int
        The code before the first reading.
    first_usual : float
        The usual surprise before the first reading.
    states, calm : ndarray of shape (n,)
        Output.
    entered : ndarray of shape (n,)
        Output; -1 while the state is still that before the first reading.
    usual : ndarray of shape (n,)
        Output: the surprise, smoothed over ``USUAL_READINGS``; it stays as it is in an alarm.
    """
    smoothed = first_usual
    last = -1
    for i in range(len(p_values)):
        own = i if len(limits) > 1 else 0
        before = code // n_calm
        code, smoothed = _after(
            *(code, smoothed, p_values[i], changes[i], odd[i], frozen[i], operating_point[i]),
            *(limits[own], limits_of_change[own], transitions, n_calm, bad_data, unknown_point),
        )
        states[i], calm[i], usual[i] = code // n_calm, code % n_calm, smoothed
        last = i if code // n_calm != before else last
        entered[i] = last


@compiled(*_EVIDENCE, writable(int64, 1), writable(float64, 1))
def follow_each(
    p_values: Floats,
    changes: Floats,
    odd: NDArray[np.bool_],
    frozen: NDArray[np.bool_],
    operating_point: NDArray[np.uint8],
    limits: Floats,
    limits_of_change: Floats,
    transitions: NDArray[np.uint8],
    n_calm: int,
    bad_data: int,
    unknown_point: int,
    codes: NDArray[np.int64],
    usual: Floats,
) -> None:
    """Replace codes and usual surprises, both (n,), by those after one reading of each asset.

    The other parameters are those of ``follow``.
    """
    for i in range(len(p_values)):
        own = i if len(limits) > 1 else 0
        codes[i], usual[i] = _after(
            *(codes[i], usual[i], p_values[i], changes[i], odd[i], frozen[i], operating_point[i]),
            *(limits[own], limits_of_change[own], transitions, n_calm, bad_data, unknown_point),
        )
