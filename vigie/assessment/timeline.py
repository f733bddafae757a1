"""The rows of one asset in time order: the look-back, followed by the rows to assess."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vigie.assessment.sensors import Examined, Sensors
from vigie.detectors import compiled
from vigie.detectors.base import Floats
from vigie.detectors.trained import TrainedModel

Times = NDArray[np.datetime64]
EPOCH, US = datetime(1970, 1, 1, tzinfo=UTC), timedelta(microseconds=1)
US_SINCE_EPOCH = np.dtype("datetime64[us]")
INTERVALS = 40
"""Latest steps in time that tell the sampling interval; any look-back has so many rows."""


@dataclass(frozen=True)
class RecentRows:
    """The last rows of an asset, oldest first.

    Attributes
    ----------
    sensors : Sensors
        The columns.
    times : ndarray of datetime64[us] of shape (n_rows,)
        When each row was measured.
    values, usable : ndarray of shape (n_rows, n_sensors)
        See ``Examined``.
    rows_since_gap : ndarray of int of shape (n_rows,)
        Rows from the last gap to each row, itself counted.
    held : ndarray of int of shape (n_sensors,)
        Rows for which each sensor has held its last value; 0 without a row.
    errors : mapping of str to ndarray of shape (n_known, n_errors)
        By model that forecasts, its errors, where they are known, up to the last row; they may
        reach further back than the rows. Those of the first rows after a gap may lack the rows
        before them.
    """

    sensors: Sensors
    times: Times
    values: Floats
    usable: Floats
    rows_since_gap: NDArray[np.int64]
    held: NDArray[np.intp]
    errors: Mapping[str, Floats] = field(default_factory=dict, repr=False)

    @classmethod
    def none(cls, sensors: Sensors) -> RecentRows:
        """Return an empty look-back."""
        empty, held = np.empty((0, len(sensors.names))), np.zeros(len(sensors.names), np.intp)
        no_rows = np.empty(0, np.int64)
        return cls(sensors, no_rows.view(US_SINCE_EPOCH), empty, empty, no_rows, held)

    def __len__(self) -> int:
        return len(self.times)

    def followed_by(self, times: Times, rows: Examined, max_gap_s: float) -> Timeline:
        """Return these rows and the next ones as one timeline."""
        values, usable = rows.values, rows.usable
        since_gap = since_gaps(times, max_gap_s, self)
        if len(self):
            times = np.concatenate([self.times, times])
            values = np.concatenate([self.values, rows.values])
            is_sound = self.is_sound and rows.usable is rows.values
            usable = values if is_sound else np.concatenate([self.usable, rows.usable])
            since_gap = np.concatenate([self.rows_since_gap, since_gap])
        known = len(self), self.held, dict(self.errors)
        return Timeline(self.sensors, times, values, usable, since_gap, *known)

    def as_timeline(self) -> Timeline:
        """Return these rows alone as a timeline."""
        known = len(self), self.held, dict(self.errors)
        return Timeline(
            self.sensors, self.times, self.values, self.usable, self.rows_since_gap, *known
        )

    @property
    def is_sound(self) -> bool:
        """Whether every sensor has a usable value in every row."""
        return self.usable is self.values


@dataclass(frozen=True)
class Timeline:
    """Consecutive rows of one asset.

    Attributes
    ----------
    sensors : Sensors
        The columns.
    times : ndarray of datetime64[us] of shape (n_rows,)
        When each row was measured, in UTC, ascending.
    values, usable : ndarray of shape (n_rows, n_sensors)
        See ``Examined``.
    rows_since_gap : ndarray of int of shape (n_rows,)
        Rows from the last gap to each row, itself counted.
    n_before : int
        Rows of the look-back.
    held_before : ndarray of int of shape (n_sensors,)
        Rows for which each sensor has held the last value of the look-back; 0 without one.
    errors : dict of str to ndarray of shape (n_known, n_errors)
        By model that forecasts, its errors up to the last row, or to the row before those to be
        scored; they may reach further back than the rows.
    """

    sensors: Sensors
    times: Times
    values: Floats
    usable: Floats
    rows_since_gap: NDArray[np.int64]
    n_before: int
    held_before: NDArray[np.intp]
    errors: dict[str, Floats] = field(default_factory=dict, repr=False, compare=False)
    _matrices: dict[Any, Floats] = field(default_factory=dict, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.times)

    @cached_property
    def complete(self) -> bool:
        """Whether every sensor has a usable value in every row."""
        return compiled.rows.none_missing(self.usable)

    @cached_property
    def held(self) -> NDArray[np.intp]:
        """Rows for which each sensor has held its value, (n_rows - n_before, n_sensors)."""
        counts = np.empty((len(self) - self.n_before, self.values.shape[1]), np.int64)
        n = self.n_before
        last = self.values[n - 1] if n else np.zeros(counts.shape[1])
        compiled.rows.held(self.values[n:], last, self.held_before, counts)
        return counts

    def intervals(self, first: int) -> Floats:
        """Return the sampling interval at the rows from ``first`` on, in seconds, (n - first,).

        It is that of the ``INTERVALS`` steps that end with a row, without pauses that are gaps; see
        ``sampling_intervals``.
        """
        steps = np.full(len(self) + INTERVALS, np.nan)
        steps[INTERVALS + 1 :] = np.diff(self.times) / np.timedelta64(1, "s")
        steps[INTERVALS:][self.rows_since_gap == 1] = np.nan
        ending = np.lib.stride_tricks.sliding_window_view(steps, INTERVALS)[first + 1 :]
        return sampling_intervals(ending)

    def last(self, n_rows: int, n_errors: int = 0) -> RecentRows:
        """Return the last rows, and as many errors of each model that forecasts, as a look-back."""
        values, usable = self.values[-n_rows:], self.usable[-n_rows:]
        is_sound = self.usable is self.values or compiled.rows.none_missing(usable)
        return RecentRows(
            self.sensors,
            self.times[-n_rows:],
            values,
            values if is_sound else usable,
            self.rows_since_gap[-n_rows:],
            self.held[-1] if len(self.held) else self.held_before,
            {name: known[-n_errors:] for name, known in self.errors.items()} if n_errors else {},
        )

    def judged(self, model: TrainedModel, at: slice | NDArray[np.intp] = slice(None)) -> Floats:
        """Return what a model sees of the rows ``at``, shape (..., n_features)."""
        if model.context is None:
            return self.rows(model.feature_names, at)
        # The parts of a model, and models of one training, share a context.
        key = model.feature_names, id(model.context)
        if key not in self._matrices:
            self._matrices[key] = model.context.judged(self.rows(model.feature_names))
        return self._matrices[key][at]

    def places(
        self, model: TrainedModel | None, first: int
    ) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Return which rows from ``first`` on are where training has not been, by themselves.

        Parameters
        ----------
        model : TrainedModel or None
            It knows the operating points; with None, no row is at an unknown one.

        Returns
        -------
        places : ndarray of int of shape (n_rows - first,)
            Where the sensors are; see ``OperatingPoints.places``.
        by_context : ndarray of bool of shape (n_rows - first,)
            Whether the context is new.
        """
        n_rows, rows = len(self) - first, slice(first, len(self))
        points = None if model is None else model.operating_points
        if model is None or points is None:
            return np.zeros(n_rows, np.uint8), np.zeros(n_rows, np.bool_)
        by_sensors = points.places(self.judged(model, rows))
        if model.context is None:
            return by_sensors, np.zeros(n_rows, np.bool_)
        unseen = model.context.unseen(self.rows(model.feature_names, rows))
        return by_sensors, unseen.any(axis=1)

    def in_context(self, model: TrainedModel, at: NDArray[np.intp]) -> Callable[[Floats], Floats]:
        """Return a function from what a model sees to what the sensors read at the rows ``at``.

        It maps arrays whose shape broadcasts with (n_at, n_features); the context itself to NaN.
        """
        if model.context is None:
            return lambda judged: judged
        return model.context.readings(self.rows(model.feature_names, at))

    def rows(self, names: tuple[str, ...], at: slice | NDArray[np.intp] = slice(None)) -> Floats:
        """Return the rows ``at`` with these sensors, shape (..., n_names)."""
        if names == self.sensors.names:
            return self.usable[at]
        # Models with the same sensors share a matrix.
        if names not in self._matrices:
            self._matrices[names] = self.usable.take(self.sensors.columns(names), axis=1)
        return self._matrices[names][at]

    def examples(self, model: TrainedModel, at: NDArray[np.intp]) -> Floats:
        """Return the rows or windows that a model scores for the rows ``at``; NaN if incomplete."""
        if model.window == 1:
            return self.imputed(model, self.judged(model, at))
        return self.imputed(model, self.windows(model, model.window, at))

    def imputed(self, model: TrainedModel, rows: Floats) -> Floats:
        """Return rows (..., n_features) with missing values replaced by the usual ones.

        A row without any value stays as it is.
        """
        if self.complete or model.takes_missing:
            return rows
        missing = np.isnan(rows)
        return np.where(missing & ~missing.all(axis=-1, keepdims=True), model.usual, rows)

    def unmeasured(self, model: TrainedModel, at: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Return which sensors a model explains at the rows ``at`` without a measured value.

        Its value is missing there, or, where averages are judged, in all of their rows;
        (n_at, n_features).
        """
        if self.complete:
            return np.zeros((len(at), model.n_features), np.bool_)
        n_rows = int(model.params.get("averaged_rows", 1))
        missing: NDArray[np.bool_] = np.logical_and.reduce(
            np.isnan(self.windows(model, n_rows, at)), axis=1
        )
        return missing

    def windows(self, model: TrainedModel, length: int, at: NDArray[np.intp]) -> Floats:
        """Return the ``length`` rows that end with each row of ``at``.

        Returns
        -------
        ndarray of shape (n_at, length, n_features)
            NaN before the first row and before a gap.
        """
        ago = np.arange(length - 1, -1, -1)
        windows = self.judged(model, np.maximum(at[:, None] - ago, 0))
        windows[self.rows_since_gap[at][:, None] <= ago] = np.nan
        return windows

    def stretch(
        self, rows: Floats, length: int, first: int, stop: int
    ) -> tuple[Floats, slice | NDArray[np.intp]]:
        """Return a part of rows that contains the windows of consecutive ones.

        Parameters
        ----------
        rows : ndarray of shape (n, k)
            They end with the last row of the timeline, and may reach further back.
        length : int
            Rows in a window.
        first, stop : int
            The windows end with these rows; ``stop`` is exclusive.

        Returns
        -------
        stretch : ndarray of shape (n, k)
            All rows of these windows; NaN before the first row, and at a gap enough rows of NaN
            that no window spans it.
        windows : slice or ndarray of int of shape (stop - first,)
            Index in ``stretch`` at which each window begins.
        """
        since_gap, earlier = self.rows_since_gap, len(rows) - len(self)
        begin = max(first + 1 - min(length, int(since_gap[first])), -earlier)
        rows = rows[begin + earlier : stop + earlier]
        if begin == first + 1 - length and stop - int(since_gap[stop - 1]) <= begin:
            return rows, slice(0, stop - first)
        begins = np.zeros(stop - begin, np.int64)
        # No gap is in the rows before the timeline that a window reaches back to.
        begins[max(-begin, 0) :] = since_gap[max(begin, 0) : stop] == 1
        n_gaps = np.cumsum(begins)
        n_gaps -= n_gaps[0]
        places = np.arange(stop - begin) + (length - 1) * (n_gaps + 1)
        stretch = np.full((int(places[-1]) + 1, rows.shape[1]), np.nan)
        stretch[places] = rows
        # No window begins before that of the first row.
        windows = places[first - begin :] - (length - 1)
        return stretch[windows[0] :], windows - windows[0]


def since_gaps(times: Times, max_gap_s: float, before: RecentRows) -> NDArray[np.int64]:
    """Return the rows from the last gap to each of the next rows, itself counted, (n_rows,)."""
    counts = np.empty(len(times), np.int64)
    # Without a row before it, the first one is at no distance from itself, and is counted from 0.
    ticks = np.concatenate([before.times[-1:] if len(before) else times[:1], times])
    known = int(before.rows_since_gap[-1]) if len(before) else 0
    longest = round(max_gap_s * 1e6)
    compiled.rows.rows_since_gap(ticks.view(np.int64), longest, known, counts)
    return counts


def sampling_intervals(steps: Floats) -> Floats:
    """Return the sampling interval that the latest steps in time tell, shape (n,).

    It is their median, so that one late reading does not change it. Where most times are equal, as
    full seconds are of a faster recording, it is their mean.

    Parameters
    ----------
    steps : ndarray of shape (n, INTERVALS)
        In seconds; NaN for a gap, or where there is none.
    """
    ordered = np.sort(steps, axis=1)  # NaN comes last
    known = INTERVALS - np.isnan(ordered).sum(axis=1)
    at = np.arange(len(ordered)), np.maximum(known - 1, 0) // 2
    median: Floats = ordered[at]
    if (tied := np.flatnonzero(median == 0.0)).size:
        median[tied] = np.nansum(ordered[tied], axis=1) / known[tied]
    return median


def as_times(moments: Sequence[datetime]) -> Times:
    """Return moments in UTC as datetime64[us], shape (n,)."""
    # Integers take a third of the time that numpy needs to convert datetimes.
    return np.array([(moment - EPOCH) // US for moment in moments], US_SINCE_EPOCH)


def as_datetime64(moment: datetime) -> np.datetime64:
    """Return a moment in UTC as datetime64[us]."""
    return np.datetime64(moment.replace(tzinfo=None), "us")


def as_datetime(moment: np.datetime64) -> datetime:
    """Return a datetime64[us] as a datetime in UTC."""
    converted = moment.item()
    assert isinstance(converted, datetime)
    return converted.replace(tzinfo=UTC)
