"""The power of a training: the smallest lasting step of each sensor that raises an alarm.

Steps of known size are added to copies of healthy rows, which are then scored. The rows are those
of the last fold of the calibration, scored by the fit to all other folds: on rows that a model has
learnt from, a step stands out more than it will later.

The alarm is that of this model alone, by its evidence on rows together. The vote of the single
readings is left out: it has little weight, or is slower.

The cost is bounded, whatever the number of rows and sensors:

- a step begins at ``POSITIONS`` rows at most, and at most 20 of the rows that follow are judged;
- a size is found by ``HALVINGS`` halvings, for all sensors at once;
- of wide tables only some sensors are measured, evenly spread: with ``MOST_VALUES``, 16 of 500,
  or 8 by a model that forecasts, or 4 by one of windows of 10 rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vigie.detectors.base import Floats, StepScorer
from vigie.detectors.catalogue import algorithm
from vigie.detectors.scoring import averages
from vigie.detectors.trained import TrainedModel

HORIZONS = {20: 5, 200: 10}
"""Rows within which an alarm counts, and the distance of those that are judged."""
POSITIONS = 8
"""Rows at which a step begins; upwards and downwards in turn."""
SMALLEST, LARGEST = 2.0**-6, 2.0**4
"""Sizes that are searched, in usual ranges; a larger step is a faulty sensor."""
HALVINGS = 6
"""Halvings of the logarithm of the size; the result is up to 11 % too large."""
SHARE_SEEN = 0.75
"""Share of the positions at which a step must raise an alarm, of each direction."""
MOST_VALUES = 8192
"""Most sensors measured, times the values that are scored at once."""
FEWEST_SENSORS = 4
"""Sensors measured, however wide the table is."""


@dataclass(frozen=True)
class AlarmLimits:
    """The p-values below which a model alone raises an alarm.

    Attributes
    ----------
    averages : float
        Of the trend of a model without a ``change``.
    forecasts : float
        Of the trend of a model with a ``change``.
    changes : float
        Of this change, which tells an alarm from a drift.
    changes_from_drift : float
        The same, once the asset drifts.
    """

    averages: float
    forecasts: float
    changes: float
    changes_from_drift: float


@dataclass(frozen=True)
class HeldOut:
    """A model of rows together, fitted without some stretches of the training rows.

    Attributes
    ----------
    model : TrainedModel
        With the calibration of the fit to all rows.
    stretches : tuple of (int, int)
        The rows that it was not fitted to: (start, stop).
    matched : callable
        Maps its raw scores to the unit of the calibration.
    """

    model: TrainedModel
    stretches: tuple[tuple[int, int], ...]
    matched: Callable[[Floats], Floats]

    def p_values(self, raw_scores: Floats) -> Floats:
        return self.model.calibration.p_value(self.matched(raw_scores))


def as_dict(model: TrainedModel) -> dict[str, Any]:
    """Return the smallest steps of a model for JSON; empty if it has none.

    By sensor and number of readings: the step in the sensor's unit, ``"not seen"``, or None if it
    was not measured.
    """
    facts: dict[str, Any] = {}
    for n_rows in HORIZONS:
        steps = getattr(model, f"smallest_step_{n_rows}")
        if steps is None:
            return {}
        for sensor, step in zip(model.feature_names, steps.tolist(), strict=True):
            said = None if np.isnan(step) else "not seen" if np.isinf(step) else step
            facts.setdefault(sensor, {})[f"within_{n_rows}"] = said
    return facts


def smallest_steps(
    over_time: Mapping[str, HeldOut], X: Floats, widths: Floats, limits: AlarmLimits
) -> dict[int, Floats]:
    """Return the smallest step of each sensor that raises an alarm, by the rows within which.

    Of the positions at which the healthy rows raise no alarm by themselves, three in four of those
    with a step upwards must raise one, and three in four of those with a step downwards.

    Parameters
    ----------
    over_time : mapping of str to HeldOut
        The ``trend``, and the ``change`` if the model has one.
    X : ndarray of shape (n_rows, n_features)
        The training rows, in time order.
    widths : ndarray of shape (n_features,)
        Width of the usual range of each sensor, in its unit.
    limits : AlarmLimits
        The p-values that raise an alarm.

    Returns
    -------
    dict of int to ndarray of shape (n_features,)
        In each sensor's unit. inf if no step up to ``LARGEST`` usual ranges does. NaN if it was
        not measured: a constant sensor has no usual range, of a wide table some are left out, and
        the stretches may be too short.
    """
    sensors = _measured(over_time, widths)
    found = np.full(len(sensors), np.inf)
    steps = {}
    for n_rows, every in HORIZONS.items():
        steps[n_rows] = np.full(len(widths), np.nan)
        starts = _starts(over_time, n_rows)
        if len(sensors) == 0 or len(starts) == 0:
            continue
        trial = _Trial(over_time, X, sensors, widths, limits, starts, n_rows, every)
        if not trial.is_possible:
            continue
        # What raises an alarm within a few rows raises it within more.
        found = _search(trial, found)
        steps[n_rows][sensors] = found * widths[sensors]
    return steps


def _measured(over_time: Mapping[str, HeldOut], widths: Floats) -> NDArray[np.intp]:
    """Return the sensors to measure."""
    rows = sum(_rows_of_input(part.model) for part in over_time.values())
    n_most = max(MOST_VALUES // (len(widths) * rows), FEWEST_SENSORS)
    known = np.flatnonzero(widths > 0.0)
    if len(known) <= n_most:
        return known
    return _evenly_spread(known, n_most)


def _rows_of_input(model: TrainedModel) -> int:
    """Return the averages that the algorithm is given at once; 1 without averages."""
    return 1 + model.window - int(model.params.get("averaged_rows", model.window))


def _starts(over_time: Mapping[str, HeldOut], n_rows: int) -> NDArray[np.intp]:
    """Return the rows at which a step begins; none if there are too few.

    The rows before it may be rows of the fit, since they are not changed.
    """
    first = max(part.model.window for part in over_time.values()) - 1
    fits = [
        np.arange(max(start, first), stop - n_rows + 1)
        for start, stop in over_time["trend"].stretches
    ]
    rows = np.concatenate([np.empty(0, int), *fits])
    return _evenly_spread(rows, POSITIONS if len(rows) >= POSITIONS else 0)


def _evenly_spread(values: NDArray[np.intp], n: int) -> NDArray[np.intp]:
    chosen: NDArray[np.intp] = values[np.linspace(0, len(values) - 1, n).astype(int)]
    return chosen


class _Trial:
    """Steps of all sensors from the same rows on."""

    def __init__(
        self,
        over_time: Mapping[str, HeldOut],
        X: Floats,
        sensors: NDArray[np.intp],
        widths: Floats,
        limits: AlarmLimits,
        starts: NDArray[np.intp],
        n_rows: int,
        every: int,
    ):
        self.sensors, self._limits, self._over_time = sensors, limits, over_time
        self._widths = widths[sensors]
        ends = np.arange(every - 1, n_rows, every)
        self._n_ends = len(ends)
        injection = _Injection(X, starts, ends, sensors)
        self._scorers = {name: _scorer(part.model, injection) for name, part in over_time.items()}
        self._up = np.arange(len(starts)) % 2 == 0
        # All sensors are as they were, so one of them says it for all.
        self._calm = ~self._alarms(np.zeros(len(sensors)))[:, 0]

    @property
    def is_possible(self) -> bool:
        """Whether there are calm rows for steps in both directions."""
        return bool((self._calm & self._up).any() and (self._calm & ~self._up).any())

    def seen(self, sizes: Floats) -> NDArray[np.bool_]:
        """Return whether steps of so many usual ranges (n_sensors,) raise alarms; (n_sensors,)."""
        alarms = self._alarms(sizes * self._widths)
        up, down = alarms[self._calm & self._up], alarms[self._calm & ~self._up]
        seen: NDArray[np.bool_] = (up.mean(axis=0) >= SHARE_SEEN) & (
            down.mean(axis=0) >= SHARE_SEEN
        )
        return seen

    def _alarms(self, steps: Floats) -> NDArray[np.bool_]:
        """Return whether each step raises an alarm, shape (n_starts, n_sensors)."""
        signed = np.where(self._up[:, None], steps, -steps)
        trend = self._p_values("trend", signed, np.ones((*signed.shape, self._n_ends), np.bool_))
        if "change" not in self._scorers:
            raised: Any = trend < self._limits.averages
        else:
            strong = trend < self._limits.forecasts
            # Changes cost the most, so they are scored only where they decide.
            change = self._p_values("change", signed, strong)
            drifted = np.logical_or.accumulate(strong & (change >= self._limits.changes), axis=2)
            limit = np.where(drifted, self._limits.changes_from_drift, self._limits.changes)
            raised = strong & (change < limit)
        alarms: NDArray[np.bool_] = raised.any(axis=2)
        return alarms

    def _p_values(self, name: str, steps: Floats, wanted: NDArray[np.bool_]) -> Floats:
        raw = self._scorers[name](steps, wanted)
        return self._over_time[name].p_values(raw.ravel()).reshape(raw.shape)


def _search(trial: _Trial, largest: Floats) -> Floats:
    """Return the smallest size that is seen, in usual ranges, at most ``largest``; (n_sensors,)."""
    upper = np.log2(np.minimum(largest, LARGEST))
    never = np.isinf(largest)
    if never.any():
        never &= ~trial.seen(np.exp2(upper))
    lower = np.full(len(upper), np.log2(SMALLEST))
    for _ in range(HALVINGS):
        middle = (lower + upper) / 2
        seen = trial.seen(np.exp2(middle))
        lower, upper = np.where(seen, lower, middle), np.where(seen, middle, upper)
    return np.where(never, np.inf, np.exp2(upper))


Scorer = Callable[[Floats, NDArray[np.bool_]], Floats]
"""Maps steps (n_starts, n_sensors), in units of the sensors, and which scores are wanted, to the
scores of the rows that are judged, (n_starts, n_sensors, n_ends); NaN where not wanted."""


class _Injection(NamedTuple):
    """Where steps begin in rows (n_rows, n_features), and what is judged.

    ``starts`` are rows; ``ends`` are counted from each of them; ``sensors`` are columns.
    """

    X: Floats
    starts: NDArray[np.intp]
    ends: NDArray[np.intp]
    sensors: NDArray[np.intp]


def _scorer(model: TrainedModel, injection: _Injection) -> Scorer:
    if "averaged_rows" in model.params:
        return _of_averages(model, injection)
    return _of_rows(model, injection)


def _of_averages(model: TrainedModel, injection: _Injection) -> Scorer:
    """Return a scorer of averages: of these, a step of one sensor changes one column."""
    n_rows, at_least = model.params["averaged_rows"], model.params["averaged_at_least"]
    X, starts, ends, sensors = injection
    before, length = model.window - 1, model.window + int(ends[-1])
    window = _rows_of_input(model)
    stretches = np.stack([X[start - before : start - before + length] for start in starts])
    # Only the averages in the windows that end with the rows judged.
    places = ends[:, None] + np.arange(window)
    healthy = averages(model.arrays, stretches, n_rows, at_least)[:, places]
    score = algorithm(model.algorithm).score

    def scores(steps: Floats, wanted: NDArray[np.bool_]) -> Floats:
        # Averages of one sensor do not depend on the others, so that all can step at once.
        stepped = stretches.copy()
        stepped[:, before:, sensors] += steps[:, None]
        changed = averages(model.arrays, stepped, n_rows, at_least)[:, places]
        inputs = np.repeat(healthy[:, None], len(sensors), axis=1)
        for number, sensor in enumerate(sensors):
            inputs[:, number, ..., sensor] = changed[..., sensor]
        inputs = inputs.reshape(-1, *inputs.shape[3:])
        if window == 1:
            inputs = inputs[:, 0]
        raw = score(model.arrays, model.params, np.ascontiguousarray(inputs))
        return raw.reshape(len(starts), len(sensors), len(ends))

    return scores


def _of_rows(model: TrainedModel, injection: _Injection) -> Scorer:
    """Return a scorer of rows together, by the algorithm's own way if it has one."""
    X, starts, ends, sensors = injection
    before = model.window - 1
    stretches = [X[start - before : start + int(ends[-1]) + 1] for start in starts]
    with_step = algorithm(model.algorithm).with_step
    scorers: list[StepScorer]
    if with_step is not None:
        scorers = [with_step(model.arrays, model.params, rows, before) for rows in stretches]
    else:
        scorers = [_injected(model, rows, before) for rows in stretches]

    def scores(steps: Floats, wanted: NDArray[np.bool_]) -> Floats:
        raw = np.full((len(starts), len(sensors), len(ends)), np.nan)
        for start, number in np.argwhere(wanted.any(axis=2)).tolist():
            sensor, step, at = (
                int(sensors[number]),
                float(steps[start, number]),
                wanted[start, number],
            )
            raw[start, number, at] = scorers[start](sensor, step, ends[at])
        return raw

    return scores


def _injected(model: TrainedModel, rows: Floats, first: int) -> StepScorer:
    """Return a scorer of rows in which one sensor steps at row ``first``: it scores all of them."""

    def scores(sensor: int, step: float, ends: NDArray[np.intp]) -> Floats:
        stepped = rows.copy()
        stepped[first:, sensor] += step
        return model.raw_scores_along(stepped)[ends]

    return scores
