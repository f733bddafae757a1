"""Whatever a table looks like, it is trained on, or refused with a reason; it never ends badly."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from vigie.assessment.ensemble import Ensemble
from vigie.assessment.stream import Stream
from vigie.detectors.base import Detector
from vigie.detectors.data.matrices import training_table
from vigie.detectors.isolation_forest.detector import IsolationForest
from vigie.detectors.lstm_autoencoder.detector import LSTMAutoencoder
from vigie.detectors.one_class_svm.detector import OneClassSVM
from vigie.detectors.trained import TrainedModel
from vigie.detectors.training import train
from vigie.detectors.vector_autoregression.detector import VectorAutoregression
from vigie.errors import InvalidDataError
from vigie.training.train import alarm_limits

pytestmark = pytest.mark.slow

DETECTORS: dict[str, Detector] = {
    "isolation_forest": IsolationForest(10, "auto", 0.01, random_state=1),
    "one_class_svm": OneClassSVM(0.5, "rbf", "local", 0.01, rows=500),
    "polynomial_svm": OneClassSVM(0.1, "poly", "scale", 0.01),
    "vector_autoregression": VectorAutoregression((1, 2, 4), "auto", 0.01),
    "lstm_autoencoder": LSTMAutoencoder((3,), (3,), 4, 64, 1, 0.01, random_state=1),
}
EXAMPLES = {"isolation_forest": 12, "lstm_autoencoder": 8}
"""The costly ones get fewer than the others."""
Column = Callable[[np.random.Generator, int], Any]
COLUMNS: dict[str, Column] = {
    "normal": lambda rng, n: rng.normal(size=n),
    "constant": lambda rng, n: np.full(n, 3.3),
    "nearly constant": lambda rng, n: 1.0 + 1e-12 * rng.normal(size=n),
    "alternating": lambda rng, n: np.arange(n) % 2,
    "of three values": lambda rng, n: rng.integers(0, 3, n),
    "rarely on": lambda rng, n: np.where(rng.random(n) < 0.02, 5.0, 0.0),
    "integers": lambda rng, n: rng.integers(-5, 6, n),
    "as large as integers get": lambda rng, n: 2**53 + rng.integers(0, 3, n),
    "counter": lambda rng, n: 1e9 + np.arange(n),
    "in long runs": lambda rng, n: np.repeat(rng.normal(size=n), 30)[:n],
    "first row odd": lambda rng, n: np.where(np.arange(n) == 0, 1e6, 1.0),
    "last row odd": lambda rng, n: np.where(np.arange(n) == n - 1, 1e-6, 0.0),
    "heavy tails": lambda rng, n: rng.standard_cauchy(n),
    "heavier tails": lambda rng, n: rng.pareto(0.2, n),
    "huge": lambda rng, n: 1e90 * rng.normal(size=n),
    "huge, nearly constant": lambda rng, n: 1e90 + 1e80 * rng.normal(size=n),
    "huge, alternating": lambda rng, n: np.where(np.arange(n) % 2, 1e100, -1e100),
    "tiny": lambda rng, n: 1e-95 * rng.normal(size=n),
    "denormal": lambda rng, n: 1e-310 * rng.normal(size=n),
    "full of gaps": lambda rng, n: np.where(rng.random(n) < 0.45, np.nan, rng.normal(size=n)),
    "with a long gap": lambda rng, n: np.where(
        (np.arange(n) > 0.3 * n) & (np.arange(n) < 0.7 * n), np.nan, rng.normal(size=n)
    ),
    "infinite at times": lambda rng, n: np.where(rng.random(n) < 0.1, np.inf, rng.normal(size=n)),
}


def table(kinds: list[str], n_rows: int, with_sum: bool, seed: int) -> np.ndarray:
    """Return columns of these kinds, the same one twice if it is named twice, and their sum."""
    rng = np.random.default_rng(seed)
    columns = {kind: np.asarray(COLUMNS[kind](rng, n_rows), dtype=float) for kind in kinds}
    X = np.column_stack([columns[kind] for kind in kinds])
    return np.column_stack([X, X @ np.arange(1.0, X.shape[1] + 1)]) if with_sum else X


def fresh(X: np.ndarray) -> np.ndarray:
    """Return rows as in training, in the middle of nowhere, and far off."""
    far = 1e3 * (np.abs(X).max(axis=0) + 1.0)
    n = min(len(X), 12)
    rows = X[:n], X[:n] + far, np.zeros_like(X[:n]), -1e6 * X[:n], np.full_like(X[:n], 1e300)
    return np.concatenate([*rows, np.full_like(X[:n], 1e-320), X[-n:]])


def check_answers(model: TrainedModel, rows: np.ndarray) -> None:
    scores = model.predict_scores(rows)
    assert np.isfinite(scores).all()
    assert (scores >= 0.0).all()
    assert (scores <= 1.0).all()
    readings = pd.DataFrame(rows, columns=list(model.feature_names))
    readings.iloc[3] = np.nan
    stream = Stream(Ensemble({model.algorithm: model}, 0.01, 3600.0), refuse=False)
    assessment = stream.assess(readings).assessment
    for p_values in (assessment.p_values, assessment.asset_p_values):
        known = p_values[~np.isnan(p_values)]
        assert ((known >= 0.0) & (known <= 1.0)).all()
    last = [len(rows) - 1]
    for reasons in (assessment.reasons(last), assessment.trend_reasons(last)):
        assert all(0.0 <= sensor.share <= 1.0 for sensor in reasons.get(last[0], []))


@pytest.mark.parametrize("name", DETECTORS)
def test_an_odd_table_is_trained_on_or_refused_with_a_reason(name):
    @given(
        kinds=st.lists(st.sampled_from(sorted(COLUMNS)), min_size=1, max_size=4),
        n_rows=st.sampled_from([2, 4, 9, 20, 45, 90, 130]),
        with_sum=st.booleans(),
        seed=st.integers(0, 9),
    )
    @example(["alternating"], 90, False, 0)
    @example(["huge, alternating"], 130, False, 0)
    @example(["huge, nearly constant", "normal"], 90, False, 0)
    @example(["tiny"], 45, False, 0)
    @settings(
        max_examples=EXAMPLES.get(name, 20),
        deadline=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    def check(kinds, n_rows, with_sum, seed):
        with np.errstate(all="ignore"):
            X = table(kinds, n_rows, with_sum, seed)
        model, refusal = None, None
        try:
            healthy = training_table(X, [f"s{i}" for i in range(X.shape[1])])
            model = train(
                DETECTORS[name],
                healthy,
                threshold=0.99,
                folds=5,
                time_ordered=True,
                random_state=0,
                trend_window=20,
                limits=alarm_limits(0.01),
            )
        except InvalidDataError as error:
            refusal = error
        if model is None:
            assert refusal.field
            assert refusal.remedy
            return
        assert warnings.filters, "the process warns of nothing any more"
        check_answers(model, healthy.values)
        rows = fresh(healthy.values)
        check_answers(model, rows)
        with tempfile.TemporaryDirectory() as folder:
            model.save(Path(folder))
            reopened = TrainedModel.load(Path(folder))
        assert np.array_equal(reopened.predict_scores(rows), model.predict_scores(rows))

    check()
