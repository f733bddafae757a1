"""Score live readings in the shadow of their answers, by the champion and the challenger alike.

A reading is answered first. Then it waits in a queue for a thread that assesses what has come, once
a second, in batches for each asset: by the version that serves alone and by the one in Staging
alone, so that they are compared on equal terms.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vigie.assessment.assessment import ALARM, Assessment
from vigie.assessment.engine import advance
from vigie.assessment.ensemble import Ensemble
from vigie.assessment.look_back import LookBack
from vigie.assessment.sensors import Examined
from vigie.assessment.timeline import as_times
from vigie.config import Settings
from vigie.detectors.trained import TrainedModel
from vigie.errors import HistoryError
from vigie.history.records import PairKey
from vigie.models.anomaly_data import AnomalyDetectionRequest
from vigie.models.comparison import ComparedVersion, Comparison
from vigie.registry.version import Version
from vigie.serving.challengers import Challengers, Pair
from vigie.serving.served import Served
from vigie.serving.tally import CHALLENGER, CHAMPION, Tally

if TYPE_CHECKING:
    from vigie.history.store import History

logger = logging.getLogger(__name__)

EVERY_S = 1.0
"""Between two looks into the queue."""
SAVE_EVERY_S = 30.0
"""Between two writes of what was counted."""
MOST_WAITING = 20_000
"""Readings in the queue; more are dropped."""
MOST_ASSETS = 1000
"""Assets whose readings are compared; others are dropped until one of these rests."""
RESTS_AFTER_S = 3600.0
"""An asset without readings for so long gives its place to another one."""
PART = 100
"""Most rows of a part: between two parts the thread rests."""
EXPLAINED = 200
"""Most readings that are explained each time: that costs far more than a score."""
RESTS = 5.0
"""The thread rests so many times as long as it has worked, to leave the interpreter to answers."""
ANSWER_S = 1.0
"""How long somebody who asks for a comparison waits for what has not been assessed yet."""
CLOSE_S = 10.0
"""Limit of the wait for the thread when the service ends."""

FAILS = "It fails on readings; the log of the service says how."

Asset = tuple[str, str | None]
Row = tuple[datetime, Mapping[str, float | bool | str | None]]


@dataclass
class _Past:
    """What is known of an asset: the look-back of each side, and when it was last heard of."""

    look_backs: dict[str, LookBack]
    last: Row | None = None
    seen: float = 0.0


@dataclass
class _Compared:
    """A pair that is being compared."""

    key: PairKey
    ensembles: Mapping[str, Ensemble]
    pasts: OrderedDict[Asset, _Past] = field(default_factory=OrderedDict)
    fails: bool = False


class Shadow:
    """Compare versions in Staging with those that serve, on the readings that are answered.

    Parameters
    ----------
    settings : Settings
        As for the answers: contamination, gap, ranges, and how faulty values are treated.
    challengers : Challengers
        The versions.
    history : callable
        Returns the database, or None if there is none; may raise ``HistoryError``.
    """

    def __init__(
        self,
        settings: Settings,
        challengers: Challengers,
        history: Callable[[], History | None],
    ):
        self._settings, self._challengers, self._history = settings, challengers, history
        self._queue: deque[tuple[datetime, Sequence[AnomalyDetectionRequest]]] = deque()
        self._parts: deque[tuple[datetime, Asset, list[Row]]] = deque()
        self._n_waiting = self._n_dropped = self._n_explained = 0
        self._waiting = threading.Lock()
        self._working = threading.Lock()
        self._compared: dict[str, _Compared] = {}
        self._unsaved: dict[PairKey, Tally] = {}
        self._saves_at = 0.0
        self._cannot_save = False
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def offer(self, readings: Sequence[AnomalyDetectionRequest]) -> None:
        """Take readings that have been answered; without a challenger, do nothing."""
        if not self._challengers.any():
            return
        with self._waiting:
            if taken := readings[: MOST_WAITING - self._n_waiting]:
                self._queue.append((datetime.now(UTC), taken))
            self._n_waiting += len(taken)
            self._n_dropped += len(readings) - len(taken)
        self.start()

    def start(self) -> None:
        """Start to compare, if there is a challenger and that has not been done already."""
        if self._thread is not None or not self._challengers.any():
            return
        with self._waiting:
            if self._thread is None and not self._closed.is_set():
                self._thread = threading.Thread(target=self._run, name="shadow", daemon=True)
                self._thread.start()

    def comparison(self, name: str) -> Comparison | None:
        """Return the comparison of a model's version in Staging; None if there is none.

        It has what all replicas have stored, and what this one has counted since.
        """
        pair = self._challengers.pairs().get(name)
        if pair is None:
            return None
        self.work(ANSWER_S)
        sides = side_of(pair.champion), side_of(pair.challenger)
        key = key_of(self._settings, name, *sides)
        with self._working:
            self._save()
            tally, unsaved = Tally(), self._unsaved.get(key)
            stored = False
            try:
                tally, stored = self._stored(key)
            except HistoryError as error:
                logger.warning("The comparison of %s is that of this process. %s", name, error)
            if unsaved is not None:
                tally.add(unsaved)
            one, problem = self._compared.get(name), pair.problem
            if problem is None and one is not None and one.key == key and one.fails:
                problem = FAILS
        return tally.comparison(
            name, *sides, self._settings.contamination, stored=stored, problem=problem
        )

    def work(self, at_most_s: float = math.inf, rests: float = 0.0) -> None:
        """Assess what waits.

        Parameters
        ----------
        at_most_s : float
            When to stop; the rest goes on waiting.
        rests : float
            How many times as long as it has worked it rests after each part.
        """
        until = time.monotonic() + at_most_s
        with self._working:
            if not self._parts:
                self._take()
        while True:
            began = time.thread_time()
            with self._working:
                if not self._parts:
                    return
                self._assess(*self._parts.popleft())
            if rests:
                self._closed.wait(rests * (time.thread_time() - began))
            if time.monotonic() > until or (rests and self._closed.is_set()):
                return

    def close(self) -> None:
        """Assess what waits, store the counts, and end."""
        self._closed.set()
        if self._thread is not None:
            self._thread.join(CLOSE_S)

    def _run(self) -> None:
        is_last, told = False, ""
        while not is_last:
            is_last = self._closed.wait(EVERY_S)
            try:
                if is_last:
                    self.work(at_most_s=CLOSE_S / 2)
                else:
                    self.work(SAVE_EVERY_S, RESTS)
                with self._working:
                    if is_last or time.monotonic() >= self._saves_at:
                        self._save()
            except Exception as error:
                # What cannot be compared must not end the thread, and never an answer.
                if repr(error) != told:
                    logger.exception("The comparison of versions has failed.")
                told = repr(error)

    def _take(self) -> None:
        """Take all readings from the queue, and make parts of them, each of one asset."""
        with self._waiting:
            requests, self._queue = self._queue, deque()
            n_dropped, self._n_dropped = self._n_dropped, 0
        if not requests:
            return
        self._n_explained, first = 0, requests[0][0]
        by_asset: dict[Asset, list[Row]] = {}
        for came, readings in requests:
            for position, reading in enumerate(readings):
                asset = reading.asset_id, reading.sensor_id
                # As answers have it, of readings without a time.
                moment = reading.timestamp or came + timedelta(microseconds=position)
                by_asset.setdefault(asset, []).append((moment, reading.values))
        for asset, rows in by_asset.items():
            rows.sort(key=lambda row: row[0])
            for start in range(0, len(rows), PART):
                self._parts.append((first, asset, rows[start : start + PART]))
        self._follow(self._challengers.pairs())
        for pair in self._compared.values():
            self._count(pair, first, defaultdict(float, dropped=n_dropped))

    def _assess(self, came: datetime, asset: Asset, rows: list[Row]) -> None:
        """Assess rows of an asset by each pair, and count what they say."""
        try:
            for pair in self._compared.values():
                self._count(pair, came, self._compare(pair, asset, rows))
        finally:
            with self._waiting:
                self._n_waiting -= len(rows)

    def _count(self, pair: _Compared, came: datetime, counts: defaultdict[str, float]) -> None:
        tally = Tally(counts, since=came, until=datetime.now(UTC))
        self._unsaved.setdefault(pair.key, Tally()).add(tally)

    def _follow(self, pairs: Mapping[str, Pair]) -> None:
        """Compare these pairs from now on; those that stay keep their look-backs."""
        following: dict[str, _Compared] = {}
        for name, pair in pairs.items():
            if pair.opened is None:
                continue
            models = {CHAMPION: pair.champion.model, CHALLENGER: pair.opened.model}
            before = self._compared.get(name)
            sides = side_of(pair.champion), side_of(pair.challenger)
            key = key_of(self._settings, name, *sides)
            if before is not None and before.key == key:
                following[name] = before
                continue
            ensembles = {side: self._alone(name, model) for side, model in models.items()}
            following[name] = _Compared(key, ensembles)
        self._compared = following

    def _alone(self, name: str, model: TrainedModel) -> Ensemble:
        settings = self._settings
        return Ensemble(
            {name: model},
            settings.contamination,
            settings.max_gap_s,
            settings.sensor_ranges,
            settings.false_alarms_per_month,
        )

    def _compare(self, pair: _Compared, asset: Asset, rows: list[Row]) -> defaultdict[str, float]:
        """Return the counts of what both sides say of rows of an asset, given in time order."""
        dropped = defaultdict[str, float](float, dropped=len(rows))
        if (past := self._past(pair, asset)) is None:
            return dropped
        new = _newer(past.last, rows)
        if not new:
            if past.last is not None and past.last[0] > datetime.now(UTC):
                # A clock was wrong; else no reading would come after that one for long.
                del pair.pasts[asset]
            return dropped
        try:
            counts = self._counted(self._assessed(pair, past, new))
        except Exception as error:
            # A version may fail in any way. The asset begins anew.
            del pair.pasts[asset]
            self._tell_once(pair, error)
            return dropped
        counts["dropped"] += len(rows) - len(new)
        return counts

    def _assessed(self, pair: _Compared, past: _Past, rows: Sequence[Row]) -> dict[str, Assessment]:
        """Return the assessment of rows by each side, and note them as the past of the next."""
        times = as_times([moment for moment, _ in rows])
        found: dict[str, Assessment] = {}
        for side, ensemble in pair.ensembles.items():
            sensors = ensemble.sensors
            examined = sensors.examine(sensors.matrix(values for _, values in rows))
            silent = self._silent(ensemble, examined)
            found[side], past.look_backs[side] = advance(
                ensemble, past.look_backs[side], times, examined, silent
            )
        past.last = rows[-1]
        return found

    def _counted(self, found: Mapping[str, Assessment]) -> defaultdict[str, float]:
        """Return the counts of what both sides say of the same rows."""
        tally = Tally()
        counts = tally.counts
        p_values = {side: assessment.p_values for side, assessment in found.items()}
        judged = ~np.isnan(p_values[CHAMPION]) & ~np.isnan(p_values[CHALLENGER])
        anomalous = {side: assessment.is_anomaly for side, assessment in found.items()}
        tally.add_verdicts(
            {side: 1.0 - values[judged] for side, values in p_values.items()},
            {side: marked[judged] for side, marked in anomalous.items()},
        )
        counts["abstained"] += len(judged) - int(judged.sum())
        either = np.flatnonzero(judged & (anomalous[CHAMPION] | anomalous[CHALLENGER]))
        either = either[: max(EXPLAINED - self._n_explained, 0)]
        self._n_explained += len(either)
        counts["explained"] += len(either)
        for side, assessment in found.items():
            counts[f"{side}.alarms"] += alarms_begun(assessment)
            for sensors in (assessment.reasons(either) if len(either) else {}).values():
                counts[f"{side}.first.{sensors[0].name}"] += 1
                for sensor in sensors:
                    counts[f"{side}.share.{sensor.name}"] += sensor.share
        return counts

    def _tell_once(self, pair: _Compared, error: Exception) -> None:
        if pair.fails:
            return
        pair.fails = True
        key = pair.key
        logger.error(
            "Version %d of '%s' cannot be compared with version %d; the answers are not affected.",
            key.challenger,
            key.model,
            key.champion,
            exc_info=error,
        )

    def _silent(self, ensemble: Ensemble, rows: Examined) -> dict[str, NDArray[np.bool_]]:
        """Return the rows that the model of an ensemble leaves out, as it does in answers."""
        if not rows.masks:
            return {}
        [(name, model)] = ensemble.models.items()
        unusable = np.isnan(rows.usable)
        context = [model.feature_names.index(one) for one in model.context_names]
        silent = np.logical_or(unusable.all(axis=1), unusable[:, context].any(axis=1))
        if self._settings.faulty_values == "refuse":
            silent |= unusable.any(axis=1)
        return {name: silent}

    def _past(self, pair: _Compared, asset: Asset) -> _Past | None:
        """Return what is known of an asset; None if there is no place for it."""
        pasts, now = pair.pasts, time.monotonic()
        if asset not in pasts:
            if len(pasts) >= MOST_ASSETS:
                longest = next(iter(pasts))
                if now - pasts[longest].seen < RESTS_AFTER_S:
                    return None
                del pasts[longest]
            ensembles = pair.ensembles.items()
            pasts[asset] = _Past({side: ensemble.no_look_back for side, ensemble in ensembles})
        pasts.move_to_end(asset)
        pasts[asset].seen = now
        return pasts[asset]

    def _stored(self, key: PairKey) -> tuple[Tally, bool]:
        """Return the stored counts of a pair, and whether there is a database."""
        if (history := self._history()) is None:
            return Tally(), False
        return stored(history, key), True

    def _save(self) -> None:
        """Store what was counted; if that fails, it is tried again."""
        self._saves_at = time.monotonic() + SAVE_EVERY_S
        if not self._unsaved:
            return
        from vigie.history.comparisons import ComparisonTable

        try:
            if (history := self._history()) is None:
                return
            table = ComparisonTable(history)
            for key, tally in list(self._unsaved.items()):
                counts = {name: count for name, count in tally.counts.items() if count}
                if counts and tally.since is not None and tally.until is not None:
                    table.add(key, counts, tally.since, tally.until)
                del self._unsaved[key]
        except HistoryError as error:
            if not self._cannot_save:
                logger.error("Comparisons of versions are not stored. %s", error)
            self._cannot_save = True
        else:
            self._cannot_save = False


def stored(history: History, key: PairKey) -> Tally:
    """Return the stored counts of a pair.

    Raises
    ------
    HistoryError
        If the database fails.
    """
    from vigie.history.comparisons import ComparisonTable

    counts, since, until = ComparisonTable(history).read(key)
    tally = Tally(since=since, until=until)
    tally.counts.update(counts)
    return tally


def side_of(version: Served | Version) -> ComparedVersion:
    """Return a version as a side of a comparison, without counts."""
    assert version.version is not None
    return ComparedVersion(version=version.version, stage=version.stage, run_id=version.run_id)


def key_of(
    settings: Settings, name: str, champion: ComparedVersion, challenger: ComparedVersion
) -> PairKey:
    """Return under which key two versions are compared.

    What counts as an anomaly or an alarm is a part of it, after the run: counts of another
    contamination are of other verdicts.
    """
    rates = f"{settings.contamination!r} {settings.false_alarms_per_month!r}"
    runs = champion.run_id or "", f"{challenger.run_id or ''} {rates}"
    return PairKey(name, champion.version, runs[0], challenger.version, runs[1])


def alarms_begun(assessment: Assessment) -> int:
    """Return in how many rows the asset went into alarm."""
    before = assessment.statuses.before
    in_alarm = np.append(before is not None and before.state is ALARM, assessment.in_alarm)
    return int((in_alarm[1:] & ~in_alarm[:-1]).sum())


def _newer(last: Row | None, rows: Sequence[Row]) -> list[Row]:
    """Return the rows that are newer than the last one, and not the same again."""
    newer: list[Row] = []
    for row in rows:
        if last is None or row[0] > last[0] or (row[0] == last[0] and row[1] != last[1]):
            newer.append(row)
            last = row
    return newer
