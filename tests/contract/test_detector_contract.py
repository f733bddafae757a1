"""What every detector must keep: one list, run on all three services."""

from __future__ import annotations

import json
import logging
import math
import pickle
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone

from vigie.config import Settings
from vigie.detectors.trained import TrainedModel
from vigie.errors import InvalidDataError, ModelRefusedError
from vigie.services.detector_service import DetectorService
from vigie.services.isolation_forest_service import IsolationForestService
from vigie.services.lstm_autoencoder_service import LSTMAutoencoderService
from vigie.services.one_class_svm_service import OneClassSVMService
from vigie.services.vector_autoregression_service import VectorAutoregressionService
from vigie.serving import saved

NAMES = ["temperature", "pressure", "current", "vibration"]
WINDOW = 6


def machine(n: int, seed: int) -> np.ndarray:
    """Healthy rows of a machine whose load goes up and down, shape (n, 4)."""
    rng = np.random.default_rng(seed)
    load = np.sin(np.arange(n) / 12.0)[:, None] * [3.0, 0.2, 0.5, 0.1]
    return [60.0, 4.0, 8.0, 1.0] + load + rng.normal(size=(n, 4)) * [1.0, 0.1, 0.3, 0.1]


ROWS = machine(400, seed=1)
FRESH = machine(120, seed=2)
# Readings to compare: healthy ones, mild faults, and faults that nobody could miss.
MIXED = np.concatenate(
    [FRESH[:60], FRESH[60:90] + 3 * ROWS.std(axis=0), FRESH[90:] + 30 * ROWS.std(axis=0)]
)


LSTM = {
    "encoder_layers": [8],
    "decoder_layers": [8],
    "sequence_length": WINDOW,
    "epochs": 3,
}


@dataclass(frozen=True)
class Case:
    """One service, cheap to train, and what is its own about it.

    ``by_keyword`` and ``by_environment`` are two values of the hyper-parameter ``own``; ``wrong``
    holds values that must be refused.
    """

    service: type[DetectorService]
    cheap: dict[str, Any]
    own: str
    by_keyword: Any
    by_environment: Any
    fewest_rows: int
    wrong: tuple[tuple[str, Any], ...]


NOT_CONTAMINATIONS = tuple(
    ("contamination", value) for value in (0, 0.5, -0.1, 1.5, math.nan, "much")
)
CASES = (
    Case(
        IsolationForestService,
        cheap={"n_estimators": 25},
        own="n_estimators",
        by_keyword=17,
        by_environment=31,
        fewest_rows=4,
        wrong=(
            *NOT_CONTAMINATIONS,
            *(("n_estimators", value) for value in (0, -3, 2.5, "many", math.inf, 10**9)),
            # A tree that sees one row cuts nothing.
            *(("max_samples", value) for value in (0, 1, -5, 0.0, -0.5, 1.5, math.nan, "all")),
        ),
    ),
    Case(
        OneClassSVMService,
        cheap={},
        own="nu",
        by_keyword=0.3,
        by_environment=0.2,
        fewest_rows=4,
        wrong=(
            *NOT_CONTAMINATIONS,
            *(("nu", value) for value in (0, -0.1, 1.1, math.nan, "some")),
            *(("gamma", value) for value in (0.0, -1.0, math.nan, math.inf, "wide")),
            ("kernel", "cubic"),
            *(("svm_rows", value) for value in (0, 1, -5, 2.5, "some")),
        ),
    ),
    Case(
        VectorAutoregressionService,
        cheap={},
        own="penalty",
        by_keyword=0.5,
        by_environment=2.0,
        fewest_rows=15,
        wrong=(
            *NOT_CONTAMINATIONS,
            *(("horizons", value) for value in ([], [0], [2, 1], [1, 1], [1.5], 4, "long")),
            *(("penalty", value) for value in (0.0, -1.0, math.nan, math.inf, "some")),
        ),
    ),
    Case(
        LSTMAutoencoderService,
        cheap=LSTM,
        own="epochs",
        by_keyword=1,
        by_environment=2,
        fewest_rows=4 * WINDOW,
        wrong=(
            *NOT_CONTAMINATIONS,
            *(("encoder_layers", value) for value in ([], [0], [-4], [2.5], 8, "wide", [10**9])),
            *(("decoder_layers", value) for value in ([], [0], [8] * 1000)),
            *(("sequence_length", value) for value in (0, 1, -3, 2.5, 10**9)),
            *(("batch_size", value) for value in (0, -1, 10**9)),
            *(("epochs", value) for value in (0, -1, 1.5, 10**9)),
            *(("learning_rate", value) for value in (0, -0.1, math.nan, math.inf)),
        ),
    ),
)


WRONG = [
    pytest.param(case.service, name, value, id=f"{case.service.name}-{name}={value}")
    for case in CASES
    for name, value in case.wrong
]


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case.service.name)
def case(request: pytest.FixtureRequest) -> Case:
    return request.param


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(
        _env_file=None, mlflow_enabled=False, state_dir=tmp_path_factory.mktemp("state")
    )


@pytest.fixture(scope="module")
def make(case: Case, settings: Settings) -> Callable[..., DetectorService]:
    """Make an untrained service; what is not given is cheap."""
    return lambda **given: case.service(settings=settings, **(case.cheap | given))


