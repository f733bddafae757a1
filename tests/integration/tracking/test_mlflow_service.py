"""MLflowService against a real server: runs, what a training leaves, versions and stages."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion
from sklearn.linear_model import LinearRegression

from vigie import samples
from vigie.config import Settings
from vigie.detectors.catalogue import algorithms
from vigie.errors import InvalidDataError, ModelNotFoundError, ModelRefusedError
from vigie.services.anomaly_detection_service import AnomalyDetectionService
from vigie.services.detector_service import new_service
from vigie.services.mlflow_service import MLflowService
from vigie.services.one_class_svm_service import OneClassSVMService

CHEAP = {
    "n_estimators": 25,
    "epochs": 2,
    "encoder_layers": (8,),
    "decoder_layers": (8,),
    "sequence_length": 5,
    "batch_size": 64,
    "learning_rate": 0.005,
    "contamination": 0.01,
    "nu": 0.05,
}
PARAMS = {
    "isolation_forest": {"contamination": "0.01", "n_estimators": "25", "max_samples": "auto"},
    "one_class_svm": {"nu": "0.05", "kernel": "rbf", "gamma": "local"},
    "vector_autoregression": {"horizons": "[1, 2, 4]", "penalty": "auto"},
    "lstm_autoencoder": {
        "encoder_layers": "[8]",
        "decoder_layers": "[8]",
        "sequence_length": "5",
        "batch_size": "64",
        "epochs": "2",
        "learning_rate": "0.005",
    },
}
METRICS = {
    "isolation_forest": {"n_anomalies_detected", "anomaly_rate", "mean_score", "std_score"},
    "one_class_svm": {"n_anomalies_detected", "anomaly_rate", "mean_score", "std_score"},
    "vector_autoregression": {"n_anomalies_detected", "anomaly_rate", "mean_score", "std_score"},
    "lstm_autoencoder": {
        "train_loss",
        "final_loss",
        "mean_reconstruction_error",
        "threshold",
    },
}
NAMES = list(algorithms())


@dataclass(frozen=True)
class Training:
    """What one training has left on the server."""

    service: Any
    metrics: dict[str, Any]
    version: int
    run: Run
    files: set[str]
    client: MlflowClient


@pytest.fixture(scope="module")
def settings(
    mlflow_uri: str,
    new_state: Callable[[Path], Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Settings:
    return Settings(
        mlflow_tracking_uri=mlflow_uri,
        mlflow_experiment_name="what-a-training-leaves",
        state_dir=new_state(tmp_path_factory.mktemp("trainings") / "state"),
        tracking_patience_s=60,
        **CHEAP,
    )


@pytest.fixture(scope="module")
def trainings(settings: Settings) -> dict[str, Training]:
    """Each detector trained once, outside any run, and promoted."""
    bench, found = samples.healthy(300), {}
    tracking = MLflowService(settings)
    client = tracking.server.client
    for name in algorithms():
        service = new_service(name, settings)
        metrics = service.train(bench.data, bench.feature_names)
        version = service.served.version
        # Figures follow when the training is already back.
        assert service.mlflow_service.flush(timeout=60)
        tracking.transition_model_stage(name, version, "Production")
        run = client.get_run(client.get_model_version(name, str(version)).run_id)
        files = {
            item.path
            for folder in (None, f"{name}_model", "figures")
            for item in client.list_artifacts(run.info.run_id, folder)
        }
        found[name] = Training(service, metrics, version, run, files, client)
    return found


def test_a_version_says_what_it_is_and_its_run_names_the_training_rows(trainings):
    for name, training in trainings.items():
        model = training.client.get_registered_model(name)
        assert name in model.description
        version = training.client.get_model_version(name, str(training.version))
        assert "trained on 300 healthy rows of 8 sensors" in version.description
        assert all(f"`{sensor}`" in version.description for sensor in samples.FEATURE_NAMES)
        [logged] = training.run.inputs.dataset_inputs
        assert {tag.key: tag.value for tag in logged.tags} == {"mlflow.data.context": "training"}
        assert json.loads(logged.dataset.profile) == {"num_rows": 300, "num_elements": 2400}
        columns = json.loads(logged.dataset.schema)["mlflow_colspec"]
        assert [column["name"] for column in columns] == list(samples.FEATURE_NAMES)
        assert training.run.data.tags["vigie.data_fingerprint"].startswith(logged.dataset.digest)


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    """Healthy rows and worse and worse ones."""
    return samples.faulty("bearing_wear", 200, onset=100).data


ELSEWHERE = """
import importlib.abc, json, sys

