"""A detector that takes rows with their context, as a scikit-learn estimator for other tools.

This module is pickled by value and imports numpy and scikit-learn only, so other tools load the
model without Vigie.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator


class ContextualEstimator(BaseEstimator):  # type: ignore[misc]
    """Subtract from rows what the context explains, and pass them on to an estimator.

    Parameters
    ----------
    context : Context
        What each sensor reads, by the context.
    estimator : object
        Fitted to rows less that.
    """

    def __init__(self, context: Any, estimator: Any):
        self.context = context
        self.estimator = estimator

    def decision_function(self, X: Any) -> Any:
        """Return the estimator's score of each row of X, shape (n_rows,).

        NaN for a row whose context is missing or was never seen in training.
        """
        return self._of_known(self.estimator.decision_function, X, np.nan)

    def predict(self, X: Any) -> Any:
        """Return 1 for each anomalous row of X and 0 for the others, shape (n_rows,).

        0 for a row whose context is missing or was never seen in training: it cannot be judged, and
        a warning says so.
        """
        return self._of_known(self.estimator.predict, X, 0).astype(np.int64)

    def _of_known(self, method: Any, X: Any, otherwise: float) -> Any:
        judged = self.context.judged(self.context.as_rows(X))
        known = ~np.isnan(judged).any(axis=1)
        if not known.all():
            warnings.warn(
                f"{np.count_nonzero(~known)} of {len(known)} rows cannot be judged: their context "
                "is missing, or was never seen in training. Their prediction is 0, and says "
                "nothing of the machine.",
                stacklevel=3,
            )
        # A forecast needs the rows before, so unknown rows are passed on as the one before them.
        filled = judged[np.maximum.accumulate(np.where(known, np.arange(len(judged)), 0))]
        return np.where(known, method(np.nan_to_num(filled)), otherwise)
