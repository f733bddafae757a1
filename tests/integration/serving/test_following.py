"""A service that follows the registry: what is promoted serves, and what cannot serve does not."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from itertools import cycle
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from faults import AT_MOST_S, Failing, eventually

from vigie import samples
from vigie.cli.doctor import examine
from vigie.config import Settings
from vigie.detectors.trained import ARRAYS, TrainedModel
from vigie.errors import ModelNotFoundError, NotTrainedError
from vigie.registry import lookup
from vigie.services.anomaly_detection_service import AnomalyDetectionService
from vigie.services.detector_service import new_service
from vigie.services.mlflow_service import MLflowService
from vigie.serving import follower
from vigie.serving.compatibility import incompatible
from vigie.serving.served import Served

FOREST, SVM = "isolation_forest", "one_class_svm"
SENSORS = tuple(samples.FEATURE_NAMES)
MORE = (*SENSORS[:-1], "oil_level")
"""One sensor has been replaced by another."""


@pytest.fixture
def settings(tracked: Settings) -> Settings:
    update = {"n_estimators": 10, "calibration_folds": 2, "history_enabled": False}
    return tracked.model_copy(update=update)


@pytest.fixture(scope="module")
def trained() -> dict[Any, Any]:
    """The versions that have been trained, by what they were trained on."""
    return {}


@pytest.fixture
def make(settings: Settings, healthy: np.ndarray, trained: dict[Any, Any]) -> Callable[..., int]:
    """Register a version, which is all the better known for its number of rows.

    It is trained once; later tests register what that has left in the artifact store.
    """
    client = MLflowService(settings).server.client

    def train(name: str, n_rows: int, sensors: Sequence[str]) -> int:
        service = new_service(name, settings)
        service.train(healthy[:n_rows, : len(sensors)], sensors)
        assert service.mlflow_service.flush(AT_MOST_S)
        assert service.served is not None
        assert service.served.version is not None
        return service.served.version

    def make(
        name: str, n_rows: int = 100, sensors: Sequence[str] = SENSORS, anew: bool = False
    ) -> int:
        key = (name, n_rows, sensors)
        if anew or key not in trained:
            version = train(*key)
            if not anew:
                trained[key] = client.get_model_version(name, str(version))
            return version
        if not client.search_registered_models(f"name='{name}'"):
            client.create_registered_model(name)
        made = trained[key]
        return int(client.create_model_version(name, made.source, made.run_id, made.tags).version)

    return make


@pytest.fixture
def promote(settings: Settings) -> Callable[[str, int], Any]:
    tracking = MLflowService(settings)
    return lambda name, version: tracking.transition_model_stage(name, version, "Production")


def served(service: AnomalyDetectionService) -> dict[str, int]:
    status = service.get_model_status()
    return {name: model["version"] for name, model in status.items() if model["trained"]}


def problem(service: AnomalyDetectionService, name: str = FOREST) -> str | None:
    found: str | None = service.get_model_status()[name]["problem"]
    return found


# Under load.


def test_no_request_fails_and_none_is_answered_by_two_versions_while_they_are_promoted(
    settings, make, promote, running, healthy
):
    versions = {name: [make(name, n_rows) for n_rows in (100, 200)] for name in (FOREST, SVM)}
    renamed = {name: make(name, 150, MORE) for name in (FOREST, SVM)}
    tracking = MLflowService(settings)
    rows = healthy[:20]
    expected = {
        (name, version): tracking.load_model(name, version=version).predict_scores(rows)
        for name in versions
        for version in (*versions[name], renamed[name])
    }
    # As they come from a plant where the one sensor is being replaced by the other.
    features = [dict(zip((*SENSORS, MORE[-1]), [*row, row[-1]], strict=True)) for row in rows]
    body = [{"asset_id": "pump", "features": one} for one in features]
    for name in versions:
        promote(name, versions[name][0])
    answers: list[tuple[tuple[str, int], ...]] = []
    stop = threading.Event()

    def ask(api: httpx.Client) -> None:
        while not stop.is_set():
            answer = api.post("/detect/batch", json=body)
            assert answer.status_code == 200, answer.text
            results = answer.json()
            [said] = {
                tuple((name, model["version"]) for name, model in result["models"].items())
                for result in results
            }
            answers.append(said)
            for key in said:
                scores = [result["models"][key[0]]["score"] for result in results]
                np.testing.assert_allclose(scores, expected[key], atol=1e-9)

    def is_served(*wanted: tuple[str, int]) -> Callable[[], bool]:
        return lambda: answers[-1:] == [tuple(sorted(wanted))]

    with running(settings) as api, ThreadPoolExecutor(2) as pool:
        asking = [pool.submit(ask, api) for _ in range(2)]
        try:
            for number in cycle((1, 0)):
                for name in versions:
                    promote(name, versions[name][number])
                eventually(is_served(*((name, versions[name][number]) for name in versions)))
                if len(answers) > 50 and number == 0:
                    break
            # Other sensors come to all models at once, or to none.
            for name in versions:
                promote(name, renamed[name])
            eventually(is_served(*renamed.items()))
        finally:
            stop.set()
        for one in asking:
            one.result()
    mixed = [said for said in answers if 0 < len({*said} & {*renamed.items()}) < len(renamed)]
    assert mixed == []
    assert len(set(answers)) >= 3


# What cannot serve.


@pytest.fixture
def following(settings: Settings, make, promote) -> AnomalyDetectionService:
    """A service that serves versions 1 of two detectors, both in Production."""
    for name in (FOREST, SVM):
        promote(name, make(name))
    service = AnomalyDetectionService(settings)
    service.refresh()
    assert served(service) == {FOREST: 1, SVM: 1}
    return service


def damaged(settings: Settings, make: Callable[..., int], tmp_path: Path) -> int:
    """A version of which a byte has changed in the artifact store."""
    version, client = make(FOREST, 120, anew=True), MLflowService(settings).server.client
    run_id = client.get_model_version(FOREST, str(version)).run_id
    where = f"{FOREST}_model/serving"
    path = Path(client.download_artifacts(run_id, f"{where}/{ARRAYS}", str(tmp_path)))
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    client.log_artifact(run_id, str(path), where)
    return version


def lost(settings: Settings, make: Callable[..., int], tmp_path: Path) -> int:
    """A version whose files are not in the artifact store any more."""
    version, client = make(FOREST, 120), MLflowService(settings).server.client
    made = client.get_model_version(FOREST, str(version))
    elsewhere = f"runs:/{made.run_id}/nowhere"
    return int(client.create_model_version(FOREST, elsewhere, made.run_id, made.tags).version)


def of_other_sensors(settings: Settings, make: Callable[..., int], tmp_path: Path) -> int:
    return make(FOREST, 120, MORE)


def of_another_kind(settings: Settings, make: Callable[..., int], tmp_path: Path) -> int:
    """A One-Class SVM registered as an isolation forest."""
    client = MLflowService(settings).server.client
    made = client.get_model_version(SVM, str(make(SVM)))
    return int(client.create_model_version(FOREST, made.source, made.run_id, made.tags).version)


def a_pickle(settings: Settings, make: Callable[..., int], tmp_path: Path) -> int:
    """A version that has the files that every other tool makes, and no serving form."""
    client = MLflowService(settings).server.client
    made = client.get_model_version(FOREST, str(make(FOREST, 120)))
    return int(client.create_model_version(FOREST, made.source, made.run_id).version)


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (damaged, "does not match the checksum"),
        (lost, "cannot be read"),
        (of_other_sensors, "needs oil_level, which the other models do not know"),
        (of_another_kind, "is a one_class_svm"),
        (a_pickle, "allow_pickle"),
    ],
)
def test_a_version_that_cannot_serve_leaves_the_one_before_and_says_so_until_a_good_one_comes(
    bad, said, settings, make, promote, following, healthy, caplog, tmp_path
):
    version = bad(settings, make, tmp_path)
    promote(FOREST, version)
    for _ in range(3):
        following.refresh()
    assert served(following) == {FOREST: 1, SVM: 1}
    assert said in problem(following)
    assert f"ersion {version}" in problem(following)
    assert problem(following, SVM) is None
    [logged] = [one.getMessage() for one in caplog.records if one.levelname == "ERROR"]
    assert said in logged
    features = dict(zip(SENSORS, healthy[0], strict=True))
    verdict = following.detect_anomaly({"asset_id": "pump", "features": features})
    assert {name: model.version for name, model in verdict.models.items()} == {FOREST: 1, SVM: 1}

    good = make(FOREST, 130)
    promote(FOREST, good)
    following.refresh()
    assert served(following) == {FOREST: good, SVM: 1}
    assert problem(following) is None
    following.close()


def test_a_version_that_fails_on_readings_gives_way_to_the_one_before(
    following, make, promote, caplog
):
    service, first = following, 1
    second = make(FOREST, 110)
    promote(FOREST, second)
    service.refresh()
    reading = {"asset_id": "pump", "features": dict.fromkeys(SENSORS, 1.0)}
    assert service.detect_anomaly(reading).models[FOREST].version == second
    # What its checks and its trial have overlooked.
    vars(service.served.current.for_everything.served[FOREST].model)["arrays"] = {}
    assert service.detect_anomaly(reading).models[FOREST].version == first
    service.refresh()
    assert service.detect_anomaly(reading).models[FOREST].version == first
    assert "serves again" in service.get_model_status()[FOREST]["problem"]
    assert sum("serves again" in record.message for record in caplog.records) == 1
    third = make(FOREST, 120)
    promote(FOREST, third)
    service.refresh()
    assert service.detect_anomaly(reading).models[FOREST].version == third
    assert service.get_model_status()[FOREST]["problem"] is None


def test_a_version_that_was_refused_is_not_fetched_at_every_look(
    settings, make, promote, following, failing, tmp_path, monkeypatch
):
    server = failing(settings.mlflow_tracking_uri, 10_000, "gone")
    update = {"mlflow_tracking_uri": server.uri}
    service = AnomalyDetectionService(settings.model_copy(update=update))
    promote(FOREST, damaged(settings, make, tmp_path))

    def requests() -> int:
        before = server.left
        service.refresh()
        return before - server.left

    first, second = requests(), requests()
    assert second < first
    assert served(service) == {SVM: 1}
    # But somebody may put it right again.
    monkeypatch.setattr(follower, "REFUSED_FOR_S", 0.0)
    service.registry._refused.clear()
    assert requests() > second


def test_a_damaged_local_copy_is_fetched_again(following, settings):
    [arrays] = (settings.state_dir / "models" / FOREST).rglob(ARRAYS)
    arrays.write_bytes(arrays.read_bytes()[:-1])
    service = AnomalyDetectionService(settings)
    service.refresh()
    assert served(service) == {FOREST: 1, SVM: 1}
    assert problem(service) is None
    [again] = (settings.state_dir / "models" / FOREST).rglob(ARRAYS)
    assert TrainedModel.load(again.parent).n_samples == 100


def test_a_service_that_can_keep_nothing_serves_all_the_same_and_says_so_once(
    settings, make, promote, tmp_path, caplog
):
    promote(SVM, make(SVM))
    (tmp_path / "file").write_text("no folder")
    service = AnomalyDetectionService(
        settings.model_copy(update={"state_dir": tmp_path / "file" / "state"})
    )
    service.start()
    for _ in range(3):
        service.refresh()
    assert served(service) == {SVM: 1}
    [error] = [one.getMessage() for one in caplog.records if one.levelname == "ERROR"]
    assert error.startswith("VIGIE_STATE_DIR: ")
    assert "is not writable" in error
    service.close()


def test_services_at_once_share_the_local_copies(settings, make, promote):
    for name in (FOREST, SVM):
        promote(name, make(name))
    with ThreadPoolExecutor(8) as pool:
        services = [AnomalyDetectionService(settings) for _ in range(8)]
        for one in [pool.submit(service.refresh) for service in services]:
            one.result()
    assert [served(service) for service in services] == [{FOREST: 1, SVM: 1}] * 8
    copies = [path.name for path in (settings.state_dir / "models").glob("*/*")]
    assert len(copies) == 2, copies


# Models of the same readings.


def models_of(sensors: dict[str, str]) -> dict[str, Any]:
    """Return what serves, by name, with a letter for each of its sensors."""

    class Known:
        def __init__(self, letters: str):
            self.feature_names = tuple(letters)

    return {name: Served(Known(letters), 1) for name, letters in sensors.items()}


@pytest.mark.parametrize(
    ("serving", "coming", "waiting"),
    [
        # One alone that has a new sensor; all together; all but one.
        ({"a": "xy", "b": "xy"}, {"a": "xyz"}, "a"),
        ({"a": "xy", "b": "xy"}, {"a": "xyz", "b": "xyz"}, ""),
        ({"a": "xy", "b": "xy", "c": "xy"}, {"a": "xyz", "b": "xyz"}, "ab"),
        # One that comes with still another, on which the others' coming depended.
        ({"a": "xy", "b": "xy"}, {"a": "xyz", "b": "xyzw"}, "ab"),
        # Fewer sensors, and a sensor that readings bring already.
        ({"a": "xy", "b": "xy"}, {"a": "x"}, ""),
        ({"a": "x", "b": "x", "c": "xy"}, {"a": "xy"}, ""),
        # Nobody beside it, at all or of the same readings; nobody before it.
        ({"a": "xy"}, {"a": "xz"}, ""),
        ({"a": "xy", "b": "uv"}, {"a": "xz"}, ""),
        ({"b": "uv"}, {"a": "xy"}, ""),
    ],
)
def test_a_model_comes_when_readings_bring_what_it_needs(serving, coming, waiting):
    assert set(incompatible(models_of(serving), models_of(coming))) == set(waiting)


# The registry is away.


def test_a_service_restarted_without_a_registry_is_ready_and_says_how_old_its_knowledge_is(
    settings: Settings,
    make: Callable[..., int],
    promote: Callable[[str, int], Any],
    running: Callable[[Settings], AbstractContextManager[httpx.Client]],
    failing: Callable[[str, int, str], Failing],
    healthy: np.ndarray,
) -> None:
    for name in (FOREST, SVM):
        promote(name, make(name))
    server = failing(settings.mlflow_tracking_uri, 10_000, "gone")
    away = settings.model_copy(update={"mlflow_tracking_uri": server.uri})
    with running(away) as api:
        status = eventually(
            lambda: (found := api.get("/status").json())["models"][SVM]["version"] and found
        )
        confirmed = status["confirmed"]
        assert confirmed is not None
    server.left = 0
    [arrays] = (settings.state_dir / "models" / FOREST).rglob(ARRAYS)
    arrays.write_bytes(arrays.read_bytes()[:-1])

    with running(away) as api:
        assert api.get("/health/ready").status_code == 200
        status = api.get("/status").json()
        assert status["ready"] is True
        assert status["confirmed"] >= confirmed
        assert status["models"][SVM]["version"] == 1
        assert status["models"][SVM]["stage"] == "Production"
        # The copy that is damaged does not serve, and is named.
        assert status["models"][FOREST]["trained"] is False
        assert f"'{FOREST}' version 1" in status["models"][FOREST]["problem"]
        features = dict(zip(SENSORS, healthy[0], strict=True))
        answer = api.post("/detect", json={"asset_id": "pump", "features": features})
        assert answer.status_code == 200
        assert list(answer.json()["models"]) == [SVM]

        # As soon as it is there again, it is asked, and the copy put right.
        server.left = 10_000
        eventually(lambda: api.get("/status").json()["models"][FOREST]["trained"])
        again = api.get("/status").json()
        assert again["models"][FOREST]["problem"] is None
        assert again["confirmed"] > status["confirmed"]
        assert lookup.pick(MLflowService(settings).server, FOREST).version == 1


# Versions that are there, and do not serve.


def archive(settings: Settings, *versions: int, name: str = FOREST) -> None:
    for version in versions:
        MLflowService(settings).transition_model_stage(name, version, "Archived")


def said_by(call: Callable[[], Any], kind: type[Exception]) -> str:
    with pytest.raises(kind) as raised:
        call()
    return str(raised.value)


def test_if_only_an_archived_version_is_left_everybody_says_so_and_how_to_bring_it_back(
    settings, make, promote, running, healthy
):
    promote(FOREST, make(FOREST))
    promote(FOREST, make(FOREST, 120))
    # In MLflow's page; stage and alias go with it, and version 1 stays archived.
    MLflowService(settings).server.client.delete_model_version(FOREST, "2")
    reading = {"asset_id": "pump", "features": dict(zip(SENSORS, healthy[0], strict=True))}
    service = AnomalyDetectionService(settings)
    tracking, remedy = MLflowService(settings), f"`vigie models promote {FOREST} 1`"
    with running(settings) as api:
        answers = [api.post("/detect", json=reading), api.get("/health/ready")]
        problem_told = api.get("/status").json()["models"][FOREST]["problem"]
    assert [answer.status_code for answer in answers] == [503, 503]
    said = [
        said_by(lambda: service.detect_anomaly(reading), NotTrainedError),
        said_by(lambda: service.stream(SENSORS, model_names=[FOREST]), NotTrainedError),
        said_by(lambda: new_service(FOREST, settings).load(), ModelNotFoundError),
        *(f"{one.json()['detail']} {one.json()['remedy']}" for one in answers),
        problem_told,
    ]
    for one in said:
        assert "version 1 is archived" in one, one
        assert remedy in one, one
    told = said_by(lambda: tracking.rollback(FOREST), ModelNotFoundError)
    assert "1 (Archived)" in told
    assert remedy in told

    # It is no lie.
    tracking.transition_model_stage(FOREST, 1, "Production")
    service.refresh()
    assert served(service) == {FOREST: 1}
    assert problem(service) is None


def test_the_version_to_bring_back_is_the_last_in_production_that_was_not_rolled_back(
    settings, make, promote
):
    versions = [make(FOREST, n_rows) for n_rows in (100, 120, 130, 140)]
    assert versions == [1, 2, 3, 4]
    for version in (1, 2, 3):
        promote(FOREST, version)
    MLflowService(settings).rollback(FOREST)
    archive(settings, 2, 3, 4)
    said = said_by(lambda: MLflowService(settings).load_model(FOREST), ModelNotFoundError)
    assert "all 4 versions are archived, the newest is 4" in said
    assert f"`vigie models promote {FOREST} 2`" in said
    said = said_by(lambda: MLflowService(settings).load_model(FOREST, "Staging"), LookupError)
    assert f"`vigie models promote {FOREST} 2 --stage Staging`" in said


def test_a_model_that_is_named_and_archived_is_told_apart_from_one_that_is_not_there(
    settings, make, following
):
    archive(settings, 1)
    following.refresh()
    assert served(following) == {SVM: 1}
    assert problem(following, "lstm_autoencoder") is None
    said = said_by(lambda: following.stream(SENSORS, model_names=[FOREST]), NotTrainedError)
    assert f"`vigie models promote {FOREST} 1`" in said
    said = said_by(
        lambda: following.stream(SENSORS, model_names=["lstm_autoencoder"]), NotTrainedError
    )
    assert "promote" not in said
    assert "vigie train" in said


def test_a_version_that_stops_serving_is_logged_once_with_what_to_do(settings, following, caplog):
    archive(settings, 1)
    for _ in range(3):
        following.refresh()
    [said] = [one.getMessage() for one in caplog.records if "stopped serving" in one.getMessage()]
    assert "version 1 is archived" in said
    assert f"`vigie models promote {FOREST} 1`" in said


def test_a_version_in_staging_serves_and_a_name_without_versions_has_none(settings, make):
    MLflowService(settings).transition_model_stage(FOREST, make(FOREST), "Staging")
    MLflowService(settings).server.client.create_registered_model(SVM)
    service = AnomalyDetectionService(settings)
    service.refresh()
    assert served(service) == {FOREST: 1}
    assert problem(service, SVM) is None
    said = said_by(lambda: MLflowService(settings).load_model(SVM), ModelNotFoundError)
    assert "Existing versions: none. Train" in said
    archive(settings, 1)
    said = said_by(lambda: MLflowService(settings).rollback(SVM), ModelNotFoundError)
    assert "Existing versions: none. Train" in said


def test_the_doctor_names_each_model_that_does_not_serve_and_asks_on(
    settings, make, promote, tmp_path
):
    for name in (FOREST, SVM):
        promote(name, make(name))
    assert make(SVM, 120) == 2
    archive(settings, 2, name=SVM)
    archive(settings, 1)
    MLflowService(settings).server.client.create_registered_model("lstm_autoencoder")
    # Nor does a folder that is none hold it up.
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "models").write_text("no folder")
    checks = {
        check.question: check
        for check in examine(settings.model_copy(update={"state_dir": tmp_path / "other"}))
    }
    archived = checks[f"Versions of {FOREST}?"]
    assert not archived.passed
    assert "version 1 is archived" in archived.finding
    assert f"`vigie models promote {FOREST} 1`" in archived.remedy
    good = checks[f"Versions of {SVM}?"]
    assert good.passed
    assert "2 versions, the newest is 2; version 1 is in Production" in good.finding
    for name in ("vector_autoregression", "lstm_autoencoder"):
        missing = checks[f"Versions of {name}?"]
        assert missing.passed is None
        assert f"vigie train FILE --model {name}" in missing.finding
    assert f"Artifacts of {SVM} version 1 readable?" in checks


def test_the_doctor_names_the_version_that_serves_where_the_newest_is_archived(settings, make):
    assert [make(SVM), make(SVM, 120)] == [1, 2]
    archive(settings, 2, name=SVM)
    [check] = [one for one in examine(settings) if one.question == f"Versions of {SVM}?"]
    assert check.passed
    assert "none is in Production, so version 1 serves" in check.finding
    assert f"vigie models promote {SVM} 1" in check.finding
