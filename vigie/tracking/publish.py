"""Publish a training: one run with parameters, metrics, figures and model, and one version."""

from __future__ import annotations

import json
import logging
import os
import random
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vigie.detectors import power
from vigie.detectors.base import Floats
from vigie.detectors.data.quality import DataQuality
from vigie.detectors.trained import TrainedModel
from vigie.errors import (
    ConflictError,
    ModelNotFoundError,
    OutboxError,
    TrackingError,
    TrackingRefusedError,
    TrackingUnavailableError,
)
from vigie.models.moves import Action
from vigie.registry import lookup, stages
from vigie.registry.history import Why
from vigie.registry.server import Server
from vigie.registry.version import ASKED, SERVING, TRAINED
from vigie.tracking import about, artifacts, outbox
from vigie.tracking.active_runs import OnRegistered, OpenRun
from vigie.tracking.figure_data import FigureData, Times
from vigie.tracking.flavors import write_model
from vigie.tracking.outbox import Entry
from vigie.tracking.records import ManualValues, RunRef, TrainingEntry

if TYPE_CHECKING:
    from mlflow.entities import Experiment

logger = logging.getLogger(__name__)

ENTRY = "vigie.training"
"""The tag of a run and a version that holds the name of their outbox entry."""
OPENED = "vigie.opened"
"""The same tag of a run that a program has opened; a training may go into it."""
FIGURE_DATA = "figures.npz"
EXAMPLE_ROWS = 64
LATEST_S = 120.0
"""How long after a timeout a server may still carry out the request, in seconds."""
METRICS_AT_ONCE = 800
MOVES_TIMES = 5
NUMBER_TAKEN, REGISTERS_TIMES = "Model Version creation error", 5
"""MLflow's message after it has lost the race for a version number three times, and how often we
retry then."""


@dataclass(frozen=True)
class TrainingRecord:
    """One training, with all that its run and its version are made from.

    Attributes
    ----------
    model_name : str
        Its name in the registry.
    model : TrainedModel
        With its estimator.
    X, scores : ndarray of shape (n_samples, n_features) and (n_samples,)
        The training rows and their scores.
    quality : DataQuality or None
        The faults of the rows as given.
    params, metrics, tags : mapping
        As logged.
    stage : str or None
        The stage to which the version is moved.
    started_ms, ended_ms : int
        Unix time in milliseconds.
    source : mapping or None
        What was understood of the file with the rows, as JSON-compatible values.
    times : ndarray of datetime64 of shape (n_samples,) or None
        When the rows were measured, in UTC.
    """

    model_name: str
    model: TrainedModel
    X: Floats = field(repr=False)
    scores: Floats = field(repr=False)
    quality: DataQuality | None
    params: Mapping[str, Any]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    stage: str | None
    started_ms: int
    ended_ms: int
    source: Mapping[str, Any] | None = None
    times: Times | None = field(default=None, repr=False)

    @property
    def run_name(self) -> str:
        return f"{self.model_name}_{len(self.X)}_samples"

    @property
    def artifact_path(self) -> str:
        return f"{self.model_name}_model"


def write(
    record: TrainingRecord,
    experiment: str,
    parent: OpenRun | None,
    graphs: Path,
    server_address: str,
    has_figures: bool,
    folder: Path,
    name: str,
) -> TrainingEntry:
    """Write the files of a training into the folder of an entry, and return the entry's record.

    Parameters
    ----------
    record : TrainingRecord
        The training.
    experiment : str
        Name of the experiment of the run.
    parent : OpenRun or None
        The open run of the caller. The first training goes into it, later ones into nested runs.
    graphs : Path
        The cache of traced networks.
    server_address : str
        The server of the open run, without a password.
    has_figures : bool
        Whether the run gets figures.
    folder : Path
        Of the entry.
    name : str
        Of the entry. The model's files hold it in place of the run id, which is not known yet.
    """
    files = folder / outbox.ARTIFACTS
    files.mkdir()
    if record.quality is not None:
        quality = json.dumps(record.quality.as_dict(), indent=2)
        (files / "data_quality.json").write_text(quality)
    if record.source is not None:
        source = json.dumps(record.source, indent=2, allow_nan=False)
        (files / "table.json").write_text(source)
    if steps := power.as_dict(record.model):
        (files / "power.json").write_text(json.dumps(steps, indent=2))
    content_hash = write_model(
        record.model, record.X[:EXAMPLE_ROWS], files / record.artifact_path, name, graphs
    )
    if has_figures:
        units = _units(record.source)
        data = FigureData.of(record.model, record.X, record.scores, units, record.times)
        data.save(folder / FIGURE_DATA)
    goes_into = None
    if parent is not None:
        goes_into = parent.ref(is_free=not parent.holds_training)
        parent.holds_training = True
    tags = origin()
    return TrainingEntry(
        experiment=experiment,
        run_name=record.run_name,
        model_name=record.model_name,
        artifact_path=record.artifact_path,
        parent=goes_into,
        params={key: str(value) for key, value in record.params.items()},
        metrics=_metrics(record),
        tags=dict(record.tags),
        origin=tags,
        server=server_address,
        content_hash=content_hash,
        started_ms=record.started_ms,
        ended_ms=record.ended_ms,
        stage=record.stage,
        description=about.of_version(record.model, record.source, record.ended_ms),
        dataset=about.dataset(record.model, record.source, tags),
    )


