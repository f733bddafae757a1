"""Read tables from CSV (with any common separator) and Parquet files."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from vigie.errors import InvalidDataError

if TYPE_CHECKING:
    import pandas as pd

AT_A_TIME = 32_768
"""Rows per part of a file."""
READ_AT_A_TIME = 1 << 16
"""Buffer size of a Parquet column in bytes, whatever the size of its row groups."""
TIME_COLUMNS = ("time", "timestamp", "datetime", "date")
LARGEST: dict[Literal["s", "ms", "us"], float] = {"s": 1e11, "ms": 1e14, "us": 1e17}
"""Upper bounds of times since 1970 by unit (seconds: the year 5138); larger ones are in ns."""


def read_table(path: Path, context: Collection[str] = ()) -> pd.DataFrame:
    """Read a CSV or Parquet file.

    A column of ``context`` keeps all of its words, unless it holds numbers only.

    Raises
    ------
    InvalidDataError
        If there is no such file, or it does not have the format of its extension.
    """
    # Imported here, since most commands read no file.
    import pandas as pd

    with _readable(path):
        if _is_parquet(path):
            return _with_numbers(_with_time_of_index(pd.read_parquet(path)), kept=context)
        marked = dict.fromkeys(context, _marked)
        table = pd.read_csv(path, sep=_separator(path), converters=marked)
    table = _unmarked(table, context)
    for name in context:
        if name in table.columns:
            numbers = pd.to_numeric(table[name].str.replace(",", ".", regex=False), errors="coerce")
            if table[name].notna().any() and numbers.notna().equals(table[name].notna()):
                table[name] = numbers
    return _with_numbers(table, kept=context)


class Recording:
    """A CSV or Parquet file that is read in parts.

    The first part decides the types of the columns and the format of the times; for a file of one
    part the result equals that of ``read_table``.

    Parameters
    ----------
    path : Path
        The file.
    rows : slice, optional
        Only these rows, counted from 0.

    Attributes
    ----------
    columns : list of str
        All columns.
    n_rows : int or None
        Number of rows to be read; None if that is not known in advance.

    Raises
    ------
    InvalidDataError
        If there is no such file, or it does not have the format of its extension.
    """

    def __init__(self, path: Path, rows: slice = slice(None)):
        self.path, self._start, self._stop = path, rows.start or 0, rows.stop
        self.n_rows: int | None = None
        with _readable(path):
            if _is_parquet(path):
                from pyarrow import parquet

                metadata = parquet.read_metadata(path)
                self.columns = list(map(str, metadata.schema.to_arrow_schema().names))
                self.n_rows = len(range(metadata.num_rows)[rows])
            else:
                import pandas as pd

                header = pd.read_csv(path, sep=_separator(path), nrows=0)
                self.columns = list(map(str, header.columns))

    def read(
        self, names: Collection[str], time: str | None = None, words: Collection[str] = ()
    ) -> Iterator[tuple[pd.DataFrame, NDArray[np.datetime64] | None]]:
        """Read the columns with these names, and the times of the rows.

        Parameters
        ----------
        names : collection of str
            Columns; missing ones are left out, and the result may have others too.
        time : str, optional
            The column with the times; see ``times_of``.
        words : collection of str, optional
            Columns of words, which keep all that they hold.

        Yields
        ------
        table : DataFrame
            The next rows; a file without rows yields one empty table.
        times : ndarray of datetime64[us] of shape (n_rows,) or None
            None if the file has no times.

        Raises
        ------
        InvalidDataError
            If the file cannot be read to its end, or the times are not ascending.
        """
        numeric: set[Any] | None = None
        clock: Clock | None = None
        for part in self._in_range(self._tables([*names, *([time] if time else [])], words)):
            table = _with_numbers(_with_time_of_index(part), numeric or (), words)
            if numeric is None:
                numeric = set(table.select_dtypes("number").columns)
                clock = Clock.of(table, time)
            yield table, None if clock is None else clock.read(table)

    def _in_range(self, tables: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        """Yield only the requested rows."""
        seen = 0
        for table in tables:
            begin = max(self._start - seen, 0)
            end = len(table) if self._stop is None else min(self._stop - seen, len(table))
            if begin < end or (seen == len(table) == self._start):
                yield table.iloc[begin:end]
            seen += len(table)
            if self._stop is not None and seen >= self._stop:
                return
        if 0 < self._start >= seen:
            raise InvalidDataError(
                f"Row {self._start + 1} is beyond the end: {self.path} has {seen} rows.",
                field="--rows",
            )

    def _tables(self, names: Collection[str], words: Collection[str]) -> Iterator[pd.DataFrame]:
        """Yield all rows of the file."""
        with _readable(self.path):
            if _is_parquet(self.path):
                yield from _parquet_tables(self.path, names)
            else:
                import pandas as pd

                marked = dict.fromkeys(words, _marked)
                separator = _separator(self.path)
                with pd.read_csv(
                    self.path, sep=separator, chunksize=AT_A_TIME, converters=marked
                ) as tables:
                    for table in tables:
                        yield _unmarked(table, words)


def _parquet_tables(path: Path, names: Collection[str]) -> Iterator[pd.DataFrame]:
    """Yield the rows of a Parquet file: these columns, the times, and the index."""
    import pyarrow as pa
    from pyarrow import parquet

    # pre_buffer would read a whole row group ahead, which may be the whole file.
    with parquet.ParquetFile(path, buffer_size=READ_AT_A_TIME, pre_buffer=False) as file:
        schema = file.schema_arrow
        index = (schema.pandas_metadata or {}).get("index_columns", [])
        wanted = {*names, *(name for name in index if isinstance(name, str))}
        columns = [name for name in schema.names if name in wanted or _is_clock(name)]
        batches: list[pa.RecordBatch] = []
        for batch in file.iter_batches(AT_A_TIME, columns=columns):
            batches.append(batch)
            # A batch ends with its row group, which may hold only a few rows.
            if sum(map(len, batches)) >= AT_A_TIME:
                yield pa.Table.from_batches(batches).to_pandas()
                batches = []
        if batches:
            yield pa.Table.from_batches(batches).to_pandas()
        elif file.metadata.num_rows == 0:
            yield file.read(columns=columns).to_pandas()


def features(
    table: pd.DataFrame,
    exclude: Sequence[str] = (),
    only: Sequence[str] = (),
    context: Sequence[str] = (),
) -> tuple[pd.DataFrame, list[str]]:
    """Return the columns with readings, and the names of columns with text, times or row numbers.

    Parameters
    ----------
    table : DataFrame
        As read.
    exclude : sequence of str
        Columns that are not features, such as labels.
    only : sequence of str
        If given, exactly these columns.
    context : sequence of str
        Columns that say how the machine is run; these are kept, whatever they hold.

    Raises
    ------
    InvalidDataError
        If a named column does not exist, or no numeric column is left.
    """
    require_columns(table, exclude, "--exclude")
    require_columns(table, only, "--feature")
    require_columns(table, context, "--context")
    if both := [name for name in context if name in exclude]:
        raise InvalidDataError(
            f"{', '.join(both)} is context, and excluded.",
            field="--context",
            remedy="Name it in one of both options only.",
        )
    if only:
        return table[list(dict.fromkeys([*only, *context]))], []
    # A model would find every new value of an increasing column anomalous.
    counters = [*_clocks(table), *_row_numbers(table)]
    counters = [name for name in counters if name not in context]
    others = table.drop(columns=list(dict.fromkeys([*exclude, *counters])))
    numeric = others.select_dtypes("number")
    if numeric.columns.difference(list(context)).empty:
        said = "No column holds numbers" + (", but for the context." if context else ".")
        raise InvalidDataError(said, field="FILE")
    kept = [name for name in others.columns if name in numeric.columns or name in context]
    texts = [name for name in others.columns if name not in kept]
    return others[kept], [str(name) for name in (*counters, *texts)]


def require_columns(table: pd.DataFrame, names: Sequence[str], option: str) -> None:
    """Check that a table has the columns that an option names.

    Raises
    ------
    InvalidDataError
        If one is missing; the error names the option.
    """
    unknown = [name for name in names if name not in table.columns]
    if unknown:
        raise InvalidDataError(
            f"There is no column {', '.join(unknown)}.",
            field=option,
            remedy=f"Columns: {', '.join(map(str, table.columns))}.",
        )


def times_of(table: pd.DataFrame, column: str | None = None) -> NDArray[np.datetime64] | None:
    """Return the times of the rows, as datetime64[us] in UTC; None if there are none.

    Parameters
    ----------
    table : DataFrame
        As read.
    column : str, optional
        The column with the times: as text in any common format, or as s, ms, us or ns since 1970.
        By default the first column named in ``TIME_COLUMNS``, unless it holds numbers, whose
        meaning would be a guess.

    Raises
    ------
    InvalidDataError
        If the column does not exist, holds no times, or they go backwards.
    """
    clock = Clock.of(table, column)
    return None if clock is None else clock.read(table)


def labels_of(table: pd.DataFrame, column: str) -> NDArray[np.bool_]:
    """Return which rows a column labels as faulty, shape (n_rows,): those where it is not 0.

    Raises
    ------
    InvalidDataError
        If there is no such column, or it holds other values than numbers or booleans.
    """
    import pandas as pd

    require_columns(table, [column], "--labels")
    values = table[column]
    # ``is_numeric_dtype`` is true for booleans.
    usable = pd.api.types.is_numeric_dtype(values) and not values.isna().any()
    if len(values) and not usable:
        row = int(np.argmax(pd.to_numeric(values, errors="coerce").isna()))
        raise InvalidDataError(
            f"The column {column} holds other values than labels, such as "
            f"{str(values.iloc[row])!r} in row {row + 1}.",
            field="--labels",
            remedy="Write 0 for a healthy row and 1 for a faulty one, in every row.",
        )
    is_faulty: NDArray[np.bool_] = values.to_numpy() != 0
    return is_faulty


@dataclass
class Clock:
    """A parser for the column with the times, and its position.

    Attributes
    ----------
    column : str
        The name of the column.
    form : dict
        Arguments for ``pandas.to_datetime``.
    n_rows : int
        Number of rows read so far.
    last : datetime64[us] or None
        The time of the last row read.
    """

    column: str
    form: dict[str, Any]
    n_rows: int = 0
    last: np.datetime64 | None = None

    @classmethod
    def of(cls, table: pd.DataFrame, column: str | None = None) -> Clock | None:
        """Return the parser for a table; None if it has no times. See ``times_of``."""
        import pandas as pd

        if column is None:
            clocks = _clocks(table)
            if not clocks or pd.api.types.is_numeric_dtype(table[clocks[0]]):
                return None
            column = clocks[0]
        require_columns(table, [column], "--time")
        return cls(column, _form(table[column]))

    def read(self, table: pd.DataFrame) -> NDArray[np.datetime64]:
        """Return the times of the next rows, as datetime64[us] in UTC, of shape (n_rows,).

        Raises
        ------
        InvalidDataError
            If the column holds other values than times, or they go backwards.
        """
        import pandas as pd

        try:
            times = pd.to_datetime(table[self.column], utc=True, **self.form)
        except (ValueError, TypeError) as error:
            reason = str(error).splitlines()[0].partition(". You might")[0]
            raise InvalidDataError(
                f"The column {self.column} does not hold times: {reason}.",
                field="--time",
                remedy="Write them as 2026-01-05T08:00:00Z, or in seconds.",
            ) from error
        values: NDArray[np.datetime64] = times.dt.tz_localize(None).to_numpy().astype("M8[us]")
        is_wrong = np.isnat(values)
        is_wrong[1:] |= values[1:] < values[:-1]
        if self.last is not None:
            is_wrong[:1] |= values[:1] < self.last
        if is_wrong.any():
            row = self.n_rows + int(np.argmax(is_wrong)) + 1
            raise InvalidDataError(
                f"The times in {self.column} are not complete and ascending: see row {row}.",
                field="--time",
                remedy="Sort the rows by time, and remove those without one.",
            )
        self.n_rows += len(values)
        self.last = values[-1] if len(values) else self.last
        return values


def _clocks(table: pd.DataFrame) -> list[str]:
    return [name for name in table.columns if _is_clock(name)]


def _is_clock(name: Any) -> bool:
    return str(name).lower() in TIME_COLUMNS


def _row_numbers(table: pd.DataFrame) -> list[str]:
    """Return the columns without a header, as pandas writes its index ("Unnamed: 0" when read)."""
    return [name for name in table.columns if str(name).startswith("Unnamed: ")]


def _with_time_of_index(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table with its times in a column, if they were its index."""
    import pandas as pd

    if not isinstance(table.index, pd.DatetimeIndex):
        return table
    return table.rename_axis(str(table.index.name or "time")).reset_index()


