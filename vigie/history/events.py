"""Events in the history's database, as they are asked for; ``vigie.events.keeping`` makes them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    MetaData,
    String,
    Table,
    Text,
    and_,
    func,
    or_,
    select,
    tuple_,
)
from sqlalchemy.sql.elements import ColumnElement

from vigie.history.records import microseconds, time_of
from vigie.history.store import History
from vigie.models.events import AssetEvent, EventKind, EventLabel, Label, Peak

_METADATA = MetaData()
EVENTS = Table(
    "asset_events",
    _METADATA,
    Column("id", String(32), primary_key=True),
    Column("asset_id", Text),
    Column("sensor_id", Text),
    Column("kind", String(32)),
    Column("start_us", BigInteger),
    Column("began_us", BigInteger),
    Column("peak_us", BigInteger),
    Column("peak_p", Double),
    Column("reading_p", Double),
    Column("criticality", String(16)),
    Column("last_us", BigInteger),
    Column("end_us", BigInteger),
    Column("n_readings", BigInteger),
    Column("n_anomalies", BigInteger),
    Column("sensors", Text),
    Column("versions", Text),
)
LABELS = Table(
    "event_labels",
    _METADATA,
    Column("number", BigInteger, primary_key=True),
    Column("event_id", String(32)),
    Column("label", String(16)),
    Column("cause", Text),
    Column("note", Text),
    Column("at_us", BigInteger),
    Column("by_whom", Text),
    Column("replaced_us", BigInteger),
)
_IS_CURRENT = and_(LABELS.c.event_id == EVENTS.c.id, LABELS.c.replaced_us.is_(None))
_OF_LABEL = [LABELS.c[name] for name in ("label", "cause", "note", "at_us", "by_whom")]
_WITH_LABEL = select(EVENTS, *_OF_LABEL).join_from(EVENTS, LABELS, _IS_CURRENT, isouter=True)
UNLABELLED = "none"
"""In place of a label: that there is none."""
Place = tuple[int, str]
"""Of an item in a list that is sorted by time: the time in microseconds, and the id."""


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which events are asked for.

    Attributes
    ----------
    asset : str or None
        An asset, or the beginning of its path: ``site/line`` also has ``site/line/pump-3``.
    is_open : bool or None
        Whether they are open.
    kind : EventKind or None
        Their kind.
    first, last : datetime or None
        The time with which they have something in common.
    label : Label, 'none' or None
        What somebody has said of them; 'none' for those of which nobody has said anything.
    """

    asset: str | None = None
    is_open: bool | None = None
    kind: EventKind | None = None
    first: datetime | None = None
    last: datetime | None = None
    label: Label | Literal["none"] | None = None


class EventTable:
    """The table of events.

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

    def get(self, number: str) -> tuple[AssetEvent, datetime] | None:
        """Return an event, and when its last reading so far was measured; None if there is none."""
        query = _WITH_LABEL.where(EVENTS.c.id == number)
        with self._history.connection(writes=False) as connection:
            row = connection.execute(query).first()
        return None if row is None else (event_of(row), time_of(row.last_us))

    def newest(
        self, asked: EventFilter, limit: int, after: Place | None = None
    ) -> tuple[list[AssetEvent], Place | None]:
        """Return events, the last to begin first, and the place after which there are more.

        Parameters
        ----------
        asked : EventFilter
            Which.
        limit : int
            Most events to return.
        after : (int, str), optional
            The place of the last event of the list before.
        """
        columns = EVENTS.c
        conditions: list[ColumnElement[bool]] = []
        if asked.asset is not None:
            conditions.append(below(columns.asset_id, asked.asset))
        if asked.is_open is not None:
            is_open = columns.end_us.is_(None)
            conditions.append(is_open if asked.is_open else ~is_open)
        if asked.kind is not None:
            conditions.append(columns.kind == asked.kind.value)
        if asked.last is not None:
            conditions.append(columns.start_us <= microseconds(asked.last))
        if asked.first is not None:
            end = columns.end_us
            conditions.append(or_(end.is_(None), end >= microseconds(asked.first)))
        if asked.label is not None:
            label = LABELS.c.label
            is_so = label.is_(None) if asked.label == UNLABELLED else label == asked.label
            conditions.append(is_so)
        place = tuple_(columns.start_us, columns.id)
        if after is not None:
            conditions.append(place < after)
        query = _WITH_LABEL.where(*conditions).limit(limit + 1)
        query = query.order_by(columns.start_us.desc(), columns.id.desc())
        with self._history.connection(writes=False) as connection:
            rows: Sequence[Any] = connection.execute(query).all()
        more = (rows[limit - 1].start_us, rows[limit - 1].id) if len(rows) > limit else None
        return [event_of(row) for row in rows[:limit]], more

    def labels(self, number: str) -> list[EventLabel]:
        """Return all labels that an event has had, the first to be given first."""
        query = select(LABELS).where(LABELS.c.event_id == number).order_by(LABELS.c.number)
        with self._history.connection(writes=False) as connection:
            rows = connection.execute(query).all()
        return [
            EventLabel(
                label=Label(row.label),
                cause=row.cause,
                note=row.note,
                at=time_of(row.at_us),
                by=row.by_whom,
            )
            for row in rows
        ]


def below(column: ColumnElement[str] | Column[str], path: str) -> ColumnElement[bool]:
    """Return the condition that an asset is one, or lies below it as a path."""
    path = path.rstrip("/")
    # Not LIKE: SQLite's takes no notice of upper and lower case.
    return or_(column == path, func.substr(column, 1, len(path) + 1) == f"{path}/")


def event_of(row: Any) -> AssetEvent:
    """Return the event in a row of the table."""
    return AssetEvent(
        id=row.id,
        asset_id=row.asset_id,
        sensor_id=row.sensor_id or None,
        kind=EventKind(row.kind),
        start=time_of(row.start_us),
        began=None if row.began_us is None else time_of(row.began_us),
        peak=Peak(at=time_of(row.peak_us), p_value=row.peak_p),
        end=None if row.end_us is None else time_of(row.end_us),
        criticality=row.criticality,
        sensors=json.loads(row.sensors),
        versions=json.loads(row.versions),
        n_readings=row.n_readings,
        n_anomalies=row.n_anomalies,
        label=None if row.label is None else Label(row.label),
        cause=row.cause,
        note=row.note,
        labelled_at=None if row.at_us is None else time_of(row.at_us),
        labelled_by=row.by_whom,
    )
