"""The serving form scores as the estimator that it was taken from, whatever training can make."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from vigie.detectors.base import Fitted, no_progress
from vigie.detectors.calibration.p_values import Calibration
from vigie.detectors.catalogue import algorithms, warm_up
from vigie.detectors.data.matrices import Table
from vigie.detectors.isolation_forest.detector import IsolationForest
from vigie.detectors.isolation_forest.nodes import CHILD, COLUMN, LENGTH
from vigie.detectors.lstm_autoencoder.detector import LSTMAutoencoder
from vigie.detectors.one_class_svm.detector import OneClassSVM
from vigie.detectors.scoring import raw_scores
from vigie.detectors.trained import CARD, TrainedModel
from vigie.detectors.training import train
from vigie.detectors.vector_autoregression.detector import VectorAutoregression
from vigie.errors import ModelRefusedError
from vigie.serving.trial import require_verdicts

N_FEATURES = 5
SEED = 3


def rows(n: int, seed: int = 0) -> np.ndarray:
    """Healthy rows in different units, shape (n, 5); the last column is constant at times."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(n, N_FEATURES)) * [1e-6, 1.0, 30.0, 1e5, 2.0] + [0, 5, -7, 1e6, 1]
    values[rng.random(n) < 0.4, 4] = 1.0
    return values


def trials(n: int = 300) -> np.ndarray:
    """Rows to score: healthy, mild, grave and absurd ones."""
    X = rows(n, seed=1)
    X[::5] *= 1.5
    X[::7] *= 40.0
    X[3] *= -1e9
    X[4] = 1e25
    return X


def forest(n_estimators: int, max_samples: int | float | str, X: np.ndarray) -> Fitted:
    return IsolationForest(n_estimators, max_samples, 0.01, SEED).fit([X], no_progress)


def windows(X: np.ndarray, length: int) -> np.ndarray:
    views = np.lib.stride_tricks.sliding_window_view(X, length, axis=0)
    return np.moveaxis(views, -1, 1)


def scored_by_network(fitted: Fitted, examples: np.ndarray) -> np.ndarray:
    return fitted.estimator(torch.from_numpy(examples.copy())).numpy()


@cache
def an_example(algorithm: str) -> tuple[Fitted, dict[str, object], np.ndarray]:
    """Return one fit of each algorithm, its parameters, and examples."""
    if algorithm == "isolation_forest":
        return forest(30, 64, rows(500)), {}, trials(2100)
    if algorithm == "one_class_svm":
        detector = OneClassSVM(0.3, "rbf", "local", 0.01)
        return detector.fit([rows(500)], no_progress), detector.params, trials(700)
    if algorithm == "vector_autoregression":
        detector = VectorAutoregression((1, 2, 4), "auto", 0.01)
        return detector.fit([rows(500)], no_progress), detector.params, windows(trials(700), 5)
    detector = LSTMAutoencoder((6,), (6,), 4, 64, 1, 0.01, SEED)
    return detector.fit([rows(200)], no_progress), detector.params, windows(trials(700), 4)


ALGORITHMS = ("isolation_forest", "one_class_svm", "vector_autoregression", "lstm_autoencoder")


# Isolation Forest


