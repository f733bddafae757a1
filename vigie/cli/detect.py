"""``vigie detect``: assess a recording by the versions that serve."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from vigie.cli.environment import read_settings
from vigie.cli.options import (
    RowRange,
    check_picture,
    checked_models,
    picture_path,
    print_notes,
)
from vigie.cli.read_options import reads_a_table
from vigie.cli.terminal import err, out
from vigie.errors import InvalidDataError, listed
from vigie.tables.options import ReadOptions
from vigie.tables.stated import row_slice

if TYPE_CHECKING:
    from vigie.assessment.stream import Part, Stream
    from vigie.cli.render.verdict import Verdict
    from vigie.services.anomaly_detection_service import AnomalyDetectionService
    from vigie.tables.machines import Machine
    from vigie.tables.reading import Recording


class Format(StrEnum):
    """Output formats."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"


class FailOn(StrEnum):
    """What ends the command with status 3, the mildest first."""

    ANOMALY = "anomaly"
    WATCH = "watch"
    BAD_DATA = "bad_data"
    DRIFT = "drift"
    UNKNOWN_OPERATING_POINT = "unknown_operating_point"
    ALARM = "alarm"


FAILED = 3
"""Exit status if ``--fail-on`` is reached; 1 is an error, 2 a wrong command line."""


class Faulty(StrEnum):
    """Treatment of missing and impossible values."""

    REFUSE = "refuse"
    IMPUTE = "impute"


@reads_a_table
def detect(
    file: Path,
    reading: ReadOptions,
    named: list[str],
    rows: RowRange = None,
    model: Annotated[list[str] | None, typer.Option(help="Only this model. Repeatable.")] = None,
    load: Annotated[
        Path | None,
        typer.Option(
            help="Assess by the models in this folder, which `vigie train --save` has written, "
            "instead of those that serve."
        ),
    ] = None,
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
    fail_on: Annotated[
        FailOn | None,
        typer.Option(
            help="Exit with status 3 if a machine was in this state or a more severe one: for cron "
            "and CI. anomaly: any anomalous reading. By default the status is 0 whatever is found."
        ),
    ] = None,
    picture: Annotated[
        Path | None,
        typer.Option(
            help="Draw the verdict and the sensors over time into this PNG, PDF, SVG or JPG file."
        ),
    ] = None,
) -> None:
    """Assess the readings in a file, machine by machine, by the versions that serve.

    Files larger than memory are processed in chunks.

    Exit status: 0 done, 1 error, 2 wrong command line, 3 what --fail-on names was found.
    """
    from vigie.tables.file_form import FileForm
    from vigie.tables.layout import HOLDS_UNITS
    from vigie.tables.machines import Known, open_machines

    check_picture(picture)
    asked = checked_models(model)
    services = _services(load)
    if load is not None and asked is not None:
        _require_saved(asked, services, load)

    def stream(asset: str | None, columns: Sequence[str]) -> Stream:
        service, treatment = _service_for(asset, services, load), faulty or Faulty.IMPUTE
        found = service.stream(columns, treatment, asked, require_columns=faulty is None)
        if set(columns).isdisjoint(found.ensemble.sensors.names):
            # Nothing is left to impute from.
            service.stream(columns, treatment, asked, require_columns=True)
        return found

    def known(columns: Sequence[str]) -> Known:
        numbers, words, forms = set[str](), set[str](), list[FileForm]()
        for service in services.values():
            ensemble = service.stream(columns, Faulty.IMPUTE, asked).ensemble
            numbers.update(set(ensemble.sensors.names).difference(ensemble.sensors.words))
            words.update(ensemble.sensors.words)
            forms += [model.file_form for model in ensemble.models.values()]
        return Known(numbers, words, FileForm.shared(forms))

    machines = open_machines(file, reading, rows=row_slice(rows), known=known)
    if not any(map(_has_rows, machines)):
        raise InvalidDataError(f"{named[0]} has no rows: there is nothing to judge.", field="FILE")
    streams = [(machine, stream(machine.asset, machine.columns)) for machine in machines]
    _print_lacking(streams, named[0])
    notes = machines[0].notes
    print_notes(note for note in notes if not note.endswith(HOLDS_UNITS))
    write = _print_events if output is Format.TABLE else partial(_write_rows, output=output)
    verdicts = write(streams, is_drawn=picture is not None)
    # A long file may show more than its first rows did: a clock that was set back, say.
    print_notes(note for note in machines[0].notes if note not in notes)
    if picture is not None:
        for verdict in verdicts:
            title = Path(named[0]).name + (f", machine {verdict.asset}" if verdict.asset else "")
            drawn = verdict.picture(title, machines[0].units)
            drawn.write(picture_path(picture, verdict.asset))
    if fail_on is not None and any(verdict.reaches(fail_on) for verdict in verdicts):
        raise typer.Exit(FAILED)


