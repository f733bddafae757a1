"""``vigie detect``: assess a recording by the versions that serve."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from vigie.cli.options import RowRange, print_notes, row_slice
from vigie.cli.read_options import reads_a_table
from vigie.cli.terminal import err, out
from vigie.errors import InvalidDataError
from vigie.tables.options import ReadOptions

if TYPE_CHECKING:
    from vigie.assessment.stream import Faults, Part, StateCounts, Stream
    from vigie.events.gathering import Events
    from vigie.tables.machines import Machine
    from vigie.tables.reading import Recording


class Format(StrEnum):
    """Output formats."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"


class Faulty(StrEnum):
    """Treatment of missing and impossible values."""

    REFUSE = "refuse"
    IMPUTE = "impute"


@reads_a_table
def detect(
    file: Path,
    reading: ReadOptions,
    rows: RowRange = None,
    model: Annotated[list[str] | None, typer.Option(help="Only this model. Repeatable.")] = None,
    output: Annotated[
        Format, typer.Option("--format", help="Events as a table, or every row as CSV or JSON.")
    ] = Format.TABLE,
    faulty: Annotated[
        Faulty | None,
        typer.Option(
            help="Missing and impossible values: refuse the file, or continue without the sensor "
            "(impute, the default; given explicitly, also if the whole column is missing)."
        ),
    ] = None,
) -> None:
    """Assess the readings in a file, machine by machine, by the versions that serve.

    The rows of one machine may be more than memory holds: they are read in parts.
    """
    from vigie.services.anomaly_detection_service import AnomalyDetectionService
    from vigie.tables.machines import open_machines

    service = AnomalyDetectionService()

    def stream(columns: Sequence[str]) -> Stream:
        return service.stream(
            columns, faulty or Faulty.IMPUTE, model, require_columns=faulty is None
        )

    def known(columns: Sequence[str]) -> tuple[Collection[str], Collection[str]]:
        sensors = service.stream(columns, Faulty.IMPUTE, model).ensemble.sensors
        return set(sensors.names).difference(sensors.words), sensors.words

    machines = open_machines(file, reading, rows=row_slice(rows), known=known)
    if not machines:
        raise InvalidDataError(f"{file} has no rows.", field="FILE")
    streams = [(machine, stream(machine.columns)) for machine in machines]
    _print_lacking(streams[0][1], file)
    print_notes(machines[0].notes)
    if output is Format.TABLE:
        _print_events(streams)
    else:
        _write_rows(streams, output)


Streams = Sequence["tuple[Recording | Machine, Stream]"]


def _print_lacking(stream: Stream, file: Path) -> None:
    """Say which models miss columns."""
    for name, columns in stream.lacking.items():
        effect = (
            "continues without" if name in stream.ensemble.models else "is left out, since it needs"
        )
        err.print(
            f"[yellow]{name} {effect}[/] {escape(', '.join(columns))}: not in {escape(str(file))}.",
            highlight=False,
            soft_wrap=True,
        )


def _parts(machine: Recording | Machine, stream: Stream) -> Iterator[Part]:
    """Yield the assessed rows of a machine."""
    sensors = stream.ensemble.sensors
    parts = stream.assess_all(machine.read(sensors.names, sensors.words))
    return _counted(parts, machine.n_rows)


def _write_rows(streams: Streams, output: Format) -> None:
    """Write every row as CSV or JSON."""
    from vigie.cli.render.rows import Writer

    has_assets = streams[0][0].asset is not None
    writer = Writer(sys.stdout.buffer, output is Format.JSON, streams[0][1].versions, has_assets)
    for machine, stream in streams:
        for part in _parts(machine, stream):
            writer.write(part, machine.first, machine.asset)
    writer.close()


def _print_events(streams: Streams) -> None:
    """Print the events of all machines in one table, and what was wrong with their data."""
    from vigie.assessment.stream import Faults, StateCounts
    from vigie.cli.render.events import event_sheet
    from vigie.cli.render.rows import named
    from vigie.events.gathering import MOST_TOLD, Events, Rows
    from vigie.models.anomaly_data import AssetState

    results = []
    for machine, stream in streams:
        events, faults, states = Events(), Faults(), StateCounts()
        for part in _parts(machine, stream):
            events.add(Rows.of(part))
            faults.add(part)
            states.add(part)
        results.append((machine, events, faults, states))
    told = [(machine.asset, machine.first, events.told()) for machine, events, _, _ in results]
    if any(worst for _, _, worst in told):
        out.print(event_sheet(told, streams[0][0].units))
    n_events = sum(events.n_events for _, events, _, _ in results)
    if sum(len(worst) for _, _, worst in told) < n_events:
        each = " of each machine" if len(results) > 1 else ""
        out.print(
            f"These are the {MOST_TOLD} worst{each} of {n_events:,} events; "
            "--format csv shows every row.",
            highlight=False,
        )
    for machine, events, faults, states in results:
        for line in _remarks(machine.first, events, faults, states):
            whose = "" if machine.asset is None else f"{machine.asset}: "
            out.print(f"{whose}{line}", highlight=False, markup=False, soft_wrap=True)
    n_alarms = sum(events.counts[AssetState.ALARM] for _, events, _, _ in results)
    of = f" of {len(results)} machines" if len(results) > 1 else ""
    out.print(
        f"{n_alarms} alarm{'' if n_alarms == 1 else 's'}; "
        f"{sum(events.n_anomalies for _, events, _, _ in results)} of "
        f"{sum(events.n_rows for _, events, _, _ in results)} rows{of} are anomalous "
        f"({', '.join(named(streams[0][1].versions))})."
    )


def _remarks(first: int, events: Events, faults: Faults, states: StateCounts) -> Iterator[str]:
    """Yield what to say below the table of events."""
    from vigie.cli.render.events import ADVICE

    for fault in faults.all():
        yield f"{replace(fault, first_row=fault.first_row + first)}."
    for state, advice in ADVICE.items():
        if (found := states.of(state)) is not None:
            n_rows, first_row = found
            yield (
                f"{state.words.capitalize()} in {n_rows} "
                f"row{'' if n_rows == 1 else 's'}, from row {first + first_row + 1}. {advice}"
            )
    if events.n_silent:
        yield (
            f"No model could judge {events.n_silent} of {events.n_rows} rows: the context or all "
            "sensors are missing, or the context was never seen in training."
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
