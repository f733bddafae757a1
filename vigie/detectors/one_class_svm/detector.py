"""One-Class SVM: how far outside the region of the healthy readings does this one lie.

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
from vigie.detectors.data.scaling import as_after_fit, behind_scaler, fitted_scaler
from vigie.detectors.one_class_svm import ALGORITHM
from vigie.detectors.one_class_svm.score import gram_matrix

MOST_LIKENED = 4096
"""Rows of which all pairs are kept in memory at once, in 128 MiB."""


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
    gamma : float, 'local', 'scale' or 'auto'
        How fast gram_matrix fades with distance; 'scale' is 1 / (n_features * variance), 'auto'
        1 / n_features, 'local' three times 'scale': a reading is compared with its neighbours.
    contamination : float
        Passed on to PyOD; the threshold in use comes from the calibration.
    rows : int or 'all', default 'all'
        At most so many rows are given to the solver, whose time grows with the square of them;
        of a longer training, rows spread evenly over it. Half of them, with ``nu`` 0.5, are
        support vectors, so this also bounds what a score costs.
    random_state : int, default 0
        Seed of that choice.
    bandwidth_factor : int, default 1
        What 'scale' is divided by.
    arrays_only : bool, default False
        Make no estimator, where only scores are wanted.
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
        # Neighbouring averages share most of their rows, so there are n_rows times fewer to
        # compare with; and a kernel that reaches far goes on telling far from farther.
        return replace(self, gamma="scale", bandwidth_factor=n_rows, arrays_only=True)

    def for_part(self, share: float) -> OneClassSVM:
        # To the solution of all rows as a part of them is to all, whatever the rows it is given.
        rows = self.rows if self.rows == "all" else math.ceil(share * self.rows)
        return replace(self, rows=rows, arrays_only=True)

    def fit(self, segments: Sequence[Floats], progress: Progress) -> Fitted:
        X = np.concatenate(segments)
        scaler, arrays = fitted_scaler(X)
        seen = X if self.rows == "all" else spread_rows(X, self.rows, self.random_state)
        scaled = scaler.transform(seen)
        gamma = self._gamma(scaled)
        if self.arrays_only and self.kernel == "rbf" and len(scaled) <= MOST_LIKENED:
            # The same solution, for a third of the time: libsvm compares one pair after the other.
            solved = SklearnSVM(kernel="precomputed", nu=self.nu).fit(gram_matrix(scaled, gamma))
        else:
            solved = SklearnSVM(kernel=self.kernel, nu=self.nu, gamma=gamma).fit(scaled)
        arrays |= {
            "support_vectors": scaled[solved.support_].T.copy(),
            "dual_coef": solved.dual_coef_[0],
            "intercept": solved.intercept_,
            "gamma": np.array([gamma]),
        }
        # Far out no gram_matrix is left, and with this kernel the score comes to rest.
        saturation = -float(solved.intercept_[0]) if self.kernel == "rbf" else math.inf
        if self.arrays_only:
            return Fitted(None, arrays, saturation)
        svm = OCSVM(kernel=self.kernel, nu=self.nu, gamma=gamma, contamination=self.contamination)
        svm.detector_ = solved
        as_after_fit(svm, ALGORITHM.score(arrays, self.params, seen))
        return Fitted(behind_scaler(scaler, ocsvm=svm), arrays, saturation)

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
