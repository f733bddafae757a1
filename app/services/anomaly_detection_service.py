"""The three detectors together: which versions serve, and one verdict for a reading."""

from __future__ import annotations

import logging
import threading
from bisect import bisect_right
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from app.config import Settings
from app.detectors.base import Floats, Progress, untold
from app.detectors.data import as_matrix, as_row, training_table
from app.errors import (
    ConflictError,
    HistoryError,
    InvalidDataError,
    ModelNotFoundError,
    NotTrainedError,
    TrackingError,
    TrackingUnavailableError,
    VigieError,
)
from app.history.reading import Reading
from app.models.anomaly_data import AnomalyDetectionRequest, AnomalyDetectionResult
from app.services.detector_service import DetectorService, Served
from app.services.isolation_forest_service import IsolationForestService
from app.services.lstm_autoencoder_service import LSTMAutoencoderService
from app.services.mlflow_service import MLflowService
from app.services.one_class_svm_service import OneClassSVMService
from app.services.verdict import Asked, Judged, criticality, judge, reasons
from app.tracking import registry
from app.tracking.registry import Version

if TYPE_CHECKING:
    from app.history.store import History

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
        self._opening = threading.Lock()
        self._history: History | None = None
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
        # Readings without a time are taken in their order, a microsecond apart.
        times = [
            reading.timestamp or now + timedelta(microseconds=position)
            for position, reading in enumerate(readings)
        ]
        serving = self._serving()
        asked, abstained = {}, {}
        for name, (rows, lacking) in _rows_by_model(serving, readings).items():
            question, silent = self._question(serving[name], rows, lacking, readings, times)
            asked[name], abstained[name] = question, silent | lacking
        judged = judge(asked, len(readings), self.settings.contamination)
        results = _results(judged, readings, times, abstained)
        self._remember(readings, results)
        return results

    def detect_table(self, X: Any) -> Judged:
        """Judge the consecutive rows of one asset, without touching the history.

        Parameters
        ----------
        X : DataFrame of shape (n_samples, n_columns)
            Readings in time order; columns that no model knows are not looked at.

        Returns
        -------
        Judged
            What they say of each row. A model of windows abstains until its window is full; one
            whose columns are missing is not asked, unless that is true of all.
        """
        serving, columns = self._serving(), {str(column) for column in X.columns}
        able = {
            name: served
            for name, served in serving.items()
            if columns.issuperset(served.model.feature_names)
        }
        asked = {}
        for name, served in (able or serving).items():
            model = served.model
            examples = model.examples(as_matrix(X, model.feature_names).values)
            judged = np.arange(model.window - 1, len(examples))
            asked[name] = Asked(served, judged, examples[model.window - 1 :])
        return judge(asked, len(X), self.settings.contamination)

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
        if self._history is not None:
            self._history.close()

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

    def _question(
        self,
        served: Served,
        rows: Floats,
        lacking: Container[int],
        readings: Sequence[AnomalyDetectionRequest],
        times: Sequence[datetime],
    ) -> tuple[Asked, dict[int, str]]:
        """Return what a model is asked, and for which readings its window is not full and why."""
        window = served.model.window
        complete = [index for index in range(len(readings)) if index not in lacking]
        if window == 1:
            return Asked(served, np.array(complete, dtype=np.intp), rows[complete]), {}
        assets: dict[tuple[str, str | None], list[int]] = {}
        for index in complete:
            reading = readings[index]
            assets.setdefault((reading.asset_id, reading.sensor_id), []).append(index)
        windows: dict[int, Floats] = {}
        abstained: dict[int, str] = {}
        longest = timedelta(seconds=self.settings.max_gap_s)
        for asset, indices in assets.items():
            asked_at = [times[index] for index in indices]
            past, problem = self._past(served, *asset, min(asked_at), max(asked_at))
            # A reading sent again replaces itself: it is not its own past.
            timeline = dict(sorted((past | {times[i]: rows[i] for i in indices}).items()))
            when = list(timeline)
            for index in indices:
                end = bisect_right(when, times[index])
                seen = _without_gaps(when[max(end - window, 0) : end], longest)
                if len(seen) == window:
                    earlier = [timeline[moment] for moment in seen[:-1]]
                    windows[index] = np.stack([*earlier, rows[index]])
                else:
                    abstained[index] = problem or f"its window has {len(seen)} of {window} rows"
        found = np.array(sorted(windows), dtype=np.intp)
        examples = np.empty((len(found), window, rows.shape[1]))
        for place, index in enumerate(found):
            examples[place] = windows[index]
        return Asked(served, found, examples), abstained

    def _past(
        self,
        served: Served,
        asset_id: str,
        sensor_id: str | None,
        first: datetime,
        last: datetime,
    ) -> tuple[dict[datetime, Floats], str]:
        """Return the rows that readings from first to last look back on, or why there are none."""
        model = served.model
        try:
            history = self._open_history()
            kept = history.around(asset_id, sensor_id, first, last, model.window - 1)
        except HistoryError as error:
            logger.error("%s", error)
            return {}, "the history cannot be read"
        past: dict[datetime, Floats] = {}
        for measured, features in kept:
            try:
                past[measured] = as_row(features, model.feature_names)
            except InvalidDataError:
                # Rows of another feature set, from before this model: not its past.
                past.clear()
        return past, ""

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
        except HistoryError as error:
            # A full disk must not blind the plant: the verdict is given all the same.
            logger.error("%d readings were not kept. %s", len(kept), error)

    def _open_history(self) -> History:
        with self._opening:
            if self._history is None:
                # Imported here, for SQLAlchemy would be a third of the service's start.
                from app.history.store import History

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


