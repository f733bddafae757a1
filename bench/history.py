"""What the history costs: bytes a reading, and microseconds of a transaction.

    python bench/history.py                  # both databases, small
    python bench/history.py --rows 20000000  # five hundred assets of a plant, in PostgreSQL

PostgreSQL is started as the tests start it. Readings have eight sensors, and come from all assets
in turn, as they do from a plant.
"""

from __future__ import annotations

import argparse
import os
import random
import struct
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from vigie.history.records import Assessed, Reading
from vigie.history.retention import PORTION
from vigie.history.store import History
from vigie.models.anomaly_data import AssetState

TESTS = Path(__file__).resolve().parents[1] / "tests" / "helpers"
SENSORS = ("current", "flow", "kurtosis", "pressure", "rms", "rpm", "temperature", "torque")
START = datetime(2026, 1, 5, 8, tzinfo=UTC)
EVERY = timedelta(minutes=1)
VERSIONS: dict[str, Any] = {"isolation_forest": 3, "one_class_svm": 2, "vector_autoregression": 1}
LOOK_BACK = 120
"""Readings of a look-back: more than what most models need."""


def reading(asset_id: str, number: int) -> Reading:
    """Return a reading as a service stores it."""
    odds = random.random()
    assessed = Assessed(
        final_score=1.0 - odds,
        is_anomaly=odds < 0.01,
        p_value=odds,
        state=AssetState.NORMAL,
        since="2026-01-05T08:00:00.000000",
        calm=3,
        usual=0.43 + odds / 100,
        versions=VERSIONS,
    )
    features = {name: random.gauss(50.0, 3.0) for name in SENSORS}
    return Reading(asset_id, None, START + number * EVERY, features, assessed)


@contextmanager
def database(kind: str) -> Iterator[str]:
    """Yield the URL of a new database."""
    if kind == "sqlite":
        with tempfile.TemporaryDirectory() as folder:
            yield f"sqlite:///{folder}/history.db"
        return
    sys.path.insert(0, str(TESTS))
    from servers import postgresql

    with postgresql() as server:
        yield server.new_database()


def bytes_per_reading(url: str, n_assets: int, n_readings: int) -> float:
    """Return the size of a database with its indices, divided by its readings."""
    history = History(url)
    for number in range(n_readings):
        for asset in range(n_assets):
            name = f"site/line/pump-{asset}"
            with history.transaction(name, None) as transaction:
                transaction.append([reading(name, number)])
    if url.startswith("sqlite"):
        with history.connection() as connection:
            connection.exec_driver_sql("COMMIT")
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
            connection.exec_driver_sql("BEGIN")
    size = history.size_bytes() or 0
    history.close()
    return size / (n_assets * n_readings)


def us(repetitions: int, action: Callable[[int], object]) -> float:
    """Return the tenth percentile of the times of an action, in microseconds: other work adds."""
    times = []
    for number in range(repetitions):
        start = time.perf_counter()
        action(number)
        times.append(time.perf_counter() - start)
    return sorted(times)[len(times) // 10] * 1e6


def road(url: str) -> dict[str, float]:
    """Return what one reading costs on its way through the history, in microseconds."""
    history, asset = History(url), "another/pump"
    with history.transaction(asset, None) as transaction:
        first = transaction.revision(1).n_readings and 100_000
        transaction.append(reading(asset, first + number) for number in range(2000))
    to_come = iter([reading(asset, first + 2000 + number) for number in range(5000)])

    def append(_: int) -> None:
        """Do what ``Detection`` does for a reading whose look-back is cached."""
        with history.transaction(asset, None) as transaction:
            transaction.revision(LOOK_BACK)
            transaction.append([next(to_come)])
            transaction.revision(LOOK_BACK)

    def look_back(number: int) -> None:
        with history.transaction(asset, None) as transaction:
            transaction.around(START + (first + 1500 + number % 100) * EVERY, None, LOOK_BACK)

    batch = [[next(to_come) for _ in range(100)] for _ in range(20)]

    def append_100(number: int) -> None:
        with history.transaction(asset, None) as transaction:
            transaction.append(batch[number])

    found = {
        "append one": us(2000, append),
        f"read {LOOK_BACK}": us(500, look_back),
        "append 100": us(20, append_100),
    }
    history.close()
    return found


def fill(url: str, n_assets: int, first: int, n_minutes: int) -> None:
    """Store a reading of each asset a minute, as they come: by COPY, from a pool of contents."""
    import psycopg

    from vigie.history.packed import layout_of, level_of, pack
    from vigie.history.records import microseconds

    pool = [reading("", number) for number in range(20_000)]
    layout = layout_of(pool[0])
    packed = [(level_of(one.assessed), pack(layout, one.features, one.assessed)) for one in pool]
    contents = [
        struct.pack("!iiihi", 4, 1, 2, level, len(content)) + content for level, content in packed
    ]
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        connection.execute(
            "INSERT INTO layouts (id, digest, description) VALUES (1, %s, %s) "
            "ON CONFLICT DO NOTHING",
            (layout.digest, layout.text),
        )
        connection.execute(
            "INSERT INTO assets (id, asset_id, sensor_id) "
            "SELECT n, 'site/line/pump-' || n, '' FROM generate_series(1, %s) AS n "
            "ON CONFLICT DO NOTHING",
            (n_assets,),
        )
        for table in ("layouts", "assets"):
            connection.execute(
                f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), max(id)) FROM {table}"
            )
        heads = [struct.pack("!ii", 4, number) for number in range(1, n_assets + 1)]
        names = "measured_us, asset, layout, level, packed"
        with connection.cursor().copy(
            f"COPY readings ({names}) FROM STDIN (FORMAT binary)"
        ) as copy:
            copy.write(b"PGCOPY\n\xff\r\n\x00" + bytes(8))
            for minute in range(first, first + n_minutes):
                time_us = struct.pack("!hiq", 5, 8, microseconds(START + minute * EVERY))
                chosen = random.choices(contents, k=n_assets)
                copy.write(b"".join([time_us + h + c for h, c in zip(heads, chosen, strict=True)]))
            copy.write(struct.pack("!h", -1))
        connection.commit()
        connection.autocommit = True
        connection.execute("VACUUM (ANALYZE) readings")


