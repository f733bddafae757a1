"""Peers that follow a recording: control charts, and PyOD's detectors averaged over rows.

Each is fitted on rows of shape (n, n_sensors), and then scores the rows of a recording, higher
where less usual; a row with too few before it scores -inf.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyod.models.iforest import IForest
from pyod.models.knn import KNN
from pyod.models.ocsvm import OCSVM
from pyod.models.pca import PCA
from scipy.signal import lfilter

Floats = NDArray[np.float64]
Scorer = Callable[[Floats], Floats]

AVERAGED = 20
EXPLAINED = 0.9
"""Share of the variance that the components of PCA explain."""
SMOOTHING = 0.1
BLOCKS = 5
LIMIT = 99.0
"""Percentile of held-out scores above which there is an alarm."""


def held_out_limit(fit: Callable[[Floats], Scorer], rows: Floats) -> float:
    """Return the percentile of the scores of five contiguous blocks, each by the other four."""
    scores = []
    for block in np.array_split(np.arange(len(rows)), BLOCKS):
        score = fit(np.delete(rows, block, axis=0))(rows[block])
        scores.append(score[np.isfinite(score)])
    return float(np.percentile(np.concatenate(scores), LIMIT))


def _averaged(values: Floats) -> Floats:
    """Return the mean of the latest rows, same shape; NaN where there are too few."""
    sums = np.cumsum(np.concatenate([np.zeros_like(values[:1]), values]), axis=0)
    means = np.full(values.shape, np.nan)
    means[AVERAGED - 1 :] = (sums[AVERAGED:] - sums[:-AVERAGED]) / AVERAGED
    return means


def _standardised(rows: Floats) -> Scorer:
    center, spread = rows.mean(axis=0), rows.std(axis=0)
    return lambda new: (new - center) / np.where(spread > 0, spread, 1.0)


def _score(values: Floats) -> Floats:
    return np.nan_to_num(values, nan=-np.inf)


def _hotelling(rows: Floats) -> Scorer:
    scaled = _standardised(rows)
    inverse = np.linalg.pinv(np.cov(scaled(rows), rowvar=False))
    return lambda new: _score(_quadratic(_averaged(scaled(new)), inverse))


def _mewma(rows: Floats) -> Scorer:
    scaled = _standardised(rows)
    inverse = np.linalg.pinv(np.cov(scaled(rows), rowvar=False))

    def score(new: Floats) -> Floats:
        smooth = lfilter([SMOOTHING], [1.0, SMOOTHING - 1.0], scaled(new), axis=0)
        smooth[: AVERAGED - 1] = np.nan
        return _score(_quadratic(smooth, inverse))

    return score


def _t2_and_q(rows: Floats) -> Scorer:
    scaled = _standardised(rows)
    _, spread, axes = np.linalg.svd(scaled(rows), full_matrices=False)
    variance = spread**2 / len(rows)
    kept = int(np.searchsorted(np.cumsum(variance) / variance.sum(), EXPLAINED)) + 1

    def both(new: Floats) -> Floats:
        means = _averaged(scaled(new))
        along = means @ axes[:kept].T
        rest = means - along @ axes[:kept]
        return np.column_stack([(along**2 / variance[:kept]).sum(axis=1), (rest**2).sum(axis=1)])

    # Both statistics in units of their own limit.
    limits = np.nanpercentile(both(rows), LIMIT, axis=0)
    return lambda new: _score((both(new) / limits).max(axis=1))


def _largest_z(rows: Floats) -> Scorer:
    scaled = _standardised(rows)
    return lambda new: _score(np.abs(_averaged(scaled(new))).max(axis=1))


def _pyod(rows: Floats, new: Callable[[], Any]) -> Scorer:
    scaled = _standardised(rows)
    fitted = new().fit(scaled(rows))
    return lambda those: _score(_averaged(fitted.decision_function(scaled(those))))


def _quadratic(values: Floats, inverse: Floats) -> Floats:
    return np.einsum("ij,jk,ik->i", values, inverse, values)


CHARTS: Mapping[str, Callable[[Floats], Scorer]] = {
    "Hotelling T², mean of 20 rows": _hotelling,
    "PCA, T² and Q, mean of 20 rows": _t2_and_q,
    "MEWMA, 0.1": _mewma,
    "moving average of 20 rows, largest z": _largest_z,
    "PyOD `IForest()`": partial(_pyod, new=partial(IForest, random_state=42)),
    "PyOD `OCSVM()`": partial(_pyod, new=OCSVM),
    "PyOD `KNN()`": partial(_pyod, new=KNN),
    "PyOD `PCA()`": partial(_pyod, new=PCA),
}
"""By name, what fits on rows and returns what scores a recording."""
