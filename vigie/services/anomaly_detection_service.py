"""The three detectors together: which versions serve, and one verdict for a reading."""

from __future__ import annotations

import logging
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from vigie.assessment.assessment import Assessment
from vigie.assessment.stream import Stream
from vigie.assessment.timeline import Times
from vigie.config import Settings
from vigie.detectors.base import Progress, untold
from vigie.detectors.catalogue import algorithms, warm_up
from vigie.detectors.data.matrices import training_table
from vigie.errors import (
    ConflictError,
    HistoryError,
    InvalidDataError,
    NotTrainedError,
)
from vigie.models.anomaly_data import AnomalyDetectionRequest, AnomalyDetectionResult
from vigie.registry.cache import keep
from vigie.registry.version import Version
from vigie.services.detection import Detection
from vigie.services.detector_service import DetectorService, checked_names, new_service
from vigie.services.mlflow_service import MLflowService
from vigie.services.training_process import Outcome, Result, TrainingProcess, train_each
from vigie.serving.follower import RegistryFollower
from vigie.serving.served import EVERYTHING, ModelKey, ServedModels, Snapshot
from vigie.state import require_writable
from vigie.tracking.sync import sync_apart

logger = logging.getLogger(__name__)

SENT_BY_ITSELF_S, SYNC_EVERY_S = 15.0, 60.0
"""How old a training in the journal is before the service sends it, and how often it tries."""
WARN_EVERY_S = 3600.0
"""How often the service says that much, or old records, wait in the journal."""
REFUSED_FOR_S = 60.0
"""How long a version that was refused is not fetched again; another one is at once."""
TURNS_OF_A_SERVER = 4
"""Assets whose readings a database server writes at once; SQLite has one turn for all."""
REMEMBERED_EVERY = timedelta(minutes=1)
"""How old what is kept for the next start may become while nothing changes."""


