"""What a fit leaves: PyOD's estimators, as PyOD itself would have left them, in less time."""

from __future__ import annotations

import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pyod.models.iforest import IForest
from pyod.models.ocsvm import OCSVM
from scipy.stats import spearmanr
from sklearn.base import clone

from vigie.config import Settings
from vigie.detectors.base import Detector, no_progress
from vigie.detectors.data.sampling import spread_rows
from vigie.detectors.isolation_forest.detector import IsolationForest, _grown
from vigie.detectors.lstm_autoencoder.detector import LSTMAutoencoder
from vigie.detectors.one_class_svm.detector import OneClassSVM
from vigie.detectors.scoring import raw_scores
from vigie.errors import InvalidDataError
from vigie.services.one_class_svm_service import OneClassSVMService

ROWS = np.random.default_rng(1).normal(size=(700, 5)) * [1.0, 10.0, 0.1, 1.0, 5.0] + 20.0
FRESH = np.random.default_rng(2).normal(size=(300, 5)) * [2.0, 20.0, 0.2, 2.0, 10.0] + 20.0
FOREST = IsolationForest(60, 256, 0.1, random_state=3)
SVM = OneClassSVM(0.5, "rbf", "local", 0.1)


def own(detector: Detector, X: np.ndarray = ROWS) -> tuple[Any, np.ndarray]:
    """Return PyOD's estimator out of a fitted pipeline, and X as it sees it."""
    pipeline = detector.fit([X], no_progress).estimator
    return pipeline[-1], pipeline[:-1].transform(X)


@pytest.mark.parametrize(
    ("detector", "peer", "lacking"),
    [(FOREST, IForest(), {"_seeds"}), (SVM, OCSVM(), set())],
    ids=["isolation_forest", "one_class_svm"],
)
def test_the_estimator_has_all_that_pyod_leaves_after_a_fit(detector, peer, lacking):
    estimator, rows = own(detector)
    peer.fit(rows)
    assert vars(estimator).keys() == vars(peer).keys()
    assert vars(peer.detector_).keys() - vars(estimator.detector_).keys() == lacking
    scores = estimator.decision_function(rows)
    np.testing.assert_allclose(estimator.decision_scores_, scores, rtol=0, atol=1e-9)
    assert estimator.labels_.mean() == pytest.approx(0.1, abs=0.002)
    np.testing.assert_array_equal(estimator.predict(rows), estimator.labels_)
    assert estimator.predict_proba(rows).shape == (len(rows), 2)
    assert clone(estimator).get_params() == estimator.get_params()
    again = pickle.loads(pickle.dumps(estimator))
    np.testing.assert_array_equal(again.decision_function(rows), scores)


@pytest.mark.slow
def test_trees_are_as_scikit_learn_grows_them():
    peers = [IForest(n_estimators=300, max_samples=256, random_state=seed) for seed in (3, 4)]
    scores = [peer.fit(ROWS).detector_.score_samples(FRESH) for peer in peers]
    grown = _grown(ROWS, peers[0]).score_samples(FRESH)
    assert spearmanr(grown, scores[0]).statistic > 0.98
    assert grown.mean() == pytest.approx(scores[0].mean(), abs=0.005)
    assert abs(grown - scores[0]).max() < 2 * abs(scores[1] - scores[0]).max()


def test_a_forest_of_a_long_training_takes_no_more_rows_than_its_trees_can_see():
    estimator, _ = own(IsolationForest(10, 20, 0.1, random_state=3))
    assert len(estimator.decision_scores_) == 200
    assert len(estimator.estimators_) == 10
    assert {tree.tree_.n_node_samples[0] for tree in estimator.estimators_} == {25}


@pytest.mark.parametrize("kernel", ["rbf", "linear", "poly", "sigmoid"])
@pytest.mark.parametrize("rows", [700, 4096, "all"])
def test_a_support_of_all_rows_is_pyods_own_fit(kernel, rows):
    detector = OneClassSVM(0.3, kernel, "scale", 0.1, rows=rows)
    estimator, scaled = own(detector)
    peer = OCSVM(kernel=kernel, nu=0.3, gamma=0.2).fit(scaled)
    for name in ("decision_scores_", "threshold_", "labels_", "_mu", "_sigma", "support_"):
        np.testing.assert_allclose(
            getattr(estimator, name), getattr(peer, name), rtol=1e-9, atol=1e-9
        )


