"""Values that are no readings by what stands beside them, or by what they are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from vigie.tables.kinds import Kind
from vigie.tables.machines import Machine, read_machines
from vigie.tables.options import UNSTATED
from vigie.tables.reading import Recording

TAGS = {"flow": 3.0, "warm": 61.0, "bar": 5.0}
N_TIMES = 40


def read(path: Path, header: str, rows: list[str]) -> Machine:
    path.write_text("\n".join([header, *rows, ""]))
    [machine] = read_machines(path, UNSTATED)
    return machine


def long_rows(ends: Callable[[int], str]) -> list[str]:
    """Return rows of three tags; ``ends`` says what stands behind the value of a time."""
    return [
        f"2026-01-12 08:{i:02d}:00,{tag},{value + i / 100:.2f},{ends(i)}"
        for i in range(N_TIMES)
        for tag, value in TAGS.items()
    ]


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("Quality", "Good", "Bad"),
        ("Quality", "GOOD", "UNCERTAIN"),
        ("Quality", "Good, local override", "Bad: sensor failure"),
        ("q", "G", "B"),
        ("OPCQuality", "192", "0"),
        ("Quality", "216", "64"),
        ("QualityDetail", "192", "24"),
        ("StatusCode", "0", "2147483648"),
        ("Status", "OK", "Invalid"),
        ("IsGood", "True", "False"),
        ("Status", "OK", "Comm Fail"),
        ("Quality", "Good", "No Data"),
        ("Quality", "0x00000000", "0x80050000"),
        ("OPCQuality", "0xC0", "0x00"),
        ("bad", "0", "1"),
        ("IsError", "False", "True"),
        ("error", "0", "17"),
        ("ErrorCode", "0x0", "0x8001"),
        ("error", "", "sensor open"),
    ],
)
def test_a_bad_value_of_a_historian_is_missing_and_said(
    tmp_path: Path, name: str, good: str, bad: str
):
    rows = long_rows(lambda i: f'"{bad if i == 7 else good}",plc1')
    machine = read(tmp_path / "a.csv", f"Time,TagName,Value,{name},Source", rows)
    frame = machine.table.frame
    assert list(frame) == list(TAGS)
    assert np.flatnonzero(frame["flow"].isna()).tolist() == [7]
    assert any(
        note.startswith(f"3 values left missing, since {name} is not good there")
        for note in machine.notes
    )


def test_qualities_that_are_not_known_keep_the_values_and_are_said(tmp_path: Path):
    machine = read(tmp_path / "a.csv", "Time,TagName,Value,Status", long_rows(lambda i: str(i % 3)))
    assert not machine.table.frame.isna().any(axis=None)
    assert any("Status may tell how good a value is" in note for note in machine.notes)


@pytest.mark.parametrize("name", ["alarm", "Fault"])
def test_alarms_of_the_machine_keep_the_values_and_are_said(tmp_path: Path, name: str):
    rows = long_rows(lambda i: "yes" if i > 30 else "no")
    machine = read(tmp_path / "a.csv", f"Time,TagName,Value,{name}", rows)
    assert not machine.table.frame.isna().any(axis=None)
    assert any(note.startswith(f"{name} may tell how good") for note in machine.notes)


def test_a_fault_beside_running_is_one_of_the_machine(tmp_path: Path):
    rows = long_rows(lambda i: "Fail" if i > 30 else "Running")
    machine = read(tmp_path / "a.csv", "Time,TagName,Value,Status", rows)
    assert not machine.table.frame.isna().any(axis=None)
    assert any(note.startswith("Status may tell how good") for note in machine.notes)


def test_a_deviation_that_is_called_error_is_no_flag(tmp_path: Path):
    rows = long_rows(lambda i: f"{i % 5 - 2}")
    machine = read(tmp_path / "a.csv", "Time,TagName,Value,error", rows)
    assert not machine.table.frame.isna().any(axis=None)


def test_a_flag_beside_readings_is_said(tmp_path: Path):
    rows = [f"2026-01-12 08:{i:02d}:00,{i % 7}.5,{i == 9},{i % 5}.5" for i in range(40)]
    machine = read(tmp_path / "a.csv", "Time,flow,IsError,warm", rows)
    assert any(note.startswith("IsError is not good in 1 row") for note in machine.notes)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Valve", ("open", "closed")),
        ("Status", ("Good", "Bad", "Uncertain")),
        ("X", ("T", "F")),
        ("Pumppu", ("kyllä", "ei")),
        ("Mode", ("auto", "manual", "off")),
    ],
)
def test_states_beside_a_sensor_are_not_proposed_as_its_name(tmp_path: Path, name: str, words):
    rows = [f"2026-01-12 08:{i:02d}:00,{words[i // 9 % len(words)]},{i % 7}.5" for i in range(40)]
    machine = read(tmp_path / "a.csv", f"Time,{name},Temp", rows)
    assert not any("--long" in note for note in machine.notes)


@pytest.mark.parametrize("rest", ["Min,Max,Quality", "Unit,Quality,Source", "Area,Status,Sample"])
def test_more_columns_do_not_hide_the_one_with_the_values(tmp_path: Path, rest: str):
    rows = long_rows(lambda i: f"{i % 5},{['Good', 'Bad'][i == 9]},{i % 7}")
    machine = read(tmp_path / "a.csv", f"Time,TagName,Value,{rest}", rows)
    assert list(machine.table.frame) == list(TAGS)


def test_qualities_and_codes_of_a_wide_table_are_no_sensors(tmp_path: Path):
    rows = [
        f"2026-01-12 08:{i:02d}:00,{3 + i % 9 / 10:.1f},{[192, 0][i == 5]},{567 + i % 7 * 128},"
        f"{[0, 12][i == 30]},{i % 3 * 4},{[192, 64][i == 3]},{i % 2},{i * 37 % 11 * 7}"
        for i in range(60)
    ]
    names = "flow,flow_Quality,StatusWord,ErrorCode,AlarmBits,P1.Q,pump_status,air_quality"
    machine = read(tmp_path / "a.csv", f"time,{names}", rows)
    kinds = {column.name: column.kind for column in machine.table.kinds}
    assert kinds == {
        "time": Kind.CLOCK,
        "flow": Kind.SENSOR,
        **dict.fromkeys(
            ("flow_Quality", "StatusWord", "ErrorCode", "AlarmBits", "P1.Q"), Kind.CODE
        ),
        "pump_status": Kind.SWITCH,
        "air_quality": Kind.SENSOR,
    }
    assert any("flow_Quality is not good in 1 row" in note for note in machine.notes)


@pytest.mark.parametrize(
    "cell",
    [
        *("-9999", "-999.0", "9999", "32767", "1e+30", "-3.4028235E38", "65535", "-999.25"),
        *("-127", "3276.7", "6553.5", "327.67", "655.35", "99999.99"),
    ],
)
def test_a_number_that_stands_for_a_missing_one_is_missing_and_said(tmp_path: Path, cell: str):
    path = tmp_path / "a.csv"
    rows = [
        f"2026-01-12 08:{i:02d}:00,{cell if i in (7, 30) else 60 + i % 13 / 10},{i % 11}"
        for i in range(60)
    ]
    machine = read(path, "time,warm,n", rows)
    assert np.flatnonzero(machine.table.frame["warm"].isna()).tolist() == [7, 30]
    assert machine.notes == (
        f"warm: {float(cell):.10g} in 2 rows read as missing, as far from all other values",
    )
    recording = Recording(path)
    [(frame, _)] = recording.read(["warm"])
    assert np.flatnonzero(frame["warm"].isna()).tolist() == [7, 30]
    assert recording.notes == (f"warm: {float(cell):.10g} read as missing",)


@pytest.mark.parametrize(
    "values",
    [
        [i * 100.0 for i in range(60)] + [9999.0, 9999.0],
        [0.0] * 58 + [999.0] * 4,
        [60.0 + i % 13 for i in range(60)] + [9999.0],
        [-900.0 - i for i in range(60)] + [-999.0, -999.0],
    ],
    ids=["near the others", "two values", "once", "among the others"],
)
def test_a_number_that_may_be_a_reading_is_kept(tmp_path: Path, values: list[float]):
    machine = read(tmp_path / "a.csv", "warm,n", [f"{v},{i % 11}" for i, v in enumerate(values)])
    assert machine.table.frame["warm"].tolist() == values
    assert machine.notes == ()
