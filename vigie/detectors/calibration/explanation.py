"""Attribution: the surprise that disappears when a sensor is reset to its usual value."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vigie.detectors.base import Floats

MIN_RELIEF = 0.25
"""Share of the surprise that resetting a single sensor must remove; see ``shares``."""


@dataclass(frozen=True)
class Explanation:
    """A model's attribution of the surprise of some examples to sensors.

    Attributes
    ----------
    shares : ndarray of shape (n_examples, n_features)
        Each sensor's share of the surprise; rows add up to 1.
    values : ndarray of shape (n_examples, n_features)
        The readings at the end of each example, or their averages, in the sensors' units.
    readings_ago : ndarray of int of shape (n_examples, n_features), or None
        From a model of windows: how many readings before the last one each sensor was at its most
        unusual.
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
        The value that each sensor is reset to, and the width of its usual range.

    Returns
    -------
    ndarray of shape (n_examples, n_features)
        Rows add up to 1. A sensor has a share of 0 if resetting it removes no surprise, unless no
        single sensor removes much.

    Notes
    -----
    Scores ``n_features + 1`` variants of each example, in one call.
    """
    n_examples, n_features = examples.shape
    variants = np.repeat(examples[:, None], n_features + 1, axis=1)
    sensors = np.arange(n_features)
    variants[:, sensors + 1, sensors] = usual
    surprises = surprise(variants.reshape(-1, n_features)).reshape(n_examples, n_features + 1)
    relief = np.maximum(surprises[:, :1] - surprises[:, 1:], 0.0)
    # If two sensors are both far out, resetting either one removes little. The fallback is the
    # squared deviation, as in a model of distances.
    unmoved = relief.max(axis=1) < MIN_RELIEF * surprises[:, 0]
    deviation = np.abs(examples[unmoved] - usual) / np.where(spread > 0, spread, 1.0)
    # Dividing by the largest one keeps squares finite.
    largest = np.maximum(deviation.max(axis=1, keepdims=True), np.finfo(float).tiny)
    relief[unmoved] = (deviation / largest) ** 2
    return normalised(relief)


def normalised(parts: Floats) -> Floats:
    """Divide rows of shape (n, n_features) by their sums; rows of zeros become equal shares."""
    totals = parts.sum(axis=1, keepdims=True)
    equal = np.full_like(parts, 1.0 / parts.shape[1])
    np.divide(parts, totals, out=equal, where=totals > 0)
    return equal
