"""Readings judged by the models that serve: one verdict each, and what is remembered of it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Container, Hashable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import isnan
from operator import is_
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vigie.config import Settings
from vigie.detectors.data.matrices import as_row
from vigie.detectors.trained import TrainedModel
from vigie.errors import HistoryError, InvalidDataError
from vigie.history.reading import Reading
from vigie.models.anomaly_data import (
    AnomalyDetectionRequest,
    AnomalyDetectionResult,
    AssetState,
    AssetVerdict,
    ModelVerdict,
)
from vigie.services.asset import Standing
from vigie.services.detector_service import Served
from vigie.services.past import Asset, Memory, Past
from vigie.services.sensors import Examined, Sensors
from vigie.services.timeline import (
    Timeline,
    Times,
    as_datetime,
    as_datetime64,
    as_times,
    reach_of,
)
from vigie.services.verdict import Judged, criticality, judge, look_back

if TYPE_CHECKING:
    from vigie.history.retention import Retention
    from vigie.history.store import History, Turn

logger = logging.getLogger(__name__)

NORMAL, UNKNOWN = AssetState.NORMAL, AssetState.UNKNOWN
UNSETTLED = (AssetState.WATCH, AssetState.ALARM)
QUIET_AFTER_FAILURE_S = 5.0
"""How long a history that has failed is not asked again."""
PART = 100
"""Readings of an asset that are judged in one turn of the history."""


class Detection:
    """Judge readings, and keep them in the history.

    Parameters
    ----------
    settings : Settings
        The contamination, the gaps, what to do about faulty values, and where the history is.
    """

    def __init__(self, settings: Settings):
        self.settings = settings
        self._opening = threading.Lock()
        self._history: History | None = None
        self._retention: Retention | None = None
        self._outage = _Outage()
        self._memory = Memory()
        self._learnt: _Learnt | None = None

    def readings(
        self, serving: Mapping[str, Served], readings: Sequence[AnomalyDetectionRequest]
    ) -> list[AnomalyDetectionResult]:
        """Judge readings; see ``AnomalyDetectionService.detect_anomalies_batch``."""
        learnt = self._learnt_by(serving)
        sensors = learnt.sensors
        examined = sensors.examine(sensors.matrix(reading.features for reading in readings))
        lacking = self._lacking(serving, examined, readings)
        now = datetime.now(UTC)
        # Readings without a time are taken in their order, a microsecond apart.
        times = [
            reading.timestamp or now + timedelta(microseconds=position)
            for position, reading in enumerate(readings)
        ]
        assets: dict[Asset, list[int]] = {}
        for index, reading in enumerate(readings):
            assets.setdefault((reading.asset_id, reading.sensor_id), []).append(index)
        question = _Question(serving, learnt, readings, times, examined, lacking)
        results: dict[int, AnomalyDetectionResult] = {}
        for asset, indices in assets.items():
            indices.sort(key=times.__getitem__)
            results |= self._answer_in_turns(question, asset, indices)
        return [results[index] for index in range(len(readings))]

    def close(self) -> None:
        """Give back what is held open."""
        if self._retention is not None:
            self._retention.close()
        if self._history is not None:
            self._history.close()

    @property
    def history_is_a_server(self) -> bool:
        """Whether readings are kept by a database server, which is waited for."""
        url = self.settings.history_url
        return self.settings.history_enabled and url is not None and not url.startswith("sqlite")

    def history(self) -> History:
        """Return the history, opened when first asked for.

        Raises
        ------
        HistoryError
            If it cannot be opened, or could not be used a moment ago.
        """
        with self._opening:
            self._outage.check()
            if self._history is None:
                # Imported here, for SQLAlchemy would be a third of the service's start.
                from vigie.history.retention import Retention
                from vigie.history.store import History

                try:
                    self._history = History(history_url(self.settings))
                except HistoryError as error:
                    self._outage.begin(error)
                    raise
                if days := self.settings.history_retention_days:
                    self._retention = Retention(self._history, days)
            return self._history

    def _learnt_by(self, serving: Mapping[str, Served]) -> _Learnt:
        """Return what the models that serve know of the sensors; it changes only with them."""
        models = [served.model for served in serving.values()]
        learnt = self._learnt
        if learnt is None or not _same(learnt.models, models):
            sensors = Sensors.of(models, self.settings.sensor_ranges)
            learnt = _Learnt(models, sensors, Past.of(sensors, []), look_back(serving))
            self._learnt = learnt
        return learnt

    def _lacking(
        self,
        serving: Mapping[str, Served],
        examined: Examined,
        readings: Sequence[AnomalyDetectionRequest],
    ) -> dict[str, dict[int, str]]:
        """Check the readings; return which model cannot look at which of them, and why.

        Raises
        ------
        InvalidDataError
            If no model can judge a reading, or one is to be refused.
        """
        lacking: dict[str, dict[int, str]] = {name: {} for name in serving}
        if not examined.masks:
            return lacking
        refuse = self.settings.faulty_values == "refuse"
        for index in np.flatnonzero(np.isnan(examined.usable).any(axis=1)).tolist():
            place = f"[{index}]." if len(readings) > 1 else ""
            if refuse:
                examined.refuse(index, f"{place}features.")
            unusable = examined.unusable(index)
            for name, served in serving.items():
                missing = [sensor for sensor in served.model.feature_names if sensor in unusable]
                if missing and (refuse or len(missing) == served.model.n_features):
                    lacking[name][index] = f"the reading lacks {', '.join(missing)}"
            if all(index in found for found in lacking.values()):
                names = next(iter(serving.values())).model.feature_names
                _complain(readings[index], names, place)
        return lacking

    def _answer_in_turns(
        self, question: _Question, asset: Asset, indices: list[int]
    ) -> dict[int, AnomalyDetectionResult]:
        """Judge the readings of one asset, in turns so short that others need not wait long."""
        if not self.settings.history_enabled:
            return self._answer_for(question, asset, indices, None).results
        results: dict[int, AnomalyDetectionResult] = {}
        parts = _in_parts(indices, question.times, self.settings.max_gap_s)
        for number, part in enumerate(parts):
            try:
                with self.history().turn(*asset) as turn:
                    answer = self._answer_for(question, asset, part, turn)
                    turn.append(answer.kept)
                    mark = turn.newest(question.learnt.look_back)
            except HistoryError as error:
                # A full disk must not blind the plant: the verdict is given all the same.
                rest = [index for left in parts[number:] for index in left]
                self._outage.begin(error)
                self._outage.tell(error, len(rest))
                return results | self._answer_for(question, asset, rest, None).results
            self._outage.end()
            results |= answer.results
            if answer.past is not None:
                self._memory.keep(asset, mark, answer.past)
        return results

    def _answer_for(
        self, question: _Question, asset: Asset, indices: list[int], turn: Turn | None
    ) -> _Answer:
        """Judge readings of one asset, given in time order."""
        past: Past = question.learnt.no_past
        between: list[Reading] = []
        if turn is not None:
            first, last = question.times[indices[0]], question.times[indices[-1]]
            past, between = self._past(question.learnt, asset, turn, first, last)
        alike = question.alike(indices, by_time=turn is not None)
        rows = _in_order(question, alike, past, between)
        reach = reach_of(rows.times, self.settings.max_gap_s)
        judged = judge(
            question.serving,
            Timeline(question.learnt.sensors, rows.times, rows.examined.usable, reach),
            len(past),
            past.p_values,
            self.settings.contamination,
            {name: rows.of(found) for name, found in question.lacking.items() if found},
        )
        standings = judged.standings(past.standing)
        results = self._results(question, rows, judged, standings, turn)
        if turn is None:
            return _Answer(results, [], None)
        kept = _to_keep(question, asset, rows, judged, standings, results)
        if between:
            return _Answer(results, kept, None)
        n_rows = question.learnt.look_back
        return _Answer(results, kept, _remembered(rows, judged, standings[-1], past, n_rows))

    def _results(
        self,
        question: _Question,
        rows: _Rows,
        judged: Judged,
        standings: Sequence[Standing],
        turn: Turn | None,
    ) -> dict[int, AnomalyDetectionResult]:
        """Return what is answered to each of the readings that were asked for."""
        contamination = judged.contamination
        combined, evidence = judged.combined.tolist(), judged.asset.tolist()
        places = [place for place, here in enumerate(rows.asked) if here]
        odd = [place for place in places if combined[place] < contamination]
        unsettled = [place for place in places if standings[place].state in UNSETTLED]
        why = judged.reasons(odd) if odd else {}
        drivers = judged.trend_reasons(unsettled) if unsettled else {}
        results: dict[int, AnomalyDetectionResult] = {}
        for place in places:
            standing, row = standings[place], judged.first + place
            verdicts, state = judged.verdicts(place), standing.state
            if turn is None and state is NORMAL:
                # A batch may show an alarm by itself, but not that there was none before it.
                state = UNKNOWN
            imputed = question.examined.unusable(rows.asked[place][-1]) if self._imputes else {}
            for index in rows.asked[place]:
                reading = question.readings[index]
                results[index] = AnomalyDetectionResult(
                    asset_id=reading.asset_id,
                    sensor_id=reading.sensor_id,
                    timestamp=question.times[index],
                    models=verdicts,
                    abstained=self._abstained(question, verdicts, index, judged, place, turn),
                    final_score=_score(combined[place]),
                    threshold=1.0 - contamination,
                    is_anomaly=combined[place] < contamination,
                    criticality=criticality(combined[place], contamination),
                    sensors=why.get(place, []),
                    imputed=imputed,
                    frozen=rows.examined.frozen(row),
                    asset=AssetVerdict(
                        state=state,
                        since=as_datetime(standing.since),
                        evidence=_score(evidence[place]),
                        began=None if standing.began is None else as_datetime(standing.began),
                        sensors=drivers.get(place, []),
                    ),
                    metadata=reading.metadata,
                )
        return results

    def _past(
        self, learnt: _Learnt, asset: Asset, turn: Turn, first: datetime, last: datetime
    ) -> tuple[Past, list[Reading]]:
        """Return what lies before readings of an asset, and what was kept between them."""
        past = self._memory.recall(asset, turn.newest(learnt.look_back), learnt.sensors)
        if past is not None and past.times[-1] < as_datetime64(first):
            return past, []
        found = turn.around(first, last, learnt.look_back)
        n_before = sum(reading.timestamp < first for reading in found)
        return Past.of(learnt.sensors, found[:n_before]), found[n_before:]

    def _abstained(
        self,
        question: _Question,
        verdicts: Mapping[str, ModelVerdict],
        index: int,
        judged: Judged,
        place: int,
        turn: Turn | None,
    ) -> dict[str, str]:
        """Return the models that say nothing of a reading, and why."""
        if len(verdicts) == len(question.serving):
            return {}
        reach, why = int(judged.timeline.reach[judged.first + place]), ""
        if not self.settings.history_enabled:
            why = ", for the history is switched off"
        elif turn is None:
            why = ", for the history cannot be used"
        return {
            name: question.lacking[name].get(
                index, f"its window has {reach} of {served.model.window} rows{why}"
            )
            for name, served in question.serving.items()
            if name not in verdicts
        }

    @property
    def _imputes(self) -> bool:
        return self.settings.faulty_values == "impute"


class _Outage:
    """A history that cannot be used: left alone for a moment, and told of once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._error: HistoryError | None = None
        self._until = 0.0
        self._n_lost = 0

    def check(self) -> None:
        """Raise what it failed with a moment ago, so that a reading need not wait for it again."""
        if self._error is not None and time.monotonic() < self._until:
            raise self._error.with_traceback(None)

    def begin(self, error: HistoryError) -> None:
        """Leave it alone for a moment."""
        if error.is_outage and error is not self._error:
            self._error, self._until = error, time.monotonic() + QUIET_AFTER_FAILURE_S

    def tell(self, error: HistoryError, n_readings: int) -> None:
        """Log the first of the readings that it does not keep, and count the others."""
        with self._lock:
            is_first, self._n_lost = self._n_lost == 0, self._n_lost + n_readings
        if is_first:
            logger.error("Readings are judged, but not kept. %s", error)

    def end(self) -> None:
        """Say how many it has not kept, if any."""
        if self._n_lost:
            with self._lock:
                n_lost, self._n_lost = self._n_lost, 0
            logger.warning("The history is there again; %d readings were not kept.", n_lost)


