"""The engine: from models, a look-back and the next rows to an assessment and the next look-back.

``advance`` is all that a reading, a batch or a worker calls. Nearly all of its time goes into
``score``, which needs the rows alone and not what was said of earlier ones; so a long table is
scored several parts at once (``vigie.assessment.stream``).
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
"""Rows scored at a time, so that memory stays bounded however long the input is."""


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
        What came before; ``ensemble.no_look_back`` if nothing did.
    times : ndarray of datetime64[us] of shape (n_rows,)
        When the rows were measured, ascending and not before the last row looked back on.
    rows : Examined
        The rows, with the columns of ``ensemble.sensors``.
    silent : mapping of str to ndarray of bool of shape (n_rows,), optional
        By model, the rows that it is not asked about.

    Returns
    -------
    assessment : Assessment
        What is said of these rows.
    look_back : LookBack
        What the rows after them look back on.
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
    """Ask all models about the rows of a timeline from ``first`` on; see ``advance``."""
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
    """Put together what the models say, and what was said of the rows looked back on.

    Parameters
    ----------
    ensemble : Ensemble
        The models.
    scores : Scores
        What each of them says of the rows.
    rows : Examined
        The rows.
    earlier : ndarray of shape (n_look_back,)
        ``Assessment.conservative_p_values`` of the rows looked back on.
    before : AssetStatus or None
        From before the first row.

    Notes
    -----
    Evidence that adds up must not add up guesses: no calibration on n rows shows anything rarer
    than one in n + 1, however far its tail is continued, so p-values that are to add up are kept
    above that. Nor must one odd reading count many times, as it would in every window that it is
    part of: models of windows do not take part, and where there are no others it is NaN.
    """
    limited = [
        np.maximum(scores.p_values[name], 1.0 / (model.calibration.n_samples + 1))
        for name, model in ensemble.models.items()
        if model.window == 1
    ]
    p_values = _together(list(scores.p_values.values()))
    conservative = _together(limited) if limited else np.full(len(rows), np.nan)
    asset = np.full(len(rows), np.nan)
    if scores.trends or len(scores.timeline) >= status.READINGS:
        since_gap = scores.timeline.rows_since_gap[scores.first :]
        readings = status.together(np.concatenate([earlier, conservative]), since_gap)
        asset = status.evidence(list(scores.trends.values()), readings)
    times = scores.timeline.times[scores.first :]
    statuses = StatusSeries.following(before, times, asset, ensemble.contamination)
    return Assessment(ensemble, scores, rows, earlier, p_values, conservative, asset, statuses)


def alone(assessment: Assessment, name: str) -> Assessment:
    """Return what one model says, as if it had been asked alone."""
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
    """Return what is said from a row on, if nothing had been said of the rows before it.

    That is how an asset stands on the day its models are put to work: its readings are known, and
    none of them has been assessed.
    """
    scores = assessment.scores
    later = replace(
        scores,
        first=scores.first + row,
        raw={name: raw[row:] for name, raw in scores.raw.items()},
        p_values={name: p_values[row:] for name, p_values in scores.p_values.items()},
        trends={name: p_values[row:] for name, p_values in scores.trends.items()},
    )
    rows, nothing = assessment.rows.since(row), np.full(later.first, np.nan)
    return conclude(assessment.ensemble, later, rows, nothing, None)


def _raw_scores(model: TrainedModel, timeline: Timeline, first: int) -> Floats:
    """Return the scores of the rows from the first one on."""
    n_rows, scores = len(timeline), []
    for start in range(first, n_rows, BLOCK):
        stop = min(start + BLOCK, n_rows)
        rows, windows = timeline.stretch(model.feature_names, model.window, start, stop)
        scores.append(model.raw_scores_along(timeline.imputed(model, rows))[windows])
    return scores[0] if len(scores) == 1 else np.concatenate([np.empty(0), *scores])


def _together(p_values: Sequence[Floats]) -> Floats:
    return p_values[0] if len(p_values) == 1 else combine(np.array(p_values))
