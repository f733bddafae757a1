"""Columns in standard deviations, for scikit-learn pipelines and for plain arrays alike."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from app.detectors.base import Floats, standardisation


def fitted_scaler(X: Floats) -> tuple[StandardScaler, dict[str, NDArray[Any]]]:
    """Return a scaler fitted to X (n_samples, n_features), and what it learnt as arrays."""
    scaler = StandardScaler().fit(X)
    scaler.mean_, scaler.scale_ = center, scale = standardisation(X)
    return scaler, {"center": center, "scale": scale}


def behind_scaler(scaler: StandardScaler, **estimator: Any) -> Pipeline:
    """Return a pipeline of a scaler and one named estimator, both fitted.

    Other tools hand it DataFrames, whose column names scikit-learn would warn about in a scaler
    that was fitted to an array.
    """
    values = ("values", FunctionTransformer(np.asarray))
    return Pipeline([values, ("scale", scaler), *estimator.items()])
