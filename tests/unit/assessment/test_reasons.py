"""Which sensor it was: the fault is put where we know it, and the models must find it there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from quick_training import CHEAP, WINDOW

from vigie import samples
from vigie.assessment.assessment import Assessment
from vigie.assessment.engine import alone
from vigie.config import Settings
from vigie.detectors.calibration.explanation import normalised, shares
from vigie.detectors.catalogue import algorithm
from vigie.detectors.trained import TrainedModel
from vigie.models.anomaly_data import SensorContribution
from vigie.services.anomaly_detection_service import AnomalyDetectionService

pytestmark = pytest.mark.slow

ROW_MODELS = ["isolation_forest", "one_class_svm"]
MODELS = [*ROW_MODELS, "lstm_autoencoder"]
AVERAGED = 20
STRETCH = 60
"""Rows of one case, of which the first forty are healthy."""
LEARNT_WELL = CHEAP | {"n_estimators": 100, "epochs": 10, "trend_window": AVERAGED}
few_examples = settings(derandomize=True, max_examples=60, deadline=None)


def mixture(n: int, seed: int) -> np.ndarray:
    """Rows of eight sensors that three hidden causes move together, in units of their own."""
    rng = np.random.default_rng(seed)
    loadings = np.random.default_rng(99).normal(size=(3, 8)) / np.sqrt(3.0)
    rows = rng.normal(size=(n, 3)) @ loadings + 0.5 * rng.normal(size=(n, 8))
    return 50.0 + rows * 10.0 ** np.linspace(-3.0, 4.0, 8)


def bench(n: int, seed: int) -> np.ndarray:
    return samples.healthy(n, seed=seed).data


@dataclass(frozen=True)
class Plant:
    """Models of a machine with eight sensors, and its healthy rows."""

    service: AnomalyDetectionService
    names: tuple[str, ...]
    record: Callable[[int, int], np.ndarray]
    training: np.ndarray

    @property
    def unit(self) -> np.ndarray:
        """Standard deviation of each sensor in training."""
        return self.training.std(axis=0)

    def assess(self, rows: np.ndarray, stretch: int | None = None) -> Assessment:
        """Assess consecutive rows; a new stretch begins after a gap of a day."""
        seconds = np.arange(len(rows)) + 86_400 * (np.arange(len(rows)) // (stretch or len(rows)))
        times = np.datetime64("2026-01-05", "us") + seconds * np.timedelta64(1, "s")
        return self.service.detect_table(pd.DataFrame(rows, columns=self.names), times)


def plant_of(record: Callable[[int, int], np.ndarray], names: tuple[str, ...]) -> Plant:
    service = AnomalyDetectionService(Settings(**LEARNT_WELL))
    training = record(1200, 0)
    outcome = service.train_all_models(training, names)
    assert {model["status"] for model in outcome.values()} == {"trained"}, outcome
    return Plant(service, names, record, training)


@pytest.fixture(scope="module")
def pump() -> Plant:
    return plant_of(bench, samples.FEATURE_NAMES)


@pytest.fixture(scope="module", params=["mixture", "bench"])
def plant(request: pytest.FixtureRequest) -> Plant:
    if request.param == "bench":
        found: Plant = request.getfixturevalue("pump")
        return found
    return plant_of(mixture, tuple(f"s{number}" for number in range(8)))


CASES = [
    (sensor, deviations)
    for sensor in range(8)
    for size in (6.0, 10.0, 60.0)
    for deviations in (-size, size)
]
"""A sensor, and by how many of its standard deviations it is off."""


def with_faults(plant: Plant, first: int, last: int) -> np.ndarray:
    """Return a stretch of rows for each case, in which its sensor is off from row to row."""
    rows = np.concatenate([plant.record(STRETCH, 10 + number) for number in range(len(CASES))])
    for number, (sensor, deviations) in enumerate(CASES):
        start = number * STRETCH
        rows[start + first : start + last + 1, sensor] += deviations * plant.unit[sensor]
    return rows


def hits(plant: Plant, found: dict[int, list[SensorContribution]]) -> float:
    """Return in how many of the cases the sensor that is off comes first."""
    assert len(found) > 0
    return float(
        np.mean(
            [
                sensors[0].name == plant.names[CASES[row // STRETCH][0]]
                for row, sensors in found.items()
            ]
        )
    )


def at_row(place: int) -> np.ndarray:
    """Return that row of each stretch."""
    return STRETCH * np.arange(len(CASES)) + place


@pytest.fixture(scope="module")
def blips(plant: Plant) -> Assessment:
    """Stretches whose row 40 alone is off."""
    return plant.assess(with_faults(plant, 40, 40), STRETCH)


@pytest.fixture(scope="module")
def shifts(plant: Plant) -> Assessment:
    """Stretches that are off from row 30 on."""
    return plant.assess(with_faults(plant, 30, STRETCH - 1), STRETCH)


# The sensor that is off comes first


@pytest.mark.parametrize("model", MODELS)
def test_a_reading_names_the_sensor_that_is_off(plant, blips, model):
    assert hits(plant, alone(blips, model).reasons(at_row(40))) >= 0.95


def test_all_models_together_name_the_sensor_that_is_off(plant, blips):
    assert blips.is_anomaly[at_row(40)].all()
    assert hits(plant, blips.reasons(at_row(40))) >= 0.95


@pytest.mark.parametrize("after", range(1, WINDOW))
def test_a_window_names_the_sensor_that_was_off_in_it(plant, blips, after):
    judged = alone(blips, "lstm_autoencoder")
    rows = at_row(40 + after)
    odd = rows[judged.is_anomaly[rows]]
    assert len(odd) > len(rows) / 2
    assert hits(plant, judged.reasons(odd)) >= 0.95


@pytest.mark.parametrize("after", range(WINDOW))
def test_a_window_tells_when_the_sensor_was_off(plant, blips, after):
    judged = alone(blips, "lstm_autoencoder")
    rows = at_row(40 + after)
    odd = rows[judged.is_anomaly[rows]]
    told = [sensors[0] for sensors in judged.reasons(odd).values()]
    assert np.mean([sensor.readings_ago == after for sensor in told]) >= 0.95
    for row, sensor in zip(odd, told, strict=True):
        at = judged.timeline.times[row - sensor.readings_ago]
        assert sensor.when.isoformat() == f"{at.astype('datetime64[s]')}+00:00"


@pytest.mark.parametrize("model", ROW_MODELS)
def test_a_model_of_single_rows_tells_no_when(blips, model):
    for sensors in alone(blips, model).reasons(at_row(40)).values():
        assert {(sensor.readings_ago, sensor.when) for sensor in sensors} == {(None, None)}


@pytest.mark.parametrize("model", MODELS)
def test_the_trend_names_the_sensor_that_is_off(plant, shifts, model):
    found = alone(shifts, model).trend_reasons(at_row(STRETCH - 1))
    assert hits(plant, found) >= 0.95


def test_the_trends_together_name_the_sensor_that_is_off(plant, shifts):
    for place in (45, STRETCH - 1):
        assert hits(plant, shifts.trend_reasons(at_row(place))) >= 0.95


def trailing_mean(rows: np.ndarray) -> np.ndarray:
    """Return the mean of each row and those before it, as many as the trend averages."""
    sums = np.cumsum(np.concatenate([np.zeros((1, rows.shape[1])), rows]), axis=0)
    stop = np.arange(1, len(rows) + 1)
    start = np.maximum(stop - AVERAGED, 0)
    return (sums[stop] - sums[start]) / (stop - start)[:, None]


def faults(pump: Plant, kind: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield recordings with a fault, and how far it moves each sensor, in its deviations."""
    for seed in (1, 2, 3):
        rows = samples.faulty(kind, 500, onset=100, seed=seed).data
        # Up to the fault both are the same machine with the same noise, and so after it.
        yield rows, np.abs(rows - bench(500, seed)) / pump.unit


