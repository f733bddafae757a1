"""A forecast of each row: what its errors see, what they bear with, and who can open it."""

from __future__ import annotations

import pickle
import subprocess
import sys
from dataclasses import replace

import cloudpickle
import numpy as np
import pytest

from vigie.detectors import training
from vigie.detectors.base import no_progress
from vigie.detectors.data.matrices import Table
from vigie.detectors.scoring import raw_scores, raw_scores_along
from vigie.detectors.trained import TrainedModel
from vigie.detectors.vector_autoregression import estimator
from vigie.detectors.vector_autoregression.detector import VectorAutoregression
from vigie.detectors.vector_autoregression.score import whitened_errors
from vigie.errors import InvalidDataError

NAMES = tuple("abcdef")
DETECTOR = VectorAutoregression((1, 2, 4), "auto", 0.01)


def machine(n: int, seed: int, memory: float = 0.9) -> np.ndarray:
    """Rows of six sensors that follow two hidden loads, shape (n, 6)."""
    rng = np.random.default_rng(seed)
    load = np.zeros((n + 100, 2))
    for row in range(1, len(load)):
        load[row] = memory * load[row - 1] + np.sqrt(1 - memory**2) * rng.standard_normal(2)
    mixing = np.random.default_rng(0).standard_normal((2, len(NAMES)))
    return 100.0 + load[100:] @ mixing + 0.5 * rng.standard_normal((n, len(NAMES)))


def trained(rows: np.ndarray, detector: VectorAutoregression = DETECTOR) -> TrainedModel:
    names = tuple(f"s{i}" for i in range(rows.shape[1]))
    return training.train(
        detector,
        Table(rows, names),
        threshold=0.99,
        folds=5,
        time_ordered=True,
        random_state=0,
        trend_window=20,
    )


@pytest.fixture(scope="module")
def model() -> TrainedModel:
    return trained(machine(2000, seed=1))


def evidence(part: TrainedModel | None, rows: np.ndarray) -> np.ndarray:
    assert part is not None
    return part.calibration.p_value(part.raw_scores_along(rows))


# What it sees


def faulty(kind: str, rows: np.ndarray) -> np.ndarray:
    """Return rows with a fault in the fourth sensor from row 400 on."""
    changed, rng = rows.copy(), np.random.default_rng(9)
    now = changed[400:, 3]
    match kind:
        case "step":
            now += 2.0
        case "noise":
            now += 2.0 * rng.standard_normal(len(now))
        case "decoupled":
            now[:] = machine(len(now), seed=77)[:, 3]
        case "spikes":
            now += 6.0 * (rng.random(len(now)) < 0.2)
    return changed


@pytest.mark.parametrize("kind", ["step", "noise", "decoupled", "spikes"])
def test_faults_that_leave_each_reading_in_its_range_are_evident_within_thirty_rows(model, kind):
    rows = faulty(kind, machine(600, seed=2))
    p_values = evidence(model.trend, rows)
    first = 400 - model.trend.window
    assert p_values[:first].min() > 1e-4
    assert p_values[first : first + 30].min() < 1e-4


def test_the_sensor_with_the_fault_has_the_largest_share(model):
    rows = faulty("step", machine(600, seed=2))
    for part in (model.trend, model.change):
        example = rows[None, 430 - part.window : 430]
        assert part.explain(example).shares[0].argmax() == 3
    spike = machine(50, seed=3)
    spike[-1, 3] += 5.0
    assert model.explain(spike[None, -model.window :]).shares[0].argmax() == 3


def test_the_reading_at_which_a_sensor_was_at_its_oddest_is_one_that_there_is(model):
    window = np.full((1, model.trend.window, len(NAMES)), np.nan)
    window[0, -12:] = machine(12, seed=3)
    window[0, -12:, 5] = np.nan
    explanation = model.trend.explain(window)
    assert explanation.readings_ago is not None
    assert (explanation.readings_ago < 11).all()
    assert explanation.readings_ago[0, 5] == 0


