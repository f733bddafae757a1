"""The engine: from models, a look-back and the next rows to an assessment and the next look-back.

``advance`` is the entry point for a reading, a batch or a worker. Nearly all of its time goes into
``score``, which depends on the rows but not on earlier assessments, so ``vigie.assessment.stream``
scores several parts of a long table at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from vigie.assessment import status
from vigie.assessment.assessment import Assessment, Scores
from vigie.assessment.ensemble import Ensemble
from vigie.assessment.look_back import LookBack
from vigie.assessment.sensors import Examined
from vigie.assessment.status import AssetStatus, StatusSeries
from vigie.assessment.timeline import Timeline, Times
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


def score(
    ensemble: Ensemble,
    timeline: Timeline,
    first: int,
    silent: Mapping[str, NDArray[np.bool_]] = {},
) -> Scores:
    """Score the rows of a timeline from ``first`` on with all models; see ``advance``."""
    n_rows = len(timeline)
    raw, p_values, trends = {}, {}, {}
    for name, model in ensemble.models.items():
        if n_rows >= model.fewest_rows:
            raw[name] = _raw_scores(model, timeline, first)
            if name in silent:
                raw[name][silent[name]] = np.nan
            p_values[name] = model.calibration.p_value(raw[name])
        else:
            raw[name] = p_values[name] = np.full(n_rows - first, np.nan)
        if (trend := model.trend) is not None and n_rows >= trend.fewest_rows:
            trends[name] = trend.calibration.p_value(_raw_scores(trend, timeline, first))
    return Scores(timeline, first, raw, p_values, trends)


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

    Notes
    -----
    Accumulated evidence must not rest on extrapolation. A calibration on n rows supports no
    p-value below 1 / (n + 1), however far its tail is extrapolated, so conservative p-values are
    floored there. Nor may one odd reading count many times, as it would in every window that
    contains it: models of windows are left out, and without any other model the value is NaN.
    """
    limited = [
        np.maximum(scores.p_values[name], 1.0 / (model.calibration.n_samples + 1))
        for name, model in ensemble.models.items()
        if model.window == 1
    ]
    p_values = _combined(list(scores.p_values.values()))
    conservative = _combined(limited) if limited else np.full(len(rows), np.nan)
    asset = np.full(len(rows), np.nan)
    if scores.trends or len(scores.timeline) >= status.READINGS:
        since_gap = scores.timeline.rows_since_gap[scores.first :]
        readings = status.combined_readings(np.concatenate([earlier, conservative]), since_gap)
        asset = status.evidence(list(scores.trends.values()), readings)
    times = scores.timeline.times[scores.first :]
    statuses = StatusSeries.following(before, times, asset, ensemble.contamination)
    return Assessment(ensemble, scores, rows, earlier, p_values, conservative, asset, statuses)


def alone(assessment: Assessment, name: str) -> Assessment:
    """Return the assessment by a single model."""
    scores, ensemble = assessment.scores, assessment.ensemble
    only = replace(
        scores,
        raw={name: scores.raw[name]},
        p_values={name: scores.p_values[name]},
        trends={name: scores.trends[name]} if name in scores.trends else {},
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
    )
    rows, unassessed = assessment.rows.since(row), np.full(later.first, np.nan)
    return conclude(assessment.ensemble, later, rows, unassessed, None)


def _raw_scores(model: TrainedModel, timeline: Timeline, first: int) -> Floats:
    """Return the raw scores of the rows from ``first`` on."""
    n_rows, scores = len(timeline), []
    for start in range(first, n_rows, BLOCK):
        stop = min(start + BLOCK, n_rows)
        rows, windows = timeline.stretch(model.feature_names, model.window, start, stop)
        scores.append(model.raw_scores_along(timeline.imputed(model, rows))[windows])
    return scores[0] if len(scores) == 1 else np.concatenate([np.empty(0), *scores])


def _combined(p_values: Sequence[Floats]) -> Floats:
    return p_values[0] if len(p_values) == 1 else combine(np.array(p_values))
