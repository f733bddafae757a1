"""Tables as other programs write them are read right, or refused with what they are."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pandas as pd
import pytest

from vigie.errors import InvalidDataError
from vigie.tables.machines import read_machines
from vigie.tables.options import CsvOptions, ReadOptions
from vigie.tables.reading import Recording, read_table

TIMES = [f"2024-02-05 10:{i:02}:00" for i in range(30)]
FLOW = [11.25 + i % 7 / 4 for i in range(30)]
RMS = [0.5 + i % 5 / 8 for i in range(30)]
ROWS = list(zip(TIMES, map(str, FLOW), map(str, RMS), strict=True))
RULE = "+---------------------+-------+-------+"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "table.txt"


def read(path: Path, lines: list[str], encoding: str = "utf-8") -> pd.DataFrame:
    """Return the columns, which detection in parts must read alike."""
    path.write_text("\n".join([*lines, ""]), encoding=encoding)
    whole = read_table(path)
    numbers = [name for name in whole.frame if whole.frame[name].dtype == float]
    parts = pd.concat([part for part, _ in Recording(path).read(numbers)], ignore_index=True)
    pd.testing.assert_frame_equal(parts[numbers], whole.frame[numbers])
    return whole.frame


def joined(form: str) -> list[str]:
    return [form.format(*row) for row in ROWS]


@pytest.mark.parametrize(
    "lines",
    [
        [RULE, "| time | flow | rms |", RULE, *joined("| {} | {:>5} | {:>5} |"), RULE, "(30 rows)"],
        [" time | flow | rms ", RULE[1:-1], *joined(" {} | {:>5} | {:>5} "), "(30 rows)"],
        ["| time | flow | rms |", "|---|--:|:--|", *joined("| {} | {} | {} |")],
        ["time  flow  rms", "------------------- ----- -----", *joined("{}  {:>5}  {:>5}")],
        [f"{'time':<21}{'flow':>10}{'rms':>9}", *joined("{:<21}{:>10}{:>9}")],
        ['"time", "flow", "rms"', *joined('"{}", "{}", "{}"')],
        ["time,flow,rms", *joined('{},="{}",="{}"')],
        ["time,flow,rms", *joined('{},"=""{}""","=""{}"""')],
        ["#NAMES", "time,flow,rms", "#TYPES", "date,R8,R8", "#ROWS,30", *joined("{},{},{}")],
        ["time,flow,rms", *joined("{},{},{}")[:9], "\ufefftime,flow,rms", *joined("{},{},{}")[9:]],
        ["a,b,c", "End_of_Header,,", "time,flow,rms", *joined("{},{},{}")],
        ["Device,PL-7,Hall", "Serial,4711,3", "time,flow,rms", *joined("{},{},{}")],
        ["time;flow;rms", *joined("{};{};{}"), '"$RT_COUNT$";30;0'],
        ["time,flow,rms", *joined("{},{},{}"), "Grand total (30 rows),300,20"],
    ],
    ids=[
        *("mysql", "psql", "markdown", "SQL Server", "aligned", "space before quotes"),
        *("formula", "quoted formula", "Ignition", "joined files", "end of header"),
        *("above the names", "WinCC", "total"),
    ],
)
def test_what_stands_round_the_cells_is_no_part_of_them(file: Path, lines: list[str]):
    frame = read(file, lines)
    assert list(frame.columns) == ["time", "flow", "rms"]
    assert frame["flow"].tolist() == FLOW
    assert frame["rms"].tolist() == RMS


def test_names_of_several_words_stay_together_between_several_spaces(file: Path):
    lines = [f"{'time':<21}{'flow rate':>10}{'rms':>9}", *joined("{:<21}{:>10}{:>9}")]
    assert list(read(file, lines).columns) == ["time", "flow rate", "rms"]
    lines[3] = "2024-02-05 10:02:00 11.75  0.75"
    file.write_text("\n".join(lines))
    with pytest.raises(InvalidDataError, match="Line 1 may name 3 columns, or 4"):
        read_table(file)