def _form(column: pd.Series) -> dict[str, Any]:
    """Return ``to_datetime`` arguments for numbers, ISO 8601, or one other format of times."""
    import pandas as pd

    if pd.api.types.is_numeric_dtype(column):
        largest = column.abs().max()
        fitting = [unit for unit, limit in LARGEST.items() if largest < limit]
        return {"unit": fitting[0] if fitting else "ns"}
    try:
        pd.to_datetime(column, utc=True, format="ISO8601")
    except (ValueError, TypeError):
        # Dates with dots have the day first; those with slashes mostly the month.
        has_dots = bool(column.astype(str).str.match(r"\s*\d{1,2}\.").all())
        values = column.dropna()
        guess = None
        if len(values) and isinstance(values.iloc[0], str):
            guess = pd.tseries.api.guess_datetime_format(values.iloc[0], dayfirst=has_dots)
        return {"dayfirst": has_dots} | ({"format": guess} if guess else {})
    return {"format": "ISO8601"}


def _marked(cell: str) -> str:
    """Mark a word, so that pandas takes none, such as NA, for a missing value."""
    return f"={cell.strip()}"


def _unmarked(table: pd.DataFrame, words: Collection[str]) -> pd.DataFrame:
    """Return a table with its words as they were; None in an empty cell."""
    for name in words:
        if name in table.columns:
            found = table[name].str[1:].astype(object)
            table[name] = found.where(found != "", None)
    return table


