"""What a training leaves: one run with parameters, metrics, figures and model, and one version."""

from __future__ import annotations

import json
import logging
import os
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vigie.detectors.base import Floats
from vigie.detectors.data.quality import DataQuality
from vigie.detectors.trained import TrainedModel
from vigie.errors import (
    ConflictError,
    OutboxError,
    TrackingError,
    TrackingUnavailableError,
)
from vigie.registry import lookup, stages
from vigie.registry.server import Server
from vigie.registry.version import ASKED, SERVING
from vigie.tracking import artifacts, outbox
from vigie.tracking.active_runs import OpenRun
from vigie.tracking.figure_data import FigureData
from vigie.tracking.flavors import write_model
from vigie.tracking.outbox import Entry
from vigie.tracking.records import ManualValues, RunRef, TrainingEntry

if TYPE_CHECKING:
    from mlflow.entities import Experiment

logger = logging.getLogger(__name__)

ENTRY = "vigie.training"
"""The tag by which a run and a version are known as those of an entry."""
OPENED = "vigie.opened"
"""The tag of a run that a program has opened by hand; a training may go into it."""
FIGURE_DATA = "figures.npz"
EXAMPLE_ROWS = 64
LATEST_S = 120.0
"""How long after we have hung up a server may still carry a request out."""
METRICS_AT_ONCE = 800
MOVES_TIMES = 5
NUMBER_TAKEN, REGISTERS_TIMES = "Model Version creation error", 5
"""What MLflow says if others have thrice taken the number for a version, and what we do then."""


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
    stage : str or None
        The stage that the version is to be moved to.
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
    stage: str | None
    started_ms: int
    ended_ms: int

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
    folder: Path,
    name: str,
) -> TrainingEntry:
    """Write the files of a training into the folder of an entry, and return its record.

    Parameters
    ----------
    record : TrainingRecord
        What to write.
    experiment : str
        Name of the experiment that the run goes to.
    parent : OpenRun or None
        The run that the caller has open. The first training goes into it, later ones into
        runs nested in it.
    graphs : Path
        Where traced networks are kept.
    server_address : str
        Where the open run is, without a password.
    folder : Path
        The entry's.
    name : str
        The entry's. The model's files have it in place of the run's id, which is not known yet.
    """
    files = folder / outbox.ARTIFACTS
    files.mkdir()
    if record.quality is not None:
        quality = json.dumps(record.quality.as_dict(), indent=2)
        (files / "data_quality.json").write_text(quality)
    content_hash = write_model(
        record.model, record.X[:EXAMPLE_ROWS], files / record.artifact_path, name, graphs
    )
    FigureData.of(record.model, record.X, record.scores).save(folder / FIGURE_DATA)
    goes_into = None
    if parent is not None:
        goes_into = parent.ref(is_free=not parent.holds_training)
        parent.holds_training = True
    return TrainingEntry(
        experiment=experiment,
        run_name=record.run_name,
        model_name=record.model_name,
        artifact_path=record.artifact_path,
        parent=goes_into,
        params={key: str(value) for key, value in record.params.items()},
        metrics=_metrics(record),
        tags=dict(record.tags),
        origin=origin(),
        server=server_address,
        content_hash=content_hash,
        started_ms=record.started_ms,
        ended_ms=record.ended_ms,
        stage=record.stage,
    )


def send(
    server: Server,
    entry: Entry,
    training: TrainingEntry,
    registered: Callable[[int, OpenRun], None],
) -> None:
    """Bring the server to have all of an entry, whatever it has of it already.

    What creates something is asked for first, by the entry's name, which the run and the version
    carry as a tag; everything else can be said twice.

    Parameters
    ----------
    server : Server
        Where to.
    entry : Entry
        Held by the caller.
    training : TrainingEntry
        Its record.
    registered : callable
        Told version and run as soon as there are; the run's figures follow.

    Raises
    ------
    TrackingError
        If the server cannot be reached or refuses.
    OutboxError
        If the entry cannot be read.
    """
    # All of it, before the server hears of any of it.
    path = training.artifact_path
    entry.check()
    if not _described(entry, path).is_file():
        raise OutboxError(
            f"The outbox's entry {entry.name} lacks MLmodel.",
            remedy="Train again, and delete this entry.",
        )
    run, is_ours = _run_of(server, entry, training)
    for batch in batches(training):
        server.call(server.client.log_batch, run.run_id, **batch)
    name_run(entry, path, run)
    artifacts.upload(server, run.run_id, entry.artifacts)
    tags = {"vigie.card_sha256": training.content_hash, **training.tags}
    if training.stage:
        tags[ASKED] = str(training.ended_ms)
    version = version_of(server, entry, training.model_name, path, run, tags)
    if training.stage:
        _move(server, training, version, training.stage)
    if is_ours:
        server.call(
            server.client.set_terminated,
            run.run_id,
            status="FINISHED",
            end_time=training.ended_ms,
        )
    registered(version, run)
    _send_figures(server, entry, path, run)


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


