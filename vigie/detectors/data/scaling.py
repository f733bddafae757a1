"""Standardisation of columns, for scikit-learn pipelines and for plain arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyod.models.base import BaseDetector
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from vigie.detectors.base import Floats, standardisation


def fitted_scaler(X: Floats) -> tuple[StandardScaler, dict[str, NDArray[Any]]]:
    """Return a scaler fitted to X (n_samples, n_features), and its centre and scale as arrays."""
    center, scale = standardisation(X)
    # StandardScaler.fit would scale a constant by its rounding noise.
    scaler = StandardScaler()
    scaler.mean_, scaler.scale_, scaler.var_ = center, scale, scale**2
    scaler.n_samples_seen_, scaler.n_features_in_ = X.shape
    return scaler, {"center": center, "scale": scale}


def scaled_pipeline(scaler: StandardScaler, **estimator: Any) -> Pipeline:
    """Return a pipeline of a fitted scaler and a fitted, named estimator.

    Its first step converts DataFrames to arrays: scikit-learn warns about column names if a
    scaler was fitted to an array.
    """
    values = ("values", FunctionTransformer(np.asarray))
    return Pipeline([values, ("scale", scaler), *estimator.items()])


def finish_fit(estimator: BaseDetector, scores: Floats) -> None:
    """Complete a PyOD estimator as its own ``fit`` would, given its fitted ``detector_``.

    ``fit`` itself scores every training row with the estimator, which takes longer than the
    fitting.

    Parameters
    ----------
    estimator : BaseDetector
        With its ``detector_``.
    scores : ndarray of shape (n_samples,)
        Its ``decision_function`` of the training rows.
    """
    estimator._set_n_classes(None)
    estimator.decision_scores_ = scores
    estimator._process_decision_scores()
