"""Put a date and a count of the parts of a day, or of an hour, together: quarters, periods, ..."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vigie.tables import names
from vigie.tables.paired_times import (
    DateStyle,
    all_numbers,
    date_style_of,
    date_text,
    number_cells,
    some_text,
)
from vigie.tables.time_parts import padded, padded_seconds, repeats
from vigie.tables.written_times import HOUR, MINUTE, SECOND

if TYPE_CHECKING:
    import pyarrow as pa

Floats = NDArray[np.float64]

_HOURS = frozenset(("hour", "hours", "stunde", "std", "heure", "hora", "uur", "ora"))
_CLOCKS = frozenset(("time", "zeit", "uhrzeit"))
_LENGTHS = {
    **dict.fromkeys((*_HOURS, *_CLOCKS), 3600),
    **dict.fromkeys(("halfhour", "halbstunde"), 1800),
    **dict.fromkeys(("quarterhour", "viertelstunde", "viertelstunden", "qh"), 900),
    **dict.fromkeys(("minute", "minutes", "min", "minuten", "mod"), 60),
    **dict.fromkeys(("second", "seconds", "sec", "secs", "sekunde", "sekunden", "seconde"), 1),
}
"""Seconds of one count by the last word of a name."""
_OF_THE_DAY = ("of", "day", "the", "du", "jour", "des", "tages", "del", "dia", "tag")
_UNITS: dict[float, str] = {3600: "hours", 60: "minutes", 1: "seconds"}
_SPANS = {"hour": 3600, "day": 86_400}
_PLAIN = frozenset((48, 96, 1440, 86_400))
"""Counts in a day of a column that is named for times alone."""
_LEAST_STEP = 0.25
"""In hours."""
_FEWEST = 4
_USUAL = 0.9
"""Share of the steps within a day, or an hour, that are the same."""


@dataclass(frozen=True)
class Counted:
    """How the columns of a date, perhaps an hour, and a count within it are put together.

    Attributes
    ----------
    date_style : str
        How the date is written.
    has_hour : bool
        Whether the count is within an hour, which stands between the two.
    seconds : float
        Length of one count.
    first, first_hour : float
        The count, and the hour, at the begin.
    """

    date_style: DateStyle
    has_hour: bool
    seconds: float
    first: float
    first_hour: float = 0

    def joined(self, cells: Sequence[pa.Array]) -> pa.Array:
        """Return the columns as text in one; null where any has no value."""
        import pyarrow.compute as pc

        seconds = (number_cells(cells[-1]) - self.first) * self.seconds
        if self.has_hour:
            seconds = seconds + 3600 * (number_cells(cells[1]) - self.first_hour)
        hours, rest = np.divmod(np.rint(seconds * SECOND), HOUR)
        minutes, rest = np.divmod(rest, MINUTE)
        clock = [padded(hours, 2), padded(minutes, 2), padded_seconds(rest / SECOND)]
        date = date_text(cells[0], self.date_style)
        return pc.binary_join_element_wise(date, pc.binary_join_element_wise(*clock, ":"), " ")

    def note(self, columns: Sequence[str]) -> str:
        """Return what to say of it."""
        within = "hour" if self.has_hour else "day"
        if self.first == 0 and self.seconds in _UNITS and not self.has_hour:
            what = f"{_UNITS[self.seconds]} of the day"
        else:
            is_short = self.seconds < 3600
            length = f"{self.seconds / 60:g} min" if is_short else f"{self.seconds / 3600:g} h"
            what = f"parts of each {within}, {length} long and counted from {self.first:g}"
        return f"{columns[-1]} is read as {what}. --time chooses other columns"


def find_counted(columns: Mapping[str, pa.ChunkedArray], dates: Sequence[str]) -> tuple[str, ...]:
    """Return a date, perhaps an hour, and a count within it; none if there is no such count.

    Parameters
    ----------
    columns : mapping of pyarrow.ChunkedArray of shape (n_rows,)
        All columns.
    dates : sequence of str
        Those that hold a whole date.
    """
    counts = [name for name in columns if name not in dates and is_named_part(name)]
    hours = [name for name in columns if name not in dates and _last_word(name) in _HOURS]
    for date in dates if counts else ():
        for count in counts:
            forms = [(date, hour, count) for hour in hours if hour != count]
            for form in (*forms, (date, count)):
                if counted_of([columns[name] for name in form], form):
                    return form
    return ()


def is_named_part(name: str) -> bool:
    """Return whether a column is named for the parts of a day, such as minutes or periods."""
    word = _last_word(name)
    return word in _LENGTHS or word in names.PART_OF_DAY


def is_plain_part(name: str) -> bool:
    """Return whether a column is named for the parts of a day and nothing else."""
    word = _last_word(name)
    return is_named_part(name) and set(names.words(name)) <= {word, *_OF_THE_DAY}


def counted_of(cells: Sequence[pa.ChunkedArray], columns: Sequence[str]) -> Counted | None:
    """Return how two or three columns are put together; None if the last is no such count."""
    if len(cells) not in (2, 3) or not is_named_part(columns[-1]):
        return None
    numbers = [all_numbers(column) for column in cells[1:]]
    style = date_style_of(cells[0], columns[0])
    if style is None or style == "excel" or len(cells[0]) < _FEWEST:
        return None
    known = [one.astype(np.float64) for one in numbers if one is not None]
    if len(known) < len(numbers) or not all(np.isfinite(one).all() for one in known):
        return None
    *hours, counts = known
    same = repeats(cells[:-1])
    if hours and not _are_hours(hours[0]):
        return None
    steps = np.diff(counts)[same]
    if len(steps) and (steps < 0).all():
        counts, same, steps = counts[::-1], same[::-1], -steps[::-1]
    if not len(steps) or (steps <= 0).any():
        return None
    step = float(np.median(steps))
    # Hours with decimals are rounded.
    if np.mean(np.abs(steps - step) <= 0.02 * step) < _USUAL:
        return None
    word = _last_word(columns[-1])
    # Small decimals on a single day may be seconds since a start.
    may_be_elapsed = word in _CLOCKS and same.all() and step < _LEAST_STEP
    found = None if hours or may_be_elapsed else _by_name(word, counts, cells[-1])
    found = found or _by_rows(word, counts, same, step, "hour" if hours else "day")
    if found is None:
        return None
    is_from_1 = bool(hours) and hours[0].min() >= 1 and hours[0].max() == 24
    return Counted(style, bool(hours), *found, float(is_from_1))


def _are_hours(hours: Floats) -> bool:
    return bool((hours == np.rint(hours)).all() and hours.min() >= 0 and hours.max() <= 24)


def _by_name(word: str, counts: Floats, cells: pa.ChunkedArray) -> tuple[float, float] | None:
    """Return the length of a count in seconds, and where it begins, as its name tells."""
    length = _LENGTHS.get(word)
    is_whole = bool((counts == np.rint(counts)).all())
    if length is None or is_whole == (length == 3600) or counts.min() < 0:
        return None
    if length == 3600:
        # 8.30 may be half past 8, unless the hour goes on in even steps.
        crosses = np.floor(counts.min()) < np.floor(counts.max())
        are_times = any(":" in cell for cell in some_text(cells))
        return (3600, 0) if crosses and not are_times and counts.max() <= 24 else None
    first = 1 if length >= 900 and counts.min() >= 1 else 0
    # Up to 59, they may be minutes of an hour.
    fewest = 5 if length >= 900 else 60
    fits = fewest <= counts.max() and (counts.max() - first) * length <= _SPANS["day"]
    return (length, first) if fits else None


def _by_rows(
    word: str, counts: Floats, same: NDArray[np.bool_], step: float, within: str
) -> tuple[float, float] | None:
    """Return the length of a count, and where it begins, by the counts of whole days or hours."""
    begins = np.flatnonzero(np.append(True, ~same))
    ends = np.append(begins[1:], len(counts)) - 1
    lows, highs = counts[begins], counts[ends]
    first = float(lows[1:].min()) if len(lows) > 1 else np.nan
    is_whole = (lows == first) & (np.arange(len(lows)) < len(lows) - 1)
    if not is_whole.any() or first not in (0, 1, step):
        return None
    n_counts, times = np.unique(np.round(highs - lows + step, 3)[is_whole], return_counts=True)
    length = float(n_counts[np.argmax(times)])
    if word not in names.PART_OF_DAY and length not in _PLAIN:
        return None
    is_usual = times.max() >= _USUAL * max(len(lows) - 2, 1)
    if length < 2 or _SPANS[within] % length or not is_usual:
        return None
    # Hours from 1 to 24 end at what they say.
    return None if (within, length) == ("day", 24) else (_SPANS[within] / length, first)


def _last_word(name: str) -> str:
    found = [word for word in names.words(name) if not word.isdigit()]
    while len(found) > 1 and found[-1] in _OF_THE_DAY:
        found.pop()
    return found[-1] if found else ""