@pytest.fixture(scope="module")
def trained(make: Callable[..., DetectorService]) -> tuple[DetectorService, dict[str, Any]]:
    service = make()
    return service, service.train(ROWS, NAMES)


@pytest.fixture(scope="module")
def service(trained: tuple[DetectorService, dict[str, Any]]) -> DetectorService:
    """A service trained on ROWS; nothing may change it."""
    return trained[0]


@pytest.fixture(scope="module")
def metrics(trained: tuple[DetectorService, dict[str, Any]]) -> dict[str, Any]:
    """What that training returned."""
    return trained[1]


@pytest.fixture(scope="module")
def model(service: DetectorService) -> TrainedModel:
    """The model that it answers from."""
    return service.served.model


@pytest.fixture(scope="module")
def _survivor(make: Callable[..., DetectorService]) -> DetectorService:
    service = make()
    service.train(ROWS, NAMES)
    return service


@pytest.fixture
def survivor(_survivor: DetectorService) -> Iterator[DetectorService]:
    """A trained service to mistreat; the model before must go on answering, unchanged."""
    before, scores = _survivor.served, _survivor.predict_scores(MIXED)
    yield _survivor
    assert _survivor.served is before
    assert _survivor.is_trained
    assert _survivor.feature_names == NAMES
    np.testing.assert_array_equal(_survivor.predict_scores(MIXED), scores)


def reading(row: np.ndarray, **changed: Any) -> dict[str, Any]:
    """Return a row as features by name."""
    return dict(zip(NAMES, row.tolist(), strict=True)) | changed


def with_cell(value: Any) -> list[list[Any]]:
    """Return healthy rows as lists, with one cell replaced: row 3, pressure."""
    rows = FRESH.tolist()
    rows[3][1] = value
    return rows


def as_frame(rows: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=NAMES)


# Before training


def test_a_fresh_service_has_no_model(make):
    service = make()
    assert service.model is None
    assert service.is_trained is False
    assert service.feature_names is None


@pytest.mark.parametrize("method", ["predict", "predict_scores", "predict_proba"])
def test_rows_cannot_be_judged_before_training(make, method):
    with pytest.raises(ValueError, match="not trained"):
        getattr(make(), method)(FRESH)


def test_a_reading_cannot_be_judged_before_training(make):
    with pytest.raises(ValueError, match="not trained"):
        make().detect_anomaly(reading(FRESH[0]))


def test_the_info_of_an_untrained_service_gives_its_settings_and_no_data(make, case):
    service = make(**{case.own: case.by_keyword, "contamination": 0.05})
    info = service.get_model_info()
    assert info["model_type"] == case.service.name
    assert info["is_trained"] is False
    assert info["n_features"] is None
    assert info["feature_names"] is None
    assert info["version"] is None
    assert info["contamination"] == 0.05
    assert info["threshold"] == 0.95
    assert info[case.own] == case.by_keyword
    json.dumps(info, allow_nan=False)


# What training returns


def test_a_trained_service_says_so(service):
    assert service.is_trained is True
    assert service.model is not None
    assert service.feature_names == NAMES


def test_the_metrics_describe_the_scores_of_the_training_rows(service, metrics):
    scores, verdicts = service.predict_scores(ROWS), service.predict(ROWS)
    assert metrics["n_samples"] == 400
    assert metrics["n_features"] == 4
    assert metrics["n_anomalies_detected"] == verdicts.sum()
    assert metrics["anomaly_rate"] == pytest.approx(verdicts.mean())
    assert metrics["mean_score"] == pytest.approx(scores.mean())
    assert metrics["std_score"] == pytest.approx(scores.std())
    assert metrics["threshold"] == service.threshold == 0.99
    assert metrics["training_seconds"] > 0


def test_the_metrics_are_plain_numbers(metrics):
    assert {type(value) for value in metrics.values()} <= {int, float}
    json.dumps(metrics, allow_nan=False)


def test_the_info_of_a_trained_service_describes_model_and_data(service, case):
    info = service.get_model_info()
    assert info["is_trained"] is True
    assert info["n_features"] == 4
    assert info["feature_names"] == NAMES
    assert info["n_samples"] == 400
    assert info["threshold"] == 0.99
    assert info["contamination"] == 0.01
    assert len(info["data_fingerprint"]) == 64
    for name, value in case.cheap.items():
        assert info[name] == value
    json.dumps(info, allow_nan=False)


def test_a_second_training_replaces_the_model(make):
    service = make()
    service.train(ROWS, NAMES)
    before = service.predict_scores(FRESH)
    service.train(ROWS[:100] * 2.0, ["a", "b", "c", "d"])
    assert service.feature_names == ["a", "b", "c", "d"]
    assert service.get_model_info()["n_samples"] == 100
    assert not np.allclose(service.predict_scores(FRESH), before)


# What a score is


def test_scores_are_probabilities_and_predictions_are_what_exceeds_the_threshold(service):
    scores, verdicts = service.predict_scores(MIXED), service.predict(MIXED)
    assert scores.shape == verdicts.shape == (len(MIXED),)
    assert ((scores >= 0) & (scores <= 1)).all()
    assert verdicts.dtype.kind == "i"
    assert set(verdicts.tolist()) == {0, 1}
    np.testing.assert_array_equal(verdicts, scores > service.threshold)