def history_url(settings: Settings) -> str:
    """Return the URL of the history, with its folder made where it is a file of ours."""
    if settings.history_url:
        return settings.history_url
    folder = Path(settings.state_dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HistoryError(
            f"The history has no place: {error}.", remedy="Set VIGIE_STATE_DIR to a usable folder."
        ) from error
    return f"sqlite:///{folder / 'history.db'}"


@dataclass(frozen=True)
class _Learnt:
    """What some models know of the sensors, and how many earlier readings they may look at."""

    models: Sequence[TrainedModel]
    sensors: Sensors
    no_past: Past
    look_back: int


class _Question(NamedTuple):
    """Readings, and what answers them."""

    serving: Mapping[str, Served]
    learnt: _Learnt
    readings: Sequence[AnomalyDetectionRequest]
    times: Sequence[datetime]
    examined: Examined
    lacking: Mapping[str, Mapping[int, str]]

    def alike(self, indices: Sequence[int], *, by_time: bool) -> list[list[int]]:
        """Return readings of an asset, in groups of those that are one and the same.

        Parameters
        ----------
        indices : sequence of int
            Of the readings, in time order.
        by_time : bool
            Whether their times alone say so, as in a history, where the last replaces the others.
            Where nothing is kept nothing is replaced: only what says the same is the same.
        """
        groups: dict[Hashable, list[int]] = {}
        for index in indices:
            said = () if by_time else tuple(self.readings[index].features.items())
            groups.setdefault((self.times[index], said), []).append(index)
        return list(groups.values())


class _Rows(NamedTuple):
    """Rows of one asset in time order, each with the readings asked for that are this one.

    Of several, the one given last stands for all. None was asked for where a reading
    was kept in between. ``times`` and ``examined`` begin with the past.
    """

    asked: Sequence[Sequence[int]]
    times: Times
    examined: Examined

    def of(self, readings: Container[int]) -> NDArray[np.bool_]:
        """Mark the rows for which one of these readings stands, shape (n_asked,)."""
        return np.array([bool(here) and here[-1] in readings for here in self.asked])


class _Answer(NamedTuple):
    """Results by the place of their reading, what is to be kept, and what to remember of it."""

    results: dict[int, AnomalyDetectionResult]
    kept: list[Reading]
    past: Past | None


def _in_order(
    question: _Question, alike: Sequence[Sequence[int]], past: Past, between: Sequence[Reading]
) -> _Rows:
    """Return the readings asked for and those kept in between, which have a new past now."""
    asked, last = list(alike), [here[-1] for here in alike]
    moments = [question.times[index] for index in last]
    examined = question.examined
    if last != list(range(len(examined.values))):
        examined = examined.at(last)
    # A reading sent again replaces itself: it is not its own past.
    sent = set(moments) if between else set()
    kept = [reading for reading in between if reading.timestamp not in sent]
    if kept:
        moments += [reading.timestamp for reading in kept]
        order = sorted(range(len(moments)), key=moments.__getitem__)
        moments = [moments[place] for place in order]
        asked = [asked[place] if place < len(last) else [] for place in order]
        found = Past.of(past.sensors, kept)
        values = np.concatenate([examined.values, found.values])
        usable = np.concatenate([examined.usable, found.usable])
        examined = Examined(past.sensors, values, usable, {}).at(order)
    times = as_times(moments)
    if len(past):
        times = np.concatenate([past.times, times])
    return _Rows(asked, times, past.before(examined))


def _to_keep(
    question: _Question,
    asset: Asset,
    rows: _Rows,
    judged: Judged,
    standings: Sequence[Standing],
    results: Mapping[int, AnomalyDetectionResult],
) -> list[Reading]:
    """Return what the history is to know of the readings that were asked for."""
    kept, supported = [], judged.supported.tolist()
    for place, here in enumerate(rows.asked):
        for index in here:
            result, standing = results[index], standings[place]
            what = {
                "final_score": result.final_score,
                "is_anomaly": result.is_anomaly,
                "p_value": None if isnan(supported[place]) else supported[place],
                "state": standing.state,
                "since": str(standing.since),
                "began": None if standing.began is None else str(standing.began),
                "calm": standing.calm,
                "held": rows.examined.held_for(judged.first + place),
            }
            kept.append(Reading(*asset, result.timestamp, question.readings[index].features, what))
    return kept


def _remembered(rows: _Rows, judged: Judged, standing: Standing, past: Past, n_rows: int) -> Past:
    """Return the last rows as the past of what comes next."""
    examined = rows.examined
    held = np.concatenate([past.held, examined.held[len(past) :]])
    p_values = np.concatenate([past.p_values, judged.supported])
    values = examined.values[-n_rows:]
    return Past(
        past.sensors,
        rows.times[-n_rows:],
        values,
        values if examined.sound else examined.usable[-n_rows:],
        held[-n_rows:],
        p_values[-n_rows:],
        standing,
    )


def _same(models: Sequence[TrainedModel], others: Sequence[TrainedModel]) -> bool:
    return len(models) == len(others) and all(map(is_, models, others))


def _in_parts(
    indices: Sequence[int], times: Sequence[datetime], longest_gap_s: float
) -> list[list[int]]:
    """Return readings, given in time order, in parts that are judged one after the other.

    One stray time must not make a part reach over all that was kept since. A reading with the time
    of the one before takes its place in the history, so it comes after that has been judged.
    """
    parts: list[list[int]] = []
    last = datetime.min.replace(tzinfo=UTC)
    for index in indices:
        hole = times[index] - last > timedelta(seconds=longest_gap_s)
        full = len(parts) > 0 and len(parts[-1]) >= PART
        if hole or full or times[index] == last or not parts:
            parts.append([])
        parts[-1].append(index)
        last = times[index]
    return parts


def _complain(reading: AnomalyDetectionRequest, names: Sequence[str], place: str) -> None:
    """Raise for a reading that no model can judge."""
    try:
        as_row(reading.features, names)
    except InvalidDataError as error:
        error.field = f"{place}{error.field}"
        raise
    raise InvalidDataError(
        "No sensor has a value that can be used.",
        field=f"{place}features",
        remedy="Check the sensors and their units.",
    )


def _score(p_value: float) -> float | None:
    return None if isnan(p_value) else 1.0 - p_value
