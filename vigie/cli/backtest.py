"""``vigie backtest``: evaluate the detectors on a labelled recording."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from vigie.cli.environment import read_settings
from vigie.cli.options import Context, Exclude, Features, File, Time, chosen_features
from vigie.cli.terminal import out, progress_bar
from vigie.errors import InvalidDataError


def backtest(
    file: File,
    labels: Annotated[
        str | None,
        typer.Option(help="The column that is not 0 in a fault; by default all rows are healthy."),
    ] = None,
    train_rows: Annotated[
        int | None,
        typer.Option(help="Rows to train on; by default up to the first fault, 40 % at most."),
    ] = None,
    model: Annotated[list[str] | None, typer.Option(help="Only this detector. Repeatable.")] = None,
    exclude: Exclude = None,
    feature: Features = None,
    context: Context = None,
    time: Time = None,
    output: Annotated[
        Literal["table", "json"], typer.Option("--format", help="A table, or all figures as JSON.")
    ] = "table",
    picture: Annotated[
        Path | None, typer.Option(help="Write a plot over time to this PNG file.")
    ] = None,
) -> None:
    """Train on the first rows of a recording, assess the others, and compare with its labels."""
    import numpy as np

    from vigie import backtest as backtests
    from vigie.cli.files import labels_of, read_table, times_of
    from vigie.cli.render.backtest import sentences, sheet, write_picture

    table = read_table(file, context or ())
    is_faulty = np.zeros(len(table), dtype=bool) if labels is None else labels_of(table, labels)
    other_columns = {name for name in (labels, time) if name is not None}
    if clash := other_columns.intersection(feature or ()):
        raise InvalidDataError(
            f"{', '.join(sorted(clash))} is the label or the time, so it cannot be a feature.",
            field="--feature",
        )
    times = times_of(table, time)
    X = chosen_features(table, sorted({*(exclude or ()), *other_columns}), feature, context)
    rows = backtests.usual_train_rows(is_faulty) if train_rows is None else train_rows
    with progress_bar() as progress:
        result = backtests.backtest(
            X, is_faulty, rows, read_settings(), times, model, progress, context or ()
        )
    if output == "json":
        sys.stdout.write(json.dumps(result.figures(), allow_nan=False) + "\n")
    else:
        out.print(sheet(result))
        for sentence in sentences(result):
            out.print(sentence, highlight=False, soft_wrap=True)
    if picture is not None:
        write_picture(result, picture)
