"""Tables of databases: a real PostgreSQL, SQLite, and DuckDB."""

from __future__ import annotations

import logging
import socket
import sqlite3
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from urllib.parse import quote

import psycopg
import pyarrow as pa
import pytest
import servers

from vigie.errors import InvalidDataError
from vigie.tables.sources import fetch
from vigie.tables.sources.columns import ROWS_AT_A_TIME

READINGS = """
CREATE TABLE readings (
    time timestamptz, local timestamp, day date, asset text, rpm double precision,
    flow numeric(8, 3), valve_open boolean, starts integer, tags text[]
);
INSERT INTO readings
SELECT timestamptz '2026-01-05 08:00:00+00' + i * interval '10 s',
    timestamp '2026-01-05 09:00:00' + i * interval '10 s', date '2026-01-05', 'pump-1',
    1450 + i % 7, 12.125, i % 2 = 0, i, ARRAY['a', 'b']
FROM generate_series(0, 49999) AS i;
UPDATE readings SET rpm = NULL, flow = NULL, valve_open = NULL WHERE starts = 3;
"""
PASSWORD = "p@ss/w:rd#1?"


@pytest.fixture(scope="module")
def plant(postgresql: servers.PostgreSQL) -> str:
    """A database with readings: its URL, for a user who may write."""
    url = postgresql.new_database()
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        connection.execute(READINGS)
    return url


def count(url: str) -> int:
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        return connection.execute("SELECT count(*) FROM readings").fetchone()[0]


def refused(url: str, query: str | None, **others: str) -> InvalidDataError:
    with pytest.raises(InvalidDataError) as caught:
        fetch(url, query=query, **others).read_all()
    assert caught.value.remedy is None or caught.value.remedy.endswith((".", "…", "]'"))
    return caught.value


def test_postgresql_keeps_the_types(plant: str) -> None:
    reader = fetch(plant, query="SELECT * FROM readings ORDER BY time")
    assert dict(zip(reader.schema.names, reader.schema.types, strict=True)) == {
        "time": pa.timestamp("us", tz="UTC"),
        "local": pa.timestamp("us"),
        "day": pa.date32(),
        "asset": pa.string(),
        "rpm": pa.float64(),
        "flow": pa.float64(),
        "valve_open": pa.int8(),
        "starts": pa.int32(),
        "tags": pa.string(),
    }
    batches = list(reader)
    assert [len(batch) for batch in batches] == [ROWS_AT_A_TIME, 50_000 - ROWS_AT_A_TIME]
    first, fourth = batches[0].slice(0, 1).to_pylist()[0], batches[0].slice(3, 1).to_pylist()[0]
    assert first["time"] == datetime(2026, 1, 5, 8, tzinfo=UTC)
    assert first["local"] == datetime(2026, 1, 5, 9)
    assert first["day"] == date(2026, 1, 5)
    assert (first["rpm"], first["flow"], first["valve_open"]) == (1450, 12.125, 1)
    assert first["tags"] == "['a', 'b']"
    assert (fourth["rpm"], fourth["flow"], fourth["valve_open"]) == (None, None, None)


def test_an_answer_without_rows_has_its_columns(plant: str) -> None:
    table = fetch(plant, query="SELECT time, rpm FROM readings WHERE rpm < 0").read_all()
    assert len(table) == 0
    assert table.schema.types == [pa.timestamp("us", tz="UTC"), pa.float64()]


def test_only_the_wanted_columns_come(plant: str) -> None:
    query = "WITH newest AS (SELECT * FROM readings LIMIT 5) SELECT * FROM newest; -- five"
    assert fetch(plant, query=query, columns=["rpm", "time", "x"]).schema.names == ["time", "rpm"]


def test_percent_signs_and_colons_of_a_query_are_its_own(plant: str) -> None:
    query = "SELECT ':x %s' AS said, 7 % 4 AS rest FROM readings WHERE asset LIKE 'pump%' LIMIT 1"
    assert fetch(plant, query=query).read_all().to_pylist() == [{"said": ":x %s", "rest": 3}]


@pytest.mark.parametrize(
    "query",
    [
        "DELETE FROM readings",
        "SELECT 1; DELETE FROM readings",
        "EXPLAIN ANALYZE DELETE FROM readings",
        "",
        None,
        # These begin like a SELECT; the connection itself refuses them.
        "WITH gone AS (DELETE FROM readings RETURNING *) SELECT * FROM gone",
        "SELECT * INTO copied FROM readings",
        "SELECT lo_create(4711), set_config('transaction_read_only', 'off', false)",
        "SELECT set_config('transaction_read_only', 'off', false), lo_create(4711)",
    ],
)
def test_a_query_that_writes_is_refused_and_changes_nothing(plant: str, query: str | None) -> None:
    assert refused(plant, query).field == "--query"
    assert count(plant) == 50_000


