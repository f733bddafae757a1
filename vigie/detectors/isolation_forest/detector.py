"""Isolation Forest: readings that few random cuts isolate are unusual.

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
from sklearn import config_context
from sklearn.ensemble import IsolationForest as SklearnForest
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.preprocessing import FunctionTransformer, MinMaxScaler
from sklearn.tree import ExtraTreeRegressor

from vigie.detectors.base import Fitted, Floats, Progress
from vigie.detectors.data.sampling import spread_rows
from vigie.detectors.data.scaling import finish_fit, fitted_scaler, scaled_pipeline
from vigie.detectors.isolation_forest import ALGORITHM
from vigie.detectors.isolation_forest.fit import grow
from vigie.detectors.isolation_forest.nodes import (
    CHILD,
    COLUMN,
    CUT,
    FARTHEST_BEYOND,
    LANES,
    LENGTH,
    PER_NODE,
    keys_of_cuts,
    leaves,
)
from vigie.errors import InvalidDataError

# While scikit-learn fits a forest or a union of features, or transforms by one, it replaces the
# warning filters of the whole process. Two threads at once would restore each other's filters.
_warning_filters = threading.Lock()
EULER_GAMMA = 0.5772156649015329
AUTO_SAMPLES = 512
MOST_DRAWN = 50_000_000
"""Rows that all trees together may draw: their nodes then take five gigabytes."""
STRAYS_PER_TREE = 5.0
NEAREST_STRAY = 2.5
"""*beyond* of the nearest strays, as a distance in half widths of the box."""
CROWDING = 16
"""Power that concentrates the strays there, so that cuts isolate farther readings from the rows."""
BACKGROUND_WIDENING = 2.0
"""Margin of the background of averages on each side, in widths of their range."""


@dataclass(frozen=True)
class IsolationForest:
    """PyOD's ``IForest`` behind a scaler and an edge, as one scikit-learn pipeline.

    Trees are invariant to units in theory, but scikit-learn compares in float32 and treats a
    column whose values differ by less than 1e-7 as constant; so rows are scaled first.

    A forest as published cannot distinguish readings beyond its training data: no cut lies
    outside the range of a sensor, so a reading a thousand times too large shares its leaf with
    the largest training value. Here the trees have an additional column, *beyond*: the square of
    the logarithm of the reading's distance from the centre of the training rows' bounding box, in
    half widths of the box; 0 for rows inside it. Drift takes healthy readings slightly out of the
    box, and the square reduces its effect. A few strays, copies of training rows with an
    artificial *beyond*, make the trees cut this column. Healthy rows pass such a cut together, so
    their order is unchanged.

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
        Add a uniform background around the rows, instead of the strays. Averages of consecutive
        rows form few continuous paths, and cuts between them only follow these paths; cuts
        against a background measure the distance from them.
    part : bool, default False
        Build no estimator, for a calibration fit to a part of the rows.
    """

    n_estimators: int
    max_samples: int | float | Literal["auto"]
    contamination: float
    random_state: int
    background: bool = False
    part: bool = False

    algorithm = ALGORITHM.name
    scores_comparable = True
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
        return replace(self, part=True)

    def fit(self, segments: Sequence[Floats], progress: Progress) -> Fitted:
        X = np.concatenate(segments)
        scaler, arrays = fitted_scaler(X)
        box = scaler.transform(np.stack([X.min(axis=0), X.max(axis=0)]))
        max_samples = self._max_samples(len(X))
        # All trees together sample no more rows than this.
        n_drawn = self.n_estimators * max_samples
        if n_drawn > MOST_DRAWN:
            raise InvalidDataError(
                f"{self.n_estimators} trees of {max_samples} rows each would take too much memory.",
                field="max_samples",
                remedy=f"Give fewer rows for each tree, such as 'auto', or fewer trees: together "
                f"{MOST_DRAWN} rows at most.",
            )
        seen = spread_rows(X, n_drawn, self.random_state)
        rows = scaler.transform(seen)
        steps: dict[str, Any] = {}
        if self.background:
            rows = self._with_background(rows, box)
        else:
            with _warning_filters:
                steps["edge"] = edge = _edge(box)
                rows = edge.transform(rows)
            arrays |= _box(edge)
            rows = self._with_strays(rows, X.shape[1], max_samples)
        drawn = round(max_samples * len(rows) / len(seen))
        if self.part or self.background:
            trees = grow(rows.astype(np.float32), self.n_estimators, drawn, self.random_state)
            return Fitted(None, arrays | _arrays(trees, drawn, X.shape[1]))
        forest = IForest(
            n_estimators=self.n_estimators,
            max_samples=drawn,
            contamination=self.contamination,
            random_state=self.random_state,
        )
        forest.detector_ = _grown(rows, forest)
        trees = [estimator.tree_ for estimator in forest.estimators_]
        arrays |= _arrays(trees, forest.max_samples_, X.shape[1])
        finish_fit(forest, ALGORITHM.score(arrays, self.params, seen))
        return Fitted(scaled_pipeline(scaler, **steps, iforest=forest), arrays)

    def set_threshold(self, estimator: Any, raw_threshold: float) -> None:
        if estimator is not None:
            estimator["iforest"].threshold_ = raw_threshold

    def _with_background(self, rows: Floats, box: Floats) -> Floats:
        """Return rows and an equal number of uniform background rows around their box."""
        low, high = box
        margin = BACKGROUND_WIDENING * np.where(high > low, high - low, 1.0)
        random = np.random.default_rng(self.random_state)
        return np.concatenate([rows, random.uniform(low - margin, high + margin, rows.shape)])

    def _with_strays(self, rows: Floats, n_features: int, max_samples: int) -> Floats:
        """Return rows and strays: copies of some rows with a *beyond* outside the box."""
        random = np.random.default_rng(self.random_state)
        share = STRAYS_PER_TREE / max_samples
        strays = rows[random.integers(len(rows), size=max(2, round(share * len(rows))))]
        nearest, farthest = np.log([NEAREST_STRAY, FARTHEST_BEYOND]) ** 2
        fractions = random.uniform(0.0, 1.0, (len(strays), 1)) ** CROWDING
        strays[:, n_features:] = nearest + (farthest - nearest) * fractions
        return np.concatenate([rows, strays])

    def _max_samples(self, n_samples: int) -> int:
        """Return the number of rows per tree."""
        if self.max_samples == "auto":
            return min(AUTO_SAMPLES, n_samples)
        if isinstance(self.max_samples, int):
            return min(self.max_samples, n_samples)
        if self.max_samples * n_samples < 2:
            raise InvalidDataError(
                f"A share of {self.max_samples} of {n_samples} rows leaves no rows for a tree.",
                field="max_samples",
                remedy="Give a larger share, a count, or 'auto'.",
            )
        return int(self.max_samples * n_samples)


def _grown(rows: Floats, forest: IForest) -> SklearnForest:
    """Return a scikit-learn forest, with trees equivalent to those of its own ``fit``.

    ``fit`` passes all rows to every tree, most of them with weight 0, and draws the rows one by
    one in Python. Here scikit-learn fits a forest of a single tree, and the others are fitted to
    their own rows only. ``estimators_samples_`` is not available.
    """
    table = rows.astype(np.float32)
    grown = SklearnForest(
        n_estimators=1, max_samples=forest.max_samples, random_state=forest.random_state
    )
    with _warning_filters:
        grown.fit(table)
    del grown._seeds
    random = np.random.default_rng(forest.random_state)
    target = random.random(forest.max_samples)
    hyper_parameters = grown.estimator_.get_params()
    trees = []
    with config_context(skip_parameter_validation=True):
        for seed in random.integers(np.iinfo(np.int32).max, size=forest.n_estimators).tolist():
            drawn = random.choice(len(table), forest.max_samples, replace=False, shuffle=False)
            tree = ExtraTreeRegressor(**hyper_parameters | {"random_state": seed})
            trees.append(tree.fit(table[drawn], target, check_input=False))
    grown.n_estimators, grown.estimators_ = len(trees), trees
    grown.estimators_features_ *= len(trees)
    grown._decision_path_lengths = [tree.tree_.compute_node_depths() for tree in trees]
    grown._average_path_length_per_tree = [
        _average_path_length(tree.tree_.n_node_samples) for tree in trees
    ]
    return grown


def _edge(scaled: Floats) -> FeatureUnion:
    """Return a transformer that adds the column *beyond* to scaled rows, once per sensor.

    Trees pick columns at random, so a single copy would rarely be picked among many sensors.
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


