"""Several readings of one time, as of a sender whose clock has whole seconds."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from one_machine import (
    IN_ALARM,
    QUICKEST,
    SENSORS,
    Request,
    at,
    first,
    machine,
    one_by_one,
    readings,
    same_asset,
    shifted,
    states,
    statuses_of,
    trained,
)

from vigie.errors import InvalidDataError
from vigie.services.anomaly_detection_service import AnomalyDetectionService

SOUND = 100
ROWS = shifted(machine(300, seed=5), "flow", 6.0, slice(SOUND, None))
"""Thirty seconds, ten readings each; from the tenth second on the flow is off."""
SECONDS = [float(place // 10) for place in range(len(ROWS))]


@pytest.fixture
def service(new_history: Callable[[], str], tmp_path: Path) -> Iterator[AnomalyDetectionService]:
    service = trained(tmp_path, QUICKEST, history_url=new_history())
    yield service
    service.close()


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [one.getMessage() for one in caplog.records if one.levelno == logging.WARNING]


def ten_a_second(asset_id: str) -> list[Request]:
    return readings(asset_id, ROWS, SECONDS)


def test_all_readings_of_one_time_in_a_batch_count_as_they_do_in_a_file(service, caplog):
    requests = ten_a_second("pump")
    results = service.detect_anomalies_batch(requests)
    times = np.array([at(second).replace(tzinfo=None) for second in SECONDS], "datetime64[us]")
    judged = service.detect_table(pd.DataFrame(ROWS, columns=SENSORS), times)
    assert SOUND <= first(states(results), IN_ALARM) < SOUND + 20
    for result, status, request in zip(results, statuses_of(judged), requests, strict=True):
        assert result.asset.state is status.state
        assert result.timestamp == request["timestamp"]
        assert result.asset.since == status.since.astype(datetime).replace(tzinfo=UTC)
        assert not result.replaced
    evidence = [np.nan if r.asset.evidence is None else r.asset.evidence for r in results]
    np.testing.assert_allclose(evidence, 1.0 - judged.asset_p_values, atol=1e-9)
    assert service.n_replaced == 0
    assert warnings_in(caplog) == []


def test_batches_that_end_with_a_second_go_on_from_each_other_also_after_a_restart(
    service, tmp_path
):
    at_once = service.detect_anomalies_batch(ten_a_second("pump"))
    requests, results = ten_a_second("fan"), []
    for start in range(0, len(requests), 50):
        results += service.detect_anomalies_batch(requests[start : start + 50])
        service.close()
        # Nothing is known but what the history holds.
        service = trained(tmp_path, QUICKEST, history_url=service.settings.history_url)
    for told, expected in zip(results, at_once, strict=True):
        assert same_asset(told, expected)


@pytest.mark.parametrize("n_before", [300, 150, 107])
def test_a_batch_that_is_sent_again_is_answered_as_before_in_silence(service, n_before, caplog):
    requests = ten_a_second("pump")[:n_before]
    once = service.detect_anomalies_batch(requests)
    for _ in range(2):
        again = service.detect_anomalies_batch(requests)
        assert not any(result.replaced for result in again)
        for told, expected in zip(again, once, strict=True):
            assert same_asset(told, expected)
    assert service.n_replaced == 0
    assert warnings_in(caplog) == []


def test_a_single_reading_that_takes_the_place_of_another_says_so(service, caplog):
    requests = ten_a_second("pump")[:40]
    results = one_by_one(service, requests)
    assert [result.replaced for result in results] == [place % 10 > 0 for place in range(40)]
    assert service.n_replaced == 36
    [said] = warnings_in(caplog)
    assert said.startswith("pump: ")
    assert "finer timestamps" in said
    assert "one batch" in said
    # The same reading once more is one that is sent again: nothing is lost.
    again = service.detect_anomaly(requests[-1])
    assert not again.replaced
    assert same_asset(again, results[-1])
    assert service.n_replaced == 36
    one_by_one(service, ten_a_second("fan")[:4])
    assert [one.split(":")[0] for one in warnings_in(caplog)] == ["pump", "fan"]


@pytest.mark.parametrize("at_once", [1, 3, 7, 25])
def test_an_alarm_does_not_end_because_its_reading_was_replaced(service, at_once):
    requests, results = ten_a_second("pump"), []
    for start in range(0, len(requests), at_once):
        part = requests[start : start + at_once]
        results += service.detect_anomalies_batch(part)
        # Nor is it lost when the sender repeats itself.
        again = service.detect_anomalies_batch(part)
        for told, expected in zip(again, results[start:], strict=True):
            assert same_asset(told, expected)
    found = states(results)
    raised = first(found, IN_ALARM)
    assert SOUND <= raised < 250
    assert set(found[raised:]) == {IN_ALARM}
    [since] = {result.asset.since for result in results[raised:]}
    assert since == requests[raised]["timestamp"]


def test_an_alarm_ends_by_calm_readings_of_one_time_too(service):
    one_by_one(service, readings("pump", ROWS[SOUND - 30 : SOUND + 60]))
    calm = readings("pump", machine(80, seed=8))
    found = states(one_by_one(service, [one | {"timestamp": at(200)} for one in calm[:1]]))
    assert found == [IN_ALARM]
    later = [one | {"timestamp": at(201 + place // 2)} for place, one in enumerate(calm)]
    assert IN_ALARM not in states(one_by_one(service, later))[-20:]


def test_readings_of_one_time_stay_in_a_batch_without_a_history(tmp_path):
    service = trained(tmp_path, QUICKEST, history_enabled=False)
    results = service.detect_anomalies_batch(ten_a_second("pump"))
    assert set(states(results)[SOUND + 30 :]) == {IN_ALARM}
    assert len({result.asset.evidence for result in results[SOUND : SOUND + 10]}) == 10


def test_assets_and_groups_of_sensors_in_a_batch_are_apart(service):
    alone = service.detect_anomalies_batch(ten_a_second("pump"))
    mixed = [
        one | extra
        for one in ten_a_second("fan")
        for extra in ({}, {"sensor_id": "left"}, {"asset_id": "fan 2"})
    ]
    results = service.detect_anomalies_batch(mixed)
    for place, result in enumerate(results):
        assert same_asset(result, alone[place // 3])
    assert service.n_replaced == 0


def test_readings_whose_times_are_a_microsecond_apart_take_no_place_of_each_other(service):
    rows = machine(6, seed=9)
    # Three of one time, and three just after it.
    seconds = [0.0, 0.0, 0.0, 1e-6, 1e-6, 2e-6]
    for _ in range(2):
        results = service.detect_anomalies_batch(readings("pump", rows, seconds))
        assert [result.timestamp for result in results] == [at(second) for second in seconds]
        assert not any(result.replaced for result in results)
    with service._detection.history().transaction("pump", None) as transaction:
        kept = transaction.around(at(10), None, 100)
    assert [list(reading.features.values()) for reading in kept] == rows.tolist()
    assert [reading.measured for reading in kept] == [at(second) for second in seconds]


def test_two_readings_of_the_last_moment_of_all_are_refused(service):
    last = datetime.max.replace(tzinfo=UTC)
    requests = [one | {"timestamp": last} for one in ten_a_second("pump")[:2]]
    with pytest.raises(InvalidDataError, match=r"\[1\]\.timestamp"):
        service.detect_anomalies_batch(requests)
    assert not service.detect_anomaly(requests[0]).replaced
    assert service.detect_anomaly(requests[1]).replaced
