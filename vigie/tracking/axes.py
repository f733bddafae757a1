"""What pictures over rows and times have in common, of trainings and of verdicts."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vigie.detectors.base import Floats

PAUSE = 20.0
"""In usual steps: a longer one breaks a line."""
LONGEST_NAME = 34


def days_of(times: NDArray[np.datetime64]) -> Floats:
    """Return times as Matplotlib places them: days since 1970."""
    days: Floats = times.astype("M8[us]").astype(np.int64) / 86_400e6
    return days


def broken(values: Floats, x: Floats) -> Floats:
    """Return the values at ``x`` with a NaN in each long pause, which breaks a line there."""
    steps = np.diff(x)
    if not len(steps):
        return values
    pauses = np.flatnonzero(steps > PAUSE * np.median(steps)) + 1
    with_gaps: Floats = np.insert(values, pauses, np.nan)
    return with_gaps


def mark_times(axes: Any, most: int) -> None:
    """Put at most so many dates or times of day below days since 1970."""
    from matplotlib import dates

    locator: Any = dates.AutoDateLocator(minticks=3, maxticks=most)  # type: ignore[no-untyped-call]
    formatter: Any = dates.ConciseDateFormatter(locator)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(formatter)


def literal(text: str, longest: int = LONGEST_NAME) -> str:
    """Return text from outside as Matplotlib draws it as it is: a dollar would begin a formula."""
    text = text if len(text) <= longest else f"{text[: longest - 3]}..."
    return text.replace("$", r"\$")
