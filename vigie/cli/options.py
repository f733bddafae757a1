"""Options that several commands share."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vigie.cli.terminal import err
from vigie.errors import InvalidDataError

if TYPE_CHECKING:
    import pandas as pd

File = Annotated[Path, typer.Argument(help="CSV or Parquet, one reading a row, in time order.")]
RowRange = Annotated[
    str | None, typer.Option(help="Only these rows, such as 1:400, 401: or :400 (inclusive).")
]
Exclude = Annotated[
    list[str] | None,
    typer.Option(help="A column that is not a feature, such as a label. Repeatable."),
]
Features = Annotated[
    list[str] | None, typer.Option("--feature", help="Exactly these columns. Repeatable.")
]
Context = Annotated[
    list[str] | None,
    typer.Option(
        help="A column that says how the machine is run, such as its load or product, with numbers "
        "or words. The sensors are judged given it. Repeatable."
    ),
]
Time = Annotated[
    str | None,
    typer.Option(help="The column with the time; by default time, timestamp, datetime or date."),
]


def row_slice(rows: str | None) -> slice:
    """Return the slice for a range such as ``1:400``, which counts from 1 and includes both ends.

    Raises
    ------
    InvalidDataError
        If it is not a range of rows.
    """
    if rows is None:
        return slice(None)
    match = re.fullmatch(r"(\d*):(\d*)", rows)
    start, stop = (int(end) if end else None for end in match.groups()) if match else (0, 0)
    if start == 0 or (stop is not None and stop < (start or 1)):
        raise InvalidDataError(
            f"{rows!r} is not a range of rows.",
            field="--rows",
            remedy="Use for example 1:400 or 401:.",
        )
    return slice((start or 1) - 1, stop)


def chosen_features(
    table: pd.DataFrame,
    exclude: list[str] | None,
    feature: list[str] | None,
    context: list[str] | None = None,
) -> pd.DataFrame:
    """Return the columns that are features or context, and print the names of those left out.

    Raises
    ------
    InvalidDataError
        If a named column does not exist, or no numeric column is left.
    """
    from vigie.cli.files import features

    chosen, left_out = features(table, exclude or (), feature or (), context or ())
    if left_out:
        err.print(f"Left out, not readings: {', '.join(left_out)}", style="dim")
    return chosen
