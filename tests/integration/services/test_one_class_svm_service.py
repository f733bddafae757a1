"""The One-Class SVM from healthy rows to a version in Production: a worked example.

``tracked`` stands for a shell in which MLFLOW_TRACKING_URI names a running MLflow server,
``untracked`` for one with MLFLOW_ENABLED=false. ``healthy`` are 300 rows of a sound pump bench,
``names`` its eight sensors, ``fault`` a recording in which a bearing wears.
"""

from __future__ import annotations

import numpy as np
import pytest
from mlflow import MlflowClient

from vigie.services.mlflow_service import MLflowService
from vigie.services.one_class_svm_service import OneClassSVMService


def test_a_training_is_a_run_with_parameters_metrics_and_the_model(tracked, healthy, names):
    service = OneClassSVMService(nu=0.1, kernel="rbf", gamma=0.2)
    metrics = service.train(healthy, feature_names=names)

    [run] = MLflowService().search_runs()
    assert run.info.run_name == "one_class_svm_300_samples"
    assert {"nu": "0.1", "kernel": "rbf", "gamma": "0.2"}.items() <= run.data.params.items()
    for name in ("n_anomalies_detected", "anomaly_rate", "mean_score", "std_score"):
        assert run.data.metrics[name] == pytest.approx(metrics[name])

    client = MlflowClient(tracking_uri=tracked.mlflow_tracking_uri)
    folder = "one_class_svm_model"
    files = {item.path for item in client.list_artifacts(run.info.run_id, folder)}
    for name in ("model.pkl", "conda.yaml", "requirements.txt", "MLmodel"):
        assert f"{folder}/{name}" in files


def test_a_reading_is_judged_in_the_sensors_own_units(untracked, healthy, names, fault):
    # Pressures in bar beside temperatures in degrees: the scaling is part of the model.
    service = OneClassSVMService()
    service.train(healthy, feature_names=names)

    usual = dict(zip(names, np.median(healthy, axis=0), strict=True))
    assert not service.detect_anomaly(usual)["is_anomaly"]

    worn = dict(zip(names, fault.data[-1], strict=True))
    verdict = service.detect_anomaly(worn)
    assert verdict["is_anomaly"]
    assert verdict["score"] > verdict["threshold"] == 0.99

    # Who asks may draw the line elsewhere: here at one healthy reading in a million.
    assert not service.detect_anomaly(worn, threshold=0.999999)["is_anomaly"]

    found = service.predict(fault.data)
    assert found[fault.labels == 0].mean() < 0.05
    assert found[-100:].all()


def test_a_version_is_promoted_and_loaded_by_stage_or_by_number(tracked, healthy, names, fault):
    service = OneClassSVMService()
    service.train(healthy, feature_names=names)
    scores = service.predict_scores(fault.data)

    mlflow_service = MLflowService()
    mlflow_service.transition_model_stage("one_class_svm", version=1, stage="Staging")
    in_staging = mlflow_service.load_model("one_class_svm", stage="Staging")
    assert in_staging.predict_scores(fault.data) == pytest.approx(scores, abs=1e-9)

    mlflow_service.transition_model_stage("one_class_svm", version=1, stage="Production")
    in_production = mlflow_service.load_model("one_class_svm", stage="Production")
    by_number = mlflow_service.load_model("one_class_svm", version=1)
    for model in (in_production, by_number):
        assert model.predict_scores(fault.data) == pytest.approx(scores, abs=1e-9)

    later = OneClassSVMService()
    later.load(stage="Production")
    assert later.predict_scores(fault.data) == pytest.approx(scores, abs=1e-9)


def test_without_mlflow_training_and_judging_are_the_same(untracked, healthy, names):
    service = OneClassSVMService(nu=0.1)
    metrics = service.train(healthy, feature_names=names)

    assert metrics["n_anomalies_detected"] == service.predict(healthy).sum()
    assert service.get_model_info()["nu"] == 0.1
    assert service.get_model_info()["version"] is None
    assert MLflowService().load_model("one_class_svm", stage="Production") is None
