"""Times as people write them: read right, or refused with what to do."""

from __future__ import annotations

import datetime as dt
import pickle
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vigie.errors import InvalidDataError
from vigie.tables.find_times import find_clock
from vigie.tables.options import TimeOptions
from vigie.tables.time_format import TimeFormat
from vigie.tables.times import TimeParser, understand_times

DAYS = pd.date_range("2024-02-01", periods=2000, freq="5min")
"""From 1 to 7 February, so that day and month can be mistaken for each other."""
MORNING = pd.date_range("2024-02-05 08:00", periods=60, freq="1min")
NIGHT = pd.date_range("2024-10-26 20:00", periods=800, freq="5min", tz="UTC")
"""The end of summer time in Paris, as UTC."""
IN_PARIS = NIGHT.tz_convert("Europe/Paris")
LOCAL = "%Y-%m-%d %H:%M:%S"


def columns(*values: Any) -> list[pa.ChunkedArray]:
    """Return columns as a reader has them, each in two chunks."""
    arrays = [pa.array(value) for value in values]
    half = len(arrays[0]) // 2
    return [pa.chunked_array([one[:half], one[half:]], one.type) for one in arrays]


def read(
    *values: Any, names: tuple[str, ...] = ("a", "b"), **said: Any
) -> tuple[TimeFormat, pd.DatetimeIndex]:
    cells = columns(*values)
    found = understand_times(cells, names[: len(cells)], TimeOptions(**said))
    return found, pd.DatetimeIndex(TimeParser(found).read(cells))


def refusal(*values: Any, **said: Any) -> str:
    with pytest.raises(InvalidDataError) as raised:
        read(*values, **said)
    assert raised.value.field
    assert raised.value.remedy
    return str(raised.value)


def is_same(times: pd.DatetimeIndex, expected: pd.DatetimeIndex) -> bool:
    """Whether times are those expected, in UTC."""
    if expected.tz is not None:
        expected = expected.tz_convert(None)
    return bool(np.array_equal(times.to_numpy(), expected.to_numpy().astype("M8[us]")))


@pytest.mark.parametrize(
    ("cell", "time"),
    [
        ("2024-02-25T10:00:00Z", "2024-02-25 10:00"),
        ("2024-02-25 10:00", "2024-02-25 10:00"),
        ("2024-02-25", "2024-02-25"),
        ("2024/02/25 10:00:00.25", "2024-02-25 10:00:00.25"),
        ("2024-02-25T10:00:00+01:00", "2024-02-25 09:00"),
        ("2024-02-25T10:00:00-0530", "2024-02-25 15:30"),
        ("2024-02-25T10:00+01:00[Europe/Paris]", "2024-02-25 09:00"),
        ("2024-02-25T10:00:00.1234567Z", "2024-02-25 10:00:00.123456"),
        ("2024-02-25 10:00:00,500", "2024-02-25 10:00:00.5"),
        ("20240225T100000Z", "2024-02-25 10:00"),
        ("20240225100000.250", "2024-02-25 10:00:00.25"),
        ("25/02/2024 10:00", "2024-02-25 10:00"),
        ("2/25/2024 1:05:09 PM", "2024-02-25 13:05:09"),
        ("02/25/2024, 12:05 a.m.", "2024-02-25 00:05"),
        ("02/25/2024 1:05\u202fPM", "2024-02-25 13:05"),
        ("25.02.24 9:05", "2024-02-25 09:05"),
        ("25.02.2024 24:00", "2024-02-26"),
        ("25-Feb-2024 10:00:00", "2024-02-25 10:00"),
        ("25FEB2024:10:00:00", "2024-02-25 10:00"),
        ("Feb 25, 2024 10:00", "2024-02-25 10:00"),
        ("25 février 2024 10h00", "2024-02-25 10:00"),
        ("25. März 2024 10:00", "2024-03-25 10:00"),
        ("Sun, 25 Feb 2024 10:00:00 +0000", "2024-02-25 10:00"),
        ("Sun Feb 25 10:00:00 CET 2024", "2024-02-25 09:00"),
        ("25/Feb/2024:10:00:00 +0100", "2024-02-25 09:00"),
        ("2024-07-25 10:00 CEST", "2024-07-25 08:00"),
        ("10:00:00 25/02/2024", "2024-02-25 10:00"),
        ("25/02/2024 10.00.30", "2024-02-25 10:00:30"),
        ("20240225", "2024-02-25"),
        ("202402251000", "2024-02-25 10:00"),
        (20240225100000, "2024-02-25 10:00"),
        (1708855200, "2024-02-25 10:00"),
        (1708855200.25, "2024-02-25 10:00:00.25"),
        ("1708855200,25", "2024-02-25 10:00:00.25"),
        (1708855200250, "2024-02-25 10:00:00.25"),
        ("1708855200250000", "2024-02-25 10:00:00.25"),
        (1708855200250000001, "2024-02-25 10:00:00.25"),
        (45347.416712963, "2024-02-25 10:00:04"),
        (739307.416712963, "2024-02-25 10:00:04"),
        (dt.date(2024, 2, 25), "2024-02-25"),
        (dt.datetime(2024, 2, 25, 10), "2024-02-25 10:00"),
    ],
)
def test_a_time_is_read_in_the_form_it_is_written_in(cell: Any, time: str):
    _, times = read([cell])
    assert abs(times[0] - pd.Timestamp(time)) < pd.Timedelta("1ms")


@pytest.mark.parametrize(
    "cell",
    [
        *("31/02/2024", "2024-02-30", "2024-02-25 10:60", "2024-02-25 25:00", "2024-13-05"),
        *("25/02/2024 13:00 PM", "05 Feb 10:00:00", "Dienst 25/02/2024", "2024-02-25 10:30.50"),
        *("05022024", "0001-01-01", "9999-12-31", "on", "2024-02-25 10:00 EST", "12-34-5678"),
    ],
)
def test_what_is_no_time_or_could_be_another_is_refused(cell: str):
    refusal([cell])


@pytest.mark.parametrize("form", ["%d/%m/%Y %H:%M", "%m/%d/%Y %H:%M", "%d-%m-%y %H:%M"])
def test_the_steps_over_midnight_tell_whether_the_day_stands_first(form: str):
    found, times = read(DAYS.strftime(form))
    assert is_same(times, DAYS)
    assert "are read as" in found.notes[0]


def test_a_thirteenth_month_tells_that_the_day_stands_first():
    rows = pd.date_range("2024-01-01", periods=40, freq="D")
    found, times = read(rows.strftime("%d/%m/%Y"))
    assert is_same(times, rows)
    assert found.notes == ()


