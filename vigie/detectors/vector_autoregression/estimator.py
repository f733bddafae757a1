"""The forecast as a scikit-learn estimator, for other tools.

This module is pickled by value and imports numpy and scikit-learn only, so other tools load the
model without Vigie.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator

MOST_BEFORE, MOST_NOW = 10.0, 1e6
"""The limits of ``score.py``, which this module cannot import."""


class VectorAutoregressionEstimator(BaseEstimator):  # type: ignore[misc]
    """Forecast each row from the rows before it, and call large errors anomalous.

    Parameters
    ----------
    horizons : tuple of int
        The forecast uses the means of so many last rows.
    center, scale : ndarray of shape (n_features,)
    coefficients : ndarray of shape (n_horizons * n_features, n_features)
    whitening : ndarray of shape (n_features, n_features)
    judged : ndarray of shape (n_features,)
        1 for a sensor whose errors count, 0 for a switch.

    Attributes
    ----------
    threshold_ : float
        A row with a larger T² is anomalous.
    """

    def __init__(
        self,
        horizons: tuple[int, ...],
        center: Any,
        scale: Any,
        coefficients: Any,
        whitening: Any,
        judged: Any,
    ):
        self.horizons = horizons
        self.center = center
        self.scale = scale
        self.coefficients = coefficients
        self.whitening = whitening
        self.judged = judged
        self.threshold_ = float("inf")

    def decision_function(self, X: Any) -> Any:
        """Return T² of the forecast error of each row of X, in time order; shape (n_rows,).

        The rows before the first one are taken to be like it.
        """
        scaled = (np.asarray(X, dtype=float) - self.center) / self.scale
        longest = self.horizons[-1]
        padded = np.concatenate([np.repeat(scaled[:1], longest, axis=0), scaled])
        limited = np.clip(padded, -MOST_BEFORE, MOST_BEFORE)
        means = []
        for n_rows in self.horizons[: len(self.coefficients) // len(self.center)]:
            shifted = [limited[longest - ago : len(limited) - ago] for ago in range(1, n_rows + 1)]
            means.append(sum(shifted) / n_rows)
        forecast = np.concatenate(means, axis=1) @ self.coefficients
        errors = self.judged * (np.clip(scaled, -MOST_NOW, MOST_NOW) - forecast)
        errors = errors @ self.whitening
        return (errors**2).sum(axis=1)

    def predict(self, X: Any) -> Any:
        """Return 1 for each anomalous row of X, and 0 for the others; shape (n_rows,)."""
        return (self.decision_function(X) > self.threshold_).astype(np.int64)
