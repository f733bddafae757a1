"""How the times of a table are written, and what its cells say by that."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal
from zoneinfo import ZoneInfo

import numpy as np

from vigie.tables.counted_parts import Counted
from vigie.tables.counted_times import PER_SECOND, WORDS, Unit, numbers_or_nan, read_counted
from vigie.tables.date_forms import order_in
from vigie.tables.local_times import Change, offsets_of
from vigie.tables.paired_times import Pair, number_cells
from vigie.tables.time_parts import Parts
from vigie.tables.written_times import (
    MILLISECOND,
    MISSING,
    OFFSETS,
    Order,
    Shape,
    Written,
    as_text,
    in_english,
    pieces,
    read_written,
    shape_of,
    shape_text,
)

if TYPE_CHECKING:
    import pyarrow as pa

Kind = Literal["instants", "text", "numbers", "given"]
Cells = Sequence["pa.Array | pa.ChunkedArray"]


@dataclass(frozen=True)
class TimeFormat:
    """What the times of a table mean.

    Attributes
    ----------
    names : tuple of str
        The columns with the times: one, a date and a time of day, or more parts of a time.
    description : str
        The form in words, such as "day/month/year hours:minutes, local time without a zone".
    notes : tuple of str
        Sentences that the user should read.
    kind : {"instants", "text", "numbers", "given"}
        How the cells are read.
    order : {"dmy", "mdy", "ymd", "ydm"}
        What the numbers of a date mean, in cells that leave it open.
    unit : str or None
        What numbers count.
    given : str or None
        The form that the user gave, as for ``strptime``.
    pair : Pair, Parts, Counted or None
        How several columns are put together.
    months : dict
        English names of those months that languages share.
    has_milliseconds : bool
        Whether the last column holds the milliseconds of the times.
    has_half : bool
        Whether the last column, but for these, holds AM or PM.
    zone : str or None
        IANA name of the zone of times without one.
    ahead : int or None
        Minutes that times without a zone are ahead of UTC, by the name of their column.
    changes : tuple of Change
        Where local times without a zone go back, since a clock was set back.
    repeats : bool
        Whether several rows have one time.
    is_zoned : bool
        Whether the cells name a zone.
    open_orders : frozenset of str
        The orders that the numbers of some dates leave open.
    is_settled : bool
        Whether further rows, if they can be read and ascend, cannot change what the times mean.
    reason : str
        Why the numbers of a date have this order, if others were possible at first.
    """

    names: tuple[str, ...]
    description: str = ""
    notes: tuple[str, ...] = ()
    kind: Kind = "text"
    order: Order = "ymd"
    unit: Unit | None = None
    given: str | None = None
    pair: Pair | Parts | Counted | None = None
    months: Mapping[str, str] = field(default_factory=dict, hash=False)
    has_milliseconds: bool = False
    has_half: bool = False
    zone: str | None = None
    ahead: int | None = None
    changes: tuple[Change, ...] = ()
    repeats: bool = False
    is_zoned: bool = False
    open_orders: frozenset[Order] = frozenset()
    is_settled: bool = False
    reason: str = ""

    @property
    def label(self) -> str:
        """The columns, as messages name them."""
        return " and ".join(self.names)

    @property
    def day_first(self) -> bool | None:
        """Whether the day stands before the month; None if the form of the times tells that."""
        order = self.order if self.order in self.open_orders else None
        if self.given is not None:
            order = order_in(self.given)
        return {"dmy": True, "mdy": False}.get(order or "")

    def read(self, cells: Sequence[pa.Array]) -> Written:
        """Read cells as they are written, before zones and order are looked at."""
        read = self._read(self.column(cells))
        if not self.has_milliseconds:
            return read
        part = number_cells(cells[-1])
        fits = (part >= 0) & (part < 1000)
        micros = np.where(fits, part, 0).astype(np.int64) * MILLISECOND
        return replace(read, times=read.times + micros, is_wrong=read.is_wrong | ~fits)

    def _read(self, column: pa.Array) -> Written:
        if self.given is not None:
            return read_given(column, self.given)
        if self.kind == "instants":
            return _read_instants(column)
        if self.kind == "numbers":
            return read_counted(numbers_or_nan(column), self.unit or "s")
        text = in_english(as_text(column), self.months) if self.months else column
        return read_written(as_text(text), self.order, self.zones)

    def column(self, cells: Sequence[pa.Array]) -> pa.Array:
        """Return the cells as one array, without the milliseconds."""
        import pyarrow.compute as pc

        cells = cells[:-1] if self.has_milliseconds else cells
        if not self.has_half:
            return self._joined(cells)
        clock, half = self._joined(cells[:-1]), cells[-1]
        return pc.binary_join_element_wise(as_text(clock), as_text(half), " ")

    def _joined(self, cells: Sequence[pa.Array]) -> pa.Array:
        return cells[0] if self.pair is None else self.pair.joined(cells)

    @property
    def zones(self) -> Mapping[str, int]:
        """Minutes ahead of UTC by the names of zones; those of the user's zone come first."""
        return OFFSETS if self.zone is None else {**OFFSETS, **offsets_of(ZoneInfo(self.zone))}


