"""Tables in files: CSV (any common separator) and Parquet in, with columns chosen by name."""

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
"""Rows of a long file that are read at a time."""
READ_AT_A_TIME = 1 << 16
"""Bytes of a column that are read from a Parquet file at a time, however large its row groups."""
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

    with _readable(path):
        if _is_parquet(path):
            return _with_numbers(_with_time_of_index(pd.read_parquet(path)))
        return _with_numbers(pd.read_csv(path, sep=_separator(path)))


class Recording:
    """A CSV or Parquet file that is read a stretch of rows at a time.

    What a column holds, and in which form its times are written, is decided by the first stretch;
    a file that is no longer than that is read as ``read_table`` reads it.

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
        Rows to be read; None where only reading tells.

    Raises
    ------
    InvalidDataError
        If there is no such file, or it cannot be read as what its name says.
    """

    def __init__(self, path: Path, rows: slice = slice(None)):
        self.path, self._start, self._stop = path, rows.start or 0, rows.stop
        self.n_rows: int | None = None
        with _readable(path):
            if _is_parquet(path):
                from pyarrow import parquet

                facts = parquet.read_metadata(path)
                self.columns = list(map(str, facts.schema.to_arrow_schema().names))
                self.n_rows = len(range(facts.num_rows)[rows])
            else:
                import pandas as pd

                header = pd.read_csv(path, sep=_separator(path), nrows=0)
                self.columns = list(map(str, header.columns))

    def read(
        self, names: Collection[str], time: str | None = None
    ) -> Iterator[tuple[pd.DataFrame, NDArray[np.datetime64] | None]]:
        """Read the columns with these names, and when the rows were measured.

        Parameters
        ----------
        names : collection of str
            Columns; those that do not exist are left out, and others may come along.
        time : str, optional
            The column with the times; see ``times_of``.

        Yields
        ------
        table : DataFrame
            The next rows; at least once, if only to say that there are none.
        times : ndarray of datetime64[us] of shape (n_rows,) or None
            None if nothing says when.

        Raises
        ------
        InvalidDataError
            If the file cannot be read to its end, or the times are not ascending.
        """
        numeric: set[Any] | None = None
        clock: Clock | None = None
        for cut in self._cut(self._tables([*names, *([time] if time else [])])):
            table = _with_numbers(_with_time_of_index(cut), numeric or ())
            if numeric is None:
                numeric = set(table.select_dtypes("number").columns)
                clock = Clock.of(table, time)
            yield table, None if clock is None else clock.read(table)

    def _cut(self, tables: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        """Leave out the rows that are not asked for."""
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

    def _tables(self, names: Collection[str]) -> Iterator[pd.DataFrame]:
        """Yield all rows as they stand in the file."""
        with _readable(self.path):
            if _is_parquet(self.path):
                yield from _parquet_tables(self.path, names)
            else:
                import pandas as pd

                yield from pd.read_csv(self.path, sep=_separator(self.path), chunksize=AT_A_TIME)


def _parquet_tables(path: Path, names: Collection[str]) -> Iterator[pd.DataFrame]:
    """Yield the rows of a Parquet file: these columns, the times, and the index."""
    import pyarrow as pa
    from pyarrow import parquet

    # Arrow would otherwise fetch a row group ahead, and a file may be a single one.
    with parquet.ParquetFile(path, buffer_size=READ_AT_A_TIME, pre_buffer=False) as file:
        schema = file.schema_arrow
        index = (schema.pandas_metadata or {}).get("index_columns", [])
        wanted = {*names, *(name for name in index if isinstance(name, str))}
        columns = [name for name in schema.names if name in wanted or _is_clock(name)]
        waiting: list[pa.RecordBatch] = []
        for batch in file.iter_batches(AT_A_TIME, columns=columns):
            waiting.append(batch)
            # A batch ends where its row group does, which may hold a few rows only.
            if sum(map(len, waiting)) >= AT_A_TIME:
                yield pa.Table.from_batches(waiting).to_pandas()
                waiting = []
        if waiting:
            yield pa.Table.from_batches(waiting).to_pandas()
        elif file.metadata.num_rows == 0:
            yield file.read(columns=columns).to_pandas()


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
    clock = Clock.of(table, column)
    return None if clock is None else clock.read(table)


def labels_of(table: pd.DataFrame, column: str) -> NDArray[np.bool_]:
    """Return which rows a column labels as faulty, shape (n_rows,): those where it is not 0.

    Raises
    ------
    InvalidDataError
        If there is no such column, or it holds anything but numbers or truth values.
    """
    import pandas as pd

    require_columns(table, [column], "--labels")
    values = table[column]
    # To pandas, truth values are numbers.
    usable = pd.api.types.is_numeric_dtype(values) and not values.isna().any()
    if len(values) and not usable:
        row = int(np.argmax(pd.to_numeric(values, errors="coerce").isna()))
        raise InvalidDataError(
            f"The column {column} holds other values than labels, such as "
            f"{str(values.iloc[row])!r} in row {row + 1}.",
            field="--labels",
            remedy="Write 0 for a healthy row and 1 for a faulty one, in every row.",
        )
    found: NDArray[np.bool_] = values.to_numpy() != 0
    return found


@dataclass
class Clock:
    """The column with the times, the form in which they are written, and how far it was read.

    Attributes
    ----------
    column : str
        Its name.
    form : dict
        What ``pandas.to_datetime`` has to know.
    n_rows : int
        Rows read so far.
    last : datetime64[us] or None
        The time of the last of them.
    """

    column: str
    form: dict[str, Any]
    n_rows: int = 0
    last: np.datetime64 | None = None

    @classmethod
    def of(cls, table: pd.DataFrame, column: str | None = None) -> Clock | None:
        """Find the times of a table; None if it has none. For the parameters see ``times_of``."""
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
            If the column holds anything but times, or they go backwards.
        """
        import pandas as pd

        try:
            times = pd.to_datetime(table[self.column], utc=True, **self.form)
        except (ValueError, TypeError) as error:
            what = str(error).splitlines()[0].partition(". You might")[0]
            raise InvalidDataError(
                f"The column {self.column} holds no times: {what}.",
                field="--time",
                remedy="Write them as 2026-01-05T08:00:00Z, or in seconds.",
            ) from error
        found: NDArray[np.datetime64] = times.dt.tz_localize(None).to_numpy().astype("M8[us]")
        wrong = np.isnat(found)
        wrong[1:] |= found[1:] < found[:-1]
        if self.last is not None:
            wrong[:1] |= found[:1] < self.last
        if wrong.any():
            row = self.n_rows + int(np.argmax(wrong)) + 1
            raise InvalidDataError(
                f"The times in {self.column} are not complete and ascending: see row {row}.",
                field="--time",
                remedy="Sort the rows by time, and leave out those without one.",
            )
        self.n_rows += len(found)
        self.last = found[-1] if len(found) else self.last
        return found


def _clocks(table: pd.DataFrame) -> list[str]:
    return [name for name in table.columns if _is_clock(name)]


def _is_clock(name: Any) -> bool:
    return str(name).lower() in TIME_COLUMNS


def _row_numbers(table: pd.DataFrame) -> list[str]:
    """Return the columns without a header, as pandas writes its index; reading, it names them."""
    return [name for name in table.columns if str(name).startswith("Unnamed: ")]


def _with_time_of_index(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table whose times stand in a column, also where they were its index."""
    import pandas as pd

    if not isinstance(table.index, pd.DatetimeIndex):
        return table
    return table.rename_axis(str(table.index.name or "time")).reset_index()


def _form(column: pd.Series) -> dict[str, Any]:
    """Return how times are written: as numbers, ISO 8601 with any fractions, or one other form."""
    import pandas as pd

    if pd.api.types.is_numeric_dtype(column):
        largest = column.abs().max()
        fitting = [unit for unit, limit in LARGEST.items() if largest < limit]
        return {"unit": fitting[0] if fitting else "ns"}
    try:
        pd.to_datetime(column, utc=True, format="ISO8601")
    except (ValueError, TypeError):
        # With points the day stands first, with slashes mostly the month.
        points = bool(column.astype(str).str.match(r"\s*\d{1,2}\.").all())
        known = column.dropna()
        guess = None
        if len(known) and isinstance(known.iloc[0], str):
            guess = pd.tseries.api.guess_datetime_format(known.iloc[0], dayfirst=points)
        return {"dayfirst": points} | ({"format": guess} if guess else {})
    return {"format": "ISO8601"}


def _with_numbers(table: pd.DataFrame, numeric: Collection[Any] = ()) -> pd.DataFrame:
    """Return a table whose columns of numbers are floats, whatever else stands among them.

    A comma may be a decimal point, and a cell such as ``ERR`` is a value that is missing; a
    column that is mostly text stays as it is, unless it is known to be ``numeric``.
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
            if name in numeric or 2 * numbers.notna().sum() > texts.notna().sum():
                table[name] = numbers
    return table


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn what goes wrong with a file into an error that says what to give.

    Raises
    ------
    InvalidDataError
        If there is no such file, or it is not what its name says.
    """
    if not path.is_file():
        raise InvalidDataError(f"There is no file {path}.", field="FILE")
    try:
        yield
    except (ValueError, OSError) as error:
        raise InvalidDataError(
            f"{path} cannot be read: {str(error).strip().rstrip('.')}.",
            field="FILE",
            remedy="Give a CSV file with a header, or a Parquet file.",
        ) from error


def _is_parquet(path: Path) -> bool:
    return path.suffix.lower() in (".parquet", ".pq")


def _separator(path: Path) -> str:
    """Return the separator of a CSV file: the one that its header has most of."""
    with path.open(encoding="utf-8", errors="replace") as lines:
        header = lines.readline()
    return max(",;\t|", key=header.count)
