"""One history of several services: as processes, and on a database that freezes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import old_histories
import pytest
from forked import forking
from one_machine import (
    FAULTY,
    IN_ALARM,
    NORMAL,
    QUICKEST,
    one_by_one,
    readings,
    same_asset,
    states,
    trained,
)
from sqlalchemy import create_engine, text

from vigie.assessment.status import READINGS
from vigie.errors import VigieError
from vigie.history.store import History
from vigie.models.anomaly_data import AnomalyDetectionResult, AssetState
from vigie.services.anomaly_detection_service import AnomalyDetectionService

DONE = ["done", "done"]


def test_a_database_that_freezes_holds_no_reading_up(tmp_path, postgresql, caplog, monkeypatch):
    monkeypatch.setattr("vigie.services.detection.QUIET_AFTER_FAILURE_S", 0.0)
    monkeypatch.setattr("vigie.history.postgresql.PatientConnection.patience_s", 0.5)
    service = trained(tmp_path, QUICKEST, history_url=postgresql.new_database())
    requests = readings("pump", FAULTY[: READINGS + 2])
    *_, before = service.detect_anomalies_batch(requests[:READINGS])
    with postgresql.frozen(), ThreadPoolExecutor(1) as pool:
        [frozen] = pool.submit(one_by_one, service, requests[-2:-1]).result(timeout=30)
    [after] = one_by_one(service, requests[-1:])
    assert states([before, frozen, after]) == [NORMAL, AssetState.UNKNOWN, NORMAL]
    [error] = [one for one in caplog.records if one.levelname == "ERROR"]
    assert "Readings are assessed, but not stored" in error.getMessage()
    assert "1 readings were not stored" in caplog.text
    service.close()


# Two processes on one database


def _judge_in_a_process(connection: Connection, together: Barrier, folder: Path) -> None:
    """Do what is asked, as a service does; answer with the results, or with what went wrong."""
    service: AnomalyDetectionService | None = None
    while (message := connection.recv()) is not None:
        kind, content = message
        answer: Any = "done"
        try:
            if kind == "serve":
                service = trained(folder, QUICKEST, history_url=content)
            elif kind == "make":
                together.wait()
                History(content).close()
            else:
                assert service is not None
                if kind == "race":
                    together.wait()
                answer = [one.model_dump(mode="json") for one in one_by_one(service, content)]
                service.close()
        except (VigieError, OSError, ValueError) as error:
            answer = repr(error)
        connection.send(answer)


class Worker:
    """A second service, as a process of its own."""

    def __init__(self, together: Barrier, folder: Path):
        self._connection, other = forking().Pipe()
        self._process = forking().Process(
            target=_judge_in_a_process, args=(other, together, folder), daemon=True
        )
        self._process.start()
        other.close()

    def tell(self, kind: str, content: Any) -> None:
        self._connection.send((kind, content))

    def answer(self) -> Any:
        assert self._connection.poll(120), "no answer"
        return self._connection.recv()

    def end(self) -> None:
        self._connection.send(None)
        self._process.terminate()
        self._process.join(30)


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Worker]]:
    """Two service processes."""
    together = forking().Barrier(2)
    folder = tmp_path_factory.mktemp("workers")
    workers = [Worker(together, folder) for _ in range(2)]
    yield workers
    for worker in workers:
        worker.end()


def all_do(workers: Sequence[Worker], kind: str, url: str) -> list[Any]:
    """Tell all of them the same, and return their answers."""
    for worker in workers:
        worker.tell(kind, url)
    return [worker.answer() for worker in workers]


def rows_kept(url: str, asset_id: str) -> list[Any]:
    """Return the readings that a database holds of an asset, in the order in which they came."""
    engine = create_engine(url)
    query = text(
        "SELECT measured_us FROM readings JOIN assets ON assets.id = asset "
        "WHERE asset_id = :asset_id ORDER BY readings.id"
    )
    with engine.connect() as connection:
        rows = connection.execute(query, {"asset_id": asset_id}).all()
    engine.dispose()
    return list(rows)


def agree(told: dict[str, Any], expected: AnomalyDetectionResult) -> bool:
    return same_asset(AnomalyDetectionResult.model_validate(told), expected)


def test_two_processes_that_take_turns_are_as_one(workers, new_history, tmp_path):
    url = new_history()
    assert all_do(workers, "serve", url) == DONE
    requests = readings("pump", FAULTY[40:120])
    told = []
    for place, request in enumerate(requests):
        worker = workers[place % 2]
        worker.tell("judge", [request])
        answer = worker.answer()
        assert isinstance(answer, list), answer
        told += answer
    service = trained(tmp_path, QUICKEST)
    expected = one_by_one(service, requests)
    service.close()
    assert {NORMAL, IN_ALARM} <= set(states(expected))
    assert all(map(agree, told, expected))
    assert len(rows_kept(url, "pump")) == len(requests)


def test_two_processes_at_once_lose_nothing_and_leave_what_one_would(
    workers, new_history, tmp_path
):
    url = new_history()
    History(url).close()
    assert all_do(workers, "serve", url) == DONE
    requests = readings("pump", FAULTY[40:110])
    for number, worker in enumerate(workers):
        worker.tell("race", requests[number::2])
    answers = [worker.answer() for worker in workers]
    assert all(isinstance(answer, list) for answer in answers), answers
    told = {result["timestamp"]: result for answer in answers for result in answer}
    rows = rows_kept(url, "pump")
    by_time = {int(one["timestamp"].timestamp() * 1e6): one for one in requests}
    assert sorted(row.measured_us for row in rows) == sorted(by_time)

    # One process that is given them in the order in which they got through says the same of each.
    service = trained(tmp_path, QUICKEST)
    for row in rows:
        [expected] = one_by_one(service, [by_time[row.measured_us]])
        assert agree(told[expected.model_dump(mode="json")["timestamp"]], expected)
    service.close()


def test_two_processes_may_come_to_a_new_database_at_the_same_moment(workers, new_history):
    for _ in range(20):
        assert all_do(workers, "make", new_history()) == DONE


def test_two_processes_may_come_to_an_old_database_at_the_same_moment(workers, new_history):
    for _ in range(10):
        old_histories.make(url := new_history(), "first", [{"rms": 1.0}] * 5)
        assert all_do(workers, "make", url) == DONE
        assert len(rows_kept(url, "pump")) == 5