def send(
    server: Server,
    entry: Entry,
    training: TrainingEntry,
    on_registered: OnRegistered,
) -> None:
    """Send an entry to a server that may already have a part of it.

    The run and the version carry the entry's name as a tag, and are created only if no such run or
    version exists; all other requests are idempotent.

    Parameters
    ----------
    server : Server
        Where to send it.
    entry : Entry
        Locked by the caller.
    training : TrainingEntry
        Its record.
    on_registered : callable
        Called with version and run when both exist; the figures are uploaded after that.

    Raises
    ------
    TrackingError
        If the server cannot be reached or refuses.
    OutboxError
        If the entry cannot be read.
    """
    # Before anything is sent, so that the server never gets a part of a damaged entry.
    path = training.artifact_path
    entry.check()
    if not _description(entry, path).is_file():
        raise OutboxError(
            f"The outbox entry {entry.name} is damaged: MLmodel is missing.",
            remedy="Train again, and delete this entry.",
        )
    run, is_ours = _run_of(server, entry, training)
    for batch in batches(training):
        server.call(server.client.log_batch, run.run_id, **batch)
    _log_dataset(server, run, training)
    name_run(entry, path, run)
    artifacts.upload(server, run.run_id, entry.artifacts)
    ended = str(training.ended_ms)
    tags = {"vigie.card_sha256": training.content_hash, TRAINED: ended, **training.tags}
    if training.stage:
        tags[ASKED] = ended
    version = version_of(server, entry, training.model_name, path, run, tags, training.description)
    if training.stage:
        _move(server, training, version, training.stage)
    if is_ours:
        server.call(
            server.client.set_terminated,
            run.run_id,
            status="FINISHED",
            end_time=training.ended_ms,
        )
    on_registered(version, run)
    if (entry.folder / FIGURE_DATA).exists():
        _send_figures(server, entry, path, run)


def experiment_id(server: Server, name: str) -> str:
    """Return the id of an experiment, created if it does not exist.

    Raises
    ------
    TrackingError
        If it has been deleted, or the server does not answer.
    """
    client = server.client
    experiment: Experiment | None = server.call(client.get_experiment_by_name, name)
    if experiment is None:
        try:
            return str(server.call(client.create_experiment, name))
        except TrackingUnavailableError:
            raise
        except TrackingError:
            # Another process may have created it since the look-up.
            experiment = server.call(client.get_experiment_by_name, name)
            if experiment is None:
                raise
    if experiment.lifecycle_stage != "active":
        raise TrackingError(
            f"The experiment '{name}' has been deleted.",
            field="MLFLOW_EXPERIMENT_NAME",
            remedy="Restore it (`mlflow experiments restore`), or set another name.",
        )
    return str(experiment.experiment_id)


def find_run(server: Server, experiment: str, tag: str, name: str) -> str | None:
    """Return the id of the run whose tag holds an entry's name; None if there is none."""
    from mlflow.entities import ViewType

    # ViewType.ALL: a run that a user has deleted must not be created again.
    runs = server.call(
        server.client.search_runs, [experiment], f"tags.`{tag}` = '{name}'", ViewType.ALL, 1
    )
    return str(runs[0].info.run_id) if runs else None


def run_of_entry(server: Server, experiment: str, run: RunRef) -> OpenRun:
    """Return the run to which a reference points.

    Raises
    ------
    TrackingError
        If the server does not have it yet.
    """
    if run.run_id:
        return OpenRun(server.uri, run.experiment_id, run.run_id)
    parent_experiment = experiment_id(server, experiment)
    run_id = find_run(server, parent_experiment, OPENED, str(run.entry))
    if run_id is None:
        raise TrackingError(
            "The run that it belongs to has not been sent yet.", remedy="`vigie sync` sends both."
        )
    return OpenRun(server.uri, parent_experiment, run_id)


