"""The client for programs with an event loop, asyncio's or trio's."""

from __future__ import annotations

import os
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self

import anyio
import anyio.to_thread
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


class AsyncClient:
    """``Client`` for programs with an event loop, asyncio's or trio's.

    Parameters and methods are the same; ``follow_job`` is an asynchronous iterator. Use it in an
    ``async with`` statement, or call ``aclose``.
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
        self._http = httpx.AsyncClient(**http_options(address, key, timeout, verify))
        self._retries = retries

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def detect(self, reading: Reading) -> AnomalyDetectionResult:
        """As ``Client.detect``."""
        return await self._ask(calls.detect(reading))

    async def detect_batch(
        self,
        readings: Readings | pd.DataFrame,
        *,
        asset_id: str | None = None,
        sensor_id: str | None = None,
        time: str | None = None,
        context: Sequence[str] = (),
    ) -> list[AnomalyDetectionResult]:
        """As ``Client.detect_batch``."""
        return await self._ask(calls.detect_batch(readings, asset_id, sensor_id, time, context))

    async def detect_columns(
        self,
        readings: Columns | pd.DataFrame,
        *,
        asset_id: str | None = None,
        sensor_id: str | None = None,
        time: str | None = None,
        context: Sequence[str] = (),
    ) -> ResultColumns:
        """As ``Client.detect_columns``."""
        return await self._ask(calls.detect_columns(readings, asset_id, sensor_id, time, context))

    async def train(
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
        """As ``Client.train``."""
        # A file is read, and rows become text, in a thread.
        call = await anyio.to_thread.run_sync(
            partial(
                calls.train,
                *(data, feature_names, context_features, model_names),
                *(contamination, parameters, options),
            )
        )
        job = await self._ask(call)
        if not wait:
            return job
        *_, ended = [known async for known in self.follow_job(job)]
        require_success(ended)
        return ended

    async def inspect(
        self, file: str | os.PathLike[str], options: Options = NONE
    ) -> dict[str, Any]:
        """As ``Client.inspect``."""
        return await self._ask(await anyio.to_thread.run_sync(calls.inspect, file, options))

    async def list_readings(self, asset_id: str | None = None, **asked: Any) -> ReadingPage:
        """As ``Client.list_readings``."""
        return await self._ask(calls.list_readings({"asset_id": asset_id, **asked}))

    async def readings(
        self, asset_id: str | None = None, **asked: Any
    ) -> AsyncIterator[StoredReading]:
        """As ``Client.readings``."""
        while True:
            page = await self.list_readings(asset_id, **asked)
            for reading in page.readings:
                yield reading
            if page.next is None:
                return
            asked |= {"cursor": page.next, "offset": None}

    async def status(self) -> StatusResponse:
        """As ``Client.status``."""
        return await self._ask(calls.status())

    async def metrics(self) -> dict[str, list[VersionMetrics]]:
        """As ``Client.metrics``."""
        return await self._ask(calls.metrics())

    async def ready(self) -> bool:
        """As ``Client.ready``."""
        try:
            await self._ask(calls.ready())
        except NotTrainedError:
            return False
        return True

    async def list_jobs(
        self, state: JobState | str | None = None, limit: int = 100
    ) -> list[JobResponse]:
        """As ``Client.list_jobs``."""
        return await self._ask(calls.list_jobs(state, limit))

    async def get_job(self, job: str | JobResponse) -> JobResponse:
        """As ``Client.get_job``."""
        return await self._ask(calls.get_job(job))

    async def cancel_job(self, job: str | JobResponse) -> JobResponse:
        """As ``Client.cancel_job``."""
        return await self._ask(calls.cancel_job(job))

    async def follow_job(self, job: str | JobResponse) -> AsyncIterator[JobResponse]:
        """As ``Client.follow_job``."""
        path, events, attempts = calls.job_events(job), Events(), 0
        while True:
            try:
                async for known in self._events(path, events):
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
            await anyio.sleep(AGAIN_S)

    async def list_events(
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
        """As ``Client.list_events``."""
        call = calls.list_events(asset_id, state, kind, since, until, label, limit, cursor)
        return await self._ask(call)

    async def get_event(self, number: str) -> EventDetail:
        """As ``Client.get_event``."""
        return await self._ask(calls.get_event(number))

    async def label_event(
        self, number: str, label: str, *, cause: str | None = None, note: str | None = None
    ) -> EventDetail:
        """As ``Client.label_event``."""
        return await self._ask(calls.label_event(number, label, cause, note))

    async def list_alarms(
        self,
        asset_id: str | None = None,
        *,
        state: str | None = None,
        kind: str | None = None,
        acknowledged: bool | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> AlarmList:
        """As ``Client.list_alarms``."""
        call = calls.list_alarms(asset_id, state, kind, acknowledged, limit, cursor)
        return await self._ask(call)

    async def get_alarm(self, number: str) -> AlarmDetail:
        """As ``Client.get_alarm``."""
        return await self._ask(calls.get_alarm(number))

    async def acknowledge_alarm(self, number: str, *, note: str | None = None) -> AlarmDetail:
        """As ``Client.acknowledge_alarm``."""
        return await self._ask(calls.acknowledge_alarm(number, note))

    async def shelve_alarm(self, number: str, for_s: float, reason: str) -> AlarmDetail:
        """As ``Client.shelve_alarm``."""
        return await self._ask(calls.shelve_alarm(number, for_s, reason))

    async def unshelve_alarm(self, number: str, *, note: str | None = None) -> AlarmDetail:
        """As ``Client.unshelve_alarm``."""
        return await self._ask(calls.unshelve_alarm(number, note))

    async def alarm_load(
        self,
        asset_id: str | None = None,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> AlarmLoad:
        """As ``Client.alarm_load``."""
        return await self._ask(calls.alarm_load(asset_id, since, until))

    async def list_alerts(
        self, state: str | None = None, *, limit: int = 100, cursor: str | None = None
    ) -> AlertList:
        """As ``Client.list_alerts``."""
        return await self._ask(calls.list_alerts(state, limit, cursor))

    async def retry_alert(self, number: str) -> Alert:
        """As ``Client.retry_alert``."""
        return await self._ask(calls.retry_alert(number))

    async def list_assets(
        self,
        asset_id: str | None = None,
        *,
        state: str | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> AssetList:
        """As ``Client.list_assets``."""
        return await self._ask(calls.list_assets(asset_id, state, limit, cursor))

    async def take_out_of_service(
        self, asset_id: str, reason: str, *, until: datetime | None = None
    ) -> AssetService:
        """As ``Client.take_out_of_service``."""
        return await self._ask(calls.take_out_of_service(asset_id, reason, until))

    async def put_in_service(self, asset_id: str) -> AssetService:
        """As ``Client.put_in_service``."""
        return await self._ask(calls.put_in_service(asset_id))

    async def list_models(self) -> list[ModelSummary]:
        """As ``Client.list_models``."""
        return await self._ask(calls.list_models())

    async def list_versions(self, name: str, limit: int = 100) -> list[RegisteredVersion]:
        """As ``Client.list_versions``."""
        return await self._ask(calls.list_versions(name, limit))

    async def promote(
        self, name: str, version: int, stage: str = "Production", *, reason: str | None = None
    ) -> MovedVersion:
        """As ``Client.promote``."""
        return await self._ask(calls.promote(name, version, stage, reason))

    async def rollback(self, name: str, *, reason: str | None = None) -> MovedVersion:
        """As ``Client.rollback``."""
        return await self._ask(calls.rollback(name, reason))

    async def list_moves(self, name: str, limit: int = 100) -> list[MoveResponse]:
        """As ``Client.list_moves``."""
        return await self._ask(calls.list_moves(name, limit))

    async def comparison(self, name: str) -> Comparison:
        """As ``Client.comparison``."""
        return await self._ask(calls.comparison(name))

    async def _events(self, path: str, events: Events) -> AsyncIterator[JobResponse]:
        headers = {"Last-Event-ID": events.last} if events.last else {}
        limits = httpx.Timeout(SILENT_S, connect=CONNECT_S)
        async with self._http.stream("GET", path, headers=headers, timeout=limits) as stream:
            if not stream.is_success:
                await stream.aread()
                raise raised_by(stream)
            async for line in stream.aiter_lines():
                if (job := events.job(line)) is not None:
                    yield job

    async def _ask(self, call: Call[T]) -> T:
        attempt = 0
        while True:
            outcome: httpx.Response | httpx.TransportError
            try:
                outcome = await self._http.request(**call.request)
            except httpx.TransportError as error:
                outcome = error
            pause = pause_s(call, outcome, attempt, self._retries, self._http.base_url)
            if pause is None:
                assert isinstance(outcome, httpx.Response)
                return result_of(call, outcome)
            await anyio.sleep(pause)
            attempt += 1
