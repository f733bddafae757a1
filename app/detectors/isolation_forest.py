"""Isolation Forest: the fewer random cuts isolate a reading, the more unusual it is.

References
----------
Liu, Ting, Zhou. Isolation-based anomaly detection. ACM TKDD 6(1), 2012.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pyod.models.iforest import IForest
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.preprocessing import FunctionTransformer, MinMaxScaler

from app.detectors.base import Fitted, Floats, Progress
from app.detectors.kernels import FARTHEST_BEYOND
from app.detectors.kernels.trees import (
    CHILD,
    COLUMN,
    CUT,
    LENGTH,
    PER_NODE,
    TOGETHER,
    keys_of_cuts,
    leaves,
)
from app.detectors.scaling import behind_scaler, fitted_scaler
from app.errors import InvalidDataError

# scikit-learn swaps the warning filters of the whole process while it grows and scores trees.
# Two forests at once would leave each other's behind; taking turns costs nothing, for growing
# small trees holds the interpreter's lock anyway.
_one_forest = threading.Lock()
EULER_GAMMA = 0.5772156649015329
AUTO_SAMPLES = 512
STRAYS_PER_TREE = 5.0
NEAREST_STRAY = 2.5
"""How far out the nearest strays claim to be, in half widths of the box."""
CROWDED = 16
"""Power that crowds the strays there: a reading as far out is cut off from the healthy rows."""
BACKGROUND_WIDENING = 2.0
"""How far the background of averages reaches beyond their range, in widths of that range."""


@dataclass(frozen=True)
class IsolationForest:
    """PyOD's ``IForest`` behind a scaler and an edge, as one scikit-learn pipeline.

    Trees do not mind units, but scikit-learn's do: they compare in float32, and take a column
    whose values differ by less than 1e-7 for a constant.

    As published, a forest sees nothing beyond its training data: no cut lies outside the range
    of a sensor, so a reading a thousand times too large shares its leaf with the largest one in
    training. Here the trees have one more column to cut, *beyond*: the square of the logarithm of
    how far the reading lies from the middle of all training rows, in half widths of their box;
    0 for every row in it. Drift takes healthy readings a little out of the box, and the square
    makes little of that. A few strays, training rows with an invented *beyond*, give the trees
    something to cut there. Healthy rows pass such a cut together and stay in the order that they
    had.

    Parameters
    ----------
    n_estimators : int
        Number of trees.
    max_samples : int, float or 'auto'
        Rows that each tree sees: a count, a share, or at most 512.
    contamination : float
        Passed on to PyOD; the threshold in use comes from the calibration.
    random_state : int
        Seed.
    background : bool, default False
        Give the trees a uniform background around the rows, instead of the strays. Averages of
        consecutive rows lie along few paths through space, which cuts between them would only
        follow; cuts against a background measure the distance from them.
    """

    n_estimators: int
    max_samples: int | float | Literal["auto"]
    contamination: float
    random_state: int
    background: bool = False

    algorithm = "isolation_forest"
    comparable = True
    window = 1

    @property
    def params(self) -> dict[str, Any]:
        return {
            "contamination": self.contamination,
            "n_estimators": self.n_estimators,
            "max_samples": self.max_samples,
            "random_state": self.random_state,
        }

    def for_averages(self, n_rows: int) -> IsolationForest:
        return replace(self, background=True)

    def for_part(self, share: float) -> IsolationForest:
        return self

    def fit(self, segments: Sequence[Floats], progress: Progress) -> Fitted:
        with _one_forest:
            return self._fit(segments)

    def _fit(self, segments: Sequence[Floats]) -> Fitted:
        X = np.concatenate(segments)
        scaler, arrays = fitted_scaler(X)
        steps: dict[str, Any] = {}
        rows = scaler.transform(X)
        if self.background:
            rows = self._with_background(rows)
        else:
            steps["edge"] = edge = _edge(rows)
            rows = self._with_strays(edge.transform(rows), X.shape[1])
            arrays |= _box(edge)
        forest = IForest(
            n_estimators=self.n_estimators,
            max_samples=self._max_samples(len(X), len(rows)),
            contamination=self.contamination,
            random_state=self.random_state,
        ).fit(rows)
        # PyOD shifts its scores by a percentile of the training scores. The paper's constant
        # keeps the scores of different fits comparable; only the zero point moves.
        forest.detector_.offset_ = -0.5
        estimator = behind_scaler(scaler, **steps, iforest=forest)
        return Fitted(estimator, arrays | _arrays(forest, X.shape[1]))

    def set_threshold(self, estimator: Any, raw_threshold: float) -> None:
        estimator["iforest"].threshold_ = raw_threshold

    def _with_background(self, rows: Floats) -> Floats:
        """Return rows among as many of a uniform background around them."""
        low, high = rows.min(axis=0), rows.max(axis=0)
        margin = BACKGROUND_WIDENING * np.where(high > low, high - low, 1.0)
        random = np.random.default_rng(self.random_state)
        return np.concatenate([rows, random.uniform(low - margin, high + margin, rows.shape)])

    def _with_strays(self, rows: Floats, n_features: int) -> Floats:
        """Return rows, and copies of some that claim to lie beyond the box."""
        random = np.random.default_rng(self.random_state)
        share = STRAYS_PER_TREE / self._max_samples(len(rows), len(rows))
        strays = rows[random.integers(len(rows), size=max(2, round(share * len(rows))))]
        nearest, farthest = np.log([NEAREST_STRAY, FARTHEST_BEYOND]) ** 2
        along = random.uniform(0.0, 1.0, (len(strays), 1)) ** CROWDED
        strays[:, n_features:] = nearest + (farthest - nearest) * along
        return np.concatenate([rows, strays])

    def _max_samples(self, n_samples: int, n_rows: int) -> int:
        """Return the rows of a tree, of which ``n_rows - n_samples`` are not from training."""
        if self.max_samples == "auto":
            wanted = min(AUTO_SAMPLES, n_samples)
        elif isinstance(self.max_samples, int):
            wanted = min(self.max_samples, n_samples)
        elif self.max_samples * n_samples < 2:
            raise InvalidDataError(
                f"A share of {self.max_samples} of {n_samples} rows leaves no rows for a tree.",
                field="max_samples",
                remedy="Give a larger share, a count, or 'auto'.",
            )
        else:
            wanted = int(self.max_samples * n_samples)
        return min(round(wanted * n_rows / n_samples), n_rows)


def _edge(scaled: Floats) -> FeatureUnion:
    """Return what adds the column *beyond* to scaled rows, once for each sensor.

    Repeated, for a tree picks a column by chance and must not miss it among many.
    """
    n_features = scaled.shape[1]
    beyond = Pipeline(
        [
            ("box", MinMaxScaler(feature_range=(-1, 1))),
            (
                "distance",
                FunctionTransformer(
                    np.linalg.norm, kw_args={"ord": np.inf, "axis": 1, "keepdims": True}
                ),
            ),
            (
                "outside",
                FunctionTransformer(np.clip, kw_args={"a_min": 1.0, "a_max": FARTHEST_BEYOND}),
            ),
            ("decades", FunctionTransformer(np.log)),
            ("gently", FunctionTransformer(np.square)),
            ("often", FunctionTransformer(np.repeat, kw_args={"repeats": n_features, "axis": 1})),
        ]
    )
    return FeatureUnion([("sensors", "passthrough"), ("beyond", beyond)]).fit(scaled)


def _box(edge: FeatureUnion) -> dict[str, NDArray[Any]]:
    box = dict(edge.transformer_list)["beyond"]["box"]
    return {"box_scale": box.scale_, "box_min": box.min_}


def _arrays(forest: IForest, n_features: int) -> dict[str, NDArray[Any]]:
    """Flatten all trees into one table of nodes, as ``app.detectors.kernels.forest`` has it.

    All copies of *beyond* are one column, which stands after the sensors.
    """
    tables, lengths, roots, levels = [], [], [], []
    start = 0
    for estimator, columns in zip(
        forest.estimators_, forest.detector_.estimators_features_, strict=True
    ):
        tree = estimator.tree_
        inner = np.flatnonzero(tree.children_left != -1)
        # Two children stand side by side, in the order of their parents.
        first_child = 1 + 2 * np.arange(len(inner))
        place = np.zeros(tree.node_count, dtype=np.intp)
        place[tree.children_left[inner]] = first_child
        place[tree.children_right[inner]] = first_child + 1
        table = leaves(start, tree.node_count)
        table[place[inner], CUT] = keys_of_cuts(tree.threshold[inner])
        table[place[inner], COLUMN] = np.minimum(columns[tree.feature[inner]], n_features)
        table[place[inner], CHILD] = PER_NODE * (start + first_child)
        depths = tree.compute_node_depths() - 1
        length = np.empty(tree.node_count)
        length[place] = depths + _average_path_length(tree.n_node_samples)
        tables.append(table)
        lengths.append(length)
        roots.append(PER_NODE * start)
        levels.append(depths.max())
        start += tree.node_count
    n_trees, missing = len(roots), -len(roots) % TOGETHER
    tables.append(leaves(start, 1))
    lengths.append(np.zeros(1))
    nodes = np.concatenate(tables)
    different, nodes[:, LENGTH] = np.unique(np.concatenate(lengths), return_inverse=True)
    normaliser = n_trees * _average_path_length(np.array([forest.max_samples_]))[0]
    return {
        "nodes": nodes,
        "lengths": different,
        "roots": np.array(roots + missing * [PER_NODE * start], dtype=np.int32),
        "levels": np.array(levels + missing * [0], dtype=np.int32),
        "normaliser": np.array([normaliser]),
    }


def _average_path_length(n: NDArray[np.intp]) -> Floats:
    """Return the mean path length of an unsuccessful search among n rows (equation 1)."""
    sizes = np.asarray(n, dtype=np.float64)
    larger = np.maximum(sizes, 3.0)
    length = 2.0 * (np.log(larger - 1.0) + EULER_GAMMA) - 2.0 * (larger - 1.0) / larger
    return np.where(sizes <= 1, 0.0, np.where(sizes == 2, 1.0, length))
