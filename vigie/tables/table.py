"""A table in memory, and what a user may state about how it is read."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vigie.errors import InvalidDataError
from vigie.tables.csv_file import CsvOptions
from vigie.tables.numbers import NumberFormat
from vigie.tables.origin import Origin
from vigie.tables.times import TimeFormat, TimeOptions

if TYPE_CHECKING:
    import pandas as pd

Times = NDArray[np.datetime64]


@dataclass(frozen=True)
class ReadOptions:
    """What the user states about a file; everything else is decided from its content.

    Attributes
    ----------
    csv : CsvOptions
        Separator, decimal mark and encoding.
    sheet : str, optional
        The sheet of a workbook.
    time : sequence of str
        The column with the time, or two with the date and the time of day.
    times : TimeOptions
        How times are written, and their zone.
    long : (tag, value), optional
        The columns of a table with one value a row.
    by : str, optional
        The column that tells several machines apart.
    hold : timedelta, optional
        How long the last value of a sensor holds where its cells are empty.
    """

    csv: CsvOptions = field(default_factory=CsvOptions)
    sheet: str | None = None
    time: Sequence[str] = ()
    times: TimeOptions = field(default_factory=TimeOptions)
    long: tuple[str, str] | None = None
    by: str | None = None
    hold: timedelta | None = None

    @property
    def groups(self) -> tuple[str, ...]:
        """Columns within whose values times ascend, instead of from row to row."""
        return tuple(name for name in (self.by, self.long and self.long[0]) if name)


UNSTATED = ReadOptions()
"""Everything is decided from the content of the file."""


@dataclass(frozen=True, eq=False)
class Table:
    """A table in memory.

    Attributes
    ----------
    frame : DataFrame of shape (n_rows, n_columns)
        Columns of numbers as float64, all others as str or None.
    times : ndarray of datetime64[us] of shape (n_rows,) or None
        When the rows were measured, in UTC; None if the file has no times.
    clock : tuple of str
        The columns that hold the time.
    units : dict of str to str
        Units, where the file has them.
    formats : dict of str to NumberFormat
        How the columns of text write their numbers.
    description : str
        The kind of file in words.
    notes : tuple of str
        What a user should know of how the file was understood.
    written : TimeFormat or None
        How the times are written; None if the file has none.
    origin : Origin or None
        The file, and why it was read so; None for a table from elsewhere.
    """

    frame: pd.DataFrame
    times: Times | None
    clock: tuple[str, ...] = ()
    units: dict[str, str] = field(default_factory=dict)
    formats: dict[str, NumberFormat] = field(default_factory=dict)
    description: str = ""
    notes: tuple[str, ...] = ()
    written: TimeFormat | None = None
    origin: Origin | None = None

    def rows(self, chosen: slice) -> Table:
        """Return some of the rows."""
        times = None if self.times is None else self.times[chosen]
        return replace(self, frame=self.frame.iloc[chosen], times=times)


def require_columns(columns: Collection[Any], names: Sequence[str], option: str) -> None:
    """Check that a table has the columns that an option names.

    Raises
    ------
    InvalidDataError
        If one is missing; the error names the option, and the nearest column.
    """
    unknown = [name for name in names if name not in columns]
    if unknown:
        known = list(map(str, columns))
        near = get_close_matches(unknown[0], known, n=1)
        meant = f"Did you mean {near[0]!r}? " if near else ""
        raise InvalidDataError(
            f"There is no column {', '.join(unknown)}.",
            field=option,
            remedy=f"{meant}Columns: {', '.join(known)}.",
        )