class AnomalyDetectionService:
    """Train the detectors, serve their versions, and judge readings by all of them.

    For each detector the newest version in Production serves; where none is promoted, the
    newest of all; where there is no registry (tracking disabled), what this process has trained or
    loaded last; where it is away, what served last. The registry is first asked when the first
    question comes; a service that is to be ready before that calls ``start``.

    Parameters
    ----------
    settings : Settings, optional
        By default read from the environment and ``.env``.
    """

    def __init__(self, settings: Settings | None = None):
        self.settings = settings or Settings()
        self.mlflow_service = MLflowService(self.settings)
        self.served = ServedModels(self.settings)
        self.registry = RegistryFollower(
            self.settings,
            self.mlflow_service.server,
            self.served,
            lambda: bool(self.mlflow_service.journal.waiting()),
        )
        self._training = threading.Lock()
        self._detection = Detection(self.settings)
        self._training_process: TrainingProcess | None = None
        self._stopped = False
        self._sync: subprocess.Popen[str] | None = None
        self._sync_after = 0.0
        self._warn_after = 0.0

    def train_all_models(
        self,
        X: Any,
        feature_names: Sequence[Any] | None = None,
        model_names: Sequence[str] | None = None,
        *,
        stage: str | None = None,
        progress: Progress = untold,
    ) -> dict[str, dict[str, Any]]:
        """Train detectors on healthy rows; one that fails does not stop the others.

        Parameters
        ----------
        X : array-like or DataFrame of shape (n_samples, n_features)
            Readings of healthy operation, in time order.
        feature_names : sequence of str, optional
            Names of the columns; a DataFrame brings its own.
        model_names : sequence of str, optional
            Registered names of the detectors to train; by default all.
        stage : {'Staging', 'Production'}, optional
            The stage that each version is moved to as soon as it is there, be that later.
        progress : callable, optional
            Told what is being done and the share of it that is finished.

        Returns
        -------
        dict of str to dict
            By name: ``status`` ('trained' or 'failed'), ``metrics`` and ``version`` of a
            trained one, ``error`` of a failed one.

        Raises
        ------
        InvalidDataError
            If no detector could use the data, or a name is unknown.
        ConflictError
            If a training is under way.
        """
        names = checked_names(model_names)
        table = training_table(X, feature_names, self.settings.sensor_ranges)
        services = {name: self._new_service(name) for name in names}
        outcome: dict[str, Outcome] = {}
        with self._alone():
            for name, result in train_each(services, table, progress, stage):
                if (trained := services[name].served) is not None:
                    self.registry.adopt(name, trained)
                    # What has become known of it meanwhile came before it served.
                    if (latest := services[name].served) is not None:
                        self.served.note(latest.model, version=latest.version, run_id=latest.run_id)
                outcome[name] = self._with_serving_version(name, result)
        return outcome

    def train_apart(self, body: bytes) -> dict[str, dict[str, Any]]:
        """Train as ``train_all_models`` does, but in a process of its own.

        This process goes on answering meanwhile. It does not even look at the rows, and takes
        none of the libraries that only training needs. It returns when every detector is trained
        and, with a healthy server, registered; figures may still be on their way then.

        Parameters
        ----------
        body : bytes
            A ``TrainRequest`` as JSON.

        Raises
        ------
        InvalidDataError
            If the body cannot be used.
        ConflictError
            If a training is under way.
        TrainingInterruptedError
            If the other process ended before it had come to anything.
        """
        outcome: dict[str, Outcome] = {}
        with self._alone():
            process = self._training_process = TrainingProcess(self.settings)
            if self._stopped:
                process.stop()
            try:
                for result in process.results(body):
                    if result.served is not None:
                        self._keep(result)
                        self.registry.adopt(result.name, result.served)
                    outcome[result.name] = self._with_serving_version(result.name, result.outcome)
            finally:
                process.finish(self._registered_late)
        return outcome

    def refuse_a_second_training(self) -> None:
        """Return if no training is under way.

        Raises
        ------
        ConflictError
            If one is; there may be one all the same by the time that this one begins.
        """
        if self._training.locked():
            raise _busy()

    def stop_training(self) -> None:
        """End a training in a process of its own, if there is one, and begin none any more."""
        self._stopped = True
        if self._training_process is not None:
            self._training_process.stop()

    def detect_anomaly(
        self, request: AnomalyDetectionRequest | Mapping[str, Any]
    ) -> AnomalyDetectionResult:
        """Judge one reading; see ``detect_anomalies_batch``."""
        return self.detect_anomalies_batch([request])[0]

    def detect_anomalies_batch(
        self, requests: Iterable[AnomalyDetectionRequest | Mapping[str, Any]]
    ) -> list[AnomalyDetectionResult]:
        """Judge readings, each as if it had come alone, in the order given.

        The LSTM autoencoder looks at the window that ends with a reading: the rows of the same
        asset and sensor in the history and in this batch, in time order. Until there are enough
        of them, or after a gap, it abstains.

        Parameters
        ----------
        requests : iterable of AnomalyDetectionRequest or mapping
            Readings.

        Returns
        -------
        list of AnomalyDetectionResult
            In the same order.

        Raises
        ------
        NotTrainedError
            If no model can answer.
        InvalidDataError
            If a reading lacks a feature; nothing has been kept of any of them.
        """
        readings = [
            item
            if isinstance(item, AnomalyDetectionRequest)
            else AnomalyDetectionRequest.model_validate(item)
            for item in requests
        ]
        return self._detection.readings(self._snapshot(), readings)

    def detect_table(
        self, X: Any, times: Times | None = None, faulty_values: str | None = None
    ) -> Assessment:
        """Assess the consecutive rows of one asset, without touching the history.

        Parameters
        ----------
        X : DataFrame of shape (n_samples, n_columns)
            Readings in time order; columns that no model knows are not looked at.
        times : ndarray of datetime64 of shape (n_samples,), optional
            When they were measured; by default a second apart.
        faulty_values : {'refuse', 'impute'}, optional
            What to do about missing and impossible values; by default as in the settings.

        Returns
        -------
        Assessment
            What is said of each row. A model of windows abstains until its window is full; one
            whose columns are missing is not asked, unless that is true of all.
        """
        return self.stream(X.columns, faulty_values).assess(X, times).assessment

    def stream(
        self,
        columns: Iterable[Any],
        faulty_values: str | None = None,
        model_names: Sequence[str] | None = None,
        *,
        require_columns: bool = False,
    ) -> Stream:
        """Return what judges the rows of one asset part by part, without touching the history.

        Parameters
        ----------
        columns : iterable of str
            What the rows have. A model whose columns are missing is not asked, unless that is
            true of all; see ``Stream.lacking``.
        faulty_values : {'refuse', 'impute'}, optional
            What to do about missing and impossible values; by default as in the settings.
        model_names : sequence of str, optional
            Registered names of the models to ask; by default all that serve.
        require_columns : bool
            Whether it is an error that all models lack columns.

        Raises
        ------
        NotTrainedError
            If no model can answer, or one that is named.
        InvalidDataError
            If a name is unknown, or columns are missing that are required.
        """
        answering, columns = self._snapshot().for_everything, {str(name) for name in columns}
        models = dict(answering.ensemble.models)
        if model_names is not None:
            names = checked_names(model_names)
            if lacking := [name for name in names if name not in models]:
                raise NotTrainedError(
                    f"No version of {', '.join(lacking)} serves.",
                    remedy="Train one with `vigie train FILE`, or name other models.",
                )
            models = {name: models[name] for name in names}
        short_of = {
            name: tuple(sorted(missing))
            for name, model in models.items()
            if (missing := set(model.feature_names) - columns)
        }
        able = {name: model for name, model in models.items() if name not in short_of}
        if require_columns and not able:
            needed = "; ".join(f"{name} needs {', '.join(c)}" for name, c in short_of.items())
            raise InvalidDataError(
                f"No model can be asked, for columns are missing: {needed}.",
                field="FILE",
                remedy="Name the columns as they were in training, or take missing sensors for "
                "their usual values: --faulty impute.",
            )
        return Stream(
            replace(answering.ensemble, models=able or models),
            refuse=(faulty_values or self.settings.faulty_values) == "refuse",
            lacking=short_of,
            versions={name: answering.served[name].version for name in able or models},
        )

    def is_ready(self) -> bool:
        """Return whether at least one model can answer."""
        self.registry.ask_once()
        return bool(self.served.current.served)

    def get_model_status(self) -> dict[str, dict[str, Any]]:
        """Return for each detector whether it can answer, by which version, and why not."""
        self.registry.ask_once()
        answering = self.served.current.for_everything.served
        return {
            name: {
                "trained": name in answering,
                "version": (served := answering.get(name)) and served.version,
                "stage": served and served.stage,
                "n_features": served and served.model.n_features,
                "feature_names": served and list(served.model.feature_names),
                "problem": self.registry.problems.get(name),
            }
            for name in algorithms()
        }

    def get_metrics(self) -> dict[str, list[dict[str, Any]]]:
        """Return the newest version of each model in each stage, with its run and metrics.

        Raises
        ------
        TrackingUnavailableError
            If the server is away.
        """
        return {
            name: [self._describe(v) for v in self.mlflow_service.get_latest_versions(name)]
            for name in algorithms()
        }

    def refresh(self) -> None:
        """Serve what the registry says is to be served now; see ``RegistryFollower.refresh``."""
        self.registry.refresh()

    def send_journal(self) -> None:
        """Have sent, in a process of its own, what the registry missed while it was away."""
        if not self.mlflow_service.enabled:
            return
        if time.monotonic() >= self._warn_after:
            self.mlflow_service.recorder.warn_of_journal()
            self._warn_after = time.monotonic() + WARN_EVERY_S
        if not self.registry.answers:
            return
        if (running := self._sync) is not None and running.poll() is None:
            return
        journal = self.mlflow_service.journal
        # A training of a moment ago is being sent by whoever made it.
        if time.monotonic() < self._sync_after or not any(
            entry.age_s > SENT_BY_ITSELF_S for entry in journal.waiting()
        ):
            return
        self._sync = sync_apart(self.mlflow_service.server, journal)
        self._sync_after = time.monotonic() + SYNC_EVERY_S

    def start(self) -> None:
        """Load the compiled kernels and what served last: then a reading can be answered."""
        try:
            require_writable(self.settings.state_dir)
        except InvalidDataError as error:
            logger.error("%s The service goes on, and forgets all when it ends.", error)
        warm_up()
        self.registry.recall()

    @property
    def n_turns_at_once(self) -> int:
        """How many readings can be assessed at once without waiting for each other's history."""
        return TURNS_OF_A_SERVER if self._detection.history_is_a_server else 1

    def open_history(self) -> None:
        """Open the history ahead of the first reading, which else would wait for it."""
        if not self.settings.history_enabled:
            return
        with suppress(HistoryError):
            # A reading will say it again, and be judged all the same.
            self._detection.history()

    @property
    def confirmed(self) -> datetime | None:
        """When the registry last said what is to serve; None if it never has."""
        return self.registry.confirmed

    def pending(self) -> list[str]:
        """Return what of finished trainings is still on its way to the server."""
        found = self.mlflow_service.pending()
        if (process := self._training_process) is not None and process.uploads:
            found.append("the last training's record")
        return found

    def close(self) -> None:
        """Give back what the service holds open; a training in a process of its own ends."""
        self.stop_training()
        if self._training_process is not None:
            self._training_process.wait()
        if self._sync is not None:
            # What it has not sent by now, the next one will.
            self._sync.terminate()
            self._sync.wait()
        self.registry.remember(at_once=True)
        self._detection.close()

    def _new_service(self, name: str) -> DetectorService:
        service = new_service(name, self.settings, self.mlflow_service)
        service.on_note = self.served.note
        return service

    @contextmanager
    def _alone(self) -> Iterator[None]:
        if not self._training.acquire(blocking=False):
            raise _busy()
        try:
            yield
        finally:
            self._training.release()

    def _with_serving_version(self, name: str, result: Outcome) -> Outcome:
        if result["status"] != "trained":
            return result
        serving = self.served.get(ModelKey(EVERYTHING, name))
        return result | {"serving_version": serving.version if serving else None}

    def _keep(self, result: Result) -> None:
        """Put a version that was trained here where it would be fetched to."""
        version = result.outcome["version"]
        if version is None:
            return
        cache = self.settings.state_dir / "models"
        try:
            keep(cache, result.name, version, result.card_sha256, result.serving_form)
        except OSError as error:
            logger.warning("%s version %d is not kept here: %s.", result.name, version, error)

    def _registered_late(self, name: str, version: int, run_id: str) -> None:
        """Note the version of a model that serves, registered after the training's answer."""
        served = self.served.get(ModelKey(EVERYTHING, name))
        if served is not None and served.version is None:
            self.served.note(served.model, version=version, run_id=run_id)

    def _snapshot(self) -> Snapshot:
        """Return one consistent set of models for a whole request."""
        self.registry.ask_once()
        snapshot = self.served.current
        if not snapshot.served:
            registry = "has none" if self.registry.answers else "cannot be reached"
            if self.registry.problems:
                registry = "has versions that cannot be used; /status says why"
            raise NotTrainedError(
                f"No model can answer: none is trained here, and the registry {registry}.",
                remedy="Train with POST /api/v1/anomalies/train, `vigie train FILE` or "
                "train_all_models(X).",
            )
        return snapshot

    def _describe(self, version: Version) -> dict[str, Any]:
        name, metrics = self.mlflow_service.measured(version)
        return {
            "version": version.version,
            "stage": version.stage,
            "run_id": version.run_id,
            "created": datetime.fromtimestamp(version.created_ms / 1000, UTC).isoformat(),
            "run_name": name,
            "metrics": metrics,
        }


def _busy() -> ConflictError:
    return ConflictError("A training is under way.", remedy="Wait for it to end, then ask again.")