def test_probabilities_add_up_to_one_and_the_second_is_the_score(service):
    proba = service.predict_proba(MIXED)
    assert proba.shape == (len(MIXED), 2)
    np.testing.assert_allclose(proba.sum(axis=1), 1.0, rtol=0, atol=1e-15)
    np.testing.assert_array_equal(proba[:, 1], service.predict_scores(MIXED))


def test_a_clear_fault_scores_higher_than_any_healthy_row(service):
    assert service.predict_scores(MIXED[90 + WINDOW :]).min() > service.predict_scores(FRESH).max()


def test_healthy_rows_are_rarely_called_anomalous(service):
    rows = machine(1000, seed=3)
    # One in a hundred was asked for; one in twenty would be another service.
    assert service.predict(rows).mean() < 0.05


def test_detect_anomaly_answers_in_plain_python(service):
    for row in (FRESH[0], MIXED[-1]):
        verdict = service.detect_anomaly(reading(row))
        assert type(verdict["score"]) is float
        assert type(verdict["is_anomaly"]) is bool
        assert type(verdict["threshold"]) is float
        assert type(verdict["prediction"]) is int
        assert verdict["threshold"] == service.threshold
        assert verdict["is_anomaly"] == (verdict["score"] > verdict["threshold"])
        assert verdict["prediction"] == int(verdict["is_anomaly"])
        json.dumps(verdict, allow_nan=False)


def test_detect_anomaly_knows_a_fault_from_a_healthy_reading(service):
    assert service.detect_anomaly(reading(ROWS.mean(axis=0)))["is_anomaly"] is False
    assert service.detect_anomaly(reading(MIXED[-1]))["is_anomaly"] is True


def test_one_reading_scores_as_a_table_of_one_row(service):
    for row in (*FRESH[:5], *MIXED[-5:]):
        assert service.detect_anomaly(reading(row))["score"] == service.predict_scores([row])[0]


@pytest.mark.parametrize("threshold", [0, 0.5, 1, np.float32(0.25)])
def test_a_given_threshold_is_honoured(service, threshold):
    for row in (*FRESH[:20], *MIXED[-5:]):
        verdict = service.detect_anomaly(reading(row), threshold=threshold)
        assert type(verdict["threshold"]) is float
        assert verdict["threshold"] == float(threshold)
        assert verdict["is_anomaly"] is (verdict["score"] > float(threshold))
    assert service.threshold == 0.99


@pytest.mark.parametrize("threshold", [-0.01, 1.01, math.nan, math.inf, "0.5", True, [0.5]])
def test_a_threshold_that_is_no_score_is_refused(service, threshold):
    with pytest.raises(InvalidDataError, match="threshold"):
        service.detect_anomaly(reading(FRESH[0]), threshold=threshold)


@pytest.mark.parametrize(
    ("factor", "offset"), [(1e-9, 0.0), (1e9, 0.0), (-1.0, 0.0), (1.0, 1e9)], ids=str
)
def test_a_fault_is_a_fault_in_any_unit(make, factor, offset):
    service = make()
    service.train(ROWS * factor + offset, NAMES)
    verdicts = service.predict(MIXED * factor + offset)
    assert verdicts[:60].mean() < 0.2
    assert verdicts[90 + WINDOW :].all()


# Forms of the same data


@pytest.mark.parametrize(
    "form",
    [
        np.ndarray.tolist,
        list,
        lambda rows: [tuple(row) for row in rows],
        np.asfortranarray,
        lambda rows: np.repeat(rows, 2, axis=0)[::2],
        lambda rows: rows.astype(object),
        as_frame,
        lambda rows: as_frame(rows)[NAMES[::-1]],
        lambda rows: as_frame(rows).assign(operator="Ada", shift=2)[["shift", *NAMES, "operator"]],
    ],
    ids=[
        "lists",
        "list of arrays",
        "tuples",
        "by columns",
        "strided",
        "objects",
        "DataFrame",
        "DataFrame in another order",
        "DataFrame with extra columns",
    ],
)
def test_the_same_data_in_another_form_scores_the_same(service, form):
    np.testing.assert_array_equal(
        service.predict_scores(form(MIXED)), service.predict_scores(MIXED)
    )


def test_a_data_frame_names_its_own_columns(make, service):
    other = make()
    other.train(as_frame(ROWS))
    assert other.feature_names == NAMES
    np.testing.assert_array_equal(other.predict_scores(MIXED), service.predict_scores(MIXED))


def test_lists_train_the_same_model_as_arrays(make, service):
    other = make()
    other.train(ROWS.tolist(), NAMES)
    np.testing.assert_array_equal(other.predict_scores(MIXED), service.predict_scores(MIXED))


def test_columns_without_names_are_counted(make):
    service = make()
    service.train(ROWS[:100])
    assert service.feature_names == ["feature_1", "feature_2", "feature_3", "feature_4"]


def test_a_trailing_ellipsis_goes_on_counting(make):
    service = make()
    service.train(ROWS[:100], feature_names=["feature1", "feature2", ...])
    assert service.feature_names == ["feature1", "feature2", "feature3", "feature4"]


def test_a_data_frame_with_numbered_columns_can_be_scored(make):
    service = make()
    service.train(pd.DataFrame(ROWS[:100]))
    np.testing.assert_array_equal(
        service.predict_scores(pd.DataFrame(FRESH)), service.predict_scores(FRESH)
    )


