"""Readings and results per asset, in a SQL database: SQLite by default, PostgreSQL by URL."""

from __future__ import annotations

import hashlib
import os
import re
import sqlite3
import threading
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import Connection, Engine, create_engine, event, func, make_url, select
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from vigie.errors import HistoryError, InvalidDataError
from vigie.history import event_statements, schema
from vigie.history.names import NAME_STATEMENTS, Names, Row
from vigie.history.packed import Layout, layout_of, level_of, pack
from vigie.history.records import Reading, microseconds, time_of

PATIENCE_MS = 60_000
"""SQLite's timeout for the lock of another process, in milliseconds."""
BOUNDS = {"connect_timeout": "3", "tcp_user_timeout": "10000"}
"""libpq's timeouts: to connect, in seconds, and for unacknowledged data, in milliseconds. The URL
may override them."""
SPARED = 1000
"""The newest readings of an asset, which are never deleted: more than any look-back needs."""
END_US = 2**63 - 1
"""After every time, in microseconds since 1970."""
PORTION = 10_000
"""Readings that ``History.between`` reads at once."""
MOST_LISTED = 1000
"""Assets that are listed at once."""
_OURS = "FROM readings WHERE asset = :asset"
_ROWS = f"SELECT measured_us, layout, level, packed {_OURS}"
STATEMENTS = {
    # In PostgreSQL only. The number may be one that the statement did not see while it waited.
    "lock": f"SELECT pg_advisory_xact_lock(CAST(:key AS BIGINT)), ({NAME_STATEMENTS['asset']})",
    "newest": "SELECT count(*), max(id), max(measured_us) FROM "
    f"(SELECT id, measured_us {_OURS} AND measured_us <= :stop "
    "ORDER BY measured_us DESC LIMIT :n) AS newest",
    "earlier": f"{_ROWS} AND measured_us < :start ORDER BY measured_us DESC LIMIT :n",
    "between": f"{_ROWS} AND measured_us >= :start AND measured_us <= :stop ORDER BY measured_us",
    "portion": f"{_ROWS} AND measured_us > :after AND measured_us <= :stop "
    "ORDER BY measured_us LIMIT :n",
    # A replaced row gets a new id, so that ``AssetTransaction.revision`` changes.
    "append": "INSERT INTO readings (asset, measured_us, layout, level, packed) "
    "VALUES (:asset, :measured_us, :layout, :level, :packed) "
    "ON CONFLICT (asset, measured_us) DO UPDATE SET id = excluded.id, layout = excluded.layout, "
    "level = excluded.level, packed = excluded.packed",
    # With fewer readings the inner SELECT is NULL, and the comparison never true.
    "delete": "DELETE FROM readings WHERE asset = :asset AND measured_us IN "
    f"(SELECT measured_us {_OURS} AND measured_us < :stop "
    f"AND measured_us < (SELECT measured_us {_OURS} ORDER BY measured_us DESC "
    "LIMIT 1 OFFSET :spared) ORDER BY measured_us LIMIT :n)",
    # Each by one index search.
    "oldest": "SELECT asset_id, sensor_id, "
    "(SELECT min(measured_us) FROM readings WHERE asset = assets.id) "
    "FROM assets WHERE (asset_id, sensor_id) > (:asset_id, :sensor_id) "
    "ORDER BY asset_id, sensor_id LIMIT :n",
}
STATEMENTS["append one"] = f"{STATEMENTS['append']} RETURNING id"
"""The statements of a transaction, in SQL that both databases support. They go directly to the
driver, since SQLAlchemy's overhead for a statement exceeds the statement's own cost."""


class Revision(NamedTuple):
    """A token that changes with the newest readings of an asset."""

    n_readings: int
    last_id: int | None
    """The id of the reading that was stored last."""
    newest_us: int | None
    """When the newest was measured, in microseconds since 1970."""

    @property
    def newest(self) -> datetime | None:
        """When the newest was measured."""
        return None if self.newest_us is None else time_of(self.newest_us)

    def followed_by(self, number: int, measured_us: int, n: int) -> Revision:
        """Return the revision of the ``n`` newest readings after a new one, with its id."""
        return Revision(min(self.n_readings + 1, n), number, measured_us)