class WithoutVigie(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "vigie":
            raise ImportError("Vigie is not installed here")

sys.meta_path.insert(0, WithoutVigie())
try:
    import vigie
except ImportError:
    pass
else:
    sys.exit("this process must not know Vigie")

import mlflow, numpy as np, pandas as pd

names = json.load(open("names.json"))
rows = np.load("rows.npy")
table = pd.DataFrame(rows, columns=names)
answers = {}
for name in ("isolation_forest", "one_class_svm", "vector_autoregression"):
    uri = f"models:/{name}/Production"
    model, estimator = mlflow.pyfunc.load_model(uri), mlflow.sklearn.load_model(uri)
    answers[name] = {
        "run_id": model.metadata.run_id,
        "verdicts": np.asarray(model.predict(table)).tolist(),
        "raw": estimator.decision_function(rows).tolist(),
    }
windows = np.lib.stride_tricks.sliding_window_view(rows, 5, axis=0).transpose(0, 2, 1)
model = mlflow.pyfunc.load_model("models:/lstm_autoencoder/Production")
raw = np.asarray(model.predict(np.ascontiguousarray(windows)))
answers["lstm_autoencoder"] = {"run_id": model.metadata.run_id, "raw": raw.tolist()}
json.dump(answers, open("answers.json", "w"))
"""

ANOTHER_PROCESS = """
import json, sys
import numpy as np
from vigie.services.mlflow_service import MLflowService

rows, tracking = np.load("rows.npy"), MLflowService()
answers = {
    name: tracking.load_model(name, stage="Production").predict_scores(rows).tolist()
    for name in json.load(open("models.json"))
}
for library in ("torch", "pyod", "sklearn"):
    assert library not in sys.modules, library
json.dump(answers, open("answers.json", "w"))
"""


def answers_of(code: str, settings: Settings, rows: np.ndarray, folder: Path) -> Any:
    """Run code in a process of its own, in a folder of its own, and return what it answers."""
    np.save(folder / "rows.npy", rows)
    (folder / "models.json").write_text(json.dumps(NAMES), encoding="utf-8")
    (folder / "names.json").write_text(json.dumps(samples.FEATURE_NAMES))
    process = subprocess.run(
        [sys.executable, "-P", "-c", code],
        cwd=folder,
        env={**os.environ, "MLFLOW_TRACKING_URI": settings.mlflow_tracking_uri},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert process.returncode == 0, process.stderr
    return json.loads((folder / "answers.json").read_text())


@pytest.fixture(scope="module")
def elsewhere(
    trainings: dict[str, Training],
    settings: Settings,
    rows: np.ndarray,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, dict[str, Any]]:
    """What MLflow itself makes of the versions, in a process that has never heard of Vigie."""
    assert set(trainings) == set(NAMES)
    return answers_of(ELSEWHERE, settings, rows, tmp_path_factory.mktemp("elsewhere"))


# What a training leaves.


@pytest.mark.parametrize("name", NAMES)
def test_a_run_holds_the_parameters_and_metrics_of_the_guide(
    name: str, trainings: dict[str, Training]
) -> None:
    training = trainings[name]
    run = training.run
    assert run.info.run_name == f"{name}_300_samples"
    assert run.info.status == "FINISHED"
    expected = PARAMS[name] | {"n_samples": "300", "n_features": "8"}
    assert {key: run.data.params.get(key) for key in expected} == expected
    assert METRICS[name] <= run.data.metrics.keys()
    for metric in METRICS[name] - {"train_loss"}:
        assert run.data.metrics[metric] == pytest.approx(training.metrics[metric])


@pytest.mark.parametrize("name", NAMES)
def test_a_run_says_what_steps_the_model_sees(name: str, trainings: dict[str, Training]) -> None:
    training = trainings[name]
    model = training.service.served.model
    said = training.client.download_artifacts(training.run.info.run_id, "power.json")
    steps = json.loads(Path(said).read_text())
    assert list(steps) == list(model.feature_names)
    assert all(sensor.keys() == {"within_20", "within_200"} for sensor in steps.values())
    widths, metrics = model.high - model.low, training.run.data.metrics
    median = np.percentile(model.smallest_step_20 / widths, 50, method="higher")
    # No database of MLflow's need hold an infinite value.
    assert metrics.get("detectable_step_20", np.inf) == pytest.approx(median)
    # A block of 60 rows says nothing of 200 readings.
    assert "detectable_step_200" not in metrics


def test_the_loss_of_every_epoch_stands_in_the_run_with_its_step(
    trainings: dict[str, Training],
) -> None:
    training = trainings["lstm_autoencoder"]
    history = training.client.get_metric_history(training.run.info.run_id, "train_loss")
    assert [metric.step for metric in history] == [1, 2]
    assert history[0].timestamp <= history[1].timestamp
    assert history[-1].value == pytest.approx(training.metrics["final_loss"])


@pytest.mark.parametrize("name", NAMES)
def test_a_run_holds_the_files_of_the_guide(name: str, trainings: dict[str, Training]) -> None:
    model_file = "model.pth" if name == "lstm_autoencoder" else "model.pkl"
    for file in (model_file, "conda.yaml", "requirements.txt", "MLmodel"):
        assert f"{name}_model/{file}" in trainings[name].files


@pytest.mark.parametrize("name", NAMES)
def test_a_run_holds_figures(name: str, trainings: dict[str, Training]) -> None:
    expected = {
        "figures/score_distribution.png",
        "figures/sensor_spread.png",
        "figures/training_rows.png",
        "figures/detectable_step.png",
        "power.json",
    }
    if name == "lstm_autoencoder":
        expected |= {"figures/loss.png", "figures/reconstruction_error.png"}
    assert expected <= trainings[name].files


@pytest.mark.parametrize("name", NAMES)
def test_a_version_has_a_signature_and_an_input_example(
    name: str, trainings: dict[str, Training], settings: Settings
) -> None:
    import mlflow.models

    training = trainings[name]
    uri = f"runs:/{training.run.info.run_id}/{name}_model"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", settings.mlflow_tracking_uri)
        described = mlflow.models.get_model_info(uri)
    inputs = described.signature.inputs
    if name == "lstm_autoencoder":
        assert inputs.inputs[0].shape == (-1, 5, 8)
    else:
        assert inputs.input_names() == list(samples.FEATURE_NAMES)
    assert described.saved_input_example_info is not None


@pytest.mark.parametrize("name", NAMES)
def test_a_version_is_linked_to_its_run_and_both_tell_the_data(
    name: str, trainings: dict[str, Training]
) -> None:
    training = trainings[name]
    version = training.client.get_model_version(name, str(training.version))
    assert version.run_id == training.run.info.run_id
    fingerprint = training.service.served.model.data_fingerprint
    for tags in (version.tags, training.run.data.tags):
        assert tags["vigie.data_fingerprint"] == fingerprint
        assert tags["vigie.algorithm"] == name
        assert tags["vigie.version"]


@pytest.mark.parametrize("name", ["isolation_forest", "one_class_svm", "vector_autoregression"])
def test_mlflow_alone_opens_a_version_and_comes_to_the_same_verdicts(
    name: str,
    trainings: dict[str, Training],
    elsewhere: dict[str, dict[str, Any]],
    rows: np.ndarray,
) -> None:
    training, answers = trainings[name], elsewhere[name]
    assert answers["run_id"] == training.run.info.run_id
    verdicts = training.service.predict(rows)
    assert 0 < verdicts.sum() < len(rows)
    assert answers["verdicts"] == verdicts.tolist()
    raw = training.service.served.model.raw_scores_of_rows(rows)
    np.testing.assert_allclose(answers["raw"], raw, atol=1e-9)


def test_mlflow_alone_opens_the_autoencoder_on_windows_of_float64(
    trainings: dict[str, Training], elsewhere: dict[str, dict[str, Any]], rows: np.ndarray
) -> None:
    training, answers = trainings["lstm_autoencoder"], elsewhere["lstm_autoencoder"]
    assert answers["run_id"] == training.run.info.run_id
    # Before row 5 there is no full window to compare.
    errors = training.service.served.model.reconstruction_error(rows)[4:]
    np.testing.assert_allclose(answers["raw"], errors, rtol=1e-9)
    limit = training.run.data.metrics["reconstruction_error_threshold"]
    found = np.array(answers["raw"]) > limit
    assert 0 < found.sum() < len(found)
    assert found.astype(int).tolist() == training.service.predict(rows)[4:].tolist()


def test_a_version_scores_the_same_in_another_process(
    trainings: dict[str, Training], settings: Settings, rows: np.ndarray, tmp_path: Path
) -> None:
    answers = answers_of(ANOTHER_PROCESS, settings, rows, tmp_path)
    for name, training in trainings.items():
        scores = training.service.predict_scores(rows)
        np.testing.assert_allclose(answers[name], scores, atol=1e-9, err_msg=name)


# Runs.


@pytest.fixture
def client(tracked: Settings) -> MlflowClient:
    return MlflowClient(tracking_uri=tracked.mlflow_tracking_uri)


@pytest.fixture
def in_new_thread() -> Iterator[ThreadPoolExecutor]:
    """A thread that has made no run yet."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        yield pool


def train_svm(rows: np.ndarray) -> int:
    """Train the cheapest detector and return its version."""
    service = OneClassSVMService()
    service.train(rows)
    version: int = service.served.version
    return version


def parent_of(run: Run) -> str | None:
    parent: str | None = run.data.tags.get("mlflow.parentRunId")
    return parent


def test_a_model_without_a_description_gets_one_with_its_next_version(tracked, client):
    bench = samples.healthy(100)
    service = new_service("one_class_svm", tracked)

    def described_after(description: str) -> str:
        client.update_registered_model("one_class_svm", description)
        service.train(bench.data, bench.feature_names)
        assert service.mlflow_service.flush(timeout=60)
        return client.get_registered_model("one_class_svm").description

    client.create_registered_model("one_class_svm")
    assert "trained by Vigie" in described_after("")
    assert described_after("Ours.") == "Ours."


def test_a_training_goes_into_the_run_that_is_open(client, healthy):
    service = MLflowService()
    opened = service.start_run(run_name="experiment_2024_01_01")
    version = train_svm(healthy)
    service.end_run()

    [run] = service.search_runs()
    assert run.info.run_id == opened.info.run_id
    assert run.info.run_name == "experiment_2024_01_01"
    assert run.info.status == "FINISHED"
    assert run.data.params["kernel"] == "rbf"
    assert client.get_model_version("one_class_svm", str(version)).run_id == run.info.run_id


def test_a_second_training_in_a_run_is_nested_in_it(client, healthy):
    service = MLflowService()
    opened = service.start_run("two trainings")
    train_svm(healthy)
    second = train_svm(healthy)
    assert client.get_run(opened.info.run_id).info.status == "RUNNING"
    service.end_run()

    run = client.get_run(client.get_model_version("one_class_svm", str(second)).run_id)
    assert parent_of(run) == opened.info.run_id
    assert run.info.status == "FINISHED"


def test_trainings_together_are_nested_in_the_open_run(client, healthy, monkeypatch):
    monkeypatch.setenv("VIGIE_N_ESTIMATORS", "25")
    service = MLflowService()
    opened = service.start_run("all of them")
    AnomalyDetectionService().train_all_models(
        healthy, model_names=["isolation_forest", "one_class_svm"]
    )
    service.end_run()

    runs = {run.info.run_name: run for run in service.search_runs()}
    assert set(runs) == {"all of them", "isolation_forest_300_samples", "one_class_svm_300_samples"}
    nested = [run for name, run in runs.items() if name != "all of them"]
    assert [parent_of(run) for run in nested] == [opened.info.run_id] * 2
    assert "kernel" not in client.get_run(opened.info.run_id).data.params


def test_a_run_opened_in_a_run_is_nested_and_ends_first(client):
    service = MLflowService()
    outer, inner = service.start_run("outer"), service.start_run("inner")
    assert parent_of(inner) == outer.info.run_id

    service.end_run()
    assert client.get_run(inner.info.run_id).info.status == "FINISHED"
    assert client.get_run(outer.info.run_id).info.status == "RUNNING"
    service.end_run(status="FAILED")
    assert client.get_run(outer.info.run_id).info.status == "FAILED"
    service.end_run()


def test_two_service_objects_share_the_open_run(client):
    opened = MLflowService().start_run("shared")
    MLflowService().log_metrics({"custom_metric_1": 0.95}, step=3)
    MLflowService().log_params({"operator": "night shift"})
    MLflowService().end_run()

    run = client.get_run(opened.info.run_id)
    assert run.data.metrics == {"custom_metric_1": 0.95}
    assert run.data.params == {"operator": "night shift"}
    assert run.info.status == "FINISHED"
    assert client.get_metric_history(run.info.run_id, "custom_metric_1")[0].step == 3


def test_metrics_without_a_run_go_to_the_run_made_last(client, healthy):
    service = MLflowService()
    train_svm(healthy[:200])
    train_svm(healthy)
    service.log_metrics({"custom_metric_1": 0.95})

    runs = {run.info.run_name: run for run in service.search_runs()}
    assert runs["one_class_svm_300_samples"].data.metrics["custom_metric_1"] == 0.95
    assert "custom_metric_1" not in runs["one_class_svm_200_samples"].data.metrics
    assert len(runs) == 2


def test_metrics_before_any_run_make_one_named_custom_metrics(client, in_new_thread):
    def log_twice() -> None:
        MLflowService().log_metrics({"custom_metric_1": 0.95})
        MLflowService().log_metrics({"custom_metric_2": 0.87})

    in_new_thread.submit(log_twice).result()
    [run] = MLflowService().search_runs()
    assert run.info.run_name == "custom_metrics"
    assert run.data.metrics == {"custom_metric_1": 0.95, "custom_metric_2": 0.87}
    assert client.get_run(run.info.run_id).info.status == "FINISHED"


def test_open_runs_belong_to_their_thread(client, healthy):
    both_are_open = threading.Barrier(2)

    def train(name: str, n_rows: int) -> str:
        service = MLflowService()
        run = service.start_run(name)
        both_are_open.wait(timeout=60)
        train_svm(healthy[:n_rows])
        service.log_metrics({"rows": n_rows})
        both_are_open.wait(timeout=60)
        service.end_run()
        return str(run.info.run_id)

    with ThreadPoolExecutor(max_workers=2) as pool:
        short, long = pool.map(train, ("short", "long"), (100, 300))
    for run_id, n_rows in ((short, 100), (long, 300)):
        run = client.get_run(run_id)
        assert run.data.params["n_samples"] == str(n_rows)
        assert run.data.metrics["rows"] == n_rows
        assert run.info.status == "FINISHED"
        assert parent_of(run) is None
    assert len(MLflowService().search_runs()) == 2


def test_parameters_logged_by_hand_do_not_lose_the_training(client, healthy):
    service = MLflowService()
    opened = service.start_run("by hand")
    service.log_params({"kernel": "my own", "operator": "night shift"})
    version = train_svm(healthy)
    service.end_run()

    by_hand = client.get_run(opened.info.run_id)
    assert by_hand.data.params == {"kernel": "my own", "operator": "night shift"}
    trained = client.get_run(client.get_model_version("one_class_svm", str(version)).run_id)
    assert trained.data.params["kernel"] == "rbf"
    assert parent_of(trained) == opened.info.run_id


@pytest.mark.usefixtures("tracked")
def test_a_metric_that_is_no_number_is_refused_by_name():
    with pytest.raises(InvalidDataError, match=r"custom_metric_1.*log_params"):
        MLflowService().log_metrics({"custom_metric_1": "high"})


@pytest.mark.usefixtures("tracked")
def test_runs_are_searched_by_what_they_measured(healthy):
    train_svm(healthy[:200])
    train_svm(healthy)
    service = MLflowService()
    assert [run.data.params["n_samples"] for run in service.search_runs()] == ["300", "200"]
    [found] = service.search_runs("params.n_samples = '200'")
    assert found.info.run_name == "one_class_svm_200_samples"
    [oldest] = service.search_runs(max_results=1, order_by=["attributes.start_time ASC"])
    assert oldest.info.run_id == found.info.run_id


# Versions and stages.


@pytest.fixture(scope="module")
def three_trainings(settings: Settings) -> list[ModelVersion]:
    """Versions of the One-Class SVM trained on 100, 200 and 300 rows."""
    client, found = MLflowService(settings).server.client, []
    for n_rows in (100, 200, 300):
        service = OneClassSVMService(settings=settings)
        service.train(samples.healthy(n_rows).data)
        found.append(client.get_model_version("one_class_svm", str(service.served.version)))
    return found


@pytest.fixture
def three_versions(three_trainings: list[ModelVersion], tracked: Settings) -> None:
    """Versions 1 to 3 of the One-Class SVM in a registry that holds nothing else."""
    client = MlflowClient(tracking_uri=tracked.mlflow_tracking_uri)
    client.create_registered_model("one_class_svm")
    for made in three_trainings:
        client.create_model_version("one_class_svm", made.source, made.run_id, made.tags)


def stages(client: MlflowClient) -> list[str]:
    """Return the stages of versions 1 to 3, as MLflow has them."""
    return [client.get_model_version("one_class_svm", n).current_stage for n in ("1", "2", "3")]


def aliases(client: MlflowClient) -> dict[str, str]:
    found = client.get_registered_model("one_class_svm").aliases
    return {name: str(version) for name, version in found.items()}


@pytest.mark.usefixtures("three_versions")
def test_a_model_is_loaded_by_stage_by_version_or_as_it_serves():
    service = MLflowService()
    service.transition_model_stage("one_class_svm", version=2, stage="Production")
    service.transition_model_stage("one_class_svm", version=1, stage="Staging")

    assert service.load_model("one_class_svm", stage="Production").n_samples == 200
    assert service.load_model("one_class_svm", stage="staging").n_samples == 100
    assert service.load_model("one_class_svm", version=3).n_samples == 300
    assert service.load_model("one_class_svm", version="3").n_samples == 300
    assert service.load_model("one_class_svm").n_samples == 200


@pytest.mark.usefixtures("three_versions")
def test_without_a_promotion_the_newest_version_is_loaded():
    assert MLflowService().load_model("one_class_svm").n_samples == 300


@pytest.mark.usefixtures("three_versions")
@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({"version": 7}, "no version 7 of 'one_class_svm'.*3 .None., 2 .None., 1 .None."),
        ({"stage": "Production"}, "no version in stage Production.*3 .None."),
        ({"stage": "Prod"}, "no stage 'Prod'.*None, Staging, Production, Archived"),
    ],
)
def test_what_is_not_there_is_answered_by_what_is(wanted, said):
    with pytest.raises(ModelNotFoundError, match=said):
        MLflowService().load_model("one_class_svm", **wanted)


