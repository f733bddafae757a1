"""Numbers in columns of text: read as meant, or refused with the row."""

from __future__ import annotations

import pyarrow as pa
import pytest

from vigie.errors import InvalidDataError
from vigie.tables.numbers import NumberOptions, Shapes, decide, parse


def read(cells: list[str], **known) -> list[float | None]:
    shapes = Shapes()
    shapes.add(pa.array(cells))
    written = decide(shapes, "flow", NumberOptions(**known))
    assert written is not None
    return parse(pa.array(cells), written).to_pylist()


@pytest.mark.parametrize(
    ("cells", "numbers"),
    [
        (["20.5", "3"], [20.5, 3]),
        (["20,5", "3"], [20.5, 3]),
        (["0,987", "1,012"], [0.987, 1.012]),
        (["1,012.5", "987"], [1012.5, 987]),
        (["1.012,5", "987"], [1012.5, 987]),
        (["1,234,567", "1,000"], [1234567, 1000]),
        (["1 012,5", "987"], [1012.5, 987]),
        (["1\u202f012,5", "1\u00a0013"], [1012.5, 1013]),
        (["1'012.5", "987"], [1012.5, 987]),
        (["1.012", "1.987"], [1.012, 1.987]),
        (["2,012E-03", "1,2E-03"], [0.002012, 0.0012]),
        (["−3.5", "+2", ".5", "5."], [-3.5, 2, 0.5, 5]),
        (["007", "1.5"], [7, 1.5]),
        (["12 °C", "13.5 °C"], [12, 13.5]),
        (["50%", "61%"], [50, 61]),
        ([" 1.5 ", "2"], [1.5, 2]),
    ],
)
def test_the_cells_of_a_column_tell_how_its_numbers_are_written(cells, numbers):
    assert read(cells) == numbers


def test_a_comma_before_three_digits_is_read_as_the_other_columns_have_it():
    assert read(["1,012", "987"], proven=frozenset(".")) == [1012, 987]
    assert read(["1,012", "987"], proven=frozenset(",")) == [1.012, 987]
    assert read(["1,012", "987"], stated=",") == [1.012, 987]


@pytest.mark.parametrize("cells", [["1,012", "987"], ["1.012", "987"], ["1,012", "1,987"]])
def test_a_number_that_can_be_read_in_two_ways_is_refused(cells):
    with pytest.raises(InvalidDataError, match=r"in row 1 may be 1\.012 or 1012.*--decimal"):
        read(cells)


def test_two_formats_in_one_column_are_refused_with_the_row():
    with pytest.raises(InvalidDataError, match=r"flow: '1\.5' in row 3 is written otherwise"):
        read(["1,5", "2,25", "1.5"])
    with pytest.raises(InvalidDataError, match="written otherwise"):
        read(["1,234.5", "1234.5", "1,5"])


@pytest.mark.parametrize("cells", [["2024-01-01", "2024-01-02"], ["A7", "B2"], ["10h30"], ["", ""]])
def test_times_and_words_are_no_numbers(cells):
    shapes = Shapes()
    shapes.add(pa.array(cells))
    assert decide(shapes, "x", NumberOptions()) is None


def test_true_and_false_count_as_one_and_zero():
    shapes = Shapes()
    shapes.add(pa.array(["True", "FALSE", "on", "Off", ""]))
    assert shapes.is_switch
    cells = pa.array(["True", "FALSE", "on", "Off", ""])
    assert parse(cells, decide(shapes, "x", NumberOptions()) or _plain()).to_pylist() == [
        1, 0, 1, 0, None,
    ]  # fmt: skip


def _plain():
    from vigie.tables.numbers import NumberFormat

    return NumberFormat()
