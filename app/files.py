"""Tables in files: CSV (any common separator) and Parquet in, with columns chosen by name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from app.errors import InvalidDataError

if TYPE_CHECKING:
    import pandas as pd


TIME_COLUMNS = ("time", "timestamp", "datetime", "date")
LARGEST: dict[Literal["s", "ms", "us"], float] = {"s": 1e11, "ms": 1e14, "us": 1e17}
"""Times since 1970 stay below these, in seconds until 5138; what is larger is in nanoseconds."""


def read_table(path: Path) -> pd.DataFrame:
    """Read a CSV or Parquet file.

    Raises
    ------
    InvalidDataError
        If there is no such file, or it cannot be read as what its name says.
    """
    # Imported here, for most commands read no file.
    import pandas as pd

    if not path.is_file():
        raise InvalidDataError(f"There is no file {path}.", field="FILE")
    try:
        if path.suffix.lower() in (".parquet", ".pq"):
            return _with_numbers(_with_time_of_index(pd.read_parquet(path)))
        return _with_numbers(pd.read_csv(path, sep=_separator(path)))
    except (ValueError, OSError) as error:
        raise InvalidDataError(
            f"{path} cannot be read: {str(error).strip().rstrip('.')}.",
            field="FILE",
            remedy="Give a CSV file with a header, or a Parquet file.",
        ) from error


def features(
    table: pd.DataFrame, exclude: Sequence[str] = (), only: Sequence[str] = ()
) -> tuple[pd.DataFrame, list[str]]:
    """Return the columns with readings, and the names of what was left out: text, time, counts.

    Parameters
    ----------
    table : DataFrame
        As read.
    exclude : sequence of str
        Columns that are no features, such as labels.
    only : sequence of str
        If given, exactly these columns.

    Raises
    ------
    InvalidDataError
        If a named column does not exist, or no numeric column is left.
    """
    require_columns(table, exclude, "--exclude")
    require_columns(table, only, "--feature")
    if only:
        return table[list(only)], []
    # What only goes forward is unusual in every new row to a model that has learnt it.
    counters = [*_clocks(table), *_row_numbers(table)]
    kept = table.drop(columns=list(dict.fromkeys([*exclude, *counters])))
    numeric = kept.select_dtypes("number")
    if numeric.shape[1] == 0:
        raise InvalidDataError("No column holds numbers.", field="FILE")
    texts = [name for name in kept.columns if name not in numeric.columns]
    return numeric, [str(name) for name in (*counters, *texts)]


def require_columns(table: pd.DataFrame, names: Sequence[str], option: str) -> None:
    """Raise if a table lacks a column.

    Raises
    ------
    InvalidDataError
        Naming the option that asked for it.
    """
    unknown = [name for name in names if name not in table.columns]
    if unknown:
        raise InvalidDataError(
            f"There is no column {', '.join(unknown)}.",
            field=option,
            remedy=f"Columns: {', '.join(map(str, table.columns))}.",
        )


def times_of(table: pd.DataFrame, column: str | None = None) -> NDArray[np.datetime64] | None:
    """Return when the rows were measured, as datetime64[us] in UTC; None if nothing says so.

    Parameters
    ----------
    table : DataFrame
        As read.
    column : str, optional
        The column with the times, in any usual form, as seconds, or as ms, us or ns since 1970;
        by default the first one with a usual name for it, unless that holds numbers, which might
        be anything.

    Raises
    ------
    InvalidDataError
        If the column does not exist, holds no times, or they go backwards.
    """
    import pandas as pd

    if column is None:
        clocks = _clocks(table)
        if not clocks or pd.api.types.is_numeric_dtype(table[clocks[0]]):
            return None
        column = clocks[0]
    require_columns(table, [column], "--time")
    try:
        times = _times(table[column]).dt.tz_localize(None)
    except (ValueError, TypeError) as error:
        what = str(error).splitlines()[0].partition(". You might")[0]
        raise InvalidDataError(
            f"The column {column} holds no times: {what}.",
            field="--time",
            remedy="Write them as 2026-01-05T08:00:00Z, or in seconds.",
        ) from error
    found: NDArray[np.datetime64] = times.to_numpy().astype("datetime64[us]")
    if np.isnat(found).any() or (np.diff(found) < np.timedelta64(0)).any():
        raise InvalidDataError(
            f"The times in {column} are not complete and ascending.",
            field="--time",
            remedy="Sort the rows by time, and leave out those without one.",
        )
    return found


def _clocks(table: pd.DataFrame) -> list[str]:
    return [name for name in table.columns if str(name).lower() in TIME_COLUMNS]


def _row_numbers(table: pd.DataFrame) -> list[str]:
    """Return the columns without a header, as pandas writes its index; reading, it names them."""
    return [name for name in table.columns if str(name).startswith("Unnamed: ")]


def _with_time_of_index(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table whose times stand in a column, also where they were its index."""
    import pandas as pd

    if not isinstance(table.index, pd.DatetimeIndex):
        return table
    return table.rename_axis(str(table.index.name or "time")).reset_index()


def _times(column: pd.Series) -> pd.Series:
    """Return times in UTC; ISO 8601 with and without fractions in one column, or one other form."""
    import pandas as pd

    if pd.api.types.is_numeric_dtype(column):
        largest = column.abs().max()
        fitting = [unit for unit, limit in LARGEST.items() if largest < limit]
        return pd.to_datetime(column, utc=True, unit=fitting[0] if fitting else "ns")
    try:
        return pd.to_datetime(column, utc=True, format="ISO8601")
    except (ValueError, TypeError):
        # With points the day stands first, with slashes mostly the month.
        points = column.astype(str).str.match(r"\s*\d{1,2}\.").all()
        return pd.to_datetime(column, utc=True, dayfirst=bool(points))


def _with_numbers(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table whose columns of numbers are floats, whatever else stands among them.

    A comma may be a decimal point, and a cell such as ``ERR`` is a value that is missing; a
    column that is mostly text stays as it is.
    """
    import pandas as pd

    for name, column in table.items():
        if pd.api.types.is_extension_array_dtype(column) and pd.api.types.is_numeric_dtype(column):
            table[name] = column.astype(float)
        elif pd.api.types.is_object_dtype(column) or pd.api.types.is_string_dtype(column):
            texts = column.astype(str).where(column.notna())
            if texts.str.fullmatch(r"\s*[-+]?\d*,\d+\s*").any():
                texts = texts.str.replace(",", ".", regex=False)
            numbers = pd.to_numeric(texts, errors="coerce")
            if 2 * numbers.notna().sum() > texts.notna().sum():
                table[name] = numbers
    return table


def _separator(path: Path) -> str:
    """Return the separator of a CSV file: the one that its header has most of."""
    with path.open(encoding="utf-8", errors="replace") as lines:
        header = lines.readline()
    return max(",;\t|", key=header.count)
