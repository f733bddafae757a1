"""The report of a backtest: rates as a table, faults in sentences, a plot over time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.markup import escape
from rich.table import Table as Sheet

from vigie.backtest import DAY_S, Backtest, Confusion, Fault
from vigie.errors import InvalidDataError
from vigie.events.gathering import Stretch, stretches
from vigie.models.anomaly_data import AssetState

MOSTLY = {
    AssetState.DRIFT: "the machine has moved away from its training for most of these rows: check "
    "it and, if it is well, train again on later rows",
    AssetState.UNKNOWN_OPERATING_POINT: "the machine is run as its training rows do not show for "
    "most of these rows: train on rows that do, or name how it is run with --context",
    AssetState.BAD_DATA: "a sensor is frozen in most of these rows: leave it out, or repair it",
}
"""What it says of a recording that most of its rows are in a state."""
COLOURS = {
    AssetState.DRIFT: "#e0a030",
    AssetState.UNKNOWN_OPERATING_POINT: "#8e5bb5",
    AssetState.BAD_DATA: "#8a8a8a",
}
"""Of the states other than an alarm in the plot."""
MOST_TOLD = 20
"""Most faults that are listed individually."""


def sheet(results: Mapping[str | None, Backtest]) -> Sheet:
    """Return the rates of each verdict by machine as a table for the terminal."""
    shown = Sheet(
        header_style="bold",
        caption="FAR: share of the healthy rows called faulty; MAR: share of the faulty rows "
        "called healthy; asset and models: in alarm or not. Rows in other states are counted where "
        "the labels are faulty (TP) and healthy (FP).",
        caption_justify="left",
    )
    has_assets = None not in results
    if has_assets:
        shown.add_column("asset", overflow="fold")
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
    names = {"asset": "asset", **{name: f"{name} alone" for name in result.models}}
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
        f"assessed rows {result.train_rows + 1}–{len(result.labels)}"
    ]
    if not result.labels[result.train_rows :].any():
        lines.append("none of these is labelled as faulty, so every alarm counts as false")
    lines += [_sentence(fault) for fault in result.faults[:MOST_TOLD]]
    if len(result.faults) > MOST_TOLD:
        n_found = sum(fault.delay_rows is not None for fault in result.faults)
        lines.append(f"{n_found} of {len(result.faults)} faults found in total")
    lines += [
        _sentence_on_alarms(result),
        *_sentences_on_asked(result),
        _sentence_on_states(result),
    ]
    return lines + [
        advice
        for state, advice in MOSTLY.items()
        if 2 * result.rows_in_state[state] > len(result.states)
    ]


def write_picture(result: Backtest, path: Path) -> None:
    """Write the plot of a backtest over time as a PNG file.

    Raises
    ------
    InvalidDataError
        If the file cannot be written.
    """
    # Imported here, since few backtests need Matplotlib.
    from matplotlib.figure import Figure

    from vigie.tracking.figures import ACCENT, ALERT, INK

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    axes = figure.add_subplot()
    axes.set(title="The asset over time", xlabel="row", ylabel="surprise, −log₁₀ p")
    axes.spines[["top", "right"]].set_visible(False)
    surprise = -np.log10(np.maximum(result.asset, 1e-12))
    limit = -float(np.log10(result.alarm_limit))
    top = 1.25 * max(float(np.nanmax(surprise, initial=0.0)), limit)
    axes.set(xlim=(0.5, len(surprise) + 0.5), ylim=(0.0, top))

    def bars(rows: Sequence[Stretch], bottom: float, height: float, **look: Any) -> None:
        spans = [(first + 0.5, last + 1.0 - first) for first, last in rows]
        if spans:
            axes.broken_barh(spans, (bottom * top, height * top), linewidth=0, **look)

    bars([(0, result.train_rows - 1)], 0.0, 1.0, color="#dddddd", label="training", zorder=0)
    bars(stretches(result.labels), 0.0, 1.0, color=ALERT, alpha=0.15, label="labelled", zorder=1)
    axes.plot(np.arange(1, len(surprise) + 1), surprise, color=ACCENT, linewidth=0.8)
    axes.axhline(limit, color=INK, linewidth=0.8, linestyle="--", label="alarm threshold")
    alarms = [(alarm.first, alarm.last) for alarm in result.alarms]
    bars(alarms, 0.94, 0.04, color=ALERT, label="alarm")
    for state, colour in COLOURS.items():
        rows = stretches(result.in_state(state), result.train_rows)
        bars(rows, 0.88, 0.04, color=colour, label=state.words)
    n_entries = len(axes.get_legend_handles_labels()[0])
    # Of seven, the last would stand alone.
    columns = n_entries if n_entries <= 6 else 4
    figure.legend(loc="outside lower center", ncols=columns, frameon=False)
    try:
        figure.savefig(path, dpi=110, format="png")
    except OSError as error:
        raise InvalidDataError(
            f"{path} cannot be written: {error.strerror or error}.", field="--picture"
        ) from error


def _sentence(fault: Fault) -> str:
    place = f"fault in rows {fault.first + 1}–{fault.last + 1}"
    if fault.delay_rows is None:
        return f"{place}: missed"
    if fault.stood_already:
        return f"{place}: the alarm was already active"
    if fault.delay_rows == 0:
        return f"{place}: found at once"
    plural = "" if fault.delay_rows == 1 else "s"
    passed = "" if fault.delay_s is None else f" ({_duration(fault.delay_s)})"
    return f"{place}: found after {fault.delay_rows} row{plural}{passed}"


def _sentence_on_alarms(result: Backtest) -> str:
    n_alarms, n_false = len(result.alarms), len(result.false_alarms)
    sentence = f"{n_alarms} alarm{'' if n_alarms == 1 else 's'}"
    if result.judged_s:
        sentence += f" in {_duration(result.judged_s)}"
    if n_alarms == 0:
        return sentence
    if n_false == n_alarms:
        share = "" if n_alarms == 1 else "all "
    else:
        share = f"{n_false or 'none'} of them "
    sentence += f", {share}without a fault"
    if result.alarms_per_day is not None:
        sentence += f": {result.alarms_per_day:.3g} a day"
    return sentence


def _sentences_on_asked(result: Backtest) -> list[str]:
    """Return how many false alarms there are beside those asked for, if any are."""
    asked, found = result.asked_per_day, result.false_alarms_per_day
    if asked is None or found is None or result.judged_s is None:
        return []
    sentence = (
        f"false alarms: {found:.3g} a day; asked for: at most {asked:.3g} a day, "
        f"{result.false_alarms_per_month:g} a month"
    )
    if asked * result.judged_s < DAY_S:
        sentence += f" (one in {_duration(DAY_S / asked)}: these rows are too few to tell)"
    return [sentence]


def _sentence_on_states(result: Backtest) -> str:
    counts = [
        f"{state.words} in {n_rows:,}"
        for state, n_rows in result.rows_in_state.items()
        if n_rows or state is AssetState.ALARM
    ]
    return f"{', '.join(counts)} of {len(result.states):,} assessed rows"


def _duration(seconds: float) -> str:
    for unit, length in (("days", DAY_S), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds:.3g} s"
