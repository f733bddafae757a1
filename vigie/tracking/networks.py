"""Exported networks: the graph is traced once for each shape, and each training fills in weights.

Tracing takes seconds, blocks all other threads, and its result does not depend on the weights. So
the folder that MLflow writes for a network is cached, and each training puts its own weights,
examples and run into a copy.

References
----------
PyTorch. PT2 archive specification. The archive stores each weight as plain bytes, by name.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import platform
import shutil
import tempfile
import uuid
import zipfile
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from vigie.detectors.base import Floats
from vigie.detectors.trained import TrainedModel
from vigie.errors import InvalidDataError
from vigie.state import require_writable

ARCHIVE = Path("data", "model.pt2")
WEIGHTS = "data/weights/model_weights_config.json"


def traced(model: TrainedModel, requirements: list[str], cache: Path) -> Path:
    """Return the folder of a traced network of this shape, from the cache if it is there.

    Do not call this while another network of the process is training: tracing patches the calls
    of PyTorch modules, and makes that training many times slower.

    Parameters
    ----------
    model : TrainedModel
        Just fitted, so that it still has its network.
    requirements : list of str
        The packages that a process needs to open it.
    cache : Path
        The cache folder; if it is not writable, a temporary one of this process is used.
    """
    shapes = {name: list(values.shape) for name, values in model.estimator.state_dict().items()}
    code = inspect.getsource(inspect.getmodule(model.estimator) or type(model.estimator))
    libraries = [platform.python_version(), version("torch"), version("mlflow-skinny")]
    facts = json.dumps([shapes, model.window, code, libraries, requirements])
    shape = hashlib.sha256(facts.encode()).hexdigest()[:32]
    if not (cache / shape).is_dir():
        try:
            require_writable(cache)
        except InvalidDataError:
            cache = Path(_temporary_cache().name)
    if (folder := cache / shape).is_dir():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="new-", dir=cache) as scratch:
        fresh = Path(scratch) / "network"
        _trace(model, requirements, fresh)
        # Fails if another process was faster; its result is the same.
        with suppress(OSError):
            fresh.rename(folder)
    return folder


def fill(traced: Path, model: TrainedModel, example: Floats, folder: Path, run_id: str) -> None:
    """Write a copy of a traced network's folder, with the weights of a training.

    Parameters
    ----------
    traced : Path
        The folder of a traced network of this shape.
    model : TrainedModel
        Just fitted.
    example : ndarray of shape (n_windows, window, n_features)
        The input example.
    folder : Path
        Must not exist yet; its name becomes the artifact path.
    run_id : str
        The run that the model belongs to.
    """
    from mlflow.models import Model, convert_input_example_to_serving_input

    shutil.copytree(traced, folder, ignore=shutil.ignore_patterns(ARCHIVE.name))
    _fill_archive(traced / ARCHIVE, model.estimator.state_dict(), folder / ARCHIVE)
    described = Model.load(str(folder))
    described.run_id, described.artifact_path = run_id, folder.name
    described.model_uuid = uuid.uuid4().hex
    described.utc_time_created = str(datetime.now(UTC).replace(tzinfo=None))
    described.save(str(folder / "MLmodel"))
    examples = described.saved_input_example_info
    (folder / examples["artifact_path"]).write_text(json.dumps(example.tolist()))
    serving_example = convert_input_example_to_serving_input(example)
    (folder / examples["serving_input_path"]).write_text(str(serving_example))


@cache
def _temporary_cache() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="vigie-networks-")


def _trace(model: TrainedModel, requirements: list[str], folder: Path) -> None:
    import mlflow.pytorch
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    # With one window, PyTorch would fix the batch size at 1.
    example = np.zeros((2, model.window, model.n_features))
    mlflow.pytorch.save_model(
        model.estimator,
        folder,
        serialization_format="pt2",
        signature=ModelSignature(
            Schema([TensorSpec(np.dtype(np.float64), (-1, *example.shape[1:]))]),
            Schema([TensorSpec(np.dtype(np.float64), (-1,))]),
        ),
        input_example=example,
        pip_requirements=requirements,
    )
    shutil.rmtree(folder / "__pycache__", ignore_errors=True)


def _fill_archive(traced: Path, weights: dict[str, Any], filled: Path) -> None:
    with zipfile.ZipFile(traced) as old, zipfile.ZipFile(filled, "w") as new:
        root = PurePosixPath(old.namelist()[0]).parts[0]
        entries = json.loads(old.read(f"{root}/{WEIGHTS}"))["config"].items()
        parent = PurePosixPath(root, WEIGHTS).parent
        names = {str(parent / entry["path_name"]): name for name, entry in entries}
        for record in old.infolist():
            name = names.get(record.filename)
            content = old.read(record) if name is None else weights[name].numpy().tobytes()
            new.writestr(record, content)
