"""A table in memory, and what a user may state about how it is read."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vigie.errors import InvalidDataError
from vigie.tables.file_form import FileForm
from vigie.tables.kinds import Column, kinds
from vigie.tables.numbers import NumberFormat
from vigie.tables.origin import Origin
from vigie.tables.time_format import TimeFormat
from vigie.tables.units import in_other

if TYPE_CHECKING:
    import pandas as pd

Times = NDArray[np.datetime64]

SPOILT = 0.1
"""Share of the missing cells of a column in which something stands."""


@dataclass(frozen=True, eq=False)
class Table:
    """A table in memory.

    Attributes
    ----------
    frame : DataFrame of shape (n_rows, n_columns)
        Columns of numbers as float64, others as str or None; a clock of text in Arrow's memory.
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
    unread : dict of str to int
        Cells that are missing although something stands there, by column.
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
    unread: dict[str, int] = field(default_factory=dict)

    @property
    def form(self) -> FileForm:
        """What other files of its machine may leave open."""
        day_first = None if self.written is None else self.written.day_first
        return FileForm(day_first, self.units)

    @property
    def recorded(self) -> pd.DataFrame:
        """The columns whose empty cells are just that: in others, a value to hold is not known."""
        spoilt = [
            name
            for name, n in self.unread.items()
            if name in self.frame and n > SPOILT * self.frame[name].isna().sum()
        ]
        return self.frame.drop(columns=spoilt) if spoilt else self.frame

    @cached_property
    def kinds(self) -> list[Column]:
        """What each column is, in order."""
        return kinds(self.frame, self.clock)

    def in_units(self, wanted: Mapping[str, str]) -> Table:
        """Return the table with numbers in other units, where these are multiples of its own."""
        read, notes = dict[str, Any](), list[str]()
        for name in filter(wanted.get, map(str, self.frame.columns)):
            factor, note = in_other(name, self.units.get(name, ""), wanted[name])
            notes += [note] if note else []
            if factor != 1 and self.frame[name].dtype == np.float64:
                read[name] = self.frame[name] * factor
        units = self.units | {name: wanted[name] for name in read}
        frame = self.frame.assign(**read) if read else self.frame
        return replace(self, frame=frame, units=units, notes=(*self.notes, *notes))

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