def _description(entry: Entry, artifact_path: str) -> Path:
    return entry.artifacts / artifact_path / "MLmodel"


def _run_of(server: Server, entry: Entry, training: TrainingEntry) -> tuple[OpenRun, bool]:
    """Return the run of an entry, created if there is none, and whether we must end it."""
    call, client, ref = server.call, server.client, training.parent
    parent = None
    # A run that was open on another server does not exist on this one.
    if ref and (ref.entry or training.server == server.masked_uri):
        parent = run_of_entry(server, training.experiment, ref)
    experiment = parent.experiment_id if parent else experiment_id(server, training.experiment)
    if (run_id := find_run(server, experiment, ENTRY, entry.name)) is not None:
        return OpenRun(server.uri, experiment, run_id), not parent or run_id != parent.run_id
    tags = {**training.origin, **training.tags, ENTRY: entry.name}
    if parent and ref and ref.is_free:
        logged = call(client.get_run, parent.run_id).data.params
        # MLflow does not let a logged parameter change, so a conflict needs a nested run.
        if all(logged.get(name, value) == value for name, value in training.params.items()):
            call(client.set_tag, parent.run_id, ENTRY, entry.name)
            return OpenRun(server.uri, experiment, parent.run_id, True), False
    if parent:
        tags["mlflow.parentRunId"] = parent.run_id
    with once(entry, "run"):
        created = call(
            client.create_run,
            experiment,
            start_time=training.started_ms,
            tags=tags,
            run_name=training.run_name,
        )
    return OpenRun(server.uri, experiment, created.info.run_id), True


def batches(record: TrainingEntry | ManualValues) -> Iterator[dict[str, Any]]:
    """Yield the arguments of ``log_batch``, in batches that the server accepts."""
    from mlflow.entities import Metric, Param, RunTag

    metrics = [Metric(*metric) for metric in record.metrics]
    yield {
        "metrics": metrics[:METRICS_AT_ONCE],
        "params": [Param(name, value) for name, value in record.params.items()],
        "tags": [RunTag(name, value) for name, value in record.tags.items()],
    }
    for start in range(METRICS_AT_ONCE, len(metrics), METRICS_AT_ONCE):
        yield {"metrics": metrics[start : start + METRICS_AT_ONCE]}


def _log_dataset(server: Server, run: OpenRun, training: TrainingEntry) -> None:
    """Log the training rows as an input of the run; logged again, the same dataset changes nothing.

    The dataset is no reason to hold a training back.
    """
    from mlflow.entities import Dataset, DatasetInput, InputTag

    if not training.dataset:
        return
    tags = [InputTag("mlflow.data.context", about.TRAINED_ON)]
    logged = [DatasetInput(Dataset(**training.dataset), tags)]
    try:
        server.call(server.client.log_inputs, run.run_id, logged)
    except TrackingRefusedError as error:
        logger.warning("The run of %s has no dataset. %s", training.what, error)


def name_run(entry: Entry, artifact_path: str, run: OpenRun) -> None:
    """Replace the entry's name in ``MLmodel``, which was written before the run, by the run id."""
    description = _description(entry, artifact_path)
    text = description.read_text(encoding="utf-8").replace(entry.name, run.run_id)
    draft = entry.folder / "MLmodel"
    draft.write_text(text, encoding="utf-8")
    os.replace(draft, description)


def version_of(
    server: Server,
    entry: Entry,
    name: str,
    artifact_path: str,
    run: OpenRun,
    tags: Mapping[str, str],
    description: str = "",
) -> int:
    """Return the version that belongs to an entry, created if there is none."""
    versions = server.call(server.client.search_model_versions, f"run_id = '{run.run_id}'")
    for version in versions:
        if version.name == name and version.tags.get(ENTRY) == entry.name:
            return int(version.version)
    source = f"runs:/{run.run_id}/{artifact_path}"
    with once(entry, "version"):
        tags = {**tags, ENTRY: entry.name}
        return _register(server, name, source, run.run_id, tags, description)