@pytest.mark.parametrize("n_estimators", [1, 8, 21])
@pytest.mark.parametrize("max_samples", [2, 100, 0.25, 1.0, "auto"])
def test_a_forest_of_any_size_scores_as_the_estimator(n_estimators, max_samples):
    fitted = forest(n_estimators, max_samples, rows(700))
    X = trials()
    expected = fitted.estimator.decision_function(X)
    scores = raw_scores("isolation_forest", fitted.arrays, {}, X)
    np.testing.assert_allclose(scores, expected, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("n_rows", [30, 103, 104, 300])
def test_trees_somewhat_higher_than_most_score_as_the_estimator(n_rows):
    fitted = forest(9, 1.0, rows(4000))
    assert 11 <= fitted.arrays["levels"].max() <= 13
    expected = fitted.estimator.decision_function(trials(n_rows))
    scores = raw_scores("isolation_forest", fitted.arrays, {}, trials(n_rows))
    np.testing.assert_allclose(scores, expected, rtol=1e-9, atol=1e-15)


@pytest.mark.slow
def test_a_tree_twenty_levels_deep_scores_as_the_estimator():
    fitted = forest(1, 1.0, rows(600_000))
    assert fitted.arrays["levels"].max() >= 20
    expected = fitted.estimator.decision_function(trials())
    scores = raw_scores("isolation_forest", fitted.arrays, {}, trials())
    np.testing.assert_allclose(scores, expected, rtol=1e-9, atol=1e-15)


def test_readings_on_a_cut_and_beside_it_go_the_way_of_the_estimator():
    X = np.round(np.random.default_rng(5).normal(size=(400, N_FEATURES)), 1)
    fitted = forest(20, 200, X)
    pipeline = fitted.estimator
    cuts = np.concatenate([tree.tree_.threshold for tree in pipeline["iforest"].estimators_])
    scaled = np.random.default_rng(6).choice(cuts, size=(2000, N_FEATURES))
    for step in (0.0, -6e-8, 6e-8):
        near = pipeline["scale"].inverse_transform(scaled * (1.0 + step))
        scores = raw_scores("isolation_forest", fitted.arrays, {}, near)
        np.testing.assert_allclose(scores, pipeline.decision_function(near), rtol=1e-9, atol=1e-15)


def test_a_million_rows_score_as_the_estimator():
    fitted, _, _ = an_example("isolation_forest")
    X = np.random.default_rng(7).normal(size=(1_000_000, 1)) * [1e-6, 1, 30, 1e5, 2]
    scores = raw_scores("isolation_forest", fitted.arrays, {}, X)
    assert scores.shape == (1_000_000,)
    some = np.r_[0, np.random.default_rng(8).integers(1_000_000, size=2000), 999_999]
    expected = fitted.estimator.decision_function(X[some])
    np.testing.assert_allclose(scores[some], expected, rtol=1e-9, atol=1e-15)


# One-Class SVM


@pytest.mark.parametrize("gamma", ["local", "scale", "auto", 1e-6, 1.0])
@pytest.mark.parametrize("kernel", ["rbf", "linear", "poly", "sigmoid"])
def test_an_svm_of_any_kernel_scores_as_the_estimator(kernel, gamma):
    detector = OneClassSVM(0.2, kernel, gamma, 0.01)
    fitted = detector.fit([rows(200)], no_progress)
    X = trials()
    scores = raw_scores("one_class_svm", fitted.arrays, detector.params, X)
    expected = fitted.estimator.decision_function(X)
    # The sum has terms that cancel: what it can be exact to is a part of all of them together.
    support, weights = fitted.arrays["support_vectors"], fitted.arrays["dual_coef"]
    scaled = (X - fitted.arrays["center"]) / fitted.arrays["scale"]
    products = np.abs(scaled) @ np.abs(support)
    largest = {
        "rbf": np.ones_like(products),
        "linear": products,
        "poly": (fitted.arrays["gamma"][0] * products) ** 3,
        "sigmoid": np.minimum(fitted.arrays["gamma"][0] * products, 1.0),
    }[kernel]
    terms = largest @ np.abs(weights) + abs(fitted.arrays["intercept"][0])
    assert (np.abs(scores - expected) <= 1e-9 * np.abs(expected) + 1e-13 * terms).all()


# LSTM autoencoder


@pytest.mark.parametrize(
    ("encoder", "decoder", "length"),
    [((32, 16), (16, 32), 10), ((1,), (1,), 2), ((7, 5, 3), (9,), 5), ((64,), (30, 11), 30)],
)
def test_an_lstm_of_any_shape_scores_as_the_network(encoder, decoder, length):
    detector = LSTMAutoencoder(encoder, decoder, length, 64, 1, 0.01, SEED)
    fitted = detector.fit([rows(200)], no_progress)
    examples = windows(trials(150), length)
    scores = raw_scores("lstm_autoencoder", fitted.arrays, detector.params, examples)
    np.testing.assert_allclose(scores, scored_by_network(fitted, examples), rtol=1e-9)


def test_an_lstm_scores_as_the_network_in_single_precision():
    fitted, params, _ = an_example("lstm_autoencoder")
    examples = windows(rows(150, seed=2), 4)
    network = LSTMAutoencoder((6,), (6,), 4, 64, 1, 0.01, SEED)._new_network(N_FEATURES)
    network.load_state_dict(fitted.estimator.state_dict())
    scaled = (examples - fitted.arrays["center"]) / fitted.arrays["scale"]
    single = torch.from_numpy(scaled.astype(np.float32))
    with torch.inference_mode():
        restored = network.float().restore(single)
        errors = ((restored - single) ** 2).mean(dim=(1, 2)).numpy()
    scores = raw_scores("lstm_autoencoder", fitted.arrays, params, examples)
    inside = (examples[:, -1] <= rows(200).max(axis=0)) & (examples[:, -1] >= rows(200).min(axis=0))
    np.testing.assert_allclose(scores[inside.all(axis=1)], errors[inside.all(axis=1)], rtol=1e-5)


# All of them


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_row_has_one_score_to_the_last_bit_in_any_company(algorithm):
    fitted, params, examples = an_example(algorithm)
    together = raw_scores(algorithm, fitted.arrays, params, examples)
    for n in (1, 7, 8, 9, 63, 65, 255, 257):
        for start in (0, 3, 200):
            part = raw_scores(algorithm, fitted.arrays, params, examples[start : start + n])
            np.testing.assert_array_equal(part, together[start : start + n])


@pytest.mark.parametrize("n_features", [1, 5, 700])
def test_slow_readings_have_the_score_in_a_forest_that_each_has_alone(n_features):
    rng = np.random.default_rng(SEED)
    X = np.cumsum(rng.normal(size=(700, n_features)), axis=0)
    fitted = forest(21, 256, X + rng.normal(size=X.shape))
    X[350:] += 5.0
    X[400, 0] = np.nan
    together = raw_scores("isolation_forest", fitted.arrays, {}, X)
    alone = [raw_scores("isolation_forest", fitted.arrays, {}, row[None])[0] for row in X]
    np.testing.assert_array_equal(together, alone)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_many_threads_at_once_get_the_scores_of_one(algorithm):
    fitted, params, examples = an_example(algorithm)
    expected = raw_scores(algorithm, fitted.arrays, params, examples)
    answers: list[np.ndarray] = []

    def ask() -> None:
        answers.append(raw_scores(algorithm, fitted.arrays, params, examples))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 8
    for answer in answers:
        np.testing.assert_array_equal(answer, expected)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_examples_in_any_type_or_order_score_as_their_values(algorithm):
    fitted, params, examples = an_example(algorithm)
    whole = np.round(examples[:50] / 1e5).clip(-100, 100)
    expected = raw_scores(algorithm, fitted.arrays, params, whole)
    for form in (
        whole.astype(np.float32),
        whole.astype(np.int8),
        whole.astype(">f8"),
        np.asfortranarray(whole),
        np.repeat(whole, 2, axis=0)[::2],
    ):
        scores = raw_scores(algorithm, fitted.arrays, params, form)
        np.testing.assert_array_equal(scores, expected)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_no_examples_have_no_scores(algorithm):
    fitted, params, examples = an_example(algorithm)
    assert raw_scores(algorithm, fitted.arrays, params, examples[:0]).shape == (0,)


@pytest.mark.parametrize(
    "algorithm", [name for name in ALGORITHMS if not algorithms()[name].takes_missing]
)
def test_a_missing_value_leaves_its_own_example_without_a_score(algorithm):
    fitted, params, examples = an_example(algorithm)
    expected = raw_scores(algorithm, fitted.arrays, params, examples[:40])
    gaps = np.array(examples[:40])
    gaps[5, ..., 2] = gaps[17, ..., 0] = np.nan
    scores = raw_scores(algorithm, fitted.arrays, params, gaps)
    assert np.flatnonzero(np.isnan(scores)).tolist() == [5, 17]
    np.testing.assert_array_equal(np.delete(scores, [5, 17]), np.delete(expected, [5, 17]))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_infinite_readings_are_far_ones(algorithm):
    fitted, params, examples = an_example(algorithm)
    far = np.array(examples[:2])
    far[0, ..., 1], far[1, ..., 1] = np.inf, -np.inf
    assert np.isfinite(raw_scores(algorithm, fitted.arrays, params, far)).all()


# Opening: compiled code would look up whatever it is told to


def put(name: str, place: object, value: float) -> Callable[[dict[str, np.ndarray]], None]:
    def change(arrays: dict[str, np.ndarray]) -> None:
        arrays[name] = arrays[name].copy()
        arrays[name][place] = value

    return change


def shorten(name: str) -> Callable[[dict[str, np.ndarray]], None]:
    return lambda arrays: arrays.update({name: arrays[name][:-1]})


FORGED = [
    ("isolation_forest", put("nodes", (0, CHILD), 2**30)),
    ("isolation_forest", put("nodes", (0, CHILD), 0)),
    ("isolation_forest", put("nodes", (0, COLUMN), 6)),
    ("isolation_forest", put("nodes", (0, COLUMN), -1)),
    ("isolation_forest", put("nodes", (0, LENGTH), 2**20)),
    ("isolation_forest", put("roots", 0, -4)),
    ("isolation_forest", put("levels", 0, 2**30)),
    ("isolation_forest", shorten("roots")),
    ("isolation_forest", shorten("center")),
    ("one_class_svm", shorten("dual_coef")),
    ("one_class_svm", put("dual_coef", 0, np.nan)),
    ("one_class_svm", shorten("support_vectors")),
    ("vector_autoregression", shorten("coefficients")),
    ("vector_autoregression", shorten("whitening")),
    ("vector_autoregression", put("scale", 0, 0.0)),
    ("vector_autoregression", put("judged", 0, 0.5)),
    ("lstm_autoencoder", shorten("encoder.0.weight_hh_l0")),
    ("lstm_autoencoder", shorten("decoder.0.bias_ih_l0")),
    ("lstm_autoencoder", put("head.weight", (0, 0), np.inf)),
]


SMALL_DETECTORS = {
    "isolation_forest": IsolationForest(8, 64, 0.01, SEED),
    "one_class_svm": OneClassSVM(0.3, "rbf", "local", 0.01),
    "vector_autoregression": VectorAutoregression((1, 2, 4), "auto", 0.01),
    "lstm_autoencoder": LSTMAutoencoder((6,), (6,), 4, 64, 1, 0.01, SEED),
}


@pytest.mark.parametrize(("algorithm", "forge"), FORGED)
def test_a_forged_form_whose_hashes_are_right_is_refused(algorithm, forge, tmp_path):
    detector = SMALL_DETECTORS[algorithm]
    table = Table(rows(100), tuple("abcde"))
    model = train(detector, table, threshold=0.99, folds=2, time_ordered=False, random_state=SEED)
    model.save(tmp_path / "sound")
    assert TrainedModel.load(tmp_path / "sound").algorithm == algorithm

    arrays = dict(model.arrays)
    forge(arrays)
    replace(model, arrays=arrays).save(tmp_path / "forged")
    with pytest.raises(ModelRefusedError):
        TrainedModel.load(tmp_path / "forged")


OF_SENSORS = ("usual", "low", "high", "magnitude", "frozen_after")


@pytest.mark.parametrize(
    "forge",
    [
        *map(shorten, OF_SENSORS),
        put("usual", 0, np.nan),
        put("frozen_after", 0, -1),
        lambda facts: facts.update(frozen_after=facts["frozen_after"].astype(np.float64)),
        shorten("knots"),
        shorten("p_values"),
        lambda facts: facts.update(knots=facts["knots"][:0], p_values=facts["p_values"][:0]),
        put("knots", 0, 1e9),
        put("p_values", -1, 0.0),
        put("p_values", 0, 1.0),
        lambda facts: facts.update(tail_scale=0.0),
        lambda facts: facts.update(tail_start="0"),
        lambda facts: facts.update(body_scale=-1.0),
    ],
)
def test_forged_facts_beside_the_arrays_are_refused(forge, tmp_path):
    table = Table(rows(100), tuple("abcde"))
    detector = IsolationForest(8, 64, 0.01, SEED)
    model = train(detector, table, threshold=0.99, folds=2, time_ordered=False, random_state=SEED)
    calibration = vars(model.calibration)
    facts = {name: getattr(model, name) for name in OF_SENSORS} | calibration
    forge(facts)
    forged = Calibration(**{name: facts[name] for name in calibration})
    sensors = {name: facts[name] for name in OF_SENSORS}
    replace(model, calibration=forged, **sensors).save(tmp_path / "forged")
    with pytest.raises(ModelRefusedError):
        TrainedModel.load(tmp_path / "forged")


@cache
def sound(algorithm: str) -> TrainedModel:
    """A model with all its parts."""
    detector = SMALL_DETECTORS[algorithm]
    table = Table(rows(1000), tuple("abcde"))
    return train(
        detector,
        table,
        threshold=0.99,
        folds=2,
        time_ordered=True,
        random_state=SEED,
        trend_window=5,
    )


ALL = sorted(algorithms())


@pytest.mark.parametrize("part", [None, "trend"])
@pytest.mark.parametrize("algorithm", ALL)
@pytest.mark.parametrize(
    "lie",
    [
        {"window": 2}, {"window": 10**9}, {"window": True}, {"window": "20"}, {"window": 3.0},
        {"params": {"averaged_rows": 2}}, {"params": []}, {"n_samples": 0}, {"n_samples": "many"},
        {"threshold": "0.99"}, {"threshold": float("nan")}, {"threshold": -1},
        {"feature_names": list("abcdf")}, {"feature_names": list("abcd\ud800")},
        {"feature_names": list("abcdd")}, {"feature_names": "abcde"},
        {"feature_names": [*"abcd", 5]}, {"libraries": {"numpy": 1}}, {"libraries": []},
        {"data_fingerprint": None}, {"calibration": {}},
    ],
    ids=str,
)  # fmt: skip
def test_a_card_whose_facts_do_not_fit_each_other_is_refused(algorithm, part, lie, tmp_path):
    model = sound(algorithm)
    assert model.trend is not None
    model.save(tmp_path)
    card = json.loads((tmp_path / CARD).read_text())
    (card[part] if part else card).update(lie)
    if not part and lie.get("feature_names") == list("abcdf"):
        del card["trend"]["feature_names"]
    (tmp_path / CARD).write_text(json.dumps(card))
    with pytest.raises(ModelRefusedError):
        TrainedModel.load(tmp_path)


@pytest.mark.parametrize("algorithm", ALL)
def test_a_sound_model_passes_its_trial_and_one_that_fails_is_refused(algorithm):
    model = sound(algorithm)
    require_verdicts(model)
    # As if a check had overlooked something.
    for facts in (
        {"arrays": {}},
        {"usual": model.usual[:-1]},
        {"trend": replace(model, arrays={})},
    ):
        with pytest.raises(ModelRefusedError):
            require_verdicts(replace(model, **facts))


@pytest.mark.parametrize(
    ("length", "n", "trend_window"), [(10, 60, 20), (30, 400, 20), (80, 700, 0)], ids=str
)
def test_a_model_of_long_windows_or_few_rows_passes_its_trial(length, n, trend_window):
    detector = LSTMAutoencoder((4,), (4,), length, 64, 1, 0.01, random_state=SEED)
    model = train(
        detector,
        Table(rows(n), tuple("abcde")),
        threshold=0.99,
        folds=2,
        time_ordered=True,
        random_state=SEED,
        trend_window=trend_window,
    )
    require_verdicts(model)


def test_a_form_is_found_by_a_path_as_text(tmp_path):
    sound("one_class_svm").save(str(tmp_path / "form"))
    assert TrainedModel.load(str(tmp_path / "form")).algorithm == "one_class_svm"


# Compilation


def test_what_is_scored_while_the_interpreter_ends_is_scored_all_the_same():
    script = """
import atexit
from vigie.detectors.compiled.blocks import in_blocks
done = []
atexit.register(lambda: print(sorted(done)))
atexit.register(in_blocks, lambda start, stop: done.append((start, stop)), 5, 2)
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (ended.stdout, ended.stderr) == ("[(0, 2), (2, 4), (4, 5)]\n", "")


def test_warming_up_may_be_done_often_and_by_several_threads():
    threads = [threading.Thread(target=warm_up) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    warm_up()


@pytest.mark.slow
def test_a_process_that_can_keep_nothing_compiled_scores_all_the_same():
    code = "from vigie.detectors.scoring import averages, IN_FULL; import numpy as np;" + (
        "print(averages(IN_FULL, np.arange(6.0).reshape(3, 2), 3, 3).tolist())"
    )
    nowhere = {
        "NUMBA_CACHE_DIR": os.devnull,
        "NUMBA_CACHE_LOCATOR_CLASSES": "_UserProvidedCacheLocator",
    }
    process = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **nowhere},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    assert process.stdout.strip() == "[[2.0, 3.0]]"
