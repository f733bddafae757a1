"""Readings and results per asset, in a SQL database: SQLite by default, PostgreSQL by URL."""

from __future__ import annotations

import hashlib
import re
import sqlite3
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection, Engine, create_engine, event, func, make_url, select
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from vigie.errors import HistoryError, InvalidDataError
from vigie.history import schema
from vigie.history.records import ASSESSED, FEATURES, Reading

PATIENCE_MS = 60_000
"""How long a turn waits for that of another process."""
BOUNDS = {"connect_timeout": "3", "tcp_user_timeout": "10000"}
"""How long PostgreSQL is waited for: to connect, in seconds, and for the network to take what is
sent, in milliseconds. An URL may say otherwise."""
SPARED = 1000
"""The newest readings of an asset, which are never deleted: more than a verdict looks back on."""
_OURS = "FROM readings WHERE asset_id = :asset_id AND sensor_id = :sensor_id"
_ROWS = f"SELECT measured_us, CAST(features AS TEXT), CAST(result AS TEXT) {_OURS}"
STATEMENTS = {
    "newest": "SELECT count(*), max(id), max(measured_us) FROM "
    f"(SELECT id, measured_us {_OURS} ORDER BY measured_us DESC LIMIT :n) AS newest",
    "earlier": f"{_ROWS} AND measured_us < :start ORDER BY measured_us DESC LIMIT :n",
    "between": f"{_ROWS} AND measured_us >= :start AND measured_us < :stop ORDER BY measured_us",
    # What is replaced gets a new number too, or ``AssetTransaction.revision`` would not show it.
    "append": "INSERT INTO readings (asset_id, sensor_id, measured_us, features, result) "
    "VALUES (:asset_id, :sensor_id, :measured_us, :features, :result) "
    "ON CONFLICT (asset_id, sensor_id, measured_us) DO UPDATE SET "
    "id = excluded.id, features = excluded.features, result = excluded.result",
    # An asset with fewer readings has no time here, and nothing is before that.
    "forget": f"DELETE FROM readings WHERE id IN (SELECT id {_OURS} AND measured_us < :stop "
    f"AND measured_us < (SELECT measured_us {_OURS} ORDER BY measured_us DESC "
    "LIMIT 1 OFFSET :spared) ORDER BY measured_us LIMIT :n)",
    # The oldest reading of the next asset, from one place in the index to another.
    "next asset": "SELECT asset_id, sensor_id, measured_us FROM readings "
    "WHERE (asset_id, sensor_id) > (:asset_id, :sensor_id) "
    "ORDER BY asset_id, sensor_id, measured_us LIMIT 1",
}
"""What a turn asks, in words that both databases know. It asks them of the driver itself, for
SQLAlchemy's care for a statement costs more than the statement."""


class Revision(NamedTuple):
    """What tells the newest readings of an asset from what they were at another time."""

    n_readings: int
    last_kept: int | None
    """The number of the reading that was kept last."""
    newest_us: int | None
    """When the newest was measured, in microseconds since 1970."""


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
        name = self.engine.dialect.name
        if name not in ("sqlite", "postgresql"):
            raise InvalidDataError(
                f"The history cannot be kept in {name}.",
                field="VIGIE_HISTORY_URL",
                remedy="Use sqlite:///FILE or postgresql+psycopg://USER:PASSWORD@HOST/DATABASE.",
            )
        self._is_sqlite = name == "sqlite"
        self._statements = {
            what: statement if self._is_sqlite else re.sub(r":(\w+)", r"%(\1)s", statement)
            for what, statement in STATEMENTS.items()
        }
        # Who waits inside SQLite asks again and again, and may be passed over until time is up.
        self._in_line: AbstractContextManager[Any] = _Line() if self._is_sqlite else nullcontext()
        try:
            with self._as_history_error(), self.engine.begin() as connection:
                if self._is_sqlite:
                    schema.upgrade(connection)
                else:
                    with _without_hurry(connection):
                        # Two services that come to a database at once must not both change it.
                        number = _lock_number("", None)
                        connection.execute(select(func.pg_advisory_xact_lock(number)))
                        schema.upgrade(connection)
        except BaseException:
            self.close()
            raise

    @contextmanager
    def transaction(self, asset_id: str, sensor_id: str | None) -> Iterator[AssetTransaction]:
        """Read and write the readings of an asset while nobody else does.

        What happens in the block is kept when it ends, all or, after an error, nothing. Another
        process that wants the same asset waits; SQLite has one turn for all.
        """
        with self._in_line, self._as_history_error(), self._cursor() as cursor:
            if self._is_sqlite:
                # Left to itself the driver begins only with the first write, and two processes
                # that have read the same past could then both write what follows from it.
                cursor.execute("BEGIN IMMEDIATE")
            else:
                key = _lock_number(asset_id, sensor_id)
                cursor.execute(f"SELECT pg_advisory_xact_lock({key})")
            yield AssetTransaction(cursor, self._statements, asset_id, sensor_id)

    def assets_before(self, moment: datetime) -> Iterator[tuple[str, str | None]]:
        """Yield asset and sensor group of all that have readings from before a time."""
        last: tuple[str, str] | None = ("", "")
        while last is not None:
            with self._as_history_error(), self._cursor() as cursor:
                of_last = dict(zip(("asset_id", "sensor_id"), last, strict=True))
                cursor.execute(self._statements["next asset"], of_last)
                found = cursor.fetchone()
            last = found and found[:2]
            if found and found[2] < _microseconds(moment):
                yield found[0], found[1] or None

    def close(self) -> None:
        """Give the database's connections back."""
        self.engine.dispose()

    @contextmanager
    def _cursor(self) -> Iterator[Any]:
        """Give the driver's cursor; what is done with it is kept, or after an error undone."""
        connection = self.engine.raw_connection()
        try:
            yield connection.cursor()
            connection.commit()
        except BaseException:
            # Of one that has been given up the first error tells more.
            with suppress(self.engine.dialect.loaded_dbapi.Error):
                connection.rollback()
            raise
        finally:
            connection.close()

    @contextmanager
    def _as_history_error(self) -> Iterator[None]:
        try:
            yield
        except (SQLAlchemyError, self.engine.dialect.loaded_dbapi.Error) as error:
            failure = HistoryError(
                f"The history cannot be used: {error}",
                remedy="Check VIGIE_HISTORY_URL and the space on its disk.",
            )
            # As against a value that the database does not take.
            kinds = (OperationalError, self.engine.dialect.loaded_dbapi.OperationalError)
            failure.is_outage = isinstance(error, kinds)
            raise failure from error