def _services(folder: Path | None) -> Mapping[str, AnomalyDetectionService]:
    """Return services with the models in a folder, or one with those of the registry.

    Each has the slug of the machine for which it answers as its key; that of all others has none.

    Raises
    ------
    InvalidDataError
        If there is neither.
    """
    from vigie.registry.scopes import EVERYTHING
    from vigie.services.anomaly_detection_service import AnomalyDetectionService
    from vigie.serving import saved

    settings = read_settings()
    if folder is not None:
        alone = settings.model_copy(update={"mlflow_enabled": False})
        folders = {path.name: path for path in saved.folders_of_assets(folder)}
        if saved.algorithms_in(folder) or not folders:
            folders[EVERYTHING] = folder
        services = {}
        for asset, path in folders.items():
            services[asset] = AnomalyDetectionService(alone)
            services[asset].load_models(path)
        return services
    if not settings.mlflow_enabled:
        raise InvalidDataError(
            "No model can answer: tracking is disabled, so there is no registry.",
            field="MLFLOW_ENABLED",
            remedy="Set MLFLOW_ENABLED=true, or give a folder that `vigie train FILE --save "
            "FOLDER` has written: --load FOLDER.",
        )
    service = AnomalyDetectionService(settings)
    service.registry.resume()
    if not service.registry.answers and (confirmed := service.confirmed) is not None:
        err.print(
            "[yellow]MLflow does not answer:[/] these are the versions that served as it confirmed "
            f"them at {confirmed:%Y-%m-%d %H:%M} UTC.",
            highlight=False,
            soft_wrap=True,
        )
    return {EVERYTHING: service}


def _require_saved(
    asked: Sequence[str], services: Mapping[str, AnomalyDetectionService], folder: Path
) -> None:
    """Check that a folder has the models that are asked for.

    Raises
    ------
    InvalidDataError
        If one is missing.
    """
    for asset, service in services.items():
        there = list(service.served.current.for_everything.served)
        where = folder / asset if asset else folder
        if missing := [name for name in asked if name not in there]:
            raise InvalidDataError(
                f"{where} has no model of {', '.join(missing)}, only of {', '.join(there)}.",
                field="--model",
                remedy="Name one of these, or train the other too: `vigie train FILE --model "
                f"{missing[0]} --save {shlex.quote(str(folder))}`.",
            )


def _service_for(
    asset: str | None, services: Mapping[str, AnomalyDetectionService], folder: Path | None
) -> AnomalyDetectionService:
    """Return the service with a machine's own models, or else with those for all.

    Raises
    ------
    InvalidDataError
        If there are only models of other machines.
    """
    from vigie.registry.scopes import EVERYTHING, slug

    service = services.get(EVERYTHING if asset is None else slug(asset), services.get(EVERYTHING))
    if service is not None:
        return service
    names = listed(services)
    if asset is None:
        raise InvalidDataError(
            f"{folder} has models of single machines: {names}.",
            field="--load",
            remedy="Say with --by which column names the machine, or load one of these folders: "
            f"--load {shlex.quote(f'{folder}/{next(iter(services))}')}.",
        )
    raise InvalidDataError(
        f"{folder} has no model of machine {asset!r}, only of {names}.",
        field="--load",
        remedy="Train one with `vigie train FILE --by COLUMN --save FOLDER`.",
    )


Streams = Sequence["tuple[Recording | Machine, Stream]"]


def _has_rows(machine: Recording | Machine) -> bool:
    """Return whether there is at least one row."""
    from vigie.tables.machines import Machine

    if isinstance(machine, Machine):
        return machine.n_rows > 0
    return any(len(cells) for cells in machine.start().values())


def _print_lacking(streams: Streams, file: str) -> None:
    """Say which models miss columns, and which column may be the one that they miss."""
    lines = [line for machine, found in streams for line in _lacking(found, machine.columns, file)]
    for line in dict.fromkeys(lines):
        err.print(line, highlight=False, soft_wrap=True)


