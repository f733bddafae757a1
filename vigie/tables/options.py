"""What a user may state about a file; nothing here takes NumPy, so that commands start fast."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Literal

Mark = Literal[".", ","]
DateOrder = Literal["dmy", "mdy", "ymd", "ydm"]
"""What the numbers of a date mean."""


@dataclass(frozen=True)
class CsvOptions:
    """What the user states about a CSV file; None: decided from the file."""

    separator: str | None = None
    decimal: Mark | None = None
    encoding: str | None = None


@dataclass(frozen=True)
class Hint:
    """What tells the order of the numbers in dates, should these leave it open.

    Attributes
    ----------
    order : {"dmy", "mdy", "ymd", "ydm"}
        The order.
    agrees, differs : str
        How a note names it, where the dates are read so, and where they exclude it.
    column : str or None
        The only column that it is about.
    """

    order: DateOrder
    agrees: str
    differs: str
    column: str | None = None


@dataclass(frozen=True)
class TimeOptions:
    """What the user says about the times.

    Attributes
    ----------
    day_first : bool or None
        Whether the day stands before the month (``--day-first``) or after it (``--month-first``),
        in dates that can be read both ways.
    time_format : str or None
        Form of the times (``--time-format``): as for ``strptime``, or what numbers count: ``s``,
        ``ms``, ``us`` and ``ns`` since 1970, ``excel``, ``matlab``, ``mjd``, ``jd``, ``labview``,
        ``gps``, ``filetime``, ``ticks`` or ``year``.
    timezone : str or None
        IANA name of the zone of times that have none (``--timezone``); they are UTC by default.
    hints : tuple of Hint
        Not stated by the user; used only where options and dates leave the order open. The first
        that fits counts.
    """

    day_first: bool | None = None
    time_format: str | None = None
    timezone: str | None = None
    hints: tuple[Hint, ...] = ()


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
        The column with the time; two with the date and the time of day; or those of its parts.
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

    def hinted(self, *hints: Hint) -> ReadOptions:
        """Return these options with hints on the order of dates that count before their own."""
        if not hints:
            return self
        return replace(self, times=replace(self.times, hints=(*hints, *self.times.hints)))

    def unhinted(self) -> ReadOptions:
        """Return these options without hints."""
        return replace(self, times=replace(self.times, hints=()))


UNSTATED = ReadOptions()
"""Everything is decided from the content of the file."""