class History:
    """The store of readings and results.

    Parameters
    ----------
    url : str
        SQLAlchemy URL, such as ``sqlite:///history.db`` or
        ``postgresql+psycopg://user:password@host/vigie``.
    is_durable : bool, default False
        Whether a transaction waits until the disk has what it wrote.

    Raises
    ------
    InvalidDataError
        If the URL names another kind of database.
    HistoryError
        From every method, if the database fails.

    Attributes
    ----------
    is_sqlite : bool
        Whether it is SQLite rather than PostgreSQL.
    """

    def __init__(self, url: str, *, is_durable: bool = False):
        self._file = file_of(url)
        if self._file is not None:
            _make_private_file(self._file)
        self.engine = _engine(url, is_durable)
        name = self.engine.dialect.name
        if name not in ("sqlite", "postgresql"):
            raise InvalidDataError(
                f"The history does not support {name}.",
                field="VIGIE_HISTORY_URL",
                remedy="Use sqlite:///FILE or postgresql+psycopg://USER:PASSWORD@HOST/DATABASE.",
            )
        self.is_sqlite = name == "sqlite"
        self._statements = {
            key: self._as_driver_takes(statement)
            for key, statement in (
                STATEMENTS | NAME_STATEMENTS | event_statements.STATEMENTS
            ).items()
        }
        self._names = Names(self._statements, None if self.is_sqlite else self._cursor)
        # SQLite's busy handler polls, so a thread could starve until its timeout.
        self._lock: AbstractContextManager[Any] = _FairLock() if self.is_sqlite else nullcontext()
        try:
            with self._as_history_error(), self.engine.begin() as connection:
                if self.is_sqlite:
                    schema.upgrade(connection)
                else:
                    with _without_timeout(connection):
                        # Against a concurrent upgrade by another service.
                        number = _lock_number(("", None))
                        connection.execute(select(func.pg_advisory_xact_lock(number)))
                        schema.upgrade(connection)
        except BaseException:
            self.close()
            raise
        self._identity = _identity(self._file)

    @property
    def is_gone(self) -> bool:
        """Whether SQLite's file was deleted or replaced, so that what is stored would be lost."""
        return _identity(self._file) != self._identity

    @contextmanager
    def transaction(self, asset_id: str, sensor_id: str | None) -> Iterator[AssetTransaction]:
        """Open a transaction with exclusive access to the readings of an asset.

        See ``transactions``.
        """
        with self.transactions([(asset_id, sensor_id)]) as [transaction]:
            yield transaction

    @contextmanager
    def transactions(
        self, assets: Sequence[tuple[str, str | None]]
    ) -> Iterator[list[AssetTransaction]]:
        """Open one transaction with exclusive access to the readings of some assets.

        It commits at the end of the block, or rolls back after an error. Other transactions on any
        of the assets wait; in SQLite, those on any asset.

        Parameters
        ----------
        assets : sequence of (str, str or None)
            Asset and sensor group of each.
        """
        with self._lock, self._as_history_error(), self._written() as cursor:
            numbers: dict[tuple[str, str | None], int | None] = {}
            if self.is_sqlite:
                # By default the driver begins a transaction with the first write. Two processes
                # could then read the same look-back, and both write results that follow from it.
                cursor.execute("BEGIN IMMEDIATE")
            else:
                # In one order, so that two transactions cannot wait for each other.
                for asset in sorted(assets, key=_lock_number):
                    asset_id, sensor_id = asset
                    named = {"asset_id": asset_id, "sensor_id": sensor_id or ""}
                    key = {"key": _lock_number(asset)}
                    cursor.execute(self._statements["lock"], named | key)
                    numbers[asset] = cursor.fetchone()[1]
            within = cursor, self._statements, self._names
            yield [AssetTransaction(*within, *asset, numbers.get(asset)) for asset in assets]

    def assets_before(self, moment: datetime) -> Iterator[tuple[str, str | None]]:
        """Yield the asset and sensor group of all that have readings from before a time."""
        stop, last = microseconds(moment), ("", "")
        while True:
            with self._as_history_error(), self._cursor() as cursor:
                after = {"asset_id": last[0], "sensor_id": last[1], "n": MOST_LISTED}
                cursor.execute(self._statements["oldest"], after)
                rows = cursor.fetchall()
            for asset_id, sensor_id, oldest_us in rows:
                if oldest_us is not None and oldest_us < stop:
                    yield asset_id, sensor_id or None
            if len(rows) < MOST_LISTED:
                return
            last = rows[-1][:2]

    @contextmanager
    def connection(self, *, writes: bool = True) -> Iterator[Connection]:
        """Open a short transaction on other tables than that of the readings.

        It commits at the end of the block, or rolls back after an error.

        Parameters
        ----------
        writes : bool
            Whether it may write; in SQLite, it then waits for all others that do.
        """
        engine = self.engine.execution_options(writes=writes)
        lock = self._lock if writes else nullcontext()
        with lock, self._as_history_error(), engine.begin() as connection:
            yield connection

    def between(
        self, asset_id: str, sensor_id: str | None, first: datetime, last: datetime
    ) -> Iterator[Reading]:
        """Yield the readings of an asset from ``first`` to ``last``, oldest first.

        They are read in portions, between which others may write.
        """
        after, stop = microseconds(first) - 1, microseconds(last)
        while True:
            with self._lock, self._as_history_error(), self._cursor() as cursor:
                asset = self._names.asset(cursor, asset_id, sensor_id)
                values = {"asset": asset, "after": after, "stop": stop, "n": PORTION}
                cursor.execute(self._statements["portion"], values)
                rows = cursor.fetchall()
                readings = self._names.readings(cursor, asset_id, sensor_id, rows)
            yield from readings
            if len(rows) < PORTION:
                return
            after = rows[-1][0]

    def select(self, statement: str, *values: Mapping[str, Any]) -> list[Any]:
        """Return the rows of a SELECT for each mapping of values, in one transaction.

        Parameters
        ----------
        statement : str
            SQL with values as ``:name``, and no other colons.
        """
        rows: list[Any] = []
        statement = self._as_driver_takes(statement)
        with self._as_history_error(), self._cursor() as cursor:
            for one in values:
                cursor.execute(statement, one)
                rows += cursor.fetchall()
        return rows

    def layouts(self, ids: Collection[int]) -> dict[int, Layout]:
        """Return layouts of readings by their numbers."""
        with self._as_history_error(), self._cursor() as cursor:
            return self._names.layouts(cursor, ids)

    def size_bytes(self) -> int | None:
        """Return the size of the readings with their indices; in SQLite, of the whole file."""
        if not self.is_sqlite:
            with self.connection(writes=False) as connection:
                size = func.pg_total_relation_size("readings")
                return int(connection.scalar(select(size)) or 0)
        if self._file is None:
            return None
        total = 0
        for ending in ("", "-wal"):
            with suppress(FileNotFoundError):
                total += self._file.with_name(self._file.name + ending).stat().st_size
        return total

    def close(self) -> None:
        """Close all connections to the database."""
        self.engine.dispose()

    def _as_driver_takes(self, statement: str) -> str:
        return statement if self.is_sqlite else re.sub(r":(\w+)", r"%(\1)s", statement)

    @contextmanager
    def _cursor(self) -> Iterator[Any]:
        """Yield a cursor of the driver; commit at the end, or roll back after an error."""
        connection = self.engine.raw_connection()
        try:
            yield connection.cursor()
            connection.commit()
        except BaseException:
            # The rollback fails on a closed connection; the first error says more.
            with suppress(self.engine.dialect.loaded_dbapi.Error):
                connection.rollback()
            raise
        finally:
            connection.close()

    @contextmanager
    def _written(self) -> Iterator[Any]:
        """Yield a cursor as ``_cursor`` does, for a transaction that may add layouts."""
        try:
            with self._cursor() as cursor:
                yield cursor
        except BaseException:
            self._names.forget()
            raise

    @contextmanager
    def _as_history_error(self) -> Iterator[None]:
        try:
            yield
        except (SQLAlchemyError, self.engine.dialect.loaded_dbapi.Error) as error:
            failure = HistoryError(
                # SQLAlchemy adds the statement, and an address of its own manual.
                f"The history cannot be used: {getattr(error, 'orig', None) or error}",
                remedy="Check VIGIE_HISTORY_URL and the space on its disk.",
            )
            # Other errors, such as an invalid value, concern one statement only.
            kinds = (OperationalError, self.engine.dialect.loaded_dbapi.OperationalError)
            failure.is_outage = isinstance(error, kinds)
            raise failure from error


