"""All detectors together: training, serving, and one verdict for each reading."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from vigie.assessment.assessment import Assessment
from vigie.assessment.stream import Stream
from vigie.assessment.timeline import Times
from vigie.config import Settings
from vigie.detectors.base import in_words
from vigie.detectors.catalogue import algorithms, checked_names, warm_up
from vigie.detectors.data.matrices import training_table
from vigie.detectors.trained import TrainedModel
from vigie.errors import (
    ConflictError,
    HistoryError,
    InvalidDataError,
    ModelNotFoundError,
    NotTrainedError,
    VigieError,
)
from vigie.models.anomaly_data import (
    AnomalyDetectionRequest,
    AnomalyDetectionResult,
    as_readings,
)
from vigie.models.columns import ReadingColumns, ResultColumns, in_columns
from vigie.models.comparison import Comparison
from vigie.models.training import UploadedFile
from vigie.registry.cache import store
from vigie.registry.scopes import EVERYTHING
from vigie.registry.version import Version, require_model
from vigie.services.alarm_clock import AlarmClock
from vigie.services.alert_sender import AlertSender
from vigie.services.asset_alarms import AssetAlarms
from vigie.services.asset_events import AssetEvents
from vigie.services.detection import Detection
from vigie.services.mlflow_service import MLflowService
from vigie.services.model_versions import ModelVersions
from vigie.services.training_jobs import Told, TrainingJobs
from vigie.serving import saved
from vigie.serving.challengers import Challengers, nothing_to_compare
from vigie.serving.follower import RegistryFollower
from vigie.serving.promotion import AutomaticPromotion
from vigie.serving.served import ModelKey, Served, ServedModels, Snapshot
from vigie.serving.shadow import Shadow
from vigie.state import remove_abandoned, require_writable
from vigie.tables.file_form import FileForm
from vigie.tables.names import nearest
from vigie.tracking.sync import BackgroundSync
from vigie.training.job import TrainingProcess
from vigie.training.messages import Accepted, Failed, Progressed, Registered, Trained
from vigie.training.requests import About
from vigie.training.train import Training, checked_parameters, train_each

logger = logging.getLogger(__name__)

Answer = TypeVar("Answer")
Assess = Callable[[Snapshot, list[AnomalyDetectionRequest]], Answer]
"""Assess readings by the models that serve at one moment."""

WARN_EVERY_S = 3600.0
"""Interval between warnings about a large or old outbox."""
REGISTRY_FAILS = "The registry fails, so it is not known which version should serve; see the log."
TURNS_OF_A_SERVER = 4
"""Concurrent transactions on a database server; SQLite has one writer at a time."""


class AnomalyDetectionService:
    """Train the detectors, serve their versions, and assess readings by all of them.

    For each detector the newest version in Production serves; if none is promoted, the newest of
    all; with tracking disabled, the one that this process trained or loaded last; if the registry
    does not answer, the one that served last. The first request loads the models; to be ready
    before that, call ``start``.

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
            lambda: bool(self.mlflow_service.outbox.waiting()),
        )
        self.versions = ModelVersions(
            self.mlflow_service, self.registry, self.get_model_status, self.comparison
        )
        self._training = threading.Lock()
        self._detection = Detection(self.settings)
        self.events = AssetEvents(self._detection.history_if_enabled)
        self.alarms = AssetAlarms(self.settings, self.events.history, self._detection.events)
        self._alerts = AlertSender(self.settings, self._detection.history, self.alarms)
        self._clock = AlarmClock(
            self._detection.history, self._detection.events, self.alarms.keeper
        )
        server = self.mlflow_service.server
        self.challengers = Challengers(
            server, self.settings.model_cache, self.served, lambda: self.registry.staged
        )
        self._shadow = Shadow(self.settings, self.challengers, self._detection.history_if_enabled)
        self._training_process: TrainingProcess | None = None
        self.jobs = TrainingJobs(self.settings, self._train_job, self._detection.jobs)
        self._promotion = AutomaticPromotion(
            self.settings, self.registry, self._shadow.comparison, self._promote
        )
        self._sync = BackgroundSync(self.mlflow_service.server, self.mlflow_service.outbox)
        self._warn_after = 0.0
        self.is_stopping = False

    def train_all_models(
        self,
        X: Any,
        feature_names: Sequence[Any] | None = None,
        model_names: Sequence[str] | None = None,
        *,
        context_features: Sequence[str] = (),
        contamination: float | None = None,
        parameters: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
        scope: str = EVERYTHING,
        stage: str | None = None,
        source: Mapping[str, Any] | None = None,
        times: Times | None = None,
        file_form: FileForm | None = None,
        progress: Callable[[str, float], None] | None = None,
        on_trained: Callable[[TrainedModel], None] | None = None,
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
        context_features : sequence of str, optional
            Columns that say how the machine is run; see ``DetectorService.train``.
        contamination : float, optional
            The false-alarm rate of each model; by default that of the settings.
        parameters : mapping of str to mapping, optional
            Hyper-parameters by detector, such as ``{"lstm_autoencoder": {"epochs": 50}}``; by
            default those of the settings.
        scope : str, optional
            The asset whose rows these are: its versions get registered names of their own, such as
            ``isolation_forest--pump-3``, and do not serve here. By default they serve every asset.
        stage : {'Staging', 'Production'}, optional
            The stage to which each version is moved once it is registered, possibly later.
        source : mapping, optional
            What was understood of the file with the rows, as ``Report.as_dict`` returns it; each
            run keeps it as ``table.json``.
        times : ndarray of datetime64 of shape (n_samples,), optional
            When the rows were measured, in UTC, for the figures of each run.
        file_form : FileForm, optional
            How the file with the rows writes dates and units, as ``Table.form`` has it. The models
            keep it, for files of their machine that leave it open or have other units.
        progress : callable, optional
            Called with the current step and the share of it that is complete.
        on_trained : callable, optional
            Called with each model; a promoted version may serve in its place.

        Returns
        -------
        dict of str to dict
            By name: ``status`` ('trained' or 'failed'), ``metrics``, ``version`` and ``run_id`` of
            a trained detector, ``error`` of a failed one.

        Raises
        ------
        InvalidDataError
            If no detector could use the data, or a name is unknown.
        ConflictError
            If a training is in progress.
        """
        names = checked_names(model_names)
        given = checked_parameters(names, self.settings, contamination, parameters)
        table = training_table(X, feature_names, self.settings.sensor_ranges, context_features)
        if times is not None and len(times) != len(table.values):
            raise InvalidDataError(
                f"There are {len(times)} times of {len(table.values)} rows.",
                field="times",
                remedy="Give one for each row.",
            )
        outcomes: dict[str, dict[str, Any]] = {}
        with self._training_lock():
            for result in train_each(
                names,
                table,
                self.settings,
                self.mlflow_service.recorder,
                scope=scope,
                stage=stage,
                source=source,
                times=times,
                file_form=file_form,
                given=given,
                progress=in_words(progress),
                on_note=self.served.note,
            ):
                outcome = result if isinstance(result, Failed) else result.outcome
                if isinstance(result, Training):
                    if on_trained is not None:
                        on_trained(result.served.model)
                    if scope == EVERYTHING:
                        self._adopt(result)
                outcomes[result.name] = self._answer(outcome)
        return outcomes

    def train_in_subprocess(self, body: bytes) -> dict[str, dict[str, Any]]:
        """Train as ``train_all_models`` does, but as a job, in a subprocess.

        This process goes on answering; it neither parses the rows nor imports the libraries that
        only training needs. The call returns when every detector is trained and, with a healthy
        server, registered; figures may still be uploading. Each trained detector has a ``note`` of
        what the client should know, if anything. A job that runs already is waited for.

        Parameters
        ----------
        body : bytes
            A ``TrainRequest`` as JSON.

        Raises
        ------
        InvalidDataError
            If the body cannot be used.
        TooManyJobsError
            If the queue of jobs is full.
        ConflictError
            If the job was cancelled.
        TrainingInterruptedError
            If the subprocess ended before any detector had an outcome.
        """
        return self.jobs.wait(self.jobs.submit(body, is_awaited=True).id)

    def _train_job(
        self, source: Path, has_process: Callable[[TrainingProcess], None], told: Told
    ) -> dict[str, dict[str, Any]]:
        """Train a stored request in a subprocess; see ``Train`` of the jobs."""
        outcomes: dict[str, dict[str, Any]] = {}
        # A program may train in this process too.
        with self._training:
            process = TrainingProcess(source, self.settings)
            self._training_process = process
            has_process(process)
            try:
                for message in process.messages():
                    if isinstance(message, Accepted | Progressed):
                        told(message)
                        continue
                    name = message.name
                    if isinstance(message, Failed):
                        outcomes[name] = self._answer(message)
                    else:
                        served, before = process.open(message), self._serving(name)
                        self._cache(message, process.serving_form(message))
                        self.registry.adopt(name, served)
                        outcomes[name] = self._answer(message)
                        if note := self._note(served, before):
                            outcomes[name]["note"] = note
                    told((name, outcomes[name]))
            finally:
                process.finish(self._on_registered)
        return outcomes

    def load_models(self, folder: Path) -> None:
        """Serve the models in a folder, as ``vigie train --save`` writes it.

        With tracking enabled, versions of the registry take their place at the next refresh.

        Raises
        ------
        InvalidDataError
            If there is no model in the folder.
        ModelRefusedError
            If a model is damaged, or of an unknown format.
        """
        self.served.change(
            {ModelKey(EVERYTHING, name): model for name, model in saved.load(folder).items()}
        )

    def stop(self) -> None:
        """End what would delay the end of this process: a training, and requests to MLflow."""
        self.is_stopping = True
        self.stop_training()
        if self.mlflow_service.enabled:
            self.mlflow_service.server.interrupt()

    def stop_training(self) -> None:
        """Stop the job that runs, if there is one, and start no other."""
        self.jobs.stop()

    def detect_anomaly(
        self, request: AnomalyDetectionRequest | Mapping[str, Any]
    ) -> AnomalyDetectionResult:
        """Assess one reading; see ``detect_anomalies_batch``."""
        return self.detect_anomalies_batch([request])[0]

    def detect_anomalies_batch(
        self, requests: Iterable[AnomalyDetectionRequest | Mapping[str, Any]]
    ) -> list[AnomalyDetectionResult]:
        """Assess readings, with the same results as one by one in time order.

        Readings of one asset and time are kept in the order of the batch; one by one, each would
        take the place of the one before.

        The LSTM autoencoder assesses the window that ends with a reading: the rows of the same
        asset and sensor in the history and in this batch, in time order. Until the window is full,
        as after a gap, it abstains.

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
            If a reading cannot be used, or lacks a feature; none of the readings has been stored.
        """
        return self._assessed(self._detection.readings, as_readings(requests))

    def detect_columns(self, columns: ReadingColumns) -> ResultColumns:
        """Assess readings of one asset, with the same verdicts as ``detect_anomalies_batch``.

        Raises
        ------
        NotTrainedError
            If no model can answer.
        InvalidDataError
            If a reading cannot be used, or lacks a feature; none of the readings has been stored.
        """
        try:
            return self._assessed(self._detection.columns, columns.readings)
        except InvalidDataError as error:
            raise in_columns(error) from error

    def _assessed(self, assess: Assess[Answer], readings: list[AnomalyDetectionRequest]) -> Answer:
        """Return what ``assess`` says of readings, by the models that serve."""
        snapshot = self._snapshot()
        try:
            answer = assess(snapshot, readings)
        except VigieError:
            raise
        except Exception as error:
            if (by_earlier := self._by_earlier_versions(assess, readings, error)) is None:
                raise
            return by_earlier
        self._shadow.offer(readings)
        return answer

    def _by_earlier_versions(
        self, assess: Assess[Answer], readings: list[AnomalyDetectionRequest], error: Exception
    ) -> Answer | None:
        """Assess readings on which the models that serve have failed.

        A version that has replaced another one is at fault if the other one can assess them: then
        that one serves again. Returns None if that helps for no version.
        """
        for name, earlier in self.registry.earlier().items():
            trial = self.served.instead(ModelKey(EVERYTHING, name), earlier)
            try:
                answer = assess(trial, readings)
            except VigieError:
                raise
            except Exception:
                logger.debug("%s is not at fault.", name, exc_info=True)
                continue
            self.registry.withdraw(name, error)
            return answer
        return None

    def detect_table(
        self, X: Any, times: Times | None = None, faulty_values: str | None = None
    ) -> Assessment:
        """Assess the consecutive rows of one asset, without touching the history.

        Parameters
        ----------
        X : DataFrame of shape (n_samples, n_columns)
            Readings in time order; columns that no model knows are ignored.
        times : ndarray of datetime64 of shape (n_samples,), optional
            When they were measured; by default a second apart.
        faulty_values : {'refuse', 'impute'}, optional
            How to treat missing and impossible values; by default as in the settings.

        Returns
        -------
        Assessment
            Of each row. A model of windows abstains until its window is full; one whose columns
            are missing is left out, unless that is true of all.
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
        """Return a stream that assesses the rows of one asset in parts, without the history.

        Parameters
        ----------
        columns : iterable of str
            The columns of the rows. A model whose columns are missing is left out, unless that is
            true of all; see ``Stream.lacking``.
        faulty_values : {'refuse', 'impute'}, optional
            How to treat missing and impossible values; by default as in the settings.
        model_names : sequence of str, optional
            Registered names of the models to use; by default all that serve.
        require_columns : bool
            Raise an error if columns of every model are missing.

        Raises
        ------
        NotTrainedError
            If no model serves, or a named one does not.
        InvalidDataError
            If a name is unknown, or required columns are missing.
        """
        answering, columns = self._snapshot().for_everything, {str(name) for name in columns}
        models = dict(answering.ensemble.models)
        if model_names is not None:
            names = checked_names(model_names)
            if missing_models := [name for name in names if name not in models]:
                raise self._not_trained(
                    f"No version of {', '.join(missing_models)} serves.",
                    missing_models,
                    "Train one with `vigie train FILE`, or name other models.",
                )
            models = {name: models[name] for name in names}
        missing_columns = {
            name: tuple(sorted(missing))
            for name, model in models.items()
            if (missing := set(model.feature_names) - columns)
        }
        able = {name: model for name, model in models.items() if name not in missing_columns}
        if require_columns and not able:
            raise _columns_missing(models, missing_columns, columns)
        return Stream(
            replace(answering.ensemble, models=able or models),
            refuse=(faulty_values or self.settings.faulty_values) == "refuse",
            lacking=missing_columns,
            versions={name: answering.served[name].version for name in able or models},
        )

    def is_ready(self) -> bool:
        """Return whether at least one model serves."""
        self.registry.refresh_once()
        return bool(self.served.current.served)

    def none_serves(self) -> NotTrainedError:
        """Return the error for readings while no model serves: why not, and what to do."""
        registry = "has none" if self.registry.answers else "cannot be reached"
        if self.registry.unserved and self.registry.answers:
            registry = "has none that serves"
        if self.registry.problems:
            registry = "has versions that cannot be used; see /status"
        return self._not_trained(
            f"No model can answer: none is trained here, and the registry {registry}.",
            algorithms(),
            "Train first: `vigie train FILE --promote`, POST /api/v1/anomalies/train or "
            "train_all_models(X)."
            if self.registry.answers
            else "`vigie doctor` checks the way to it; this process can also train without it.",
        )

    def get_model_status(self) -> dict[str, dict[str, Any]]:
        """Return for each detector whether a model serves, its version, and the problem if any."""
        self.registry.refresh_once()
        answering = self.served.current.for_everything.served
        return {
            name: {
                "trained": name in answering,
                "version": (served := answering.get(name)) and served.version,
                "stage": served and served.stage,
                "n_features": served and served.model.n_features,
                "feature_names": served and list(served.model.feature_names),
                "context_features": served and sorted(served.model.context_names),
                "problem": self.problem_of(name),
            }
            for name in algorithms()
        }

    def problem_of(self, name: str) -> str | None:
        """Return why the registry's version of a model does not serve; None if it does."""
        if name in self.registry.outages:
            return REGISTRY_FAILS
        if problem := self.registry.problems.get(name):
            return problem
        is_served = name in self.served.current.for_everything.served
        return None if is_served else self._why_unserved(name)

    def usual_reading(self) -> dict[str, dict[str, Any]]:
        """Return a reading as training has seen it most, for the models that serve now.

        Returns
        -------
        dict of str to dict
            ``features``, and ``context`` if the models have one; empty if no model serves.
        """
        values: dict[str, dict[str, Any]] = {}
        for served in self.served.current.for_everything.served.values():
            for name, value in served.model.usual_reading.items():
                kind = "context" if name in served.model.context_names else "features"
                values.setdefault(kind, {}).setdefault(name, value)
        return values

    def get_metrics(self) -> dict[str, list[dict[str, Any]]]:
        """Return the newest version of each model in each stage, with its run and metrics.

        Raises
        ------
        TrackingUnavailableError
            If the server does not answer.
        """
        return {
            name: [self._describe(v) for v in self.mlflow_service.get_latest_versions(name)]
            for name in algorithms()
        }

    def comparison(self, name: str) -> Comparison | None:
        """Return how the version of a model in Staging judges readings beside the one that serves.

        Both judge alone what has been answered since the version came to Staging.

        Returns
        -------
        Comparison or None
            None if no version is in Staging, or it serves itself.

        Raises
        ------
        ModelNotFoundError
            If there is no such model.
        """
        require_model(name)
        self.registry.refresh_once()
        return self._shadow.comparison(name)

    def nothing_to_compare(self, name: str) -> ModelNotFoundError:
        """Return the error for a model without a comparison: why, and what to do."""
        if not self.mlflow_service.enabled:
            return ModelNotFoundError(
                "Tracking is disabled, so that no version can be in Staging.",
                remedy="Set MLFLOW_ENABLED=true.",
            )
        champion, staged = self._serving(name), self.registry.staged.get(name)
        return nothing_to_compare(
            name,
            None if champion is None else champion.version,
            None if staged is None else staged.version,
            answers=self.registry.answers,
        )

    def promote_by_rule(self) -> None:
        """Promote the versions in Staging that the rule lets through, if that is not left to you.

        See ``vigie.serving.promotion``.
        """
        if self._promotion.promote():
            self.refresh()

    @property
    def detection(self) -> Detection:
        """What assesses readings, and stores them."""
        return self._detection

    def refresh(self) -> None:
        """Serve the registry's current versions; see ``RegistryFollower.refresh``."""
        self.registry.refresh()
        self._shadow.start()

    def send_outbox(self) -> None:
        """Send the outbox in a subprocess, if that is due and the registry answers."""
        if not self.mlflow_service.enabled:
            return
        if time.monotonic() >= self._warn_after:
            self.mlflow_service.recorder.warn_of_outbox()
            self._warn_after = time.monotonic() + WARN_EVERY_S
        if self.registry.answers:
            self._sync.send_if_due()

    def start(self) -> None:
        """Load the compiled kernels and the models that served last, to be ready for readings."""
        try:
            require_writable(self.settings.state_dir)
        except InvalidDataError as error:
            logger.error("%s The service continues, but cannot save any state.", error)
        remove_abandoned()
        warm_up()
        self.registry.restore()

    @property
    def n_turns_at_once(self) -> int:
        """How many requests can use the history concurrently."""
        return TURNS_OF_A_SERVER if self._detection.history_is_a_server else 1

    @property
    def n_replaced(self) -> int:
        """How many readings took the place of another one of the same asset and time."""
        return self._detection.counts.n_replaced

    def open_history(self) -> None:
        """Open the history, so that the first reading need not wait; begin to keep alarms."""
        if not self.settings.history_enabled:
            return
        with suppress(HistoryError):
            # The first reading logs the fault, and is assessed without the history.
            self._detection.history()
        self._clock.start()
        self._alerts.start()

    def about_training(self, file: UploadedFile | None = None) -> About:
        """Return what is known of the request for a training besides its body.

        Parameters
        ----------
        file : UploadedFile, optional
            What is said of a body that is a file.
        """
        models = self.served.current.for_everything.served.values()
        names = dict.fromkeys(n for served in models for n in served.model.feature_names)
        context = dict.fromkeys(n for served in models for n in served.model.context_names)
        return About(file=file, serving_features=list(names), serving_context=list(context))

    def recover_jobs(self) -> None:
        """Take over the jobs that an earlier process with this state folder has left behind."""
        if not self.jobs.is_stopped:
            self.jobs.recover()

    @property
    def confirmed(self) -> datetime | None:
        """When the registry last confirmed the versions that serve; None if it never has."""
        return self.registry.confirmed

    def pending(self) -> list[str]:
        """Return the names of unfinished uploads of finished trainings."""
        names = self.mlflow_service.pending()
        if (process := self._training_process) is not None and process.is_uploading:
            names.append("the last training's record")
        return names

    def close(self) -> None:
        """Release all resources; stop a training in a subprocess."""
        self.jobs.close()
        if self._training_process is not None:
            self._training_process.wait()
        self._sync.close()
        self.registry.save(at_once=True)
        self._shadow.close()
        self._alerts.close()
        self._clock.close()
        self._detection.close()

    @contextmanager
    def _training_lock(self) -> Iterator[None]:
        if not self._training.acquire(blocking=False):
            raise _busy()
        try:
            yield
        finally:
            self._training.release()

    def _adopt(self, training: Training) -> None:
        """Serve a model that was just trained, unless a promoted version has precedence."""
        self.registry.adopt(training.name, training.served)
        # A version registered before ``adopt`` was noted before the model served.
        latest = training.served
        self.served.note(latest.model, version=latest.version, run_id=latest.run_id)

    def _answer(self, outcome: Trained | Failed) -> dict[str, Any]:
        """Return an outcome as a dict, with the version that serves now."""
        answer = outcome.as_dict()
        if isinstance(outcome, Trained):
            serving = self._serving(outcome.name)
            answer["serving_version"] = serving.version if serving else None
        return answer

    def _serving(self, name: str) -> Served | None:
        return self.served.get(ModelKey(EVERYTHING, name))

    def _note(self, trained: Served, before: Served | None) -> str | None:
        """Return what a client should know of a model that was just trained."""
        notes = []
        tracking = self.mlflow_service
        if trained.version is None and tracking.enabled and tracking.outbox.waiting():
            notes.append(
                "It has no version yet: its record waits in the outbox until MLflow answers; "
                "`vigie sync` sends it at once."
            )
        names = trained.model.feature_names
        unnamed = tuple(f"feature_{number + 1}" for number in range(len(names)))
        if before is not None and names == unnamed != before.model.feature_names:
            notes.append(
                "It knows its columns only as feature_1, feature_2 ..., but the model before it as "
                f"{', '.join(before.model.feature_names[:4])} ...: readings with these names do "
                "not fit it. Give feature_names."
            )
        return " ".join(notes) or None

    def _cache(self, trained: Trained, serving_form: Path) -> None:
        """Copy a version that was trained here to the cache, which saves the download."""
        if trained.version is None or trained.card_sha256 is None:
            return
        cache = self.settings.model_cache
        try:
            store(cache, trained.name, trained.version, trained.card_sha256, serving_form)
        except OSError as error:
            logger.warning(
                "%s version %d is not cached: %s.",
                *(trained.name, trained.version, error),
                extra={"model": trained.name, "version": trained.version},
            )

    def _on_registered(self, registered: Registered) -> None:
        """Note the version of a served model that was registered after its training returned."""
        served = self._serving(registered.name)
        if served is not None and served.version is None:
            self.served.note(served.model, version=registered.version, run_id=registered.run_id)

    def _snapshot(self) -> Snapshot:
        """Return one consistent set of models for a whole request."""
        self.registry.refresh_once()
        snapshot = self.served.current
        if not snapshot.served:
            raise self.none_serves()
        return snapshot

    def _promote(self, found: Comparison, reason: str, by: str) -> None:
        self.mlflow_service.transition_model_stage(
            found.model,
            found.challenger.version,
            "Production",
            reason=reason,
            by=by,
            compared=found.summary,
        )

    def _not_trained(self, message: str, names: Iterable[str], remedy: str) -> NotTrainedError:
        """Return the error for models that do not serve, with the versions to bring back."""
        unserved = self.registry.unserved if self.registry.answers else {}
        errors = [unserved[name] for name in names if name in unserved]
        return NotTrainedError(
            " ".join([message, *(error.message for error in errors)]),
            remedy=" ".join([*(error.remedy or "" for error in errors), remedy]),
        )

    def _why_unserved(self, name: str) -> str | None:
        error = self.registry.unserved.get(name)
        return None if error is None else str(error)

    def _describe(self, version: Version) -> dict[str, Any]:
        name, metrics = self.mlflow_service.run_metrics(version)
        return {
            "version": version.version,
            "stage": version.stage,
            "run_id": version.run_id,
            "created": datetime.fromtimestamp(version.created_ms / 1000, UTC).isoformat(),
            "run_name": name,
            "metrics": metrics,
        }


def _busy() -> ConflictError:
    return ConflictError("A training is in progress.", remedy="Wait until it ends, then try again.")


def _columns_missing(
    models: Mapping[str, TrainedModel],
    missing: Mapping[str, tuple[str, ...]],
    columns: set[str],
) -> InvalidDataError:
    """Return the error for a file that lacks columns of every model."""
    needed = list(dict.fromkeys(name for model in models.values() for name in model.feature_names))
    if not columns & set(needed):
        return InvalidDataError(
            f"The models are of another machine: the file has none of their columns "
            f"({', '.join(needed)}), but {', '.join(sorted(columns)) or 'none'}.",
            field="FILE",
            remedy="Name the columns as in training, or judge by models of this machine: "
            "`vigie models list` shows those that serve, --load FOLDER takes saved ones.",
        )
    if len(set(missing.values())) == 1:
        lacking = f"{', '.join(next(iter(missing.values())))}, which every model needs"
    else:
        lacking = "; ".join(f"{name} needs {', '.join(c)}" for name, c in missing.items())
    free = columns - set(needed)
    wanted = dict.fromkeys(name for names in missing.values() for name in names)
    near = {name: column for name in wanted if (column := nearest(name, free))}
    meant = [f"{column!r} for {name!r}" for name, column in near.items()]
    return InvalidDataError(
        f"No model can assess the file, since columns are missing: {lacking}.",
        field="FILE",
        remedy=(f"Did you mean {' and '.join(meant)}? " if meant else "")
        + "Name the columns as in training, or judge without these sensors: --faulty impute.",
    )