def test_a_formula_keeps_a_number_with_commas(file: Path):
    frame = read(file, ["flow,rms", *(f'="1,{900 + i}",="{i}.5"' for i in range(9))])
    assert frame["flow"].tolist() == [1900 + i for i in range(9)]


def test_a_bar_at_the_end_of_a_box_moves_no_empty_cell(file: Path):
    rows = [" 1.5 |  61.5 | 2.5 "] * 9
    rows[4] = "     |  12.5 |     "
    frame = read(file, ["  a  | flow  | rms ", "-----+-------+-----", *rows])
    assert frame["a"].isna().sum() == 1
    assert frame["flow"][4] == 12.5


def test_a_fastload_file_of_wonderware_has_one_value_a_row(file: Path):
    head = ["ASCII", "|", "Admin|1|Server Local|10|2"]
    rows = [
        f"{tag}|0|2024/02/05|10:{i:02}:00.000|0|{value}|192"
        for i in range(30)
        for tag, value in (("Flow", FLOW[i]), ("Rms", RMS[i]))
    ]
    file.write_text("\n".join([*head, *rows, ""]))
    [machine] = read_machines(file, ReadOptions())
    frame = machine.table.frame
    assert frame["Flow"].tolist() == FLOW
    assert frame["Rms"].tolist() == RMS


def test_a_measurement_of_labview_begins_below_the_second_head(file: Path):
    segment = ["Channels\t2\t\t\t", "Delta_X\t0.001\t0.001\t\t", "***End_of_Header***\t\t\t\t"]
    rows = [f"{i / 1000:.6f}\t{FLOW[i]}\t{RMS[i]}\t" for i in range(30)]
    names = "X_Value\tUntitled\tUntitled 1\tComment\t"
    head = ["LabVIEW Measurement\t", "Separator\tTab", "***End_of_Header***\t", "\t"]
    frame = read(file, [*head, *segment, names, *rows])
    assert frame["Untitled"].tolist() == FLOW
    file.write_text("\n".join([*head, *segment, names, *rows, *segment, names, *rows]))
    with pytest.raises(InvalidDataError, match="Line 41 ends the head of another table"):
        read_table(file)


def test_a_measurement_of_labview_may_lack_its_comments(file: Path):
    head = ["LabVIEW Measurement\t", "***End_of_Header***\t", "", "X_Value\tA\tB\tComment"]
    frame = read(file, [*head, *(f"{i / 10:.1f}\t{FLOW[i]}\t{RMS[i]}" for i in range(30))])
    assert (frame["A"].tolist(), frame["B"].tolist()) == (FLOW, RMS)


def test_lines_of_a_solar_inverter_above_three_rows_are_no_readings(file: Path):
    facts = ["sep=;", "Version CSV1|Tool SE|Linebreaks CR/LF", "", ";SN: 2130012345;SN: 2130012345"]
    facts += [";SB 3000TL-21;SB 3000TL-21", ";2130012345;2130012345", ";Total yield;Power"]
    units = [";Counter;Analog", "dd.MM.yyyy HH:mm;kWh;kW"]
    rows = [f"25.03.2025 08:0{i};1200,5{i}3;2,{i}90" for i in range(3)]
    frame = read(file, [*facts, *units, *rows])
    assert frame["SN: 2130012345 Power"].tolist() == [2.09, 2.19, 2.29]
    assert read_table(file).units["SN: 2130012345 Power"] == "kW"


@pytest.mark.parametrize(
    "facts",
    [
        ["Model,MSO58", "Version,1.28", "Interval,1e-06", "Length,1000", "Zero,500", "Units,V,,V"],
        ["Name,A,Name", "NetID,5.1.1.1,NetID", "Port,851,Port", "Type,REAL64,Type"] * 2,
    ],
)
def test_facts_above_three_rows_are_no_readings(file: Path, facts: list[str]):
    frame = read(file, [*facts, "", "TIME,CH1,CH2", *(f"{i},{FLOW[i]},{RMS[i]}" for i in range(3))])
    assert (frame["CH1"].tolist(), frame["CH2"].tolist()) == (FLOW[:3], RMS[:3])