def test_days_that_could_be_months_are_refused_until_the_user_says_which():
    cells = [f"01/{i:02}/2024" for i in range(1, 13)]
    said = refusal(cells)
    assert "row 2" in said
    assert "--day-first or --month-first" in said
    assert read(cells, day_first=True)[1][-1] == pd.Timestamp("2024-12-01")
    assert read(cells, day_first=False)[1][-1] == pd.Timestamp("2024-01-12")


def test_an_option_that_does_not_fit_is_refused():
    assert "row 1 does not go with --month-first" in refusal(["13/02/2024"], day_first=False)


@pytest.mark.parametrize("form", ["%d/%m/%Y %H:%M", "%d/%m/%Y %I:%M %p", "%d-%m-%y %H:%M"])
def test_a_single_day_that_can_be_two_is_refused_until_the_user_says_which(form: str):
    cells = MORNING.strftime(form)
    assert "row 1" in refusal(cells)
    assert "--day-first or --month-first" in refusal(cells)
    assert is_same(read(cells, day_first=True)[1], MORNING)
    assert read(cells, day_first=False)[1][0] == pd.Timestamp("2024-05-02 08:00")


@pytest.mark.parametrize("form", ["%d.%m.%Y %H:%M", "%d. %m. %Y %H:%M", "%Y-%m-%d %H:%M"])
def test_a_single_day_with_dots_or_the_year_first_is_no_question(form: str):
    found, times = read(MORNING.strftime(form))
    assert is_same(times, MORNING)
    assert found.notes == ()


@pytest.mark.parametrize("form", ["%d-%b-%y %H:%M:%S", "%d-%b-%y %I:%M:%S %p"])
@pytest.mark.parametrize("start", ["2026-01-25 08:00", "2026-01-30 08:00"])
def test_before_the_name_of_a_month_is_the_day(form: str, start: str):
    for rows in (pd.date_range(start, periods=60, freq="1min"), pd.date_range(start, periods=2)):
        found, times = read(rows.strftime(form))
        assert is_same(times, rows)
        assert found.notes == ()


def test_days_with_dots_are_read_with_a_note():
    rows = pd.date_range("2019-09-04 08:00", periods=3)
    found, times = read(rows.strftime("%d.%m.%Y %H:%M"))
    assert is_same(times, rows)
    assert "as is usual with dots" in found.notes[0]
    assert "--month-first" in found.notes[0]


def test_a_single_day_that_is_the_same_in_both_orders_is_no_question():
    assert read(["03/03/2024 08:00", "03/03/2024 08:01"])[1][0] == pd.Timestamp("2024-03-03 08:00")


def test_rows_with_the_day_first_and_rows_with_the_month_first_are_no_column():
    assert "row 2" in refusal(["13/01/2024", "01/14/2024"])


def test_the_form_that_the_user_gives_is_taken():
    cells = MORNING.strftime("%d|%m|%Y-%H:%M")
    assert is_same(read(cells, time_format="%d|%m|%Y-%H:%M")[1], MORNING)
    assert "row 2" in refusal([cells[0], "x"], time_format="%d|%m|%Y-%H:%M")
    assert "no year" in refusal(cells, time_format="%H:%M")


def test_midnight_may_be_written_without_its_time():
    for form in ("%Y-%m-%d", "%d.%m.%Y"):
        cells = [f"{time:{form} %H:%M:%S}".removesuffix(" 00:00:00") for time in DAYS]
        assert is_same(read(cells)[1], DAYS)


@pytest.mark.parametrize("date", ["%Y-%m-%d", "%d/%m/%Y", "%Y%m%d"])
@pytest.mark.parametrize("clock", ["%H:%M", "%H:%M:%S.5", "%H%M%S", "%Hh%M", "%H.%M.%S", "%H.%M"])
def test_a_date_and_a_time_of_day_are_put_together(date: str, clock: str):
    expected = DAYS + pd.Timedelta("0.5s" if "5" in clock else "0s")
    dates, clocks = DAYS.strftime(date), DAYS.strftime(clock)
    assert is_same(read(dates, clocks)[1], expected)
    assert is_same(read(clocks, dates)[1], expected)


def test_a_date_and_a_time_of_day_may_be_numbers():
    dates, clocks = (DAYS.strftime(form).astype(int) for form in ("%Y%m%d", "%H%M%S"))
    assert is_same(read(dates, clocks)[1], DAYS)
    parts = (DAYS - DAYS.normalize()) / pd.Timedelta("1D")
    assert is_same(read(DAYS.normalize(), np.asarray(parts))[1], DAYS)


def test_two_columns_that_are_no_date_and_time_of_day_are_refused():
    assert "no date and time of day" in refusal(["2024-02-05"], ["2024-02-05"])


def test_a_time_of_day_alone_is_refused():
    assert "no date" in refusal(["10:00", "10:01"])


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_a_count_since_1970_tells_its_unit_by_its_magnitude(unit: Any):
    counts = DAYS.as_unit(unit).asi8
    for cells in (counts, counts.astype(str), counts.astype(float)):
        assert is_same(read(cells)[1], DAYS)


def test_seconds_from_a_start_are_taken_as_seconds_with_a_note():
    found, times = read(np.arange(0, 50, 0.5))
    assert times[1] == pd.Timestamp("1970-01-01 00:00:00.5")
    assert "count from a start" in found.notes[0]


@pytest.mark.parametrize(
    ("numbers", "remedy"),
    [
        ([45000, 45001], "--time-format excel"),
        ([45000.123457, 45001.234571, 45002.717171], "--time-format excel"),
        ([2024020510, 2024020511], "--time-format %Y%m%d%H"),
        ([1.7e9, 1.7e12], "--time-format"),
    ],
)
def test_numbers_that_could_count_several_things_are_refused(numbers: list[float], remedy: str):
    assert remedy in refusal(numbers)


def test_the_user_says_what_numbers_count():
    assert read([45000, 45001], time_format="excel")[1][0] == pd.Timestamp("2023-03-15")
    assert read([45000, 45001], time_format="ms")[1][0] == pd.Timestamp("1970-01-01 00:00:45")


def test_a_date_in_digits_that_does_not_exist_is_named():
    rows = pd.date_range("2024-02-01", periods=40).strftime("%Y%m%d").astype(int).to_numpy()
    rows = np.where(np.arange(40) == 20, 20240231, rows)
    assert "20240231 in row 21" in refusal(rows)


def test_offsets_may_change_within_a_column():
    assert is_same(read(IN_PARIS.strftime("%Y-%m-%dT%H:%M:%S%z"))[1], NIGHT)
    assert is_same(read(IN_PARIS.strftime(f"{LOCAL} %Z"))[1], NIGHT)


