"""Assess readings by the models that serve, and store them in the history."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from math import isnan
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vigie.assessment.assessment import LEVELS, Assessment
from vigie.assessment.engine import advance, follow
from vigie.assessment.ensemble import Ensemble
from vigie.assessment.false_alarms import VARIABLE
from vigie.assessment.look_back import LookBack
from vigie.assessment.sensors import Examined, Sensors
from vigie.assessment.status import AssetStatus
from vigie.assessment.timeline import INTERVALS, US, Times, as_datetime, as_times
from vigie.breaker import CircuitBreaker
from vigie.config import Settings
from vigie.detectors.data.context import as_word
from vigie.detectors.data.matrices import as_row
from vigie.detectors.trained import TrainedModel
from vigie.errors import HistoryError, InvalidDataError, listed
from vigie.history.address import history_url
from vigie.history.records import Assessed, Reading, Standing, microseconds
from vigie.models.anomaly_data import (
    AnomalyDetectionRequest,
    AnomalyDetectionResult,
    AssetState,
    AssetVerdict,
    ModelVerdict,
    UnseenValue,
)
from vigie.services.detection_counts import Counted, DetectionCounts
from vigie.services.look_back_cache import (
    MOST_ASSETS,
    Asset,
    LookBackCache,
    look_back_on,
    status_of,
)
from vigie.serving.served import Answering, Snapshot

if TYPE_CHECKING:
    from vigie.history.jobs import JobTable
    from vigie.history.retention import Retention
    from vigie.history.store import AssetTransaction, History

logger = logging.getLogger(__name__)

NORMAL, UNKNOWN = AssetState.NORMAL, AssetState.UNKNOWN
UNKNOWN_POINT = AssetState.UNKNOWN_OPERATING_POINT
UNSETTLED = (AssetState.WATCH, AssetState.DRIFT, UNKNOWN_POINT, AssetState.ALARM)
QUIET_AFTER_FAILURE_S = 5.0
"""How long a failed history is not used again, in seconds."""
PART = 100
"""Most readings of an asset in one transaction of the history."""


class Detection:
    """Assess readings, and store them in the history.

    Parameters
    ----------
    settings : Settings
        The treatment of faulty values, and the history's URL.

    Attributes
    ----------
    counts : DetectionCounts
        What it has done so far.
    """

    def __init__(self, settings: Settings):
        self.settings = settings
        self._opening = threading.Lock()
        self._history: History | None = None
        self._retention: Retention | None = None
        self._breaker = CircuitBreaker[HistoryError]()
        self._look_backs = LookBackCache()
        self._doubted = set[Asset]()
        self.counts = DetectionCounts()
        self._telling = threading.Lock()
        self._replacing = set[Asset]()

    def readings(
        self, serving: Snapshot, readings: Sequence[AnomalyDetectionRequest]
    ) -> list[AnomalyDetectionResult]:
        """Assess readings; see ``AnomalyDetectionService.detect_anomalies_batch``."""
        now = datetime.now(UTC)
        # Readings without a time get consecutive ones, a microsecond apart.
        times = [
            reading.timestamp or now + timedelta(microseconds=position)
            for position, reading in enumerate(readings)
        ]
        keys = _keys(readings, times)
        by_models: dict[Answering, list[int]] = {}
        for index, reading in enumerate(readings):
            by_models.setdefault(serving.for_asset(reading.asset_id), []).append(index)
        # Check all readings before the first is stored, so that a refused request stores nothing.
        questions = [
            self._question(answering, readings, times, keys, indices)
            for answering, indices in by_models.items()
        ]
        results: dict[int, AnomalyDetectionResult] = {}
        for question in questions:
            for asset, places in question.by_asset().items():
                results |= self._answer_in_parts(question, asset, places)
        return [results[index] for index in range(len(readings))]

    def history_bytes(self) -> int | None:
        """Return the size of the history; None if it is in memory.

        Raises
        ------
        HistoryError
            If the database fails.
        """
        return self.history().size_bytes()

    @property
    def stores(self) -> bool:
        """Whether the last readings that should be stored are in the history."""
        return not self._breaker.is_failing

    def assets_by_state(self) -> Counter[AssetState]:
        """Return how many of the latest assets of this process are in which state."""
        return self._look_backs.states()

    def close(self) -> None:
        """Release the history."""
        if self._retention is not None:
            self._retention.close()
        if self._history is not None:
            self._history.close()

    @property
    def history_is_a_server(self) -> bool:
        """Whether the history is on a database server, rather than in SQLite."""
        url = self.settings.history_url
        return self.settings.history_enabled and url is not None and not url.startswith("sqlite")

    def history(self) -> History:
        """Return the history, opened on first use.

        Raises
        ------
        HistoryError
            If it cannot be opened, or has just failed.
        """
        with self._opening:
            self._breaker.check()
            if self._history is not None and self._history.is_gone:
                self._begin_anew()
            if self._history is None:
                # Imported here: SQLAlchemy would take a third of the service's start.
                from vigie.history.retention import Retention
                from vigie.history.store import History

                try:
                    self._history = History(
                        history_url(self.settings),
                        is_durable=self.settings.history_durability == "durable",
                    )
                except HistoryError as error:
                    self._open_breaker(error)
                    raise
                if days := self.settings.history_retention_days:
                    self._retention = Retention(self._history, days)
            return self._history

    def _begin_anew(self) -> None:
        """Leave a history whose file has been deleted or replaced."""
        logger.error(
            "The file of the history was deleted or replaced while the service runs. Readings are "
            "stored in the file that is there now, or in a new one; stop the service before you "
            "move or restore a history."
        )
        self.close()
        self._history = self._retention = None

    def jobs(self) -> JobTable | None:
        """Return the table of training jobs; None if there is no history.

        Raises
        ------
        HistoryError
            If it cannot be opened, or has just failed.
        """
        if (history := self.history_if_enabled()) is None:
            return None
        from vigie.history.jobs import JobTable

        return JobTable(history)

    def history_if_enabled(self) -> History | None:
        """Return the history; None if it is disabled. See ``history``."""
        return self.history() if self.settings.history_enabled else None

    def _open_breaker(self, error: HistoryError) -> None:
        if error.is_outage:
            self._breaker.open(error, QUIET_AFTER_FAILURE_S)

    def _question(
        self,
        answering: Answering,
        readings: Sequence[AnomalyDetectionRequest],
        times: Sequence[datetime],
        keys: Sequence[datetime],
        indices: Sequence[int],
    ) -> _Question:
        """Check readings, and return them with the models that answer.

        Raises
        ------
        InvalidDataError
            If no model can assess a reading, a faulty one is refused, or times are missing from
            several readings of an asset and false alarms are asked for by time.
        """
        sensors = answering.ensemble.sensors
        for index in indices:
            if readings[index].context:
                _refuse_words(readings[index], sensors, f"[{index}]." if len(readings) > 1 else "")
        rows = sensors.examine(sensors.matrix(readings[index].values for index in indices))
        question = _Question(answering, readings, times, keys, indices, rows, {})
        if answering.ensemble.false_alarms_per_month is not None:
            question.require_times()
        if not rows.masks:
            return question
        refuse = self.settings.faulty_values == "refuse"
        for place in np.flatnonzero(np.isnan(rows.usable).any(axis=1)).tolist():
            index = indices[place]
            field = f"[{index}]." if len(readings) > 1 else ""
            if refuse:
                rows.refuse(place, f"{field}features.")
            unusable = rows.unusable(place)
            for name, model in answering.ensemble.models.items():
                missing = [sensor for sensor in model.feature_names if sensor in unusable]
                is_blind = len(missing) == model.n_features or set(missing) & model.context_names
                if missing and (refuse or is_blind):
                    reason = f"missing from the reading: {', '.join(missing)}"
                    question.missing.setdefault(name, {})[place] = reason
            if len(question.missing) == len(answering.served) and all(
                place in places for places in question.missing.values()
            ):
                _refuse_another_machine(readings[index], sensors, field)
                _raise_unusable(
                    readings[index], next(iter(answering.ensemble.models.values())), field
                )
        return question

    def _answer_in_parts(
        self, question: _Question, asset: Asset, places: list[int]
    ) -> dict[int, AnomalyDetectionResult]:
        """Answer the readings of an asset, in short transactions that barely delay others."""
        if not self.settings.history_enabled:
            return self._counted(question, self._answer(question, asset, places, None)).results
        ensemble = question.answering.ensemble
        results: dict[int, AnomalyDetectionResult] = {}
        parts = question.in_parts(places, self.settings.max_gap_s)
        for number, part in enumerate(parts):
            try:
                with self.history().transaction(*asset) as transaction:
                    answer = self._answer(question, asset, part, transaction)
                    transaction.append(answer.records)
                    revision = transaction.revision(ensemble.n_look_back)
            except HistoryError as error:
                # Detection continues without the history, such as on a full disk.
                rest = [place for left in parts[number:] for place in left]
                self._open_breaker(error)
                is_outage = self._breaker.count(len(rest))
                self.counts.add_unstored(len(rest), is_outage=is_outage)
                if is_outage:
                    logger.error("Readings are assessed, but not stored. %s", error)
                answer = self._answer(question, asset, rest, None)
                return results | self._counted(question, answer).results
            if n_lost := self._breaker.recovered():
                logger.warning("The history works again; %d readings were not stored.", n_lost)
            results |= self._counted(question, answer).results
            if answer.replaced:
                self._tell_of_replaced(asset, answer.replaced)
            is_newest = revision.newest_us == microseconds(question.key(part[-1]))
            if answer.look_back is not None and is_newest:
                self._look_backs.put(asset, revision, ensemble, answer.look_back)
        return results

    def _answer(
        self,
        question: _Question,
        asset: Asset,
        places: list[int],
        transaction: AssetTransaction | None,
    ) -> _Answer:
        """Answer readings of one asset, given in time order."""
        ensemble = question.answering.ensemble
        past = _Past(ensemble.no_look_back)
        if transaction is not None:
            past = self._past(question, asset, places, transaction)
        rows = question.rows_of(places, past.between)
        silent = {name: rows.marked(places) for name, places in question.missing.items()}
        assessment, next_look_back = advance(
            ensemble, past.look_back, rows.times, rows.examined, silent
        )
        if ensemble.false_alarms_per_month is not None:
            self._warn_of_doubt(asset, assessment)
        requested = [row for row, group in enumerate(rows.requested) if group]
        statuses = {row: assessment.status(row) for row in requested}
        results = self._results(question, rows, assessment, statuses, past.replaced, transaction)
        states = [status.state for status in statuses.values()]
        if transaction is None:
            # What the state was before them is not known.
            entered = _entered(states)
            return _Answer(results, [], None, {}, assessment, requested, entered)
        records = _records(question, asset, rows, assessment, statuses, results, past.went_on_from)
        # The stored results of readings in between came from another look-back, so cache nothing.
        is_whole = not past.between
        # Late readings and those that are sent again are not the state of today.
        before = UNKNOWN if past.look_back.status is None else past.look_back.status.state
        entered = _entered([before, *states]) if past.is_newest else []
        return _Answer(
            *(results, records, next_look_back if is_whole else None, past.replaced),
            *(assessment, requested, entered),
        )

    def _counted(self, question: _Question, answer: _Answer) -> _Answer:
        """Count an answer that is final, and return it."""
        is_whole = len(answer.rows) == len(answer.assessment)
        self.counts.add(
            Counted(
                question.answering.served,
                answer.assessment.scores.p_values,
                None if is_whole else answer.rows,
                len(answer.results),
                sum([result.is_anomaly for result in answer.results.values()]),
                answer.entered,
            )
        )
        return answer

    def _warn_of_doubt(self, asset: Asset, assessment: Assessment) -> None:
        """Warn once for each asset if its false alarms cannot be kept as asked for."""
        if len(assessment.timeline) <= INTERVALS or asset in self._doubted:
            return
        if doubt := assessment.doubt(len(assessment) - 1):
            if len(self._doubted) >= MOST_ASSETS:
                self._doubted.clear()
            self._doubted.add(asset)
            logger.warning("%s: %s", asset[0], doubt, extra={"asset_id": asset[0]})

    def _tell_of_replaced(self, asset: Asset, replaced: Mapping[datetime, Reading]) -> None:
        """Count readings that took the place of others, and warn once for each asset."""
        self.counts.add_replaced(len(replaced))
        with self._telling:
            if asset in self._replacing:
                return
            if len(self._replacing) >= MOST_ASSETS:
                self._replacing.clear()
            self._replacing.add(asset)
        time = next(iter(replaced.values())).measured
        logger.warning(
            "%s: readings with different values have one time, such as %s, so that each takes the "
            "place of the one before. Give finer timestamps, or send all readings of one time in "
            "one batch.",
            asset[0],
            time.isoformat(),
            extra={"asset_id": asset[0]},
        )

    def _past(
        self,
        question: _Question,
        asset: Asset,
        places: Sequence[int],
        transaction: AssetTransaction,
    ) -> _Past:
        """Return what the history knows of the readings before, between and instead of these.

        A reading that takes the place of another one is judged by the rows before it, as if the
        other had never come. The state of the asset is different: what was told last stands, so
        that an alarm ends by calm readings only, and not because its reading was replaced.
        """
        ensemble = question.answering.ensemble
        first, last = question.key(places[0]), question.key(places[-1])
        revision = transaction.revision(ensemble.n_look_back)
        is_newest = revision.newest_us is None or revision.newest_us < microseconds(first)
        if is_newest and (cached := self._look_backs.get(asset, ensemble)) is not None:
            known, look_back = cached
            if known == revision:
                return _Past(look_back)
            if added := transaction.added(known, revision, ensemble.n_look_back, PART):
                return _Past(_followed_by(ensemble, look_back, added))
        stored = transaction.around(first, None if is_newest else last, ensemble.n_look_back)
        n_before = sum(reading.timestamp < first for reading in stored)
        look_back = look_back_on(ensemble.sensors, stored[:n_before])
        since_first = {reading.timestamp: reading for reading in stored[n_before:]}
        values = {question.key(place): question.reading(place).values for place in places}
        between = [reading for key, reading in since_first.items() if key not in values]
        again = {key: reading for key, reading in since_first.items() if key in values}
        replaced = {
            key: reading for key, reading in again.items() if reading.features != values[key]
        }
        went_on_from = None
        if first in again and first not in replaced:
            # It is sent again, and answered as it was before.
            went_on_from = again[first].assessed.went_on_from
        if replaced and revision.newest is not None:
            [newest] = transaction.around(revision.newest, revision.newest, 0)
            if newest.measured == question.time(places[0]):
                went_on_from = newest.assessed.standing
        if went_on_from is not None:
            look_back = replace(look_back, status=status_of(went_on_from))
        return _Past(look_back, between, replaced, went_on_from, is_newest)

    def _results(
        self,
        question: _Question,
        rows: _Rows,
        assessment: Assessment,
        statuses: Mapping[int, AssetStatus],
        replaced: Container[datetime],
        transaction: AssetTransaction | None,
    ) -> dict[int, AnomalyDetectionResult]:
        """Return the result of each requested reading, by its index."""
        contamination, names = assessment.contamination, question.answering.ensemble.sensors.names
        levels = assessment.levels.tolist()
        p_values, evidence = assessment.p_values.tolist(), assessment.asset_p_values.tolist()
        frozen = assessment.frozen if assessment.frozen.any() else None
        held = assessment.held
        since_gap = assessment.timeline.rows_since_gap[assessment.scores.first :]
        anomalous = [row for row in statuses if p_values[row] < contamination]
        unsettled = [row for row, status in statuses.items() if status.state in UNSETTLED]
        reasons = assessment.reasons(anomalous) if anomalous else {}
        drivers = assessment.trend_reasons(unsettled) if unsettled else {}
        results: dict[int, AnomalyDetectionResult] = {}
        for row, status in statuses.items():
            verdicts, state = _verdicts(question.answering, assessment, row), status.state
            if transaction is None and state is NORMAL:
                # Without the history, an earlier alarm may still be active.
                state = UNKNOWN
            unseen = assessment.unseen(row) if state is UNKNOWN_POINT else []
            unusable = question.rows.unusable(rows.requested[row][-1]) if self._imputes else {}
            for place in rows.requested[row]:
                reading = question.reading(place)
                results[question.indices[place]] = AnomalyDetectionResult(
                    asset_id=reading.asset_id,
                    sensor_id=reading.sensor_id,
                    timestamp=question.time(place),
                    models=verdicts,
                    abstained=self._abstained(
                        question, verdicts, place, int(since_gap[row]), transaction, unseen
                    ),
                    final_score=_score(p_values[row]),
                    threshold=1.0 - contamination,
                    is_anomaly=p_values[row] < contamination,
                    criticality=None if levels[row] < 0 else LEVELS[levels[row]],
                    sensors=reasons.get(row, []),
                    imputed=unusable,
                    frozen={} if frozen is None else _by_name(names, held[row], frozen[row]),
                    replaced=question.key(place) in replaced,
                    asset=AssetVerdict(
                        state=state,
                        since=as_datetime(status.since),
                        evidence=_score(evidence[row]),
                        began=None if status.began is None else as_datetime(status.began),
                        sensors=drivers.get(row, []),
                        unseen=_in_words(unseen, reading),
                    ),
                    metadata=reading.metadata,
                )
        return results

    def _abstained(
        self,
        question: _Question,
        verdicts: Mapping[str, ModelVerdict],
        place: int,
        since_gap: int,
        transaction: AssetTransaction | None,
        unseen: Sequence[UnseenValue],
    ) -> dict[str, str]:
        """Return the models that abstain from a reading, and why."""
        models = question.answering.ensemble.models
        if len(verdicts) == len(models):
            return {}
        new = {value.name for value in unseen}
        reason = ""
        if not self.settings.history_enabled:
            reason = ", since the history is disabled"
        elif transaction is None:
            reason = ", since the history cannot be used"

        def why(name: str, model: TrainedModel) -> str:
            if place in (missing := question.missing.get(name, {})):
                return missing[place]
            if never_seen := sorted(model.context_names & new):
                return f"never seen in training: {', '.join(never_seen)}"
            return f"its window has {since_gap} of {model.fewest_rows} rows{reason}"

        return {name: why(name, model) for name, model in models.items() if name not in verdicts}

    @property
    def _imputes(self) -> bool:
        return self.settings.faulty_values == "impute"


def _followed_by(ensemble: Ensemble, look_back: LookBack, added: Sequence[Reading]) -> LookBack:
    """Return a look-back after readings that another process has assessed and stored."""
    sensors = ensemble.sensors
    rows = sensors.examine(sensors.matrix(reading.features for reading in added))
    times = as_times([reading.measured for reading in added])
    # None becomes NaN.
    p_values = np.array([reading.assessed.p_value for reading in added], dtype=np.float64)
    after = status_of(added[-1].assessed.standing)
    return follow(ensemble, look_back, times, rows, p_values, after)


def _keys(
    readings: Sequence[AnomalyDetectionRequest], times: Sequence[datetime]
) -> Sequence[datetime]:
    """Return the times under which the history keeps readings: their own, as far as they differ.

    Readings of one asset and time are kept a microsecond apart, in their order, as those of a
    sender whose clock has whole seconds. The same readings then have the same keys whenever they
    are sent. Readings of one time whose values are all the same have one key: they are one reading,
    sent again.

    Raises
    ------
    InvalidDataError
        If no time is left for them before the end of the year 9999.
    """
    groups: dict[tuple[datetime, Asset], list[int]] = {}
    for index, reading in enumerate(readings):
        asset = reading.asset_id, reading.sensor_id
        groups.setdefault((times[index], asset), []).append(index)
    if len(groups) == len(readings):
        return times
    keys, latest = list(times), dict[Asset, datetime]()
    for (time, asset), group in sorted(groups.items(), key=lambda item: item[0][0]):
        values = readings[group[0]].values
        is_one = all(readings[index].values == values for index in group)
        for index in group:
            try:
                if index == group[0] or not is_one:
                    key = max(time, latest[asset] + US) if asset in latest else time
            except OverflowError as error:
                raise InvalidDataError(
                    "Several readings have the last time that there is.",
                    field=f"[{index}].timestamp",
                    remedy="Give when each reading was measured.",
                ) from error
            keys[index] = latest[asset] = key
    return keys


@dataclass(frozen=True)
class _Question:
    """Readings of a request, and the models that answer them.

    Attributes
    ----------
    answering : Answering
        The models.
    readings, times : sequence
        All readings of the request.
    keys : sequence of datetime
        The times under which the history keeps them; see ``_keys``.
    indices : sequence of int
        Indices of the readings that these models answer; a *place* is a position in this list.
    rows : Examined
        Their values, by place.
    missing : mapping of str to mapping of int to str
        By model, the places that it cannot assess because of missing values, and the reason.
    """

    answering: Answering
    readings: Sequence[AnomalyDetectionRequest]
    times: Sequence[datetime]
    keys: Sequence[datetime]
    indices: Sequence[int]
    rows: Examined
    missing: dict[str, dict[int, str]]

    def reading(self, place: int) -> AnomalyDetectionRequest:
        return self.readings[self.indices[place]]

    def time(self, place: int) -> datetime:
        return self.times[self.indices[place]]

    def key(self, place: int) -> datetime:
        return self.keys[self.indices[place]]

    def by_asset(self) -> dict[Asset, list[int]]:
        """Return the places of each asset's readings, in time order."""
        assets: dict[Asset, list[int]] = {}
        for place in range(len(self.indices)):
            reading = self.reading(place)
            assets.setdefault((reading.asset_id, reading.sensor_id), []).append(place)
        for places in assets.values():
            places.sort(key=self.key)
        return assets

    def require_times(self) -> None:
        """Raise if several readings of an asset have no time, so that none is between them."""
        seen = set[Asset]()
        for index in self.indices:
            reading = self.readings[index]
            if reading.timestamp is not None:
                continue
            if (asset := (reading.asset_id, reading.sensor_id)) in seen:
                raise InvalidDataError(
                    f"False alarms are asked for by time ({VARIABLE}), but several readings of "
                    f"{reading.asset_id} have none.",
                    field=f"[{index}].timestamp",
                    remedy=f"Give when each reading was measured, or unset {VARIABLE}.",
                )
            seen.add(asset)

    def in_parts(self, places: Sequence[int], longest_gap_s: float) -> list[list[int]]:
        """Split readings, given in time order, into parts that are assessed in turn.

        A part ends at a gap, so that a single wrong time does not make it span the whole history.
        """
        parts: list[list[int]] = []
        longest, last = timedelta(seconds=longest_gap_s), datetime.min.replace(tzinfo=UTC)
        for place in places:
            time = self.time(place)
            is_full = bool(parts) and len(parts[-1]) >= PART
            if not parts or is_full or time - last > longest:
                parts.append([])
            parts[-1].append(place)
            last = time
        return parts

    def rows_of(self, places: Sequence[int], between: Sequence[Reading]) -> _Rows:
        """Return requested readings as rows, with the stored ones in between, in time order.

        Parameters
        ----------
        places : sequence of int
            Of the requested readings, in time order.
        between : sequence of Reading
            Stored readings between the first and the last of them.
        """
        groups: dict[datetime, list[int]] = {}
        for place in places:
            groups.setdefault(self.key(place), []).append(place)
        keys, requested = list(groups), list(groups.values())
        last = [group[-1] for group in requested]
        times = [self.time(place) for place in last]
        rows = self.rows
        if last != list(range(len(rows))):
            rows = rows.at(last)
        if between:
            keys += [reading.timestamp for reading in between]
            times += [reading.measured for reading in between]
            order = sorted(range(len(keys)), key=keys.__getitem__)
            times = [times[place] for place in order]
            requested = [requested[place] if place < len(last) else [] for place in order]
            matrix = rows.sensors.matrix(reading.features for reading in between)
            rows = rows.followed_by(rows.sensors.examine(matrix)).at(order)
        return _Rows(requested, as_times(times), rows)