@pytest.mark.usefixtures("tracked")
def test_an_unknown_model_is_named_with_what_to_do():
    with pytest.raises(ModelNotFoundError, match=r"'one_class_svm'.*[Tt]rain"):
        MLflowService().load_model("one_class_svm")
    with pytest.raises(ModelNotFoundError, match="'one_class_svm'"):
        MLflowService().transition_model_stage("one_class_svm", 1, "Production")


@pytest.mark.usefixtures("three_versions")
def test_a_transition_sets_stage_and_alias_and_archives_what_was_there(client):
    service = MLflowService()
    moved = service.transition_model_stage("one_class_svm", version=1, stage="Production")
    assert (moved.version, moved.stage) == (1, "Production")
    service.transition_model_stage("one_class_svm", version=2, stage="Production")
    service.transition_model_stage("one_class_svm", version=3, stage="Staging")

    assert stages(client) == ["Archived", "Production", "Staging"]
    assert aliases(client) == {"production": "2", "staging": "3"}


@pytest.mark.usefixtures("three_versions")
@pytest.mark.parametrize("stage", ["None", "Archived", "Staging"])
def test_a_version_that_leaves_production_loses_the_alias(client, stage):
    service = MLflowService()
    service.transition_model_stage("one_class_svm", 2, "Production")
    service.transition_model_stage("one_class_svm", 2, stage)
    assert stages(client) == ["None", stage, "None"]
    assert aliases(client) == ({"staging": "2"} if stage == "Staging" else {})
    with pytest.raises(ModelNotFoundError):
        service.load_model("one_class_svm", stage="Production")