def test_a_zone_of_several_places_is_refused_until_its_place_is_named():
    new_york = NIGHT.tz_convert("America/New_York").strftime(f"{LOCAL} %Z")
    assert "--timezone" in refusal(new_york)
    assert is_same(read(new_york, timezone="America/New_York")[1], NIGHT)


def test_times_of_which_only_some_have_a_zone_are_refused():
    assert "row 2" in refusal(["2024-02-05T00:00Z", "2024-02-05T00:05"])


def test_an_unknown_zone_is_refused_with_its_nearest_name():
    assert "Europe/Paris" in refusal(["2024-02-05"], timezone="Europe/Pari")
    assert "Europe/Paris" in refusal(["2024-02-05"], timezone="paris")


@pytest.mark.parametrize("step", ["5min", "30min", "1h"])
def test_local_times_of_a_named_zone_become_utc_in_the_hour_that_comes_twice(step: str):
    rows = pd.date_range("2024-10-26 20:00", periods=60, freq=step, tz="UTC")
    local = rows.tz_convert("Europe/Paris").strftime(LOCAL)
    assert is_same(read(local, timezone="Europe/Paris")[1], rows)


def test_a_time_in_the_gap_of_spring_is_refused():
    cells = ["2024-03-31 01:30", "2024-03-31 02:30", "2024-03-31 03:30"]
    assert "row 2 does not exist" in refusal(cells, timezone="Europe/Paris")


def test_an_hour_that_comes_twice_but_is_there_once_is_noted():
    cells = ["2024-10-27 01:30", "2024-10-27 02:30", "2024-10-27 03:30"]
    found, times = read(cells, timezone="Europe/Paris")
    assert times[1] == pd.Timestamp("2024-10-27 00:30")
    assert "taken as summer time" in found.notes[0]


def test_a_clock_that_was_set_back_goes_on_evenly_with_a_note():
    found, times = read(IN_PARIS.strftime(LOCAL))
    assert set(np.diff(times)) == {np.timedelta64(5, "m")}
    assert "row 61" in found.notes[0]
    assert "--timezone" in found.notes[0]


def test_a_clock_that_is_set_back_every_year_goes_on_evenly():
    rows = pd.date_range("2022-10-01", periods=2 * 400 * 24, freq="30min", tz="UTC")
    found, times = read(rows.tz_convert("Europe/Paris").strftime(LOCAL))
    assert len(found.notes) == 2
    assert np.diff(times).min() == np.timedelta64(30, "m")


def test_another_step_back_is_refused():
    back_twice = [*DAYS[:12], *DAYS[1:13], *DAYS[2:20]]
    assert "row 13" in refusal(pd.DatetimeIndex(back_twice).strftime(LOCAL))
    assert "row 3" in refusal(["2024-01-01", "2024-01-03", "2024-01-02"])


def test_a_file_with_the_newest_row_first_is_refused_as_that():
    assert "newest row stands first" in refusal(DAYS[::-1].strftime(LOCAL))


@pytest.mark.parametrize("empty", [None, "", " ", "NaT", "null"])
def test_a_row_without_a_time_is_named(empty: str | None):
    assert "no time in row 2" in refusal(["2024-01-01", empty, "2024-01-02"])
    assert "no time in row 2" in refusal(["14/01/2024", empty, "15/01/2024"])


def test_a_number_that_is_missing_is_named():
    assert "no time in row 2" in refusal([1.7e9, None, 1.7e9 + 1])


def test_text_among_numbers_is_named():
    cells = [*SECONDS.astype(str), "off"]
    assert "'off' in row 2001" in refusal(cells)
    assert clock(stamp=cells) == ("stamp",)


def test_a_time_missing_beside_a_date_is_named():
    assert "no time in row 2" in refusal(["2024-01-01"] * 3, ["10:00", None, "10:02"])


def test_several_rows_may_have_one_time():
    rows = MORNING.repeat(3)
    assert is_same(read(rows.strftime(LOCAL))[1], rows)


@pytest.mark.parametrize("said", [{}, {"timezone": "Europe/Paris"}])
@pytest.mark.parametrize("length", [1, 7, 61, 64, 500])
def test_parts_are_read_as_the_whole(said: dict[str, str], length: int):
    (cells,) = columns(IN_PARIS.strftime("%d/%m/%Y %H:%M"))
    found = pickle.loads(pickle.dumps(understand_times([cells], ["t"], TimeOptions(**said))))
    whole = TimeParser(found).read([cells])
    parser = TimeParser(found)
    parts = [parser.read([cells[i : i + length]]) for i in range(0, len(cells), length)]
    assert np.array_equal(np.concatenate(parts), whole)


def test_a_row_is_counted_over_all_parts():
    (cells,) = columns(MORNING.strftime(LOCAL))
    parser = TimeParser(understand_times([cells], ["t"], TimeOptions()))
    parser.read([cells[:10]])
    with pytest.raises(InvalidDataError, match="row 12"):
        parser.read([pa.array([str(MORNING[10]), "x"])])
    with pytest.raises(InvalidDataError, match="row 11"):
        parser.read([cells[:10]])


def test_the_form_is_said_in_words():
    found, _ = read(DAYS.strftime("%d/%m/%Y %H:%M"))
    assert found.description == "day/month/year hours:minutes, local time without a zone"
    assert read([1.7e9])[0].description == "seconds since 1970"


def clock(**values: Any) -> tuple[str, ...]:
    cells = dict(zip(values, columns(*values.values()), strict=True))
    return find_clock(cells, len(next(iter(cells.values()))))


EXCEL = np.asarray((DAYS - pd.Timestamp("1899-12-30")) / pd.Timedelta("1D"))
CLOCK, DATE = DAYS.strftime("%H:%M"), DAYS.strftime("%d/%m/%Y")
X = np.random.default_rng(0).normal(size=len(DAYS))
SECONDS = DAYS.as_unit("s").asi8


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ({"x": X, "quand": DAYS.strftime("%d/%m/%Y %H:%M")}, ("quand",)),
        ({"x": X, "stamp": SECONDS}, ("stamp",)),
        ({"x": X, "stamp": DAYS}, ("stamp",)),
        ({"created": DAYS.strftime(LOCAL), "timestamp": DAYS.strftime(LOCAL)}, ("timestamp",)),
        ({"x": X, "Time": CLOCK, "Date": DATE}, ("Date", "Time")),
        ({"day": DAYS.strftime("%Y%m%d").astype(int), "n": DAYS.strftime("%H%M%S")}, ("day", "n")),
        ({"Date": DAYS.normalize(), "Time": DAYS.strftime("%H:%M")}, ("Date", "Time")),
        ({"x": X, "built": ["2020-01-01"] * len(DAYS), "at": DAYS.strftime(LOCAL)}, ("at",)),
        ({"x": X, "time": DAYS.strftime(LOCAL).where(X > -2, None)}, ("time",)),
        ({"x": X, "serial": EXCEL}, ("serial",)),
    ],
)
def test_the_columns_with_the_times_are_found_by_what_they_hold(
    values: dict[str, Any], names: tuple[str, ...]
):
    assert clock(**values) == names


