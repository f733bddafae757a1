"""The client for programs without an event loop."""

from __future__ import annotations

import os
import ssl
import time as clock
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self

import httpx

from vigie.api.schemas import (
    EventDetail,
    EventList,
    JobResponse,
    ModelSummary,
    MovedVersion,
    MoveResponse,
    RegisteredVersion,
    StatusResponse,
    VersionMetrics,
)
from vigie.client import calls
from vigie.client.answers import Events, raised_by, require_success, unreachable
from vigie.client.base import (
    AGAIN_S,
    ANSWER_S,
    CONNECT_S,
    LOCAL,
    MOST_ATTEMPTS,
    SILENT_S,
    http_options,
    pause_s,
    result_of,
)
from vigie.client.calls import Call, Columns, Options, Reading, Readings, T
from vigie.errors import NotTrainedError, ServiceError
from vigie.models.alarms import (
    AlarmDetail,
    AlarmList,
    AlarmLoad,
    Alert,
    AlertList,
    AssetList,
    AssetService,
)
from vigie.models.anomaly_data import AnomalyDetectionResult
from vigie.models.columns import ResultColumns
from vigie.models.comparison import Comparison
from vigie.models.jobs import JobState
from vigie.models.readings import ReadingPage, StoredReading

if TYPE_CHECKING:
    import pandas as pd

NONE: Mapping[str, Any] = MappingProxyType({})


