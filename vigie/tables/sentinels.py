"""Numbers that stand for a missing value, such as -9999: repeated exactly, and far off the rest."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from vigie.tables.report_words import counted

Floats = NDArray[np.float64]

_WRITTEN = """
    -999 -9999 -99999 -999999 999 9999 99999 999999 -999.9 -9999.9 999.9 9999.9 -999.25 -9999.25
    -99 -99.9 -99.99 -200 -888 -8888 8888
    -127 3276.7 -3276.8 327.67 -327.68 6553.5 655.35 99999.9 99999.99 9999.99 -9999.99 -32767 65534
    -6999 6999 -7999 7999 32767 -32768 65535 2147483647 -2147483648 4294967295 -1e9 1e9 1e20 -1e20
"""
SENTINELS = frozenset(map(float, _WRITTEN.split()))
"""What loggers, controllers and historians write where a value is missing."""
BEYOND = 1e29
"""No quantity is as large; 1e30 and the largest float32 are no readings."""
FEWEST, FEWEST_OTHERS, FEWEST_DIFFERENT = 2, 20, 10
"""Times that a sentinel occurs, and other values beside it, as many of them different."""
LARGER = 2.0
"""A sentinel is this many times as large as any other value, and farther off than these spread."""


def sentinels(values: Floats) -> dict[float, int]:
    """Return the values of a column that plainly stand for missing ones, and counts.

    Parameters
    ----------
    values : ndarray of float64 of shape (n_rows,)
        NaN where a value is missing.
    """
    if not len(values):
        return {}
    extremes = float(np.fmin.reduce(values)), float(np.fmax.reduce(values))
    if not any(end in SENTINELS or abs(end) >= BEYOND for end in extremes):
        return {}
    different, counts = np.unique(values[~np.isnan(values)], return_counts=True)
    may_be = np.array([value in SENTINELS for value in different.tolist()], bool)
    is_beyond = np.abs(different) >= BEYOND
    others = ~(may_be | is_beyond)
    if not others.any():
        return {}
    low, high = different[others][[0, -1]]
    n_others = int(counts[others].sum())
    is_far = np.maximum(low - different, different - high) > high - low
    is_large = np.abs(different) > LARGER * max(abs(low), abs(high))
    is_sensor = n_others >= FEWEST_OTHERS and int(others.sum()) >= FEWEST_DIFFERENT
    is_told = may_be & is_far & is_large & is_sensor & (counts >= FEWEST)
    chosen = is_told | is_beyond
    return dict(zip(different[chosen].tolist(), counts[chosen].tolist(), strict=True))


def without(values: Floats, found: Mapping[float, int]) -> Floats:
    """Return values with NaN in place of sentinels."""
    return np.where(np.isin(values, list(found)), np.nan, values) if found else values


def note(name: str, found: Mapping[float, int]) -> str:
    """Return a sentence on the sentinels of a column."""
    listed = ", ".join(f"{value:.10g}" for value in found)
    rows = counted(sum(found.values()), "row")
    return f"{name}: {listed} in {rows} read as missing, as far from all other values"
