"""Which sensors some rows come from, by every model that has something to say of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vigie.assessment.timeline import Timeline, as_datetime
from vigie.detectors.base import Floats
from vigie.detectors.trained import TrainedModel
from vigie.models.anomaly_data import SensorContribution

UNKNOWN = -1


@dataclass(frozen=True)
class Contributions:
    """The sensors behind some rows of a timeline.

    Attributes
    ----------
    timeline : Timeline
        The rows.
    at : ndarray of int of shape (n,)
        Which of them these are.
    surprise : ndarray of shape (n,)
        ``-log10 p`` of all models together; 0 where none has anything to say.
    parts : ndarray of shape (n, n_sensors)
        How much of it is each sensor's.
    values, usual, low, high : ndarray of shape (n, n_sensors)
        The value that was looked at, and median and usual range in training, by the first model
        that has looked at the sensor; NaN where none has.
    readings_ago : ndarray of int of shape (n, n_sensors)
        By a model that looks at windows: how many readings before the row the sensor was at its
        most unusual; ``UNKNOWN`` where no such model has looked.
    """

    timeline: Timeline
    at: NDArray[np.intp]
    surprise: Floats
    parts: Floats
    values: Floats
    usual: Floats
    low: Floats
    high: Floats
    readings_ago: NDArray[np.intp]

    @classmethod
    def asked_of(
        cls,
        models: Sequence[tuple[str, TrainedModel]],
        surprises: Mapping[str, Floats],
        timeline: Timeline,
        at: NDArray[np.intp],
    ) -> Contributions:
        """Ask models which sensors rows come from.

        Each row is scored once for each sensor, so this costs as much as many assessments.

        Parameters
        ----------
        models : sequence of (str, TrainedModel)
            By name.
        surprises : mapping of str to ndarray of shape (n,)
            By name, how surprised each model is; NaN where it abstains.
        timeline : Timeline
            The rows.
        at : ndarray of int of shape (n,)
            Which of them.
        """
        shape = len(at), len(timeline.sensors.names)
        surprise, parts = np.zeros(len(at)), np.zeros(shape)
        values, usual, low, high = (np.full(shape, np.nan) for _ in range(4))
        ago = np.full(shape, UNKNOWN)
        for name, model in models:
            said = np.flatnonzero(~np.isnan(surprises[name]))
            cells = np.ix_(said, timeline.sensors.columns(model.feature_names))
            weights = surprises[name][said]
            why = model.explain(timeline.examples(model, at[said]))
            surprise[said] += weights
            parts[cells] += weights[:, None] * why.shares
            first = np.isnan(usual[cells])
            values[cells] = np.where(first, why.values, values[cells])
            usual[cells] = np.where(first, model.usual, usual[cells])
            low[cells] = np.where(first, model.low, low[cells])
            high[cells] = np.where(first, model.high, high[cells])
            if why.readings_ago is not None:
                ago[cells] = why.readings_ago
        return cls(timeline, at, surprise, parts, values, usual, low, high, ago)

    @property
    def leading(self) -> NDArray[np.intp]:
        """The sensor with the largest part of each row, as its column, shape (n,)."""
        columns: NDArray[np.intp] = self.parts.argmax(axis=1)
        return columns

    def by_row(
        self, names: Sequence[int] | NDArray[np.intp]
    ) -> dict[int, list[SensorContribution]]:
        """Return the sensors of every row that has any, the largest share first, by its name."""
        said = (self.surprise > 0.0).nonzero()[0].tolist()
        return {int(names[row]): self._sensors(row) for row in said}

    def _sensors(self, row: int) -> list[SensorContribution]:
        known = ~np.isnan(self.usual[row])
        order = np.argsort(-self.parts[row], kind="stable")
        return [self._sensor(row, column) for column in order.tolist() if known[column]]

    def _sensor(self, row: int, column: int) -> SensorContribution:
        value, low, high = (float(of[row, column]) for of in (self.values, self.low, self.high))
        ago = int(self.readings_ago[row, column])
        return SensorContribution(
            name=self.timeline.sensors.names[column],
            share=float(self.parts[row, column] / self.surprise[row]),
            value=value,
            usual=float(self.usual[row, column]),
            low=low,
            high=high,
            direction="above" if value > high else "below" if value < low else "within",
            readings_ago=None if ago == UNKNOWN else ago,
            when=None if ago == UNKNOWN else as_datetime(self.timeline.times[self.at[row] - ago]),
        )
