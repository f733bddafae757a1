"""Faulty sensors are found and named; healthy ones, however odd, are left alone."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from vigie.detectors.data.quality import (
    examine,
    faulty,
    frozen_after,
    longest_runs,
    magnitude,
)
from vigie.errors import InvalidDataError

SENSORS = {
    "temperature": lambda rng, n: rng.normal(60.0, 2.0, n),
    "centred": lambda rng, n: rng.normal(size=n),
    "vibration": lambda rng, n: rng.lognormal(0.0, 0.5, n),
    "speed": lambda rng, n: np.round(rng.normal(1500.0, 4.0, n)),
    "drift": lambda rng, n: np.linspace(20.0, 90.0, n) + rng.normal(size=n),
}
HEAVY_TAILED = {
    "log-normal": lambda rng, n: rng.lognormal(0.0, 1.0, n),
    "cauchy": lambda rng, n: rng.standard_cauchy(n),
    "kurtosis": lambda rng, n: ((rng.standard_t(2, (n, 16)) ** 4).mean(axis=1)) - 3.0,
    "squared": lambda rng, n: rng.standard_t(3, n) ** 2,
    "bursts": lambda rng, n: np.where(rng.random(n) < 0.3, rng.lognormal(5.0, 2.0, n), 0.0),
    "drops": lambda rng, n: rng.pareto(1.0, n),
}
few_examples = settings(derandomize=True, max_examples=60, deadline=None)
seeds = st.integers(0, 2**32 - 1)
# Whole numbers, of which none is hundreds of times another, as in a wrong unit.
readings = st.integers(-100, 100).map(float) | st.sampled_from([np.nan, np.inf, -np.inf, 1e9])
tables = st.tuples(st.integers(1, 30), st.integers(1, 4)).flatmap(
    lambda shape: arrays(np.float64, shape, elements=readings)
)


def live_faults(row, names, usual, ranges=None):
    masks = faulty(row, names, ranges or {}, usual)
    return {name: kind for i, name in enumerate(names) for kind, mask in masks.items() if mask[i]}


def temperatures(n: int = 1000, seed: int = 0):
    return SENSORS["temperature"](np.random.default_rng(seed), n)


def faults_of(column) -> list[tuple[str, int]]:
    quality = examine(np.asarray(column, dtype=float)[:, np.newaxis], ["sensor"])[1]
    return [(fault.kind, fault.n_rows) for fault in quality.faults]


# What is found, and what is said of it


def test_each_fault_is_told_in_one_sentence():
    values = np.column_stack([temperatures(seed=seed) for seed in range(4)])
    values[17:29, 0] = np.nan
    values[40:43, 1] = 999.0
    values[5:105, 2] = 61.5
    values[[7, 9], 3] = 60_000.0
    names = ["inlet", "outlet", "oil", "bearing"]
    quality = examine(values, names, {"outlet": (-40.0, 150.0)})[1]
    assert [str(fault) for fault in quality.faults] == [
        "inlet: 12 of 1000 values are missing, first in row 18",
        "outlet: 3 of 1000 values are outside the physical range, first in row 41 (999)",
        "oil: 100 of 1000 values are frozen, for up to 100 consecutive rows, first in row 6 (61.5)",
        "bearing: 2 of 1000 values are hundreds of times too large, as in a wrong unit, "
        "first in row 8 (60000)",
    ]
    assert quality.n_filled == 17


def test_the_report_is_json_even_where_values_are_missing():
    values = temperatures()[:, np.newaxis]
    values[3:5] = [[np.nan], [np.inf]]
    values[:3] = 1e300
    values[500:600] = 60.0
    report = json.loads(json.dumps(examine(values, ["oil"])[1].as_dict(), allow_nan=False))
    assert (report["n_samples"], report["n_filled"]) == (1000, 5)
    assert [fault["kind"] for fault in report["faults"]] == ["missing", "wrong_unit", "frozen"]
    assert report["faults"][0]["sentence"].startswith("oil: 2 of 1000 values are missing")


@pytest.mark.parametrize(
    ("ends", "bad_rows"), [((0.0, None), [1]), ((None, 100.0), [4]), ((0.0, 100.0), [1, 4])]
)
def test_a_range_may_be_open_at_either_end_and_its_ends_are_good(ends, bad_rows):
    values = np.array([[0.0], [-1.0], [50.0], [100.0], [101.0], [20.0]])
    (fault,) = examine(values, ["level"], {"level": ends, "another": (None, 0.0)})[1].faults
    assert (fault.kind, fault.n_rows) == ("out_of_range", len(bad_rows))
    assert (fault.first_row, fault.example) == (bad_rows[0], values[bad_rows[0], 0])


def test_impossible_values_have_one_fault_and_are_no_measure_of_the_others():
    values = temperatures(100)[:, np.newaxis]
    values[:40] = 1e7
    values[50:55] *= 1000.0
    faults = examine(values, ["oil"], {"oil": (None, 1e5)})[1].faults
    assert [(fault.kind, fault.n_rows) for fault in faults] == [
        ("out_of_range", 40),
        ("wrong_unit", 5),
    ]


# What is filled


def test_a_gap_holds_the_value_before_it_and_the_first_gap_the_value_after():
    values = np.array([[np.nan, 1.0], [np.nan, 2.0], [3.0, np.inf], [4.0, np.nan], [5.0, 6.0]])
    values = np.concatenate([values, values[-1:] + np.arange(1, 6)[:, np.newaxis]])
    filled, quality = examine(values, ["a", "b"])
    assert filled[:5].tolist() == [[3.0, 1.0], [3.0, 2.0], [3.0, 2.0], [4.0, 2.0], [5.0, 6.0]]
    assert quality.n_filled == 4


def test_a_frozen_sensor_is_told_of_and_not_touched():
    values = temperatures()[:, np.newaxis]
    values[100:400] = values[100]
    filled, quality = examine(values, ["oil"])
    assert len(quality.faults) == 1
    assert filled is values


def test_good_data_come_back_as_they_are():
    values = np.column_stack([draw(np.random.default_rng(1), 2000) for draw in SENSORS.values()])
    filled, quality = examine(values, list(SENSORS))
    assert filled is values
    assert (quality.faults, quality.n_filled, quality.n_samples) == ((), 0, 2000)


@pytest.mark.slow
@few_examples
@given(tables)
def test_only_faulty_cells_change_and_each_into_a_good_value_of_its_sensor(values):
    before = values.copy()
    good = np.isfinite(values) & (np.abs(values) <= 100.0)
    names = [f"s{column}" for column in range(values.shape[1])]
    try:
        filled, quality = examine(values, names, dict.fromkeys(names, (-100.0, 100.0)))
    except InvalidDataError:
        crowded = (2 * (~good).sum(axis=0) > len(values)).any()
        assert crowded or 2 * (~good).any(axis=1).sum() > len(values)
        return
    finally:
        assert np.array_equal(values, before, equal_nan=True)
    to_fill = [
        fault.n_rows for fault in quality.faults if fault.kind in ("missing", "out_of_range")
    ]
    assert sum(to_fill) == (~good).sum()
    assert np.array_equal(filled[good], values[good])
    for column in range(values.shape[1]):
        assert set(filled[:, column]) <= set(values[good[:, column], column])


@pytest.mark.parametrize("bad", [np.nan, 500.0, -np.inf])
def test_a_sensor_that_is_mostly_faulty_is_refused_by_name(bad):
    values = np.column_stack([temperatures(100), temperatures(100, seed=1)])
    values[:50, 1] = bad
    assert examine(values, ["oil", "water"], {"water": (0.0, 100.0)})[1].n_filled == 50
    values[50, 1] = bad
    with pytest.raises(InvalidDataError, match=r"51 of 100 values.*Leave the column out") as caught:
        examine(values, ["oil", "water"], {"water": (0.0, 100.0)})
    assert caught.value.field == "data.water"


def test_a_table_of_which_most_rows_are_faulty_is_refused():
    values = np.random.default_rng(0).normal(size=(100, 3))
    values[:30, 0] = values[30:50, 1] = np.nan
    assert examine(values, ["a", "b", "c"])[1].n_filled == 50
    values[50, 2] = np.nan
    with pytest.raises(InvalidDataError, match=r"51 of 100 rows.*'a' first") as caught:
        examine(values, ["a", "b", "c"])
    assert caught.value.field == "data"


def test_no_rows_have_no_faults():
    assert examine(np.empty((0, 2)), ["a", "b"])[1].faults == ()


# A wrong unit


@few_examples
@given(
    seed=seeds,
    n=st.integers(100, 3000),
    share=st.floats(0.0, 0.2),
    sensor=st.sampled_from(["temperature", "speed", "drift"]),
    factor=st.sampled_from([1e3, -1e3, 1e6, 1e300]),
)
def test_values_a_thousand_times_too_large_are_all_found(seed, n, share, sensor, factor):
    rng = np.random.default_rng(seed)
    column = SENSORS[sensor](rng, n)
    wrong = rng.choice(n, max(1, int(share * n)), replace=False)
    column[wrong] *= factor
    assert faults_of(column) == [("wrong_unit", len(wrong))]


@pytest.mark.parametrize("share", [0.02, 0.2])
@pytest.mark.parametrize("draw", [*SENSORS, "log-normal"])
def test_where_values_reach_down_to_zero_most_of_the_wrong_unit_is_found(draw, share):
    rng = np.random.default_rng(3)
    column = (SENSORS | HEAVY_TAILED)[draw](rng, 1000)
    column[: int(share * 1000)] *= 1000.0
    ((kind, n_rows),) = faults_of(column)
    assert kind == "wrong_unit"
    assert 0.6 * share * 1000 < n_rows <= share * 1000


@pytest.mark.parametrize("n", [200, 1000, 10_000, 100_000])
@pytest.mark.parametrize("draw", HEAVY_TAILED)
def test_heavy_tails_are_real(draw, n):
    rng = np.random.default_rng(4)
    for _ in range(max(1, 20_000 // n)):
        column = HEAVY_TAILED[draw](rng, n)
        assert faults_of(column) == []


@pytest.mark.parametrize("draw", ["log-normal", "cauchy", "squared"])
def test_live_values_of_a_heavy_tailed_sensor_are_hardly_ever_a_wrong_unit(draw):
    rng = np.random.default_rng(5)
    usual = magnitude(HEAVY_TAILED[draw](rng, 2000)[:, np.newaxis])
    alarms = sum(
        bool(live_faults(np.array([value]), ["s"], usual))
        for value in HEAVY_TAILED[draw](rng, 10_000)
    )
    assert alarms <= 2


def test_too_few_values_tell_nothing_of_a_unit():
    assert faults_of([1.0] * 18 + [1000.0]) == []
    assert faults_of([1.0] * 19 + [1000.0]) == [("wrong_unit", 1)]


def test_a_sensor_that_is_mostly_zero_has_no_usual_magnitude():
    values = np.zeros((100, 1))
    values[::9] = 1e6
    assert magnitude(values)[0] == 0.0
    assert examine(values, ["alarm"])[1].faults == ()
    assert live_faults(np.array([1e9]), ["alarm"], magnitude(values)) == {}


def test_a_machine_that_mostly_idles_is_not_in_a_wrong_unit_when_it_runs():
    rng = np.random.default_rng(9)
    current = np.abs(rng.normal(0.0, 0.01, 1000))
    current[600:900] = rng.normal(20.0, 1.0, 300)
    assert faults_of(current) == []


# A frozen sensor


@few_examples
@given(
    seed=seeds,
    n=st.integers(300, 3000),
    length=st.integers(20, 250),
    start=st.floats(0.0, 1.0),
    sensor=st.sampled_from(["temperature", "centred", "vibration", "drift"]),
)
def test_a_sensor_that_stands_still_is_found_where_it_does(seed, n, length, start, sensor):
    column = SENSORS[sensor](np.random.default_rng(seed), n)
    first = int(start * (n - length))
    column[first : first + length] = column[first]
    (fault,) = examine(column[:, np.newaxis], ["s"])[1].faults
    assert (fault.kind, fault.first_row, fault.n_rows) == ("frozen", first, length)
    assert (fault.longest, fault.example) == (length, column[first])


def test_nine_equal_values_are_no_standstill_however_fine_the_sensor():
    for length, expected in [(9, []), (10, [("frozen", 10)])]:
        column = temperatures(1000)
        column[100 : 100 + length] = column[100]
        assert faults_of(column) == expected


def test_a_coarse_sensor_needs_to_stand_still_for_longer():
    found = []
    for length in (10, 400):
        column = np.round(np.random.default_rng(6).normal(5.0, 0.7, 3000))
        column[700 : 700 + length] = column[700]
        found.append([kind for kind, _ in faults_of(column)])
    assert found == [[], ["frozen"]]


def test_a_slow_phase_of_a_coarse_sensor_is_not_a_standstill():
    for seed in range(100):
        rng = np.random.default_rng(seed)
        column = rng.normal(50.0, 5.0, 2000)
        column[1000:1400] = 50.0 + np.cumsum(rng.normal(0.0, 0.3, 400))
        assert faults_of(np.round(column)) == []


def test_a_sensor_that_freezes_again_and_again_is_found_each_time():
    column = temperatures(5000)
    for first in range(0, 5000, 500):
        column[first : first + 60] = column[first]
    assert faults_of(column) == [("frozen", 600)]


def test_a_sensor_that_died_half_way_is_frozen():
    column = temperatures(1000)
    column[300:] = column[300]
    assert faults_of(column) == [("frozen", 700)]


def test_gaps_do_not_hide_that_a_sensor_stands_still_nor_look_like_it():
    column = temperatures(1000)
    column[200:260:7] = np.nan
    assert faults_of(column) == [("missing", 9)]
    column[400:700] = 60.0
    column[400:700:7] = np.nan
    missing, frozen = examine(column[:, np.newaxis], ["s"])[1].faults
    assert (missing.n_rows, missing.first_row) == (52, 200)
    assert (frozen.kind, frozen.n_rows, frozen.first_row) == ("frozen", 257, 401)


def set_points(rng, n):
    return np.repeat(rng.choice([20.0, 40.0, 60.0], n), rng.integers(5, 300, n))[:n]


def ramps(rng, n):
    levels = rng.uniform(20.0, 80.0, 30)
    legs = [
        np.r_[np.linspace(start, stop, 15), np.full(rng.integers(50, 400), stop)]
        for start, stop in pairwise(levels)
    ]
    return np.concatenate(legs)[:n]


def night_after_a_busy_day(rng, n):
    return np.r_[rng.integers(0, 2, n // 2), np.zeros(n // 2)]


def stops(rng, n):
    current = rng.normal(10.0, 1.0, n)
    for first in (100, 700, 1500):
        current[first : first + rng.integers(80, 250)] = 0.0
    return current


HOLDING = {
    "set-points": set_points,
    "ramps": ramps,
    "switch": night_after_a_busy_day,
    "stops": stops,
    "constant": lambda rng, n: np.full(n, 7.0),
    "step": lambda rng, n: np.arange(n) < n // 3,
    "staircase": lambda rng, n: np.arange(n) // 100,
    "coarse walk": lambda rng, n: np.round(np.cumsum(rng.normal(size=n)) / 10.0),
    "day and night": lambda rng, n: np.round(20.0 + 8.0 * np.sin(np.arange(n) / 200.0), 1),
    "coarse": lambda rng, n: np.round(rng.normal(0.0, 0.4, n)),
    "counts": lambda rng, n: rng.poisson(0.05, n),
}


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("draw", HOLDING)
def test_a_sensor_that_is_used_to_hold_its_value_is_not_frozen(draw, seed):
    assert faults_of(HOLDING[draw](np.random.default_rng(seed), 2000)) == []


# Live readings


def test_a_live_reading_has_the_faults_that_training_data_would_have():
    trained = np.column_stack([temperatures(seed=seed) for seed in range(5)])
    names, ranges = list("abcde"), {"b": (0.0, 100.0), "c": (0.0, None)}
    row = np.array([np.nan, 101.0, -np.inf, 60_000.0, 61.0])
    expected = {"a": "missing", "b": "out_of_range", "c": "missing", "d": "wrong_unit"}
    assert live_faults(row, names, magnitude(trained), ranges) == expected
    table = np.concatenate([trained, row[np.newaxis]])
    assert {f.sensor: f.kind for f in examine(table, names, ranges)[1].faults} == expected


@pytest.mark.slow
@few_examples
@given(arrays(np.float64, st.tuples(st.integers(0, 40), st.integers(1, 3)), elements=readings))
def test_what_is_learnt_of_any_sensor_can_be_stored_and_compared(values):
    usual, after = magnitude(values), frozen_after(values)
    assert np.isfinite(usual).all()
    assert (usual >= 0.0).all()
    assert (after >= 0).all()


def test_the_longest_runs_are_those_of_a_sensor_that_works():
    values = np.array([[1.0, 5.0], [1.0, np.nan], [1.0, 5.0], [2.0, 5.0], [1.0, 6.0]])
    assert longest_runs(values).tolist() == [3, 3]
    column = temperatures()
    column[100:400] = column[100]
    assert longest_runs(column[:, np.newaxis]).tolist() == [1]


def test_a_live_sensor_is_frozen_once_it_holds_a_value_for_far_longer_than_in_training():
    rng = np.random.default_rng(8)
    trained = np.column_stack([rng.normal(size=500), np.round(rng.normal(0.0, 0.7, 500))])
    healthy = np.column_stack([rng.normal(size=20_000), np.round(rng.normal(0.0, 0.7, 20_000))])
    after = frozen_after(trained)
    assert (longest_runs(healthy) <= after).all()
    assert (after < 100).all()


def test_a_constant_or_a_switch_may_hold_its_value_for_any_time():
    switch = set_points(np.random.default_rng(8), 500) > 30.0
    assert frozen_after(np.column_stack([switch, np.ones(500)])).tolist() == [0, 0]
