"""What somebody puts into the registry to be opened by us: refused by name, and nothing of it run.

Arrays and cards whose hashes are right but whose contents are forged stand in
``tests/contract/test_serving_form.py``.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from http_servers import listening

from vigie.config import Settings
from vigie.detectors.trained import ARRAYS, CARD, TrainedModel
from vigie.errors import ModelRefusedError, TrackingUnavailableError
from vigie.services.anomaly_detection_service import AnomalyDetectionService
from vigie.services.mlflow_service import MLflowService
from vigie.services.one_class_svm_service import OneClassSVMService

NAME = "one_class_svm"


class Canary:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path):
        self.path = str(path)

    def __reduce__(self) -> Any:
        return os.open, (self.path, os.O_CREAT | os.O_WRONLY)


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[Path]:
    """A file that is there at the end if anything of an attack was run."""
    path = tmp_path / "canary"
    yield path
    assert not path.exists(), "something of it was run"


@pytest.fixture
def registered(tracked: Settings) -> Callable[..., int]:
    """Put a folder into the registry as a version, as anybody can who reaches the server."""
    client = MLflowService(tracked).server.client

    def register(folder: Path, tags: dict[str, str] | None = None) -> int:
        where = client.create_experiment(f"{tracked.mlflow_experiment_name}-{folder.name}")
        run = client.create_run(where)
        client.log_artifacts(run.info.run_id, str(folder), "model")
        client.create_registered_model(NAME)
        source = f"runs:/{run.info.run_id}/model"
        return int(client.create_model_version(NAME, source, run.info.run_id, tags=tags).version)

    return register


def mlmodel(folder: Path, **flavors: Any) -> None:
    (folder / "MLmodel").write_text(yaml.safe_dump({"flavors": flavors, "model_uuid": "0" * 32}))


def pickled(folder: Path, canary: Path) -> None:
    (folder / "model.pkl").write_bytes(pickle.dumps(Canary(canary)))
    sklearn = {"pickled_model": "model.pkl", "serialization_format": "pickle"}
    mlmodel(folder, sklearn={**sklearn, "sklearn_version": "1.9.1"})


def trusted_by_itself(folder: Path, canary: Path) -> None:
    """A skops file whose own MLmodel names its types as trusted, which MLflow believes."""
    schema = {
        "__class__": "Canary",
        "__module__": "test_safe_to_open",
        "__loader__": "ReduceNode",
        "__reduce__": {"args": [str(canary)]},
    }
    with zipfile.ZipFile(folder / "model.skops", "w") as archive:
        archive.writestr("schema.json", json.dumps(schema))
    sklearn = {"pickled_model": "model.skops", "serialization_format": "skops"}
    mlmodel(folder, sklearn={**sklearn, "skops_trusted_types": ["test_safe_to_open.Canary"]})


def loaded_by_a_module_of_its_own(folder: Path, canary: Path) -> None:
    (folder / "code").mkdir()
    evil = f"open({str(canary)!r}, 'w').close()\ndef _load_pyfunc(path): return None\n"
    (folder / "code" / "evil.py").write_text(evil)
    mlmodel(folder, python_function={"loader_module": "evil", "code": "code"})


def pickled_weights(folder: Path, canary: Path) -> None:
    """A torch archive whose weights are a pickle."""
    (folder / "data").mkdir()
    with zipfile.ZipFile(folder / "data" / "model.pth", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Canary(canary)))
    mlmodel(folder, pytorch={"model_data": "data", "pytorch_version": "2.13.0"})


ATTACKS = (pickled, trusted_by_itself, loaded_by_a_module_of_its_own, pickled_weights)


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("tag", [None, "0" * 64])
def test_code_in_the_registry_is_not_run(attack, tag, registered, tracked, canary, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    attack(folder, canary)
    version = registered(folder, {"vigie.card_sha256": tag} if tag else None)

    said = "allow_pickle" if tag is None else "cannot be read"
    with pytest.raises(ModelRefusedError, match=said):
        MLflowService(tracked).load_model(NAME, version=version)
    service = AnomalyDetectionService(tracked)
    assert not service.is_ready()
    assert said in service.get_model_status()[NAME]["problem"]


@pytest.fixture
def form(untracked: Settings, healthy: np.ndarray, tmp_path: Path) -> Path:
    """A good serving form in a folder as the registry holds it."""
    service = OneClassSVMService(settings=untracked)
    service.train(healthy)
    assert service.served is not None
    service.served.model.save(tmp_path / "good" / "serving")
    return tmp_path / "good"


def tag_of(folder: Path) -> dict[str, str]:
    card = (folder / "serving" / CARD).read_bytes()
    return {"vigie.card_sha256": hashlib.sha256(card).hexdigest()}


def test_code_beside_a_good_serving_form_is_left_where_it_is(form, registered, tracked, canary):
    pickled(form, canary)
    pickled(form / "serving", canary)
    version = registered(form, tag_of(form))
    model = MLflowService(tracked).load_model(NAME, version=version)
    assert isinstance(model, TrainedModel)
    assert not list(tracked.state_dir.rglob("*.pkl"))


@pytest.mark.parametrize(
    "tag",
    [
        "/../../../../../",
        "../../../../../x",
        "0" * 63 + "/",
        "0" * 65,
        "",
        "..",
        "A" * 16,
        "\0" * 64,
    ],
)
def test_a_hash_that_is_a_path_leads_nowhere(tag, form, registered, tracked):
    before = set(tracked.state_dir.parent.rglob("*"))
    version = registered(form, {"vigie.card_sha256": tag} if tag else {})
    with pytest.raises(ModelRefusedError):
        MLflowService(tracked).load_model(NAME, version=version)
    made = {path for path in set(tracked.state_dir.parent.rglob("*")) - before if path.is_file()}
    assert all("models" not in path.parts for path in made)


def test_another_models_card_is_refused(form, registered, tracked, untracked, healthy, tmp_path):
    other = OneClassSVMService(settings=untracked)
    other.train(healthy[:200])
    other.served.model.save(tmp_path / "other" / "serving")
    version = registered(form, tag_of(tmp_path / "other"))
    with pytest.raises(ModelRefusedError, match="not the one registered"):
        MLflowService(tracked).load_model(NAME, version=version)


def test_arrays_of_another_model_are_refused(
    form, registered, tracked, untracked, healthy, tmp_path
):
    other = OneClassSVMService(settings=untracked)
    other.train(healthy[:200])
    other.served.model.save(tmp_path / "other" / "serving")
    shutil.copy(tmp_path / "other" / "serving" / ARRAYS, form / "serving" / ARRAYS)
    version = registered(form, tag_of(form))
    with pytest.raises(ModelRefusedError, match=ARRAYS):
        MLflowService(tracked).load_model(NAME, version=version)


@pytest.mark.parametrize("file", [CARD, ARRAYS])
def test_a_file_larger_than_any_model_is_not_read(file, form):
    # With a hole in it: it takes no room on the disk, and would take all memory.
    with (form / "serving" / file).open("r+b") as sparse:
        sparse.truncate(1 << 40)
    with pytest.raises(ModelRefusedError, match="more than any model"):
        TrainedModel.load(form / "serving")


class _Bomb(BaseHTTPRequestHandler):
    """Answers every question about a registry, and hands out zeros packed a thousandfold."""

    packed = gzip.compress(bytes(4 << 20))

    def do_GET(self) -> None:
        version = {
            "name": NAME, "version": "1", "current_stage": "Production", "run_id": "0" * 32,
            "creation_timestamp": 1, "last_updated_timestamp": 1, "source": "", "status": "READY",
            "tags": [{"key": "vigie.card_sha256", "value": "0" * 64}],
        }  # fmt: skip
        answers = {
            "registered-models/get": {"registered_model": {"name": NAME}},
            "search": {"model_versions": [version]},
            "get-download-uri": {"artifact_uri": "mlflow-artifacts:/1/model"},
        }
        found = next((a for part, a in answers.items() if part in self.path), {})
        body, is_file = json.dumps(found).encode(), "mlflow-artifacts" in self.path
        self.send_response(200)
        if is_file:
            self.send_header("Content-Encoding", "gzip")
            body = self.packed
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        """Keep quiet."""


def test_a_bomb_is_not_unpacked(untracked):
    with listening(ThreadingHTTPServer(("127.0.0.1", 0), _Bomb)) as server:
        uri = f"http://127.0.0.1:{server.server_port}"
        settings = untracked.model_copy(update={"mlflow_enabled": True, "mlflow_tracking_uri": uri})
        with pytest.raises(TrackingUnavailableError, match="compressed"):
            MLflowService(settings).load_model(NAME)
    assert sum(f.stat().st_size for f in settings.state_dir.rglob("*") if f.is_file()) == 0


@pytest.mark.parametrize(
    "card",
    [
        "[" * 100_000,
        "{}",
        "[]",
        "null",
        '"card"',
        "1e999",
        '{"format": 3, "algorithm": ["one_class_svm"]}',
        '{"format": 3, "algorithm": "one_class_svm", "arrays_sha256": 1}',
    ],
)
def test_a_card_that_is_none_is_refused(card, form):
    (form / "serving" / CARD).write_text(card)
    with pytest.raises(ModelRefusedError):
        TrainedModel.load(form / "serving")


def test_a_header_that_lies_about_the_sizes_is_refused(form):
    arrays = (1 << 62).to_bytes(8, "little") + b"{}"
    card = json.loads((form / "serving" / CARD).read_text())
    card["arrays_sha256"] = hashlib.sha256(arrays).hexdigest()
    (form / "serving" / CARD).write_text(json.dumps(card))
    (form / "serving" / ARRAYS).write_bytes(arrays)
    with pytest.raises(ModelRefusedError):
        TrainedModel.load(form / "serving")
