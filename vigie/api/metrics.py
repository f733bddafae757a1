"""The metrics of the service for Prometheus, collected when they are asked for.

Requests, readings and trainings only add to counters; all else is looked up here.

References
----------
Prometheus documentation: Metric and label naming; Writing client libraries.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from itertools import accumulate
from typing import NamedTuple

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from vigie import __version__
from vigie.api.sampled import Sampled
from vigie.api.watch import BOUNDS_S, RequestCounts
from vigie.assessment.status import STATES
from vigie.detectors.catalogue import algorithms
from vigie.models.alarms import AlertState
from vigie.models.events import EventKind
from vigie.models.jobs import JobState
from vigie.services.anomaly_detection_service import AnomalyDetectionService
from vigie.services.detection_counts import SCORE_BOUNDS, ScoreCounts

PATIENCE_S = 0.5
"""How long an answer waits for the disk and the database, in seconds."""
SIZE_EVERY_S = 60.0
"""Least time between two questions for the size of a history on a database server, in seconds."""
NO_VERSION = "none"
"""Of a model that has not been registered."""


class OutboxState(NamedTuple):
    """How many records wait and are dead letters, and the age of the oldest that waits."""

    waiting: int
    dead_letters: int
    oldest_s: float


class Metrics:
    """Answer with all metrics of the service and its process.

    Parameters
    ----------
    service : AnomalyDetectionService
        The service.
    requests : RequestCounts
        Its requests.
    """

    def __init__(self, service: AnomalyDetectionService, requests: RequestCounts):
        self._registry = CollectorRegistry()
        self._registry.register(_Service(service, requests))
        ProcessCollector(registry=self._registry)

    def text(self, accept: str) -> tuple[bytes, str]:
        """Return the metrics and their media type, in the format that ``Accept`` asks for."""
        encode, media_type = choose_encoder(accept)
        return encode(self._registry), media_type


class _Service(Collector):
    """The metrics of a service."""

    def __init__(self, service: AnomalyDetectionService, requests: RequestCounts):
        self._service, self._requests = service, requests
        is_server = service.detection.history_is_a_server
        self._size = Sampled(service.detection.history_bytes, SIZE_EVERY_S if is_server else 0.0)
        self._outbox = Sampled(self._outbox_state)
        self._alarms = Sampled(service.alarms.counts)
        self._alerts = Sampled(service.alarms.alert_counts)

    def describe(self) -> Iterable[Metric]:
        # Nothing is collected to be registered.
        return ()

    def collect(self) -> Iterator[Metric]:
        settings, until = self._service.settings, time.monotonic() + PATIENCE_S
        if settings.history_enabled:
            self._size.begin()
            self._alarms.begin()
            self._alerts.begin()
        if settings.mlflow_enabled:
            self._outbox.begin()
        build = {"version": __version__, "python": platform.python_version()}
        yield InfoMetricFamily("vigie_build", "Version of Vigie and of Python.", build)
        yield from self._of_requests()
        yield from self._of_readings()
        yield from self._of_models()
        yield from self._of_jobs()
        if settings.mlflow_enabled:
            yield from self._of_registry()
            yield from self._of_outbox(until)
        if settings.history_enabled:
            yield from self._of_history(until)
            yield from self._of_alarms(until)

    def _of_requests(self) -> Iterator[Metric]:
        labels = ("method", "route", "status")
        total = CounterMetricFamily(
            "vigie_http_requests",
            "Requests that have ended, by the template of the path that answered.",
            labels=labels,
        )
        duration = HistogramMetricFamily(
            "vigie_http_request_duration_seconds",
            "Time from a request's headers to the end of its answer.",
            labels=labels,
        )
        for kind, times in self._requests.times():
            total.add_metric(kind, sum(times.by_class))
            duration.add_metric(kind, _classes(BOUNDS_S, times.by_class), times.total_s)
        yield total
        yield duration

    def _of_readings(self) -> Iterator[Metric]:
        detection = self._service.detection
        counts = detection.counts
        counts.settle()
        yield CounterMetricFamily(
            "vigie_readings_assessed", "Readings that were assessed.", counts.n_readings
        )
        yield CounterMetricFamily(
            "vigie_readings_anomalous",
            "Readings that all models together call anomalies.",
            counts.n_anomalies,
        )
        yield CounterMetricFamily(
            "vigie_readings_replaced",
            "Readings that took the place of another one of their asset and time.",
            counts.n_replaced,
        )
        labels = ("model", "version")
        scores = HistogramMetricFamily(
            "vigie_score", "Scores, from 0 to 1, by model and version.", labels=labels
        )
        anomalies = CounterMetricFamily(
            "vigie_anomalies", "Readings that a version calls anomalies.", labels=labels
        )
        by_version = dict(counts.scores)
        for name, served in self._service.served.current.for_everything.served.items():
            # A counter that begins with its first anomaly would hide that one.
            by_version.setdefault((name, served.version), ScoreCounts(served.model.threshold))
        for (name, version), of_it in by_version.items():
            kind = name, _written(version)
            scores.add_metric(kind, _classes(SCORE_BOUNDS, of_it.by_class.tolist()), of_it.total)
            anomalies.add_metric(kind, of_it.n_anomalies)
        yield scores
        yield anomalies
        entered = CounterMetricFamily(
            "vigie_asset_state_changes",
            'How often an asset entered a state; state="alarm" counts alarms.',
            labels=("state",),
        )
        for state in STATES:
            entered.add_metric((state.value,), counts.entered[state])
        yield entered
        if self._service.settings.history_enabled:
            assets = GaugeMetricFamily(
                "vigie_assets",
                "Assets of this process by their last state: the 4096 that sent last.",
                labels=("state",),
            )
            by_state = detection.assets_by_state()
            for state in STATES:
                assets.add_metric((state.value,), by_state[state])
            yield assets

    def _of_models(self) -> Iterator[Metric]:
        serving = InfoMetricFamily(
            "vigie_model", "The versions that serve.", labels=("model", "version", "stage")
        )
        for name, served in self._service.served.current.for_everything.served.items():
            serving.add_metric((name, _written(served.version), served.stage), {})
        yield serving
        problem = GaugeMetricFamily(
            "vigie_model_problem",
            "Whether the registry's version of a model cannot serve (1), as the status tells.",
            labels=("model",),
        )
        for name in algorithms():
            problem.add_metric((name,), float(self._service.problem_of(name) is not None))
        yield problem

    def _of_jobs(self) -> Iterator[Metric]:
        left = GaugeMetricFamily(
            "vigie_training_jobs", "Trainings that wait or run.", labels=("state",)
        )
        ended = CounterMetricFamily(
            "vigie_training_jobs_ended", "Trainings that have ended, and how.", labels=("state",)
        )
        by_state = self._service.jobs.n_by_state()
        for state in JobState:
            (ended if state.has_ended else left).add_metric((state.value,), by_state[state])
        yield left
        yield ended

    def _of_registry(self) -> Iterator[Metric]:
        registry = self._service.registry
        if registry.confirmed is not None or not registry.answers:
            # Else it has not been asked yet.
            yield GaugeMetricFamily(
                "vigie_registry_up",
                "Whether the MLflow server answered the last question for versions.",
                float(registry.answers),
            )
        if (confirmed := registry.confirmed) is not None:
            yield GaugeMetricFamily(
                "vigie_registry_confirmed_age_seconds",
                "Time since the registry last confirmed the versions that serve.",
                max((datetime.now(UTC) - confirmed).total_seconds(), 0.0),
            )

    def _of_outbox(self, until: float) -> Iterator[Metric]:
        state = self._outbox.value(until - time.monotonic())
        if state is None:
            return
        yield GaugeMetricFamily(
            "vigie_outbox_records", "Records that MLflow does not have yet.", state.waiting
        )
        yield GaugeMetricFamily(
            "vigie_outbox_dead_letters", "Records that MLflow rejects.", state.dead_letters
        )
        yield GaugeMetricFamily(
            "vigie_outbox_oldest_age_seconds",
            "Age of the oldest record that MLflow does not have yet; 0 without any.",
            state.oldest_s,
        )

    def _of_history(self, until: float) -> Iterator[Metric]:
        counts = self._service.detection.counts
        yield CounterMetricFamily(
            "vigie_history_unstored_readings",
            "Readings that were assessed, but could not be stored.",
            counts.n_unstored,
        )
        yield CounterMetricFamily(
            "vigie_history_outages", "How often storing began to fail.", counts.n_outages
        )
        size = self._size.value(until - time.monotonic())
        yield GaugeMetricFamily(
            "vigie_history_up",
            "Whether the database of readings answers, and stores what it is sent.",
            float(self._service.detection.stores and not self._size.has_failed),
        )
        if size is not None:
            yield GaugeMetricFamily(
                "vigie_history_size_bytes", "Size of the stored readings and results.", size
            )

    def _of_alarms(self, until: float) -> Iterator[Metric]:
        begun = CounterMetricFamily(
            "vigie_events", "Events that began with a reading of this process.", labels=("kind",)
        )
        counts = self._service.detection.events.begun
        for kind in EventKind:
            begun.add_metric((kind.value,), counts[kind])
        yield begun
        by_state = self._alarms.value(until - time.monotonic())
        if by_state is None:
            return
        alarms = GaugeMetricFamily(
            "vigie_alarms",
            "Alarms that need somebody, of all processes: active, or not acknowledged.",
            labels=("state", "acknowledged"),
        )
        for state, acknowledged in (("active", False), ("active", True), ("cleared", False)):
            n = by_state.get((state, acknowledged), 0)
            alarms.add_metric((state, str(acknowledged).lower()), n)
        yield alarms
        by_state_of_alert = self._alerts.value(until - time.monotonic())
        if by_state_of_alert is None:
            return
        alerts = GaugeMetricFamily(
            "vigie_alerts",
            "Alerts of all processes that are not told yet (waiting), or given up (dead).",
            labels=("state",),
        )
        for alert_state in (AlertState.WAITING, AlertState.DEAD):
            alerts.add_metric((alert_state.value,), by_state_of_alert.get(alert_state.value, 0))
        yield alerts

    def _outbox_state(self) -> OutboxState:
        outbox = self._service.mlflow_service.outbox
        waiting = outbox.waiting()
        oldest_s = max((entry.age_s for entry in waiting), default=0.0)
        return OutboxState(len(waiting), len(outbox.dead_letters()), max(oldest_s, 0.0))


def _classes(bounds: Iterable[float], counts: Iterable[int]) -> list[tuple[str, float]]:
    """Return the cumulative buckets of a histogram from counts between its bounds."""
    names = [*map(str, bounds), "+Inf"]
    return list(zip(names, map(float, accumulate(counts)), strict=True))


def _written(version: int | None) -> str:
    return NO_VERSION if version is None else str(version)