def _with_numbers(
    table: pd.DataFrame, numeric: Collection[Any] = (), kept: Collection[Any] = ()
) -> pd.DataFrame:
    """Return a table with its columns of numbers converted to floats, but for those ``kept``.

    A comma may be the decimal separator, and a text such as ``ERR`` becomes a missing value. A
    column that is mostly text stays as it is, unless it is one of ``numeric``.
    """
    import pandas as pd

    for name, column in table.items():
        if name in kept:
            continue
        if pd.api.types.is_extension_array_dtype(column) and pd.api.types.is_numeric_dtype(column):
            table[name] = column.astype(float)
        elif pd.api.types.is_object_dtype(column) or pd.api.types.is_string_dtype(column):
            texts = column.astype(str).where(column.notna())
            if texts.str.fullmatch(r"\s*[-+]?\d*,\d+\s*").any():
                texts = texts.str.replace(",", ".", regex=False)
            numbers = pd.to_numeric(texts, errors="coerce")
            if name in numeric or 2 * numbers.notna().sum() > texts.notna().sum():
                table[name] = numbers
    return table


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn the errors of reading a file into an ``InvalidDataError``.

    Raises
    ------
    InvalidDataError
        If there is no such file, or it does not have the format of its extension.
    """
    if not path.is_file():
        raise InvalidDataError(f"There is no file {path}.", field="FILE")
    try:
        yield
    except (ValueError, OSError) as error:
        raise InvalidDataError(
            f"{path} cannot be read: {str(error).strip().rstrip('.')}.",
            field="FILE",
            remedy="Use a CSV file with a header, or a Parquet file.",
        ) from error


def _is_parquet(path: Path) -> bool:
    return path.suffix.lower() in (".parquet", ".pq")


def _separator(path: Path) -> str:
    """Return the separator of a CSV file: the most frequent candidate in its header."""
    with path.open(encoding="utf-8", errors="replace") as lines:
        header = lines.readline()
    return max(",;\t|", key=header.count)
