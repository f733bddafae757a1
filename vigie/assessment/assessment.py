"""The assessment of consecutive rows: verdicts on each reading and on the asset, with reasons."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from vigie.assessment import false_alarms, status
from vigie.assessment.contributions import UNKNOWN, Contributions
from vigie.assessment.ensemble import CHANGE_ROWS, Ensemble
from vigie.assessment.look_back import LookBack
from vigie.assessment.sensors import Examined
from vigie.assessment.status import LOWEST_ALARM, AssetStatus, Evidence, StatusSeries
from vigie.assessment.timeline import Timeline, Times
from vigie.detectors.base import Floats
from vigie.detectors.data.quality import SensorFault
from vigie.detectors.trained import TrainedModel
from vigie.models.anomaly_data import (
    AssetState,
    CriticalityLevel,
    SensorContribution,
    UnseenContribution,
    UnseenValue,
)

LEVELS = tuple(CriticalityLevel)
ALARM = AssetState.ALARM
UNKNOWN_POINT = status.STATES.index(AssetState.UNKNOWN_OPERATING_POINT)
EXPLAIN_BLOCK = 2048
"""Readings explained at a time, to bound memory."""

Rows = Sequence[int] | NDArray[np.intp]


@dataclass(frozen=True)
class Scores:
    """The scores of each model for the last ``n`` rows of a timeline.

    Attributes
    ----------
    timeline : Timeline
        The scored rows, preceded by their look-back.
    first : int
        Index in the timeline of the first scored row.
    raw, p_values : mapping of str to ndarray of shape (n,)
        Raw scores and p-values of the readings by model; NaN where it abstains.
    trends : mapping of str to ndarray of shape (n,)
        p-values of the asset by model; NaN with too few rows.
    changes : mapping of str to ndarray of shape (n,)
        p-values of a change from the rows before, by model; only for models that forecast. NaN
        with too few rows.
    """

    timeline: Timeline
    first: int
    raw: Mapping[str, Floats]
    p_values: Mapping[str, Floats]
    trends: Mapping[str, Floats]
    changes: Mapping[str, Floats]


@dataclass(frozen=True)
class Measured:
    """What sensors read in some rows, and what is usual there.

    Attributes
    ----------
    names : tuple of str
        The sensors.
    values : ndarray of shape (n_rows, n_sensors)
        What they read; NaN where that is missing or impossible.
    usual, low, high : ndarray of shape (n_rows, n_sensors)
        Median and usual range in training, given the context; NaN of a sensor that none judges.
    """

    names: tuple[str, ...]
    values: Floats
    usual: Floats
    low: Floats
    high: Floats


class Explained(ABC):
    """What explains rows of one asset, or of several: sensors, and what they read.

    Attributes
    ----------
    ensemble : Ensemble
        The models.
    rows : Examined
        The rows, and the faults of their values.
    frozen : ndarray of bool of shape (n, n_sensors)
        Whether each sensor is frozen.
    """

    ensemble: Ensemble
    rows: Examined
    frozen: NDArray[np.bool_]

    @property
    @abstractmethod
    def timeline(self) -> Timeline:
        """The rows, with those before them."""

    @property
    @abstractmethod
    def by_model(self) -> Mapping[str, Floats]:
        """p-value of each reading by model; NaN where it abstains."""

    @property
    @abstractmethod
    def trends(self) -> Mapping[str, Floats]:
        """p-value of the asset at each reading by model; NaN with too few rows."""

    @abstractmethod
    def in_timeline(self, rows: Rows) -> NDArray[np.intp]:
        """Return where rows are in the timeline."""

    def reasons(self, rows: Rows) -> dict[int, list[SensorContribution]]:
        """Return the sensors that explain readings, by row, the largest share first."""
        return self._contributions(rows).by_row(rows)

    def trend_reasons(self, rows: Rows) -> dict[int, list[SensorContribution]]:
        """Return the sensors that explain the state of the asset at these readings, by row."""
        trends = [
            (name, trend)
            for name, model in self.ensemble.models.items()
            if name in self.trends and (trend := model.trend) is not None
        ]
        return self._explained_by(trends, self.trends, rows).by_row(rows)

    def measured(self, rows: Rows) -> Measured:
        """Return what the sensors read in these rows, and what is usual there."""
        at = np.asarray(rows, dtype=np.intp)
        names, values = self.rows.sensors.names, self.rows.usable[at]
        usual, low, high = (np.full(values.shape, np.nan) for _ in range(3))
        for model in self.ensemble.models.values():
            columns = self.timeline.sensors.columns(model.feature_names)
            first = np.isnan(usual[:, columns])
            if not first.any():
                continue
            given = self.timeline.in_context(model, self.in_timeline(at))
            for known, fact in ((usual, model.usual), (low, model.low), (high, model.high)):
                known[:, columns] = np.where(first, given(fact), known[:, columns])
        return Measured(names, values, usual, low, high)

    def frozen_sensors(self, rows: Rows) -> dict[int, list[SensorContribution]]:
        """Return the sensors that are frozen at these readings, with equal shares, by row."""
        at = np.asarray(rows, dtype=np.intp)
        frozen = self.frozen[at].astype(np.float64)
        usual, low, high = (np.full(frozen.shape, np.nan) for _ in range(3))
        for model in self.ensemble.models.values():
            columns = self.timeline.sensors.columns(model.feature_names)
            for facts, fact in ((usual, model.usual), (low, model.low), (high, model.high)):
                facts[:, columns] = fact
        return Contributions(
            timeline=self.timeline,
            at=self.in_timeline(at),
            surprise=frozen.sum(axis=1),
            parts=frozen,
            values=self.rows.values[at],
            usual=usual,
            low=low,
            high=high,
            imputed=np.zeros(frozen.shape, np.bool_),
            readings_ago=np.full(frozen.shape, UNKNOWN),
        ).by_row(at)

    def unseen_sensors(self, rows: Rows) -> dict[int, list[UnseenContribution]]:
        """Return the values of these readings that training has not seen, by row.

        With equal shares; ``usual`` is NaN, and so is ``value`` of a word, which is in ``word``.
        """
        found = {}
        for row in map(int, rows):
            unseen = self.unseen(row)
            found[row] = [
                UnseenContribution(
                    name=value.name,
                    word=value.value if isinstance(value.value, str) else None,
                    share=1.0 / len(unseen),
                    value=value.value if isinstance(value.value, float) else np.nan,
                    usual=np.nan,
                    low=np.nan,
                    high=np.nan,
                    direction="within",
                )
                for value in unseen
            ]
        return found

    def unseen(self, row: int) -> list[UnseenValue]:
        """Return the values of a row that training has not seen, those of the context first."""
        model = self.ensemble.knows_operating_points
        if model is None or model.operating_points is None:
            return []
        names, points, context = model.feature_names, model.operating_points, model.context
        at = self.in_timeline([row])
        values, found = self.timeline.rows(names, at)[0], []
        if context is not None:
            for column in np.compress(context.unseen(values[None])[0], context.columns).tolist():
                value: float | str | None = float(values[column])
                if column in context.words:
                    # Of an unknown word, the values have only its code.
                    value = self.rows.words.get(float(values[column]))
                known = context.words.get(column) or [
                    (float(f"{low:.6g}"), float(f"{high:.6g}"))
                    for low, high in context.seen[column].tolist()
                ]
                found.append(UnseenValue(name=names[column], value=value, seen=known))
        read = self.timeline.in_context(model, at)
        for column in points.farthest(self.timeline.judged(model, at)[0]):
            ranges = points.ranges_of(column)
            low, high = (read(np.repeat(end[:, None], len(names), axis=1)) for end in ranges.T)
            seen = list(zip(low[:, column].tolist(), high[:, column].tolist(), strict=True))
            found.append(UnseenValue(name=names[column], value=float(values[column]), seen=seen))
        return found

    def _contributions(self, rows: Rows) -> Contributions:
        models = list(self.ensemble.models.items())
        return self._explained_by(models, self.by_model, rows)

    def _explained_by(
        self,
        models: Sequence[tuple[str, TrainedModel]],
        p_values: Mapping[str, Floats],
        rows: Rows,
    ) -> Contributions:
        at = np.asarray(rows, dtype=np.intp)
        surprises = {name: -np.log10(p_values[name][at]) for name, _ in models}
        return Contributions.of(models, surprises, self.timeline, self.in_timeline(at))


@dataclass(frozen=True)
class Assessment(Explained):
    """The assessment of ``n`` consecutive rows of an asset.

    Attributes
    ----------
    ensemble : Ensemble
        The models.
    scores : Scores
        The scores of each model.
    rows : Examined
        The rows, and the faults of their values.
    frozen : ndarray of bool of shape (n, n_sensors)
        Whether each sensor is frozen.
    earlier : ndarray of shape (n_look_back,)
        ``conservative_p_values`` of the look-back rows.
    p_values : ndarray of shape (n,)
        Combined p-value of each reading; NaN where all models abstain.
    conservative_p_values : ndarray of shape (n,)
        p-value of each reading, limited so that it can be accumulated; see ``engine.conclude``.
    evidence : Evidence
        On the asset at each reading.
    statuses : StatusSeries
        The state of the asset after each reading.
    """

    ensemble: Ensemble
    scores: Scores
    rows: Examined
    frozen: NDArray[np.bool_]
    earlier: Floats
    p_values: Floats
    conservative_p_values: Floats
    evidence: Evidence
    statuses: StatusSeries

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def timeline(self) -> Timeline:
        return self.scores.timeline

    @property
    def trends(self) -> Mapping[str, Floats]:
        return self.scores.trends

    @property
    def times(self) -> Times:
        """When the rows were measured, shape (n,)."""
        return self.timeline.times[self.scores.first :]

    def in_timeline(self, rows: Rows) -> NDArray[np.intp]:
        return self.scores.first + np.asarray(rows, dtype=np.intp)

    def before(self, row: int) -> AssetStatus | None:
        """Return the status of the asset before all rows; None if it has no earlier one."""
        return self.statuses.before

    @property
    def raw(self) -> Mapping[str, Floats]:
        return self.scores.raw

    @property
    def by_model(self) -> Mapping[str, Floats]:
        return self.scores.p_values

    @property
    def states(self) -> NDArray[np.uint8]:
        """State of the asset after each reading, as an index into ``STATES``; (n,)."""
        return self.statuses.states

    @property
    def contamination(self) -> float:
        return self.ensemble.contamination

    @property
    def rows_since_gap(self) -> NDArray[np.int64]:
        """Rows from the last gap to each row, itself counted, shape (n,)."""
        return self.timeline.rows_since_gap[self.scores.first :]

    @property
    def asset_p_values(self) -> Floats:
        """p-value of the asset at each reading; NaN while there are too few rows; (n,)."""
        return self.evidence.p_values

    @property
    def is_at_floor(self) -> NDArray[np.bool_]:
        """Where the asset is as unusual as so few training rows can tell, or more; (n,)."""
        found: NDArray[np.bool_] = np.isclose(
            self.asset_p_values, self.ensemble.least_p_value, rtol=1e-6, atol=0.0
        )
        return found

    @property
    def alarm_limit(self) -> float:
        """The p-value of the asset below which an alarm is raised.

        The median over the rows where it follows their sampling interval.
        """
        limits, _ = self.evidence.limits_at(self.contamination)
        return float(np.median(limits[:, 1])) if len(limits) else LOWEST_ALARM

    def n_rows(self, row: int) -> int:
        """Return how many rows are known up to one: those before it count too."""
        return self.scores.first + row + 1

    def doubt(self, row: int) -> str | None:
        """Return why the false alarms asked for are no promise at a row; None if they are."""
        if self.ensemble.false_alarms_per_month is None:
            return None
        interval = self.timeline.intervals(self.scores.first + row)[0]
        return false_alarms.doubt(self.ensemble, float(interval))

    @property
    def is_anomaly(self) -> NDArray[np.bool_]:
        """Whether each reading is an anomaly by itself, shape (n,)."""
        anomalous: NDArray[np.bool_] = self.p_values < self.contamination
        return anomalous

    @property
    def levels(self) -> NDArray[np.intp]:
        """Criticality of each reading, as an index into ``LEVELS``; -1: no anomaly; (n,).

        At an unknown operating point, readings are rare whether the asset is healthy or not, so
        their level is the lowest.
        """
        found = levels(self.p_values, self.contamination)
        return np.where(self.statuses.states == UNKNOWN_POINT, np.minimum(found, 0), found)

    def unseen_context(self) -> dict[str, tuple[NDArray[np.bool_], Floats]]:
        """Return the columns of the context with values that training has not seen.

        Returns
        -------
        dict of str to (ndarray of bool, ndarray), each of shape (n,)
            By name, the rows with such a value, and the values; of words their codes, which
            ``rows.words`` has.
        """
        model = self.ensemble.knows_operating_points
        if model is None or model.context is None:
            return {}
        rows = self.timeline.rows(model.feature_names, slice(self.scores.first, None))
        unseen = model.context.unseen(rows)
        return {
            model.feature_names[column]: (unseen[:, at], rows[:, column])
            for at, column in enumerate(model.context.columns)
            if unseen[:, at].any()
        }

    @property
    def in_alarm(self) -> NDArray[np.bool_]:
        """Whether the asset is in alarm at each row, shape (n,)."""
        alarmed: NDArray[np.bool_] = self.statuses.states == status.STATES.index(ALARM)
        return alarmed

    @property
    def held(self) -> NDArray[np.intp]:
        """Rows for which each sensor has held its current value, shape (n, n_sensors)."""
        return self.timeline.held[self.scores.first - self.timeline.n_before :]

    def status(self, row: int) -> AssetStatus:
        """Return the status of the asset after one reading."""
        after = self.statuses.at(row)
        entered = int(self.statuses.entered[row])
        if after.state is ALARM and entered >= 0:
            return replace(after, began=self.began(entered))
        return after

    def began(self, row: int) -> np.datetime64:
        """Return when the sensor that drives an alarm changed, given the row that raised it."""
        moment: np.datetime64 = self.timeline.times[self.scores.first + self.began_row(row)]
        return moment

    def began_row(self, row: int) -> int:
        """Return the row at which the change of ``began`` is; negative before the first row."""
        if row not in self._began:
            stop = self.scores.first + row + 1
            start = stop - min(CHANGE_ROWS, int(self.timeline.rows_since_gap[stop - 1]))
            if reasons := self.trend_reasons([row]) or self.reasons([row]):
                sensor = reasons[row][0]
                values = self.timeline.rows((sensor.name,), slice(start, stop))[:, 0]
                # A single outlier must not determine the change point.
                margin = 2.0 * (sensor.high - sensor.low)
                clipped = np.clip(values, sensor.low - margin, sensor.high + margin)
                start += status.change_point(np.where(np.isnan(clipped), sensor.usual, clipped))
            self._began[row] = start - self.scores.first
        return self._began[row]

    def leading(self, rows: NDArray[np.intp]) -> NDArray[np.intp]:
        """Return the sensor with the largest share in each of these readings.

        The first one of ``reasons``, but for any number of readings, since memory stays bounded;
        as column indices, shape (n_rows,).
        """
        blocks = [
            self._contributions(rows[start : start + EXPLAIN_BLOCK]).leading
            for start in range(0, len(rows), EXPLAIN_BLOCK)
        ]
        return np.concatenate([np.empty(0, np.intp), *blocks])

    def look_back(self) -> LookBack:
        """Return the look-back of the next rows."""
        p_values = np.concatenate([self.earlier, self.conservative_p_values])
        after = self.status(len(self) - 1) if len(self) else self.statuses.before
        return self.ensemble.look_back(self.timeline, p_values, after)

    def faults(self) -> list[SensorFault]:
        """Return the faults of the sensors, by kind and sensor."""
        names, values = self.rows.sensors.names, self.rows.values
        faults = []
        for kind, mask in {**self.rows.masks, "frozen": self.frozen}.items():
            for column in np.flatnonzero(mask.any(axis=0)).tolist():
                at_fault = mask[:, column]
                longest = int(self.held[at_fault, column].max()) if kind == "frozen" else None
                readings = values[:, column]
                faults.append(SensorFault.of(names[column], kind, readings, at_fault, longest))
        return faults

    @cached_property
    def _began(self) -> dict[int, int]:
        return {}


def criticality(p_value: float, contamination: float) -> CriticalityLevel | None:
    """Return the criticality of one reading, or None if it is no anomaly; see ``levels``."""
    if not p_value < contamination:
        return None
    return LEVELS[int(levels(np.array([p_value]), contamination)[0])]


def levels(p_values: Floats, contamination: float) -> NDArray[np.intp]:
    """Return the criticality of readings: one level per decade of p below the contamination.

    Returns
    -------
    ndarray of shape (n,)
        Indices into ``LEVELS``; -1 where there is no anomaly.
    """
    anomalous = p_values < contamination
    decades = np.log10(contamination / np.where(anomalous, p_values, contamination))
    return np.where(anomalous, np.minimum(decades.astype(np.intp), len(LEVELS) - 1), -1)
