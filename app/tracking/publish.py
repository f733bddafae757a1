"""What a training leaves: one run with parameters, metrics, figures and model, and one version."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.detectors.base import Floats
from app.detectors.data_quality import DataQuality
from app.detectors.trained import TrainedModel
from app.errors import TrackingError, TrackingUnavailableError
from app.tracking import runs
from app.tracking.flavors import write_model
from app.tracking.server import Server

if TYPE_CHECKING:
    from mlflow.entities import Experiment

EXAMPLE_ROWS = 64
METRICS_AT_ONCE = 800


@dataclass(frozen=True)
class TrainingRecord:
    """The facts of one training, all that a run is made from.

    Attributes
    ----------
    model_name : str
        Its name in the registry.
    model : TrainedModel
        With its estimator.
    X, scores : ndarray of shape (n_samples, n_features) and (n_samples,)
        The training rows and their scores.
    quality : DataQuality or None
        What was wrong with the rows as they came.
    params, metrics, tags : mapping
        As logged.
    started_ms, ended_ms : int
        Unix time in milliseconds.
    """

    model_name: str
    model: TrainedModel
    X: Floats = field(repr=False)
    scores: Floats = field(repr=False)
    quality: DataQuality | None
    params: Mapping[str, Any]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    started_ms: int
    ended_ms: int

    @property
    def run_name(self) -> str:
        return f"{self.model_name}_{len(self.X)}_samples"


def publish(
    server: Server,
    experiment: str,
    record: TrainingRecord,
    parent: runs.OpenRun | None,
    graphs: Path,
) -> tuple[int, runs.OpenRun]:
    """Write a training to the server, all but its figures.

    Parameters
    ----------
    server : Server
        Where to.
    experiment : str
        Name of the experiment, made if need be.
    record : TrainingRecord
        What to write.
    parent : OpenRun or None
        The run that the caller has open. The first training goes into it, later ones into
        runs nested in it.
    graphs : Path
        Where traced networks are kept.

    Returns
    -------
    version : int
        The new version of the registered model.
    run : OpenRun
        The run that holds the training.

    Raises
    ------
    TrackingError
        If the server cannot be reached or refuses.
    """
    run, is_ours = _run_for(server, experiment, record, parent)
    call, client = server.call, server.client
    try:
        for batch in _batches(record):
            call(client.log_batch, run.run_id, **batch)
        artifact_path = f"{record.model_name}_model"
        with tempfile.TemporaryDirectory(prefix="vigie-") as scratch:
            if record.quality is not None:
                quality = json.dumps(record.quality.as_dict(), indent=2)
                (Path(scratch) / "data_quality.json").write_text(quality)
            folder, sample = Path(scratch) / artifact_path, record.X[:EXAMPLE_ROWS]
            content_hash = write_model(record.model, sample, folder, run.run_id, graphs)
            call(client.log_artifacts, run.run_id, scratch)
        version = register(
            server,
            record.model_name,
            f"runs:/{run.run_id}/{artifact_path}",
            run.run_id,
            {"vigie.card_sha256": content_hash, **record.tags},
        )
    except TrackingError:
        if is_ours:
            # A server that has just failed may fail this too; what counts is the first reason.
            with suppress(TrackingError):
                _end(server, run, "FAILED", record.ended_ms)
        raise
    if is_ours:
        _end(server, run, "FINISHED", record.ended_ms)
    return version, run


def publish_figures(server: Server, record: TrainingRecord, run: runs.OpenRun) -> None:
    """Add the figures of a training to its run, which may have ended.

    Raises
    ------
    TrackingError
        If the server cannot be reached or refuses.
    """
    # Matplotlib, which a process that only serves never needs.
    from app.tracking.figures import write_figures

    with tempfile.TemporaryDirectory(prefix="vigie-") as scratch:
        write_figures(record.model, record.X, record.scores, Path(scratch) / "figures")
        server.call(server.client.log_artifacts, run.run_id, scratch)


def experiment_id(server: Server, name: str) -> str:
    """Return the id of an experiment, made if it does not exist.

    Raises
    ------
    TrackingError
        If it has been deleted, or the server does not answer.
    """
    client = server.client
    found: Experiment | None = server.call(client.get_experiment_by_name, name)
    if found is None:
        try:
            return str(server.call(client.create_experiment, name))
        except TrackingUnavailableError:
            raise
        except TrackingError:
            # Somebody else made it between our question and our call, or it cannot be made.
            found = server.call(client.get_experiment_by_name, name)
            if found is None:
                raise
    if found.lifecycle_stage != "active":
        raise TrackingError(
            f"The experiment '{name}' has been deleted.",
            field="MLFLOW_EXPERIMENT_NAME",
            remedy="Restore it (`mlflow experiments restore`), or set another name.",
        )
    return str(found.experiment_id)


def create_run(
    server: Server,
    experiment: str,
    name: str | None,
    parent: runs.OpenRun | None = None,
    started_ms: int | None = None,
    tags: Mapping[str, str] | None = None,
) -> runs.OpenRun:
    """Create a run, nested in ``parent`` where there is one."""
    from mlflow.tracking.context.registry import resolve_tags

    own = dict(tags or {})
    if parent is not None:
        own["mlflow.parentRunId"] = parent.run_id
    where = parent.experiment_id if parent is not None else experiment_id(server, experiment)
    created = server.call(
        server.client.create_run,
        where,
        start_time=started_ms,
        tags=resolve_tags(own),
        run_name=name,
    )
    return runs.OpenRun(server.uri, where, created.info.run_id)


def register(
    server: Server, name: str, source: str, run_id: str, tags: Mapping[str, str] | None = None
) -> int:
    """Create the next version of a registered model, and the model itself if need be."""
    from mlflow.exceptions import MlflowException

    client = server.client

    def ensure_model() -> None:
        try:
            client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise

    server.call(ensure_model)
    created = server.call(
        client.create_model_version,
        name,
        source,
        run_id=run_id,
        tags=dict(tags or {}),
        await_creation_for=0,
    )
    return int(created.version)


def _run_for(
    server: Server, experiment: str, record: TrainingRecord, parent: runs.OpenRun | None
) -> tuple[runs.OpenRun, bool]:
    """Return the run that a training goes into, and whether it is ours to end."""
    if parent is not None and not parent.holds_training:
        logged = server.call(server.client.get_run, parent.run_id).data.params
        # A parameter once logged cannot change, so what the caller logged by hand stands.
        if all(logged.get(name, str(value)) == str(value) for name, value in record.params.items()):
            parent.holds_training = True
            return parent, False
    name, started = record.run_name, record.started_ms
    return create_run(server, experiment, name, parent, started, record.tags), True


def _batches(record: TrainingRecord) -> Iterator[dict[str, Any]]:
    """Yield what to log, in pieces that the server takes at once."""
    from mlflow.entities import Metric, Param, RunTag

    ended, epochs = record.ended_ms, record.model.loss_by_epoch
    metrics = [Metric(name, float(value), ended, 0) for name, value in record.metrics.items()]
    for epoch, loss in enumerate(epochs):
        share = (epoch + 1) / len(epochs)
        at = round(record.started_ms + share * (ended - record.started_ms))
        metrics.append(Metric("train_loss", loss, at, epoch + 1))
    yield {
        "metrics": metrics[:METRICS_AT_ONCE],
        "params": [Param(name, str(value)) for name, value in record.params.items()],
        "tags": [RunTag(name, value) for name, value in record.tags.items()],
    }
    for start in range(METRICS_AT_ONCE, len(metrics), METRICS_AT_ONCE):
        yield {"metrics": metrics[start : start + METRICS_AT_ONCE]}


def _end(server: Server, run: runs.OpenRun, status: str, ended_ms: int) -> None:
    server.call(server.client.set_terminated, run.run_id, status=status, end_time=ended_ms)