@dataclass
class AssetTransaction:
    """Exclusive access to the history of one asset; see ``History.transaction``."""

    _cursor: Any
    _statements: Mapping[str, str]
    _names: Names
    asset_id: str
    sensor_id: str | None
    _asset: int | None = None
    """The number of the asset, once it is known."""

    @property
    def place(self) -> tuple[str, str]:
        """The asset and its sensor group, as the tables have them."""
        return self.asset_id, self.sensor_id or ""

    def revision(self, n: int, until_us: int = END_US) -> Revision:
        """Return the revision of the ``n`` newest readings, or of those up to a time.

        It changes when any process adds or replaces one of them.
        """
        self._cursor.execute(self._statements["newest"], self._of_asset(n=n, stop=until_us))
        return Revision(*self._cursor.fetchone())

    def added(self, known: Revision, now: Revision, n: int, at_most: int) -> list[Reading]:
        """Return the readings that came between two revisions, oldest first.

        Parameters
        ----------
        known, now : Revision
            An earlier revision, and the present one.
        n : int
            How many of the newest readings they tell of.
        at_most : int
            Most readings to return.

        Returns
        -------
        list of Reading
            Empty if there are more, or if those of the earlier revision have changed since.
        """
        if known.newest_us is None or now.newest_us is None:
            return []
        if self.revision(n, known.newest_us) != known:
            return []
        added = self._of_asset(after=known.newest_us, stop=now.newest_us, n=at_most + 1)
        self._cursor.execute(self._statements["portion"], added)
        rows = self._cursor.fetchall()
        return [] if len(rows) > at_most else self._readings(rows)

    def around(self, first: datetime, last: datetime | None, n: int) -> list[Reading]:
        """Return the last ``n`` readings before ``first``, and all from ``first`` to ``last``.

        Parameters
        ----------
        first, last : datetime
            None as ``last`` for those before ``first`` only.
        n : int
            Most readings before ``first``.

        Returns
        -------
        list of Reading
            Oldest first.
        """
        start = microseconds(first)
        self._cursor.execute(self._statements["earlier"], self._of_asset(start=start, n=n))
        rows = self._cursor.fetchall()[::-1]
        if last is not None:
            self._cursor.execute(
                self._statements["between"],
                self._of_asset(start=start, stop=microseconds(last)),
            )
            rows += self._cursor.fetchall()
        return self._readings(rows)

    def append(self, readings: Iterable[Reading]) -> int | None:
        """Store readings with their results; a reading with the same time is replaced.

        Returns
        -------
        int or None
            The id of a single reading, for ``Revision.followed_by``; None of several.
        """
        if self._number() is None:
            names = self.asset_id, self.sensor_id
            self._asset = self._names.new_asset(self._cursor, *names)
        rows = []
        for reading in readings:
            number, layout = self._names.layout(self._cursor, layout_of(reading))
            values = {
                "measured_us": microseconds(reading.timestamp),
                "layout": number,
                "level": level_of(reading.assessed),
                "packed": pack(layout, reading.features, reading.assessed),
            }
            rows.append(self._of_asset(**values))
        if len(rows) == 1:
            # In PostgreSQL, many take a pipeline, which is slower for one.
            self._cursor.execute(self._statements["append one"], rows[0])
            [[number]] = self._cursor.fetchall()
            return int(number)
        self._cursor.executemany(self._statements["append"], rows)
        return None

    def execute(self, statement: str, **values: Any) -> Any:
        """Execute one of ``event_statements`` on this asset; return the cursor."""
        named = {"asset_id": self.asset_id, "sensor_id": self.sensor_id or "", **values}
        self._cursor.execute(self._statements[statement], named)
        return self._cursor

    def delete_before(self, before: datetime, at_most: int) -> int:
        """Delete up to ``at_most`` of the oldest readings from before a time; return how many.

        The ``SPARED`` newest stay at any age, so that the next verdict and the state of the asset
        do not change.
        """
        values = self._of_asset(stop=microseconds(before), n=at_most, spared=SPARED - 1)
        self._cursor.execute(self._statements["delete"], values)
        n_deleted: int = self._cursor.rowcount
        return n_deleted

    def _number(self) -> int | None:
        if self._asset is None:
            self._asset = self._names.asset(self._cursor, self.asset_id, self.sensor_id)
        return self._asset

    def _of_asset(self, **values: Any) -> dict[str, Any]:
        # Without a number, NULL: nothing is equal to it.
        return {"asset": self._number(), **values}

    def _readings(self, rows: Sequence[Row]) -> list[Reading]:
        return self._names.readings(self._cursor, self.asset_id, self.sensor_id, rows)


