"""The Isolation Forest from healthy rows to a version in Production: a worked example.

``tracked`` stands for a shell in which MLFLOW_TRACKING_URI names a running MLflow server,
``untracked`` for one with MLFLOW_ENABLED=false. ``healthy`` are 300 rows of a sound pump bench,
``names`` its eight sensors, ``fault`` a recording in which a bearing wears.
"""

from __future__ import annotations

import numpy as np
import pytest
from mlflow import MlflowClient

from vigie.services.isolation_forest_service import IsolationForestService
from vigie.services.mlflow_service import MLflowService


def test_a_training_is_a_run_with_parameters_metrics_and_the_model(tracked, healthy, names):
    service = IsolationForestService(n_estimators=50, contamination=0.02)
    metrics = service.train(healthy, feature_names=names)

    assert (metrics["n_samples"], metrics["n_features"]) == (300, 8)
    assert metrics["anomaly_rate"] == metrics["n_anomalies_detected"] / 300

    [run] = MLflowService().search_runs()
    assert run.info.run_name == "isolation_forest_300_samples"
    assert run.info.status == "FINISHED"
    expected = {"contamination": "0.02", "n_estimators": "50", "max_samples": "auto"}
    assert expected.items() <= run.data.params.items()
    for name in ("n_anomalies_detected", "anomaly_rate", "mean_score", "std_score"):
        assert run.data.metrics[name] == pytest.approx(metrics[name])

    client = MlflowClient(tracking_uri=tracked.mlflow_tracking_uri)
    folder = "isolation_forest_model"
    files = {item.path for item in client.list_artifacts(run.info.run_id, folder)}
    for name in ("model.pkl", "conda.yaml", "requirements.txt", "MLmodel"):
        assert f"{folder}/{name}" in files


def test_a_reading_is_judged_by_its_named_values(untracked, healthy, names, fault):
    service = IsolationForestService(n_estimators=50)
    service.train(healthy, feature_names=names)

    usual = dict(zip(names, np.median(healthy, axis=0), strict=True))
    verdict = service.detect_anomaly(usual)
    assert not verdict["is_anomaly"]
    assert 0.0 <= verdict["score"] <= verdict["threshold"] == 0.99

    # A spalled bearing shakes and warms, and the pump draws more current.
    spalled = usual | {
        "vibration_rms": 9.0,
        "vibration_kurtosis": 12.0,
        "bearing_temperature": 75.0,
        "motor_current": 2.4,
    }
    verdict = service.detect_anomaly(spalled)
    assert verdict["is_anomaly"]
    assert verdict["prediction"] == 1

    # Whole recordings go row by row, in the order of `names`.
    scores = service.predict_scores(fault.data)
    assert scores[fault.labels == 1].mean() > scores[fault.labels == 0].mean()
    assert (service.predict(fault.data) == (scores > service.threshold)).all()
    assert service.predict_proba(fault.data)[:, 1] == pytest.approx(scores)


def test_a_version_is_promoted_and_loaded_by_stage_or_by_number(tracked, healthy, names, fault):
    service = IsolationForestService(n_estimators=20)
    service.train(healthy[:150], feature_names=names)
    service.train(healthy, feature_names=names)

    mlflow_service = MLflowService()
    mlflow_service.transition_model_stage("isolation_forest", version=2, stage="Production")

    in_production = mlflow_service.load_model("isolation_forest", stage="Production")
    second = mlflow_service.load_model("isolation_forest", version=2)
    first = mlflow_service.load_model("isolation_forest", version=1)
    assert (first.n_samples, second.n_samples) == (150, 300)

    scores = service.predict_scores(fault.data)
    assert in_production.predict_scores(fault.data) == pytest.approx(scores, abs=1e-9)
    assert second.predict_scores(fault.data) == pytest.approx(scores, abs=1e-9)
    assert first.predict_scores(fault.data) != pytest.approx(scores, abs=1e-3)


def test_a_service_started_later_answers_from_the_version_in_production(tracked, healthy, names):
    trained = IsolationForestService(n_estimators=20)
    trained.train(healthy, feature_names=names)
    MLflowService().transition_model_stage("isolation_forest", 1, "Production")

    later = IsolationForestService()
    assert not later.is_trained
    version = later.load(stage="Production")

    assert (version.version, version.stage) == (1, "Production")
    info = later.get_model_info()
    assert (info["version"], info["stage"]) == (1, "Production")
    assert info["n_estimators"] == 20
    assert later.feature_names == names
    reading = dict(zip(names, healthy[0], strict=True))
    assert later.detect_anomaly(reading) == trained.detect_anomaly(reading)


def test_without_mlflow_training_and_judging_are_the_same(untracked, healthy, names):
    service = IsolationForestService(n_estimators=20)
    metrics = service.train(healthy, feature_names=names)

    assert metrics["n_samples"] == 300
    assert service.is_trained
    assert service.predict(healthy).shape == (300,)

    # Every method of MLflow returns silently, without effect.
    mlflow_service = MLflowService()
    assert mlflow_service.start_run(run_name="nowhere") is None
    assert mlflow_service.transition_model_stage("isolation_forest", 1, "Production") is None
    assert mlflow_service.load_model("isolation_forest", stage="Production") is None
    assert service.load(stage="Production") is None
    assert service.is_trained