def _arrays(trees: Sequence[Any], max_samples: int, n_features: int) -> dict[str, NDArray[Any]]:
    """Flatten all trees into one table of nodes; see ``nodes.py``.

    The trees are scikit-learn's or ``fit.Tree``, each fitted to ``max_samples`` rows. All copies
    of *beyond* become one column after the sensors.
    """
    sizes = np.array([len(tree.feature) for tree in trees])
    n_nodes, roots = int(sizes.sum()), np.cumsum(sizes) - sizes
    root = np.repeat(roots, sizes)
    left, right, column, cut, n_samples, depth = (
        np.concatenate(values)
        for values in zip(
            *(
                (
                    tree.children_left,
                    tree.children_right,
                    tree.feature,
                    tree.threshold,
                    tree.n_node_samples,
                    tree.compute_node_depths(),
                )
                for tree in trees
            ),
            strict=True,
        )
    )
    inner = np.flatnonzero(left != -1)
    # Siblings are adjacent, in the order of their parents.
    first_child = (
        root[inner] + 1 + 2 * (np.arange(len(inner)) - np.searchsorted(inner, root[inner]))
    )
    place = np.empty(n_nodes, dtype=np.intp)
    place[roots] = roots
    place[root[inner] + left[inner]] = first_child
    place[root[inner] + right[inner]] = first_child + 1
    # One more leaf after the last tree is the padding tree.
    nodes, length = leaves(0, n_nodes + 1), np.zeros(n_nodes + 1)
    nodes[place[inner], CUT] = keys_of_cuts(cut[inner])
    nodes[place[inner], COLUMN] = np.minimum(column[inner], n_features)
    nodes[place[inner], CHILD] = PER_NODE * first_child
    length[place] = depth - 1 + _average_path_length(n_samples)
    lengths, nodes[:, LENGTH] = np.unique(length, return_inverse=True)
    levels = np.maximum.reduceat(depth, roots) - 1
    n_padding = -len(trees) % LANES
    normaliser = len(trees) * _average_path_length(np.array([max_samples]))[0]
    return {
        "nodes": nodes,
        "lengths": lengths,
        "roots": (PER_NODE * np.append(roots, n_padding * [n_nodes])).astype(np.int32),
        "levels": np.append(levels, n_padding * [0]).astype(np.int32),
        "normaliser": np.array([normaliser]),
    }


def _average_path_length(n: NDArray[np.intp]) -> Floats:
    """Return the mean path length of an unsuccessful search among n rows (equation 1)."""
    sizes = np.asarray(n, dtype=np.float64)
    larger = np.maximum(sizes, 3.0)
    length = 2.0 * (np.log(larger - 1.0) + EULER_GAMMA) - 2.0 * (larger - 1.0) / larger
    return np.where(sizes <= 1, 0.0, np.where(sizes == 2, 1.0, length))
