"""``vigie``: the command line."""

from __future__ import annotations

import json
import logging
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.markup import escape

from vigie import __version__
from vigie.errors import InvalidDataError, JournalError, VigieError

if TYPE_CHECKING:
    from rich.table import Table as Sheet

    from vigie.assessment.stream import Part
    from vigie.config import Settings
    from vigie.tracking.outbox import Entry

PATIENCE_S = 10.0

out = Console()
err = Console(stderr=True)

app = typer.Typer(
    help="Anomaly detection for machines and their sensors, tracked and versioned in MLflow.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
models = typer.Typer(help="The registry: which versions there are, and which one serves.",
                     no_args_is_help=True)  # fmt: skip
app.add_typer(models, name="models")

File = Annotated[Path, typer.Argument(help="CSV or Parquet, one reading a row, in time order.")]
RowRange = Annotated[
    str | None, typer.Option(help="Only these rows, such as 1:400, 401: or :400; both ends count.")
]
Exclude = Annotated[
    list[str] | None, typer.Option(help="A column that is no feature, such as a label. Repeatable.")
]
Features = Annotated[
    list[str] | None, typer.Option("--feature", help="Exactly these columns. Repeatable.")
]
Time = Annotated[
    str | None,
    typer.Option(help="The column with the time; by default one called time or the like."),
]
Name = Annotated[str, typer.Argument(help="Registered name, such as isolation_forest.")]


class Format(StrEnum):
    """How results are printed."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"


class Faulty(StrEnum):
    """What is done about values that no machine made."""

    REFUSE = "refuse"
    IMPUTE = "impute"


def _version(asked: bool) -> None:
    if asked:
        out.print(f"vigie {__version__}", highlight=False)
        raise typer.Exit


@app.callback()
def _start(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log more.")] = False,
) -> None:
    from rich.logging import RichHandler

    handler = RichHandler(console=err, show_path=False, show_time=False)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[handler])
    logging.getLogger("vigie").setLevel(logging.DEBUG if verbose else logging.INFO)


@app.command()
def up() -> None:
    """Start MLflow and the service on this machine, and stay until Ctrl-C."""
    from vigie.local import mlflow_server, service

    settings = _settings()
    err.print("MLflow and the service start ...")
    with _signals_as_exit(), mlflow_server(settings) as mlflow, service(settings) as address:
        err.print(f"Service  {address}/docs")
        err.print(f"MLflow   {mlflow}")
        err.print("Ctrl-C ends both.")
        signal.pause()


@app.command()
def serve() -> None:
    """Start the service alone, with the MLflow at MLFLOW_TRACKING_URI."""
    from vigie.api.server import serve as serve_over_http
    from vigie.local import require_free

    settings = _settings()
    require_free(settings.port, f"set VIGIE_PORT={settings.port + 1}")
    # Having shut down, uvicorn sends itself once more the signal that it was told by.
    with _signals_as_exit():
        serve_over_http(settings)


@app.command()
def train(
    file: File,
    model: Annotated[list[str] | None, typer.Option(help="Only this detector. Repeatable.")] = None,
    rows: RowRange = None,
    exclude: Exclude = None,
    feature: Features = None,
    promote: Annotated[
        bool, typer.Option("--promote", help="Put the new versions into Production.")
    ] = False,
) -> None:
    """Train on a file of healthy readings; each training is a run and a version in MLflow."""
    from vigie.services.anomaly_detection_service import AnomalyDetectionService

    table = _read(file, rows)
    X = _features(table, exclude, feature)
    _warn_of_disorder(table)
    # A command can wait for a slow server, unlike a service in the middle of its work.
    service = AnomalyDetectionService(_settings(tracking_patience_s=PATIENCE_S))
    stage = "Production" if promote else None
    with _progress() as progress:
        outcome = service.train_all_models(X, model_names=model, stage=stage, progress=progress)
    sheet, missed = _sheet(), []
    for column in ("model", "version", "anomalies in training", "seconds"):
        sheet.add_column(column, justify="left" if column == "model" else "right")
    for name, result in outcome.items():
        if result["status"] != "trained":
            missed.append(name)
            err.print(f"[red]{name} was not trained:[/] {escape(result['error'])}")
            continue
        metrics, version = result["metrics"], result["version"]
        if promote and version is None:
            missed.append(name)
            kept = (
                " yet; it will be, as soon as MLflow has it"
                if service.mlflow_service.enabled
                else ""
            )
            err.print(f"[red]{name} is not promoted{kept}.[/]")
        sheet.add_row(
            name,
            f"{version or '–'}{' (Production)' if promote and version else ''}",
            f"{metrics['n_anomalies_detected']} of {metrics['n_samples']}",
            f"{metrics['training_seconds']:.1f}",
        )
    if sheet.row_count:
        out.print(sheet)
    if missed:
        raise typer.Exit(1)


@app.command()
def sync(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be sent.")
    ] = False,
    again: Annotated[
        bool, typer.Option("--again", help="Also what was set aside as faulty.")
    ] = False,
) -> None:
    """Send to MLflow what was trained while it was away."""
    from vigie.state import require_writable
    from vigie.tracking.sync import SENT, SENT_BY_ANOTHER

    service = _mlflow()
    require_writable(service.settings.state_dir)
    journal = service.journal
    entries = journal.waiting() + (journal.set_aside() if again else [])
    if dry_run or not entries:
        out.print(f"The journal in {journal.folder}: {journal.summary()}.", highlight=False)
        for entry in entries:
            try:
                facts = entry.facts()
                name = facts.get("what") or facts["run_name"]
            except (JournalError, KeyError, OSError) as error:
                name = f"[red]cannot be sent:[/] {escape(str(error))}"
            written = datetime.fromtimestamp(time.time() - entry.age_s, UTC)
            out.print(f"{written:%Y-%m-%d %H:%M:%S} UTC  {name}", highlight=False)
        return
    outcomes: list[str] = []
    with _progress("sending") as progress:

        def told(entry: Entry, outcome: str) -> None:
            outcomes.append(outcome)
            progress(f"{len(outcomes)} of {len(entries)}", len(outcomes) / len(entries))

        service.sync(told, again=again)
    left = [outcome for outcome in outcomes if outcome not in (SENT, SENT_BY_ANOTHER)]
    by_another = outcomes.count(SENT_BY_ANOTHER)
    said = f"{outcomes.count(SENT)} sent, {f'{by_another} by another process, ' * (by_another > 0)}"
    out.print(f"{said}{len(left)} left.", highlight=False)
    for outcome in left:
        err.print(f"[red]Not sent:[/] {escape(outcome)}")
    if left:
        raise typer.Exit(1)


@app.command()
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
            help="Missing and impossible values: refuse the file, or go on without the sensor "
            "(impute), as by default; said outright, also where its whole column is missing."
        ),
    ] = None,
) -> None:
    """Judge the readings of one asset in a file, by the versions that serve.

    A file may be longer than memory: it is read, judged and told part by part.
    """
    from vigie.assessment.stream import Faults
    from vigie.events.gathering import MOST_TOLD, Events, Rows
    from vigie.export import Writer, named
    from vigie.files import Recording
    from vigie.report import event_sheet
    from vigie.services.anomaly_detection_service import AnomalyDetectionService

    chosen = _slice(rows)
    recording, first = Recording(file, chosen), chosen.start or 0
    stream = AnomalyDetectionService().stream(
        recording.columns, faulty or Faulty.IMPUTE, model, require_columns=faulty is None
    )
    for name, columns in stream.lacking.items():
        gone = "goes on without" if name in stream.ensemble.models else "is not asked, for it needs"
        err.print(
            f"[yellow]{name} {gone}[/] {escape(', '.join(columns))}: not in {escape(str(file))}.",
            highlight=False,
            soft_wrap=True,
        )
    parts = stream.assess_all(recording.read(stream.ensemble.sensors.names, time))
    if output is not Format.TABLE:
        writer = Writer(sys.stdout.buffer, output is Format.JSON, stream.versions, first)
        for part in _counted(parts, recording.n_rows):
            writer.write(part)
        writer.close()
        return
    found, faults = Events(), Faults()
    for part in _counted(parts, recording.n_rows):
        found.add(Rows.of(part))
        faults.add(part)
    if told := found.told():
        out.print(event_sheet(told, first=first))
    if len(told) < found.n_events:
        out.print(
            f"These are the {MOST_TOLD} worst of {found.n_events:,} events; "
            "--format csv tells of every row.",
            highlight=False,
        )
    for fault in faults.all():
        placed = replace(fault, first_row=fault.first_row + first)
        out.print(f"{placed}.", highlight=False, soft_wrap=True)
    out.print(
        f"{found.n_alarms} alarm{'' if found.n_alarms == 1 else 's'}; {found.n_anomalies} of "
        f"{found.n_rows} rows are anomalous ({', '.join(named(stream.versions))})."
    )


@app.command("backtest")
def backtest_file(
    file: File,
    labels: Annotated[
        str | None,
        typer.Option(help="The column that is not 0 in a fault; without it every row is healthy."),
    ] = None,
    train_rows: Annotated[
        int | None,
        typer.Option(help="Rows to train on; by default up to the first fault, 40 % at most."),
    ] = None,
    model: Annotated[list[str] | None, typer.Option(help="Only this detector. Repeatable.")] = None,
    exclude: Exclude = None,
    feature: Features = None,
    time: Time = None,
    output: Annotated[
        Literal["table", "json"], typer.Option("--format", help="A table, or every figure as JSON.")
    ] = "table",
    picture: Annotated[
        Path | None, typer.Option(help="Write the time line to this PNG file.")
    ] = None,
) -> None:
    """Train on the first rows of a recording, judge the others, and compare with its labels."""
    import numpy as np

    from vigie.backtest import (
        backtest,
        labels_of,
        sentences,
        sheet,
        usual_train_rows,
        write_picture,
    )
    from vigie.files import read_table, times_of

    table = read_table(file)
    known = np.zeros(len(table), dtype=bool) if labels is None else labels_of(table, labels)
    no_features = {name for name in (labels, time) if name is not None}
    if clash := no_features.intersection(feature or ()):
        raise InvalidDataError(
            f"{', '.join(sorted(clash))} is the label or the time, so it is no feature.",
            field="--feature",
        )
    times = times_of(table, time)
    X = _features(table, sorted({*(exclude or ()), *no_features}), feature)
    rows = usual_train_rows(known) if train_rows is None else train_rows
    with _progress() as progress:
        result = backtest(X, known, rows, _settings(), times, model, progress)
    if output == "json":
        json.dump(result.figures(), sys.stdout, allow_nan=False)
        print()
    else:
        out.print(sheet(result))
        for sentence in sentences(result):
            out.print(sentence, highlight=False, soft_wrap=True)
    if picture is not None:
        write_picture(result, picture)


@models.command("list")
def models_list() -> None:
    """Show every version of every model, with its stage and the run that made it."""
    from vigie.detectors.catalogue import algorithms

    service, sheet = _mlflow(), _sheet()
    for column in ("model", "version", "stage", "run"):
        sheet.add_column(column)
    for name in algorithms():
        for version in service.list_versions(name):
            stage = f"[green]{version.stage}[/]" if version.stage == "Production" else version.stage
            sheet.add_row(name, str(version.version), stage, version.run_id)
    if sheet.row_count:
        out.print(sheet)
    else:
        out.print("The registry is empty. `vigie train FILE` makes the first versions.")


@models.command("promote")
def models_promote(
    name: Name,
    version: Annotated[int, typer.Argument(help="Version number.")],
    stage: Annotated[
        str, typer.Option(help="Production, Staging, Archived or None.")
    ] = "Production",
) -> None:
    """Put a version into a stage; what was there before is archived."""
    moved = _mlflow().transition_model_stage(name, version, stage)
    if moved:
        out.print(f"{name} version {moved.version} is in {moved.stage}.")


@models.command("rollback")
def models_rollback(name: Name) -> None:
    """Go back to the version that served before the one in Production."""
    moved = _mlflow().rollback(name)
    if moved:
        before, now = moved
        out.print(f"{name}: version {now.version} serves again, instead of {before.version}.")


@app.command()
def doctor() -> None:
    """Check the way from here to MLflow step by step, with the remedy for what fails."""
    from vigie.doctor import examine

    failed = False
    for check in examine(_settings()):
        mark = "[green]ok  [/]" if check.passed else "[red]fail[/]"
        out.print(f"{mark} {check.question} {escape(check.finding)}", highlight=False)
        if not check.passed:
            failed = True
            out.print(f"     {escape(check.remedy)}", style="yellow", highlight=False)
    if failed:
        raise typer.Exit(1)


@app.command()
def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Leave MLflow and the service up.")] = False,
) -> None:
    """Start everything, train, promote, and find the fault in a recording."""
    from vigie.demo import run

    with _signals_as_exit():
        run(_settings(), out, _progress if err.is_terminal else _lines, keep=keep)


def main() -> None:
    """Run the command line; an error that we know is one line, not a traceback."""
    try:
        app()
    except VigieError as error:
        _complain(str(error))
        sys.exit(1)
    except ValueError as error:
        from pydantic import ValidationError

        if not isinstance(error, ValidationError):
            raise
        from vigie.config import Settings, masked

        for fault in error.errors():
            message = fault["msg"].removeprefix("Value error, ")
            variable = Settings.variable(str(fault["loc"][0]))
            _complain(f"{variable}: {message}, but it is {masked(repr(fault['input']))}.")
        sys.exit(1)


def _settings(**given: Any) -> Settings:
    """Return the settings; pydantic takes longer to import than all of ``vigie --help``."""
    from vigie.config import Settings

    return Settings(**given)


def _sheet() -> Sheet:
    from rich.table import Table

    return Table(header_style="bold")


def _complain(error: str) -> None:
    err.print(f"[red]Error:[/] {escape(error)}", highlight=False, soft_wrap=True)


def _mlflow() -> Any:
    from vigie.services.mlflow_service import MLflowService

    service = MLflowService()
    if not service.enabled:
        raise InvalidDataError(
            "Tracking is disabled, so there is no registry.",
            field="MLFLOW_ENABLED",
            remedy="Set MLFLOW_ENABLED=true.",
        )
    return service


def _read(file: Path, rows: str | None) -> Any:
    from vigie.files import read_table

    table = read_table(file)
    chosen_rows = _slice(rows)
    if chosen_rows.start is not None and chosen_rows.start >= len(table):
        raise InvalidDataError(
            f"{rows!r} begins after the end: {file} has {len(table)} rows.", field="--rows"
        )
    return table.iloc[chosen_rows]


def _warn_of_disorder(table: Any) -> None:
    """Say that rows are not in order of time, which the models take them to be."""
    from vigie.files import times_of

    try:
        times_of(table)
    except InvalidDataError as error:
        if _settings().time_ordered:
            err.print(f"[yellow]Taken to be in order of time:[/] {escape(error.message)}")


def _features(table: Any, exclude: list[str] | None, feature: list[str] | None) -> Any:
    from vigie.files import features

    chosen, left_out = features(table, exclude or (), feature or ())
    if left_out:
        err.print(f"Left out, being no readings: {', '.join(left_out)}", style="dim")
    return chosen


def _slice(rows: str | None) -> slice:
    """Return the slice that ``1:400`` means, counted from 1 with both ends included."""
    if rows is None:
        return slice(None)
    found = re.fullmatch(r"(\d*):(\d*)", rows)
    start, stop = (int(end) if end else None for end in found.groups()) if found else (0, 0)
    if start == 0 or (stop is not None and stop < (start or 1)):
        raise InvalidDataError(
            f"{rows!r} is no range of rows.", field="--rows", remedy="For example 1:400 or 401:."
        )
    return slice((start or 1) - 1, stop)


def _counted(parts: Iterator[Part], n_rows: int | None) -> Iterator[Part]:
    """Show how many rows are judged, and how long the others will take where that is known."""
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


@contextmanager
def _progress(what: str = "training") -> Iterator[Callable[[str, float], None]]:
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description:<36}"), BarColumn(), TimeElapsedColumn())
    disabled = not err.is_terminal
    with Progress(*columns, console=err, transient=True, disable=disabled) as bars:
        task = bars.add_task(what, total=1.0)
        yield lambda step, share: bars.update(task, description=step, completed=share)


@contextmanager
def _lines() -> Iterator[Callable[[str, float], None]]:
    """Tell progress to a log, where no bar can be drawn."""
    yield lambda step, share: err.print(f"{share:>4.0%} {step}", highlight=False)


@contextmanager
def _signals_as_exit() -> Iterator[None]:
    """Let a termination end the block as Ctrl-C does, so that what was started is stopped."""

    def leave(number: int, frame: Any) -> None:
        raise typer.Exit(0)

    before = {kind: signal.signal(kind, leave) for kind in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)


if __name__ == "__main__":
    main()