@pytest.mark.usefixtures("three_versions")
def test_a_version_promoted_by_its_alias_alone_is_in_production(client):
    client.set_registered_model_alias("one_class_svm", "production", "1")
    service = MLflowService()
    assert service.load_model("one_class_svm", stage="Production").n_samples == 100
    assert service.load_model("one_class_svm").n_samples == 100
    [version] = service.get_latest_versions("one_class_svm", stages=["Production"])
    assert version.version == 1


@pytest.mark.usefixtures("three_versions")
def test_an_alias_moved_back_by_another_tool_is_followed(client):
    service = MLflowService()
    service.transition_model_stage("one_class_svm", 1, "Production")
    service.transition_model_stage("one_class_svm", 2, "Production")
    # MLflow's own page shows aliases only, so that is where somebody else goes back.
    client.set_registered_model_alias("one_class_svm", "production", "1")
    assert service.load_model("one_class_svm", stage="Production").n_samples == 100


@pytest.mark.usefixtures("three_versions")
def test_rolling_back_twice_goes_back_two_promotions(client):
    service = MLflowService()
    for version in (1, 2, 3):
        service.transition_model_stage("one_class_svm", version, "Production")

    before, now = service.rollback("one_class_svm")
    assert (before.version, now.version) == (3, 2)
    assert service.load_model("one_class_svm").n_samples == 200
    before, now = service.rollback("one_class_svm")
    assert (before.version, now.version) == (2, 1)
    assert stages(client) == ["Production", "Archived", "Archived"]
    assert aliases(client) == {"production": "1"}
    with pytest.raises(ModelNotFoundError, match=r"before version 1.*vigie models promote"):
        service.rollback("one_class_svm")


