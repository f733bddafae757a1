"""Keep the events of live readings: made by the change of an asset's state.

``EventKeeper.keep`` runs in the transaction that keeps the readings, so that there is no event
without its reading, and none twice. Late readings and those that are sent again are no event of
today. A reading that changes nothing costs no statement: when an asset was last seen is noted in
memory, and stored every few seconds for all assets at once.
"""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections import Counter
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from math import isnan
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from vigie.assessment.assessment import Assessment, criticality
from vigie.assessment.one_each import OneEach
from vigie.assessment.status import STATES
from vigie.detectors.trained import direction
from vigie.events.alarms import AlarmKeeper, Begun
from vigie.events.gathering import TOLD, VALUED
from vigie.history.records import Seen
from vigie.models.anomaly_data import AssetState, SensorContribution
from vigie.models.events import EventKind, EventSensor

if TYPE_CHECKING:
    from vigie.history.records import Reading
    from vigie.history.store import AssetTransaction

FIRST_TOLD = STATES.index(TOLD[0])
"""The states from here on are events."""


class Versioned(Protocol):
    """A model that answers."""

    @property
    def version(self) -> int | None: ...


@dataclass(frozen=True, slots=True)
class Judged:
    """Readings of one asset that were just judged, before they are stored.

    Attributes
    ----------
    assessment : Assessment or OneEach
        Of these readings, and of others: stored ones in between, or those of other assets.
    rows : sequence of int
        The rows of the assessment that these readings have, one for each time, ascending.
    records : sequence of Reading
        As they will be stored, in the same order.
    replaced : container of datetime
        The times of stored readings that they replace by other values.
    is_newest : bool
        Whether all stored readings are before them.
    served : mapping of str to Versioned
        The models that serve.
    """

    assessment: Assessment | OneEach
    rows: Sequence[int]
    records: Sequence[Reading]
    replaced: Container[datetime]
    is_newest: bool
    served: Mapping[str, Versioned]