class _FairLock:
    """A first-in, first-out lock; ``threading.Lock`` does not guarantee an order."""

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


def _engine(url: str, is_durable: bool) -> Engine:
    # Connections return to the pool after a commit or a rollback, so need no reset; only network
    # connections can break in the pool.
    address = make_url(url)
    is_file = address.get_backend_name() == "sqlite"
    if address.get_backend_name() == "postgresql":
        address = address.update_query_dict({**BOUNDS, **address.query})
    engine = create_engine(address, pool_pre_ping=not is_file, pool_reset_on_return=None)
    if engine.dialect.name == "postgresql":
        # Imported here, since the import of the driver is slow.
        from vigie.history.postgresql import PatientConnection

        @event.listens_for(engine, "do_connect")
        def _connect(dialect: Any, record: Any, arguments: Any, named: Any) -> Any:
            connection = PatientConnection.connect(*arguments, **named)
            if is_durable:
                # Every other value waits for the disk of this server at least.
                connection.execute(
                    "SELECT set_config('synchronous_commit', 'on', false) "
                    "WHERE current_setting('synchronous_commit') = 'off'"
                )
                connection.commit()
            return connection

    if engine.dialect.name == "sqlite":

        @event.listens_for(engine, "connect")
        def _tune(connection: Any, record: Any) -> None:
            connection.execute(f"PRAGMA busy_timeout={PATIENCE_MS}")
            # With WAL, readers do not block a writer, and a commit need not wait for the disk.
            try:
                connection.execute("PRAGMA journal_mode=WAL")
            except sqlite3.OperationalError as error:
                # busy_timeout does not apply to this pragma. If two processes switch at once, one
                # fails; the mode is persistent, so the other's switch suffices.
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                    raise
            connection.execute(f"PRAGMA synchronous={'FULL' if is_durable else 'NORMAL'}")
            # Transactions are explicit; the driver must not begin any.
            connection.isolation_level = None

        @event.listens_for(engine, "begin")
        def _begin(connection: Connection) -> None:
            writes = connection.get_execution_options().get("writes", True)
            connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