@pytest.mark.parametrize(
    "values",
    [
        {"time": np.arange(2000) * 0.5},
        {"energy": 45_000 + np.cumsum(np.abs(X)), "pressure": 101_325 + X},
        {"count": np.arange(20240101, 20242101), "pulses": 1_700_000_000 + np.rint(1e6 * X)},
        {
            "version": ["1.2.24"] * 2000,
            "part": ["12-34-5678"] * 2000,
            "state": ["on", "off"] * 1000,
        },
        {"time": DAYS.strftime("%H:%M:%S")},
    ],
)
def test_readings_and_elapsed_times_are_not_taken_for_times(values: dict[str, Any]):
    assert clock(**values) == ()


def test_a_reading_that_looks_like_a_time_of_day_is_none():
    dates = pd.date_range("2024-01-01", periods=40).strftime("%Y-%m-%d")
    assert clock(date=dates, power=np.arange(1200, 1240)) == ("date",)


@pytest.mark.parametrize("kind", [pa.timestamp("us"), pa.date32()])
@pytest.mark.parametrize("form", ["%H:%M:%S", None])
def test_dates_of_several_days_have_their_time_of_day_beside_them(
    kind: pa.DataType, form: str | None
):
    rows = pd.date_range("2026-01-05 08:00", periods=60, freq="1h")
    dates = pa.array(rows.normalize(), pa.timestamp("us")).cast(kind)
    clocks = rows.strftime(form) if form else pa.array(rows.time)
    assert clock(Date=dates, Time=clocks, x=[*range(60)]) == ("Date", "Time")
    assert is_same(read(dates, clocks, names=("Date", "Time"))[1], rows)
    daily = pd.date_range("2026-01-05", periods=60)
    assert clock(Date=daily, x=[*range(60)]) == ("Date",)


def test_how_long_a_cycle_took_is_no_time_of_day():
    dates = pd.date_range("2024-01-01", periods=len(DAYS)).strftime("%Y-%m-%d")
    assert clock(date=dates, duration=DAYS.strftime("%H:%M:%S")) == ("date",)


EPOCH = dt.datetime(1970, 1, 1)
_DATES = (
    "%Y-%m-%d %Y/%m/%d %Y%m%d %d/%m/%Y %m/%d/%Y %d.%m.%Y %d-%m-%Y %m-%d-%Y",
    "%d/%m/%y %m/%d/%y %d.%m.%y %y-%m-%d %y/%m/%d %d-%b-%Y %d-%b-%y",
)
DATES = [form for forms in _DATES for form in forms.split()]
DATES += ["%d. %m. %Y", "%d.%m.%Y.", "%Y. %m. %d.", "%Y年%m月%d日", "%G-W%V-%u", "%Y-%j"]
CLOCKS = {
    "%H:%M": 60,
    "%H:%M:%S": 1,
    "%H:%M:%S.%f": 1e-6,
    "%H:%M:%S,%f": 1e-6,
    "%I:%M %p": 60,
    "%I:%M:%S %p": 1,
    "%Hh%M": 60,
    "%H.%M": 60,
    "%H.%M.%S": 1,
    "%H%M%S": 1,
    "%H:%M Uhr": 60,
    "%H:%M:%Sh": 1,
}
ZONES = {"": 0, "Z": 0, "+01:00": 60, "-0530": -330, " CEST": 120}


@st.composite
def ascending(draw: st.DrawFn) -> np.ndarray:
    """Draw ascending times in microseconds, as machines have them: even, with gaps, or uneven."""
    start = draw(st.datetimes(dt.datetime(1990, 1, 1), dt.datetime(2060, 1, 1)))
    unit = draw(st.sampled_from([1, 60, 3600, 86400]))
    start = start.replace(second=0, microsecond=0, minute=start.minute if unit < 3600 else 0)
    if draw(st.booleans()):
        start = start.replace(day=min(start.day, 12))
    n_steps = draw(st.integers(0, 80))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    steps = np.full(n_steps, draw(st.sampled_from([1, 2, 5, 10, 15, 30])) * unit * 1e6)
    kind = draw(st.sampled_from(["even", "jitter", "gaps", "repeats", "random"]))
    steps *= {
        "even": np.ones(n_steps),
        "jitter": random.uniform(0.5, 1.5, n_steps),
        "gaps": np.where(random.random(n_steps) < 0.05, random.integers(1, 500, n_steps), 1),
        "repeats": random.random(n_steps) < 0.5,
        "random": random.exponential(size=n_steps),
    }[kind]
    begin = (start - EPOCH) // dt.timedelta(microseconds=1)
    return begin + np.concatenate([[0], np.cumsum(np.rint(steps))]).astype(np.int64)


