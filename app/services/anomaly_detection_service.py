"""The three detectors together: which versions serve, and one verdict for a reading."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from app.config import Settings
from app.detectors.base import Progress, untold
from app.detectors.data import Table, training_table
from app.errors import (
    ConflictError,
    InvalidDataError,
    ModelNotFoundError,
    NotTrainedError,
    TrackingError,
    TrackingUnavailableError,
    VigieError,
)
from app.models.anomaly_data import AnomalyDetectionRequest, AnomalyDetectionResult
from app.services.detection import Detection
from app.services.detector_service import DetectorService, Served
from app.services.isolation_forest_service import IsolationForestService
from app.services.lstm_autoencoder_service import LSTMAutoencoderService
from app.services.mlflow_service import MLflowService
from app.services.one_class_svm_service import OneClassSVMService
from app.services.timeline import Times
from app.services.verdict import Judged
from app.tracking import registry
from app.tracking.registry import Version

logger = logging.getLogger(__name__)

DETECTORS: dict[str, Callable[..., DetectorService]] = {
    IsolationForestService.name: IsolationForestService,
    OneClassSVMService.name: OneClassSVMService,
    LSTMAutoencoderService.name: LSTMAutoencoderService,
}


class AnomalyDetectionService:
    """Train the detectors, serve their versions, and judge readings by all of them.

    For each detector the newest version in Production serves; where none is promoted, the
    newest of all; where there is no registry (tracking disabled or away), what this process has
    trained or loaded last. The registry is first asked when the first question comes.

    Parameters
    ----------
    settings : Settings, optional
        By default read from the environment and ``.env``.
    """

    def __init__(self, settings: Settings | None = None):
        self.settings = settings or Settings()
        self.mlflow_service = MLflowService(self.settings)
        self._services = {name: self._new_service(name) for name in DETECTORS}
        self._training = threading.Lock()
        self._loading = threading.Lock()
        self._asked_registry = False
        self._registry_answers = True
        self._detection = Detection(self.settings)
        self._refused: dict[str, str] = {}

    def train_all_models(
        self,
        X: Any,
        feature_names: Sequence[Any] | None = None,
        model_names: Sequence[str] | None = None,
        *,
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
        names = _checked_names(model_names)
        table = training_table(X, feature_names, self.settings.sensor_ranges)
        if not self._training.acquire(blocking=False):
            raise ConflictError(
                "A training is under way.", remedy="Wait for it to end, then ask again."
            )
        try:
            return {
                name: self._train_one(
                    name,
                    table,
                    nested=len(names) > 1,
                    progress=_part(progress, name, number, len(names)),
                )
                for number, name in enumerate(names)
            }
        finally:
            self._training.release()

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
        return self._detection.readings(self._serving(), readings)

    def detect_table(
        self, X: Any, times: Times | None = None, faulty_values: str | None = None
    ) -> Judged:
        """Judge the consecutive rows of one asset, without touching the history.

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
        Judged
            What they say of each row. A model of windows abstains until its window is full; one
            whose columns are missing is not asked, unless that is true of all.
        """
        return self._detection.table(self._serving(), X, times, faulty_values)

    def is_ready(self) -> bool:
        """Return whether at least one model can answer."""
        self._ask_registry_once()
        return any(service.is_trained for service in self._services.values())

    def get_model_status(self) -> dict[str, dict[str, Any]]:
        """Return for each detector whether it can answer, by which version, and why not."""
        self._ask_registry_once()
        return {
            name: {
                "trained": service.is_trained,
                "version": served.version if (served := service.served) else None,
                "stage": served.stage if served else None,
                "n_features": served.model.n_features if served else None,
                "feature_names": service.feature_names,
                "problem": self._refused.get(name),
            }
            for name, service in self._services.items()
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
            for name in DETECTORS
        }

    def refresh(self) -> None:
        """Serve what the registry says is to be served now.

        A version that cannot be opened leaves the one before in place; the reason is logged
        once and stands in ``get_model_status``. A server that is away changes nothing.
        """
        with self._loading:
            if self.mlflow_service.enabled:
                self._follow_registry()
            self._asked_registry = True

    def close(self) -> None:
        """Give back what the service holds open."""
        self._detection.close()

    def _follow_registry(self) -> None:
        self._registry_answers = True
        for name, service in self._services.items():
            try:
                found = registry.pick(self.mlflow_service.server, name)
                served = service.served
                # What was trained while the server was away is newer than all it knows, so only
                # a promotion takes its place.
                if served is None or served.version is not None or found.stage == "Production":
                    service.serve(found)
                self._refused.pop(name, None)
            except ModelNotFoundError:
                self._refused.pop(name, None)
            except TrackingUnavailableError as error:
                self.mlflow_service.server.log_outage(error)
                self._registry_answers = False
                return
            except VigieError as error:
                if self._refused.get(name) != str(error):
                    logger.error("%s goes on serving what it served. %s", name, error)
                self._refused[name] = str(error)

    def _new_service(self, name: str) -> DetectorService:
        return DETECTORS[name](settings=self.settings, mlflow_service=self.mlflow_service)

    def _train_one(
        self,
        name: str,
        table: Table,
        *,
        nested: bool,
        progress: Progress,
    ) -> dict[str, Any]:
        service = self._new_service(name)
        try:
            metrics = service.train(table, nested=nested, progress=progress)
        except VigieError as error:
            logger.error("%s was not trained. %s", name, error)
            return {"status": "failed", "error": str(error)}
        except Exception as error:
            # The libraries raise what they like; one detector must not take the others along.
            logger.exception("%s was not trained.", name)
            return {"status": "failed", "error": f"{type(error).__name__}: {error}"}
        served = service.served
        version = served.version if served else None
        if not self._serves_another(name, version):
            self._services[name] = service
        serving = self._services[name].served
        return {
            "status": "trained",
            "version": version,
            "serving_version": serving.version if serving else None,
            "metrics": metrics,
        }

    def _serves_another(self, name: str, version: int | None) -> bool:
        """Whether a promoted version goes on serving after a training."""
        if version is None:
            served = self._services[name].served
            return served is not None and served.stage == "Production"
        try:
            found = registry.pick(self.mlflow_service.server, name)
            self._services[name].serve(found)
        except TrackingError as error:
            logger.warning("The version just trained serves. %s", error)
            return False
        except VigieError as error:
            logger.error("The version just trained serves. %s", error)
            return False
        return found.version != version

    def _ask_registry_once(self) -> None:
        if not self._asked_registry:
            self.refresh()

    def _serving(self) -> dict[str, Served]:
        """Return one consistent set of models for a whole request."""
        self._ask_registry_once()
        serving = {
            name: served
            for name, service in self._services.items()
            if (served := service.served) is not None
        }
        if not serving:
            registry = "has none" if self._registry_answers else "cannot be reached"
            raise NotTrainedError(
                f"No model can answer: none is trained here, and the registry {registry}.",
                remedy="Train with POST /api/v1/anomalies/train, `vigie train FILE` or "
                "train_all_models(X).",
            )
        return serving

    def _describe(self, version: Version) -> dict[str, Any]:
        client = self.mlflow_service.server.client
        described: dict[str, Any] = {
            "version": version.version,
            "stage": version.stage,
            "run_id": version.run_id,
            "created": datetime.fromtimestamp(version.created_ms / 1000, UTC).isoformat(),
            "run_name": None,
            "metrics": {},
        }
        if version.run_id:
            try:
                run = self.mlflow_service.server.call(client.get_run, version.run_id)
            except ModelNotFoundError:
                return described
            described |= {"run_name": run.info.run_name, "metrics": dict(run.data.metrics)}
        return described


def _checked_names(model_names: Sequence[str] | None) -> list[str]:
    if model_names is None:
        return list(DETECTORS)
    for position, name in enumerate(model_names):
        if name not in DETECTORS:
            raise InvalidDataError(
                f"There is no detector '{name}'.",
                field=f"model_names[{position}]",
                remedy=f"Detectors: {', '.join(DETECTORS)}.",
            )
    if not model_names:
        raise InvalidDataError(
            "No detector is named.", field="model_names", remedy="Leave it out to train all."
        )
    return list(dict.fromkeys(model_names))


def _part(progress: Progress, name: str, number: int, total: int) -> Progress:
    return lambda step, share: progress(f"{name}: {step}", (number + share) / total)
