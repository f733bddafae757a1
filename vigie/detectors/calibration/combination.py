"""Combination of the p-values of several models."""

from __future__ import annotations

import numpy as np

from vigie.detectors import compiled
from vigie.detectors.base import Floats

MOST_NORMAL = 0.99
"""Upper limit of p-values: at p = 1, one model would cancel the evidence of all others."""


def combine(
    p_values: Floats, weights: Floats | None = None, most_normal: float = MOST_NORMAL
) -> Floats:
    """Combine the p-values of several models into one for each reading.

    The Cauchy combination keeps the false-alarm rate in the tail under any dependence between the
    models, and models of one machine are dependent.

    Parameters
    ----------
    p_values : ndarray of shape (n_models, n_samples)
        NaN where a model abstains.
    weights : ndarray of shape (n_models,), optional
        Weight of each model; by default equal.
    most_normal : float
        Upper limit of p-values. With 0.5, no model takes away from the evidence of another, which
        costs little of the false-alarm rate (Fang et al.).

    Returns
    -------
    ndarray of shape (n_samples,)
        NaN where all abstain.

    References
    ----------
    Liu, Xie. Cauchy combination test. JASA 115(529), 2020.
    Fang et al. Heavy-tailed distribution for combining dependent p-values with asymptotic
    robustness. Statistica Sinica 33, 2023.
    """
    p_values = np.ascontiguousarray(p_values, dtype=np.float64)
    shares = np.ones(len(p_values)) if weights is None else np.ascontiguousarray(weights)
    combined = np.empty(p_values.shape[1])
    compiled.evidence.combine(p_values, shares, most_normal, combined)
    return combined