def _lacking(stream: Stream, columns: Sequence[str], file: str) -> Iterator[str]:
    from vigie.tables.names import nearest

    models: dict[tuple[bool, tuple[str, ...]], list[str]] = {}
    for name, lacking in stream.lacking.items():
        models.setdefault((name in stream.ensemble.models, lacking), []).append(name)
    free = set(columns).difference(stream.ensemble.sensors.names)
    for (continues, lacking), names in models.items():
        one = len(names) == 1
        effect = "continues without" if one else "continue without"
        if not continues:
            effect = "is left out, since it needs" if one else "are left out, since they need"
        near = [f"{column!r} for {name!r}" for name in lacking if (column := nearest(name, free))]
        meant = f" Did you mean {' and '.join(near)}? Name it as in training." if near else ""
        yield (
            f"[yellow]{', '.join(names)} {effect}[/] {escape(', '.join(lacking))}: "
            f"not in {escape(file)}.{escape(meant)}"
        )


def _parts(machine: Recording | Machine, stream: Stream) -> Iterator[Part]:
    """Yield the assessed rows of a machine."""
    sensors = stream.ensemble.sensors
    parts = stream.assess_all(machine.read(sensors.names, sensors.words))
    try:
        yield from _counted(parts, machine.n_rows)
    except InvalidDataError as error:
        if (place := re.fullmatch(r"data\[(\d+)\]\.(.+)", error.field or "", re.S)) is None:
            raise
        raise InvalidDataError(
            error.message,
            field=f"row {machine.first + int(place[1]) + 1}, {place[2]}",
            remedy="Correct it, or judge such rows without the sensor: --faulty impute, which is "
            "the default.",
        ) from error


def _versions(streams: Streams) -> dict[str, int | None]:
    """Return the version of each model, those of all machines together."""
    return {name: number for _, stream in streams for name, number in stream.versions.items()}


def _write_rows(streams: Streams, *, output: Format, is_drawn: bool) -> list[Verdict]:
    """Write every row as CSV or JSON."""
    from vigie.cli.render.rows import Writer
    from vigie.cli.render.verdict import Verdict, summary

    has_assets, is_json = streams[0][0].asset is not None, output is Format.JSON
    threshold = 1.0 - streams[0][1].ensemble.contamination
    writer = Writer(
        sys.stdout.buffer,
        is_json,
        _versions(streams),
        threshold,
        has_assets,
        read_settings().csv_for_people,
    )
    verdicts = []
    for machine, stream in streams:
        # To explain events takes long, and a line of CSV has no place for them.
        verdict = Verdict(machine.asset, machine.first, has_events=is_json, is_drawn=is_drawn)
        for part in _parts(machine, stream):
            writer.write(part, machine.first, machine.asset)
            verdict.add(part)
        verdicts.append(verdict)
    writer.close(summary(verdicts) if is_json else {})
    return verdicts


def _print_events(streams: Streams, *, is_drawn: bool) -> list[Verdict]:
    """Print the events of all machines in one table, and what was wrong with their data."""
    from vigie.cli.render.events import event_sheet
    from vigie.cli.render.rows import named
    from vigie.cli.render.verdict import Verdict, counted, endings
    from vigie.events.gathering import MOST_TOLD

    units, verdicts = streams[0][0].units, []
    for machine, stream in streams:
        verdict = Verdict(machine.asset, machine.first, is_drawn=is_drawn)
        for part in _parts(machine, stream):
            verdict.add(part)
        verdicts.append(verdict)
    told = [(verdict.asset, verdict.first, verdict.events.told()) for verdict in verdicts]
    if any(worst for _, _, worst in told):
        out.print(event_sheet(told, units, max(verdict.alarm_limit for verdict in verdicts)))
    n_events = sum(verdict.events.n_events for verdict in verdicts)
    if sum(len(worst) for _, _, worst in told) < n_events:
        each = " of each machine" if len(verdicts) > 1 else ""
        out.print(
            f"These are the {MOST_TOLD} worst{each} of {n_events:,} events; "
            "--format csv shows every row.",
            highlight=False,
        )
    for verdict in verdicts:
        for line in verdict.remarks(units):
            whose = "" if verdict.asset is None else f"{verdict.asset}: "
            out.print(f"{whose}{line}", highlight=False, markup=False, soft_wrap=True)
    of = f" of {len(verdicts)} machines" if len(verdicts) > 1 else ""
    out.print(
        f"{counted(verdicts)}; "
        f"{sum(verdict.n_anomalies for verdict in verdicts)} of "
        f"{sum(verdict.n_rows for verdict in verdicts)} rows{of} are anomalous "
        f"({', '.join(named(_versions(streams)))})."
    )
    for line in endings(verdicts, units):
        out.print(line, highlight=False, markup=False, soft_wrap=True)
    return verdicts


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
