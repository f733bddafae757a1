"""Units in a column of their own: numbers are read in one unit, or refused with two rows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from vigie.errors import InvalidDataError
from vigie.tables.file_form import FileForm
from vigie.tables.machines import Known, Machine, open_machines, read_machines
from vigie.tables.options import UNSTATED, ReadOptions

N = 40


def written(path: Path, header: str, row: Callable[[int], str]) -> Path:
    rows = [f"2026-01-05 08:{i:02d}:00,{row(i)}" for i in range(N)]
    path.write_text("\n".join([header, *rows, ""]))
    return path


def read(path: Path, header: str, row: Callable[[int], str], **stated) -> Machine:
    return read_machines(written(path, header, row), ReadOptions(**stated))[0]


def long(path: Path, unit_of_warm: Callable[[int], str]) -> Path:
    rows = [
        f"2026-01-05 08:{i:02d}:00,{tag},{value + i % 7},{unit}"
        for i in range(N)
        for tag, value, unit in (("warm", 60.5, unit_of_warm(i)), ("speed", 1480, "rpm"))
    ]
    path.write_text("\n".join(["time,tag,value,unit", *rows, ""]))
    return path


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("Time,No.,Value,Unit,AC/DC", lambda i, v, u: f"{i + 1},{v},{u},DC"),
        ("Time,U,U Unit,T", lambda i, v, u: f"{v},{u},{i % 11}.5"),
        ("Zeit,Einheit,Wert", lambda i, v, u: f"{u}DC,{v}"),
    ],
)
def test_numbers_whose_range_changes_are_read_in_one_unit_and_said(tmp_path: Path, header, row):
    machine = read(
        tmp_path / "a.csv",
        header,
        lambda i: row(i, *((850 + i, "mV") if i % 3 else (1.05 + i, "V"))),
    )
    [(name, unit)] = machine.units.items()
    values = [(850 + i) / 1000 if i % 3 else 1.05 + i for i in range(N)]
    assert unit.startswith("V")
    assert machine.table.frame[name].tolist() == pytest.approx(values)
    assert any(note.startswith(f"{name}: numbers in mV") for note in machine.notes)
    assert not any("--long" in note for note in machine.notes)


def test_a_unit_that_changes_otherwise_is_refused_with_two_rows(tmp_path: Path):
    path = written(
        tmp_path / "a.csv", "time,P,P Unit", lambda i: f"3.{i},{'bar' if i < 30 else 'psi'}"
    )
    with pytest.raises(InvalidDataError, match=r"P: .*bar in row 1, psi in row 31.*--exclude P"):
        read_machines(path, UNSTATED)
    [machine] = read_machines(path, UNSTATED, ignored=["P"])
    assert machine.units == {}


def test_a_unit_that_may_be_of_two_columns_is_refused(tmp_path: Path):
    with pytest.raises(InvalidDataError, match="mV in row 1 and V in row 31"):
        read(
            tmp_path / "a.csv",
            "time,low,high,unit",
            lambda i: f"{i % 7}.25,{i % 5}.5,{'mV' if i < 30 else 'V'}",
        )


def test_machines_are_read_in_the_same_unit(tmp_path: Path):
    rows = [
        f"2026-01-05 08:{i:02d}:00,{name},{value + i % 7},{unit}"
        for name, value, unit in (("A", 850, "W"), ("B", 0.5, "kW"))
        for i in range(N)
    ]
    path = tmp_path / "a.csv"
    path.write_text("\n".join(["time,machine,P,unit", *rows, ""]))
    a, b = read_machines(path, ReadOptions(by="machine"))
    assert a.units == b.units == {"P": "W"}
    assert (a.table.frame["P"][0], b.table.frame["P"][0]) == (850, 500)


def test_machines_called_units_are_no_units(tmp_path: Path):
    path = tmp_path / "a.csv"
    rows = [f"2026-01-05 08:{i:02d}:00,{name},{i % 7}.5" for name in "ABC" for i in range(N)]
    path.write_text("\n".join(["time,unit,P", *rows, ""]))
    assert [one.asset for one in read_machines(path, ReadOptions(by="unit"))] == ["A", "B", "C"]


def test_each_tag_of_a_long_file_has_its_unit(tmp_path: Path):
    [machine] = read_machines(long(tmp_path / "a.csv", lambda i: "°C"), UNSTATED)
    assert machine.units == {"warm": "°C", "speed": "rpm"}


def test_a_tag_whose_unit_changes_is_refused_or_read_in_one(tmp_path: Path):
    path = long(tmp_path / "a.csv", lambda i: "°C" if i < 30 else "°F")
    with pytest.raises(InvalidDataError, match=r"warm: .*°C in row 1, °F in row 61"):
        read_machines(path, UNSTATED)
    [machine] = read_machines(long(path, lambda i: "V" if i < 30 else "mV"), UNSTATED)
    assert machine.table.frame["warm"][[0, 30]].tolist() == pytest.approx([60.5, 0.0625])
    assert "warm: numbers in mV are read in V" in machine.notes


def test_a_long_file_is_judged_in_the_units_of_training(tmp_path: Path):
    path = long(tmp_path / "a.csv", lambda i: "mV")
    known = Known(["warm", "speed"], form=FileForm(units={"warm": "V", "speed": "1/s"}))
    [machine] = open_machines(path, UNSTATED, known=lambda _: known)
    table = next(machine.read(["warm", "speed"]))[0]
    assert table["warm"][0] == pytest.approx(0.0605)
    assert "warm is in mV here, and was in V in training: its values are read in V" in machine.notes
    assert any("speed is in rpm here, and was in 1/s" in note for note in machine.notes)


def test_a_tag_that_no_model_knows_may_be_in_several_units(tmp_path: Path):
    path = long(tmp_path / "a.csv", lambda i: "°C" if i < 30 else "°F")
    [machine] = open_machines(path, UNSTATED, known=lambda _: Known(["speed"]))
    assert machine.units == {"speed": "rpm"}
