"""Columns in standard deviations, for scikit-learn pipelines and for plain arrays alike."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyod.models.base import BaseDetector
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from vigie.detectors.base import Floats, standardisation


def fitted_scaler(X: Floats) -> tuple[StandardScaler, dict[str, NDArray[Any]]]:
    """Return a scaler fitted to X (n_samples, n_features), and what it learnt as arrays."""
    center, scale = standardisation(X)
    # Its own fit would go over all rows again, and scale a constant by its rounding noise.
    scaler = StandardScaler()
    scaler.mean_, scaler.scale_, scaler.var_ = center, scale, scale**2
    scaler.n_samples_seen_, scaler.n_features_in_ = X.shape
    return scaler, {"center": center, "scale": scale}


def behind_scaler(scaler: StandardScaler, **estimator: Any) -> Pipeline:
    """Return a pipeline of a scaler and one named estimator, both fitted.

    Other tools hand it DataFrames, whose column names scikit-learn would warn about in a scaler
    that was fitted to an array.
    """
    values = ("values", FunctionTransformer(np.asarray))
    return Pipeline([values, ("scale", scaler), *estimator.items()])


def as_after_fit(estimator: BaseDetector, scores: Floats) -> None:
    """Leave a PyOD estimator as its own ``fit`` would, once its ``detector_`` is fitted.

    ``fit`` itself would now score every training row with the estimator, which takes longer
    than all that comes before.

    Parameters
    ----------
    estimator : BaseDetector
        With its ``detector_``.
    scores : ndarray of shape (n_samples,)
        What its ``decision_function`` says of the training rows.
    """
    estimator._set_n_classes(None)
    estimator.decision_scores_ = scores
    estimator._process_decision_scores()