MECHANICAL = [kind for kind in samples.FAULTS if kind != "stuck_sensor"]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("kind", MECHANICAL)
def test_a_fault_of_the_bench_is_told_by_a_sensor_that_it_moves(pump, kind, model):
    found = []
    for rows, moved in faults(pump, kind):
        clear = np.flatnonzero(moved.max(axis=1) >= 6.0)[::11]
        for row, sensors in alone(pump.assess(rows), model).reasons(clear).items():
            found.append(moved[row, pump.names.index(sensors[0].name)] >= 6.0)
    assert len(found) > 30
    assert np.mean(found) >= 0.95


@pytest.mark.parametrize("model", MODELS)
def test_of_two_sensors_that_are_off_the_one_farther_off_comes_first(plant, model):
    pairs = [(far, near) for far in range(8) for near in range(8) if far != near]
    rows = plant.record(len(pairs) + WINDOW - 1, 5)
    at = np.arange(len(pairs)) + WINDOW - 1
    for row, (far, near) in zip(at, pairs, strict=True):
        rows[row, far] += 60.0 * plant.unit[far]
        rows[row, near] -= 15.0 * plant.unit[near]
    # Each window holds one such row alone, so that no other explains it.
    healthy = plant.record(WINDOW - 1, 6)
    apart = np.concatenate([np.concatenate([healthy, rows[[row]]]) for row in at])
    last = WINDOW * np.arange(len(pairs)) + WINDOW - 1
    found = alone(plant.assess(apart, WINDOW), model).reasons(last)
    first = [plant.names.index(found[row][0].name) for row in last.tolist()]
    assert np.mean([column == far for column, (far, _) in zip(first, pairs, strict=True)]) >= 0.95


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("kind", MECHANICAL)
def test_the_trend_of_a_fault_of_the_bench_is_told_by_a_sensor_that_it_moves(pump, kind, model):
    # An average has less noise, so the same move is more of its deviations.
    steadier = pump.unit / trailing_mean(pump.training)[AVERAGED:].std(axis=0)
    found = []
    for rows, moved in faults(pump, kind):
        lately = trailing_mean(moved) * steadier
        clear = np.flatnonzero(trailing_mean(moved).max(axis=1) >= 6.0)[::11]
        for row, sensors in alone(pump.assess(rows), model).trend_reasons(clear).items():
            found.append(lately[row, pump.names.index(sensors[0].name)] >= 4.0)
    assert len(found) > 30
    assert np.mean(found) >= 0.95