def test_tables_of_influxdb_in_one_file_have_the_same_names(file: Path):
    head = ["#datatype,string,long,dateTime:RFC3339,double,string", "#default,_result,,,,"]
    names = ",result,table,_time,_value,_field"
    flow, rms = (
        [
            f",,{n},{time.replace(' ', 'T')}Z,{value},{tag}"
            for time, value in zip(TIMES, of, strict=True)
        ]
        for n, (tag, of) in enumerate({"flow": FLOW, "rms": RMS}.items())
    )
    file.write_text("\n".join([*head, names, *flow, "", *head, names, *rms, ""]))
    [machine] = read_machines(file, ReadOptions())
    assert machine.table.frame["rms"].tolist() == RMS
    file.write_text("\n".join([*head, names, *flow, "", *head, f"{names}2", *rms, ""]))
    with pytest.raises(InvalidDataError, match="with other names: ',result,table,_time,_value,_f"):
        read_table(file)


@pytest.mark.parametrize(
    "names",
    [
        [",Motor,,Pump,", "time,T,n,T,flow"],
        ["time,Motor,Motor,Pump,Pump", ",T,n,T,flow"],
        ["time,Motor,,Pump,", ",T,n,T,flow", ",°C,rpm,°C,l/min"],
    ],
)
def test_groups_above_the_names_tell_the_columns_apart(file: Path, names: list[str]):
    frame = read(file, [*names, *(f"{time},61.5,1480,59.5,{i}.5" for i, time in enumerate(TIMES))])
    assert list(frame.columns) == ["time", "Motor T", "Motor n", "Pump T", "Pump flow"]
    assert "Lines 1 and 2 name the columns together" in read_table(file).notes


@pytest.mark.parametrize("time", ["", "2024-02-05 10:{:02}:00,"])
def test_decimal_commas_between_commas_are_not_taken_for_columns(file: Path, time: str):
    rows = [f"{time.format(i)}12,{i % 10},13,{i * 7 % 10}" for i in range(30)]
    file.write_text("\n".join([*rows, ""]))
    with pytest.raises(InvalidDataError, match="may be 4 numbers, or 2 with decimal commas"):
        read_table(file)
    table = read_table(file, ReadOptions(csv=CsvOptions(separator=",")))
    assert table.frame.iloc[:, -1].tolist() == [i * 7 % 10 for i in range(30)]


def test_whole_numbers_between_commas_need_no_names(file: Path):
    frame = read(
        file, [f"{900 + i % 3},{480 + i % 7},{12 + i % 5},{50 - i % 4}" for i in range(30)]
    )
    assert frame["column 4"].tolist() == [50 - i % 4 for i in range(30)]


def test_a_last_row_that_is_the_sum_of_all_is_said(file: Path):
    rows = [f"{flow},{rms}" for flow, rms in zip(FLOW, RMS, strict=True)]
    read(file, ["flow,rms", *rows, f"{sum(FLOW)},{sum(RMS)}"])
    assert read_table(file).notes == (
        "The last row is the sum of all others: remove it if it is no reading",
    )


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"%PDF-1.4\n1 0 obj", "It is a PDF document"),
        (b"\x89PNG\r\n\x1a\n", "It is a picture"),
        (b"7z\xbc\xaf\x27\x1c\x00", "It is a 7-Zip archive.*Unpack it"),
        (b"SQLite format 3\x00", "It is an SQLite database.*--query"),
        (b"\x89HDF\r\n", "It is an HDF5 file"),
        (bytes(range(1, 256)) * 4, "It holds bytes that are no text"),
        (b'[{"time": 1, "flow": 2}]', "It is JSON"),
        (b'{"time": 1, "flow": 2}\n{"time": 2, "flow": 2}\n', "It is JSON"),
        (b"<table><tr><td>1</td></tr></table>", "It is a table of a web page.*save it as"),
        (b"<html><table><tr><td>1</td></tr></table></html>", "It is a web page.*save it as"),
        (b"<?xml version='1.0'?><Workbook/>", "It is XML"),
        (b";$FILEVERSION=1.1\n     1)  0.0  Rx  0300  8  00 00\n", "trace.*bus.*Decode"),
        (b"date Tue Mar 4\nbase hex  timestamps absolute\n 0.01 1 1F0 Rx d 8 00", "trace.*bus"),
        (b"(1436509052.249713) vcan0 044#2A366C2B\n", "trace.*bus"),
        (b"\x1f\x8b\x08abc", "begins as a file of the kind gzip, but is cut off or damaged"),
        (b"PK\x03\x04abc", "begins as a file of the kind zip, but is cut off or damaged"),
        (b"PAR1abc", "begins as a file of the kind Parquet, but is cut off or damaged"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "cannot be opened as a workbook. Save it anew"),
    ],
)
@pytest.mark.parametrize("name", ["table.csv", "table.xls"])
def test_a_file_of_another_kind_is_refused_by_its_name(
    tmp_path: Path, name: str, content: bytes, said: str
):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InvalidDataError, match=said):
        read_table(path)


