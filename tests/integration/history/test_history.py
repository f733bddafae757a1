"""The history: tables of any earlier version, and readings that have become too old."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import old_histories
import pytest
from faults import eventually
from quick_training import CHEAP
from sqlalchemy import create_engine, inspect, make_url, text

from vigie import samples
from vigie.config import Settings
from vigie.errors import HistoryError
from vigie.history.records import Assessed, Reading, Standing, microseconds
from vigie.history.retention import PORTION, prune
from vigie.history.schema import NEWEST, VERSION_TABLE
from vigie.history.store import SPARED, History, Revision
from vigie.models.anomaly_data import AssetState
from vigie.services.anomaly_detection_service import AnomalyDetectionService

START = datetime.fromtimestamp(old_histories.START_US / 1e6, UTC)
FEATURES = [{"rms": float(second)} for second in range(30)]
NEVER = threading.Event()
every_layout = pytest.mark.parametrize("layout", old_histories.LAYOUTS)

NewHistory = Callable[[], str]


def at(second: float) -> datetime:
    return START + timedelta(seconds=second)


def kept(history: History, asset_id: str, sensor_id: str | None = None) -> list[Reading]:
    with history.transaction(asset_id, sensor_id) as transaction:
        return transaction.around(at(1e6), at(1e6), 100_000)


def keep(history: History, asset_id: str, seconds: range, sensor_id: str | None = None) -> None:
    with history.transaction(asset_id, sensor_id) as transaction:
        transaction.append(
            Reading(asset_id, sensor_id, at(second), {"rms": 1.0}, Assessed(p_value=0.5))
            for second in seconds
        )


def execute(url: str, *statements: str) -> None:
    engine = create_engine(url)
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))
    engine.dispose()


def tables(url: str) -> Any:
    """Return what a database says of its tables."""
    engine = create_engine(url)
    found = inspect(engine)
    described = {
        table: (
            [
                {key: str(value) for key, value in column.items()}
                for column in found.get_columns(table)
            ],
            found.get_pk_constraint(table),
            found.get_unique_constraints(table),
            # The condition of an index is an object of its own each time.
            json.dumps(found.get_indexes(table), default=str),
        )
        for table in found.get_table_names()
    }
    engine.dispose()
    return described


# Tables of earlier versions


@every_layout
def test_a_history_of_an_earlier_version_is_as_a_new_one_with_its_readings(
    layout: str, new_history: NewHistory
) -> None:
    old, new = new_history(), new_history()
    old_histories.make(old, layout, FEATURES)
    History(new).close()
    history = History(old)

    assert tables(old) == tables(new)
    for asset in (("pump", None), ("fan", "left")):
        readings = kept(history, *asset)
        # Of a reading that was sent twice, the last.
        assert [reading.features for reading in readings] == FEATURES
        assert [reading.timestamp for reading in readings] == [at(n) for n in range(30)]
        assert readings[0].assessed == Assessed(final_score=0.5, is_anomaly=False)
    keep(history, "pump", range(29, 31))
    assert [reading.features["rms"] for reading in kept(history, "pump")[-3:]] == [28.0, 1.0, 1.0]
    history.close()


@every_layout
def test_a_service_goes_on_from_the_history_of_an_earlier_version(
    layout: str, new_history: NewHistory, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bench, url = samples.healthy(200), new_history()
    rows = [dict(zip(bench.feature_names, row, strict=True)) for row in bench.data.tolist()]
    old_histories.make(url, layout, rows[:30])
    service = AnomalyDetectionService(Settings(history_url=url, state_dir=tmp_path, **CHEAP))
    service.train_all_models(
        bench.data, bench.feature_names, model_names=["one_class_svm", "lstm_autoencoder"]
    )

    [result] = service.detect_anomalies_batch(
        [{"asset_id": "pump", "features": rows[30], "timestamp": at(30)}]
    )

    # The window of the LSTM autoencoder is full of what the earlier version has kept.
    assert set(result.models) == {"one_class_svm", "lstm_autoencoder"}
    assert "not stored" not in caplog.text
    service.close()


RICH = {
    "final_score": 0.999,
    "is_anomaly": True,
    "p_value": 0.001,
    "state": "alarm",
    "since": "2026-01-05T08:00:00.000000",
    "began": "2026-01-05T07:00:00.000000",
    "calm": 2,
    "usual": 0.25,
    "held": {"rms": 300},
    "shift_us": 1,
    "went_on_from": {"state": None, "since": None, "began": None, "calm": 0, "usual": 0.4343},
}
"""A result as versions 0002 to 0005 have stored it."""


def test_what_json_held_is_packed_without_a_loss(new_history: NewHistory) -> None:
    url, values = new_history(), {"rms": 0.1 + 0.2, "mode": "auto", "door": True, "speed": None}
    # More than the upgrade reads at once.
    old_histories.make(url, "before revisions", FEATURES * 100)
    execute(
        url,
        f"UPDATE readings SET features = '{json.dumps(values)}', result = '{json.dumps(RICH)}' "
        "WHERE asset_id = 'pump' AND measured_us = "
        f"{old_histories.START_US + 2_999_000_000}".replace(":", r"\:"),
    )
    history = History(url)
    *others, rich = kept(history, "pump")
    assert rich.features == values
    assert rich.context == {"mode", "door"}
    assert rich.assessed == Assessed(
        **RICH | {"state": AssetState.ALARM, "went_on_from": Standing(None, None, None, 0, 0.4343)}
    )
    assert [reading.features for reading in others] == (FEATURES * 100)[:-1]
    with history.transaction("pump", None) as transaction:
        assert transaction.revision(1) == Revision(1, 6000, microseconds(at(2999)))
    history.close()


TAKEN = {"sqlite": "_alembic_tmp_readings", "postgresql": "one_reading_at_a_time"}
"""A name that the change needs."""


def test_tables_that_cannot_be_changed_stay_as_they_were(new_history: NewHistory) -> None:
    url = new_history()
    old_histories.make(url, "first", FEATURES)
    taken = TAKEN[make_url(url).get_backend_name()]
    execute(url, f"CREATE TABLE {taken} (taken INTEGER)")
    before = tables(url)

    with pytest.raises(HistoryError, match="cannot be used"):
        History(url)
    assert tables(url) == before

    execute(url, f"DROP TABLE {taken}")
    history = History(url)
    assert [reading.features for reading in kept(history, "pump")] == FEATURES
    history.close()


def test_many_histories_may_be_made_at_once_in_one_process(new_history: NewHistory) -> None:
    urls = [new_history() for _ in range(8)]
    with ThreadPoolExecutor(len(urls)) as pool:
        for history in pool.map(History, urls):
            history.close()
    assert all(tables(url) == tables(urls[0]) for url in urls)


def test_the_tables_of_a_newer_version_are_refused_and_left_alone(new_history: NewHistory) -> None:
    url = new_history()
    History(url).close()
    execute(url, f"UPDATE {VERSION_TABLE} SET version_num = '9999'")

    with pytest.raises(HistoryError, match="newer Vigie") as refused:
        History(url)

    assert "restore the backup" in str(refused.value)
    execute(url, f"UPDATE {VERSION_TABLE} SET version_num = '{NEWEST}' WHERE version_num = '9999'")
    History(url).close()


def test_a_history_that_is_up_to_date_is_opened_without_alembic(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'history.db'}"
    History(url).close()
    code = (
        "import sys; from vigie.history.store import History; "
        f"History({url!r}).close(); print('alembic' in sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "False"


# Readings that have become too old


def test_what_is_too_old_is_forgotten_but_never_the_newest_of_an_asset(
    new_history: NewHistory,
) -> None:
    history = History(new_history())
    keep(history, "runs on", range(2500))
    keep(history, "runs on", range(2490, 2500), "left")
    keep(history, "stopped long ago", range(SPARED + 50))
    keep(history, "young", range(1900, 3100))

    n_deleted = prune(history, at(2000), NEVER)

    def left(asset_id: str, sensor_id: str | None = None) -> tuple[int, datetime]:
        readings = kept(history, asset_id, sensor_id)
        return len(readings), readings[0].timestamp

    # The newest thousand are later than 1500, so it is they that count.
    assert left("runs on") == (SPARED, at(1500))
    assert left("runs on", "left") == (10, at(2490))
    assert left("stopped long ago") == (SPARED, at(50))
    assert left("young") == (1100, at(2000))
    assert n_deleted == 1500 + 50 + 100
    assert prune(history, at(2000), NEVER) == 0
    history.close()


def test_a_portion_is_deleted_at_a_time_so_that_readings_come_in_between(
    new_history: NewHistory,
) -> None:
    history = History(new_history())
    keep(history, "pump", range(SPARED + 3 * PORTION))
    with history.transaction("pump", None) as transaction:
        assert transaction.delete_before(at(1e6), PORTION) == PORTION
    assert kept(history, "pump")[0].timestamp == at(PORTION)
    stopped = threading.Event()
    stopped.set()
    assert prune(history, at(1e6), stopped) == 0
    history.close()


def test_no_verdict_depends_on_what_was_forgotten(new_history: NewHistory, tmp_path: Path) -> None:
    bench = samples.faulty("bearing_wear", 1400, onset=1000)
    requests = [
        {
            "asset_id": "pump",
            "features": dict(zip(bench.feature_names, row, strict=True)),
            "timestamp": at(second),
        }
        for second, row in enumerate(bench.data.tolist())
    ]
    told = []
    for place, forgets in (("one", False), ("other", True)):
        url = new_history()
        service = AnomalyDetectionService(
            Settings(history_url=url, state_dir=tmp_path / place, **CHEAP)
        )
        service.train_all_models(
            samples.healthy(300).data, bench.feature_names, model_names=["one_class_svm"]
        )
        service.detect_anomalies_batch(requests[:1200])
        if forgets:
            history = History(url)
            assert prune(history, at(1e6), NEVER) == 1200 - SPARED
            history.close()
        told.append([service.detect_anomalies_batch([one])[0] for one in requests[1200:1250]])
        service.close()
    for result, other in zip(*told, strict=True):
        assert result.final_score == other.final_score
        assert result.asset == other.asset


def test_a_running_service_forgets_by_itself(
    untracked: Settings, running: Callable[..., Any]
) -> None:
    url = f"sqlite:///{untracked.state_dir.resolve() / 'history.db'}"
    untracked.state_dir.mkdir()
    history = History(url)
    keep(history, "pump", range(-100_000_000, -100_000_000 + SPARED + 2 * PORTION))

    settings = untracked.model_copy(update={"history_retention_days": 30.0})
    with running(settings) as service:
        eventually(lambda: len(kept(history, "pump")) == SPARED)
        assert service.get("/health").is_success
    history.close()


def test_a_history_that_is_deleted_under_a_service_is_begun_anew_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bench, file = samples.healthy(300), tmp_path / "history.db"
    service = AnomalyDetectionService(Settings(history_url=f"sqlite:///{file}", **CHEAP))
    service.train_all_models(bench.data, bench.feature_names, model_names=["one_class_svm"])
    row = dict(zip(bench.feature_names, bench.data[0].tolist(), strict=True))
    reading = {"asset_id": "pump", "features": row}
    service.detect_anomaly({**reading, "timestamp": at(0)})
    file.unlink()
    service.detect_anomaly({**reading, "timestamp": at(1)})
    service.detect_anomaly({**reading, "timestamp": at(2)})
    history = History(f"sqlite:///{file}")
    assert [one.timestamp for one in kept(history, "pump")] == [at(1), at(2)]
    history.close()
    service.close()
    assert sum("was deleted or replaced" in record.message for record in caplog.records) == 1
