"""Decide whether the day, the month or the year stands first in dates, by all of them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vigie.tables.written_times import DAY, HOUR, SECOND, Order, shape_of, shape_text

ORDER_WORDS: dict[Order, str] = {
    "dmy": "day, month, year",
    "mdy": "month, day, year",
    "ymd": "year, month, day",
    "ydm": "year, day, month",
}
LONGEST_STEP = 6 * HOUR
"""Longer steps say nothing about which day follows which."""
FEWEST_STEPS = 10
"""Steps within days that are needed to know how one day follows another."""
OLD = 3650 * DAY
"""By as much, the day first is no custom that goes without saying."""
YEARLY = 300 * DAY
"""Nobody records a machine in steps as long as this."""

Reason = Literal["only", "hint", "steps", "usual", "dots"]
"""Whether no other order fits, or a hint, the steps between rows or custom decide.

"dots" is custom where another order has other steps."""
Times = NDArray[np.int64]


def chosen(
    readings: Mapping[Order, Times], sample: str, hints: Sequence[Order] = ()
) -> tuple[Order, Reason] | None:
    """Return the order of the numbers in dates, and why; None if several orders make sense.

    Parameters
    ----------
    readings : mapping
        The times in microseconds of all rows, by each order that fits all of them.
    sample : str
        The first cell.
    hints : sequence of str, optional
        The orders that dates elsewhere suggest, the weightiest first.
    """
    if len(readings) == 1:
        return next(iter(readings)), "only"
    ascending = {order: times for order, times in readings.items() if _ascends(times)}
    if not ascending:
        return _nearest(readings), "only"
    steps = {order: np.diff(times) for order, times in ascending.items()}
    left = [a for a in steps if not any(_is_clearer(steps[b], steps[a]) for b in steps if b != a)]
    if "dmy" in left and has_month_name(sample):
        return "dmy", "usual"
    if len(steps) == 1:
        return left[0], "only"
    if hint := next((order for order in hints if order in left), None):
        is_open = any(not np.array_equal(ascending[hint], times) for times in ascending.values())
        if not is_open or chosen(readings, sample) == (hint, "usual"):
            return hint, "usual"
        return hint, "hint"
    if len(left) == 1:
        return left[0], "steps"
    if all(np.array_equal(ascending[left[0]], ascending[order]) for order in left):
        return left[0], "only"
    has_same_steps = all(np.array_equal(steps[left[0]], steps[order]) for order in left)
    if has_same_steps and {"dmy", "ymd"} <= set(left) and _is_old(ascending):
        return None
    if "dmy" in left and _has_dots(sample):
        return "dmy", "usual" if has_same_steps else "dots"
    return None


def chosen_year_first(
    readings: Mapping[Order, Times], hints: Sequence[Order] = ()
) -> tuple[Order, Reason]:
    """Return the order of dates with the year first, in which the month is second by custom."""
    usual: Order | None = next((order for order in readings if order != "ydm"), None)
    if usual is not None and "ydm" in hints:
        is_wrong = _is_clearer(np.diff(readings[usual]), np.diff(readings["ydm"]))
        return (usual, "steps") if is_wrong else ("ydm", "hint")
    if usual is None or _is_clearer(np.diff(readings["ydm"]), np.diff(readings[usual])):
        return "ydm", "steps"
    return usual, "only"


def _ascends(times: Times) -> bool:
    """Return whether times ascend, but for a clock that is set back."""
    return not (np.diff(times) < -HOUR).any()


def _is_old(readings: Mapping[Order, Times]) -> bool:
    """Return whether dates lie many years back with the day first, but not with the year first."""
    old, new = int(readings["dmy"][0]), int(readings["ymd"][-1])
    now = int(dt.datetime.now(dt.UTC).timestamp()) * SECOND
    return new - old > OLD and new < now + DAY


def _nearest(readings: Mapping[Order, Times]) -> Order:
    """Return the order in which the fewest rows go back, or all of them do."""

    def n_odd(order: Order) -> int:
        n_back = int((np.diff(readings[order]) < 0).sum())
        n_forward = int((np.diff(readings[order]) > 0).sum())
        return min(n_back, n_forward)

    return min(readings, key=n_odd)


def _is_clearer(steps: Times, others: Times) -> bool:
    """Return whether the steps of one meaning make sense, and those of the other do not.

    Steps within a day are the same in both. Where one meaning goes on over midnight as within the
    day, and the other never does, it is right.
    """
    differs = steps != others
    if not differs.any():
        return False
    within = steps[~differs & (steps > 0)]
    if len(within) >= FEWEST_STEPS:
        limit = min(float(np.quantile(within, 0.99)), LONGEST_STEP)
        if (steps[differs] <= limit).any() and not (others[differs] <= limit).any():
            return True
    return bool(others[differs].min() >= YEARLY > 10 * steps[differs].max())


def has_month_name(sample: str) -> bool:
    """Return whether a date has the name of a month, which no year of two digits stands before."""
    shape = shape_of(shape_text(sample))
    return shape is not None and shape.month is not None


def _has_dots(sample: str) -> bool:
    """Return whether dots stand between the numbers of a date: the day is first then everywhere."""
    shape = shape_of(shape_text(sample))
    return shape is not None and shape.mark == "."