def forget(url: str) -> None:
    """Let the operating system forget what it has read of the database."""
    import psycopg

    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("CHECKPOINT")
        [folder] = connection.execute("SHOW data_directory").fetchone() or [""]
    for file in Path(folder, "base").rglob("*"):
        if file.is_file():
            with file.open("rb") as content:
                os.fsync(content.fileno())
                os.posix_fadvise(content.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def year(url: str, n_assets: int, n_minutes: int) -> dict[str, str]:
    """Return what questions to a plant's history cost, in milliseconds."""
    from vigie.models.readings import ReadingSearch
    from vigie.services.reading_search import found_readings

    history, asset = History(url), "site/line/pump-77"
    end = START + n_minutes * EVERY

    def asks(**asked: Any) -> str:
        search = ReadingSearch.model_validate({"format": "csv", **asked})
        start = time.perf_counter()
        first = len(found_readings(history, search).readings)
        before = time.perf_counter() - start
        again = us(3, lambda _: found_readings(history, search)) / 1e3
        return f"{before * 1e3:.0f} ms, again {again:.0f} ms ({first} readings)"

    def since(days: float) -> str:
        return (end - timedelta(days=days)).isoformat()

    forget(url)
    found = {
        "an asset's month, from disk": asks(asset_id=asset, start_date=since(30)),
        "an asset's month": asks(asset_id=asset, start_date=since(30)),
        "an asset's last 2.7 days": asks(asset_id=asset, start_date=since(2.7)),
        "an asset's month, points=2000": asks(asset_id=asset, start_date=since(30), points=2000),
        "an asset's anomalies of a month": asks(
            asset_id=asset, start_date=since(30), is_anomaly=True
        ),
        "the plant's newest 100": asks(asset_id="site/", limit=100),
        "the plant's newest 100 anomalies": asks(asset_id="site/", limit=100, is_anomaly=True),
        "the plant's newest 10,000": asks(asset_id="site/", limit=10_000),
    }
    size = history.size_bytes() or 0
    found["bytes a reading"] = f"{size / (n_assets * n_minutes):.0f}"
    history.close()
    return found


def retention(url: str, before: datetime) -> str:
    """Return what it costs to delete readings from before a time, as ``Retention`` does."""
    history, times, n_deleted = History(url), [], 0
    for names in list(history.assets_before(before))[:50]:
        n_last = PORTION
        while n_last == PORTION:
            start = time.perf_counter()
            with history.transaction(*names) as transaction:
                n_last = transaction.delete_before(before, PORTION)
            times.append(time.perf_counter() - start)
            n_deleted += n_last
    history.close()
    each = sorted(times)
    return (
        f"{n_deleted} readings in {sum(times):.1f} s: a portion of {PORTION} takes "
        f"{each[len(each) // 2] * 1e3:.1f} ms, {each[-1] * 1e3:.1f} ms at most"
    )


def plant(n_rows: int, n_assets: int) -> None:
    """Print the costs for a plant in PostgreSQL, as its history grows."""
    with database("postgresql") as url:
        History(url).close()
        last = 0
        for rows in (n_rows // 10, n_rows):
            n_minutes = rows // n_assets
            start = time.perf_counter()
            fill(url, n_assets, last, n_minutes - last)
            print(f"{rows} rows (COPY and VACUUM: {time.perf_counter() - start:.0f} s)", flush=True)
            last = n_minutes
            for name, cost in year(url, n_assets, n_minutes).items():
                print(f"  {name}: {cost}", flush=True)
            print(f"  a reading: { ({key: round(cost) for key, cost in road(url).items()}) } us")
            before = START + (n_minutes // 20) * EVERY
            print(f"  retention: {retention(url, before)}", flush=True)
        clustered(url)
        for name, cost in year(url, n_assets, n_minutes).items():
            print(f"  clustered, {name}: {cost}", flush=True)


def clustered(url: str) -> None:
    """Sort the rows by asset and time, for comparison."""
    import psycopg

    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        start = time.perf_counter()
        connection.execute("CLUSTER readings USING one_reading_of_a_time")
        connection.execute("VACUUM (ANALYZE) readings")
        print(f"  CLUSTER: {time.perf_counter() - start:.0f} s", flush=True)


def main() -> None:
    """Print all figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--assets", type=int, default=50)
    parser.add_argument("--readings", type=int, default=1000, help="of each asset")
    parser.add_argument("--rows", type=int, help="of a plant, in PostgreSQL")
    arguments = parser.parse_args()
    random.seed(0)
    if arguments.rows:
        plant(arguments.rows, n_assets=500)
        return
    for kind in ("sqlite", "postgresql"):
        with database(kind) as url:
            size = bytes_per_reading(url, arguments.assets, arguments.readings)
            print(f"{kind}: {size:.0f} bytes a reading")
            print(f"{kind}: { ({name: round(cost) for name, cost in road(url).items()}) } us")


if __name__ == "__main__":
    main()