class EventKeeper:
    """Keep the events and the states of assets; thread-safe.

    Parameters
    ----------
    alarms : AlarmKeeper
        Told of each event that begins or ends.

    Attributes
    ----------
    begun : Counter
        How many events of each kind have begun here.
    """

    def __init__(self, alarms: AlarmKeeper):
        self._alarms = alarms
        self.begun: Counter[EventKind] = Counter()
        self._seen: dict[tuple[str, str], Seen] = {}
        self._lock = threading.Lock()

    def keep(self, transaction: AssetTransaction, judged: Judged) -> None:
        """Keep what readings change; call it before they are stored, in their transaction.

        Raises
        ------
        Exception
            Of the driver, if the database fails.
        """
        assessment, rows = judged.assessment, judged.rows
        if not judged.is_newest:
            rows = _of_today(transaction, judged)
            if not rows:
                return
        last, before = int(assessment.states[rows[-1]]), assessment.before(rows[0])
        is_same = before is not None and STATES[last] is before.state
        if is_same and len(rows) > 1:
            is_same = not (assessment.states[rows] != last).any()
        # Before a late reading, the state was that of then.
        is_same = is_same and judged.is_newest
        if last >= FIRST_TOLD or not is_same:
            self._keep_events(transaction, judged, rows)
        seen = _seen(transaction, judged, rows[-1])
        if is_same:
            with self._lock:
                self._seen[seen.asset_id, seen.sensor_id] = seen
        else:
            transaction.execute("state", **seen.values())

    def take_seen(self) -> list[Seen]:
        """Return when assets were last seen, and forget it."""
        with self._lock:
            seen, self._seen = self._seen, {}
        return list(seen.values())

    def give_back(self, seen: Sequence[Seen]) -> None:
        """Remember again what could not be stored, unless assets were seen since."""
        with self._lock:
            for one in seen:
                self._seen.setdefault((one.asset_id, one.sensor_id), one)

    def latest(self) -> Mapping[tuple[str, str], Seen]:
        """Return when assets were last seen, as far as it is not stored yet."""
        with self._lock:
            return dict(self._seen)

    def _keep_events(
        self, transaction: AssetTransaction, judged: Judged, rows: Sequence[int]
    ) -> None:
        states = judged.assessment.states[rows]
        changes = (np.flatnonzero(np.diff(states)) + 1).tolist() if len(rows) > 1 else []
        starts = [0, *changes, len(rows)]
        is_known_to_go_on, opened = False, None
        for first, stop in pairwise(starts):
            state, stretch = STATES[states[first]], rows[first:stop]
            if state in TOLD and self._go_on(transaction, judged, state, stretch):
                is_known_to_go_on = True
                continue
            if first == 0 or is_known_to_go_on:
                opened = transaction.execute("open event").fetchone()
            is_known_to_go_on = False
            if opened is not None:
                transaction.execute("end event", id=opened[0])
                self._alarms.ended(transaction, EventKind(opened[1]))
                opened = None
            if state in TOLD:
                begun = _begin(transaction, judged, state, stretch)
                self._alarms.begun(transaction, begun)
                with self._lock:
                    self.begun[begun.kind] += 1
                is_known_to_go_on = True

    def _go_on(
        self, transaction: AssetTransaction, judged: Judged, state: AssetState, rows: Sequence[int]
    ) -> bool:
        """Add rows to the open event of a state; return whether there is one."""
        stretch = _Stretch.of(judged.assessment, rows)
        found = transaction.execute(
            "go on", kind=state.value, last_us=stretch.last_us, **stretch.counts
        ).fetchone()
        if found is None:
            return False
        number, _, peak_p, reading_p = found
        if stretch.peak_p < peak_p:
            sensors = _sensors(judged.assessment, state, stretch.peak)
            at_peak = {"peak_us": stretch.peak_us, "peak_p": stretch.peak_p}
            transaction.execute("new peak", id=number, sensors=sensors, **at_peak)
        if stretch.reading_p < reading_p:
            level = criticality(stretch.reading_p, judged.assessment.contamination)
            transaction.execute(
                "rarest reading", id=number, reading_p=stretch.reading_p, criticality=level
            )
            before = criticality(reading_p, judged.assessment.contamination)
            if level != before:
                self._alarms.worsened(transaction, EventKind(state.value), before)
        return True


def _of_today(transaction: AssetTransaction, judged: Judged) -> Sequence[int]:
    """Return the rows after all that is stored, and one that replaces the last of that."""
    newest = transaction.revision(1).newest
    keys = list(dict.fromkeys(record.timestamp for record in judged.records))
    return [
        row
        for row, key in zip(judged.rows, keys, strict=True)
        if newest is None or key > newest or (key == newest and key in judged.replaced)
    ]


def _seen(transaction: AssetTransaction, judged: Judged, row: int) -> Seen:
    """Return the state of the asset after a row, and what is wrong with its sensors."""
    assessment = judged.assessment
    status, p_value = assessment.status(row), assessment.asset_p_values.item(row)
    faults: dict[str, str] = {}
    rows, frozen = assessment.rows, assessment.frozen[row]
    if rows.usable is not rows.values and np.isnan(rows.usable[row]).any():
        # Rows in another order have lost what is wrong with them.
        faults |= rows.sensors.examine(rows.values[row : row + 1]).unusable(0)
    if frozen.any():
        faults |= dict.fromkeys(np.compress(frozen, rows.sensors.names).tolist(), "frozen")
    quality = "good"
    if status.state is AssetState.BAD_DATA:
        quality = "bad"
    elif faults:
        quality = "uncertain"
    return Seen(
        transaction.asset_id,
        transaction.sensor_id or "",
        status.state,
        _us(status.since),
        _us(assessment.times[row]),
        time.time_ns() // 1000,
        None if isnan(p_value) else p_value,
        quality,
        faults,
    )


