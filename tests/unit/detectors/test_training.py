"""From rows to a calibrated model."""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from vigie.detectors.base import Detector, no_progress
from vigie.detectors.data.matrices import Table
from vigie.detectors.isolation_forest.detector import IsolationForest
from vigie.detectors.lstm_autoencoder.detector import LSTMAutoencoder
from vigie.detectors.one_class_svm.detector import OneClassSVM
from vigie.detectors.trained import TrainedModel
from vigie.detectors.training import _folds, train
from vigie.errors import InvalidDataError

WINDOW = 5
DETECTORS: dict[str, Detector] = {
    "isolation_forest": IsolationForest(25, "auto", 0.01, random_state=1),
    "one_class_svm": OneClassSVM(0.05, "rbf", "scale", 0.01),
    "lstm_autoencoder": LSTMAutoencoder((6,), (6,), WINDOW, 64, 2, 0.01, random_state=1),
}


@pytest.fixture(params=DETECTORS.values(), ids=DETECTORS)
def detector(request: pytest.FixtureRequest) -> Detector:
    return request.param


@pytest.fixture(params=["isolation_forest", "one_class_svm"])
def row_detector(request: pytest.FixtureRequest) -> Detector:
    return DETECTORS[request.param]


def steady(n: int = 300, seed: int = 0) -> np.ndarray:
    """Rows of a machine that stays as it is, shape (n, 3)."""
    return np.random.default_rng(seed).normal(size=(n, 3))


def drifting(n: int = 500, seed: int = 0) -> np.ndarray:
    """Rows of a machine that moves by eight of its own deviations, shape (n, 3)."""
    return steady(n, seed) + np.linspace(0.0, 8.0, n)[:, None]


def fit(detector: Detector, X: np.ndarray, **changed: Any) -> TrainedModel:
    options: dict[str, Any] = {
        "threshold": 0.95,
        "folds": 5,
        "time_ordered": True,
        "random_state": 3,
    }
    return train(detector, Table(X, ("a", "b", "c")), **(options | changed))


@contextmanager
def ends_within(seconds: int) -> Iterator[None]:
    """Turn a computation that never ends into a failure."""

    def give_up(*_: Any) -> None:
        raise TimeoutError(f"still computing after {seconds} s")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


# Drift


def test_drift_between_blocks_widens_the_calibration(row_detector):
    rows = drifting()
    ordered = fit(row_detector, rows).calibration
    shuffled = fit(row_detector, rows, time_ordered=False).calibration
    for p in (0.2, 0.05, 0.01):
        assert ordered.raw_threshold(p) > shuffled.raw_threshold(p)


def test_a_machine_that_goes_on_drifting_raises_fewer_alarms(row_detector):
    rows = drifting(600)
    past, future = rows[:500], rows[500:]
    ordered = fit(row_detector, past).predict(future).mean()
    shuffled = fit(row_detector, past, time_ordered=False).predict(future).mean()
    assert ordered < shuffled


def test_without_drift_the_order_of_the_rows_changes_little(row_detector):
    rows = steady(600)
    ordered = fit(row_detector, rows).predict_scores(steady(400, seed=1))
    shuffled = fit(row_detector, rows, time_ordered=False).predict_scores(steady(400, seed=1))
    assert abs(ordered - shuffled).mean() < 0.05


@pytest.mark.parametrize("time_ordered", [True, False])
def test_healthy_rows_are_called_anomalous_at_the_rate_asked_for(row_detector, time_ordered):
    model = fit(row_detector, steady(800), time_ordered=time_ordered)
    alarms = model.predict(steady(4000, seed=1)).mean()
    # The rate of one calibration follows a beta law: 0.05 with a deviation of 0.008 here.
    assert 0.05 - 4 * 0.009 < alarms < 0.05 + 4 * 0.009


# What calibrates was not fitted on


def test_each_block_is_scored_by_a_fit_that_never_saw_it(detector):
    # Too few rows for a calibration on shorter pieces, which would know this stretch.
    rows = steady(150)
    rows[60:90] += 40.0
    model = fit(detector, rows)
    known = model.p_values(model.examples(rows)[64:90])
    # A fit that has learnt from those rows finds them as usual as the other ones; to the one
    # that has not, they are the most unusual fifth of all.
    assert known.min() > 0.15


@pytest.mark.parametrize("name", DETECTORS)
def test_fits_to_fewer_rows_calibrate_as_the_fit_to_all_of_them_would(name):
    rows, fresh = steady(1000), steady(4000, seed=1)
    model = fit(DETECTORS[name], rows)
    p_values = model.p_values(model.examples(fresh))
    for quantile in (0.25, 0.5, 0.75):
        assert np.quantile(p_values, quantile) == pytest.approx(quantile, abs=0.1)


def test_every_row_calibrates_once(row_detector):
    for time_ordered in (True, False):
        calibration = fit(row_detector, steady(251), time_ordered=time_ordered).calibration
        assert calibration.n_samples == 251


def test_no_window_reaches_from_one_block_into_the_next():
    calibration = fit(DETECTORS["lstm_autoencoder"], steady(250)).calibration
    assert calibration.n_samples == 250 - 5 * (WINDOW - 1)


def test_the_windows_of_the_lstm_are_blocks_even_without_time_order():
    rows = steady(250)
    ordered = fit(DETECTORS["lstm_autoencoder"], rows).calibration
    shuffled = fit(DETECTORS["lstm_autoencoder"], rows, time_ordered=False).calibration
    np.testing.assert_array_equal(ordered.knots, shuffled.knots)


