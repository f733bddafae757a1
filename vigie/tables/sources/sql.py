"""SQL: PostgreSQL (and TimescaleDB, which is one) and SQLite, through SQLAlchemy."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

from vigie.errors import InvalidDataError
from vigie.tables.sources.addresses import Address
from vigie.tables.sources.columns import ROWS_AT_A_TIME, batch_of, inferred
from vigie.tables.sources.queries import Request
from vigie.tables.sources.statements import one_select

if TYPE_CHECKING:
    import pyarrow as pa
    from sqlalchemy import URL, Connection, CursorResult

BOUNDS = {"connect_timeout": "10", "tcp_user_timeout": "60000", "application_name": "vigie"}
"""libpq's timeouts: to connect, in seconds, and for unacknowledged data, in milliseconds. The URL
may override them."""
BUSY_S = 10.0
"""How long SQLite waits for another process that writes, in seconds."""
OF_THE_FILE = (
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_PERM,
)
"""SQLite's errors that no other query would avoid."""
REMEDIES = {
    "25006": "Vigie only reads; leave out what writes.",
    "42501": "GRANT SELECT on it to the user of the address.",
    "42P01": "Correct the name; a table outside the search path is schema.table.",
    "42703": "Correct the name of the column.",
}
"""What to do, by PostgreSQL's code of the error."""
EXAMPLE = "--query 'SELECT time, rpm, temperature FROM readings ORDER BY time'."


def read(request: Request) -> Iterator[pa.RecordBatch]:
    """Yield the rows that a query selects, as the server sends them.

    Raises
    ------
    InvalidDataError
        If the database cannot be used, or refuses the query.
    """
    import pyarrow as pa

    request.require_no_period("WHERE time >= … into the query")
    query = one_select(request.required_query(EXAMPLE))
    address = request.address
    with _explained(address), _answer(_connection(address), query) as result:
        names, kinds = list(result.keys()), _told_types(result)
        n_rows = 0
        for rows in chain(result.partitions(ROWS_AT_A_TIME), [[]]):
            if not rows and n_rows:
                return
            columns = list(zip(*rows, strict=True)) or [()] * len(names)
            # The first rows decide, where the database does not.
            kinds = kinds or [inferred(values) for values in columns]
            yield batch_of(columns, pa.schema(list(zip(names, kinds, strict=True))), n_rows)
            n_rows += len(rows)


@contextmanager
def _answer(connection: Connection, query: str) -> Iterator[CursorResult[Any]]:
    """Have the answer to a query during a block, and the connection no longer than that."""
    from sqlalchemy.exc import SQLAlchemyError

    try:
        result = connection.exec_driver_sql(query)
        try:
            yield result
        finally:
            # A connection that is lost cannot be asked to close.
            with suppress(SQLAlchemyError):
                result.close()
    finally:
        with suppress(SQLAlchemyError):
            connection.close()


def _connection(address: Address) -> Connection:
    """Return a connection that cannot write, and does not hold a whole answer.

    Raises
    ------
    InvalidDataError
        If there is none to be had.
    """
    import sqlalchemy
    from sqlalchemy.exc import DBAPIError

    url = _sqlite(address) if address.scheme.startswith("sqlite") else _postgresql(address)
    engine = sqlalchemy.create_engine(
        url,
        poolclass=sqlalchemy.NullPool,
        hide_parameters=True,
        execution_options={
            "postgresql_readonly": True,
            "stream_results": True,
            "max_row_buffer": ROWS_AT_A_TIME,
            # Else a percent sign of the query would stand for a parameter.
            "no_parameters": True,
        },
    )
    try:
        return engine.connect()
    except DBAPIError as error:
        said = address.cleaned(str(error.orig).partition("\tIs the server running")[0])
        raise InvalidDataError(
            f"No connection to {address.shown}: {said.rstrip('.')}.",
            field="SOURCE",
            remedy=_remedy_of_connection(said),
        ) from None


