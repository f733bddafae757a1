"""Alerts in the history's database: an outbox, from which one sender at a time takes.

A sender leases what it sends. If it is killed, the lease runs out, and the same message is sent
again under the same id: at least once.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    func,
    select,
    tuple_,
    update,
)
from sqlalchemy import delete as delete_from

from vigie.history.events import Place
from vigie.history.records import microseconds, time_of
from vigie.history.store import History
from vigie.models.alarms import Alert, AlertState, Change

ALERTS = Table(
    "alarm_alerts",
    MetaData(),
    Column("id", String(32), primary_key=True),
    Column("channel", Text),
    Column("alarm_id", String(32)),
    Column("change", String(32)),
    Column("at_us", BigInteger),
    Column("by_whom", Text),
    Column("note", Text),
    Column("state", String(16)),
    Column("due_us", BigInteger),
    Column("leased_until_us", BigInteger),
    Column("message_id", String(32)),
    Column("attempts", Integer),
    Column("error", Text),
)
MOST_AT_ONCE = 500
"""Alerts of one message."""
WAITING = AlertState.WAITING.value


@dataclass(frozen=True, slots=True)
class Taken:
    """Alerts that are sent as one message.

    Attributes
    ----------
    message_id : str
        The id of the message, the same in each attempt.
    attempts : int
        How often it has been tried before.
    rows : sequence
        The alerts, oldest first.
    """

    message_id: str
    attempts: int
    rows: Sequence[Any]


class AlertTable:
    """The table of alerts.

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

    def take(self, channel: str, now_us: int, lease_us: int, group_from: int) -> Taken | None:
        """Lease the next message of a channel; None if none is due.

        Parameters
        ----------
        channel : str
            The channel.
        now_us : int
            Now, in microseconds since 1970.
        lease_us : int
            For how long nobody else takes it.
        group_from : int
            So many alerts that wait together are one message.
        """
        columns = ALERTS.c
        is_free = (columns.channel == channel) & (columns.state == WAITING)
        is_free &= columns.leased_until_us < now_us
        due = select(ALERTS).where(is_free, columns.due_us <= now_us)
        with self._history.connection(writes=False) as connection:
            if connection.execute(due.limit(1)).first() is None:
                return None
        with self._history.connection() as connection:
            # On a server, others do not wait for rows that somebody takes, but pass them over.
            query = due.order_by(columns.due_us, columns.id).limit(1)
            first = connection.execute(query.with_for_update(skip_locked=True)).first()
            if first is None:
                return None
            together = select(ALERTS).where(is_free).order_by(columns.at_us, columns.id)
            if first.message_id is not None:
                query = together.where(columns.message_id == first.message_id)
            else:
                query = together.where(columns.message_id.is_(None)).limit(MOST_AT_ONCE)
            rows = connection.execute(query.with_for_update(skip_locked=True)).all()
            if first.message_id is None and len(rows) < group_from:
                rows = [row for row in rows if row.id == first.id]
            number = first.message_id or (first.id if len(rows) == 1 else uuid.uuid4().hex)
            taken = update(ALERTS).where(columns.id.in_([row.id for row in rows]))
            connection.execute(taken.values(leased_until_us=now_us + lease_us, message_id=number))
        return Taken(number, first.attempts, rows)

    def settle(self, ids: Sequence[str], state: AlertState, error: str | None = None) -> None:
        """Store what came of alerts in the end."""
        values = {"state": state.value, "error": error, "attempts": ALERTS.c.attempts + 1}
        with self._history.connection() as connection:
            connection.execute(update(ALERTS).where(ALERTS.c.id.in_(list(ids))).values(values))

    def postpone(self, ids: Sequence[str], due_us: int, error: str) -> None:
        """Store that alerts could not be sent, and when they are tried again."""
        values = {"due_us": due_us, "leased_until_us": 0, "error": error}
        values["attempts"] = ALERTS.c.attempts + 1
        with self._history.connection() as connection:
            connection.execute(update(ALERTS).where(ALERTS.c.id.in_(list(ids))).values(values))

    def retry(self, number: str, now_us: int) -> bool:
        """Send a dead letter again; return whether there is one."""
        values = {"state": WAITING, "due_us": now_us, "leased_until_us": 0, "attempts": 0}
        is_dead = (ALERTS.c.id == number) & (ALERTS.c.state == AlertState.DEAD.value)
        with self._history.connection() as connection:
            return bool(connection.execute(update(ALERTS).where(is_dead).values(values)).rowcount)

    def has_told(self, alarm: str) -> bool:
        """Return whether anybody was told, or will be, that an alarm was raised."""
        is_told = ALERTS.c.state.in_([AlertState.SENT.value, AlertState.WAITING.value])
        is_raised = ALERTS.c.change == Change.RAISED.value
        query = select(ALERTS.c.id).where(ALERTS.c.alarm_id == alarm, is_raised, is_told)
        with self._history.connection(writes=False) as connection:
            return connection.execute(query.limit(1)).first() is not None

    def get(self, number: str) -> Alert | None:
        """Return an alert; None if there is none."""
        with self._history.connection(writes=False) as connection:
            row = connection.execute(select(ALERTS).where(ALERTS.c.id == number)).first()
        return None if row is None else _alert(row)

    def newest(
        self, state: AlertState | None, limit: int, after: Place | None = None
    ) -> tuple[list[Alert], Place | None]:
        """Return alerts, the newest first, and the place after which there are more."""
        columns = ALERTS.c
        query = select(ALERTS).order_by(columns.at_us.desc(), columns.id.desc()).limit(limit + 1)
        if state is not None:
            query = query.where(columns.state == state.value)
        if after is not None:
            query = query.where(tuple_(columns.at_us, columns.id) < after)
        with self._history.connection(writes=False) as connection:
            rows = connection.execute(query).all()
        more = (rows[limit - 1].at_us, rows[limit - 1].id) if len(rows) > limit else None
        return [_alert(row) for row in rows[:limit]], more

    def counts(self) -> dict[str, int]:
        """Return how many alerts are in which state."""
        query = select(ALERTS.c.state, func.count().label("n")).group_by(ALERTS.c.state)
        with self._history.connection(writes=False) as connection:
            return {row.state: row.n for row in connection.execute(query)}

    def forget(self, before: datetime) -> int:
        """Delete what was sent before a time; return how many."""
        is_over = ALERTS.c.state.in_([AlertState.SENT.value, AlertState.SILENT.value])
        is_old = ALERTS.c.at_us < microseconds(before)
        with self._history.connection() as connection:
            return connection.execute(delete_from(ALERTS).where(is_over & is_old)).rowcount


def _alert(row: Any) -> Alert:
    return Alert(
        id=row.id,
        channel=row.channel,
        alarm_id=row.alarm_id,
        change=Change(row.change),
        at=time_of(row.at_us),
        state=AlertState(row.state),
        due=time_of(row.due_us) if row.state == WAITING else None,
        attempts=row.attempts,
        message_id=row.message_id,
        error=row.error,
    )