def find_run(server: Server, experiment: str, tag: str, name: str) -> str | None:
    """Return the id of the run in an experiment that bears an entry's name, if there is one."""
    from mlflow.entities import ViewType

    # Deleted ones too: what somebody has deleted shall not come back.
    known = server.call(
        server.client.search_runs, [experiment], f"tags.`{tag}` = '{name}'", ViewType.ALL, 1
    )
    return str(known[0].info.run_id) if known else None


def run_of_entry(server: Server, experiment: str, run: RunRef) -> OpenRun:
    """Return a run that the outbox speaks of.

    Raises
    ------
    TrackingError
        If the server does not have it yet.
    """
    if run.run_id:
        return OpenRun(server.uri, run.experiment_id, run.run_id)
    where = experiment_id(server, experiment)
    run_id = find_run(server, where, OPENED, str(run.entry))
    if run_id is None:
        raise TrackingError(
            "The run that it belongs to has not been sent yet.", remedy="`vigie sync` sends both."
        )
    return OpenRun(server.uri, where, run_id)


def _described(entry: Entry, artifact_path: str) -> Path:
    return entry.artifacts / artifact_path / "MLmodel"


def _run_of(server: Server, entry: Entry, training: TrainingEntry) -> tuple[OpenRun, bool]:
    """Return the run of an entry, made if there is none, and whether it is ours to end."""
    call, client, above = server.call, server.client, training.parent
    parent = None
    # What was open on another server is unknown to this one.
    if above and (above.entry or training.server == server.masked_uri):
        parent = run_of_entry(server, training.experiment, above)
    where = parent.experiment_id if parent else experiment_id(server, training.experiment)
    if (known := find_run(server, where, ENTRY, entry.name)) is not None:
        return OpenRun(server.uri, where, known), not parent or known != parent.run_id
    tags = {**training.origin, **training.tags, ENTRY: entry.name}
    if parent and above and above.is_free:
        logged = call(client.get_run, parent.run_id).data.params
        # A parameter once logged cannot change, so what the caller logged by hand stands.
        if all(logged.get(name, value) == value for name, value in training.params.items()):
            call(client.set_tag, parent.run_id, ENTRY, entry.name)
            return OpenRun(server.uri, where, parent.run_id, True), False
    if parent:
        tags["mlflow.parentRunId"] = parent.run_id
    with once(entry, "run"):
        created = call(
            client.create_run,
            where,
            start_time=training.started_ms,
            tags=tags,
            run_name=training.run_name,
        )
    return OpenRun(server.uri, where, created.info.run_id), True


def batches(logged: TrainingEntry | ManualValues) -> Iterator[dict[str, Any]]:
    """Yield what to log, in pieces that the server takes at once."""
    from mlflow.entities import Metric, Param, RunTag

    metrics = [Metric(*metric) for metric in logged.metrics]
    yield {
        "metrics": metrics[:METRICS_AT_ONCE],
        "params": [Param(name, value) for name, value in logged.params.items()],
        "tags": [RunTag(name, value) for name, value in logged.tags.items()],
    }
    for start in range(METRICS_AT_ONCE, len(metrics), METRICS_AT_ONCE):
        yield {"metrics": metrics[start : start + METRICS_AT_ONCE]}


def name_run(entry: Entry, artifact_path: str, run: OpenRun) -> None:
    """Give the run's id to the model's description, which was written before there was one."""
    described = _described(entry, artifact_path)
    text = described.read_text(encoding="utf-8").replace(entry.name, run.run_id)
    draft = entry.folder / "MLmodel"
    draft.write_text(text, encoding="utf-8")
    os.replace(draft, described)