def test_float32_readings_score_as_the_numbers_that_they_hold(service):
    single = MIXED.astype(np.float32)
    np.testing.assert_array_equal(
        service.predict_scores(single), service.predict_scores(single.astype(np.float64))
    )


@pytest.mark.parametrize("dtype", ["int64", "uint8", "float32", "Int64"])
def test_other_kinds_of_numbers_are_fine(make, dtype):
    whole = np.round(ROWS[:100] * 3)
    service = make()
    service.train(as_frame(whole).astype(dtype))
    plain = make()
    plain.train(whole, NAMES)
    np.testing.assert_array_equal(
        service.predict_scores(as_frame(whole[:50]).astype(dtype)), plain.predict_scores(whole[:50])
    )


def test_no_rows_have_no_scores(service):
    nothing = np.empty((0, 4))
    assert service.predict_scores(nothing).shape == (0,)
    assert service.predict(nothing).shape == (0,)
    assert service.predict_proba(nothing).shape == (0, 2)


def test_a_feature_that_the_model_does_not_know_is_not_looked_at(service):
    plain = service.detect_anomaly(reading(FRESH[0]))
    assert service.detect_anomaly(reading(FRESH[0], operator="Ada", rpm=math.nan)) == plain


# A score depends on nothing but its own rows


def test_a_row_scores_the_same_alone_and_in_a_batch(model):
    examples = model.examples(MIXED)
    together = model.raw_scores(examples)
    alone = [model.raw_scores(examples[i : i + 1])[0] for i in range(len(examples))]
    np.testing.assert_allclose(alone, together, rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(
        [model.p_values(examples[i : i + 1])[0] for i in range(len(examples))],
        model.p_values(examples),
        rtol=1e-9,
    )


@pytest.mark.parametrize("size", [7, 512, 2048, 2049])
def test_scores_do_not_depend_on_the_size_of_the_batch(model, size):
    examples = model.examples(machine(4100, seed=4))
    chunks = [
        model.raw_scores(examples[start : start + size]) for start in range(0, len(examples), size)
    ]
    np.testing.assert_allclose(
        np.concatenate(chunks), model.raw_scores(examples), rtol=1e-11, atol=1e-13
    )


def test_a_monstrous_row_at_the_end_moves_no_score_before_it(service):
    monster = ROWS.mean(axis=0) + 1e6 * ROWS.std(axis=0)
    scores = service.predict_scores(np.vstack([FRESH, monster]))
    np.testing.assert_allclose(scores[:-1], service.predict_scores(FRESH), rtol=0, atol=1e-12)
    assert scores[-1] > scores[:-1].max()


def test_later_rows_do_not_change_earlier_scores(service):
    whole = service.predict_scores(MIXED)
    for n in (1, 2, WINDOW, 50, 100):
        np.testing.assert_allclose(service.predict_scores(MIXED[:n]), whole[:n], rtol=0, atol=1e-12)


def test_a_score_looks_back_one_window_and_no_further(service, model):
    past = model.window - 1
    np.testing.assert_allclose(
        service.predict_scores(MIXED[40 - past :])[past:],
        service.predict_scores(MIXED)[40:],
        rtol=0,
        atol=1e-12,
    )


@pytest.mark.parametrize("value", [1e12, 1e30, 1e39, 1e160, 1e308, -1e308])
def test_an_absurd_value_is_judged_like_any_other_fault(service, value):
    row = ROWS.mean(axis=0)
    usual = service.predict_scores([row])[0]
    for broken in (np.where(np.arange(4) == 1, value, row), np.full(4, value)):
        score = service.predict_scores([broken])[0]
        assert usual < score <= 1.0
    everything = service.detect_anomaly(reading(np.full(4, value)))
    assert everything["is_anomaly"] is bool(everything["score"] > service.threshold)
    json.dumps(everything["score"], allow_nan=False)


# The same model again


def test_the_same_data_and_seed_give_the_same_model(make, service):
    again = make()
    again.train(ROWS, NAMES)
    one, other = again.served.model, service.served.model
    assert one.data_fingerprint == other.data_fingerprint
    assert one.arrays.keys() == other.arrays.keys()
    for name, array in one.arrays.items():
        np.testing.assert_array_equal(array, other.arrays[name])
    np.testing.assert_array_equal(one.calibration.knots, other.calibration.knots)
    np.testing.assert_array_equal(again.predict_scores(MIXED), service.predict_scores(MIXED))


def test_a_saved_model_loads_as_it_was(model, tmp_path):
    content = model.save(tmp_path / "serving")
    loaded = TrainedModel.load(tmp_path / "serving")
    assert loaded.estimator is None
    for name in ("algorithm", "feature_names", "window", "params", "threshold", "n_samples"):
        assert getattr(loaded, name) == getattr(model, name)
    assert loaded.data_fingerprint == model.data_fingerprint
    assert loaded.libraries == model.libraries
    for name in ("usual", "low", "high"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(model, name))
    assert loaded.save(tmp_path / "again") == content


def test_a_saved_model_scores_and_explains_as_it_did(model, tmp_path):
    model.save(tmp_path)
    loaded = TrainedModel.load(tmp_path)
    np.testing.assert_array_equal(loaded.predict_scores(MIXED), model.predict_scores(MIXED))
    np.testing.assert_array_equal(loaded.predict(MIXED), model.predict(MIXED))
    examples = model.examples(MIXED)
    np.testing.assert_array_equal(loaded.explain(examples).shares, model.explain(examples).shares)


@pytest.mark.parametrize("damage", ["cut", "changed", "card", "missing"])
def test_a_damaged_model_is_refused(model, tmp_path, damage):
    model.save(tmp_path)
    arrays, card = tmp_path / "arrays.safetensors", tmp_path / "card.json"
    data = arrays.read_bytes()
    if damage == "cut":
        arrays.write_bytes(data[: len(data) // 2])
    elif damage == "changed":
        arrays.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    elif damage == "card":
        card.write_text(card.read_text(encoding="utf-8")[:-20], encoding="utf-8")
    else:
        arrays.unlink()
    with pytest.raises(ModelRefusedError):
        TrainedModel.load(tmp_path)


def estimator_scores(service: DetectorService, rows: np.ndarray) -> np.ndarray:
    """Ask the library's own estimator."""
    if isinstance(service.model, torch.nn.Module):
        examples = np.ascontiguousarray(service.served.model.examples(rows))
        return service.model(torch.from_numpy(examples)).numpy()
    return service.model.decision_function(rows)


def estimator_threshold(estimator: Any) -> float:
    return estimator.threshold_ if hasattr(estimator, "threshold_") else estimator[-1].threshold_


def test_raw_scores_are_those_of_the_librarys_estimator(service, model):
    rows = np.concatenate([ROWS, MIXED])
    np.testing.assert_allclose(
        model.raw_scores(model.examples(rows)),
        estimator_scores(service, rows),
        rtol=1e-9,
        atol=1e-9,
    )


def test_the_threshold_of_the_librarys_estimator_gives_the_same_verdicts(service, model):
    rows = np.concatenate([ROWS, machine(1000, seed=5), MIXED])
    own = estimator_scores(service, rows) > estimator_threshold(service.model)
    np.testing.assert_array_equal(own, service.predict(rows))
    assert 0 < own.sum() < len(own)
    if hasattr(service.model, "predict"):
        np.testing.assert_array_equal(service.model.predict(rows), service.predict(rows))


# Hyper-parameters


def test_contamination_sets_the_threshold(make):
    strict, lenient = make(contamination=0.001), make(contamination=0.2)
    assert strict.threshold == 0.999
    assert lenient.threshold == 0.8
    few, many = strict.train(ROWS, NAMES), lenient.train(ROWS, NAMES)
    assert few["threshold"] == strict.threshold == 0.999
    assert many["threshold"] == lenient.threshold == 0.8
    assert few["n_anomalies_detected"] < many["n_anomalies_detected"]
    # The score itself means the same, whatever is called an anomaly.
    np.testing.assert_array_equal(strict.predict_scores(FRESH), lenient.predict_scores(FRESH))


def test_a_keyword_wins_over_the_environment_and_that_over_the_default(
    case, untracked, monkeypatch
):
    default = Settings.model_fields[case.own].default
    assert getattr(case.service(), case.own) == default
    monkeypatch.setenv(f"VIGIE_{case.own.upper()}", str(case.by_environment))
    assert getattr(case.service(), case.own) == case.by_environment != default
    given = case.service(**{case.own: case.by_keyword})
    assert getattr(given, case.own) == case.by_keyword


def test_contamination_may_come_from_the_environment(case, untracked, monkeypatch):
    monkeypatch.setenv("VIGIE_CONTAMINATION", "0.03")
    assert case.service().threshold == 0.97
    assert case.service(contamination=0.1).threshold == 0.9


def test_settings_passed_in_win_over_the_environment(case, make, monkeypatch):
    monkeypatch.setenv(f"VIGIE_{case.own.upper()}", str(case.by_environment))
    monkeypatch.setenv("VIGIE_CONTAMINATION", "0.3")
    monkeypatch.setenv("MLFLOW_ENABLED", "true")
    service = make(**{case.own: case.by_keyword})
    assert getattr(service, case.own) == case.by_keyword
    assert service.contamination == 0.01
    assert service.mlflow_service.enabled is False


def test_hyper_parameters_reach_the_model(make, case):
    service = make(**{case.own: case.by_keyword})
    service.train(ROWS, NAMES)
    assert service.served.model.params[case.own] == case.by_keyword
    assert service.get_model_info()[case.own] == case.by_keyword


@pytest.mark.parametrize(("service_class", "name", "value"), WRONG)
def test_a_wrong_hyper_parameter_is_refused_by_name(settings, service_class, name, value):
    with pytest.raises(InvalidDataError, match=name):
        service_class(settings=settings, **{name: value})


def test_a_wrong_environment_is_refused_by_name(case, untracked, monkeypatch):
    monkeypatch.setenv(f"VIGIE_{case.own.upper()}", "-1")
    with pytest.raises(ValueError, match=f"VIGIE_{case.own.upper()}"):
        case.service()


def test_an_unknown_hyper_parameter_is_refused(make):
    with pytest.raises(TypeError, match="n_trees"):
        make(n_trees=100)


# Data that cannot be used

BAD_ROWS: dict[str, tuple[Any, str]] = {
    "NaN": (with_cell(math.nan), r"data\[3\]\.pressure.*missing"),
    "infinity": (with_cell(math.inf), r"data\[3\]\.pressure.*inf"),
    "two NaNs": (np.where(FRESH[3, 1] > FRESH, np.nan, FRESH), r"pressure.*such values in all"),
    "None": (with_cell(None), r"data\[3\]\.pressure"),
    "text": (with_cell("hot"), r"data\[3\]\.pressure.*'hot'"),
    "number as text": (with_cell("4.1"), r"data\[3\]\.pressure.*'4\.1'"),
    "text in a DataFrame": (
        pd.DataFrame(with_cell("hot"), columns=NAMES),
        r"data\[3\]\.pressure.*'hot'",
    ),
    "missing in a DataFrame": (
        pd.DataFrame(with_cell(None), columns=NAMES),
        r"data\[3\]\.pressure",
    ),
    "too narrow": (FRESH[:, :3], r"3 values, but 4"),
    "too wide": (np.hstack([FRESH, FRESH[:, :1]]), r"5 values, but 4"),
    "missing column": (as_frame(FRESH).drop(columns="current"), r"current"),
    "ragged": ([*FRESH[:3].tolist(), [1.0, 2.0]], r"data\[3\].*2 values"),
    "one-dimensional": (FRESH[0], r"table of numbers.*\(4,\)"),
    "three-dimensional": (FRESH[None], r"table of numbers.*\(1, 120, 4\)"),
    "nothing": ([], r"data"),
    "an empty row": ([[]], r"data"),
    "a number": (7.0, r"table of numbers"),
    "None at all": (None, r"table of numbers"),
    "truth values": (FRESH > 5, r"data\[0\]\.temperature"),
    "complex numbers": (FRESH * 1j, r"complex"),
}


@pytest.mark.parametrize(("data", "place"), BAD_ROWS.values(), ids=BAD_ROWS)
@pytest.mark.parametrize("method", ["predict", "predict_scores", "predict_proba"])
def test_rows_that_cannot_be_used_are_refused_with_the_place(survivor, method, data, place):
    with pytest.raises(InvalidDataError, match=place):
        getattr(survivor, method)(data)


GAPS = ("NaN", "infinity", "None", "missing in a DataFrame")


@pytest.mark.parametrize("name", [name for name in BAD_ROWS if name not in (*GAPS, "two NaNs")])
def test_rows_that_cannot_be_learnt_from_are_refused_with_the_place(survivor, name):
    data, place = BAD_ROWS[name]
    with pytest.raises(InvalidDataError, match=place):
        survivor.train(data, feature_names=NAMES)


@pytest.mark.parametrize("name", GAPS)
def test_a_gap_in_the_training_data_is_told_with_its_place_and_filled(make, caplog, name):
    service = make()
    service.train(BAD_ROWS[name][0], feature_names=NAMES)
    assert "pressure: 1 of 120 values are missing, first in row 4" in caplog.text
    assert np.isfinite(service.predict_scores(FRESH)).all()


def test_a_sensor_that_is_mostly_missing_is_refused_by_name(survivor):
    data = FRESH.copy()
    data[::3, 1] = data[1::3, 1] = np.nan
    with pytest.raises(InvalidDataError, match=r"data\.pressure.*80 of 120"):
        survivor.train(data, feature_names=NAMES)


@pytest.mark.parametrize(
    ("data", "names", "place"),
    [
        (FRESH, ["a", "b", "b", "c"], r"feature_names.*more than once: b"),
        (pd.DataFrame(FRESH, columns=["a", "b", "b", "c"]), None, r"more than once: b"),
        (FRESH, ["a", "b", "c"], r"4 values, but 3"),
        (FRESH, ["a", "b", "c", "d", "e"], r"4 values, but 5"),
        (FRESH, ["a", "", "c", "d"], r"feature_names\[1\]"),
        (FRESH, ["a", "b", 3, "d"], r"feature_names\[2\]"),
        (np.ones((100, 4)), NAMES, r"[Ee]very column is constant"),
        (np.empty((0, 4)), NAMES, r"data"),
        (np.empty((0, 4)), None, r"data"),
    ],
    ids=[
        "name twice",
        "column twice",
        "name too few",
        "name too many",
        "empty name",
        "number as name",
        "all constant",
        "no rows",
        "no rows, no names",
    ],
)
def test_a_table_that_cannot_be_learnt_from_is_refused(survivor, data, names, place):
    with pytest.raises(InvalidDataError, match=place):
        survivor.train(data, feature_names=names)


def test_too_few_rows_are_refused_with_how_many_it_takes(survivor, case):
    for n in range(1, case.fewest_rows):
        with pytest.raises(InvalidDataError, match=r"rows?\b"):
            survivor.train(ROWS[:n], NAMES)
    with pytest.raises(InvalidDataError, match=f"at least {case.fewest_rows} rows"):
        survivor.train(ROWS[: case.fewest_rows - 1], NAMES)


def test_the_fewest_rows_that_are_enough_give_a_model(make, case):
    service = make(contamination=0.3)
    service.train(ROWS[: case.fewest_rows], NAMES)
    scores = service.predict_scores(MIXED)
    assert ((scores >= 0) & (scores <= 1)).all()


@pytest.mark.parametrize(
    ("features", "place"),
    [
        ({"temperature": 60.0, "current": 8.0, "vibration": 1.0}, r"features\.pressure.*pressure"),
        (reading(FRESH[0], pressure="hot"), r"features\.pressure.*'hot'"),
        (reading(FRESH[0], pressure="4.1"), r"features\.pressure"),
        (reading(FRESH[0], pressure=None), r"features\.pressure"),
        (reading(FRESH[0], pressure=math.nan), r"features\.pressure"),
        (reading(FRESH[0], pressure=-math.inf), r"features\.pressure"),
        (reading(FRESH[0], pressure=True), r"features\.pressure"),
        (reading(FRESH[0], pressure=[4.0]), r"features\.pressure"),
        (reading(FRESH[0], pressure=10**400), r"features\.pressure"),
        ({}, r"features\.temperature"),
        ([60.0, 4.0, 8.0, 1.0], r"features.*by name"),
    ],
    ids=[
        "missing",
        "text",
        "number as text",
        "None",
        "NaN",
        "infinity",
        "truth value",
        "list",
        "too large",
        "nothing",
        "no names",
    ],
)
def test_a_reading_that_cannot_be_used_is_refused_with_the_place(survivor, features, place):
    with pytest.raises(InvalidDataError, match=place):
        survivor.detect_anomaly(features)


def test_a_constant_column_is_warned_about_and_learnt_with(make, caplog):
    rows = ROWS.copy()
    rows[:, 2] = 8.0
    service = make()
    with caplog.at_level(logging.WARNING, logger="vigie.detectors.data.matrices"):
        service.train(rows, NAMES)
    [record] = [
        record for record in caplog.records if record.name == "vigie.detectors.data.matrices"
    ]
    assert "'current' is constant" in record.getMessage()
    healthy = FRESH.copy()
    healthy[:, 2] = 8.0
    assert service.predict(healthy).mean() < 0.1
    assert service.predict(healthy + 30 * rows.std(axis=0))[WINDOW:].all()


def test_varying_columns_are_not_warned_about(make, caplog):
    with caplog.at_level(logging.WARNING):
        make().train(ROWS, NAMES)
    assert not [record for record in caplog.messages if record.startswith("Column")]


# Which sensor it was


def test_shares_are_parts_of_one(model):
    shares = model.explain(model.examples(MIXED)).shares
    assert shares.shape == MIXED.shape
    assert (shares >= 0).all()
    np.testing.assert_allclose(shares.sum(axis=1), 1.0)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("sensor", range(4), ids=NAMES)
def test_the_sensor_with_the_fault_is_named(model, sensor, sign):
    rows = FRESH[:40].copy()
    rows[-model.window :, sensor] += sign * 12 * ROWS[:, sensor].std()
    shares = model.explain(model.examples(rows)).shares[-1]
    assert shares.argmax() == sensor
    assert shares[sensor] > 0.5


@pytest.mark.parametrize("size", [12, 30])
def test_two_sensors_with_faults_are_both_named(model, size):
    rows = FRESH[:40].copy()
    # A forecast expects that what lasts goes on.
    n_odd = 1 if model.change is not None else model.window
    rows[-n_odd:, [1, 3]] += size * ROWS[:, [1, 3]].std(axis=0)
    shares = model.explain(model.examples(rows)).shares[-1]
    assert set(np.argsort(shares)[2:]) == {1, 3}
    assert shares[[1, 3]].sum() > 0.5


# What only windows have


@pytest.fixture(scope="module")
def lstm(settings: Settings) -> LSTMAutoencoderService:
    service = LSTMAutoencoderService(settings=settings, **LSTM)
    service.train(ROWS, NAMES)
    return service


def test_the_lstm_counts_its_sequences_and_keeps_its_last_loss(lstm):
    metrics = lstm.train(ROWS, NAMES)
    assert metrics["n_sequences"] == 400 - WINDOW + 1
    losses = lstm.served.model.loss_by_epoch
    assert len(losses) == 3
    assert metrics["final_loss"] == losses[-1] < losses[0]


def test_the_lstm_gives_its_error_and_the_threshold_of_it(lstm):
    metrics = lstm.train(ROWS, NAMES)
    errors = lstm.reconstruction_error(ROWS)
    assert errors.shape == (400,)
    assert (errors >= 0).all()
    assert metrics["mean_reconstruction_error"] == pytest.approx(errors.mean())
    error_threshold = metrics["reconstruction_error_threshold"]
    np.testing.assert_array_equal(
        lstm.reconstruction_error(MIXED) > error_threshold, lstm.predict(MIXED)
    )


def test_the_lstm_says_how_much_of_the_window_was_filled(lstm):
    verdict = lstm.detect_anomaly(reading(FRESH[0]))
    assert verdict["window_filled"] == WINDOW - 1
    assert type(verdict["window_filled"]) is int
    assert type(verdict["reconstruction_error"]) is float
    assert verdict["reconstruction_error"] == lstm.reconstruction_error(FRESH[:1])[0]


def test_the_lstm_holds_the_first_row_before_it(lstm):
    held = np.vstack([np.repeat(FRESH[:1], WINDOW - 1, axis=0), FRESH])
    np.testing.assert_allclose(
        lstm.predict_scores(held)[WINDOW - 1 :], lstm.predict_scores(FRESH), rtol=0, atol=1e-12
    )


@pytest.mark.slow
def test_the_lstm_notices_an_order_that_no_single_row_betrays(settings):
    wave = np.sin(np.arange(600) / 3.0)[:, None] * [1.0, 2.0]
    service = LSTMAutoencoderService(
        settings=settings,
        encoder_layers=[8],
        decoder_layers=[8],
        sequence_length=WINDOW,
        epochs=20,
        learning_rate=0.02,
    )
    service.train(wave + np.random.default_rng(6).normal(size=wave.shape) * 0.02)
    shuffled = np.random.default_rng(7).permutation(wave)
    usual, odd = service.reconstruction_error(wave), service.reconstruction_error(shuffled)
    assert np.median(odd[WINDOW:]) > 3 * np.median(usual[WINDOW:])


def test_the_lstm_names_the_device_that_trains_it(lstm, settings):
    expected = "cuda" if torch.cuda.is_available() else "cpu"
    assert lstm.get_model_info()["device"] == expected
    assert LSTMAutoencoderService(settings=settings).get_model_info()["device"] == expected


def test_the_lstm_takes_a_threshold_of_its_own(settings):
    service = LSTMAutoencoderService(settings=settings, threshold=0.7, **LSTM)
    assert service.threshold == 0.7
    metrics = service.train(ROWS, NAMES)
    assert metrics["threshold"] == service.threshold == 0.7
    np.testing.assert_array_equal(service.predict(MIXED), service.predict_scores(MIXED) > 0.7)


@pytest.mark.parametrize("threshold", [0, 1, -0.5, 1.5, math.nan, "0.5", True])
def test_the_lstm_refuses_a_threshold_that_parts_nothing(settings, threshold):
    with pytest.raises(InvalidDataError, match="threshold"):
        LSTMAutoencoderService(settings=settings, threshold=threshold)


def test_a_model_of_single_rows_reconstructs_nothing(settings, tmp_path: Path):
    service = OneClassSVMService(settings=settings)
    service.train(ROWS, NAMES)
    with pytest.raises(InvalidDataError, match="reconstructs nothing"):
        service.served.model.reconstruction_error(ROWS)


def test_a_service_says_in_one_line_what_it_is(case, untracked, service):
    assert "not trained" in repr(case.service())
    said = repr(service)
    assert said.startswith(f"<{type(service).__name__}(")
    assert "contamination=0.01" in said
    assert f"trained on {len(ROWS)} rows of {ROWS.shape[1]} sensors" in said
    assert "\n" not in said


@pytest.mark.parametrize("copied", [deepcopy, lambda service: pickle.loads(pickle.dumps(service))])
def test_a_copy_scores_alike(service, copied):
    assert np.array_equal(copied(service).predict_scores(MIXED), service.predict_scores(MIXED))


def test_a_saved_model_scores_alike_in_another_service(case, untracked, service, tmp_path):
    service.save(tmp_path / "model")
    other = case.service()
    other.load(folder=tmp_path / "model")
    assert np.array_equal(other.predict_scores(MIXED), service.predict_scores(MIXED))


def test_a_model_of_another_algorithm_is_refused(service, untracked, tmp_path):
    service.save(tmp_path / "model")
    other = IsolationForestService if "forest" not in service.name else OneClassSVMService
    with pytest.raises(InvalidDataError, match=service.name):
        other().load(folder=tmp_path / "model")


def test_the_command_line_detects_with_what_python_has_saved(service, tmp_path):
    service.save(tmp_path / "model")
    found = saved.load(tmp_path / "model")
    assert np.array_equal(
        found[service.name].model.predict_scores(MIXED), service.predict_scores(MIXED)
    )


def test_scikit_learn_clones_it_untrained_and_sets_its_parameters(case, service):
    copy = clone(service)
    assert not copy.is_trained
    assert copy.get_params() == service.get_params()
    copy.set_params(**{case.own: case.by_keyword})
    assert copy.get_params()[case.own] == case.by_keyword
    assert service.get_params()[case.own] != case.by_keyword
    with pytest.raises(InvalidDataError, match="no such hyper-parameter"):
        copy.set_params(number_of_trees=3)


def test_lower_samples_are_more_unusual_as_in_scikit_learn(service):
    assert np.array_equal(service.score_samples(MIXED), 1.0 - service.predict_scores(MIXED))


def test_a_frame_with_times_is_trained_as_one_without(untracked):
    frame = pd.DataFrame(ROWS, columns=NAMES)
    times = pd.date_range("2026-01-05", periods=len(frame), freq="min")
    plain = IsolationForestService().fit(frame).predict_scores(FRESH)
    for timed in (frame.assign(when=times), frame.set_axis(times), frame.set_axis(times)[::-1]):
        assert np.array_equal(IsolationForestService().fit(timed).predict_scores(FRESH), plain)


def test_an_anomaly_names_its_sensors(service):
    reading = dict(zip(NAMES, ROWS[0].tolist(), strict=True)) | {"current": 40.0}
    assert service.detect_anomaly(reading)["sensors"][0]["name"] == "current"
    assert service.detect_anomaly(dict(zip(NAMES, ROWS[0].tolist(), strict=True)))["sensors"] == []
