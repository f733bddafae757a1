"""One-Class SVM: the distance of a reading from the region of healthy readings."""

from __future__ import annotations

from typing import Any

import numpy as np

from vigie.detectors.base import Algorithm, Arrays, Detector, Floats, Params
from vigie.detectors.one_class_svm.check import check


def _new_detector(params: Params, random_state: int) -> Detector:
    from vigie.detectors.one_class_svm.detector import OneClassSVM

    others = {name: value for name, value in params.items() if name != "svm_rows"}
    return OneClassSVM(**others, rows=params["svm_rows"], random_state=random_state)


def _details(params: Params, n_samples: int) -> dict[str, Any]:
    """Return whether the solver was given all training rows, and how many."""
    # Models without this parameter were fitted to all rows.
    most = params.get("svm_rows", "all")
    if most == "all" or n_samples <= most:
        return {"solver": "exact", "n_fitted": n_samples}
    return {"solver": "subsample", "n_fitted": most}


def _score(arrays: Arrays, params: Params, X: Floats) -> Floats:
    """Return the negated decision function for rows of shape (n_samples, n_features)."""
    from vigie.detectors.one_class_svm.score import raw_scores

    return raw_scores(arrays, params["kernel"], np.ascontiguousarray(X, dtype=np.float64))


ALGORITHM = Algorithm(
    name="one_class_svm",
    parameters=("nu", "kernel", "gamma", "svm_rows"),
    new_detector=_new_detector,
    score=_score,
    check=check,
    rows=lambda params: 1,
    compiled=("vigie.detectors.one_class_svm.score",),
    details=_details,
)