@contextmanager
def _without_timeout(connection: Connection) -> Iterator[None]:
    """Disable the statement timeout, since an upgrade of large tables is slow."""
    driver: Any = connection.connection.driver_connection
    patience_s, driver.patience_s = driver.patience_s, None
    try:
        yield
    finally:
        driver.patience_s = patience_s


def _lock_number(asset: tuple[str, str | None]) -> int:
    """Return the key of an asset's advisory lock in PostgreSQL, a signed 64-bit integer."""
    asset_id, sensor_id = asset
    digest = hashlib.sha256(f"{asset_id}\0{sensor_id or ''}".encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)


def file_of(url: str) -> Path | None:
    """Return the file of a history in SQLite; None if there is none."""
    address = make_url(url)
    if address.get_backend_name() != "sqlite" or address.database in (None, "", ":memory:"):
        return None
    return Path(address.database)


def _make_private_file(file: Path) -> None:
    """Create SQLite's file, which nobody else may read, without what belonged to a deleted one."""
    if file.exists() or not file.parent.is_dir():
        return
    for ending in ("-wal", "-shm"):
        # SQLite would read them into the new file.
        file.with_name(file.name + ending).unlink(missing_ok=True)
    with suppress(OSError):
        # What SQLite creates beside it has the same rights.
        os.close(os.open(file, os.O_CREAT | os.O_RDWR, 0o600))


def _identity(file: Path | None) -> tuple[int, int] | None:
    try:
        facts = file.stat() if file is not None else None
    except OSError:
        return None
    return facts and (facts.st_dev, facts.st_ino)
