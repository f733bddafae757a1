"""An event as plain data, to display, store or send."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np

from vigie.assessment.timeline import as_datetime
from vigie.models.anomaly_data import AssetState, CriticalityLevel, SensorContribution
from vigie.models.events import AssetEvent, EventKind, EventSensor, Peak

FEWEST_WATCHED = 5
"""Fewest anomalies during a watch that make an event one: an isolated anomaly is none."""


@dataclass(frozen=True)
class Event:
    """Rows that belong together: an alarm, a drift, bad data, or anomalies outside of these.

    Attributes
    ----------
    first, last, peak : int
        Its first, last and most surprising row, counted from 0.
    state : AssetState or None
        The state of the asset in all of its rows; None for single anomalous readings.
    n_anomalies : int
        Anomalous readings among its rows.
    p_value : float
        p-value of the most surprising row.
    criticality : CriticalityLevel or None
        Of the most surprising reading; None if no reading is anomalous by itself.
    sensors : sequence of SensorContribution
        The largest share first, averaged over at most ``gathering.MOST_EXPLAINED`` evenly spread
        rows. Each value is the most unusual one that was measured in the event, the latest of
        equal ones; where that is unknown, the one of the most surprising row. Empty if events are
        only counted.
    start, end : datetime64[us] or None
        When its first and its last row were measured, in UTC; None if the rows have no times.
    is_at_floor : bool
        Whether the training rows are too few to tell how rare some of its rows are, so that they
        may be rarer than ``p_value``.
    latest : sequence of SensorContribution
        As ``sensors``, with the values measured last in the event.
    value_rows : mapping of str to int
        The row of the value of each sensor, where it is known.
    began_row : int or None
        The row in which the change behind an alarm began; None if that is unknown.
    began : datetime64[us] or None
        When it was measured.
    n_watched : int
        Anomalous readings at which the asset was to be watched.
    peak_at : datetime64[us] or None
        When the most surprising row was measured.
    """

    first: int
    last: int
    peak: int
    state: AssetState | None
    n_anomalies: int
    p_value: float
    criticality: CriticalityLevel | None
    sensors: Sequence[SensorContribution]
    start: np.datetime64 | None = None
    end: np.datetime64 | None = None
    is_at_floor: bool = False
    latest: Sequence[SensorContribution] = ()
    value_rows: Mapping[str, int] = field(default_factory=dict)
    began_row: int | None = None
    began: np.datetime64 | None = None
    n_watched: int = 0
    peak_at: np.datetime64 | None = None

    def told(
        self, asset_id: str | None = None, versions: Mapping[str, int | None] | None = None
    ) -> AssetEvent:
        """Return what the events of live readings have too.

        Parameters
        ----------
        asset_id : str, optional
            The asset.
        versions : mapping of str to int or None, optional
            The models that judged it, with their versions.
        """
        return AssetEvent(
            asset_id=asset_id,
            kind=None if self.state is None else EventKind(self.state.value),
            start=_time(self.start),
            began=_time(self.began),
            peak=Peak(at=_time(self.peak_at), p_value=self.p_value),
            end=_time(self.end),
            criticality=self.criticality,
            sensors=[EventSensor.of(sensor) for sensor in self.sensors],
            versions=dict(versions or {}),
            n_readings=self.n_rows,
            n_anomalies=self.n_anomalies,
        )

    @property
    def is_watch(self) -> bool:
        """Whether the asset was to be watched at half of its anomalies, and at several."""
        is_long = self.n_watched >= FEWEST_WATCHED
        return self.state is None and is_long and 2 * self.n_watched >= self.n_anomalies

    @property
    def is_alarm(self) -> bool:
        """Whether the asset was in alarm."""
        return self.state is AssetState.ALARM

    @property
    def n_rows(self) -> int:
        """Rows from the first to the last one."""
        return self.last - self.first + 1

    @property
    def duration_s(self) -> float | None:
        """Seconds from the first to the last row; None if the rows have no times."""
        if self.start is None or self.end is None:
            return None
        return float((self.end - self.start) / np.timedelta64(1, "s"))


def _time(moment: np.datetime64 | None) -> datetime | None:
    return None if moment is None else as_datetime(moment)
