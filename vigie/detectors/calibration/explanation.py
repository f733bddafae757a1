"""Which sensor it was: the surprise that goes away when that sensor is back to its usual value."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vigie.detectors.base import Floats

CALMED = 0.25
"""Part of the surprise that a single sensor must take away to be the reason by itself."""


@dataclass(frozen=True)
class Explanation:
    """What a model makes of the sensors of some examples.

    Attributes
    ----------
    shares : ndarray of shape (n_examples, n_features)
        Each sensor's share of the surprise; rows add up to 1.
    values : ndarray of shape (n_examples, n_features)
        The readings at the end of each example, or their averages, in the sensors' units.
    readings_ago : ndarray of int of shape (n_examples, n_features), or None
        Of a model that looks at windows: how many readings before the last one each sensor was
        at its most unusual.
    """

    shares: Floats
    values: Floats
    readings_ago: NDArray[np.intp] | None = None


def shares(
    surprise: Callable[[Floats], Floats], examples: Floats, usual: Floats, spread: Floats
) -> Floats:
    """Return each sensor's share of each example's surprise, shape (n_examples, n_features).

    Parameters
    ----------
    surprise : callable
        Maps examples of shape (n, n_features) to their surprise, shape (n,).
    examples : ndarray of shape (n_examples, n_features)
        Readings.
    usual, spread : ndarray of shape (n_features,)
        The value that each sensor is put back to, and how far it usually strays.

    Returns
    -------
    ndarray of shape (n_examples, n_features)
        Rows add up to 1. A sensor whose return to normal calms nothing has a share of 0, unless
        no sensor calms the model much by itself.

    Notes
    -----
    Costs ``n_features + 1`` scorings an example, made in one call.
    """
    n_examples, n_features = examples.shape
    variants = np.repeat(examples[:, None], n_features + 1, axis=1)
    sensors = np.arange(n_features)
    variants[:, sensors + 1, sensors] = usual
    surprises = surprise(variants.reshape(-1, n_features)).reshape(n_examples, n_features + 1)
    relief = np.maximum(surprises[:, :1] - surprises[:, 1:], 0.0)
    # Where two sensors are both far out, a model is about as surprised without either of them.
    # Then what each has strayed must do, squared as a model of distances has it.
    unmoved = relief.max(axis=1) < CALMED * surprises[:, 0]
    strayed = np.abs(examples[unmoved] - usual) / np.where(spread > 0, spread, 1.0)
    # A square of something huge is infinite, and the largest one is what counts.
    farthest = np.maximum(strayed.max(axis=1, keepdims=True), np.finfo(float).tiny)
    relief[unmoved] = (strayed / farthest) ** 2
    return normalised(relief)


def normalised(parts: Floats) -> Floats:
    """Divide rows of shape (n, n_features) by their sums; rows of zeros become equal shares."""
    totals = parts.sum(axis=1, keepdims=True)
    equal = np.full_like(parts, 1.0 / parts.shape[1])
    np.divide(parts, totals, out=equal, where=totals > 0)
    return equal