def test_a_support_of_some_rows_ranks_readings_as_one_of_all_rows():
    scores = [
        raw_scores(
            "one_class_svm", detector.fit([ROWS], no_progress).arrays, detector.params, FRESH
        )
        for detector in (OneClassSVM(0.5, "rbf", "local", 0.1, rows=350), SVM)
    ]
    assert spearmanr(*scores).statistic > 0.97


def test_a_forest_that_only_calibrates_scores_as_one_that_pyod_can_open():
    detector = IsolationForest(400, 256, 0.01, random_state=1)
    fits = detector.fit([ROWS], no_progress), detector.for_part(1.0).fit([ROWS], no_progress)
    assert fits[1].estimator is None
    X = np.concatenate([ROWS, FRESH])
    theirs, ours = (raw_scores("isolation_forest", fit.arrays, {}, X) for fit in fits)
    # Two forests of so many trees differ by chance in the third digit.
    assert abs(theirs - ours).mean() < 0.01
    assert abs((theirs - ours).mean()) < 0.005
    assert np.corrcoef(theirs, ours)[0, 1] > 0.98


@pytest.mark.parametrize("most", [1, 7, 99, 699])
def test_rows_are_spread_evenly_over_the_training(most):
    chosen = spread_rows(np.arange(700.0)[:, None], most, random_state=0)[:, 0]
    assert len(chosen) == len(np.unique(chosen)) == most
    edges = np.linspace(0, 700, most + 1).astype(int)
    assert ((chosen >= edges[:-1]) & (chosen < edges[1:])).all()


def test_no_more_rows_than_there_are_come_as_they_are():
    assert spread_rows(ROWS, 700, random_state=0) is ROWS


@pytest.mark.parametrize("bandwidth_factor", [1, 20])
def test_a_support_that_nobody_opens_is_the_one_that_libsvm_finds(bandwidth_factor):
    detector = replace(SVM, gamma="scale", bandwidth_factor=bandwidth_factor)
    opened, unopened = (
        one.fit([ROWS], no_progress) for one in (detector, replace(detector, arrays_only=True))
    )
    assert unopened.estimator is None
    scores = [
        raw_scores("one_class_svm", fitted.arrays, detector.params, FRESH)
        for fitted in (opened, unopened)
    ]
    np.testing.assert_allclose(*scores, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("svm_rows", "solver", "n_fitted"),
    [(4096, "exact", 700), (700, "exact", 700), ("all", "exact", 700), (200, "subsample", 200)],
)
def test_the_service_says_how_its_support_was_solved(svm_rows, solver, n_fitted):
    service = OneClassSVMService(
        svm_rows=svm_rows, settings=Settings(_env_file=None, mlflow_enabled=False)
    )
    assert "solver" not in service.get_model_info()
    service.train(ROWS)
    info = service.get_model_info()
    assert (info["svm_rows"], info["solver"], info["n_fitted"]) == (svm_rows, solver, n_fitted)
    assert len(service.model[-1].decision_scores_) == n_fitted


@pytest.mark.parametrize(
    ("detector", "field"),
    [
        (IsolationForest(10_000, 1.0, 0.01, random_state=1), "max_samples"),
        (LSTMAutoencoder((1024,), (1024,), 1000, 10_000, 1, 0.01, random_state=1), "batch_size"),
    ],
    ids=["forest", "lstm"],
)
def test_hyper_parameters_that_together_take_all_memory_are_refused_before_they_do(detector, field):
    rows = np.random.default_rng(0).normal(size=(6000, 2))
    with pytest.raises(InvalidDataError, match="too much memory") as refused:
        detector.fit([rows], no_progress)
    assert refused.value.field == field
