"""Alarms and assets as people deal with them: lists, acknowledgement, shelving, out of service."""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from vigie.config import Settings
from vigie.errors import (
    AlarmNotFoundError,
    AlertNotFoundError,
    AssetNotFoundError,
    ConflictError,
    InvalidDataError,
)
from vigie.events.alarms import AlarmKeeper, Silenced, record
from vigie.events.keeping import EventKeeper
from vigie.events.load import load_of
from vigie.history.records import Pause, Seen, microseconds, time_of
from vigie.models.alarms import (
    Alarm,
    AlarmDetail,
    AlarmLoad,
    AlarmState,
    Alert,
    AlertState,
    Asset,
    AssetService,
    Change,
    Quality,
    Silence,
)
from vigie.models.anomaly_data import AssetState
from vigie.models.events import EventKind, Peak

if TYPE_CHECKING:
    from vigie.history.alarms import AlarmFilter, AlarmTable
    from vigie.history.events import Place
    from vigie.history.store import History

ID = re.compile(r"[0-9a-f]{1,32}")
LOAD_DAYS = 7
"""Days of the load of alarms, unless others are asked for."""


class AssetAlarms:
    """The alarms and assets of the history.

    Parameters
    ----------
    settings : Settings
        The rules of alarms.
    history : callable
        Returns the history; raises ``ConflictError`` if it is disabled.
    events : EventKeeper
        Knows when assets were last seen by this process.

    Raises
    ------
    ConflictError
        From every method, if there is no history.
    HistoryError
        From every method, if the database fails.
    """

    def __init__(self, settings: Settings, history: Callable[[], History], events: EventKeeper):
        self._settings, self._history, self._events = settings, history, events
        self.keeper = AlarmKeeper(settings)

    @property
    def table(self) -> AlarmTable:
        """The tables of alarms."""
        from vigie.history.alarms import AlarmTable

        return AlarmTable(self._history())

    def newest(
        self, asked: AlarmFilter, limit: int, after: Place | None = None
    ) -> tuple[list[Alarm], Place | None]:
        """Return alarms, the last to be raised first; see ``AlarmTable.newest``."""
        rows, more = (table := self.table).newest(asked, limit, after)
        pauses, now_us = table.pauses(), _now_us()
        return [self._alarm(row, pauses, now_us) for row in rows], more

    def get(self, number: str) -> AlarmDetail:
        """Return an alarm with all that changed on it.

        Raises
        ------
        AlarmNotFoundError
            If there is none.
        """
        table = self.table
        if (row := table.get(number) if ID.fullmatch(number) else None) is None:
            raise AlarmNotFoundError(
                f"There is no alarm {number[:100]!r}.",
                field="alarm_id",
                remedy="GET /api/v1/alarms lists them.",
            )
        alarm = self._alarm(row, table.pauses(), _now_us())
        return AlarmDetail(**dict(alarm), log=table.log(number))

    def acknowledge(self, number: str, by: str | None, note: str | None) -> AlarmDetail:
        """Record that somebody has seen an alarm; one that is acknowledged already stays so.

        Raises
        ------
        AlarmNotFoundError
            If there is none.
        """
        alarm = self.get(number)
        with self._history().transaction(alarm.asset_id, alarm.sensor_id) as transaction:
            found = transaction.execute("alarm", id=number).fetchone()
            if found is not None and found[4] is None:
                now_us = _now_us()
                transaction.execute("acknowledge", id=number, now_us=now_us, by_whom=by, note=note)
                record(transaction, number, Change.ACKNOWLEDGED, now_us, by, note)
                if found[2]:
                    self.keeper.alert(
                        *(transaction, number, alarm.kind, Change.ACKNOWLEDGED, now_us, by, note)
                    )
        return self.get(number)

    def shelve(self, number: str, for_s: float, reason: str, by: str | None) -> AlarmDetail:
        """Put an alarm aside for a time; so are others of its asset and kind meanwhile.

        Raises
        ------
        AlarmNotFoundError
            If there is none.
        InvalidDataError
            If the time is longer than the settings allow.
        """
        if for_s > self._settings.longest_shelf_s:
            raise InvalidDataError(
                f"An alarm may be shelved for {self._settings.longest_shelf_s:g} seconds at most.",
                field="for_s",
                remedy="Take the asset out of service, or raise VIGIE_LONGEST_SHELF_S.",
            )
        alarm, now_us = self.get(number), _now_us()
        group, until_us = alarm.sensor_id or "", now_us + round(for_s * 1e6)
        place = Silence.SHELVED.value, alarm.asset_id, group, alarm.kind.value
        self.table.pause(Pause(uuid.uuid4().hex, *place, now_us, until_us, reason, by))
        until = time_of(until_us).isoformat(timespec="seconds")
        self._record([alarm], Change.SHELVED, now_us, by, f"until {until}: {reason}")
        return self.get(number)

    def unshelve(self, number: str, by: str | None, note: str | None) -> AlarmDetail:
        """Take up an alarm that is shelved.

        Raises
        ------
        AlarmNotFoundError
            If there is none.
        ConflictError
            If it is not shelved.
        """
        alarm, now_us, table = self.get(number), _now_us(), self.table
        mine = [
            pause
            for pause in table.pauses()
            if pause.silence == Silence.SHELVED.value
            and pause.covers(alarm.asset_id, alarm.sensor_id or "", alarm.kind.value)
        ]
        if not any(table.end_pause(pause.id, now_us, by) for pause in mine):
            raise ConflictError(
                "The alarm is not shelved.", remedy="GET /api/v1/alarms/ID says why it is silent."
            )
        self._record([alarm], Change.UNSHELVED, now_us, by, note)
        return self.get(number)

    def take_out(
        self, asset_id: str, reason: str, until: datetime | None, by: str | None
    ) -> AssetService:
        """Take an asset, with all below its path, out of service: its alarms are silent.

        Raises
        ------
        AssetNotFoundError
            If no reading of it has come.
        InvalidDataError
            If the time is over already.
        """
        asset_id, now_us = asset_id.rstrip("/"), _now_us()
        until_us = None
        if until is not None:
            until = until.replace(tzinfo=UTC) if until.tzinfo is None else until
            until_us = microseconds(until)
            if until_us <= now_us:
                raise InvalidDataError(
                    "This time is over.",
                    field="until",
                    remedy="Give a later one, or none for as long as nobody says otherwise.",
                )
        self._require(asset_id)
        place = Silence.OUT_OF_SERVICE.value, asset_id, "", ""
        pause = Pause(uuid.uuid4().hex, *place, now_us, until_us, reason, by)
        self.table.pause(pause)
        self._record(self._active(asset_id), Change.OUT_OF_SERVICE, now_us, by, reason)
        return _service(asset_id, pause)

    def put_in(self, asset_id: str, by: str | None) -> AssetService:
        """Put an asset back into service.

        Raises
        ------
        ConflictError
            If it is in service, or out of it with a part of its path.
        """
        asset_id, now_us, table = asset_id.rstrip("/"), _now_us(), self.table
        out = [p for p in table.pauses() if p.silence == Silence.OUT_OF_SERVICE.value]
        mine = [pause for pause in out if pause.asset_id == asset_id]
        if not any(table.end_pause(pause.id, now_us, by) for pause in mine):
            above = [pause.asset_id for pause in out if pause.covers(asset_id, "", None)]
            raise ConflictError(
                f"{asset_id} is out of service with {above[0]}." if above else "It is in service.",
                remedy=f"Put {above[0]} back into service."
                if above
                else "GET /api/v1/assets says why its alarms are silent.",
            )
        self._record(self._active(asset_id), Change.IN_SERVICE, now_us, by, None)
        return _service(asset_id, None)

    def assets(
        self,
        asset: str | None,
        state: AssetState | None,
        limit: int,
        after: tuple[str, str] | None = None,
    ) -> tuple[list[Asset], tuple[str, str] | None]:
        """Return assets by their path, and the one after which there are more.

        Parameters
        ----------
        asset : str or None
            An asset, or the beginning of its path.
        state : AssetState or None
            Only those in this state.
        limit : int
            Most to return.
        after : (str, str), optional
            The last asset and group of the list before.
        """
        found = (table := self.table).states(asset, state, limit + 1, after)
        more = (
            (found[limit - 1].asset_id, found[limit - 1].sensor_id) if len(found) > limit else None
        )
        found, latest = found[:limit], self._events.latest()
        kinds = table.open_kinds({seen.asset_id for seen in found})
        pauses, now_us = table.pauses(), _now_us()
        return [self._asset(seen, latest, kinds, pauses, now_us) for seen in found], more

    def load(self, first: datetime | None, last: datetime | None, asset: str | None) -> AlarmLoad:
        """Return the load of alarms in a time, by default the last seven days.

        Raises
        ------
        InvalidDataError
            If the time ends before it begins.
        """
        last = last or datetime.now(UTC)
        first = first or last - timedelta(days=LOAD_DAYS)
        if first >= last:
            raise InvalidDataError(
                "The time ends before it begins.",
                field="to",
                remedy="Give a later end, or an earlier `from`.",
            )
        first_us, last_us = microseconds(first), microseconds(last)
        table = self.table
        alarms = table.raised_since(first_us, last_us, asset)
        n_assets = table.n_assets(first_us, asset)
        return load_of(alarms, first_us, last_us, n_assets, self._settings.alarm_load)

    def alerts(
        self, state: AlertState | None, limit: int, after: Place | None = None
    ) -> tuple[list[Alert], Place | None]:
        """Return what is told of alarms, the newest first; see ``AlertTable.newest``."""
        from vigie.history.alerts import AlertTable

        return AlertTable(self._history()).newest(state, limit, after)

    def retry(self, number: str) -> Alert:
        """Send a dead letter again.

        Raises
        ------
        AlertNotFoundError
            If it is none.
        """
        from vigie.history.alerts import AlertTable

        table = AlertTable(self._history())
        is_id = ID.fullmatch(number) is not None
        if is_id and table.retry(number, _now_us()) and (alert := table.get(number)) is not None:
            return alert
        raise AlertNotFoundError(
            f"There is no dead letter {number[:100]!r}.",
            field="alert_id",
            remedy="GET /api/v1/alerts?state=dead lists them.",
        )

    def alert_counts(self) -> dict[str, int]:
        """Return how many alerts are in which state."""
        from vigie.history.alerts import AlertTable

        return AlertTable(self._history()).counts()

    def counts(self) -> dict[tuple[str, bool], int]:
        """Return how many alarms are in which state and acknowledged; see ``AlarmTable.counts``."""
        return self.table.counts()

    def _require(self, asset_id: str) -> None:
        if "\0" in asset_id or not self.table.states(asset_id, None, 1, None):
            raise AssetNotFoundError(
                f"No reading of {asset_id[:200]!r} has come.",
                field="asset",
                remedy="GET /api/v1/assets lists those that have sent readings.",
            )

    def _active(self, asset_id: str) -> list[Alarm]:
        """Return the active alarms of an asset and of those below it."""
        table = self.table
        rows = [table.get(number) for number, _, _ in table.active(asset_id)]
        pauses, now_us = table.pauses(), _now_us()
        return [self._alarm(row, pauses, now_us) for row in rows if row is not None]

    def _record(
        self, alarms: Iterable[Alarm], change: Change, now_us: int, by: str | None, note: str | None
    ) -> None:
        for alarm in alarms:
            with self._history().transaction(alarm.asset_id, alarm.sensor_id) as transaction:
                record(transaction, alarm.id, change, now_us, by, note)

    def _alarm(self, row: Any, pauses: Iterable[Pause], now_us: int) -> Alarm:
        kind = EventKind(row.kind)
        silenced = self.keeper.silenced(pauses, row.asset_id, row.sensor_id, kind, now_us)
        return alarm_of(row, silenced)

    def _asset(
        self,
        seen: Seen,
        latest: Any,
        kinds: dict[tuple[str, str], list[EventKind]],
        pauses: Iterable[Pause],
        now_us: int,
    ) -> Asset:
        place = seen.asset_id, seen.sensor_id
        # What this process has seen is stored some moments later.
        newer: Seen = latest.get(place, seen)
        last = newer if newer.seen_us > seen.seen_us else seen
        open_kinds = kinds.get(place, [])
        quality = Quality.BAD if EventKind.NO_DATA in open_kinds else Quality(last.quality)
        silenced = self.keeper.silenced(pauses, *place, None, now_us)
        return Asset(
            asset_id=seen.asset_id,
            sensor_id=seen.sensor_id or None,
            state=seen.state,
            since=time_of(seen.since_us),
            last_seen=time_of(last.seen_us),
            last_received=time_of(last.received_us),
            quality=quality,
            faults=dict(last.faults),
            open_events=open_kinds,
            **_of_silence(silenced),
        )


