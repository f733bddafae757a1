"""The report on a table for the terminal: sentences, a table of columns, remarks and commands."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rich.cells import cell_len
from rich.markup import escape
from rich.table import Table as Sheet

from vigie.cli.terminal import quoted
from vigie.printable import printable
from vigie.tables.kinds import Column, Kind, left_out_line
from vigie.tables.report import ColumnReport, Report
from vigie.tables.report_words import percent, remarks

MOST_SHOWN = 40
"""Columns in the table; of more, so many sensors."""
MOST_EXPLAINED = 40
MOST_ASSETS = 8
FIGURES = ("min", "1 %", "median", "99 %", "max")
FIRST_LEFT_OUT = (("1 %", "99 %"), ("missing",), ("min", "max"), ("unit",), ("median",), ("kind",))
"""Of a terminal that is too narrow for all."""
LEAST_NAME, MOST_UNIT = 16, 10
"""Places for the name before figures are left out, and for a unit; longer ones are folded."""
_FRAME = 3
"""Places of the line and the blanks between two columns."""


def headline(report: Report) -> Iterator[str]:
    """Yield what matters most."""
    yield from map(printable, report.summary)


def sheet(report: Report, width: int) -> Sheet:
    """Return the columns as a table for a terminal of this width.

    Where there is no room for all figures, the least important ones are left out: every name can
    be read, if in several lines.
    """
    shown = _shown(report)
    cells = [_cells(column) for column in shown]
    heads = _heads(shown, cells, width)
    sheet = Sheet(header_style="bold", pad_edge=False, caption_justify="left")
    if narrow := [head for head in _heads(shown, cells) if head not in heads]:
        sheet.caption = f"A wider terminal also shows {', '.join(narrow)}."
    for head in heads:
        if head == "column":
            others = sum(_widths(cells, heads[1:])) + _FRAME * len(heads) - 1
            room = max(width - others, 1)
            sheet.add_column(head, overflow="fold", max_width=room)
        elif head == "unit":
            sheet.add_column(head, overflow="fold", width=_widths(cells, [head])[0])
        else:
            is_figure = head != "kind"
            sheet.add_column(head, justify="right" if is_figure else "left", no_wrap=True)
    for column, row in zip(shown, cells, strict=True):
        style = None if column.is_feature else "dim"
        sheet.add_row(*(escape(row[head]) for head in heads), style=style)
    return sheet


def _shown(report: Report) -> Sequence[ColumnReport]:
    is_all = len(report.columns) <= MOST_SHOWN
    return report.columns if is_all else report.features[:MOST_SHOWN]


def _cells(column: ColumnReport) -> dict[str, str]:
    """Return what is shown of a column, by the head above it."""
    return {
        "column": printable(column.name),
        "kind": str(column.kind),
        "unit": printable(column.unit or ""),
        **dict(zip(FIGURES, _figures(column), strict=True)),
        "missing": percent(column.missing_share) if column.n_missing else "–",
    }


def _heads(
    shown: Sequence[ColumnReport], cells: Sequence[Mapping[str, str]], width: int | None = None
) -> list[str]:
    """Return the heads of the table, of which a narrow terminal has room for some only."""
    heads = ["column", "kind", "unit", *FIGURES, "missing"]
    # Most units stand in brackets in the name.
    if not any(column.unit and column.unit not in column.name for column in shown):
        heads.remove("unit")
    if not any(column.n_missing for column in shown):
        heads.remove("missing")
    least_name = min(_widths(cells, ["column"])[0], LEAST_NAME)
    for spare in FIRST_LEFT_OUT:
        needed = least_name + sum(_widths(cells, heads[1:])) + _FRAME * len(heads) - 1
        if width is None or needed <= width:
            break
        heads = [head for head in heads if head not in spare]
    return heads


def _widths(cells: Sequence[Mapping[str, str]], heads: Sequence[str]) -> list[int]:
    """Return how many places of a line the cells below each head take, at most."""
    widths = [
        max(map(cell_len, (head, *(row[head] for row in cells))), default=0) for head in heads
    ]
    return [
        min(width, MOST_UNIT) if head == "unit" else width
        for head, width in zip(heads, widths, strict=True)
    ]


def below(report: Report) -> Iterator[str]:
    """Yield what to know of the columns, and what may be done about it."""
    if len(report.columns) > MOST_SHOWN and len(report.features) > MOST_SHOWN:
        yield (
            f"These are the first {MOST_SHOWN} of {len(report.features):,} sensors; --format json "
            "has all columns."
        )
    others = [Column(c.name, c.kind, c.reason) for c in report.left_out] if report.n_rows else []
    if line := left_out_line(others):
        yield f"{printable(line)}."
    if report.by is not None:
        yield printable(_assets(report))
    yield from map(printable, remarks(report))
    for label in report.labels:
        yield (
            f"{printable(label.column)} looks like a label: `vigie backtest ... "
            f"{quoted(['--labels', label.column])}` compares the models with it."
        )
    for name, share in report.context.items():
        yield (
            f"{printable(name)} looks like a setting: it holds its values, and explains "
            f"{share:.0%} of what the sensors do. To judge them given it: "
            f"{quoted(['--context', name])}."
        )


def commands(report: Report, asked: Sequence[str] = ()) -> Iterator[str]:
    """Yield command lines to go on with; ``asked`` are the options for a database."""
    for words in report.commands:
        yield quoted([*words[:3], *asked, *words[3:]])


def explanation(report: Report) -> Iterator[str]:
    """Yield why the table was understood so."""
    for reason in report.because:
        yield f"{printable(reason)}."
    if not report.n_rows:
        return
    switches = [column for column in report.features if column.kind is Kind.SWITCH]
    told = [*report.left_out, *switches]
    for column in told[:MOST_EXPLAINED]:
        role = "is learnt" if column.is_feature else "is left out"
        yield f"{printable(column.name)} {role}: {column.kind}, {printable(column.reason)}."
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
    return list(map(_figure, five))


def _figure(value: float) -> str:
    # Five digits are shorter than four with an exponent.
    return f"{value:.0f}" if 1e4 <= abs(value) < 1e6 else f"{value:.4g}"


def _assets(report: Report) -> str:
    most = list(report.assets.items())[:MOST_ASSETS]
    listed = ", ".join(f"{asset} ({n_rows:,})" for asset, n_rows in most)
    more = len(report.assets) - len(most)
    return f"Machines and their rows: {listed}{f' and {more} more' if more else ''}."