@pytest.mark.parametrize(
    ("query", "said", "remedy"),
    [
        ("SELECT * FROM reading", 'relation "reading" does not exist', "schema.table"),
        ("SELECT rpn FROM readings", 'column "rpn" does not exist', "column"),
        ("SELECT FROM WHERE", "syntax error", "Correct"),
        ("SELECT 1 / (starts - 40000) FROM readings", "division by zero", "Correct"),
        ("SELECT id, id FROM (SELECT 1 AS id) AS x", "several columns id", "AS a_id"),
    ],
)
def test_an_error_of_the_query_is_said_with_a_remedy(
    plant: str, query: str, said: str, remedy: str
) -> None:
    error = refused(plant, query)
    assert error.field == "--query"
    assert said in error.message
    assert remedy in (error.remedy or "")


def test_the_period_of_sql_stands_in_the_query(plant: str) -> None:
    assert refused(plant, "SELECT * FROM readings", start="7d").field == "--start"


def test_a_table_that_the_user_may_not_read_is_named(plant: str) -> None:
    with psycopg.connect(plant.replace("+psycopg", "")) as connection:
        connection.execute("CREATE ROLE guest LOGIN")
    error = refused(plant.replace("vigie@", "guest@"), "SELECT * FROM readings")
    assert "permission denied for table readings" in error.message
    assert "GRANT SELECT" in (error.remedy or "")


