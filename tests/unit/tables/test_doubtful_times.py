"""Columns that may hold times, but are not read as such: said, or refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from vigie.errors import InvalidDataError
from vigie.tables.machines import Known, open_machines, read_machines
from vigie.tables.reading import Recording, read_table
from vigie.tables.stated import read_options
from vigie.tables.table import Table

ROWS = pd.date_range("2026-11-30 08:41", periods=300, freq="7min")
X = np.round(np.random.default_rng(0).normal(60, 3, len(ROWS)), 2)
ISO = "%Y-%m-%d %H:%M:%S"


def written(folder: Path, **columns: Sequence[Any]) -> Path:
    path = folder / "a.csv"
    pd.DataFrame(columns).to_csv(path, index=False, sep=";")
    return path


def read(folder: Path, columns: dict[str, Sequence[Any]], **stated: Any) -> Table:
    return read_table(written(folder, **columns), read_options(**stated))


def refusal(folder: Path, columns: dict[str, Sequence[Any]], **stated: Any) -> str:
    """Return why a file is refused, whether it is read whole or in parts."""
    with pytest.raises(InvalidDataError) as raised:
        read(folder, columns, **stated)
    recording = Recording(folder / "a.csv", options=read_options(**stated))
    with pytest.raises(InvalidDataError):
        next(iter(recording.read(["x"])))
    assert raised.value.remedy
    return str(raised.value)


UNKNOWN = ROWS.strftime("%d|%m|%Y @ %H#%M")


@pytest.mark.parametrize("name", ["Time", "Zeit", "Datum", "Fecha", "日時", "Čas", "Data"])
def test_dates_in_an_unknown_form_are_refused_by_the_name_of_their_column(
    tmp_path: Path, name: str
):
    said = refusal(tmp_path, {name: UNKNOWN, "x": X})
    assert "'30|11|2026 @ 08#41' in row 1" in said
    assert "--time-format" in said


def test_the_form_is_enough_to_find_the_column(tmp_path: Path):
    for name in ("Time", "remark"):
        table = read(tmp_path, {"x": X, name: UNKNOWN}, time_format="%d|%m|%Y @ %H#%M")
        assert table.clock == (name,)
        assert np.array_equal(table.times, ROWS.to_numpy().astype("M8[us]"))


def test_a_form_may_be_of_a_date_and_a_time_of_day_in_two_columns(tmp_path: Path):
    columns = {"Date": ROWS.strftime("%y%m%d"), "Time": ROWS.strftime("%H%M%S").astype(int), "x": X}
    for stated in ({}, {"time": ["Date", "Time"], "time_format": "%y%m%d %H%M%S"}):
        table = read(tmp_path, columns, **stated)
        assert np.array_equal(table.times, ROWS.to_numpy().astype("M8[us]"))


@pytest.mark.parametrize("form", ["%d/%m/%Y", "s"])
def test_a_form_that_no_column_has_is_refused(tmp_path: Path, form: str):
    assert "No column has times" in refusal(tmp_path, {"x": X, "remark": UNKNOWN}, time_format=form)


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        (ROWS.strftime("%H:%M:%S"), "a time of day, but no date"),
        (ROWS.strftime("令和8年%m月%d日"), "not understood as a time"),
        (123_456_789_012 + np.arange(len(ROWS)), "not understood as a time"),
        (2.02601e13 + np.arange(len(ROWS)) // 200 * 1e9, "Export the times with all"),
        (80_000 + 10_000 * (np.arange(300) // 60) + 100 * (np.arange(300) % 60), "but no date"),
        (ROWS.strftime("%d/%m %H:%M"), "Write the dates with their year"),
        ([f"{day}-{month}" for month in ("Jan", "Feb", "Mar") for day in range(1, 29)], "no year"),
        ([f"{month} {day:02}" for month in ("Jan", "Feb") for day in range(1, 29)], "no year"),
    ],
)
def test_what_is_named_like_a_time_and_is_none_is_noted(
    tmp_path: Path, cells: Sequence[Any], said: str
):
    table = read(tmp_path, {"Time": cells, "x": X[: len(cells)]})
    assert table.times is None
    assert any(said in note for note in table.notes)
    assert any(said in note for note in Recording(tmp_path / "a.csv").notes)


@pytest.mark.parametrize(
    "cells",
    [
        np.arange(len(ROWS)) * 0.5,
        ["2026-11-30"] * len(ROWS),
        [20261130] * len(ROWS),
        [f"0 days 00:{i // 60:02}:{i % 60:02}" for i in range(len(ROWS))],
        ["early", "late", "night"] * (len(ROWS) // 3),
    ],
)
def test_how_long_something_took_and_words_are_no_doubt(tmp_path: Path, cells: Sequence[Any]):
    assert read(tmp_path, {"time": cells, "x": X}).notes == ()


def two_clocks(second: pd.DatetimeIndex, *names: str) -> dict[str, Sequence[Any]]:
    values = (ROWS.strftime(ISO), X, second.strftime(ISO), X[::-1])
    return dict(zip(names, values, strict=True))


SLOWER = ROWS + pd.to_timedelta(np.arange(len(ROWS)) * 3, unit="s")
NAMES = [
    ("Time1", "x", "Time2", "y"),
    ("Timestamp", "x", "Timestamp.1", "y"),
    ("x Timestamp", "x", "y Timestamp", "y"),
]


@pytest.mark.parametrize("names", NAMES)
def test_values_with_times_of_their_own_are_not_put_in_one_row(
    tmp_path: Path, names: Sequence[str]
):
    columns = two_clocks(SLOWER, *names)
    assert f"{names[2]} has times of its own" in refusal(tmp_path, columns)
    table = read(tmp_path, columns, time=[names[0]])
    assert any("times of its own" in note for note in table.notes)


@pytest.mark.parametrize("names", NAMES)
def test_the_same_times_beside_each_value_are_no_doubt(tmp_path: Path, names: Sequence[str]):
    assert read(tmp_path, two_clocks(ROWS, *names)).notes == ()


@pytest.mark.parametrize("seconds", [np.arange(len(ROWS)) % 3, np.full(len(ROWS), 3600)])
def test_clocks_that_hardly_differ_or_by_a_constant_are_noted(tmp_path: Path, seconds: Any):
    second = ROWS + pd.to_timedelta(seconds, unit="s")
    table = read(tmp_path, two_clocks(second, *NAMES[0]))
    assert any("count as measured at Time1" in note for note in table.notes)


def test_a_second_time_that_is_no_clock_of_values_is_no_doubt(tmp_path: Path):
    columns = {"time": ROWS.strftime(ISO), "x": X, "received_time": SLOWER.strftime(ISO), "y": X}
    assert read(tmp_path, columns).notes == ()


def test_the_clock_of_utc_is_said_to_be_read(tmp_path: Path):
    local = (ROWS + pd.Timedelta("1h")).strftime(ISO)
    table = read(tmp_path, {"LocalTime": local, "UtcTime": ROWS.strftime(ISO), "x": X})
    assert table.clock == ("UtcTime",)
    assert any("not from LocalTime" in note for note in table.notes)


def test_clocks_that_part_late_in_a_long_file_are_refused(tmp_path: Path):
    rows = pd.date_range("2026-01-01", periods=60_000, freq="s")
    second = rows + pd.to_timedelta(np.arange(len(rows)) // 50_000 * 30, unit="s")
    path = written(
        tmp_path, Time1=rows.strftime(ISO), x=np.arange(60_000) % 97, Time2=second.strftime(ISO),
        y=np.arange(60_000) % 89,
    )  # fmt: skip
    with pytest.raises(InvalidDataError, match="row 50001"):
        open_machines(path, read_options(), known=lambda _: Known(["x", "y"]))


def test_a_day_that_the_last_rows_of_a_long_file_tell_is_no_question(tmp_path: Path):
    rows = pd.date_range("2026-02-03", periods=90_000, freq="s")
    long = rows.append(pd.date_range("2026-02-25", periods=10, freq="s"))
    path = written(tmp_path, time=long.strftime("%d/%m/%Y %H:%M:%S"), x=np.arange(90_010) % 97)
    (recording,) = open_machines(path, read_options(), known=lambda _: Known(["x"]))
    times = np.concatenate([part for _, part in recording.read(["x"]) if part is not None])
    assert np.array_equal(times, long.to_numpy().astype("M8[us]"))


def test_all_rows_tell_what_the_times_of_some_are(tmp_path: Path):
    rows = pd.date_range("2026-02-03", periods=3000, freq="5min")
    path = written(tmp_path, time=rows.strftime("%d/%m/%Y %H:%M"), x=np.arange(3000) % 97)
    some = slice(10, 110)
    expected = rows[some].to_numpy().astype("M8[us]")
    assert np.array_equal(read_table(path, read_options(), rows=some).times, expected)
    parts = list(Recording(path, rows=some).read(["x"]))
    assert np.array_equal(parts[0][1], expected)


def test_parts_of_times_are_put_together_through_a_long_file(tmp_path: Path):
    rows = pd.date_range("2026-01-01", periods=150_000, freq="min")
    parts = {name: getattr(rows, name) for name in ("year", "month", "day", "hour", "minute")}
    path = written(tmp_path, **parts, x=np.arange(150_000) % 97)
    (recording,) = open_machines(path, read_options(), known=lambda _: Known(["x"]))
    times = np.concatenate([part for _, part in recording.read(["x"]) if part is not None])
    assert np.array_equal(times, rows.to_numpy().astype("M8[us]"))


def test_parts_of_a_date_beside_a_whole_time_are_no_sensors(tmp_path: Path):
    parts = {name: getattr(ROWS, name) for name in ("year", "month", "day", "hour", "minute")}
    path = written(tmp_path, time=ROWS.strftime(ISO), **parts, x=X)
    (machine,) = read_machines(path, read_options())
    assert [column.name for column in machine.table.kinds if column.is_feature] == ["x"]


@pytest.mark.parametrize("form", ["%Y-%m", "%b-%y", "%b %Y", "%m/%Y", "%Y%m"])
def test_months_are_noted_with_the_form_that_reads_them(tmp_path: Path, form: str):
    months = pd.date_range("2000-01-01", periods=60, freq="MS")
    columns = {"month": months.strftime(form), "x": X[:60]}
    note = next(note for note in read(tmp_path, columns).notes if "holds months" in note)
    assert form in note
    table = read(tmp_path, columns, time=["month"], time_format=form)
    assert table.times is not None
    assert np.array_equal(table.times, months.to_numpy().astype("M8[us]"))
    if form != "%Y%m":
        assert form in refusal(tmp_path, {"Date": months.strftime(form), "x": X[:60]})


def test_a_month_of_several_languages_alone_is_asked_for(tmp_path: Path):
    columns = {"Data": ROWS.strftime("%d lis 2026 %H:%M"), "x": X}
    assert "is another in another language" in refusal(tmp_path, columns)
    assert "is another in another language" in refusal(tmp_path, columns, time=["Data"])


def test_am_and_pm_that_the_user_does_not_name_are_noted(tmp_path: Path):
    columns = {"Date": ROWS.strftime("%Y-%m-%d"), "Time": ROWS.strftime("%I:%M"), "x": X}
    columns |= {"AM/PM": ROWS.strftime("%p")}
    rows = slice(40, 70)
    columns = {name: values[rows] for name, values in columns.items()}
    stated = ["Date", "Time"]
    note = read(tmp_path, columns, time=stated).notes[-1]
    assert "AM/PM tells AM and PM" in note
    assert "--time Date --time Time --time AM/PM" in note
    table = read(tmp_path, columns, time=[*stated, "AM/PM"])
    assert np.array_equal(table.times, ROWS[rows].to_numpy().astype("M8[us]"))


@pytest.mark.parametrize(
    "days", [["2026-11-30"] * 300, np.repeat(["2026-11-29", "2026-11-30"], 150)]
)
def test_a_part_of_a_day_beside_a_date_that_is_not_understood_is_noted(tmp_path: Path, days):
    for name in ("Minute", "Time", "Shift"):
        columns = {"Date": days, name: np.arange(300) * 7 % 50, "x": X}
        notes = read(tmp_path, columns).notes
        assert any(f"{name} is not understood" in note for note in notes), notes


def test_numbers_that_are_months_are_noted(tmp_path: Path):
    months = [100 * year + month for year in range(2001, 2026) for month in range(1, 13)]
    (note,) = read(tmp_path, {"Time": months, "x": X}).notes
    assert "--time-format %Y%m" in note


@pytest.mark.parametrize(
    "cells",
    [
        [f"{year}-Q{quarter}" for year in range(1990, 2020) for quarter in range(1, 5)],
        [f"2025-W{week:02}" for week in range(1, 53)],
        [f"KW {week}/2025" for week in range(1, 53)],
    ],
)
def test_weeks_and_quarters_are_refused_with_a_remedy_that_works(tmp_path: Path, cells: list[str]):
    said = refusal(tmp_path, {"Time": cells, "x": X[: len(cells)]})
    assert "first day" in said
    assert "--time-format" not in said


def test_months_behind_the_letter_m_are_read_in_the_form_that_the_error_says(tmp_path: Path):
    columns = {"Time": [f"{y}M{m:02}" for y in range(2001, 2011) for m in range(1, 13)]}
    columns["x"] = X[:120]
    assert "--time-format %YM%m" in refusal(tmp_path, columns)
    assert read(tmp_path, columns, time_format="%YM%m").times is not None


def test_of_dates_in_two_forms_the_first_row_of_the_second_is_named(tmp_path: Path):
    days = ROWS + pd.Timedelta(days=-14)
    cells = [*days[:200].strftime("%d/%m/%Y %H:%M"), *days[200:].strftime("%m/%d/%Y %H:%M")]
    assert "in row 201 does not have the form" in refusal(tmp_path, {"Datum": cells, "x": X})


def test_the_clock_of_the_event_is_read_before_that_of_the_program(tmp_path: Path):
    times = {"ingestion_time": ROWS + pd.Timedelta("1h"), "event_time": ROWS}
    columns = {name: values.strftime(ISO) for name, values in times.items()}
    assert read(tmp_path, {**columns, "x": X}).clock == ("event_time",)
