"""Read Parquet files in parts."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vigie.errors import InvalidDataError
from vigie.tables.numbers import NumberOptions
from vigie.tables.origin import Origin

if TYPE_CHECKING:
    import pyarrow as pa

EXTENSIONS = (".parquet", ".pq")
AT_A_TIME = 32_768
"""Rows per part of a file."""
READ_AT_A_TIME = 1 << 16
"""Buffer size of a column in bytes, whatever the size of its row groups."""


def is_parquet(path: Path) -> bool:
    """Return whether a file is a Parquet file, whatever it is called."""
    with path.open("rb") as file:
        return file.read(4) == b"PAR1"


class ParquetFile:
    """A Parquet file; its columns have types.

    Parameters
    ----------
    path : Path
        The file.

    Raises
    ------
    InvalidDataError
        If several columns have one name.
    """

    def __init__(self, path: Path):
        from pyarrow import parquet

        self.path = path
        metadata = parquet.read_metadata(path)
        schema = metadata.schema.to_arrow_schema()
        _refuse_repeated(schema.names)
        index = (schema.pandas_metadata or {}).get("index_columns", [])
        self._names = _names_of(schema, index)
        self.columns = tuple(self._names.values())
        self.units: dict[str, str] = {}
        self.forms: dict[str, str] = {}
        self.notes: list[str] = []
        self.n_rows: int | None = metadata.num_rows
        self.numbers = NumberOptions()

    @property
    def description(self) -> str:
        """The kind of file in words."""
        return "Parquet"

    @property
    def origin(self) -> Origin:
        """The kind of file."""
        return Origin("Parquet")

    def batches(
        self, names: Collection[str], as_text: Collection[str] = (), *, at_once: bool = False
    ) -> Iterator[pa.RecordBatch]:
        """Yield all rows, with the columns of these names; their types stay as they are."""
        from pyarrow import parquet

        wanted = [stored for stored, name in self._names.items() if name in names]
        # pre_buffer would read a whole row group ahead, which may be the whole file.
        with parquet.ParquetFile(self.path, buffer_size=READ_AT_A_TIME, pre_buffer=False) as file:
            waiting: list[pa.RecordBatch] = []
            for batch in file.iter_batches(AT_A_TIME, columns=wanted):
                waiting.append(batch)
                # A batch ends with its row group, which may hold only a few rows.
                if sum(map(len, waiting)) >= AT_A_TIME:
                    yield self._joined(waiting)
                    waiting = []
            if waiting:
                yield self._joined(waiting)

    def _joined(self, batches: list[pa.RecordBatch]) -> pa.RecordBatch:
        import pyarrow as pa

        [batch] = pa.Table.from_batches(batches).combine_chunks().to_batches()
        names = [self._names[name] for name in batch.schema.names]
        return pa.RecordBatch.from_arrays(list(map(_plain, batch.columns)), names)


def _plain(cells: pa.Array) -> pa.Array:
    """Return text in the plain type of strings; pandas writes the large one."""
    import pyarrow as pa

    kind = cells.type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return cells.cast(pa.string())
    return cells


def _refuse_repeated(names: Sequence[str]) -> None:
    again = next((name for name in names if names.count(name) > 1), None)
    if again is not None:
        raise InvalidDataError(
            f"{names.count(again)} columns have the name {again!r}.",
            field="FILE",
            remedy="Give each column a name of its own.",
        )


def _names_of(schema: pa.Schema, index: list[object]) -> dict[str, str]:
    """Return by stored name the name of each column; an index of times is ``time``."""
    import pyarrow as pa

    names: dict[str, str] = {}
    for field in schema:
        name = field.name
        if name in index and name.startswith("__index_level_"):
            name = "time" if pa.types.is_timestamp(field.type) else "index"
        names[field.name] = name if name not in names.values() else field.name
    return names