def _begin(
    transaction: AssetTransaction, judged: Judged, state: AssetState, rows: Sequence[int]
) -> Begun:
    """Begin an event with rows in one state."""
    assessment = judged.assessment
    stretch, status = _Stretch.of(assessment, rows), assessment.status(rows[0])
    versions = {
        name: served.version
        for name, served in judged.served.items()
        if not isnan(assessment.by_model[name].item(rows[0]))
    }
    level = criticality(stretch.reading_p, assessment.contamination)
    begun = Begun(EventKind(state.value), uuid.uuid4().hex, _us(status.since), level)
    transaction.execute(
        "begin event",
        id=begun.id,
        kind=begun.kind.value,
        start_us=begun.start_us,
        began_us=None if status.began is None else _us(status.began),
        peak_us=stretch.peak_us,
        peak_p=stretch.peak_p,
        reading_p=stretch.reading_p,
        criticality=level,
        last_us=stretch.last_us,
        sensors=_sensors(assessment, state, stretch.peak)
        or _sensors(assessment, state, rows[0])
        or "[]",
        versions=json.dumps(versions),
        **stretch.counts,
    )
    return begun


@dataclass(frozen=True, slots=True)
class _Stretch:
    """What rows in one state add to an event."""

    peak: int
    peak_us: int
    peak_p: float
    reading_p: float
    last_us: int
    counts: Mapping[str, int]

    @classmethod
    def of(cls, assessment: Assessment | OneEach, rows: Sequence[int]) -> _Stretch:
        at = np.asarray(rows)
        p_values, readings = assessment.asset_p_values[at], assessment.p_values[at]
        # Without a p-value nothing is known to be rare.
        p_values[np.isnan(p_values)] = readings[np.isnan(readings)] = 1.0
        peak, times = int(p_values.argmin()), assessment.times
        n_anomalies = int((readings < assessment.contamination).sum())
        return cls(
            rows[peak],
            _us(times[rows[peak]]),
            float(p_values[peak]),
            float(readings.min()),
            _us(times[rows[-1]]),
            {"n_readings": len(rows), "n_anomalies": n_anomalies},
        )


def _sensors(assessment: Assessment | OneEach, state: AssetState, row: int) -> str | None:
    """Return the sensors behind a state, with what they read in a row, as JSON; None without any.

    A sensor may have thawed by the peak of an event of frozen ones.
    """
    by_row: Mapping[int, Sequence[SensorContribution]]
    if state is AssetState.BAD_DATA:
        by_row = assessment.frozen_sensors([row])
    elif state is AssetState.UNKNOWN_OPERATING_POINT:
        by_row = assessment.unseen_sensors([row])
    else:
        by_row = assessment.trend_reasons([row]) or assessment.reasons([row])
    sensors = [sensor for sensor in by_row.get(row, ()) if sensor.share > 0.0]
    if not sensors:
        return None
    if state in VALUED:
        sensors = _as_measured(assessment, sensors, row)
    return json.dumps([EventSensor.of(sensor).model_dump() for sensor in sensors])


def _as_measured(
    assessment: Assessment | OneEach, sensors: Sequence[SensorContribution], row: int
) -> list[SensorContribution]:
    """Return contributions with what was measured in a row in place of means of the latest rows."""
    measured, told = assessment.measured([row]), []
    for sensor in sensors:
        column = measured.names.index(sensor.name)
        value, low, high = (
            float(array[0, column]) for array in (measured.values, measured.low, measured.high)
        )
        if not isnan(value):
            facts = {"value": value, "usual": float(measured.usual[0, column])}
            facts |= {"low": low, "high": high}
            where = direction(value, low, high)
            told.append(sensor.model_copy(update={**facts, "direction": where, "imputed": None}))
        else:
            told.append(sensor)
    return told


def _us(moment: Any) -> int:
    """Return a datetime64[us] in microseconds since 1970."""
    return int(moment.astype(np.int64))
