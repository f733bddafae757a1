"""What the history costs: bytes a reading, and microseconds of a transaction.

    python bench/history.py                       # both databases, a small one
    python bench/history.py --postgresql --rows 20000000

PostgreSQL is started as the tests start it. Readings have eight sensors, and come from all assets
in turn, as they do from a plant.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from vigie.history.records import Assessed, Reading
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
        p_value=odds * 0.9,
        state=AssetState.NORMAL,
        since="2026-01-05T08:00:00.000000",
        calm=3,
        usual=0.43 + odds / 100,
        **({"versions": VERSIONS} if "versions" in Assessed.__slots__ else {}),  # type: ignore
    )
    features = {name: random.gauss(50.0, 3.0) for name in SENSORS}
    return Reading(asset_id, None, START + number * EVERY, features, assessed)


@contextmanager
def database(kind: str) -> Iterator[str]:
    """Yield the URL of a new database."""
    if kind == "sqlite":
        with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
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
    history, asset = History(url), "site/line/pump-1"
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


def main() -> None:
    """Print all figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--assets", type=int, default=50)
    parser.add_argument("--readings", type=int, default=1000, help="of each asset")
    arguments = parser.parse_args()
    random.seed(0)
    for kind in ("sqlite", "postgresql"):
        with database(kind) as url:
            size = bytes_per_reading(url, arguments.assets, arguments.readings)
            print(f"{kind}: {size:.0f} bytes a reading")
            print(f"{kind}: { ({name: round(cost) for name, cost in road(url).items()}) } us")


if __name__ == "__main__":
    main()