@dataclass(frozen=True)
class Fault:
    """A cell without a time.

    Attributes
    ----------
    row : int
        Counted from 0.
    cell : str
        What it holds; empty if that is nothing.
    """

    row: int
    cell: str


def fault_in(
    form: TimeFormat, piece: Sequence[pa.Array], read: Written, n_rows: int
) -> Fault | None:
    """Return the first cell without a time; ``n_rows`` rows lie before the piece."""
    if not read.is_wrong.any():
        return None
    row = int(np.argmax(read.is_wrong))
    # Of two columns, either may be empty, and their text together is then, too.
    cell = form.column(piece)[row].as_py()
    text = "" if cell is None or cell != cell else str(cell).strip()
    if form.has_milliseconds and not np.isfinite(number_cells(piece[-1].slice(row, 1)))[0]:
        text = ""
    return Fault(n_rows + row, "" if text.lower() in MISSING else text)


def aligned(cells: Cells) -> Iterator[list[pa.Array]]:
    """Yield the rows of all columns together, some at a time."""
    import pyarrow as pa

    if len(cells) == 1:
        yield from ([piece] for piece in pieces(cells[0]))
        return
    whole = [cell.combine_chunks() if isinstance(cell, pa.ChunkedArray) else cell for cell in cells]
    yield from (list(row) for row in zip(*map(pieces, whole), strict=True))


def cell_of(form: TimeFormat, cells: Cells, row: int) -> str:
    """Return what a row holds, as text."""
    here = [cell.slice(row, 1) for cell in cells]
    columns = next(aligned(here), None)
    return "" if columns is None else str(form.column(columns)[0].as_py() or "")


def described(form: TimeFormat, cells: Cells) -> str:
    """Return the form in words."""
    if form.given is not None:
        what = f"in the form {form.given}"
    elif form.kind == "instants":
        what = "date and time"
    elif form.unit is not None:
        what = WORDS[form.unit]
    else:
        shape = shape_of(shape_text(cell_of(form, cells, 0)))
        what = _shape_in_words(shape, form.order) if shape else "date and time"
    if form.unit in PER_SECOND:
        return what
    if form.has_milliseconds:
        what = f"{what}, and milliseconds"
    if form.is_zoned:
        return f"{what}, with a zone"
    if form.ahead is not None:
        sign, (hours, minutes) = "-" if form.ahead < 0 else "+", divmod(abs(form.ahead), 60)
        offset = f"{sign}{hours:02}:{minutes:02}" if form.ahead else ""
        return f"{what}, UTC{offset} by the name of the column"
    return f"{what}, local time {f'of {form.zone}' if form.zone else 'without a zone'}"


def _shape_in_words(shape: Shape, order: Order) -> str:
    """Return the form of cells in words, such as "day/month/year hours:minutes"."""
    names = {"d": "day", "m": "month", "y": "year"}
    if order not in shape.orders and order != "ydm":
        order = shape.orders[0]
    date = (shape.mark or " ").join(names[letter] for letter in order)
    if shape.week is not None:
        date = "year-week-day"
    elif shape.of_year is not None:
        date = "year-day of the year"
    clock = [
        word
        for word, span in (
            ("hours", shape.hour),
            ("minutes", shape.minute),
            ("seconds", shape.second),
        )
        if span
    ]
    text = f"{date} {':'.join(clock)}".strip()
    return f"{text} AM/PM" if shape.half else text


def _read_instants(column: pa.Array) -> Written:
    import pyarrow as pa

    zone = getattr(column.type, "tz", None)
    times = column.cast(pa.timestamp("us", zone), safe=False).cast(pa.int64())
    is_wrong = times.is_null().to_numpy(zero_copy_only=False)
    values = times.fill_null(0).to_numpy(zero_copy_only=False)
    return Written(values, np.full(len(column), zone is not None), is_wrong)


def read_given(column: pa.Array, form: str) -> Written:
    """Read times in the form that the user gave."""
    import pandas as pd
    import pyarrow as pa

    if pa.types.is_floating(column.type):
        column = column.cast(pa.int64(), safe=False)
    text = column.cast(pa.string()).to_pandas().str.strip()
    has_zone = "%z" in form or "%Z" in form
    times = pd.DatetimeIndex(pd.to_datetime(text, format=form, errors="coerce", utc=has_zone))
    is_wrong = np.asarray(times.isna())
    values = times.tz_localize(None).to_numpy().astype("M8[us]").astype(np.int64)
    return Written(np.where(is_wrong, 0, values), np.full(len(text), has_zone), is_wrong)