@st.composite
def columns_with_times(draw: st.DrawFn) -> tuple[np.ndarray, list[Any]]:
    """Draw times, and the columns that a file could have for them."""
    times = draw(ascending())
    form = draw(st.sampled_from(["one", "two", "count", "excel", "digits", "iso"]))
    if form == "count":
        unit = draw(st.sampled_from([1, 10**3, 10**6]))
        times = times // 1000 * 1000 if unit < 10**6 else times
        counts = times / (10**6 // unit) if unit < 10**6 else times
        return times, [list(map(str, counts)) if draw(st.booleans()) else counts]
    if form == "excel":
        times = times // 10**6 * 10**6
        return times, [times / 86_400e6 + 25_569]
    date, (clock, seconds) = draw(st.sampled_from(DATES)), draw(st.sampled_from([*CLOCKS.items()]))
    if form == "digits":
        date, clock, seconds = "%Y%m%d%H%M", "%S", 1
    if form != "iso":
        times = times // round(seconds * 1e6) * round(seconds * 1e6)
    if form == "iso":
        zone = draw(st.sampled_from([*ZONES]))
        local = (times + ZONES[zone] * 60 * 10**6).astype("M8[us]")
        return times, [[str(time) + zone for time in local]]
    moments = [EPOCH + dt.timedelta(microseconds=int(time)) for time in times]
    between = "" if form == "digits" else draw(st.sampled_from([" ", ", ", "T"]))
    forms = [date, clock] if form == "two" else [date + between + clock]
    written = [[moment.strftime(one) for moment in moments] for one in forms]
    return times, written[::-1] if draw(st.booleans()) else written


@settings(max_examples=200, deadline=None, derandomize=True)
@given(columns_with_times())
def test_times_are_never_read_as_others_in_silence(drawn: tuple[np.ndarray, list[Any]]):
    expected, values = drawn
    try:
        found, times = read(*values)
    except InvalidDataError:
        return
    got = times.to_numpy().astype(np.int64)
    if np.abs(got - expected).max() > 1000:
        assert "count from a start" in " ".join(found.notes), f"{values[0][0]} is {times[0]}"


@settings(max_examples=50, deadline=None)
@given(
    st.datetimes(dt.datetime(2000, 1, 1), dt.datetime(2035, 1, 1)),
    st.sampled_from(["Europe/Paris", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata"]),
    st.sampled_from([60, 300, 600, 900]),
)
def test_the_local_times_of_a_zone_become_the_times_that_were(
    start: dt.datetime, zone: str, seconds: int
):
    rows = pd.date_range(
        pd.Timestamp(start).floor("h"), periods=20000, freq=f"{seconds}s", tz="UTC"
    )
    found, times = read(rows.tz_convert(zone).tz_localize(None), timezone=zone)
    assert is_same(times, rows) or any("comes twice" in note for note in found.notes)


@pytest.mark.parametrize("day", ["2024-06-15 09:00", "2024-10-27 02:00", "2024-01-10 01:00"])
def test_two_recordings_of_one_hour_are_no_clock_that_was_set_back(day):
    hour = pd.date_range(day, periods=60, freq="min").strftime("%Y-%m-%d %H:%M:%S")
    cells = pa.chunked_array([pa.array([*hour, *hour])])
    with pytest.raises(InvalidDataError, match="not ascending: see row 61"):
        understand_times([cells], ["time"], TimeOptions())


@pytest.mark.parametrize(
    ("zone", "begin"),
    [
        ("Europe/Paris", "2024-10-26 20:00"),
        ("America/New_York", "2024-11-03 00:00"),
        ("Australia/Sydney", "2024-04-06 10:00"),
        ("Australia/Lord_Howe", "2024-04-06 10:00"),
        ("America/Santiago", "2024-04-06 20:00"),
        ("Africa/Cairo", "2024-10-31 16:00"),
    ],
)
def test_a_clock_is_set_back_in_the_nights_of_some_zone(zone, begin):
    moments = pd.date_range(begin, periods=200, freq="5min", tz="UTC").tz_convert(zone)
    cells = pa.chunked_array([pa.array(moments.strftime("%Y-%m-%d %H:%M:%S"))])
    found = understand_times([cells], ["time"], TimeOptions())
    assert len(found.changes) == 1
    times = TimeParser(found).read([cells])
    assert (np.diff(times) == np.timedelta64(5, "m")).all()


def test_a_clock_set_back_at_any_date_is_known_by_the_days_around_it():
    moments = pd.date_range("2014-01-01", periods=2000, freq="5min")
    local = moments.where(moments < "2014-01-04", moments - pd.Timedelta("1h"))
    cells = pa.chunked_array([pa.array(local.strftime("%Y-%m-%d %H:%M:%S"))])
    assert len(understand_times([cells], ["time"], TimeOptions()).changes) == 1


@pytest.mark.parametrize(
    ("cell", "time"),
    [
        ("2026. 11. 30. 8:41:00", "2026-11-30 08:41"),
        ("30. 11. 2026 8:41", "2026-11-30 08:41"),
        ("30.11.2026. 08:41", "2026-11-30 08:41"),
        ("30-oct-2026 8:41", "2026-10-30 08:41"),
        ("30-mrt-2026 08:41", "2026-03-30 08:41"),
        ("30 de noviembre de 2026 8:41:00 p. m.", "2026-11-30 20:41"),
        ("lunes, 30 de noviembre de 2026, 8:41", "2026-11-30 08:41"),
        ("1er déc. 2026 à 08h41", "2026-12-01 08:41"),
        ("30 listopadu 2026 8:41", "2026-11-30 08:41"),
        ("30 ноября 2026 08:41", "2026-11-30 08:41"),
        ("2026年11月30日 8时41分", "2026-11-30 08:41"),
        ("2026年11月30日20時41分5秒", "2026-11-30 20:41:05"),
        ("2026/11/30 下午8:41:00", "2026-11-30 20:41"),
        ("2026-11-30 오전 12:41:00", "2026-11-30 00:41"),
        ("2026. 11. 30. 오후 8:41:00", "2026-11-30 20:41"),
        ("30.11.2026 08:41 Uhr", "2026-11-30 08:41"),
        ("30.11.2026, 08:41 Uhr CET", "2026-11-30 07:41"),
        ("30.11.2026 klo 8.41", "2026-11-30 08:41"),
        ("30.11.2026 08:41h", "2026-11-30 08:41"),
        ("11/30/2026 02:00P", "2026-11-30 14:00"),
        ("2026-11-30 10:00 AEST", "2026-11-30 00:00"),
        ("2026-W49-1T08:41:00", "2026-11-30 08:41"),
        ("2026-334T08:41:00Z", "2026-11-30 08:41"),
        ("2026334T084100", "2026-11-30 08:41"),
        ("2024-366T08:41:00", "2024-12-31 08:41"),
        ("2026-11-30T08:41:00,250", "2026-11-30 08:41:00.25"),
        ("2026-11-30_08-41-00", "2026-11-30 08:41"),
        ("30 11 2026 08:41", "2026-11-30 08:41"),
        ("Nov 30, 2026 @ 08:41:00.000", "2026-11-30 08:41"),
        ("[2026-11-30 08:41:00]", "2026-11-30 08:41"),
        ("[30/Nov/2026:08:41:00 +0100]", "2026-11-30 07:41"),
        ("2026:11:30 08:41:00", "2026-11-30 08:41"),
        ("28 lut 2026 08:41", "2026-02-28 08:41"),
        ("30 čvn 2026 08:41", "2026-06-30 08:41"),
        ("30 čvc 2026 08:41", "2026-07-30 08:41"),
        ("30 pro 2026 08:41", "2026-12-30 08:41"),
        ("30. studenoga 2026. 08:41", "2026-11-30 08:41"),
        ("30 листопада 2026 08:41", "2026-11-30 08:41"),
        ("30 Νοεμβρίου 2026 08:41", "2026-11-30 08:41"),
    ],
)
def test_a_time_is_read_as_further_countries_and_programs_write_it(cell: str, time: str):
    assert read([cell])[1][0] == pd.Timestamp(time)


def test_a_day_before_a_month_in_digits_with_spaces_is_asked_for():
    assert "--day-first or --month-first" in refusal(MORNING.strftime("%d %m %Y %H:%M"))
    assert is_same(read(DAYS.strftime("%d %m %Y %H:%M"))[1], DAYS)


@pytest.mark.parametrize(
    "cell", ["2025-W53-1", "2026-366T08:41", "30 lis 2026", "30.11.2026 13:41 PM", "2026年13月1日"]
)
def test_what_does_not_exist_or_means_two_months_is_refused(cell: str):
    refusal([cell])


@pytest.mark.parametrize(
    "months",
    [
        "sty lut mar kwi maj cze lip sie wrz paź lis gru",
        "led úno bře dub kvě čvn čvc srp zář říj lis pro",
        "sij velj ožu tra svi lip srp kol ruj lis stu pro",
        "січ лют бер кві тра чер лип сер вер жов лис гру",
        "stycznia lutego marca kwietnia maja czerwca lipca sierpnia września października "
        "listopada grudnia",
        "siječnja veljače ožujka travnja svibnja lipnja srpnja kolovoza rujna listopada studenoga "
        "prosinca",
    ],
)
def test_the_other_months_tell_what_one_of_several_languages_means(months: str):
    rows = pd.date_range("2026-01-05 08:00", periods=300, freq="1D")
    names = months.split()
    cells = [f"{row.day} {names[row.month - 1]} {row.year} 08:00" for row in rows]
    assert clock(Data=cells, x=[*range(300)]) == ("Data",)
    assert is_same(read(cells)[1], rows)
    dates = [cell[:-6] for cell in cells]
    assert is_same(read(dates, ["08:00"] * 300)[1], rows)


def test_a_day_between_the_year_and_the_month_is_read_with_a_note():
    rows = pd.date_range("2026-10-20", periods=200, freq="4h")
    found, times = read(rows.strftime("%Y-%d-%m %H:%M"))
    assert is_same(times, rows)
    assert "year, day, month" in found.notes[0]
    found, times = read(DAYS.strftime("%Y-%d-%m %H:%M"))
    assert is_same(times, DAYS)
    assert "year, day, month" in found.notes[0]


def test_months_and_gaps_with_the_year_first_are_read_as_usual():
    late = MORNING.append(MORNING + pd.DateOffset(months=3))
    monthly = pd.date_range("2026-01-01", periods=12, freq="MS")
    for rows in (monthly, late, DAYS.delete(range(9, 1500))):
        found, times = read(rows.strftime("%Y-%m-%d %H:%M"))
        assert is_same(times, rows)
        assert found.notes == ()


@pytest.mark.parametrize("form", ["%y%m%d%H%M", "%y%m%d%H%M%S"])
@pytest.mark.parametrize("start", ["2018-03-01 08:00", "2026-11-30 08:41"])
def test_digits_with_a_short_year_are_no_count(form: str, start: str):
    rows = pd.date_range(start, periods=300, freq="7min")
    assert is_same(read(rows.strftime(form).astype(int))[1], rows)


@pytest.mark.parametrize("as_type", [int, str])
@pytest.mark.parametrize("start", ["2026-01-05 08:00", "2019-05-05", "2012-05-05 22:00"])
@pytest.mark.parametrize("n_rows", [6, 200])
def test_hours_that_go_on_over_midnight_are_no_seconds(start: str, n_rows: int, as_type: type):
    rows = pd.date_range(start, periods=n_rows, freq="1h")
    cells = rows.strftime("%Y%m%d%H").astype(as_type)
    if rows[0].date() == rows[-1].date():
        assert "--time-format s or --time-format %Y%m%d%H" in refusal(cells)
        return
    found, times = read(cells)
    assert is_same(times, rows)
    assert "yyyymmddhh" in found.notes[0]
    assert "--time-format s" in found.notes[0]
    assert clock(MESS_DATUM=cells, x=[*range(n_rows)]) == ("MESS_DATUM",)


def test_an_hour_that_does_not_exist_is_named():
    cells = [*pd.date_range("2026-01-05", periods=50, freq="1h").strftime("%Y%m%d%H").astype(int)]
    cells[30] = 2026010625
    assert "2026010625 in row 31" in refusal(cells)


def test_a_few_digits_that_can_be_seconds_are_asked_for():
    said = refusal(np.arange(1712310000, 1712310030))
    assert "--time-format s or --time-format %y%m%d%H%M" in said
    seconds = np.arange(1712310000, 1712313600)
    assert read(seconds)[1][0] == pd.Timestamp("2024-04-05 09:40")


@pytest.mark.parametrize(
    ("form", "start", "per_second"),
    [
        ("labview", "1904-01-01", 1),
        ("filetime", "1601-01-01", 10**7),
        ("ticks", "0001-01-01", 10**7),
        ("mjd", "1858-11-17", 1 / 86_400),
        ("jd", "-4713-11-24T12", 1 / 86_400),
    ],
)
def test_counts_of_other_programs_are_read_as_the_user_says(
    form: str, start: str, per_second: float
):
    rows = pd.date_range("2026-11-30 08:41", periods=100, freq="min")
    seconds = rows.as_unit("s").asi8 - np.datetime64(start, "s").astype(np.int64)
    counts = seconds * per_second
    _, times = read(counts, time_format=form)
    assert np.abs(times - rows).max() < pd.Timedelta("1ms")
    if form in ("labview", "mjd"):
        assert f"--time-format {form}" in refusal(counts)
    else:
        assert np.abs(read(counts)[1] - rows).max() < pd.Timedelta("1ms")


def test_seconds_of_gps_lack_the_leap_seconds():
    assert read([1480063278], time_format="gps")[1][0] == pd.Timestamp("2026-11-30 08:41")


def test_the_name_of_a_column_tells_what_it_counts_or_that_it_is_open():
    days = [61374.361805556, 61374.362500001]
    assert read(days, names=("MJD",))[1][0].floor("s") == pd.Timestamp("2026-11-30 08:41")
    with pytest.raises(InvalidDataError, match="--time-format s or --time-format gps"):
        read([1480063278, 1480063279], names=("GPS time",))


def test_numbers_that_a_spreadsheet_has_rounded_are_refused():
    rows = pd.date_range("2026-11-30 08:41", periods=300, freq="s").as_unit("ms").asi8
    assert "lost their last digits" in refusal([f"{count:.5E}" for count in rows])
    assert is_same(read([f"{count:.12E}" for count in rows])[1], pd.to_datetime(rows, unit="ms"))


def test_counts_that_lie_in_the_future_are_noted():
    rows = pd.date_range("2045-01-01", periods=10, freq="min")
    assert "lie in the future" in read(rows.as_unit("s").asi8)[0].notes[0]


def parts_of(rows: pd.DatetimeIndex, **names: str) -> dict[str, Any]:
    """Return columns with parts of times, such as ``Year="year"``."""
    return {name: getattr(rows, part).to_numpy() for name, part in names.items()}


@pytest.mark.parametrize(
    "names",
    [
        {"Year": "year", "Month": "month", "Day": "day", "Hour": "hour", "Minute": "minute"},
        {"YY": "year", "MM": "month", "DD": "day", "hh": "hour", "mm": "minute", "ss": "second"},
        {"Jahr": "year", "Monat": "month", "Tag": "day", "Stunde": "hour", "Minute": "minute"},
        {"year": "year", "doy": "dayofyear", "hour": "hour", "min": "minute"},
    ],
)
def test_the_parts_of_a_time_in_columns_of_their_own_are_put_together(names: dict[str, str]):
    rows = pd.date_range("2026-11-30", periods=200, freq="30min")
    values = {"x": X[:200], **parts_of(rows, **names)}
    assert clock(**values) == tuple(names)
    cells = [values[name] for name in names]
    assert is_same(read(*cells, names=tuple(names))[1], rows)


def test_an_hour_and_a_minute_beside_a_date_are_its_time_of_day():
    rows = pd.date_range("2026-11-30", periods=200, freq="7min")
    values = {"Date": rows.strftime("%d.%m.%Y"), **parts_of(rows, Hour="hour", Minute="minute")}
    assert clock(**values) == ("Date", "Hour", "Minute")
    assert is_same(read(*values.values(), names=tuple(values))[1], rows)


@pytest.mark.parametrize("as_type", [int, str])
@pytest.mark.parametrize("name", ["Hour", "Hour Ending", "HourEnding", "Stunde"])
@pytest.mark.parametrize("form", ["%m/%d/%Y", "%Y-%m-%d"])
def test_the_hour_24_beside_a_date_is_midnight(form: str, name: str, as_type: type):
    rows = pd.date_range("2026-01-25 01:00", periods=72, freq="1h")
    dates = (rows - pd.Timedelta("1h")).strftime(form)
    hours = ((rows.hour - 1) % 24 + 1).astype(as_type)
    assert clock(**{"Date": dates, name: hours, "load": [*range(72)]}) == ("Date", name)
    assert is_same(read(dates, hours, names=("Date", name))[1], rows)


def test_a_time_of_day_beside_year_month_and_day_goes_with_them():
    rows = pd.date_range("2026-11-30", periods=200, freq="7min")
    values = parts_of(rows, Year="year", Month="month", Day="day")
    values["Time"] = rows.strftime("%H:%M")
    assert clock(**values) == tuple(values)
    assert is_same(read(*values.values(), names=tuple(values))[1], rows)


def test_a_part_that_does_not_exist_is_named():
    cells = [[2026, 2026], [11, 11], [30, 31]]
    with pytest.raises(InvalidDataError, match="'2026-11-31' in row 2 does not exist"):
        read(*cells, names=("year", "month", "day"))


FAST = pd.date_range("2026-11-30 08:41", periods=400, freq="250ms")


@pytest.mark.parametrize("form", ["%d.%m.%Y %H:%M:%S", "%m/%d/%Y|%H:%M:%S"])
def test_milliseconds_beside_a_time_in_whole_seconds_are_added(form: str):
    values = [FAST.strftime(one) for one in form.split("|")]
    columns_of = dict(zip(("Date", "Time")[-len(values) :], values, strict=True))
    found = clock(**columns_of, Millitm=FAST.microsecond // 1000, x=X[:400])
    assert found == (*columns_of, "Millitm")
    times = read(*values, FAST.microsecond // 1000, names=found)[1]
    assert is_same(times, FAST)


def test_numbers_named_ms_that_do_not_rise_within_a_second_are_a_reading():
    numbers = np.random.default_rng(0).integers(0, 1000, 400)
    assert clock(Time=FAST.strftime("%Y-%m-%d %H:%M:%S"), ms=numbers) == ("Time",)


@pytest.mark.parametrize(
    ("name", "time", "zone"),
    [
        ("Time (UTC+01:00)", "2026-11-30 07:41", "UTC+01:00 by the name"),
        ("Datetime [GMT-5]", "2026-11-30 13:41", "UTC-05:00 by the name"),
        ("timestamp_utc", "2026-11-30 08:41", "UTC by the name"),
        ("Time (Europe/Berlin)", "2026-11-30 07:41", "Europe/Berlin"),
        ("Output", "2026-11-30 08:41", "without a zone"),
    ],
)
def test_the_name_of_the_column_may_tell_the_zone(name: str, time: str, zone: str):
    found, times = read(["2026-11-30 08:41"], names=(name,))
    assert times[0] == pd.Timestamp(time)
    assert zone in found.description
    assert read(["2026-11-30T08:41Z"], names=(name,))[1][0] == pd.Timestamp("2026-11-30 08:41")


def test_a_zone_of_several_places_in_the_name_is_noted():
    assert "--timezone" in read(["2026-11-30 08:41"], names=("Time (EST)",))[0].notes[0]


def test_a_word_that_is_no_zone_is_no_question_of_a_zone():
    said = refusal(["2026-11-30 08:41 foo"])
    assert "known form" in said
    assert "--timezone" not in said
    new_york = "2026-11-30 08:41 EST"
    assert "Europe/Berlin calls no time EST" in refusal([new_york], timezone="Europe/Berlin")


def test_of_a_local_clock_and_one_of_utc_the_latter_is_read():
    local = IN_PARIS.strftime(LOCAL)
    assert clock(LocalTime=local, UtcTime=NIGHT.strftime(LOCAL)) == ("UtcTime",)
    assert clock(Time=local, Time_UTC=NIGHT.strftime(LOCAL)) == ("Time_UTC",)


@pytest.mark.parametrize("form", ["%m/%d/%Y %I:%M:%S", "%m/%d/%Y|%I:%M:%S", "%Y%m%d|%I%M%S"])
def test_am_and_pm_may_stand_in_a_column_of_their_own(form: str):
    rows = pd.date_range("2026-11-29 08:41", periods=300, freq="7min")
    values = [rows.strftime(one) for one in form.split("|")]
    columns_of = dict(zip(("Date", "Time")[: len(values)], values, strict=True))
    half = rows.strftime("%p")
    found = clock(**columns_of, **{"AM/PM": half}, x=X)
    assert found == (*columns_of, "AM/PM")
    assert is_same(read(*values, half, names=found)[1], rows)


def test_am_and_pm_beside_hours_to_23_are_no_part_of_the_time():
    rows = pd.date_range("2026-11-29 08:41", periods=300, freq="7min")
    dates, clocks = rows.strftime("%m/%d/%Y"), rows.strftime("%H:%M")
    assert clock(Date=dates, Time=clocks, AMPM=rows.strftime("%p")) == ("Date", "Time")


def test_numbers_of_a_time_may_lack_their_zeros():
    rows = pd.date_range("2026-11-05 07:59:57", periods=300, freq="61s")
    dates = [f"{t.year}-{t.month}-{t.day}" for t in rows]
    clocks = [f"{t.hour}:{t.minute}:{t.second}" for t in rows]
    both = [" ".join(pair) for pair in zip(dates, clocks, strict=True)]
    assert clock(Time=both, x=X) == ("Time",)
    assert is_same(read(both)[1], rows)
    assert clock(Date=dates, Time=clocks, x=X) == ("Date", "Time")
    assert is_same(read(dates, clocks, names=("Date", "Time"))[1], rows)
    minutes = [f"{t.hour}:{t.minute}" for t in rows]
    times = read(dates, minutes, names=("Date", "Time"))[1]
    assert is_same(times, rows.floor("min"))


@pytest.mark.parametrize(
    ("count", "freq", "note"),
    [
        ({"Hour": lambda t: t.hour, "Quarter": lambda t: t.minute // 15 + 1}, "15min", "15 min"),
        ({"DeliveryHour": lambda t: t.hour + 1, "Interval": lambda t: t.minute // 15}, "15min", ""),
        ({"Viertelstunde": lambda t: t.hour * 4 + t.minute // 15 + 1}, "15min", "counted from 1"),
        ({"Settlement Period": lambda t: t.hour * 2 + t.minute // 30 + 1}, "30min", "30 min"),
        ({"Minute": lambda t: t.hour * 60 + t.minute}, "5min", "minutes of the day"),
        ({"SecOfDay": lambda t: t.hour * 3600 + t.minute * 60 + t.second}, "90s", "seconds of"),
        ({"Time": lambda t: t.hour + t.minute / 60}, "30min", "hours of the day"),
        ({"Time": lambda t: np.round(t.hour + t.minute / 60, 4)}, "20min", "hours of the day"),
        ({"Time": lambda t: t.hour * 60 + t.minute}, "1min", "minutes of the day"),
        ({"Shift": lambda t: t.hour // 8 + 1}, "8h", "8 h long"),
    ],
)
@pytest.mark.parametrize("way", [1, -1])
def test_parts_of_a_day_or_an_hour_are_counted_beside_a_date(count, freq: str, note: str, way: int):
    days = 3 if freq != "8h" else 40
    rows = pd.date_range("2026-11-13", periods=pd.Timedelta(days=days) // freq, freq=freq)[::way]
    dates = rows.strftime("%d.%m.%Y")
    parts = {name: np.asarray(of(rows)) for name, of in count.items()}
    found = clock(Datum=dates, **parts, x=np.arange(len(rows)) % 7 / 8)
    assert found == ("Datum", *parts)
    if way == 1:
        form, times = read(dates, *parts.values(), names=found)
        assert np.abs(times - rows.to_numpy()).max() < np.timedelta64(1, "s")
        assert note in form.notes[0]


def test_hours_and_minutes_behind_a_point_stay_such():
    rows = pd.date_range("2026-11-13", periods=300, freq="15min")
    clocks = [f"{t.hour}.{t.minute:02}" for t in rows]
    found = clock(Datum=rows.strftime("%d.%m.%Y"), Uhrzeit=clocks, x=X[:300])
    assert is_same(read(rows.strftime("%d.%m.%Y"), clocks, names=found)[1], rows)


def test_a_day_beside_a_year_without_a_month_is_one_of_the_year():
    rows = pd.date_range("2026-11-13", periods=300, freq="15min")
    parts = {"Year": rows.year, "Day": rows.dayofyear, "HHMM": rows.hour * 100 + rows.minute}
    assert clock(ID=np.full(300, 101), **parts, x=X[:300]) == tuple(parts)
    assert is_same(read(*parts.values(), names=tuple(parts))[1], rows)


@pytest.mark.parametrize(
    "zero", ["12/30/99 %H:%M:%S", "1899-12-30 %H:%M:%S", "30.12.1899 %H:%M", "1900-01-00T%H:%M"]
)
def test_a_time_of_day_may_have_the_first_day_of_its_program(zero: str):
    rows = pd.date_range("2026-11-13", periods=300, freq="15min")
    for length in (20, 300):
        dates, clocks = rows[:length].strftime("%m/%d/%y 00:00:00"), rows[:length].strftime(zero)
        assert clock(Date=dates, Time=clocks, x=X[:length]) == ("Date", "Time")
        assert is_same(read(dates, clocks, names=("Date", "Time"))[1], rows[:length])
    assert "12/30/99" not in zero or "without a date" in read(clocks[:90])[0].notes[0]


def test_a_single_day_with_dots_that_lies_long_ago_is_a_question():
    said = refusal([f"26.01.05 08:{i:02}:00" for i in range(60)])
    assert "2005-01-26 or 2026-01-05" in said
    assert "--day-first" in said


def test_a_year_of_two_digits_before_1980_is_noted():
    assert "1969" in read([f"20/1/69 8:{i:02}" for i in range(60)])[0].notes[0]
    assert read([f"20/1/98 8:{i:02}" for i in range(60)])[0].notes == ()


def test_an_hour_that_comes_twice_is_told_of_hourly_rows():
    rows = pd.date_range("2026-10-24 00:00", periods=60, freq="1h", tz="UTC")
    local = rows.tz_convert("Europe/Paris").strftime("%d.%m.%Y %H:%M")
    found, times = read(local)
    assert (np.diff(times) == np.timedelta64(1, "h")).all()
    assert "set back by 60 minutes at row 26" in found.notes[0]
    assert is_same(read(local, timezone="Europe/Paris")[1], rows.tz_convert(None))
    # A row may be there twice in any other hour, too.
    found, times = read([*local[:10], *local[9:]])
    assert not any("set back" in note for note in found.notes)
    assert is_same(
        times, rows[[*range(10), *range(9, 60)]].tz_convert("Europe/Paris").tz_localize(None)
    )


@pytest.mark.parametrize("name", ["MTU (CET/CEST)", "Time (MTU (CET))", "Zeit [MEZ/MESZ]"])
def test_two_zones_of_summer_and_winter_in_the_name_are_noted(name: str):
    assert "--timezone" in read(["2026-11-30 08:41"], names=(name,))[0].notes[0]


def test_seconds_since_a_start_beside_one_date_are_no_hours():
    seconds = np.arange(100) / 10
    assert clock(Date=["2026-11-30"] * 100, Time=seconds, x=X[:100]) == ()
