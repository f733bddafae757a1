"""The requests of a client, without sending them, and what may be sent again."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast
from urllib.parse import quote

import httpx
from pydantic import TypeAdapter, ValidationError

from vigie.api.schemas import (
    EventDetail,
    EventList,
    HealthResponse,
    JobList,
    JobResponse,
    ModelList,
    ModelSummary,
    MovedVersion,
    MoveList,
    MoveResponse,
    RegisteredVersion,
    StatusResponse,
    VersionList,
    VersionMetrics,
)
from vigie.client.tables import columns_of, is_table, reading_columns, readings_of
from vigie.errors import InvalidDataError
from vigie.models.alarms import (
    AlarmDetail,
    AlarmList,
    AlarmLoad,
    Alert,
    AlertList,
    AssetList,
    AssetService,
)
from vigie.models.anomaly_data import (
    AnomalyDetectionRequest,
    AnomalyDetectionResult,
    as_readings,
)
from vigie.models.columns import ReadingColumns, ResultColumns
from vigie.models.comparison import Comparison
from vigie.models.from_json import refused
from vigie.models.jobs import JobState
from vigie.models.readings import ReadingPage, search_of
from vigie.models.training import HistoryRange

if TYPE_CHECKING:
    import pandas as pd

JSON, FILE, EVENTS = "application/json", "application/octet-stream", "text/event-stream"
ANOMALIES, JOBS, MODELS = "/api/v1/anomalies", "/api/v1/jobs", "/api/v1/models"
EVENTS_OF_ASSETS, ALARMS, ASSETS = "/api/v1/events", "/api/v1/alarms", "/api/v1/assets"
ALERTS = "/api/v1/alerts"
FIRST_PAUSE_S = 0.5
"""Before the first repetition after a failed connection; each further pause is twice as long."""
LONGEST_PAUSE_S = 60.0
"""A service that asks to wait longer is not asked again."""
UNSENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
LOST = (httpx.NetworkError, httpx.RemoteProtocolError)

Reading = AnomalyDetectionRequest | Mapping[str, Any]
Readings = Iterable[Reading]
Columns = ReadingColumns | Mapping[str, Any]
Options = Mapping[str, str | bool | Sequence[str]]
T = TypeVar("T")


@dataclass(frozen=True)
class Call(Generic[T]):
    """A request, and how its answer is read.

    Attributes
    ----------
    method, path : str
        As HTTP has them.
    read : callable
        Returns the result from the body of an answer.
    is_repeatable : bool
        Whether a second one changes nothing more than the first, so that it may be sent again when
        its answer was lost.
    """

    method: str
    path: str
    read: Callable[[bytes], T]
    is_repeatable: bool = False
    params: Mapping[str, Any] = field(default_factory=dict)
    content: bytes | None = None
    media_type: str = JSON

    @property
    def request(self) -> dict[str, Any]:
        """The arguments of httpx's ``request``."""
        headers = {} if self.content is None else {"Content-Type": self.media_type}
        return {
            "method": self.method,
            "url": self.path,
            "params": self.params,
            "content": self.content,
            "headers": headers,
        }

    def pause_s(self, outcome: httpx.Response | httpx.TransportError, attempt: int) -> float | None:
        """Return after how many seconds this may be sent again; None if it may not.

        What has never reached the service may be, and what the service has refused for now, since a
        refusal changes nothing. A 503 may come from a proxy that has passed the request on, so like
        an answer that was lost it allows a repeatable request only.

        Parameters
        ----------
        outcome : Response or TransportError
            What came of it.
        attempt : int
            How often it has been sent before, from 0.
        """
        if isinstance(outcome, httpx.Response):
            is_refused = outcome.status_code == HTTPStatus.TOO_MANY_REQUESTS
            is_away = outcome.status_code == HTTPStatus.SERVICE_UNAVAILABLE and self.is_repeatable
            after = outcome.headers.get("Retry-After", "")
            if not (is_refused or is_away) or not after.isdecimal():
                return None
            return float(after) if float(after) <= LONGEST_PAUSE_S else None
        if isinstance(outcome, UNSENT) or (isinstance(outcome, LOST) and self.is_repeatable):
            return min(FIRST_PAUSE_S * 2.0**attempt, LONGEST_PAUSE_S)
        return None