def test_a_drift_is_evidence_of_the_trend_and_not_of_a_change(model):
    rows = machine(3000, seed=4)
    rows[:, 3] += np.linspace(0.0, 2.0, len(rows))
    assert np.median(evidence(model.trend, rows)[-500:]) < 0.001
    changed = evidence(model.change, rows)
    assert np.median(changed[-500:]) > 0.1
    assert (changed < 0.001).mean() < 0.01


def test_a_step_is_evidence_of_a_change_until_it_is_in_the_baseline(model):
    rows = faulty("step", machine(1000, seed=5))
    changed = evidence(model.change, rows)
    at = 400 - model.change.window
    assert changed[at + 20 : at + 60].max() < 0.001
    assert np.median(changed[at + 400 :]) > 0.05


@pytest.mark.slow
def test_healthy_rows_are_unusual_at_the_rate_asked():
    rates = []
    for seed in range(6):
        fresh = trained(machine(2000, seed=10 + seed))
        rates.append((fresh.predict_scores(machine(3000, seed=50 + seed)) > 0.99).mean())
    assert 0.005 < np.mean(rates) < 0.02


# What it bears with


def test_scores_are_the_same_alone_and_in_a_row(model):
    rows = machine(300, seed=6)
    rows[100, 2] = np.nan
    rows[200] = np.nan
    for part in (model, model.trend, model.change):
        along = part.raw_scores_along(rows)
        each = np.lib.stride_tricks.sliding_window_view(rows, part.window, axis=0)
        alone = [part.raw_scores(np.moveaxis(one[None], -1, 1))[0] for one in each]
        np.testing.assert_array_equal(along, alone)


def test_a_missing_value_is_no_oddness(model):
    rows = machine(400, seed=7)
    holes = rows.copy()
    holes[np.random.default_rng(0).random(rows.shape) < 0.1] = np.nan
    whole, with_holes = evidence(model, rows), evidence(model, holes)
    assert (with_holes < 0.01).mean() < (whole < 0.01).mean() + 0.02
    assert not np.isnan(with_holes).any()


def test_the_error_of_a_missing_sensor_is_the_expected_one_given_the_others(model):
    arrays, params = model.arrays, model.params
    rows = machine(5, seed=8)
    whitening = arrays["whitening"]
    whole = np.linalg.solve(whitening.T, whitened_errors(arrays, params, rows)[0])
    rows[-1, [1, 4]] = np.nan
    filled = np.linalg.solve(whitening.T, whitened_errors(arrays, params, rows)[0])
    known = np.array([0, 2, 3, 5])
    np.testing.assert_allclose(filled[known], whole[known], rtol=1e-9)
    covariance = np.linalg.inv(whitening @ whitening.T)
    expected = covariance[np.ix_([1, 4], known)] @ np.linalg.solve(
        covariance[np.ix_(known, known)], whole[known]
    )
    np.testing.assert_allclose(filled[[1, 4]], expected, atol=1e-6)


def test_after_a_gap_one_row_is_enough_for_a_forecast(model):
    rows = machine(60, seed=9)
    rows[:30] = np.nan
    scores = model.raw_scores_along(rows)
    first = 30 - model.window + 1
    assert np.isnan(scores[: first + 1]).all()
    assert not np.isnan(scores[first + 1 :]).any()


def test_a_glitch_does_not_ruin_the_forecasts_after_it(model):
    rows = machine(60, seed=10)
    glitch = rows.copy()
    glitch[30, 3] = 1e30
    scores = evidence(model, glitch)
    at = 30 - model.window + 1
    assert scores[at] < 1e-6
    np.testing.assert_array_equal(scores[at + 5 :], evidence(model, rows)[at + 5 :])


@pytest.mark.parametrize(
    "rows",
    [
        np.random.default_rng(0).standard_normal((60, 50)),
        np.tile([[0.0], [1.0]], (100, 1)),
        np.random.default_rng(1).integers(0, 2, (300, 3)).astype(float),
        np.column_stack([np.full(300, 7.0), np.random.default_rng(2).standard_normal(300)]),
        np.full((300, 2), 3.0),
        np.repeat(np.random.default_rng(3).standard_normal((300, 1)), 4, axis=1),
        1e90 * np.random.default_rng(4).standard_normal((200, 2)),
        np.cumsum(np.random.default_rng(5).standard_normal((500, 3)), axis=0),
    ],
    ids=["few rows", "alternating", "switches", "constant", "all constant", "copies", "huge",
         "random walk"],
)  # fmt: skip
def test_odd_data_are_trained_on_and_scored(rows):
    fitted = trained(rows)
    scores = fitted.predict_scores(rows)
    assert np.isfinite(scores).all()
    assert (scores > 0.99).mean() < 0.2


