"""False alarms asked for by the month: what an operator gets, and what is no promise."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from one_machine import (
    FAULT,
    FAULTY,
    HEALTHY,
    IN_ALARM,
    SENSORS,
    machine,
    one_by_one,
    readings,
    same_asset,
    shifted,
    states,
    trained,
)
from one_machine import first as first_in
from quick_training import CHEAP

from vigie.assessment.assessment import Assessment
from vigie.assessment.false_alarms import FEWEST_ROWS, MOST_COUNTED, doubt
from vigie.backtest import backtest
from vigie.config import Settings
from vigie.detectors.training import MOST_CALIBRATED
from vigie.errors import InvalidDataError
from vigie.services.anomaly_detection_service import AnomalyDetectionService

MODELS = ("isolation_forest", "one_class_svm", "vector_autoregression")
VARIABLE = "VIGIE_FALSE_ALARMS_PER_MONTH"
MINUTE = 60.0


@pytest.fixture(scope="module")
def asking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AnomalyDetectionService]:
    """A service that asks for at most three false alarms a month."""
    service = trained(tmp_path_factory.mktemp("state"), MODELS, false_alarms_per_month=3)
    yield service
    service.close()


def judged(
    service: AnomalyDetectionService, rows: np.ndarray, step_s: float = MINUTE, **changed: Any
) -> Assessment:
    """Judge rows at equal intervals, with another rate where one is given."""
    return judged_at(service, rows, step_s * np.arange(len(rows)), **changed)


def judged_at(
    service: AnomalyDetectionService, rows: np.ndarray, seconds: np.ndarray, **changed: Any
) -> Assessment:
    times = np.datetime64("2026-01-05", "us") + (1e6 * seconds).astype("timedelta64[us]")
    stream = service.stream(SENSORS)
    stream.ensemble = replace(stream.ensemble, **changed)
    return stream.assess(pd.DataFrame(rows, columns=SENSORS), times).assessment


# What an operator notices


def test_a_clear_fault_is_an_alarm_with_few_false_alarms_and_healthy_rows_are_none(asking):
    found = judged(asking, FAULTY, false_alarms_per_month=0.3)
    alarmed = np.flatnonzero(found.in_alarm)
    assert FAULT.start < alarmed[0] < FAULT.start + 20
    assert not judged(asking, HEALTHY).in_alarm.any()


def test_who_asks_for_fewer_gets_fewer_alarms_and_later_ones_never_more(asking):
    rows = np.concatenate([machine(150, seed=seed) for seed in range(40)])
    # A small step now and then is what an alarm may or may not be raised for.
    for start in range(100, len(rows), 300):
        rows = shifted(rows, "flow", 1.2, slice(start, start + 40))
    counts = [
        int((np.diff(judged(asking, rows, false_alarms_per_month=asked).in_alarm) > 0).sum())
        for asked in (1000, 10, 1, 0.05)
    ]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > counts[-1]


def test_the_limit_is_that_of_the_rate_for_each_reading(asking):
    # Three a month, with 43 200 minutes in 30 days; five times as much, as it was measured.
    assert judged(asking, HEALTHY).alarm_limit == pytest.approx(5 * 3 / 43_200)
    assert judged(asking, HEALTHY, 10 * MINUTE).alarm_limit == pytest.approx(0.002)
    assert judged(asking, HEALTHY, 0.01).alarm_limit == pytest.approx(1e-6)


def test_asking_for_many_is_what_the_contamination_gives(asking):
    by_default = judged(asking, FAULTY, false_alarms_per_month=None)
    many = judged(asking, FAULTY, false_alarms_per_month=1e6)
    assert np.array_equal(by_default.statuses.states, many.statuses.states)
    assert many.alarm_limit == by_default.alarm_limit == 0.002


def test_a_watch_begins_as_early_as_without_a_rate(asking):
    by_default = judged(asking, FAULTY, false_alarms_per_month=None).statuses.states
    rare = judged(asking, FAULTY, false_alarms_per_month=0.01).statuses.states
    assert np.flatnonzero(rare)[0] == np.flatnonzero(by_default)[0]


def test_one_late_reading_or_a_stop_does_not_change_the_limit(asking):
    regular = judged(asking, HEALTHY)
    seconds = MINUTE * np.arange(len(HEALTHY))
    seconds[80:] += 50 * MINUTE
    seconds[120:] += 86_400.0
    late = judged_at(asking, HEALTHY, seconds)
    assert late.evidence.alarm == pytest.approx(regular.evidence.alarm)


def test_times_in_full_seconds_of_a_faster_recording_count_as_what_they_are_on_average(asking):
    fast = judged(asking, HEALTHY, 0.1, false_alarms_per_month=300)
    seconds = np.floor(0.1 * np.arange(len(HEALTHY)))
    rounded = judged_at(asking, HEALTHY, seconds, false_alarms_per_month=300)
    assert rounded.evidence.alarm[-1] == pytest.approx(fast.evidence.alarm[-1], rel=0.3)


def test_reading_by_reading_in_a_batch_and_in_a_file_the_verdicts_are_the_same(asking):
    rng = np.random.default_rng(3)
    seconds = np.cumsum(rng.choice([20.0, 60.0, 180.0], len(FAULTY))).round()
    single = one_by_one(asking, readings("singly", FAULTY, seconds))
    batch = asking.detect_anomalies_batch(readings("batch", FAULTY, seconds))
    file = judged_at(asking, FAULTY, seconds)
    assert all(map(same_asset, single, batch))
    assert states(single) == [file.status(row).state for row in range(len(file))]
    assert IN_ALARM in states(single)
    assert first_in(states(single), IN_ALARM) == np.flatnonzero(file.in_alarm)[0]


# Without times


def test_a_file_without_times_is_refused_and_the_remedy_is_named(asking):
    with pytest.raises(InvalidDataError) as refused:
        asking.detect_table(pd.DataFrame(HEALTHY, columns=SENSORS))
    assert refused.value.field == "times"
    assert VARIABLE in str(refused.value)
    assert "--time" in str(refused.value.remedy)


def test_a_backtest_without_times_is_refused_before_it_trains():
    table = pd.DataFrame(machine(100, seed=0), columns=SENSORS)
    with pytest.raises(InvalidDataError) as refused:
        backtest(table, np.zeros(100), 50, Settings(false_alarms_per_month=1))
    assert refused.value.field == "--time"


def test_several_readings_of_an_asset_without_times_are_refused_one_is_of_now(asking):
    request = readings("untimed", HEALTHY[:3])
    for reading in request[1:]:
        del reading["timestamp"]
    other = request[2] | {"asset_id": "another"}
    assert len(asking.detect_anomalies_batch([request[0], request[1], other])) == 3
    with pytest.raises(InvalidDataError) as refused:
        asking.detect_anomalies_batch(request)
    assert refused.value.field == "[2].timestamp"
    assert VARIABLE in str(refused.value.remedy)


@pytest.mark.parametrize("asked", [0, -1, float("inf"), float("nan"), "few"])
def test_a_rate_that_is_none_is_refused(asked):
    with pytest.raises(InvalidDataError, match="VIGIE_FALSE_ALARMS_PER_MONTH"):
        Settings(false_alarms_per_month=asked)


# What is no promise


def models(n_rows: int, asked: float, forecasts: bool = True) -> Any:
    """Models that were trained on so many rows, as far as a promise depends on them."""
    trend = SimpleNamespace(calibration=SimpleNamespace(n_samples=n_rows), n_samples=n_rows)
    model = SimpleNamespace(**vars(trend), trend=trend, change=trend if forecasts else None)
    return SimpleNamespace(models={"model": model}, false_alarms_per_month=asked)


def test_what_enough_rows_can_count_is_a_promise():
    assert doubt(models(20_000, 1.0), MINUTE) is None
    assert doubt(models(20_000, None), MINUTE) is None
    assert doubt(models(20_000, 1.0), float("nan")) is None


@pytest.mark.parametrize("forecasts", [True, False])
def test_what_is_beyond_the_rows_counted_says_what_would_help_and_it_does(forecasts):
    said = doubt(models(2000, 0.5, forecasts), MINUTE)
    assert said is not None
    rows, rate = (
        float(number.replace(",", ""))
        for number in re.search(r"some ([\d,]+) rows, ask for ([\d.,]+) a month", said).groups()
    )
    minutes = float(re.search(r"means of ([\d.]+) min", said).group(1))
    assert doubt(models(int(rows), 0.5, forecasts), MINUTE) is None
    assert doubt(models(2000, rate, forecasts), MINUTE) is None
    assert doubt(models(2000, 0.5, forecasts), 1.01 * minutes * MINUTE) is None


def test_what_no_training_can_count_does_not_ask_for_more_rows():
    said = doubt(models(MOST_COUNTED, 1.0), 1.0)
    assert said is not None
    assert "train on" not in said
    beyond = doubt(models(MOST_COUNTED, 0.1), 1.0)
    assert beyond is not None
    assert "one in a million" in beyond
    assert MOST_COUNTED == MOST_CALIBRATED


def test_a_short_training_is_no_promise_at_any_rate():
    said = doubt(models(500, 1000.0), 600.0)
    assert said is not None
    assert f"train on {FEWEST_ROWS:,} rows" in said


@pytest.mark.parametrize(
    ("n_rows", "asked", "says_so"), [(300, 1, 1), (300, None, 0), (2000, 1, 0)]
)
def test_a_training_that_is_too_short_for_a_rate_says_so_once(n_rows, asked, says_so, caplog):
    service = AnomalyDetectionService(Settings(**CHEAP, false_alarms_per_month=asked))
    with caplog.at_level(logging.WARNING, logger="vigie"):
        service.train_all_models(machine(n_rows, seed=0), SENSORS, ["isolation_forest"])
    assert sum(VARIABLE in line for line in caplog.messages) == says_so


def test_the_service_says_so_once_for_an_asset_and_never_unasked(asking, caplog, tmp_path):
    with caplog.at_level(logging.WARNING, logger="vigie"):
        asking.detect_anomalies_batch(readings("doubtful", HEALTHY))
        asking.detect_anomalies_batch(readings("doubtful", HEALTHY, range(1000, 1160)))
    assert sum(VARIABLE in line for line in caplog.messages) == 1
    assert any(line.startswith("doubtful: ") for line in caplog.messages)
    caplog.clear()
    judged(asking, HEALTHY)
    assert sum(VARIABLE in line for line in caplog.messages) == 1
    caplog.clear()
    judged(asking, HEALTHY, false_alarms_per_month=None)
    assert not any(VARIABLE in line for line in caplog.messages)
