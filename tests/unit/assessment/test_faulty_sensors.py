"""Sensors that fail in live data: refused by name, gone on without, or said to stand still."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest
from faulty_machine import (
    AFTER,
    HEALTHY,
    MODELS,
    RANGES,
    SENSORS,
    Request,
    broken,
    each_fault,
    machine,
    reading,
    recording,
    stuck,
    trained,
)
from quick_training import WINDOW

from vigie.assessment.status import READINGS
from vigie.detectors.data.quality import frozen_after
from vigie.errors import InvalidDataError
from vigie.models.anomaly_data import AnomalyDetectionResult, AssetState
from vigie.services.anomaly_detection_service import AnomalyDetectionService


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AnomalyDetectionService]:
    """A service that refuses faulty values, as it does unless told otherwise."""
    service = trained(tmp_path_factory.mktemp("strict"), sensor_ranges=RANGES)
    yield service
    service.close()


@pytest.fixture(scope="module")
def lenient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AnomalyDetectionService]:
    """A service that goes on without a faulty sensor."""
    service = trained(
        tmp_path_factory.mktemp("lenient"), sensor_ranges=RANGES, faulty_values="impute"
    )
    yield service
    service.close()


@pytest.fixture
def asset(request: pytest.FixtureRequest) -> str:
    """A machine that only this test reads."""
    return str(request.node.name)


def one_by_one(
    service: AnomalyDetectionService, requests: list[Request]
) -> list[AnomalyDetectionResult]:
    return [service.detect_anomaly(request) for request in requests]


# Refused


@each_fault
def test_a_faulty_value_is_refused_by_the_name_of_its_sensor(strict, asset, sensor, value, reason):
    with pytest.raises(InvalidDataError) as caught:
        strict.detect_anomaly(broken(reading(asset, HEALTHY[0]), sensor, value))
    assert caught.value.field == f"features.{sensor}"
    assert caught.value.remedy
    if reason != "missing":
        assert f"{value:g}" in caught.value.message
        assert "VIGIE_FAULTY_VALUES=impute" in caught.value.remedy


@each_fault
def test_in_a_batch_the_place_is_named_and_nothing_of_it_is_kept(
    strict, asset, sensor, value, reason
):
    requests = recording(asset, HEALTHY[:WINDOW])
    requests[2] = broken(requests[2], sensor, value)
    with pytest.raises(InvalidDataError) as caught:
        strict.detect_anomalies_batch(requests)
    assert caught.value.field == f"[2].features.{sensor}"
    [result] = strict.detect_anomalies_batch([reading(asset, HEALTHY[WINDOW], WINDOW)])
    assert f"1 of {WINDOW} rows" in result.abstained["lstm_autoencoder"]


def test_the_ends_of_a_range_are_within_it(strict, asset):
    for sensor, value in (("temperature", 150.0), ("temperature", -40.0), ("flow", 0.0)):
        result = strict.detect_anomaly(broken(reading(asset, HEALTHY[0]), sensor, value))
        assert result.is_anomaly
        assert result.sensors[0].name == sensor


def test_a_fault_of_the_machine_is_no_fault_of_the_sensor(strict, asset):
    # Thirty times too large is grave, but no unit that anybody mixes up.
    result = strict.detect_anomaly(broken(reading(asset, HEALTHY[0]), "pressure", 120.0))
    assert result.is_anomaly
    assert result.sensors[0].name == "pressure"
    assert result.imputed == {}


def test_a_sensor_that_no_model_looks_at_may_read_anything(strict, asset):
    for value in (None, 7.0, 1e9):
        result = strict.detect_anomaly(broken(reading(asset, HEALTHY[0]), "level", value))
        assert result.abstained.keys() <= {"lstm_autoencoder", "vector_autoregression"}


def test_the_rows_of_a_file_are_refused_by_row_and_sensor(strict):
    table = pd.DataFrame(HEALTHY[:20], columns=SENSORS)
    table.loc[13, "temperature"] = 999.0
    with pytest.raises(InvalidDataError) as caught:
        strict.detect_table(table)
    assert caught.value.field == "data[13].temperature"
    table.loc[13, "temperature"] = np.nan
    with pytest.raises(InvalidDataError) as caught:
        strict.detect_table(table)
    assert caught.value.field == "data[13].temperature"


# Gone on without


@each_fault
def test_a_reading_is_judged_without_its_faulty_sensor(lenient, asset, sensor, value, reason):
    requests = recording(asset, HEALTHY[:40])
    requests[30] = broken(requests[30], sensor, value)
    results = one_by_one(lenient, requests)
    assert [result.imputed for result in results] == [
        {sensor: reason} if place == 30 else {} for place in range(40)
    ]
    for result in results[WINDOW - 1 :]:
        assert result.models.keys() == MODELS
        assert result.abstained == {}
    assert {result.asset.state for result in results[READINGS:]} == {AssetState.NORMAL}
    assert not results[30].is_anomaly


@pytest.mark.parametrize("sensor", SENSORS)
def test_a_sensor_that_is_away_for_long_raises_no_alarm(lenient, asset, sensor):
    requests = [broken(one, sensor, None) for one in recording(asset, HEALTHY)]
    results = lenient.detect_anomalies_batch(requests)
    assert {result.asset.state for result in results[READINGS:]} == {AssetState.NORMAL}
    assert np.mean([result.is_anomaly for result in results]) <= 0.03
    assert all(result.imputed == {sensor: "missing"} for result in results)
    assert all(result.frozen == {} for result in results)


@pytest.mark.parametrize("away", [name for name in SENSORS if name != "pressure"])
def test_an_anomaly_in_another_sensor_is_still_found(lenient, asset, away):
    rows = HEALTHY.copy()
    rows[60:, 1] += 1.0
    requests = [broken(one, away, None) for one in recording(asset, rows)]
    results = lenient.detect_anomalies_batch(requests)
    for result in results[60:]:
        assert result.is_anomaly
        assert all(verdict.is_anomaly for verdict in result.models.values())
        assert result.sensors[0].name == "pressure"
    assert results[80].asset.state is AssetState.ALARM
    assert results[80].asset.sensors[0].name == "pressure"
    # What was not measured is not told as if it were.
    expected = {name: "missing" if name == away else None for name in SENSORS}
    for sensors in (results[80].sensors, results[80].asset.sensors):
        assert {sensor.name: sensor.imputed for sensor in sensors} == expected


def test_an_impossible_value_is_told_as_assumed_and_only_where_it_was_read(lenient, asset):
    rows = HEALTHY[:40].copy()
    rows[20:, 1] += 1.0
    requests = recording(asset, rows)
    requests[30] = broken(requests[30], "flow", 100_000.0)
    results = lenient.detect_anomalies_batch(requests)
    told = [next(s for s in result.sensors if s.name == "flow") for result in results[29:32]]
    assert [sensor.imputed for sensor in told] == [None, "wrong_unit", None]
    # Averages of the latest rows were measured.
    assert {sensor.imputed for sensor in results[31].asset.sensors} == {None}


def test_two_sensors_may_be_away_at_once(lenient, asset):
    request = broken(broken(reading(asset, HEALTHY[0]), "flow", None), "temperature", 900.0)
    result = lenient.detect_anomaly(request)
    assert result.imputed == {"flow": "missing", "temperature": "out_of_range"}
    assert not result.is_anomaly


def test_an_impossible_value_leaves_no_trace_in_later_windows(lenient, asset):
    requests = recording(asset, HEALTHY[:40])
    requests[30] = broken(requests[30], "flow", 100_000.0)
    told = one_by_one(lenient, requests)
    requests[30] = broken(requests[30], "flow", None)
    expected = one_by_one(lenient, [one | {"asset_id": f"{asset} 2"} for one in requests])
    for result, other in zip(told, expected, strict=True):
        assert result.final_score == other.final_score
        assert result.asset == other.asset


@pytest.mark.parametrize(
    "features",
    [
        dict.fromkeys(SENSORS),
        {"level": 0.5},
        {"temperature": 900.0, "pressure": 4e3, "flow": -1.0, "current": 1.2e4},
        {"temperature": None, "pressure": 4e3, "current": 1.2e4},
    ],
    ids=["null", "left out", "impossible", "of each kind"],
)
def test_a_reading_without_any_usable_value_is_refused_and_not_kept(lenient, asset, features):
    bad = {"asset_id": asset, "features": features}
    with pytest.raises(InvalidDataError) as caught:
        lenient.detect_anomaly(bad)
    assert caught.value.field.startswith("features")
    assert caught.value.remedy
    with pytest.raises(InvalidDataError) as caught:
        lenient.detect_anomalies_batch([reading(asset, HEALTHY[0]), bad])
    assert caught.value.field.startswith("[1].features")
    [result] = lenient.detect_anomalies_batch([reading(asset, HEALTHY[1], 1)])
    assert f"1 of {WINDOW} rows" in result.abstained["lstm_autoencoder"]


def test_a_value_that_is_not_a_number_is_a_missing_one(lenient, asset):
    result = lenient.detect_anomaly(broken(reading(asset, HEALTHY[0]), "flow", float("nan")))
    assert result.imputed == {"flow": "missing"}


def test_a_file_with_gaps_is_judged_as_its_rows_one_by_one(lenient, asset):
    rows = HEALTHY[:60].copy()
    rows[10:20, 2] = np.nan
    rows[30, 0] = 900.0
    rows[40:43, 1] *= 1000.0
    requests = recording(asset, rows)
    for place in range(10, 20):
        requests[place] = broken(requests[place], "flow", None)
    results = one_by_one(lenient, requests)
    judged = lenient.detect_table(pd.DataFrame(rows, columns=SENSORS))
    scores = [result.final_score for result in results]
    np.testing.assert_allclose(scores, 1.0 - judged.p_values, atol=1e-9)


# Standing still


def expected_frozen(n: int, first: int, length: int) -> list[dict[str, int]]:
    held = [place - first + 1 if first <= place < first + length else 1 for place in range(n)]
    return [{"flow": count} if count > AFTER else {} for count in held]


def test_a_sensor_that_stands_still_is_reported_with_how_long_and_not_before(strict, asset):
    results = strict.detect_anomalies_batch(recording(asset, stuck(110, 20, 70)))
    assert [result.frozen for result in results] == expected_frozen(110, 20, 70)
    assert results[20 + AFTER].frozen == {"flow": AFTER + 1}
    assert results[90].frozen == {}


def test_it_is_reported_at_the_same_reading_when_they_come_one_by_one(strict, asset):
    results = one_by_one(strict, recording(asset, stuck(110, 20, 70)))
    found = [list(result.frozen) for result in results]
    assert found == [list(frozen) for frozen in expected_frozen(110, 20, 70)]


def test_how_long_it_stands_still_is_counted_however_the_readings_come(strict, asset):
    results = one_by_one(strict, recording(asset, stuck(110, 20, 70)))
    assert [result.frozen for result in results] == expected_frozen(110, 20, 70)


def test_a_sensor_with_long_stays_is_reported_too_once_it_stands_still_for_longer(tmp_path):
    steps = np.repeat(np.random.default_rng(3).normal(60.0, 2.0, 12), 80)[:, None]
    rows = np.column_stack([steps, machine(len(steps), seed=4)[:, 1:]])
    after = int(frozen_after(rows)[0])
    assert 200 < after < 300
    service = trained(tmp_path, rows, ["one_class_svm"])
    live = machine(after + 60, seed=5)
    live[:, 0] = steps[0]
    requests = recording("pump", live)
    found = []
    for start in range(0, len(requests), 30):
        found += service.detect_anomalies_batch(requests[start : start + 30])
    service.close()
    assert all(result.frozen == {} for result in found[:after])
    assert all(list(result.frozen) == ["temperature"] for result in found[after:])


def test_a_coarse_sensor_and_a_switch_are_not_frozen(tmp_path):
    rng = np.random.default_rng(6)
    slow = np.cumsum(rng.normal(size=1200))
    coarse = np.round(60.0 + 3.0 * slow / np.abs(slow).max())
    switch = (np.arange(1200) // 150 % 2).astype(float)
    rows = np.column_stack([coarse, switch, machine(1200, seed=7)[:, 2:]])
    service = trained(tmp_path, rows[:800], ["one_class_svm"])
    results = service.detect_anomalies_batch(recording("pump", rows[800:]))
    # The switch may rest for any time.
    rows[:, 1] = 1.0
    results += service.detect_anomalies_batch(recording("valve", rows[800:]))
    service.close()
    assert all(result.frozen == {} for result in results)


def test_a_sensor_that_is_missing_in_between_does_not_stand_still(lenient, asset):
    requests = recording(asset, stuck(80, 0, 80))
    requests[20] = broken(requests[20], "flow", None)
    results = lenient.detect_anomalies_batch(requests)
    first = next(place for place, result in enumerate(results) if result.frozen)
    assert first == 21 + AFTER
