"""Two services on one history, which take the readings of an asset in turns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import cycle
from pathlib import Path

import pytest
from one_machine import (
    IN_ALARM,
    MODELS,
    ROW_MODELS,
    Request,
    machine,
    readings,
    saved_models,
    shifted,
)
from quick_training import CHEAP

from vigie.config import Settings
from vigie.models.anomaly_data import AnomalyDetectionResult
from vigie.services.anomaly_detection_service import AnomalyDetectionService

ROWS = shifted(machine(360, seed=5), "flow", 6.0, slice(150, 190))
ROWS[60:110, 3] = ROWS[60, 3]
"""A sensor is frozen for a while, and later the flow is off."""
PAUSE = 280
SECONDS = [second + (7200.0 if second >= PAUSE else 0.0) for second in range(len(ROWS))]
PARTS = (1, 1, 3, 1, 12, 40, 1, 2, 110, 1)
"""Sizes of requests, again and again."""

Ask = Callable[[], AnomalyDetectionService]


@pytest.fixture(scope="module", params=[MODELS, ROW_MODELS], ids=["all models", "models of rows"])
def models(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """A folder with models of the machine."""
    return saved_models(tmp_path_factory.mktemp("models"), request.param)


@pytest.fixture
def replica(models: Path, tmp_path: Path) -> Iterator[Callable[[str], AnomalyDetectionService]]:
    """Start a service with these models on a history."""
    started: list[AnomalyDetectionService] = []

    def start(history: str) -> AnomalyDetectionService:
        settings = CHEAP | {
            "state_dir": tmp_path,
            "history_url": history,
            "faulty_values": "impute",
        }
        service = AnomalyDetectionService(Settings(**settings))
        service.load_models(models)
        started.append(service)
        return service

    yield start
    for service in started:
        service.close()


def answered(next_one: Ask, requests: Sequence[Request]) -> list[AnomalyDetectionResult]:
    """Return the answers to requests of several readings, each by the next service."""
    results: list[AnomalyDetectionResult] = []
    sizes = cycle(PARTS)
    while len(results) < len(requests):
        part = requests[len(results) : len(results) + next(sizes)]
        results += next_one().detect_anomalies_batch(part)
    return results


def test_they_answer_as_one_that_reads_everything_from_the_history(
    new_history: Callable[[], str], replica: Callable[[str], AnomalyDetectionService]
) -> None:
    requests = readings("pump", ROWS, SECONDS)
    del requests[240]["features"]["pressure"]
    two, one = new_history(), new_history()
    both = cycle([replica(two), replica(two)])

    in_turns = answered(lambda: next(both), requests)
    anew = answered(lambda: replica(one), requests)

    assert in_turns == anew
    assert any(result.asset.state is IN_ALARM for result in in_turns)
    assert any(result.frozen for result in in_turns)


def test_what_one_has_replaced_the_other_does_not_go_on_from(
    new_history: Callable[[], str], replica: Callable[[str], AnomalyDetectionService]
) -> None:
    requests = readings("pump", ROWS[:60])
    [replaced] = readings("pump", shifted(ROWS[39:40], "flow", 30.0, slice(None)), [39.0])
    two, one = new_history(), new_history()
    first, second = replica(two), replica(two)

    first.detect_anomalies_batch(requests[:40])
    second.detect_anomalies_batch([replaced, *requests[40:50]])
    in_turns = first.detect_anomalies_batch(requests[50:])
    for part in (requests[:40], [replaced, *requests[40:50]]):
        replica(one).detect_anomalies_batch(part)

    assert in_turns == replica(one).detect_anomalies_batch(requests[50:])
