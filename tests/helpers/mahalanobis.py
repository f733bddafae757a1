"""A detector that another project adds: the Mahalanobis distance from the healthy readings.

References
----------
Mahalanobis, P. C. (1936). On the generalised distance in statistics. Proceedings of the National
Institute of Sciences of India 2(1), 49-55.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vigie.detectors.base import Algorithm, Arrays, Detector, Fitted, Floats, Params, Progress
from vigie.detectors.checks import numbers


def score(arrays: Arrays, params: Params, X: Floats) -> Floats:
    """Return the squared distance of rows of shape (n_samples, n_features)."""
    apart = np.asarray(X, dtype=np.float64) - arrays["center"]
    return np.einsum("ij,jk,ik->i", apart, arrays["precision"], apart)


def check(arrays: Arrays, params: Params, n_features: int) -> None:
    """Raise unless these are the arrays of ``score``."""
    numbers(arrays, "center", n_features)
    numbers(arrays, "precision", n_features, n_features)


ALGORITHM = Algorithm(
    name="mahalanobis",
    settings="mahalanobis_settings:MahalanobisSettings",
    parameters=("contamination", "shrinkage"),
    new_detector=lambda params, random_state: Mahalanobis(**params),
    score=score,
    check=check,
)


@dataclass(frozen=True)
class Mahalanobis:
    """The distance in units of the covariance, drawn towards that of independent sensors."""

    shrinkage: float
    contamination: float

    algorithm = ALGORITHM.name
    window = 1
    scores_comparable = True

    @property
    def params(self) -> dict[str, Any]:
        return {"shrinkage": self.shrinkage, "contamination": self.contamination}

    def for_averages(self, n_rows: int) -> Detector:
        return self

    def for_part(self, share: float) -> Detector:
        return self

    def fit(self, segments: Sequence[Floats], progress: Progress) -> Fitted:
        from sklearn.covariance import EllipticEnvelope, ShrunkCovariance

        rows = np.concatenate(segments)
        estimator = EllipticEnvelope(contamination=self.contamination)
        shrunk = ShrunkCovariance(shrinkage=self.shrinkage).fit(rows)
        estimator.location_, estimator.precision_ = shrunk.location_, shrunk.precision_
        estimator.covariance_, estimator.n_features_in_ = shrunk.covariance_, rows.shape[1]
        arrays = {"center": shrunk.location_, "precision": shrunk.precision_}
        return Fitted(estimator, arrays)

    def set_threshold(self, estimator: Any, raw_threshold: float) -> None:
        estimator.offset_ = -raw_threshold
