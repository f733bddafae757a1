"""Columns of a file as NumPy and pandas have them: numbers, words and times."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from vigie.tables.numbers import (
    NumberFormat,
    NumberOptions,
    Shapes,
    decide,
    examples,
    is_switched,
    matching,
)
from vigie.tables.paired_times import is_text as is_text_type
from vigie.tables.report_words import counted
from vigie.tables.spelling import DRESSES

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

Cells: TypeAlias = "pa.Array | pa.ChunkedArray"


@dataclass(frozen=True)
class TextColumn:
    """What the cells of a column of text are.

    Attributes
    ----------
    written : NumberFormat
        How its numbers are written.
    is_numeric : bool
        Whether it is a column of numbers, or of true and false.
    words : bool
        Whether some cells are words.
    odd : dict of str to int
        Cells of a column of numbers that are none, and counts; a kind of cell by its first one.
    notes : tuple of str
        Sentences on cells that are read otherwise than they stand there.
    """

    written: NumberFormat
    is_numeric: bool
    words: bool
    odd: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, name: str, cells: Cells, options: NumberOptions, *, is_known: bool = False
    ) -> TextColumn:
        """Decide from all cells.

        Raises
        ------
        InvalidDataError
            If the numbers can be read in two ways.
        """
        shapes = Shapes()
        shapes.add(as_strings(cells))
        written = decide(shapes, name, options)
        if written is None:
            is_empty = shapes.n_present == 0
            notes = tuple(_note_on_units(name, shapes))
            return cls(NumberFormat(), is_empty or is_known, words=not is_empty, notes=notes)
        if written.switches:
            return cls(written, True, words=True)
        n_numbers = matching(shapes)[NumberFormat(written.decimal, written.thousands)]
        odd = {
            shapes.first[shape][1]: n
            for shape, n in shapes.counts.items()
            if not re.fullmatch(written.pattern, shape)
        }
        if 2 * n_numbers <= shapes.n_present and not is_known:
            return cls(written, False, words=True)
        notes = (
            *_notes_on_dresses(name, shapes),
            *_note_on_bare(name, shapes, written),
            *note_on_scales(name, written),
        )
        return cls(written, True, words=bool(odd), odd=odd, notes=notes)

    @property
    def has_switch(self) -> bool:
        """Whether words such as on and off stand among the numbers."""
        return any(map(is_switched, self.odd))

    def note_on_odd(self, name: str, *, keeps_switches: bool = False) -> Iterator[str]:
        """Yield a note on the cells that are read as missing, if there are any."""
        odd = {
            cell: n for cell, n in self.odd.items() if not (keeps_switches and is_switched(cell))
        }
        if odd:
            yield words_note(name, odd)


def _notes_on_dresses(name: str, shapes: Shapes) -> Iterator[str]:
    for number, (cell, n) in shapes.dressed.items():
        dress = DRESSES[number]
        if dress.is_told:
            plain = re.sub(dress.worn, dress.plain, cell)
            such = "" if n == 1 else " and others like it"
            yield f"{name}: {cell!r}{such} in {counted(n, 'row')} read as {plain}"


def _note_on_bare(name: str, shapes: Shapes, written: NumberFormat) -> Iterator[str]:
    if written.lacks_unit and written.unit:
        yield (
            f"{name}: {shapes.first_with('')[1]!r}, and each number without a unit in "
            f"{counted(shapes.units[''], 'row')}, read as {written.unit}"
        )


def note_on_scales(name: str, written: NumberFormat) -> Iterator[str]:
    """Yield a note if numbers are in multiples of a unit, as in W and kW."""
    if written.scales:
        if written.unit:
            scales = ", ".join(unit for unit, _ in written.scales)
            yield f"{name}: numbers in {scales} are read in {written.unit}"
        else:
            factors = ", ".join(f"{unit} as times {by:,.0f}" for unit, by in written.scales)
            yield f"{name}: behind numbers, {factors}"


def _note_on_units(name: str, shapes: Shapes) -> Iterator[str]:
    """Yield a note on a column of numbers that is text, since it has no unit of its own."""
    units = sorted(shapes.units, key=lambda unit: -shapes.units[unit])
    if len(units) > 1 and 2 * sum(shapes.units.values()) > shapes.n_present:
        first, second = (shapes.first_with(unit)[1] for unit in units[:2])
        yield f"{name} has several units, as in {first!r} and {second!r}, and is left out"


def words_note(name: str, words: Mapping[str, int]) -> str:
    """Return a note on words in a column of numbers, given the number of each."""
    return f"{name}: {examples(words)} in {counted(sum(words.values()), 'row')} read as missing"


def is_text(cells: Cells) -> bool:
    """Return whether cells are text, plain or encoded by a dictionary."""
    return is_text_type(cells.type)


def as_strings(cells: Cells) -> Cells:
    """Return text in the plain type of strings."""
    import pyarrow as pa
    import pyarrow.compute as pc

    return cells if cells.type == pa.string() else pc.cast(cells, pa.string())


def as_objects(cells: Cells) -> pd.Series:
    """Return cells as they are, None in an empty one."""
    import pandas as pd
    import pyarrow.compute as pc

    if is_text(cells):
        text = pc.utf8_trim_whitespace(as_strings(cells))
        cells = pc.if_else(pc.equal(text, ""), None, text)
        return pd.Series(cells.to_numpy(zero_copy_only=False), dtype="object")
    return pd.Series(cells.to_pylist(), dtype="object")


def as_they_are(cells: Cells) -> pd.Series:
    """Return cells without a copy, in Arrow's memory."""
    import pandas as pd

    return pd.Series(pd.arrays.ArrowExtensionArray(cells))


def as_floats(cells: Cells) -> Any:
    """Return cells that are no text: numbers as float64, times as they are."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = cells.type
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return cells.to_pandas().to_numpy()
    if pa.types.is_boolean(kind) or pa.types.is_null(kind) or pa.types.is_decimal(kind):
        cells = pc.cast(cells, pa.float64())
    elif not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        # Lists, records and the like are no readings.
        texts = [None if cell is None else str(cell) for cell in cells.to_pylist()]
        return np.array(texts, dtype=object)
    return to_numpy(cells)


def to_numpy(cells: Cells) -> NDArray[np.float64]:
    """Return numbers as float64, NaN where one is missing, or beyond what float64 holds."""
    import pyarrow.compute as pc

    if cells.null_count:
        cells = pc.fill_null(pc.cast(cells, "float64"), float("nan"))
    values: NDArray[np.float64] = cells.to_numpy().astype(np.float64, copy=False)
    is_infinite = np.isinf(values)
    return np.where(is_infinite, np.nan, values) if is_infinite.any() else values
