"""The order of day and month where only the file, or an earlier one, can tell it."""

from __future__ import annotations

from pathlib import Path

import pytest

from vigie.errors import InvalidDataError
from vigie.tables.date_forms import is_form, order_in
from vigie.tables.options import UNSTATED, Hint
from vigie.tables.reading import read_table
from vigie.tables.stated import read_options

JUNE, NOVEMBER = "2025-06-11", "2025-11-06"
IN_TRAINING = Hint("mdy", "as in training", "other than in training")


def write(path: Path, name: str, day: str = "11/06/2025", units: str | None = None) -> Path:
    """Write an hour of a day that is another one if its numbers are turned round."""
    rows = [f"{day} 10:{i:02},{i % 7 + 0.5},{i % 5 + 0.25}" for i in range(60)]
    below = [] if units is None else [units]
    path.write_text("\n".join([f"{name},a,b", *below, *rows, ""]))
    return path


@pytest.mark.parametrize(
    ("text", "order"),
    [
        ("dd/mm/yyyy hh:mm:ss", "dmy"),
        ("[DD.MM.YYYY]", "dmy"),
        ("Datum (TT.MM.JJJJ)", "dmy"),
        ("jj/mm/aaaa", "dmy"),
        ("dd-mm-jjjj", "dmy"),
        ("Date (MM/DD/YYYY)", "mdy"),
        ("%m/%d/%y %H:%M", "mdy"),
        ("yyyy-mm-dd", "ymd"),
        ("YYYY/DD/MM", "ydm"),
        ("hh:mm:ss", None),
        ("m/s", None),
        ("kg/m/s", None),
        ("Date/Time", None),
        ("dd/mm", None),
    ],
)
def test_a_form_in_letters_tells_the_order(text: str, order: str | None) -> None:
    assert order_in(text) == order


@pytest.mark.parametrize("text", ["hh:mm:ss", "(HH:mm)", "yyyymmdd", "dd/mm/yyyy hh:mm:ss.000"])
def test_forms_of_times(text: str) -> None:
    assert is_form(text)


@pytest.mark.parametrize("text", ["h", "m/s", "mm", "ms", "d", "m", "°C", "min", "hh", "g/m/s"])
def test_units_are_no_forms(text: str) -> None:
    assert not is_form(text)


@pytest.mark.parametrize(
    ("name", "units", "day"),
    [
        ("Date (DD/MM/YYYY)", None, JUNE),
        ("Date (MM/DD/YYYY)", None, NOVEMBER),
        ("Date", "dd/mm/yyyy hh:mm,bar,bar", JUNE),
        ("Date", "mm/dd/yyyy hh:mm,bar,bar", NOVEMBER),
    ],
)
def test_a_file_may_tell_its_own_order(
    tmp_path: Path, name: str, units: str | None, day: str
) -> None:
    table = read_table(write(tmp_path / "a.csv", name, units=units))
    assert str(table.times[0])[:10] == day
    assert any("as the file says" in note for note in table.notes)
    assert "Date" not in table.units


def test_an_option_counts_before_the_file_and_the_file_before_training(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "Date (DD/MM/YYYY)")
    assert str(read_table(path, UNSTATED.hinted(IN_TRAINING)).times[0])[:10] == JUNE
    stated = read_options(day_first=False).hinted(IN_TRAINING)
    assert str(read_table(path, stated).times[0])[:10] == NOVEMBER


@pytest.mark.parametrize("options", [UNSTATED, UNSTATED.hinted(IN_TRAINING)])
def test_dates_that_exclude_an_order_are_read_by_themselves_with_a_note(
    tmp_path: Path, options: object
) -> None:
    table = read_table(write(tmp_path / "a.csv", "Date (MM/DD/YYYY)", "21/06/2025"), options)
    assert str(table.times[0])[:10] == "2025-06-21"
    assert any("although the file says Date (MM/DD/YYYY)" in note for note in table.notes)


def test_all_rows_of_a_file_count_before_what_was_usual_in_training(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    days = [f"{day}/06/2025 10:{i:02},{i % 7},{i % 5 + 0.5}" for day in (12, 13) for i in range(60)]
    path.write_text("\n".join(["Date,a,b", *days, ""]))
    table = read_table(path, UNSTATED.hinted(IN_TRAINING), rows=slice(0, 60))
    assert str(table.times[0])[:10] == "2025-06-12"


def test_a_hint_that_custom_agrees_with_needs_no_note(tmp_path: Path) -> None:
    hint = Hint("dmy", "as in training", "other than in training")
    table = read_table(write(tmp_path / "a.csv", "Date", "11.06.2025"), UNSTATED.hinted(hint))
    assert str(table.times[0])[:10] == JUNE
    assert not any("training" in note for note in table.notes)


def test_without_any_hint_a_day_that_can_be_two_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidDataError, match="can be 2025-06-11 or 2025-11-06"):
        read_table(write(tmp_path / "a.csv", "Date"))
