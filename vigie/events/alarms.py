"""Alarms: events that ask somebody to act, active or cleared, told of or silent.

Everything here runs in a transaction on the asset, so that the readings of the asset, the clock and
people take turns: an alarm is raised, cleared and told of once, whoever does it.

References
----------
ANSI/ISA-18.2. Management of alarm systems for the process industries: on-delay, off-delay,
deadband, shelving, out of service.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Collection, Iterable, Sequence
from math import inf
from typing import TYPE_CHECKING, NamedTuple

from vigie.alarm_rules import AlarmRule, Maintenance, first_fit
from vigie.config import Settings
from vigie.history.records import Pause, microseconds, time_of
from vigie.models.alarms import Change, Silence
from vigie.models.anomaly_data import CriticalityLevel
from vigie.models.events import EventKind

if TYPE_CHECKING:
    from vigie.history.store import AssetTransaction

ITSELF = "vigie"
"""Who has changed an alarm, if it was the service."""
EVERY_EVENT = AlarmRule()
"""The rule without any in the settings."""
LOOK_AGAIN_US = 1_000_000
"""How long after an alarm was held back by its deadband it is looked at again."""


class Begun(NamedTuple):
    """An event that has begun."""

    kind: EventKind
    id: str
    start_us: int
    criticality: CriticalityLevel | None


class Silenced(NamedTuple):
    """Why nobody is told of an alarm, and until when; None as the end if somebody must end it."""

    silence: Silence
    until_us: int | None
    reason: str


class AlarmKeeper:
    """Raise and clear the alarms of events, as the settings say.

    Parameters
    ----------
    settings : Settings
        The rules, and when assets are serviced.
    """

    def __init__(self, settings: Settings):
        self._rules, self._maintenance = settings.alarms, settings.maintenance
        self._channels, self._routes = tuple(settings.alert_channels), settings.alert_routes
        self._group_us = round(settings.alert_group_s * 1e6)
        self._max_age_us = round(settings.alert_max_age_s * 1e6)

    def rule(self, asset_id: str) -> AlarmRule:
        """Return the rule for an asset."""
        return first_fit(self._rules, asset_id) or EVERY_EVENT

    @property
    def watches_silence(self) -> bool:
        """Whether there are assets of which no readings for long is an event."""
        return any(rule.no_data_after_s is not None for rule in self._rules)

    @property
    def least_silence_us(self) -> int:
        """The shortest time without a reading that is an event of any asset, in microseconds."""
        return round(1e6 * min(rule.no_data_after_s or inf for rule in self._rules))

    def silence_us(self, asset_id: str) -> int | None:
        """Return how long without a reading is an event of an asset; None if it is never."""
        limit_s = self.rule(asset_id).no_data_after_s
        return None if limit_s is None else round(limit_s * 1e6)

    def begun(self, transaction: AssetTransaction, event: Begun) -> None:
        """Raise the alarm of an event that has begun, or wait until its on-delay is over."""
        rule = self.rule(transaction.asset_id)
        if event.kind.value not in rule.kinds:
            return
        now_us, kind = _now_us(), event.kind.value
        if (live := transaction.execute("live alarm", kind=kind).fetchone()) is not None:
            transaction.execute("go on with alarm", id=live[0], event_id=event.id)
            record(transaction, live[0], Change.RETURNED, now_us)
            return
        delay_us, number = round(rule.on_delay_s * 1e6), uuid.uuid4().hex
        transaction.execute(
            "raise alarm",
            id=number,
            event_id=event.id,
            kind=kind,
            state="pending" if delay_us else "active",
            start_us=event.start_us,
            raised_us=now_us,
            due_us=now_us + delay_us if delay_us else None,
            is_told=False,
        )
        if not delay_us:
            self._raised(transaction, number, event.kind, now_us)

    def ended(self, transaction: AssetTransaction, kind: EventKind) -> None:
        """Clear the alarm of an event that has ended, or wait until its off-delay is over."""
        live = transaction.execute("live alarm", kind=kind.value).fetchone()
        if live is None:
            return
        number, state, is_told = live
        if state == "pending":
            transaction.execute("forget alarm", id=number)
            return
        rule, now_us = self.rule(transaction.asset_id), _now_us()
        if rule.off_delay_s or rule.deadband_p:
            due_us = now_us + round(rule.off_delay_s * 1e6)
            transaction.execute("delay alarm", id=number, due_us=due_us)
        else:
            self._cleared(transaction, number, kind, now_us, is_told=is_told)

    def due(self, transaction: AssetTransaction, number: str) -> None:
        """Do what the time has come for on an alarm: raise it, clear it, or tell of it."""
        found, now_us = transaction.execute("alarm", id=number).fetchone(), _now_us()
        if found is None:
            return
        state, due_us, is_told, kind = found[0], found[1], found[2], EventKind(found[3])
        is_due = due_us is not None and due_us <= now_us
        if state == "pending" and is_due:
            transaction.execute("activate alarm", id=number, now_us=now_us)
            self._raised(transaction, number, kind, now_us)
        elif state == "active" and is_due:
            limit = self.rule(transaction.asset_id).deadband_p
            seen = transaction.execute("p-value").fetchone()
            if limit and seen is not None and seen[0] is not None and seen[0] < limit:
                transaction.execute("delay alarm", id=number, due_us=now_us + LOOK_AGAIN_US)
            else:
                self._cleared(transaction, number, kind, now_us, is_told=is_told)
        elif state == "active" and not is_told:
            self._tell(transaction, number, kind, now_us)

    def worsened(
        self,
        transaction: AssetTransaction,
        kind: EventKind,
        before: CriticalityLevel | None,
    ) -> None:
        """Tell those of an alarm whom its criticality was too low for until now.

        Parameters
        ----------
        transaction : AssetTransaction
            The transaction.
        kind : EventKind
            Of the event, whose criticality has risen.
        before : CriticalityLevel or None
            The criticality that it had.
        """
        if not any(route.at_least for route in self._routes):
            return
        live = transaction.execute("live alarm", kind=kind.value).fetchone()
        if live is not None and live[1] == "active" and live[2]:
            self.alert(transaction, live[0], kind, Change.RAISED, _now_us(), not_again=(before,))

    def alert(
        self,
        transaction: AssetTransaction,
        number: str,
        kind: EventKind,
        change: Change,
        now_us: int,
        by: str | None = ITSELF,
        note: str | None = None,
        *,
        not_again: Collection[str | None] = (),
    ) -> None:
        """Put what is to be told of a change of an alarm into the outbox.

        Parameters
        ----------
        transaction : AssetTransaction
            The transaction of the change.
        number, kind
            Of the alarm.
        change, now_us, by, note
            What changed, when, who changed it, and why.
        not_again : collection of str or None
            Criticalities: channels that were told at one of them are not told again.
        """
        if not self._channels:
            return
        level, raised_us, start_us = transaction.execute("level", id=number).fetchone()
        if raised_us - start_us > self._max_age_us:
            return
        told = {
            channel
            for earlier in not_again
            for channel in self._told(transaction.asset_id, kind, earlier, change, now_us)
        }
        for channel in self._told(transaction.asset_id, kind, level, change, now_us):
            if channel not in told:
                transaction.execute(
                    "alert",
                    id=uuid.uuid4().hex,
                    channel=channel,
                    alarm_id=number,
                    change=change.value,
                    now_us=now_us,
                    by_whom=by,
                    note=note,
                    due_us=now_us + self._group_us,
                )

    def _told(
        self, asset_id: str, kind: EventKind, level: str | None, change: Change, now_us: int
    ) -> list[str]:
        """Return the channels that are told of a change."""
        if not self._routes:
            return list(self._channels) if change in (Change.RAISED, Change.CLEARED) else []
        moment = time_of(now_us)
        found = [
            channel
            for route in self._routes
            if route.takes(asset_id, kind.value, level, change.value, moment)
            for channel in route.channels
        ]
        return list(dict.fromkeys(found))

    def silenced(
        self,
        pauses: Iterable[Pause],
        asset_id: str,
        sensor_id: str,
        kind: EventKind | None,
        now_us: int,
    ) -> Silenced | None:
        """Return why nobody is told of an alarm; None if somebody is.

        Parameters
        ----------
        pauses : iterable of Pause
            Those that have not ended.
        asset_id, sensor_id, kind
            Of the alarm; None as the kind for all alarms of the asset.
        now_us : int
            Now, in microseconds since 1970.
        """
        found = [
            pause
            for pause in pauses
            if pause.covers(asset_id, sensor_id, kind and kind.value)
            and (pause.until_us is None or pause.until_us > now_us)
        ]
        # Out of service first: it says most.
        for silence in (Silence.OUT_OF_SERVICE, Silence.SHELVED):
            for pause in found:
                if pause.silence == silence.value:
                    return Silenced(silence, pause.until_us, pause.reason)
        return _serviced(self._maintenance, asset_id, now_us)

    def _raised(
        self, transaction: AssetTransaction, number: str, kind: EventKind, now_us: int
    ) -> None:
        """Record that an alarm was raised, and tell of it unless it is silent."""
        silent = self._tell(transaction, number, kind, now_us)
        note = None if silent is None else f"silent: {silent.silence.value} ({silent.reason})"
        record(transaction, number, Change.RAISED, now_us, note=note)

    def _tell(
        self, transaction: AssetTransaction, number: str, kind: EventKind, now_us: int
    ) -> Silenced | None:
        """Tell of an alarm that was raised, unless it is silent; return why it is."""
        pauses = map(Pause._make, transaction.execute("pauses").fetchall())
        group = transaction.sensor_id or ""
        silent = self.silenced(pauses, transaction.asset_id, group, kind, now_us)
        if silent is None:
            transaction.execute("told", id=number, is_told=True)
            self.alert(transaction, number, kind, Change.RAISED, now_us)
        return silent

    def _cleared(
        self,
        transaction: AssetTransaction,
        number: str,
        kind: EventKind,
        now_us: int,
        *,
        is_told: bool,
    ) -> None:
        """Clear an alarm."""
        transaction.execute("clear alarm", id=number, now_us=now_us)
        record(transaction, number, Change.CLEARED, now_us)
        if is_told:
            self.alert(transaction, number, kind, Change.CLEARED, now_us)


def record(
    transaction: AssetTransaction,
    number: str,
    change: Change,
    now_us: int,
    by: str | None = ITSELF,
    note: str | None = None,
) -> None:
    """Record a change of an alarm, who has made it, and why."""
    transaction.execute(
        "change", alarm_id=number, now_us=now_us, change=change.value, by_whom=by, note=note
    )


def _serviced(windows: Sequence[Maintenance], asset_id: str, now_us: int) -> Silenced | None:
    """Return the window in which an asset is serviced now; None if it is not."""
    now = time_of(now_us)
    for window in windows:
        if window.fits(asset_id) and (end := window.ends(now)) is not None:
            return Silenced(Silence.MAINTENANCE, microseconds(end), window.reason)
    return None


def _now_us() -> int:
    return time.time_ns() // 1000