@dataclass(frozen=True)
class AssetTransaction:
    """The history of one asset while it is ours."""

    _cursor: Any
    _statements: Mapping[str, str]
    asset_id: str
    sensor_id: str | None

    def revision(self, n: int) -> Revision:
        """Return the revision of the ``n`` newest readings.

        It is another one as soon as any of them has been added or replaced, by whatever process.
        """
        self._cursor.execute(self._statements["newest"], self._of_asset(n=n))
        return Revision(*self._cursor.fetchone())

    def around(self, first: datetime, last: datetime, n: int) -> list[Reading]:
        """Return the ``n`` last readings before ``first``, and all from there to before ``last``.

        Returns
        -------
        list of Reading
            Oldest first.
        """
        start, stop = _microseconds(first), _microseconds(last)
        self._cursor.execute(self._statements["earlier"], self._of_asset(start=start, n=n))
        rows = self._cursor.fetchall()[::-1]
        if stop > start:
            self._cursor.execute(
                self._statements["between"], self._of_asset(start=start, stop=stop)
            )
            rows += self._cursor.fetchall()
        return [
            Reading(
                self.asset_id,
                self.sensor_id,
                _time(measured),
                FEATURES.validate_json(features),
                ASSESSED.validate_json(result),
            )
            for measured, features, result in rows
        ]

    def append(self, readings: Iterable[Reading]) -> None:
        """Keep readings with their results; one sent again replaces itself."""
        self._cursor.executemany(
            self._statements["append"],
            [
                self._of_asset(
                    measured_us=_microseconds(reading.timestamp),
                    features=FEATURES.dump_json(reading.features).decode(),
                    result=ASSESSED.dump_json(reading.assessed).decode(),
                )
                for reading in readings
            ],
        )

    def forget(self, before: datetime, at_most: int) -> int:
        """Delete the oldest readings from before a time; return how many.

        The ``SPARED`` newest stay, however old they are, so that the next verdict and the state
        of the asset are what they would have been.
        """
        values = self._of_asset(stop=_microseconds(before), n=at_most, spared=SPARED - 1)
        self._cursor.execute(self._statements["forget"], values)
        n_deleted: int = self._cursor.rowcount
        return n_deleted

    def _of_asset(self, **values: Any) -> dict[str, Any]:
        return {"asset_id": self.asset_id, "sensor_id": self.sensor_id or "", **values}


class _Line:
    """A lock for whoever has waited longest; Python's own goes to whoever asks first again."""

    def __init__(self) -> None:
        self._guard, self._taken = threading.Lock(), False
        self._waiting: deque[threading.Lock] = deque()

    def __enter__(self) -> None:
        with self._guard:
            if not self._taken:
                self._taken = True
                return
            turn = threading.Lock()
            turn.acquire()
            self._waiting.append(turn)
        turn.acquire()

    def __exit__(self, *raised: object) -> None:
        with self._guard:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._taken = False


def _engine(url: str) -> Engine:
    # A connection is given back after a commit or a rollback, so nothing need be undone there; and
    # only one through a network can have died meanwhile.
    where = make_url(url)
    is_file = where.get_backend_name() == "sqlite"
    if where.get_backend_name() == "postgresql":
        where = where.update_query_dict({**BOUNDS, **where.query})
    engine = create_engine(where, pool_pre_ping=not is_file, pool_reset_on_return=None)
    if engine.dialect.name == "postgresql":
        # Here, for the driver takes longer to import than a history of ours to open.
        from vigie.history.postgresql import PatientConnection

        @event.listens_for(engine, "do_connect")
        def _connect(dialect: Any, record: Any, arguments: Any, named: Any) -> Any:
            return PatientConnection.connect(*arguments, **named)

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
            # A turn begins and ends as it says itself.
            connection.isolation_level = None

        @event.listens_for(engine, "begin")
        def _begin(connection: Any) -> None:
            connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


@contextmanager
def _without_hurry(connection: Connection) -> Iterator[None]:
    """Let PostgreSQL take its time: large tables take theirs to be changed."""
    driver: Any = connection.connection.driver_connection
    patience_s, driver.patience_s = driver.patience_s, None
    try:
        yield
    finally:
        driver.patience_s = patience_s


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
