"""Files as loggers and spreadsheets leave them are read right, or refused with the line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vigie.errors import InvalidDataError
from vigie.tables.features import choose
from vigie.tables.reading import Recording, read_table
from vigie.tables.table import Table

NAMES = "time,flow,rms"
ROWS = [f"2024-02-01 10:{i:02}:00,{900 + 7 * i % 50},{1 + i % 7 / 10}" for i in range(30)]
FLOW = [float(row.split(",")[1]) for row in ROWS]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "messy.csv"


def flow(path: Path, lines: list[str]) -> list[float]:
    """Return the readings of flow, which training and detection must read alike."""
    path.write_text("\n".join([*lines, ""]), encoding="utf-8")
    whole = read_table(path)
    assert whole.clock == ("time",)
    assert set(choose(whole)[0].columns) == {"flow", "rms"}
    parts = list(Recording(path).read(["flow"]))
    assert np.array_equal(pd.concat([part for part, _ in parts])["flow"], whole.frame["flow"])
    assert np.array_equal(np.concatenate([times for _, times in parts]), whole.times)
    return list(whole.frame["flow"])


def table_of(path: Path, lines: list[str]) -> Table:
    path.write_text("\n".join([*lines, ""]), encoding="utf-8")
    return read_table(path)


def refusal(path: Path, lines: list[str]) -> str:
    with pytest.raises(InvalidDataError) as raised:
        table_of(path, lines)
    return str(raised.value)


@pytest.mark.parametrize(
    "lines",
    [
        [f"{NAMES},", *ROWS],
        [NAMES, *(f"{row},," for row in ROWS)],
        [NAMES, f"{ROWS[0]},", *ROWS[1:]],
        [NAMES, *ROWS[:20], *(f"{row}," for row in ROWS[20:])],
        [NAMES, *(f"{row}," for row in ROWS[:20]), *ROWS[20:]],
        [f"{NAMES},,", *(f"{row},," for row in ROWS)],
    ],
    ids=["names only", "two in rows", "first row", "late rows", "early rows", "everywhere"],
)
def test_separators_at_the_end_of_some_lines_move_no_column(file: Path, lines: list[str]):
    assert flow(file, lines) == FLOW


@pytest.mark.parametrize(
    "lines",
    [
        [NAMES, *ROWS, *[",,"] * 30],
        [NAMES, *ROWS[:9], ",,", *ROWS[9:]],
        [NAMES, *ROWS, "Sum,27000,30"],
        [NAMES, *ROWS, "", "Min,1,2", "Mittelwert:,3,4"],
        [NAMES, *ROWS, "//END,,"],
        [NAMES, *ROWS, "END OF DATA,OF THE LOGGER"],
        [NAMES, *ROWS[:9], NAMES, *ROWS[9:]],
        [NAMES, *ROWS[:9], "# restart,by,hand", *ROWS[9:]],
        [NAMES, "s,l/min,g", "", *ROWS],
        [NAMES, "min,0,0", "max,100,10", *ROWS],
    ],
    ids=[
        "empty end",
        "empty row",
        "sum",
        "two",
        "end",
        "words",
        "names again",
        "comment",
        "gap",
        "limits",
    ],
)
def test_lines_without_readings_are_left_out(file: Path, lines: list[str]):
    assert flow(file, lines) == FLOW


def test_an_empty_row_without_times_is_a_moment_without_values(file: Path):
    file.write_text("flow,rms\n1.5,1\n,\n1.7,3\n")
    assert read_table(file).frame["flow"].isna().tolist() == [False, True, False]
    for separator in ",\t":
        rows = "flow,rms\n1.5,1\n,\n1.7,3\n,\n,\n".replace(",", separator)
        file.write_text(rows)
        assert read_table(file).frame["flow"].isna().tolist() == [False, True, False, True, True]


def test_a_cell_that_begins_with_a_hash_is_no_comment(file: Path):
    file.write_text("flow,rms\n1.5,1\n#N/A,2\n####,3\n1.7,4\n1.8,5\n1.9,6\n")
    assert read_table(file).frame["rms"].tolist() == [1, 2, 3, 4, 5, 6]


def test_names_of_another_number_than_the_cells_are_refused(file: Path):
    # Decimal commas between commas.
    file.write_text(
        "time,flow,rms\n" + "".join(f"2024-02-01 10:00:{i},1,5,2,5\n" for i in range(9))
    )
    with pytest.raises(InvalidDataError, match="Line 1 names 3 columns, but line 2 has 5 cells"):
        read_table(file)


def test_names_may_be_numbers(file: Path):
    file.write_text("\n".join(["time,101,102", *ROWS, ""]))
    assert list(choose(read_table(file))[0].columns) == ["101", "102"]


def test_a_campbell_logger_has_its_names_in_the_second_line(file: Path):
    file.write_text(
        '"TOA5","CR1000","CR1000","44238","Std.24","CPU:a.CR1","4011","Log"\n'
        '"TIMESTAMP","RECORD","BattV","PTemp","PAR","Phase","Load","Level"\n'
        '"TS","RN","Volts","","","","",""\n'
        '"","","Min","Smp","","","",""\n'
        + "".join(f'"2012-03-20 {i:02}:00:00",{i},12.1,{i % 5},{i % 3},1,2,3\n' for i in range(24))
    )
    columns = ("TIMESTAMP", "RECORD", "BattV", "PTemp", "PAR", "Phase", "Load", "Level")
    assert Recording(file).columns == columns


def test_a_repeated_name_gets_a_number_that_is_free(file: Path):
    file.write_text("T,T.1,T\n1.5,2.5,3.5\n4.5,5.5,6.5\n")
    assert Recording(file).columns == ("T", "T.1", "T.2")


@pytest.mark.parametrize("name", ["flow", "flow rate"])
@pytest.mark.parametrize("above", [[], ["Logger PL-7"]])
def test_spaces_in_the_numbers_of_one_column_separate_no_cells(
    file: Path, above: list[str], name: str
):
    file.write_text("\n".join([*above, name, "31 508.76", "28 414.74", "37 685.07", ""]))
    assert read_table(file).frame[name].tolist() == [31508.76, 28414.74, 37685.07]


def test_spaces_that_may_separate_thousands_or_cells_are_not_guessed(file: Path):
    file.write_text("flow rate\n31 508\n28 414\n")
    with pytest.raises(InvalidDataError, match=r"'31 508' may be one number, or several"):
        read_table(file)


def test_a_comma_before_three_digits_of_a_single_column_is_not_guessed(file: Path):
    file.write_text('flow\n"31,509"\n"28,415"\n')
    with pytest.raises(InvalidDataError, match=r"'31,509' in row 1 may be 31\.509 or 31509"):
        read_table(file)


def test_semicolons_separate_cells_with_decimal_commas_and_spaces_without_names(file: Path):
    file.write_text("1 050,2921;947,1581\n785,7323;1 041,9600\n785,7322;1 144,6380\n")
    frame = read_table(file).frame
    assert frame["column 1"].tolist() == [1050.2921, 785.7323, 785.7322]
    assert frame["column 2"].tolist() == [947.1581, 1041.96, 1144.638]


def test_spaces_in_numbers_are_not_taken_for_those_between_cells(file: Path):
    file.write_text("1 358 454,9;940 512,8;\n1 801 310,7;2 336 356,2;\n2 908 837,2;2 087 765,1;\n")
    assert read_table(file).frame["column 1"].tolist() == [1358454.9, 1801310.7, 2908837.2]
    rows = ["10 152.71,38 794.22", "26 428.37,44 406.86", "18 055.37,14 811.85"]
    file.write_text("\n".join(["Site: hall 3", "", "Recorded by A. B.", *rows, ""]))
    with pytest.raises(InvalidDataError, match="Line 3 names 1 column, but line 4 has 2 cells"):
        read_table(file)
    file.write_text("\n".join(["Recorded by A. B.", *(f"{row},15 052.81" for row in rows), ""]))
    assert read_table(file).frame["column 2"].tolist() == [38794.22, 44406.86, 14811.85]


def test_tabs_and_commas_separate_numbers_with_spaces_in_them(file: Path):
    file.write_text("Logger PL-7\n1 296 563,87\t1 648 412,03\t\n3 047 197,75\t3 242 800,15\t\n")
    assert read_table(file).frame["column 2"].tolist() == [1648412.03, 3242800.15]
    file.write_text("47 008,17 339,16 676\n54 158,NaN,30 088\n25 497,---,28 251\n")
    assert read_table(file).frame["column 1"].tolist() == [47008, 54158, 25497]


def test_a_first_row_of_switches_is_no_line_of_numbered_names(file: Path):
    file.write_text("0;1\n1;1\n1;0\n0;0\n")
    assert read_table(file).frame["column 1"].tolist() == [0, 1, 1, 0]
    file.write_text("0;1\n61;12\n62;13\n")
    assert list(read_table(file).frame.columns) == ["0", "1"]


def test_numbers_with_commas_and_a_word_below_are_not_taken_for_two_columns(file: Path):
    file.write_text("34147,01\n39859,42\n33965,24\n#N/A\n")
    with pytest.raises(InvalidDataError, match="'34147,01' may be one number, or 2 columns"):
        read_table(file)


def test_one_name_above_numbers_with_commas_does_not_make_row_numbers_of_them(file: Path):
    file.write_text("Recorded by A. B.\nT7\n2,53E+04\n3,32E+04\n#N/A\n")
    with pytest.raises(InvalidDataError, match=r"'2,53E\+04' may be one number, or 2 columns"):
        read_table(file)
    file.write_text("flow\n1,20.5\n2,21.5\n3,22.5\n")
    assert read_table(file).frame["flow"].tolist() == [20.5, 21.5, 22.5]


def test_bytes_that_are_no_text_are_refused_with_their_line(file: Path):
    file.write_bytes(b"flow,rms\n1.5,1\n\0\0\0\0\n")
    with pytest.raises(InvalidDataError, match="Line 3 holds bytes that are no text"):
        read_table(file)


def test_a_parquet_file_may_have_any_name_but_each_column_its_own(file: Path):
    pd.DataFrame({"a": [1.5, 2.5], "b": [3.5, 4.5]}).to_parquet(file)
    assert read_table(file).frame["a"].tolist() == [1.5, 2.5]
    pq.write_table(pa.table([pa.array([1.5]), pa.array([2.5])], names=["a", "a"]), file)
    with pytest.raises(InvalidDataError, match="2 columns have the name 'a'"):
        read_table(file)


def test_columns_of_parquet_that_are_no_plain_numbers(tmp_path: Path):
    path = tmp_path / "odd.parquet"
    frame = pd.DataFrame(
        {
            "flow": [1.5, np.inf, 2.5, 3.5],
            "code": pd.Categorical(["1.5", "2.5", "3.5", "2.5"]),
            "pair": [[1, 2], [3, 4], [5, 6], [7, 8]],
        }
    )
    frame.to_parquet(path)
    readings, left_out = choose(read_table(path))
    assert list(readings.columns) == ["flow", "code"]
    assert readings["flow"].isna().tolist() == [False, True, False, False]
    assert [column.name for column in left_out] == ["pair"]


@pytest.mark.parametrize("n_top", [1, 5])
@pytest.mark.parametrize("n_above", [0, 2])
@pytest.mark.parametrize("form", ["{},x", "{:.19}", "{:.23}"], ids=["longer", "a time", "shorter"])
def test_first_rows_of_another_length_are_refused_by_line(
    file: Path, form: str, n_top: int, n_above: int
):
    top = map(form.format, ROWS[:n_top])
    file.write_text("\n".join(["# a logger"] * n_above + [NAMES, *top, *ROWS[n_top:], ""]))
    with pytest.raises(InvalidDataError, match=f"Line {n_above + 2} has . cells?, the others have"):
        read_table(file)


def test_a_first_row_of_numbers_with_a_cell_more_is_refused_by_line(file: Path):
    rows = [row.split(",", 1)[1] for row in ROWS]
    file.write_text("\n".join(["flow,rms", f"{rows[0]},x", *rows[1:], ""]))
    with pytest.raises(InvalidDataError, match="Line 2 has 3 cells, the others have 2"):
        read_table(file)


def test_a_serial_number_in_the_first_row_only_loses_no_row(file: Path):
    file.write_text("\n".join([f"{NAMES},serial", f"{ROWS[0]},0100", *ROWS[1:], ""]))
    table = read_table(file)
    assert list(table.frame["flow"]) == FLOW
    assert "Most rows lack their last cell: serial is missing there" in table.notes
    parts = [part for part, _ in Recording(file).read(["flow"])]
    assert list(pd.concat(parts)["flow"]) == FLOW


@pytest.mark.parametrize("word", ["<0.05", "61.64*", "OFF", "cal", "Bad Input"])
@pytest.mark.parametrize("n_top", [1, 12])
@pytest.mark.parametrize("above", [[NAMES], ["Pump 3", NAMES, "s,m3/h,mm/s"]])
def test_first_rows_of_words_with_a_time_are_rows(
    file: Path, word: str, n_top: int, above: list[str]
):
    top = [f"{row[:19]},{word},{word}" for row in ROWS[:n_top]]
    file.write_text("\n".join([*above, *top, *ROWS[n_top:], ""]))
    table = read_table(file)
    assert np.array_equal(table.frame["flow"], [np.nan] * n_top + FLOW[n_top:], equal_nan=True)


def test_first_rows_of_words_with_seconds_since_1970_are_rows(file: Path):
    rows = [f"{1767600000 + 60 * i},{'OFF' if i < 3 else x}" for i, x in enumerate(FLOW)]
    file.write_text("\n".join(["time,flow", *rows, ""]))
    assert np.array_equal(read_table(file).frame["flow"], [np.nan] * 3 + FLOW[3:], equal_nan=True)


def test_a_date_alone_above_rows_without_names_is_no_row(file: Path):
    file.write_text("\n".join(["2024-02-01 09:00:00", "", *ROWS, ""]))
    assert list(read_table(file).frame["column 2"]) == FLOW


@pytest.mark.parametrize("above", ["30", "Measurement", "Logger 5; site 2\n" * 14 + "Name; none"])
@pytest.mark.parametrize("time", ["2024-02-05 10:{:02}:00  ", "{}  "])
def test_what_stands_above_rows_between_spaces_does_not_join_their_cells(
    file: Path, above: str, time: str
):
    rows = [f"{time.format(i)}{value:.3f}  {i % 7 / 4:.3f}" for i, value in enumerate(FLOW)]
    file.write_text("\n".join([above, *rows, ""]))
    frame = read_table(file).frame
    assert frame.iloc[:, -2].tolist() == FLOW


def test_words_with_numbers_stay_one_cell(file: Path):
    rows = [f"2024-02-05 10:{i:02}:00,pump {i} began after {i}.5 s at {i}.2 bar" for i in range(30)]
    file.write_text("\n".join(["time,event", *rows, ""]))
    assert list(read_table(file).frame.columns) == ["time", "event"]


NARROW = ["Time,Temp,Speed", *(f"2026-01-05 08:{i:02},61.{i},148{i}" for i in range(10, 30))]
WIDE = ["Time,Temp,Speed,Press", *(f"2026-01-05 08:{i},61.{i},148{i},3.{i}" for i in range(30, 59))]


@pytest.mark.parametrize("between", [[], [""], ["Restart"]])
def test_readings_above_other_names_are_not_lost(file: Path, between: list[str]):
    message = refusal(file, [*NARROW, *between, *WIDE])
    line = len(NARROW) + len(between) + 1
    assert f"Line {line} begins another table, below the readings of lines 2 to 21" in message


def test_facts_with_times_above_the_names_are_no_readings(file: Path):
    facts = ["Start,2026-01-05 08:00", "Stop,2026-01-05 09:00", "Calibrated,2025-03-01 10:00,1.02"]
    table = table_of(file, [*facts, *facts, *WIDE])
    assert list(table.frame) == ["Time", "Temp", "Speed", "Press"]


def test_comments_among_the_rows_are_told(file: Path):
    rows = [NARROW[0], *NARROW[1:11], "# units: degF", *NARROW[11:]]
    table = table_of(file, rows)
    assert len(table.frame) == 20
    assert "Comments are left out, such as '# units: degF'" in table.notes


def test_names_in_another_order_among_the_rows_are_refused(file: Path):
    rows = ["# Time,Temp,Speed", *NARROW[1:11], "# Time,Speed,Temp", *NARROW[11:]]
    assert "names the columns otherwise: '# Time,Speed,Temp'" in refusal(file, rows)


def test_devices_below_the_rows_of_a_monitor_are_left_out(file: Path):
    names = 'Date,Time,"CPU [C]","Clock [MHz]",'
    rows = [f"05.01.2026,08:00:{i}.000,6{i / 10},30{i}," for i in range(10, 40)]
    table = table_of(file, [names, *rows, names, ',,"CPU: DTS","CPU: Clock",'])
    assert len(table.frame) == 30
    assert table.times is not None


def test_commands_for_a_database_are_no_table(file: Path):
    rows = [f"INSERT INTO readings (time,temp) VALUES ('2026-01-05 08:{i}',6{i});" for i in WIDE]
    assert "commands for a database (SQL)" in refusal(file, rows)


@pytest.mark.parametrize(
    ("title", "row", "value"),
    [
        ("Logger PL-7", "2024-01-05 08:0{}:00;3{} 508,76265;2{} 414,7416", 30508.76265),
        ("Logger PL-7", "2024-01-05 08:0{}:00;5,{}3E-01;6,{}1E-01", 0.503),
        ("# made 2024", "2024-01-05T08:0{}:00Z;3{}\u202f508,76265", 30508.76265),
    ],
)
def test_a_comma_before_decimals_hides_no_semicolons(
    file: Path, title: str, row: str, value: float
):
    table = table_of(file, [title, *(row.replace("{}", str(i)) for i in range(3))])
    assert table.frame["column 2"].iloc[0] == pytest.approx(value)
    assert table.times is not None
