"""Tables in files: CSV (any common separator) and Parquet in, with columns chosen by name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from app.errors import InvalidDataError

if TYPE_CHECKING:
    import pandas as pd


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
            return pd.read_parquet(path)
        return pd.read_csv(path, sep=_separator(path))
    except (ValueError, OSError) as error:
        raise InvalidDataError(
            f"{path} cannot be read: {str(error).strip().rstrip('.')}.",
            field="FILE",
            remedy="Give a CSV file with a header, or a Parquet file.",
        ) from error


def features(
    table: pd.DataFrame, exclude: Sequence[str] = (), only: Sequence[str] = ()
) -> tuple[pd.DataFrame, list[str]]:
    """Return the numeric columns of a table, and the names of what was left out as text.

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
    for option, names in (("--exclude", exclude), ("--feature", only)):
        unknown = [name for name in names if name not in table.columns]
        if unknown:
            raise InvalidDataError(
                f"There is no column {', '.join(unknown)}.",
                field=option,
                remedy=f"Columns: {', '.join(map(str, table.columns))}.",
            )
    if only:
        return table[list(only)], []
    kept = table.drop(columns=list(exclude))
    numeric = kept.select_dtypes("number")
    if numeric.shape[1] == 0:
        raise InvalidDataError("No column holds numbers.", field="FILE")
    return numeric, [str(name) for name in kept.columns if name not in numeric.columns]


def _separator(path: Path) -> str:
    """Return the separator of a CSV file: the one that its header has most of."""
    with path.open(encoding="utf-8", errors="replace") as lines:
        header = lines.readline()
    return max(",;\t|", key=header.count)
