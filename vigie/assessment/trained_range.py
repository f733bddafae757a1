"""Where the sensors of odd readings are outside the ranges of the training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vigie.assessment.stream import Part
from vigie.detectors.base import Floats

MOSTLY = 0.5
"""Share of the readings from which a sensor counts as outside."""
CENTRAL = (0.01, 0.99)
"""Quantiles of a part's readings that are reported as the range seen."""


@dataclass(frozen=True)
class OutOfRange:
    """A sensor that mostly reads outside the range of its training.

    Attributes
    ----------
    name : str
        The sensor.
    share : float
        Share of the readings that are outside.
    low, high : float
        What it reads, but for the most extreme hundredths, in its unit; with a context, as it
        would read in the average one.
    trained_low, trained_high : float
        Limits of the central 99 % of the training values.
    """

    name: str
    share: float
    low: float
    high: float
    trained_low: float
    trained_high: float


class TrainedRanges:
    """Compare chosen readings of all parts with the ranges of the training.

    Attributes
    ----------
    n_rows : int
        Readings compared.
    """

    def __init__(self) -> None:
        self.n_rows = 0
        self._names: tuple[str, ...] = ()
        self._trained: tuple[Floats, Floats] | None = None
        self._n_outside: NDArray[Any] = np.empty(0)
        self._low = self._high = np.empty(0)

    def add(self, part: Part, chosen: NDArray[np.bool_]) -> None:
        """Compare the readings of the next part for which ``chosen``, of shape (n,), is true."""
        assessment = part.assessment
        model = assessment.ensemble.knows_operating_points
        rows = np.flatnonzero(chosen)
        if model is None or model.operating_points is None or not len(rows):
            return
        values = assessment.timeline.judged(model, assessment.scores.first + rows)
        outside = model.operating_points.distances(np.ascontiguousarray(values), 0) > 0.0
        if self._trained is None:
            n = model.n_features
            self._names, self._trained = model.feature_names, (model.low, model.high)
            self._n_outside = np.zeros(n, np.int64)
            self._low, self._high = np.full(n, np.nan), np.full(n, np.nan)
        self.n_rows += len(rows)
        self._n_outside += outside.sum(axis=0)
        # A sensor that is outside has values, and only that of such a sensor is reported.
        known = outside.any(axis=0)
        if not known.any():
            return
        low, high = np.nanquantile(values[:, known], CENTRAL, axis=0)
        self._low[known] = np.fmin(self._low[known], low)
        self._high[known] = np.fmax(self._high[known], high)

    def outside(self) -> list[OutOfRange]:
        """Return the sensors that mostly read outside, the farthest in trained widths first."""
        if self._trained is None:
            return []
        trained_low, trained_high = self._trained
        width = np.where(trained_high > trained_low, trained_high - trained_low, 1.0)
        far = np.fmax(trained_low - self._low, self._high - trained_high) / width
        mostly = np.flatnonzero(self._n_outside > MOSTLY * self.n_rows)
        return [
            OutOfRange(
                self._names[i],
                float(self._n_outside[i] / self.n_rows),
                *(float(array[i]) for array in (self._low, self._high, trained_low, trained_high)),
            )
            for i in mostly[np.argsort(-far[mostly], kind="stable")].tolist()
        ]
