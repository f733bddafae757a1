"""Combination of the p-values of several models."""

from __future__ import annotations

import numpy as np

from vigie.detectors import compiled
from vigie.detectors.base import Floats


def combine(p_values: Floats, weights: Floats | None = None) -> Floats:
    """Combine the p-values of several models into one for each reading.

    The Cauchy combination keeps the false-alarm rate in the tail under any dependence between the
    models, and models of one machine are dependent.

    Parameters
    ----------
    p_values : ndarray of shape (n_models, n_samples)
        NaN where a model abstains.
    weights : ndarray of shape (n_models,), optional
        Weight of each model; by default equal.

    Returns
    -------
    ndarray of shape (n_samples,)
        NaN where all abstain.

    References
    ----------
    Liu, Xie. Cauchy combination test. JASA 115(529), 2020.
    """
    p_values = np.ascontiguousarray(p_values, dtype=np.float64)
    shares = np.ones(len(p_values)) if weights is None else np.ascontiguousarray(weights)
    combined = np.empty(p_values.shape[1])
    compiled.evidence.combine(p_values, shares, combined)
    return combined
