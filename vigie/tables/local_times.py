"""Turn local times into UTC, in the order of the rows: zones, and the hour that comes twice."""

from __future__ import annotations

import datetime as dt
import difflib
import re
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from zoneinfo import ZoneInfo, available_timezones

import numpy as np
from numpy.typing import NDArray

from vigie.errors import InvalidDataError
from vigie.tables.written_times import DAY, HOUR, MINUTE, SECOND

Times = NDArray[np.int64]
"""Microseconds since 1970."""

LONGEST_CHANGE = 3 * HOUR
"""Rows further apart lie in different changes of the clock."""
_ZONE_CELL = re.compile(r"(?:UTC|GMT)?[-+][01]\d:?\d\d|Z|UTC|GMT")
MOST_CHANGES = 100
YEAR = 340 * DAY
"""At least this lies between two ends of summer time."""


@dataclass(frozen=True)
class Change:
    """An hour that comes twice in local times without a zone.

    Attributes
    ----------
    before, after : int
        The times of the last row before the step back, and of the next, in microseconds.
    by : int
        How far the clock was set back, in microseconds.
    row : int
        The row after the step, counted from 1.
    """

    before: int
    after: int
    by: int
    row: int


def changes(times: Times) -> tuple[Change, ...] | None:
    """Return where a clock was set back; None if the times go back for another reason.

    A clock that is set back by an hour goes back by one hour less one step, once a year. Some time
    zone must do so in that night, unless the rows before and after last a day each: two recordings
    of an hour, one below the other, look the same.

    Parameters
    ----------
    times : ndarray of int64 of shape (n_rows,)
        Local times of all rows, in microseconds.
    """
    steps = np.diff(times)
    forward = steps[steps > 0]
    if not len(forward):
        return None if len(steps) and steps.min() < 0 else ()
    step = float(np.median(forward))
    is_back = steps < 0
    # Of hourly rows, the one of the hour that comes twice has the time of the row before.
    same = np.flatnonzero(steps == 0)
    if step == HOUR and 0 < len(same) <= MOST_CHANGES:
        is_back[same] = all(_is_set_back(int(times[row]), int(times[row])) for row in same)
    rows = np.flatnonzero(is_back)
    if not len(rows):
        return ()
    if len(rows) > MOST_CHANGES:
        return None
    found = []
    for row in rows:
        by = [by for by in (HOUR, HOUR // 2) if abs(by + steps[row] - step) <= step / 2 < by / 2]
        by = by if steps[row] else [HOUR]
        if not by:
            return None
        lasts = min(int(times[row] - times[0]), int(times[-1] - times[row + 1]))
        is_same_hour = times[0] >= times[row + 1] and times[-1] <= times[row]
        is_set_back = not is_same_hour and _is_set_back(int(times[row]), int(times[row + 1]))
        if lasts < DAY and not is_set_back:
            return None
        found.append(Change(int(times[row]), int(times[row + 1]), by[0], int(row) + 2))
    is_yearly = all(b.after - a.after >= YEAR for a, b in pairwise(found))
    return tuple(found) if is_yearly and len({change.by for change in found}) == 1 else None


def _is_set_back(before: int, after: int) -> bool:
    """Return whether, in some zone, both times lie in an hour that comes twice."""
    first, last = (dt.datetime(1970, 1, 1) + dt.timedelta(microseconds=t) for t in (after, before))
    zones = map(ZoneInfo, sorted(available_timezones()))
    return any(_comes_twice(first, zone) and _comes_twice(last, zone) for zone in zones)


def _comes_twice(local: dt.datetime, zone: ZoneInfo) -> bool:
    first, second = (local.replace(tzinfo=zone, fold=fold).utcoffset() for fold in (0, 1))
    return first is not None and second is not None and first > second


def zone_named(name: str) -> ZoneInfo:
    """Return a time zone.

    Raises
    ------
    InvalidDataError
        If there is none of this name; the remedy has the nearest ones.
    """
    zones = available_timezones()
    if name in zones:
        return ZoneInfo(name)
    known = {zone.lower(): zone for zone in sorted(zones)}
    cities = {zone.lower().rpartition("/")[2]: zone for zone in sorted(zones) if "/" in zone}
    words = {**cities, **known}
    wanted = name.strip().lower().replace(" ", "_")
    near = dict.fromkeys(
        words[word] for word in difflib.get_close_matches(wanted, words, n=3, cutoff=0.75)
    )
    meant = f"Did you mean {' or '.join(near)}?" if near else "Use a name such as Europe/Paris."
    raise InvalidDataError(f"There is no time zone {name!r}.", field="--timezone", remedy=meant)


def offsets_of(zone: ZoneInfo) -> dict[str, int]:
    """Return the names that a zone's time has over the year, with their minutes ahead of UTC."""
    found: dict[str, int] = {}
    for year in range(1990, 2038):
        for month in (1, 7):
            moment = dt.datetime(year, month, 1, 12, tzinfo=zone)
            ahead = moment.utcoffset() or dt.timedelta()
            found[(moment.tzname() or "").lower()] = round(ahead.total_seconds() / 60)
    return found


def zone_in(name: str) -> str | int | None:
    """Return the zone that the name of a column tells.

    Returns
    -------
    str, int or None
        An IANA name, or minutes ahead of UTC, as of "Time (UTC+01:00)".
    """
    place = re.search(r"[A-Z]\w+(?:/[A-Z]\w+)+", name)
    if place is not None and place[0] in available_timezones():
        return str(place[0])
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    match = _OFFSET.search(apart)
    if match is None:
        return None
    ahead = int(match["hour"] or 0) * 60 + int(match["minute"] or 0)
    if ahead > 14 * 60:
        return None
    return -ahead if match["sign"] in ("-", "−") else ahead


_OFFSET = re.compile(
    r"(?<![a-z])(?:UTC|GMT)(?![a-z])(?: ?(?P<sign>[-+−]) ?(?P<hour>\d\d?)(?::?(?P<minute>\d\d))?)?",
    re.IGNORECASE,
)


@lru_cache(maxsize=256)
def is_zone_word(word: str) -> bool:
    """Return whether some zone calls its time by this word, such as "EST"."""
    wanted = word.lower()
    return any(
        (dt.datetime(2026, month, 1, tzinfo=ZoneInfo(zone)).tzname() or "").lower() == wanted
        for zone in sorted(available_timezones())
        for month in (1, 7)
    )


def is_zone(text: str) -> bool:
    """Return whether a text is a zone: "EST", "+02:00" or "America/New_York"."""
    if _ZONE_CELL.fullmatch(text) or ("/" in text and text in available_timezones()):
        return True
    return is_zone_name(text)


def is_zone_name(text: str) -> bool:
    """Return whether a text is the short name of a zone in capitals, such as "EST"."""
    return text.isupper() and text.isalpha() and 3 <= len(text) <= 5 and is_zone_word(text)


@dataclass
class LocalClock:
    """Local times of a zone, read in parts.

    Attributes
    ----------
    zone : ZoneInfo
        The zone.
    repeats : bool
        Whether several rows of one time are usual in the file; otherwise the second row of a time
        that comes twice is in the second pass.
    once : list of int
        Local times at which an hour began that comes twice, but is in the rows once.
    """

    zone: ZoneInfo
    repeats: bool
    once: list[int] = field(default_factory=list)
    _last: int | None = None
    _run: int | None = None
    _is_second: bool = False

    def read(self, times: Times) -> tuple[Times, int | None]:
        """Return the next local times in UTC, and the first row (from 0) that does not exist."""
        import pandas as pd

        local = pd.DatetimeIndex(times.astype("M8[us]"))
        utc = local.tz_localize(self.zone, ambiguous="NaT", nonexistent="NaT")
        rows = np.flatnonzero(utc.isna())
        result = utc.tz_convert(None).to_numpy().astype("M8[us]").astype(np.int64)
        if len(rows):
            first = local[rows].tz_localize(
                self.zone, ambiguous=np.ones(len(rows), bool), nonexistent="NaT"
            )
            if first.isna().any():
                return result, int(rows[np.argmax(first.isna())])
            is_first = ~self._second(times, rows)
            told = local[rows].tz_localize(self.zone, ambiguous=is_first)
            result[rows] = told.tz_convert(None).to_numpy().astype("M8[us]").astype(np.int64)
        if len(times):
            self._last = int(times[-1])
            if not len(rows) or rows[-1] != len(times) - 1:
                self._leave()
        return result, None

    def _second(self, times: Times, rows: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Return which of the rows, in an hour that comes twice, are in its second pass."""
        is_second = np.zeros(len(rows), np.bool_)
        previous = None
        for place, row in enumerate(rows):
            now = int(times[row])
            before = int(times[row - 1]) if row else self._last
            follows = row == 0 or previous == row - 1
            if self._run is None or not follows or abs(now - (before or now)) > LONGEST_CHANGE:
                self._leave()
                self._run = now
            elif before is not None and (now < before or (now == before and not self.repeats)):
                self._is_second = True
            is_second[place] = self._is_second
            previous = row
        return is_second

    def _leave(self) -> None:
        """End an hour that comes twice."""
        if self._run is not None and not self._is_second:
            self.once.append(self._run)
        self._run, self._is_second = None, False


def written(time: int) -> str:
    """Return a time for a message, with as many parts as it needs."""
    text = str(np.datetime64(time, "us")).replace("T", " ")
    if time % SECOND:
        return text.rstrip("0")
    return text[:16] if time % MINUTE == 0 else text[:19]