def test_the_seed_decides_the_random_parts(row_detector):
    rows = steady()
    one, same, other = (
        fit(row_detector, rows, time_ordered=False, random_state=seed).calibration.knots
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)


def test_the_model_itself_is_fitted_on_all_rows(detector):
    rows = steady()
    model = fit(detector, rows)
    for name, array in detector.fit([rows], no_progress).arrays.items():
        np.testing.assert_array_equal(model.arrays[name], array)


def test_the_model_keeps_what_is_usual_for_each_sensor(row_detector):
    rows = steady() * [1.0, 10.0, 100.0]
    model = fit(row_detector, rows)
    np.testing.assert_allclose(model.usual, np.median(rows, axis=0))
    assert (model.low < model.usual).all()
    assert (model.usual < model.high).all()
    assert ((rows >= model.low) & (rows <= model.high)).mean() == pytest.approx(0.99, abs=0.005)
    assert model.n_samples == 300
    assert model.data_fingerprint == Table(rows, ("a", "b", "c")).fingerprint


# Progress


@pytest.mark.parametrize("time_ordered", [True, False])
def test_progress_is_told_and_ends_at_one(detector, time_ordered):
    told: list[tuple[str, float]] = []
    fit(
        detector,
        steady(),
        time_ordered=time_ordered,
        progress=lambda step, share, epoch=None: told.append((step, share)),
    )
    shares = [share for _, share in told]
    assert all(step for step, _ in told)
    assert all(0.0 <= share <= 1.0 for share in shares)
    assert len(set(shares)) > 3
    assert shares[-1] == pytest.approx(1.0)


# Too little data, or too much asked of it


def test_too_few_rows_for_the_rate_asked_are_warned_about(row_detector, caplog):
    with caplog.at_level(logging.WARNING):
        fit(row_detector, steady(100), threshold=0.999)
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    message = record.getMessage()
    assert "100 rows" in message
    assert "1000" in message


def test_enough_rows_for_the_rate_asked_are_not_warned_about(row_detector, caplog):
    with caplog.at_level(logging.WARNING):
        fit(row_detector, steady(1000), threshold=0.999)
    assert not caplog.records


@pytest.mark.parametrize("kind", ["blocks", "pieces"])
@pytest.mark.parametrize("fits", [1, 3, 5])
def test_each_row_is_held_out_once_and_not_learnt_from_then(kind, fits):
    rows = np.arange(403.0)[:, None]
    held_out: list[float] = []
    for _, kept_back, rest in _folds(rows, 1, 0, 5, fits, kind, random_state=0):
        seen = np.concatenate([np.empty((0, 1)), *rest])
        held_out += np.concatenate(kept_back)[:, 0].tolist()
        assert not np.isin(np.concatenate(kept_back), seen).any()
        assert sum(map(len, kept_back)) + len(seen) == len(rows)
    assert sorted(held_out) == rows[:, 0].tolist()


def test_three_fits_of_a_network_are_scored_on_all_five_blocks():
    model = fit(DETECTORS["lstm_autoencoder"], steady(300))
    assert model.calibration.n_samples == 300 - 5 * (WINDOW - 1)


def test_few_rows_take_fewer_folds(row_detector):
    model = fit(row_detector, steady(4), folds=50, threshold=0.6)
    assert model.calibration.n_samples == 4


def test_too_few_rows_are_refused(detector):
    fewest = 4 if detector.window == 1 else 4 * WINDOW
    with pytest.raises(InvalidDataError, match=f"at least {fewest} rows"):
        fit(detector, steady(fewest - 1))
    assert fit(detector, steady(fewest), threshold=0.6).n_samples == fewest


def test_rows_that_mostly_repeat_each_other_can_be_learnt_from(detector):
    rows = np.tile([1.0, 2.0, 3.0], (200, 1))
    rows[::20] += 1.0
    scores = fit(detector, rows).predict_scores(np.vstack([rows, rows[:1] + 50.0]))
    assert ((scores >= 0) & (scores <= 1)).all()


def test_a_machine_that_ran_in_one_block_only_can_be_learnt_from(detector):
    rows = np.tile([1.0, 2.0, 3.0], (250, 1))
    rows[200:] += steady(50)
    scores = fit(detector, rows).predict_scores(np.vstack([rows, rows[:1] + 50.0]))
    assert ((scores >= 0) & (scores <= 1)).all()


def test_a_share_of_rows_that_comes_to_none_is_refused_by_name():
    forest = IsolationForest(10, 0.001, 0.01, random_state=1)
    with pytest.raises(InvalidDataError, match="max_samples"):
        fit(forest, steady(200))


def test_a_training_that_diverges_is_refused_by_name():
    network = LSTMAutoencoder((6,), (6,), WINDOW, 64, 2, 1e30, random_state=1)
    with (
        ends_within(10),
        np.errstate(all="ignore"),
        pytest.raises(InvalidDataError, match="learning_rate"),
    ):
        fit(network, steady(200))


def test_a_rate_that_no_score_can_show_ends_in_a_threshold_all_the_same():
    with ends_within(10):
        model = fit(DETECTORS["one_class_svm"], steady(200), threshold=1.0 - 1e-13)
    assert not model.predict(steady(200) + 50.0).any()
