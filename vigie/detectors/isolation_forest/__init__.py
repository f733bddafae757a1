"""Isolation Forest: readings that few random cuts isolate are unusual."""

from __future__ import annotations

import numpy as np

from vigie.detectors.base import Algorithm, Arrays, Detector, Floats, Params
from vigie.detectors.isolation_forest.check import check


def _new_detector(params: Params, random_state: int) -> Detector:
    from vigie.detectors.isolation_forest.detector import IsolationForest

    return IsolationForest(**params, random_state=random_state)


def _score(arrays: Arrays, params: Params, X: Floats) -> Floats:
    """Return ``2 ** (-mean path length / c) - 0.5`` for rows of shape (n_samples, n_features)."""
    from vigie.detectors.isolation_forest.score import raw_scores

    return raw_scores(arrays, np.ascontiguousarray(X, dtype=np.float64))


ALGORITHM = Algorithm(
    name="isolation_forest",
    parameters=("contamination", "n_estimators", "max_samples"),
    new_detector=_new_detector,
    score=_score,
    check=check,
    rows=lambda params: 1,
    compiled=("vigie.detectors.isolation_forest.score",),
    compiled_to_fit=("vigie.detectors.isolation_forest.fit",),
)
