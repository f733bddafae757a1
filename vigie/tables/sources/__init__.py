"""Tables that are not local files: of databases, time series servers, S3 and the web.

::

    postgresql://  sqlite:///  duckdb:///         SQL, by --query
    prometheus+http(s)://                         PromQL: Prometheus, VictoriaMetrics
    influxdb+http(s)://                           InfluxQL (?db=) or Flux (?org=)
    http(s)://  s3://  gs://                      files

Whatever is asked for here is only read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib import import_module
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from vigie.errors import InvalidDataError
from vigie.tables.sources.addresses import Address, is_reference
from vigie.tables.sources.queries import Request

if TYPE_CHECKING:
    import pyarrow as pa

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
FILES = ("http", "https", "s3", "gs")
"""Schemes of files."""
READERS = {
    "postgresql": "sql",
    "postgres": "sql",
    "sqlite": "sql",
    "duckdb": "duck",
    "prometheus+http": "prometheus",
    "prometheus+https": "prometheus",
    "influxdb+http": "influx",
    "influxdb+https": "influx",
}
"""The module of this package that answers a query, by scheme."""

__all__ = ["fetch", "is_remote_file", "is_source", "local_copy", "open_remote", "shown"]


def is_source(text: str) -> bool:
    """Return whether a text is a URL, or names a variable with one, rather than a local file.

    A URL of a kind that cannot be read counts too: ``fetch`` then says which can be.
    """
    return bool(_URL.match(text)) or is_reference(text)


def is_remote_file(url: str) -> bool:
    """Return whether a URL is that of a file, for ``open_remote``; others are for ``fetch``."""
    return Address.of(url).scheme in FILES


def shown(url: str) -> str:
    """Return a URL without its user, password and parameters, for messages and records."""
    return Address.of(url).shown


def fetch(
    url: str,
    *,
    query: str | None = None,
    start: str | None = None,
    end: str | None = None,
    step: str | None = None,
    columns: Collection[str] | None = None,
) -> pa.RecordBatchReader:
    """Ask a database or a time series server for a table.

    Parameters
    ----------
    url : str
        Where to ask. ``${NAME}`` stands for an environment variable.
    query : str, optional
        What to ask: SQL, PromQL, InfluxQL or Flux. It is needed for all but the last.
    start, end : str, optional
        The period, for PromQL and for Flux that names no bucket: as RFC 3339, as seconds since
        1970, or as a duration ago, such as ``7d``. By default it ends now.
    step : str, optional
        The time between two rows, for the same; by default a minute for PromQL.
    columns : collection of str, optional
        Only these columns; missing ones are left out.

    Returns
    -------
    reader : RecordBatchReader
        An iterator of batches, with their ``schema``. Booleans are 1 and 0, decimals are floats,
        times have a zone if the source's have; what is no number, time or text becomes text. SQL
        and InfluxQL are read as the batches are asked for; the answers of Prometheus wait in a
        temporary file.

    Raises
    ------
    InvalidDataError
        If the source cannot be reached, or refuses the query; no message holds a password.
        The field is ``SOURCE`` or the option at fault. Also while the batches are read.
    """
    address = Address.of(url)
    address.warn_if_visible()
    batches = _reader(address)(Request(address, query, start, end, step, columns))
    # The source decides the types with its first batch, which it always has.
    return _only(columns, next(batches), batches)


def open_remote(url: str) -> AbstractContextManager[Path]:
    """Copy a file of the web, S3 or Google Cloud Storage into a temporary one.

    A copy, since readers go through a file more than once, and not every server sends parts of
    one.

    Parameters
    ----------
    url : str
        Where it is. ``${NAME}`` stands for an environment variable.

    Returns
    -------
    context manager of Path
        The copy, as long as the block lasts; its name ends like that of the original.

    Raises
    ------
    InvalidDataError
        If there is no such file, or it cannot be had; the field is ``SOURCE``.
    """
    from vigie.tables.sources.remote import copied

    address = Address.of(url)
    if address.scheme not in FILES:
        raise _unknown(address)
    address.warn_if_visible()
    return copied(address)


@contextmanager
def local_copy(url: str, **asked: str | None) -> Iterator[Path]:
    """Copy what an address names into a temporary file; see ``fetch`` and ``open_remote``.

    Parameters
    ----------
    url : str
        The address.
    **asked
        ``query``, ``start``, ``end`` and ``step`` of ``fetch``.

    Yields
    ------
    Path
        The file, or a Parquet file with the answer of a database or server, as long as the block
        lasts.

    Raises
    ------
    InvalidDataError
        If it cannot be reached or refuses; or if a file is asked for with a query.
    """
    if is_remote_file(url):
        if options := [f"--{name}" for name, value in asked.items() if value is not None]:
            raise InvalidDataError(
                f"{shown(url)} is a file, which takes no query.",
                field=options[0],
                remedy="Leave the option out.",
            )
        with open_remote(url) as path:
            yield path
        return
    from pyarrow import parquet

    with TemporaryDirectory(prefix="vigie-") as folder:
        path = Path(folder) / "answer.parquet"
        reader = fetch(url, **asked)
        with reader, parquet.ParquetWriter(path, reader.schema) as writer:
            for batch in reader:
                writer.write_batch(batch)
        yield path


def _reader(address: Address) -> Callable[[Request], Iterator[pa.RecordBatch]]:
    """Return what answers a request to an address.

    Raises
    ------
    InvalidDataError
        If nothing does.
    """
    if address.scheme in FILES:
        raise InvalidDataError(
            f"{address.shown} is a file, which takes no query.",
            field="--query",
            remedy="Leave it out.",
        )
    # postgresql+psycopg2:// asks for a driver of SQLAlchemy's; there is one for each database.
    name = READERS.get(address.scheme) or READERS.get(address.scheme.partition("+")[0])
    if name is None:
        raise _unknown(address)
    read: Callable[[Request], Iterator[pa.RecordBatch]]
    read = import_module(f"{__name__}.{name}").read
    return read


def _unknown(address: Address) -> InvalidDataError:
    known = ", ".join(f"{scheme}://" for scheme in (*READERS, *FILES))
    return InvalidDataError(
        f"Vigie does not read from {address.scheme}://.",
        field="SOURCE",
        remedy=f"It reads {known}.",
    )


def _only(
    columns: Collection[str] | None, first: pa.RecordBatch, others: Iterator[pa.RecordBatch]
) -> pa.RecordBatchReader:
    """Return a reader of some columns."""
    import pyarrow as pa

    names = first.schema.names
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InvalidDataError(
            f"The answer has several columns {', '.join(twice)}.",
            field="--query",
            remedy="Name them apart: SELECT a.id AS a_id, b.id AS b_id.",
        )
    kept = [name for name in names if columns is None or name in columns]
    batches = (batch.select(kept) for batch in chain([first], others))
    schema = pa.schema([first.schema.field(name) for name in kept])
    return pa.RecordBatchReader.from_batches(schema, batches)
