"""Events: rows of an asset that belong together, gathered as they are assessed.

An alarm is an event, and so are anomalies outside of one that lie close together. Events are
gathered part by part, and only the worst are kept and asked for their sensors, so that neither
memory nor time grows with a fault that lasts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from vigie.assessment.assessment import criticality
from vigie.assessment.stream import Part
from vigie.detectors.base import Floats
from vigie.events.event import Event
from vigie.models.anomaly_data import SensorContribution

JOIN_WITHIN_ROWS = 30
"""Anomalies no further apart than this belong to one event."""
MOST_EXPLAINED = 64
"""Rows of an event whose sensors are looked for, at most: each costs as much as many verdicts."""
MOST_TOLD = 100
"""Events that are told, at most."""

Stretch = tuple[int, int]
"""First and last row of some that belong together."""
Reasons = Callable[[NDArray[np.intp]], Mapping[int, Sequence[SensorContribution]]]


def no_reasons(rows: NDArray[np.intp]) -> Mapping[int, Sequence[SensorContribution]]:
    """Return no sensors, where events are only counted."""
    return {}


@dataclass(frozen=True)
class Rows:
    """Consecutive rows, and what is said of them and of the asset.

    Attributes
    ----------
    first : int
        The first of them, counted from 0 over all rows.
    in_alarm, is_anomaly : ndarray of bool of shape (n,)
        Of the asset, and of the reading by itself.
    asset_p_values, p_values : ndarray of shape (n,)
        Of the asset, and of the reading; NaN where nothing can be said.
    contamination : float
        The p-value below which a reading is an anomaly.
    drivers, reasons : callable, optional
        Return by row, counted from ``first``, the sensors that an alarm comes from, and those
        that an anomaly comes from; by default none.
    """

    first: int
    in_alarm: NDArray[np.bool_]
    is_anomaly: NDArray[np.bool_]
    asset_p_values: Floats
    p_values: Floats
    contamination: float
    drivers: Reasons = no_reasons
    reasons: Reasons = no_reasons

    @classmethod
    def of(cls, part: Part) -> Rows:
        """Return what a stream says of its next rows."""
        said = part.assessment
        return cls(
            part.first,
            said.in_alarm,
            said.is_anomaly,
            said.asset_p_values,
            said.p_values,
            said.contamination,
            said.trend_reasons,
            said.reasons,
        )


@dataclass
class _Gathering:
    """An event while its rows come in.

    Of its members, those are explained whose number is a multiple of ``every``, which doubles when
    there are too many of them: which they are depends on the event alone, not on how its rows
    were cut into parts.
    """

    is_alarm: bool
    first: int
    last: int
    n_members: int = 0
    n_anomalies: int = 0
    peak: int = -1
    p_value: float = np.inf
    p_value_of_reading: float = np.inf
    every: int = 1
    to_explain: dict[int, int] = field(default_factory=dict)
    """Rows by member number, of the part that is being added."""
    explained: dict[int, Sequence[SensorContribution]] = field(default_factory=dict)
    at_peak: Sequence[SensorContribution] = ()

    def badness(self) -> tuple[bool, float, int]:
        return self.is_alarm, -self.p_value, -self.first

    def add(self, rows: Rows, members: NDArray[np.intp]) -> None:
        """Take in more rows, counted from the first one of ``rows``."""
        p_values = rows.asset_p_values if self.is_alarm else rows.p_values
        # Nothing said counts as nothing found.
        here = np.where(np.isnan(p_values[members]), 1.0, p_values[members])
        readings = rows.p_values[members]
        numbers = np.arange(self.n_members, self.n_members + len(members))
        self.n_members += len(members)
        self.n_anomalies += int(rows.is_anomaly[members].sum())
        self.last = rows.first + int(members[-1])
        self.p_value_of_reading = float(np.fmin.reduce(readings, initial=self.p_value_of_reading))
        while (self.n_members - 1) // self.every >= MOST_EXPLAINED:
            self.every *= 2
        chosen = numbers % self.every == 0
        self.to_explain = dict(zip(numbers[chosen].tolist(), members[chosen].tolist(), strict=True))
        worst = int(here.argmin())
        if here[worst] < self.p_value:
            self.p_value, self.peak = float(here[worst]), rows.first + int(members[worst])
            self.to_explain[-1] = int(members[worst])

    def explain(self, why: Mapping[int, Sequence[SensorContribution]]) -> None:
        """Take in the sensors of the rows that were to be explained."""
        found = {number: why.get(row, ()) for number, row in self.to_explain.items()}
        self.at_peak = found.pop(-1, self.at_peak)
        known = {**self.explained, **found}
        self.explained = {n: sensors for n, sensors in known.items() if n % self.every == 0}
        self.to_explain = {}

    def event(self, contamination: float) -> Event:
        """Return it as it stands."""
        shares: dict[str, float] = {}
        for sensors in self.explained.values():
            for sensor in sensors:
                share = sensor.share / len(self.explained)
                shares[sensor.name] = shares.get(sensor.name, 0.0) + share
        ranked = sorted(self.at_peak, key=lambda sensor: -shares.get(sensor.name, 0.0))
        return Event(
            first=self.first,
            last=self.last,
            peak=self.peak,
            is_alarm=self.is_alarm,
            n_anomalies=self.n_anomalies,
            p_value=self.p_value,
            criticality=criticality(self.p_value_of_reading, contamination),
            sensors=[
                sensor.model_copy(update={"share": shares.get(sensor.name, 0.0)})
                for sensor in ranked
            ],
        )


class Events:
    """Gather the alarms among consecutive rows, and the anomalies outside of them.

    Parameters
    ----------
    most : int or None
        How many events are told at most, the worst ones; None for all, which may take memory.

    Attributes
    ----------
    n_rows, n_anomalies, n_alarms, n_events : int
        Counted over all rows, also of events that are not told.
    """

    def __init__(self, most: int | None = MOST_TOLD) -> None:
        self._most = most
        self.n_rows = self.n_anomalies = self.n_alarms = self.n_events = 0
        self._contamination = 0.0
        self._open: dict[bool, _Gathering] = {}
        self._kept: list[_Gathering] = []

    def add(self, rows: Rows) -> None:
        """Take in the next rows."""
        self._contamination = rows.contamination
        self.n_rows += len(rows.p_values)
        self.n_anomalies += int(rows.is_anomaly.sum())
        for is_alarm, reasons in ((True, rows.drivers), (False, rows.reasons)):
            self._advance(rows, is_alarm)
            told = [*self._kept, *self._open.values()]
            asked = [one for one in told if one.to_explain and one.is_alarm is is_alarm]
            wanted = sorted({row for one in asked for row in one.to_explain.values()})
            why = reasons(np.array(wanted, dtype=np.intp)) if wanted else {}
            for one in asked:
                one.explain(why)

    def told(self) -> list[Event]:
        """Return the events in their order; if there are more than are told, the worst of them."""
        worst = self._worst([*self._kept, *self._open.values()])
        found = [one.event(self._contamination) for one in worst]
        return sorted(found, key=lambda event: event.first)

    def _advance(self, rows: Rows, is_alarm: bool) -> None:
        """Add the rows of one kind of event to those they belong to."""
        chosen = rows.in_alarm if is_alarm else rows.is_anomaly & ~rows.in_alarm
        within = 1 if is_alarm else JOIN_WITHIN_ROWS
        ended, groups = [], _groups(chosen, within)
        p_values = rows.asset_p_values if is_alarm else rows.p_values
        told = min(map(_Gathering.badness, self._kept)) if len(self._kept) == self._most else None
        for place, members in enumerate(groups):
            if told is not None and 0 < place < len(groups) - 1:
                # It begins and ends here, and is not worse than any that will be told.
                least = float(np.fmin.reduce(p_values[members], initial=1.0))
                if (is_alarm, -least) < told[:2]:
                    self.n_events += 1
                    self.n_alarms += is_alarm
                    continue
            first = rows.first + int(members[0])
            one = self._open.pop(is_alarm, None)
            if one is not None and first - one.last > within:
                ended.append(one)
                one = None
            if one is None:
                one = _Gathering(is_alarm, first, first)
                self.n_events += 1
                self.n_alarms += is_alarm
            one.add(rows, members)
            self._open[is_alarm] = one
        one = self._open.get(is_alarm)
        if one is not None and rows.first + len(chosen) - one.last > within:
            ended.append(self._open.pop(is_alarm))
        self._kept = self._worst([*self._kept, *ended])

    def _worst(self, gathered: list[_Gathering]) -> list[_Gathering]:
        if self._most is None or len(gathered) <= self._most:
            return gathered
        return sorted(gathered, key=_Gathering.badness, reverse=True)[: self._most]


def stretches(chosen: NDArray[np.bool_], first: int = 0, within: int = 1) -> list[Stretch]:
    """Return where chosen rows no further apart than ``within`` begin and end.

    Parameters
    ----------
    chosen : ndarray of bool of shape (n,)
        Which rows.
    first : int
        The number of the first of them.
    within : int
        By default, rows that follow each other belong together.
    """
    return [(first + int(rows[0]), first + int(rows[-1])) for rows in _groups(chosen, within)]


def _groups(chosen: NDArray[np.bool_], within: int) -> list[NDArray[np.intp]]:
    rows = np.flatnonzero(chosen)
    if len(rows) == 0:
        return []
    return np.split(rows, np.flatnonzero(np.diff(rows) > within) + 1)
