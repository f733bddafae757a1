"""Batches with one reading of each of many assets get the answers that single readings get."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from one_machine import (
    IN_ALARM,
    MODELS,
    ROW_MODELS,
    SENSORS,
    Request,
    machine,
    one_by_one,
    readings,
    shifted,
)
from quick_training import CHEAP

from vigie.config import Settings
from vigie.history.events import EventFilter
from vigie.models.anomaly_data import AnomalyDetectionResult, AssetState
from vigie.services.anomaly_detection_service import AnomalyDetectionService
from vigie.serving import saved

N, RESTART = 150, 110
Start = Callable[..., AnomalyDetectionService]


def fleet() -> list[list[Request]]:
    """Batches of a fleet whose machines have faults, gaps, late starts and bad sensors."""
    rows = [machine(N, seed) for seed in range(12)]
    rows[1] = shifted(rows[1], "flow", 6.0, slice(60, 100))
    rows[2][40:80, 3] = rows[2][40, 3]
    rows[3] = shifted(rows[3], "vibration", 30.0, slice(90, 91))
    for row in range(50, N):
        rows[4][row] += [0.0, 0.0, 0.0, 0.02 * (row - 50), 0.0]
    rows[5][70:, 0] += 2000.0
    requests = [readings(f"pump-{number}", of_one) for number, of_one in enumerate(rows)]
    requests[6] = readings("pump-6", rows[6], [s + 7200.0 * (s >= 75) for s in range(N)])
    del requests[7][30]["features"]["pressure"]
    requests[8][45]["features"]["current"] = 1e7
    # Late, and sent again.
    requests[9][50], requests[9][51] = requests[9][51], requests[9][50]
    requests[9][90] = requests[9][89]
    for request in requests[10]:
        request["sensor_id"] = "bench"
    together = [list(batch) for batch in zip(*requests, strict=True)]
    for number, batch in enumerate(together):
        if number < 20:
            del batch[11]
        if 100 <= number < 103:
            del batch[4:]
    return together


def in_context(batches: Sequence[Sequence[Request]]) -> None:
    for batch in batches:
        for request in (one for one in batch if "context" not in one):
            request["context"] = {"speed": request["features"].pop("speed")}


@pytest.fixture(
    scope="module",
    params=[(MODELS, ()), (ROW_MODELS, ()), (MODELS, ("speed",))],
    ids=["all models", "models of rows", "in context"],
)
def learnt(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> tuple[Path, bool]:
    """A folder with models of the machines, and whether they judge them given their speed."""
    folder, (models, context) = tmp_path_factory.mktemp("models"), request.param
    settings = Settings(**(CHEAP | {"state_dir": folder / "state", "history_enabled": False}))
    service = AnomalyDetectionService(settings)
    service.train_all_models(machine(500, seed=0), SENSORS, models, context_features=context)
    serving = service.served.current.for_everything.served
    saved.save([served.model for served in serving.values()], folder / "saved")
    service.close()
    return folder / "saved", bool(context)


@pytest.fixture
def start(learnt: tuple[Path, bool], tmp_path: Path) -> Iterator[Start]:
    """Start a service with these models."""
    started: list[AnomalyDetectionService] = []

    def new(**changed: Any) -> AnomalyDetectionService:
        settings = CHEAP | {"state_dir": tmp_path, "faulty_values": "impute"} | changed
        service = AnomalyDetectionService(Settings(**settings))
        service.load_models(learnt[0])
        started.append(service)
        return service

    yield new
    for service in started:
        service.close()


def events_of(service: AnomalyDetectionService) -> list[dict[str, Any]]:
    events, _ = service.events.newest(EventFilter(), 1000)
    assert events
    told = [event.model_dump(exclude={"id"}) for event in events]
    return sorted(told, key=lambda event: (event["asset_id"], event["start"], event["kind"]))


def test_they_are_the_same_with_a_history(
    start: Start, learnt: tuple[Path, bool], new_history: Callable[[], str], tmp_path: Path
) -> None:
    batches, url = fleet(), new_history()
    if learnt[1]:
        in_context(batches)
    together, single = start(history_url=url), start(history_url=f"sqlite:///{tmp_path}/single.db")
    results: list[AnomalyDetectionResult] = []

    for number, batch in enumerate(batches):
        if number == RESTART:
            together = start(history_url=url)
        answered = together.detect_anomalies_batch(batch)
        assert answered == one_by_one(single, batch), f"batch {number}"
        results += answered

    assert events_of(together) == events_of(single)
    seen = {result.asset.state for result in results}
    assert seen >= {IN_ALARM, AssetState.WATCH, AssetState.BAD_DATA, AssetState.NORMAL}
    assert any(result.replaced or result.imputed for result in results)


def test_they_are_the_same_where_false_alarms_are_asked_for(
    start: Start, learnt: tuple[Path, bool], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    batches = fleet()
    if learnt[1]:
        in_context(batches)
    asked = {"false_alarms_per_month": 30.0}
    together = start(history_url=f"sqlite:///{tmp_path}/together.db", **asked)
    single = start(history_url=f"sqlite:///{tmp_path}/single.db", **asked)

    for number, batch in enumerate(batches[:RESTART]):
        answered = together.detect_anomalies_batch(batch)
        assert answered == one_by_one(single, batch), f"batch {number}"

    told = Counter(record.getMessage() for record in caplog.records)
    doubts = {message: n for message, n in told.items() if "no promise" in message}
    # Each of the two warns once of each machine.
    assert len(doubts) >= 11
    assert set(doubts.values()) == {2}


def test_they_are_the_same_without_a_history(start: Start, learnt: tuple[Path, bool]) -> None:
    batches = fleet()[:5]
    if learnt[1]:
        in_context(batches)

    together, single = start(history_enabled=False), start(history_enabled=False)

    for batch in batches:
        assert together.detect_anomalies_batch(batch) == one_by_one(single, batch)
