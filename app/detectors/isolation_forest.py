"""Isolation Forest: the fewer random cuts isolate a reading, the more unusual it is.

References
----------
Liu, Ting, Zhou. Isolation-based anomaly detection. ACM TKDD 6(1), 2012.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pyod.models.iforest import IForest

from app.detectors.base import Fitted, Floats, Progress
from app.detectors.scaling import behind_scaler, fitted_scaler
from app.errors import InvalidDataError

EULER_GAMMA = 0.5772156649015329


@dataclass(frozen=True)
class IsolationForest:
    """PyOD's ``IForest`` behind a scaler, as one scikit-learn pipeline.

    Trees do not mind units, but scikit-learn's do: they compare in float32, and take a column
    whose values differ by less than 1e-7 for a constant.

    Parameters
    ----------
    n_estimators : int
        Number of trees.
    max_samples : int, float or 'auto'
        Rows that each tree sees: a count, a share, or at most 256.
    contamination : float
        Passed on to PyOD; the threshold in use comes from the calibration.
    random_state : int
        Seed.
    """

    n_estimators: int
    max_samples: int | float | Literal["auto"]
    contamination: float
    random_state: int

    algorithm = "isolation_forest"
    window = 1

    @property
    def params(self) -> dict[str, Any]:
        return {
            "contamination": self.contamination,
            "n_estimators": self.n_estimators,
            "max_samples": self.max_samples,
            "random_state": self.random_state,
        }

    def fit(self, segments: Sequence[Floats], progress: Progress) -> Fitted:
        X = np.concatenate(segments)
        scaler, arrays = fitted_scaler(X)
        forest = IForest(
            n_estimators=self.n_estimators,
            max_samples=self._max_samples(len(X)),
            contamination=self.contamination,
            random_state=self.random_state,
        ).fit(scaler.transform(X))
        # PyOD shifts its scores by a percentile of the training scores. The paper's constant
        # keeps the scores of different fits comparable; only the zero point moves.
        forest.detector_.offset_ = -0.5
        return Fitted(behind_scaler(scaler, iforest=forest), arrays | _arrays(forest))

    def set_threshold(self, estimator: Any, raw_threshold: float) -> None:
        estimator["iforest"].threshold_ = raw_threshold

    def _max_samples(self, n_samples: int) -> int | float | str:
        if isinstance(self.max_samples, int):
            return min(self.max_samples, n_samples)
        if isinstance(self.max_samples, float) and self.max_samples * n_samples < 2:
            raise InvalidDataError(
                f"A share of {self.max_samples} of {n_samples} rows leaves no rows for a tree.",
                field="max_samples",
                remedy="Give a larger share, a count, or 'auto'.",
            )
        return self.max_samples


def _arrays(forest: IForest) -> dict[str, NDArray[Any]]:
    """Flatten all trees into one table of nodes.

    A leaf points at itself and cuts nothing, so a walk of ``depth`` steps ends at a leaf
    whichever way it takes; ``path`` is what the leaf adds to the sum of path lengths.
    """
    children, features, thresholds, paths, roots = [], [], [], [], []
    offset = depth = 0
    for estimator, columns in zip(
        forest.estimators_, forest.detector_.estimators_features_, strict=True
    ):
        tree = estimator.tree_
        own = np.arange(tree.node_count)
        leaf = tree.children_left == -1
        left = np.where(leaf, own, tree.children_left) + offset
        right = np.where(leaf, own, tree.children_right) + offset
        level = _depths(tree.children_left, tree.children_right)
        children.append(np.stack([left, right], axis=1))
        features.append(np.where(leaf, 0, columns[np.where(leaf, 0, tree.feature)]))
        thresholds.append(np.where(leaf, np.inf, tree.threshold))
        paths.append(level + _average_path_length(tree.n_node_samples))
        roots.append(offset)
        offset += tree.node_count
        depth = max(depth, int(level.max()))
    normaliser = len(roots) * _average_path_length(np.array([forest.max_samples_]))[0]
    return {
        "children": np.concatenate(children).astype(np.int32),
        "feature": np.concatenate(features).astype(np.int32),
        "threshold": np.concatenate(thresholds),
        "path": np.concatenate(paths),
        "root": np.array(roots, dtype=np.int32),
        "depth": np.array([depth], dtype=np.int32),
        "normaliser": np.array([normaliser]),
    }


def _depths(left: NDArray[np.intp], right: NDArray[np.intp]) -> NDArray[np.intp]:
    depths = np.zeros(len(left), dtype=np.intp)
    # scikit-learn numbers a child after its parent, so one pass from the root is enough.
    for node in np.flatnonzero(left != -1):
        depths[left[node]] = depths[right[node]] = depths[node] + 1
    return depths


def _average_path_length(n: NDArray[np.intp]) -> Floats:
    """Return the mean path length of an unsuccessful search among n rows (equation 1)."""
    sizes = np.asarray(n, dtype=np.float64)
    larger = np.maximum(sizes, 3.0)
    length = 2.0 * (np.log(larger - 1.0) + EULER_GAMMA) - 2.0 * (larger - 1.0) / larger
    return np.where(sizes <= 1, 0.0, np.where(sizes == 2, 1.0, length))
