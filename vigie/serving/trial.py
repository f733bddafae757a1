"""A trial of a model before it serves: rows like those of its training, through the engine.

The checks of a serving form compare its facts with each other. What they overlook shall fail here
and not when a client waits for an answer.
"""

from __future__ import annotations

import logging

import numpy as np

from vigie.assessment.engine import advance
from vigie.assessment.ensemble import Ensemble
from vigie.assessment.status import DEFAULT_CONTAMINATION
from vigie.detectors.trained import TrainedModel
from vigie.errors import ModelRefusedError

logger = logging.getLogger(__name__)

GAP_S = 3600.0
MORE_ROWS = 3


def require_verdicts(model: TrainedModel) -> None:
    """Assess a few rows by a model alone.

    Raises
    ------
    ModelRefusedError
        If that fails, or a full window of usual rows has no score.
    """
    try:
        _assess(model)
    except Exception as error:
        logger.debug("The trial of %s has failed.", model.algorithm, exc_info=True)
        raise ModelRefusedError(
            "It fails on rows like those of its training.",
            remedy="Its facts do not fit each other: train the model again.",
        ) from error


def _assess(model: TrainedModel) -> None:
    # Usual rows, and one far away and one incomplete, so that they have reasons.
    ensemble = Ensemble({model.algorithm: model}, DEFAULT_CONTAMINATION, GAP_S)
    sensors = ensemble.sensors
    n_rows = max(part.window for part in model.parts) + MORE_ROWS
    row = dict(zip(model.feature_names, model.usual.tolist(), strict=True))
    if model.context is not None:
        row |= {model.feature_names[c]: words[0] for c, words in model.context.words.items()}
    # Now and then a little higher, since the same value again and again is that of a frozen sensor.
    ranges = zip(model.feature_names, (model.high - model.low).tolist(), strict=True)
    higher = {n: row[n] + 0.1 * width for n, width in ranges if n not in model.context_names}
    usual = sensors.matrix([row])
    rows = np.resize(sensors.matrix([row, row | higher]), (n_rows, len(sensors.names)))
    far = [column for column, name in enumerate(sensors.names) if name not in model.context_names]
    # The last window is one of usual rows.
    place = min(n_rows // 2, n_rows - model.window)
    rows[place, far] += 1e3 * (1.0 + np.abs(rows[place, far]))
    rows[n_rows // 3, far[:1]] = np.nan
    times = np.datetime64("2000-01-01", "us") + np.arange(n_rows + 1) * np.timedelta64(1, "s")
    assessment, look_back = advance(
        ensemble, ensemble.no_look_back, times[:-1], sensors.examine(rows)
    )
    last, _ = advance(ensemble, look_back, times[-1:], sensors.examine(usual))
    every = range(len(assessment))
    assessment.reasons(every)
    assessment.trend_reasons(every)
    for one in (assessment, last):
        _ = one.levels, one.asset_p_values, one.held, one.status(len(one) - 1)
    if model.context is None and not np.isfinite(last.scores.raw[model.algorithm]).all():
        raise ValueError("usual rows have no score")
