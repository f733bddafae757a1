"""``vigie``: the command line.

Each command is a function in a module of its own. All modules are imported at the start for
``--help``, so a command imports its dependencies only when it runs.
"""

from __future__ import annotations

import logging
import sys
from typing import Annotated, TextIO, cast

import typer

from vigie import __version__, garbage, logs
from vigie.cli import (
    alarms,
    alerts,
    backtest,
    config,
    demo,
    detect,
    doctor,
    events,
    history,
    inspect,
    keys,
    models,
    serve,
    sync,
    train,
    up,
)
from vigie.cli.command import Command, Group
from vigie.cli.environment import read_settings
from vigie.cli.terminal import Output, err, out, print_error
from vigie.errors import InvalidDataError, SettingsFileError, VigieError

app = typer.Typer(
    cls=Group,
    help="Anomaly detection for machines and their sensors, tracked and versioned in MLflow.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
# In the order of `vigie --help`.
app.command(cls=Command)(up.up)
app.command(cls=Command)(serve.serve)
app.command(cls=Command)(inspect.inspect)
app.command(cls=Command)(train.train)
app.command(cls=Command)(sync.sync)
app.command(cls=Command)(detect.detect)
app.command(cls=Command)(backtest.backtest)
app.add_typer(events.events, name="events")
app.add_typer(alarms.alarms, name="alarms")
app.add_typer(alerts.alerts, name="alerts")
app.add_typer(models.models, name="models")
app.add_typer(history.history, name="history")
app.add_typer(keys.keys, name="keys")
app.add_typer(config.config, name="config")
app.command(cls=Command)(doctor.doctor)
app.command(cls=Command)(demo.demo)


def main() -> None:
    """Run the command line; print expected errors as one line, without a traceback."""
    garbage.search_rarely()
    if sys.stdout is not None:
        sys.stdout = cast(TextIO, Output(sys.stdout))
    try:
        app()
    except VigieError as error:
        print_error(str(error))
        more = error.faults[1:] if isinstance(error, InvalidDataError) else ()
        for fault in more:
            print_error(f"{fault['field']}: {fault['message']}.")
        sys.exit(2 if isinstance(error, SettingsFileError) else 1)


def _version(requested: bool) -> None:
    if requested:
        out.print(f"vigie {__version__}", highlight=False)
        raise typer.Exit


@app.callback()
def _start(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log debug messages.")] = False,
) -> None:
    logs.configure(logs.LateHandler(_log_handler), verbose=verbose)


def _log_handler() -> logging.Handler:
    """Return a handler for people at a terminal, and one for lines elsewhere."""
    from rich.logging import RichHandler

    try:
        log_format = read_settings().log_format
    except InvalidDataError:
        # A command that needs the settings says what is wrong with them.
        log_format = "text"
    if not err.is_terminal or log_format == "json":
        return logs.to_standard_error(log_format)
    handler = RichHandler(console=err, show_path=False, show_time=False)
    handler.setFormatter(logs.MessageFormatter())
    return handler
