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
        (["0.061-", "3.5"], [-0.061, 3.5]),
        (["(0.061)", "3.5"], [-0.061, 3.5]),
        (["–0.061", "—3", "－2.5"], [-0.061, -3, -2.5]),
        (["- 0.061", "+ 61.3"], [-0.061, 61.3]),
        (["~3", "≈ 2.5", "1"], [3, 2.5, 1]),
        (["€ 3", "-€2.5", "- $ 1"], [3, -2.5, None]),
        (["1,23,400.0", "1,00,00,000", "987"], [123_400, 10_000_000, 987]),
        (["３．５", "－２．５"], [3.5, -2.5]),
        (["٣٫٥", "١٬٢٣٤٫٥"], [3.5, 1234.5]),
        (["3.5 m3/h", "2.5 m3/h"], [3.5, 2.5]),
        (["1480 min-1", "1481min-1"], [1480, 1481]),
        (["50 % r.F.", "51.5 % r.F."], [50, 51.5]),
        (["61.3 °C", "61.4", "61.5"], [61.3, 61.4, 61.5]),
        (["945 W", "1.17 kW", "-0.5kW"], [945, 1170, -500]),
        (["980 mbar", "1,01 bar"], [0.98, 1.01]),
        (["3 kg/m3", "2500 g/m3"], [3000, 2500]),
        (["250 ms", "1.5 min", "2 s"], [0.25, 90, 2]),
        (["1.09 K", "987", "988"], [1090, 987, 988]),
        (["2.19k", "1.1k", "0", "-987.5"], [2190, 1100, 0, -987.5]),
        (["3897", "5.56k"], [3897, 5560]),
        (["4,83 Mio", "943 Tsd.", "12"], [4.83e6, 943e3, 12]),
        (["4.83 Mil", "2763 K"], [4.83e6, 2.763e6]),
        (["1.1G", "961M"], [1.1e9, 961e6]),
        (["1,2 Go", "800 Mo"], [1.2e9, 800e6]),
        (["1.5 MB", "980 KB"], [1.5e6, 980e3]),
        (["45%", "0", "61%"], [45, 0, 61]),
        (["301.5 K", "302 K"], [301.5, 302]),
        (["12 R", "13", "14"], [None, 13, 14]),
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


@pytest.mark.parametrize(
    ("cells", "first", "second"),
    [
        (["61.3 °C", "61.4 °C", "142 °F"], "'61.3 °C' in row 1", "'142 °F' in row 3"),
        (["1.01 bar", "1.02 bar", "980 psi"], "'1.01 bar' in row 1", "'980 psi' in row 3"),
        (["945 W", "1.17 kW", "946"], "'945 W' in row 1", "'946' in row 3"),
        (["45%", "0.45", "46%"], "'45%' in row 1", "'0.45' in row 2"),
        (["1.2", "500 m", "1.4"], "'1.2' in row 1", "'500 m' in row 2"),
        (["2.50 kW", "2329"], "'2.50 kW' in row 1", "'2329' in row 2"),
        (["301.5 K", "302"], "'301.5 K' in row 1", "'302' in row 2"),
        (["1.5 M", "2", "3"], "'1.5 M' in row 1", "'2' in row 2"),
    ],
)
def test_numbers_in_units_that_are_no_multiples_are_refused_with_both(cells, first, second):
    with pytest.raises(InvalidDataError, match=f"{first}, {second}.*--exclude flow"):
        read(cells)


def test_letters_behind_some_numbers_are_flags_and_no_units():
    assert read(["12.5", "13.5", "14.5 A", "12.5 C"]) == [12.5, 13.5, 14.5, None]


@pytest.mark.parametrize(
    ("cells", "stray"),
    [
        (["1,633", "1,640", "1.632"], "1.632"),
        (["0,987", *["1,633"] * 50, "1.632"], "1.632"),
        (["163,5", *["163,3"] * 50, "1.632"], "1.632"),
        ([*["7"] * 50, "1.632"], "1.632"),
        (["0.987", *["1.633"] * 50, "1,632"], "1,632"),
    ],
)
def test_a_single_number_with_the_other_decimal_mark_is_refused_with_its_row(cells, stray):
    known = {"proven": frozenset(",")} if cells[0] == "7" else {}
    with pytest.raises(InvalidDataError, match=rf"'{stray}' in row {len(cells)} is written other"):
        read(cells, **known)


def test_a_thousand_with_its_mark_fits_where_others_are_nearly_as_large():
    assert read(["998,5", "1.002", "999,5", "1.001"]) == [998.5, 1002, 999.5, 1001]
    assert read(["1.002,5", *["3,5"] * 50, "1.632"])[-1] == 1632


@pytest.mark.parametrize(
    "cells", [["2024-01-01", "2024-01-02"], ["A7", "B2"], ["10h30"], ["5m30"], ["", ""]]
)
def test_times_and_words_are_no_numbers(cells):
    shapes = Shapes()
    shapes.add(pa.array(cells))
    assert decide(shapes, "x", NumberOptions()) is None


@pytest.mark.parametrize(
    "words",
    ["True FALSE", "on Off", "Ein Aus", "Marche Arrêt", "Açık Kapalı", "Вкл Выкл", "开 关",
     "Wahr Falsch", "Vrai Faux", "ja nein", "OUI NON", "yes no"],
)  # fmt: skip
def test_words_of_a_switch_count_as_one_and_zero(words: str):
    on, off = words.split()
    assert read([on, off, "", on, "0"]) == [1, 0, None, 1, 0]
