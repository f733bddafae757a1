"""The models that assess an asset together, and how far they look back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from vigie.assessment import status
from vigie.assessment.look_back import LookBack
from vigie.assessment.sensors import Sensors
from vigie.assessment.status import AssetStatus
from vigie.assessment.timeline import Timeline
from vigie.detectors.base import Floats
from vigie.detectors.calibration.combination import combine
from vigie.detectors.data.quality import Range
from vigie.detectors.trained import TrainedModel

CHANGE_ROWS = 2 * status.READINGS
"""Rows that are searched for the beginning of a change."""


@dataclass(frozen=True, eq=False)
class Ensemble:
    """Models that assess the same rows.

    Parameters
    ----------
    models : mapping of str to TrainedModel
        By name; at least one.
    contamination : float
        The p-value below which a reading is an anomaly.
    max_gap_s : float
        A longer pause between two rows, in seconds, restarts windows.
    ranges : mapping of str to (low, high)
        Physical ranges of sensors, where they are known.
    false_alarms_per_month : float, optional
        False alarms that an asset may raise in 30 days, at most; by default the limit of an alarm
        follows the contamination.
    """

    models: Mapping[str, TrainedModel]
    contamination: float
    max_gap_s: float
    ranges: Mapping[str, Range] = field(default_factory=dict)
    false_alarms_per_month: float | None = None

    @cached_property
    def sensors(self) -> Sensors:
        """The sensors that any of the models uses."""
        return Sensors.of(self.models.values(), self.ranges)

    @cached_property
    def knows_operating_points(self) -> TrainedModel | None:
        """The first model that knows which operating points training has seen."""
        knowing = (m for m in self.models.values() if m.operating_points is not None)
        return next(knowing, None)

    @cached_property
    def least_p_value(self) -> float:
        """The lowest p-value that the latest readings can have together; see ``engine.conclude``.

        NaN without a model of single rows.
        """
        models = [model for model in self.models.values() if model.window == 1]
        if not models:
            return float("nan")
        least = np.array([[1.0 / (model.calibration.n_samples + 1)] for model in models])
        return float(2.0 * (combine(least) if len(models) > 1 else least[0])[0])

    @cached_property
    def fewest_rows(self) -> int:
        """Fewest consecutive rows from which some model judges a reading."""
        return min(model.fewest_rows for model in self.models.values())

    @cached_property
    def fewest_rows_of_state(self) -> int:
        """Fewest consecutive rows from which the state of an asset is known."""
        trends = [model.trend.fewest_rows for model in self.models.values() if model.trend]
        return min([status.READINGS, *trends])

    @cached_property
    def n_look_back(self) -> int:
        """The number of earlier rows that an assessment may use."""
        rows = [CHANGE_ROWS]
        for model in self.models.values():
            rows += [model.window]
            rows += [part.window for part in (model.trend, model.change) if part is not None]
        return max(rows)

    @cached_property
    def n_look_back_with_errors(self) -> tuple[int, int]:
        """The same, where the errors of the models that forecast are known, and of so many rows."""
        rows, errors = [CHANGE_ROWS, status.RECENT], [1]
        for model in self.models.values():
            rows += [part.window for part in (model, model.trend) if part is not None]
            if model.forecasts:
                errors += [part.window - model.window + 1 for part in model.parts]
        return max(rows), max(errors)

    def look_back(
        self, timeline: Timeline, p_values: Floats, after: AssetStatus | None
    ) -> LookBack:
        """Return the look-back of the rows that come after a timeline.

        Parameters
        ----------
        timeline : Timeline
            The rows so far.
        p_values : ndarray of shape (n_rows,)
            Of the rows; see ``LookBack``.
        after : AssetStatus or None
            The status after the last row.
        """
        forecasts = [name for name, model in self.models.items() if model.forecasts]
        n_rows, n_errors = self.n_look_back, 0
        if forecasts and timeline.errors.keys() >= set(forecasts):
            n_rows, n_errors = self.n_look_back_with_errors
        return LookBack(timeline.last(n_rows, n_errors), p_values[-n_rows:], after)

    @cached_property
    def no_look_back(self) -> LookBack:
        """The empty look-back of the first row of an asset."""
        return LookBack.none(self.sensors)