def _postgresql(address: Address) -> URL:
    from sqlalchemy import URL

    host, _, port = (
        address.host.rpartition(":") if _has_port(address.host) else (address.host, 0, "")
    )
    return URL.create(
        "postgresql+psycopg",
        address.username,
        address.password,
        host.strip("[]") or None,
        int(port) if port else None,
        unquote(address.path.removeprefix("/")) or None,
        {**BOUNDS, **address.parameters},
    )


def _has_port(host: str) -> bool:
    return host.rpartition(":")[2].isdigit() and not host.endswith("]")


def _sqlite(address: Address) -> URL:
    from sqlalchemy import URL

    path = local_path(address)
    if not path.is_file():
        raise InvalidDataError(
            f"There is no file {path}.",
            field="SOURCE",
            remedy="sqlite:///plant.db is in this folder, sqlite:////var/plant.db is not.",
        )
    options = {"mode": "ro", "uri": "true", "timeout": str(BUSY_S), "check_same_thread": "false"}
    return URL.create("sqlite", database=f"file:{quote(str(path.absolute()))}", query=options)


def local_path(address: Address) -> Path:
    """Return the file of a database, relative after three slashes and absolute after four."""
    return Path(unquote(f"{address.host}{address.path.removeprefix('/')}"))


def _told_types(result: CursorResult[Any]) -> list[pa.DataType]:
    """Return the types of the columns as PostgreSQL tells them; none for SQLite."""
    import pyarrow as pa

    if result.context.dialect.name != "postgresql":
        return []
    from psycopg.postgres import types as known

    # All others are read as text.
    kept = {
        "bool": pa.int8(),
        "int2": pa.int16(),
        "int4": pa.int32(),
        "int8": pa.int64(),
        "float4": pa.float32(),
        "float8": pa.float64(),
        "numeric": pa.float64(),
        "date": pa.date32(),
        "timestamp": pa.timestamp("us"),
        "timestamptz": pa.timestamp("us", tz="UTC"),
    }
    described: Any = result.cursor.description if result.cursor else []
    types = [known.get(column[1]) for column in described]
    return [kept.get(one.name, pa.string()) if one else pa.string() for one in types]


@contextmanager
def _explained(address: Address) -> Iterator[None]:
    """Turn errors of the database into ours.

    Raises
    ------
    InvalidDataError
        In their place.
    """
    from sqlalchemy.exc import DBAPIError, SQLAlchemyError

    try:
        yield
    except DBAPIError as error:
        raise _refusal(address, error.orig) from None
    except SQLAlchemyError as error:
        raise _refusal(address, error) from None


def _refusal(address: Address, error: BaseException | None) -> InvalidDataError:
    code = getattr(error, "sqlstate", None)
    primary = getattr(getattr(error, "diag", None), "message_primary", None)
    said = address.cleaned(primary or str(error)).rstrip(".")
    # Without a code, PostgreSQL has not answered at all.
    is_lost = hasattr(error, "sqlstate") and (code is None or code.startswith(("08", "57P")))
    if is_lost or (getattr(error, "sqlite_errorcode", 0) & 0xFF) in OF_THE_FILE:
        return InvalidDataError(f"{address.shown} cannot be read: {said}.", field="SOURCE")
    hint = getattr(getattr(error, "diag", None), "message_hint", None)
    return InvalidDataError(
        f"The database refused the query: {said}.",
        field="--query",
        remedy=REMEDIES.get(code or "")
        or (address.cleaned(hint) if hint else "Correct the query."),
    )


def _remedy_of_connection(said: str) -> str:
    if "password" in said or "authentication" in said:
        return "Set VIGIE_SOURCE_USERNAME and VIGIE_SOURCE_PASSWORD, or PGUSER and PGPASSWORD."
    if "does not exist" in said:
        return "Correct the name in the address."
    return "Start it, or correct the address."
