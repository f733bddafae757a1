"""The LSTM autoencoder from healthy rows to a version in Production: a worked example.

It judges windows: the last ``sequence_length`` rows, in time order. ``tracked`` stands for a
shell in which MLFLOW_TRACKING_URI names a running MLflow server, ``untracked`` for one with
MLFLOW_ENABLED=false. ``healthy`` are 300 rows of a sound pump bench, one a second, ``names`` its
eight sensors, ``fault`` a recording in which a bearing wears.
"""

from __future__ import annotations

import mlflow
import numpy as np
import pytest
from mlflow import MlflowClient

from vigie.services.lstm_autoencoder_service import LSTMAutoencoderService
from vigie.services.mlflow_service import MLflowService

# Small enough for a test; the defaults learn more, and take seconds instead of a moment.
SMALL = {"encoder_layers": [8], "decoder_layers": [8], "sequence_length": 5, "epochs": 3}


def test_a_training_is_a_run_with_its_loss_epoch_by_epoch(tracked, healthy, names):
    service = LSTMAutoencoderService(**SMALL, batch_size=32, learning_rate=0.01)
    metrics = service.train(healthy, feature_names=names)

    # Of 300 rows, the first four have no full window.
    assert metrics["n_sequences"] == 296

    [run] = MLflowService().search_runs()
    assert run.info.run_name == "lstm_autoencoder_300_samples"
    expected = {
        "encoder_layers": "[8]",
        "decoder_layers": "[8]",
        "sequence_length": "5",
        "batch_size": "32",
        "epochs": "3",
        "learning_rate": "0.01",
    }
    assert expected.items() <= run.data.params.items()
    for name in ("final_loss", "mean_reconstruction_error", "threshold"):
        assert run.data.metrics[name] == pytest.approx(metrics[name])

    client = MlflowClient(tracking_uri=tracked.mlflow_tracking_uri)
    losses = client.get_metric_history(run.info.run_id, "train_loss")
    assert [loss.step for loss in losses] == [1, 2, 3]
    assert losses[-1].value == pytest.approx(metrics["final_loss"])

    folder = "lstm_autoencoder_model"
    files = {item.path for item in client.list_artifacts(run.info.run_id, folder)}
    for name in ("model.pth", "conda.yaml", "requirements.txt", "MLmodel"):
        assert f"{folder}/{name}" in files


def test_other_tools_open_each_version_with_its_own_weights_and_unpickle_nothing(
    tracked, healthy, names, monkeypatch
):
    service = LSTMAutoencoderService(**SMALL)
    service.train(healthy, feature_names=names)
    first = service.reconstruction_error(healthy)[4:]
    service.train(healthy[:200], feature_names=names)
    second = service.reconstruction_error(healthy)[4:]

    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    windows = np.lib.stride_tricks.sliding_window_view(healthy, 5, axis=0).transpose(0, 2, 1)
    for version, errors in ((1, first), (2, second)):
        model = mlflow.pyfunc.load_model(f"models:/lstm_autoencoder/{version}")
        raw = np.asarray(model.predict(np.ascontiguousarray(windows)))
        assert raw == pytest.approx(errors, rel=1e-9)
        assert len(model.predict(model.input_example)) == 2
        [run] = MLflowService().search_runs(f"run_id = '{model.metadata.run_id}'")
        assert run.data.params["n_samples"] == {1: "300", 2: "200"}[version]


def test_rows_are_judged_together_with_the_rows_before_them(untracked, healthy, names, fault):
    service = LSTMAutoencoderService(**SMALL)
    service.train(healthy, feature_names=names)

    # A recording is taken as consecutive rows: each is judged by the window that ends with it.
    scores = service.predict_scores(fault.data)
    assert scores.shape == (400,)
    assert service.predict_scores(fault.data[100:105])[-1] == pytest.approx(scores[104])

    found = service.predict(fault.data)
    assert found[:200].mean() < 0.1
    assert found[-50:].all()
    errors = service.reconstruction_error(fault.data)
    assert errors[-50:].min() > errors[:200].max()


def test_a_reading_alone_is_held_over_the_window_and_the_verdict_says_so(
    untracked, healthy, names, fault
):
    service = LSTMAutoencoderService(**SMALL, threshold=0.995)
    service.train(healthy, feature_names=names)

    usual = dict(zip(names, np.median(healthy, axis=0), strict=True))
    verdict = service.detect_anomaly(usual)
    assert not verdict["is_anomaly"]
    assert verdict["threshold"] == 0.995
    assert verdict["window_filled"] == 4

    worn = service.detect_anomaly(dict(zip(names, fault.data[-1], strict=True)))
    assert worn["is_anomaly"]
    assert worn["reconstruction_error"] > verdict["reconstruction_error"]


def test_a_version_is_promoted_and_loaded_by_stage_or_by_number(tracked, healthy, names, fault):
    service = LSTMAutoencoderService(**SMALL)
    service.train(healthy, feature_names=names)
    scores = service.predict_scores(fault.data)

    mlflow_service = MLflowService()
    mlflow_service.transition_model_stage("lstm_autoencoder", version=1, stage="Production")
    in_production = mlflow_service.load_model("lstm_autoencoder", stage="Production")
    by_number = mlflow_service.load_model("lstm_autoencoder", version=1)
    for model in (in_production, by_number):
        assert model.predict_scores(fault.data) == pytest.approx(scores, abs=1e-9)

    # The version brings its own window along, whatever this service would train with.
    later = LSTMAutoencoderService(sequence_length=20)
    later.load(stage="Production")
    assert later.get_model_info()["sequence_length"] == 5
    assert later.predict_scores(fault.data) == pytest.approx(scores, abs=1e-9)


def test_without_mlflow_training_and_judging_are_the_same(untracked, healthy, names):
    service = LSTMAutoencoderService(**SMALL)
    metrics = service.train(healthy, feature_names=names)

    assert metrics["n_anomalies_detected"] == service.predict(healthy).sum()
    assert service.get_model_info()["version"] is None
    assert MLflowService().load_model("lstm_autoencoder", stage="Production") is None
