"""What was found, for people: consecutive anomalies as one event, odds instead of decimals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from rich.table import Table as Sheet

from app.models.anomaly_data import AssetState, CriticalityLevel, SensorContribution
from app.services.verdict import Judged, criticality

CAPTION = (
    "how sure: how often a healthy machine looks as unusual as in the worst of these rows, of an "
    "alarm by averages of the latest rows; sensors: share of the surprise, and the value there."
)
WORTH_TELLING = 0.1
"""Share from which on a second sensor is told in a table."""
JOIN_WITHIN_ROWS = 30
"""Anomalies no further apart than this belong to one event."""


@dataclass(frozen=True)
class JudgedRow:
    """What is said of one row, and of the asset at that row.

    Attributes
    ----------
    p_value, asset_p_value : float
        Of the reading and of the asset; NaN while nothing can be said.
    is_anomaly : bool
    criticality : CriticalityLevel or None
    sensors : sequence of SensorContribution
        Of an anomaly: the sensors it comes from.
    state : AssetState
        Of the asset.
    drivers : sequence of SensorContribution
        Of a watch or an alarm: the sensors it comes from.
    imputed : mapping of str to str
        Sensors that were gone on without, and why.
    frozen : mapping of str to int
        Sensors that stand still, with the rows since when.
    """

    p_value: float
    asset_p_value: float
    is_anomaly: bool
    criticality: CriticalityLevel | None
    sensors: Sequence[SensorContribution]
    state: AssetState
    drivers: Sequence[SensorContribution]
    imputed: Mapping[str, str] = field(default_factory=dict)
    frozen: Mapping[str, int] = field(default_factory=dict)


def judged_rows(judged: Judged) -> list[JudgedRow]:
    """Return what is said of each row of a table."""
    standings = judged.standings()
    why = judged.reasons(np.flatnonzero(judged.is_anomaly))
    unsettled = [row for row, s in enumerate(standings) if s.state is not AssetState.NORMAL]
    drivers = judged.trend_reasons(np.array(unsettled, dtype=np.intp))
    return [
        JudgedRow(
            float(p_value),
            float(judged.asset[row]),
            bool(judged.is_anomaly[row]),
            criticality(float(p_value), judged.contamination),
            why.get(row, []),
            standings[row].state,
            drivers.get(row, []),
            {} if judged.examined is None else judged.examined.unusable(row),
            {} if judged.examined is None else judged.examined.frozen(row),
        )
        for row, p_value in enumerate(judged.combined)
    ]


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
        Of all its rows together, the largest share first.
    """

    first: int
    last: int
    peak: int
    is_alarm: bool
    n_anomalies: int
    p_value: float
    criticality: CriticalityLevel | None
    sensors: Sequence[SensorContribution]


def events(rows: Sequence[JudgedRow]) -> list[Event]:
    """Return the alarms among consecutive rows, and the anomalies outside of them, in order."""
    alarm = np.array([row.state is AssetState.ALARM for row in rows], dtype=bool)
    odd = np.array([row.is_anomaly for row in rows], dtype=bool)
    groups = [(group, True) for group in _groups(alarm, 1)]
    groups += [(group, False) for group in _groups(odd & ~alarm, JOIN_WITHIN_ROWS)]
    return [_event(rows, group, is_alarm) for group, is_alarm in sorted(groups, key=_start)]


def event_sheet(
    found: Sequence[Event], *, first: int = 0, units: Mapping[str, str] | None = None
) -> Sheet:
    """Return events as a table for the terminal, rows counted from ``first + 1``."""
    sheet = Sheet(header_style="bold", caption=CAPTION, caption_justify="left")
    sheet.add_column("event", no_wrap=True)
    sheet.add_column("rows", no_wrap=True)
    sheet.add_column("anomalous", justify="right")
    sheet.add_column("how sure", no_wrap=True)
    sheet.add_column("sensors")
    for event in found:
        sure = odds(event.p_value)
        if not event.is_alarm and (level := event.criticality):
            style = {"high": "yellow", "critical": "bold red"}.get(level, "default")
            sure = f"[{style}]{level}[/]\n{sure}"
        sheet.add_row(
            "[bold red]alarm[/]" if event.is_alarm else "odd\nreadings",
            _span(first + event.first + 1, first + event.last + 1),
            f"{event.n_anomalies}",
            sure,
            "\n".join(
                _reason(sensor, units or {}, None if event.is_alarm else first + event.peak + 1)
                for sensor in event.sensors[:2]
                if sensor is event.sensors[0] or sensor.share >= WORTH_TELLING
            ),
        )
    return sheet


def odds(p_value: float) -> str:
    """Return a p-value as odds, such as '1 in 4,200'."""
    if p_value < 1e-6:
        return "< 1 in a million"
    number = 1.0 / p_value
    digits = max(0, int(np.log10(number)) - 1)
    return f"1 in {round(number, -digits):,.0f}"


def _span(first: int, last: int) -> str:
    return f"{first}" if first == last else f"{first}–{last}"


def _groups(chosen: NDArray[np.bool_], within: int) -> list[NDArray[np.intp]]:
    rows = np.flatnonzero(chosen)
    if len(rows) == 0:
        return []
    return np.split(rows, np.flatnonzero(np.diff(rows) > within) + 1)


def _start(group: tuple[NDArray[np.intp], bool]) -> int:
    return int(group[0][0])


def _event(rows: Sequence[JudgedRow], group: NDArray[np.intp], is_alarm: bool) -> Event:
    members = [rows[row] for row in group.tolist()]
    reasons = [row.drivers if is_alarm else row.sensors for row in members]
    most = min(group.tolist(), key=lambda row: _p_value(rows[row], is_alarm))
    peak = rows[most]
    shares: dict[str, float] = {}
    for sensors in reasons:
        for sensor in sensors:
            shares[sensor.name] = shares.get(sensor.name, 0.0) + sensor.share / len(members)
    at_peak = peak.drivers if is_alarm else peak.sensors
    ranked = sorted(at_peak, key=lambda sensor: -shares[sensor.name])
    levels = [row.criticality for row in members if row.criticality is not None]
    return Event(
        first=int(group[0]),
        last=int(group[-1]),
        peak=most,
        is_alarm=is_alarm,
        n_anomalies=sum(row.is_anomaly for row in members),
        p_value=_p_value(peak, is_alarm),
        criticality=max(levels, key=list(CriticalityLevel).index, default=None),
        sensors=[sensor.model_copy(update={"share": shares[sensor.name]}) for sensor in ranked],
    )


def _p_value(row: JudgedRow, of_asset: bool) -> float:
    """Return a p-value that can be compared; nothing said counts as nothing found."""
    p_value = row.asset_p_value if of_asset else row.p_value
    return 1.0 if np.isnan(p_value) else p_value


def _reason(sensor: SensorContribution, units: Mapping[str, str], row: int | None) -> str:
    unit = units.get(sensor.name, "")
    value, usual = f"{sensor.value:.4g} {unit}".rstrip(), f"usual {sensor.usual:.4g}"
    # An alarm is about averages of many rows; which of them was the worst says little.
    when = ""
    if row is not None and sensor.readings_ago:
        when = f", most in row {row - sensor.readings_ago}"
    return f"{sensor.name} {sensor.share:.0%}\n  {value} ({usual}){when}"