def _register(
    server: Server,
    name: str,
    source: str,
    run_id: str,
    tags: Mapping[str, str],
    description: str,
) -> int:
    """Create the next version of a registered model, and the model itself if necessary."""
    from mlflow.exceptions import MlflowException

    client = server.client

    def ensure_model() -> bool:
        """Return whether the model is new."""
        try:
            described = about.of_model(name) if description else None
            client.create_registered_model(name, description=described)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            return False
        return True

    is_new = server.call(ensure_model)
    for left in reversed(range(REGISTERS_TIMES)):
        try:
            created = server.call(
                client.create_model_version,
                name,
                source,
                run_id=run_id,
                tags=dict(tags),
                description=description or None,
                await_creation_for=0,
            )
            if description and not is_new:
                _describe(server, name)
            return int(created.version)
        except TrackingError as error:
            if NUMBER_TAKEN not in error.message or not left:
                raise
            # Nothing was created, so a retry is safe.
            time.sleep(random.uniform(0.0, 0.3))
    raise AssertionError


def _describe(server: Server, name: str) -> None:
    """Describe a registered model that has no description, if the server lets us."""
    client = server.client
    with suppress(TrackingError, ModelNotFoundError):
        if not server.call(client.get_registered_model, name).description:
            server.call(client.update_registered_model, name, about.of_model(name))


def _move(server: Server, training: TrainingEntry, version: int, stage: str) -> None:
    """Move a new version to the requested stage, unless a later request has filled that stage."""
    name, asked_ms = training.model_name, training.ended_ms
    why = Why(training.origin.get("mlflow.user"), action=Action.TRAINING)
    for left in reversed(range(MOVES_TIMES)):
        staged = [other for other in lookup.versions(server, name) if other.stage == stage]
        if any(other.version == version for other in staged):
            return
        if later := [other for other in staged if other.decided_ms > asked_ms]:
            logger.warning(
                "Version %d of '%s' is not moved to %s: version %d was moved there after its "
                "training.",
                version,
                name,
                stage,
                later[0].version,
            )
            return
        try:
            stages.move(server, name, version, stage, asked_ms, why)
            return
        except ConflictError as error:
            # The other move may have been requested earlier than ours; compare again.
            if not left:
                logger.warning("%s", error)


@contextmanager
def once(entry: Entry, what: str) -> Iterator[None]:
    """Guard a create request, unless an earlier one is unanswered.

    The server may still carry out a request whose client has timed out or was killed.
    """
    marker = mark(entry.folder, what)
    if marker.exists() and (left := LATEST_S - (time.time() - marker.stat().st_mtime)) > 0:
        raise TrackingError(
            "The server has not answered a request, and may still carry it out; retry in "
            f"{left:.0f} s.",
            remedy="Run `vigie sync` then, or leave it to the service.",
        )
    marker.touch()
    hangs = False
    try:
        yield
    except TrackingUnavailableError as error:
        hangs = error.timed_out
        raise
    finally:
        if not hangs:
            marker.unlink(missing_ok=True)


def mark(folder: Path, what: str) -> Path:
    """Return the file in an entry's folder that marks an unanswered create request."""
    return folder / f"{outbox.UNANSWERED}-{what}"


def origin() -> dict[str, str]:
    """Return MLflow's context tags: user, source and host."""
    from mlflow.tracking.context.registry import resolve_tags

    return dict(resolve_tags())


def _send_figures(server: Server, entry: Entry, path: str, run: OpenRun) -> None:
    """Add the figures of a training to its run, which may have ended."""
    # Imported here, since a process that only serves never needs Matplotlib.
    from vigie.tracking.figures import write_figures

    model = TrainedModel.load(entry.artifacts / path / SERVING)
    data = FigureData.load(entry.folder / FIGURE_DATA)
    with tempfile.TemporaryDirectory(prefix="vigie-") as scratch:
        write_figures(model, data, Path(scratch) / "figures")
        artifacts.upload(server, run.run_id, Path(scratch))


def _units(source: Mapping[str, Any] | None) -> dict[str, str]:
    """Return the units of the sensors, as far as they were read with the table."""
    columns = [] if source is None else source.get("columns", [])
    return {column["name"]: column["unit"] for column in columns if column.get("unit")}


def _metrics(record: TrainingRecord) -> list[tuple[str, float, int, int]]:
    """Return the name, value, time and step of all metrics."""
    ended, epochs = record.ended_ms, record.model.loss_by_epoch
    metrics = [(name, float(value), ended, 0) for name, value in record.metrics.items()]
    for epoch, loss in enumerate(epochs):
        share = (epoch + 1) / len(epochs)
        at = round(record.started_ms + share * (ended - record.started_ms))
        metrics.append(("train_loss", float(loss), at, epoch + 1))
    return metrics