def _reader(kind: Any) -> Callable[[bytes], Any]:
    return TypeAdapter(kind).validate_json


_RESULT: Callable[[bytes], AnomalyDetectionResult] = _reader(AnomalyDetectionResult)
_RESULTS: Callable[[bytes], list[AnomalyDetectionResult]] = _reader(list[AnomalyDetectionResult])
_METRICS: Callable[[bytes], dict[str, list[VersionMetrics]]] = _reader(
    dict[str, list[VersionMetrics]]
)
_COLUMNS = TypeAdapter(ReadingColumns)
_BODY = TypeAdapter(list[AnomalyDetectionRequest])


def detect(reading: Reading) -> Call[AnomalyDetectionResult]:
    """Return the request that judges a reading."""
    [checked] = as_readings([_plain(reading)])
    content = checked.model_dump_json(exclude_unset=True).encode()
    return Call(
        *("POST", f"{ANOMALIES}/detect", _RESULT, checked.timestamp is not None), content=content
    )


def detect_batch(
    readings: Readings | pd.DataFrame,
    asset_id: str | None,
    sensor_id: str | None,
    time: str | None,
    context: Sequence[str],
) -> Call[list[AnomalyDetectionResult]]:
    """Return the request that judges readings, which may be the rows of a table."""
    rows = (
        readings_of(readings, asset_id, sensor_id, time, context)
        if is_table(readings)
        else cast(Readings, readings)
    )
    checked = as_readings([_plain(row) for row in rows])
    # The same reading of the same time takes its own place; without a time it is another one.
    is_repeatable = all(reading.timestamp is not None for reading in checked)
    content = _BODY.dump_json(checked, exclude_unset=True)
    return Call("POST", f"{ANOMALIES}/detect/batch", _RESULTS, is_repeatable, content=content)


def detect_columns(
    readings: Columns | pd.DataFrame,
    asset_id: str | None,
    sensor_id: str | None,
    time: str | None,
    context: Sequence[str],
) -> Call[ResultColumns]:
    """Return the request that judges the readings of an asset as columns."""
    columns = (
        reading_columns(readings, asset_id, sensor_id, time, context)
        if is_table(readings)
        else readings
    )
    try:
        checked = _COLUMNS.validate_python(columns)
    except ValidationError as error:
        raise refused(_COLUMNS, error, columns) from None
    content = checked.model_dump_json(exclude_unset=True).encode()
    read, is_repeatable = ResultColumns.model_validate_json, checked.timestamps is not None
    return Call("POST", f"{ANOMALIES}/detect/batch", read, is_repeatable, content=content)


def train(
    data: Any,
    feature_names: Sequence[str] | None,
    context_features: Sequence[str],
    model_names: Sequence[str] | None,
    contamination: float | None,
    parameters: Mapping[str, Mapping[str, Any]],
    options: Options,
) -> Call[JobResponse]:
    """Return the request that starts a training."""
    read: Callable[[bytes], JobResponse] = JobResponse.model_validate_json
    path = f"{ANOMALIES}/train"
    if isinstance(data, str | os.PathLike):
        lists = {"model": model_names, "feature": feature_names, "context": context_features}
        params: dict[str, Any] = {name: list(values) for name, values in lists.items() if values}
        params |= {"contamination": contamination} if contamination is not None else {}
        params |= {
            f"{detector}.{name}": value
            for detector, values in parameters.items()
            for name, value in values.items()
        }
        content, params = _file(Path(data), params, options)
        return Call("POST", path, read, params=params, content=content, media_type=FILE)
    if options:
        raise InvalidDataError(
            "Rows need no options of a file.",
            field=next(iter(options)),
            remedy="Leave it out, or give the path of a file.",
        )
    body: dict[str, Any]
    if isinstance(data, HistoryRange):
        body = {"history": data.model_dump(mode="json", by_alias=True, exclude_unset=True)}
    elif is_table(data):
        body = columns_of(data, context_features)
    else:
        rows = data.tolist() if hasattr(data, "tolist") else [_numbers(row) for row in data]
        body = {"data": rows}
    body |= {"feature_names": list(feature_names)} if feature_names is not None else {}
    if context_features and not is_table(data):
        body["context_features"] = list(context_features)
    body |= {"model_names": list(model_names)} if model_names is not None else {}
    body |= {"contamination": contamination} if contamination is not None else {}
    body |= {"parameters": parameters} if parameters else {}
    return Call("POST", path, read, content=_encoded(body))


