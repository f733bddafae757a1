"""The report of a backtest: rates as a table, faults in sentences, a plot over time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.markup import escape
from rich.table import Table as Sheet

from vigie.assessment.status import STATES
from vigie.assessment.timeline import Times
from vigie.backtest import DAY_S, Backtest, Confusion, Fault
from vigie.cli.render import timeline
from vigie.cli.render.pauses import Pauses
from vigie.cli.render.sensors import places
from vigie.cli.render.times import short_span
from vigie.detectors.base import Floats
from vigie.events.gathering import Stretch, stretches
from vigie.models.anomaly_data import AssetState
from vigie.tables.report_words import words_of

if TYPE_CHECKING:
    import pandas as pd

HOUR_S, LEAST_S = 3600.0, 600.0
"""An hour, and the shortest time from which a rate by the hour is told; see ``_rate``."""
MOSTLY = {
    AssetState.DRIFT: "the machine has moved away from its training for most of these rows: check "
    "it and, if it is well, train again on later rows",
    AssetState.UNKNOWN_OPERATING_POINT: "the machine is run as its training rows do not show for "
    "most of these rows: train on rows that do, or name how it is run with --context",
    AssetState.BAD_DATA: "a sensor is frozen in most of these rows: leave it out, or repair it",
}
"""What it says of a recording that most of its rows are in a state."""
VERDICT = "machine's state"
MANY_TIMES, MANY_ROWS = 5.0, 20
"""Unusual healthy rows, in those to be expected and in all, from which they are explained."""
MOST_TOLD = 20
"""Most faults that are listed individually."""


def sheet(results: Mapping[str | None, Backtest]) -> Sheet:
    """Return the rates of each verdict by machine as a table for the terminal."""
    shown = Sheet(
        header_style="bold",
        caption="FAR: share of the healthy rows called faulty; MAR: share of the faulty rows "
        f"called healthy. {VERDICT}: the verdict on the machine from all readings and models, in "
        "alarm or not; alone: the same by one model. Rows in other states are counted where the "
        "labels are faulty (TP) and healthy (FP).",
        caption_justify="left",
    )
    has_assets = None not in results
    if has_assets:
        shown.add_column("machine", overflow="fold")
    shown.add_column("verdict", overflow="fold")
    for column in ("F1", "FAR", "MAR", "TP", "FP", "TN", "FN"):
        shown.add_column(column, justify="right", no_wrap=True)
    for asset, result in results.items():
        for cells in _rates(result):
            shown.add_row(*([escape(asset)] if asset is not None else []), *cells)
        if has_assets:
            shown.add_section()
    return shown


def _rates(result: Backtest) -> Iterator[tuple[str, ...]]:
    names = {"asset": VERDICT, **{name: f"{name} alone" for name in result.models}}
    for key, name in {**names, "reading": "single readings"}.items():
        counts = result.confusions[key]
        yield (
            name,
            "–" if counts.f1 is None else f"{counts.f1:.3f}",
            *("–" if rate is None else f"{rate:.1%}" for rate in (counts.far, counts.mar)),
            *(str(count) for count in (counts.tp, counts.fp, counts.tn, counts.fn)),
        )
    labels = result.labels[result.train_rows :]
    for state, n_rows in result.rows_in_state.items():
        if n_rows and state is not AssetState.ALARM:
            # It is no verdict that could be right or wrong.
            counts = Confusion.of(result.in_state(state), labels)
            yield (f"in {state.words}", *"–––", str(counts.tp), str(counts.fp), *"––")


def sentences(result: Backtest) -> list[str]:
    """Return a summary of faults and alarms, with rows counted from 1."""
    left_out = f" (left out as labelled: {result.left_out_rows})" if result.left_out_rows else ""
    lines = [
        f"trained on rows 1–{result.train_rows}{left_out}; "
        f"assessed {_place(result.train_rows, len(result.labels) - 1, result.times)}"
    ]
    if not result.labels[result.train_rows :].any():
        lines.append("none of these is labelled as faulty, so every alarm counts as false")
    lines += [_sentence(fault, result.times) for fault in result.faults[:MOST_TOLD]]
    if len(result.faults) > MOST_TOLD:
        n_found = sum(fault.delay_rows is not None for fault in result.faults)
        lines.append(f"{n_found} of {len(result.faults)} faults found in total")
    lines += [
        *_sentences_on_faulty_rows(result),
        *_sentences_on_healthy_rows(result),
        *_sentences_on_alarms(result),
        *_sentences_on_asked(result),
        _sentence_on_states(result),
    ]
    return lines + [
        advice
        for state, advice in MOSTLY.items()
        if 2 * result.rows_in_state[state] > len(result.states)
    ]


def write_picture(
    result: Backtest,
    path: Path,
    X: pd.DataFrame,
    title: str = "",
    units: Mapping[str, str] | None = None,
) -> None:
    """Write the verdict and the sensors over time as a PNG file.

    Parameters
    ----------
    result : Backtest
        The backtest.
    path : Path
        The file.
    X : DataFrame of shape (n_rows, n_sensors)
        The readings; columns of words are left out.
    title : str
        Of the picture.
    units : mapping of str to str, optional
        Units of the sensors.

    Raises
    ------
    InvalidDataError
        If the file cannot be written.
    """
    numbers = X.select_dtypes("number")
    values = numbers.to_numpy(dtype=np.float64, na_value=np.nan)
    x = places(0, len(result.labels), result.times)
    blocks = timeline.Blocks()
    blocks.add(x, result.asset, values)
    pauses = Pauses()
    pauses.add(result.times)
    half = 0.5 if result.times is None else 0.0

    def spans(rows: Sequence[Stretch]) -> timeline.Spans:
        return [(float(x[first]) - half, float(x[last]) + half) for first, last in rows]

    names = [str(name) for name in numbers.columns]
    timeline.Picture(
        title=title,
        blocks=blocks,
        is_time=result.times is not None,
        sensors=names,
        limit=result.alarm_limit,
        states={
            state: spans(stretches(result.in_state(state), result.train_rows))
            for state in timeline.COLOURS
        },
        pauses=[(float(x[pause.row]), float(x[pause.row + 1])) for pause in pauses.all()],
        training=spans([(0, result.train_rows - 1)]),
        labelled=spans(stretches(result.labels)),
        first=[names[column] for column in _moved_most(result, values)],
        units=units or {},
    ).write(path)


def _moved_most(result: Backtest, values: Floats) -> list[int]:
    """Return the sensors by how far they moved in alarm, in their spreads in training."""
    training, assessed = values[: result.train_rows], values[result.train_rows :]
    if not result.alarm.any():
        return list(range(values.shape[1]))
    center, spread = np.nan_to_num(training).mean(axis=0), np.nan_to_num(training).std(axis=0)
    moved = np.abs(np.nan_to_num(assessed[result.alarm]).mean(axis=0) - center)
    far = moved / np.where(spread > 0.0, spread, 1.0)
    return [int(column) for column in np.argsort(-far, kind="stable")]


def _sentence(fault: Fault, times: Times | None) -> str:
    place = f"fault in {_place(fault.first, fault.last, times)}"
    if fault.delay_rows is None:
        return f"{place}: missed"
    if fault.stood_already:
        return f"{place}: the alarm was already active"
    if fault.delay_rows == 0:
        return f"{place}: found at once"
    plural = "" if fault.delay_rows == 1 else "s"
    passed = "" if fault.delay_s is None else f" ({words_of(fault.delay_s)})"
    return f"{place}: found after {fault.delay_rows} row{plural}{passed}"


def _place(first: int, last: int, times: Times | None) -> str:
    """Return rows, with their times if these are known."""
    rows = f"rows {first + 1}–{last + 1}" if last > first else f"row {first + 1}"
    if times is None:
        return rows
    length = words_of(float((times[last] - times[first]) / np.timedelta64(1, "s")))
    lasts = f", {length}" if last > first else ""
    return f"{rows} ({short_span(times[first], times[last])} UTC{lasts})"


def _sentences_on_faulty_rows(result: Backtest) -> Iterator[str]:
    """Yield what state the machine was in while it was faulty, if others than alarm and normal."""
    labels = result.labels[result.train_rows :]
    counts = {state: int((result.in_state(state) & labels).sum()) for state in reversed(STATES)}
    if sum(counts.values()) == counts[AssetState.ALARM] + counts[AssetState.NORMAL]:
        return
    told = ", ".join(
        f"{state.words} in {n_rows:,}"
        for state, n_rows in counts.items()
        if n_rows or state is AssetState.ALARM
    )
    yield (
        f"{VERDICT} in the {int(labels.sum()):,} faulty rows: {told}. Only alarm counts as found: "
        "MAR takes all others for missed"
    )


def _sentences_on_healthy_rows(result: Backtest) -> Iterator[str]:
    """Yield why far more of the healthy rows are unusual than are to be expected."""
    labels = result.labels[result.train_rows :]
    unusual = result.reading & ~labels
    n_unusual, far = int(unusual.sum()), result.confusions["reading"].far
    if far is None or n_unusual < MANY_ROWS or far < MANY_TIMES * result.contamination:
        return
    n_after = int((unusual & np.logical_or.accumulate(labels)).sum())
    if 2 * n_after > n_unusual:
        most = "all" if n_after == n_unusual else f"{n_after:,}"
        why = (
            f"{most} of these {n_unusual:,} rows follow a fault: the machine has not come back to "
            "what the training rows show"
        )
    else:
        why = f"these {n_unusual:,} rows are not as the training rows are"
    yield (
        f"single readings are unusual in {far:.1%} of the healthy rows, where "
        f"{100 * result.contamination:.3g}% are to be expected; {why}"
    )


def _sentences_on_alarms(result: Backtest) -> Iterator[str]:
    n_alarms, n_false = len(result.alarms), len(result.false_alarms)
    sentence = f"{n_alarms} alarm{'' if n_alarms == 1 else 's'}"
    if result.judged_s:
        sentence += f" in {words_of(result.judged_s)}"
    if n_alarms:
        sentence += f", {n_false or 'none'} false"
    if n_false and (rate := _rate(n_false, result.judged_s)):
        sentence += f" (rate: {rate})"
    yield sentence
    for alarm in result.false_alarms[:MOST_TOLD]:
        yield f"false alarm in {_place(alarm.first, alarm.last, result.times)}"
    if n_false > MOST_TOLD:
        yield f"and {n_false - MOST_TOLD} more false alarms"


def _rate(n: int, seconds: float | None) -> str | None:
    """Return a rate per day or hour; None if the time is too short for either to mean anything."""
    for unit, length, least in (("a day", DAY_S, DAY_S), ("an hour", HOUR_S, LEAST_S)):
        if seconds and seconds >= least:
            return f"{n * length / seconds:.3g} {unit}"
    return None


def _sentences_on_asked(result: Backtest) -> list[str]:
    """Return how many false alarms there are beside those asked for, if any are."""
    asked, seconds = result.asked_per_day, result.judged_s
    if asked is None or seconds is None:
        return []
    found = len(result.false_alarms)
    rate = f"{found} in {words_of(seconds)}"
    if seconds >= DAY_S:
        rate = f"{found * DAY_S / seconds:.3g} a day"
    sentence = (
        f"false alarms: {rate}; asked for: at most {asked:.3g} a day, "
        f"{result.false_alarms_per_month:g} a month"
    )
    if asked * seconds < DAY_S:
        sentence += f" (one in {words_of(DAY_S / asked)}: these rows are too few to tell)"
    return [sentence]


def _sentence_on_states(result: Backtest) -> str:
    counts = [
        f"{state.words} in {n_rows:,}"
        for state, n_rows in result.rows_in_state.items()
        if n_rows or state is AssetState.ALARM
    ]
    return f"{', '.join(counts)} of {len(result.states):,} assessed rows"