@dataclass(frozen=True)
class _Past:
    """What the history knows of the readings before, between and instead of some of an asset.

    Attributes
    ----------
    look_back : LookBack
        Of the first of them.
    between : sequence of Reading
        Stored readings between the first and the last.
    replaced : mapping of datetime to Reading
        Stored readings with other values that these replace, by key.
    went_on_from : Standing or None
        The state that the look-back has, if it is not that of its last row.
    is_newest : bool
        Whether all stored readings are before them.
    """

    look_back: LookBack
    between: Sequence[Reading] = ()
    replaced: Mapping[datetime, Reading] = field(default_factory=dict)
    went_on_from: Standing | None = None
    is_newest: bool = True


@dataclass(frozen=True)
class _Rows:
    """Rows of one asset in time order, each with the places of its requested readings.

    The last reading of a row provides its values. The list of a stored row in between is empty.
    """

    requested: Sequence[Sequence[int]]
    times: Times
    examined: Examined

    def marked(self, places: Container[int]) -> NDArray[np.bool_]:
        """Mark the rows whose values come from one of these places, shape (n_rows,)."""
        return np.array([bool(group) and group[-1] in places for group in self.requested])


@dataclass(frozen=True)
class _Answer:
    """Results by reading index, the records for the history, and the next look-back.

    And the stored readings with other values that these replace, by key; the assessment with its
    requested rows, and the states that the asset entered in them.
    """

    results: dict[int, AnomalyDetectionResult]
    records: list[Reading]
    look_back: LookBack | None
    replaced: Mapping[datetime, Reading]
    assessment: Assessment
    rows: Sequence[int]
    entered: Sequence[AssetState]