@pytest.mark.usefixtures("three_versions")
def test_a_rollback_skips_what_was_never_in_production():
    service = MLflowService()
    service.transition_model_stage("one_class_svm", 1, "Production")
    service.transition_model_stage("one_class_svm", 2, "Staging")
    service.transition_model_stage("one_class_svm", 3, "Production")
    _, now = service.rollback("one_class_svm")
    assert now.version == 1


@pytest.mark.usefixtures("three_versions")
def test_without_a_version_in_production_there_is_nothing_to_roll_back():
    with pytest.raises(ModelNotFoundError, match="Production"):
        MLflowService().rollback("one_class_svm")


@pytest.mark.usefixtures("three_versions")
def test_the_latest_versions_are_the_newest_of_each_stage():
    service = MLflowService()
    service.transition_model_stage("one_class_svm", 1, "Production")
    latest = service.get_latest_versions("one_class_svm")
    assert [(item.version, item.stage) for item in latest] == [(3, "None"), (1, "Production")]
    [in_production] = service.get_latest_versions("one_class_svm", stages=["Production"])
    assert in_production.version == 1
    assert service.get_latest_versions("one_class_svm", stages=["Staging"]) == []
    assert service.get_latest_versions("nobody_has_trained_this") == []


@pytest.mark.usefixtures("tracked")
def test_an_estimator_of_ones_own_is_opened_only_by_permission():
    line = LinearRegression().fit([[0.0], [1.0]], [0.0, 2.0])
    service = MLflowService()
    assert service.log_model(line, "line_model", registered_model_name="line") == 1

    with pytest.raises(ModelRefusedError, match="allow_pickle=True"):
        service.load_model("line", version=1)
    model = service.load_model("line", version=1, allow_pickle=True)
    assert model.predict(np.array([[3.0]])) == pytest.approx([6.0])


