"""From an assessment to what is answered, as results or as columns, and to what is stored."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from itertools import pairwise
from math import isnan

import numpy as np
from numpy.typing import NDArray

from vigie.assessment.assessment import LEVELS, Assessment
from vigie.assessment.one_each import OneEach
from vigie.assessment.status import STATES, AssetStatus
from vigie.assessment.timeline import US, as_datetime
from vigie.detectors.base import Floats
from vigie.detectors.data.context import as_word
from vigie.detectors.trained import TrainedModel
from vigie.history.records import Assessed, Reading, Standing
from vigie.models.anomaly_data import (
    AnomalyDetectionRequest,
    AnomalyDetectionResult,
    AssetState,
    AssetVerdict,
    ModelVerdict,
    SensorContribution,
    UnseenValue,
)
from vigie.models.columns import ModelColumns, ResultColumns
from vigie.services.detection_counts import Counted
from vigie.services.questions import Question

NORMAL, UNKNOWN = AssetState.NORMAL, AssetState.UNKNOWN
UNKNOWN_POINT = AssetState.UNKNOWN_OPERATING_POINT
UNSETTLED = (AssetState.WATCH, AssetState.DRIFT, UNKNOWN_POINT, AssetState.ALARM)


@dataclass(frozen=True)
class Verdicts:
    """The verdicts on readings that were assessed together.

    Attributes
    ----------
    question : Question
        The readings.
    assessment : Assessment or OneEach
        Of the rows of one asset, or of one row of each of some.
    requested : sequence of sequence of int
        The places of the requested readings of each row.
    rows : sequence of int
        The rows with requested readings.
    replaced : collection of datetime
        Keys of stored readings with other values that these replace.
    entered : sequence of AssetState
        The states that assets entered with them.
    unstored : str or None
        Why the history is not used, for messages; None if the readings are stored.
    """

    question: Question
    assessment: Assessment | OneEach
    requested: Sequence[Sequence[int]]
    rows: Sequence[int]
    replaced: Collection[datetime] = ()
    entered: Sequence[AssetState] = ()
    unstored: str | None = None

    def status(self, row: int) -> AssetStatus:
        """Return the status of the asset after a row."""
        if row not in self._statuses:
            self._statuses[row] = self.assessment.status(row)
        return self._statuses[row]

    @property
    def places(self) -> Iterator[tuple[int, int]]:
        """The row and the place of each requested reading."""
        return ((row, place) for row in self.rows for place in self.requested[row])

    def counted(self) -> Counted:
        """Return what is to be counted."""
        is_anomaly = self.assessment.p_values < self.assessment.contamination
        is_whole = len(self.rows) == len(is_anomaly)
        return Counted(
            self.question.answering.served,
            self.assessment.by_model,
            None if is_whole else self.rows,
            sum([len(self.requested[row]) for row in self.rows]),
            sum([len(self.requested[row]) for row in self.rows if is_anomaly[row]]),
            self.entered,
        )

    def records(self, rows: Sequence[int], went_on_from: Standing | None = None) -> list[Reading]:
        """Return the readings of some rows with their results, as the history stores them.

        Parameters
        ----------
        rows : sequence of int
            The rows.
        went_on_from : Standing or None
            The state that the first row of the assessment went on from, if it is not that of the
            reading before.
        """
        assessment, question = self.assessment, self.question
        names, held = question.answering.ensemble.sensors.names, assessment.held
        repeats, records = held > 1, []
        any_repeats: list[bool] = np.any(repeats, axis=1).tolist()
        for row in rows:
            status = self.status(row)
            p_value, conservative = self._p_values[row], self._conservative[row]
            level = self._levels[row]
            for place in self.requested[row]:
                reading, key = question.reading(place), question.key(place)
                assessed = Assessed(
                    final_score=_score(p_value),
                    is_anomaly=p_value < assessment.contamination,
                    p_value=None if isnan(conservative) else conservative,
                    state=status.state,
                    since=str(status.since),
                    began=None if status.began is None else str(status.began),
                    calm=status.calm,
                    usual=status.usual,
                    held=_by_name(names, held[row], repeats[row]) if any_repeats[row] else {},
                    shift_us=(key - question.time(place)) // US,
                    went_on_from=went_on_from if row == 0 else None,
                    criticality=None if level < 0 else LEVELS[level],
                    versions=self._versions(row),
                )
                asset, context = (reading.asset_id, reading.sensor_id), frozenset(reading.context)
                records.append(Reading(*asset, key, reading.values, assessed, context))
        return records

    def explain(self) -> None:
        """Find the sensors behind anomalies and states, which ``results`` tells.

        Call it before the readings are stored: a model that cannot explain them cannot serve.
        """
        _ = self._reasons, self._drivers, self._unseen

    def results(self, rows: Sequence[int] | None = None) -> dict[int, AnomalyDetectionResult]:
        """Return the result of each requested reading, by its index in the request.

        Parameters
        ----------
        rows : sequence of int, optional
            Those of some rows only.
        """
        assessment, question = self.assessment, self.question
        rows = self.rows if rows is None else rows
        contamination, names = assessment.contamination, question.answering.ensemble.sensors.names
        levels, p_values = self._levels, self._p_values
        evidence = assessment.asset_p_values.tolist()
        frozen = assessment.frozen if assessment.frozen.any() else None
        results: dict[int, AnomalyDetectionResult] = {}
        for row in rows:
            verdicts, status = self._by_model(row), self.status(row)
            unseen = self._unseen.get(row, [])
            unusable = {}
            if question.imputes:
                unusable = question.rows.unusable(self.requested[row][-1])
            for place in self.requested[row]:
                reading = question.reading(place)
                results[question.indices[place]] = AnomalyDetectionResult(
                    asset_id=reading.asset_id,
                    sensor_id=reading.sensor_id,
                    timestamp=question.time(place),
                    models=verdicts,
                    abstained=self._abstained(verdicts, row, place, unseen),
                    final_score=_score(p_values[row]),
                    threshold=1.0 - contamination,
                    is_anomaly=p_values[row] < contamination,
                    criticality=None if levels[row] < 0 else LEVELS[levels[row]],
                    sensors=self._reasons.get(row, []),
                    imputed=unusable,
                    frozen={}
                    if frozen is None
                    else _by_name(names, assessment.held[row], frozen[row]),
                    replaced=question.key(place) in self.replaced,
                    asset=AssetVerdict(
                        state=self._told(status.state),
                        since=as_datetime(status.since),
                        evidence=_score(evidence[row]),
                        began=None if status.began is None else as_datetime(status.began),
                        sensors=self._drivers.get(row, []),
                        unseen=_in_words(unseen, reading),
                    ),
                    metadata=reading.metadata,
                )
        return results

    def details(self) -> dict[int, AnomalyDetectionResult]:
        """Return the results that ``ResultColumns`` has whole, by index in the request."""
        assessment, question = self.assessment, self.question
        noted = (assessment.p_values < assessment.contamination) | assessment.frozen.any(axis=1)
        noted |= assessment.states == STATES.index(UNKNOWN_POINT)
        if self.replaced or question.rows.masks:
            noted[:] = True
        rows = [row for row in self.rows if noted[row]]
        results = self.results(rows) if rows else {}
        return {
            index: one
            for index, one in results.items()
            if one.is_anomaly or one.imputed or one.frozen or one.replaced or one.asset.unseen
        }

    def _versions(self, row: int) -> dict[str, int | None]:
        """Return the version of each model that did not abstain from a row."""
        served, p_values = self.question.answering.served, self.assessment.by_model
        known = [name for name in served if not isnan(p_values[name].item(row))]
        return {name: served[name].version for name in known}

    def _told(self, state: AssetState) -> AssetState:
        # Without the history, an earlier alarm may still be active.
        return UNKNOWN if state is NORMAL and self.unstored is not None else state

    def _by_model(self, row: int) -> dict[str, ModelVerdict]:
        """Return the verdict on one row of each model that did not abstain."""
        verdicts, p_values, raw = {}, self.assessment.by_model, self.assessment.raw
        for name, served in self.question.answering.served.items():
            score, model = 1.0 - p_values[name].item(row), served.model
            if isnan(score):
                continue
            verdicts[name] = ModelVerdict(
                score=score,
                threshold=model.threshold,
                is_anomaly=score > model.threshold,
                version=served.version,
                stage=served.stage,
                reconstruction_error=raw[name].item(row) if model.reconstructs else None,
            )
        return verdicts

    def _abstained(
        self,
        verdicts: Mapping[str, ModelVerdict],
        row: int,
        place: int,
        unseen: Sequence[UnseenValue],
    ) -> dict[str, str]:
        """Return the models that abstain from a reading, and why."""
        models = self.question.answering.ensemble.models
        if len(verdicts) == len(models):
            return {}
        new, since_gap = {value.name for value in unseen}, int(self.assessment.rows_since_gap[row])
        reason = "" if self.unstored is None else f", {self.unstored}"

        def why(name: str, model: TrainedModel) -> str:
            if place in (missing := self.question.missing.get(name, {})):
                return missing[place]
            if never_seen := sorted(model.context_names & new):
                return f"never seen in training: {', '.join(never_seen)}"
            return f"its window has {since_gap} of {model.fewest_rows} rows{reason}"

        return {name: why(name, model) for name, model in models.items() if name not in verdicts}

    @cached_property
    def _reasons(self) -> dict[int, list[SensorContribution]]:
        contamination = self.assessment.contamination
        rows = [row for row in self.rows if self._p_values[row] < contamination]
        return self.assessment.reasons(rows) if rows else {}

    @cached_property
    def _drivers(self) -> dict[int, list[SensorContribution]]:
        rows = [row for row in self.rows if self._state(row) in UNSETTLED]
        return self.assessment.trend_reasons(rows) if rows else {}

    @cached_property
    def _unseen(self) -> dict[int, list[UnseenValue]]:
        rows = [row for row in self.rows if self._state(row) is UNKNOWN_POINT]
        return {row: self.assessment.unseen(row) for row in rows}

    def _state(self, row: int) -> AssetState:
        return STATES[self.assessment.states[row]]

    @cached_property
    def _statuses(self) -> dict[int, AssetStatus]:
        return {}

    @cached_property
    def _p_values(self) -> list[float]:
        p_values: list[float] = self.assessment.p_values.tolist()
        return p_values

    @cached_property
    def _conservative(self) -> list[float]:
        p_values: list[float] = self.assessment.conservative_p_values.tolist()
        return p_values

    @cached_property
    def _levels(self) -> list[int]:
        levels: list[int] = self.assessment.levels.tolist()
        return levels


def as_columns(question: Question, all_verdicts: Sequence[Verdicts]) -> ResultColumns:
    """Return the verdicts on readings of one asset as columns, in the order of the readings."""
    n, served = len(question.readings), question.answering.served
    p_values, evidence = np.empty(n), np.empty(n)
    by_model = {name: np.empty(n) for name in served}
    levels, states = np.empty(n, np.intp), np.empty(n, np.intp)
    details: dict[int, AnomalyDetectionResult] = {}
    for verdicts in all_verdicts:
        assessment = verdicts.assessment
        rows, places = np.array(list(verdicts.places), np.intp).T
        at = np.array(question.indices)[places]
        p_values[at] = assessment.p_values[rows]
        evidence[at] = assessment.asset_p_values[rows]
        levels[at], states[at] = assessment.levels[rows], assessment.states[rows]
        for name, of_model in by_model.items():
            of_model[at] = assessment.by_model[name][rows]
        if verdicts.unstored is not None:
            states[at[states[at] == STATES.index(NORMAL)]] = STATES.index(UNKNOWN)
        details |= verdicts.details()
    first, contamination = question.readings[0], question.answering.ensemble.contamination
    return ResultColumns.model_construct(
        asset_id=first.asset_id,
        sensor_id=first.sensor_id,
        timestamps=list(question.times),
        final_score=_scores(p_values),
        threshold=1.0 - contamination,
        is_anomaly=(p_values < contamination).tolist(),
        criticality=[None if level < 0 else LEVELS[level] for level in levels.tolist()],
        state=[STATES[state] for state in states.tolist()],
        evidence=_scores(evidence),
        models={
            name: ModelColumns.model_construct(
                score=_scores(of_model),
                threshold=served[name].model.threshold,
                version=served[name].version,
                stage=served[name].stage,
            )
            for name, of_model in by_model.items()
            if not np.isnan(of_model).all()
        },
        details=dict(sorted(details.items())),
    )


def entered(states: Sequence[AssetState]) -> list[AssetState]:
    """Return those of consecutive states that differ from the one before."""
    return [state for last, state in pairwise(states) if state != last]


def _scores(p_values: Floats) -> list[float | None]:
    scores: list[float | None] = (1.0 - p_values).tolist()
    for place in np.flatnonzero(np.isnan(p_values)).tolist():
        scores[place] = None
    return scores


def _score(p_value: float) -> float | None:
    return None if isnan(p_value) else 1.0 - p_value


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
