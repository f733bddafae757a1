"""Which sensor it was: the surprise that goes away when that sensor is back to its usual value."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from app.detectors.base import Floats


def shares(surprise: Callable[[Floats], Floats], example: Floats, usual: Floats) -> Floats:
    """Return each sensor's share of the surprise, shape (n_features,), adding up to 1.

    Parameters
    ----------
    surprise : callable
        Maps examples of shape (n, ..., n_features) to their surprise, shape (n,).
    example : ndarray of shape (n_features,) or (window, n_features)
        The reading, or the window that ends with it.
    usual : ndarray of shape (n_features,)
        The value that each sensor is put back to.

    Notes
    -----
    Costs ``n_features + 1`` scorings, made in one call. Sensors whose return to normal calms
    nothing get a share of 0; where that is true of all, the shares are equal.
    """
    n_features = len(usual)
    variants = np.repeat(example[None], n_features + 1, axis=0)
    for sensor in range(n_features):
        variants[sensor + 1, ..., sensor] = usual[sensor]
    surprises = surprise(variants)
    relief = np.maximum(surprises[0] - surprises[1:], 0.0)
    total = relief.sum()
    return relief / total if total > 0 else np.full(n_features, 1.0 / n_features)