def inspect(file: str | os.PathLike[str], options: Options) -> Call[dict[str, Any]]:
    """Return the request that looks at a file."""
    content, params = _file(Path(file), {}, options)
    read: Callable[[bytes], dict[str, Any]] = json.loads
    path = f"{ANOMALIES}/inspect"
    return Call("POST", path, read, True, params=params, content=content, media_type=FILE)


def list_readings(asked: Mapping[str, Any]) -> Call[ReadingPage]:
    """Return the request for stored readings."""
    texts = {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in asked.items()
        if value is not None
    }
    params = search_of(texts).model_dump(mode="json", exclude_unset=True) | {"format": "json"}
    read = ReadingPage.model_validate_json
    return Call("GET", f"{ANOMALIES}/", read, True, params=params)


def status() -> Call[StatusResponse]:
    """Return the request for the state of the service."""
    return Call("GET", f"{ANOMALIES}/status", StatusResponse.model_validate_json, True)


def metrics() -> Call[dict[str, list[VersionMetrics]]]:
    """Return the request for the newest versions of each model."""
    return Call("GET", f"{ANOMALIES}/metrics", _METRICS, True)


def ready() -> Call[HealthResponse]:
    """Return the request that a service answers once a model serves."""
    return Call("GET", f"{ANOMALIES}/health/ready", HealthResponse.model_validate_json, True)


def list_jobs(state: JobState | str | None, limit: int) -> Call[list[JobResponse]]:
    """Return the request for the last jobs."""

    def read(content: bytes) -> list[JobResponse]:
        return JobList.model_validate_json(content).jobs

    params = {"limit": limit} if state is None else {"limit": limit, "state": str(state)}
    return Call("GET", JOBS, read, True, params=params)


def get_job(job: str | JobResponse) -> Call[JobResponse]:
    """Return the request for a job."""
    return Call("GET", _path(job), JobResponse.model_validate_json, True)


def cancel_job(job: str | JobResponse) -> Call[JobResponse]:
    """Return the request that cancels a job."""
    return Call("DELETE", _path(job), JobResponse.model_validate_json)


def job_events(job: str | JobResponse) -> str:
    """Return the path of the events of a job."""
    return f"{_path(job)}/events"


def list_events(
    asset_id: str | None,
    state: str | None,
    kind: str | None,
    since: datetime | None,
    until: datetime | None,
    label: str | None,
    limit: int,
    cursor: str | None,
) -> Call[EventList]:
    """Return the request for events of assets."""
    params = {"asset_id": asset_id, "state": state, "kind": kind, "limit": limit, "cursor": cursor}
    params["label"] = label
    params |= {name: _moment(time) for name, time in (("from", since), ("to", until))}
    params = {name: value for name, value in params.items() if value is not None}
    return Call("GET", EVENTS_OF_ASSETS, EventList.model_validate_json, True, params=params)


def get_event(number: str) -> Call[EventDetail]:
    """Return the request for an event."""
    path = f"{EVENTS_OF_ASSETS}/{quote(number, safe='')}"
    return Call("GET", path, EventDetail.model_validate_json, True)


