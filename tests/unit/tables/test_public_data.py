"""Files of public services are read right: their forms, with numbers that are made up."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vigie.errors import InvalidDataError
from vigie.tables.machines import read_machines
from vigie.tables.options import UNSTATED
from vigie.tables.reading import read_table
from vigie.tables.stated import read_options
from vigie.tables.table import Table

N_ROWS = 96
HOURS = np.arange("2024-01-05", "2024-01-09", dtype="M8[h]")
FLOW = [round(11.25 + i % 7 / 4, 2) for i in range(N_ROWS)]
TEMPERATURE = [round(4.5 - i % 5 / 8, 3) for i in range(N_ROWS)]

TIMES = HOURS.tolist()
PAIRS = list(zip(FLOW, TEMPERATURE, strict=True))


def read(path: Path, lines: list[str], encoding: str = "utf-8") -> Table:
    path.write_text("\n".join([*lines, ""]), encoding=encoding)
    [machine] = read_machines(path, UNSTATED)
    return machine.table


def formed(form: str) -> list[str]:
    """Return a line for each hour; ``end`` is an hour after ``time``."""
    hours = zip(HOURS.tolist(), (HOURS + 1).tolist(), FLOW, TEMPERATURE, strict=True)
    return [
        form.format(time=time, end=end, doy=time.timetuple().tm_yday, a=a, b=b)
        for time, end, a, b in hours
    ]


def has_readings(table: Table, *names: str, has_times: bool = True) -> bool:
    times_fit = (table.times == HOURS).all() if has_times else table.times is None
    return bool(times_fit) and [table.frame[name].tolist() for name in names] == [FLOW, TEMPERATURE]


def test_names_and_units_of_a_buoy_stand_in_two_comments(tmp_path):
    head = ["#YY  MM DD hh mm WSPD WTMP", "#yr  mo dy hr mn m/s  degC"]
    table = read(tmp_path / "buoy.txt", [*head, *formed("{time:%Y %m %d %H %M}  {a}   {b}")])
    assert has_readings(table, "WSPD", "WTMP")
    assert (table.units["WSPD"], table.units["WTMP"]) == ("m/s", "degC")


@pytest.mark.parametrize(
    "span",
    [
        "{time:%d.%m.%Y %H:%M} - {end:%d.%m.%Y %H:%M}",
        "{time:%Y-%m-%dT%H:%M:%S}.0/{end:%Y-%m-%dT%H:%M:%S}.0",
    ],
)
def test_a_span_of_time_is_read_as_its_begin(tmp_path, span):
    table = read(tmp_path / "load.csv", ["MTU;Load;Price", *formed(f"{span};{{a}};{{b}}")])
    assert has_readings(table, "Load", "Price")


def test_a_time_of_day_in_digits_is_named_for_its_zone(tmp_path):
    rows = formed("{time:%Y},{doy},{time:%H%M},{a},{b}")
    table = read(tmp_path / "midc.csv", ["Year,DOY,MST,Global,Temp", *rows])
    assert has_readings(table, "Global", "Temp")


def test_names_stand_below_facts_on_the_site_that_have_names_of_their_own(tmp_path):
    facts = ["Source,Site,City,Latitude,Zone,Unit,Cloud,Fill", "NSRDB,155474,-,40.53,-7,w/m2,0,N/A"]
    rows = formed("{time:%Y,%m,%d,%H},{a},{b},,")
    table = read(tmp_path / "psm.csv", [*facts, "Year,Month,Day,Hour,GHI,DHI,,", *rows])
    assert has_readings(table, "GHI", "DHI")


def test_a_legend_below_the_rows_is_left_out_with_a_note(tmp_path):
    legend = ["", "G: irradiance (W/m2)", "T: temperature, 2 m", "(c) 2024, the authors"]
    rows = formed("{time:%Y%m%d:%H%M},{a},{b}")
    table = read(tmp_path / "tmy.csv", ["Elevation: 250", "time(UTC),G,T", *rows, *legend])
    assert has_readings(table, "G", "T")
    assert "The last 3 lines hold no reading, such as 'G: irradiance (W/m2)'" in table.notes


def test_a_row_that_is_cut_off_is_no_legend(tmp_path):
    rows = formed("{time:%Y-%m-%d %H:%M},{a},{b}")
    with pytest.raises(InvalidDataError, match=rf"Line {N_ROWS + 3}\b.* has 2 cells"):
        read(tmp_path / "cut.csv", ["time,G,T", *rows, "", "2024-01-09 00:00,11.5"])


def test_a_long_preamble_and_a_ruler_above_the_rows_are_passed_over(tmp_path):
    words = [f"Spalte {i}: was sie enthält, in Worten und mit Einheit [m/s]" for i in range(40)]
    rows = formed("{time:%m %d %H} {a}  {b}")
    head = ["MM DD HH  WG   t", "***"]
    table = read(tmp_path / "try.dat", [*words, "", *head, *rows], encoding="cp1252")
    assert has_readings(table, "WG", "t", has_times=False)


def test_hours_and_years_are_no_machines(tmp_path):
    minutes = [f"2024 5 {i // 60 % 24} {i % 60} {i % 7}.5 {i % 5}.25" for i in range(600)]
    table = read(tmp_path / "surfrad.dat", ["Alamosa", *minutes])
    assert len(table.frame) == 600
    months = [f"{1950 + i // 12}  {i % 12 + 1}  {i % 7}.5  {i % 5}.25" for i in range(240)]
    table = read(tmp_path / "elnino.dat", ["YR  MON  NINO1  ANOM", *months])
    assert len(table.frame) == 240


def test_codes_above_the_rows_are_not_the_first_reading(tmp_path):
    rows = [f"1\t{i}\t0\t12\t-{20 + i % 9}.5\t12" for i in range(1, 60)]
    with pytest.raises(InvalidDataError, match="line 1 lie far from all below"):
        read(tmp_path / "srml.txt", ["94255\t2018\t1000\t2\t2010\t3", *rows])


def test_names_that_lack_some_columns_are_not_passed_over(tmp_path):
    rows = [f"{i},13.{i % 9},0.5,{i % 7}.25,0" for i in range(40)]
    with pytest.raises(InvalidDataError, match="Line 1 names 4 columns, but line 2 has 5 cells"):
        read(tmp_path / "short.csv", [",Battery,Direct,Diffuse", *rows])


@pytest.mark.parametrize("unit", ["s", "ms", "excel"])
def test_a_clock_in_numbers_may_count_down_as_the_newest_row_comes_first(tmp_path, unit):
    since = (HOURS - np.datetime64("1970-01-01", "h")).astype(int)
    counted = {"s": since * 3600, "ms": since * 3_600_000, "excel": since / 24 + 25_569}[unit]
    rows = [f"{n:.6f},{a},{b}" for n, a, b in zip(counted, FLOW, TEMPERATURE, strict=True)]
    if unit != "excel":
        rows = [row.replace(".000000", "", 1) for row in rows]
    table = read(tmp_path / "new.csv", ["t,G,T", *rows[::-1]])
    assert np.abs(table.times - HOURS).max() < np.timedelta64(1, "s")
    assert table.frame["G"].tolist() == FLOW


@pytest.mark.parametrize(("form", "by"), [("{n}", "1"), ("{n:02}:00:00", "3600 s")])
def test_a_count_that_falls_is_told(tmp_path, form, by):
    counts = range(N_ROWS, 0, -1)
    cells = zip(counts, FLOW, TEMPERATURE, strict=True)
    rows = [f"{form.format(n=n)},{a},{b}" for n, a, b in cells]
    table = read(tmp_path / "record.csv", ["Record,G,T", *rows])
    assert any(note.startswith(f"Record falls by {by} from row to row") for note in table.notes)


def test_milliseconds_may_have_their_unit_behind_a_colon(tmp_path):
    rows = formed("{time:%d/%m/%Y\t%H:%M}:00:250 msec\t{a}\t{b}")
    table = read(tmp_path / "fluke.txt", ["Date\tTime\tG\tT", *rows])
    assert (table.times == HOURS + np.timedelta64(250, "ms")).all()


@pytest.mark.parametrize("zone", ["EST", "+02:00", "Europe/Paris"])
def test_a_zone_in_a_column_of_its_own_is_told(tmp_path, zone):
    rows = formed(f"{{time:%Y-%m-%d %H:%M}}\t{zone}\t{{a}}\t{{b}}")
    table = read(tmp_path / "usgs.tsv", ["datetime\ttz_cd\tG\tT", *rows])
    assert any("tz_cd may name the zone of the times" in note for note in table.notes)


def test_an_hour_stands_beside_a_date_in_digits(tmp_path):
    rows = formed("260,{time:%Y%m%d},{time:%H},{a},{b}")
    table = read(tmp_path / "knmi.txt", ["# KNMI", "# STN,YYYYMMDD,HH,T,P", *rows])
    assert has_readings(table, "T", "P")


def test_a_few_values_with_their_tags_are_put_together(tmp_path):
    rows = [f"2025-03-25 08:0{i // 2}:00,Plant.{'AB'[i % 2]},{i}.5,192" for i in range(6)]
    table = read(tmp_path / "tags.csv", ["DateTime,TagName,Value,Quality", *rows])
    assert table.frame["Plant.A"].tolist() == [0.5, 2.5, 4.5]


@pytest.mark.parametrize(
    ("names", "rows"),
    [
        ("ALIAS,TIMESTAMP_SECONDS,QUALITY,VALUE", ["/p/{tag},{s},GOOD,{v}"]),
        ("DateAndTime,Millitm,TagIndex,Val,Status,Marker", ["{t},130,{tag},{v},,"]),
    ],
    ids=["AWS", "FactoryTalk"],
)
def test_three_times_of_two_tags_are_put_together(tmp_path, names, rows):
    [form] = rows
    at = [(i, tag) for i in range(3) for tag in (0, 1)]
    at = sorted(at, key=lambda place: place[::-1]) if "ALIAS" in names else at
    lines = [
        form.format(tag=tag, s=1741075200 + 60 * i, t=TIMES[i], v=PAIRS[i][tag]) for i, tag in at
    ]
    frame = read(tmp_path / "tags.csv", [names, *lines]).frame
    assert [frame[name].tolist() for name in frame] == [FLOW[:3], TEMPERATURE[:3]]


def test_sums_below_rows_in_quotation_marks_are_left_out(tmp_path):
    rows = formed('"{time:%d.%m.%Y %H:%M}","{a} l/s","{b}"')
    table = read(
        tmp_path / "prtg.csv", ['"Time","G","T"', *rows, '"Averages (of 96)","12 l/s","4"']
    )
    assert has_readings(table, "G", "T")


def test_a_value_with_its_quality_behind_a_comma_is_no_decimal(tmp_path):
    rows = [f'"{time}","+{int(10 * a):04},1"' for time, a in zip(HOURS, FLOW, strict=True)]
    with pytest.raises(InvalidDataError, match="may be one number, or a value and a mark"):
        read(tmp_path / "isd.csv", ['"DATE","TMP"', *rows])


@pytest.mark.parametrize("index", ["time,,", None])
def test_levels_of_columns_are_put_together(tmp_path, index):
    head = [",Motor,Pump", ",Temp,Temp", *([index] if index else [])]
    table = read(tmp_path / "levels.csv", [*head, *formed("{time:%Y-%m-%d %H:%M:%S},{a},{b}")])
    assert has_readings(table, "Motor Temp", "Pump Temp")
    assert table.clock == ("time" if index else "column 1",)


@pytest.mark.parametrize(
    ("head", "time", "names"),
    [
        (
            [",,Temp,Out", "Date,Time,Out,Hum"],
            "{time:%m/%d/%y},{time:%H:%M}",
            ("Temp Out", "Out Hum"),
        ),
        (
            ["machine,Motor,Motor", "sensor,T,T", "stat,mean,std", "time,,"],
            "{time:%Y-%m-%d %H:%M}",
            ("Motor T mean", "Motor T std"),
        ),
    ],
    ids=["weather station", "three levels"],
)
def test_names_of_several_words_stand_on_several_lines(tmp_path, head, time, names):
    table = read(tmp_path / "station.csv", [*head, *formed(f"{time},{{a}},{{b}}")])
    assert has_readings(table, *names)
    assert "name the columns together" in table.notes[0]


@pytest.mark.parametrize("about", ["Estimated data is marked with a * after the value.", ""])
def test_units_with_gaps_belong_to_the_names_above_them(tmp_path, about):
    head = ["Oxford", "Location: Lat 51.761 Lon -1.262, 63 metres", about]
    names = ["   yyyy  mm   tmax    tmin     sun", "              degC    degC   hours"]
    rows = [f"   1990  {i + 1:2}  {a:6}  {b:6}     ---" for i, (a, b) in enumerate(PAIRS[:12])]
    table = read(tmp_path / "oxford.txt", [*head, *names, *rows])
    assert [table.frame[name].tolist() for name in ("tmax", "tmin")] == [
        FLOW[:12],
        TEMPERATURE[:12],
    ]
    assert (table.units["tmax"], table.units["sun"]) == ("degC", "hours")
    assert "yyyy" not in table.units


def test_a_bare_comment_stands_below_the_names(tmp_path):
    head = ["# SOURCE: KNMI", "# STN,YYYYMMDD,   HH,    T,    P", "#"]
    rows = [f"  260,{time:%Y%m%d},{time.hour + 1:5},{i},{i + 900}" for i, time in enumerate(TIMES)]
    table = read(tmp_path / "knmi.txt", [*head, *rows])
    assert table.frame["P"].tolist() == [i + 900 for i in range(N_ROWS)]


def test_times_of_db2_are_read(tmp_path):
    table = read(
        tmp_path / "db2.csv", ["TS,G,T", *formed("{time:%Y-%m-%d-%H.%M.%S}.000000,{a},{b}")]
    )
    assert has_readings(table, "G", "T")


def test_row_names_of_r_may_count_down(tmp_path):
    rows = [f'"{i}" {row}' for i, row in enumerate(formed('"{time:%Y-%m-%d %H:%M:%S}" {a} {b}'), 1)]
    table = read(tmp_path / "r.txt", ['"time" "G" "T"', *rows[::-1]])
    assert has_readings(table, "G", "T")


def test_minus_two_hundred_may_stand_for_a_missing_value(tmp_path):
    cells = [f"{i % 23}.5" if i not in range(5, 9) else "-200" for i in range(N_ROWS)]
    times = formed("{time:%Y-%m-%d %H:%M},{a}")
    rows = [f"{time},{cell}" for time, cell in zip(times, cells, strict=True)]
    table = read(tmp_path / "air.csv", ["time,G,T", *rows])
    assert table.frame["T"].isna().sum() == 4
    assert any(note.startswith("T: -200 in 4 rows read as missing") for note in table.notes)


def test_years_with_decimals_are_times(tmp_path):
    rows = [
        f"{2000 + i / 12:.4f},{a},{b}"
        for i, (a, b) in enumerate(zip(FLOW, TEMPERATURE, strict=True))
    ]
    table = read(tmp_path / "co2.csv", ["decimal_date,G,T", *rows])
    assert table.clock == ("decimal_date",)
    # July begins a day before the middle of the year 2000, and 2000.5000 is just that.
    assert str(table.times[6]) == "2000-07-02T00:00:00.000000"
    assert any("2000" in note and "years with decimals" in note for note in table.notes)


@pytest.mark.parametrize(
    ("form", "says"),
    [
        ("{time:%Y-%m-%d},{time.hour},{a},{b}", "date and hour"),
        ("{time:%Y %m %d %H} {a} {b}", "year, month, day and hour"),
        ("{time:%Y},{doy},{time:%-H%M},{a},{b}", "year, day of the year and hours and minutes"),
    ],
)
@pytest.mark.parametrize("rows", [slice(8, 20), slice(None), slice(None, None, -1)])
def test_values_tell_the_parts_of_a_time_without_names(tmp_path, form, says, rows):
    table = read(tmp_path / "bulk.csv", formed(form)[rows])
    assert table.times.tolist() == np.sort(HOURS[rows]).astype("M8[us]").tolist()
    assert any(says in note for note in table.notes)
    kinds = {column.name: column.is_feature for column in table.kinds}
    assert [name for name in table.frame if kinds[name]] == list(table.frame)[-2:]


@pytest.mark.parametrize("form", ["{time:%y%m%d,%H%M%S}", "{time:%d%m%y,%H%M%S}.00"])
@pytest.mark.parametrize("head", [["Date,Time,G,T"], ["yymmdd,hhmmss,G,T"], []])
@pytest.mark.parametrize("way", [1, -1])
def test_dates_and_times_of_day_may_be_written_in_six_digits(tmp_path, form, head, way):
    table = read(tmp_path / "log.csv", [*head, *formed(f"{form},{{a}},{{b}}")[::way]])
    assert has_readings(table, *table.frame.columns[-2:])


def test_six_digits_that_are_several_dates_are_asked_about(tmp_path):
    rows = [f"250304,{10 + i}0000,{a}" for i, a in enumerate(FLOW[:9])]
    with pytest.raises(InvalidDataError, match="can be 2004-03-25 or 2025-03-04"):
        read(tmp_path / "log.csv", ["Date,Time,G", *rows])
    options = read_options(time_format="%y%m%d %H%M%S")
    table = read_table(tmp_path / "log.csv", options)
    assert str(table.times[0]) == "2025-03-04T10:00:00.000000"
    table = read_table(tmp_path / "log.csv", read_options(day_first=True))
    assert str(table.times[0]) == "2004-03-25T10:00:00.000000"


def test_times_of_day_in_digits_keep_their_zeros(tmp_path):
    rows = [f"20250325,00{i:02}00,{a}" for i, a in enumerate(FLOW[:15])]
    table = read(tmp_path / "log.csv", ["Date,Time,G", *rows])
    assert str(table.times[14]) == "2025-03-25T00:14:00.000000"


@pytest.mark.parametrize("name", ["HE", "Interval"])
def test_a_column_that_counts_the_hours_of_each_date_is_the_hour(tmp_path, name):
    rows = formed("{time:%m/%d/%Y},{a},{b},{time.hour}")
    rows = [f"{row.rpartition(',')[0]},{i % 24 + 1}" for i, row in enumerate(rows)]
    table = read(tmp_path / "market.csv", [f"Date,Load,Price,{name}", *rows])
    assert table.clock == ("Date", name)
    assert (table.times == HOURS + 1).all()


def test_whole_numbers_beside_dates_are_no_hours(tmp_path):
    rows = [f"2026-03-{i // 3 + 1:02},{i * 7 % 11},{a}" for i, a in enumerate(FLOW[:90])]
    table = read(tmp_path / "gas.csv", ["Date,He,G", *rows])
    assert table.clock == ("Date",)


@pytest.mark.parametrize("head", [["year,month,G,T"], ["yyyy,mm,G,T"], []])
def test_months_are_read_as_their_first_day(tmp_path, head):
    months = np.arange("1958-01", "1966-01", dtype="M8[M]").tolist()
    cells = zip(months, FLOW, TEMPERATURE, strict=True)
    rows = [f"{time.year},{time.month},{a},{b}" for time, a, b in cells]
    table = read(tmp_path / "co2.csv", [*head, *rows])
    assert [time.date() for time in table.times.tolist()] == months
    assert any("first of its month" in note for note in table.notes)


def test_several_rows_of_a_month_have_no_times_and_a_note(tmp_path):
    cells = zip(range(N_ROWS), FLOW, TEMPERATURE, strict=True)
    rows = [f"2024,{i // 10 + 1},{a},{b}" for i, a, b in cells]
    table = read(tmp_path / "co2.csv", ["year,month,G,T", *rows])
    assert table.times is None
    assert any("--time year --time month" in note for note in table.notes)


def test_a_count_that_begins_again_with_each_hour_is_no_machine(tmp_path):
    rows = [f"2026-01-{5 + i // 96:02},{i // 4 % 24},{i % 4 + 1},{i % 7}.5" for i in range(300)]
    path = tmp_path / "market.csv"
    path.write_text("\n".join(["Date,Hour,Quarter,Price", *rows]))
    (machine,) = read_machines(path, UNSTATED)
    expected = np.datetime64("2026-01-05T00:00") + 15 * np.arange(300)
    assert np.array_equal(machine.table.times, expected)
    # Machines may have the numbers 1 to 4, too.
    path.write_text("\n".join(["Date,Hour,Machine,Price", *rows]))
    with pytest.raises(InvalidDataError, match="Machine tells them apart"):
        read_machines(path, UNSTATED)
