"""``vigie inspect``, as it is typed."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread
from typer.testing import CliRunner, Result

from vigie.cli import app
from vigie.cli.terminal import out
from vigie.errors import InvalidDataError

N = 400


def inspected(*arguments: str) -> Result:
    result = CliRunner().invoke(app, ["inspect", *arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result


def write(path: Path, n_columns: int = 3, **columns: object) -> Path:
    values = np.random.default_rng(1).normal(5.0, 1.0, (N, n_columns)).round(3)
    frame = pd.DataFrame(values, columns=[f"s{i} [bar]" for i in range(n_columns)])
    frame.insert(0, "time", pd.date_range("2026-01-05", periods=N, freq="1min").astype(str))
    frame.assign(**columns).to_csv(path, index=False)
    return path


def test_a_usual_file_fits_on_one_screen_and_ends_with_what_to_do(tmp_path: Path) -> None:
    path = write(tmp_path / "my pump.csv", label=(np.arange(N) >= 300).astype(int))
    lines = inspected(str(path)).output.splitlines()
    assert len(lines) <= 24
    assert lines[0].startswith(str(path))
    assert "400 rows of 5 columns" in lines[0]
    commands = [shlex.split(line) for line in lines if line.startswith("  vigie")]
    assert commands == [
        ["vigie", "train", str(path), "--rows", "1:300", "--promote"],
        ["vigie", "backtest", str(path), "--labels", "label"],
    ]


def test_what_was_stated_stands_in_the_commands_too(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv")
    output = inspected(str(path), "--timezone", "Europe/Paris", "--separator", ",").output
    assert f"vigie train {path} --timezone Europe/Paris --separator ," in output


def test_why_is_said_when_it_is_asked_for(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", row=np.arange(N))
    assert "Not chosen" not in inspected(str(path)).output
    output = inspected(str(path), "--explain").output
    assert "Commas stand between the cells: they make 5 cells of each row." in output
    assert "The decimal mark is a point, as s0 [bar] shows" in output
    assert "row is left out: row number, goes up by one from row to row." in output


def test_of_many_sensors_the_first_forty_are_shown_and_json_has_all(tmp_path: Path) -> None:
    path = write(tmp_path / "wide.csv", 120)
    output = inspected(str(path)).output
    assert sum(" sensor " in line for line in output.splitlines() if "│" in line) == 40
    assert "the first 40 of 120 sensors" in output
    report = json.loads(inspected(str(path), "--format", "json").output)
    assert len(report["columns"]) == 121


def test_names_from_the_file_are_text_to_the_terminal(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    values = np.random.default_rng(1).normal(5.0, 1.0, (N, 2)).round(3)
    pd.DataFrame(values, columns=["[red]a[/red]", "b\x1b[2J\x9b"]).to_csv(path, index=False)
    output = inspected(str(path), "--explain").output
    assert "[red]a[/red]" in output
    assert "\x1b" not in output
    assert "\x9b" not in output
    assert r"b\x1b[2J" in output


@pytest.mark.parametrize("n_columns", [1, 3, 30])
def test_the_picture_shows_the_sensors_over_time(tmp_path: Path, n_columns: int) -> None:
    path, picture = write(tmp_path / "a.csv", n_columns), tmp_path / "a.png"
    inspected(str(path), "--picture", str(picture))
    height, width, _ = imread(picture).shape
    assert width == 1100
    assert 200 < height < 1300


def test_a_picture_of_a_long_table_with_gaps_is_drawn(tmp_path: Path) -> None:
    n = 20_000
    values = np.random.default_rng(1).normal(5.0, 1.0, n)
    values[3000:5000], values[9000:9800] = np.nan, 5.0
    times = pd.date_range("2026-01-05", periods=n, freq="1min").astype(str)
    frame = pd.DataFrame({"time": times, "$x_1": values}).drop(index=range(12_000, 15_000))
    path, picture = tmp_path / "a.csv", tmp_path / "a.png"
    frame.to_csv(path, index=False)
    output = inspected(str(path), "--picture", str(picture)).output
    assert "1 gap, the longest 2.08 days after row 12000" in output
    assert "frozen: it holds 5 for 800 rows from row 9001" in output
    image = imread(picture)[:, :, :3]
    grey, red = np.array([0xC9, 0xCE, 0xD6]) / 255, np.array([0xF4, 0xD1, 0xD6]) / 255
    for colour in (grey, red):
        assert (np.abs(image - colour).max(axis=2) < 0.02).sum() > 1000


def test_a_file_that_leaves_its_dates_open_is_refused_with_the_option(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("date,x\n01/02/2026,1.5\n03/04/2026,2.5\n05/07/2026,3.5\n")
    with pytest.raises(InvalidDataError) as refused:
        inspected(str(path))
    assert "--day-first" in str(refused.value)
    assert "A model learns" in inspected(str(path), "--day-first").output


def export(path: Path, *names: str, units: str = "", n_rows: int = N) -> Path:
    """Write a file as loggers export it: semicolons, units below the names, empty cells."""
    values = np.random.default_rng(1).normal(5000.0, 900.0, (n_rows, len(names))).round(2)
    rows = [f"{1 + i // 60:02}/11/2025 06:{i % 60:02}:00" for i in range(n_rows)]
    cells = [[str(value) for value in row] for row in values]
    for row in cells[::7]:
        row[0] = ""
    lines = [";".join([row, *of, ""]) for row, of in zip(rows, cells, strict=True)]
    below = ";".join(["dd/mm/yyyy hh:mm:ss", *[units] * len(names), ""])
    path.write_text("\n".join([";".join(["Date/Time", *names, ""]), below, *lines, ""]))
    return path


LONG = "Compressor hall 2 line 4 stage 1 discharge temperature DE"


@pytest.mark.parametrize("width", [60, 80, 100, 120])
@pytest.mark.parametrize(
    ("names", "units"),
    [
        (("Discharge temp", "Line pressure"), "bar(g)"),
        ((LONG, LONG.replace(" ", "_")), "bar(g)"),
        (("Discharge temp", "Line pressure"), "[kilogram per hour m2]"),
        (tuple(f"Bearing {i} temp" for i in range(39)), "°C"),
    ],
)
def test_every_name_can_be_read_whatever_the_width(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, width: int, names: tuple[str, ...], units: str
) -> None:
    monkeypatch.setattr(out, "width", width)
    output = inspected(str(export(tmp_path / "a.csv", *names, units=units))).output
    table = [line for line in output.splitlines() if line[:1] in "┏┃┡│└" and line]
    assert max(map(len, table)) <= width
    column = "".join(line.split("│")[1].strip() for line in table if line.startswith("│"))
    for name in names:
        assert name.replace(" ", "") in column.replace(" ", "")
    first = next(line for line in table if line.startswith("│Date/Time"))
    assert "clock" in first


def test_a_narrow_terminal_shows_fewer_figures_and_says_which(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = export(tmp_path / "a.csv", "Discharge temp", "Line pressure", units="bar(g)")
    monkeypatch.setattr(out, "width", 120)
    assert "1 %" in inspected(str(path)).output
    monkeypatch.setattr(out, "width", 80)
    output = inspected(str(path)).output
    head = next(line for line in output.splitlines() if line.startswith("┃column"))
    assert "median" in head
    assert "missing" in head
    assert "1 %" not in head
    assert "A wider terminal also shows 1 %, 99 %." in output


def test_the_form_of_the_times_is_no_unit_but_tells_their_order(tmp_path: Path) -> None:
    path = export(tmp_path / "a.csv", "Temp", "Pressure", units="bar", n_rows=50)
    output = inspected(str(path)).output
    assert "2025-11-01 06:00:00" in output
    assert "as the file says: dd/mm/yyyy hh:mm:ss." in output
    columns = json.loads(inspected(str(path), "--format", "json").output)["columns"]
    assert [column["unit"] for column in columns] == [None, "bar", "bar"]


def test_names_and_units_alone_are_a_table_without_rows(tmp_path: Path) -> None:
    path = export(tmp_path / "a.csv", "Temp", "Pressure", units="°C", n_rows=0)
    output = inspected(str(path), "--explain").output
    assert "0 rows of 3 columns." in output
    assert "decimal" not in output
    assert "no rows yet: there is nothing to learn or to judge." in output
    assert "they make 3 columns; each line has 4 cells, since it ends in one." in output