def test_text_that_is_called_a_workbook_is_read_and_said(tmp_path: Path):
    path = tmp_path / "table.xls"
    path.write_text("\n".join(["time\tflow\trms", *joined("{}\t{}\t{}"), ""]))
    table = read_table(path)
    assert table.frame["flow"].tolist() == FLOW
    assert "It is no workbook, though called .xls, but text" in table.notes


def test_an_archive_made_on_a_mac_holds_one_table(tmp_path: Path):
    path = tmp_path / "table.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("folder/a.csv", "\n".join(["time,flow,rms", *joined("{},{},{}")]))
        archive.writestr("folder/.DS_Store", b"\0\0")
        archive.writestr("__MACOSX/folder/._a.csv", b"\0\0")
    assert read_table(path).frame["flow"].tolist() == FLOW


def workbook(path: Path, **sheets: list[list]) -> None:
    with pd.ExcelWriter(path, engine="xlsxwriter") as book:
        for name, rows in sheets.items():
            pd.DataFrame(rows).to_excel(book, sheet_name=name, index=False, header=False)


def test_sums_below_the_rows_of_a_sheet_are_left_out_and_said(tmp_path: Path):
    path = tmp_path / "table.xlsx"
    rows = [[pd.Timestamp(time), flow] for time, flow in zip(TIMES, FLOW, strict=True)]
    workbook(path, Data=[["time", "flow"], *rows, ["Mittel", 12.0], ["Exported by A. B.", None]])
    table = read_table(path)
    assert table.frame["flow"].tolist() == FLOW
    said = "Left out below the last row: 'Mittel 12', 'Exported by A. B.'"
    assert said in table.notes


def test_numbers_that_are_text_in_all_sheets_are_found(tmp_path: Path):
    path = tmp_path / "table.xlsx"
    rows = [[time, str(flow).replace(".", ",")] for time, flow in zip(TIMES, FLOW, strict=True)]
    workbook(path, Info=[["Export", "by A"]], Data=[["time", "flow"], *rows])
    assert read_table(path).frame["flow"].tolist() == FLOW
    workbook(path, Data=[["time", "flow"], *([time, "1,250"] for time in TIMES)])
    with pytest.raises(InvalidDataError, match=r"may be 1\.250 or 1250"):
        read_table(path)
    table = read_table(path, ReadOptions(csv=CsvOptions(decimal=",")))
    assert table.frame["flow"].tolist() == [1.25] * 30
    workbook(path, Info=[["Export", "by A"]])
    with pytest.raises(InvalidDataError, match=r"No sheet .* numbers. Its sheets are: 'Info'"):
        read_table(path)


@pytest.mark.parametrize("first", ["time", "flow"])
def test_a_mark_of_the_encoding_far_below_is_left_out(file: Path, first: str):
    times = pd.date_range("2024-02-05", periods=60_000, freq="s").strftime("%Y-%m-%d %H:%M:%S")
    rows = [
        f"{time},{i % 9}.5" if first == "time" else f"{i % 9}.5,7" for i, time in enumerate(times)
    ]
    rows[55_000] = f"\ufeff{rows[55_000]}"
    frame = read(file, ["time,flow" if first == "time" else "flow,rms", *rows])
    assert frame["flow"].tolist() == [i % 9 + 0.5 for i in range(60_000)]
