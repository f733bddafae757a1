"""The three detectors together: which versions serve, and one verdict for a reading."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy.exc import SQLAlchemyError

from app.config import Settings
from app.detectors.base import Floats, Progress
from app.detectors.calibration import combine
from app.detectors.data import as_row, training_table
from app.errors import (
    ConflictError,
    InvalidDataError,
    ModelNotFoundError,
    NotTrainedError,
    TrackingError,
    TrackingUnavailableError,
    VigieError,
)
from app.history.store import History, Reading
from app.models.anomaly_data import (
    AnomalyDetectionRequest,
    AnomalyDetectionResult,
    CriticalityLevel,
    ModelVerdict,
    SensorContribution,
)
from app.services.detector_service import DetectorService, Served
from app.services.isolation_forest_service import IsolationForestService
from app.services.lstm_autoencoder_service import LSTMAutoencoderService
from app.services.mlflow_service import MLflowService
from app.services.one_class_svm_service import OneClassSVMService
from app.tracking.registry import Version

logger = logging.getLogger(__name__)

DETECTORS: dict[str, type[DetectorService]] = {
    service.name: service
    for service in (IsolationForestService, OneClassSVMService, LSTMAutoencoderService)
}

LEVELS = (
    CriticalityLevel.LOW,
    CriticalityLevel.MEDIUM,
    CriticalityLevel.HIGH,
    CriticalityLevel.CRITICAL,
)


@dataclass(frozen=True)
class _Window:
    """What one model is asked about one reading; ``example`` is None where it abstains."""

    example: Floats | None
    reason: str = ""


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
        self._history: History | None = None
        self._refused: dict[str, str] = {}

    def train_all_models(
        self,
        X: Any,
        feature_names: Sequence[Any] | None = None,
        model_names: Sequence[str] | None = None,
        *,
        progress: Progress = lambda step, share: None,
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
        training_table(X, feature_names)
        if not self._training.acquire(blocking=False):
            raise ConflictError(
                "A training is under way.", remedy="Wait for it to end, then ask again."
            )
        try:
            return {
                name: self._train_one(
                    name,
                    X,
                    feature_names,
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
        now = datetime.now(UTC)
        times = [reading.timestamp or now for reading in readings]
        serving = self._serving()
        rows = {name: _rows(served, readings) for name, served in serving.items()}
        windows = {
            name: self._windows(served, rows[name], readings, times)
            for name, served in serving.items()
        }
        answers = {name: _answers(served, windows[name]) for name, served in serving.items()}
        results = [
            self._verdict(index, readings[index], times[index], serving, windows, answers)
            for index in range(len(readings))
        ]
        self._remember(readings, results)
        return results

    def is_ready(self) -> bool:
        """Return whether at least one model can answer."""
        self._ask_registry_once()
        return any(service.is_trained for service in self._services.values())

    def get_model_status(self) -> dict[str, dict[str, Any]]:
        """Return for each detector whether it can answer, by which version, and why not."""
        self._ask_registry_once()
        return {
            name: {
                "is_trained": service.is_trained,
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
        if not self.mlflow_service.enabled:
            return
        with self._loading:
            for name, service in self._services.items():
                try:
                    service.load()
                    self._refused.pop(name, None)
                except ModelNotFoundError:
                    self._refused.pop(name, None)
                except TrackingUnavailableError as error:
                    self.mlflow_service.server.log_outage(error)
                    return
                except VigieError as error:
                    if self._refused.get(name) != str(error):
                        logger.error("%s goes on serving what it served. %s", name, error)
                    self._refused[name] = str(error)

    def close(self) -> None:
        """Give back what the service holds open."""
        if self._history is not None:
            self._history.close()

    def _new_service(self, name: str) -> DetectorService:
        return DETECTORS[name](settings=self.settings, mlflow_service=self.mlflow_service)

    def _train_one(
        self,
        name: str,
        X: Any,
        feature_names: Sequence[Any] | None,
        *,
        nested: bool,
        progress: Progress,
    ) -> dict[str, Any]:
        service = self._new_service(name)
        try:
            metrics = service.train(X, feature_names, nested=nested, progress=progress)
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
            return False
        try:
            found = self.mlflow_service.find_version(name)
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
            self._asked_registry = True
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
            raise NotTrainedError(
                "No model can answer: none is trained here, and the registry has none.",
                remedy="Train with POST /api/v1/anomalies/train, `vigie train FILE` or "
                "train_all_models(X).",
            )
        return serving

    def _windows(
        self,
        served: Served,
        rows: Floats,
        readings: Sequence[AnomalyDetectionRequest],
        times: Sequence[datetime],
    ) -> list[_Window]:
        """Return what a model looks at for each reading."""
        window = served.model.window
        if window == 1:
            return [_Window(row) for row in rows]
        found = [_Window(None, "")] * len(readings)
        assets: dict[tuple[str, str | None], list[int]] = {}
        for index, reading in enumerate(readings):
            assets.setdefault((reading.asset_id, reading.sensor_id), []).append(index)
        for (asset_id, sensor_id), indices in assets.items():
            past, reason = self._past(served, asset_id, sensor_id, times[indices[0]])
            for index in sorted(indices, key=lambda index: times[index]):
                past.append((times[index], rows[index]))
                past = _without_gaps(past[-window:], timedelta(seconds=self.settings.max_gap_s))
                if len(past) == window:
                    found[index] = _Window(np.stack([row for _, row in past]))
                else:
                    missing = f"its window has {len(past)} of {window} rows"
                    found[index] = _Window(None, reason or missing)
        return found

    def _past(
        self, served: Served, asset_id: str, sensor_id: str | None, until: datetime
    ) -> tuple[list[tuple[datetime, Floats]], str]:
        """Return the rows of an asset that the history holds, and why there are none."""
        names = served.model.feature_names
        try:
            kept = self._open_history().before(
                asset_id, sensor_id, until, served.model.window - 1
            )
        except SQLAlchemyError as error:
            logger.error("The history cannot be read: %s", error)
            return [], "the history cannot be read"
        past = []
        for measured, features in kept:
            try:
                past.append((measured, as_row(features, names)))
            except InvalidDataError:
                # Rows of another feature set, from before this model: not its past.
                past.clear()
        return past, ""

    def _verdict(
        self,
        index: int,
        reading: AnomalyDetectionRequest,
        measured: datetime,
        serving: Mapping[str, Served],
        windows: Mapping[str, list[_Window]],
        answers: Mapping[str, tuple[Floats, Floats]],
    ) -> AnomalyDetectionResult:
        verdicts, abstained, p_values = {}, {}, []
        for name, served in serving.items():
            if windows[name][index].example is None:
                abstained[name] = windows[name][index].reason
                continue
            raw, p_value = (values[index] for values in answers[name])
            p_values.append(p_value)
            verdicts[name] = ModelVerdict(
                score=1.0 - p_value,
                threshold=served.model.threshold,
                is_anomaly=bool(1.0 - p_value > served.model.threshold),
                version=served.version,
                stage=served.stage,
                reconstruction_error=float(raw) if served.model.window > 1 else None,
            )
        if not p_values:
            reasons = "; ".join(f"{name}: {reason}" for name, reason in abstained.items())
            raise NotTrainedError(
                f"No model can judge this reading yet ({reasons}).",
                remedy="Send the asset's readings in time order, or train a model of single rows.",
            )
        p_value = float(combine(np.array(p_values)[:, None])[0])
        contamination = self.settings.contamination
        is_anomaly = p_value < contamination
        return AnomalyDetectionResult(
            asset_id=reading.asset_id,
            sensor_id=reading.sensor_id,
            timestamp=measured,
            models=verdicts,
            abstained=abstained,
            final_score=1.0 - p_value,
            threshold=1.0 - contamination,
            is_anomaly=is_anomaly,
            criticality=criticality(p_value, contamination) if is_anomaly else None,
            sensors=_reasons(index, verdicts, serving, windows) if is_anomaly else [],
            metadata=reading.metadata,
        )

    def _remember(
        self,
        readings: Sequence[AnomalyDetectionRequest],
        results: Sequence[AnomalyDetectionResult],
    ) -> None:
        kept = [
            Reading(
                asset_id=reading.asset_id,
                sensor_id=reading.sensor_id,
                timestamp=result.timestamp,
                features=reading.features,
                result=result.model_dump(mode="json", include={"final_score", "is_anomaly"}),
            )
            for reading, result in zip(readings, results, strict=True)
        ]
        try:
            self._open_history().append(kept)
        except SQLAlchemyError as error:
            # A full disk must not blind the plant: the verdict is given all the same.
            logger.error("%d readings were not kept in the history: %s", len(kept), error)

    def _open_history(self) -> History:
        with self._loading:
            if self._history is None:
                self._history = History(history_url(self.settings))
            return self._history

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


def history_url(settings: Settings) -> str:
    """Return the URL of the history, with its folder made where it is a file of ours."""
    if settings.history_url:
        return settings.history_url
    folder = Path(settings.state_dir)
    folder.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{folder / 'history.db'}"


def criticality(p_value: float, contamination: float) -> CriticalityLevel:
    """Return the level of an anomaly: one for each decade of p below the contamination."""
    decades = int(np.floor(np.log10(contamination / p_value)))
    return LEVELS[min(max(decades, 0), len(LEVELS) - 1)]


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


def _rows(served: Served, readings: Sequence[AnomalyDetectionRequest]) -> Floats:
    names = served.model.feature_names
    rows = np.empty((len(readings), len(names)))
    for index, reading in enumerate(readings):
        try:
            rows[index] = as_row(reading.features, names)
        except InvalidDataError as error:
            if len(readings) > 1:
                error.field = f"[{index}].{error.field}"
            raise
    return rows


def _answers(served: Served, windows: Sequence[_Window]) -> tuple[Floats, Floats]:
    """Return raw scores and p-values of each reading; NaN where the model abstains."""
    raw = np.full(len(windows), np.nan)
    p_values = np.full(len(windows), np.nan)
    asked = [index for index, window in enumerate(windows) if window.example is not None]
    if asked:
        examples = np.stack([windows[index].example for index in asked])  # type: ignore[arg-type]
        raw[asked] = served.model.raw_scores(examples)
        p_values[asked] = served.model.calibration.p_value(raw[asked])
    return raw, p_values


def _without_gaps(
    rows: list[tuple[datetime, Floats]], longest: timedelta
) -> list[tuple[datetime, Floats]]:
    """Return the rows since the last gap."""
    for position in range(len(rows) - 1, 0, -1):
        if rows[position][0] - rows[position - 1][0] > longest:
            return rows[position:]
    return rows


def _reasons(
    index: int,
    verdicts: Mapping[str, ModelVerdict],
    serving: Mapping[str, Served],
    windows: Mapping[str, list[_Window]],
) -> list[SensorContribution]:
    """Return each sensor's share, averaged over the models by how surprised they are."""
    shares: dict[str, float] = {}
    facts: dict[str, tuple[float, Served, int]] = {}
    total = 0.0
    for name, verdict in verdicts.items():
        served, example = serving[name], windows[name][index].example
        assert example is not None
        weight = -np.log10(max(1.0 - verdict.score, 1e-12))
        total += weight
        row = example if example.ndim == 1 else example[-1]
        for position, share in enumerate(served.model.explain(example)):
            sensor = served.model.feature_names[position]
            shares[sensor] = shares.get(sensor, 0.0) + weight * share
            facts[sensor] = (float(row[position]), served, position)
    ranked = sorted(shares, key=lambda sensor: -shares[sensor])
    return [_contribution(sensor, shares[sensor] / total, *facts[sensor]) for sensor in ranked]


def _contribution(
    sensor: str, share: float, value: float, served: Served, position: int
) -> SensorContribution:
    model = served.model
    low, high = float(model.low[position]), float(model.high[position])
    return SensorContribution(
        name=sensor,
        share=share,
        value=value,
        usual=float(model.usual[position]),
        low=low,
        high=high,
        direction="above" if value > high else "below" if value < low else "within",
    )


def _part(progress: Progress, name: str, number: int, total: int) -> Progress:
    return lambda step, share: progress(f"{name}: {step}", (number + share) / total)
