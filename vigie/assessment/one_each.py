"""Assess one row of each of many assets at once.

``engine.advance`` takes the rows of one asset. A fleet sends one row of each: then nearly all of
the time goes into calling some fifty functions on arrays of one row, asset by asset. Here every
function is called once for all assets. The calculations are those of the engine, to the last bit;
``tests/integration/history/test_fleets.py`` holds the two together.

Only what most rows need is here. ``OneEach.is_assessed`` says which rows it has assessed. The
others take ``advance``: those with a missing value now or before, at an unknown operating point or
shortly after one, and those that raise an alarm, whose beginning is to be found.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from vigie.assessment import engine, false_alarms, status
from vigie.assessment.assessment import Explained, Rows, levels
from vigie.assessment.ensemble import Ensemble
from vigie.assessment.look_back import LookBack
from vigie.assessment.sensors import Examined, Sensors
from vigie.assessment.status import STATES, AssetStatus, StatusSeries
from vigie.assessment.timeline import INTERVALS, RecentRows, Timeline, Times, sampling_intervals
from vigie.detectors.base import Floats
from vigie.detectors.trained import TrainedModel
from vigie.models.anomaly_data import AssetState

ALARM = STATES.index(AssetState.ALARM)
UNKNOWN_POINT = STATES.index(AssetState.UNKNOWN_OPERATING_POINT)


@dataclass(frozen=True)
class OneEach(Explained):
    """The assessment of one row of each of ``n`` assets.

    Where ``is_assessed`` is False, the other attributes are not those of the row.

    Attributes
    ----------
    ensemble : Ensemble
        The models.
    recent : Recent
        The rows, with those before them.
    rows : Examined
        The rows, and the faults of their values.
    raw, of_rows, of_assets : mapping of str to ndarray of shape (n,)
        Raw scores and p-values of the rows, and p-values of the assets, by model; NaN where it
        abstains.
    p_values, conservative_p_values, asset_p_values : ndarray of shape (n,)
        See ``Assessment``.
    frozen : ndarray of bool of shape (n, n_sensors)
        Whether each sensor is frozen.
    states, calm : ndarray of int of shape (n,)
        See ``StatusSeries``.
    usual : ndarray of shape (n,)
        See ``AssetStatus``.
    is_assessed : ndarray of bool of shape (n,)
        Which rows have been assessed.
    """

    ensemble: Ensemble
    recent: Recent
    rows: Examined
    raw: Mapping[str, Floats]
    of_rows: Mapping[str, Floats]
    of_assets: Mapping[str, Floats]
    p_values: Floats
    conservative_p_values: Floats
    asset_p_values: Floats
    frozen: NDArray[np.bool_]
    states: NDArray[np.int64]
    calm: NDArray[np.int64]
    usual: Floats
    is_assessed: NDArray[np.bool_]

    @property
    def contamination(self) -> float:
        return self.ensemble.contamination

    @property
    def levels(self) -> NDArray[np.intp]:
        """Criticality of each row, as in ``Assessment``; (n,)."""
        return levels(self.p_values, self.contamination)

    @property
    def held(self) -> NDArray[np.int64]:
        """Rows for which each sensor has held its value, shape (n, n_sensors)."""
        return self.recent.held

    @property
    def rows_since_gap(self) -> NDArray[np.int64]:
        """Rows from the last gap of the asset to its row, itself counted, shape (n,)."""
        return self.recent.since_gap[:, -1]

    def n_rows(self, row: int) -> int:
        """Return how many rows of an asset are known: its row, and those before it."""
        return int(self.recent.n_rows[row])

    def doubt(self, row: int) -> str | None:
        """Return why the false alarms asked for are no promise; see ``Assessment.doubt``."""
        return false_alarms.doubt(self.ensemble, float(self.recent.intervals[row]))

    def status(self, row: int) -> AssetStatus:
        """Return the status of an asset after its row."""
        before = self.before(row)
        state, moment = STATES[self.states[row]], self.recent.times[row, -1]
        is_new = before is None or before.state is not state
        since, began = (moment, None) if before is None or is_new else (before.since, before.began)
        return AssetStatus(state, since, began, int(self.calm[row]), float(self.usual[row]))

    def look_back(self, row: int, after: AssetStatus) -> LookBack:
        """Return the look-back of the next row of an asset, given the status after this one."""
        recent = self.recent
        n_rows = min(self.n_rows(row), recent.times.shape[1] - 1)
        # Copies, so that one asset does not keep the rows of all in memory.
        values = recent.values[row, -n_rows:].copy()
        errors = {
            name: windows[row, -n_known:].copy()
            for name, windows in recent.errors.items()
            if (n_known := int(recent.n_errors[name][row]))
        }
        rows = RecentRows(
            *(self.ensemble.sensors, recent.times[row, -n_rows:].copy(), values, values),
            recent.since_gap[row, -n_rows:].copy(),
            recent.held[row].copy(),
            errors,
        )
        p_values = recent.p_values[row, -n_rows:].copy()
        p_values[-1] = self.conservative_p_values[row]
        return LookBack(rows, p_values, after)

    @property
    def by_model(self) -> Mapping[str, Floats]:
        return self.of_rows

    @property
    def trends(self) -> Mapping[str, Floats]:
        return self.of_assets

    @property
    def times(self) -> Times:
        """When the rows were measured, shape (n,)."""
        return self.recent.times[:, -1]

    @property
    def timeline(self) -> Timeline:
        return self.recent.timeline

    def in_timeline(self, rows: Rows) -> NDArray[np.intp]:
        last: NDArray[np.intp] = (np.asarray(rows, np.intp) + 1) * self.recent.times.shape[1] - 1
        return last

    def before(self, row: int) -> AssetStatus | None:
        """Return the status of an asset before its row; None if it has no earlier one."""
        return self.recent.look_backs[row].status


@dataclass(frozen=True)
class Recent:
    """One row of each of ``n`` assets, with the ``n_before`` rows before it, aligned at the end.

    Attributes
    ----------
    sensors : Sensors
        The columns.
    look_backs : sequence of LookBack
        Of the assets.
    n_rows : ndarray of int of shape (n,)
        How many rows of each asset are known; values of those before are NaN.
    times : ndarray of datetime64[us] of shape (n, n_before + 1)
    values : ndarray of shape (n, n_before + 1, n_sensors)
    since_gap : ndarray of int of shape (n, n_before + 1)
        Rows from the last gap to each row, itself counted; 0 before the first row.
    p_values : ndarray of shape (n, n_before + 1)
        ``LookBack.p_values``; NaN of the last row.
    held : ndarray of int of shape (n, n_sensors)
        Rows for which each sensor has held its value of the last row.
    errors : dict of str to ndarray of shape (n, n_errors, n_features)
        By model that forecasts, the errors of the last rows; see ``score``.
    n_errors : dict of str to ndarray of int of shape (n,)
        By model that forecasts, how many errors of each asset are known.
    """

    sensors: Sensors
    look_backs: Sequence[LookBack]
    n_rows: NDArray[np.intp]
    times: Times
    values: Floats
    since_gap: NDArray[np.int64]
    p_values: Floats
    held: NDArray[np.int64]
    errors: dict[str, Floats]
    n_errors: dict[str, NDArray[np.intp]]

    @classmethod
    def of(
        cls, ensemble: Ensemble, look_backs: Sequence[LookBack], times: Times, rows: Examined
    ) -> Recent:
        """Align the look-backs of assets with one row of each; see ``advance_each``."""
        n, (n_before, n_errors) = len(look_backs), ensemble.n_look_back_with_errors
        n_sensors = len(ensemble.sensors.names)
        all_times = np.zeros((n, n_before + 1), times.dtype)
        values = np.full((n, n_before + 1, n_sensors), np.nan)
        since_gap = np.zeros((n, n_before + 1), np.int64)
        p_values = np.full((n, n_before + 1), np.nan)
        held, n_rows = np.zeros((n, n_sensors), np.int64), np.zeros(n, np.intp)
        for asset, look_back in enumerate(look_backs):
            before = look_back.rows
            if known := min(len(before.times), n_before):
                at, n_rows[asset] = slice(n_before - known, n_before), known
                all_times[asset, at] = before.times[-known:]
                values[asset, at] = before.values[-known:]
                since_gap[asset, at] = before.rows_since_gap[-known:]
                p_values[asset, at] = look_back.p_values[-known:]
                held[asset] = before.held
        all_times[:, -1], values[:, -1] = times, rows.values
        steps = (all_times[:, -1] - all_times[:, -2]).view(np.int64)
        goes_on = (n_rows > 0) & (steps <= round(ensemble.max_gap_s * 1e6))
        since_gap[:, -1] = np.where(goes_on, since_gap[:, -2] + 1, 1)
        held = 1 + (values[:, -1] == values[:, -2]) * held
        arrays = all_times, values, since_gap, p_values, held
        recent = cls(ensemble.sensors, look_backs, n_rows + 1, *arrays, {}, {})
        for name, model in ensemble.models.items():
            if model.forecasts:
                recent._add_errors(name, model, n_errors)
        return recent

    def __len__(self) -> int:
        return len(self.look_backs)

    @cached_property
    def intervals(self) -> Floats:
        """Sampling interval at the row of each asset, in seconds, shape (n,)."""
        latest, since_gap = self.times[:, -INTERVALS - 1 :], self.since_gap[:, -INTERVALS - 1 :]
        steps = np.diff(latest, axis=1) / np.timedelta64(1, "s")
        is_step = (since_gap[:, 1:] > 1) & (since_gap[:, :-1] > 0)
        return sampling_intervals(np.where(is_step, steps, np.nan))

    @cached_property
    def timeline(self) -> Timeline:
        """The rows of all assets as one timeline, in which a gap is before each asset."""
        values = self.values.reshape(-1, self.values.shape[2])
        rows = self.times.reshape(-1), values, values, self.since_gap.reshape(-1)
        return Timeline(self.sensors, *rows, 0, RecentRows.none(self.sensors).held)

    def judged(self, model: TrainedModel) -> Floats:
        """Return what a model sees of the rows, shape (n, n_before + 1, n_features)."""
        return self.timeline.judged(model).reshape(*self.times.shape, -1)

    def windows(self, windows: Floats) -> Floats:
        """Return windows that end with the last row of each asset, without rows before a gap.

        Parameters
        ----------
        windows : ndarray of shape (n, length, k)
            NaN before the first row.
        """
        ago = np.arange(windows.shape[1] - 1, -1, -1)
        before_gap = self.since_gap[:, -1:] <= ago
        return np.where(before_gap[:, :, None], np.nan, windows)

    def _add_errors(self, name: str, model: TrainedModel, n_errors: int) -> None:
        """Add the errors of a model that forecasts: those that are known, and that of each row."""
        window = model.window
        judged = self.judged(model)[:, -window:]
        rows = self.windows(judged).reshape(-1, judged.shape[2])
        # Of each window, only the error of its last row counts.
        errors = model.errors(rows)[::window]
        windows = np.full((len(self), n_errors, errors.shape[1]), np.nan)
        windows[:, -1] = errors
        n_known = np.zeros(len(self), np.intp)
        for asset, look_back in enumerate(self.look_backs):
            if not len(look_back.rows):
                continue
            known = engine.known_errors(name, model, look_back.rows)[-(n_errors - 1) :]
            windows[asset, n_errors - 1 - len(known) : -1] = known
            n_known[asset] = len(known) + 1
        self.errors[name], self.n_errors[name] = windows, n_known


def advance_each(
    ensemble: Ensemble, look_backs: Sequence[LookBack], times: Times, rows: Examined
) -> OneEach:
    """Assess the next row of each of some assets.

    Parameters
    ----------
    ensemble : Ensemble
        The models.
    look_backs : sequence of LookBack
        The recent past of each asset.
    times : ndarray of datetime64[us] of shape (n_assets,)
        When the rows were measured, none before the last one of its look-back.
    rows : Examined
        The rows, with the columns of ``ensemble.sensors``.
    """
    recent = Recent.of(ensemble, look_backs, times, rows)
    raw: dict[str, Floats] = {}
    p_values: dict[str, Floats] = {}
    trends: dict[str, Floats] = {}
    changes: dict[str, Floats] = {}
    for name, model in ensemble.models.items():
        for part, scores in zip(model.parts, _raw_scores(name, model, recent), strict=True):
            if part is model:
                raw[name] = scores
            known = p_values if part is model else trends if part is model.trend else changes
            known[name] = part.calibration.p_value(scores)
    combined, conservative = engine.combined(ensemble, p_values)
    frozen = recent.held > ensemble.sensors.longest_held
    rates = None
    if (asked := ensemble.false_alarms_per_month) is not None:
        rates = false_alarms.per_reading(asked, recent.intervals)
    evidence = engine.evidence(
        ensemble,
        trends,
        changes,
        _combined_readings(recent, conservative),
        np.any(frozen, axis=1),
        np.zeros(len(recent), np.uint8),
        rates,
    )
    codes, usual = StatusSeries.codes_of([look_back.status for look_back in look_backs])
    states_before = codes // status.OFF_DELAY
    status.follow_each(evidence, ensemble.contamination, codes, usual)
    states, calm = np.divmod(codes, status.OFF_DELAY)
    is_assessed = np.array([look_back.rows.is_sound for look_back in look_backs])
    is_assessed &= ~np.isnan(rows.usable).any(axis=1) & _at_known_points(ensemble, recent)
    is_assessed &= (states_before != UNKNOWN_POINT) & ((states != ALARM) | (states_before == ALARM))
    return OneEach(
        *(ensemble, recent, rows, raw, p_values, trends, combined, conservative, evidence.p_values),
        *(frozen, states, calm, usual, is_assessed),
    )


def _raw_scores(name: str, model: TrainedModel, recent: Recent) -> list[Floats]:
    """Return the raw scores of the rows by each part of a model; NaN with too few rows."""
    if name in recent.errors:
        errors, n_rows = recent.windows(recent.errors[name]), recent.n_rows
        scores = model.raw_scores_of_errors(errors)
        return [np.where(n_rows < model.fewest_rows, np.nan, of_part) for of_part in scores]
    judged, found = recent.judged(model), []
    for part in model.parts:
        examples = np.ascontiguousarray(judged[:, -1])
        if part.window > 1:
            examples = recent.windows(judged[:, -part.window :])
        scores_of_part = part.raw_scores(examples)
        found.append(np.where(recent.n_rows < part.fewest_rows, np.nan, scores_of_part))
    return found


def _combined_readings(recent: Recent, conservative: Floats) -> Floats:
    """Return ``status.combined_readings`` for the last row of each asset, shape (n,)."""
    n = status.READINGS
    p_values = np.column_stack([recent.p_values[:, -n:-1], conservative])
    ordered = np.sort(p_values, axis=1)
    combined = np.minimum(ordered[:, n // 2 - 1] + ordered[:, n // 2], 1.0)
    too_few = (recent.since_gap[:, -1] < n) | np.isnan(p_values).any(axis=1)
    return np.where(too_few, np.nan, combined)


def _at_known_points(ensemble: Ensemble, recent: Recent) -> NDArray[np.bool_]:
    """Return whether no row that the evidence rests on is at an unknown operating point, (n,)."""
    model = ensemble.knows_operating_points
    if model is None or model.operating_points is None:
        return np.ones(len(recent), np.bool_)
    rows = recent.judged(model)[:, -status.RECENT - 1 :]
    places = model.operating_points.places(rows.reshape(-1, rows.shape[2]))
    is_known = ~np.isnan(rows).all(axis=2)
    jumped: NDArray[np.bool_] = ((places.reshape(rows.shape[:2]) == 2) & is_known).any(axis=1)
    if model.context is None:
        return ~jumped
    columns = ensemble.sensors.columns(model.feature_names)
    unseen = model.context.unseen(recent.values[:, -1].take(columns, axis=1)).any(axis=1)
    at_known: NDArray[np.bool_] = ~(jumped | unseen)
    return at_known
