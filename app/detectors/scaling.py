"""Columns in standard deviations, for scikit-learn pipelines and for plain arrays alike."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray
from sklearn.preprocessing import StandardScaler

from app.detectors.base import Floats, standardisation


def fitted_scaler(X: Floats) -> tuple[StandardScaler, dict[str, NDArray[Any]]]:
    """Return a scaler fitted to X (n_samples, n_features), and what it learnt as arrays."""
    scaler = StandardScaler().fit(X)
    scaler.mean_, scaler.scale_ = center, scale = standardisation(X)
    return scaler, {"center": center, "scale": scale}
