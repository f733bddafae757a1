"""A p-value must mean what it says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from vigie.detectors.base import MAX_SURPRISE
from vigie.detectors.calibration.combination import combine
from vigie.detectors.calibration.p_values import Calibration

DRAWS = {
    "normal": lambda rng, n: rng.normal(size=n),
    "exponential": lambda rng, n: rng.exponential(size=n),
    "uniform": lambda rng, n: rng.uniform(size=n),
    "heavy": lambda rng, n: rng.standard_t(3, size=n),
}
few_examples = settings(derandomize=True, max_examples=60, deadline=None)
scores = st.lists(
    st.floats(-1e3, 1e3).map(lambda score: round(score, 4)), min_size=1, max_size=120
).map(np.array)
p_values = st.floats(1e-9, 0.98)


def calibrated(n: int = 500, draw: str = "exponential", seed: int = 0) -> Calibration:
    return Calibration.fit(DRAWS[draw](np.random.default_rng(seed), n))


def within_chance(hits: int, trials: int, rate: float) -> bool:
    """Whether a binomial count is within four standard deviations of what is expected."""
    return abs(hits - trials * rate) <= 4.0 * np.sqrt(trials * rate * (1.0 - rate))


# The rate of false alarms


@pytest.mark.slow
@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize(
    ("n", "alpha"), [(19, 0.2), (30, 0.1), (99, 0.01), (150, 0.05), (400, 0.01), (400, 0.5)]
)
def test_healthy_readings_are_below_alpha_at_the_rate_alpha(draw, n, alpha):
    # One fresh reading a calibration: the trials are independent, so the binomial law holds.
    rng, trials = np.random.default_rng(7), 1500
    hits = sum(
        Calibration.fit(DRAWS[draw](rng, n)).p_value(DRAWS[draw](rng, 1))[0] < alpha
        for _ in range(trials)
    )
    assert within_chance(hits, trials, alpha)


@pytest.mark.parametrize("draw", DRAWS)
def test_alarms_beyond_the_calibration_sample_stay_near_the_rate_asked(draw):
    rng, alpha, alarms = np.random.default_rng(8), 1e-3, []
    for _ in range(100):
        calibration = Calibration.fit(DRAWS[draw](rng, 300))
        alarms.append((calibration.p_value(DRAWS[draw](rng, 5000)) < alpha).mean())
    # The tail is a guess from thirty scores, and a bounded one is taken for longer than it is.
    assert np.mean(alarms) < 3 * alpha
    if draw != "uniform":
        assert np.mean(alarms) > alpha / 10


def test_a_shift_in_unit_changes_no_p_value():
    sample, fresh = np.random.default_rng(9).gamma(2.0, size=(2, 300))
    p = Calibration.fit(sample).p_value(fresh)
    np.testing.assert_allclose(
        Calibration.fit(1000.0 * sample - 7.0).p_value(1000.0 * fresh - 7.0), p
    )


def test_the_order_of_the_calibration_scores_does_not_matter():
    sample = np.random.default_rng(10).normal(size=200)
    fresh = np.linspace(-10, 10, 400)
    np.testing.assert_array_equal(
        Calibration.fit(sample[::-1]).surprise(fresh), Calibration.fit(sample).surprise(fresh)
    )


def test_each_calibration_score_has_the_share_that_lies_above_it():
    sample = np.sort(np.random.default_rng(11).normal(size=99))
    p = Calibration.fit(sample).p_value(sample)
    np.testing.assert_allclose(p, np.arange(99, 0, -1) / 100)


# Order is never lost


@few_examples
@given(scores)
@example(np.r_[np.zeros(90), np.ones(10)])
@example(np.zeros(50))
@example(np.array([3.0]))
def test_surprise_rises_strictly_with_the_raw_score(sample):
    calibration = Calibration.fit(sample)
    knots = calibration.knots
    grid = np.concatenate(
        [
            knots[0] - calibration.body_scale * np.array([30.0, 10.0, 3.0, 1.0, 0.1]),
            np.sort(np.r_[knots, 0.5 * (knots[:-1] + knots[1:])]),
            knots[-1] + calibration.tail_scale * np.array([0.1, 1.0, 10.0, 100.0, 1e4, 1e6]),
        ]
    )
    surprise = calibration.surprise(grid)
    assert (np.diff(surprise) > 0).all()
    assert (surprise >= 0).all()
    assert (surprise < MAX_SURPRISE).all()


@pytest.mark.parametrize("draw", DRAWS)
def test_two_grave_faults_still_have_an_order(draw):
    calibration = calibrated(draw=draw)
    faults = calibration.knots[-1] * 1.01 ** np.arange(1, 2000)
    assert (np.diff(calibration.surprise(faults)) > 0).all()


@pytest.mark.parametrize("draw", DRAWS)
def test_no_finite_reading_scores_exactly_one(draw):
    calibration = calibrated(draw=draw)
    near = calibration.knots[-1] * 1.01 ** np.arange(600)
    near_scores = 1.0 - calibration.p_value(near)
    assert (np.diff(near_scores) > 0).all()
    assert (1.0 - calibration.p_value(np.array([1e6, 1e30, 1e300])) < 1.0).all()


def test_surprise_has_no_jumps():
    calibration = calibrated()
    edges = [calibration.knots[0], calibration.knots[-1], calibration.raw_threshold(1e-6)]
    for edge in edges:
        below, above = calibration.surprise(np.array([edge - 1e-9, edge + 1e-9]))
        assert above - below < 1e-6


def test_p_values_stay_above_zero_and_below_one_near_the_sample():
    calibration = calibrated()
    p = calibration.p_value(np.linspace(-5.0, 1e4, 5000))
    assert ((p > 0) & (p < 1)).all()


# Samples that are not smooth


def test_equal_scores_are_as_rare_as_all_of_them_together():
    calibration = Calibration.fit(np.r_[np.zeros(80), np.ones(20)])
    np.testing.assert_allclose(calibration.p_value(np.array([0.0, 1.0])), [100 / 101, 20 / 101])


@pytest.mark.parametrize("n_high", [1, 2, 10, 11, 50])
def test_a_sample_of_two_values_is_calibrated(n_high):
    calibration = Calibration.fit(np.r_[np.zeros(100 - n_high), np.ones(n_high)])
    surprise = calibration.surprise(np.array([-1.0, 0.0, 0.5, 1.0, 1.5, 100.0]))
    assert np.isfinite(surprise).all()
    assert (np.diff(surprise) > 0).all()


def test_rounded_scores_raise_no_more_alarms_than_asked_for():
    rng, trials, alpha = np.random.default_rng(12), 1500, 0.05
    hits = sum(
        Calibration.fit(rng.normal(size=150).round(1)).p_value(rng.normal(size=1).round(1))[0]
        < alpha
        for _ in range(trials)
    )
    assert hits <= trials * alpha + 4.0 * np.sqrt(trials * alpha)


@pytest.mark.parametrize("value", [0.0, 3.0, -1e6, 1e-12])
def test_a_constant_sample_knows_the_same_from_more_and_less(value):
    calibration = Calibration.fit(np.full(50, value))
    step = max(abs(value), 1e-6)
    p = calibration.p_value(np.array([value - step, value, value + step]))
    assert p[0] > p[1] > p[2]
    assert p[1] == pytest.approx(50 / 51)


@pytest.mark.parametrize("n", [2, 3, 5])
def test_a_handful_of_scores_is_enough_to_order_readings(n):
    calibration = Calibration.fit(np.arange(float(n)))
    surprise = calibration.surprise(np.linspace(-3.0, 3.0 * n, 50))
    assert np.isfinite(surprise).all()
    assert (np.diff(surprise) > 0).all()
    assert calibration.n_samples == n


@pytest.mark.parametrize("n", [4096, 4097, 20_000])
def test_a_large_sample_is_thinned_only_where_it_does_not_matter(n):
    sample = np.sort(np.random.default_rng(13).normal(size=n))
    calibration = Calibration.fit(sample)
    assert calibration.n_samples == n
    assert len(calibration.knots) <= 4096
    exact = np.arange(n, 0, -1) / (n + 1)
    p = calibration.p_value(sample)
    # In the tail, where alarms come from, every single score is kept.
    np.testing.assert_allclose(p[-2000:], exact[-2000:], rtol=1e-9)
    np.testing.assert_allclose(p, exact, atol=1e-3)
    assert (np.diff(p) < 0).all()


# The threshold


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("p", [0.999, 0.9, 0.5, 0.1, 0.01, 1e-3, 1e-5, 1e-6, 1e-9])
def test_the_raw_threshold_is_where_the_p_value_is_p(draw, p):
    calibration = calibrated(draw=draw)
    raw = calibration.raw_threshold(p)
    assert calibration.p_value(np.array([raw]))[0] == pytest.approx(p, rel=1e-6)


@few_examples
@given(scores, st.floats(1e-7, 0.99))
def test_the_raw_threshold_parts_the_same_readings_as_the_score(sample, alpha):
    calibration = Calibration.fit(sample)
    threshold = 1.0 - alpha
    raw_threshold = calibration.raw_threshold(1.0 - threshold)
    assert np.isfinite(raw_threshold)
    margin = 1e-6 * max(abs(raw_threshold), calibration.body_scale, calibration.tail_scale)
    grid = np.r_[calibration.knots, np.linspace(sample.min() - 1.0, sample.max() + 1.0, 50)]
    clear = grid[np.abs(grid - raw_threshold) > margin]
    np.testing.assert_array_equal(
        1.0 - calibration.p_value(clear) > threshold, clear > raw_threshold
    )


# Several models, one verdict


@few_examples
@given(st.floats(1e-12, 1 - 1e-9))
def test_one_model_alone_is_unchanged(p):
    assert combine(np.array([[p]]))[0] == p
    assert combine(np.array([[np.nan], [p], [np.nan]]))[0] == p


@few_examples
@given(st.lists(p_values, min_size=2, max_size=4))
def test_a_model_that_abstains_has_no_say(answers):
    column = np.array(answers)[:, None]
    abstaining = np.vstack([column, [[np.nan]]])
    assert combine(abstaining)[0] == combine(column)[0]


def test_where_all_abstain_there_is_no_answer():
    p = np.array([[np.nan, 0.2], [np.nan, np.nan]])
    np.testing.assert_array_equal(combine(p), [np.nan, 0.2])


@few_examples
@given(p_values, st.integers(2, 4))
def test_models_that_agree_are_taken_at_their_word(p, n):
    assert combine(np.full((n, 1), p))[0] == pytest.approx(p, rel=1e-6)


@few_examples
@given(st.lists(p_values, min_size=2, max_size=4), st.randoms(use_true_random=False))
def test_the_order_of_the_models_does_not_matter(answers, random):
    shuffled = list(answers)
    random.shuffle(shuffled)
    one, other = combine(np.array([answers, shuffled]).T[:, :2])
    assert one == pytest.approx(other, rel=1e-9)


@few_examples
@given(p_values, p_values, p_values)
def test_more_alarm_in_one_model_is_more_alarm_in_all(one, other, third):
    calm, alarmed = max(one, other), min(one, other)
    before, after = combine(np.array([[calm, alarmed], [third, third]]))
    assert after <= before


@few_examples
@given(st.lists(st.floats(1e-12, 1 - 1e-12), min_size=1, max_size=4))
def test_the_combination_is_a_p_value(answers):
    [combined] = combine(np.array(answers)[:, None])
    assert 0.0 < combined < 1.0


@pytest.mark.parametrize("alpha", [1e-3, 0.01, 0.05])
@pytest.mark.parametrize("n_models", [2, 3])
def test_the_rate_of_false_alarms_holds_for_independent_models(n_models, alpha):
    trials = 100_000
    p = np.random.default_rng(14).uniform(size=(n_models, trials))
    hits = int((combine(p) < alpha).sum())
    assert within_chance(hits, trials, alpha)


@pytest.mark.parametrize("alpha", [1e-3, 0.01, 0.05])
def test_the_rate_of_false_alarms_holds_for_models_that_say_the_same(alpha):
    trials = 100_000
    p = np.tile(np.random.default_rng(15).uniform(size=trials), (3, 1))
    assert within_chance(int((combine(p) < alpha).sum()), trials, alpha)


@pytest.mark.parametrize("alpha", [1e-3, 0.01])
def test_the_rate_of_false_alarms_holds_for_models_that_contradict_each_other(alpha):
    p = np.random.default_rng(16).uniform(size=100_000)
    assert (combine(np.stack([p, 1.0 - p])) < alpha).mean() < 1.5 * alpha


def test_a_model_that_is_utterly_calm_cannot_veto_an_alarm():
    for calm in (0.5, 0.99, 1 - 1e-9, 1.0):
        [combined] = combine(np.array([[1e-6], [calm]]))
        assert combined < 3e-6
    [outnumbered] = combine(np.array([[1e-6], [1 - 1e-9], [1 - 1e-9]]))
    assert outnumbered < 4e-6
