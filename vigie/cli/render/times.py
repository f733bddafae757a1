"""Times for people, and for other programs; all in UTC."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vigie.assessment.timeline import Times

UNITS = ("s", "ms", "us")
"""Of times that are written, the finest last."""


def iso(moment: np.datetime64 | None) -> str | None:
    """Return a time in ISO 8601, such as ``2026-01-05T08:00:00Z``; None for None."""
    if moment is None:
        return None
    moments = np.array([moment])
    written: str = iso_times(moments, unit_of(moments))[0].as_py()
    return f"{written}Z"


def iso_times(times: Times, unit: str) -> Any:
    """Return times in ISO 8601 without the Z, an Arrow array of strings of shape (n,)."""
    # With a blank, Arrow writes them ten times as fast as with a format.
    written = pc.cast(pa.array(times.astype(f"M8[{unit}]")), pa.string())
    return pc.binary_replace_slice(written, 10, 11, "T")


def unit_of(times: Times, at_least: str = "s") -> str:
    """Return the coarsest unit that loses nothing of times of shape (n,)."""
    for unit in UNITS[UNITS.index(at_least) : -1]:
        if bool((times == times.astype(f"M8[{unit}]")).all()):
            return unit
    return UNITS[-1]


def short(moment: np.datetime64, after: np.datetime64 | None = None) -> str:
    """Return a time such as ``2026-01-05 08:00:00``; without the date if ``after`` has the same."""
    moments = np.array([moment])
    written: str = iso_times(moments, unit_of(moments))[0].as_py()
    day, clock = written.split("T")
    if after is not None and moment.astype("M8[D]") == after.astype("M8[D]"):
        return clock
    return f"{day} {clock}"


def short_span(first: np.datetime64, last: np.datetime64) -> str:
    """Return two times in one line, such as ``2026-01-05 08:00:00 to 08:30:00``."""
    return short(first) if first == last else f"{short(first)} to {short(last, first)}"
