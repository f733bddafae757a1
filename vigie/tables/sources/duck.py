"""DuckDB: its own files, and the Parquet and CSV files that a query names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

from vigie.errors import InvalidDataError
from vigie.tables.sources.addresses import Address
from vigie.tables.sources.columns import ROWS_AT_A_TIME, plain
from vigie.tables.sources.queries import Request
from vigie.tables.sources.sql import local_path
from vigie.tables.sources.statements import one_select

if TYPE_CHECKING:
    import pyarrow as pa

IN_MEMORY = ("", ":memory:", ".")
EXAMPLE = "--query \"SELECT * FROM 'readings/*.parquet' ORDER BY time\"."


def read(request: Request) -> Iterator[pa.RecordBatch]:
    """Yield the rows that a query selects.

    Raises
    ------
    InvalidDataError
        If DuckDB is not installed, the file cannot be opened, or the query is refused.
    """
    import pyarrow as pa

    request.require_no_period("WHERE time >= … into the query")
    query = one_select(request.required_query(EXAMPLE))
    address = request.address
    with closing(_connection(address)) as connection, _explained(address):
        reader = connection.sql(query).to_arrow_reader(ROWS_AT_A_TIME)
        yield plain(pa.RecordBatch.from_pylist([], schema=reader.schema))
        yield from map(plain, reader)


def _connection(address: Address) -> Any:
    """Return a connection that cannot write, and downloads no extension.

    Raises
    ------
    InvalidDataError
        If there is none to be had.
    """
    try:
        import duckdb
    except ModuleNotFoundError:
        raise InvalidDataError(
            "DuckDB is not installed.", field="SOURCE", remedy="pip install 'vigie[duckdb]'"
        ) from None
    path = str(local_path(address))
    is_file = path not in IN_MEMORY
    try:
        return duckdb.connect(
            path if is_file else ":memory:",
            read_only=is_file,
            config={"autoinstall_known_extensions": "false"},
        )
    except duckdb.Error as error:
        raise InvalidDataError(
            f"{address.shown} cannot be opened: {_said(address, error)}.",
            field="SOURCE",
            remedy="duckdb:///plant.duckdb is in this folder, duckdb:////var/plant.duckdb is not.",
        ) from None


@contextmanager
def _explained(address: Address) -> Iterator[None]:
    """Turn DuckDB's errors into ours.

    Raises
    ------
    InvalidDataError
        In their place.
    """
    import duckdb
    import pyarrow as pa

    try:
        yield
    except (duckdb.Error, pa.ArrowException, OSError) as error:
        raise InvalidDataError(
            f"The database refused the query: {_said(address, error)}.",
            field="--query",
            remedy="Correct the query.",
        ) from None


def _said(address: Address, error: Exception) -> str:
    return address.cleaned(str(error).partition("\n\n")[0]).rstrip(".!")
