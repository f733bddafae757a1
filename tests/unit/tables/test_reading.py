"""Files as people have them, read as meant."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

from vigie.errors import InvalidDataError
from vigie.tables.features import choose, labels_of
from vigie.tables.kinds import left_out_line
from vigie.tables.machines import by_machine, read_machines
from vigie.tables.options import UNSTATED, CsvOptions, ReadOptions, TimeOptions
from vigie.tables.reading import Recording, read_table
from vigie.tables.table import Table

TIMES = pd.date_range("2026-01-05 08:00:00.5", periods=4, freq="10s", tz="UTC")
EXPECTED = TIMES.tz_localize(None).to_numpy().astype("datetime64[us]")
READINGS = pd.DataFrame({"flow": [1.0, 2.0, 1.5, 1.2], "rms": [0.1, 0.2, 0.1, 0.3]})


def pump(n_rows: int = 90) -> pd.DataFrame:
    """A machine of three sensors, one row a minute."""
    rng = np.random.default_rng(3)
    return pd.DataFrame(
        {
            "time": pd.date_range("2026-02-01", periods=n_rows, freq="min"),
            "flow": rng.normal(20, 2, n_rows).round(2),
            "rms": rng.normal(1, 0.1, n_rows).round(3),
        }
    )


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "bench.csv"


def read(file: Path, content: str | bytes, **stated) -> Table:
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_table(file, ReadOptions(**stated))


def columns(table: Table) -> dict[str, list]:
    return {name: table.frame[name].tolist() for name in table.frame}


def test_an_index_that_was_written_along_is_no_reading(file: Path):
    pump().drop(columns="time").to_csv(file)
    readings, left_out = choose(read_table(file))
    assert list(readings.columns) == ["flow", "rms"]
    assert left_out_line(left_out) == "Left out: column 1 (goes up by one from row to row)"


@pytest.mark.parametrize("name", [None, "measured_at"])
def test_times_in_the_index_of_a_parquet_file_are_found(tmp_path: Path, name: str | None):
    READINGS.set_index(TIMES.rename(name)).to_parquet(tmp_path / "bench.parquet")
    table = read_table(tmp_path / "bench.parquet")
    assert np.array_equal(table.times, EXPECTED)
    assert [*table.frame.columns.drop(list(table.clock))] == ["flow", "rms"]


@pytest.mark.parametrize(
    "written",
    [
        TIMES.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        TIMES.tz_convert("Europe/Paris").map(str),
        TIMES.strftime("%d.%m.%Y %H:%M:%S.%f"),
        TIMES,
        TIMES.map(pd.Timestamp.timestamp),
        pd.Index(TIMES.as_unit("ms").asi8),
        pd.Index(TIMES.as_unit("ns").asi8),
    ],
    ids=["ISO 8601", "another zone", "day first", "times", "seconds since 1970", "ms", "ns"],
)
def test_times_may_be_written_in_any_usual_form(file: Path, written: pd.Index):
    READINGS.assign(clock=written).to_csv(file, index=False)
    assert np.array_equal(read_table(file, ReadOptions(time=["clock"])).times, EXPECTED)


def test_seconds_may_count_from_the_start_of_the_recording(file: Path):
    READINGS.assign(elapsed=[0.0, 0.5, 1.0, 2.5]).to_csv(file, index=False)
    times = read_table(file, ReadOptions(time=["elapsed"])).times
    assert times is not None
    assert (np.diff(times) / np.timedelta64(1, "ms")).tolist() == [500.0, 500.0, 1500.0]


def test_words_of_a_context_are_kept_whatever_they_look_like(file: Path):
    cells = ["007", "1.10", "NA", "A7", " B2 ", ""]
    file.write_text("rms,product\n" + "".join(f"1.5,{cell}\n" for cell in cells))
    words = ["007", "1.10", "NA", "A7", "B2", None]
    assert read_table(file, words=["product"]).frame["product"].tolist() == words
    [(part, _)] = Recording(file).read(["rms", "product"], words=["product"])
    assert part["product"].tolist() == words


def test_a_context_of_numbers_is_numbers(file: Path):
    file.write_text("rms;load\n1,5;0,25\n1,6;\n1,7;0,75\n")
    table = read_table(file, words=["load"]).frame
    assert table["load"].tolist()[::2] == [0.25, 0.75]
    assert table["load"].isna().tolist() == [False, True, False]


def test_rows_may_end_in_a_separator_that_the_header_lacks(file: Path):
    table = read(file, "flow,rms\n1.5,2,\n1.6,3,\n1.7,,\n")
    assert columns(table)["flow"] == [1.5, 1.6, 1.7]
    assert columns(table)["rms"][:2] == [2, 3]


def test_a_row_with_another_number_of_cells_is_refused_with_its_line(file: Path):
    with pytest.raises(
        InvalidDataError, match=r"Line 4 has 3 cells, the others have 2: '1\.7,2,3'"
    ):
        read(file, "flow,rms\n1.5,2\n1.6,3\n1.7,2,3\n1.8,4\n")
    with pytest.raises(InvalidDataError, match="Line 4 has 1 cell, the others have 2"):
        read(file, "flow,rms\n1.5,2\n1.6,3\n1.7\n")
    with pytest.raises(InvalidDataError, match=r"Line 4, the last one, has 1 cell.*cut off"):
        read(file, "flow,rms\n1.5,2\n1.6,3\n1.7")


def test_a_last_line_of_text_is_passed_over_and_said(file: Path):
    table = read(file, "flow,rms\n1.5,2\n1.6,3\n# pause\n1.7,3\nEnd of export\n")
    assert columns(table)["flow"] == [1.5, 1.6, 1.7]
    assert "The last line, 'End of export', holds no reading" in table.notes


def test_units_below_the_names_are_kept_as_units(file: Path):
    table = read(file, "time,flow,rms\n[UTC],[l/min],mm/s\n2026-01-05 08:00,1.5,2\n")
    assert table.units == {"time": "UTC", "flow": "l/min", "rms": "mm/s"}
    assert columns(table)["flow"] == [1.5]
    assert "Line 2 holds units" in table.notes


def test_units_in_the_names_are_units_too(file: Path):
    assert read(file, "flow [l/min];p (bar)\n1,5;2,0\n").units == {
        "flow [l/min]": "l/min",
        "p (bar)": "bar",
    }


def test_lines_above_the_names_are_passed_over(file: Path):
    table = read(file, "Logger 7\nSite;hall 3;north\n\nflow;rms\n1,5;2,25\n1,6;3,5\n")
    assert columns(table) == {"flow": [1.5, 1.6], "rms": [2.25, 3.5]}


def test_a_file_without_names_has_numbered_columns_and_says_so(file: Path):
    table = read(file, "1.5,2\n1.6,3\n1.7,4\n")
    assert columns(table) == {"column 1": [1.5, 1.6, 1.7], "column 2": [2, 3, 4]}
    assert "No names above the readings: the columns are numbered" in table.notes


def test_columns_may_be_aligned_with_spaces(file: Path):
    table = read(file, "  flow    rms\n  1.5   2.25 \n 11.6  13.5\n")
    assert columns(table) == {"flow": [1.5, 11.6], "rms": [2.25, 13.5]}


def test_names_in_the_last_comment_are_the_names(file: Path):
    table = read(file, "# made by numpy\n# flow,rms\n1.5,2\n1.6,3\n")
    assert columns(table) == {"flow": [1.5, 1.6], "rms": [2, 3]}


def test_names_may_hold_the_other_separator(file: Path):
    table = read(file, "Temperature, bearing, drive end;p\n60,5;1,5\n61,5;1,6\n")
    assert columns(table) == {"Temperature, bearing, drive end": [60.5, 61.5], "p": [1.5, 1.6]}


@pytest.mark.parametrize("encoding", ["cp1252", "utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
def test_the_encoding_is_seen(file: Path, encoding: str):
    table = read(file, "Température (°C);p\n60,5;1\n".encode(encoding))
    assert list(table.frame.columns) == ["Température (°C)", "p"]


def test_a_byte_of_another_encoding_far_down_is_read_too(file: Path):
    rows = b"1.5,ok\n" * 200_000
    table = read(file, b"flow,note\n" + rows + "1.6,ärger\n".encode("cp1252"))
    assert table.frame["note"].iloc[-1] == "ärger"


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_a_file_may_be_packed(file: Path, pack):
    assert columns(read(file, pack(b"flow,rms\n1.5,2\n1.6,3\n")))["flow"] == [1.5, 1.6]


def test_a_zip_of_one_file_is_read_and_one_of_several_is_refused(file: Path):
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.csv", "flow,rms\n1.5,2\n1.6,3\n")
    assert columns(read_table(file))["flow"] == [1.5, 1.6]
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("b.csv", "flow,rms\n1.5,2\n")
    with pytest.raises(InvalidDataError, match=r"holds 2 files: a\.csv, b\.csv"):
        read_table(file)


def test_a_sheet_of_a_workbook_is_read(tmp_path: Path):
    path = tmp_path / "bench.xlsx"
    with pd.ExcelWriter(path, engine="xlsxwriter") as book:
        pd.DataFrame({"Report": ["made by hand"]}).to_excel(book, sheet_name="About", index=False)
        pump(5).to_excel(book, sheet_name="Data", index=False, startrow=2)
    table = read_table(path)
    assert table.frame["flow"].tolist() == pump(5)["flow"].tolist()
    assert np.array_equal(table.times, pump(5)["time"].to_numpy().astype("M8[us]"))
    with pytest.raises(InvalidDataError, match=r"has no sheet 'Daten'.*'About', 'Data'"):
        read_table(path, ReadOptions(sheet="Daten"))


@pytest.mark.parametrize("form", ["%H:%M:%S", None])
def test_a_date_and_a_time_in_cells_of_a_workbook_are_put_together(
    tmp_path: Path, form: str | None
):
    rows = pd.date_range("2026-01-05 08:00", periods=60, freq="1h")
    cells = {"Date": rows.date, "Time": rows.strftime(form) if form else rows.time}
    pd.DataFrame({**cells, "flow": [*range(60)]}).to_excel(
        tmp_path / "a.xlsx", index=False, engine="xlsxwriter"
    )
    table = read_table(tmp_path / "a.xlsx")
    assert np.array_equal(table.times, rows.to_numpy().astype("M8[us]"))


def test_words_for_a_missing_value_are_missing(file: Path):
    table = read(file, "flow,rms\n1.5,Bad\n---,2\nI/O Timeout,3\n#N/A,4\n1.9,5\n")
    assert table.frame["flow"].isna().tolist() == [False, True, True, True, False]


def test_other_words_among_numbers_are_missing_and_said(file: Path):
    table = read(file, "flow,rms\n1.5,1\nkaputt,2\n1.7,3\n1.8,4\n")
    assert table.frame["flow"].isna().tolist() == [False, True, False, False]
    assert table.notes == ("flow: 'kaputt' in 1 row read as missing",)


def test_a_sensor_that_the_model_knows_is_a_number_wherever_it_can_be_read_as_one(file: Path):
    file.write_text("flow,rms\n" + "kaputt,1\n" * 40 + "1.5,1\n")
    [(part, _)] = Recording(file).read(["flow"])
    assert part["flow"].tolist()[-1] == 1.5
    assert part["flow"].isna().sum() == 40


def test_true_and_false_are_one_and_zero(file: Path):
    table = read(file, "pump,valve,flow\nTRUE,off,1\nFALSE,on,2\n,off,3\n")
    assert columns(table)["pump"][:2] == [1, 0]
    assert columns(table)["valve"] == [0, 1, 0]


def test_a_separator_of_thousands_is_never_a_decimal_mark(file: Path):
    table = read(file, 'p,flow\n1.25,"1,012"\n1.5,987\n')
    assert columns(table) == {"p": [1.25, 1.5], "flow": [1012, 987]}


def test_a_number_that_changes_its_form_far_down_is_read_with_the_whole_column(file: Path):
    rows = "1.25,987\n" * 300_000 + '1.5,"1,012"\n'
    table = read(file, "p,flow\n" + rows)
    assert table.frame["flow"].iloc[[0, -1]].tolist() == [987, 1012]
    last = list(Recording(file).read(["p", "flow"]))[-1][0]
    assert last["flow"].iloc[-1] == 1012


def test_the_user_may_state_separator_decimal_mark_and_encoding(file: Path):
    stated = CsvOptions(separator="/", decimal=",", encoding="latin-1")
    table = read(file, "débit/p\n1,012/2\n1,013/3\n".encode("latin-1"), csv=stated)
    assert columns(table) == {"débit": [1.012, 1.013], "p": [2, 3]}
    with pytest.raises(InvalidDataError, match="no encoding 'nonsense'"):
        read(file, "a,b\n1,2\n", csv=CsvOptions(encoding="nonsense"))


def test_day_or_month_first_is_told_by_the_steps(file: Path):
    table = pump(3000)
    table.assign(time=table["time"].dt.strftime("%d/%m/%Y %H:%M")).to_csv(file, index=False)
    assert np.array_equal(read_table(file).times, table["time"].to_numpy().astype("M8[us]"))
    [*parts] = Recording(file).read(["flow"])
    assert np.array_equal(np.concatenate([times for _, times in parts]), read_table(file).times)


def test_date_and_time_in_two_columns_are_put_together(file: Path):
    table = pump()
    apart = pd.DataFrame(
        {
            "Date": table["time"].dt.strftime("%Y-%m-%d"),
            "Time": table["time"].dt.strftime("%H:%M:%S"),
            "flow": table["flow"],
        }
    )
    apart.to_csv(file, index=False)
    assert np.array_equal(read_table(file).times, table["time"].to_numpy().astype("M8[us]"))


def test_the_hour_that_comes_twice_keeps_the_order_of_the_rows(file: Path):
    times = pd.date_range("2026-10-24 23:00", periods=60, freq="5min", tz="UTC")
    local = times.tz_convert("Europe/Paris").tz_localize(None)
    pump(60).assign(time=local).to_csv(file, index=False)
    table = read_table(file)
    assert (np.diff(table.times) == np.timedelta64(5, "m")).all()
    assert any("--timezone" in note for note in table.notes)
    zoned = read_table(file, ReadOptions(times=TimeOptions(timezone="Europe/Paris")))
    assert np.array_equal(zoned.times, times.tz_localize(None).to_numpy().astype("M8[us]"))


def test_a_file_with_the_newest_rows_first_is_read_from_the_oldest(file: Path):
    pump()[::-1].to_csv(file, index=False)
    table = read_table(file)
    assert table.frame["flow"].tolist() == pump()["flow"].tolist()
    assert any("newest first" in note for note in table.notes)


@pytest.mark.parametrize("order", [["time", "tag"], ["tag", "time"]], ids=["by time", "by tag"])
def test_one_value_a_row_becomes_a_column_for_each_sensor(file: Path, order: list[str]):
    long = pump().melt("time", var_name="tag").sort_values(order)
    long.to_csv(file, index=False)
    [machine] = read_machines(file, ReadOptions())
    assert machine.table.frame["flow"].tolist() == pump()["flow"].tolist()
    assert any("One value a row" in note for note in machine.table.notes)
    [stated] = read_machines(file, ReadOptions(long=("tag", "value")))
    pd.testing.assert_frame_equal(stated.table.frame, machine.table.frame)


@pytest.mark.parametrize("order", [["time", "unit"], ["unit", "time"]], ids=["mixed", "in turn"])
def test_several_machines_are_read_one_by_one_or_refused(file: Path, order: list[str]):
    first, second = pump(), pump().assign(flow=lambda t: t["flow"] + 100)
    both = pd.concat([first.assign(unit="pump-1"), second.assign(unit="pump-2")])
    both.sort_values(order).to_csv(file, index=False)
    with pytest.raises(InvalidDataError, match=r"several machines.*--by unit"):
        read_machines(file, ReadOptions())
    machines = read_machines(file, ReadOptions(by="unit"))
    assert [machine.asset for machine in machines] == ["pump-1", "pump-2"]
    assert machines[1].table.frame["flow"].tolist() == second["flow"].tolist()


def test_a_sensor_recorded_less_often_is_told_and_can_be_held(file: Path):
    table = pump()
    table.loc[table.index % 10 != 0, "rms"] = np.nan
    table.to_csv(file, index=False)
    [machine] = read_machines(file, ReadOptions())
    assert any("rms is recorded less often" in note for note in machine.table.notes)
    assert any("--hold 10min" in note for note in machine.table.notes)
    from datetime import timedelta

    [held] = read_machines(file, ReadOptions(hold=timedelta(minutes=10)))
    assert not held.table.frame["rms"].isna().any()


def test_columns_without_readings_are_left_out_with_the_reason(file: Path):
    table = pump().assign(UDI=range(1, 91), spare=np.nan, serial="A-17", fixed=3.2)
    table.to_csv(file, index=False)
    readings, left_out = choose(read_table(file))
    assert list(readings.columns) == ["flow", "rms"]
    line = left_out_line(left_out)
    assert line is not None
    for said in ("UDI (goes up by one", "spare (no value)", "serial (", "fixed (always 3.2)"):
        assert said in line


def test_a_table_without_readings_is_refused_with_the_reason(file: Path):
    file.write_text("name,state\nA,on fire\nB,well\n1,x\n")
    with pytest.raises(InvalidDataError, match=r"No column holds readings.*vigie inspect"):
        choose(read_table(file))


@pytest.mark.parametrize("column", [[0.0, 1, 0, 2], [0.0, 1.0, 0.0, -1.0]])
def test_whatever_is_not_zero_is_a_fault(column):
    found = labels_of(pd.DataFrame({"fault": column}), "fault")
    assert found.tolist() == [False, True, False, True]


def test_words_may_be_labels_if_the_faulty_ones_are_named():
    frame = pd.DataFrame({"state": ["NORMAL", "BROKEN", "RECOVERING"]}, dtype=object)
    found = labels_of(frame, "state", ["BROKEN", "RECOVERING"])
    assert found.tolist() == [False, True, True]
    with pytest.raises(InvalidDataError, match=r"'BROKEN', 'NORMAL'.*--fault-word"):
        labels_of(frame, "state")
    with pytest.raises(InvalidDataError, match="never holds 'broken'"):
        labels_of(frame, "state", ["broken"])


def test_a_row_without_a_label_is_refused():
    with pytest.raises(InvalidDataError, match=r"no label in row 2.*Write 0"):
        labels_of(pd.DataFrame({"fault": [0.0, np.nan]}), "fault")


def test_exponents_of_fortran_are_numbers(file: Path):
    table = read(file, "vacuum,rms\n1.5D-03,1\n2.5d+02,2\n3.5E1,3\n")
    assert table.frame["vacuum"].tolist() == [1.5e-3, 250.0, 35.0]


def test_on_and_off_among_numbers_are_no_ones_and_zeros(file: Path):
    table = read(file, "warm,rms\n61.5,1\nON,2\nOFF,3\n61.8,4\n61.9,5\n")
    np.testing.assert_array_equal(table.frame["warm"], [61.5, np.nan, np.nan, 61.8, 61.9])
    assert table.notes == ("warm: 'ON', 'OFF' in 2 rows read as missing",)


def test_on_and_off_beside_numbers_are_values_of_a_table_with_one_value_a_row(file: Path):
    rows = [
        f"2026-01-12 08:{i:02d}:00,{tag},{value}"
        for i in range(20)
        for tag, value in (("flow", 1.5), ("warm", 61.5), ("pump", ["off", "on"][i % 2]))
    ]
    [machine] = by_machine(read(file, "\n".join(["time,tag,value", *rows])), UNSTATED)
    assert machine.table.frame["pump"].tolist() == [0.0, 1.0] * 10


def test_what_looks_like_a_number_with_a_mark_is_not_to_be_held(file: Path):
    rows = [
        f"2026-01-12 08:{i:02d}:00,{1.5 + i / 10:.1f}{'' if i % 5 < 3 else '?!'}" for i in range(60)
    ]
    [machine] = by_machine(read(file, "\n".join(["time,flow", *rows])), UNSTATED)
    assert machine.notes == ("flow: '1.8?!' in 24 rows read as missing",)


@pytest.mark.parametrize("rest", ["", ",2.5"])
def test_a_first_row_with_a_unit_is_read(file: Path, rest: str):
    rows = [f"{i}{' sec' if i == 0 else ''},{i % 7}.5{rest}" for i in range(30)]
    table = read(file, "\n".join(["elapsed,flow,p"[: 12 + 2 * len(rest[:1])], *rows]))
    assert table.frame["elapsed"].tolist() == [float(i) for i in range(30)]
    assert table.notes == ("elapsed: '1', and each number without a unit in 29 rows, read as sec",)


@pytest.mark.parametrize(
    ("names", "first", "message"),
    [
        ([f"2026-01-12 08:{i:02d}:00" for i in range(30)], "sensor", "columns are times"),
        ([f"{i:02d}.01.2026" for i in range(1, 31)], "sensor", "columns are times"),
        ([f"{i:02d}:00" for i in range(24)], "date", "columns are times of day"),
        ([str(i) for i in range(24)], "date", "columns are parts of a day"),
        ([f"H{i}" for i in range(1, 25)], "date", "columns are parts of a day"),
        (
            ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"],
            "year",
            "columns are months",
        ),
    ],
)
def test_times_as_columns_are_refused(file: Path, names: list[str], first: str, message: str):
    heads = {
        "sensor": [f"TI{i}" for i in range(20)],
        "date": [f"2026-01-{i:02d}" for i in range(1, 21)],
        "year": [str(1990 + i) for i in range(20)],
    }[first]
    rows = [";".join([head, *(f"{len(head)}.{i}" for i in range(len(names)))]) for head in heads]
    with pytest.raises(InvalidDataError, match=rf"{message}, such as .*Turn the table"):
        read(file, "\n".join([";".join([first, *names]), *rows]))


def test_a_column_that_is_left_out_may_mix_formats(file: Path):
    file.write_text("flow;rms\n1,5;2,25\n1.5;2,5\n3,5;2,75\n")
    with pytest.raises(InvalidDataError, match=r"'1\.5' in row 2.*--exclude flow"):
        read_machines(file, UNSTATED)
    [machine] = read_machines(file, UNSTATED, ignored=["flow"])
    assert machine.table.frame["rms"].tolist() == [2.25, 2.5, 2.75]
    assert machine.table.frame["flow"].tolist() == ["1,5", "1.5", "3,5"]


@pytest.mark.parametrize("word", ["Summe", "Mittelwert", "Итого", "合计", "Ø", "Gesamtsumme"])
def test_a_row_of_sums_at_the_end_is_left_out_and_said(file: Path, word: str):
    rows = [f"12.01.2026 08:{i:02d};1,5;{i % 7}" for i in range(40)]
    table = read(file, "\n".join(["Zeit;p;n", *rows, f"{word};60,0;120"]))
    assert len(table.frame) == 40
    assert any(f"below the last row: '{word};60,0;120'" in note for note in table.notes)


def test_sensors_that_are_counted_are_no_hours(file: Path):
    rows = [f"2026-01-12 08:{i:02d}:00" + ",1.5" * 24 for i in range(30)]
    table = read(file, "\n".join([",".join(["time", *map(str, range(24))]), *rows]))
    assert table.frame.shape == (30, 25)


def test_whole_numbers_prove_no_decimal_mark(file: Path):
    table = read(file, "n;p\n" + "".join(f"{i};1,{100 + i}\n" for i in range(20)))
    assert table.frame["p"].iloc[:2].tolist() == [1.1, 1.101]


@pytest.mark.parametrize("above", ["", "p, bar\n", "p, bar\n[bar]\n"])
def test_a_comma_that_may_separate_columns_or_decimals_is_asked_about(file: Path, above: str):
    content = f"{above}0,525\n0,473\n1,628\n"
    with pytest.raises(InvalidDataError, match=r"'0,525' may be one number.*--decimal comma"):
        read(file, content)
    one = read(file, content, csv=CsvOptions(decimal=","))
    assert one.frame.iloc[:, 0].tolist() == [0.525, 0.473, 1.628]
    two = read(file, content, csv=CsvOptions(separator=","))
    assert two.frame.iloc[:, 1].tolist() == [525, 473, 628]
    with pytest.raises(InvalidDataError, match=r"'2,100,584' may be one number, or 3 columns"):
        read(file, "rms\n2,100,584\n1,894,316\n1,914,001\n")
    with pytest.raises(InvalidDataError, match=r"'31.508,76' may be one number, or 2 columns"):
        read(file, "31.508,76\n28.414,7\n137.685,07\n")
    named = read(file, "n,m\n0,525\n0,473\n1,628\n")
    assert named.frame["m"].tolist() == [525, 473, 628]


@pytest.mark.parametrize(
    ("content", "values"),
    [
        ("rms\n31.508,76\nBad\n37.685,07\n", [31508.76, np.nan, 37685.07]),
        ('rms\n[bar]\n"0,52"\n"0,6"\n', [0.52, 0.6]),
        ("Level of the tank\n1,2\n3,04\n", [1.2, 3.04]),
    ],
)
def test_one_name_above_decimal_commas_is_one_column(file: Path, content: str, values: list[float]):
    assert read(file, content).frame.iloc[:, 0].to_numpy() == pytest.approx(values, nan_ok=True)


def test_a_title_above_what_may_be_two_columns_is_no_name(file: Path):
    for title in ("Export of pump 7", "Logger PL-7"):
        with pytest.raises(InvalidDataError, match="line 2 has 2 cells"):
            read(file, f"{title}\n1,2\n3,4\n5,6\n")
    named = read(file, "Logger PL-7\nrms,temp\n1,2\n3,4\n5,6\n")
    assert named.frame["temp"].tolist() == [2, 4, 6]
    named = read(file, "Export\nrms,temp\n1,02\n3,04\n5,06\n")
    assert named.frame["temp"].tolist() == [2, 4, 6]


def test_one_sensor_beside_words_is_said_to_be_perhaps_a_long_table(file: Path):
    table = pump().drop(columns="rms").assign(what=["a", "b", "c"] * 30)
    table.to_csv(file, index=False)
    [machine] = read_machines(file, ReadOptions())
    assert "If what names the sensor whose value flow is, say --long what:flow" in machine.notes


TEXTS = {
    "large_string": pa.large_string(),
    "string_view": pa.string_view(),
    "dictionary": pa.dictionary(pa.int32(), pa.large_string()),
    "string": pa.string(),
}


@pytest.mark.parametrize("kind", TEXTS)
def test_text_in_parquet_is_read_whatever_its_type(tmp_path, kind):
    cells = {
        "time": [f"2024-01-05 08:{i:02}:00" for i in range(20)],
        "temp": ["Bad", *(f"21,{i}" for i in range(10, 29))],
    }
    columns = {name: pa.array(texts).cast(TEXTS[kind]) for name, texts in cells.items()}
    parquet.write_table(pa.table(columns), tmp_path / "text.parquet")
    read = read_table(tmp_path / "text.parquet")
    assert read.frame["temp"].tolist()[1:] == [21 + i / 100 for i in range(10, 29)]
    assert np.isnan(read.frame["temp"][0])
    assert read.times[-1] == np.datetime64("2024-01-05T08:19:00")
