"""Readings and results per asset, in a SQL database: SQLite by default, PostgreSQL by URL."""

from __future__ import annotations

import hashlib
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Connection,
    Engine,
    Integer,
    MetaData,
    String,
    Table,
    UniqueConstraint,
    create_engine,
    event,
    func,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import SQLAlchemyError

from app.errors import HistoryError, InvalidDataError
from app.history.reading import Reading

PATIENCE_MS = 60_000
"""How long a turn waits for that of another process."""

_metadata = MetaData()

_readings = Table(
    "readings",
    _metadata,
    # SQLite counts up by itself only in an INTEGER column.
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("asset_id", String(200), nullable=False),
    Column("sensor_id", String(200), nullable=False),
    Column("measured_us", BigInteger, nullable=False),
    Column("features", JSON, nullable=False),
    Column("result", JSON, nullable=False),
    UniqueConstraint("asset_id", "sensor_id", "measured_us", name="one_reading_at_a_time"),
)


class History:
    """The store.

    Parameters
    ----------
    url : str
        SQLAlchemy URL, such as ``sqlite:///history.db`` or
        ``postgresql+psycopg://user:password@host/vigie``.

    Raises
    ------
    InvalidDataError
        If the URL names another kind of database.
    HistoryError
        From every method, if the database does not do what it is asked.
    """

    def __init__(self, url: str):
        self.engine = _engine(url)
        dialects: dict[str, Any] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}
        if self.engine.dialect.name not in dialects:
            raise InvalidDataError(
                f"The history cannot be kept in {self.engine.dialect.name}.",
                field="VIGIE_HISTORY_URL",
                remedy="Use sqlite:///FILE or postgresql+psycopg://USER:PASSWORD@HOST/DATABASE.",
            )
        self._insert = dialects[self.engine.dialect.name]
        # Who waits inside SQLite asks again and again, and may be passed over until time is up.
        sqlite_only = self.engine.dialect.name == "sqlite"
        self._in_line: AbstractContextManager[Any] = (
            threading.Lock() if sqlite_only else nullcontext()
        )
        with _as_history_error(), self.engine.begin() as connection:
            if self.engine.dialect.name == "postgresql":
                # Two services that come to a new database at once must not both make its tables.
                connection.execute(select(func.pg_advisory_xact_lock(_lock_number("", None))))
            _metadata.create_all(connection)

    @contextmanager
    def turn(self, asset_id: str, sensor_id: str | None) -> Iterator[Turn]:
        """Read and write the readings of an asset while nobody else does.

        What happens in the block is kept when it ends, all or, after an error, nothing. Another
        process that wants the same asset waits; SQLite has one turn for all.
        """
        with self._in_line, _as_history_error(), self.engine.begin() as connection:
            if self.engine.dialect.name == "postgresql":
                key = _lock_number(asset_id, sensor_id)
                connection.execute(select(func.pg_advisory_xact_lock(key)))
            yield Turn(connection, self._insert)

    def close(self) -> None:
        """Give the database's connections back."""
        self.engine.dispose()


@dataclass(frozen=True)
class Turn:
    """The history while it is ours."""

    _connection: Connection
    _insert: Any

    def around(
        self, asset_id: str, sensor_id: str | None, first: datetime, last: datetime, n: int
    ) -> list[Reading]:
        """Return the ``n`` last readings of an asset before ``first`` and all up to ``last``.

        Returns
        -------
        list of Reading
            Oldest first.
        """
        measured = _readings.c.measured_us
        start, stop = _microseconds(first), _microseconds(last)
        query = select(measured, _readings.c.features, _readings.c.result).where(
            _readings.c.asset_id == asset_id, _readings.c.sensor_id == (sensor_id or "")
        )
        earlier = query.where(measured < start).order_by(measured.desc()).limit(n)
        between = query.where(measured >= start, measured < stop).order_by(measured)
        with _as_history_error():
            rows = list(reversed(self._connection.execute(earlier).all()))
            if stop > start:
                rows += self._connection.execute(between).all()
        return [
            Reading(asset_id, sensor_id, _time(row.measured_us), row.features, row.result)
            for row in rows
        ]

    def append(self, readings: Iterable[Reading]) -> None:
        """Keep readings with their results; one sent again replaces itself."""
        rows = [
            {
                "asset_id": reading.asset_id,
                "sensor_id": reading.sensor_id or "",
                "measured_us": _microseconds(reading.timestamp),
                "features": reading.features,
                "result": reading.result,
            }
            for reading in readings
        ]
        if not rows:
            return
        statement = self._insert(_readings)
        statement = statement.on_conflict_do_update(
            index_elements=["asset_id", "sensor_id", "measured_us"],
            set_={name: statement.excluded[name] for name in ("features", "result")},
        )
        with _as_history_error():
            self._connection.execute(statement, rows)


@contextmanager
def _as_history_error() -> Iterator[None]:
    try:
        yield
    except SQLAlchemyError as error:
        raise HistoryError(
            f"The history cannot be used: {error}",
            remedy="Check VIGIE_HISTORY_URL and the space on its disk.",
        ) from error


def _engine(url: str) -> Engine:
    engine = create_engine(url, pool_pre_ping=True)
    if engine.dialect.name == "sqlite":

        @event.listens_for(engine, "connect")
        def _tune(connection: Any, record: Any) -> None:
            connection.execute(f"PRAGMA busy_timeout={PATIENCE_MS}")
            # Readers go on while a writer writes, and a commit need not wait for the disk.
            try:
                connection.execute("PRAGMA journal_mode=WAL")
            except sqlite3.OperationalError as error:
                # Patience does not hold for this switch: of two processes that make it at the same
                # moment SQLite refuses one at once. The file remembers what the other has done.
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                    raise
            connection.execute("PRAGMA synchronous=NORMAL")
            # Left to itself the driver begins only with the first write, and two processes that
            # have read the same past could then both write what follows from it.
            connection.isolation_level = None

        @event.listens_for(engine, "begin")
        def _begin(connection: Any) -> None:
            connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def _lock_number(asset_id: str, sensor_id: str | None) -> int:
    """Return the number under which PostgreSQL locks an asset, a signed 64-bit one."""
    digest = hashlib.sha256(f"{asset_id}\0{sensor_id or ''}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)


def _microseconds(timestamp: datetime) -> int:
    # Integer arithmetic: a float of seconds since 1970 loses the last digits of a microsecond.
    delta = timestamp - datetime(1970, 1, 1, tzinfo=UTC)
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds


def _time(microseconds: int) -> datetime:
    seconds, rest = divmod(microseconds, 1_000_000)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest)
