"""What alarms need without a reading: delays that are over, silence of assets, shelves that end.

One thread of the service looks once a second. All replicas do: what one has done, the others find
done, since each change is a transaction on its asset.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING

from vigie.errors import HistoryError
from vigie.events.alarms import ITSELF, AlarmKeeper, Begun, record
from vigie.events.keeping import EventKeeper
from vigie.models.alarms import Change, Silence
from vigie.models.events import EventKind

if TYPE_CHECKING:
    from vigie.history.alarms import AlarmTable
    from vigie.history.store import History

logger = logging.getLogger(__name__)

PERIOD_S = 1.0
CLOSE_TIMEOUT_S = 2.0
"""Limit of the wait for a hung database when the service ends."""


class AlarmClock:
    """Do what the time has come for, in the background, until closed.

    Parameters
    ----------
    history : callable
        Returns the history.
    events : EventKeeper
        Knows when assets were last seen.
    alarms : AlarmKeeper
        The rules of alarms.
    """

    def __init__(self, history: Callable[[], History], events: EventKeeper, alarms: AlarmKeeper):
        self._history, self._events, self._alarms = history, events, alarms
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None
        self._has_failed = False

    def start(self) -> None:
        """Begin, unless it runs."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="alarm-clock", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Stop after what is under way, and store when assets were last seen."""
        self._closed.set()
        if self._thread is not None:
            self._thread.join(CLOSE_TIMEOUT_S)
        self._try(self._note_seen)

    def tick(self) -> None:
        """Do what the time has come for.

        Raises
        ------
        HistoryError
            If the database fails.
        """
        self._note_seen()
        table, now_us = self._table(), _now_us()
        if self._alarms.watches_silence:
            self._watch_silence(table, now_us)
        for pause in table.pauses():
            if pause.until_us is not None and pause.until_us <= now_us:
                self._end_pause(table, pause.id, pause.silence, pause.asset_id, pause.kind)
        for number, asset_id, sensor_id in table.due(now_us):
            with self._history().transaction(asset_id, sensor_id or None) as transaction:
                self._alarms.due(transaction, number)

    def _run(self) -> None:
        while not self._closed.wait(PERIOD_S):
            self._try(self.tick)

    def _try(self, what: Callable[[], None]) -> None:
        try:
            what()
            self._has_failed = False
        except HistoryError as error:
            if not self._has_failed:
                logger.error("Alarms are not kept up to date. %s", error)
            self._has_failed = True
        except Exception:
            # One failure must not end the thread.
            logger.exception("Alarms could not be kept up to date.")

    def _table(self) -> AlarmTable:
        from vigie.history.alarms import AlarmTable

        return AlarmTable(self._history())

    def _note_seen(self) -> None:
        if not (seen := self._events.take_seen()):
            return
        try:
            self._table().note_seen(seen)
        except HistoryError:
            self._events.give_back(seen)
            raise

    def _watch_silence(self, table: AlarmTable, now_us: int) -> None:
        """Begin and end the events of assets without readings."""
        for asset_id, sensor_id, received_us in table.silent(
            now_us - self._alarms.least_silence_us
        ):
            limit_us = self._alarms.silence_us(asset_id)
            if limit_us is not None and received_us < now_us - limit_us:
                self._begin_silence(asset_id, sensor_id, now_us - limit_us)
        for asset_id, sensor_id in table.heard_again():
            with self._history().transaction(asset_id, sensor_id or None) as transaction:
                seen_us, _ = transaction.execute("received").fetchone()
                if transaction.execute("end silence", end_us=seen_us).rowcount:
                    self._alarms.ended(transaction, EventKind.NO_DATA)

    def _begin_silence(self, asset_id: str, sensor_id: str, before_us: int) -> None:
        with self._history().transaction(asset_id, sensor_id or None) as transaction:
            seen_us, received_us = transaction.execute("received").fetchone()
            if received_us >= before_us:
                return
            event = Begun(EventKind.NO_DATA, uuid.uuid4().hex, seen_us, None)
            if transaction.execute("begin silence", id=event.id, start_us=seen_us).rowcount:
                self._alarms.begun(transaction, event)

    def _end_pause(
        self, table: AlarmTable, number: str, silence: str, asset_id: str, kind: str
    ) -> None:
        """End a pause whose time is over, and record that on the alarms that it was about."""
        now_us = _now_us()
        if not table.end_pause(number, now_us, ITSELF):
            return
        is_shelf = silence == Silence.SHELVED.value
        change = Change.UNSHELVED if is_shelf else Change.IN_SERVICE
        for alarm, asset, sensor_id in table.active(asset_id):
            with self._history().transaction(asset, sensor_id or None) as transaction:
                found = transaction.execute("alarm", id=alarm).fetchone()
                if not is_shelf or (asset == asset_id and found and found[3] == kind):
                    record(transaction, alarm, change, now_us, note="its time is over")


def _now_us() -> int:
    return time.time_ns() // 1000
