"""Readings from anywhere, assessed by the models that serve, and kept in the history."""

from __future__ import annotations

import logging
import threading
from collections.abc import Container, Hashable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vigie.assessment.assessment import Assessment, criticality
from vigie.assessment.engine import advance
from vigie.assessment.look_back import LookBack
from vigie.assessment.sensors import Examined
from vigie.assessment.status import AssetStatus
from vigie.assessment.timeline import Times, as_datetime, as_datetime64, as_times
from vigie.breaker import CircuitBreaker
from vigie.config import Settings
from vigie.detectors.data.matrices import as_row
from vigie.errors import HistoryError, InvalidDataError
from vigie.history.records import Assessed, Reading
from vigie.models.anomaly_data import (
    AnomalyDetectionRequest,
    AnomalyDetectionResult,
    AssetState,
    AssetVerdict,
    ModelVerdict,
)
from vigie.services.look_back_cache import Asset, LookBackCache, look_back_on
from vigie.serving.served import Answering, Snapshot

if TYPE_CHECKING:
    from vigie.history.retention import Retention
    from vigie.history.store import AssetTransaction, History

logger = logging.getLogger(__name__)

NORMAL, UNKNOWN = AssetState.NORMAL, AssetState.UNKNOWN
UNSETTLED = (AssetState.WATCH, AssetState.ALARM)
QUIET_AFTER_FAILURE_S = 5.0
"""How long a history that has failed is not asked again."""
PART = 100
"""Readings of an asset that are assessed in one transaction of the history."""


