"""Columns of a file as NumPy and pandas have them: numbers, words and times."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
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
    note : str
        A sentence on cells that are read as missing; empty if there are none.
    """

    written: NumberFormat
    is_numeric: bool
    words: bool
    note: str = ""

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
        if shapes.is_switch:
            return cls(NumberFormat(), True, words=True)
        written = decide(shapes, name, options)
        if written is None:
            is_empty = shapes.n_present == 0
            return cls(NumberFormat(), is_numeric=is_empty or is_known, words=not is_empty)
        n_numbers = matching(shapes)[replace(written, unit="")]
        odd = {
            shapes.first[shape][1]: n
            for shape, n in shapes.counts.items()
            if not re.fullmatch(written.pattern, shape) and not is_switched(shape)
        }
        if 2 * n_numbers <= shapes.n_present and not is_known:
            return cls(written, False, words=True)
        note = ""
        if odd:
            note = f"{name}: {examples(odd)} in {sum(odd.values())} rows read as missing"
        return cls(written, True, words=bool(odd), note=note)


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
