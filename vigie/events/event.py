"""An event as plain data, to display, store or send."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vigie.models.anomaly_data import CriticalityLevel, SensorContribution


@dataclass(frozen=True)
class Event:
    """Rows that belong together: an alarm, or anomalies outside of one.

    Attributes
    ----------
    first, last, peak : int
        Its first, last and most surprising row, counted from 0.
    is_alarm : bool
        Whether the asset was in alarm; else the event consists of single anomalous readings.
    n_anomalies : int
        Anomalous readings among its rows.
    p_value : float
        p-value of the most surprising row.
    criticality : CriticalityLevel or None
        Of the most surprising reading; None if no reading is anomalous by itself.
    sensors : sequence of SensorContribution
        The largest share first, averaged over at most ``gathering.MOST_EXPLAINED`` evenly spread
        rows. The values are those of the most surprising row. Empty if events are only counted.
    """

    first: int
    last: int
    peak: int
    is_alarm: bool
    n_anomalies: int
    p_value: float
    criticality: CriticalityLevel | None
    sensors: Sequence[SensorContribution]