class Detection:
    """Assess readings, and keep them in the history.

    Parameters
    ----------
    settings : Settings
        What to do about faulty values, and where the history is.
    """

    def __init__(self, settings: Settings):
        self.settings = settings
        self._opening = threading.Lock()
        self._history: History | None = None
        self._retention: Retention | None = None
        self._breaker = CircuitBreaker[HistoryError]()
        self._look_backs = LookBackCache()

    def readings(
        self, serving: Snapshot, readings: Sequence[AnomalyDetectionRequest]
    ) -> list[AnomalyDetectionResult]:
        """Assess readings; see ``AnomalyDetectionService.detect_anomalies_batch``."""
        now = datetime.now(UTC)
        # Readings without a time are taken in their order, a microsecond apart.
        times = [
            reading.timestamp or now + timedelta(microseconds=position)
            for position, reading in enumerate(readings)
        ]
        by_models: dict[Answering, list[int]] = {}
        for index, reading in enumerate(readings):
            by_models.setdefault(serving.for_asset(reading.asset_id), []).append(index)
        # All are looked at before the first is kept: one that is refused leaves nothing behind.
        questions = [
            self._question(answering, readings, times, indices)
            for answering, indices in by_models.items()
        ]
        results: dict[int, AnomalyDetectionResult] = {}
        for question in questions:
            for asset, places in question.by_asset().items():
                results |= self._answer_in_parts(question, asset, places)
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
            self._breaker.check()
            if self._history is None:
                # Imported here, for SQLAlchemy would be a third of the service's start.
                from vigie.history.retention import Retention
                from vigie.history.store import History

                try:
                    self._history = History(history_url(self.settings))
                except HistoryError as error:
                    self._open_breaker(error)
                    raise
                if days := self.settings.history_retention_days:
                    self._retention = Retention(self._history, days)
            return self._history

    def _open_breaker(self, error: HistoryError) -> None:
        if error.is_outage:
            self._breaker.open(error, QUIET_AFTER_FAILURE_S)

    def _question(
        self,
        answering: Answering,
        readings: Sequence[AnomalyDetectionRequest],
        times: Sequence[datetime],
        indices: Sequence[int],
    ) -> _Question:
        """Return readings and who answers them, checked.

        Raises
        ------
        InvalidDataError
            If no model can assess a reading, or one is to be refused.
        """
        sensors = answering.ensemble.sensors
        rows = sensors.examine(sensors.matrix(readings[index].features for index in indices))
        question = _Question(answering, readings, times, indices, rows, {})
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
                if missing and (refuse or len(missing) == model.n_features):
                    why = f"the reading lacks {', '.join(missing)}"
                    question.lacking.setdefault(name, {})[place] = why
            if len(question.lacking) == len(answering.served) and all(
                place in places for places in question.lacking.values()
            ):
                names = next(iter(answering.ensemble.models.values())).feature_names
                _complain(readings[index], names, field)
        return question

    def _answer_in_parts(
        self, question: _Question, asset: Asset, places: list[int]
    ) -> dict[int, AnomalyDetectionResult]:
        """Answer the readings of an asset, in transactions so short that others hardly wait."""
        if not self.settings.history_enabled:
            return self._answer(question, asset, places, None).results
        ensemble = question.answering.ensemble
        results: dict[int, AnomalyDetectionResult] = {}
        parts = question.in_parts(places, self.settings.max_gap_s)
        for number, part in enumerate(parts):
            try:
                with self.history().transaction(*asset) as transaction:
                    answer = self._answer(question, asset, part, transaction)
                    transaction.append(answer.kept)
                    revision = transaction.revision(ensemble.n_look_back)
            except HistoryError as error:
                # A full disk must not blind the plant: the verdict is given all the same.
                rest = [place for left in parts[number:] for place in left]
                self._open_breaker(error)
                if self._breaker.count(len(rest)):
                    logger.error("Readings are assessed, but not kept. %s", error)
                return results | self._answer(question, asset, rest, None).results
            if n_lost := self._breaker.recovered():
                logger.warning("The history is there again; %d readings were not kept.", n_lost)
            results |= answer.results
            if answer.look_back is not None:
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
        look_back, between = ensemble.no_look_back, list[Reading]()
        if transaction is not None:
            look_back, between = self._look_back(question, asset, places, transaction)
        rows = question.rows_of(places, between, by_time=transaction is not None)
        silent = {name: rows.marked(lacking) for name, lacking in question.lacking.items()}
        assessment, next_look_back = advance(ensemble, look_back, rows.times, rows.examined, silent)
        asked = [row for row, group in enumerate(rows.asked) if group]
        statuses = {row: assessment.status(row) for row in asked}
        results = self._results(question, rows, assessment, statuses, transaction)
        if transaction is None:
            return _Answer(results, [], None)
        kept = _to_keep(question, asset, rows, assessment, statuses, results)
        # Readings that were kept in between have been assessed with another past.
        return _Answer(results, kept, None if between else next_look_back)

    def _look_back(
        self,
        question: _Question,
        asset: Asset,
        places: Sequence[int],
        transaction: AssetTransaction,
    ) -> tuple[LookBack, list[Reading]]:
        """Return what lies before readings of an asset, and what was kept between them."""
        ensemble = question.answering.ensemble
        first, last = question.time(places[0]), question.time(places[-1])
        revision = transaction.revision(ensemble.n_look_back)
        cached = self._look_backs.get(asset, revision, ensemble)
        if cached is not None and cached.rows.times[-1] < as_datetime64(first):
            return cached, []
        kept = transaction.around(first, last, ensemble.n_look_back)
        n_before = sum(reading.timestamp < first for reading in kept)
        return look_back_on(ensemble.sensors, kept[:n_before]), kept[n_before:]

    def _results(
        self,
        question: _Question,
        rows: _Rows,
        assessment: Assessment,
        statuses: Mapping[int, AssetStatus],
        transaction: AssetTransaction | None,
    ) -> dict[int, AnomalyDetectionResult]:
        """Return what is answered to each of the readings that were asked for, by its index."""
        contamination, names = assessment.contamination, question.answering.ensemble.sensors.names
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
                # A batch may show an alarm by itself, but not that there was none before it.
                state = UNKNOWN
            unusable = question.rows.unusable(rows.asked[row][-1]) if self._imputes else {}
            for place in rows.asked[row]:
                reading = question.reading(place)
                results[question.indices[place]] = AnomalyDetectionResult(
                    asset_id=reading.asset_id,
                    sensor_id=reading.sensor_id,
                    timestamp=question.time(place),
                    models=verdicts,
                    abstained=self._abstained(
                        question, verdicts, place, int(since_gap[row]), transaction
                    ),
                    final_score=_score(p_values[row]),
                    threshold=1.0 - contamination,
                    is_anomaly=p_values[row] < contamination,
                    criticality=criticality(p_values[row], contamination),
                    sensors=reasons.get(row, []),
                    imputed=unusable,
                    frozen={} if frozen is None else _by_name(names, held[row], frozen[row]),
                    asset=AssetVerdict(
                        state=state,
                        since=as_datetime(status.since),
                        evidence=_score(evidence[row]),
                        began=None if status.began is None else as_datetime(status.began),
                        sensors=drivers.get(row, []),
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
    ) -> dict[str, str]:
        """Return the models that say nothing of a reading, and why."""
        models = question.answering.ensemble.models
        if len(verdicts) == len(models):
            return {}
        why = ""
        if not self.settings.history_enabled:
            why = ", for the history is switched off"
        elif transaction is None:
            why = ", for the history cannot be used"
        return {
            name: question.lacking.get(name, {}).get(
                place, f"its window has {since_gap} of {model.window} rows{why}"
            )
            for name, model in models.items()
            if name not in verdicts
        }

    @property
    def _imputes(self) -> bool:
        return self.settings.faulty_values == "impute"


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
class _Question:
    """Readings of a request, and the models that answer them.

    Attributes
    ----------
    answering : Answering
        The models.
    readings, times : sequence
        All readings of the request.
    indices : sequence of int
        Which of them these are; a *place* counts among these.
    rows : Examined
        Their values, in this order.
    lacking : mapping of str to mapping of int to str
        By model, the places that it cannot look at, and why.
    """

    answering: Answering
    readings: Sequence[AnomalyDetectionRequest]
    times: Sequence[datetime]
    indices: Sequence[int]
    rows: Examined
    lacking: dict[str, dict[int, str]]

    def reading(self, place: int) -> AnomalyDetectionRequest:
        return self.readings[self.indices[place]]

    def time(self, place: int) -> datetime:
        return self.times[self.indices[place]]

    def by_asset(self) -> dict[Asset, list[int]]:
        """Return the places of each asset's readings, in time order."""
        assets: dict[Asset, list[int]] = {}
        for place in range(len(self.indices)):
            reading = self.reading(place)
            assets.setdefault((reading.asset_id, reading.sensor_id), []).append(place)
        for places in assets.values():
            places.sort(key=self.time)
        return assets

    def in_parts(self, places: Sequence[int], longest_gap_s: float) -> list[list[int]]:
        """Return readings, given in time order, in parts that are assessed one after the other.

        One stray time must not make a part reach over all that was kept since. A reading with the
        time of the one before takes its place in the history, so it comes after that has been
        assessed.
        """
        parts: list[list[int]] = []
        longest, last = timedelta(seconds=longest_gap_s), datetime.min.replace(tzinfo=UTC)
        for place in places:
            time = self.time(place)
            is_full = bool(parts) and len(parts[-1]) >= PART
            if not parts or is_full or time - last > longest or time == last:
                parts.append([])
            parts[-1].append(place)
            last = time
        return parts

    def rows_of(self, places: Sequence[int], between: Sequence[Reading], *, by_time: bool) -> _Rows:
        """Return readings asked for as rows, with those kept in between, in time order.

        Parameters
        ----------
        places : sequence of int
            Of the readings, in time order.
        between : sequence of Reading
            Kept between the first and the last of them. They have a new past now.
        by_time : bool
            Whether readings of one time are one row, as in a history, where the last replaces the
            others. Where nothing is kept nothing is replaced: only what says the same is the same.
        """
        alike: dict[Hashable, list[int]] = {}
        for place in places:
            said = () if by_time else tuple(self.reading(place).features.items())
            alike.setdefault((self.time(place), said), []).append(place)
        asked = list(alike.values())
        last = [group[-1] for group in asked]
        moments = [self.time(place) for place in last]
        rows = self.rows
        if last != list(range(len(rows))):
            rows = rows.at(last)
        # A reading sent again replaces itself: it is not its own past.
        sent = set(moments) if between else set()
        kept = [reading for reading in between if reading.timestamp not in sent]
        if kept:
            moments += [reading.timestamp for reading in kept]
            order = sorted(range(len(moments)), key=moments.__getitem__)
            moments = [moments[place] for place in order]
            asked = [asked[place] if place < len(last) else [] for place in order]
            others = rows.sensors.examine(rows.sensors.matrix(reading.features for reading in kept))
            rows = rows.followed_by(others).at(order)
        return _Rows(asked, as_times(moments), rows)


@dataclass(frozen=True)
class _Rows:
    """Rows of one asset in time order, each with the places of the readings that are this one.

    Of several, the one given last stands for all. None was asked for where a reading was kept in
    between.
    """

    asked: Sequence[Sequence[int]]
    times: Times
    examined: Examined

    def marked(self, places: Container[int]) -> NDArray[np.bool_]:
        """Mark the rows for which one of these readings stands, shape (n_rows,)."""
        return np.array([bool(group) and group[-1] in places for group in self.asked])


@dataclass(frozen=True)
class _Answer:
    """Results by the index of their reading, what is to be kept, and the next look-back."""

    results: dict[int, AnomalyDetectionResult]
    kept: list[Reading]
    look_back: LookBack | None


def _verdicts(answering: Answering, assessment: Assessment, row: int) -> dict[str, ModelVerdict]:
    """Return what each model that answered says of one reading."""
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


def _to_keep(
    question: _Question,
    asset: Asset,
    rows: _Rows,
    assessment: Assessment,
    statuses: Mapping[int, AssetStatus],
    results: Mapping[int, AnomalyDetectionResult],
) -> list[Reading]:
    """Return what the history is to know of the readings that were asked for."""
    kept, p_values = [], assessment.conservative_p_values.tolist()
    names, held = question.answering.ensemble.sensors.names, assessment.held
    repeats = held > 1
    for row, status in statuses.items():
        for place in rows.asked[row]:
            result = results[question.indices[place]]
            assessed = Assessed(
                final_score=result.final_score,
                is_anomaly=result.is_anomaly,
                p_value=None if isnan(p_values[row]) else p_values[row],
                state=status.state,
                since=str(status.since),
                began=None if status.began is None else str(status.began),
                calm=status.calm,
                held=_by_name(names, held[row], repeats[row]),
            )
            features = question.reading(place).features
            kept.append(Reading(*asset, result.timestamp, features, assessed))
    return kept


def _by_name(
    names: Sequence[str], counts: NDArray[np.intp], which: NDArray[np.bool_]
) -> dict[str, int]:
    """Return the counts of those sensors that are marked."""
    return {names[column]: int(counts[column]) for column in which.nonzero()[0].tolist()}


def _complain(reading: AnomalyDetectionRequest, names: Sequence[str], field: str) -> None:
    """Raise for a reading that no model can assess."""
    try:
        as_row(reading.features, names)
    except InvalidDataError as error:
        error.field = f"{field}{error.field}"
        raise
    raise InvalidDataError(
        "No sensor has a value that can be used.",
        field=f"{field}features",
        remedy="Check the sensors and their units.",
    )


def _score(p_value: float) -> float | None:
    return None if isnan(p_value) else 1.0 - p_value