def _rows_by_model(
    serving: Mapping[str, Served], readings: Sequence[AnomalyDetectionRequest]
) -> dict[str, tuple[Floats, dict[int, str]]]:
    """Return for each model the rows that it looks at, and which readings lack its features.

    A model trained on other features than the rest abstains where they are missing; a reading
    that no model can judge is an error.
    """
    found: dict[str, tuple[Floats, dict[int, str]]] = {}
    for name, served in serving.items():
        names = served.model.feature_names
        rows, lacking = np.full((len(readings), len(names)), np.nan), {}
        for index, reading in enumerate(readings):
            missing = [feature for feature in names if feature not in reading.features]
            if missing:
                lacking[index] = f"the reading lacks {', '.join(missing)}"
            else:
                rows[index] = _row(readings, index, names)
        found[name] = rows, lacking
    for index in range(len(readings)):
        if all(index in lacking for _, lacking in found.values()):
            _row(readings, index, next(iter(serving.values())).model.feature_names)
    return found


def _row(readings: Sequence[AnomalyDetectionRequest], index: int, names: Sequence[str]) -> Floats:
    try:
        return as_row(readings[index].features, names)
    except InvalidDataError as error:
        if len(readings) > 1:
            error.field = f"[{index}].{error.field}"
        raise


def _results(
    judged: Judged,
    readings: Sequence[AnomalyDetectionRequest],
    times: Sequence[datetime],
    abstained: Mapping[str, Mapping[int, str]],
) -> list[AnomalyDetectionResult]:
    why = reasons(judged)
    results = []
    for index, (reading, measured) in enumerate(zip(readings, times, strict=True)):
        silent = {name: said[index] for name, said in abstained.items() if index in said}
        p_value = float(judged.combined[index])
        results.append(
            AnomalyDetectionResult(
                asset_id=reading.asset_id,
                sensor_id=reading.sensor_id,
                timestamp=measured,
                models=judged.verdicts(index),
                abstained=silent,
                final_score=None if np.isnan(p_value) else 1.0 - p_value,
                threshold=1.0 - judged.contamination,
                is_anomaly=bool(judged.is_anomaly[index]),
                criticality=criticality(p_value, judged.contamination),
                sensors=why.get(index, []),
                metadata=reading.metadata,
            )
        )
    return results


def _without_gaps(moments: list[datetime], longest: timedelta) -> list[datetime]:
    """Return the moments since the last gap."""
    for position in range(len(moments) - 1, 0, -1):
        if moments[position] - moments[position - 1] > longest:
            return moments[position:]
    return moments


def _part(progress: Progress, name: str, number: int, total: int) -> Progress:
    return lambda step, share: progress(f"{name}: {step}", (number + share) / total)
