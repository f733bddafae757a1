"""Some rows that stand for all of a training."""

from __future__ import annotations

import numpy as np

from vigie.detectors.base import Floats


def spread_rows(X: Floats, most: int, random_state: int) -> Floats:
    """Return at most so many rows of X (n_samples, n_features), in their order.

    One is drawn from each of ``most`` stretches, all of one length: every hour of a recording
    then has its share, and a machine that works in cycles is not met at one point of them only.
    """
    if len(X) <= most:
        return X
    edges = np.linspace(0, len(X), most + 1).astype(int)
    along = np.random.default_rng(random_state).random(most)
    rows: Floats = X[edges[:-1] + (along * np.diff(edges)).astype(int)]
    return rows