def test_a_switch_is_no_evidence_of_its_own_and_helps_to_forecast():
    rng = np.random.default_rng(0)
    on = np.repeat(rng.integers(0, 2, 200), 10).astype(float)
    rows = np.column_stack([on, 5.0 * np.r_[0.0, on[:-1]] + 0.1 * rng.standard_normal(len(on))])
    fitted = trained(rows)
    assert fitted.arrays["judged"].tolist() == [0.0, 1.0]
    # The second sensor follows one row later, which the forecast knows.
    turned = np.flatnonzero(np.diff(on)) + 2
    turned = turned[(turned > fitted.window) & (turned < len(rows))]
    assert (fitted.predict_scores(rows)[turned] > 0.99).mean() < 0.2


def test_too_few_rows_are_refused_with_their_number():
    with pytest.raises(InvalidDataError, match="at least 15 rows"):
        trained(machine(14, seed=0))


def test_few_rows_make_a_model_without_evidence_over_time(caplog):
    fitted = trained(machine(60, seed=0))
    assert fitted.trend is None
    assert fitted.change is None
    assert "too few to average over" in caplog.text


@pytest.mark.parametrize("wrong", [(2, 1), (0, 1), (), (1, 1)])
def test_horizons_ascend(wrong, untracked):
    from vigie import VectorAutoregressionService

    with pytest.raises(InvalidDataError) as caught:
        VectorAutoregressionService(horizons=wrong)
    assert caught.value.field.startswith("horizons")


# Who can open it


def test_it_is_saved_and_opened_with_all_of_its_parts(model, tmp_path):
    model.save(tmp_path)
    opened = TrainedModel.load(tmp_path)
    rows = machine(400, seed=11)
    for one, other in ((model, opened), (model.trend, opened.trend), (model.change, opened.change)):
        np.testing.assert_array_equal(one.raw_scores_along(rows), other.raw_scores_along(rows))


@pytest.mark.slow
def test_other_tools_open_the_estimator_without_vigie(tmp_path):
    rows = machine(500, seed=12)
    fitted = trained(rows)
    cloudpickle.register_pickle_by_value(estimator)
    try:
        (tmp_path / "model.pkl").write_bytes(cloudpickle.dumps(fitted.estimator))
    finally:
        cloudpickle.unregister_pickle_by_value(estimator)
    np.save(tmp_path / "rows.npy", rows)
    script = """
import pickle, sys
import numpy as np
sys.modules["vigie"] = None
model = pickle.load(open("model.pkl", "rb"))
np.save("verdicts.npy", model.predict(np.load("rows.npy")))
np.save("raw.npy", model.decision_function(np.load("rows.npy")))
"""
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True)
    assert np.load(tmp_path / "verdicts.npy").tolist() == fitted.predict(rows).tolist()
    np.testing.assert_allclose(np.load(tmp_path / "raw.npy"), fitted.raw_scores_of_rows(rows))


def test_the_penalty_can_be_given():
    rows = machine(400, seed=13)
    loose = replace(DETECTOR, penalty=1e-3).fit([rows], no_progress)
    strict = replace(DETECTOR, penalty=100.0).fit([rows], no_progress)
    assert abs(loose.arrays["coefficients"]).sum() > 5 * abs(strict.arrays["coefficients"]).sum()
    examples = rows[None, :5]
    for fitted in (loose, strict):
        alone = raw_scores(DETECTOR.algorithm, fitted.arrays, DETECTOR.params, examples)
        along = raw_scores_along(DETECTOR.algorithm, fitted.arrays, DETECTOR.params, rows, 5)
        assert alone[0] == along[0]
    assert pickle.loads(pickle.dumps(loose.estimator)).horizons == (1, 2, 4)
