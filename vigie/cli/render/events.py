"""Events as a table for the terminal, with odds instead of p-values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from rich.markup import escape
from rich.table import Table as Sheet

from vigie.cli.render.times import short
from vigie.events.event import Event
from vigie.models.anomaly_data import AssetState, SensorContribution, UnseenContribution
from vigie.tables.report_words import words_of

HOW_SURE = (
    "how sure: how rarely a healthy machine looks like the worst row of the event; alarms and "
    "drifts: like its averages of the latest rows"
)
SENSORS = "sensors: share of the deviation, and the most unusual measured value."
STYLES = {AssetState.ALARM: "bold red"}
"""Of states; others are yellow."""
CERTAIN = {AssetState.BAD_DATA, AssetState.UNKNOWN_OPERATING_POINT}
"""States without odds."""
ONE_IN_A_MILLION = 1e-6
FEWEST_IN_A_ROW = 5
"""So many anomalies are not isolated if they are most of the rows of an event."""
WORTH_TELLING = 0.1
"""Smallest share of a second sensor in the table."""


def event_sheet(
    machines: Sequence[tuple[str | None, int, Sequence[Event]]],
    units: Mapping[str, str] | None = None,
    limit: float | None = None,
) -> Sheet:
    """Return events as a table for the terminal.

    Parameters
    ----------
    machines : sequence of (str or None, int, sequence of Event)
        For each machine its name, if it has one, the number of its first row, from 0, and its
        events.
    units : mapping of str to str, optional
        Units of the sensors.
    limit : float, optional
        The p-value of a machine that raises an alarm.
    """
    of_alarms = ""
    if limit is not None:
        of_alarms = f", which raise an alarm from {odds(limit)}; single rows, however rare, do not"
    caption = f"{HOW_SURE}{of_alarms}. {SENSORS}"
    sheet = Sheet(header_style="bold", caption=caption, caption_justify="left")
    has_assets = any(asset is not None for asset, _, _ in machines)
    has_times = any(event.start is not None for _, _, events in machines for event in events)
    if has_assets:
        sheet.add_column("asset", overflow="fold")
    sheet.add_column("event", no_wrap=True)
    sheet.add_column("from, to (UTC)" if has_times else "rows", no_wrap=True)
    sheet.add_column("how sure", no_wrap=True)
    sheet.add_column("sensors")
    for asset, first, events in machines:
        for event in events:
            cells = _cells(event, first, units or {})
            sheet.add_row(*([escape(asset or "")] if has_assets else []), *cells)
    return sheet


def _cells(event: Event, first: int, units: Mapping[str, str]) -> tuple[str, ...]:
    confidence = "–" if event.state in CERTAIN else odds(event.p_value)
    if event.is_at_floor and event.p_value >= ONE_IN_A_MILLION and event.state not in CERTAIN:
        confidence = f"{confidence}\nor rarer"
    if event.state is None and (level := event.criticality):
        style = {"high": "yellow", "critical": "bold red"}.get(level, "default")
        confidence = f"[{style}]{level}[/]\n{confidence}"
    return (
        _name(event),
        "\n".join(_when(event, first)),
        confidence,
        "\n".join(
            _reason(sensor, units, _row_of(event, sensor, first)) for sensor in named_sensors(event)
        ),
    )


def named_sensors(event: Event) -> list[SensorContribution]:
    """Return the sensors to show for an event: the first two, and those with an assumed value."""
    return [
        sensor
        for place, sensor in enumerate(event.sensors)
        if place == 0 or (sensor.share >= WORTH_TELLING and (place == 1 or sensor.imputed))
    ]


def odds(p_value: float) -> str:
    """Return a p-value as odds, such as '1 in 4,200'."""
    if p_value < ONE_IN_A_MILLION:
        return "< 1 in a million"
    number = 1.0 / p_value
    digits = max(0, int(np.log10(number)) - 1)
    return f"1 in {round(number, -digits):,.0f}"


def _name(event: Event) -> str:
    state = event.state
    if event.is_watch:
        return f"[yellow]{AssetState.WATCH.words}[/]"
    if state is None:
        lasts = event.n_anomalies >= FEWEST_IN_A_ROW and 2 * event.n_anomalies > event.n_rows
        return "anomalies" if lasts else "isolated\nanomalies"
    style = STYLES.get(state, "yellow")
    return "\n".join(f"[{style}]{word}[/]" for word in state.words.split())


def _when(event: Event, first: int) -> Iterator[str]:
    """Yield the times of an event, if they are known, its rows, and how many are anomalous."""
    if event.start is not None and event.end is not None:
        yield short(event.start)
        if event.n_rows > 1:
            yield f"to {short(event.end, event.start)}"
            yield f"({words_of(event.duration_s or 0.0)})"
        if event.began is not None and event.began < event.start:
            yield f"began about {short(event.began, event.start)}"
    begin, end = first + event.first + 1, first + event.last + 1
    if event.n_rows == 1:
        yield f"row {begin}"
    else:
        yield f"rows {begin}–{end}"
        if event.start is None and event.began_row is not None and event.began_row < event.first:
            yield f"began about row {first + event.began_row + 1}"
        yield f"{event.n_anomalies} of {event.n_rows} anomalous"


def _row_of(event: Event, sensor: SensorContribution, first: int) -> int | None:
    """Return the row of a sensor's value, counted from 1; None if the event's rows say it."""
    row = event.value_rows.get(sensor.name)
    return None if row is None or event.n_rows == 1 else first + row + 1


def _reason(sensor: SensorContribution, units: Mapping[str, str], row: int | None) -> str:
    unit = escape(units.get(sensor.name, ""))
    name = escape(sensor.name)
    if isinstance(sensor, UnseenContribution):
        value = f"{sensor.value:.4g} {unit}".rstrip()
        if sensor.word is not None:
            value = escape(sensor.word)
        elif np.isnan(sensor.value):
            value = "a word"
        return f"{name}\n  {value} never seen"
    value, usual = f"{sensor.value:.4g} {unit}".rstrip(), f"usual {sensor.usual:.4g}"
    if sensor.imputed is not None:
        assumed = "" if np.isnan(sensor.value) else f", assumed {value}"
        return f"{name} {sensor.share:.0%}\n  {sensor.imputed.replace('_', ' ')}{assumed}"
    when = "" if row is None else f", peak at row {row}"
    return f"{name} {sensor.share:.0%}\n  {value} ({usual}){when}"
