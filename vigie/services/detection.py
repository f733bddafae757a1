"""Assess readings by the models that serve, and store them in the history."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np

from vigie.assessment.assessment import Assessment
from vigie.assessment.engine import advance, follow
from vigie.assessment.ensemble import Ensemble
from vigie.assessment.look_back import LookBack
from vigie.assessment.one_each import OneEach, advance_each
from vigie.assessment.status import STATES
from vigie.assessment.timeline import INTERVALS, as_times
from vigie.breaker import CircuitBreaker
from vigie.config import Settings
from vigie.errors import HistoryError
from vigie.events.alarms import AlarmKeeper
from vigie.events.keeping import EventKeeper, Judged
from vigie.history.address import history_url
from vigie.history.records import Reading, Standing, microseconds
from vigie.models.anomaly_data import AnomalyDetectionRequest, AnomalyDetectionResult, AssetState
from vigie.models.columns import ResultColumns
from vigie.services.detection_counts import DetectionCounts
from vigie.services.look_back_cache import Asset, LookBackCache, look_back_on, status_of
from vigie.services.questions import PART, Question, Turn, keys_of
from vigie.services.verdicts import Verdicts, as_columns, entered
from vigie.serving.served import Answering, Snapshot

if TYPE_CHECKING:
    from vigie.history.jobs import JobTable
    from vigie.history.retention import Retention
    from vigie.history.store import AssetTransaction, History, Revision

logger = logging.getLogger(__name__)

QUIET_AFTER_FAILURE_S = 5.0
"""How long a failed history is not used again, in seconds."""
AT_ONCE = 256
"""Most assets with one reading each in one transaction of the history."""
FEWEST_AT_ONCE = 4
"""Fewest assets with one reading each that are assessed at once."""
MOST_WARNED = 4096
"""Assets of which it is known that a warning has been logged."""


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
    events : EventKeeper
        Keeps the events of assets.
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
        self.events = EventKeeper(AlarmKeeper(settings))
        self._telling = threading.Lock()
        self._replacing = set[Asset]()

    def readings(
        self, serving: Snapshot, readings: Sequence[AnomalyDetectionRequest]
    ) -> list[AnomalyDetectionResult]:
        """Assess readings; see ``AnomalyDetectionService.detect_anomalies_batch``."""
        results: dict[int, AnomalyDetectionResult] = {}
        for question in self._questions(serving, readings):
            for verdicts in self._verdicts(question):
                results |= verdicts.results()
        return [results[index] for index in range(len(readings))]

    def columns(
        self, serving: Snapshot, readings: Sequence[AnomalyDetectionRequest]
    ) -> ResultColumns:
        """Assess readings of one asset; the same as ``readings``, as columns."""
        [question] = self._questions(serving, readings)
        return as_columns(question, list(self._verdicts(question)))

    def _questions(
        self, serving: Snapshot, readings: Sequence[AnomalyDetectionRequest]
    ) -> list[Question]:
        """Check all readings before the first is stored, so that a refused request stores none.

        Returns
        -------
        list of Question
            One for all readings that the same models answer.
        """
        now = datetime.now(UTC)
        # Readings without a time get consecutive ones, a microsecond apart.
        times = [
            reading.timestamp or now + timedelta(microseconds=position)
            for position, reading in enumerate(readings)
        ]
        keys = keys_of(readings, times)
        by_models: dict[Answering, list[int]] = {}
        for index, reading in enumerate(readings):
            by_models.setdefault(serving.for_asset(reading.asset_id), []).append(index)
        refuse = self.settings.faulty_values == "refuse"
        return [
            Question.checked(answering, readings, times, keys, indices, refuse=refuse)
            for answering, indices in by_models.items()
        ]

    def _verdicts(self, question: Question) -> Iterator[Verdicts]:
        """Yield the verdicts on readings, once they are stored and counted."""
        alone, several = question.turns()
        for start in range(0, len(alone), AT_ONCE):
            yield from self._final(self._together(question, alone[start : start + AT_ONCE]))
        for turn in several:
            yield from self._final(self._in_parts(question, turn))

    def _final(self, all_verdicts: Iterable[Verdicts]) -> Iterator[Verdicts]:
        for verdicts in all_verdicts:
            self.counts.add(verdicts.counted())
            yield verdicts

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

    def _in_parts(self, question: Question, turn: Turn) -> Iterator[Verdicts]:
        """Answer the readings of an asset, in short transactions that barely delay others."""
        if not self.settings.history_enabled:
            yield from self._unstored(question, [turn])
            return
        parts = question.in_parts(turn.places, self.settings.max_gap_s)
        for number, part in enumerate(parts):
            try:
                verdicts = self._stored(question, [Turn(turn.asset, part)])
            except HistoryError as error:
                # Detection continues without the history, such as on a full disk.
                rest = [place for left in parts[number:] for place in left]
                self._note_failure(error, len(rest))
                yield from self._unstored(question, [Turn(turn.asset, rest)])
                return
            yield from verdicts

    def _together(self, question: Question, turns: Sequence[Turn]) -> list[Verdicts]:
        """Answer one reading of each of some assets, in one transaction."""
        if not self.settings.history_enabled:
            return self._unstored(question, turns)
        try:
            return self._stored(question, turns)
        except HistoryError as error:
            self._note_failure(error, len(turns))
            return self._unstored(question, turns)

    def _note_failure(self, error: HistoryError, n_readings: int) -> None:
        """Count readings that are not stored, and log the first failure in turn."""
        self._open_breaker(error)
        is_outage = self._breaker.count(n_readings)
        self.counts.add_unstored(n_readings, is_outage=is_outage)
        if is_outage:
            logger.error("Readings are assessed, but not stored. %s", error)

    def _stored(self, question: Question, turns: Sequence[Turn]) -> list[Verdicts]:
        """Answer readings and store them, in one transaction.

        Raises
        ------
        HistoryError
            If the history fails; nothing has been stored.
        """
        ensemble, revisions = question.answering.ensemble, []
        with self.history().transactions([turn.asset for turn in turns]) as transactions:
            pasts = [self._past(question, *each) for each in zip(turns, transactions, strict=True)]
            answers = self._answers(question, turns, pasts)
            all_verdicts = _each_once(answers)
            for verdicts in all_verdicts:
                verdicts.explain()
            # Rows of the assets' states are locked in the order in which all others lock them.
            in_order = sorted(
                zip(transactions, pasts, answers, strict=True), key=lambda each: each[0].place
            )
            for transaction, past, answer in in_order:
                self.events.keep(transaction, answer.judged(past))
            for transaction, past, answer in zip(transactions, pasts, answers, strict=True):
                number, n = transaction.append(answer.records), ensemble.n_look_back
                if number is not None and past.goes_on and past.revision is not None:
                    last_us = microseconds(answer.records[0].timestamp)
                    revisions.append(past.revision.followed_by(number, last_us, n))
                else:
                    revisions.append(transaction.revision(n))
        if n_lost := self._breaker.recovered():
            logger.warning("The history works again; %d readings were not stored.", n_lost)
        for turn, past, answer, revision in zip(turns, pasts, answers, revisions, strict=True):
            if past.replaced:
                self._tell_of_replaced(turn.asset, past.replaced)
            is_newest = revision.newest_us == microseconds(question.key(turn.places[-1]))
            if answer.look_back is not None and is_newest:
                self._look_backs.put(turn.asset, revision, ensemble, answer.look_back)
        return all_verdicts

    def _unstored(self, question: Question, turns: Sequence[Turn]) -> list[Verdicts]:
        """Answer readings without the history."""
        why = "since the history cannot be used"
        if not self.settings.history_enabled:
            why = "since the history is disabled"
        pasts = [_Past(question.answering.ensemble.no_look_back)] * len(turns)
        return _each_once(self._answers(question, turns, pasts, why))

    def _answers(
        self,
        question: Question,
        turns: Sequence[Turn],
        pasts: Sequence[_Past],
        unstored: str | None = None,
    ) -> list[_Answer]:
        """Answer the readings of some assets."""
        answers: dict[int, _Answer] = {}
        if len(turns) >= FEWEST_AT_ONCE:
            answers = self._answers_at_once(question, turns, pasts, unstored)
        for number, turn in enumerate(turns):
            if number not in answers:
                answers[number] = self._answer(question, turn, pasts[number], unstored)
        return [answers[number] for number in range(len(turns))]

    def _answers_at_once(
        self,
        question: Question,
        turns: Sequence[Turn],
        pasts: Sequence[_Past],
        unstored: str | None,
    ) -> dict[int, _Answer]:
        """Answer those of many assets with one reading that can be assessed at once.

        Returns
        -------
        dict of int to _Answer
            By number of the turn.
        """
        numbers = [number for number, past in enumerate(pasts) if past.goes_on]
        if not numbers:
            return {}
        ensemble = question.answering.ensemble
        places = [turns[number].places[0] for number in numbers]
        each = advance_each(
            ensemble,
            [pasts[number].look_back for number in numbers],
            as_times([question.time(place) for place in places]),
            question.rows.at(places),
        )
        rows: list[int] = np.flatnonzero(each.is_assessed).tolist()
        if ensemble.false_alarms_per_month is not None:
            for row in rows:
                self._warn_of_doubt(turns[numbers[row]].asset, each, row)
        new: list[AssetState] = []
        if unstored is None:
            for row in rows:
                new += pasts[numbers[row]].entered([STATES[each.states[row]]])
        verdicts = Verdicts(question, each, [[place] for place in places], rows, (), new, unstored)
        if unstored is not None:
            return {numbers[row]: _Answer(verdicts, [row], [], None) for row in rows}
        return {
            numbers[row]: _Answer(
                verdicts, [row], [record], each.look_back(row, verdicts.status(row))
            )
            for row, record in zip(rows, verdicts.records(rows), strict=True)
        }

    def _answer(self, question: Question, turn: Turn, past: _Past, unstored: str | None) -> _Answer:
        """Answer readings of one asset, given in time order."""
        ensemble = question.answering.ensemble
        rows = question.rows_of(turn.places, past.between)
        silent = {name: rows.marked(places) for name, places in question.missing.items()}
        assessment, look_back = advance(ensemble, past.look_back, rows.times, rows.examined, silent)
        if ensemble.false_alarms_per_month is not None:
            self._warn_of_doubt(turn.asset, assessment, len(assessment) - 1)
        asked = [row for row, group in enumerate(rows.requested) if group]
        states = [STATES[state] for state in assessment.states[asked].tolist()]
        # Without the history, what the state was before them is not known.
        new = past.entered(states) if unstored is None else entered(states)
        verdicts = Verdicts(
            question, assessment, rows.requested, asked, past.replaced, new, unstored
        )
        if unstored is not None:
            return _Answer(verdicts, asked, [], None)
        records = verdicts.records(asked, past.went_on_from)
        # The stored results of readings in between came from another look-back, so cache nothing.
        return _Answer(verdicts, asked, records, None if past.between else look_back)

    def _warn_of_doubt(self, asset: Asset, assessment: Assessment | OneEach, row: int) -> None:
        """Warn once for each asset if its false alarms cannot be kept as asked for."""
        if assessment.n_rows(row) <= INTERVALS or asset in self._doubted:
            return
        if doubt := assessment.doubt(row):
            if len(self._doubted) >= MOST_WARNED:
                self._doubted.clear()
            self._doubted.add(asset)
            logger.warning("%s: %s", asset[0], doubt, extra={"asset_id": asset[0]})

    def _tell_of_replaced(self, asset: Asset, replaced: Mapping[datetime, Reading]) -> None:
        """Count readings that took the place of others, and warn once for each asset."""
        self.counts.add_replaced(len(replaced))
        with self._telling:
            if asset in self._replacing:
                return
            if len(self._replacing) >= MOST_WARNED:
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
        question: Question,
        turn: Turn,
        transaction: AssetTransaction,
    ) -> _Past:
        """Return what the history knows of the readings before, between and instead of these.

        A reading that takes the place of another one is judged by the rows before it, as if the
        other had never come. The state of the asset is different: what was told last stands, so
        that an alarm ends by calm readings only, and not because its reading was replaced.
        """
        ensemble, (asset, places) = question.answering.ensemble, turn
        first, last = question.key(places[0]), question.key(places[-1])
        revision = transaction.revision(ensemble.n_look_back)
        is_newest = revision.newest_us is None or revision.newest_us < microseconds(first)
        if is_newest and (cached := self._look_backs.get(asset, ensemble)) is not None:
            known, look_back = cached
            if known == revision:
                return _Past(look_back, revision=revision)
            if added := transaction.added(known, revision, ensemble.n_look_back, PART):
                look_back = _followed_by(ensemble, look_back, added)
                return _Past(look_back, revision=revision)
        if revision.newest_us is None:
            return _Past(ensemble.no_look_back, revision=revision)
        stored = transaction.around(first, None if is_newest else last, ensemble.n_look_back)
        n_before = sum(reading.timestamp < first for reading in stored)
        look_back = look_back_on(ensemble, stored[:n_before])
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
        return _Past(look_back, between, replaced, went_on_from, is_newest, revision)


def _followed_by(ensemble: Ensemble, look_back: LookBack, added: Sequence[Reading]) -> LookBack:
    """Return a look-back after readings that another process has assessed and stored."""
    sensors = ensemble.sensors
    rows = sensors.examine(sensors.matrix(reading.features for reading in added))
    times = as_times([reading.measured for reading in added])
    # None becomes NaN.
    p_values = np.array([reading.assessed.p_value for reading in added], dtype=np.float64)
    after = status_of(added[-1].assessed.standing)
    return follow(ensemble, look_back, times, rows, p_values, after)


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
    revision : Revision or None
        Of the stored readings; None without the history.
    """

    look_back: LookBack
    between: Sequence[Reading] = ()
    replaced: Mapping[datetime, Reading] = field(default_factory=dict)
    went_on_from: Standing | None = None
    is_newest: bool = True
    revision: Revision | None = None

    @property
    def goes_on(self) -> bool:
        """Whether the readings only follow those that are stored."""
        return self.is_newest and self.went_on_from is None and not self.between

    def entered(self, states: Sequence[AssetState]) -> list[AssetState]:
        """Return the states that the asset enters with readings, given those after each."""
        # Late readings and those that are sent again are not the state of today.
        if not self.is_newest:
            return []
        status = self.look_back.status
        return entered([AssetState.UNKNOWN if status is None else status.state, *states])


@dataclass(frozen=True)
class _Answer:
    """What is said of the readings of one asset.

    Attributes
    ----------
    verdicts : Verdicts
        Of this asset, or of several.
    rows : sequence of int
        Its rows in them.
    records : list of Reading
        For the history.
    look_back : LookBack or None
        Of the next reading; None if that has to read the history.
    """

    verdicts: Verdicts
    rows: Sequence[int]
    records: list[Reading]
    look_back: LookBack | None

    def judged(self, past: _Past) -> Judged:
        """Return what the events of the asset are made of."""
        verdicts = self.verdicts
        facts = self.rows, self.records, past.replaced, past.is_newest
        return Judged(verdicts.assessment, *facts, verdicts.question.answering.served)


def _each_once(answers: Sequence[_Answer]) -> list[Verdicts]:
    """Return the verdicts of all answers, those of several assets once."""
    return list({id(answer.verdicts): answer.verdicts for answer in answers}.values())
