"""What is understood of a file, as values and in sentences."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from vigie.errors import InvalidDataError
from vigie.tables.report import ColumnReport, Report
from vigie.tables.stated import as_arguments, read_options
from vigie.tables.table import Table
from vigie.training.inspection import inspect, report_on

N = 600
SECONDS = np.datetime64("2026-01-05T08:00:00", "us") + np.arange(N) * np.timedelta64(1, "s")


def noise(seed: int, n: int = N) -> np.ndarray:
    return np.random.default_rng(seed).normal(20.0, 1.0, n).round(4)


def table(**columns: Any) -> pd.DataFrame:
    return pd.DataFrame({"time": SECONDS.astype(str), "temp": noise(1), "rms": noise(2), **columns})


def reported(frame: pd.DataFrame, path: Path, **stated: Any) -> Report:
    frame.to_csv(path, index=False)
    return inspect(path, read_options(**stated), "pump.csv").report


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "pump.csv"


def column(report: Report, name: str) -> ColumnReport:
    [found] = [found for found in report.columns if found.name == name]
    return found


def test_the_summary_says_what_the_file_is_and_when_it_was_recorded(path: Path) -> None:
    said = reported(table(), path).summary
    assert 3 <= len(said) <= 6
    assert said[0] == (
        "pump.csv: CSV with commas between the cells, utf-8, decimal point; 600 rows of 3 columns."
    )
    assert said[1] == "A model learns 2 sensors."
    assert "2026-01-05 08:00:00 to 08:09:59 UTC (9.98 min), a row every 1 s; no gap" in said[2]
    assert said[3] == "No value is missing, and no sensor is frozen."


def test_a_column_has_its_unit_its_range_and_its_missing_values(path: Path) -> None:
    values = noise(3)
    values[10:40] = np.nan
    found = column(reported(table(**{"flow [l/min]": values}), path), "flow [l/min]")
    assert (found.kind, found.unit, found.n_missing, found.missing_share) == (
        ("sensor", "l/min", 30, 0.05)
    )
    assert found.values is not None
    assert found.values.minimum == np.nanmin(values)
    assert found.values.maximum == np.nanmax(values)
    assert found.values.median == pytest.approx(np.nanmedian(values), abs=0.01)
    assert found.values.low < found.values.median < found.values.high


def test_what_is_no_sensor_is_left_out_with_the_reason(path: Path) -> None:
    report = reported(table(row=np.arange(N), spare=7.0, anomaly=np.arange(N) // 500), path)
    reasons = {found.name: (str(found.kind), found.reason) for found in report.left_out}
    assert reasons == {
        "row": ("row number", "goes up by one from row to row"),
        "spare": ("constant", "always 7"),
        "anomaly": ("label", "0/1 and named like a label"),
    }


def test_a_frozen_sensor_is_named_with_its_longest_stretch(path: Path) -> None:
    rms = noise(2)
    rms[300:420] = 20.5
    [stretch] = column(reported(table(rms=rms), path), "rms").frozen
    assert (stretch.first, stretch.last, stretch.n_rows, stretch.value) == (300, 419, 120, 20.5)


def test_gaps_and_repeated_times_are_counted_and_the_longest_gap_is_placed(path: Path) -> None:
    frame = table().drop(index=[*range(100, 110), *range(400, 460)]).reset_index(drop=True)
    frame.loc[50, "time"] = frame.loc[49, "time"]
    time = reported(frame, path).time
    assert time is not None
    # Beside the two gaps, the step of two seconds after the time that comes twice.
    assert (time.step_s, time.is_regular, time.n_gaps, time.n_repeated) == (1.0, True, 3, 1)
    assert time.longest_gap is not None
    gap = time.longest_gap
    assert (gap.row, gap.begin, gap.seconds) == (389, "2026-01-05T08:06:39Z", 61.0)


def test_steps_that_a_clock_of_seconds_rounds_up_are_no_gaps(path: Path) -> None:
    """Rows every 1.06 s, by a clock that tells full seconds."""
    clock = np.datetime64("2026-01-05T08:00:00", "ms") + (1060 * np.arange(N)).astype("m8[ms]")
    frame = table().assign(time=clock.astype("M8[s]").astype(str))
    said = reported(frame, path).summary[2]
    assert "a row every 1 to 2 s; no gap" in said
    without = frame.drop(index=range(300, 305)).reset_index(drop=True)
    assert (
        "a row every 1 to 2 s; 1 gap, the longest 7 s after row 300"
        in (reported(without, path).summary[2])
    )


def test_a_single_row_that_is_missing_is_a_gap(path: Path) -> None:
    frame = table().drop(index=300).reset_index(drop=True)
    assert (
        "a row every 1 s; 1 gap, the longest 2 s after row 300"
        in (reported(frame, path).summary[2])
    )


def test_a_zone_that_is_stated_is_the_zone_of_the_report(path: Path) -> None:
    time = reported(table(), path, timezone="Europe/Paris").time
    assert time is not None
    assert (time.zone, time.begin) == ("Europe/Paris", "2026-01-05T07:00:00Z")


def test_labels_lead_to_a_backtest_and_to_a_training_on_the_rows_before_them(path: Path) -> None:
    report = reported(table(anomaly=np.arange(N) // 500), path)
    assert [label.column for label in report.labels] == ["anomaly"]
    assert report.commands == (
        ("vigie", "train", "pump.csv", "--rows", "1:500", "--promote"),
        ("vigie", "backtest", "pump.csv", "--labels", "anomaly"),
    )


def test_a_label_of_whole_faults_comes_before_one_of_their_beginnings(path: Path) -> None:
    change = np.isin(np.arange(N), [400, 450]) * 1.0
    fault = ((np.arange(N) >= 400) & (np.arange(N) < 450)) * 1.0
    report = reported(table(changepoint=change, anomaly=fault), path)
    assert [label.column for label in report.labels] == ["anomaly"]
    assert report.commands[-1][-1] == "anomaly"
    alone = reported(table(changepoint=change), path)
    assert [label.column for label in alone.labels] == ["changepoint"]


def test_an_empty_column_is_no_value_that_is_missing_from_a_sensor(path: Path) -> None:
    report = reported(table(spare=np.nan), path)
    assert report.summary[-1] == "No value of a sensor is missing, and no sensor is frozen."


def test_labels_in_words_lead_to_a_backtest_with_the_rarer_words(path: Path) -> None:
    report = reported(table(fault=["ok"] * 500 + ["leak"] * 100), path)
    assert report.commands[-1][3:] == ("--labels", "fault", "--fault-word", "leak")


def test_several_machines_are_listed_with_their_rows_and_not_refused(path: Path) -> None:
    frame = pd.concat(
        [table().assign(asset="A"), table().assign(asset="B").iloc[:200]], ignore_index=True
    )
    report = reported(frame, path)
    assert (report.by, report.assets) == ("asset", {"A": 600, "B": 200})
    assert report.time is not None
    # Each machine has its own times.
    assert (report.time.n_gaps, report.time.n_repeated) == (0, 0)
    assert report.commands == (
        ("vigie", "train", "pump.csv", "--by", "asset", "--asset", "A", "--promote"),
    )


def test_one_value_a_row_is_reported_as_the_sensors_it_becomes(path: Path) -> None:
    frame = table().melt(id_vars="time", var_name="tag", value_name="value").sort_values("time")
    report = reported(frame, path)
    assert report.long is not None
    assert (report.long.tag, report.long.value, report.n_rows) == ("tag", "value", N)
    assert {found.name for found in report.features} == {"temp", "rms"}


def test_a_slow_sensor_leads_to_how_long_to_hold_it(path: Path) -> None:
    slow = np.where(np.arange(N) % 10 == 0, noise(4), np.nan)
    report = reported(table(slow=slow), path)
    assert (report.slow, report.hold) == ({"slow": 10.0}, "10s")
    assert report.commands[0][-3:-1] == ("--hold", "10s")


def test_a_setting_is_proposed_as_context(path: Path) -> None:
    load = np.repeat([0.2, 0.5, 0.9, 0.4, 0.7, 0.3], 100)
    report = reported(table(load=load, power=noise(5) + 30 * load, rms=noise(2) + 9 * load), path)
    assert list(report.context) == ["load"]


def test_why_the_day_stands_first_is_the_cell_that_shows_it(path: Path) -> None:
    days = pd.date_range("2026-01-05", periods=N, freq="1h").strftime("%d/%m/%Y %H:%M")
    because = reported(table(time=days), path).because
    assert (
        "Dates are read as day, month, year: '13/01/2026 00:00' in row 193 is not month, day, year"
    ) in because


def test_why_a_comma_is_decimal_is_the_column_that_shows_it(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    table().to_csv(path, index=False, sep=";", decimal=",")
    report = inspect(path).report
    assert report.origin is not None
    assert (report.origin.separator, report.origin.decimal) == (";", ",")
    said = " ".join(report.because)
    assert "Semicolons stand between the cells: they make 3 cells of each row" in said
    assert "Not chosen: commas would make 3 cells of each row" in said
    assert "The decimal mark is a comma, as temp shows: '" in said


def test_a_web_page_in_place_of_a_file_is_refused_as_one(path: Path) -> None:
    path.write_text("<!DOCTYPE html><html><body>Please log in</body></html>")
    with pytest.raises(InvalidDataError, match="web page"):
        inspect(path)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    arrays(
        np.float64,
        st.tuples(st.integers(0, 40), st.integers(1, 3)),
        elements=st.floats(allow_nan=True, allow_infinity=True, width=64) | st.sampled_from([0, 1]),
    )
)
def test_every_report_is_json_without_nan_and_counts_every_cell(values: np.ndarray) -> None:
    frame = pd.DataFrame(values, columns=[f"x{i}" for i in range(values.shape[1])])
    report = report_on(Table(frame, None))
    again = json.loads(json.dumps(report.as_dict(), allow_nan=False))
    missing = [found["n_missing"] for found in again["columns"]]
    assert missing == (~np.isfinite(values)).sum(axis=0).tolist()
    for found, x in zip(report.columns, values.T, strict=True):
        present = x[np.isfinite(x)]
        assert (found.values is None) == (not len(present))
        if found.values is not None:
            assert found.values.minimum == present.min()
            assert found.values.low <= found.values.median <= found.values.high


@pytest.mark.parametrize(
    "words",
    [
        {"time": ["date", "hour"], "day_first": False, "timezone": "Europe/Paris"},
        {"separator": "tab", "decimal": "comma", "encoding": "cp1252"},
        {"long": "tag:value", "by": "machine no", "hold": "90s"},
        {"time_format": "%d.%m.%y %H:%M", "sheet": "Data 1", "hold": "250ms"},
    ],
)
def test_stated_options_are_words_that_state_the_same_again(words: dict[str, Any]) -> None:
    stated = read_options(**words)
    arguments = as_arguments(stated)
    again: dict[str, Any] = {}
    flags = {"--day-first": True, "--month-first": False}
    while arguments:
        name = arguments.pop(0)
        if name in flags:
            again["day_first"] = flags[name]
        elif name == "--time":
            again.setdefault("time", []).append(arguments.pop(0))
        else:
            again[name[2:].replace("-", "_")] = arguments.pop(0)
    assert read_options(**again) in (stated, read_options(**{**words, "separator": "\t"}))


@pytest.mark.parametrize(
    ("words", "field"),
    [
        ({"encoding": "base64"}, "--encoding"),
        ({"separator": "ab"}, "--separator"),
        ({"decimal": "dot"}, "--decimal"),
        ({"hold": "soon"}, "--hold"),
        ({"hold": "999999999999d"}, "--hold"),
        ({"long": "tag"}, "--long"),
    ],
)
def test_an_option_without_a_usable_value_is_refused_by_its_name(
    words: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidDataError) as refused:
        read_options(**words)
    assert refused.value.field == field
    assert refused.value.remedy
