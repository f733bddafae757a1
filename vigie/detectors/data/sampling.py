"""Subsampling of training rows."""

from __future__ import annotations

import numpy as np

from vigie.detectors.base import Floats


def spread_rows(X: Floats, most: int, random_state: int) -> Floats:
    """Return at most ``most`` rows of X (n_samples, n_features), in their order.

    Stratified: one random row from each of ``most`` segments of equal length. So every part of a
    recording is represented, and the sampling cannot lock onto a machine's cycle.
    """
    if len(X) <= most:
        return X
    edges = np.linspace(0, len(X), most + 1).astype(int)
    fractions = np.random.default_rng(random_state).random(most)
    rows: Floats = X[edges[:-1] + (fractions * np.diff(edges)).astype(int)]
    return rows
