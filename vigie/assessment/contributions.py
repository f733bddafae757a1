"""The contribution of each sensor to the surprise of some rows, over all models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vigie.assessment.timeline import Timeline, as_datetime
from vigie.detectors.base import Floats
from vigie.detectors.trained import TrainedModel, direction
from vigie.models.anomaly_data import SensorContribution

UNKNOWN = -1


@dataclass(frozen=True)
class Contributions:
    """The contributions of the sensors to some rows of a timeline.

    Attributes
    ----------
    timeline : Timeline
        The timeline.
    at : ndarray of int of shape (n,)
        Indices of the explained rows.
    surprise : ndarray of shape (n,)
        ``-log10 p`` summed over the models; 0 where all abstain.
    parts : ndarray of shape (n, n_sensors)
        The part of it that each sensor contributes.
    values, usual, low, high : ndarray of shape (n, n_sensors)
        The value scored, and the median and usual range in training, from the first model that
        uses the sensor; NaN where none does.
    imputed : ndarray of bool of shape (n, n_sensors)
        Whether no value was measured, so that ``values`` has an assumed one.
    readings_ago : ndarray of int of shape (n, n_sensors)
        How many readings before the row the sensor was at its most unusual, from a model of
        windows; ``UNKNOWN`` where there is no such model.
    """

    timeline: Timeline
    at: NDArray[np.intp]
    surprise: Floats
    parts: Floats
    values: Floats
    usual: Floats
    low: Floats
    high: Floats
    imputed: NDArray[np.bool_]
    readings_ago: NDArray[np.intp]

    @classmethod
    def of(
        cls,
        models: Sequence[tuple[str, TrainedModel]],
        surprises: Mapping[str, Floats],
        timeline: Timeline,
        at: NDArray[np.intp],
    ) -> Contributions:
        """Explain rows with some models.

        Each row is scored once per sensor, so this costs far more than an assessment.

        Parameters
        ----------
        models : sequence of (str, TrainedModel)
            By name.
        surprises : mapping of str to ndarray of shape (n,)
            ``-log10 p`` by name; NaN where a model abstains.
        timeline : Timeline
            The timeline.
        at : ndarray of int of shape (n,)
            Indices of the rows to explain.
        """
        shape = len(at), len(timeline.sensors.names)
        surprise, parts = np.zeros(len(at)), np.zeros(shape)
        values, usual, low, high = (np.full(shape, np.nan) for _ in range(4))
        imputed, ago = np.zeros(shape, np.bool_), np.full(shape, UNKNOWN)
        for name, model in models:
            scored = np.flatnonzero(~np.isnan(surprises[name]))
            cells = np.ix_(scored, timeline.sensors.columns(model.feature_names))
            weights = surprises[name][scored]
            explanation = model.explain(timeline.examples(model, at[scored]))
            surprise[scored] += weights
            parts[cells] += weights[:, None] * explanation.shares
            first = np.isnan(usual[cells])
            given = timeline.in_context(model, at[scored])
            for known, judged in (
                (values, explanation.values),
                (usual, model.usual),
                (low, model.low),
                (high, model.high),
            ):
                known[cells] = np.where(first, given(judged), known[cells])
            imputed[cells] = np.where(first, timeline.unmeasured(model, at[scored]), imputed[cells])
            if explanation.readings_ago is not None:
                ago[cells] = explanation.readings_ago
        return cls(timeline, at, surprise, parts, values, usual, low, high, imputed, ago)

    @property
    def leading(self) -> NDArray[np.intp]:
        """Column of the sensor with the largest part of each row, shape (n,)."""
        columns: NDArray[np.intp] = self.parts.argmax(axis=1)
        return columns

    def by_row(
        self, names: Sequence[int] | NDArray[np.intp]
    ) -> dict[int, list[SensorContribution]]:
        """Return the sensors of each surprising row, the largest share first, by its name."""
        explained = (self.surprise > 0.0).nonzero()[0].tolist()
        return {int(names[row]): self._sensors(row) for row in explained}

    def _sensors(self, row: int) -> list[SensorContribution]:
        known = ~np.isnan(self.usual[row])
        order = np.argsort(-self.parts[row], kind="stable")
        return [self._sensor(row, column) for column in order.tolist() if known[column]]

    def _fault(self, row: int, column: int) -> str | None:
        """Return why a value could not be used."""
        sensors, values = self.timeline.sensors, self.timeline.values[self.at[[row]]]
        return sensors.examine(values).unusable(0).get(sensors.names[column])

    def _sensor(self, row: int, column: int) -> SensorContribution:
        arrays = (self.values, self.low, self.high)
        value, low, high = (float(array[row, column]) for array in arrays)
        ago = int(self.readings_ago[row, column])
        return SensorContribution(
            name=self.timeline.sensors.names[column],
            share=float(self.parts[row, column] / self.surprise[row]),
            value=value,
            usual=float(self.usual[row, column]),
            low=low,
            high=high,
            direction=direction(value, low, high),
            imputed=self._fault(row, column) if self.imputed[row, column] else None,
            readings_ago=None if ago == UNKNOWN else ago,
            when=None if ago == UNKNOWN else as_datetime(self.timeline.times[self.at[row] - ago]),
        )