def test_a_model_logged_without_a_name_is_among_the_runs_artifacts_alone(client):
    service = MLflowService()
    run = service.start_run("a model of my own")
    line = LinearRegression().fit([[0.0], [1.0]], [0.0, 2.0])
    assert service.log_model(line, "line_model") is None
    service.end_run()
    files = {item.path for item in client.list_artifacts(run.info.run_id, "line_model")}
    assert {"line_model/MLmodel", "line_model/model.pkl"} <= files
    assert client.search_registered_models() == []


def test_models_of_one_asset_have_a_registered_name_of_their_own_and_serve_no_other(
    tracked, healthy, names
):
    service = AnomalyDetectionService(tracked)
    outcome = service.train_all_models(
        healthy, names, ["isolation_forest"], scope="line 2/pump 1", stage="Production"
    )
    assert outcome["isolation_forest"]["status"] == "trained"
    assert not service.is_ready()
    client = MlflowClient(tracking_uri=tracked.mlflow_tracking_uri)
    [model] = [
        model
        for model in client.search_registered_models("name LIKE 'isolation_forest--line_2_pump_1%'")
        if model.name.startswith("isolation_forest--")
    ]
    assert "for `line_2_pump_1" in model.description
    version = client.get_model_version(model.name, "1")
    assert version.tags["vigie.scope"] == "line 2/pump 1"
    assert version.current_stage == "Production"
    assert version.run_id == outcome["isolation_forest"]["run_id"]
