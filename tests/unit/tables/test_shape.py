"""Long tables, tables of several machines and mixed rates become one row a time of one machine."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

from vigie.errors import InvalidDataError
from vigie.tables.machines import Known, open_machines, read_machines
from vigie.tables.options import UNSTATED, ReadOptions
from vigie.tables.shape import (
    Holder,
    LongFormat,
    by_asset,
    hold,
    looks_by_asset,
    looks_long,
    mixed_rates,
    pivot,
    repeated,
)

few_examples = settings(derandomize=True, max_examples=40, deadline=None)
seeds = st.integers(0, 2**32 - 1)
MINUTE = timedelta(minutes=1)
SENSORS = {"temperature": 60.0, "pressure": 3.0, "current": 12.0}


def minutes(*at):
    return np.datetime64("2024-05-06", "us") + np.asarray(at) * np.timedelta64(60_000_000, "us")


def wide(n=200, seed=0):
    rng = np.random.default_rng(seed)
    table = pd.DataFrame({name: rng.normal(mean, 0.2, n) for name, mean in SENSORS.items()})
    return table, minutes(*range(n))


def long(n=200, seed=0):
    """Return the same readings as ``wide``, one value a row, and the time of each row."""
    table, times = wide(n, seed)
    melted = table.assign(time=times).melt("time", var_name="tag", value_name="value")
    melted = melted.sort_values("time", kind="stable", ignore_index=True)
    return melted[["tag", "value"]], melted["time"].to_numpy().astype("M8[us]")


# Long format


def test_a_long_table_is_seen_and_pivoting_gives_the_wide_one():
    table, times = long()
    found = looks_long(table, times)
    assert found == LongFormat("tag", "value")
    expected, moments = wide()
    pivoted, at = pivot(table, times, found)
    assert_frame_equal(pivoted, expected)
    np.testing.assert_array_equal(at, moments)


def test_names_are_not_needed_where_each_time_stands_in_several_rows():
    table, times = long()
    assert looks_long(table.set_axis(["a", "b"], axis=1), times) == LongFormat("a", "b")


def test_the_order_of_the_rows_does_not_matter():
    table, times = long()
    order = np.random.default_rng(0).permutation(len(table))
    table, times = table.iloc[order].reset_index(drop=True), times[order]
    found = looks_long(table, times)
    assert found == LongFormat("tag", "value")
    pivoted, at = pivot(table, times, found)
    assert_frame_equal(pivoted[list(SENSORS)], wide()[0])
    np.testing.assert_array_equal(at, wide()[1])


def test_an_export_of_influxdb_is_seen():
    table, times = long()
    export = pd.DataFrame(
        {
            "result": None,
            "table": pd.factorize(table["tag"])[0].astype(float),
            "_time": times.astype(str),
            "_value": table["value"],
            "_field": table["tag"],
            "_measurement": "pump",
            "host": "h1",
        }
    )
    found = looks_long(export, times)
    assert found is not None
    assert (found.tag, found.value) == ("_field", "_value")
    assert found.others == ("result", "table", "_time", "_measurement", "host")


def test_an_export_of_a_historian_is_seen():
    table, times = long()
    rng = np.random.default_rng(0)
    export = pd.DataFrame(
        {
            "TagName": table["tag"],
            "vValue": table["value"],
            "Quality": rng.choice([192.0, 0.0], len(table), p=[0.95, 0.05]),
            "Unit": table["tag"].map({"temperature": "°C", "pressure": "bar", "current": "A"}),
        }
    )
    found = looks_long(export, times)
    assert found == LongFormat("TagName", "vValue", ("Quality", "Unit"), quality="Quality")


def test_tags_may_be_numbers():
    table, times = long()
    table["sensor_id"] = pd.factorize(table.pop("tag"))[0] + 7.0
    found = looks_long(table, times)
    assert found == LongFormat("sensor_id", "value")
    assert list(pivot(table, times, found)[0]) == ["7", "8", "9"]


def test_states_of_home_assistant_recorded_by_change_are_seen_and_read():
    rng = np.random.default_rng(0)
    n = 600
    entity = rng.choice(["sensor.a", "sensor.b", "binary_sensor.door"], n, p=[0.45, 0.45, 0.1])
    state = [f"{value:.1f}" for value in rng.normal(20, 2, n)]
    door = np.flatnonzero(entity == "binary_sensor.door")
    for i, row in enumerate(door):
        state[row] = ["on", "off"][i % 2]
    lost = int(np.argmax(entity == "sensor.a"))
    state[lost] = "unavailable"
    times = minutes(*np.arange(n)) + rng.integers(0, 59_000_000, n)
    table = pd.DataFrame({"entity_id": entity, "state": state})
    found = looks_long(table, times)
    assert found == LongFormat("entity_id", "state")
    pivoted, _ = pivot(table, times, found)
    assert pivoted["binary_sensor.door"].dropna().tolist() == [
        float(i % 2 == 0) for i in range(len(door))
    ]
    assert np.isnan(pivoted["sensor.a"].to_numpy()[lost])
    assert pivoted["sensor.a"].count() == (entity == "sensor.a").sum() - 1


@pytest.mark.parametrize("words", [["A", "B", "C"], ["on", "off"]])
@pytest.mark.parametrize("every", [1, 20])
@pytest.mark.parametrize("name", ["product", "status", "name"])
def test_one_sensor_beside_a_column_of_text_is_not_long(name, words, every):
    # A sensor each minute; or many times a minute, with times in whole minutes.
    table, times = wide(400)
    table = table[["temperature"]].assign(**{name: np.random.default_rng(1).choice(words, 400)})
    times = minutes(*np.arange(400) // every)
    assert looks_long(table, times) is None
    assert looks_by_asset(table, times) is None


def test_wide_tables_and_tables_without_times_are_not_long():
    table, times = wide()
    assert looks_long(table, times) is None
    assert looks_long(table.assign(status="ok"), times) is None
    assert looks_long(long()[0], None) is None


def test_the_last_value_of_a_tag_at_one_time_counts_and_others_are_counted():
    table = pd.DataFrame({"tag": ["a", "b", "a", "a", "a"], "value": [1.0, 2.0, 3.0, np.nan, 4.0]})
    times = minutes(0, 0, 0, 0, 1)
    pivoted, at = pivot(table, times, LongFormat("tag", "value"))
    assert_frame_equal(pivoted, pd.DataFrame({"a": [3.0, 4.0], "b": [2.0, np.nan]}))
    np.testing.assert_array_equal(at, minutes(0, 1))
    assert repeated(table, times, LongFormat("tag", "value")) == 1


def test_a_table_too_large_to_pivot_is_refused():
    n = 30_000
    table = pd.DataFrame({"tag": [f"t{i}" for i in range(n)], "value": 1.0})
    with pytest.raises(InvalidDataError, match="more than memory holds"):
        pivot(table, minutes(*range(n)), LongFormat("tag", "value"))


@given(seed=seeds, n=st.integers(1, 60))
@few_examples
def test_pivoting_loses_and_invents_no_value(seed, n):
    rng = np.random.default_rng(seed)
    table = pd.DataFrame({"tag": rng.choice(["a", "b", "c"], n), "value": rng.normal(size=n)})
    times = minutes(*rng.integers(0, 20, n))
    pivoted, at = pivot(table, times, LongFormat("tag", "value"))
    last = dict(zip(zip(times.tolist(), table["tag"], strict=True), table["value"], strict=True))
    read = {
        (time, tag): row[tag]
        for time, row in zip(at.tolist(), pivoted.to_dict("records"), strict=True)
        for tag in pivoted
        if not np.isnan(row[tag])
    }
    assert read == last
    assert len(last) == n - repeated(table, times, LongFormat("tag", "value"))


# Several machines


def machines(mixed=False, name="machine", values=("P1", "P2", "P3")):
    tables, times = zip(*(wide(100, seed) for seed in range(3)), strict=True)
    table = pd.concat(tables, ignore_index=True).assign(**{name: np.repeat(values, 100)})
    order = np.arange(300).reshape(3, 100).T.ravel() if mixed else np.arange(300)
    return table.iloc[order].reset_index(drop=True), np.concatenate(times)[order]


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("name", ["machine", "x"])
@pytest.mark.parametrize("values", [("P1", "P2", "P3"), (1.0, 2.0, 3.0)])
def test_the_rows_of_several_machines_are_told_apart_and_never_mixed(mixed, name, values):
    table, times = machines(mixed, name, values)
    assert looks_long(table, times) is None
    assert looks_by_asset(table, times) == name
    parts = list(by_asset(table, times, name))
    assert [asset for asset, *_ in parts] == [
        f"{value:g}" if isinstance(value, float) else value for value in values
    ]
    for seed, (_, its_table, its_times, rows) in enumerate(parts):
        assert_frame_equal(its_table, wide(100, seed)[0])
        np.testing.assert_array_equal(its_times, wide(100)[1])
        np.testing.assert_array_equal(times[rows], its_times)


def test_one_sensor_of_several_machines_is_no_table_of_tags():
    table, times = machines()
    table = table[["temperature", "machine"]]
    assert looks_long(table, times) is None
    assert looks_by_asset(table, times) == "machine"


def test_machines_whose_times_do_not_overlap_are_told_by_the_name_only():
    table, _ = machines()
    times = minutes(*range(300))
    assert looks_by_asset(table, times) == "machine"
    assert looks_by_asset(table.rename(columns={"machine": "product"}), times) is None


def test_without_times_machines_are_told_by_a_row_number_that_starts_anew():
    table, _ = machines(name="c0", values=(1.0, 2.0, 3.0))
    table["c1"] = np.tile(np.arange(100.0), 3)
    assert looks_by_asset(table, None) == "c0"
    assert looks_by_asset(table.drop(columns="c1"), None) is None


def test_long_tables_of_several_machines_are_split_first():
    tables = [long(seed=seed) for seed in range(2)]
    table = pd.concat([t.assign(host=f"h{i}") for i, (t, _) in enumerate(tables)])
    times = np.concatenate([at for _, at in tables])
    assert looks_long(table, times) is None
    assert looks_by_asset(table, times) == "host"
    for seed, (_, its_table, its_times, _) in enumerate(by_asset(table, times, "host")):
        found = looks_long(its_table, its_times)
        assert found == LongFormat("tag", "value")
        assert_frame_equal(pivot(its_table, its_times, found)[0], wide(seed=seed)[0])


def in_two_keys(path, first, second, value):
    """Write a file whose rows of a time differ in two columns."""
    rows = [
        f"2026-01-05 08:{i:02d}:00,{one},{other},{60 + i % 7}.{n}"
        for i in range(30)
        for one in ("A", "B")
        for n, other in enumerate(("x", "y", "z"))
    ]
    path.write_text("\n".join([f"time,{first},{second},{value}", *rows, ""]))
    return path


@pytest.mark.parametrize(
    ("first", "second", "value"),
    [
        ("location", "parameter", "value"),
        ("sensor", "axis", "value"),
        ("meter", "phase", "kW"),
        ("sensor", "statistic", "value"),
    ],
)
def test_rows_that_two_columns_tell_apart_are_refused_and_the_remedy_works(
    tmp_path, first, second, value
):
    path = in_two_keys(tmp_path / "a.csv", first, second, value)
    with pytest.raises(InvalidDataError, match=rf"{first} and {second}.*--by {first}"):
        read_machines(path, UNSTATED)
    with pytest.raises(InvalidDataError, match=f"{first} and {second}"):
        read_machines(path, ReadOptions(long=(second, value)))
    with pytest.raises(InvalidDataError, match=f"{first} and {second}"):
        open_machines(path, UNSTATED, known=lambda _: Known([value]))
    a, b = read_machines(path, ReadOptions(by=first))
    assert (a.asset, b.asset) == ("A", "B")
    assert list(a.table.frame) == list(b.table.frame) == ["x", "y", "z"]
    assert a.table.frame["y"][0] == 60.1


@pytest.mark.parametrize("by", [None, "site", "machine"])
def test_machines_of_several_sites_never_become_sensors(tmp_path, by):
    path = in_two_keys(tmp_path / "a.csv", "site", "machine", "Temp")
    with pytest.raises(InvalidDataError, match=r"Join (site|machine) and \w+ into one"):
        read_machines(path, ReadOptions(by=by))


@pytest.mark.parametrize("seed", range(20))
def test_one_machine_with_whole_numbers_and_times_that_repeat_is_one(seed):
    rng = np.random.default_rng(seed)
    table, _ = wide(400, seed)
    table["speed"] = rng.normal(1500, 30, 400).round()
    table["level"] = rng.integers(0, 4, 400).astype(float)
    table["pump"] = rng.choice(["on", "off"], 400)
    assert looks_by_asset(table, minutes(*np.arange(400) // 2)) is None
    assert looks_by_asset(table, minutes(*np.arange(400))) is None


def test_the_time_of_the_day_in_a_column_of_its_own_is_neither_machine_nor_tag():
    table = wide(400)[0].assign(Time=[f"{i // 60 % 4:02}:{i % 60:02}" for i in range(400)])
    days = minutes(*np.arange(400) // 240 * 1440)
    assert looks_by_asset(table, days) is None
    assert looks_long(table[["Time", "temperature"]], days) is None


def test_a_row_without_its_machine_is_an_error():
    table, times = machines()
    table.loc[41, "machine"] = None
    with pytest.raises(InvalidDataError, match="Row 42 does not say which machine"):
        list(by_asset(table, times, "machine"))


def test_an_unknown_column_is_an_error():
    table, times = wide()
    with pytest.raises(InvalidDataError, match="There is no column unit"):
        list(by_asset(table, times, "unit"))


# Mixed rates


def test_a_sensor_recorded_every_tenth_minute_is_named_with_its_step():
    table, times = wide(400)
    table.loc[table.index % 10 != 0, "pressure"] = np.nan
    assert mixed_rates(table, times) == {"pressure": 10 * MINUTE}


def test_a_sensor_recorded_by_change_is_named_with_its_longest_gap():
    table, times = wide(400)
    changes = np.flatnonzero(np.random.default_rng(3).random(400) < 0.2)
    table.loc[~table.index.isin(changes), "pressure"] = np.nan
    assert mixed_rates(table, times) == {"pressure": int(np.diff(changes).max()) * MINUTE}


def test_tags_recorded_at_different_times_are_all_named():
    rng = np.random.default_rng(0)
    seconds = np.concatenate([60 * np.arange(200) + 13 * i for i in range(3)])
    table = pd.DataFrame({"tag": np.repeat([*SENSORS], 200), "value": rng.normal(size=600)})
    pivoted, at = pivot(table, minutes(*seconds / 60), LongFormat("tag", "value"))
    assert mixed_rates(pivoted, at) == dict.fromkeys(SENSORS, MINUTE)
    assert hold(pivoted, at, MINUTE).iloc[3:].notna().all(axis=None)


@pytest.mark.parametrize("missing", [slice(180, None), slice(0, 250), slice(50, 260), slice(7, 9)])
def test_a_sensor_that_fails_is_not_taken_for_a_slow_one(missing):
    table, times = wide(400)
    table.loc[table.index[missing], "pressure"] = np.nan
    table.loc[np.random.default_rng(0).random(400) < 0.2, "current"] = np.nan
    assert mixed_rates(table, times) == {}


# Hold


def test_a_value_holds_until_the_next_one_but_no_longer_than_its_limit():
    table = pd.DataFrame({"a": [np.nan, 1.0, np.nan, np.nan, np.nan, 2.0, np.nan]})
    times = minutes(0, 1, 2, 3, 4, 5, 30)
    held = hold(table, times, 2 * MINUTE)["a"].tolist()
    np.testing.assert_array_equal(held, [np.nan, 1.0, 1.0, 1.0, np.nan, 2.0, np.nan])


def test_text_is_held_only_where_it_is_named():
    table = pd.DataFrame({"a": [1.0, np.nan], "product": ["A", None], "note": ["x", None]})
    held = hold(table, minutes(0, 1), MINUTE, also=["product"])
    assert held.loc[1, ["a", "product"]].tolist() == [1.0, "A"]
    assert pd.isna(held.loc[1, "note"])


def test_each_column_may_have_its_own_limit():
    table = pd.DataFrame({"a": [1.0, np.nan], "b": [1.0, np.nan], "c": ["A", None]})
    held = hold(table, minutes(0, 5), {"a": 5 * MINUTE, "b": MINUTE, "c": 9 * MINUTE})
    assert held.loc[1, ["a", "c"]].tolist() == [1.0, "A"]
    assert np.isnan(held.loc[1, "b"])


def test_hold_changes_nothing_in_the_table_it_is_given():
    table = pd.DataFrame({"a": [1.0, np.nan]})
    hold(table, minutes(0, 1), MINUTE)
    assert np.isnan(table.loc[1, "a"])


def test_a_value_cannot_be_held_for_no_time():
    with pytest.raises(InvalidDataError, match="positive time"):
        Holder(timedelta())
    with pytest.raises(InvalidDataError, match="There is no column b"):
        hold(pd.DataFrame({"a": [1.0]}), minutes(0), {"b": MINUTE})


@given(seed=seeds, n=st.integers(0, 50), limit=st.integers(1, 6), data=st.data())
@few_examples
def test_holding_is_the_same_in_parts_and_as_each_row_by_itself(seed, n, limit, data):
    rng = np.random.default_rng(seed)
    at = np.sort(rng.integers(0, 60, n))
    table = pd.DataFrame(
        {
            "a": np.where(rng.random(n) < 0.6, np.nan, rng.normal(size=n)),
            "b": pd.Series(rng.choice(np.array(["A", "B", None]), n), dtype=object),
        }
    )
    whole = hold(table, minutes(*at), limit * MINUTE, also=["b"])
    for name in table:
        expected, last = [], None
        for time, value in zip(at, table[name], strict=True):
            last = (time, value) if not pd.isna(value) else last
            holds = last is not None and time - last[0] <= limit
            expected.append(last[1] if holds else None)
        assert [None if pd.isna(value) else value for value in whole[name]] == expected
    cuts = sorted(data.draw(st.lists(st.integers(0, n), max_size=4)))
    holder = Holder(limit * MINUTE, also=["b"])
    parts = [
        holder.hold(table.iloc[begin:end], minutes(*at)[begin:end])
        for begin, end in pairwise([0, *cuts, n])
    ]
    assert_frame_equal(pd.concat(parts), whole)