def _entered(states: Sequence[AssetState]) -> list[AssetState]:
    """Return those of consecutive states that differ from the one before."""
    return [state for last, state in pairwise(states) if state != last]


def _verdicts(answering: Answering, assessment: Assessment, row: int) -> dict[str, ModelVerdict]:
    """Return the verdict on one reading of each model that did not abstain."""
    verdicts, scores = {}, assessment.scores
    for name, served in answering.served.items():
        score, model = 1.0 - scores.p_values[name].item(row), served.model
        if isnan(score):
            continue
        verdicts[name] = ModelVerdict(
            score=score,
            threshold=model.threshold,
            is_anomaly=score > model.threshold,
            version=served.version,
            stage=served.stage,
            reconstruction_error=scores.raw[name].item(row) if model.reconstructs else None,
        )
    return verdicts


def _records(
    question: _Question,
    asset: Asset,
    rows: _Rows,
    assessment: Assessment,
    statuses: Mapping[int, AssetStatus],
    results: Mapping[int, AnomalyDetectionResult],
    went_on_from: Standing | None,
) -> list[Reading]:
    """Return the requested readings with their results, as the history stores them."""
    records, p_values = [], assessment.conservative_p_values.tolist()
    names, held = question.answering.ensemble.sensors.names, assessment.held
    repeats = held > 1
    for row, status in statuses.items():
        for place in rows.requested[row]:
            result, key = results[question.indices[place]], question.key(place)
            assessed = Assessed(
                final_score=result.final_score,
                is_anomaly=result.is_anomaly,
                p_value=None if isnan(p_values[row]) else p_values[row],
                state=status.state,
                since=str(status.since),
                began=None if status.began is None else str(status.began),
                calm=status.calm,
                usual=status.usual,
                held=_by_name(names, held[row], repeats[row]),
                shift_us=(key - result.timestamp) // US,
                went_on_from=went_on_from if row == 0 else None,
                criticality=result.criticality,
                versions={name: verdict.version for name, verdict in result.models.items()},
            )
            reading = question.reading(place)
            context = frozenset(reading.context)
            records.append(Reading(*asset, key, reading.values, assessed, context))
    return records


