"""What was found, for people: consecutive anomalies as one event, odds instead of decimals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rich.table import Table as Sheet

from app.detectors.base import Floats
from app.models.anomaly_data import CriticalityLevel, SensorContribution
from app.services.verdict import criticality

CAPTION = (
    "how sure: how often a healthy machine looks as unusual as the most unusual of these rows; "
    "sensors: share of the surprise, and the value in that row."
)
JOIN_WITHIN_ROWS = 30
"""Anomalies no further apart than this belong to one event."""


@dataclass(frozen=True)
class Event:
    """Anomalous rows that belong together.

    Attributes
    ----------
    first, last : int
        The first and last anomalous row, counted from 0.
    n_anomalies : int
        Anomalous rows among them.
    p_value : float
        How often a healthy machine looks like the most surprising of them.
    criticality : CriticalityLevel
        Of that row.
    sensors : sequence of SensorContribution
        Of all its anomalous rows together, the largest share first.
    """

    first: int
    last: int
    n_anomalies: int
    p_value: float
    criticality: CriticalityLevel
    sensors: Sequence[SensorContribution]


def events(
    p_values: Floats, contamination: float, why: Mapping[int, Sequence[SensorContribution]]
) -> list[Event]:
    """Return the anomalies among consecutive rows as events, in their order.

    Parameters
    ----------
    p_values : ndarray of shape (n_samples,)
        Of all models together; NaN where they abstain.
    contamination : float
        The p-value below which a row is an anomaly.
    why : mapping of int to sequence of SensorContribution
        The sensors of each anomalous row.
    """
    rows = np.flatnonzero(p_values < contamination)
    if len(rows) == 0:
        return []
    groups = np.split(rows, np.flatnonzero(np.diff(rows) > JOIN_WITHIN_ROWS) + 1)
    return [_event(p_values, contamination, group, why) for group in groups]


def event_sheet(
    found: Sequence[Event], *, first: int = 0, units: Mapping[str, str] | None = None
) -> Sheet:
    """Return events as a table for the terminal, rows counted from ``first + 1``."""
    sheet = Sheet(header_style="bold", caption=CAPTION, caption_justify="left")
    sheet.add_column("rows", no_wrap=True)
    sheet.add_column("anomalous", justify="right")
    sheet.add_column("how sure", no_wrap=True)
    sheet.add_column("sensors")
    for event in found:
        style = {"high": "yellow", "critical": "bold red"}.get(event.criticality, "default")
        sheet.add_row(
            f"{first + event.first + 1}–{first + event.last + 1}",
            f"{event.n_anomalies}",
            f"[{style}]{event.criticality}[/]\n{odds(event.p_value)}",
            "\n".join(_reason(sensor, units or {}) for sensor in event.sensors[:2]),
        )
    return sheet


def odds(p_value: float) -> str:
    """Return a p-value as odds, such as '1 in 4,200'."""
    if p_value < 1e-6:
        return "< 1 in a million"
    number = 1.0 / p_value
    digits = max(0, int(np.log10(number)) - 1)
    return f"1 in {round(number, -digits):,.0f}"


def _event(
    p_values: Floats,
    contamination: float,
    rows: NDArray[np.intp],
    why: Mapping[int, Sequence[SensorContribution]],
) -> Event:
    peak = int(rows[np.argmin(p_values[rows])])
    shares: dict[str, float] = {}
    for row in rows:
        for sensor in why[int(row)]:
            shares[sensor.name] = shares.get(sensor.name, 0.0) + sensor.share / len(rows)
    at_peak = {sensor.name: sensor for sensor in why[peak]}
    ranked = sorted(at_peak, key=lambda name: -shares[name])
    level = criticality(float(p_values[peak]), contamination)
    assert level is not None
    return Event(
        first=int(rows[0]),
        last=int(rows[-1]),
        n_anomalies=len(rows),
        p_value=float(p_values[peak]),
        criticality=level,
        sensors=[at_peak[name].model_copy(update={"share": shares[name]}) for name in ranked],
    )


def _reason(sensor: SensorContribution, units: Mapping[str, str]) -> str:
    unit = units.get(sensor.name, "")
    value, usual = f"{sensor.value:.4g} {unit}".rstrip(), f"usual {sensor.usual:.4g}"
    return f"{sensor.name} {sensor.share:.0%}\n  {value} ({usual})"
