"""Alarms and the states of assets in the history's database, as they are asked for."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    Boolean,
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
    text,
    tuple_,
)
from sqlalchemy.sql.elements import ColumnElement

from vigie.history.event_statements import STATEMENTS
from vigie.history.events import EVENTS, Place, below
from vigie.history.records import Pause, Seen, time_of
from vigie.history.store import History
from vigie.models.alarms import AlarmChange, AlarmState, Change
from vigie.models.anomaly_data import AssetState
from vigie.models.events import EventKind

_METADATA = MetaData()
ALARMS = Table(
    "asset_alarms",
    _METADATA,
    Column("id", String(32), primary_key=True),
    Column("event_id", String(32)),
    Column("asset_id", Text),
    Column("sensor_id", Text),
    Column("kind", String(32)),
    Column("state", String(16)),
    Column("start_us", BigInteger),
    Column("raised_us", BigInteger),
    Column("due_us", BigInteger),
    Column("cleared_us", BigInteger),
    Column("is_told", Boolean),
    Column("acknowledged_us", BigInteger),
    Column("acknowledged_by", Text),
    Column("note", Text),
)
CHANGES = Table(
    "alarm_changes",
    _METADATA,
    Column("number", BigInteger, primary_key=True),
    Column("alarm_id", String(32)),
    Column("at_us", BigInteger),
    Column("change", String(32)),
    Column("by_whom", Text),
    Column("note", Text),
)
STATES = Table(
    "asset_states",
    _METADATA,
    Column("asset_id", Text, primary_key=True),
    Column("sensor_id", Text, primary_key=True),
    Column("state", String(32)),
    Column("since_us", BigInteger),
    Column("seen_us", BigInteger),
    Column("received_us", BigInteger),
    Column("p_value", Double),
    Column("quality", String(16)),
    Column("faults", Text),
)
_PENDING = "pending"
_OF_EVENT = [
    EVENTS.c[name].label(f"event_{name}") for name in ("criticality", "peak_us", "peak_p")
] + [EVENTS.c.sensors.label("event_sensors")]
_WITH_EVENT = select(ALARMS, *_OF_EVENT).join_from(ALARMS, EVENTS, ALARMS.c.event_id == EVENTS.c.id)


@dataclass(frozen=True, slots=True)
class AlarmFilter:
    """Which alarms are asked for.

    Attributes
    ----------
    asset : str or None
        An asset, or the beginning of its path.
    state : AlarmState or None
        Whether what raised them goes on.
    is_acknowledged : bool or None
        Whether somebody has acknowledged them.
    kind : EventKind or None
        What they are about.
    """

    asset: str | None = None
    state: AlarmState | None = None
    is_acknowledged: bool | None = None
    kind: EventKind | None = None


class Raised(NamedTuple):
    """When an alarm was raised and cleared, in microseconds since 1970; None while it is active."""

    asset_id: str
    sensor_id: str
    kind: str
    raised_us: int
    cleared_us: int | None


class AlarmTable:
    """The tables of alarms, of pauses and of the states of assets.

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

    def get(self, number: str) -> Any | None:
        """Return the row of an alarm with that of its event; None if there is none."""
        [*found] = self._rows(_WITH_EVENT.where(ALARMS.c.id == number, _was_raised()))
        return found[0] if found else None

    def newest(
        self, asked: AlarmFilter, limit: int, after: Place | None = None
    ) -> tuple[list[Any], Place | None]:
        """Return rows of alarms with their events, the last to be raised first, and what follows.

        Parameters
        ----------
        asked : AlarmFilter
            Which.
        limit : int
            Most alarms to return.
        after : (int, str), optional
            The place of the last alarm of the list before.
        """
        columns, conditions = ALARMS.c, [_was_raised()]
        if asked.asset is not None:
            conditions.append(below(columns.asset_id, asked.asset))
        if asked.state is not None:
            conditions.append(columns.state == asked.state.value)
        if asked.kind is not None:
            conditions.append(columns.kind == asked.kind.value)
        if asked.is_acknowledged is not None:
            is_waiting = columns.acknowledged_us.is_(None)
            conditions.append(~is_waiting if asked.is_acknowledged else is_waiting)
        if after is not None:
            conditions.append(tuple_(columns.raised_us, columns.id) < after)
        query = _WITH_EVENT.where(*conditions).limit(limit + 1)
        rows = self._rows(query.order_by(columns.raised_us.desc(), columns.id.desc()))
        more = (rows[limit - 1].raised_us, rows[limit - 1].id) if len(rows) > limit else None
        return list(rows[:limit]), more

    def log(self, number: str) -> list[AlarmChange]:
        """Return what changed on an alarm, oldest first."""
        query = select(CHANGES).where(CHANGES.c.alarm_id == number).order_by(CHANGES.c.number)
        return [
            AlarmChange(
                at=time_of(row.at_us), change=Change(row.change), by=row.by_whom, note=row.note
            )
            for row in self._rows(query)
        ]

    def counts(self) -> dict[tuple[str, bool], int]:
        """Return how many alarms are in which state and acknowledged; of cleared ones, not all.

        Those that are cleared and acknowledged need nobody, and are not counted.
        """
        is_waiting = ALARMS.c.acknowledged_us.is_(None)
        of_interest = or_(ALARMS.c.state == AlarmState.ACTIVE.value, is_waiting)
        query = select(ALARMS.c.state, is_waiting.label("is_waiting"), func.count().label("n"))
        query = query.where(of_interest, _was_raised()).group_by(ALARMS.c.state, is_waiting)
        return {(row.state, not row.is_waiting): row.n for row in self._rows(query)}

    def raised_since(self, first_us: int, last_us: int, asset: str | None) -> Iterator[Raised]:
        """Yield the alarms that were active in a time, the first to be raised first."""
        conditions = [ALARMS.c.raised_us <= last_us, _was_raised()]
        conditions.append(or_(ALARMS.c.cleared_us.is_(None), ALARMS.c.cleared_us >= first_us))
        if asset is not None:
            conditions.append(below(ALARMS.c.asset_id, asset))
        columns = [ALARMS.c[name] for name in Raised._fields]
        query = select(*columns).where(*conditions).order_by(ALARMS.c.raised_us)
        yield from (Raised(*row) for row in self._rows(query))

    def due(self, now_us: int) -> list[tuple[str, str, str]]:
        """Return the id, asset and group of alarms of which something is to be done or told."""
        is_silent = and_(ALARMS.c.state == AlarmState.ACTIVE.value, ~ALARMS.c.is_told)
        query = select(ALARMS.c.id, ALARMS.c.asset_id, ALARMS.c.sensor_id).where(
            ALARMS.c.state != AlarmState.CLEARED.value, or_(ALARMS.c.due_us <= now_us, is_silent)
        )
        return [(row.id, row.asset_id, row.sensor_id) for row in self._rows(query)]

    def active(self, asset: str) -> list[tuple[str, str, str]]:
        """Return the id, asset and group of active alarms of an asset and those below it."""
        query = select(ALARMS.c.id, ALARMS.c.asset_id, ALARMS.c.sensor_id)
        query = query.where(ALARMS.c.state == AlarmState.ACTIVE.value)
        rows = self._rows(query.where(below(ALARMS.c.asset_id, asset)))
        return [(row.id, row.asset_id, row.sensor_id) for row in rows]

    def pauses(self) -> list[Pause]:
        """Return the pauses that nobody has ended, nor their time."""
        return [Pause(*row) for row in self._rows(text(STATEMENTS["pauses"]))]

    def pause(self, pause: Pause) -> None:
        """Store a pause, in place of one of the same."""
        with self._history.connection() as connection:
            for other in connection.execute(text(STATEMENTS["pauses"])).all():
                if Pause(*other)[1:5] == pause[1:5]:
                    ended = {"id": other.id, "now_us": pause.from_us, "by_whom": pause.by_whom}
                    connection.execute(text(STATEMENTS["end pause"]), ended)
            values = {**pause._asdict(), "now_us": pause.from_us}
            connection.execute(text(STATEMENTS["pause"]), values)

    def end_pause(self, number: str, now_us: int, by: str | None) -> bool:
        """End a pause; return whether nobody had before."""
        ended = {"id": number, "now_us": now_us, "by_whom": by}
        with self._history.connection() as connection:
            return bool(connection.execute(text(STATEMENTS["end pause"]), ended).rowcount)

    def note_seen(self, seen: Sequence[Seen]) -> None:
        """Store when assets were last seen, unless a later time is stored."""
        rows = [
            {"asset_id": one.asset_id, "sensor_id": one.sensor_id, **one.values()}
            # In one order, so that replicas do not wait for each other in a circle.
            for one in sorted(seen, key=lambda one: (one.asset_id, one.sensor_id))
        ]
        with self._history.connection() as connection:
            connection.execute(text(STATEMENTS["seen"]), rows)

    def states(
        self, asset: str | None, state: AssetState | None, limit: int, after: tuple[str, str] | None
    ) -> list[Seen]:
        """Return the states of assets, by their path.

        Parameters
        ----------
        asset : str or None
            An asset, or the beginning of its path.
        state : AssetState or None
            Only those in this state.
        limit : int
            Most to return.
        after : (str, str) or None
            The asset and group after which they begin.
        """
        columns, conditions = STATES.c, list[ColumnElement[bool]]()
        if asset is not None:
            conditions.append(below(columns.asset_id, asset))
        if state is not None:
            conditions.append(columns.state == state.value)
        if after is not None:
            conditions.append(tuple_(columns.asset_id, columns.sensor_id) > after)
        query = select(STATES).where(*conditions).limit(limit)
        rows = self._rows(query.order_by(columns.asset_id, columns.sensor_id))
        return [_seen(row) for row in rows]

    def n_assets(self, first_us: int, asset: str | None) -> int:
        """Return how many assets have sent a reading since a time."""
        conditions = [STATES.c.received_us >= first_us]
        if asset is not None:
            conditions.append(below(STATES.c.asset_id, asset))
        query = select(func.count(STATES.c.asset_id.distinct())).where(*conditions)
        with self._history.connection(writes=False) as connection:
            return int(connection.scalar(query) or 0)

    def open_kinds(self, assets: Collection[str]) -> dict[tuple[str, str], list[EventKind]]:
        """Return the kinds of the open events of assets, by asset and group."""
        query = select(EVENTS.c.asset_id, EVENTS.c.sensor_id, EVENTS.c.kind).where(
            EVENTS.c.end_us.is_(None), EVENTS.c.asset_id.in_(list(assets))
        )
        found: dict[tuple[str, str], list[EventKind]] = {}
        for row in self._rows(query):
            found.setdefault((row.asset_id, row.sensor_id), []).append(EventKind(row.kind))
        return found

    def silent(self, before_us: int) -> list[tuple[str, str, int]]:
        """Return the asset, group and time of receipt of those from which nothing came since."""
        query = select(STATES.c.asset_id, STATES.c.sensor_id, STATES.c.received_us)
        no_data = EVENTS.c.kind == EventKind.NO_DATA.value
        same = (EVENTS.c.asset_id == STATES.c.asset_id) & (EVENTS.c.sensor_id == STATES.c.sensor_id)
        is_known = select(EVENTS.c.id).where(same, no_data, EVENTS.c.end_us.is_(None)).exists()
        rows = self._rows(query.where(STATES.c.received_us < before_us, ~is_known))
        return [(row.asset_id, row.sensor_id, row.received_us) for row in rows]

    def heard_again(self) -> list[tuple[str, str]]:
        """Return the asset and group of those from which readings have come after silence."""
        same = (EVENTS.c.asset_id == STATES.c.asset_id) & (EVENTS.c.sensor_id == STATES.c.sensor_id)
        query = select(STATES.c.asset_id, STATES.c.sensor_id).join_from(STATES, EVENTS, same)
        query = query.where(
            EVENTS.c.kind == EventKind.NO_DATA.value,
            EVENTS.c.end_us.is_(None),
            STATES.c.seen_us > EVENTS.c.start_us,
        )
        return [(row.asset_id, row.sensor_id) for row in self._rows(query)]

    def _rows(self, query: Any) -> Sequence[Any]:
        with self._history.connection(writes=False) as connection:
            return connection.execute(query).all()


def _was_raised() -> ColumnElement[bool]:
    return ALARMS.c.state != _PENDING


def _seen(row: Any) -> Seen:
    return Seen(
        row.asset_id,
        row.sensor_id,
        AssetState(row.state),
        *(row.since_us, row.seen_us, row.received_us, row.p_value, row.quality),
        json.loads(row.faults),
    )