def _by_name(
    names: Sequence[str], counts: NDArray[np.intp], mask: NDArray[np.bool_]
) -> dict[str, int]:
    """Return the counts of the sensors in a mask, by name."""
    return {names[column]: int(counts[column]) for column in mask.nonzero()[0].tolist()}


def _in_words(unseen: Sequence[UnseenValue], reading: AnomalyDetectionRequest) -> list[UnseenValue]:
    """Return values that training has not seen, with the words of the reading."""
    return [
        value.model_copy(update={"value": as_word(reading.values.get(value.name))})
        if value.value is None
        else value
        for value in unseen
    ]


def _refuse_words(reading: AnomalyDetectionRequest, sensors: Sensors, field: str) -> None:
    """Raise if a word is given where the models know numbers."""
    for name, value in reading.context.items():
        if isinstance(value, str) and name in sensors.names and name not in sensors.words:
            raise InvalidDataError(
                f"{value!r} is a word, but the models were trained on numbers.",
                field=f"{field}context.{name}",
                remedy="Give it as a number, in the unit of the training data.",
            )


def _refuse_another_machine(reading: AnomalyDetectionRequest, sensors: Sensors, field: str) -> None:
    """Refuse a reading whose features no model knows: to name those missing would not help."""
    if not reading.values or set(reading.values) & set(sensors.names):
        return
    raise InvalidDataError(
        "The reading seems to be of another machine: the models know none of its features "
        f"({listed(reading.values)}).",
        field=f"{field}features",
        remedy=f"They know {listed(sensors.names)}: name the features as in training, or send the "
        "reading to a service with models of its machine.",
    )


def _raise_unusable(reading: AnomalyDetectionRequest, model: TrainedModel, field: str) -> None:
    """Raise the error for a reading that no model can assess."""
    for name in sorted(model.context_names):
        if reading.values.get(name) is None:
            example = '"..."' if name in model.words else "0.5"
            raise InvalidDataError(
                "The context is missing, and the sensors are judged given it.",
                field=f"{field}context.{name}",
                remedy=f'Give it with the reading, such as "context": {{"{name}": {example}}}.',
            )
    try:
        as_row(reading.values, model.feature_names, model.words)
    except InvalidDataError as error:
        error.field = f"{field}{error.field}"
        raise
    raise InvalidDataError(
        "No sensor has a usable value.",
        field=f"{field}features",
        remedy="Check the sensors and their units.",
    )


def _score(p_value: float) -> float | None:
    return None if isnan(p_value) else 1.0 - p_value
