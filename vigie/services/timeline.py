"""The rows of one asset in time order: what each reading looks back on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from vigie.detectors import compiled
from vigie.detectors.base import Floats
from vigie.services.sensors import Sensors

Times = NDArray[np.datetime64]
EPOCH, US = datetime(1970, 1, 1, tzinfo=UTC), timedelta(microseconds=1)
US_SINCE_EPOCH = np.dtype("datetime64[us]")


@dataclass(frozen=True)
class Timeline:
    """Consecutive rows of one asset.

    Attributes
    ----------
    sensors : Sensors
        The columns.
    times : ndarray of datetime64[us] of shape (n_rows,)
        When each row was measured, in UTC, ascending.
    usable : ndarray of shape (n_rows, n_sensors)
        Values; NaN where there is none that can be used.
    reach : ndarray of int of shape (n_rows,)
        For each row, how many rows there are from the last gap to it, itself counted.
    """

    sensors: Sensors
    times: Times
    usable: Floats
    reach: NDArray[np.int64]
    _matrices: dict[tuple[str, ...], Floats] = field(
        default_factory=dict, repr=False, compare=False
    )

    @cached_property
    def complete(self) -> bool:
        """Whether every sensor has a usable value in every row."""
        return compiled.rows.none_missing(self.usable)

    def rows(self, names: tuple[str, ...], at: slice | NDArray[np.intp] = slice(None)) -> Floats:
        """Return the rows ``at`` with these sensors, shape (..., n_names)."""
        if names == self.sensors.names:
            return self.usable[at]
        # Several models share one.
        if names not in self._matrices:
            self._matrices[names] = self.usable.take(self.sensors.places(names), axis=1)
        return self._matrices[names][at]

    def windows(self, names: tuple[str, ...], length: int, at: NDArray[np.intp]) -> Floats:
        """Return the ``length`` rows that end with each row of ``at``.

        Returns
        -------
        ndarray of shape (n_at, length, n_names)
            NaN before the first row and before a gap.
        """
        ago = np.arange(length - 1, -1, -1)
        windows = self.rows(names, np.maximum(at[:, None] - ago, 0))
        windows[self.reach[at][:, None] <= ago] = np.nan
        return windows

    def stretch(
        self, names: tuple[str, ...], length: int, first: int, stop: int
    ) -> tuple[Floats, slice | NDArray[np.intp]]:
        """Return rows in which the windows of consecutive rows lie one after the other.

        Parameters
        ----------
        names : tuple of str
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
        windows : slice or ndarray of int of shape (stop - first,)
            Where in ``rows`` the window of each row begins.
        """
        if length == 1:
            return self.rows(names, slice(first, stop)), slice(0, stop - first)
        begin = first + 1 - min(length, int(self.reach[first]))
        if begin == first + 1 - length and stop - int(self.reach[stop - 1]) <= begin:
            return self.rows(names, slice(begin, stop)), slice(0, stop - first)
        n_gaps = np.cumsum(self.reach[begin:stop] == 1)
        n_gaps -= n_gaps[0]
        places = np.arange(stop - begin) + (length - 1) * (n_gaps + 1)
        rows = np.full((int(places[-1]) + 1, len(names)), np.nan)
        rows[places] = self.rows(names, slice(begin, stop))
        return rows, places[first - begin :] - (length - 1)


def reach_of(times: Times, longest_gap_s: float) -> NDArray[np.int64]:
    """Return for each row how many there are since the last gap longer than that, (n_rows,)."""
    reach = np.empty(len(times), np.int64)
    compiled.rows.reach(times.view(np.int64), round(longest_gap_s * 1e6), reach)
    return reach


def as_times(moments: Sequence[datetime]) -> Times:
    """Return moments in UTC as numpy has them, without a zone, shape (n,)."""
    # By whole numbers, a third of the price of handing numpy the moments themselves.
    return np.array([(moment - EPOCH) // US for moment in moments], US_SINCE_EPOCH)


def as_datetime64(moment: datetime) -> np.datetime64:
    """Return a moment in UTC as numpy has it, without a zone."""
    return np.datetime64(moment.replace(tzinfo=None), "us")


def as_datetime(moment: np.datetime64) -> datetime:
    """Return numpy's moment as one in UTC."""
    measured = moment.item()
    assert isinstance(measured, datetime)
    return measured.replace(tzinfo=UTC)
