"""Values show which columns are no sensors; an odd sensor is never left out."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from vigie.tables.kinds import Column, Kind, kinds, left_out_line

N = 1500
few_examples = settings(derandomize=True, max_examples=40, deadline=None)
seeds = st.integers(0, 2**32 - 1)


def kind_of(values, name="x") -> Kind:
    return told(values, name).kind


def told(values, name="x") -> Column:
    return kinds(pd.DataFrame({name: values}))[0]


def rng(seed=0):
    return np.random.default_rng(seed)


def two_machines(**columns):
    """Rows of two machines one after the other, with a row number for each."""
    number = np.append(np.arange(1.0, 81.0), np.arange(1.0, 61.0))
    return pd.DataFrame({"row": number, **columns})


# Row numbers


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (np.arange(1.0, 61.0), "goes up by one from row to row"),
        (np.arange(9001.0, 9401.0), "goes up by one from row to row"),
        (np.arange(60.0)[::-1], "goes down by one from row to row"),
        (np.arange(60.0) * 0.1, "goes up by 0.1 from row to row"),
        (np.tile(np.arange(1.0, 31.0), 4), "goes up by one from row to row, and starts anew"),
    ],
)
def test_a_constant_step_makes_a_row_number_whatever_its_name(values, reason):
    assert told(values, "UDI") == Column("UDI", Kind.ROW_NUMBER, reason)
    assert kind_of(values, "temperature") is Kind.ROW_NUMBER


def test_a_row_number_with_missing_cells_is_still_one():
    values = np.where(rng().random(N) < 0.3, np.nan, np.arange(float(N)))
    assert kind_of(values) is Kind.ROW_NUMBER


def test_a_row_number_may_jump_where_rows_were_left_out():
    assert kind_of(np.append(np.arange(700.0), np.arange(5000.0, 5700.0))) is Kind.ROW_NUMBER
    assert kind_of(np.flatnonzero(rng().random(N) < 0.95)) is Kind.ROW_NUMBER
    assert kind_of(np.flatnonzero(rng().random(N) < 0.5)) is Kind.COUNTER


def test_the_row_numbers_of_shuffled_rows_are_left_out():
    assert kind_of(rng().permutation(np.arange(1.0, 301.0))) is Kind.ROW_NUMBER


# Clocks


@pytest.mark.parametrize("unit", ["seconds", "milliseconds", "nanoseconds"])
def test_times_since_1970_are_a_clock_and_the_unit_is_said(unit):
    scale = {"seconds": 1.0, "milliseconds": 1e3, "nanoseconds": 1e9}[unit]
    even = (1.7e9 + 60 * np.arange(100)) * scale
    jittered = even + scale * rng().uniform(0, 20, 100)
    assert told(even) == told(jittered) == Column("x", Kind.CLOCK, f"{unit} since 1970")


@given(seed=seeds, jitter=st.floats(0.0, 0.2), pause=st.integers(0, 1000))
@few_examples
def test_seconds_that_elapse_with_jitter_and_a_pause_are_a_clock(seed, jitter, pause):
    steps = 1 + rng(seed).normal(0, jitter, N).clip(-0.4, 0.4)
    steps[700] += pause
    assert kind_of(steps.cumsum().round(6), "elapsed [s]") in (Kind.CLOCK, Kind.ROW_NUMBER)


def test_two_clocks_are_both_left_out():
    table = pd.DataFrame(
        {
            "at": pd.date_range("2024-05-06", periods=60, freq="1min"),
            "elapsed": np.arange(60) * 60.0 + rng().uniform(0, 5, 60),
            "rms": rng().normal(size=60),
        }
    )
    assert [c.kind for c in kinds(table, clock=["at"])] == [Kind.CLOCK, Kind.CLOCK, Kind.SENSOR]


def test_a_second_time_written_as_text_is_a_clock():
    at = pd.date_range("2024-05-06", periods=60, freq="1min")
    assert kind_of(at.strftime("%d.%m.%Y %H:%M").tolist()) is Kind.CLOCK
    assert kind_of(at.strftime("%Y-%m-%dT%H:%M:%SZ").tolist()) is Kind.CLOCK


def test_the_hour_and_the_month_are_parts_of_the_date():
    at = pd.date_range("2024-12-30", periods=N, freq="7min")
    assert kind_of(np.asarray(at.hour, float), "hour") is Kind.CLOCK
    assert kind_of(np.asarray(at.day, float), "jour") is Kind.CLOCK
    assert kind_of(rng().integers(0, 24, N).astype(float), "hour") is Kind.SENSOR


# Counters


@pytest.mark.parametrize(
    "values",
    [
        (1000 + np.arange(N) // 3 / 20).round(2),
        5000 + rng(1).gamma(2.0, 0.1, N).cumsum(),
        rng(2).poisson(0.4, N).cumsum() * 1.0,
    ],
    ids=["operating hours", "kWh", "pieces"],
)
def test_what_never_falls_is_a_counter_without_any_name(values):
    assert told(values) == Column("x", Kind.COUNTER, "never falls, like a counter")


def test_a_counter_that_is_reset_once_is_one():
    values = np.append(5000 + rng(1).gamma(2, 0.1, N).cumsum(), rng(2).gamma(2, 0.1, N).cumsum())
    assert kind_of(values) is Kind.COUNTER


def test_a_counter_that_reads_zero_for_moments_is_one():
    values = np.where(rng().random(N) < 0.02, 0.0, 5000 + rng(1).gamma(2, 0.1, N).cumsum())
    assert kind_of(values) is Kind.COUNTER


def test_a_ramp_that_is_held_is_a_sensor():
    assert kind_of(np.minimum(np.arange(N), 1400) / 2.0, "setpoint") is Kind.SENSOR


def test_few_rises_need_the_name_of_a_counter():
    batches = 1000.0 + np.arange(N) // 100
    assert kind_of(batches, "batch") is Kind.COUNTER
    assert kind_of(batches, "Zählerstand") is Kind.COUNTER
    assert kind_of(batches, "level") is Kind.SENSOR


def test_the_name_of_a_counter_alone_makes_none():
    assert kind_of(rng().normal(60, 2, N), "total energy [kWh]") is Kind.SENSOR


def test_a_saw_tooth_that_training_has_seen_often_is_a_sensor():
    wear = np.concatenate([np.arange(0, 200 + i, 2.5) for i in range(20)])
    assert kind_of(wear + rng().integers(0, 2, len(wear)), "wear") is Kind.SENSOR


# Constants, empty columns, text, identifiers


def test_constant_and_empty_columns_say_so():
    assert told(np.full(60, 3.2)).reason == "always 3.2"
    assert told(np.where(np.arange(60) % 2, np.nan, 0.0)).reason == "always 0"
    assert told(["Good"] * 60) == Column("x", Kind.CONSTANT, "always Good")
    for nothing in ([np.nan] * 60, [None] * 60, []):
        assert told(nothing) == Column("x", Kind.EMPTY, "no value")


def test_one_row_has_no_constants():
    assert kind_of([3.2]) is Kind.SENSOR


def test_text_says_its_words():
    assert told(["OPEN", "CLOSED"] * 30).reason == "text: OPEN, CLOSED"
    assert told([*"abcde"] * 12).reason == "text: a, b, c and 2 more"
    assert told(["12.1", "12.4", "Bad", "11.9"] * 30).reason == "text among numbers: Bad"


def test_identifiers_are_left_out():
    assert kind_of([f"M{i}" for i in range(60)]) is Kind.IDENTIFIER
    assert kind_of(["P1", "P2"] * 30, "machine_id") is Kind.IDENTIFIER
    assert kind_of(rng().choice([7.0, 9.0, 12.0], 60), "Unit number") is Kind.IDENTIFIER
    assert kind_of(rng().choice(np.arange(10.0**9, 10.0**9 + 10**6), 400)) is Kind.IDENTIFIER


def test_readings_are_no_identifiers_whatever_their_size_and_name():
    converter = (2**27 + rng().normal(0, 1e5, 600)).round()
    assert kind_of(converter) is Kind.SENSOR
    assert kind_of(rng().normal(1500, 4, N).round(), "machine_speed") is Kind.SENSOR
    assert kind_of(rng().normal(1500, 200, N).round(), "engine") is Kind.SENSOR


def test_what_changes_where_row_numbers_start_anew_tells_machines_apart():
    table = two_machines(c1=np.repeat([1.0, 2.0], [80, 60]), c2=rng().normal(size=140))
    assert [c.kind for c in kinds(table)] == [Kind.ROW_NUMBER, Kind.IDENTIFIER, Kind.SENSOR]


def test_a_switch_that_follows_the_seconds_of_a_clock_is_a_sensor():
    seconds = 1.7e9 + np.repeat(np.arange(100.0), 20)
    table = pd.DataFrame({"epoch": seconds, "pump": seconds % 2})
    assert [c.kind for c in kinds(table)] == [Kind.CLOCK, Kind.SWITCH]


def test_a_counter_of_each_machine_is_found():
    long = np.tile(np.arange(300.0), 4)
    hours = 7 + np.concatenate([1000 * i + rng(i).gamma(2, 1, 300).cumsum() for i in (3, 1, 2, 0)])
    table = pd.DataFrame({"cycle": long, "use": hours, "rms": rng().normal(size=1200)})
    assert [c.kind for c in kinds(table)] == [Kind.ROW_NUMBER, Kind.COUNTER, Kind.SENSOR]


# Labels and switches


@pytest.mark.parametrize(
    "name",
    ["anomaly", "is_anomaly", "Machine failure", "label", "target", "class", "Défaut", "Störung",
     "panne", "isFault", "Fehlercode"],
)  # fmt: skip
def test_a_label_needs_both_its_name_and_its_values(name):
    faulty = np.repeat([0.0, 1.0, 0.0], [60, 20, 20])
    assert told(faulty, name) == Column(name, Kind.LABEL, "0/1 and named like a label")
    assert kind_of(faulty, "pump_on") is Kind.SWITCH
    assert kind_of(1 - faulty, name) is Kind.SWITCH
    assert kind_of(np.tile([0.0, 0.0, 1.0], 33), name) is Kind.SWITCH
    assert kind_of(rng().normal(60, 2, 100), name) is Kind.SENSOR


def test_a_label_may_name_the_fault_by_its_number():
    assert kind_of(np.repeat([0.0, 3.0, 0.0, 7.0], [60, 20, 20, 10]), "fault") is Kind.LABEL


# Sensors

HEALTHY = {
    "noise": lambda r, n: r.normal(60, 2, n),
    "quantised": lambda r, n: r.normal(60, 2, n).round(),
    "three levels": lambda r, n: r.integers(0, 3, n).astype(float),
    "random walk": lambda r, n: r.normal(size=n).cumsum(),
    "ramp with noise": lambda r, n: np.arange(n) + r.normal(0, 0.5, n),
    "slow ramp with noise": lambda r, n: np.linspace(20, 90, n) + r.normal(0, 1.0 + 70 / n, n),
    "warming up without noise": lambda r, n: 90 - 70 * np.exp(-np.arange(n) * 4 / n),
    "warming up in tenths": lambda r, n: (90 - 70 * np.exp(-np.arange(n) * 4 / n)).round(1),
    "wave without noise": lambda r, n: np.sin(np.arange(n) * 9.0 / n + r.uniform(0, 6)),
    "part of a wave without noise": lambda r, n: np.sin(np.arange(n) / n + r.uniform(-1.4, -1.0)),
    "few levels, rising by chance": lambda r, n: np.sort(r.integers(0, 5, n)).astype(float),
    "mostly at rest": lambda r, n: np.where(r.random(n) < 0.2, r.normal(60, 2, n), 0.0),
}


@pytest.mark.parametrize("make", HEALTHY.values(), ids=HEALTHY)
@given(seed=seeds, n=st.integers(60, 600), missing=st.sampled_from([0.0, 0.3]))
@few_examples
def test_no_healthy_sensor_is_left_out(make, seed, n, missing):
    r = rng(seed)
    values = make(r, n)
    values[r.random(n) < missing] = np.nan
    column = told(values)
    assert column.is_feature, column


def test_no_column_of_noise_is_left_out_in_many_short_tables():
    for seed in range(40):
        table = pd.DataFrame(rng(seed).normal(50, 3, (60, 50)))
        assert {column.kind for column in kinds(table)} == {Kind.SENSOR}


def test_a_digital_tag_is_a_sensor():
    assert kind_of(np.arange(60) % 40 < 20) is Kind.SWITCH
    assert told(np.arange(60) % 40 < 20).is_feature


@given(values=arrays(float, st.integers(0, 40), elements=st.floats(width=64)))
@few_examples
def test_any_numbers_are_told_without_a_warning(values):
    column = told(values)
    assert column.reason
    # What a column is does not change with infinities in place of missing cells.
    assert told(np.where(np.isfinite(values), values, np.nan)) == column


# What is said


def test_one_line_names_what_is_left_out_and_why():
    columns = [
        Column("UDI", Kind.ROW_NUMBER, "goes up by one from row to row"),
        Column("rms", Kind.SENSOR, "numbers"),
        Column("valve", Kind.TEXT, "text: OPEN, CLOSED"),
        *(Column(f"spare_{i}", Kind.EMPTY, "no value") for i in range(1, 41)),
        Column("p", Kind.CONSTANT, "always 1"),
        Column("q", Kind.CONSTANT, "always 1"),
    ]
    assert left_out_line(columns) == (
        "Left out: UDI (goes up by one from row to row), valve (text: OPEN, CLOSED), "
        "spare_1, spare_2 and 38 more (no value), p and q (always 1)"
    )


def test_many_reasons_of_one_kind_are_said_in_one():
    columns = [Column(f"c{i}", Kind.CONSTANT, f"always {i}") for i in range(9)]
    assert left_out_line(columns) == "Left out: c0, c1 and 7 more (always the same value)"


def test_words_among_numbers_are_said_apart_from_other_text():
    columns = [Column(f"t{i}", Kind.TEXT, f"text: A{i}") for i in range(5)]
    columns.append(Column("p", Kind.TEXT, "text among numbers: Bad"))
    assert left_out_line(columns) == (
        "Left out: t0, t1 and 3 more (text), p (text among numbers: Bad)"
    )


def test_nothing_is_said_where_nothing_is_left_out():
    assert left_out_line([Column("rms", Kind.SENSOR, "numbers")]) is None


def test_parts_of_a_date_are_no_sensors_even_with_two_values():
    n = 120
    table = pd.DataFrame(
        {
            "day": np.repeat([1.0, 2.0], n // 2),
            "1/100 s": np.tile([0.0, 25.0, 50.0, 75.0], n // 4),
            "ms": np.tile(np.arange(10) * 100.0, n // 10),
            "second": np.tile([0.0, 1.0], n // 2),
        }
    )
    found = {column.name: column.kind for column in kinds(table)}
    assert found == {
        "day": Kind.CLOCK,
        "1/100 s": Kind.CLOCK,
        "ms": Kind.CLOCK,
        # It switches from row to row.
        "second": Kind.SWITCH,
    }
