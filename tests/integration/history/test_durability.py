"""What a transaction waits for, by the setting."""

from __future__ import annotations

import pytest
from servers import PostgreSQL
from sqlalchemy import create_engine, text

from vigie.history.store import History


@pytest.mark.parametrize(("is_durable", "expected"), [(False, 1), (True, 2)])
def test_sqlite_waits_for_the_disk_if_it_shall(
    tmp_path_factory: pytest.TempPathFactory, is_durable: bool, expected: int
) -> None:
    file = tmp_path_factory.mktemp("history") / "history.db"
    history = History(f"sqlite:///{file}", is_durable=is_durable)
    # 1 is NORMAL, 2 is FULL.
    assert history.select("PRAGMA synchronous", {}) == [(expected,)]
    assert history.select("PRAGMA journal_mode", {}) == [("wal",)]
    history.close()


@pytest.mark.parametrize(
    ("of_the_server", "is_durable", "expected"),
    [("off", False, "off"), ("off", True, "on"), ("remote_apply", True, "remote_apply")],
)
def test_postgresql_waits_for_the_disk_if_it_shall(
    postgresql: PostgreSQL, of_the_server: str, is_durable: bool, expected: str
) -> None:
    url = postgresql.new_database()
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        name = engine.url.database
        connection.execute(text(f"ALTER DATABASE {name} SET synchronous_commit = {of_the_server}"))
    engine.dispose()
    history = History(url, is_durable=is_durable)
    assert history.select("SHOW synchronous_commit", {}) == [(expected,)]
    history.close()
