"""The comparison of two versions for the terminal."""

from __future__ import annotations

from collections.abc import Iterator

from rich import box
from rich.markup import escape
from rich.table import Table as Sheet

from vigie.models.comparison import ComparedVersion, Comparison

MOST_SENSORS = 12
"""Sensors in the table, those that differ most."""


def headline(found: Comparison) -> Iterator[str]:
    """Yield what is compared, since when, and what comes of it."""
    one, other = found.challenger, found.champion
    yield f"{found.model}: version {one.version} in {one.stage}, beside version {other.version}"
    if found.since is not None and found.until is not None:
        yield f"{found.since:%Y-%m-%d %H:%M} to {found.until:%Y-%m-%d %H:%M} (UTC)"
    yield ""
    yield found.summary


def verdicts(found: Comparison) -> Sheet:
    """Return the verdicts of both versions, side by side, with the distribution of their scores."""
    sheet = _sheet("", *(f"version {side.version}" for side in _sides(found)))
    champion, challenger = _sides(found)
    for what, told in (
        ("anomalies", _anomalies),
        ("true rate, at 95 %", _interval),
        ("not called so by the other", lambda side: f"{side.only:,}"),
        ("alarms", lambda side: f"{side.alarms:,}"),
    ):
        sheet.add_row(what, told(champion), told(challenger))
    sheet.add_section()
    for place, low in enumerate(found.score_bins[:-1]):
        counts = [side.scores[place] for side in (champion, challenger)]
        high = found.score_bins[place + 1]
        sheet.add_row(f"score {low:g} to {high:g}", *(f"{count:,}" for count in counts))
    return sheet


def sensors(found: Comparison) -> Sheet | None:
    """Return the sensors behind the anomalies of either version; None without any."""
    if not found.explained:
        return None
    one, other = (side.version for side in _sides(found))
    sheet = _sheet("sensor", f"share by {one}", f"by {other}", f"first by {one}", f"by {other}")
    sheet.columns[0].no_wrap, sheet.columns[0].overflow = False, "fold"
    for sensor in found.sensors[:MOST_SENSORS]:
        sheet.add_row(
            escape(sensor.name),
            f"{sensor.champion_share:.0%}",
            f"{sensor.challenger_share:.0%}",
            f"{sensor.champion_first:,}",
            f"{sensor.challenger_first:,}",
        )
    return sheet


def _sheet(first: str, *others: str) -> Sheet:
    sheet = Sheet(header_style="bold", box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    sheet.add_column(first, no_wrap=True)
    for name in others:
        sheet.add_column(name, justify="right", no_wrap=True)
    return sheet


def _sides(found: Comparison) -> tuple[ComparedVersion, ComparedVersion]:
    return found.champion, found.challenger


def _anomalies(side: ComparedVersion) -> str:
    return f"{side.anomalies:,} ({(side.anomaly_rate or 0.0):.3%})"


def _interval(side: ComparedVersion) -> str:
    return f"{side.anomaly_rate_low or 0.0:.3%} to {side.anomaly_rate_high or 0.0:.3%}"
