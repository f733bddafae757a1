"""One-Class SVM: how far outside the region of the healthy readings does this one lie."""

from __future__ import annotations

import numpy as np

from vigie.detectors.base import Algorithm, Arrays, Floats, Params
from vigie.detectors.one_class_svm.check import check


def _score(arrays: Arrays, params: Params, X: Floats) -> Floats:
    """Return the negated decision function for rows of shape (n_samples, n_features)."""
    from vigie.detectors.one_class_svm.score import raw_scores

    return raw_scores(arrays, params["kernel"], np.ascontiguousarray(X, dtype=np.float64))


ALGORITHM = Algorithm(
    name="one_class_svm",
    service="vigie.services.one_class_svm_service:OneClassSVMService",
    score=_score,
    check=check,
    compiled=("vigie.detectors.one_class_svm.score",),
)
