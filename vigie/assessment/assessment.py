"""What is said of consecutive rows of an asset: of each reading, of the asset, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from vigie.assessment import status
from vigie.assessment.contributions import Contributions
from vigie.assessment.ensemble import CHANGE_ROWS, Ensemble
from vigie.assessment.look_back import LookBack
from vigie.assessment.sensors import Examined
from vigie.assessment.status import AssetStatus, StatusSeries
from vigie.assessment.timeline import Timeline
from vigie.detectors.base import Floats
from vigie.detectors.data.quality import SensorFault
from vigie.detectors.trained import TrainedModel
from vigie.models.anomaly_data import AssetState, CriticalityLevel, SensorContribution

LEVELS = tuple(CriticalityLevel)
ALARM = AssetState.ALARM
EXPLAINED_AT_A_TIME = 2048
"""Readings whose sensors are looked for at a time, so that memory stays bounded."""

Rows = Sequence[int] | NDArray[np.intp]


@dataclass(frozen=True)
class Scores:
    """What each model says of the last ``n`` rows of a timeline.

    Attributes
    ----------
    timeline : Timeline
        The rows, behind those that they look back on.
    first : int
        Where in the timeline the first of the scored rows stands.
    raw, p_values : mapping of str to ndarray of shape (n,)
        Raw scores and p-values of the readings by model; NaN where it abstains.
    trends : mapping of str to ndarray of shape (n,)
        p-values of the asset by model; only of models with a trend that has rows enough.
    """

    timeline: Timeline
    first: int
    raw: Mapping[str, Floats]
    p_values: Mapping[str, Floats]
    trends: Mapping[str, Floats]


@dataclass(frozen=True)
class Assessment:
    """What is said of ``n`` consecutive rows of an asset.

    Attributes
    ----------
    ensemble : Ensemble
        The models that were asked.
    scores : Scores
        What each of them says.
    rows : Examined
        The rows, and what is wrong with their values.
    earlier : ndarray of shape (n_look_back,)
        ``conservative_p_values`` of the rows looked back on.
    p_values : ndarray of shape (n,)
        Of each reading by all models together; NaN where all abstain.
    conservative_p_values : ndarray of shape (n,)
        Of each reading as far as it can add up with others; see ``engine.conclude``.
    asset_p_values : ndarray of shape (n,)
        Of the asset at each reading; NaN while nothing can be said.
    statuses : StatusSeries
        The state of the asset after each reading.
    """

    ensemble: Ensemble
    scores: Scores
    rows: Examined
    earlier: Floats
    p_values: Floats
    conservative_p_values: Floats
    asset_p_values: Floats
    statuses: StatusSeries

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def timeline(self) -> Timeline:
        return self.scores.timeline

    @property
    def contamination(self) -> float:
        return self.ensemble.contamination

    @property
    def is_anomaly(self) -> NDArray[np.bool_]:
        """Whether each reading is an anomaly by itself, shape (n,)."""
        anomalous: NDArray[np.bool_] = self.p_values < self.contamination
        return anomalous

    @property
    def levels(self) -> NDArray[np.intp]:
        """How bad each reading is, as places in ``LEVELS``; -1 for no anomaly; shape (n,)."""
        return levels(self.p_values, self.contamination)

    @property
    def in_alarm(self) -> NDArray[np.bool_]:
        """Whether the asset is in alarm at each row, shape (n,)."""
        alarmed: NDArray[np.bool_] = self.statuses.states == status.STATES.index(ALARM)
        return alarmed

    @cached_property
    def frozen(self) -> NDArray[np.bool_]:
        """Where a sensor stands still, shape (n, n_sensors)."""
        return self.held > self.ensemble.sensors.longest_held

    @property
    def held(self) -> NDArray[np.intp]:
        """For how many rows each sensor has had its very value, shape (n, n_sensors)."""
        return self.timeline.held[self.scores.first :]

    def status(self, row: int) -> AssetStatus:
        """Return the status of the asset after one reading."""
        after = self.statuses.at(row)
        entered = int(self.statuses.entered[row])
        if after.state is ALARM and entered >= 0:
            return replace(after, began=self.began(entered))
        return after

    def began(self, row: int) -> np.datetime64:
        """Return when the sensor that drives an alarm changed, seen from the row that raised it."""
        if row not in self._began:
            stop = self.scores.first + row + 1
            start = stop - min(CHANGE_ROWS, int(self.timeline.rows_since_gap[stop - 1]))
            if why := self.trend_reasons([row]) or self.reasons([row]):
                first = why[row][0]
                values = self.timeline.rows((first.name,), slice(start, stop))[:, 0]
                # One absurd value must not draw the change to itself.
                room = 2.0 * (first.high - first.low)
                limited = np.clip(values, first.low - room, first.high + room)
                start += status.where_it_began(np.where(np.isnan(limited), first.usual, limited))
            self._began[row] = self.timeline.times[start]
        return self._began[row]

    def reasons(self, rows: Rows) -> dict[int, list[SensorContribution]]:
        """Return the sensors that readings come from, by row, the largest share first."""
        return self._contributions(rows).by_row(rows)

    def trend_reasons(self, rows: Rows) -> dict[int, list[SensorContribution]]:
        """Return the sensors that the state of the asset comes from, at these readings."""
        trends = [
            (name, trend)
            for name, model in self.ensemble.models.items()
            if name in self.scores.trends and (trend := model.trend) is not None
        ]
        return self._asked(trends, self.scores.trends, rows).by_row(rows)

    def leading(self, rows: NDArray[np.intp]) -> NDArray[np.intp]:
        """Return the sensor with the largest share in each of some readings.

        The one that ``reasons`` has first, for as many readings as there may be; places in the
        names of the sensors, shape (n_rows,).
        """
        blocks = [
            self._contributions(rows[start : start + EXPLAINED_AT_A_TIME]).leading
            for start in range(0, len(rows), EXPLAINED_AT_A_TIME)
        ]
        return np.concatenate([np.empty(0, np.intp), *blocks])

    def look_back(self) -> LookBack:
        """Return what the rows after these look back on."""
        n_rows = self.ensemble.n_look_back
        p_values = np.concatenate([self.earlier, self.conservative_p_values])[-n_rows:]
        after = self.status(len(self) - 1) if len(self) else self.statuses.before
        return LookBack(self.timeline.last(n_rows), p_values, after)

    def faults(self) -> list[SensorFault]:
        """Return all that is wrong with the sensors, by kind and sensor."""
        names, values = self.rows.sensors.names, self.rows.values
        faults = []
        for kind, mask in {**self.rows.masks, "frozen": self.frozen}.items():
            for column in np.flatnonzero(mask.any(axis=0)).tolist():
                at = mask[:, column]
                longest = int(self.held[at, column].max()) if kind == "frozen" else None
                faults.append(SensorFault.of(names[column], kind, values[:, column], at, longest))
        return faults

    @cached_property
    def _began(self) -> dict[int, np.datetime64]:
        return {}

    def _contributions(self, rows: Rows) -> Contributions:
        return self._asked(list(self.ensemble.models.items()), self.scores.p_values, rows)

    def _asked(
        self,
        models: Sequence[tuple[str, TrainedModel]],
        p_values: Mapping[str, Floats],
        rows: Rows,
    ) -> Contributions:
        at = np.asarray(rows, dtype=np.intp)
        surprises = {name: -np.log10(p_values[name][at]) for name, _ in models}
        return Contributions.asked_of(models, surprises, self.timeline, self.scores.first + at)


def criticality(p_value: float, contamination: float) -> CriticalityLevel | None:
    """Return how bad one reading is; see ``levels``."""
    if not p_value < contamination:
        return None
    return LEVELS[int(levels(np.array([p_value]), contamination)[0])]


def levels(p_values: Floats, contamination: float) -> NDArray[np.intp]:
    """Return how bad readings are: a level for each decade of p below the contamination.

    Returns
    -------
    ndarray of shape (n,)
        Places in ``LEVELS``; -1 where there is no anomaly.
    """
    anomalous = p_values < contamination
    decades = np.log10(contamination / np.where(anomalous, p_values, contamination))
    return np.where(anomalous, np.minimum(decades.astype(np.intp), len(LEVELS) - 1), -1)