def label_event(number: str, label: str, cause: str | None, note: str | None) -> Call[EventDetail]:
    """Return the request that labels an event."""
    path = f"{EVENTS_OF_ASSETS}/{quote(number, safe='')}/label"
    given = {"label": label, "cause": cause, "note": note}
    content = json.dumps({name: text for name, text in given.items() if text}).encode()
    return Call("POST", path, EventDetail.model_validate_json, False, content=content)


def list_alarms(
    asset_id: str | None,
    state: str | None,
    kind: str | None,
    acknowledged: bool | None,
    limit: int,
    cursor: str | None,
) -> Call[AlarmList]:
    """Return the request for alarms."""
    params = {"asset_id": asset_id, "state": state, "kind": kind, "limit": limit, "cursor": cursor}
    params |= {"acknowledged": None if acknowledged is None else str(acknowledged).lower()}
    params = {name: value for name, value in params.items() if value is not None}
    return Call("GET", ALARMS, AlarmList.model_validate_json, True, params=params)


def get_alarm(number: str) -> Call[AlarmDetail]:
    """Return the request for an alarm."""
    path = f"{ALARMS}/{quote(number, safe='')}"
    return Call("GET", path, AlarmDetail.model_validate_json, True)


def acknowledge_alarm(number: str, note: str | None) -> Call[AlarmDetail]:
    """Return the request that acknowledges an alarm; a second one changes nothing."""
    return _on_alarm(number, "acknowledge", {"note": note} if note else {}, is_repeatable=True)


def shelve_alarm(number: str, for_s: float, reason: str) -> Call[AlarmDetail]:
    """Return the request that shelves an alarm."""
    return _on_alarm(number, "shelve", {"for_s": for_s, "reason": reason})


def unshelve_alarm(number: str, note: str | None) -> Call[AlarmDetail]:
    """Return the request that takes up a shelved alarm."""
    return _on_alarm(number, "unshelve", {"note": note} if note else {})


def alarm_load(
    asset_id: str | None, since: datetime | None, until: datetime | None
) -> Call[AlarmLoad]:
    """Return the request for the load of alarms."""
    params = {"asset_id": asset_id, "from": _moment(since), "to": _moment(until)}
    params = {name: value for name, value in params.items() if value is not None}
    return Call("GET", f"{ALARMS}/load", AlarmLoad.model_validate_json, True, params=params)


def list_alerts(state: str | None, limit: int, cursor: str | None) -> Call[AlertList]:
    """Return the request for what is told of alarms."""
    params = {"state": state, "limit": limit, "cursor": cursor}
    params = {name: value for name, value in params.items() if value is not None}
    return Call("GET", ALERTS, AlertList.model_validate_json, True, params=params)


def retry_alert(number: str) -> Call[Alert]:
    """Return the request that sends a dead letter again."""
    path = f"{ALERTS}/{quote(number, safe='')}/retry"
    return Call("POST", path, Alert.model_validate_json)


def list_assets(
    asset_id: str | None, state: str | None, limit: int, cursor: str | None
) -> Call[AssetList]:
    """Return the request for assets."""
    params = {"asset_id": asset_id, "state": state, "limit": limit, "cursor": cursor}
    params = {name: value for name, value in params.items() if value is not None}
    return Call("GET", ASSETS, AssetList.model_validate_json, True, params=params)


def take_out_of_service(asset_id: str, reason: str, until: datetime | None) -> Call[AssetService]:
    """Return the request that takes an asset out of service."""
    body = {"reason": reason} | ({} if until is None else {"until": _moment(until)})
    content, read = json.dumps(body).encode(), AssetService.model_validate_json
    return Call("POST", _out_of_service(asset_id), read, content=content)


def put_in_service(asset_id: str) -> Call[AssetService]:
    """Return the request that puts an asset back into service."""
    return Call("DELETE", _out_of_service(asset_id), AssetService.model_validate_json)


def list_models() -> Call[list[ModelSummary]]:
    """Return the request for all models."""
    return Call("GET", MODELS, lambda content: ModelList.model_validate_json(content).models, True)


