"""``vigie detect``: assess a recording by the versions that serve."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from vigie.cli.options import File, RowRange, Time, row_slice
from vigie.cli.terminal import err, out

if TYPE_CHECKING:
    from vigie.assessment.stream import Part


class Format(StrEnum):
    """Output formats."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"


class Faulty(StrEnum):
    """Treatment of missing and impossible values."""

    REFUSE = "refuse"
    IMPUTE = "impute"


def detect(
    file: File,
    rows: RowRange = None,
    model: Annotated[list[str] | None, typer.Option(help="Only this model. Repeatable.")] = None,
    output: Annotated[
        Format, typer.Option("--format", help="Events as a table, or every row as CSV or JSON.")
    ] = Format.TABLE,
    time: Time = None,
    faulty: Annotated[
        Faulty | None,
        typer.Option(
            help="Missing and impossible values: refuse the file, or continue without the sensor "
            "(impute, the default; given explicitly, also if the whole column is missing)."
        ),
    ] = None,
) -> None:
    """Assess the readings of one asset in a file, by the versions that serve.

    The file may be larger than memory: it is processed in parts.
    """
    from vigie.assessment.stream import Faults, StateCounts
    from vigie.cli.files import Recording
    from vigie.cli.render.events import ADVICE, event_sheet
    from vigie.cli.render.rows import Writer, named
    from vigie.events.gathering import MOST_TOLD, Events, Rows
    from vigie.models.anomaly_data import AssetState
    from vigie.services.anomaly_detection_service import AnomalyDetectionService

    chosen = row_slice(rows)
    recording, first = Recording(file, chosen), chosen.start or 0
    stream = AnomalyDetectionService().stream(
        recording.columns, faulty or Faulty.IMPUTE, model, require_columns=faulty is None
    )
    for name, columns in stream.lacking.items():
        effect = (
            "continues without" if name in stream.ensemble.models else "is left out, since it needs"
        )
        err.print(
            f"[yellow]{name} {effect}[/] {escape(', '.join(columns))}: not in {escape(str(file))}.",
            highlight=False,
            soft_wrap=True,
        )
    sensors = stream.ensemble.sensors
    parts = stream.assess_all(recording.read(sensors.names, time, sensors.words))
    if output is not Format.TABLE:
        writer = Writer(sys.stdout.buffer, output is Format.JSON, stream.versions, first)
        for part in _counted(parts, recording.n_rows):
            writer.write(part)
        writer.close()
        return
    events, faults, states = Events(), Faults(), StateCounts()
    for part in _counted(parts, recording.n_rows):
        events.add(Rows.of(part))
        faults.add(part)
        states.add(part)
    if worst := events.told():
        out.print(event_sheet(worst, first=first))
    if len(worst) < events.n_events:
        out.print(
            f"These are the {MOST_TOLD} worst of {events.n_events:,} events; "
            "--format csv shows every row.",
            highlight=False,
        )
    for fault in faults.all():
        in_file = replace(fault, first_row=fault.first_row + first)
        out.print(f"{in_file}.", highlight=False, soft_wrap=True)
    for state, advice in ADVICE.items():
        if (found := states.of(state)) is not None:
            n_rows, first_row = found
            out.print(
                f"{state.words.capitalize()} in {n_rows} "
                f"row{'' if n_rows == 1 else 's'}, from row {first + first_row + 1}. {advice}",
                highlight=False,
                soft_wrap=True,
            )
    if events.n_silent:
        out.print(
            f"No model could judge {events.n_silent} of {events.n_rows} rows: the context or all "
            "sensors are missing, or the context was never seen in training.",
            highlight=False,
            soft_wrap=True,
        )
    n_alarms = events.counts[AssetState.ALARM]
    out.print(
        f"{n_alarms} alarm{'' if n_alarms == 1 else 's'}; {events.n_anomalies} of "
        f"{events.n_rows} rows are anomalous ({', '.join(named(stream.versions))})."
    )


def _counted(parts: Iterator[Part], n_rows: int | None) -> Iterator[Part]:
    """Show the number of assessed rows and, if known, the remaining time."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.completed:,.0f} rows"),
        BarColumn(),
        TextColumn("{task.fields[speed]:,.0f} rows/s"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bars:
        task = bars.add_task("rows", total=n_rows, speed=0.0)
        for part in parts:
            yield part
            bars.update(task, advance=len(part.assessment), speed=bars.tasks[0].speed or 0.0)
