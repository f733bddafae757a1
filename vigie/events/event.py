"""An event as plain data, for whoever shows it, keeps it or tells others of it."""

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
        Its first, its last and its most surprising row, counted from 0.
    is_alarm : bool
        Whether the asset was in alarm; else these are single odd readings.
    n_anomalies : int
        Anomalous readings among its rows.
    p_value : float
        How often a healthy machine looks like the most surprising of them.
    criticality : CriticalityLevel or None
        Of the most surprising reading; None if no reading is anomalous by itself.
    sensors : sequence of SensorContribution
        Of its rows together, the largest share first: of ``gathering.MOST_EXPLAINED`` of them at
        most, evenly spread. The values are those of the most surprising row. Empty where the
        sensors were not asked for.
    """

    first: int
    last: int
    peak: int
    is_alarm: bool
    n_anomalies: int
    p_value: float
    criticality: CriticalityLevel | None
    sensors: Sequence[SensorContribution]
