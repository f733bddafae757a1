"""Readings of one or many assets in the order of their times."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from heapq import merge
from itertools import islice
from typing import Any, NamedTuple

from vigie.history.names import Row, as_reading
from vigie.history.packed import NORMAL, Layout
from vigie.history.records import Reading, microseconds
from vigie.history.store import History
from vigie.models.readings import SEPARATOR, Key, Order

FIRST_US, LAST_US = -(2**62), 2**62
"""Before and after every time, in microseconds since 1970."""
FEWEST, MOST = 8, 10_000
"""Readings of each asset that are read at once."""


@dataclass(frozen=True)
class Wanted:
    """Which readings are sought.

    Attributes
    ----------
    asset_id : str or None
        The asset; with a ``/`` at its end, all below it.
    sensor_id : str or None
        The group of sensors; empty for readings without one.
    first, last : datetime or None
        The limits of the times, which belong to them.
    levels : collection of int or None
        See ``vigie.history.packed.LEVELS``.
    order : Order
        Which come first.
    """

    asset_id: str | None = None
    sensor_id: str | None = None
    first: datetime | None = None
    last: datetime | None = None
    levels: Collection[int] | None = None
    order: Order = Order.NEWEST

    @property
    def first_us(self) -> int:
        """The first time, in microseconds since 1970."""
        return FIRST_US if self.first is None else microseconds(self.first)

    @property
    def last_us(self) -> int:
        """The last time, in microseconds since 1970."""
        return LAST_US if self.last is None else microseconds(self.last)

    @property
    def _level(self) -> str:
        """The condition on the level, so that an index of the anomalies can be used."""
        if self.levels is None:
            return ""
        numbers = ", ".join(str(int(level)) for level in self.levels) or "NULL"
        is_anomalous = "" if NORMAL in self.levels else "level > 0 AND "
        return f" AND {is_anomalous}level IN ({numbers})"

    def rows(self, asset: str, last: str) -> str:
        """Return the SELECT of the first rows of an asset after a key.

        Parameters
        ----------
        asset, last : str
            SQL of the number of the asset, and of that of the key.
        """
        # Of one time, the higher number comes first among the newest.
        low, high, direction = ":first", f":key + CAST({asset} < {last} AS INTEGER)", "DESC"
        if self.order is Order.OLDEST:
            low, high, direction = f":key - CAST({asset} > {last} AS INTEGER)", ":last", "ASC"
        is_newest = self.order is Order.NEWEST
        return (
            "SELECT measured_us, layout, level, packed, asset FROM readings "
            f"WHERE asset = {asset} AND measured_us {'>=' if is_newest else '>'} {low} "
            f"AND measured_us {'<' if is_newest else '<='} {high}{self._level} "
            f"ORDER BY measured_us {direction} LIMIT :n"
        )

    @property
    def whose(self) -> tuple[str, dict[str, str]]:
        """The SELECT of the assets that fit, and its values."""
        conditions, values = [], {}
        if self.asset_id is not None:
            values["asset_id"] = self.asset_id
            is_path = self.asset_id.endswith(SEPARATOR)
            beginning = "substr(asset_id, 1, length(:asset_id))" if is_path else "asset_id"
            conditions.append(f"{beginning} = :asset_id")
        if self.sensor_id is not None:
            values["sensor_id"] = self.sensor_id
            conditions.append("sensor_id = :sensor_id")
        where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
        return f"SELECT id, asset_id, sensor_id FROM assets{where}", values

    @property
    def count(self) -> str:
        """The SELECT of how many readings an asset has, and of the first and the last time."""
        return (
            "SELECT count(*), min(measured_us), max(measured_us) FROM readings "
            f"WHERE asset = :asset AND measured_us >= :first AND measured_us <= :last{self._level}"
        )


class Found(NamedTuple):
    """A row, and its place among all."""

    key: Key
    row: Row


class Search:
    """A search for readings.

    Parameters
    ----------
    history : History
        The history.
    wanted : Wanted
        Which readings.

    Raises
    ------
    HistoryError
        From every method too, if the database fails.

    Attributes
    ----------
    assets : dict of int to (str, str)
        The assets that fit, by their numbers: name and sensor group.
    """

    def __init__(self, history: History, wanted: Wanted):
        self._history, self.wanted = history, wanted
        self.assets: Mapping[int, tuple[str, str]] = {
            number: names for number, *names in history.select(*wanted.whose)
        }

    def page(self, after: Key | None, offset: int, n: int) -> tuple[list[Reading], Key | None]:
        """Return readings, and the place of the last one if others follow.

        Parameters
        ----------
        after : Key or None
            The place of the reading before; None to begin.
        offset : int
            How many are left out.
        n : int
            Most readings.
        """
        found = list(islice(self.rows(after, offset + n + 1), offset, offset + n + 1))
        last = found[n - 1].key if len(found) > n else None
        return self.readings(found[:n]), last

    def rows(self, after: Key | None, n: int) -> Iterator[Found]:
        """Return an iterator of rows in order, which reads of each asset what is needed.

        Parameters
        ----------
        after : Key or None
            The place of the row before; None to begin.
        n : int
            How many will be taken, as far as is known.
        """
        if not self.assets:
            return iter(())
        is_newest = self.wanted.order is Order.NEWEST
        begin = after or Key(*((LAST_US, 0) if is_newest else (FIRST_US, 0)))
        size = min(max(FEWEST, 2 * n // len(self.assets)), n, MOST)
        first: dict[int, list[Found]] = {}
        for one in self._read(self.assets, begin, size):
            first.setdefault(one.key.asset, []).append(one)
        its_rows = (self._from(rows, size) for rows in first.values())
        return merge(*its_rows, key=lambda one: one.key, reverse=is_newest)

    def _from(self, rows: Sequence[Found], size: int) -> Iterator[Found]:
        """Yield the rows of an asset, the first of which are known, with those that follow."""
        yield from rows
        while len(rows) == size:
            size = min(2 * size, MOST)
            rows = self._read((rows[-1].key.asset,), rows[-1].key, size)
            yield from rows

    def readings(self, found: Collection[Found]) -> list[Reading]:
        """Return the readings of rows."""
        layouts = self.layouts(found)
        readings = []
        for key, row in found:
            asset_id, sensor_id = self.assets[key.asset]
            readings.append(as_reading(asset_id, sensor_id or None, row, layouts[row[1]]))
        return readings

    def layouts(self, found: Collection[Found]) -> dict[int, Layout]:
        """Return the layouts of rows, by number."""
        return self._history.layouts({row[1] for _, row in found})

    def extent(self, asset: int) -> tuple[int, int, int]:
        """Return how many readings of an asset fit, and the first and last time of them."""
        values = {"asset": asset, **self._limits}
        [(n, first_us, last_us)] = self._history.select(self.wanted.count, values)
        return n, first_us or 0, last_us or 0

    @property
    def _limits(self) -> dict[str, int]:
        return {"first": self.wanted.first_us, "last": self.wanted.last_us}

    def _read(self, assets: Iterable[int], edge: Key, n: int) -> list[Found]:
        """Return the first ``n`` rows of each asset after a key."""
        # A time that is nearer than the key limits them, too.
        is_newest = self.wanted.order is Order.NEWEST
        if is_newest and edge.measured_us > self.wanted.last_us:
            edge = Key(self.wanted.last_us + 1, 0)
        if not is_newest and edge.measured_us < self.wanted.first_us:
            edge = Key(self.wanted.first_us, 0)
        values = {**self._limits, "key": edge.measured_us, "edge": edge.asset, "n": n}
        if self._history.is_sqlite:
            statement = self.wanted.rows(":asset", ":edge")
            each: Iterable[Mapping[str, Any]] = ({"asset": one, **values} for one in assets)
        else:
            statement = (
                "SELECT found.* FROM unnest(CAST(:assets AS INTEGER[])) AS an(asset) "
                f"CROSS JOIN LATERAL ({self.wanted.rows('an.asset', ':edge')}) AS found"
            )
            each = ({"assets": list(assets), **values},)
        rows = self._history.select(statement, *each)
        return [Found(Key(row[0], row[4]), row[:4]) for row in rows]
