"""Send alerts: at least once, again after longer and longer pauses, and at last to a dead letter.

Of each channel a thread of its own takes what is due, so that a receiver that is down holds up no
other. Threads of several replicas take turns by leases in the database.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from vigie.alarm_rules import Channel
from vigie.alerts.delivery import deliver
from vigie.alerts.message import Notice, message_of
from vigie.config import Settings, masked
from vigie.errors import AlarmNotFoundError, AlertError, HistoryError
from vigie.history.records import time_of
from vigie.models.alarms import AlertState, Change

if TYPE_CHECKING:
    from vigie.history.alerts import AlertTable, Taken
    from vigie.history.store import History
    from vigie.services.asset_alarms import AssetAlarms

logger = logging.getLogger(__name__)

PERIOD_S = 1.0
LEASE_S = 60.0
"""Far longer than an attempt takes, at most."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 5.0, 3600.0
"""Before the second attempt; each further pause is twice as long, up to the longest."""
MOST_ATTEMPTS = 16
"""About seven hours; then an alert is a dead letter."""
CLOSE_TIMEOUT_S = 2.0
KEPT = timedelta(days=30)
"""How long what was sent is kept."""
FORGET_EVERY_S = 3600.0


class AlertSender:
    """Send what waits, in the background, until closed.

    Parameters
    ----------
    settings : Settings
        The channels.
    history : callable
        Returns the history.
    alarms : AssetAlarms
        Knows what the alarms are now.
    """

    def __init__(self, settings: Settings, history: Callable[[], History], alarms: AssetAlarms):
        self._settings, self._history, self._alarms = settings, history, alarms
        self._closed = threading.Event()
        self._threads: list[threading.Thread] = []
        self._forgets_after = 0.0

    def start(self) -> None:
        """Begin, unless it runs; without channels there is nothing to do."""
        if self._threads:
            return
        for name in self._settings.alert_channels:
            thread = threading.Thread(target=self._run, args=(name,), name=f"alerts-{name}")
            thread.daemon = True
            self._threads.append(thread)
            thread.start()

    def close(self) -> None:
        """Stop after the message that is under way."""
        self._closed.set()
        for thread in self._threads:
            thread.join(CLOSE_TIMEOUT_S)

    def send_due(self, name: str) -> int:
        """Send what is due by a channel; return how many messages were tried.

        Raises
        ------
        HistoryError
            If the database fails.
        """
        channel, group_from = self._settings.alert_channels[name], self._settings.alert_group_from
        table, n_tried = self._table(), 0
        while not self._closed.is_set():
            taken = table.take(name, time.time_ns() // 1000, round(LEASE_S * 1e6), group_from)
            if taken is None:
                break
            n_tried += 1
            self._send(table, name, channel, taken)
        return n_tried

    def _run(self, name: str) -> None:
        has_failed = False
        while not self._closed.wait(PERIOD_S):
            try:
                self.send_due(name)
                self._forget()
                has_failed = False
            except HistoryError as error:
                if not has_failed:
                    logger.error("Alerts of the channel %s are not sent. %s", name, error)
                has_failed = True
            except Exception:
                # One failure must not end the thread.
                logger.exception("Alerts of the channel %s could not be sent.", name)

    def _send(self, table: AlertTable, name: str, channel: Channel, taken: Taken) -> None:
        notices, unwanted = self._notices(taken.rows)
        if unwanted:
            table.settle([row.id for row in unwanted], AlertState.SILENT)
            self._tell_later(table, unwanted)
        if not notices:
            return
        ids = [notice.id for notice in notices]
        try:
            deliver(channel, message_of(taken.message_id, notices))
        except AlertError as error:
            failure = error
        except Exception as error:
            # Whatever a library makes of an odd address or answer is a failure as any other.
            logger.debug("The channel %s fails.", name, exc_info=True)
            failure = AlertError(f"It cannot be sent: {type(error).__name__}: {error}.")
        else:
            table.settle(ids, AlertState.SENT)
            return
        told = masked(str(failure))
        if failure.is_final or taken.attempts + 1 >= MOST_ATTEMPTS:
            logger.error("An alert of the channel %s is a dead letter. %s", name, told)
            table.settle(ids, AlertState.DEAD, told)
            return
        pause_s = _pause_s(taken.attempts, failure.retry_after_s)
        logger.warning(
            "An alert of the channel %s is tried again in %.0f s. %s", name, pause_s, told
        )
        table.postpone(ids, time.time_ns() // 1000 + round(pause_s * 1e6), told)

    def _tell_later(self, table: AlertTable, rows: Sequence[Any]) -> None:
        """Let alarms that have become silent before anybody was told be told when that ends."""
        for number in {row.alarm_id for row in rows if row.change == Change.RAISED.value}:
            with suppress(AlarmNotFoundError):
                alarm = self._alarms.get(number)
                if not table.has_told(number):
                    with self._history().transaction(alarm.asset_id, alarm.sensor_id) as found:
                        found.execute("told", id=number, is_told=False)

    def _notices(self, rows: Sequence[Any]) -> tuple[list[Notice], list[Any]]:
        """Return what is to be told, and the rows of alerts of alarms that are silent by now."""
        notices, unwanted = [], []
        for row in rows:
            try:
                alarm = self._alarms.get(row.alarm_id)
            except AlarmNotFoundError:
                unwanted.append(row)
                continue
            if alarm.silence is not None:
                unwanted.append(row)
                continue
            at = time_of(row.at_us)
            notices.append(Notice(row.id, Change(row.change), at, row.by_whom, row.note, alarm))
        return notices, unwanted

    def _forget(self) -> None:
        if time.monotonic() >= self._forgets_after:
            self._forgets_after = time.monotonic() + FORGET_EVERY_S
            self._table().forget(datetime.now(UTC) - KEPT)

    def _table(self) -> AlertTable:
        from vigie.history.alerts import AlertTable

        return AlertTable(self._history())


def _pause_s(attempts: int, asked_s: float | None) -> float:
    """Return the pause after an attempt, in seconds; with jitter, so that not all come at once."""
    pause = min(FIRST_PAUSE_S * 2.0**attempts, LONGEST_PAUSE_S) * random.uniform(0.8, 1.2)
    return max(pause, min(asked_s or 0.0, LONGEST_PAUSE_S))
