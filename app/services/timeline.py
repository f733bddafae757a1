"""The rows of one asset in time order: what each reading looks back on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from app.detectors.base import Floats

Times = NDArray[np.datetime64]


@dataclass(frozen=True)
class Timeline:
    """Consecutive rows of one asset.

    Attributes
    ----------
    times : ndarray of datetime64[us] of shape (n_rows,)
        When each row was measured, in UTC, ascending.
    columns : mapping of str to ndarray of shape (n_rows,)
        Values by sensor; NaN where there is none that can be used.
    starts : ndarray of int of shape (n_rows,)
        For each row, the first one that it may look back on: the first after the last gap.
    matrices : dict
        Rows by the names of their sensors, as they have been asked for: several models share one.
    """

    times: Times
    columns: Mapping[str, Floats]
    starts: NDArray[np.intp]
    matrices: dict[tuple[str, ...], Floats] = field(default_factory=dict, repr=False, compare=False)

    def rows(self, names: Sequence[str], at: slice | NDArray[np.intp] = slice(None)) -> Floats:
        """Return the rows ``at`` with these sensors, shape (..., n_names); NaN for unknown ones."""
        wanted = tuple(names)
        if wanted not in self.matrices:
            unknown = np.full(len(self.times), np.nan)
            columns = [self.columns.get(name, unknown) for name in names]
            self.matrices[wanted] = np.column_stack(columns)
        return self.matrices[wanted][at]

    def windows(self, names: Sequence[str], length: int, at: NDArray[np.intp]) -> Floats:
        """Return the ``length`` rows that end with each row of ``at``.

        Returns
        -------
        ndarray of shape (n_at, length, n_names)
            NaN before the first row and before a gap.
        """
        places = at[:, None] + np.arange(1 - length, 1)
        windows = self.rows(names, np.maximum(places, 0))
        windows[places < self.starts[at][:, None]] = np.nan
        return windows

    def stretch(
        self, names: Sequence[str], length: int, first: int, stop: int
    ) -> tuple[Floats, NDArray[np.intp]]:
        """Return rows in which the windows of consecutive rows lie one after the other.

        Parameters
        ----------
        names : sequence of str
            The sensors.
        length : int
            Rows in a window.
        first, stop : int
            The rows that windows end with, ``stop`` not counted.

        Returns
        -------
        rows : ndarray of shape (n, n_names)
            All rows that any of these windows sees; NaN before the first row and in a gap, as
            many as keep the windows apart.
        windows : ndarray of int of shape (stop - first,)
            Where in ``rows`` the window of each row begins.
        """
        begin = max(first - length + 1, int(self.starts[first]))
        if begin == first - length + 1 and self.starts[stop - 1] <= begin:
            return self.rows(names, slice(begin, stop)), np.arange(stop - first)
        n_gaps = np.cumsum(np.diff(self.starts[begin:stop], prepend=self.starts[begin]) > 0)
        places = np.arange(stop - begin) + (length - 1) * (n_gaps + 1)
        rows = np.full((int(places[-1]) + 1, len(names)), np.nan)
        rows[places] = self.rows(names, slice(begin, stop))
        return rows, places[first - begin :] - (length - 1)

    def reach(self, at: NDArray[np.intp]) -> NDArray[np.intp]:
        """Return how many rows there are from the last gap to each row of ``at``, both counted."""
        return at - self.starts[at] + 1


def starts_after_gaps(times: Times, longest_gap_s: float) -> NDArray[np.intp]:
    """Return for each row the first row after the last gap longer than that, shape (n_rows,)."""
    starts = np.zeros(len(times), dtype=np.intp)
    after_gap = times[1:] - times[:-1] > np.timedelta64(round(longest_gap_s * 1e6), "us")
    if after_gap.any():
        rows = np.arange(1, len(times))
        np.maximum.accumulate(np.where(after_gap, rows, 0), out=starts[1:])
    return starts


def as_datetime64(moment: datetime) -> np.datetime64:
    """Return a moment in UTC as numpy has it, without a zone."""
    return np.datetime64(moment.replace(tzinfo=None), "us")


def as_datetime(moment: np.datetime64) -> datetime:
    """Return numpy's moment as one in UTC."""
    measured: datetime = moment.astype("datetime64[us]").astype(datetime)
    return measured.replace(tzinfo=UTC)