def alarm_of(row: Any, silenced: Silenced | None) -> Alarm:
    """Return the alarm in a row of ``AlarmTable``."""
    return Alarm(
        id=row.id,
        event_id=row.event_id,
        asset_id=row.asset_id,
        sensor_id=row.sensor_id or None,
        kind=EventKind(row.kind),
        criticality=row.event_criticality,
        state=AlarmState(row.state),
        start=time_of(row.start_us),
        raised=time_of(row.raised_us),
        cleared=None if row.cleared_us is None else time_of(row.cleared_us),
        acknowledged=row.acknowledged_us is not None,
        acknowledged_at=None if row.acknowledged_us is None else time_of(row.acknowledged_us),
        acknowledged_by=row.acknowledged_by,
        note=row.note,
        peak=Peak(at=time_of(row.event_peak_us), p_value=row.event_peak_p),
        sensors=json.loads(row.event_sensors),
        **_of_silence(silenced),
    )


def _of_silence(silenced: Silenced | None) -> dict[str, Any]:
    if silenced is None:
        return {"silence": None, "silent_until": None, "silence_reason": None}
    return {
        "silence": silenced.silence,
        "silent_until": None if silenced.until_us is None else time_of(silenced.until_us),
        "silence_reason": silenced.reason,
    }


def _service(asset_id: str, pause: Pause | None) -> AssetService:
    return AssetService(
        asset_id=asset_id,
        out_of_service=pause is not None,
        since=pause and time_of(pause.from_us),
        until=time_of(pause.until_us) if pause and pause.until_us else None,
        reason=pause and pause.reason,
        by=pause and pause.by_whom,
    )


def _now_us() -> int:
    return time.time_ns() // 1000
