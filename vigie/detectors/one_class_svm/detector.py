"""One-Class SVM: the distance of a reading from the region of healthy readings.

References
----------
Schölkopf et al. Estimating the support of a high-dimensional distribution.
Neural Computation 13(7), 2001.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from pyod.models.ocsvm import OCSVM
from sklearn.svm import OneClassSVM as SklearnSVM

from vigie.detectors.base import Fitted, Floats, Progress
from vigie.detectors.data.sampling import spread_rows
from vigie.detectors.data.scaling import finish_fit, fitted_scaler, scaled_pipeline
from vigie.detectors.one_class_svm import ALGORITHM
from vigie.detectors.one_class_svm.score import gram_matrix

MAX_GRAM_ROWS = 4096
"""Most rows for which the Gram matrix is precomputed; it takes 128 MiB."""


@dataclass(frozen=True)
class OneClassSVM:
    """PyOD's ``OCSVM`` behind a scaler, as one scikit-learn pipeline.

    Parameters
    ----------
    nu : float
        Upper bound on the share of training rows outside the region, lower bound on the share
        that are support vectors.
    kernel : {'rbf', 'linear', 'poly', 'sigmoid'}
        Kernel function.
    gamma : float, 'local', 'scale' or 'auto'
        Kernel coefficient; 'scale' is 1 / (n_features * variance), 'auto' 1 / n_features, and
        'local' three times 'scale', so that a reading is compared with its neighbours.
    contamination : float
        Passed on to PyOD; the threshold in use comes from the calibration.
    rows : int or 'all', default 'all'
        Most rows for the solver, whose time grows with their square; longer training data are
        subsampled evenly. With ``nu`` 0.5, half of the rows become support vectors, so this also
        bounds the cost of a score.
    random_state : int, default 0
        Seed of the subsampling.
    bandwidth_factor : int, default 1
        Divisor of 'scale'.
    arrays_only : bool, default False
        Build no estimator, if only scores are needed.
    """

    nu: float
    kernel: Literal["rbf", "linear", "poly", "sigmoid"]
    gamma: float | Literal["local", "scale", "auto"]
    contamination: float
    rows: int | Literal["all"] = "all"
    random_state: int = 0
    bandwidth_factor: int = 1
    arrays_only: bool = False

    algorithm = ALGORITHM.name
    scores_comparable = False
    window = 1

    @property
    def params(self) -> dict[str, Any]:
        return {
            "contamination": self.contamination,
            "nu": self.nu,
            "kernel": self.kernel,
            "gamma": self.gamma,
            "svm_rows": self.rows,
        }

    def for_averages(self, n_rows: int) -> OneClassSVM:
        # Neighbouring averages overlap, so there are n_rows times fewer independent ones. A wider
        # kernel also still distinguishes distances far out.
        return replace(self, gamma="scale", bandwidth_factor=n_rows, arrays_only=True)

    def for_part(self, share: float) -> OneClassSVM:
        # Keep the ratio between the rows of the partial and the full fit.
        rows = self.rows if self.rows == "all" else math.ceil(share * self.rows)
        return replace(self, rows=rows, arrays_only=True)

    def fit(self, segments: Sequence[Floats], progress: Progress) -> Fitted:
        X = np.concatenate(segments)
        scaler, arrays = fitted_scaler(X)
        seen = X if self.rows == "all" else spread_rows(X, self.rows, self.random_state)
        scaled = scaler.transform(seen)
        gamma = self._gamma(scaled)
        if self.arrays_only and self.kernel == "rbf" and len(scaled) <= MAX_GRAM_ROWS:
            # The same solution in a third of the time: libsvm computes the kernel pair by pair.
            solved = SklearnSVM(kernel="precomputed", nu=self.nu).fit(gram_matrix(scaled, gamma))
        else:
            solved = SklearnSVM(kernel=self.kernel, nu=self.nu, gamma=gamma).fit(scaled)
        arrays |= {
            "support_vectors": scaled[solved.support_].T.copy(),
            "dual_coef": solved.dual_coef_[0],
            "intercept": solved.intercept_,
            "gamma": np.array([gamma]),
        }
        # Far from all support vectors, the RBF kernel vanishes and the score is constant.
        saturation = -float(solved.intercept_[0]) if self.kernel == "rbf" else math.inf
        if self.arrays_only:
            return Fitted(None, arrays, saturation)
        svm = OCSVM(kernel=self.kernel, nu=self.nu, gamma=gamma, contamination=self.contamination)
        svm.detector_ = solved
        finish_fit(svm, ALGORITHM.score(arrays, self.params, seen))
        return Fitted(scaled_pipeline(scaler, ocsvm=svm), arrays, saturation)

    def set_threshold(self, estimator: Any, raw_threshold: float) -> None:
        if estimator is not None:
            estimator["ocsvm"].threshold_ = raw_threshold

    def _gamma(self, scaled: Floats) -> float:
        n_features = int(scaled.shape[1])
        if self.gamma == "auto":
            return 1.0 / n_features
        scale = 1.0 / (n_features * (float(scaled.var()) or 1.0))
        match self.gamma:
            case "scale":
                return scale / self.bandwidth_factor
            case "local":
                return 3.0 * scale
            case _:
                return float(self.gamma)
