"""Group the assessed rows of an asset into events.

Consecutive rows in one state of the asset that asks for action are an event, and so are anomalies
that lie close together, unless the state says that the readings are odd. Events are
built part by part, and only the worst are kept and explained, so that neither memory nor time
grows with a fault that lasts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vigie.assessment.assessment import Measured, criticality
from vigie.assessment.status import STATES
from vigie.assessment.stream import Part
from vigie.assessment.timeline import Times
from vigie.detectors.base import Floats
from vigie.detectors.trained import direction
from vigie.events.event import Event
from vigie.models.anomaly_data import AssetState, SensorContribution

JOIN_WITHIN_ROWS = 30
"""Anomalies at most this many rows from each other belong to one event."""
MOST_EXPLAINED = 64
"""Most rows of an event that are explained: explaining a row costs far more than assessing it."""
MOST_TOLD = 100
"""Most events that are reported."""

TOLD = STATES[STATES.index(AssetState.WATCH) + 1 :]
"""States that are events: all that ask for more than a watch, in order of severity."""
ODD = STATES[STATES.index(AssetState.BAD_DATA) + 1 :]
"""States in which odd readings are no events of their own."""

Kind = AssetState | None
"""Of an event: the state of the asset, None for anomalies by themselves."""
Stretch = tuple[int, int]
"""First and last row of a group."""
Reasons = Callable[[NDArray[np.intp]], Mapping[int, Sequence[SensorContribution]]]
Began = tuple[int, np.datetime64 | None]
"""The row in which a change began, and when that was measured, if that is known."""
VALUED = (None, AssetState.DRIFT, AssetState.ALARM)
"""Kinds of events whose sensors read unusual values; others have reasons of another sort."""


def no_reasons(rows: NDArray[np.intp]) -> Mapping[int, Sequence[SensorContribution]]:
    """Return no sensors, where events are only counted."""
    return {}


@dataclass(frozen=True)
class Rows:
    """Consecutive rows, with the verdicts on the readings and on the asset.

    Attributes
    ----------
    first : int
        Number of the first row, counted from 0 over all rows.
    states : ndarray of int of shape (n,)
        The states of the asset, as indices into ``STATES``; others are no events.
    is_anomaly : ndarray of bool of shape (n,)
        Whether the reading is an anomaly by itself.
    asset_p_values, p_values : ndarray of shape (n,)
        Of the asset, and of the reading; NaN where all models abstain.
    contamination : float
        The p-value below which a reading is an anomaly.
    reasons : mapping of kind to callable, optional
        Return by row, counted from ``first``, the sensors that explain an event of each kind; by
        default none.
    times : ndarray of datetime64[us] of shape (n,), optional
        When the rows were measured.
    measured : callable, optional
        Return what the sensors read in rows counted from ``first``.
    is_at_floor : ndarray of bool of shape (n,), optional
        See ``Assessment.is_at_floor``.
    began : callable, optional
        Return where the change behind an alarm began, given the row that raised it; rows count
        from ``first``. None if that is unknown.
    """

    first: int
    states: NDArray[np.integer[Any]]
    is_anomaly: NDArray[np.bool_]
    asset_p_values: Floats
    p_values: Floats
    contamination: float
    reasons: Mapping[Kind, Reasons] = field(default_factory=dict)
    times: Times | None = None
    measured: Callable[[NDArray[np.intp]], Measured] | None = None
    is_at_floor: NDArray[np.bool_] | None = None
    began: Callable[[int], Began | None] | None = None

    @classmethod
    def of(cls, part: Part) -> Rows:
        """Return the rows of a part of a stream."""
        assessment = part.assessment
        reasons: dict[Kind, Reasons] = {
            **dict.fromkeys(TOLD, assessment.trend_reasons),
            AssetState.BAD_DATA: assessment.frozen_sensors,
            AssetState.UNKNOWN_OPERATING_POINT: assessment.unseen_sensors,
            None: assessment.reasons,
        }

        def began(row: int) -> Began | None:
            # Before the first reading, the asset was in this state.
            if assessment.statuses.entered[row] < 0:
                return None
            return (
                assessment.began_row(row),
                None if part.times is None else assessment.began(row),
            )

        return cls(
            part.first,
            assessment.statuses.states,
            assessment.is_anomaly,
            assessment.asset_p_values,
            assessment.p_values,
            assessment.contamination,
            reasons,
            part.times,
            assessment.measured,
            assessment.is_at_floor,
            began,
        )

    def time(self, row: int) -> np.datetime64 | None:
        """Return when a row was measured, counted from ``first``; None if there are no times."""
        if self.times is None:
            return None
        moment: np.datetime64 = self.times[row]
        return moment

    def of_kind(self, kind: Kind) -> NDArray[np.bool_]:
        """Return which rows belong to events of a kind, shape (n,)."""
        if kind is not None:
            chosen: NDArray[np.bool_] = self.states == STATES.index(kind)
            return chosen
        return self.is_anomaly & ~np.isin(self.states, [STATES.index(state) for state in ODD])


class _Kept:
    """One reading of each sensor among rows: the one with the largest key, the latest of equals."""

    def __init__(self) -> None:
        self._keys = np.empty(0)
        self._found = np.empty((0, 0))

    def add(self, keys: Floats, rows: NDArray[np.intp], measured: Measured) -> None:
        """Add rows, given a key for each reading, (n, n_sensors); NaN where there is none."""
        keys = np.where(np.isnan(keys), -np.inf, keys)
        best = len(keys) - 1 - keys[::-1].argmax(axis=0)
        at = best, np.arange(keys.shape[1])
        readings = (measured.values, measured.usual, measured.low, measured.high)
        found = np.stack([rows[best].astype(np.float64), *(array[at] for array in readings)])
        if not len(self._keys):
            self._keys, self._found = keys[at], found
            return
        later = keys[at] >= self._keys
        self._keys = np.where(later, keys[at], self._keys)
        self._found = np.where(later, found, self._found)

    def key(self, column: int) -> float:
        """Return the key of the reading of a sensor; -inf if there is no reading."""
        return float(self._keys[column])

    def row(self, column: int) -> int:
        """Return the row of the reading of a sensor."""
        return int(self._found[0, column])

    def as_value(self, sensor: SensorContribution, column: int) -> SensorContribution:
        """Return a contribution with the reading of its sensor as the value."""
        value, usual, low, high = self._found[1:, column].tolist()
        facts = {"value": value, "usual": usual, "low": low, "high": high}
        where = direction(value, low, high)
        told = {"direction": where, "imputed": None, "readings_ago": None, "when": None}
        return sensor.model_copy(update={**facts, **told})


@dataclass
class _Readings:
    """The readings of the sensors in an event that are worth telling."""

    columns: Mapping[str, int] = field(default_factory=dict)
    above: _Kept = field(default_factory=_Kept)
    below: _Kept = field(default_factory=_Kept)
    last: _Kept = field(default_factory=_Kept)

    def add(self, rows: Rows, members: NDArray[np.intp], measured: Measured) -> None:
        """Add what was measured in members, counted from the first one of ``rows``."""
        self.columns = self.columns or {name: at for at, name in enumerate(measured.names)}
        width = measured.high - measured.low
        far = (measured.values - measured.usual) / np.where(width > 0.0, width, 1.0)
        numbers = rows.first + members
        self.above.add(far, numbers, measured)
        self.below.add(-far, numbers, measured)
        known = np.where(np.isnan(far), np.nan, members[:, None])
        self.last.add(rows.first + known, numbers, measured)

    def has(self, name: str) -> bool:
        """Return whether a sensor was measured and is judged."""
        column = self.columns.get(name)
        return column is not None and np.isfinite(self.last.key(column))

    def farthest(self, sensor: SensorContribution) -> tuple[SensorContribution, int]:
        """Return a sensor with its most unusual value, and the row of that."""
        column = self.columns[sensor.name]
        is_above = self.above.key(column) >= self.below.key(column)
        if sensor.direction != "within":
            is_above = sensor.direction == "above"
        kept = self.above if is_above else self.below
        return kept.as_value(sensor, column), kept.row(column)

    def latest(self, sensor: SensorContribution) -> SensorContribution:
        """Return a sensor with its last value."""
        return self.last.as_value(sensor, self.columns[sensor.name])


@dataclass
class _OpenEvent:
    """An event to which rows are still added.

    Every ``every``-th member is explained; ``every`` doubles when there are too many of them. So
    the choice depends on the event alone, not on how its rows were cut into parts.
    """

    kind: Kind
    first: int
    last: int
    start: np.datetime64 | None
    end: np.datetime64 | None = None
    n_members: int = 0
    n_anomalies: int = 0
    n_watched: int = 0
    peak: int = -1
    peak_at: np.datetime64 | None = None
    p_value: float = np.inf
    p_value_of_reading: float = np.inf
    every: int = 1
    to_explain: dict[int, int] = field(default_factory=dict)
    """Rows of the part being added, by member number; -1 for a new peak."""
    explained: dict[int, Sequence[SensorContribution]] = field(default_factory=dict)
    at_peak: Sequence[SensorContribution] = ()
    is_at_floor: bool = False
    readings: _Readings = field(default_factory=_Readings)
    began: Began | None = None

    def severity(self) -> tuple[int, float, int]:
        return _rank(self.kind), -self.p_value, -self.first

    def add(self, rows: Rows, members: NDArray[np.intp]) -> None:
        """Add members, counted from the first one of ``rows``."""
        p_values = rows.p_values if self.kind is None else rows.asset_p_values
        known = np.where(np.isnan(p_values[members]), 1.0, p_values[members])
        readings = rows.p_values[members]
        numbers = np.arange(self.n_members, self.n_members + len(members))
        self.n_members += len(members)
        self.n_anomalies += int(rows.is_anomaly[members].sum())
        watched = rows.states[members] == STATES.index(AssetState.WATCH)
        self.n_watched += int((watched & rows.is_anomaly[members]).sum())
        self.last, self.end = rows.first + int(members[-1]), rows.time(int(members[-1]))
        self.p_value_of_reading = float(np.fmin.reduce(readings, initial=self.p_value_of_reading))
        while (self.n_members - 1) // self.every >= MOST_EXPLAINED:
            self.every *= 2
        chosen = numbers % self.every == 0
        self.to_explain = dict(zip(numbers[chosen].tolist(), members[chosen].tolist(), strict=True))
        if rows.is_at_floor is not None and self.kind is not None:
            self.is_at_floor |= bool(rows.is_at_floor[members].any())
        if rows.measured is not None and self.kind in VALUED:
            self.readings.add(rows, members, rows.measured(members))
        # Evidence that stays the same, as at the floor, is about what is read now.
        worst = len(known) - 1 - int(known[::-1].argmin())
        if known[worst] <= self.p_value:
            self.p_value, self.peak = float(known[worst]), rows.first + int(members[worst])
            self.peak_at = rows.time(int(members[worst]))
            self.to_explain[-1] = int(members[worst])

    def explain(self, reasons: Mapping[int, Sequence[SensorContribution]]) -> None:
        """Add the sensors of the rows to explain."""
        added = {number: reasons.get(row, ()) for number, row in self.to_explain.items()}
        self.at_peak = added.pop(-1, self.at_peak)
        explained = {**self.explained, **added}
        self.explained = {n: sensors for n, sensors in explained.items() if n % self.every == 0}
        self.to_explain = {}

    def event(self, contamination: float) -> Event:
        """Return the event so far."""
        shares: dict[str, float] = {}
        for sensors in self.explained.values():
            for sensor in sensors:
                share = sensor.share / len(self.explained)
                shares[sensor.name] = shares.get(sensor.name, 0.0) + share
        ranked = [
            sensor.model_copy(update={"share": shares.get(sensor.name, 0.0)})
            for sensor in sorted(self.at_peak, key=lambda s: -shares.get(s.name, 0.0))
        ]
        told, latest, value_rows = [], [], {}
        for sensor in ranked:
            if self.readings.has(sensor.name):
                farthest, value_rows[sensor.name] = self.readings.farthest(sensor)
                told.append(farthest)
                latest.append(self.readings.latest(sensor))
            else:
                told.append(sensor)
                latest.append(sensor)
        began_row, began = self.began or (None, None)
        return Event(
            first=self.first,
            last=self.last,
            peak=self.peak,
            state=self.kind,
            n_anomalies=self.n_anomalies,
            p_value=self.p_value,
            criticality=criticality(self.p_value_of_reading, contamination),
            sensors=told,
            start=self.start,
            end=self.end,
            is_at_floor=self.is_at_floor,
            latest=latest,
            value_rows=value_rows,
            began_row=began_row,
            began=began,
            n_watched=self.n_watched,
            peak_at=self.peak_at,
        )


class Events:
    """Collect the events among consecutive rows.

    Parameters
    ----------
    most : int or None
        Report at most this many events, the worst ones; None for all, which may take memory.

    Attributes
    ----------
    n_rows, n_anomalies, n_silent : int
        Counted over all rows: all, those anomalous, and those that no model judged.
    counts : Counter
        The events of each kind, including those that are not reported.
    """

    def __init__(self, most: int | None = MOST_TOLD) -> None:
        self._most = most
        self.n_rows = self.n_anomalies = self.n_silent = 0
        self.counts: Counter[Kind] = Counter()
        self._contamination = 0.0
        self._open: dict[Kind, _OpenEvent] = {}
        self._closed: list[_OpenEvent] = []

    @property
    def n_events(self) -> int:
        return self.counts.total()

    def add(self, rows: Rows) -> None:
        """Add the next rows."""
        self._contamination = rows.contamination
        self.n_rows += len(rows.p_values)
        self.n_anomalies += int(rows.is_anomaly.sum())
        self.n_silent += int(np.isnan(rows.p_values).sum())
        for kind in (*reversed(TOLD), None):
            self._advance(rows, kind)
            unexplained = [
                event
                for event in (*self._closed, *self._open.values())
                if event.to_explain and event.kind is kind
            ]
            wanted = sorted({row for event in unexplained for row in event.to_explain.values()})
            reasons = rows.reasons.get(kind, no_reasons)
            by_row = reasons(np.array(wanted, dtype=np.intp)) if wanted else {}
            for event in unexplained:
                event.explain(by_row)

    def told(self) -> list[Event]:
        """Return the events in time order; of more than ``most``, the worst ones."""
        worst = self._worst([*self._closed, *self._open.values()])
        events = [event.event(self._contamination) for event in worst]
        return sorted(events, key=lambda event: event.first)

    def going_on(self, kind: Kind) -> Event | None:
        """Return the event of a kind to which the next row might belong; None if there is none."""
        event = self._open.get(kind)
        return None if event is None else event.event(self._contamination)

    def _advance(self, rows: Rows, kind: Kind) -> None:
        """Add the rows of one kind of event, and close the events that have ended."""
        chosen = rows.of_kind(kind)
        within = JOIN_WITHIN_ROWS if kind is None else 1
        ended, groups = [], _groups(chosen, within)
        p_values = rows.p_values if kind is None else rows.asset_p_values
        full = len(self._closed) == self._most
        mildest = min(map(_OpenEvent.severity, self._closed)) if full else None
        for number, members in enumerate(groups):
            if mildest is not None and 0 < number < len(groups) - 1:
                # A group that is complete and too mild to be reported is only counted.
                least = float(np.fmin.reduce(p_values[members], initial=1.0))
                if (_rank(kind), -least) < mildest[:2]:
                    self.counts[kind] += 1
                    continue
            first = rows.first + int(members[0])
            event = self._open.pop(kind, None)
            if event is not None and first - event.last > within:
                ended.append(event)
                event = None
            if event is None:
                event = _OpenEvent(kind, first, first, rows.time(int(members[0])))
                began = rows.began and kind is AssetState.ALARM and rows.began(int(members[0]))
                if began:
                    event.began = rows.first + began[0], began[1]
                self.counts[kind] += 1
            event.add(rows, members)
            self._open[kind] = event
        event = self._open.get(kind)
        if event is not None and rows.first + len(chosen) - event.last > within:
            ended.append(self._open.pop(kind))
        self._closed = self._worst([*self._closed, *ended])

    def _worst(self, events: list[_OpenEvent]) -> list[_OpenEvent]:
        if self._most is None or len(events) <= self._most:
            return events
        return sorted(events, key=_OpenEvent.severity, reverse=True)[: self._most]


def _rank(kind: Kind) -> int:
    return 0 if kind is None else STATES.index(kind)


def stretches(chosen: NDArray[np.bool_], first: int = 0, within: int = 1) -> list[Stretch]:
    """Return the first and last row of each group of chosen rows.

    Parameters
    ----------
    chosen : ndarray of bool of shape (n,)
        Which rows are chosen.
    first : int
        The number of the first row.
    within : int
        Most rows between two neighbours of a group, the second one counted; by default, the rows
        of a group are consecutive.
    """
    return [(first + int(rows[0]), first + int(rows[-1])) for rows in _groups(chosen, within)]


def _groups(chosen: NDArray[np.bool_], within: int) -> list[NDArray[np.intp]]:
    rows = np.flatnonzero(chosen)
    if len(rows) == 0:
        return []
    return np.split(rows, np.flatnonzero(np.diff(rows) > within) + 1)
