"""The engine: from models, a look-back and the next rows to an assessment and the next look-back.

``advance`` is all that a reading, a batch or a worker calls. Nearly all of its time goes into
``score``, which needs the rows alone and not what was said of earlier ones; so a long table is
scored several parts at once (``vigie.assessment.stream``).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from vigie.assessment.assessment import Assessment, Scores
from vigie.assessment.ensemble import Ensemble
from vigie.assessment.look_back import LookBack
from vigie.assessment.sensors import Examined
from vigie.assessment.timeline import Timeline, Times
from vigie.detectors.base import Floats
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
    assessment = Assessment(ensemble, scores, rows, look_back.p_values, look_back.status)
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
        if n_rows >= _fewest_rows(model):
            raw[name] = _raw_scores(model, timeline, first)
            if name in silent:
                raw[name][silent[name]] = np.nan
            p_values[name] = model.calibration.p_value(raw[name])
        else:
            raw[name] = p_values[name] = np.full(n_rows - first, np.nan)
        if (trend := model.trend) is not None and n_rows >= _fewest_rows(trend):
            trends[name] = trend.calibration.p_value(_raw_scores(trend, timeline, first))
    return Scores(timeline, first, raw, p_values, trends)


def _fewest_rows(model: TrainedModel) -> int:
    """Return the rows without which a model has nothing to say; averages can do with fewer."""
    spare = model.params.get("averaged_rows", 0) - model.params.get("averaged_at_least", 0)
    return model.window - int(spare)


def _raw_scores(model: TrainedModel, timeline: Timeline, first: int) -> Floats:
    """Return the scores of the rows from the first one on."""
    n_rows, scores = len(timeline), []
    for start in range(first, n_rows, BLOCK):
        stop = min(start + BLOCK, n_rows)
        rows, windows = timeline.stretch(model.feature_names, model.window, start, stop)
        scores.append(model.raw_scores_along(timeline.imputed(model, rows))[windows])
    return scores[0] if len(scores) == 1 else np.concatenate([np.empty(0), *scores])
