"""The three detectors together: which versions serve, and one verdict for a reading."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from app.config import Settings
from app.detectors.base import Progress, untold
from app.detectors.data import Table, as_row, training_table
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
from app.models.anomaly_data import (
    AnomalyDetectionRequest,
    AnomalyDetectionResult,
    AssetState,
    AssetVerdict,
)
from app.services.asset import Standing
from app.services.detector_service import DetectorService, Served
from app.services.isolation_forest_service import IsolationForestService
from app.services.lstm_autoencoder_service import LSTMAutoencoderService
from app.services.mlflow_service import MLflowService
from app.services.one_class_svm_service import OneClassSVMService
from app.services.sensors import Sensors
from app.services.stream import Stream
from app.services.timeline import (
    Timeline,
    Times,
    as_datetime,
    as_datetime64,
    starts_after_gaps,
)
from app.services.verdict import Judged, criticality, judge, look_back
from app.tracking import registry
from app.tracking.registry import Version

if TYPE_CHECKING:
    from app.history.store import History, Turn

logger = logging.getLogger(__name__)

Asset = tuple[str, str | None]
"""Asset and sensor group: what has a history of its own."""
UNSETTLED = (AssetState.WATCH, AssetState.ALARM)
PART = 500
"""Readings of an asset that are judged in one turn of the history."""

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
        serving = self._serving()
        sensors = self._sensors(serving)
        lacking = self._lacking(serving, sensors, readings)
        now = datetime.now(UTC)
        # Readings without a time are taken in their order, a microsecond apart.
        times = [
            reading.timestamp or now + timedelta(microseconds=position)
            for position, reading in enumerate(readings)
        ]
        assets: dict[Asset, list[int]] = {}
        for index, reading in enumerate(readings):
            assets.setdefault((reading.asset_id, reading.sensor_id), []).append(index)
        question = _Question(serving, sensors, readings, times, lacking)
        results: dict[int, AnomalyDetectionResult] = {}
        for asset, indices in assets.items():
            results |= self._answer_in_turns(question, asset, indices)
        return [results[index] for index in range(len(readings))]

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
        return self.stream(X.columns, faulty_values).judge(X, times).judged

    def stream(
        self,
        columns: Iterable[Any],
        faulty_values: str | None = None,
        model_names: Sequence[str] | None = None,
    ) -> Stream:
        """Return what judges the rows of one asset part by part, without touching the history.

        Parameters
        ----------
        columns : iterable of str
            What the rows have. A model whose columns are missing is not asked, unless that is
            true of all.
        faulty_values : {'refuse', 'impute'}, optional
            What to do about missing and impossible values; by default as in the settings.
        model_names : sequence of str, optional
            Registered names of the models to ask; by default all that serve.

        Raises
        ------
        NotTrainedError
            If no model can answer, or one that is named.
        InvalidDataError
            If a name is unknown.
        """
        serving, columns = self._serving(), {str(column) for column in columns}
        if model_names is not None:
            names = _checked_names(model_names)
            if lacking := [name for name in names if name not in serving]:
                raise NotTrainedError(
                    f"No version of {', '.join(lacking)} serves.",
                    remedy="Train one with `vigie train FILE`, or name other models.",
                )
            serving = {name: serving[name] for name in names}
        able = {
            name: served
            for name, served in serving.items()
            if columns.issuperset(served.model.feature_names)
        }
        serving = able or serving
        return Stream(
            serving,
            self._sensors(serving),
            refuse=(faulty_values or self.settings.faulty_values) == "refuse",
            contamination=self.settings.contamination,
            max_gap_s=self.settings.max_gap_s,
        )

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

    def _sensors(self, serving: Mapping[str, Served]) -> Sensors:
        models = (served.model for served in serving.values())
        return Sensors.of(models, self.settings.sensor_ranges)

    def _lacking(
        self,
        serving: Mapping[str, Served],
        sensors: Sensors,
        readings: Sequence[AnomalyDetectionRequest],
    ) -> dict[str, dict[int, str]]:
        """Check the readings; return which model cannot look at which of them, and why.

        Raises
        ------
        InvalidDataError
            If no model can judge a reading, or one is to be refused.
        """
        examined = sensors.examine(sensors.matrix([reading.features for reading in readings]))
        refuse = self.settings.faulty_values == "refuse"
        lacking: dict[str, dict[int, str]] = {name: {} for name in serving}
        for index, reading in enumerate(readings):
            place = f"[{index}]." if len(readings) > 1 else ""
            if refuse:
                examined.refuse(index, f"{place}features.")
            unusable = examined.unusable(index)
            for name, served in serving.items():
                missing = [sensor for sensor in served.model.feature_names if sensor in unusable]
                if missing and (refuse or len(missing) == served.model.n_features):
                    lacking[name][index] = f"the reading lacks {', '.join(missing)}"
            if all(index in found for found in lacking.values()):
                _complain(reading, next(iter(serving.values())).model.feature_names, place)
        return lacking

    def _answer_in_turns(
        self, question: _Question, asset: Asset, indices: list[int]
    ) -> dict[int, AnomalyDetectionResult]:
        """Judge the readings of one asset, in turns so short that others need not wait long."""
        results: dict[int, AnomalyDetectionResult] = {}
        parts = _in_parts(indices, question.times, self.settings.max_gap_s)
        for number, part in enumerate(parts):
            try:
                with self._open_history().turn(*asset) as turn:
                    found, kept = self._answer_for(question, asset, part, turn)
                    turn.append(kept)
                results |= found
            except HistoryError as error:
                # A full disk must not blind the plant: the verdict is given all the same.
                rest = [index for left in parts[number:] for index in left]
                logger.error("%d readings were not kept. %s", len(rest), error)
                return results | self._answer_for(question, asset, rest, None)[0]
        return results

    def _answer_for(
        self, question: _Question, asset: Asset, indices: list[int], turn: Turn | None
    ) -> tuple[dict[int, AnomalyDetectionResult], list[Reading]]:
        """Judge the readings of one asset; return the results, and what is to be remembered."""
        sensors, contamination = question.sensors, self.settings.contamination
        asked_at = [question.times[index] for index in indices]
        past: list[Reading] = []
        if turn is not None:
            past = turn.around(*asset, min(asked_at), max(asked_at), look_back(question.serving))
        # A reading sent again replaces itself: it is not its own past.
        rows: dict[datetime, Reading | int] = {reading.timestamp: reading for reading in past}
        rows |= {question.times[index]: index for index in indices}
        ordered = sorted(rows.items())
        first = next(place for place, (_, row) in enumerate(ordered) if isinstance(row, int))
        examined = sensors.examine(
            sensors.matrix(
                [
                    question.readings[row].features if isinstance(row, int) else row.features
                    for _, row in ordered
                ]
            ),
            past[0].result.get("held", {}) if past and ordered[0][1] is past[0] else {},
        )
        times = np.array([as_datetime64(moment) for moment, _ in ordered])
        starts = starts_after_gaps(times, self.settings.max_gap_s)
        timeline = Timeline(times, examined.columns, starts)
        # Readings that were kept in between are judged again, for they have a new past.
        at = np.arange(first, len(ordered))
        asked = [row if isinstance(row, int) else None for _, row in ordered[first:]]
        judged = judge(
            question.serving,
            timeline,
            at,
            np.array([_kept_p_value(row) for _, row in ordered[:first]], dtype=float),
            contamination,
            {
                name: np.array([index in found for index in asked])
                for name, found in question.lacking.items()
                if found
            },
        )
        before = _kept_standing(ordered[first - 1][1]) if first > 0 else None
        standings = judged.standings(before)
        if turn is None:
            # A batch may show an alarm by itself, but not that there was none before it.
            standings = [
                replace(found, state=AssetState.UNKNOWN)
                if found.state is AssetState.NORMAL
                else found
                for found in standings
            ]
        new = np.array([place for place, index in enumerate(asked) if index is not None])
        why = judged.reasons(new[judged.is_anomaly[new]])
        unsettled = [p for p in new.tolist() if standings[p].state in UNSETTLED]
        drivers = judged.trend_reasons(np.array(unsettled, dtype=np.intp))
        results: dict[int, AnomalyDetectionResult] = {}
        kept: list[Reading] = []
        # Of two readings with one time, the one given last stands for both.
        for place in new.tolist():
            p_value, evidence = float(judged.combined[place]), float(judged.asset[place])
            moment, standing = ordered[first + place][0], standings[place]
            for index in (i for i in indices if question.times[i] == moment):
                reading = question.readings[index]
                results[index] = AnomalyDetectionResult(
                    asset_id=reading.asset_id,
                    sensor_id=reading.sensor_id,
                    timestamp=moment,
                    models=judged.verdicts(place),
                    abstained=_abstained(judged, place, question.lacking, index, turn),
                    final_score=_score(p_value),
                    threshold=1.0 - contamination,
                    is_anomaly=bool(judged.is_anomaly[place]),
                    criticality=criticality(p_value, contamination),
                    sensors=why.get(place, []),
                    imputed=examined.unusable(first + place) if self._imputes else {},
                    frozen=examined.frozen(first + place),
                    asset=AssetVerdict(
                        state=standing.state,
                        since=as_datetime(standing.since),
                        evidence=_score(evidence),
                        began=None if standing.began is None else as_datetime(standing.began),
                        sensors=drivers.get(place, []),
                    ),
                    metadata=reading.metadata,
                )
            kept.append(
                Reading(
                    *asset,
                    moment,
                    reading.features,
                    _to_keep(judged, place, standing) | {"held": examined.held_for(first + place)},
                )
            )
        return results, kept

    @property
    def _imputes(self) -> bool:
        return self.settings.faulty_values == "impute"

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
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HistoryError(
            f"The history has no place: {error}.", remedy="Set VIGIE_STATE_DIR to a usable folder."
        ) from error
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


@dataclass(frozen=True)
class _Question:
    """Readings, and what answers them."""

    serving: Mapping[str, Served]
    sensors: Sensors
    readings: Sequence[AnomalyDetectionRequest]
    times: Sequence[datetime]
    lacking: Mapping[str, Mapping[int, str]]


def _in_parts(
    indices: Sequence[int], times: Sequence[datetime], longest_gap_s: float
) -> list[list[int]]:
    """Return readings in time order, in parts that are judged one after the other.

    One stray time must not make a part reach over all that was kept since. Readings of one time
    stay together, for the last one stands for all.
    """
    parts: list[list[int]] = []
    last = datetime.min.replace(tzinfo=UTC)
    for index in sorted(indices, key=lambda index: times[index]):
        hole = times[index] - last > timedelta(seconds=longest_gap_s)
        full = len(parts) > 0 and len(parts[-1]) >= PART and times[index] != last
        if hole or full or not parts:
            parts.append([])
        parts[-1].append(index)
        last = times[index]
    return parts


def _complain(reading: AnomalyDetectionRequest, names: Sequence[str], place: str) -> None:
    """Raise for a reading that no model can judge."""
    try:
        as_row(reading.features, names)
    except InvalidDataError as error:
        error.field = f"{place}{error.field}"
        raise
    raise InvalidDataError(
        "No sensor has a value that can be used.",
        field=f"{place}features",
        remedy="Check the sensors and their units.",
    )


def _abstained(
    judged: Judged,
    place: int,
    lacking: Mapping[str, Mapping[int, str]],
    index: int,
    turn: Turn | None,
) -> dict[str, str]:
    """Return the models that say nothing of a reading, and why."""
    reach = int(judged.timeline.reach(judged.at[[place]])[0])
    why = "" if turn is not None else ", for the history cannot be used"
    return {
        name: lacking[name].get(index, f"its window has {reach} of {served.model.window} rows{why}")
        for name, served in judged.serving.items()
        if np.isnan(judged.p_values[name][place])
    }


def _to_keep(judged: Judged, place: int, standing: Standing) -> dict[str, Any]:
    """Return what later readings need to know of this one."""
    p_value = float(judged.supported[place])
    return {
        "final_score": _score(float(judged.combined[place])),
        "is_anomaly": bool(judged.is_anomaly[place]),
        "p_value": None if np.isnan(p_value) else p_value,
        "state": standing.state.value,
        "since": str(standing.since),
        "began": None if standing.began is None else str(standing.began),
        "calm": standing.calm,
    }


def _kept_p_value(reading: Reading | int) -> float:
    p_value = reading.result.get("p_value") if isinstance(reading, Reading) else None
    return float("nan") if p_value is None else float(p_value)


def _kept_standing(reading: Reading | int) -> Standing | None:
    if not isinstance(reading, Reading) or "state" not in reading.result:
        return None
    result = reading.result
    return Standing(
        AssetState(result["state"]),
        np.datetime64(result["since"], "us"),
        None if result["began"] is None else np.datetime64(result["began"], "us"),
        result["calm"],
    )


def _score(p_value: float) -> float | None:
    return None if np.isnan(p_value) else 1.0 - p_value


def _part(progress: Progress, name: str, number: int, total: int) -> Progress:
    return lambda step, share: progress(f"{name}: {step}", (number + share) / total)
