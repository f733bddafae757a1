"""The report on a table for the terminal: sentences, a table of columns, remarks and commands."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.markup import escape
from rich.table import Table as Sheet

from vigie.cli.terminal import plain, quoted
from vigie.tables.kinds import Column, Kind, left_out_line
from vigie.tables.report import ColumnReport, Report
from vigie.tables.report_words import percent, remarks

MOST_SHOWN = 40
"""Columns in the table; of more, so many sensors."""
MOST_EXPLAINED = 40
MOST_ASSETS = 8


def headline(report: Report) -> Iterator[str]:
    """Yield what matters most."""
    yield from map(plain, report.summary)


def sheet(report: Report) -> Sheet:
    """Return the columns as a table for the terminal."""
    is_all = len(report.columns) <= MOST_SHOWN
    shown = report.columns if is_all else report.features[:MOST_SHOWN]
    # Most units stand in brackets in the name.
    has_units = any(column.unit and column.unit not in column.name for column in shown)
    has_missing = any(column.n_missing for column in shown)
    sheet = Sheet(header_style="bold", pad_edge=False)
    sheet.add_column("column", overflow="fold", min_width=8)
    sheet.add_column("kind", no_wrap=True)
    if has_units:
        sheet.add_column("unit", overflow="fold")
    for name in ("min", "1 %", "median", "99 %", "max"):
        sheet.add_column(name, justify="right", no_wrap=True)
    if has_missing:
        sheet.add_column("missing", justify="right", no_wrap=True)
    for column in shown:
        cells = [escape(plain(column.name)), str(column.kind)]
        if has_units:
            cells.append(escape(plain(column.unit or "")))
        cells += _figures(column)
        if has_missing:
            cells.append(percent(column.missing_share) if column.n_missing else "–")
        sheet.add_row(*cells, style=None if column.is_feature else "dim")
    return sheet


def below(report: Report) -> Iterator[str]:
    """Yield what to know of the columns, and what may be done about it."""
    if len(report.columns) > MOST_SHOWN and len(report.features) > MOST_SHOWN:
        yield (
            f"These are the first {MOST_SHOWN} of {len(report.features):,} sensors; --format json "
            "has all columns."
        )
    others = [Column(c.name, c.kind, c.reason) for c in report.left_out]
    if line := left_out_line(others):
        yield f"{plain(line)}."
    if report.by is not None:
        yield plain(_assets(report))
    yield from map(plain, remarks(report))
    for label in report.labels:
        yield (
            f"{plain(label.column)} looks like a label: `vigie backtest ... "
            f"{quoted(['--labels', label.column])}` compares the models with it."
        )
    for name, share in report.context.items():
        yield (
            f"{plain(name)} looks like a setting: it holds its values, and explains {share:.0%} of "
            f"what the sensors do. To judge them given it: {quoted(['--context', name])}."
        )


def commands(report: Report, asked: Sequence[str] = ()) -> Iterator[str]:
    """Yield command lines to go on with; ``asked`` are the options for a database."""
    for words in report.commands:
        yield quoted([*words[:3], *asked, *words[3:]])


def explanation(report: Report) -> Iterator[str]:
    """Yield why the table was understood so."""
    for reason in report.because:
        yield f"{plain(reason)}."
    switches = [column for column in report.features if column.kind is Kind.SWITCH]
    told = [*report.left_out, *switches]
    for column in told[:MOST_EXPLAINED]:
        role = "is learnt" if column.is_feature else "is left out"
        yield f"{plain(column.name)} {role}: {column.kind}, {plain(column.reason)}."
    if len(told) > MOST_EXPLAINED:
        yield f"For {len(told) - MOST_EXPLAINED} more columns, see --format json."
    n_sensors = len(report.features) - len(switches)
    if n_sensors:
        yield f"All others ({n_sensors:,}) are sensors: numbers that are none of these."


def _figures(column: ColumnReport) -> list[str]:
    found = column.values
    if found is None:
        return [""] * 5
    five = (found.minimum, found.low, found.median, found.high, found.maximum)
    return [f"{value:.4g}" for value in five]


def _assets(report: Report) -> str:
    most = list(report.assets.items())[:MOST_ASSETS]
    listed = ", ".join(f"{asset} ({n_rows:,})" for asset, n_rows in most)
    more = len(report.assets) - len(most)
    return f"Machines and their rows: {listed}{f' and {more} more' if more else ''}."