def version_of(
    server: Server,
    entry: Entry,
    name: str,
    artifact_path: str,
    run: OpenRun,
    tags: Mapping[str, str],
) -> int:
    """Return the version of a registered model that an entry has made, or is making now."""
    made = server.call(server.client.search_model_versions, f"run_id = '{run.run_id}'")
    for version in made:
        if version.name == name and version.tags.get(ENTRY) == entry.name:
            return int(version.version)
    source = f"runs:/{run.run_id}/{artifact_path}"
    with once(entry, "version"):
        return _register(server, name, source, run.run_id, {**tags, ENTRY: entry.name})


def _register(server: Server, name: str, source: str, run_id: str, tags: Mapping[str, str]) -> int:
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
    for left in reversed(range(REGISTERS_TIMES)):
        try:
            created = server.call(
                client.create_model_version,
                name,
                source,
                run_id=run_id,
                tags=dict(tags),
                await_creation_for=0,
            )
            return int(created.version)
        except TrackingError as error:
            if NUMBER_TAKEN not in error.message or not left:
                raise
            # Nothing has been made, so this makes nothing twice.
            time.sleep(random.uniform(0.0, 0.3))
    raise AssertionError


def _move(server: Server, training: TrainingEntry, version: int, stage: str) -> None:
    """Move a new version to the stage asked for, unless somebody has decided otherwise since."""
    name, asked_ms = training.model_name, training.ended_ms
    for left in reversed(range(MOVES_TIMES)):
        there = [one for one in lookup.versions(server, name) if one.stage == stage]
        if any(one.version == version for one in there):
            return
        if later := [one for one in there if one.decided_ms > asked_ms]:
            logger.warning(
                "Version %d of '%s' does not go to %s: that version %d is there was decided after "
                "its training.",
                version,
                name,
                stage,
                later[0].version,
            )
            return
        try:
            stages.move(server, name, version, stage, asked_ms)
            return
        except ConflictError as error:
            # Whoever was faster may have been asked earlier.
            if not left:
                logger.warning("%s", error)


@contextmanager
def once(entry: Entry, what: str) -> Iterator[None]:
    """Create what was looked for and not found, unless the server may still be about to create it.

    A request that nobody waits for any more, for it took too long or who waited was killed, is
    carried out all the same once the server can.
    """
    asked = mark(entry.folder, what)
    if asked.exists() and (left := LATEST_S - (time.time() - asked.stat().st_mtime)) > 0:
        raise TrackingError(
            f"The server may still carry out a request that it has not answered; {left:.0f} s are "
            "waited before it is made again.",
            remedy="Run `vigie sync` then, or leave it to the service.",
        )
    asked.touch()
    hangs = False
    try:
        yield
    except TrackingUnavailableError as error:
        hangs = error.timed_out
        raise
    finally:
        if not hangs:
            asked.unlink(missing_ok=True)


def mark(folder: Path, what: str) -> Path:
    """Return the file in an entry's folder that says that the server was asked to create this."""
    return folder / f"{outbox.UNANSWERED}-{what}"


def origin() -> dict[str, str]:
    """Return the tags by which MLflow says who has run what, from where."""
    from mlflow.tracking.context.registry import resolve_tags

    return dict(resolve_tags())


def _send_figures(server: Server, entry: Entry, path: str, run: OpenRun) -> None:
    """Add the figures of a training to its run, which may have ended."""
    # Matplotlib, which a process that only serves never needs.
    from vigie.tracking.figures import write_figures

    model = TrainedModel.load(entry.artifacts / path / SERVING)
    data = FigureData.load(entry.folder / FIGURE_DATA)
    with tempfile.TemporaryDirectory(prefix="vigie-") as scratch:
        write_figures(model, data, Path(scratch) / "figures")
        artifacts.upload(server, run.run_id, Path(scratch))


def _metrics(record: TrainingRecord) -> list[tuple[str, float, int, int]]:
    """Return names, values, times and steps of all metrics."""
    ended, epochs = record.ended_ms, record.model.loss_by_epoch
    metrics = [(name, float(value), ended, 0) for name, value in record.metrics.items()]
    for epoch, loss in enumerate(epochs):
        share = (epoch + 1) / len(epochs)
        at = round(record.started_ms + share * (ended - record.started_ms))
        metrics.append(("train_loss", float(loss), at, epoch + 1))
    return metrics
