"""The smallest step of a sensor that a training says would raise an alarm."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.signal import lfilter

from vigie.assessment.engine import advance
from vigie.assessment.ensemble import Ensemble
from vigie.detectors import power
from vigie.detectors.base import Detector
from vigie.detectors.data.matrices import Table
from vigie.detectors.isolation_forest.detector import IsolationForest
from vigie.detectors.lstm_autoencoder.detector import LSTMAutoencoder
from vigie.detectors.one_class_svm.detector import OneClassSVM
from vigie.detectors.trained import TrainedModel
from vigie.detectors.training import train
from vigie.detectors.vector_autoregression.detector import VectorAutoregression
from vigie.detectors.vector_autoregression.score import with_step
from vigie.errors import ModelRefusedError
from vigie.training.train import alarm_limits

CONTAMINATION = 0.01
DETECTORS: dict[str, Detector] = {
    "isolation_forest": IsolationForest(50, "auto", CONTAMINATION, random_state=1),
    "one_class_svm": OneClassSVM(0.05, "rbf", "scale", CONTAMINATION),
    "vector_autoregression": VectorAutoregression((1, 2, 4), "auto", CONTAMINATION),
}
UNITS = np.array([1.0, 20.0, 0.05, 3.0])
WATCHED = 200
"""Rows before a step, so that all evidence is there when it comes."""


def machine(n: int, seed: int, noise: float = 0.5) -> np.ndarray:
    """Rows of four sensors that follow one slow load, each with its own noise, shape (n, 4)."""
    rng = np.random.default_rng(seed)
    load = lfilter([0.6], [1.0, -0.8], rng.normal(size=n))
    return UNITS * (load[:, None] * [1.0, -1.0, 1.0, 0.5] + noise * rng.normal(size=(n, 4)))


def fit(detector: Detector, X: np.ndarray, **changed: Any) -> TrainedModel:
    options: dict[str, Any] = {
        "threshold": 1.0 - CONTAMINATION,
        "folds": 5,
        "time_ordered": True,
        "random_state": 3,
        "trend_window": 20,
        "limits": alarm_limits(CONTAMINATION),
    }
    names = tuple(f"s{i}" for i in range(X.shape[1]))
    return train(detector, Table(X, names), **(options | changed))


@cache
def trained(name: str) -> TrainedModel:
    return fit(DETECTORS[name], machine(2000, seed=0))


def steps_of(model: TrainedModel, n_rows: int) -> np.ndarray:
    steps = getattr(model, f"smallest_step_{n_rows}")
    assert steps is not None
    assert steps.shape == (model.n_features,)
    return steps


def in_alarm(model: TrainedModel, X: np.ndarray) -> np.ndarray:
    """Return at which rows the engine has an alarm."""
    ensemble = Ensemble({"model": model}, CONTAMINATION, max_gap_s=3600.0)
    times = np.datetime64("2026-01-05", "us") + np.arange(len(X)) * np.timedelta64(1, "s")
    assessment, _ = advance(ensemble, ensemble.no_look_back, times, ensemble.sensors.examine(X))
    return assessment.in_alarm


def share_seen(model: TrainedModel, sensor: int, step: float, n_rows: int) -> float:
    """Return the share of ten new recordings in which that step raises an alarm in time."""
    seen = []
    for seed in range(10):
        X = machine(WATCHED + 60 + n_rows, seed=100 + seed)[-WATCHED - 20 - n_rows :]
        first = len(X) - n_rows
        X[first:, sensor] += step if seed % 2 else -step
        seen.append(bool(in_alarm(model, X)[first:].any()))
    return float(np.mean(seen))


@pytest.mark.parametrize("n_rows", [20, 200])
@pytest.mark.parametrize("name", DETECTORS)
def test_the_stated_step_raises_an_alarm_in_new_rows_and_a_third_of_it_does_not(name, n_rows):
    model = trained(name)
    steps = steps_of(model, n_rows)
    known = np.flatnonzero(np.isfinite(steps))
    assert len(known) >= 3
    whole = [share_seen(model, int(i), steps[i], n_rows) for i in known]
    third = [share_seen(model, int(i), steps[i] / 3, n_rows) for i in known]
    assert np.mean(whole) >= 0.5
    assert np.mean(third) <= 0.15


@pytest.mark.parametrize("name", DETECTORS)
def test_more_readings_show_smaller_steps(name):
    model = trained(name)
    assert (steps_of(model, 200) <= steps_of(model, 20)).all()


def test_less_noise_shows_smaller_steps():
    model = DETECTORS["vector_autoregression"]
    quiet, noisy = (fit(model, machine(2000, seed=0, noise=noise)) for noise in (0.1, 1.0))
    assert (2.0 * steps_of(quiet, 20) < steps_of(noisy, 20)).all()


def test_steps_are_in_the_unit_of_the_sensor():
    X = machine(1200, seed=0)
    model = DETECTORS["vector_autoregression"]
    once, scaled = fit(model, X), fit(model, X * 1000.0)
    np.testing.assert_allclose(steps_of(scaled, 20), 1000.0 * steps_of(once, 20), rtol=1e-6)


def test_a_sensor_that_a_model_does_not_judge_is_not_seen():
    X = machine(1200, seed=0)
    X[:, 3] = (np.arange(1200) // 60) % 2
    # The forecast judges no switch, and it is told nothing by one that no other sensor follows.
    steps = steps_of(fit(DETECTORS["vector_autoregression"], X), 20)
    assert np.isfinite(steps[:3]).all()
    assert steps[3] > 1.0


def test_one_of_many_sensors_is_not_seen_by_a_forest():
    X = np.random.default_rng(0).normal(size=(600, 120))
    model = fit(DETECTORS["isolation_forest"], X)
    steps = steps_of(model, 20)
    assert np.isinf(steps[~np.isnan(steps)]).mean() > 0.9


@pytest.mark.slow
def test_a_wide_table_needs_a_thousand_rows_for_an_alarm_and_the_training_says_so(caplog):
    detector = DETECTORS["isolation_forest"]
    rng = np.random.default_rng(1)
    X, judged = rng.normal(size=(1100, 300)), rng.normal(size=(100, 300))
    judged[40:, 7] += 15.0
    few = fit(detector, X[:300])
    assert "more than 1000 rows" in caplog.text
    assert "300 sensors" in caplog.text
    assert not in_alarm(few, judged).any()
    caplog.clear()
    many = fit(detector, X)
    assert "raises an alarm" not in caplog.text
    alarmed = in_alarm(many, judged)
    assert not alarmed[:45].any()
    assert alarmed[65:].all()


def test_a_constant_sensor_has_no_usual_range_to_measure_by():
    X = machine(800, seed=0)
    X[:, 1] = 7.0
    for name, detector in DETECTORS.items():
        steps = steps_of(fit(detector, X), 20)
        assert np.isnan(steps[1]), name
        assert not np.isnan(np.delete(steps, 1)).any(), name


def test_all_sensors_may_be_constant():
    steps = steps_of(fit(DETECTORS["isolation_forest"], np.full((200, 3), 5.0)), 20)
    assert np.isnan(steps).all()


@pytest.mark.parametrize("name", DETECTORS)
def test_few_rows_of_many_sensors_have_no_trend_and_no_steps(name):
    X = np.random.default_rng(0).normal(size=(60, 50))
    model = fit(DETECTORS[name], X)
    assert model.smallest_step_20 is None
    assert model.smallest_step_200 is None


@pytest.mark.parametrize("n", [80, 97, 130])
@pytest.mark.parametrize("name", DETECTORS)
def test_short_blocks_say_nothing_of_many_readings(name, n):
    X = np.random.default_rng(0).normal(size=(n, 50))
    model = fit(DETECTORS[name], X)
    assert steps_of(model, 20).shape == (50,)
    assert np.isnan(steps_of(model, 200)).all()


def test_windows_are_measured_too():
    detector = LSTMAutoencoder((6,), (6,), 5, 64, 5, 0.01, random_state=1)
    steps = steps_of(fit(detector, machine(800, seed=0)), 20)
    assert np.isfinite(steps).any()
    assert (steps > 0.0).all()


def test_of_a_wide_table_some_sensors_are_measured():
    X = np.random.default_rng(0).normal(size=(400, 200))
    steps = steps_of(fit(DETECTORS["one_class_svm"], X), 20)
    assert 20 < np.count_nonzero(~np.isnan(steps)) < 100


def test_without_an_order_or_limits_nothing_is_measured():
    X = machine(400, seed=0)
    for changed in ({"limits": None}, {"time_ordered": False}, {"trend_window": 0}):
        model = fit(DETECTORS["isolation_forest"], X, **changed)
        assert model.smallest_step_20 is None


def test_a_mode_in_a_block_of_its_own_leaves_pieces_to_measure_in():
    X = machine(2000, seed=0)
    X[800:1200] += 30.0 * UNITS
    model = fit(DETECTORS["one_class_svm"], X)
    assert not np.isnan(steps_of(model, 20)).any()
    assert np.isnan(steps_of(model, 200)).all()


@pytest.mark.parametrize("part", ["trend", "change"])
@pytest.mark.parametrize("step", [-3.0, 0.02, 1.0, 5.0])
def test_a_step_in_the_forecast_errors_is_that_in_the_rows(part, step):
    model = getattr(trained("vector_autoregression"), part)
    rows = machine(model.window + 59, seed=7)
    first, ends = model.window - 1, np.arange(4, 60, 5)
    for sensor in range(4):
        changed = rows.copy()
        changed[first:, sensor] += step * UNITS[sensor]
        scorer = with_step(model.arrays, model.params, rows, first)
        np.testing.assert_allclose(
            scorer(sensor, step * UNITS[sensor], ends),
            model.raw_scores_along(changed)[ends],
            rtol=1e-9,
        )


def test_averages_with_a_step_are_scored_as_the_rows_would_be():
    model = trained("isolation_forest").trend
    assert model is not None
    X = machine(400, seed=7)
    starts, ends, sensors = np.array([100, 220]), np.array([4, 9, 19]), np.array([0, 2])
    steps = np.array([[2.0, 0.3], [-5.0, -0.01]])
    injection = power._Injection(X, starts, ends, sensors)
    scores = power._of_averages(model, injection)(steps, np.ones((2, 2, 3), bool))
    for i, start in enumerate(starts):
        for j, sensor in enumerate(sensors):
            changed = X.copy()
            changed[start:, sensor] += steps[i, j]
            expected = model.raw_scores_of_rows(changed)[start + ends]
            np.testing.assert_array_equal(scores[i, j], expected)


def test_the_steps_are_kept_with_the_model(tmp_path: Path):
    model = trained("isolation_forest")
    model.save(tmp_path / "new")
    opened = TrainedModel.load(tmp_path / "new")
    for n_rows in (20, 200):
        np.testing.assert_array_equal(steps_of(opened, n_rows), steps_of(model, n_rows))


def test_a_model_of_an_older_version_has_none(tmp_path: Path):
    replace(trained("isolation_forest"), smallest_step_20=None, smallest_step_200=None).save(
        tmp_path
    )
    assert TrainedModel.load(tmp_path).smallest_step_20 is None


@pytest.mark.parametrize("wrong", [np.zeros(3), np.full(4, -1.0), np.zeros(4, np.float32)])
def test_steps_that_are_none_are_refused(tmp_path: Path, wrong: np.ndarray):
    replace(trained("isolation_forest"), smallest_step_20=wrong).save(tmp_path)
    with pytest.raises(ModelRefusedError, match="smallest_step_20"):
        TrainedModel.load(tmp_path)
