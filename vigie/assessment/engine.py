"""The engine: from models, a look-back and the next rows to an assessment and the next look-back.

``advance`` is the entry point for a reading, a batch or a worker. Nearly all of its time goes into
``score``, which depends on the rows but not on earlier assessments, so ``vigie.assessment.stream``
scores several parts of a long table at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from vigie.assessment import false_alarms, status
from vigie.assessment.assessment import Assessment, Scores
from vigie.assessment.ensemble import Ensemble
from vigie.assessment.look_back import LookBack
from vigie.assessment.sensors import Examined
from vigie.assessment.status import AssetStatus, Evidence, StatusSeries
from vigie.assessment.timeline import RecentRows, Timeline, Times
from vigie.detectors.base import Floats
from vigie.detectors.calibration.combination import combine
from vigie.detectors.trained import TrainedModel

BLOCK = 16_384
"""Rows scored at a time, to bound memory."""


def advance(
    ensemble: Ensemble,
    look_back: LookBack,
    times: Times,
    rows: Examined,
    silent: Mapping[str, NDArray[np.bool_]] = {},
) -> tuple[Assessment, LookBack]:
    """Assess the next rows of an asset.

    Parameters
    ----------
    ensemble : Ensemble
        The models.
    look_back : LookBack
        The recent past; ``ensemble.no_look_back`` if there is none.
    times : ndarray of datetime64[us] of shape (n_rows,)
        When the rows were measured, ascending and not before the last look-back row.
    rows : Examined
        The rows, with the columns of ``ensemble.sensors``.
    silent : mapping of str to ndarray of bool of shape (n_rows,), optional
        By model, the rows on which it abstains.

    Returns
    -------
    assessment : Assessment
        The assessment of these rows.
    look_back : LookBack
        The look-back of the next rows.
    """
    timeline = look_back.rows.followed_by(times, rows, ensemble.max_gap_s)
    scores = score(ensemble, timeline, len(look_back.rows), silent)
    assessment = conclude(ensemble, scores, rows, look_back.p_values, look_back.status)
    return assessment, assessment.look_back()


def follow(
    ensemble: Ensemble,
    look_back: LookBack,
    times: Times,
    rows: Examined,
    p_values: Floats,
    after: AssetStatus | None,
) -> LookBack:
    """Return the look-back after rows that another process has assessed.

    Parameters
    ----------
    ensemble, look_back, times, rows
        See ``advance``.
    p_values : ndarray of shape (n_rows,)
        ``Assessment.conservative_p_values`` of the rows, as they were assessed.
    after : AssetStatus or None
        The status after the last row, as it was assessed.
    """
    timeline, first = (
        look_back.rows.followed_by(times, rows, ensemble.max_gap_s),
        len(look_back.rows),
    )
    for name, model in ensemble.models.items():
        if _has_errors(model, timeline, first):
            _add_errors(name, model, timeline, first)
    return ensemble.look_back(timeline, np.concatenate([look_back.p_values, p_values]), after)


def score(
    ensemble: Ensemble,
    timeline: Timeline,
    first: int,
    silent: Mapping[str, NDArray[np.bool_]] = {},
) -> Scores:
    """Score the rows of a timeline from ``first`` on with all models; see ``advance``."""
    raw: dict[str, Floats] = {}
    p_values: dict[str, Floats] = {}
    trends: dict[str, Floats] = {}
    changes: dict[str, Floats] = {}
    for name, model in ensemble.models.items():
        for part, scores in zip(
            model.parts, _raw_scores(name, model, timeline, first), strict=True
        ):
            if part is model:
                if name in silent:
                    scores[silent[name]] = np.nan
                raw[name] = scores
            known = p_values if part is model else trends if part is model.trend else changes
            known[name] = part.calibration.p_value(scores)
    return Scores(timeline, first, raw, p_values, trends, changes)


def conclude(
    ensemble: Ensemble,
    scores: Scores,
    rows: Examined,
    earlier: Floats,
    before: AssetStatus | None,
) -> Assessment:
    """Combine the scores of the models and the look-back into an assessment.

    Parameters
    ----------
    ensemble : Ensemble
        The models.
    scores : Scores
        The scores of each model.
    rows : Examined
        The rows.
    earlier : ndarray of shape (n_look_back,)
        ``Assessment.conservative_p_values`` of the look-back rows.
    before : AssetStatus or None
        The status before the first row.
    """
    p_values, conservative = combined(ensemble, scores.p_values)
    readings = np.full(len(rows), np.nan)
    if len(scores.timeline) >= status.READINGS:
        since_gap = scores.timeline.rows_since_gap[scores.first :]
        readings = status.combined_readings(np.concatenate([earlier, conservative]), since_gap)
    held = scores.timeline.held[scores.first - scores.timeline.n_before :]
    frozen = held > ensemble.sensors.longest_held
    any_frozen: NDArray[np.bool_] = np.any(frozen, axis=1)
    recent = max(scores.first - status.RECENT, 0)
    places, by_context = scores.timeline.places(ensemble.knows_operating_points, recent)
    points = status.near_unknown_points(places, by_context, len(rows))
    rates = None
    if (asked := ensemble.false_alarms_per_month) is not None:
        rates = false_alarms.per_reading(asked, scores.timeline.intervals(scores.first))
    found = evidence(ensemble, scores.trends, scores.changes, readings, any_frozen, points, rates)
    times = scores.timeline.times[scores.first :]
    statuses = StatusSeries.following(before, times, found, ensemble.contamination)
    return Assessment(
        ensemble, scores, rows, frozen, earlier, p_values, conservative, found, statuses
    )


def combined(ensemble: Ensemble, p_values: Mapping[str, Floats]) -> tuple[Floats, Floats]:
    """Return the p-values of all models together, and those that can be accumulated.

    Parameters
    ----------
    ensemble : Ensemble
        The models.
    p_values : mapping of str to ndarray of shape (n,)
        By model; NaN where it abstains.

    Returns
    -------
    p_values, conservative : ndarray of shape (n,)
        NaN where all models abstain.

    Notes
    -----
    Accumulated evidence must not rest on extrapolation. A calibration on n rows supports no
    p-value below 1 / (n + 1), however far its tail is extrapolated, so conservative p-values are
    floored there. Nor may one odd reading count many times, as it would in every window that
    contains it: models of windows are left out, and without any other model the value is NaN.
    """
    limited = [
        np.maximum(p_values[name], 1.0 / (model.calibration.n_samples + 1))
        for name, model in ensemble.models.items()
        if model.window == 1
    ]
    of_all = _combined(list(p_values.values()))
    return of_all, _combined(limited) if limited else np.full(len(of_all), np.nan)


def evidence(
    ensemble: Ensemble,
    trends: Mapping[str, Floats],
    changes: Mapping[str, Floats],
    readings: Floats,
    any_frozen: NDArray[np.bool_],
    points: NDArray[np.uint8],
    rates: Floats | None = None,
) -> Evidence:
    """Return the evidence on an asset, from what each model says of its latest readings.

    Parameters
    ----------
    ensemble : Ensemble
        The models.
    trends, changes : mapping of str to ndarray of shape (n,)
        See ``Scores``.
    readings, any_frozen, points, rates : ndarray of shape (n,)
        See ``Evidence.of``.
    """
    levels = [trend for name, trend in trends.items() if name not in changes]
    forecasts = [(trend, changes[name]) for name, trend in trends.items() if name in changes]
    contamination = ensemble.contamination
    return Evidence.of(levels, forecasts, readings, any_frozen, points, contamination, rates)


def alone(assessment: Assessment, name: str) -> Assessment:
    """Return the assessment by a single model."""
    scores, ensemble = assessment.scores, assessment.ensemble
    only = replace(
        scores,
        raw={name: scores.raw[name]},
        p_values={name: scores.p_values[name]},
        trends={name: scores.trends[name]} if name in scores.trends else {},
        changes={name: scores.changes[name]} if name in scores.changes else {},
    )
    ensemble = replace(ensemble, models={name: ensemble.models[name]})
    before = assessment.statuses.before
    return conclude(ensemble, only, assessment.rows, assessment.earlier, before)


def since(assessment: Assessment, row: int) -> Assessment:
    """Return the assessment from a row on, as if no earlier row had been assessed.

    This is the situation of an asset when its models are deployed: its earlier readings are known,
    but none of them has been assessed.
    """
    scores = assessment.scores
    later = replace(
        scores,
        first=scores.first + row,
        raw={name: raw[row:] for name, raw in scores.raw.items()},
        p_values={name: p_values[row:] for name, p_values in scores.p_values.items()},
        trends={name: p_values[row:] for name, p_values in scores.trends.items()},
        changes={name: p_values[row:] for name, p_values in scores.changes.items()},
    )
    rows, unassessed = assessment.rows.since(row), np.full(later.first, np.nan)
    return conclude(assessment.ensemble, later, rows, unassessed, None)


def _raw_scores(name: str, model: TrainedModel, timeline: Timeline, first: int) -> list[Floats]:
    """Return the raw scores of the rows from ``first`` on by each part; NaN with too few rows."""
    if not _has_errors(model, timeline, first):
        return [_along(part, timeline, first) for part in model.parts]
    # A row's error takes the few rows before it, its scores take the errors of many.
    errors = _add_errors(name, model, timeline, first)
    longest = max(part.window for part in model.parts) - (model.window - 1)
    return _in_blocks(model.raw_scores_of_errors, timeline, errors, longest, first)


def _along(model: TrainedModel, timeline: Timeline, first: int) -> Floats:
    n_rows = len(timeline)
    if first == n_rows or n_rows < model.fewest_rows:
        return np.full(n_rows - first, np.nan)

    def score(rows: Floats) -> list[Floats]:
        return [model.raw_scores_along(timeline.imputed(model, rows))]

    rows = timeline.judged(model)
    return _in_blocks(score, timeline, rows, model.window, first)[0]


def _has_errors(model: TrainedModel, timeline: Timeline, first: int) -> bool:
    """Whether a model forecasts, and has rows enough to do so."""
    return model.forecasts and first < len(timeline) >= model.fewest_rows


def _add_errors(name: str, model: TrainedModel, timeline: Timeline, first: int) -> Floats:
    """Return the errors of a model that forecasts, those of the rows from ``first`` on added."""

    def forecast(rows: Floats) -> list[Floats]:
        return [model.errors(timeline.imputed(model, rows))]

    rows, known = timeline.judged(model), timeline.errors.get(name)
    [errors] = _in_blocks(forecast, timeline, rows, model.window, 0 if known is None else first)
    timeline.errors[name] = errors if known is None else np.concatenate([known, errors])
    return timeline.errors[name]


def known_errors(name: str, model: TrainedModel, rows: RecentRows) -> Floats:
    """Return the errors of a model that forecasts on the rows of a look-back, computed if needed.

    Shape (n_known, n_errors).
    """
    if name in rows.errors:
        return rows.errors[name]
    return _add_errors(name, model, rows.as_timeline(), 0)


def _in_blocks(
    score: Callable[[Floats], list[Floats]],
    timeline: Timeline,
    rows: Floats,
    window: int,
    first: int,
) -> list[Floats]:
    """Return what ``score`` makes of the windows that end with the rows from ``first`` on."""
    n_rows, blocks = len(timeline), []
    for start in range(first, n_rows, BLOCK):
        stretch, windows = timeline.stretch(rows, window, start, min(start + BLOCK, n_rows))
        blocks.append([scores[windows] for scores in score(stretch)])
    return blocks[0] if len(blocks) == 1 else list(map(np.concatenate, zip(*blocks, strict=True)))


def _combined(p_values: Sequence[Floats]) -> Floats:
    return p_values[0] if len(p_values) == 1 else combine(np.array(p_values))