@pytest.fixture(scope="module")
def locked(postgresql: servers.PostgreSQL, plant: str) -> Iterator[str]:
    """The same database, asking a user for a password; its URL without user."""
    rules = Path(postgresql.folder, "data", "pg_hba.conf")
    before = rules.read_text()
    with psycopg.connect(plant.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(f"CREATE ROLE reader LOGIN PASSWORD '{PASSWORD}'")
        connection.execute("GRANT SELECT ON readings TO reader")
        rules.write_text(f"local all reader scram-sha-256\n{before}")
        connection.execute("SELECT pg_reload_conf()")
        yield plant.replace("postgresql+psycopg://vigie@", "postgresql://")
        rules.write_text(before)
        connection.execute("SELECT pg_reload_conf()")


ROW = "SELECT rpm FROM readings ORDER BY time LIMIT 1"


@pytest.mark.parametrize(
    ("user", "environment"),
    [
        ("reader:${PLANT_PASSWORD}@", {"PLANT_PASSWORD": PASSWORD}),
        ("reader@", {"PGPASSWORD": PASSWORD}),
        ("reader@", {"VIGIE_SOURCE_PASSWORD": PASSWORD}),
        ("", {"VIGIE_SOURCE_USERNAME": "reader", "VIGIE_SOURCE_PASSWORD": PASSWORD}),
    ],
)
def test_passwords_come_from_the_environment(
    locked: str,
    user: str,
    environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    url = locked.replace("//", f"//{user}", 1)
    assert fetch(url, query=ROW).read_all().to_pylist() == [{"rpm": 1450.0}]
    assert not caplog.records


def test_a_password_on_the_command_line_works_and_is_warned_of(
    locked: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    url = locked.replace("//", f"//reader:{quote(PASSWORD, safe='')}@", 1)
    assert len(fetch(url, query=ROW).read_all()) == 1
    assert "other users of this machine" in caplog.text
    assert PASSWORD not in caplog.text
    assert quote(PASSWORD, safe="") not in caplog.text


@pytest.mark.parametrize("word", ["hunter2", "p%40ss%2Fw"])
def test_a_wrong_password_is_said_and_not_told(locked: str, word: str) -> None:
    error = refused(locked.replace("//", f"//reader:{word}@", 1), ROW)
    assert error.field == "SOURCE"
    assert "password authentication failed" in error.message
    assert "VIGIE_SOURCE_PASSWORD" in (error.remedy or "")
    assert error.__cause__ is None
    for part in (word, "p@ss/w"):
        assert part not in str(error)


def test_a_missing_password_is_asked_for(locked: str) -> None:
    error = refused(locked.replace("//", "//reader@", 1), ROW)
    assert "no password supplied" in error.message
    assert "PGPASSWORD" in (error.remedy or "")


def test_a_server_that_is_down_is_said(new_port) -> None:
    error = refused(f"postgresql://u:hunter2@127.0.0.1:{new_port()}/plant", ROW)
    assert error.field == "SOURCE"
    assert error.message.endswith("Connection refused.")
    assert "hunter2" not in str(error)


def test_a_server_that_does_not_answer_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql://u@127.0.0.1:{silent.getsockname()[1]}/plant?connect_timeout=2"
        error = refused(url, ROW)
    assert (error.field, "timeout" in error.message) == ("SOURCE", True)


def test_a_database_that_is_not_there_is_said(plant: str) -> None:
    error = refused(plant.replace("/vigie_", "/other_"), ROW)
    assert "does not exist" in error.message
    assert "Correct the name" in (error.remedy or "")


def test_a_server_that_goes_down_while_it_is_read_is_said(plant: str) -> None:
    reader = fetch(plant, query="SELECT * FROM readings")
    next(reader)
    with psycopg.connect(plant.replace("+psycopg", ""), autocommit=True) as connection:
        others = "FROM pg_stat_activity WHERE application_name = 'vigie'"
        connection.execute(f"SELECT pg_terminate_backend(pid) {others}")
    with pytest.raises(InvalidDataError) as caught:
        list(reader)
    assert caught.value.field == "SOURCE"


def test_a_reader_that_is_let_go_ends_its_connection(plant: str) -> None:
    reader = fetch(plant, query="SELECT * FROM readings")
    next(reader)
    del reader
    with psycopg.connect(plant.replace("+psycopg", "")) as connection:
        query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'vigie'"
        for _ in range(50):
            if connection.execute(query).fetchone() == (0,):
                return
            connection.execute("SELECT pg_sleep(0.1), pg_stat_clear_snapshot()")
    pytest.fail("the connection is still there")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A SQLite database, with what its columns may hold."""
    path = tmp_path / "a plant@home?.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE r (time TEXT, rpm REAL, starts INTEGER, ns INTEGER, x)")
        rows = [(f"2026-01-05 08:00:0{i}", 1450.5 + i, i, 10**18 + i, None) for i in range(5)]
        connection.executemany("INSERT INTO r VALUES (?, ?, ?, ?, ?)", rows)
    connection.close()
    return path


def test_sqlite_is_read(file: Path) -> None:
    table = fetch(f"sqlite:///{quote(str(file))}", query="SELECT * FROM r").read_all()
    assert table.schema.types == [pa.string(), *[pa.float64()] * 2, pa.int64(), pa.float64()]
    assert table["starts"].to_pylist() == [0, 1, 2, 3, 4]
    assert table["ns"][1].as_py() == 10**18 + 1
    assert table["x"].null_count == 5


def test_sqlite_is_not_written(file: Path) -> None:
    before = file.read_bytes()
    url = f"sqlite:///{quote(str(file))}"
    for query in ("DROP TABLE r", "WITH a AS (SELECT 1) DELETE FROM r"):
        assert refused(url, query).field == "--query"
    assert file.read_bytes() == before
    assert [one.name for one in file.parent.iterdir()] == [file.name]


def test_a_word_far_down_in_a_sqlite_column_of_numbers_is_named(file: Path) -> None:
    with sqlite3.connect(file) as connection:
        connection.executemany("INSERT INTO r (rpm) VALUES (?)", [(1.5,)] * ROWS_AT_A_TIME)
        connection.execute("INSERT INTO r (rpm) VALUES ('off')")
    connection.close()
    error = refused(f"sqlite:///{quote(str(file))}", "SELECT rpm FROM r")
    assert f"holds 'off' in row {ROWS_AT_A_TIME + 6}" in error.message


def test_sqlite_says_what_is_wrong(file: Path, tmp_path: Path) -> None:
    url = f"sqlite:///{quote(str(file))}"
    assert "no such table: q" in refused(url, "SELECT * FROM q").message
    error = refused("sqlite:///nowhere.db", "SELECT 1")
    assert (error.field, error.message) == ("SOURCE", "There is no file nowhere.db.")
    assert not Path("nowhere.db").exists()
    (tmp_path / "text.db").write_text("no database " * 100)
    error = refused(f"sqlite:///{tmp_path}/text.db", "SELECT * FROM r")
    assert (error.field, "file is not a database" in error.message) == ("SOURCE", True)


def test_duckdb_is_read(tmp_path: Path) -> None:
    duckdb = pytest.importorskip("duckdb")
    with duckdb.connect(str(tmp_path / "plant.duckdb")) as connection:
        connection.execute(
            "CREATE TABLE r AS SELECT TIMESTAMPTZ '2026-01-05 08:00:00+00' + INTERVAL (i) SECOND "
            "AS time, i::DECIMAL(12, 2) AS rpm, i % 2 = 0 AS open, [i] AS several "
            "FROM range(40000) AS t(i)"
        )
    url = f"duckdb:///{tmp_path}/plant.duckdb"
    table = fetch(url, query="SELECT * FROM r ORDER BY time").read_all()
    assert len(table) == 40_000
    assert table.schema.types[1:] == [pa.float64(), pa.int8(), pa.string()]
    assert table["time"][0].as_py() == datetime(2026, 1, 5, 8, tzinfo=UTC)
    assert table["time"].type.tz is not None
    assert table["open"].to_pylist()[:2] == [1, 0]
    assert refused(url, "DELETE FROM r").field == "--query"
    assert "Table with name q does not exist" in refused(url, "SELECT * FROM q").message
    conversion = "SELECT CAST(CASE WHEN rpm > 39000 THEN 'x' ELSE '1' END AS DOUBLE) AS y FROM r"
    assert refused(url, conversion).field == "--query"
    error = refused("duckdb:///nowhere.duckdb", "SELECT 1")
    assert error.field == "SOURCE"
    assert not Path("nowhere.duckdb").exists()


def test_duckdb_reads_files_by_a_query(tmp_path: Path) -> None:
    pytest.importorskip("duckdb")
    for part in (1, 2):
        (tmp_path / f"{part}.csv").write_text(f"time,rpm\n2026-01-0{part},{part}.5\n")
    table = fetch("duckdb://", query=f"SELECT * FROM '{tmp_path}/*.csv' ORDER BY time").read_all()
    assert table["rpm"].to_pylist() == [1.5, 2.5]
