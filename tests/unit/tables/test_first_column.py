"""The first column alone is what the whole file has in it, or nothing."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from vigie.tables import first_column as module
from vigie.tables.csv_file import CsvFile
from vigie.tables.first_column import first_column

ROWS = [f"2026-01-05 00:{i // 60:02}:{i % 60:02},{i}.5,{7 * i}" for i in range(400)]


def written(folder: Path, lines: list[str], end: str = "\n", last: str = "\n") -> CsvFile:
    path = folder / "a.csv"
    path.write_bytes((end.join(lines) + last).encode())
    return CsvFile(path)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("last", ["", "\n", "\n\n"])
@pytest.mark.parametrize("above", [[], ["# made by hand", ""]])
def test_it_is_the_first_column(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str, last: str, above: list[str]
) -> None:
    monkeypatch.setattr(module, "AT_A_TIME", 101)
    file = written(tmp_path, [*above, "time,a,b", *ROWS[:200], "", *ROWS[200:]], end, last)
    cells = first_column(file)

    assert cells is not None
    assert cells.to_pylist() == [row.split(",")[0] for row in ROWS]


def test_it_is_read_from_a_packed_file(tmp_path: Path) -> None:
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress("\n".join(["time,a,b", *ROWS]).encode()))
    cells = first_column(CsvFile(path))

    assert cells is not None
    assert len(cells) == len(ROWS)


@pytest.mark.parametrize(
    "odd",
    [
        "# a remark,1,2",
        ",,",
        "2026-01-05 00:09,1,2",
        '"2026-01-05 00:09:00",1,2',
        "2026-01-05 00:09:00;1;2",
        "End of file",
        "2026-01-05 00:09:00\r,1,2",
    ],
)
def test_any_odd_line_leaves_it_to_the_parser(tmp_path: Path, odd: str) -> None:
    assert first_column(written(tmp_path, ["time,a,b", *ROWS, odd])) is None


def test_lines_that_end_in_returns_alone_are_left_to_the_parser(tmp_path: Path) -> None:
    assert first_column(written(tmp_path, ["time,a,b", *ROWS], "\r", "\r")) is None