def test_a_stuck_sensor_of_the_bench_is_said_to_stand_still(pump):
    rows = samples.faulty("stuck_sensor", 80, onset=20, sensor="inlet_pressure").data
    requests = [
        {
            "asset_id": "stuck",
            "timestamp": f"2026-01-05T08:{row // 60:02d}:{row % 60:02d}Z",
            "features": dict(zip(pump.names, values.tolist(), strict=True)),
        }
        for row, values in enumerate(rows)
    ]
    results = pump.service.detect_anomalies_batch(requests)
    pump.service.close()
    assert results[-1].frozen == {"inlet_pressure": 61}
    assert all(set(result.frozen) <= {"inlet_pressure"} for result in results)


# What is said of a sensor


def test_shares_add_up_to_one_and_the_largest_comes_first(plant, shifts):
    rows = at_row(50)
    for found in (shifts.reasons(rows), shifts.trend_reasons(rows)):
        assert set(found) == set(rows.tolist())
        for sensors in found.values():
            assert {sensor.name for sensor in sensors} == set(plant.names)
            parts = [sensor.share for sensor in sensors]
            assert parts == sorted(parts, reverse=True)
            assert min(parts) >= 0.0
            assert sum(parts) == pytest.approx(1.0)


def test_a_reading_is_told_with_its_value_its_usual_range_and_the_direction(plant, blips):
    rows = blips.timeline.rows(plant.names)
    low, usual, high = np.percentile(plant.training, [0.5, 50.0, 99.5], axis=0)
    for row, sensors in blips.reasons(at_row(40)).items():
        for sensor in sensors:
            column = plant.names.index(sensor.name)
            value = rows[row, column]
            assert sensor.value == value
            assert (sensor.low, sensor.usual, sensor.high) == pytest.approx(
                (low[column], usual[column], high[column]), rel=1e-12
            )
            expected = "above" if value > sensor.high else "below"
            assert sensor.direction == (
                expected if not sensor.low <= value <= sensor.high else "within"
            )
        faulty, deviations = CASES[row // STRETCH]
        [told] = [sensor for sensor in sensors if sensor.name == plant.names[faulty]]
        if abs(deviations) >= 9.0:
            assert told.direction == ("above" if deviations > 0 else "below")


def test_the_trend_is_told_with_the_mean_of_the_latest_readings(plant, shifts):
    rows = shifts.timeline.rows(plant.names)
    found = shifts.trend_reasons(at_row(STRETCH - 1))
    for row, sensors in found.items():
        faulty, deviations = CASES[row // STRETCH]
        latest = rows[row - AVERAGED + 1 : row + 1]
        for sensor in sensors:
            column = plant.names.index(sensor.name)
            assert sensor.low < sensor.usual < sensor.high
            # Means vary less than readings do.
            spread = np.ptp(np.percentile(plant.training[:, column], [0.5, 99.5]))
            assert sensor.high - sensor.low < spread
            assert sensor.value == pytest.approx(latest[:, column].mean())
            if column == faulty:
                assert sensor.direction == ("above" if deviations > 0 else "below")


# What it costs


class Counted:
    """A surprise that counts the rows it has been asked about, and how often."""

    def __init__(self, surprise: Callable[[np.ndarray], np.ndarray]):
        self.surprise, self.rows, self.calls = surprise, 0, 0

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        self.rows += len(rows)
        self.calls += 1
        return self.surprise(rows)


def surprise_of(model: TrainedModel) -> Counted:
    score = algorithm(model.algorithm).score
    return Counted(lambda rows: model.calibration.surprise(score(model.arrays, model.params, rows)))


@pytest.mark.parametrize("name", ROW_MODELS)
def test_a_row_costs_one_scoring_for_each_sensor_and_one_more(plant, blips, name):
    model = blips.ensemble.models[name]
    rows = blips.timeline.rows(plant.names)[at_row(40)]
    surprise = surprise_of(model)
    parts = shares(surprise, rows, model.usual, model.high - model.low)
    assert surprise.rows == len(rows) * (8 + 1)
    assert surprise.calls == 1
    np.testing.assert_allclose(parts, model.explain(rows).shares)


def test_where_no_single_sensor_calms_the_model_the_one_that_strayed_farther_has_more():
    # It is surprised at most once, however many sensors are out.
    surprise = Counted(lambda rows: (np.abs(rows) > 3.0).any(axis=1).astype(float))
    rows = np.array([[9.0, 0.0, 0.0], [9.0, 18.0, 0.0], [0.0, 9.0, 1e300]])
    parts = shares(surprise, rows, np.zeros(3), np.array([1.0, 2.0, 0.0]))
    np.testing.assert_allclose(parts, [[1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.0, 0.0, 1.0]])
    assert surprise.rows == 3 * 4


# The rule itself

deviation = st.floats(0.0, 1e6).map(lambda number: round(number, 3))
tables = st.tuples(st.integers(1, 6), st.integers(1, 6)).flatmap(
    lambda shape: arrays(np.float64, shape, elements=deviation)
)


@few_examples
@given(tables, st.floats(-1e3, 1e3))
def test_where_each_sensor_surprises_by_itself_its_share_is_its_part(deviations, usual):
    n_features = deviations.shape[1]
    surprise = Counted(lambda rows: np.abs(rows).sum(axis=1))
    found = shares(surprise, deviations, np.zeros(n_features), np.ones(n_features))
    np.testing.assert_allclose(found.sum(axis=1), 1.0)
    total = deviations.sum(axis=1, keepdims=True)
    expected = np.where(total > 0, deviations / np.where(total > 0, total, 1.0), 1.0 / n_features)
    np.testing.assert_allclose(found, expected, atol=1e-9)
    # Where the usual value lies makes no difference.
    moved = shares(
        lambda rows: np.abs(rows - usual).sum(axis=1),
        deviations + usual,
        np.full(n_features, usual),
        np.ones(n_features),
    )
    np.testing.assert_allclose(moved, found, atol=1e-6)


@few_examples
@given(tables)
def test_a_sensor_at_its_usual_value_has_no_share_in_a_surprise(deviations):
    usual = deviations[0]
    found = shares(
        lambda rows: ((rows - usual) ** 2).sum(axis=1), deviations, usual, np.ones(len(usual))
    )
    surprised = (deviations != usual).any(axis=1)
    assert (found[surprised] >= 0.0).all()
    assert (
        found[surprised][deviations[surprised] == usual[None].repeat(surprised.sum(), 0)] == 0.0
    ).all()


def test_parts_of_nothing_are_equal():
    np.testing.assert_array_equal(normalised(np.zeros((2, 4))), np.full((2, 4), 0.25))
    np.testing.assert_array_equal(normalised(np.array([[1.0, 3.0]])), [[0.25, 0.75]])
