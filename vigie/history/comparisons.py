"""Counts of compared versions in the history's database: all replicas add to the same ones."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import text

from vigie.history.records import PairKey, microseconds, time_of
from vigie.history.store import History

_KEY = "model, champion, champion_run, challenger, challenger_run"
_VALUES = ", ".join(f":{name}" for name in _KEY.split(", "))
ADD = text(
    f"INSERT INTO version_comparisons ({_KEY}, counted, total, first_us, last_us) "
    f"VALUES ({_VALUES}, :counted, :total, :first_us, :last_us) "
    f"ON CONFLICT ({_KEY}, counted) DO UPDATE SET "
    "total = version_comparisons.total + excluded.total, "
    "first_us = CASE WHEN excluded.first_us < version_comparisons.first_us "
    "THEN excluded.first_us ELSE version_comparisons.first_us END, "
    "last_us = CASE WHEN excluded.last_us > version_comparisons.last_us "
    "THEN excluded.last_us ELSE version_comparisons.last_us END"
)
READ = text(
    "SELECT counted, total, first_us, last_us FROM version_comparisons WHERE "
    + " AND ".join(f"{name} = :{name}" for name in _KEY.split(", "))
)


class ComparisonTable:
    """The table of counts.

    Parameters
    ----------
    history : History
        The database.

    Raises
    ------
    HistoryError
        From every method, if the database fails.
    """

    def __init__(self, history: History):
        self._history = history

    def add(
        self,
        pair: PairKey,
        counts: Mapping[str, float],
        first: datetime,
        last: datetime,
    ) -> None:
        """Add to the counts of a pair, all or none.

        Parameters
        ----------
        pair : PairKey
            The versions.
        counts : mapping of str to float
            What is added, by name.
        first, last : datetime
            When the first and the last reading behind them were compared.
        """
        times = {"first_us": microseconds(first), "last_us": microseconds(last)}
        rows = [
            # In one order, so that replicas do not wait for each other in a circle.
            {**pair._asdict(), **times, "counted": name, "total": counts[name]}
            for name in sorted(counts)
        ]
        with self._history.connection() as connection:
            connection.execute(ADD, rows)

    def read(self, pair: PairKey) -> tuple[dict[str, float], datetime | None, datetime | None]:
        """Return the counts of a pair, and when the first and last reading were compared."""
        with self._history.connection(writes=False) as connection:
            rows = connection.execute(READ, pair._asdict()).all()
        first = min((row.first_us for row in rows), default=None)
        last = max((row.last_us for row in rows), default=None)
        return (
            {row.counted: row.total for row in rows},
            None if first is None else time_of(first),
            None if last is None else time_of(last),
        )