def list_versions(name: str, limit: int) -> Call[list[RegisteredVersion]]:
    """Return the request for the last versions of a model."""

    def read(content: bytes) -> list[RegisteredVersion]:
        return VersionList.model_validate_json(content).versions

    return Call("GET", _model(name, "versions"), read, True, params={"limit": limit})


def list_moves(name: str, limit: int) -> Call[list[MoveResponse]]:
    """Return the request for the last moves of a model's versions."""

    def read(content: bytes) -> list[MoveResponse]:
        return MoveList.model_validate_json(content).moves

    return Call("GET", _model(name, "history"), read, True, params={"limit": limit})


def promote(name: str, version: int, stage: str, reason: str | None) -> Call[MovedVersion]:
    """Return the request that moves a version to a stage."""
    body = {"version": version, "stage": stage} | ({"reason": reason} if reason else {})
    path, read = _model(name, "promote"), MovedVersion.model_validate_json
    return Call("POST", path, read, content=json.dumps(body).encode())


def rollback(name: str, reason: str | None) -> Call[MovedVersion]:
    """Return the request that promotes the version that was in Production before."""
    body = {"reason": reason} if reason else {}
    path, read = _model(name, "rollback"), MovedVersion.model_validate_json
    return Call("POST", path, read, content=json.dumps(body).encode())


def comparison(name: str) -> Call[Comparison]:
    """Return the request for the comparison of the version in Staging."""
    return Call("GET", _model(name, "comparison"), Comparison.model_validate_json, True)


def _on_alarm(
    number: str, what: str, body: Mapping[str, Any], *, is_repeatable: bool = False
) -> Call[AlarmDetail]:
    path, content = f"{ALARMS}/{quote(number, safe='')}/{what}", json.dumps(body).encode()
    return Call("POST", path, AlarmDetail.model_validate_json, is_repeatable, content=content)


def _out_of_service(asset_id: str) -> str:
    # The slashes of its path stay.
    return f"{ASSETS}/{quote(asset_id)}/out-of-service"


def _model(name: str, part: str) -> str:
    return f"{MODELS}/{quote(name, safe='')}/{part}"


def _path(job: str | JobResponse) -> str:
    number = job if isinstance(job, str) else job.id
    return f"{JOBS}/{quote(number, safe='')}"


def _moment(time: datetime | None) -> str | None:
    """Return a time as an address has it; one without a zone is in UTC, as everywhere."""
    if time is None:
        return None
    in_utc = time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    return in_utc.isoformat().replace("+00:00", "Z")


def _file(path: Path, params: Mapping[str, Any], options: Options) -> tuple[bytes, dict[str, Any]]:
    """Return the content of a file, and the parameters that say what it is."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InvalidDataError(
            f"{path} cannot be read ({error.strerror}).", field="data", remedy="Check its name."
        ) from error
    words = {
        name: str(value).lower() if isinstance(value, bool) else value
        for name, value in options.items()
    }
    return content, {"filename": path.name, **params, **words}


def _plain(reading: Reading) -> Reading:
    """Return a reading whose values may have come as numpy's numbers."""
    features = reading.get("features") if isinstance(reading, Mapping) else None
    if not isinstance(features, Mapping):
        return reading
    assert isinstance(reading, Mapping)
    return {**reading, "features": dict(zip(features, _numbers(features.values()), strict=True))}


def _numbers(values: Iterable[Any]) -> list[Any]:
    return [value.item() if hasattr(value, "item") else value for value in values]


def _encoded(body: Mapping[str, Any]) -> bytes:
    try:
        return json.dumps(body, allow_nan=False).encode()
    except ValueError as error:
        raise InvalidDataError(
            "A value is missing or infinite.",
            field="data",
            remedy="Train on rows whose values are all numbers.",
        ) from error
    except TypeError as error:
        raise InvalidDataError(
            f"A value cannot be sent as JSON: {error}.", field="data", remedy="Send numbers."
        ) from error
