"""``vigie backtest``: evaluate the detectors on a labelled recording."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from vigie.cli.environment import read_settings
from vigie.cli.options import (
    Context,
    Exclude,
    Features,
    check_picture,
    chosen_features,
    picture_path,
    print_notes,
)
from vigie.cli.read_options import reads_a_table
from vigie.cli.terminal import err, out, progress_bar, warnings_in_words
from vigie.errors import InvalidDataError
from vigie.tables.options import ReadOptions

if TYPE_CHECKING:
    import pandas as pd

    from vigie.backtest import Backtest
    from vigie.tables.table import Table


@reads_a_table
def backtest(
    file: Path,
    reading: ReadOptions,
    named: list[str],
    labels: Annotated[
        str | None,
        typer.Option(help="The column that is not 0 in a fault; by default all rows are healthy."),
    ] = None,
    fault_word: Annotated[
        list[str] | None,
        typer.Option(help="If the labels are words: one that stands for a fault. Repeatable."),
    ] = None,
    train_rows: Annotated[
        int | None,
        typer.Option(help="Rows to train on; by default up to the first fault, 40 % at most."),
    ] = None,
    model: Annotated[list[str] | None, typer.Option(help="Only this detector. Repeatable.")] = None,
    exclude: Exclude = None,
    feature: Features = None,
    context: Context = None,
    output: Annotated[
        Literal["table", "json"], typer.Option("--format", help="A table, or all figures as JSON.")
    ] = "table",
    picture: Annotated[
        Path | None,
        typer.Option(
            help="Draw the verdict and the sensors over time into this PNG, PDF, SVG or JPG file."
        ),
    ] = None,
) -> None:
    """Train on the first rows of a recording, assess the others, and compare with its labels."""
    from vigie.cli.render.backtest import sentences, sheet, write_picture
    from vigie.tables.machines import read_machines

    check_picture(picture)
    words = [*(context or ()), *([labels] if labels else [])]
    machines = read_machines(file, reading, words=words, ignored=exclude or ())
    print_notes(machines[0].notes)
    if clash := {labels, *reading.time}.intersection(feature or ()):
        raise InvalidDataError(
            f"{', '.join(map(str, clash))} is the label or the time, so it cannot be a feature.",
            field="--feature",
        )
    results: dict[str | None, Backtest] = {}
    readings: dict[str | None, pd.DataFrame] = {}
    for machine in machines:
        results[machine.asset], readings[machine.asset] = _backtest(
            machine.table, labels, fault_word, train_rows, model, exclude, feature, context
        )
    if output == "json":
        figures = {asset: result.figures() for asset, result in results.items()}
        whole = {"assets": figures} if reading.by else figures[None]
        sys.stdout.write(json.dumps(whole, allow_nan=False) + "\n")
    else:
        out.print(sheet(results))
        for asset, result in results.items():
            for sentence in sentences(result):
                whose = "" if asset is None else f"{asset}: "
                out.print(f"{whose}{sentence}", highlight=False, markup=False, soft_wrap=True)
    if picture is not None:
        for asset, result in results.items():
            name = Path(named[0]).name
            title = f"Backtest on {name}" + ("" if asset is None else f", machine {asset}")
            where = picture_path(picture, asset)
            write_picture(result, where, readings[asset], title, machines[0].units)


def _backtest(
    table: Table,
    labels: str | None,
    fault_words: list[str] | None,
    train_rows: int | None,
    model: list[str] | None,
    exclude: list[str] | None,
    feature: list[str] | None,
    context: list[str] | None,
) -> tuple[Backtest, pd.DataFrame]:
    """Evaluate the detectors on the rows of one machine; return their readings too."""
    import numpy as np

    from vigie import backtest as backtests
    from vigie.tables.features import labels_of

    is_faulty = np.zeros(len(table.frame), dtype=bool)
    if labels is not None:
        is_faulty = labels_of(table.frame, labels, fault_words or ())
    others = [*(exclude or ()), *([labels] if labels else ())]
    X = chosen_features(table, others, feature, context)
    if labels is None:
        _propose_labels(table)
    rows = backtests.usual_train_rows(is_faulty) if train_rows is None else train_rows
    with warnings_in_words(), progress_bar() as progress:
        result = backtests.backtest(
            X, is_faulty, rows, read_settings(), table.times, model, progress, context or ()
        )
    return result, X


def _propose_labels(table: Table) -> None:
    """Name the columns that look like labels."""
    from vigie.tables.kinds import Kind, without_changepoints

    labels = {column.name: column for column in table.kinds if column.kind is Kind.LABEL}
    for name in without_changepoints(list(labels)):
        option = f"--labels {shlex.quote(name)}"
        err.print(
            f"{name} looks like labels ({labels[name].reason}). To compare with them: {option}",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
