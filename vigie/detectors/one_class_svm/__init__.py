"""One-Class SVM: how far outside the region of the healthy readings does this one lie."""

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
    """Return whether the solver had all rows of the training, and how many it had."""
    # A model from before this could be chosen was fitted to all of them.
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
    compiled=("vigie.detectors.one_class_svm.score",),
    details=_details,
)
