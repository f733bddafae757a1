"""Which sensor it was: the surprise that goes away when that sensor is back to its usual value."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from app.detectors.base import Floats


def shares(surprise: Callable[[Floats], Floats], examples: Floats, usual: Floats) -> Floats:
    """Return each sensor's share of each example's surprise, shape (n_examples, n_features).

    Parameters
    ----------
    surprise : callable
        Maps examples of shape (n, n_features) to their surprise, shape (n,).
    examples : ndarray of shape (n_examples, n_features)
        Readings.
    usual : ndarray of shape (n_features,)
        The value that each sensor is put back to.

    Returns
    -------
    ndarray of shape (n_examples, n_features)
        Rows add up to 1. A sensor whose return to normal calms nothing has a share of 0, unless
        that is true of all.

    Notes
    -----
    Costs ``n_features + 1`` scorings an example, made in one call, and ``n_features`` more for
    an example that no single sensor calms.
    """
    n_examples, n_features = examples.shape
    variants = np.repeat(examples[:, None], n_features + 1, axis=1)
    sensors = np.arange(n_features)
    variants[:, sensors + 1, sensors] = usual
    surprises = surprise(variants.reshape(-1, n_features)).reshape(n_examples, n_features + 1)
    relief = np.maximum(surprises[:, :1] - surprises[:, 1:], 0.0)
    # Where two sensors are both far out, a model may be as surprised without either of them.
    # Then it is asked the other way round: what does each sensor do to a usual reading?
    unmoved = np.flatnonzero(relief.sum(axis=1) < 0.01 * surprises[:, 0])
    if len(unmoved):
        alone = np.tile(usual, (len(unmoved), n_features, 1))
        alone[:, sensors, sensors] = examples[unmoved]
        relief[unmoved] = surprise(alone.reshape(-1, n_features)).reshape(-1, n_features)
    return normalised(relief)


def normalised(parts: Floats) -> Floats:
    """Divide rows of shape (n, n_features) by their sums; rows of zeros become equal shares."""
    totals = parts.sum(axis=1, keepdims=True)
    equal = np.full_like(parts, 1.0 / parts.shape[1])
    np.divide(parts, totals, out=equal, where=totals > 0)
    return equal