class Client:
    """A service, from Python. In a ``with`` statement, connections are closed at its end.

    A request is sent again, ``retries`` times at most, if it has not reached the service, or if the
    service refuses it for now with ``Retry-After`` (429). If its answer is lost, or a proxy says
    503, it is sent again only if that changes nothing: requests that read, ``inspect``, and
    readings that all have a timestamp, since the same reading of the same time counts once. A
    training is never started twice, and a reading without a timestamp never counted twice.

    Parameters
    ----------
    address : str, optional
        Of the service, with the path of a proxy if there is one; by default that of this machine.
    key : str, optional
        An API key; by default that of the settings (``VIGIE_API_KEY``), if there is one.
    timeout : float or httpx.Timeout, optional
        Seconds to wait for an answer.
    retries : int, optional
        How often a request is sent again.
    verify : bool, Path or SSLContext, optional
        The certificate to trust besides the machine's; False for any.

    Raises
    ------
    InvalidDataError
        If an argument cannot be used. So do all methods, before they send anything or because the
        service says so; nothing has changed then.
    KeyRefusedError
        From all methods, if the service demands another key.
    ServiceUnavailableError
        From all methods, if the service cannot be reached.
    ServiceError
        From all methods, if it fails, or is no Vigie.
    """

    def __init__(
        self,
        address: str = LOCAL,
        *,
        key: str | None = None,
        timeout: float | httpx.Timeout = ANSWER_S,
        retries: int = 2,
        verify: bool | Path | ssl.SSLContext = True,
    ):
        self._http = httpx.Client(**http_options(address, key, timeout, verify))
        self._retries = retries

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def detect(self, reading: Reading) -> AnomalyDetectionResult:
        """Judge a reading.

        Parameters
        ----------
        reading : AnomalyDetectionRequest or mapping
            With ``asset_id`` and ``features``; see ``AnomalyDetectionRequest``.

        Raises
        ------
        NotTrainedError
            If no model serves.
        """
        return self._ask(calls.detect(reading))

    def detect_batch(
        self,
        readings: Readings | pd.DataFrame,
        *,
        asset_id: str | None = None,
        sensor_id: str | None = None,
        time: str | None = None,
        context: Sequence[str] = (),
    ) -> list[AnomalyDetectionResult]:
        """Judge readings, as if they had come one by one in time order.

        Parameters
        ----------
        readings : iterable of AnomalyDetectionRequest or mapping, or DataFrame
            At most 10,000. A DataFrame has a row for each reading, and numbers by sensor, with NaN
            for a missing one; its index or a column has the times.
        asset_id, sensor_id : str, optional
            Of a DataFrame: the machine, which it needs, and the group of sensors.
        time : str, optional
            Of a DataFrame: the column of the times, in UTC if they have no zone; by default the
            index or the column that holds times. Without times, the service takes the time at which
            the readings come.
        context : sequence of str, optional
            Of a DataFrame: columns that say how the machine is run.

        Returns
        -------
        list of AnomalyDetectionResult
            In the order of the readings.

        Raises
        ------
        NotTrainedError
            If no model serves.
        """
        return self._ask(calls.detect_batch(readings, asset_id, sensor_id, time, context))

    def detect_columns(
        self,
        readings: Columns | pd.DataFrame,
        *,
        asset_id: str | None = None,
        sensor_id: str | None = None,
        time: str | None = None,
        context: Sequence[str] = (),
    ) -> ResultColumns:
        """Judge the readings of one asset as columns, in a fraction of the bytes.

        Parameters
        ----------
        readings : ReadingColumns, mapping or DataFrame
            At most 10,000.
        asset_id, sensor_id, time, context
            Of a DataFrame, as for ``detect_batch``.

        Raises
        ------
        NotTrainedError
            If no model serves.
        """
        return self._ask(calls.detect_columns(readings, asset_id, sensor_id, time, context))

    def train(
        self,
        data: Any,
        *,
        feature_names: Sequence[str] | None = None,
        context_features: Sequence[str] = (),
        model_names: Sequence[str] | None = None,
        contamination: float | None = None,
        parameters: Mapping[str, Mapping[str, Any]] = NONE,
        options: Options = NONE,
        wait: bool = True,
    ) -> JobResponse:
        """Train detectors on healthy rows, as a job.

        Parameters
        ----------
        data : rows, DataFrame, path or HistoryRange
            Rows of shape (n_samples, n_features) in time order; a DataFrame, sorted by its times if
            it has any; the path of a CSV, Excel or Parquet file; or the readings of a machine that
            the service has seen.
        feature_names : sequence of str, optional
            Names of the columns of rows; of a file, exactly these columns.
        context_features : sequence of str, optional
            Columns that say how the machine is run.
        model_names : sequence of str, optional
            The detectors to train; by default all.
        contamination : float, optional
            The false-alarm rate of each model.
        parameters : mapping of str to mapping, optional
            Hyper-parameters by detector, such as ``{"lstm_autoencoder": {"epochs": 50}}``.
        options : mapping of str, optional
            How a file is read, as the address of ``POST /train`` has it, such as
            ``{"decimal": "comma"}``.
        wait : bool, optional
            Return once the training has ended; else at once, with the job as it begins.

        Raises
        ------
        TooManyJobsError
            If too many trainings wait.
        ConflictError
            If the job is cancelled.
        TrainingInterruptedError
            If no detector could be trained, or the service ended before.
        """
        job = self._ask(
            calls.train(
                *(data, feature_names, context_features, model_names),
                *(contamination, parameters, options),
            )
        )
        if not wait:
            return job
        *_, ended = self.follow_job(job)
        require_success(ended)
        return ended

    def inspect(self, file: str | os.PathLike[str], options: Options = NONE) -> dict[str, Any]:
        """Return what the service understands of a file; nothing is trained or kept.

        Parameters
        ----------
        file : path
            CSV, Excel or Parquet.
        options : mapping of str, optional
            How it is read, as the address of ``POST /inspect`` has it.
        """
        return self._ask(calls.inspect(file, options))

    def list_readings(self, asset_id: str | None = None, **asked: Any) -> ReadingPage:
        """Return a page of stored readings with what was said of them, the newest first.

        Parameters
        ----------
        asset_id : str, optional
            The asset, or with a ``/`` at its end all below it; by default all.
        **asked
            Attributes of ``vigie.models.readings.ReadingSearch``, but for ``format``.

        Returns
        -------
        ReadingPage
            Its ``next`` is the ``cursor`` of the next page.
        """
        return self._ask(calls.list_readings({"asset_id": asset_id, **asked}))

    def readings(self, asset_id: str | None = None, **asked: Any) -> Iterator[StoredReading]:
        """Yield stored readings, page by page; ``limit`` is the size of a page.

        Parameters are those of ``list_readings``. Readings that come in meanwhile shift nothing.
        """
        while True:
            page = self.list_readings(asset_id, **asked)
            yield from page.readings
            if page.next is None:
                return
            asked |= {"cursor": page.next, "offset": None}

    def status(self) -> StatusResponse:
        """Return the state of the service, and which version of each model serves."""
        return self._ask(calls.status())

    def metrics(self) -> dict[str, list[VersionMetrics]]:
        """Return the newest versions of each model with their stage, run and metrics."""
        return self._ask(calls.metrics())

    def ready(self) -> bool:
        """Return whether a model serves."""
        try:
            self._ask(calls.ready())
        except NotTrainedError:
            return False
        return True

    def list_jobs(self, state: JobState | str | None = None, limit: int = 100) -> list[JobResponse]:
        """Return the last jobs, the newest first, those of a state if one is given."""
        return self._ask(calls.list_jobs(state, limit))

    def get_job(self, job: str | JobResponse) -> JobResponse:
        """Return a job, by its id or as it was.

        Raises
        ------
        JobNotFoundError
            If there is no such job.
        """
        return self._ask(calls.get_job(job))

    def cancel_job(self, job: str | JobResponse) -> JobResponse:
        """Cancel a job that waits or runs, and return it.

        Raises
        ------
        JobNotFoundError
            If there is no such job.
        ConflictError
            If it has ended.
        """
        return self._ask(calls.cancel_job(job))

    def follow_job(self, job: str | JobResponse) -> Iterator[JobResponse]:
        """Yield a job after each change, until it has ended.

        A connection that is lost is opened again, and nothing is missed.
        """
        path, events, attempts = calls.job_events(job), Events(), 0
        while True:
            try:
                for known in self._events(path, events):
                    attempts = 0
                    yield known
                    if known.state.has_ended:
                        return
            except httpx.TransportError as error:
                if attempts == MOST_ATTEMPTS:
                    raise unreachable(self._http.base_url, error) from error
            # The stream ends when the service does; the job may go on with the next one.
            if attempts == MOST_ATTEMPTS:
                raise ServiceError(f"The service does not say how the job at {path} ends.")
            attempts += 1
            clock.sleep(AGAIN_S)

    def list_events(
        self,
        asset_id: str | None = None,
        *,
        state: str | None = None,
        kind: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        label: str | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> EventList:
        """Return the events of assets, the last to begin first.

        Parameters
        ----------
        asset_id : str, optional
            An asset, or the beginning of its path.
        state : {'open', 'closed'}, optional
            Whether they go on.
        kind : str, optional
            One of ``EventKind``.
        since, until : datetime, optional
            The time with which they have something in common; in UTC, if it has no zone.
        label : {'true', 'false', 'unclear', 'none'}, optional
            What somebody has said of them; 'none' for those that nobody has labelled.
        limit : int, optional
            Most events of a page.
        cursor : str, optional
            ``next`` of the page before.
        """
        call = calls.list_events(asset_id, state, kind, since, until, label, limit, cursor)
        return self._ask(call)

    def get_event(self, number: str) -> EventDetail:
        """Return an event, with its labels and the readings around it.

        Raises
        ------
        EventNotFoundError
            If there is no such event.
        """
        return self._ask(calls.get_event(number))

    def label_event(
        self, number: str, label: str, *, cause: str | None = None, note: str | None = None
    ) -> EventDetail:
        """Say what an event was, in place of what was said of it before.

        Parameters
        ----------
        number : str
            Its id.
        label : {'true', 'false', 'unclear'}
            Whether something was wrong; 'false' is a false alarm.
        cause, note : str, optional
            What was behind it, and more about it.

        Raises
        ------
        EventNotFoundError
            If there is no such event.
        """
        return self._ask(calls.label_event(number, label, cause, note))

    def list_alarms(
        self,
        asset_id: str | None = None,
        *,
        state: str | None = None,
        kind: str | None = None,
        acknowledged: bool | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> AlarmList:
        """Return alarms, the last to be raised first.

        Parameters
        ----------
        asset_id : str, optional
            An asset, or the beginning of its path.
        state : {'active', 'cleared'}, optional
            Whether what raised them goes on.
        kind : str, optional
            One of ``EventKind``.
        acknowledged : bool, optional
            Whether somebody has acknowledged them.
        limit : int, optional
            Most alarms of a page.
        cursor : str, optional
            ``next`` of the page before.
        """
        call = calls.list_alarms(asset_id, state, kind, acknowledged, limit, cursor)
        return self._ask(call)

    def get_alarm(self, number: str) -> AlarmDetail:
        """Return an alarm with its log: what changed on it, when, and by whom.

        This and the next methods raise ``AlarmNotFoundError`` for an alarm that there is not.
        """
        return self._ask(calls.get_alarm(number))

    def acknowledge_alarm(self, number: str, *, note: str | None = None) -> AlarmDetail:
        """Acknowledge an alarm; one that is acknowledged already stays as it is."""
        return self._ask(calls.acknowledge_alarm(number, note))

    def shelve_alarm(self, number: str, for_s: float, reason: str) -> AlarmDetail:
        """Put an alarm aside for some seconds: nobody is told of it.

        Raises
        ------
        InvalidDataError
            If that is longer than the service allows.
        """
        return self._ask(calls.shelve_alarm(number, for_s, reason))

    def unshelve_alarm(self, number: str, *, note: str | None = None) -> AlarmDetail:
        """Take up an alarm that is shelved.

        Raises
        ------
        ConflictError
            If it is not shelved.
        """
        return self._ask(calls.unshelve_alarm(number, note))

    def alarm_load(
        self,
        asset_id: str | None = None,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> AlarmLoad:
        """Return how many alarms there were, by default in seven days, and how many of no use."""
        return self._ask(calls.alarm_load(asset_id, since, until))

    def list_alerts(
        self, state: str | None = None, *, limit: int = 100, cursor: str | None = None
    ) -> AlertList:
        """Return what is told of alarms, the newest first; those of a state if one is given."""
        return self._ask(calls.list_alerts(state, limit, cursor))

    def retry_alert(self, number: str) -> Alert:
        """Send a dead letter again.

        Raises
        ------
        AlertNotFoundError
            If it is none.
        """
        return self._ask(calls.retry_alert(number))

    def list_assets(
        self,
        asset_id: str | None = None,
        *,
        state: str | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> AssetList:
        """Return assets by their path: state, last reading, quality of the data, open events.

        Parameters
        ----------
        asset_id : str, optional
            An asset, or the beginning of its path.
        state : str, optional
            One of ``AssetState``.
        limit : int, optional
            Most assets of a page.
        cursor : str, optional
            ``next`` of the page before.
        """
        return self._ask(calls.list_assets(asset_id, state, limit, cursor))

    def take_out_of_service(
        self, asset_id: str, reason: str, *, until: datetime | None = None
    ) -> AssetService:
        """Take an asset, with all below its path, out of service: its alarms are silent.

        Raises
        ------
        AssetNotFoundError
            If no reading of it has come.
        """
        return self._ask(calls.take_out_of_service(asset_id, reason, until))

    def put_in_service(self, asset_id: str) -> AssetService:
        """Put an asset back into service.

        Raises
        ------
        ConflictError
            If it is in service.
        """
        return self._ask(calls.put_in_service(asset_id))

    def list_models(self) -> list[ModelSummary]:
        """Return each model: which version serves, and which versions the registry has."""
        return self._ask(calls.list_models())

    def list_versions(self, name: str, limit: int = 100) -> list[RegisteredVersion]:
        """Return the last versions of a model, the newest first, with what their runs logged.

        This and the next methods raise ``ModelNotFoundError`` for a model that there is not.
        """
        return self._ask(calls.list_versions(name, limit))

    def promote(
        self, name: str, version: int, stage: str = "Production", *, reason: str | None = None
    ) -> MovedVersion:
        """Move a version to a stage; the previous one in Staging or Production is archived.

        Parameters
        ----------
        name : str
            The registered name, such as ``isolation_forest``.
        version : int
            The number of the version.
        stage : {'Production', 'Staging', 'Archived', 'None'}, optional
            The new stage.
        reason : str, optional
            Why; the history of the model has it.

        Raises
        ------
        ConflictError
            If another version was moved there at the same time.
        """
        return self._ask(calls.promote(name, version, stage, reason))

    def rollback(self, name: str, *, reason: str | None = None) -> MovedVersion:
        """Promote the version that was in Production before.

        Raises
        ------
        ConflictError
            If another version was promoted at the same time.
        """
        return self._ask(calls.rollback(name, reason))

    def list_moves(self, name: str, limit: int = 100) -> list[MoveResponse]:
        """Return when which version was moved to which stage, by whom and why, newest first."""
        return self._ask(calls.list_moves(name, limit))

    def comparison(self, name: str) -> Comparison:
        """Return how the version in Staging judges readings beside the one that serves.

        Raises
        ------
        ModelNotFoundError
            If no version is in Staging.
        """
        return self._ask(calls.comparison(name))

    def _events(self, path: str, events: Events) -> Iterator[JobResponse]:
        headers = {"Last-Event-ID": events.last} if events.last else {}
        limits = httpx.Timeout(SILENT_S, connect=CONNECT_S)
        with self._http.stream("GET", path, headers=headers, timeout=limits) as stream:
            if not stream.is_success:
                stream.read()
                raise raised_by(stream)
            for line in stream.iter_lines():
                if (job := events.job(line)) is not None:
                    yield job

    def _ask(self, call: Call[T]) -> T:
        attempt = 0
        while True:
            outcome: httpx.Response | httpx.TransportError
            try:
                outcome = self._http.request(**call.request)
            except httpx.TransportError as error:
                outcome = error
            pause = pause_s(call, outcome, attempt, self._retries, self._http.base_url)
            if pause is None:
                assert isinstance(outcome, httpx.Response)
                return result_of(call, outcome)
            clock.sleep(pause)
            attempt += 1
