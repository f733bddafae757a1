"""One-Class SVM: how far outside the region of the healthy readings does this one lie.

References
----------
Schölkopf et al. Estimating the support of a high-dimensional distribution.
Neural Computation 13(7), 2001.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from pyod.models.ocsvm import OCSVM

from app.detectors.base import Fitted, Floats, Progress
from app.detectors.scaling import behind_scaler, fitted_scaler


@dataclass(frozen=True)
class OneClassSVM:
    """PyOD's ``OCSVM`` behind a scaler, as one scikit-learn pipeline.

    Parameters
    ----------
    nu : float
        Upper bound on the share of training rows outside the region, lower bound on the share
        that are support vectors.
    kernel : {'rbf', 'linear', 'poly', 'sigmoid'}
        How two readings are compared.
    gamma : float, 'scale' or 'auto'
        Reach of the kernel; 'scale' is 1 / (n_features * variance), 'auto' 1 / n_features.
    contamination : float
        Passed on to PyOD; the threshold in use comes from the calibration.
    """

    nu: float
    kernel: Literal["rbf", "linear", "poly", "sigmoid"]
    gamma: float | Literal["scale", "auto"]
    contamination: float

    algorithm = "one_class_svm"
    window = 1

    @property
    def params(self) -> dict[str, Any]:
        return {
            "contamination": self.contamination,
            "nu": self.nu,
            "kernel": self.kernel,
            "gamma": self.gamma,
        }

    def fit(self, segments: Sequence[Floats], progress: Progress) -> Fitted:
        X = np.concatenate(segments)
        scaler, arrays = fitted_scaler(X)
        scaled = scaler.transform(X)
        gamma = self._gamma(scaled)
        svm = OCSVM(
            kernel=self.kernel, nu=self.nu, gamma=gamma, contamination=self.contamination
        ).fit(scaled)
        weights = svm.dual_coef_[0]
        arrays |= {
            "support_vectors": svm.support_vectors_,
            "dual_coef": weights,
            "intercept": svm.intercept_,
            "gamma": np.array([gamma]),
        }
        # The solver's weights add up to nu * n, so a raw score is measured in that unit.
        return Fitted(behind_scaler(scaler, ocsvm=svm), arrays, scale=weights.sum())

    def set_threshold(self, estimator: Any, raw_threshold: float) -> None:
        estimator["ocsvm"].threshold_ = raw_threshold

    def _gamma(self, scaled: Floats) -> float:
        n_features = int(scaled.shape[1])
        if self.gamma == "auto":
            return 1.0 / n_features
        if self.gamma == "scale":
            return 1.0 / (n_features * (float(scaled.var()) or 1.0))
        return float(self.gamma)
